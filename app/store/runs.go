package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bio/agent"
	"bio/app/audit"
	"bio/app/runs"
)

var _ runs.Store = (*DB)(nil)

const runColumns = `runs.id, runs.user_id, runs.agent, runs.prompt, runs.status, runs.sentence, runs.started_at, runs.beat_at,
runs.ended_at, (SELECT coalesce(max(idx) + 1, 0) FROM run_events WHERE run_id = runs.id)`

// runFields are the destinations of runColumns.
func runFields(r *runs.Record) []any {
	return []any{
		&r.ID, &r.UserID, &r.Agent, &r.Prompt, &r.Status, &r.Sentence, (*stamp)(&r.StartedAt), (*stamp)(&r.BeatAt),
		(*stamp)(&r.EndedAt), &r.Events,
	}
}

const (
	sqlRunAt     = "SELECT " + runColumns + " FROM runs WHERE user_id = ? AND agent = ?"
	sqlInsertRun = `INSERT INTO runs (id, user_id, agent, prompt, status, sentence, started_at, beat_at)
SELECT ?1, id, ?3, ?4, ?5, '', ?6, ?6 FROM users WHERE id = ?2 AND disabled_at IS NULL`
	sqlDeleteRunEvents = "DELETE FROM run_events WHERE run_id = ?"
	sqlDeleteRun       = "DELETE FROM runs WHERE id = ?"
)

// StartRun implements runs.Store. It returns the run as it is kept.
func (db *DB) StartRun(ctx context.Context, r runs.Record, stale time.Time, entry audit.Entry) (kept runs.Record, err error) {
	err = db.write(ctx, func(t *tx) error {
		var old runs.Record
		found, err := t.row(sqlRunAt, []any{r.UserID, r.Agent}, runFields(&old)...)
		if err != nil {
			return err
		}
		if found && old.Status == runs.Running && !old.BeatAt.Before(exact(stale)) && !old.BeatAt.After(t.now.Add(runs.Stale)) {
			kept = old
			return nil
		}
		var entries []audit.Entry
		if found {
			if old.Status == runs.Running {
				old.Status = runs.Interrupted
				entries = append(entries, old.Entry())
			}
			for _, query := range []string{sqlDeleteRunEvents, sqlDeleteRun} {
				if _, err := t.exec(query, old.ID); err != nil {
					return err
				}
			}
		}
		kept = r
		kept.Status, kept.Sentence, kept.StartedAt, kept.BeatAt, kept.EndedAt, kept.Events = runs.Running, "", t.now, t.now, time.Time{}, 0
		n, err := t.exec(sqlInsertRun, r.ID, r.UserID, r.Agent, r.Prompt, runs.Running, stamp(t.now))
		if err == nil && n == 0 {
			err = runs.ErrNone // the account has gone, or is disabled
		}
		if err != nil {
			return err
		}
		return appendTrail(t, r.UserID, append(entries, entry)...)
	})
	if err != nil {
		return runs.Record{}, err
	}
	return kept, nil
}

const (
	sqlBeat = `UPDATE runs SET beat_at = ? WHERE id = ? AND status = 'running'
RETURNING stop_at IS NOT NULL OR EXISTS (SELECT 1 FROM users WHERE users.id = runs.user_id AND disabled_at IS NOT NULL)`
	insertEvents = "INSERT INTO run_events (run_id, idx, kind, text, data, html) VALUES (?, ?, ?, ?, ?, ?)"
	unlessThere  = " ON CONFLICT (run_id, idx) DO NOTHING"

	sqlInsertEvent = insertEvents + unlessThere
	eventsAtOnce   = 16
)

var sqlInsertEvents = insertEvents + strings.Repeat(", (?, ?, ?, ?, ?, ?)", eventsAtOnce-1) + unlessThere

// KeepEvents implements runs.Store. A beat is no act and leaves no entry.
func (db *DB) KeepEvents(ctx context.Context, runID string, from int, events []agent.Event) (stop bool, err error) {
	err = db.write(ctx, func(t *tx) error {
		found, err := t.row(sqlBeat, []any{stamp(t.now), runID}, &stop)
		if err == nil && !found {
			err = runs.ErrNone
		}
		if err != nil {
			return err
		}
		return keepEvents(t, runID, from, events)
	})
	return stop && err == nil, err
}

