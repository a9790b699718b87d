// Package runs runs the agent for people. A run is detached from the request
// that started it: it has its own deadline, keeps its events, and any number of
// viewers replay them from the start and follow, each at its own pace.
package runs

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bio/agent"
)

// How a run is or how it ended.
const (
	Running     = "running"
	Done        = "done"
	Failed      = "failed"      // the agent failed, took too long, or could not start
	Interrupted = "interrupted" // stopped from outside
	Cut         = "cut"         // the agent wrote more than is kept
)

// Why a run ended otherwise than by its agent returning. Only the log shows them.
var (
	errBusy     = errors.New("too many are running")
	errHeld     = errors.New("this person's last run has not stopped yet")
	errClosed   = errors.New("shutting down")
	errRemoved  = errors.New("the account was removed")
	errCut      = errors.New("more output than is kept")
	errDeadline = errors.New("the deadline passed")
	errExit     = errors.New("the agent ended its goroutine")
)

// Life is what is told of a run when it starts and when it ends.
type Life struct {
	ID, User, Agent string // User is its id
	Started         bool   // false: it was refused, and has only an end
	Status          string
	Took            time.Duration
}

// Options are what runs are made of. All are required but Started and Ended.
type Options struct {
	Agent     agent.Agent
	Name      string        // of the agent, for pages, log and metrics
	Timeout   time.Duration // of one run
	Max       int           // running at once, all people together
	MaxEvents int           // kept of one run
	MaxBytes  int           // of text and data kept of one run
	Keep      int           // people whose last run is kept after it has ended
	Now       func() time.Time
	Log       *slog.Logger
	Started   func(Life) // called once before every run that is not refused; must not call Runs
	Ended     func(Life) // called once at the end of every run, refused ones too
}

func (o Options) check() {
	if o.Agent == nil || o.Name == "" || o.Timeout <= 0 || o.Max <= 0 || o.MaxEvents <= 0 ||
		o.MaxBytes <= 0 || o.Keep <= 0 || o.Now == nil || o.Log == nil {
		panic("runs: an option is missing")
	}
}

// Runs holds what runs now and the last run of each person.
type Runs struct {
	options Options
	agent   agent.Agent // guarded

	mu     sync.Mutex
	closed bool
	// active is by user id the run whose agent has not let go of its goroutine.
	// One that ignores its deadline stays here, so that it counts against Max
	// and its person cannot pile up more.
	active map[string]*Run
	last   map[string]*list.Element // by user id, of recent
	recent *list.List               // of *Run, the latest looked at in front

	reports sync.WaitGroup // the runs that started and are not yet logged; none is added once closed
}

// New makes Runs. It panics when an option is missing.
func New(o Options) *Runs {
	o.check()
	return &Runs{
		options: o,
		agent:   agent.Chain(o.Agent, agent.Guard(0)), // the run's own context has the deadline
		active:  make(map[string]*Run),
		last:    make(map[string]*list.Element),
		recent:  list.New(),
	}
}

// Start starts a run for the user, or returns the one that is running for them.
// A run that cannot start now, because too many run or the server is shutting
// down, has ended already and says so in Final.
func (r *Runs) Start(user agent.User, prompt string) *Run {
	run, ctx, refusal := r.admit(user)
	switch {
	case refusal != nil:
		run.report(refusal)
		return run
	case ctx == nil:
		return run
	}
	in := &agent.Input{RunID: run.id, User: user, Prompt: prompt}
	// The deadline ends the run for its viewers whatever the agent does.
	stop := context.AfterFunc(ctx, func() { run.end(context.Cause(ctx)) })
	go func() {
		err := errExit
		defer func() {
			stop()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			r.release(run, err)
			run.cancel(nil)
		}()
		err = run.follow(ctx, r.agent, in)
	}()
	return run
}

// admit makes the user's new run and the context to run it in. Without a
// context, the run is the one that is running, or was refused.
func (r *Runs) admit(user agent.User) (run *Run, ctx context.Context, refusal error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	active := r.active[user.ID]
	switch {
	case active != nil && active.Status() == Running:
		return active, nil, nil
	case r.closed:
		refusal = errClosed
	case active != nil:
		refusal = errHeld
	case len(r.active) >= r.options.Max:
		refusal = errBusy
	}
	run = &Run{
		id: strings.ToLower(rand.Text()), options: &r.options, user: user.ID,
		began: r.options.Now(), status: Running,
	}
	r.remember(run)
	if refusal != nil {
		run.settle(refusal)
		return run, nil, refusal
	}
	r.active[user.ID] = run
	r.reports.Add(1)
	run.reported = r.reports.Done
	// Here, before anyone else can find the run and end it.
	if r.options.Started != nil {
		r.options.Started(run.life(0))
	}
	cancellable, cancel := context.WithCancelCause(context.Background())
	ctx, stopTimer := context.WithTimeoutCause(cancellable, r.options.Timeout, errDeadline)
	run.cancel = func(cause error) {
		cancel(cause)
		stopTimer()
	}
	return run, ctx, nil
}

// remember makes run the last of its person, and forgets what is too much. r.mu
// is held.
func (r *Runs) remember(run *Run) {
	if old := r.last[run.user]; old != nil {
		r.recent.Remove(old)
	}
	r.last[run.user] = r.recent.PushFront(run)
	r.trim()
}

// trim forgets the ended runs that were looked at longest ago, beyond Keep. The
// latest and those that are running stay; Max bounds them. r.mu is held.
func (r *Runs) trim() {
	for element := r.recent.Back(); element != r.recent.Front() && r.recent.Len() > r.options.Keep; {
		run, previous := element.Value.(*Run), element.Prev()
		if r.active[run.user] != run {
			r.recent.Remove(element)
			delete(r.last, run.user)
		}
		element = previous
	}
}

// release ends the run, whose agent has let go of its goroutine. Both happen at
// once for Start, so that its person can start the next as soon as it has ended.
func (r *Runs) release(run *Run, cause error) {
	r.mu.Lock()
	delete(r.active, run.user)
	first := run.settle(cause)
	r.trim()
	r.mu.Unlock()
	if first {
		run.report(cause)
	}
}

// Last returns the person's last run, running or ended; nil when there is none,
// or it was too long ago to be kept.
func (r *Runs) Last(userID string) *Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	element := r.last[userID]
	if element == nil {
		return nil
	}
	r.recent.MoveToFront(element)
	return element.Value.(*Run)
}

// Forget stops and drops what there is of a person whose account was removed.
func (r *Runs) Forget(userID string) {
	r.mu.Lock()
	active := r.active[userID]
	if element := r.last[userID]; element != nil {
		r.recent.Remove(element)
		delete(r.last, userID)
	}
	r.mu.Unlock()
	if active != nil {
		active.interrupt(errRemoved)
	}
}

// Close lets nothing new start, waits for what is running until ctx is done, and
// then interrupts it. It returns an error that wraps ctx's when it interrupted
// any. When it returns, every run has ended for its viewers; an agent that
// ignores its context may still hold its goroutine.
func (r *Runs) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	reported := make(chan struct{})
	go func() {
		r.reports.Wait()
		close(reported)
	}()
	select {
	case <-reported:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	active := slices.Collect(maps.Values(r.active))
	r.mu.Unlock()
	interrupted := 0
	for _, run := range active {
		if run.interrupt(errClosed) {
			interrupted++
		}
	}
	<-reported
	if interrupted > 0 {
		return fmt.Errorf("runs: interrupted %d: %w", interrupted, context.Cause(ctx))
	}
	return nil
}
