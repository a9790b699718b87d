package runs

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		synctest.Wait()
		for _, user := range []string{"q", ""} {
			if err := h.Stop(t.Context(), user, run.ID()); err != ErrNone {
				t.Errorf("stopped by %q: %v", user, err)
			}
		}
		if err := h.Stop(t.Context(), "p", run.ID()); err != nil {
			t.Error(err)
		}
		if status, sentence := run.Final(); status != Interrupted || sentence != "Stopped." {
			t.Errorf("%s, %q", status, sentence)
		}
		if got := watch(t.Context(), run); got != "text:a interrupted" {
			t.Errorf("got %q", got)
		}
		synctest.Wait()
		if err := h.Stop(t.Context(), "p", run.ID()); err != ErrNone {
			t.Errorf("stopped twice: %v", err)
		}
		h.drain(t)
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		synctest.Wait()
		h.shelf.erase("p")
		h.Forget("p")
		h.Forget("nobody")
		if got := watch(t.Context(), run); got != "text:a interrupted" {
			t.Errorf("got %q", got)
		}
		if h.lastOf(t, "p") != nil {
			t.Error("the run is still there")
		}
		synctest.Wait()
		if h.lastOf(t, "p") != nil {
			t.Error("the run came back")
		}
		h.drain(t)
	})
}

func TestClose(t *testing.T) {
	for name, test := range map[string]struct {
		grace       time.Duration
		interrupted bool
	}{
		"enough time":     {2 * time.Minute, false},
		"too little time": {10 * time.Second, true},
		"no time":         {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				h := open(agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
					if in.User.ID == "deaf" {
						return errors.Join(emit(agent.Event{Text: "a"}), func() error { <-release; return nil }())
					}
					time.Sleep(30 * time.Second)
					return emit(agent.Event{Text: "a"})
				}), func(o *Options) { o.Max = 2 })
				slow, stuck := h.begin("slow"), h.begin("deaf")
				seen := make(chan string)
				go func() { seen <- watch(t.Context(), slow) }()
				synctest.Wait()
				waits := h.begin("waits")
				ctx, cancel := context.WithTimeout(t.Context(), test.grace)
				defer cancel()
				var wg sync.WaitGroup
				for range 2 { // Close may be called twice
					wg.Go(func() {
						if err := h.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					})
				}
				if test.grace > 0 {
					synctest.Wait()
					for _, run := range []*Run{waits, h.begin("late")} {
						if got := watch(t.Context(), run); got != Interrupted {
							t.Errorf("%s: %q", run.at.user, got)
						}
					}
				}
				wg.Wait()
				slowWant, stuckWant := "text:a done", Failed
				if test.interrupted {
					slowWant, stuckWant = Interrupted, Interrupted
				}
				got := strings.TrimSpace(strings.ReplaceAll(<-seen, "status:Still working…", ""))
				if got != slowWant || stuck.Status() != stuckWant {
					t.Errorf("slow %q, deaf %q", got, stuck.Status())
				}
				for _, run := range []*Run{slow, stuck} {
					if kept := h.shelf.of(run.at.user, "brief"); kept.Status != run.Status() {
						t.Errorf("%s is %s in the store", run.at.user, kept.Status)
					}
				}
				close(release)
				time.Sleep(time.Minute) // let the slow one see that it is over
			})
		})
	}
	t.Run("says what it interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := open(patient)
			h.begin("p")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(io.EOF)
			if err := h.Close(ctx); !errors.Is(err, io.EOF) || err.Error() != "runs: interrupted 1: EOF" {
				t.Errorf("got %v", err)
			}
		})
	})
}
