package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/runs"
	"bio/app/store"
)

// checkpointFile holds, in the data directory, the newest checkpoint that was
// published. A database that was put back or cut short does not fit it.
const checkpointFile = "checkpoint"

// Checkpoints: one is published within publishEvery of an act; one a keepEvery
// stays in the database; one a printEvery is logged, where others keep it.
const (
	publishEvery = time.Second
	settleEvery  = 10 * time.Second // without being woken: refusals whose minute is over, and what commands wrote
	keepEvery    = time.Minute
	printEvery   = 24 * time.Hour
)

// ErrTrail says that the log does not fit a checkpoint that it published.
var ErrTrail = errors.New("the trail does not fit its last checkpoint")

// errNotPublished says that a checkpoint could not be written to its file: then it
// is not served either.
var errNotPublished = errors.New("server: the checkpoint cannot be written")

// published is a checkpoint as it left the house.
type published struct {
	size int64
	note []byte
	keys []string // that signed it, the current one first
}

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

// began and ended record a run.
func (t *trail) began(run runs.Life) { t.later(runEntry(audit.RunStarted, run, "")) }

func (t *trail) ended(run runs.Life) {
	if run.Started {
		t.later(runEntry(audit.RunEnded, run, run.Status))
	}
}

func runEntry(kind audit.Kind, run runs.Life, reason string) audit.Entry {
	return audit.Entry{Kind: kind, Actor: run.User, Reason: reason, Detail: map[string]string{"agent": run.Agent, "run": run.ID}}
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
	if _, err := t.checkpoint(ctx); err != nil && ctx.Err() == nil {
		t.log.Error("no checkpoint was published", "error", err)
	}
}

// checkpoint publishes the log as it is now: nothing leaves the house before it
// is in the file.
func (t *trail) checkpoint(ctx context.Context) (published, error) {
	size, err := t.db.TrailSize(ctx)
	if err != nil {
		return published{}, err
	}
	t.publishing.Lock()
	defer t.publishing.Unlock()
	if t.last.note != nil && size <= t.last.size {
		return t.last, nil
	}
	return t.publish(ctx, size)
}

// publish publishes a checkpoint of the first size entries.
func (t *trail) publish(ctx context.Context, size int64) (published, error) {
	signer, err := t.signer(ctx, size)
	if err != nil {
		return published{}, err
	}
	root, err := tlog.TreeHash(size, t.db.Tree(ctx))
	if err != nil {
		return published{}, err
	}
	note, err := signer.Sign(size, root)
	if err != nil {
		return published{}, err
	}
	// A command beside the server may have published more by now.
	if newer, err := t.read(); err != nil || newer.Origin != signer.Origin() || newer.Size < size {
		if err := writeFile(t.file, note); err != nil {
			return published{}, fmt.Errorf("%w: %w", errNotPublished, bare(err))
		}
	}
	t.last = published{size, note, signer.Keys()}
	now := t.now()
	due := func(last time.Time, every time.Duration) bool { return now.Sub(last) >= every || now.Before(last) }
	if due(t.kept, keepEvery) {
		if err := t.db.KeepCheckpoint(ctx, size, note); err != nil {
			return published{}, err
		}
		t.kept = now
	}
	if due(t.printed, printEvery) {
		t.log.Info("checkpoint", "note", string(note))
		t.printed = now
	}
	return t.last, nil
}

// signer is that of the log of the first size entries, which has another name
// after each break.
func (t *trail) signer(ctx context.Context, size int64) (*audit.Signer, error) {
	breaks, _, err := t.db.Milestones(ctx, audit.TrailReopened, size)
	if err != nil {
		return nil, err
	}
	return t.signerOf(breaks + 1)
}

func (t *trail) signerOf(number int) (*audit.Signer, error) {
	if known, ok := t.signers.Load(number); ok {
		return known.(*audit.Signer), nil
	}
	signer, err := audit.NewSigner(audit.Origin(t.host, number), t.seeds...)
	if err != nil {
		return nil, err
	}
	t.signers.Store(number, signer)
	return signer, nil
}

// keys are the verifier keys of all logs that were one after the other here.
func (t *trail) keys(ctx context.Context, size int64) (keys []string, err error) {
	breaks, _, err := t.db.Milestones(ctx, audit.TrailReopened, size)
	if err != nil {
		return nil, err
	}
	for number := breaks + 1; number > 0; number-- {
		signer, err := t.signerOf(number)
		if err != nil {
			return nil, err
		}
		keys = append(keys, signer.Keys()...)
	}
	return keys, nil
}

// number is which of the logs that were one after the other here is called
// origin; 0 when it is the name of another site's.
func (t *trail) number(origin string) int {
	first := audit.Origin(t.host, 1)
	if origin == first {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimPrefix(origin, first+"/"))
	if err != nil || audit.Origin(t.host, n) != origin {
		return 0
	}
	return n
}

// sameSite refuses to sign in another name than the server does: a command may
// run with other settings.
func (t *trail) sameSite() error {
	if published, err := t.read(); err == nil && t.number(published.Origin) == 0 {
		return fmt.Errorf("the log is published as %s, and these settings are of %s: set BIO_URL as the server has it", published.Origin, t.host)
	}
	return nil
}

