package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"

	"bio/app/account"
)

// hold makes the writer busy inside a unit until the returned function is called.
func hold(t testing.TB, w *writer) (release func()) {
	t.Helper()
	inside, leave := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	go func() {
		held <- w.do(context.Background(), func(*tx) error { close(inside); <-leave; return nil })
	}()
	<-inside
	return func() {
		close(leave)
		if err := <-held; err != nil {
			t.Error(err)
		}
	}
}

// queued waits until n units are in the queue.
func queued(w *writer, n int) {
	for {
		w.mu.Lock()
		have := len(w.queue)
		w.mu.Unlock()
		if have >= n {
			return
		}
		runtime.Gosched()
	}
}

func record(seed string) func(*tx) error {
	return func(t *tx) error { return appendTrail(t, "", registered(seed)) }
}

// A unit that fails, in whatever way, leaves its neighbours in the transaction
// as they are, and none of its own changes.
func TestFailingNeighbour(t *testing.T) {
	own := errors.New("own")
	for _, tt := range []struct {
		name string
		fail func(*tx) error
		want string
	}{
		{"error after a change", func(t *tx) error { return errors.Join(record("x")(t), own) }, "own"},
		{"constraint", func(t *tx) error {
			_, err := t.exec("INSERT INTO sessions (id, user_id) VALUES ('x', 'x')")
			return err
		}, "NOT NULL"},
		{"foreign key", func(t *tx) error {
			s := press("x", epoch).Session
			s.UserID, s.Credential = "nobody", "x"
			return insertSession(t, s)
		}, "FOREIGN KEY"},
		{"bad SQL", func(t *tx) error { _, err := t.exec("NONSENSE"); return err }, "syntax"},
		{"panic after a change", func(t *tx) error { _ = record("x")(t); panic("no") }, "panic in a unit: no"},
		{"panic among rows", func(t *tx) error {
			return t.rows(sqlExpired, []any{stamp(t.now), stamp(t.now), 1}, func(func(...any) error) error { panic("no") })
		}, "panic in a unit: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			must[account.User](t)(db.Register(t.Context(), registration("first", c.Now()), registered("first")))
			c.Advance(time.Hour)
			release := hold(t, db.writer)
			errs := make([]error, 9)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() {
					run := record(fmt.Sprint(i))
					if i%3 == 1 {
						run = tt.fail
						if strings.Contains(tt.name, "rows") {
							run = func(t *tx) error {
								return t.rows(sqlExpired, []any{stamp(t.now.Add(48 * time.Hour)), stamp(t.now), 1}, func(func(...any) error) error { panic("no") })
							}
						}
					}
					errs[i] = db.write(context.Background(), run)
				})
			}
			queued(db.writer, len(errs))
			release()
			wg.Wait()
			for i, err := range errs {
				switch {
				case i%3 != 1 && err != nil:
					t.Errorf("neighbour %d: %v", i, err)
				case i%3 == 1 && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("unit %d: got error %v, want %q", i, err, tt.want)
				}
			}
			equal(t, db.counts(t)["trail_leaves"], 7)
			// And alone.
			if err := db.write(t.Context(), tt.fail); err == nil && !strings.Contains(tt.name, "rows") {
				t.Error("no error alone")
			}
			if err := db.write(t.Context(), record("last")); err != nil {
				t.Error(err)
			}
			equal(t, db.counts(t)["trail_leaves"], 8)
		})
	}
}

