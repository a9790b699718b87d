package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/store"
)

// What an operator does from the command line, beside a running server or without
// one.

// openDatabase opens the database of an installation that has started once.
func openDatabase(ctx context.Context, settings *config.Settings) (*store.DB, error) {
	if _, err := os.Stat(strings.TrimPrefix(settings.Database, "file:")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database at %s yet: start Bio once with these settings", strings.TrimPrefix(settings.Database, "file:"))
	}
	return store.Open(ctx, settings.Database, time.Now)
}

// openToAct is openDatabase for what leaves an entry: not on a log that the server
// would refuse.
func openToAct(ctx context.Context, settings *config.Settings) (*store.DB, error) {
	db, t, err := openTrail(ctx, settings, false)
	if err != nil {
		return nil, err
	}
	if err := t.start(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// openTrail opens the database and the log in it. The root secret may be missing
// for what signs nothing.
func openTrail(ctx context.Context, settings *config.Settings, signs bool) (*store.DB, *trail, error) {
	secret := []byte(settings.Secret)
	if secret == nil {
		var err error
		secret, err = readSecret(filepath.Join(settings.Data, secretFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
			if signs {
				err = errors.New("there is no root secret yet: start Bio once with these settings, or set BIO_SECRET")
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	db, err := openDatabase(ctx, settings)
	if err != nil {
		return nil, nil, err
	}
	var seeds [][]byte
	if secret != nil {
		seeds = derive(secret, settings.Previous).trail
	}
	t := newTrail(db, settings, seeds, time.Now, slog.New(slog.DiscardHandler))
	if signs {
		if err := t.sameSite(); err != nil {
			db.Close()
			return nil, nil, err
		}
	}
	return db, t, nil
}

// A Progress is told how much of long work is done.
type Progress func(done, total int64)

// entriesPage is how many entries are in memory at once.
const entriesPage = 1000

// eachEntry calls each on the entries from first up to, but not with, end, or to
// the last when end is negative.
func eachEntry(ctx context.Context, db *store.DB, first, end int64, each func(audit.Stored) error) error {
	for next := first; end < 0 || next < end; {
		limit := entriesPage
		if end >= 0 {
			limit = int(min(entriesPage, end-next))
		}
		page, err := db.Entries(ctx, next, limit)
		if err != nil {
			return err
		}
		for _, entry := range page {
			if err := each(entry); err != nil {
				return err
			}
		}
		if len(page) < limit {
			return nil
		}
		next = page[len(page)-1].Index + 1
	}
	return nil
}

// VerifyTrail checks the whole log of an installation: entries, tree, payloads, all
// checkpoints that are kept there, and those given, which were kept elsewhere; with
// the verifier keys given or, without any, those that the root secret gives.
func VerifyTrail(ctx context.Context, settings *config.Settings, keys []string, elsewhere [][]byte, progress Progress) (audit.Report, error) {
	db, t, err := openTrail(ctx, settings, false)
	if err != nil {
		return audit.Report{}, err
	}
	defer db.Close()
	size, err := db.TrailSize(ctx)
	if err != nil {
		return audit.Report{}, err
	}
	if len(keys) == 0 && len(t.seeds) > 0 {
		if keys, err = t.keys(ctx, size); err != nil {
			return audit.Report{}, err
		}
	}
	verifiers, err := audit.Verifiers(keys...)
	if err != nil {
		return audit.Report{}, err
	}
	notes, err := db.Checkpoints(ctx)
	if err != nil {
		return audit.Report{}, err
	}
	switch note, err := os.ReadFile(t.file); {
	case err == nil:
		notes = append(notes, note)
	case !errors.Is(err, fs.ErrNotExist):
		return audit.Report{}, fmt.Errorf("the last checkpoint %s cannot be read: %w. Let this user read it", t.file, bare(err))
	}
	checker := audit.NewChecker(append(notes, elsewhere...), verifiers)
	err = eachEntry(ctx, db, 0, -1, func(entry audit.Stored) error {
		if err := checker.Add(entry); err != nil {
			return err
		}
		progress(checker.Next(), max(size, checker.Next()))
		return nil
	})
	if err != nil && !errors.As(err, new(audit.Problem)) {
		return audit.Report{}, err
	}
	if err := db.Keys(ctx, checker.Alive); err != nil {
		return audit.Report{}, err
	}
	findings, err := db.CheckFile(ctx)
	if err != nil {
		return audit.Report{}, err
	}
	for _, finding := range findings {
		checker.Wrong(audit.Problem{First: 0, Last: -1, What: finding})
	}
	return checker.End(), nil
}

// Export is what an export is to hold.
type Export struct {
	Since, Until time.Time         // a zero time does not bound
	After        *audit.Checkpoint // of the export that it follows; nil: the last that was made
}

// ExportTrail writes the entries of a period, tied to a checkpoint that is
// published with them, and it to that of the export before. The export is itself
// an act, and the newest entry below that checkpoint.
func ExportTrail(ctx context.Context, settings *config.Settings, e Export, w io.Writer, progress Progress) (audit.ExportHeader, error) {
	db, t, err := openTrail(ctx, settings, true)
	if err != nil {
		return audit.ExportHeader{}, err
	}
	defer db.Close()
	header := audit.ExportHeader{Since: inUTC(e.Since), Until: inUTC(e.Until)}
	detail := map[string]string{}
	for name, at := range map[string]string{"since": header.Since, "until": header.Until} {
		if at != "" {
			detail[name] = at
		}
	}
	// Whatever is wrong with the log, it must not be exported as if it were right.
	if err := t.start(ctx); err != nil {
		return header, err
	}
	if e.After != nil {
		if err := t.follows(ctx, *e.After); err != nil {
			return header, err
		}
	}
	size, err := db.Record(ctx, audit.Entry{Kind: audit.TrailExported, Reason: "command line", Detail: detail})
	if err != nil {
		return header, err
	}
	t.publishing.Lock()
	p, err := t.publish(ctx, size)
	t.publishing.Unlock()
	if err != nil {
		return header, err
	}
	header.Checkpoint = string(p.note)
	if e.After != nil {
		header.Previous = e.After.Size
	} else {
		_, last, err := db.Milestones(ctx, audit.TrailExported, size-1)
		if err != nil {
			return header, err
		}
		header.Previous = last + 1
	}
	if header.First, header.End, err = db.Period(ctx, e.Since, e.Until, size); err != nil {
		return header, err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	exporter, err := audit.NewExporter(out, header, size, db.Tree(ctx))
	if err != nil {
		return header, err
	}
	err = eachEntry(ctx, db, header.First, header.End, func(entry audit.Stored) error {
		progress(entry.Index+1-header.First, header.End-header.First)
		return exporter.Add(entry)
	})
	if err = errors.Join(err, out.Flush()); err != nil {
		return header, err
	}
	// Payloads that went while this was written have their reason after the
	// checkpoint, where nobody who has the file would see it.
	return header, eachEntry(ctx, db, size, -1, func(entry audit.Stored) error {
		if entry.Leaf.Kind == audit.Erased || entry.Leaf.Kind == audit.DuplicateUndone {
			return errors.New("an account was erased while this was exported, and the file may lack what belonged to it: export again")
		}
		return nil
	})
}

func inUTC(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// TrailKey returns the verifier key of the log's checkpoints.
func TrailKey(ctx context.Context, settings *config.Settings) (string, error) {
	db, t, err := openTrail(ctx, settings, true)
	if err != nil {
		return "", err
	}
	defer db.Close()
	size, err := db.TrailSize(ctx)
	if err != nil {
		return "", err
	}
	_, signer, err := t.signer(ctx, size)
	if err != nil {
		return "", err
	}
	return signer.Key(), nil
}

// ReopenTrail opens a new log on what is left of one that does not fit its last
// checkpoint, and returns the new log's first checkpoint.
func ReopenTrail(ctx context.Context, settings *config.Settings) ([]byte, error) {
	db, t, err := openTrail(ctx, settings, true)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	p, err := t.reopen(ctx)
	return p.note, err
}
