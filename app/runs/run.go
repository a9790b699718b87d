package runs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
)

// joinBytes is how long a text may become by joining pieces: a model's answer is
// thousands of them.
const joinBytes = 1 << 10

// Run is one run of an agent for a person. Its methods may be called from
// several goroutines.
type Run struct {
	runs  *Runs
	at    place
	first string    // id that it was started under
	asked time.Time // for it
	trace string    // trace-id of what asked for it, or ""

	// Of a run of this instance, which has an agent of its own.
	turn   bool                    // guarded by runs.mu: it counts as busy
	rank   int                     // guarded by runs.mu: how many of its person's are before it in the queue
	ctx    context.Context         // of the agent
	cancel context.CancelCauseFunc // of ctx
	begin  chan struct{}           // closed when it has a turn
	known  chan struct{}           // closed when decided
	over   chan struct{}           // closed when it has ended for its viewers
	kept   chan struct{}           // closed when nothing of it goes on but its agent's goroutine

	mu       sync.Mutex
	id       string // another than first once it turned out to be a run elsewhere
	prompt   string
	events   []agent.Event   // but the last, which may be open, they do not change and are read unlocked
	closed   int             // how many do not change any more: all, or all but an open text
	open     strings.Builder // of the open text, once something was joined to it
	counted  int             // how many are not text
	bytes    int             // of text, data and HTML in events
	status   string
	sentence string
	cause    error // why it ended, where that was not by its agent returning
	complete bool  // nothing follows events
	note     string
	notes    int       // how many there were
	waiting  bool      // for its turn: the note is how many runs are before it
	before   int       // these
	decided  bool      // it is what was asked for, or the one that goes on elsewhere
	written  time.Time // when it was written down, for its agent to begin; zero before
	ended    time.Time

	// viewers are the bells of those who follow, true for those who wait for an
	// event; armed is how many these are.
	viewers map[chan struct{}]bool
	armed   int

	elsewhere bool // its events come from the store
	asking    bool // a goroutine asks the store for them
}

func newRun(r *Runs, id string, at place, prompt string) *Run {
	run := &Run{
		runs: r, at: at, first: id, asked: r.options.Now(), id: id, prompt: prompt, status: Running,
		begin: make(chan struct{}), known: make(chan struct{}), over: make(chan struct{}), kept: make(chan struct{}),
		viewers: make(map[chan struct{}]bool),
	}
	run.ctx, run.cancel = context.WithCancelCause(context.Background())
	return run
}

// ID is 128 random bits or more, in lower-case base32. That of a run that turns
// out to be running on another instance becomes its id there; Stop takes both.
func (run *Run) ID() string {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.id
}

// Agent is the agent's name.
func (run *Run) Agent() string { return run.at.agent }

// Prompt is what the person asked for, or "".
func (run *Run) Prompt() string {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.prompt
}

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

// why is what ended the run, where that was not its agent's returning.
func (run *Run) why() error {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.cause
}

// add keeps an event, or as much of its text as there is room for with errCut.
func (run *Run) add(event agent.Event) error {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running {
		return agent.ErrGone
	}
	html, _ := event.View.(HTML)
	if event.Kind == agent.Data {
		// A copy, for the agent may use its buffer again.
		event.Data = bytes.ToValidUTF8(event.Data, []byte("\uFFFD"))
	} else {
		event.Data = nil
	}
	room := run.runs.options.MaxBytes - run.bytes - len(event.Data) - len(html)
	if room < 0 {
		return errCut
	}
	var whole bool
	event.Text, whole = fit(event.Text, room)
	if !whole && (event.Kind != agent.Text || event.Text == "") {
		return errCut
	}
	switch {
	case event.Kind == agent.Text:
		run.addText(event)
	case run.counted < run.runs.options.MaxEvents:
		run.counted++
		run.events = append(run.events, event)
		run.closed = len(run.events)
	default:
		return errCut
	}
	run.bytes += len(event.Text) + len(event.Data) + len(html)
	run.ring(false)
	if !whole {
		return errCut
	}
	return nil
}

