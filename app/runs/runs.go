// Package runs runs agents for people. A run is detached from the request that
// started it: it waits for its turn, has its own deadline, keeps its events in
// memory and in the store, and any number of viewers replay them from the start
// and follow, each at its own pace, here or on another instance of the same
// installation.
//
// There is one run for each person and agent at a time.
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
	"bio/app/audit"
)

// How a run is or how it ended.
const (
	Running     = "running" // or waiting for its turn
	Done        = "done"
	Failed      = "failed"      // the agent failed, took too long, or could not start
	Interrupted = "interrupted" // stopped from outside
	Cut         = "cut"         // the agent wrote more than is kept
)

// Why a run ended otherwise than by its agent returning. Only the log shows them.
var (
	errBusy     = errors.New("too many are running")
	errHeld     = errors.New("this person's last run of the agent has not stopped yet")
	errBegun    = errors.New("another began elsewhere while this waited")
	errClosed   = errors.New("shutting down")
	errRemoved  = errors.New("the account was removed or disabled")
	errStopped  = errors.New("it was asked to stop")
	errLost     = errors.New("it was ended or replaced from elsewhere")
	errCut      = errors.New("more output than is kept")
	errDeadline = errors.New("the deadline passed")
	errExit     = errors.New("the agent ended its goroutine")
	errStore    = errors.New("it could not be written down")
)

// Ask is what someone asks for.
type Ask struct {
	Agent       string // its name; "" for all
	Prompt      string
	TraceParent string       // see agent.Input
	Client      audit.Client // where from
	Session     string       // session id, of which the trail keeps the ref
}

// Life is what is told of a run when it begins and when it has ended.
type Life struct {
	ID, User, Agent string // User is its id
	Started         bool   // false: its agent did not run, and it has only an end
	Status          string
	Took            time.Duration // from the agent's start
}

// Options are what runs are made of. All are required but Memory, Queue, Began
// and Ended.
type Options struct {
	Agents    []agent.Named // in the order of the page
	Store     Store
	Memory    func(userID, agentName string) agent.Memory
	Timeout   time.Duration // of one run, from its agent's start
	Max       int           // running at once, of all people and agents
	Queue     int           // people who wait while so many run, each for any of the agents
	MaxEvents int           // of one run, but text, which MaxBytes bounds
	MaxBytes  int           // of text, data and HTML of one run
	Keep      int           // runs that are kept in memory after they have ended
	Now       func() time.Time
	Log       *slog.Logger
	Began     func(Life) // called once when a run is written down; must not call Runs
	Ended     func(Life) // called once when the end of a run is written down, and for those that did not begin
}

func (o Options) check() {
	if len(o.Agents) == 0 || o.Store == nil || o.Timeout <= 0 || o.Max <= 0 || o.Queue < 0 || o.MaxEvents <= 0 ||
		o.MaxBytes <= 0 || o.Keep <= 0 || o.Now == nil || o.Log == nil {
		panic("runs: an option is missing")
	}
	names := map[string]bool{}
	for _, a := range o.Agents {
		if a.Agent == nil || a.Name == "" || names[a.Name] {
			panic(fmt.Sprintf("runs: no agent can be called %q", a.Name))
		}
		names[a.Name] = true
	}
}

// place is where there is one run at a time.
type place struct{ user, agent string }

// Runs holds what runs now and the last runs that were looked at.
type Runs struct {
	options Options
	agents  []agent.Named // guarded
	patient time.Duration

	mu     sync.Mutex
	closed bool
	// active has the runs of which something goes on here: they wait, their agent
	// has not let go of its goroutine, or their end is not yet in the store.
	active  map[place]*Run
	busy    int            // runs that have a turn: one that ignores its deadline keeps it
	queue   []*Run         // that wait for one, in order; see queue.go
	waits   map[string]int // by person: how many of their runs are in queue
	counts  map[string]*count
	last    map[place]*list.Element
	recent  *list.List           // of *Run, the latest looked at in front
	streams map[string][]*stream // by person: the oldest first

	lives sync.WaitGroup // of active runs; none is added once closed
	cut   context.Context
	end   context.CancelFunc // of cut: Close waits no longer
}

