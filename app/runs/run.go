package runs

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"bio/agent"
)

// quiet is how long a viewer waits for an event before it is given a status, so
// that no proxy takes the stream for dead.
const quiet = 10 * time.Second

// Run is one run of an agent for a person. Its methods may be called from
// several goroutines.
type Run struct {
	id, user string
	options  *Options
	began    time.Time
	cancel   func(cause error) // nil when it never started
	reported func()            // called when the end is logged and counted; nil likewise

	mu       sync.Mutex
	events   []agent.Event // only ever appended to, so that viewers read prefixes of it unlocked
	bytes    int           // of text and data in events
	status   string
	sentence string
	changed  chan struct{} // closed at the next change; nil while nobody waits for it
}

// ID is 128 random bits or more, in lower-case base32.
func (run *Run) ID() string { return run.id }

// Agent is the agent's name.
func (run *Run) Agent() string { return run.options.Name }

// Status is "running", or how the run ended.
func (run *Run) Status() string {
	status, _ := run.Final()
	return status
}

// Final returns the status, and a sentence for the person that says what to make
// of it: "" while running and when done.
func (run *Run) Final() (status, sentence string) {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.status, run.sentence
}

// Events replays the run's events from the first and then follows, until the run
// has ended or ctx is done. A viewer that has waited ten seconds is given the
// last status again, or a plain one; these are not kept. A slow viewer slows
// nobody.
func (run *Run) Events(ctx context.Context) iter.Seq[agent.Event] {
	return func(yield func(agent.Event) bool) {
		timer := time.NewTimer(quiet)
		defer timer.Stop()
		status := agent.Event{Kind: agent.Status, Text: "Still working…"}
		for seen := 0; ; {
			events, changed := run.after(seen)
			for _, event := range events {
				if ctx.Err() != nil || !yield(event) {
					return
				}
				if event.Kind == agent.Status {
					status = event
				}
			}
			seen += len(events)
			if len(events) > 0 {
				timer.Reset(quiet)
				continue
			}
			if changed == nil {
				return
			}
			select {
			case <-changed:
			case <-timer.C:
				if !yield(status) {
					return
				}
				timer.Reset(quiet)
			case <-ctx.Done():
				return
			}
		}
	}
}

// after returns the events from the seen-th on and, when there are none but more
// may come, the channel that is closed at the next change.
func (run *Run) after(seen int) (events []agent.Event, changed <-chan struct{}) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if len(run.events) > seen || run.status != Running {
		return run.events[seen:len(run.events):len(run.events)], nil
	}
	if run.changed == nil {
		run.changed = make(chan struct{})
	}
	return nil, run.changed
}

// wake tells the waiting viewers of a change. run.mu is held.
func (run *Run) wake() {
	if run.changed != nil {
		close(run.changed)
		run.changed = nil
	}
}

// follow runs the agent and keeps its events.
func (run *Run) follow(ctx context.Context, a agent.Agent, in *agent.Input) error {
	for event, err := range a.Run(ctx, in) {
		if err != nil {
			return err
		}
		if err := event.Check(); err != nil {
			return err
		}
		if err := run.add(event); err != nil {
			// The agent may not return now that it is told to stop.
			run.end(err)
			run.cancel(err)
			return err
		}
	}
	return nil
}

// add keeps an event, or as much of its text as there is room for with errCut.
func (run *Run) add(event agent.Event) error {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running {
		return agent.ErrGone
	}
	if len(run.events) >= run.options.MaxEvents {
		return errCut
	}
	room := run.options.MaxBytes - run.bytes
	if len(event.Data) > room {
		return errCut
	}
	if len(event.Data) > 0 {
		// A copy, for the agent may use its buffer again.
		event.Data = bytes.ToValidUTF8(event.Data, []byte("\uFFFD"))
		if room -= len(event.Data); room < 0 {
			return errCut
		}
	}
	var whole bool
	event.Text, whole = fit(event.Text, room)
	if !whole && (event.Kind != agent.Text || event.Text == "") {
		return errCut
	}
	run.events = append(run.events, event)
	run.bytes += len(event.Text) + len(event.Data)
	run.wake()
	if !whole {
		return errCut
	}
	return nil
}

// fit returns text as valid UTF-8 in at most room bytes, and whether that is all
// of it.
func fit(text string, room int) (fitted string, whole bool) {
	whole = true
	if most := room + 2*utf8.UTFMax; len(text) > most { // mend no more than is needed
		for n := 1; n < utf8.UTFMax && !utf8.RuneStart(text[most]); n++ {
			most--
		}
		text, whole = text[:most], false
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > room {
		whole = false
		for !utf8.RuneStart(text[room]) {
			room--
		}
		text = text[:room]
	}
	if !whole {
		text = strings.Clone(text) // not to keep all of it alive
	}
	return text, whole
}

// interrupt stops the run, and reports whether it was still running.
func (run *Run) interrupt(cause error) bool {
	interrupted := run.end(cause)
	run.cancel(cause)
	return interrupted
}

// end ends the run and reports it, unless it has ended: the first cause stands,
// and nil is success. It returns whether it did.
func (run *Run) end(cause error) bool {
	first := run.settle(cause)
	if first {
		run.report(cause)
	}
	return first
}

// settle is the part of end that viewers see.
func (run *Run) settle(cause error) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running {
		return false
	}
	run.status, run.sentence = outcome(cause)
	if cause == nil && !slices.ContainsFunc(run.events, func(e agent.Event) bool { return e.Kind != agent.Status }) {
		run.sentence = "There was nothing to say."
	}
	run.wake()
	return true
}

// life is what others are told of the run.
func (run *Run) life(took time.Duration) Life {
	return Life{
		ID: run.id, User: run.user, Agent: run.options.Name,
		Started: run.reported != nil, Status: run.Status(), Took: took,
	}
}

// report logs and counts the end, once, without anything of what was said.
func (run *Run) report(cause error) {
	status, d := run.Status(), run.options.Now().Sub(run.began)
	level := slog.LevelInfo
	if status == Failed || status == Cut {
		level = slog.LevelWarn
	}
	attributes := []slog.Attr{
		slog.String("agent", run.options.Name), slog.String("run", run.id),
		slog.String("status", status), slog.Float64("ms", float64(d.Microseconds())/1000), slog.String("user", run.user),
	}
	if cause != nil {
		attributes = append(attributes, slog.String("error", cause.Error()))
	}
	if panicked, ok := errors.AsType[*agent.PanicError](cause); ok {
		attributes = append(attributes, slog.String("stack", string(panicked.Stack)))
	}
	run.options.Log.LogAttrs(context.Background(), level, "run", attributes...)
	if run.options.Ended != nil {
		run.options.Ended(run.life(d))
	}
	if run.reported != nil {
		run.reported()
	}
}

// outcome says how a run ended for that cause, and what to say of it.
func outcome(cause error) (status, sentence string) {
	switch {
	case cause == nil:
		return Done, ""
	case cause == errCut:
		return Cut, "Cut here: there was more than fits on the page."
	case cause == errBusy:
		return Failed, "Too much is running right now. Try again in a minute."
	case cause == errHeld:
		return Failed, "Your last run has not let go yet. If it stays so, tell whoever runs this place."
	case cause == errRemoved:
		return Interrupted, "Stopped, because the account was removed."
	case cause == errClosed:
		return Interrupted, "Stopped, because the server is restarting. Try again in a minute."
	case cause == errDeadline:
		return Failed, "This took too long, and was ended. You can try again."
	}
	return Failed, "This could not be finished. You can run it again."
}
