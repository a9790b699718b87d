package runs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bio/agent"
)

const (
	// Events go to the store every keepEvery, so many at a time that nobody who
	// writes meanwhile notices.
	keepEvery = 250 * time.Millisecond
	keepMost  = 256
	// beatTicks is after how many keepEvery without events the beat moves: just
	// under three seconds.
	beatTicks = 11
	// storeWait is how long the store is waited for.
	storeWait = 5 * time.Second
	// An end that the store does not take is tried again, until the run is stale
	// there anyway.
	endTries = 5
	endRetry = Stale / endTries
)

// live is the life of a run: whether one goes on elsewhere, its turn, its agent, and
// the store. old is the run before it, if something of that still goes on.
func (r *Runs) live(run, old *Run, a agent.Agent, user agent.User, in Ask) {
	defer r.lives.Done()
	defer r.left(run)
	if !r.look(run, old) || !r.await(run, old) || !r.writeDown(run, in) {
		return
	}
	go r.work(run, a, user, in)
	r.writeEnd(run, r.keep(run))
	r.report(run)
}

// left is the last that happens to a run.
func (r *Runs) left(run *Run) {
	r.mu.Lock()
	if r.active[run.at] == run && !run.turn {
		delete(r.active, run.at)
	}
	if run.why() == errLost {
		r.drop(run) // what the store has of it is true, or nothing when the account was erased
	}
	close(run.kept)
	r.trim()
	r.mu.Unlock()
}

// look asks the store, for a run that has to wait, whether another goes on elsewhere:
// who asked is to know that at once, not when the turn comes. It returns whether
// the run goes on.
func (r *Runs) look(run, old *Run) bool {
	select {
	case <-run.begin:
		return true // it is about to be written down
	default:
	}
	ctx, cancel := context.WithTimeout(r.cut, storeWait)
	defer cancel()
	records, err := r.options.Store.LastRuns(ctx, run.at.user)
	if err != nil && r.cut.Err() == nil {
		r.complain(run, "it is not known whether a run goes on elsewhere", err)
	}
	now := r.options.Now()
	for _, kept := range records {
		if kept.Agent != run.at.agent || old != nil && kept.ID == old.first {
			continue
		}
		if status, _ := kept.shown(now); status == Running && run.moveTo(kept) {
			r.abandon(run)
			return false
		}
	}
	run.mu.Lock()
	run.decide()
	run.mu.Unlock()
	return true
}

// await waits for the run's turn, and for the end of the one before it to be
// written down. It returns whether the run goes on.
func (r *Runs) await(run, old *Run) bool {
	patience := time.AfterFunc(r.patient, func() { run.interrupt(errBusy) })
	defer patience.Stop()
	gates := []<-chan struct{}{run.begin}
	if old != nil {
		gates = append(gates, old.kept)
	}
	for _, gate := range gates {
		select {
		case <-gate:
		case <-run.over:
		}
	}
	if run.Status() == Running {
		return true
	}
	r.abandon(run)
	return false
}

// abandon ends the life of a run that does not begin here.
func (r *Runs) abandon(run *Run) {
	r.release(run, nil)
	if !run.moved() {
		r.report(run)
	}
}

// writeDown keeps the run in the store before its agent begins, and returns
// whether it does.
func (r *Runs) writeDown(run *Run, in Ask) bool {
	record := run.record()
	record.Status = Running
	entry := record.Entry()
	entry.Session, entry.Client = in.Session, in.Client
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	kept, err := r.options.Store.StartRun(ctx, record, r.options.Now().Add(-Stale), entry)
	switch {
	case errors.Is(err, ErrNone):
		run.interrupt(errRemoved)
	case err != nil:
		r.complain(run, "a run was not written down", err)
		run.interrupt(errStore)
	case kept.ID != record.ID:
		if !run.moveTo(kept) {
			run.interrupt(errBegun)
		}
	default:
		began := run.began()
		if r.options.Began != nil {
			r.options.Began(began)
		}
		return true
	}
	r.abandon(run)
	return false
}

// work runs the agent and keeps its events in memory.
func (r *Runs) work(run *Run, a agent.Agent, user agent.User, in Ask) {
	ctx, stopTimer := context.WithTimeoutCause(run.ctx, r.options.Timeout, errDeadline)
	// The deadline ends the run for its viewers whatever the agent does.
	stop := context.AfterFunc(ctx, func() { run.settle(context.Cause(ctx)) })
	err := errExit
	defer func() {
		stop()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		stopTimer()
		r.release(run, err)
	}()
	input := &agent.Input{RunID: run.first, User: user, Prompt: run.Prompt(), TraceParent: in.TraceParent}
	if r.options.Memory != nil {
		input.Memory = r.options.Memory(user.ID, run.at.agent)
	}
	if ctx.Err() == nil { // it may have been stopped while it was written down
		err = run.follow(ctx, a, input)
	}
}

