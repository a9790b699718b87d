package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"bio/agent"
)

// house is Runs, an instance of its own, with what they reported.
type house struct {
	*Runs
	shelf *shelf
	log   bytes.Buffer
	mu    sync.Mutex
	told  []Life // guarded by mu: of beginnings, whose status is running, and of ends
}

// open opens an instance with one agent, called brief.
func open(a agent.Agent, change ...func(*Options)) *house { return openAt(newShelf(), a, change...) }

func openAt(s *shelf, a agent.Agent, change ...func(*Options)) *house {
	h := &house{shelf: s}
	tell := func(life Life) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, life)
	}
	o := Options{
		Agents: []agent.Named{{Name: "brief", Agent: a}}, Store: s, Timeout: time.Minute, Max: 4, Queue: 4, MaxEvents: 1000, MaxBytes: 1 << 16, Keep: 8,
		Now: time.Now, Log: slog.New(slog.NewJSONHandler(&h.log, nil)), Began: tell, Ended: tell,
	}
	for _, change := range change {
		change(&o)
	}
	h.Runs = New(o)
	return h
}

// drain closes the house, which waits for the reports.
func (h *house) drain(t *testing.T) {
	t.Helper()
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func person(name string) agent.User { return agent.User{ID: name, Name: name} }

// begin starts a run of brief.
func (h *house) begin(name string) *Run { return h.Start(person(name), Ask{Agent: "brief"})[0].Run }

// runsOf are the runs of what was asked.
func runsOf(all []Asked) (runs []*Run) {
	for _, asked := range all {
		runs = append(runs, asked.Run)
	}
	return runs
}

// lastOf is the last run of brief, or nil.
func (h *house) lastOf(t *testing.T, name string) *Run {
	for _, run := range h.Last(t.Context(), name) {
		if run.Agent() == "brief" {
			return run
		}
	}
	return nil
}

// words are events as a viewer sees them. Text joins.
func words(events []agent.Event) string {
	var out strings.Builder
	text := false
	for _, event := range events {
		if event.Kind == agent.Text && text {
			out.WriteString(event.Text)
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		fmt.Fprintf(&out, "%s:%s%s", event.Kind, event.Text, event.Data)
		if event.View != nil {
			_ = event.View.Render(context.Background(), &out)
		}
		text = event.Kind == agent.Text
	}
	return out.String()
}

// watch is what a viewer sees: kinds and texts, then how the run ended.
func watch(ctx context.Context, run *Run) string {
	var all []agent.Event
	for _, events := range Follow(ctx, []*Run{run}) {
		all = append(all, events...)
	}
	return strings.TrimPrefix(words(all)+" "+ending(run), " ")
}

// ending is how the run ended, and whether what is said of it fits.
func ending(run *Run) string {
	status, sentence := run.Final()
	if status == Done && sentence == "There was nothing to say." {
		return "done without a word"
	} else if (sentence == "") != (status == Running || status == Done) {
		return fmt.Sprintf("%q does not go with %q", sentence, status)
	}
	return status
}

// says emits texts and returns err.
func says(err error, texts ...string) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		for _, text := range texts {
			if err := emit(agent.Event{Text: text}); err != nil {
				return err
			}
		}
		return err
	})
}

// emits emits events.
func emits(events ...agent.Event) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		for _, event := range events {
			if err := emit(event); err != nil {
				return err
			}
		}
		return nil
	})
}

func status(text string) agent.Event { return agent.Event{Kind: agent.Status, Text: text} }
func data(text string) agent.Event {
	return agent.Event{Kind: agent.Data, Data: json.RawMessage(text)}
}

// deaf says a and then holds its goroutine, whatever happens, until let go.
func deaf(release <-chan struct{}) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		err := emit(agent.Event{Text: "a"})
		<-release
		return err
	})
}

// patient says a and waits for its context.
var patient = agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
	if err := emit(agent.Event{Text: "a"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
})

// component is a View that writes what it says, and returns or panics with err.
type component struct {
	html  string
	err   error
	panic bool
}

func (c component) Render(_ context.Context, w io.Writer) error {
	if _, err := io.WriteString(w, c.html); err != nil {
		return err
	}
	if c.panic {
		panic(c.err)
	}
	return c.err
}

func views(c component) agent.Event { return agent.Event{Kind: agent.View, View: c} }
