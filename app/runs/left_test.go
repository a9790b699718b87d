package runs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// A beat that is too old, or ahead of every clock, is of a server that is gone: its
// run is not shown as running, and is in nobody's way.
func TestShown(t *testing.T) {
	now := time.Now()
	for ahead, want := range map[time.Duration]string{
		-Stale - time.Millisecond: Interrupted,
		-Stale:                    Running,
		0:                         Running,
		Stale:                     Running,
		Stale + time.Millisecond:  Interrupted,
		24 * time.Hour:            Interrupted,
	} {
		status, sentence := Record{Status: Running, BeatAt: now.Add(ahead)}.shown(now)
		if status != want || (sentence == Crashed) != (want == Interrupted) {
			t.Errorf("%v: %s, %q", ahead, status, sentence)
		}
		if status, _ := (Record{Status: Done, BeatAt: now.Add(ahead)}).shown(now); status != Done {
			t.Errorf("%v: one that is done is %s", ahead, status)
		}
	}
}

func TestClockWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, "again"))
		r := crash(t, h.shelf)
		h.shelf.runs[r.ID].BeatAt = time.Now().Add(time.Hour)
		if got := watch(t.Context(), h.lastOf(t, "p")); got != "text:so far interrupted" {
			t.Errorf("shown as %q", got)
		}
		asked := h.Start(person("p"), Ask{})[0]
		if !asked.Taken(t.Context()) {
			t.Error("it takes the place of a new one")
		}
		if got := watch(t.Context(), asked.Run); got != "text:again done" {
			t.Errorf("got %q", got)
		}
		h.drain(t)
	})
}

// What goes on here is not ended by who ends what was left, whatever the clock did.
func TestEndStale(t *testing.T) {
	for name, jump := range map[string]time.Duration{"no jump": 0, "ahead": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
					time.Sleep(time.Second)
					return emit(agent.Event{Text: "a"})
				}))
				crash(t, h.shelf)
				h.shelf.runs["crashed"].BeatAt = time.Now().Add(-time.Minute + jump)
				here := h.begin("q")
				synctest.Wait()
				h.shelf.mu.Lock()
				h.shelf.runs[here.ID()].BeatAt = time.Now().Add(-jump) // as it looks after the jump
				h.shelf.mu.Unlock()
				if n, err := h.EndStale(t.Context()); n != 1 || err != nil {
					t.Errorf("ended %d, %v", n, err)
				}
				if kept := h.shelf.of("p", "brief"); kept.Status != Interrupted || kept.Sentence != Crashed {
					t.Errorf("what was left is %s", kept.Status)
				}
				if got := watch(t.Context(), here); got != "text:a done" {
					t.Errorf("got %q", got)
				}
				h.drain(t)
				if kept := h.shelf.of("q", "brief"); kept.Status != Done {
					t.Errorf("kept as %s", kept.Status)
				}
			})
		})
	}
}
