package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// A run waits for its turn, and its viewers see how many are before it.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, in *agent.Input, emit func(agent.Event) error) error {
			_ = emit(agent.Event{Text: in.User.ID})
			time.Sleep(10*time.Second - time.Millisecond)
			return nil
		}), func(o *Options) { o.Max, o.Queue = 1, 3 })
		seen := map[string]chan string{}
		var waits []*Run
		for _, name := range []string{"a", "b", "c", "d"} {
			run := h.begin(name)
			if h.begin(name) != run || h.lastOf(t, name) != run {
				t.Errorf("%s does not wait as one", name)
			}
			waits = append(waits, run)
			seen[name] = make(chan string, 1)
			go func() { seen[name] <- watch(t.Context(), run) }()
			synctest.Wait()
		}
		busy := h.begin("e")
		_, sentence := outcome(errBusy)
		if got, said := busy.Final(); got != Failed || said != sentence || h.lastOf(t, "e") != busy {
			t.Errorf("beyond the queue: %s, %q", got, said)
		}
		if kept := h.shelf.of("b", "brief"); kept.ID != "" {
			t.Error("what waits is written down")
		}
		// c does not want to wait.
		if err := errors.Join(h.Stop(t.Context(), "c", waits[2].ID()), func() error {
			if err := h.Stop(t.Context(), "e", waits[3].ID()); err != ErrNone {
				return fmt.Errorf("stopped by another: %v", err)
			}
			return nil
		}()); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]string{
			"a": "text:a done",
			"b": "status:Waiting: you are next. status:Working… text:b done",
			"c": "status:Waiting: 1 run before this one. interrupted",
			"d": "status:Waiting: 2 runs before this one. status:Waiting: 1 run before this one. status:Waiting: you are next. status:Working… text:d done",
		} {
			if got := <-seen[name]; got != want {
				t.Errorf("%s saw %q, want %q", name, got, want)
			}
		}
		if got := watch(t.Context(), waits[3]); got != "text:d done" {
			t.Errorf("kept %q", got)
		}
		h.drain(t)
		if n := h.shelf.count("start"); n != 3 {
			t.Errorf("%d were written down", n)
		}
	})
}

// Who waits longer than a full queue takes, waits for what does not let go.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) { o.Max, o.Queue = 2, 3 })
		h.begin("a")
		h.begin("b")
		start := time.Now()
		run := h.begin("c")
		if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") || time.Since(start) != 3*time.Minute {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		synctest.Wait()
		if len(h.queue) != 0 || h.busy != 2 {
			t.Errorf("%d wait, %d busy", len(h.queue), h.busy)
		}
		close(release)
		h.drain(t)
	})
}

// An agent that ignores its context ends for its viewers at the deadline, and
// still counts while it holds its goroutine.
func TestDeafAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) { o.Max, o.Queue = 2, 0 })
		p, q := h.begin("p"), h.begin("q")
		start := time.Now()
		for _, run := range []*Run{p, q} {
			if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") || time.Since(start) != time.Minute {
				t.Errorf("got %q after %v", got, time.Since(start))
			}
		}
		for name, cause := range map[string]error{"p": errHeld, "r": errBusy} {
			_, want := outcome(cause)
			run := h.begin(name)
			if status, sentence := run.Final(); status != Failed || sentence != want {
				t.Errorf("%s: %s %q", name, status, sentence)
			}
			if got := watch(t.Context(), run); got != "failed" {
				t.Errorf("%s: %q", name, got)
			}
		}
		synctest.Wait()
		if kept := h.shelf.of("p", "brief"); kept.Status != Failed {
			t.Errorf("the end is not kept: %q", kept.Status)
		}
		close(release)
		synctest.Wait()
		if got := watch(t.Context(), h.begin("r")); got != "text:a done" {
			t.Errorf("after they let go: %q", got)
		}
		h.drain(t)
		if got := watch(t.Context(), p); got != "text:a failed" {
			t.Errorf("the late return changed the run: %q", got)
		}
		if n := strings.Count(h.log.String(), "\n"); n != 5 {
			t.Errorf("%d log lines:\n%s", n, h.log.String())
		}
	})
}
