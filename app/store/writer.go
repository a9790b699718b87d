package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// batchLimit is how many units share one durable commit.
	batchLimit = 128
	// outcomeWait is how long a caller whose context has ended waits for the
	// truth about a unit that has begun. It outlasts the wait for a lock.
	outcomeWait = 30 * time.Second
)

const (
	sqlBegin      = "BEGIN IMMEDIATE"
	sqlCommit     = "COMMIT"
	sqlRollback   = "ROLLBACK"
	sqlSavepoint  = "SAVEPOINT unit"
	sqlRelease    = "RELEASE unit"
	sqlRollbackTo = "ROLLBACK TO unit"
)

// A writer makes every change. One goroutine owns the one connection that
// writes, takes what waits and joins it into one durable transaction.
type writer struct {
	pool  *sql.DB                                // the goroutine takes one connection of it
	check func(context.Context, *sql.Conn) error // a new connection, before it is used
	now   func() time.Time

	mu     sync.Mutex
	queue  []*unit // guarded by mu; every one has a caller who waits
	closed bool    // guarded by mu; after it nothing enters the queue

	wake chan struct{} // holds a token when the queue may have changed
	done chan struct{} // closed when the goroutine has ended

	// Of the goroutine only.
	conn  *sql.Conn // nil until needed, and after it broke
	stmts map[string]*sql.Stmt
}

// The states of a unit. Whoever leaves waiting first, wins.
const (
	waiting int32 = iota
	begun
	abandoned
)

// A unit is one change: all of it happens, or nothing.
type unit struct {
	run   func(*tx) error
	state atomic.Int32
	err   error         // set before done is closed
	done  chan struct{} // closed when the outcome is known
}

// tx is the transaction as a unit sees it. Its texts are prepared once and kept.
type tx struct {
	w   *writer
	now time.Time // of the whole transaction, to the millisecond
}

func newWriter(pool *sql.DB, check func(context.Context, *sql.Conn) error, now func() time.Time) *writer {
	return &writer{
		pool: pool, check: check, now: now,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// do runs one unit and returns when its outcome is known. A context that ends
// before the unit began takes it out of the queue; later, it is run all the same.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return classify(err)
	}
	u := &unit{run: run, done: make(chan struct{})}
	if !w.enqueue(u) {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	select {
	case <-u.done:
		return u.err
	case <-ctx.Done():
	}
	if u.state.CompareAndSwap(waiting, abandoned) {
		return classify(ctx.Err())
	}
	timer := time.NewTimer(outcomeWait)
	defer timer.Stop()
	select {
	case <-u.done:
		return u.err
	case <-timer.C:
		return fmt.Errorf("%w: no answer in %v", ErrOutcomeUnknown, outcomeWait)
	}
}

func (w *writer) enqueue(u *unit) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.queue = append(w.queue, u)
	w.mu.Unlock()
	w.ring()
	return true
}

func (w *writer) ring() {
	select {
	case w.wake <- struct{}{}:
	default: // a token is there already
	}
}

// close runs what is queued and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ring()
	<-w.done
}

// loop is the goroutine.
func (w *writer) loop() {
	defer close(w.done)
	defer w.release()
	for {
		batch, closed := w.take()
		switch {
		case len(batch) > 0:
			w.transact(batch)
			for _, u := range batch {
				close(u.done)
			}
		case closed:
			return
		default:
			<-w.wake
		}
	}
}

// take returns what waits, at most batchLimit.
func (w *writer) take() (batch []*unit, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), batchLimit)
	batch, w.queue = w.queue[:n:n], w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return batch, w.closed
}

// transact runs the batch in one transaction and gives every unit its error.
func (w *writer) transact(batch []*unit) {
	if err := w.connect(context.Background()); err != nil {
		settle(batch, classify(err))
		return
	}
	if err := w.control(sqlBegin); err != nil {
		if !isBusy(err) {
			w.discard()
		}
		settle(batch, classify(err))
		return
	}
	t := &tx{w: w, now: exact(w.now())}
	changed := false
	for _, u := range batch {
		if !u.state.CompareAndSwap(waiting, begun) {
			continue
		}
		if err := w.run(t, u, len(batch) > 1); err != nil {
			w.rollback()
			settle(batch, fmt.Errorf("%w: transaction lost: %w", ErrUnavailable, err))
			return
		}
		changed = changed || u.err == nil
	}
	if !changed {
		w.rollback()
		return
	}
	if err := w.control(sqlCommit); err != nil {
		w.rollback()
		settle(batch, committed(err))
	}
}

