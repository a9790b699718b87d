// Package trailtest re-verifies a whole log. It knows the store by what it asks
// of it only, so that the store's own tests can use it too.
package trailtest

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/note"

	"bio/app/audit"
)

// Log is what *store.DB is to a check.
type Log interface {
	Entries(ctx context.Context, from int64, limit int) ([]audit.Stored, error)
	Checkpoints(ctx context.Context) ([][]byte, error)
	CheckFile(ctx context.Context) ([]string, error)
}

// page is small, so that tests' logs have several.
const page = 50

// Entries checks every entry, with the checkpoints that are kept and those given,
// which were published. An error that is no Problem says that the log could not
// be read.
func Entries(ctx context.Context, log Log, keys note.Verifiers, published ...[]byte) (audit.Report, error) {
	kept, err := log.Checkpoints(ctx)
	if err != nil {
		return audit.Report{}, err
	}
	checker := audit.NewChecker(append(kept, published...), keys)
	for {
		entries, err := log.Entries(ctx, checker.Next(), page)
		if err != nil {
			return audit.Report{}, err
		}
		for _, e := range entries {
			if err := checker.Add(e); errors.As(err, new(audit.Problem)) {
				return checker.End(), nil
			} else if err != nil {
				return audit.Report{}, err
			}
		}
		if len(entries) == 0 {
			return checker.End(), nil
		}
	}
}

// T is a test: a testing.TB, a *rapid.T.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Check checks the log and the file that it is in, and fails on any problem. The
// checkpoints are compared whoever signed them.
func Check(t T, log Log, checkpoints ...[]byte) audit.Report {
	t.Helper()
	report, err := Entries(context.Background(), log, note.VerifierList(), checkpoints...)
	if err != nil {
		t.Fatalf("the trail cannot be read: %v", err)
	}
	findings, err := log.CheckFile(context.Background())
	if err != nil {
		t.Fatalf("the file cannot be checked: %v", err)
	}
	if len(report.Problems)+len(findings) > 0 {
		t.Fatalf("the trail is not whole: %v %q", report.Problems, findings)
	}
	return report
}
