package agent

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"time"
)

// Middleware wraps an agent in another.
type Middleware func(Agent) Agent

// Chain wraps a in the layers. The first layer is the outermost: it sees the
// input first and the events last.
func Chain(a Agent, layers ...Middleware) Agent {
	for i := len(layers) - 1; i >= 0; i-- {
		a = layers[i](a)
	}
	return a
}

// PanicError is an agent's panic as an error.
type PanicError struct {
	Value any    // what was given to panic
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("agent: panic: %v", e.Value) }

// Unwrap returns the value when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Guard contains an agent: a panic of the agent becomes a [*PanicError], and the
// first event after ctx is done, or a silent return after it, becomes the cause.
// A positive timeout gives the agent a deadline of its own; otherwise ctx alone
// decides. A panic of the consumer passes through untouched; one of the agent
// after the consumer has stopped has nobody left to tell and is dropped.
//
// Guard starts no goroutine, so it cannot leave an agent that neither yields nor
// returns. Whoever ranges over the events does that: the server's runs end for
// their viewers at the deadline, whatever the agent does.
func Guard(timeout time.Duration) Middleware {
	return func(next Agent) Agent {
		return Func(func(ctx context.Context, in *Input) iter.Seq2[Event, error] {
			return func(yield func(Event, error) bool) {
				ctx := ctx
				if timeout > 0 {
					limited, cancel := context.WithTimeout(ctx, timeout)
					defer cancel()
					ctx = limited
				}
				g := guarded{yield: yield}
				if err := g.run(ctx, next, in); err != nil && !g.stopped {
					yield(Event{}, err)
				}
			}
		})
	}
}

type guarded struct {
	yield   func(Event, error) bool
	outside bool // the consumer's code is running: a panic now is its own
	stopped bool // the consumer wants no more
}

func (g *guarded) run(ctx context.Context, next Agent, in *Input) (err error) {
	defer func() {
		if g.outside {
			return
		}
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	for event, err := range next.Run(ctx, in) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.outside = true
		more := g.yield(event, nil)
		g.outside = false
		if !more {
			g.stopped = true
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
