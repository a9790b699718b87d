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

// joinBytes is how long a text may become by joining pieces that nobody has seen
// yet: a model's answer is thousands of them.
const joinBytes = 1 << 10

// Run is one run of an agent for a person. Its methods may be called from
// several goroutines.
type Run struct {
	runs  *Runs
	at    place
	first string    // id that it was started under
	asked time.Time // for it

	// Of a run of this instance, which has an agent of its own.
	turn   bool                    // guarded by runs.mu: it counts as busy
	ctx    context.Context         // of the agent
	cancel context.CancelCauseFunc // of ctx
	begin  chan struct{}           // closed when it has a turn
	over   chan struct{}           // closed when it has ended for its viewers
	kept   chan struct{}           // closed when nothing of it goes on but its agent's goroutine

	mu       sync.Mutex
	id       string // another than first once it turned out to be a run elsewhere
	prompt   string
	events   []agent.Event // those that were taken do not change, so that they are read unlocked
	taken    int           // how many were given to viewers or to the store
	bytes    int           // of text, data and HTML in events
	status   string
	sentence string
	cause    error // why it ended, where that was not by its agent returning
	complete bool  // nothing follows events
	note     string
	notes    int       // how many there were
	waiting  bool      // for its turn
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
		begin: make(chan struct{}), over: make(chan struct{}), kept: make(chan struct{}),
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
	n := len(run.events)
	switch last := n - 1; {
	case event.Kind == agent.Text && n > run.taken && run.events[last].Kind == agent.Text && len(run.events[last].Text)+len(event.Text) <= joinBytes:
		run.events[last].Text += event.Text
	case n < run.runs.options.MaxEvents:
		run.events = append(run.events, event)
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
	close(run.over)
	run.ring(true)
	return true
}

// queued tells the viewers how many wait before the run.
func (run *Run) queued(before int) {
	words := "Waiting: you are next."
	if before > 0 {
		words = fmt.Sprintf("Waiting: %d before you.", before)
	}
	run.tell(words, true)
}

// called tells the run that it has a turn.
func (run *Run) called() {
	close(run.begin)
	run.mu.Lock()
	waited := run.waiting
	run.mu.Unlock()
	if waited {
		run.tell("Working…", false)
	}
}

// tell gives the viewers a status that is not kept.
func (run *Run) tell(words string, waiting bool) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running || run.note == words {
		return
	}
	run.note, run.waiting = words, waiting
	run.notes++
	run.ring(false)
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
		return Failed, "Your last run has not let go yet. If it stays so, tell whoever runs this place."
	case errStore:
		return Failed, "This could not be started right now. Try again in a minute."
	case errStopped:
		return Interrupted, "Stopped."
	case errLost:
		return Interrupted, Crashed
	case errRemoved:
		return Interrupted, "Stopped, because the account was removed."
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
	return []slog.Attr{slog.String("agent", run.at.agent), slog.String("run", run.ID()), slog.String("user", run.at.user)}
}

// failure says in the log what went wrong.
func failure(err error) []slog.Attr {
	attributes := []slog.Attr{slog.String("error", err.Error())}
	if panicked, ok := errors.AsType[*agent.PanicError](err); ok {
		attributes = append(attributes, slog.String("stack", string(panicked.Stack)))
	}
	return attributes
}
