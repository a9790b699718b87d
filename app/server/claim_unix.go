//go:build unix && !solaris && !aix

package server

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// claim takes a part of the lock that every server holds on the directory of its
// database, until the file is closed. When nobody else has one, alone is run first.
// Where a file system has no locks, nobody is known to be alone.
func (d *data) claim(alone func() error) (lock *os.File, err error) {
	lock, err = os.Open(filepath.Dir(strings.TrimPrefix(d.settings.Database, "file:")))
	if err != nil {
		return nil, err
	}
	flock := func(how int) error {
		for {
			if err := syscall.Flock(int(lock.Fd()), how); err != syscall.EINTR {
				return err
			}
		}
	}
	if flock(syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if err := alone(); err != nil {
			lock.Close()
			return nil, err
		}
	}
	_ = flock(syscall.LOCK_SH) // it waits while another is alone
	return lock, nil
}
