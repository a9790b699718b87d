package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrUnavailable says that the database cannot be reached or written now:
	// busy, an I/O error, a full disk, read-only, closed, or the context ended
	// first. Nothing was changed, unless the error is ErrOutcomeUnknown too.
	ErrUnavailable = errors.New("store: database unavailable")
	// ErrOutcomeUnknown says that the change may or may not have been made: the
	// answer to its COMMIT did not arrive. It wraps ErrUnavailable.
	ErrOutcomeUnknown = fmt.Errorf("%w: not known whether the change was made", ErrUnavailable)
	// ErrNamesTaken says that every candidate name of a new account is taken.
	ErrNamesTaken = errors.New("store: every candidate name is taken")
)

// refusals are the words by which a remote database says that it did not do
// what it was asked, now.
var refusals = []string{
	"database is locked", "SQLITE_BUSY", "database or disk is full",
	"attempt to write a readonly database", "Transaction timed out",
}

// losses are the words of a driver whose connection or transaction is gone.
var losses = []string{
	"disk I/O error", "STREAM_EXPIRED", "stream is closed", "sql: database is closed",
}

// classify wraps err in ErrUnavailable when it is of that kind. It knows the
// embedded engine by its result codes and a remote one by its words.
func classify(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrUnavailable):
		return err
	case isUnavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("store: %w", err)
}

func isUnavailable(err error) bool {
	if code, ok := resultCode(err); ok {
		switch code {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
			sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM,
			sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
			sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
			return true
		}
		return false
	}
	for _, target := range []error{
		context.Canceled, context.DeadlineExceeded,
		driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network) || says(err, refusals) || says(err, losses)
}

// committed classifies an error of COMMIT. An engine that answers has undone
// the transaction; but after an I/O error the commit may be on the disk and
// come back with a recovery, and a lost answer says nothing.
func committed(err error) error {
	code, answered := resultCode(err)
	if answered && code != sqlite3.SQLITE_IOERR || !answered && says(err, refusals) {
		return classify(err)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// resultCode returns the primary result code of an error of the embedded engine.
func resultCode(err error) (int, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Code() & 0xff, true
}

func isBusy(err error) bool {
	code, ok := resultCode(err)
	return ok && code == sqlite3.SQLITE_BUSY || !ok && says(err, []string{"database is locked", "SQLITE_BUSY"})
}

func says(err error, words []string) bool {
	for _, w := range words {
		if strings.Contains(err.Error(), w) {
			return true
		}
	}
	return false
}
