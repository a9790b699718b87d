package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
)

// checkpointFile holds, in the data directory, the newest checkpoint that was
// published. A database that was put back or cut short does not fit it.
const checkpointFile = "checkpoint"

// ErrTrail says that the log does not fit a checkpoint that it published.
var ErrTrail = errors.New("the trail does not fit its last checkpoint")

// errNotPublished says that a checkpoint could not be written to its file: then it
// is not served either.
var errNotPublished = errors.New("server: the checkpoint cannot be written")

// published is a checkpoint as it left the house.
type published struct {
	audit.Checkpoint
	number int // of the log, which counts its breaks from 1
	note   []byte
	keys   []string // that signed it, the current one first
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
	if t.last.note != nil && size == t.last.Size {
		// Of the same size it may still be another one.
		if differs, err := t.differs(ctx, t.last.Checkpoint); err != nil {
			return published{}, err
		} else if differs == nil {
			return t.last, nil
		}
	}
	return t.publish(ctx, size)
}

// below is checkpoint, for what needs only some that was published: while no new
// one can be written down, the last is good.
func (t *trail) below(ctx context.Context) (published, error) {
	p, err := t.checkpoint(ctx)
	if errors.Is(err, errNotPublished) {
		t.publishing.Lock()
		defer t.publishing.Unlock()
		if t.last.note != nil {
			return t.last, nil
		}
	}
	return p, err
}

// publish publishes a checkpoint of the first size entries. A log that did not grow
// from the one that was published last is not signed: that in the file, which a
// command may have written, and that in memory, which the file may have lost.
func (t *trail) publish(ctx context.Context, size int64) (published, error) {
	number, signer, err := t.signer(ctx, size)
	if err != nil {
		return published{}, err
	}
	if t.last.note != nil && number != t.last.number && t.signedBy(signer) != nil {
		return published{}, fmt.Errorf("%w: it has a break that bio audit reopen did not record", ErrTrail)
	}
	before, err := t.read()
	same := err == nil && before.Origin == signer.Origin()
	for _, from := range slices.Compact([]audit.Checkpoint{before, t.last.Checkpoint}) {
		if from.Origin != signer.Origin() {
			continue // none, or of the log before a break
		}
		if differs, err := t.differs(ctx, from); err != nil {
			return published{}, err
		} else if differs != nil {
			return published{}, differs
		}
	}
	root, err := tlog.TreeHash(size, t.db.Tree(ctx))
	if err != nil {
		return published{}, err
	}
	note, err := signer.Sign(size, root)
	if err != nil {
		return published{}, err
	}
	if !same || before.Size < size { // a command beside the server may have published more
		if err := writeFile(t.file, note); err != nil {
			return published{}, fmt.Errorf("%w: %w", errNotPublished, bare(err))
		}
	}
	t.last = published{audit.Checkpoint{Origin: signer.Origin(), Size: size, Root: root}, number, note, signer.Keys()}
	return t.last, nil
}

// remember keeps the newest checkpoint in the database, and prints it, when it is
// time for that.
func (t *trail) remember(ctx context.Context) error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	now := t.now()
	due := func(last time.Time, every time.Duration) bool { return now.Sub(last) >= every || now.Before(last) }
	if t.last.Size > t.keptSize && due(t.kept, keepEvery) {
		if err := t.db.KeepCheckpoint(ctx, t.last.Size, t.last.note); err != nil {
			return err
		}
		t.kept, t.keptSize = now, t.last.Size
	}
	if t.last.note != nil && due(t.printed, printEvery) {
		t.log.Info("checkpoint", "note", string(t.last.note))
		t.printed = now
	}
	return nil
}

// signer is that of the log of the first size entries, which has another number,
// and name, after each break.
func (t *trail) signer(ctx context.Context, size int64) (number int, _ *audit.Signer, err error) {
	breaks, _, err := t.db.Milestones(ctx, audit.TrailReopened, size)
	if err != nil {
		return 0, nil, err
	}
	signer, err := t.signerOf(breaks + 1)
	return breaks + 1, signer, err
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
		return false, nil, t.damaged(err)
	}
	differs, err = t.differs(ctx, newest)
	return found, differs, err
}

func (t *trail) damaged(err error) error {
	return fmt.Errorf("the last checkpoint %s is damaged: %w. Restore it from your backup, or remove it: then a lost end of the trail may not be noticed at this start", t.file, err)
}

// differs says how the log differs from one that a checkpoint is of; nil when it is
// the same, or has grown from it.
func (t *trail) differs(ctx context.Context, from audit.Checkpoint) (*mismatch, error) {
	size, err := t.db.TrailSize(ctx)
	if err != nil {
		return nil, err
	}
	root, err := tlog.TreeHash(min(size, from.Size), t.db.Tree(ctx))
	if err != nil || root == from.Root && size >= from.Size {
		return nil, err
	}
	return &mismatch{from, size, root}, nil
}

// follows makes sure that the log grew from the one that a checkpoint is of.
func (t *trail) follows(ctx context.Context, before audit.Checkpoint) error {
	differs, err := t.differs(ctx, before)
	if err == nil && differs != nil {
		err = fmt.Errorf("%w: that export is of another log, or of more than this one has", ErrTrail)
	}
	return err
}

// signedBy verifies the signature of the checkpoint in the file; audit.ErrUnknownKey
// when no key of the signer made it, nor any of none.
func (t *trail) signedBy(signer *audit.Signer) error {
	note, err := os.ReadFile(t.file)
	if err != nil {
		return err
	}
	var keys []string
	if signer != nil {
		keys = signer.Keys()
	}
	verifiers, err := audit.Verifiers(keys...)
	if err != nil {
		return err
	}
	_, err = audit.OpenCheckpoint(note, verifiers)
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
		return t.ours()
	}
	size, err := t.db.TrailSize(ctx)
	if err == nil && size > 0 {
		t.log.Warn("the last checkpoint of the trail is not there: whether the trail's end is missing is not known. Compare it with one that was kept elsewhere: bio audit verify --checkpoint FILE",
			"file", t.file, "entries", size)
	}
	return err
}

// ours warns when the checkpoint in the file has no signature of a key that is known
// here: then anyone may have written it.
func (t *trail) ours() error {
	claim, err := t.read()
	if err != nil {
		return err
	}
	var signer *audit.Signer
	if number := t.number(claim.Origin); number > 0 && len(t.seeds) > 0 {
		if signer, err = t.signerOf(number); err != nil {
			return err
		}
	}
	switch err := t.signedBy(signer); {
	case errors.Is(err, audit.ErrUnknownKey):
		t.log.Warn("the last checkpoint of the trail is signed with a key that is not known here. If the secret was changed, set BIO_SECRET_PREVIOUS; if BIO_URL was, that is why; otherwise compare the trail with a checkpoint that was kept elsewhere",
			"file", t.file, "origin", claim.Origin)
	case err != nil:
		return t.damaged(err)
	}
	return nil
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
