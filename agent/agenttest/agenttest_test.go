package agenttest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"bio/agent"
	"bio/agent/agenttest"
)

// A test of an agent, as an extender writes it.
func TestGreeter(t *testing.T) {
	greeter := agent.Reply(func(_ context.Context, in *agent.Input) (string, error) {
		return "Hello, " + in.User.Name + ". You asked: " + in.Prompt, nil
	})
	if got := agenttest.Text(t, greeter, agent.Input{Prompt: "why?"}); got != "Hello, cedar-otter-42. You asked: why?" {
		t.Errorf("got %q", got)
	}
}

func TestRun(t *testing.T) {
	emits := func(events ...agent.Event) agent.Agent {
		return agent.Emit(func(_ context.Context, in *agent.Input, emit func(agent.Event) error) error {
			if in.RunID == "" || in.User.ID == "" {
				return errors.New("no run or user id")
			}
			for _, event := range events {
				if err := emit(event); err != nil {
					return err
				}
			}
			return nil
		})
	}
	whole := emits(agent.Event{Kind: agent.Status, Text: "…"}, agent.Event{Text: "a"},
		agent.Event{Kind: agent.Data, Data: json.RawMessage(`1`)}, agent.Event{Text: "b"})
	if events := agenttest.Run(t, whole, agent.Input{}); len(events) != 4 || events[2].Kind != agent.Data {
		t.Errorf("got %v", events)
	}
	if text := agenttest.Text(t, whole, agent.Input{}); text != "ab" {
		t.Errorf("got %q", text)
	}

	for name, test := range map[string]struct {
		agent agent.Agent
		want  string
	}{
		"error":       {agent.Reply(func(context.Context, *agent.Input) (string, error) { return "", errors.New("broken") }), "broken"},
		"panic":       {agent.Reply(func(context.Context, *agent.Input) (string, error) { panic("broken") }), "panic"},
		"bad event":   {emits(agent.Event{Kind: agent.View}), "view without a component"},
		"not UTF-8":   {emits(agent.Event{Text: "\xff"}), "not UTF-8"},
		"data in it":  {emits(agent.Event{Kind: agent.Data, Data: json.RawMessage("\"\xff\"")}), "not UTF-8"},
		"no JSON":     {emits(agent.Event{Kind: agent.Data, Data: json.RawMessage("{")}), "not JSON"},
		"wrong event": {emits(agent.Event{Text: "a"}, agent.Event{Kind: 200}), "event 1"},
	} {
		t.Run(name, func(t *testing.T) {
			probe := &probe{TB: t}
			done := make(chan struct{})
			go func() { // Fatalf ends its goroutine
				defer close(done)
				agenttest.Run(probe, test.agent, agent.Input{})
			}()
			<-done
			if !strings.Contains(probe.failure, test.want) {
				t.Errorf("failed with %q, want %q", probe.failure, test.want)
			}
		})
	}
}

// probe takes the failure in place of the test.
type probe struct {
	testing.TB
	failure string
}

func (p *probe) Fatalf(format string, args ...any) {
	p.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