// mismatch is how the log differs from a checkpoint that it published.
type mismatch struct {
	audit.Checkpoint
	size int64     // what the log has
	root tlog.Hash // of what the log has, of the checkpoint's size or, when it has less, of all
}

// compare compares the log with the newest published checkpoint, that in the file,
// and returns how it differs. Without the file, found is false, and it is compared
// with the newest in the database, which a lost end took with it.
func (t *trail) compare(ctx context.Context) (found bool, differs *mismatch, err error) {
	// Before the size is read: beside a running server both grow, the file last.
	newest, err := t.read()
	switch {
	case err == nil:
		found = true
	case errors.Is(err, fs.ErrNotExist):
		note, err := t.db.NewestCheckpoint(ctx)
		if err != nil || note == nil {
			return false, nil, err
		}
		if newest, err = audit.Claim(note); err != nil {
			return false, nil, fmt.Errorf("the newest checkpoint in the database is damaged: %w. Run bio audit verify", err)
		}
	case errors.As(err, new(*fs.PathError)):
		return false, nil, fmt.Errorf("the last checkpoint %s cannot be read: %w. Let this user read it", t.file, bare(err))
	default:
		return false, nil, fmt.Errorf("the last checkpoint %s is damaged: %w. Restore it from your backup, or remove it: then a lost end of the trail may not be noticed at this start", t.file, err)
	}
	size, err := t.db.TrailSize(ctx)
	if err != nil {
		return found, nil, err
	}
	root, err := tlog.TreeHash(min(size, newest.Size), t.db.Tree(ctx))
	if err != nil {
		return found, nil, err
	}
	if root != newest.Root || size < newest.Size {
		differs = &mismatch{newest, size, root}
	}
	return found, differs, nil
}

// follows makes sure that the log grew from the one that a checkpoint is of.
func (t *trail) follows(ctx context.Context, before audit.Checkpoint) error {
	size, err := t.db.TrailSize(ctx)
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(min(size, before.Size), t.db.Tree(ctx))
	if err == nil && (size < before.Size || root != before.Root) {
		err = fmt.Errorf("%w: that export is of another log, or of more than this one has", ErrTrail)
	}
	return err
}

// read reads the checkpoint in the file. Who signed it is of no matter: the secret
// may be another one by now, and what it says must hold all the same.
func (t *trail) read() (audit.Checkpoint, error) {
	note, err := os.ReadFile(t.file)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	return audit.Claim(note)
}

// start refuses a log that is not the one that was published.
func (t *trail) start(ctx context.Context) error {
	found, differs, err := t.compare(ctx)
	switch {
	case err != nil:
		return err
	case differs != nil:
		return differs
	case found:
		return nil
	}
	size, err := t.db.TrailSize(ctx)
	if err == nil && size > 0 {
		t.log.Warn("the last checkpoint of the trail is not there: whether the trail's end is missing is not known", "file", t.file, "entries", size)
	}
	return err
}

// Error says what is wrong and the two ways on.
func (m *mismatch) Error() string {
	what := fmt.Sprintf("the trail is another one: the checkpoint of %d entries that was published last does not fit it", m.Size)
	if m.size < m.Size {
		what = fmt.Sprintf("the trail has lost its end: it has %d entries, and a checkpoint of %d was published", m.size, m.Size)
	}
	return what + `. There are two honest ways on:
  - restore the database that has them: it may be in a newer backup, or in BIO_DATA of another machine;
  - if it is lost for good, run: bio audit reopen
    That keeps what is here, records the break for everyone to see, and goes on as a new log`
}

func (m *mismatch) Unwrap() error { return ErrTrail }

// reopen opens a new log on what is left, and records the break.
func (t *trail) reopen(ctx context.Context) (published, error) {
	_, differs, err := t.compare(ctx)
	switch {
	case err != nil:
		return published{}, err
	case differs == nil:
		return published{}, errors.New("the trail fits its last checkpoint: there is nothing to reopen")
	}
	breaks, _, err := t.db.Milestones(ctx, audit.TrailReopened, differs.size)
	if err != nil {
		return published{}, err
	}
	broken := audit.Entry{Kind: audit.TrailReopened, Reason: "command line", Detail: map[string]string{
		"published_origin": differs.Origin, "published_size": fmt.Sprint(differs.Size), "published_root": differs.Root.String(),
		"found_size": fmt.Sprint(differs.size), "found_root": differs.root.String(),
	}}
	// What is left may not have earlier breaks: without them counted anew, the new
	// log would go by a name that another one has.
	missing := max(1, t.number(differs.Origin)-breaks)
	size, err := t.db.Record(ctx, slices.Repeat([]audit.Entry{broken}, missing)...)
	if err != nil {
		return published{}, err
	}
	t.publishing.Lock()
	defer t.publishing.Unlock()
	return t.publish(ctx, size)
}

// writeFile replaces a file whole or not at all, and makes it last.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
