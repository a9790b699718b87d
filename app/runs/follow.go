package runs

import (
	"context"
	"iter"
	"time"

	"bio/agent"
)

const (
	// quiet is how long a viewer waits for an event before it is given a status, so
	// that no proxy takes the stream for dead.
	quiet = 10 * time.Second
	// joined is how long events that come close together wait for each other.
	joined = 50 * time.Millisecond
)

// view is how far a viewer has come with a run.
type view struct {
	seen, notes int
	status      agent.Event // the last
	ended       bool
}

// Follow replays and follows several runs. It yields the index of a run and its
// next events together, as they come, but not more often than every 50 ms; and
// (i, nil) when run i has ended for its viewers, after its last events. It ends
// when all have ended or ctx is done. After ten seconds without anything it yields
// the last status of a run that goes on. A slow viewer slows nobody.
func Follow(ctx context.Context, all []*Run) iter.Seq2[int, []agent.Event] {
	return func(yield func(int, []agent.Event) bool) {
		bell := make(chan struct{}, 1)
		views := make([]view, len(all))
		for i, run := range all {
			views[i] = run.join(bell)
			defer run.leave(bell)
		}
		silence := time.NewTimer(quiet)
		defer silence.Stop()
		for open := len(all); ; {
			told := false
			for i, run := range all {
				v := &views[i]
				if v.ended {
					continue
				}
				events := run.next(v)
				if ctx.Err() != nil || len(events) > 0 && !yield(i, events) {
					return
				}
				if v.ended {
					open--
					if !yield(i, nil) {
						return
					}
				}
				told = told || len(events) > 0 || v.ended
			}
			switch {
			case open == 0:
				return
			case told:
				silence.Reset(quiet)
				// Only an end rings now.
				if !wait(ctx, bell, time.After(joined)) {
					return
				}
				continue
			}
			for i, run := range all {
				if !views[i].ended {
					run.arm(bell, views[i])
				}
			}
			select {
			case <-bell:
			case <-silence.C:
				for i := range all {
					if !views[i].ended {
						if !yield(i, []agent.Event{views[i].status}) {
							return
						}
						break
					}
				}
				silence.Reset(quiet)
			case <-ctx.Done():
				return
			}
		}
	}
}

// wait waits for a ring or the time, and returns false when ctx is done.
func wait(ctx context.Context, bell <-chan struct{}, passed <-chan time.Time) bool {
	select {
	case <-bell:
	case <-passed:
	case <-ctx.Done():
		return false
	}
	return true
}

// join adds a viewer.
func (run *Run) join(bell chan struct{}) view {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.viewers[bell] = false
	run.ask()
	v := view{status: agent.Event{Kind: agent.Status, Text: "Still working…"}, notes: run.notes}
	if run.waiting { // what it waits for is news to this viewer
		v.notes--
	}
	return v
}

func (run *Run) leave(bell chan struct{}) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.viewers[bell] {
		run.armed--
	}
	delete(run.viewers, bell)
}

// next returns what the viewer has not seen, and notes what it has seen then.
func (run *Run) next(v *view) []agent.Event {
	run.mu.Lock()
	events := run.events[v.seen:len(run.events):len(run.events)]
	run.taken = len(run.events)
	v.ended = run.complete
	v.seen = len(run.events)
	if run.notes > v.notes && !run.complete {
		v.notes = run.notes
		events = append([]agent.Event{{Kind: agent.Status, Text: run.note}}, events...)
	}
	run.mu.Unlock()
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Kind == agent.Status {
			v.status = events[i]
			break
		}
	}
	return events
}

// arm lets the bell ring at the next event, or at once when there is one.
func (run *Run) arm(bell chan struct{}, v view) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if len(run.events) > v.seen || run.notes > v.notes || run.complete {
		strike(bell)
		return
	}
	if armed, here := run.viewers[bell]; here && !armed {
		run.viewers[bell] = true
		run.armed++
	}
}

// ring tells the viewers that wait of an event, or all of an end. run.mu is held.
func (run *Run) ring(end bool) {
	if run.armed == 0 && !end {
		return
	}
	for bell, armed := range run.viewers {
		if armed || end {
			strike(bell)
		}
		run.viewers[bell] = false
	}
	run.armed = 0
}

func strike(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default: // it has been rung
	}
}
