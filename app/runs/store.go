package runs

import (
	"context"
	"errors"
	"io"
	"time"

	"bio/agent"
	"bio/app/audit"
)

// Stale is how old the beat of a run may become, and how far ahead it may be of a
// clock. One whose beat is older, or later than clocks differ, has lost its server:
// it is interrupted, wherever it is looked at.
const Stale = 15 * time.Second

// Crashed is what is said of a run that lost its server.
const Crashed = "This was cut off. You can run it again."

// ErrNone says that there is no such run, or none that is running.
var ErrNone = errors.New("runs: no such run")

// Store keeps the last run of each agent for each person, for every instance of
// an installation. A View among the events is an [HTML]. Its times are its own:
// those of its transactions.
type Store interface {
	// StartRun keeps a run that begins and its entry, and removes the run before it
	// of the same person and agent, as what is interrupted when it was running. When
	// one of theirs is running elsewhere (its beat is not before stale, nor more than
	// Stale ahead) that one is returned instead, and nothing is changed. ErrNone when
	// there is no such person, or their account is disabled.
	StartRun(ctx context.Context, r Record, stale time.Time, entry audit.Entry) (Record, error)
	// KeepEvents appends events to a run that is running, as its from-th and on, and
	// moves its beat to now; stop reports that someone asked to stop it, or that the
	// account is disabled. Events that are there already are left as they are. ErrNone
	// when it is not running.
	KeepEvents(ctx context.Context, runID string, from int, events []agent.Event) (stop bool, err error)
	// EndRun appends the last events, ends the run, and keeps the entry. ErrNone, and
	// no change, when it is not running.
	EndRun(ctx context.Context, runID string, from int, events []agent.Event, status, sentence string, entry audit.Entry) error
	// AskToStop marks a run of that person; ErrNone when there is none running.
	AskToStop(ctx context.Context, userID, runID string) error
	// LastRuns returns the last run of each agent of the person, without events.
	LastRuns(ctx context.Context, userID string) ([]Record, error)
	// RunEvents returns the events of a run from the from-th on, and the run as it
	// is: ErrNone when it is gone. One that has ended comes with all of them.
	RunEvents(ctx context.Context, runID string, from int) (Record, []agent.Event, error)
	// InterruptRuns ends the runs whose beat is before stale or more than Stale ahead,
	// each with its entry, and returns how many; those of the ids in except stay. So
	// one more than Stale ahead ends all, which is for who knows that no server runs.
	InterruptRuns(ctx context.Context, stale time.Time, sentence string, except ...string) (int, error)
}

// Record is a run as it is kept.
type Record struct {
	ID, UserID, Agent, Prompt  string
	Status, Sentence           string
	StartedAt, BeatAt, EndedAt time.Time // EndedAt is zero while it runs
	Events                     int       // how many are kept
}

// Entry is what the trail says of the run as it is now: that it began, or how it
// ended.
func (r Record) Entry() audit.Entry {
	e := audit.Entry{Kind: audit.RunStarted, Actor: r.UserID, Detail: map[string]string{"agent": r.Agent, "run": r.ID}}
	if r.Status != Running {
		e.Kind, e.Reason = audit.RunEnded, r.Status
	}
	return e
}

// shown is how the run is shown at a time, and what is said of it.
func (r Record) shown(now time.Time) (status, sentence string) {
	if r.Status == Running && (r.BeatAt.Before(now.Add(-Stale)) || r.BeatAt.After(now.Add(Stale))) {
		return Interrupted, Crashed
	}
	return r.Status, r.Sentence
}

// HTML is the component of a View that was rendered. It writes itself.
type HTML []byte

// Render writes h as it is.
func (h HTML) Render(_ context.Context, w io.Writer) error {
	_, err := w.Write(h)
	return err
}
