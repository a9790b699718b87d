package agenttest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/a-h/templ"

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
		want  []string // in the failure
	}{
		"error": {agent.Reply(func(context.Context, *agent.Input) (string, error) { return "a", errors.New("broken") }), []string{"failed after 1 events: broken"}},
		"panic": {agent.Reply(panics), []string{"failed after 0 events: agent: panic: broken", "agenttest_test.panics"}},
		"panic in a layer of its own": {
			agent.Guard(0)(agent.Reply(panics)), []string{"panic: broken", "agenttest_test.panics"},
		},
		"bad event":    {emits(agent.Event{Kind: agent.View}), []string{"view without a component"}},
		"not UTF-8":    {emits(agent.Event{Text: "\xff"}), []string{"not UTF-8"}},
		"data in it":   {emits(agent.Event{Kind: agent.Data, Data: json.RawMessage("\"\xff\"")}), []string{"not UTF-8"}},
		"no JSON":      {emits(agent.Event{Kind: agent.Data, Data: json.RawMessage("{")}), []string{"not JSON"}},
		"wrong event":  {emits(agent.Event{Text: "a"}, agent.Event{Kind: 200}), []string{"event 1"}},
		"failing view": {emits(agent.Event{Kind: agent.View, View: templ.ComponentFunc(fails)}), []string{"event 0", "cannot be shown: broken"}},
	} {
		t.Run(name, func(t *testing.T) {
			failure := failing(t, func(t testing.TB) { agenttest.Run(t, test.agent, agent.Input{}) })
			for _, want := range test.want {
				if !strings.Contains(failure, want) {
					t.Errorf("failed with %q, want %q", failure, want)
				}
			}
		})
	}
}

func panics(context.Context, *agent.Input) (string, error) { panic("broken") }

func fails(context.Context, io.Writer) error { return errors.New("broken") }

// A test of an agent that is meant to fail, as an extender writes it.
func TestTry(t *testing.T) {
	closed := errors.New("the shop is closed")
	shop := agent.Reply(func(_ context.Context, in *agent.Input) (string, error) {
		if in.Prompt == "" {
			return "Welcome.", nil
		}
		return "One moment.", closed
	})
	events, err := agenttest.Try(t, shop, agent.Input{Prompt: "bread"})
	if len(events) != 1 || events[0].Text != "One moment." || !errors.Is(err, closed) {
		t.Errorf("got %v, %v", events, err)
	}
	if events, err := agenttest.Try(t, shop, agent.Input{}); len(events) != 1 || err != nil {
		t.Errorf("got %v, %v", events, err)
	}

	if _, err := agenttest.Try(t, agent.Reply(panics), agent.Input{}); !errors.As(err, new(*agent.PanicError)) {
		t.Errorf("a panic is %v", err)
	}
	odd := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) { yield(agent.Event{Kind: 200}, nil) }
	})
	if _, err := agenttest.Try(t, odd, agent.Input{}); !errors.Is(err, agent.ErrEvent) {
		t.Errorf("an event that is none is %v", err)
	}
	if failure := failing(t, func(t testing.TB) { agenttest.Try(t, agent.Reply(reply("\xff")), agent.Input{}) }); !strings.Contains(failure, "not UTF-8") {
		t.Errorf("failed with %q", failure)
	}
}

func reply(text string) func(context.Context, *agent.Input) (string, error) {
	return func(context.Context, *agent.Input) (string, error) { return text, nil }
}

// A test of an agent that takes too long: what waits for a minute, or for less,
// waits for nothing in a bubble.
func TestTooLong(t *testing.T) {
	sleeper := agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		if err := emit(agent.Event{Text: "Wait…"}); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			agent agent.Agent
			after time.Duration
		}{
			{sleeper, time.Minute},
			{agent.Guard(time.Second)(sleeper), time.Second},
		} {
			start := time.Now()
			events, err := agenttest.Try(t, test.agent, agent.Input{})
			if after := time.Since(start); len(events) != 1 || !errors.Is(err, context.DeadlineExceeded) || after != test.after {
				t.Errorf("got %v, %v after %v", events, err, after)
			}
		}
	})
}

// counter counts its runs for a person.
var counter = agent.Reply(func(ctx context.Context, in *agent.Input) (string, error) {
	before, err := in.Memory.Get(ctx, "runs")
	if err != nil && !errors.Is(err, agent.ErrNoMemory) {
		return "", err
	}
	runs := append(before, '|')
	return string(runs), in.Memory.Put(ctx, "runs", runs)
})

// A test of an agent that remembers, as an extender writes it.
func TestCounter(t *testing.T) {
	in := agent.Input{Memory: agenttest.NewMemory()}
	for _, want := range []string{"|", "||", "|||"} {
		if got := agenttest.Text(t, counter, in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for range 2 { // without one, each run has its own
		if got := agenttest.Text(t, counter, agent.Input{}); got != "|" {
			t.Errorf("got %q", got)
		}
	}
}

// failing runs f, which is to fail its test, and returns with what.
func failing(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	probe := &probe{TB: t}
	done := make(chan struct{})
	go func() { // Fatalf ends its goroutine
		defer close(done)
		f(probe)
	}()
	<-done
	return probe.failure
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
