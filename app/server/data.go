package server

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bio/app/config"
)

// secretFile holds the root secret that the first start makes.
const secretFile = "secret"

// data is the data directory, made ready.
type data struct {
	settings *config.Settings
	secret   []byte   // nil until there is one
	made     []string // the directories that this start made, in order
}

// openData makes the data directory (0700) unless it is there, and reads the root
// secret, if there is one yet.
func openData(settings *config.Settings) (*data, error) {
	d := &data{settings: settings}
	if err := d.open(); err != nil {
		d.discard()
		return nil, err
	}
	return d, nil
}

func (d *data) open() error {
	dir := d.settings.Data
	if err := d.mkdir(dir); err != nil {
		return fmt.Errorf("the data directory %s cannot be made: %w. Set BIO_DATA to a directory that this user can write to", dir, bare(err))
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("the data directory %s is not writable: %w. Make it writable for this user, or set BIO_DATA to one that is", dir, bare(err))
	}
	probe.Close()
	os.Remove(probe.Name())

	if d.settings.Secret != nil {
		d.secret = d.settings.Secret
		return nil
	}
	d.secret, err = readSecret(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *data) path() string { return filepath.Join(d.settings.Data, secretFile) }

// secure makes the root secret (0600) unless there is one. It comes last, when
// nothing else can fail: a secret, once made, is never taken back, because
// another start may be using it by then.
func (d *data) secure() error {
	if d.secret != nil {
		return nil
	}
	var err error
	d.secret, err = makeSecret(d.path())
	if errors.Is(err, fs.ErrExist) { // another start made it at the same time
		d.secret, err = readSecret(d.path())
	}
	return err
}

// mkdir makes dir and the parents that it lacks, and remembers each.
func (d *data) mkdir(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return errors.New("there is a file of that name")
		}
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := d.mkdir(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		d.made = append(d.made, dir)
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// makeSecret writes a new secret whole or not at all: to a file of its own, which
// is then linked to its name.
func makeSecret(path string) ([]byte, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("the root secret cannot be written: %w", bare(err))
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.RawURLEncoding.EncodeToString(secret) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("the root secret cannot be written: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return nil, fmt.Errorf("the root secret cannot be written: %w. Set BIO_SECRET, or set BIO_DATA to a directory of another file system", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("the root secret cannot be written: %w", err)
	}
	return secret, nil
}

// syncDir makes the names in a directory last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func readSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("the root secret %s cannot be read: %w. Let this user read it", path, bare(err))
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the root secret %s can be read by others (mode %04o). Run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) < 32 {
		return nil, fmt.Errorf("the root secret %s is damaged. Restore it from your backup. If you have none, remove it and start again: a new one is made, and everyone signs in anew", path)
	}
	return secret, nil
}

// discard removes the directories that this start made, those that are empty.
func (d *data) discard() {
	for i := len(d.made) - 1; i >= 0; i-- {
		os.Remove(d.made[i])
	}
}

// bare leaves the path out of an error whose sentence names it already.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
