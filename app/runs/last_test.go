package runs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// A refusal is the last run, until there is a later one.
func TestRefusalIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) { o.Max, o.Queue = 1, 0 })
		elsewhere := openAt(h.shelf, says(nil, "b"))
		watch(t.Context(), elsewhere.begin("p"))
		h.begin("q")
		time.Sleep(time.Second)
		refused := h.begin("p")
		if h.lastOf(t, "p") != refused {
			t.Error("the run before it is shown")
		}
		// What waits here is shown, whatever goes on elsewhere meanwhile.
		h.options.Queue = 1
		waits := h.begin("w")
		time.Sleep(time.Second)
		watch(t.Context(), elsewhere.begin("w"))
		if h.lastOf(t, "w") != waits {
			t.Error("what waits is not shown")
		}
		time.Sleep(time.Second)
		if got := elsewhere.lastOf(t, "p").Status(); got != Done {
			t.Errorf("elsewhere it is %s", got)
		}
		watch(t.Context(), elsewhere.begin("p"))
		synctest.Wait()
		if got := watch(t.Context(), h.lastOf(t, "p")); got != "text:b done" {
			t.Errorf("got %q", got)
		}
		elsewhere.drain(t)
		h.drain(t)
	})
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(ctx context.Context, in *agent.Input, _ func(agent.Event) error) error {
			if in.User.ID == "slow" {
				<-ctx.Done()
			}
			return nil
		}), func(o *Options) { o.Keep = 2 })
		slow := h.begin("slow")
		runs := map[string]*Run{}
		for _, name := range []string{"a", "b", "c"} {
			runs[name] = h.begin(name)
			watch(t.Context(), runs[name])
			synctest.Wait()
		}
		if h.last[place{"a", "brief"}] != nil || h.last[place{"b", "brief"}] != nil {
			t.Error("too much is kept in memory")
		}
		if h.lastOf(t, "slow") != slow || h.lastOf(t, "c") != runs["c"] {
			t.Error("what runs, or was last, was forgotten")
		}
		// What memory has forgotten, the store knows.
		if a := h.lastOf(t, "a"); a == runs["a"] || a.ID() != runs["a"].ID() || a.Status() != Done {
			t.Error("not what the store has")
		}
		watch(t.Context(), slow)
		synctest.Wait()
		h.lastOf(t, "slow")
		watch(t.Context(), h.begin("d"))
		synctest.Wait()
		if h.recent.Len() != 2 || len(h.last) != 2 || len(h.active) != 0 || h.last[place{"slow", "brief"}] == nil {
			t.Errorf("%d, %d and %d are held", h.recent.Len(), len(h.last), len(h.active))
		}
		h.drain(t)
	})
}