// follow takes the agent's events.
func (run *Run) follow(ctx context.Context, a agent.Agent, in *agent.Input) error {
	for event, err := range a.Run(ctx, in) {
		if err != nil {
			return err
		}
		if err := event.Check(); err != nil {
			return err
		}
		if err := run.add(run.rendered(ctx, event)); err != nil {
			// The agent may not return now that it is told to stop.
			run.interrupt(err)
			return err
		}
	}
	return nil
}

// release ends the run, which has no agent or whose agent has let go of its
// goroutine, and takes its turn. All happens at once for Start, so that its person
// can start the next as soon as it has ended.
func (r *Runs) release(run *Run, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(run)
	run.settle(cause)
	run.cancel(cause)
	select {
	case <-run.kept:
		if r.active[run.at] == run {
			delete(r.active, run.at)
			r.trim()
		}
	default:
	}
}

// keep keeps the run's events in the store, and its beat, until it is over. It
// returns how many events are kept.
func (r *Runs) keep(run *Run) (from int) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	failing := false
	for quiet := 1; ; quiet++ {
		select {
		case <-run.over:
			return from
		case <-tick.C:
		}
		events := run.take(from)
		if len(events) == 0 && quiet < beatTicks {
			continue
		}
		quiet = 0
		stop, err := r.keepEvents(run, from, events)
		if err == nil {
			from += len(events)
		}
		switch {
		case errors.Is(err, ErrNone):
			run.interrupt(errLost)
		case err != nil && !failing:
			r.complain(run, "the events of a run are not kept yet", err)
		case stop:
			run.interrupt(errStopped)
		}
		failing = err != nil
	}
}

func (r *Runs) keepEvents(run *Run, from int, events []agent.Event) (stop bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	return r.options.Store.KeepEvents(ctx, run.first, from, events)
}

// take returns the next events for the store. When these are the last, a text among
// them is closed: what is kept does not change.
func (run *Run) take(from int) []agent.Event {
	run.mu.Lock()
	defer run.mu.Unlock()
	to := min(from+keepMost, len(run.events))
	if to == len(run.events) {
		run.closed = to
	}
	return run.events[from:to:to]
}

// writeEnd keeps the end of a run, of which so many events are kept.
func (r *Runs) writeEnd(run *Run, from int) {
	for try := 1; ; try++ {
		err := r.tryEnd(run, &from)
		if err == nil || errors.Is(err, ErrNone) { // ended from elsewhere, or gone with its account
			return
		}
		if try == endTries || r.cut.Err() != nil {
			r.complain(run, "the end of a run was not kept", err)
			return
		}
		select {
		case <-time.After(endRetry):
		case <-r.cut.Done():
		}
	}
}

func (r *Runs) tryEnd(run *Run, from *int) error {
	for {
		events := run.take(*from)
		if len(events) < keepMost {
			record := run.record()
			ctx, cancel := context.WithTimeout(context.Background(), storeWait)
			defer cancel()
			return r.options.Store.EndRun(ctx, record.ID, *from, events, record.Status, record.Sentence, record.Entry())
		}
		if _, err := r.keepEvents(run, *from, events); err != nil {
			return err
		}
		*from += len(events)
	}
}

// report logs the end of a run and tells of it, without anything of what was said.
func (r *Runs) report(run *Run) {
	life, cause := run.life(), run.why()
	level := slog.LevelInfo
	if life.Status == Failed || life.Status == Cut {
		level = slog.LevelWarn
	}
	attributes := append(run.names(), slog.String("status", life.Status), slog.Float64("ms", float64(life.Took.Microseconds())/1000))
	if cause != nil {
		attributes = append(attributes, failure(cause)...)
	}
	r.options.Log.LogAttrs(context.Background(), level, "run", attributes...)
	if r.options.Ended != nil {
		r.options.Ended(life)
	}
}

// began notes that the run is written down, and returns what is told of it.
func (run *Run) began() Life {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.written = run.runs.options.Now()
	run.decide()
	return Life{ID: run.id, User: run.at.user, Agent: run.at.agent, Started: true, Status: Running}
}

// life is what others are told of the run.
func (run *Run) life() Life {
	run.mu.Lock()
	defer run.mu.Unlock()
	life := Life{ID: run.id, User: run.at.user, Agent: run.at.agent, Started: !run.written.IsZero(), Status: run.status}
	if life.Started {
		life.Took = run.ended.Sub(run.written)
	}
	return life
}

// complain logs what the store did not do.
func (r *Runs) complain(run *Run, what string, err error) {
	r.options.Log.LogAttrs(context.Background(), slog.LevelError, what, append(run.names(), failure(err)...)...)
}
