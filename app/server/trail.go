package server

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/store"
)

// Checkpoints: one is published within publishEvery of an act; one a keepEvery
// stays in the database; one a printEvery is logged, where others keep it.
const (
	publishEvery = time.Second
	settleEvery  = 10 * time.Second // without being woken: refusals whose minute is over, and what commands wrote
	keepEvery    = time.Minute
	printEvery   = 24 * time.Hour
)

// trail is what the server does for the log beside the entries that acts bring
// with them: it publishes checkpoints, folds refusals, and records what is no
// change of the database.
type trail struct {
	db    *store.DB
	host  string
	seeds [][]byte // of the checkpoint keys, the current one first
	file  string
	now   func() time.Time
	log   *slog.Logger
	fold  audit.Fold
	wake  chan struct{} // holds a token when the log has grown, or soon will

	signers sync.Map // number of a log to *audit.Signer: making one costs as much as signing

	mu   sync.Mutex
	late []audit.Entry // guarded by mu: what waits to be recorded

	publishing sync.Mutex
	last       published // guarded by publishing, as all below
	kept       time.Time // when one was last kept in the database
	keptSize   int64
	printed    time.Time
}

func newTrail(db *store.DB, settings *config.Settings, seeds [][]byte, now func() time.Time, log *slog.Logger) *trail {
	return &trail{
		db: db, host: host(settings), seeds: seeds, file: filepath.Join(settings.Data, checkpointFile),
		now: now, log: log, wake: make(chan struct{}, 1),
	}
}

// host is the site's, with its port where it is not the scheme's own.
func host(settings *config.Settings) string {
	origin, err := url.Parse(settings.Origin())
	if err != nil {
		panic(err) // config made it
	}
	return origin.Host
}

// grown says that there is something to publish.
func (t *trail) grown() {
	select {
	case t.wake <- struct{}{}:
	default: // a token is there already
	}
}

// later records entries within publishEvery: those of what happened in memory,
// which has no transaction to be in.
func (t *trail) later(entries ...audit.Entry) {
	t.mu.Lock()
	t.late = append(t.late, entries...)
	t.mu.Unlock()
	t.grown()
}

// refused records a refusal, or folds it into one that is recorded when its
// minute is over.
func (t *trail) refused(ctx context.Context, e audit.Entry) error {
	if !t.fold.Add(e, t.now()) {
		return nil
	}
	err := t.record(ctx, e)
	t.grown()
	return err
}

// record records entries. Those that cannot be recorded now wait.
func (t *trail) record(ctx context.Context, entries ...audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	_, err := t.db.Record(ctx, entries...)
	if err != nil && !errors.Is(err, store.ErrOutcomeUnknown) {
		t.mu.Lock()
		t.late = slices.Concat(entries, t.late)
		t.mu.Unlock()
	}
	return err
}

// flush records what waits, and the refusals whose minute is over; all of them at
// the end.
func (t *trail) flush(ctx context.Context, all bool) error {
	t.mu.Lock()
	late := t.late
	t.late = nil
	t.mu.Unlock()
	// While this fails, refusals stay folded, where they take no room.
	if err := t.record(ctx, late...); err != nil {
		return err
	}
	folded := t.fold.Due
	if all {
		folded = t.fold.All
	}
	return t.record(ctx, folded(t.now())...)
}

// keep records and publishes until ctx is done.
func (t *trail) keep(ctx context.Context) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	pause := time.NewTimer(publishEvery) // nor while the first requests come
	defer pause.Stop()
	for {
		select { // not more often than that
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-tick.C:
		}
		t.settle(ctx, false)
		pause.Reset(publishEvery)
	}
}

// settle records what waits and publishes a checkpoint.
func (t *trail) settle(ctx context.Context, all bool) {
	if err := t.flush(ctx, all); err != nil && ctx.Err() == nil {
		t.log.Error("acts were not recorded yet", "error", err)
	}
	_, err := t.checkpoint(ctx)
	if err == nil {
		err = t.remember(ctx)
	}
	if err != nil && ctx.Err() == nil {
		t.log.Error("no checkpoint was published", "error", err)
	}
}
