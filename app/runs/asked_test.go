package runs

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who asks is told whether anything comes of it, wherever the run is that is in the
// way of it.
func TestTaken(t *testing.T) {
	ask := func(h *house, name, prompt string) Asked {
		return h.Start(person(name), Ask{Agent: "brief", Prompt: prompt})[0]
	}
	full := func(o *Options) { o.Max, o.Queue = 1, 1 }
	for name, test := range map[string]struct {
		change func(*Options)
		before func(t *testing.T, h, other *house)
		taken  bool
		prompt string // of the run
		status string // of it, then
	}{
		"the first": {taken: true, prompt: "second", status: Running},
		"one goes on here": {
			before: func(t *testing.T, h, _ *house) {
				if !ask(h, "p", "first").Taken(t.Context()) {
					t.Error("the first was not taken")
				}
			},
			prompt: "first", status: Running,
		},
		"one waits here": {
			change: full,
			before: func(_ *testing.T, h, _ *house) { ask(h, "q", "q"); ask(h, "p", "first") },
			prompt: "first", status: Running,
		},
		"one goes on elsewhere": {
			before: func(_ *testing.T, _, other *house) { ask(other, "p", "first") },
			prompt: "first", status: Running,
		},
		"one goes on elsewhere, and this would wait": {
			change: full,
			before: func(_ *testing.T, h, other *house) { ask(h, "q", "q"); ask(other, "p", "first") },
			prompt: "first", status: Running,
		},
		"this waits": {
			change: full,
			before: func(_ *testing.T, h, _ *house) { ask(h, "q", "q") },
			taken:  true, prompt: "second", status: Running,
		},
		"this waits, and the store is down": {
			change: full,
			before: func(_ *testing.T, h, _ *house) { ask(h, "q", "q"); h.shelf.down(time.Hour, "last") },
			taken:  true, prompt: "second", status: Running,
		},
		"one has ended": {
			before: func(t *testing.T, h, _ *house) { ask(h, "p", "first").interrupt(errStopped) },
			taken:  true, prompt: "second", status: Running,
		},
		"one has ended, and is not kept yet, and this waits": {
			change: func(o *Options) { o.Max, o.Queue = 2, 1 },
			before: func(t *testing.T, h, _ *house) {
				first := ask(h, "p", "first")
				synctest.Wait()
				h.shelf.delay("end", time.Second)
				first.interrupt(errStopped)
				synctest.Wait()
				ask(h, "q", "q")
				ask(h, "r", "r")
			},
			taken: true, prompt: "second", status: Running,
		},
		"one of a dead server, not known to be dead": {
			before: func(t *testing.T, h, _ *house) { crash(t, h.shelf) },
			prompt: "why?", status: Running,
		},
		"one of a dead server": {
			before: func(t *testing.T, h, _ *house) { crash(t, h.shelf); time.Sleep(Stale + time.Millisecond) },
			taken:  true, prompt: "second", status: Running,
		},
		"one of a dead server, and this waits": {
			change: full,
			before: func(t *testing.T, h, _ *house) {
				crash(t, h.shelf)
				time.Sleep(Stale + time.Millisecond)
				ask(h, "q", "q")
			},
			taken: true, prompt: "second", status: Running,
		},
		"refused": {
			change: func(o *Options) { o.Max, o.Queue = 1, 0 },
			before: func(_ *testing.T, h, _ *house) { ask(h, "q", "q") },
			taken:  true, prompt: "second", status: Failed,
		},
		"not written down": {
			before: func(_ *testing.T, h, _ *house) { h.shelf.down(time.Hour, "start") },
			taken:  true, prompt: "second", status: Failed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if test.change == nil {
					test.change = func(*Options) {}
				}
				h := open(patient, test.change)
				other := openAt(h.shelf, patient)
				if test.before != nil {
					test.before(t, h, other)
				}
				synctest.Wait()
				start := time.Now()
				asked := ask(h, "p", "second")
				taken := asked.Taken(t.Context())
				if taken != test.taken || asked.Prompt() != test.prompt || asked.Status() != test.status {
					t.Errorf("taken: %v, by a run for %q that is %s", taken, asked.Prompt(), asked.Status())
				}
				if !time.Now().Equal(start) {
					t.Errorf("known after %v", time.Since(start))
				}
				if asked.Taken(t.Context()) != taken {
					t.Error("another answer to the same question")
				}
				stop, cancel := context.WithCancel(t.Context())
				cancel()
				_, _ = h.Close(stop), other.Close(stop)
			})
		})
	}
}

// What was taken stays what was asked for: when another began elsewhere while it
// waited, it has an end of its own, and the other is shown.
func TestTakenThenNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(paced(time.Second, 3), func(o *Options) { o.Max, o.Queue = 1, 1 })
		other := openAt(h.shelf, paced(time.Second, 10))
		h.begin("q")
		synctest.Wait()
		asked := h.Start(person("p"), Ask{Prompt: "words"})[0]
		if !asked.Taken(t.Context()) {
			t.Error("what waits is not taken")
		}
		time.Sleep(time.Second)
		began := other.begin("p")
		if got := watch(t.Context(), asked.Run); !strings.HasSuffix(got, Failed) {
			t.Errorf("got %q", got)
		}
		if _, sentence := asked.Final(); !strings.HasPrefix(sentence, "This agent began something else for you") || asked.Prompt() != "words" {
			t.Errorf("%q, of %q", sentence, asked.Prompt())
		}
		synctest.Wait()
		if last := h.lastOf(t, "p"); last.ID() != began.ID() || last.Status() != Running {
			t.Errorf("%s is shown", last.Status())
		}
		h.drain(t)
		other.drain(t)
		if got := began.Status(); got != Done {
			t.Errorf("the other is %s", got)
		}
	})
}

// Who does not wait for the answer is not kept.
func TestTakenUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		h.shelf.delay("start", time.Second)
		asked := h.Start(person("p"), Ask{})[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		if !asked.Taken(ctx) || time.Since(start) != time.Millisecond {
			t.Errorf("after %v", time.Since(start))
		}
		asked.interrupt(errStopped)
		h.drain(t)
	})
}
