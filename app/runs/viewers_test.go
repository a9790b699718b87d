package runs

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// Sixteen viewers, some from the start, some late, some that leave, one that
// stands still: each sees all, in order, and none disturbs another.
func TestViewers(t *testing.T) {
	const events = 500
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			<-ready
			for n := range events {
				if err := emit(agent.Event{Text: fmt.Sprint(n, " ")}); err != nil {
					return err
				}
				runtime.Gosched()
			}
			return nil
		}))
		run := h.begin("p")
		var want strings.Builder
		for n := range events {
			fmt.Fprint(&want, n, " ")
		}
		var wg sync.WaitGroup
		still := make(chan struct{})
		for viewer := range 16 {
			wg.Go(func() {
				var got strings.Builder
				stood := viewer != 0
				for _, events := range Follow(t.Context(), []*Run{run}) {
					for _, event := range events {
						if event.Kind == agent.Text {
							got.WriteString(event.Text)
						}
					}
					if !stood {
						<-still
						stood = true
					}
					if viewer%4 == 3 {
						return
					}
				}
				if got.String() != want.String() {
					t.Errorf("viewer %d: %s", viewer, got.String())
				}
			})
		}
		synctest.Wait()
		close(ready)
		h.drain(t) // the run does not wait for the viewer that stands still
		close(still)
		wg.Wait()
		if len(run.viewers) != 0 || run.armed != 0 {
			t.Errorf("%d viewers are left, %d armed", len(run.viewers), run.armed)
		}
	})
}

// No event is missed between looking and waiting.
func TestArm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		for name, change := range map[string]func(*Run){
			"event": func(run *Run) { _ = run.add(status("…")) },
			"note":  func(run *Run) { run.queued(1) },
			"end":   func(run *Run) { run.settle(nil) },
		} {
			run := newRun(h.Runs, "1", place{"p", "brief"}, "")
			bell := make(chan struct{}, 1)
			v := run.join(bell)
			run.next(&v)
			change(run)
			if name != "end" && len(bell) > 0 {
				t.Errorf("%s: it rings for one who does not wait", name)
			}
			select {
			case <-bell:
			default:
			}
			run.arm(bell, v)
			if len(bell) == 0 {
				t.Errorf("%s: it does not ring", name)
			}
		}
		h.drain(t)
	})
}

func TestViewerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan string)
		go func() { seen <- watch(ctx, run) }()
		synctest.Wait()
		cancel()
		if got := <-seen; got != "text:a running" {
			t.Errorf("got %q", got)
		}
		for range Follow(ctx, []*Run{run}) {
			t.Error("an event for a viewer that is gone")
		}
		for range Follow(t.Context(), nil) {
			t.Error("an event of no run")
		}
		if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") {
			t.Errorf("got %q", got)
		}
		h.drain(t)
	})
}

// Events are given as they come, those that come close together at once.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for n, pause := range []time.Duration{5, 1, 20, 20, 20, 300, 47, 1, 10} {
				time.Sleep(pause * time.Millisecond)
				_ = emit(status(fmt.Sprint(n)))
			}
			return nil
		}))
		run := h.begin("p")
		start := time.Now()
		var got []string
		for _, events := range Follow(t.Context(), []*Run{run}) {
			got = append(got, fmt.Sprintf("%v %s", time.Since(start).Milliseconds(), words(events)))
		}
		want := []string{"5 status:0", "55 status:1 status:2 status:3", "105 status:4", "366 status:5", "416 status:6 status:7", "424 status:8", "424 "}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		h.drain(t)
	})
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			time.Sleep(15 * time.Second)
			_ = emit(status("Reading…"))
			time.Sleep(9 * time.Second)
			_ = emit(agent.Event{Text: "a"})
			time.Sleep(21 * time.Second)
			return nil
		}))
		run := h.begin("p")
		start := time.Now()
		var got []string
		for _, events := range Follow(t.Context(), []*Run{run}) {
			got = append(got, fmt.Sprintf("%v %s", time.Since(start), words(events)))
		}
		want := []string{"10s status:Still working…", "15s status:Reading…", "24s text:a", "34s status:Reading…", "44s status:Reading…", "45s "}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if got := watch(t.Context(), run); got != "status:Reading… text:a done" {
			t.Errorf("kept %q", got)
		}
		h.drain(t)
	})
}
