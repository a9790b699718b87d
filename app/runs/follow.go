package runs

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"bio/agent"
)

const (
	// quiet is how long a viewer waits for an event before it is given a status, so
	// that no proxy takes the stream for dead.
	quiet = 10 * time.Second
	// joined is how long events that come close together wait for each other.
	joined = 50 * time.Millisecond
	// maxStreams is how many streams one person may follow at once, here.
	maxStreams = 64
)

// crowded is the last status of a stream that has to make room.
const crowded = "This page has stopped following, because too many others of yours are open. Reload it to go on."

// view is how far a viewer has come with a run.
type view struct {
	seen   int // events
	offset int // bytes of the text of the last of these, which may have grown
	notes  int
	status agent.Event // the last
	ended  bool
}

// stream is one call of Follow.
type stream struct {
	bell chan struct{}
	over atomic.Bool // it has to make room
}

// Follow replays and follows several runs of one person. It yields the index of a
// run and its next events together, as they come, but not more often than every 50
// ms; and (i, nil) when run i has ended for its viewers, after its last events. It
// ends when all have ended or ctx is done. After ten seconds without anything it
// yields the last status of a run that goes on. A slow viewer slows nobody.
//
// A person follows 64 streams at once. With one more the oldest ends: every run of
// it that goes on yields a last status that says so, and no end.
func Follow(ctx context.Context, all []*Run) iter.Seq2[int, []agent.Event] {
	return func(yield func(int, []agent.Event) bool) {
		if len(all) == 0 {
			return
		}
		bell := make(chan struct{}, 1)
		s := &stream{bell: bell}
		all[0].runs.attend(all[0].at.user, s)
		defer all[0].runs.dismiss(all[0].at.user, s)
		views := make([]view, len(all))
		for i, run := range all {
			views[i] = run.join(bell)
			defer run.leave(bell)
		}
		silence := time.NewTimer(quiet)
		defer silence.Stop()
		for open := len(all); ; {
			if s.over.Load() {
				for i := range all {
					if !views[i].ended && !yield(i, []agent.Event{{Kind: agent.Status, Text: crowded}}) {
						return
					}
				}
				return
			}
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
				// Only an end rings now, of a run or of the stream.
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

// attend adds a stream of that person, for which the oldest may have to make room.
func (r *Runs) attend(userID string, s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(r.streams[userID], s)
	if len(all) > maxStreams {
		all[0].over.Store(true)
		strike(all[0].bell)
		all = slices.Delete(all, 0, 1)
	}
	r.streams[userID] = all
}

// dismiss takes a stream that has ended.
func (r *Runs) dismiss(userID string, s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.streams[userID]
	if i := slices.Index(all, s); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if r.streams[userID] = all; len(all) == 0 {
		delete(r.streams, userID)
	}
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
	events := run.unseen(v)
	v.ended = run.complete
	if run.notes > v.notes && !run.complete {
		v.notes = run.notes
		events = append([]agent.Event{run.noted()}, events...)
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

// unseen returns what is new to the viewer, none of which changes any more, and
// notes that it has seen it. run.mu is held.
func (run *Run) unseen(v *view) []agent.Event {
	n := len(run.events)
	events := run.events[v.seen:n:n]
	if v.seen > 0 && len(run.events[v.seen-1].Text) > v.offset {
		grown := agent.Event{Kind: agent.Text, Text: run.events[v.seen-1].Text[v.offset:]}
		events = append([]agent.Event{grown}, events...)
	} else if len(events) > 0 && run.closed < n {
		events = slices.Clone(events)
	}
	if n > 0 {
		v.seen, v.offset = n, len(run.events[n-1].Text)
	}
	return events
}

// has reports whether there is something that is new to the viewer. run.mu is held.
func (run *Run) has(v view) bool {
	return len(run.events) > v.seen || v.seen > 0 && len(run.events[v.seen-1].Text) > v.offset ||
		run.notes > v.notes || run.complete
}

// arm lets the bell ring at the next event, or at once when there is one.
func (run *Run) arm(bell chan struct{}, v view) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.has(v) {
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
