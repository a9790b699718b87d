package outward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func FuzzRetryAfter(f *testing.F) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "+1": 0, "1.5": 0, "soon": 0,
		"Sat, 21 Nov 2026 09:00:05 GMT":    5 * time.Second,
		"Saturday, 21-Nov-26 09:01:00 GMT": time.Minute,
		"Sat, 21 Nov 2026 08:00:00 GMT":    0,
		"99999999999999999999":             (1<<32 - 1) * time.Second,
	} {
		if got := retryAfter(value, now); got != want {
			f.Errorf("%q: %v, want %v", value, got, want)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value, now); got < 0 {
			t.Errorf("%q: %v", value, got)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Wait(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stopped)
		if err := Wait(ctx, time.Minute); err != stopped {
			t.Errorf("got %v", err)
		}
	})
}

func TestReason(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for name, test := range map[string]struct{ err, want error }{
		"network":  {fmt.Errorf("hunter2: %w", refused), refused},
		"deadline": {fmt.Errorf("hunter2: %w", context.DeadlineExceeded), context.DeadlineExceeded},
		"canceled": {fmt.Errorf("hunter2: %w", context.Canceled), context.Canceled},
		"end":      {fmt.Errorf("hunter2: %w", io.EOF), io.ErrUnexpectedEOF},
		"break":    {fmt.Errorf("hunter2: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"any":      {errors.New("hunter2"), errUnusable},
	} {
		if got := Reason(test.err); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