// What waits shares a transaction and its time, up to the limit.
func TestGroupCommit(t *testing.T) {
	var ticks atomic.Int64
	db := openAt(t, fileURL(t), func() time.Time { return epoch.Add(time.Duration(ticks.Add(1)) * time.Second) })
	release := hold(t, db.writer)
	const n = batchLimit + 10
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := db.write(context.Background(), record(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	queued(db.writer, n)
	release()
	wg.Wait()
	equal(t, db.count(t, "SELECT count(DISTINCT at) FROM trail_leaves"), 2)
	equal(t, db.count(t, "SELECT max(n) FROM (SELECT count(*) AS n FROM trail_leaves GROUP BY at)"), batchLimit)
}

// A caller that leaves before its unit began takes it along; one that leaves
// later still learns the truth.
func TestContextEnds(t *testing.T) {
	db, _ := openTest(t)
	release := hold(t, db.writer)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { left <- db.write(ctx, record("skipped")) }()
	queued(db.writer, 1)
	cancel()
	err := <-left
	wantErr(t, err, ErrUnavailable)
	wantErr(t, err, context.Canceled)
	if errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal("its outcome is known")
	}
	release()
	wantErr(t, db.write(ctx, record("never queued")), context.Canceled)
	equal(t, db.counts(t)["trail_leaves"], 0)

	ctx, cancel = context.WithCancel(context.Background())
	if err := db.write(ctx, func(t *tx) error { cancel(); return record("kept")(t) }); err != nil {
		t.Fatal(err)
	}
	equal(t, db.counts(t)["trail_leaves"], 1)

	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	_, err = db.User(ctx, "x")
	wantErr(t, err, ErrUnavailable)
	wantErr(t, err, context.Canceled)
}

// A writer that hangs does not keep a caller for ever.
func TestOutcomeUnknownWhenTheWriterHangs(t *testing.T) {
	path, err := filePath(fileURL(t))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := openPool(path, "_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(pool, func(context.Context, *sql.Conn) error { return nil }, time.Now)
		go w.loop()
		ctx, cancel := context.WithCancel(context.Background())
		leave := make(chan struct{})
		err := w.do(ctx, func(*tx) error { cancel(); <-leave; return nil })
		wantErr(t, err, ErrOutcomeUnknown)
		close(leave)
		w.close()
	})
}

// Close runs what is queued and refuses what comes after.
func TestCloseFinishesTheQueue(t *testing.T) {
	url := fileURL(t)
	db, err := Open(t.Context(), url, newClock().Now)
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, db.writer)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := db.write(context.Background(), record(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	queued(db.writer, 50)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	release()
	wg.Wait()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = db.User(t.Context(), "x")
	wantErr(t, err, ErrUnavailable)
	wantErr(t, db.Ping(t.Context()), ErrUnavailable)
	wantErr(t, recorded(db, registered("late")), ErrUnavailable)
	equal(t, openAt(t, url, newClock().Now).counts(t)["trail_leaves"], 50)
}

// A lock that another program keeps is ErrUnavailable once the wait is over, and
// no harm when it is given up in time.
func TestBusy(t *testing.T) {
	url := fileURL(t)
	db := openAt(t, url, newClock().Now)
	outside := other(t, url)
	conn := must[*sql.Conn](t)(outside.Conn(t.Context()))
	defer conn.Close()
	exec := func(query string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec(sqlBegin)
	done := make(chan error, 1)
	go func() { done <- recorded(db, registered("1")) }()
	for begun := false; !begun; { // the unit has left the queue: its BEGIN is next
		db.writer.mu.Lock()
		begun = len(db.writer.queue) == 0
		db.writer.mu.Unlock()
		runtime.Gosched()
	}
	exec(sqlCommit)
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	onWriter(t, db, "PRAGMA busy_timeout = 20")
	exec(sqlBegin)
	if err := db.write(t.Context(), func(*tx) error { return nil }); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("got error %v", err)
	}
	exec(sqlRollback)
	if err := recorded(db, registered("2")); err != nil {
		t.Fatal(err)
	}
	equal(t, db.counts(t)["trail_leaves"], 2)
}

// onWriter runs SQL on the writer's connection, outside a transaction's rules.
func onWriter(t testing.TB, db *DB, query string) {
	t.Helper()
	if err := db.write(context.Background(), func(t *tx) error {
		return t.rows(query, nil, func(func(...any) error) error { return nil })
	}); err != nil {
		t.Fatal(err)
	}
}

// A full disk and a read-only database refuse, change nothing, and are over
// when they are over.
func TestCannotWrite(t *testing.T) {
	for _, tt := range []struct{ name, breaks, mends string }{
		{"disk full", "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"},
		{"read-only", "PRAGMA query_only = 1", "PRAGMA query_only = 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			must[account.User](t)(db.Register(ctx, registration("0", c.Now()), registered("0")))
			onWriter(t, db, tt.breaks)
			before := db.counts(t)
			failed := 0
			for i := 1; failed == 0 && i < 100; i++ { // free pages last a while
				seed := fmt.Sprint(i)
				_, err := db.Register(ctx, registration(seed, c.Now()), registered(seed))
				if err == nil {
					before = db.counts(t)
					continue
				}
				failed++
				wantErr(t, err, ErrUnavailable)
				if errors.Is(err, ErrOutcomeUnknown) {
					t.Fatalf("its outcome is known: %v", err)
				}
			}
			equal(t, failed, 1)
			equal(t, db.counts(t), before)
			if err := db.Ping(ctx); err != nil { // reading goes on
				t.Fatal(err)
			}
			onWriter(t, db, tt.mends)
			must[account.User](t)(db.Register(ctx, registration("after", c.Now()), registered("after")))
		})
	}
}