// keepEvents inserts many events at once: a statement for each costs more than the
// events do.
func keepEvents(t *tx, runID string, from int, events []agent.Event) error {
	for at := from; len(events) > 0; {
		n, query := 1, sqlInsertEvent
		if len(events) >= eventsAtOnce {
			n, query = eventsAtOnce, sqlInsertEvents
		}
		args := make([]any, 0, 6*n)
		for _, e := range events[:n] {
			var data, html any
			switch e.Kind {
			case agent.Data:
				data = string(e.Data)
			case agent.View:
				rendered, ok := e.View.(runs.HTML)
				if !ok {
					return fmt.Errorf("store: event %d of run %s: a view that was not rendered", at, runID)
				}
				html = string(rendered)
			}
			args = append(args, runID, at, e.Kind.String(), e.Text, data, html)
			at++
		}
		if _, err := t.exec(query, args...); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

const sqlEndRun = "UPDATE runs SET status = ?1, sentence = ?2, beat_at = ?3, ended_at = ?3 WHERE id = ?4 AND status = 'running'"

// EndRun implements runs.Store.
func (db *DB) EndRun(ctx context.Context, runID string, from int, events []agent.Event, status, sentence string, entry audit.Entry) error {
	return db.write(ctx, func(t *tx) error {
		n, err := t.exec(sqlEndRun, status, sentence, stamp(t.now), runID)
		if err == nil && n == 0 {
			err = runs.ErrNone
		}
		if err == nil {
			err = keepEvents(t, runID, from, events)
		}
		if err != nil {
			return err
		}
		return appendTrail(t, "", entry)
	})
}

const sqlStopRun = "UPDATE runs SET stop_at = ? WHERE id = ? AND user_id = ? AND status = 'running'"

// AskToStop implements runs.Store. The run's end has the entry.
func (db *DB) AskToStop(ctx context.Context, userID, runID string) error {
	return db.write(ctx, func(t *tx) error {
		n, err := t.exec(sqlStopRun, stamp(t.now), runID, userID)
		if err == nil && n == 0 {
			err = runs.ErrNone
		}
		return err
	})
}

const sqlLastRuns = "SELECT " + runColumns + " FROM runs WHERE user_id = ?"

// LastRuns implements runs.Store.
func (db *DB) LastRuns(ctx context.Context, userID string) (all []runs.Record, err error) {
	err = db.rows(ctx, sqlLastRuns, []any{userID}, func(scan func(...any) error) error {
		var r runs.Record
		err := scan(runFields(&r)...)
		all = append(all, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

const (
	sqlRun       = "SELECT " + runColumns + " FROM runs WHERE id = ?"
	sqlRunEvents = "SELECT kind, text, data, html FROM run_events WHERE run_id = ? AND idx >= ? ORDER BY idx"
)

// RunEvents implements runs.Store.
func (db *DB) RunEvents(ctx context.Context, runID string, from int) (r runs.Record, events []agent.Event, err error) {
	// The run first: what it says of its end is then true of the events.
	found, err := db.row(ctx, sqlRun, []any{runID}, runFields(&r)...)
	if err == nil && !found {
		err = runs.ErrNone
	}
	if err == nil && r.Events <= from && r.Status != runs.Running {
		return r, nil, nil
	}
	if err == nil {
		err = db.rows(ctx, sqlRunEvents, []any{runID, from}, func(scan func(...any) error) error {
			var kind string
			var e agent.Event
			var data, html *string
			if err := scan(&kind, &e.Text, &data, &html); err != nil {
				return err
			}
			switch e.Kind = kindOf(kind); {
			case data != nil:
				e.Data = []byte(*data)
			case html != nil:
				e.View = runs.HTML(*html)
			}
			events = append(events, e)
			return nil
		})
	}
	if err == nil && from+len(events) < r.Events {
		err = runs.ErrNone // it was replaced meanwhile
	}
	if err != nil {
		return runs.Record{}, nil, err
	}
	return r, events, nil
}

// kindOf is the kind of that name; Text of one that this version does not know.
func kindOf(name string) agent.Kind {
	for _, kind := range []agent.Kind{agent.Status, agent.Data, agent.View, agent.Approval} {
		if kind.String() == name {
			return kind
		}
	}
	return agent.Text
}

const (
	fromStale = ` FROM runs
WHERE (status = 'running' AND beat_at < ? OR status = 'running' AND beat_at > ?) AND id NOT IN (SELECT value FROM json_each(?)) LIMIT ?`
	sqlAnyStale  = "SELECT 1" + fromStale
	sqlStaleRuns = "SELECT " + runColumns + fromStale
	// Of a run that is stale, the beat stays what it was.
	sqlInterruptRun = "UPDATE runs SET status = ?, sentence = ?, ended_at = ? WHERE id = ?"
)

// InterruptRuns implements runs.Store. It goes in small batches: on an error those
// before it are done, and counted.
func (db *DB) InterruptRuns(ctx context.Context, stale time.Time, sentence string, except ...string) (int, error) {
	// Mostly there is none, and the writer is left alone.
	one := 0
	if found, err := db.row(ctx, sqlAnyStale, []any{stamp(stale), stamp(db.writer.now().Add(runs.Stale)), list(except), 1}, &one); err != nil || !found {
		return 0, err
	}
	for total := 0; ; {
		n := 0
		err := db.write(ctx, func(t *tx) (err error) {
			n, err = interruptRuns(t, stale, sentence, except)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < expireBatch {
			return total, nil
		}
	}
}

// interruptRuns ends one batch of runs.
func interruptRuns(t *tx, stale time.Time, sentence string, except list) (int, error) {
	var entries []audit.Entry
	var ids []string
	err := t.rows(sqlStaleRuns, []any{stamp(stale), stamp(t.now.Add(runs.Stale)), except, expireBatch}, func(scan func(...any) error) error {
		var r runs.Record
		if err := scan(runFields(&r)...); err != nil {
			return err
		}
		r.Status = runs.Interrupted
		ids, entries = append(ids, r.ID), append(entries, r.Entry())
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if _, err := t.exec(sqlInterruptRun, runs.Interrupted, sentence, stamp(t.now), id); err != nil {
			return 0, err
		}
	}
	return len(ids), appendTrail(t, "", entries...)
}

// Of a removed user, the events first.
const (
	sqlDeleteUserRunEvents = "DELETE FROM run_events WHERE run_id IN (SELECT id FROM runs WHERE user_id = ?)"
	sqlDeleteUserRuns      = "DELETE FROM runs WHERE user_id = ?"
)