// New makes Runs. It panics when an option is missing.
func New(o Options) *Runs {
	o.check()
	r := &Runs{
		options: o,
		// As long as a full queue takes when every run takes its time.
		patient: o.Timeout * time.Duration(1+(o.Queue*len(o.Agents)+o.Max-1)/o.Max),
		active:  make(map[place]*Run),
		waits:   make(map[string]int),
		counts:  make(map[string]*count),
		streams: make(map[string][]*stream),
		last:    make(map[place]*list.Element),
		recent:  list.New(),
	}
	for _, a := range o.Agents {
		// A run's own context has the deadline.
		r.agents = append(r.agents, agent.Named{Name: a.Name, Agent: agent.Chain(a.Agent, agent.Guard(0))})
		r.counts[a.Name] = new(count)
	}
	r.cut, r.end = context.WithCancel(context.Background())
	return r
}

// Asked is what became of an ask of one agent: the run that it started, or the one
// that goes on for the person, in which case the ask is not taken.
type Asked struct {
	*Run
	there bool // the run was there before
}

// Taken reports whether the ask was taken: false says that nothing will come of it,
// because the run is of an earlier ask, here or on another instance. It waits until
// the store has said so, or ctx is done. An ask whose run could not be is taken too:
// that run has ended, and Final says why.
func (a Asked) Taken(ctx context.Context) bool {
	if a.there {
		return false
	}
	select {
	case <-a.known:
	case <-a.over:
	case <-ctx.Done():
	}
	return !a.moved()
}

// Start starts a run of each agent that is asked for, in their order, or takes
// the one that is running for the user: [Asked.Taken] says which. Nothing is waited
// for: a run may wait for its turn, and one that turns out to be running on another
// instance becomes that one. A run that cannot be, because too many wait or the
// server is shutting down, has ended already and says so in Final.
func (r *Runs) Start(user agent.User, in Ask) []Asked {
	var all []Asked
	for _, a := range r.agents {
		if in.Agent == "" || in.Agent == a.Name {
			all = append(all, r.start(a, user, in))
		}
	}
	return all
}

func (r *Runs) start(a agent.Named, user agent.User, in Ask) Asked {
	r.mu.Lock()
	at := place{user.ID, a.Name}
	old := r.active[at]
	if old != nil && old.Status() == Running {
		r.mu.Unlock()
		return Asked{old, true}
	}
	run := newRun(r, strings.ToLower(rand.Text()), at, strings.ToValidUTF8(in.Prompt, "\uFFFD"))
	run.trace = traceID(in.TraceParent)
	r.remember(run)
	refusal := r.refusal(user.ID, old)
	if refusal == nil {
		r.enter(run)
	} else {
		run.settle(refusal)
	}
	r.mu.Unlock()
	if refusal == nil {
		go r.live(run, old, a.Agent, user, in)
	} else {
		r.report(run)
	}
	return Asked{run, false}
}

// refusal says why there cannot be a run for that person after old, the one that is
// active in its place. r.mu is held.
func (r *Runs) refusal(userID string, old *Run) error {
	switch {
	case r.closed:
		return errClosed
	case old != nil && old.turn:
		return errHeld
	case r.busy >= r.options.Max && r.waits[userID] == 0 && len(r.waits) >= r.options.Queue:
		return errBusy
	}
	return nil
}

// remember makes run the last of its place, and forgets what is too much. r.mu is
// held.
func (r *Runs) remember(run *Run) {
	if old := r.last[run.at]; old != nil {
		r.recent.Remove(old)
	}
	r.last[run.at] = r.recent.PushFront(run)
	r.trim()
}

// trim forgets the ended runs that were looked at longest ago, beyond Keep. The
// latest and those that are active stay; Max and Queue bound them. r.mu is held.
func (r *Runs) trim() {
	for element := r.recent.Back(); element != r.recent.Front() && r.recent.Len() > r.options.Keep; {
		run, previous := element.Value.(*Run), element.Prev()
		if r.active[run.at] != run {
			r.recent.Remove(element)
			delete(r.last, run.at)
		}
		element = previous
	}
}

