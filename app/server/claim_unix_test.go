//go:build unix

package server_test

import (
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A start ends what a crash left running, unless another server is there, whose it
// may be.
func TestStartEndsWhatWasLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		another bool
		want    string
	}{"alone": {false, "interrupted"}, "beside another": {true, "running"}} {
		t.Run(name, func(t *testing.T) {
			hook := slow{make(chan struct{}, 1)}
			crashed := environment{agent: hook}.site(t)
			b := crashed.browser()
			b.enrol(crashed.device(), "{}")
			b.post("/run", url.Values{"prompt": {"before"}})
			crashed.awaitKept("agent running before")
			if _, err := crashed.raw.Exec("UPDATE runs SET beat_at = ?", time.Now().UnixMilli()); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Dir(crashed.path)
			if tt.another {
				lock := must(os.Open(dir))
				defer lock.Close()
				if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil {
					t.Fatal(err)
				}
			}
			s, _ := run(t, dir, "BIO_SECRET="+hex.EncodeToString(secret))
			lock := must(os.Open(dir))
			defer lock.Close()
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
				t.Error("the server has no part of the lock")
			}
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
				t.Errorf("the server does not share the lock: %v", err)
			}
			if diff := cmp.Diff([]string{"agent " + tt.want + " before"}, crashed.kept()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			s.end()
			hook.release <- struct{}{}
			crashed.runsWritten()
		})
	}
}
