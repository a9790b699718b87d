// Package store keeps users, passkeys, sessions, invitations, runs, what agents
// remember and the trail in an SQLite database. Reads use a pool of connections
// that cannot write; every change goes through one writer, which joins what waits
// into one durable transaction. A method that changes something takes the audit
// entries of the act and appends them in that same transaction: no act without its
// record.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// busyTimeout is how long a connection waits, in milliseconds, for a lock
	// that another program holds.
	busyTimeout = "5000"

	// openWait is for how long Open tries again when a lock is held, every openRetry.
	openWait  = 5 * time.Second
	openRetry = 5 * time.Millisecond

	// Writers wait while scrub does.
	sqlScrubWait = "PRAGMA busy_timeout = 1000"
	sqlScrub     = "PRAGMA wal_checkpoint(TRUNCATE)"

	// Without secure_delete a row that moves or goes stays readable in the file.
	writerParameters = "_pragma=busy_timeout(" + busyTimeout + ")&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&_txlock=immediate"
	// A reader looks up points: a small page cache serves it as well as a large one.
	readerParameters = "mode=ro&_pragma=busy_timeout(" + busyTimeout + ")&_pragma=cache_size(-512)"
)

// DB is an open database. Its methods may be called from any goroutine. Each of
// them may return ErrUnavailable; those that change something, ErrOutcomeUnknown.
type DB struct {
	path   string
	writer *writer
	writes *sql.DB
	reads  *sql.DB
	stmts  map[string]*sql.Stmt // of reads, by text: what is asked often
}

// Open opens the database at url, "file:" and a path, makes it when it is not
// there (mode 0600, in a directory that exists) and migrates it. now gives the
// time of every transaction. The error says what to do.
func Open(ctx context.Context, url string, now func() time.Time) (*DB, error) {
	path, err := filePath(url)
	if err != nil {
		return nil, fmt.Errorf("store: database URL %q: %w", url, err)
	}
	if err := prepareFile(path); err != nil {
		return nil, fmt.Errorf("store: cannot open %s: %w", path, explain(err))
	}
	// The engine does not wait for every lock: not for the one that turns a fresh
	// file into a WAL database, which several programs may want at once.
	patience, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	for {
		db, err := open(ctx, path, now)
		if err == nil {
			return db, nil
		}
		if isBusy(err) {
			select {
			case <-time.After(openRetry):
				continue
			case <-patience.Done():
			}
		}
		return nil, fmt.Errorf("store: cannot open %s: %w", path, explain(err))
	}
}

func open(ctx context.Context, path string, now func() time.Time) (_ *DB, err error) {
	db := &DB{path: path}
	defer func() {
		if err != nil {
			_ = db.closePools() // err says more
		}
	}()
	if db.writes, err = openPool(path, writerParameters); err != nil {
		return nil, err
	}
	db.writes.SetMaxOpenConns(2) // the writer's, and for a moment that of scrub
	w := newWriter(db.writes, checkPragmas, now)
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	if err := migrate(ctx, w.conn, migrations); err != nil {
		w.discard()
		return nil, err
	}
	// The readers come second: a read-only connection cannot make the WAL.
	if err := db.openReads(ctx, path); err != nil {
		w.release()
		return nil, err
	}
	if err := protect(path); err != nil {
		w.release()
		return nil, err
	}
	db.writer = w
	go w.loop()
	return db, nil
}

