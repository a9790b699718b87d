package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/a-h/templ"

	"bio/agent"
)

func TestKindString(t *testing.T) {
	for kind, want := range map[agent.Kind]string{
		agent.Text: "text", agent.Status: "status", agent.Data: "data",
		agent.View: "view", agent.Approval: "approval", 9: "Kind(9)",
	} {
		if got := kind.String(); got != want {
			t.Errorf("Kind(%d) is %q, want %q", kind, got, want)
		}
	}
}

func TestEventCheck(t *testing.T) {
	for name, test := range map[string]struct {
		event agent.Event
		valid bool
	}{
		"zero":                 {agent.Event{}, true},
		"status":               {agent.Event{Kind: agent.Status, Text: "…"}, true},
		"approval":             {agent.Event{Kind: agent.Approval, Text: "?"}, true},
		"data":                 {agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"a":1}`)}, true},
		"data missing":         {agent.Event{Kind: agent.Data}, false},
		"data that is no JSON": {agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"a"`)}, false},
		"view":                 {agent.Event{Kind: agent.View, View: templ.NopComponent}, true},
		"view missing":         {agent.Event{Kind: agent.View}, false},
		"unknown kind":         {agent.Event{Kind: 9}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.event.Check()
			if test.valid && err != nil || !test.valid && !errors.Is(err, agent.ErrEvent) {
				t.Errorf("got %v, valid %v", err, test.valid)
			}
		})
	}
}

// collect runs a and returns its texts, each followed by a comma, and its error.
func collect(ctx context.Context, a agent.Agent) (string, error) {
	var texts strings.Builder
	for event, err := range a.Run(ctx, &agent.Input{}) {
		if err != nil {
			return texts.String(), err
		}
		texts.WriteString(event.Text + ",")
	}
	return texts.String(), nil
}

// says yields the texts and goes on to then.
func says(then func(yield func(agent.Event, error) bool), texts ...string) agent.Agent {
	return agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for _, text := range texts {
				if !yield(agent.Event{Text: text}, nil) {
					return
				}
			}
			then(yield)
		}
	})
}

var errBroken = errors.New("broken")

func TestGuard(t *testing.T) {
	guard := agent.Guard(0)

	t.Run("passes events and errors", func(t *testing.T) {
		got, err := collect(t.Context(), guard(says(func(yield func(agent.Event, error) bool) {
			yield(agent.Event{Text: "ignored"}, errBroken)
		}, "a", "b")))
		if got != "a,b," || err != errBroken {
			t.Errorf("got %q, %v", got, err)
		}
	})

	for name, a := range map[string]agent.Agent{
		"panic after events":    says(func(func(agent.Event, error) bool) { panic(errBroken) }, "a"),
		"panic instead of them": agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] { panic(errBroken) }),
		"panic after an error": agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
			return func(yield func(agent.Event, error) bool) {
				defer func() { panic(errBroken) }()
				yield(agent.Event{}, errors.New("first"))
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := collect(t.Context(), guard(a))
			var panicked *agent.PanicError
			if !errors.As(err, &panicked) || !errors.Is(err, errBroken) {
				t.Fatalf("got %v, want a PanicError of %v", err, errBroken)
			}
			if !strings.Contains(string(panicked.Stack), "agent_test.go") {
				t.Errorf("the stack does not reach the agent:\n%s", panicked.Stack)
			}
		})
	}

	t.Run("nil iterator", func(t *testing.T) {
		none := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] { return nil })
		if _, err := collect(t.Context(), guard(none)); err == nil || !strings.Contains(err.Error(), "panic") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("an agent that goes on after it was told to stop", func(t *testing.T) {
		deaf := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
			return func(yield func(agent.Event, error) bool) {
				for {
					yield(agent.Event{Text: "a"}, nil)
				}
			}
		})
		for range guard(deaf).Run(t.Context(), &agent.Input{}) {
			break
		}
	})

	t.Run("a panic of the consumer passes through", func(t *testing.T) {
		for name, a := range map[string]agent.Agent{
			"func": says(func(func(agent.Event, error) bool) {}, "a"),
			"emit": agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
				return emit(agent.Event{})
			}),
			"error": says(func(yield func(agent.Event, error) bool) { yield(agent.Event{}, errBroken) }),
		} {
			func() {
				defer func() {
					if value := recover(); value != "of the consumer" {
						t.Errorf("%s: recovered %v", name, value)
					}
				}()
				for range guard(a).Run(t.Context(), &agent.Input{}) {
					panic("of the consumer")
				}
				t.Errorf("%s: no panic", name)
			}()
		}
	})

	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for name, a := range map[string]agent.Agent{
				"one that listens": agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
					if err := emit(agent.Event{Text: "a"}); err != nil {
						return err
					}
					<-ctx.Done()
					return ctx.Err()
				}),
				"one that gives up without a word": agent.Func(func(ctx context.Context, _ *agent.Input) iter.Seq2[agent.Event, error] {
					return func(yield func(agent.Event, error) bool) {
						yield(agent.Event{Text: "a"}, nil)
						<-ctx.Done()
					}
				}),
				"one that goes on": agent.Func(func(ctx context.Context, _ *agent.Input) iter.Seq2[agent.Event, error] {
					return func(yield func(agent.Event, error) bool) {
						for yield(agent.Event{Text: "a"}, nil) {
							<-ctx.Done()
						}
					}
				}),
			} {
				start := time.Now()
				got, err := collect(t.Context(), agent.Guard(time.Minute)(a))
				if got != "a," || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("%s: got %q, %v after %v", name, got, err, time.Since(start))
				}
			}
		})
	})
}