// addText joins a text to the last one, if that is open and has room. How it is
// cut in events is nobody's to count: who looks, or keeps it, may close one.
// run.mu is held.
func (run *Run) addText(event agent.Event) {
	n := len(run.events)
	switch {
	case event.Text == "":
	case run.closed < n && len(run.events[n-1].Text)+len(event.Text) <= joinBytes:
		if run.open.Len() == 0 {
			run.open.WriteString(run.events[n-1].Text)
		}
		// What viewers were given of it stays where it is.
		run.open.WriteString(event.Text)
		run.events[n-1].Text = run.open.String()
	default:
		run.closed = n
		run.open.Reset()
		run.events = append(run.events, event)
	}
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

// broken is what stands where a view could not be rendered.
var broken = HTML("<p>This part could not be shown.</p>")

// rendered returns the event with its view as HTML.
func (run *Run) rendered(ctx context.Context, event agent.Event) agent.Event {
	if event.Kind != agent.View {
		event.View = nil
		return event
	}
	html, err := agent.Render(ctx, event)
	if err != nil {
		run.runs.options.Log.LogAttrs(context.Background(), slog.LevelWarn, "a view of the agent could not be shown", append(run.names(), failure(err)...)...)
		html = broken
	}
	event.View = HTML(html)
	return event
}

// interrupt stops a run of this instance, and reports whether it was still running.
func (run *Run) interrupt(cause error) bool {
	interrupted := run.settle(cause)
	if interrupted {
		run.cancel(cause)
	}
	return interrupted
}

// settle ends a run of this instance for its viewers, unless it has ended: the
// first cause stands, and nil is success. It returns whether it did.
func (run *Run) settle(cause error) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running || run.elsewhere {
		return false
	}
	run.status, run.sentence = outcome(cause)
	if cause == nil && !slices.ContainsFunc(run.events, func(e agent.Event) bool { return e.Kind != agent.Status }) {
		run.sentence = "There was nothing to say."
	}
	run.cause, run.complete, run.waiting, run.ended = cause, true, false, run.runs.options.Now()
	run.closed = len(run.events)
	close(run.over)
	run.ring(true)
	return true
}

// queued tells the viewers how many runs wait before this one.
func (run *Run) queued(before int) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running || run.waiting && run.before == before {
		return
	}
	run.waiting, run.before = true, before
	run.notes++
	run.ring(false)
}

// called tells the run that it has a turn.
func (run *Run) called() {
	close(run.begin)
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status == Running && run.waiting {
		run.waiting, run.note = false, "Working…"
		run.notes++
		run.ring(false)
	}
}

// noted is the status for the viewers that is not kept. run.mu is held.
func (run *Run) noted() agent.Event {
	words := run.note
	if run.waiting {
		switch run.before {
		case 0:
			words = "Waiting: you are next."
		case 1:
			words = "Waiting: 1 run before this one."
		default:
			words = fmt.Sprintf("Waiting: %d runs before this one.", run.before)
		}
	}
	return agent.Event{Kind: agent.Status, Text: words}
}

// outcome says how a run ended for that cause, and what to say of it.
func outcome(cause error) (status, sentence string) {
	if errors.Is(cause, lines.ErrTooLong) {
		cause = errCut
	}
	switch cause {
	case nil:
		return Done, ""
	case errCut:
		return Cut, "Cut here: there was more than fits on the page."
	case errBusy:
		return Failed, "Too much is running right now. Try again in a minute."
	case errHeld:
		return Failed, "Your last run was told to end and has not yet. Try again in a minute; if it stays so, tell whoever runs this place."
	case errBegun:
		return Failed, "This agent began something else for you while this waited. Ask again when that has ended."
	case errStore:
		return Failed, "This could not be started right now. Try again in a minute."
	case errStopped:
		return Interrupted, "Stopped."
	case errLost:
		return Interrupted, Crashed
	case errRemoved:
		return Interrupted, "Stopped, because the account was removed or disabled."
	case errClosed:
		return Interrupted, "Stopped, because the server is restarting. Try again in a minute."
	case errDeadline:
		return Failed, "This took too long, and was ended. You can try again."
	}
	return Failed, "This could not be finished. You can run it again."
}

// record is the run as it is to be written down.
func (run *Run) record() Record {
	run.mu.Lock()
	defer run.mu.Unlock()
	return Record{
		ID: run.id, UserID: run.at.user, Agent: run.at.agent, Prompt: run.prompt,
		Status: run.status, Sentence: run.sentence,
	}
}

// names say in the log which run it is.
func (run *Run) names() []slog.Attr {
	names := []slog.Attr{slog.String("agent", run.at.agent), slog.String("run", run.ID()), slog.String("user", run.at.user)}
	if run.trace != "" {
		names = append(names, slog.String("trace", run.trace))
	}
	return names
}

// traceID is the trace-id of a traceparent, or "" (W3C Trace Context §3.2.2).
func traceID(traceParent string) string {
	_, rest, _ := strings.Cut(traceParent, "-")
	id, _, whole := strings.Cut(rest, "-")
	if !whole {
		return ""
	}
	return id
}

// failure says in the log what went wrong.
func failure(err error) []slog.Attr {
	attributes := []slog.Attr{slog.String("error", err.Error())}
	if panicked, ok := errors.AsType[*agent.PanicError](err); ok {
		attributes = append(attributes, slog.String("stack", string(panicked.Stack)))
	}
	return attributes
}
