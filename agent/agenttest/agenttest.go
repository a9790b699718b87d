// Package agenttest runs an agent in a test, as the server would.
package agenttest

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bio/agent"
)

// Run runs a to its end and returns its events. RunID and User of the input are
// filled in where they are empty. An error or a panic of the agent, and an event
// that the server would refuse or mend, fail the test; an agent that does not
// stop within a minute is cancelled.
func Run(t testing.TB, a agent.Agent, in agent.Input) []agent.Event {
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
	var events []agent.Event
	for event, err := range agent.Guard(time.Minute)(a).Run(t.Context(), &in) {
		if err != nil {
			t.Fatalf("the agent failed after %d events: %v", len(events), err)
		}
		if err := event.Check(); err != nil {
			t.Fatalf("event %d: %v", len(events), err)
		}
		if !utf8.ValidString(event.Text) || !utf8.Valid(event.Data) {
			t.Fatalf("event %d: not UTF-8: %q", len(events), event.Text+string(event.Data))
		}
		events = append(events, event)
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
