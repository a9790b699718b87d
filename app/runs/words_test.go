package runs

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"bio/agent"
)

// The log line of a run has the trace that it is part of, where there is one.
func TestTraceInTheLog(t *testing.T) {
	for parent, want := range map[string]any{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "4bf92f3577b34da6a3ce929d0e0e4736",
		"":         nil,
		"nonsense": nil,
		"00-half":  nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := open(agent.Reply(func(context.Context, *agent.Input) (string, error) { return "", nil }))
			h.Start(person("p"), Ask{TraceParent: parent})
			h.drain(t)
			var line map[string]any
			if err := json.Unmarshal(h.log.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if line["trace"] != want || line["run"] == nil || line["agent"] != "brief" || line["user"] != "p" {
				t.Errorf("%q: %s", parent, h.log.String())
			}
		})
	}
}

// What is said of ends that a person can do something about says what.
func TestSentences(t *testing.T) {
	for _, cause := range []error{errBusy, errHeld, errBegun, errStore, errLost, errClosed, errDeadline, errExit} {
		if _, sentence := outcome(cause); !strings.Contains(sentence, "again") {
			t.Errorf("%v: %q", cause, sentence)
		}
	}
	if _, sentence := outcome(errHeld); !strings.HasPrefix(sentence, "Your last run was told to end and has not yet.") {
		t.Error(sentence)
	}
}
