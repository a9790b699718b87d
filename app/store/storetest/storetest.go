// Package storetest gives tests a real store of their own.
package storetest

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bio/app/audit"
	"bio/app/store"
	"bio/app/store/trailtest"
)

// New opens a fresh database in a directory of the test's own, by the clock of
// the machine, and closes it when the test ends.
func New(t testing.TB) *store.DB {
	t.Helper()
	return open(t, time.Now)
}

// NewAt is New by the clock given.
func NewAt(t testing.TB, clock *Clock) *store.DB {
	t.Helper()
	return open(t, clock.Now)
}

func open(t testing.TB, now func() time.Time) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), "file:"+filepath.Join(t.TempDir(), "bio.db"), now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// CheckTrail re-verifies the whole log, against the checkpoints that it keeps and
// those given, and fails on any problem.
func CheckTrail(t testing.TB, db *store.DB, checkpoints ...[]byte) audit.Report {
	t.Helper()
	return trailtest.Check(t, db, checkpoints...)
}

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// NewClock returns a clock that stands at the time given.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now returns the time at which the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d and returns the new time.
func (c *Clock) Advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}
