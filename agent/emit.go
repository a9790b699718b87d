package agent

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// ErrGone says that nobody takes the run's events any more: it was stopped, cut
// or has ended.
var ErrGone = errors.New("agent: the run takes no more events")

// Emit makes an agent of a function that pushes its events. emit returns
// [ErrGone] once nobody takes them any more, and the cause when ctx is done; fn
// should then return. The error that fn returns ends the run.
//
// fn's goroutines may call emit too, one event at a time; after fn has returned
// it only answers ErrGone.
func Emit(fn func(ctx context.Context, in *Input, emit func(Event) error) error) Agent {
	return Func(func(ctx context.Context, in *Input) iter.Seq2[Event, error] {
		return func(yield func(Event, error) bool) {
			var mu sync.Mutex // guards yield and gone
			gone := false
			// A goroutine that fn left behind must not reach yield after the loop.
			defer func() {
				mu.Lock()
				gone = true
				mu.Unlock()
			}()
			err := fn(ctx, in, func(event Event) error {
				mu.Lock()
				defer mu.Unlock()
				if gone {
					return ErrGone
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				gone = !yield(event, nil)
				if gone {
					return ErrGone
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock() // runs before the defer above
			if err != nil && !gone {
				gone = true
				yield(Event{}, err)
			}
		}
	})
}

// Reply makes an agent of a function that returns its whole answer as text. Text
// that comes with an error is shown before the run ends.
func Reply(fn func(ctx context.Context, in *Input) (string, error)) Agent {
	return Func(func(ctx context.Context, in *Input) iter.Seq2[Event, error] {
		return func(yield func(Event, error) bool) {
			text, err := fn(ctx, in)
			if text != "" && !yield(Event{Text: text}, nil) {
				return
			}
			if err != nil {
				yield(Event{}, err)
			}
		}
	})
}