// A disk that fills up in the middle of a batch takes the whole transaction with
// it, for the engine rolls back by itself. Everybody is told so.
func TestTransactionLostInABatch(t *testing.T) {
	db, c := openTest(t)
	must[account.User](t)(db.Register(t.Context(), registration("0", c.Now()), registered("0")))
	before := db.counts(t)
	release := hold(t, db.writer)
	errs := make([]error, 5)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = db.write(context.Background(), func(t *tx) error {
				if i != 2 {
					return record(fmt.Sprint(i))(t)
				}
				if _, err := t.exec(sqlRollback); err != nil { // as the engine does
					return err
				}
				return errors.New("own")
			})
		})
	}
	queued(db.writer, len(errs))
	release()
	wg.Wait()
	for i, err := range errs {
		if i == 2 && err.Error() == "own" {
			continue
		}
		wantErr(t, err, ErrUnavailable)
	}
	equal(t, db.counts(t), before)
	if err := recorded(db, registered("after")); err != nil {
		t.Fatal(err)
	}
}

// faulty is a connection whose COMMIT goes wrong on the way.
type faulty struct {
	driver.Connector
	fault *atomic.Int32 // 0: none, 1: the answer is lost, 2: the request is lost
}

type faultyConn struct {
	driver.Conn
	fault *atomic.Int32
	stmts []driver.Stmt
}

type faultyStmt struct {
	driver.Stmt
	query string
	fault *atomic.Int32
}

func (f faulty) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := f.Connector.Connect(ctx)
	return &faultyConn{Conn: conn, fault: f.fault}, err
}

// Close ends the transaction, as that of a remote database does; the embedded
// engine keeps it as long as there are statements.
func (c *faultyConn) Close() error {
	for _, stmt := range c.stmts {
		stmt.Close()
	}
	return c.Conn.Close()
}

func (c *faultyConn) Prepare(query string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(query)
	c.stmts = append(c.stmts, stmt)
	return faultyStmt{stmt, query, c.fault}, err
}

func (s faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	fault := int32(0)
	if s.query == sqlCommit {
		fault = s.fault.Swap(0)
	}
	if fault == 2 {
		return nil, driver.ErrBadConn
	}
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	if fault == 1 {
		return nil, driver.ErrBadConn
	}
	return result, err
}

// Whether a COMMIT was lost on its way there or its answer on the way back
// looks the same: the outcome is unknown, nothing is done twice, and the writer
// goes on with a new connection.
func TestCommitLost(t *testing.T) {
	for fault, rows := range map[int32]int{1: 1, 2: 0} {
		url := fileURL(t)
		db := openAt(t, url, newClock().Now)
		path, err := filePath(url)
		if err != nil {
			t.Fatal(err)
		}
		connector, err := libsql.NewConnector(dsn(path, writerParameters))
		if err != nil {
			t.Fatal(err)
		}
		var fails atomic.Int32
		pool := sql.OpenDB(faulty{connector, &fails})
		w := newWriter(pool, checkPragmas, newClock().Now)
		go w.loop()
		fails.Store(fault)
		err = w.do(t.Context(), record("1"))
		wantErr(t, err, ErrOutcomeUnknown)
		wantErr(t, err, ErrUnavailable)
		equal(t, db.counts(t)["trail_leaves"], rows)
		if err := w.do(t.Context(), record("2")); err != nil {
			t.Fatal(err)
		}
		equal(t, db.counts(t)["trail_leaves"], rows+1)
		w.close()
		if err := pool.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		err         error
		unavailable bool
		unknown     bool // of a COMMIT
	}{
		{context.Canceled, true, true},
		{context.DeadlineExceeded, true, true},
		{driver.ErrBadConn, true, true},
		{sql.ErrConnDone, true, true},
		{errors.New("sql: database is closed"), true, true},
		{errors.New("hrana: stream is closed: driver: bad connection"), true, true},
		{errors.New("SQLite error: database is locked"), true, false},
		{errors.New("Transaction timed out"), true, false},
		{errors.New("database or disk is full"), true, false},
		{errors.New("near \"x\": syntax error"), false, true},
	} {
		err := classify(fmt.Errorf("wrapped: %w", tt.err))
		equal(t, errors.Is(err, ErrUnavailable), tt.unavailable)
		wantErr(t, err, tt.err)
		err = committed(tt.err)
		equal(t, errors.Is(err, ErrOutcomeUnknown), tt.unknown)
		wantErr(t, err, ErrUnavailable)
	}
	equal(t, classify(nil), error(nil))
}
