// Package agenttest runs an agent in a test, as the server would: the agent gets a
// whole input, with a memory, its panics are contained, and its events are held to
// the same rules. Two things of the server's are left out: nothing is cut for being
// too much, and the deadline is a minute.
//
// [agent.Guard] gives an agent less than that minute; within a bubble of
// [testing/synctest] a minute is over as soon as everything waits for it. An agent
// that does not return when its context is done holds up the test, as nothing in Go
// can stop it.
package agenttest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bio/agent"
)

// Run runs a to its end and returns its events. What fails the agent fails the
// test, a panic with its stack; so does what the server would mend: text that is
// not UTF-8, and a view that cannot be rendered.
//
// RunID and User of the input are filled in where they are empty, and so is Memory,
// with one that is new: see [NewMemory] for one that lasts.
func Run(t testing.TB, a agent.Agent, in agent.Input) []agent.Event {
	t.Helper()
	events, err := Try(t, a, in)
	if panicked, ok := errors.AsType[*agent.PanicError](err); ok {
		t.Fatalf("the agent failed after %d events: %v\n%s", len(events), err, panicked.Stack)
	}
	if err != nil {
		t.Fatalf("the agent failed after %d events: %v", len(events), err)
	}
	return events
}

// Text is [Run] for an agent whose words matter: the texts of its Text events,
// joined as the page joins them.
func Text(t testing.TB, a agent.Agent, in agent.Input) string {
	t.Helper()
	var text strings.Builder
	for _, event := range Run(t, a, in) {
		if event.Kind == agent.Text {
			text.WriteString(event.Text)
		}
	}
	return text.String()
}

// Try is [Run] for an agent that may fail: it returns the events that came before
// the failure, and the failure in place of failing the test. That is the error
// that the agent yielded, an [*agent.PanicError] for a panic, an
// [agent.ErrEvent] for an event that is not valid, and
// [context.DeadlineExceeded] after a minute; nil when the agent did not fail.
func Try(t testing.TB, a agent.Agent, in agent.Input) ([]agent.Event, error) {
	t.Helper()
	if in.RunID == "" {
		in.RunID = "run-1"
	}
	if in.User.ID == "" {
		in.User.ID = "00000000000000000000000000000001"
	}
	if in.User.Name == "" {
		in.User.Name = "cedar-otter-42"
	}
	if in.Memory == nil {
		in.Memory = NewMemory()
	}
	var events []agent.Event
	for event, err := range agent.Guard(time.Minute)(a).Run(t.Context(), &in) {
		if err != nil {
			return events, err
		}
		if err := event.Check(); err != nil {
			return events, fmt.Errorf("event %d: %w", len(events), err)
		}
		if !utf8.ValidString(event.Text) || !utf8.Valid(event.Data) {
			t.Fatalf("event %d: not UTF-8: %q", len(events), event.Text+string(event.Data))
		}
		if event.Kind == agent.View {
			if _, err := agent.Render(t.Context(), event); err != nil {
				t.Fatalf("event %d: the view cannot be shown: %v", len(events), err)
			}
		}
		events = append(events, event)
	}
	return events, nil
}