// openReads opens the pool of readers and prepares what they ask.
func (db *DB) openReads(ctx context.Context, path string) (err error) {
	db.reads, err = openPool(path, readerParameters)
	if err != nil {
		return err
	}
	n := max(4, runtime.GOMAXPROCS(0))
	db.reads.SetMaxOpenConns(n)
	db.reads.SetMaxIdleConns(n)
	db.stmts = map[string]*sql.Stmt{}
	for _, query := range []string{
		sqlVersion, sqlUser, sqlCredential, sqlCredentials, sqlWaiting, sqlSession, sqlSessions, sqlInvitation, sqlRecovery,
		sqlTrail, sqlTrailSize, sqlHashes, sqlMilestones, sqlLastRuns, sqlRun, sqlRunEvents, sqlRemembered,
	} {
		if db.stmts[query], err = db.reads.PrepareContext(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// Close finishes what is queued, then closes. What comes later is refused with
// ErrUnavailable. Closing twice is fine.
func (db *DB) Close() error {
	db.writer.close()
	return db.closePools()
}

// closePools closes the readers first, so that the last connection is one that
// can fold the WAL into the database.
func (db *DB) closePools() error {
	var errs []error
	for _, pool := range []*sql.DB{db.reads, db.writes} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Ping reports whether the database can be read and its schema is the one that
// this program was built with.
func (db *DB) Ping(ctx context.Context) error {
	var version int
	if _, err := db.row(ctx, sqlVersion, nil, &version); err != nil {
		return err
	}
	if version != len(migrations) {
		return fmt.Errorf("store: the schema is at version %d, this program needs %d: restart with the right version", version, len(migrations))
	}
	return nil
}

// scrub folds the WAL into the database and empties it, so that nothing that was
// removed is left there. It does so beside the writer, and gives up on a reader
// that does not let go: the next time empties it all the same.
func (db *DB) scrub(ctx context.Context) (clean bool, err error) {
	conn, err := db.writes.Conn(ctx)
	if err != nil {
		return false, classify(err)
	}
	defer conn.Close()
	defer conn.Raw(func(any) error { return driver.ErrBadConn }) // not to be kept for this alone
	if _, err := conn.ExecContext(ctx, sqlScrubWait); err != nil {
		return false, classify(err)
	}
	var busy, frames, folded int
	err = conn.QueryRowContext(ctx, sqlScrub).Scan(&busy, &frames, &folded)
	return err == nil && busy == 0, classify(err)
}

func (db *DB) write(ctx context.Context, run func(*tx) error) error {
	return db.writer.do(ctx, run)
}

// row reads one row into dest; found is false when there is none.
func (db *DB) row(ctx context.Context, query string, args []any, dest ...any) (found bool, err error) {
	var row *sql.Row
	if stmt := db.stmts[query]; stmt != nil {
		row = stmt.QueryRowContext(ctx, args...)
	} else {
		row = db.reads.QueryRowContext(ctx, query, args...)
	}
	switch err := row.Scan(dest...); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, classify(err)
	}
	return true, nil
}

// rows calls each on every row.
func (db *DB) rows(ctx context.Context, query string, args []any, each func(scan func(...any) error) error) error {
	stmt := db.stmts[query]
	if stmt != nil {
		return eachRow(ctx, stmt, args, each)
	}
	stmt, err := db.reads.PrepareContext(ctx, query)
	if err != nil {
		return classify(err)
	}
	defer stmt.Close()
	return eachRow(ctx, stmt, args, each)
}

// filePath returns the path of a file: URL. The parameters are ours to choose.
func filePath(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("it cannot be parsed: write file: and the path, with % as %25")
	}
	path := u.Path
	if u.Opaque != "" { // file:data/bio.db
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return "", errors.New("it cannot be parsed: write % as %25")
		}
	}
	switch {
	case u.Scheme != "file":
		return "", errors.New("only file: is supported: write file: and the path")
	case u.Host != "":
		return "", errors.New("it names a host: write file: and the path, with one slash")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return "", errors.New("it has parameters: leave off what follows the path")
	case path == "" || path == ":memory:" || path[len(path)-1] == '/':
		return "", errors.New("it names no file: write file: and the path")
	}
	if path = filepath.Clean(path); path == "/" || path == "." {
		return "", errors.New("it names no file: write file: and the path")
	}
	return path, nil
}

// prepareFile makes the file, readable by its owner only, unless it is there.
// SQLite gives the WAL the mode of the database.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// protect takes a database, once it is known to be ours, from everybody else.
func protect(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, 0o600)
}

// openPool goes through NewConnector: sql.Open("libsql") leaks a goroutine with
// every connection.
func openPool(path, parameters string) (*sql.DB, error) {
	connector, err := libsql.NewConnector(dsn(path, parameters))
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func dsn(path, parameters string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + parameters
}

// checkPragmas makes sure that the engine took what durability and erasure rest on.
func checkPragmas(ctx context.Context, conn *sql.Conn) error {
	for _, p := range []struct{ name, want string }{
		{"journal_mode", "wal"}, {"synchronous", "2"}, {"foreign_keys", "1"}, {"secure_delete", "1"}, {"busy_timeout", busyTimeout},
	} {
		var got string
		if err := conn.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(&got); err != nil {
			return err
		}
		if got != p.want {
			return fmt.Errorf("the engine did not take %s=%s, it has %s: keep the database on a local disk", p.name, p.want, got)
		}
	}
	return nil
}

// explain says what to do about an error of opening.
func explain(err error) error {
	code, _ := resultCode(err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("its directory does not exist: make it: %w", err)
	case errors.Is(err, fs.ErrPermission), code == sqlite3.SQLITE_READONLY:
		return fmt.Errorf("not writable: let the user that runs Bio own the directory and the file: %w", err)
	case code == sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("not writable: let the user that runs Bio write in its directory: %w", err)
	case code == sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("it is not a database: choose another file, or restore a backup: %w", err)
	case code == sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the database is damaged: restore a backup: %w", err)
	case code == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: the disk is full: make room: %w", ErrUnavailable, err)
	case isBusy(err):
		return fmt.Errorf("%w: another program holds it: stop that, or wait: %w", ErrUnavailable, err)
	case isUnavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