func TestEmit(t *testing.T) {
	t.Run("error is the last word", func(t *testing.T) {
		got, err := collect(t.Context(), agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			return errors.Join(emit(agent.Event{Text: "a"}), errBroken)
		}))
		if got != "a," || !errors.Is(err, errBroken) {
			t.Errorf("got %q, %v", got, err)
		}
	})

	t.Run("nobody listens any more", func(t *testing.T) {
		var second, third error
		a := agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			_ = emit(agent.Event{Text: "a"})
			second = emit(agent.Event{Text: "b"})
			third = emit(agent.Event{Text: "c"})
			return second
		})
		n := 0
		for range a.Run(t.Context(), &agent.Input{}) {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 || second != agent.ErrGone || third != agent.ErrGone {
			t.Errorf("%d events, then %v and %v", n, second, third)
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		got, err := collect(ctx, agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			cancel(errBroken)
			return emit(agent.Event{Text: "a"})
		}))
		if got != "" || err != errBroken {
			t.Errorf("got %q, %v", got, err)
		}
	})

	t.Run("from several goroutines, also late", func(t *testing.T) {
		returned := make(chan struct{})
		late := make(chan error)
		got, err := collect(t.Context(), agent.Guard(0)(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 50 {
						if err := emit(agent.Event{Text: "a"}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			go func() {
				<-returned
				late <- emit(agent.Event{Text: "late"})
			}()
			return nil
		})))
		close(returned)
		if got != strings.Repeat("a,", 400) || err != nil {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if err := <-late; err != agent.ErrGone {
			t.Errorf("late: %v", err)
		}
	})
}

func TestReply(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		err  error
		want string
	}{
		"text":           {"hello", nil, "hello,"},
		"nothing":        {"", nil, ""},
		"error":          {"", errBroken, ""},
		"text and error": {"so far", errBroken, "so far,"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(t.Context(), agent.Reply(func(context.Context, *agent.Input) (string, error) {
				return test.text, test.err
			}))
			if got != test.want || err != test.err {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	t.Run("nobody listens any more", func(t *testing.T) {
		a := agent.Reply(func(context.Context, *agent.Input) (string, error) { return "a", errBroken })
		for range a.Run(t.Context(), &agent.Input{}) {
			break
		}
	})
}

func TestChain(t *testing.T) {
	layer := func(name string) agent.Middleware {
		return func(next agent.Agent) agent.Agent {
			return agent.Func(func(ctx context.Context, in *agent.Input) iter.Seq2[agent.Event, error] {
				inner := *in
				inner.Prompt += name
				return next.Run(ctx, &inner)
			})
		}
	}
	echo := agent.Reply(func(_ context.Context, in *agent.Input) (string, error) { return in.Prompt, nil })
	if got, err := collect(t.Context(), agent.Chain(echo, layer("1"), layer("2"), layer("3"))); got != "123," || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := collect(t.Context(), agent.Chain(echo)); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