// Last returns the last run of each agent for the person, in the order of
// Options.Agents, running or ended; none where there was none. What the store
// cannot say now is logged.
func (r *Runs) Last(ctx context.Context, userID string) []*Run {
	settled := r.settled(userID)
	records, err := r.options.Store.LastRuns(ctx, userID)
	if err != nil && ctx.Err() == nil {
		r.options.Log.Error("the last runs are not known", "user", userID, "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Run
	for _, a := range r.agents {
		at := place{userID, a.Name}
		run := r.known(at)
		for _, kept := range records {
			switch {
			case kept.Agent != a.Name:
			case run == nil || run == settled[a.Name] && run.olderThan(kept):
				run = newRun(r, kept.ID, at, kept.Prompt)
				run.moveTo(kept)
				r.remember(run)
			default:
				run.observe(kept)
			}
		}
		if run != nil {
			all = append(all, run)
		}
	}
	return all
}

// settled are the runs of which nothing goes on here, by agent: the store may know
// of later ones.
func (r *Runs) settled(userID string) map[string]*Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]*Run{}
	for _, a := range r.agents {
		at := place{userID, a.Name}
		if run := r.known(at); run != nil && r.active[at] != run {
			all[a.Name] = run
		}
	}
	return all
}

// known is what is in memory of a place, or nil, and is kept longer for it. r.mu is
// held.
func (r *Runs) known(at place) *Run {
	element := r.last[at]
	if element == nil {
		return nil
	}
	r.recent.MoveToFront(element)
	return element.Value.(*Run)
}

// Stop stops a run of the person: one that is here at once, one on another
// instance within some three seconds. ErrNone when they have none of that id that
// is running.
func (r *Runs) Stop(ctx context.Context, userID, runID string) error {
	for _, run := range r.of(userID) {
		if run.first != runID {
			continue
		}
		if run.interrupt(errStopped) {
			return nil
		}
		runID = run.ID()
	}
	return r.options.Store.AskToStop(ctx, userID, runID)
}

// of returns what is in memory of the person.
func (r *Runs) of(userID string) (all []*Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.agents {
		at := place{userID, a.Name}
		if run := r.active[at]; run != nil {
			all = append(all, run)
		}
		if run := r.known(at); run != nil {
			all = append(all, run)
		}
	}
	return all
}

// Forget stops and drops what there is here of a person whose account was removed.
func (r *Runs) Forget(userID string) {
	for _, run := range r.of(userID) {
		run.interrupt(errRemoved)
		r.mu.Lock()
		r.drop(run)
		r.mu.Unlock()
	}
}

// drop forgets a run. r.mu is held.
func (r *Runs) drop(run *Run) {
	if element := r.last[run.at]; element != nil && element.Value == run {
		r.recent.Remove(element)
		delete(r.last, run.at)
	}
}

// EndStale ends in the store the runs that have lost their server, and returns how
// many. What goes on here is left alone, whatever the clock says.
func (r *Runs) EndStale(ctx context.Context) (int, error) {
	// First: what begins from here on has a later beat.
	stale := r.options.Now().Add(-Stale)
	var here []string
	r.mu.Lock()
	for _, run := range r.active {
		here = append(here, run.first)
	}
	r.mu.Unlock()
	return r.options.Store.InterruptRuns(ctx, stale, Crashed, here...)
}

// Wait waits until the runs of which something goes on here, now, have ended and
// their ends are written down, or ctx is done: then it returns its cause.
func (r *Runs) Wait(ctx context.Context) error {
	r.mu.Lock()
	active := slices.Collect(maps.Values(r.active))
	r.mu.Unlock()
	for _, run := range active {
		select {
		case <-run.kept:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close lets nothing new start, waits for what is running until ctx is done, and
// then interrupts the rest, in the store too, and returns an error that says how
// many. What waits for its turn does not wait longer, nor does who follows a run of
// another instance. When it returns, every run has been reported; the goroutine of
// an agent that ignores its context may live on.
func (r *Runs) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	waiting := slices.Clone(r.queue)
	r.mu.Unlock()
	for _, run := range waiting {
		run.interrupt(errClosed)
	}
	ended := make(chan struct{})
	go func() {
		r.lives.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		r.end()
		return nil
	case <-ctx.Done():
	}
	r.end()
	r.mu.Lock()
	active := slices.Collect(maps.Values(r.active))
	r.mu.Unlock()
	interrupted := 0
	for _, run := range active {
		if run.interrupt(errClosed) {
			interrupted++
		}
	}
	<-ended
	if interrupted > 0 {
		return fmt.Errorf("runs: interrupted %d: %w", interrupted, context.Cause(ctx))
	}
	return nil
}