// settle gives err to the units that have no error of their own.
func settle(batch []*unit, err error) {
	for _, u := range batch {
		if u.err == nil {
			u.err = err
		}
	}
}

// run runs one unit, inside a savepoint when it has neighbours. Its own failure
// is u.err; the returned error says that the transaction is gone, as after a
// full disk, when the engine rolls everything back by itself.
func (w *writer) run(t *tx, u *unit, savepoint bool) error {
	if !savepoint {
		u.err = contain(u.run, t)
		return nil
	}
	if err := w.control(sqlSavepoint); err != nil {
		return err
	}
	if u.err = contain(u.run, t); u.err != nil {
		if err := w.control(sqlRollbackTo); err != nil {
			return err
		}
	}
	return w.control(sqlRelease)
}

// contain turns a panic of a unit into its error.
func contain(run func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store: panic in a unit: %v\n%s", p, debug.Stack())
		}
	}()
	return run(t)
}

// rollback leaves no transaction behind. When that cannot be had, the
// connection goes.
func (w *writer) rollback() {
	if w.control(sqlRollback) != nil {
		w.discard()
	}
}

func (w *writer) control(query string) error {
	stmt, err := w.prepare(query)
	if err != nil {
		return err
	}
	_, err = stmt.Exec()
	return err
}

func (w *writer) prepare(query string) (*sql.Stmt, error) {
	if stmt := w.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = stmt
	return stmt, nil
}

// connect makes sure that there is a checked connection.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.pool.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn, w.stmts = conn, map[string]*sql.Stmt{}
	if err := w.check(ctx, conn); err != nil {
		w.discard()
		return err
	}
	return nil
}

// discard closes the connection for good instead of giving it back to the pool.
func (w *writer) discard() {
	w.closeStmts()
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // how database/sql is told
	_ = w.conn.Close()                                           // sql.ErrConnDone after Raw
	w.conn, w.stmts = nil, nil
}

// closeStmts closes the statements, which database/sql does not do for those of
// a sql.Conn. When it has closed the connection itself, on driver.ErrBadConn,
// they must not be touched again.
func (w *writer) closeStmts() {
	if w.conn.Raw(func(any) error { return nil }) != nil {
		return
	}
	for _, stmt := range w.stmts {
		_ = stmt.Close() // no transaction is open, or it is given up
	}
}

// release gives the connection back, at the end.
func (w *writer) release() {
	if w.conn == nil {
		return
	}
	w.closeStmts()
	_ = w.conn.Close() // back to the pool, which is closed next and reports
	w.conn, w.stmts = nil, nil
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	stmt, err := t.w.prepare(query)
	if err != nil {
		return 0, classify(err)
	}
	result, err := stmt.Exec(args...)
	if err != nil {
		return 0, classify(err)
	}
	n, err := result.RowsAffected()
	return n, classify(err)
}

// row reads one row into dest; found is false when there is none.
func (t *tx) row(query string, args []any, dest ...any) (found bool, err error) {
	stmt, err := t.w.prepare(query)
	if err != nil {
		return false, classify(err)
	}
	switch err := stmt.QueryRow(args...).Scan(dest...); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, classify(err)
	}
	return true, nil
}

// rows calls each on every row.
func (t *tx) rows(query string, args []any, each func(scan func(...any) error) error) error {
	stmt, err := t.w.prepare(query)
	if err != nil {
		return classify(err)
	}
	return eachRow(context.Background(), stmt, args, each)
}

// eachRow calls each on every row that stmt gives.
func eachRow(ctx context.Context, stmt *sql.Stmt, args []any, each func(scan func(...any) error) error) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return classify(err)
		}
	}
	return classify(rows.Err())
}
