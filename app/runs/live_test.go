package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// paced says a, b, c, … one every pause, so many.
func paced(pause time.Duration, n int) agent.Agent {
	return agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		for i := range n {
			if err := emit(agent.Event{Text: string(rune('a' + i))}); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
		return nil
	})
}

// A run is written down before its agent begins, its events every 250 ms while
// there are any, its beat at least every three seconds.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *house
		h = open(agent.Emit(func(_ context.Context, in *agent.Input, emit func(agent.Event) error) error {
			if kept := h.shelf.of("p", "brief"); kept.ID != in.RunID || kept.Status != Running {
				t.Errorf("not written down: %+v", kept.Record)
			}
			for range 100 {
				_ = emit(status("…"))
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(19900 * time.Millisecond)
			return emit(agent.Event{Text: "a"})
		}))
		run := h.begin("p")
		time.Sleep(1100 * time.Millisecond)
		if kept := h.shelf.of("p", "brief"); len(kept.events) != 100 || h.shelf.count("keep") != 4 {
			t.Errorf("%d events, in %d", len(kept.events), h.shelf.count("keep"))
		}
		for run.Status() == Running {
			if kept := h.shelf.of("p", "brief"); time.Since(kept.BeatAt) > 3*time.Second {
				t.Fatalf("the last beat was %v ago", time.Since(kept.BeatAt))
			}
			time.Sleep(100 * time.Millisecond)
		}
		h.drain(t)
		if kept := h.shelf.of("p", "brief"); len(kept.events) != 101 || kept.Status != Done || h.shelf.count("end") != 1 || h.shelf.count("keep") != 4+7 {
			t.Errorf("%s, %d events, in %d", kept.Status, len(kept.events), h.shelf.count("keep"))
		}
	})
}

// Many events at once are written in parts, so that others can write between.
func TestKeptInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(emits(slices.Repeat([]agent.Event{status("…")}, 2*keepMost+1)...))
		watch(t.Context(), h.begin("p"))
		h.drain(t)
		if kept := h.shelf.of("p", "brief"); len(kept.events) != 2*keepMost+1 || h.shelf.count("keep") != 2 {
			t.Errorf("%d events, in %d", len(kept.events), h.shelf.count("keep"))
		}
	})
}

// What a store that is down does to a run.
func TestStoreIsDown(t *testing.T) {
	for name, test := range map[string]struct {
		calls    []string
		down     time.Duration
		want     string // seen
		kept     string
		log      int // lines
		complain string
	}{
		"at the start":        {[]string{"start"}, time.Second, "failed", "", 2, "a run was not written down"},
		"in the middle":       {[]string{"keep"}, 4 * time.Second, "text:abcdefghij done", "text:abcdefghij done", 2, "the events of a run are not kept yet"},
		"at the end":          {[]string{"end"}, 19 * time.Second, "text:abcdefghij done", "text:abcdefghij done", 1, ""},
		"for too long":        {[]string{"end"}, time.Hour, "text:abcdefghij done", "text:abcdefghij running", 2, "the end of a run was not kept"},
		"for the whole run":   {[]string{"keep", "end"}, time.Hour, "text:abcdefghij done", "running", 3, "the events of a run are not kept yet"},
		"when it is shown":    {[]string{"last"}, time.Minute, "text:abcdefghij done", "text:abcdefghij done", 2, "the last runs are not known"},
		"and is never missed": {nil, 0, "text:abcdefghij done", "text:abcdefghij done", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(paced(time.Second, 10))
				h.shelf.down(test.down, test.calls...)
				run := h.begin("p")
				if h.lastOf(t, "p") != run {
					t.Error("memory has nothing")
				}
				if got := watch(t.Context(), run); got != test.want {
					t.Errorf("seen %q", got)
				}
				h.drain(t)
				kept := h.shelf.of("p", "brief")
				if got := strings.TrimPrefix(words(kept.events)+" "+kept.Status, " "); got != test.kept {
					t.Errorf("kept %q", got)
				}
				if got := strings.Count(h.log.String(), "\n"); got != test.log || !strings.Contains(h.log.String(), test.complain) {
					t.Errorf("%d lines:\n%s", got, h.log.String())
				}
				if n := len(h.told); n != 2 && name != "at the start" {
					t.Errorf("told %d", n)
				}
			})
		})
	}
}

// Close does not wait for a store that is down, whether a run ends by it or waits
// to be written already.
func TestCloseWhileDown(t *testing.T) {
	for name, test := range map[string]struct {
		agent agent.Agent
		want  string
		tries int
	}{
		"ended by it":    {patient, Interrupted, 1},
		"ended before":   {says(nil, "a"), Done, 2},
		"in a short run": {paced(500*time.Millisecond, 1), Done, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(test.agent)
				h.shelf.down(time.Hour, "end")
				run := h.begin("p")
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if err := h.Close(ctx); (err == nil) != (test.want == Done) || time.Since(start) != time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if run.Status() != test.want || h.shelf.count("end") != test.tries || !strings.Contains(h.log.String(), "the end of a run was not kept") {
					t.Errorf("%s, tried %d times\n%s", run.Status(), h.shelf.count("end"), h.log.String())
				}
			})
		})
	}
}

// A run is stopped before, while and after it is written down.
func TestStopAtTheStart(t *testing.T) {
	for after, want := range map[time.Duration]string{
		0:                      "",
		500 * time.Millisecond: Interrupted,
		2 * time.Second:        Interrupted,
	} {
		synctest.Test(t, func(t *testing.T) {
			ran := false
			h := open(agent.Emit(func(ctx context.Context, _ *agent.Input, _ func(agent.Event) error) error {
				ran = true
				<-ctx.Done()
				return ctx.Err()
			}))
			h.shelf.delay("start", time.Second)
			run := h.begin("p")
			if after == 0 { // before its goroutine was there
				run.interrupt(errStopped)
			}
			time.Sleep(after)
			if err := h.Stop(t.Context(), "p", run.ID()); (err == nil) == (after == 0) {
				t.Error(err)
			}
			h.drain(t)
			if got := watch(t.Context(), run); !strings.HasSuffix(got, Interrupted) {
				t.Errorf("got %q", got)
			}
			synctest.Wait()
			if ran != (after > time.Second) {
				t.Errorf("after %v: the agent ran: %v", after, ran)
			}
			if kept := h.shelf.of("p", "brief"); kept.Status != want && after > 0 {
				t.Errorf("after %v: kept %q", after, kept.Status)
			}
			if started, last := h.told[0].Started, h.told[len(h.told)-1]; started != last.Started || started && len(h.told) != 2 {
				t.Errorf("told %+v", h.told)
			}
		})
	}
}

// A run that was stopped before it turned out to be running elsewhere stays
// stopped, and the other one goes on.
func TestStopBeforeItMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(paced(time.Second, 10))
		b := openAt(a.shelf, patient)
		here := a.begin("p")
		synctest.Wait()
		a.shelf.delay("start", time.Second)
		run := b.begin("p")
		time.Sleep(500 * time.Millisecond)
		if err := b.Stop(t.Context(), "p", run.ID()); err != nil {
			t.Error(err)
		}
		b.drain(t)
		if want := []Life{{ID: run.ID(), User: "p", Agent: "brief", Status: Interrupted}}; !slices.Equal(b.told, want) {
			t.Errorf("told %+v", b.told)
		}
		if got := watch(t.Context(), run); got != Interrupted || run.ID() == here.ID() {
			t.Errorf("got %q", got)
		}
		if got := watch(t.Context(), here); got != "text:abcdefghij done" {
			t.Errorf("the other one %q", got)
		}
		a.drain(t)
	})
}

// Two instances of one installation: a run is one for both.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(paced(time.Second, 10))
		b := openAt(a.shelf, says(nil, "of b"))
		here := a.begin("p")
		time.Sleep(2500 * time.Millisecond)

		last := b.lastOf(t, "p")
		if last.ID() != here.ID() || last.Status() != Running {
			t.Errorf("b shows run %s, %s", last.ID(), last.Status())
		}
		second := b.begin("p")
		old := second.ID()
		synctest.Wait()
		if second.ID() != here.ID() {
			t.Error("b runs another")
		}
		var seen [3]chan string
		for i, run := range []*Run{here, last, second} {
			seen[i] = make(chan string, 1)
			go func() { seen[i] <- watch(t.Context(), run) }()
		}
		for i := range seen {
			if got := <-seen[i]; got != "text:abcdefghij done" {
				t.Errorf("viewer %d saw %q", i, got)
			}
		}
		if n := a.shelf.count("events"); n > 2*(7500/300+2) {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Minute)
		asked := a.shelf.count("events")
		if b.lastOf(t, "p") != second || watch(t.Context(), second) != "text:abcdefghij done" || a.shelf.count("events") != asked {
			t.Error("what b knows was asked for again")
		}
		if err := b.Stop(t.Context(), "p", old); err != ErrNone {
			t.Errorf("stopped after the end: %v", err)
		}
		if len(b.told) != 0 {
			t.Errorf("b was told of %+v", b.told)
		}

		// And back: b's run is a's last, also when b's clock is slow.
		third := b.begin("p")
		watch(t.Context(), third)
		synctest.Wait()
		a.shelf.runs[third.ID()].StartedAt = here.asked.Add(-time.Hour)
		if got := watch(t.Context(), a.lastOf(t, "p")); got != "text:of b done" {
			t.Errorf("a shows %q", got)
		}
		a.drain(t)
		b.drain(t)
	})
}

// Nobody asks while nobody looks, and who looks again sees what came meanwhile.
func TestElsewhereUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(paced(time.Second, 10))
		b := openAt(a.shelf, patient)
		a.begin("p")
		time.Sleep(1500 * time.Millisecond)
		run := b.lastOf(t, "p")
		ctx, leave := context.WithTimeout(t.Context(), 2*time.Second)
		if got := watch(ctx, run); !strings.HasPrefix(got, "text:ab") || !strings.HasSuffix(got, "running") {
			t.Errorf("got %q", got)
		}
		leave()
		time.Sleep(time.Second)
		asked := a.shelf.count("events")
		time.Sleep(time.Minute)
		if a.shelf.count("events") != asked {
			t.Error("someone asks")
		}
		if again := b.lastOf(t, "p"); again != run || again.Status() != Done {
			t.Errorf("%s", again.Status())
		}
		if got := watch(t.Context(), run); got != "text:abcdefghij done" {
			t.Errorf("got %q", got)
		}
		a.drain(t)
		b.drain(t)
	})
}

func TestStopElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(patient)
		b := openAt(a.shelf, patient)
		run := a.begin("p")
		synctest.Wait()
		second := b.begin("p")
		old := second.ID() // on a page of before it was known
		synctest.Wait()
		if err := b.Stop(t.Context(), "q", run.ID()); err != ErrNone {
			t.Errorf("stopped by another: %v", err)
		}
		start := time.Now()
		if err := b.Stop(t.Context(), "p", old); err != nil {
			t.Error(err)
		}
		if got := watch(t.Context(), run); got != "text:a interrupted" || time.Since(start) > 3*time.Second {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		if _, sentence := run.Final(); sentence != "Stopped." {
			t.Error(sentence)
		}
		if got := watch(t.Context(), second); got != "text:a interrupted" {
			t.Errorf("elsewhere %q", got)
		}
		a.drain(t)
		b.drain(t)
	})
}

// crash leaves a run whose server is gone.
func crash(t *testing.T, s *shelf) Record {
	t.Helper()
	r := Record{ID: "crashed", UserID: "p", Agent: "brief", Prompt: "why?", Status: Running}
	r, err := s.StartRun(t.Context(), r, time.Now(), r.Entry())
	if err == nil {
		_, err = s.KeepEvents(t.Context(), r.ID, 0, []agent.Event{{Text: "so far"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A run whose server is gone is shown as interrupted as soon as its beat is stale:
// to who looks on, to who comes later, and to who starts another.
func TestCrashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, "again"))
		crash(t, h.shelf)
		start := time.Now()
		run := h.lastOf(t, "p")
		if run.ID() != "crashed" || run.Prompt() != "why?" || run.Status() != Running {
			t.Errorf("%s %s", run.ID(), run.Status())
		}
		if got := watch(t.Context(), run); got != "text:so far status:Still working… interrupted" || time.Since(start) > Stale+askEvery {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		if _, sentence := run.Final(); sentence != Crashed {
			t.Error(sentence)
		}
		other := openAt(h.shelf, says(nil))
		if got := watch(t.Context(), other.lastOf(t, "p")); got != "text:so far interrupted" {
			t.Errorf("later %q", got)
		}
		if n, err := h.shelf.InterruptRuns(t.Context(), time.Now().Add(-Stale), Crashed); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if got := watch(t.Context(), other.lastOf(t, "p")); got != "text:so far interrupted" {
			t.Errorf("at last %q", got)
		}
		if got := watch(t.Context(), h.begin("p")); got != "text:again done" {
			t.Errorf("again %q", got)
		}
		h.drain(t)
		other.drain(t)
	})
}

// A server that was cut off from the store finds its run ended or replaced there,
// and stops it.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(patient)
		b := openAt(a.shelf, says(nil, "of b"))
		run := a.begin("p")
		synctest.Wait()
		a.shelf.down(20*time.Second, "keep")
		time.Sleep(18 * time.Second)
		if got := b.lastOf(t, "p").Status(); got != Interrupted {
			t.Errorf("b shows it %s", got)
		}
		if got := watch(t.Context(), b.begin("p")); got != "text:of b done" {
			t.Errorf("b runs %q", got)
		}
		if got := watch(t.Context(), run); !strings.HasSuffix(got, Interrupted) {
			t.Errorf("a goes on: %q", got)
		}
		if _, sentence := run.Final(); sentence != Crashed {
			t.Error(sentence)
		}
		synctest.Wait()
		if got := watch(t.Context(), a.lastOf(t, "p")); got != "text:of b done" {
			t.Errorf("a shows %q", got)
		}
		a.drain(t)
		b.drain(t)
	})
}

// A run that comes back, whose server was only cut off for a while, is shown again.
func TestFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(paced(2*time.Second, 26))
		b := openAt(a.shelf, patient)
		a.begin("p")
		time.Sleep(time.Second)
		run := b.lastOf(t, "p")
		a.shelf.down(20*time.Second, "keep")
		if got := watch(t.Context(), run); !strings.HasSuffix(got, Interrupted) {
			t.Errorf("got %q", got)
		}
		time.Sleep(10 * time.Second)
		if again := b.lastOf(t, "p"); again != run || run.Status() != Running {
			t.Errorf("it is %s", run.Status())
		}
		if got := watch(t.Context(), run); got != "text:abcdefghijklmnopqrstuvwxyz done" {
			t.Errorf("got %q", got)
		}
		a.drain(t)
		b.drain(t)
	})
}

// What ends the view of a run elsewhere, beside its end.
func TestElsewhereLost(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(t *testing.T, h *house)
		want string // how the sentence begins
		log  int
	}{
		"replaced or erased": {func(_ *testing.T, h *house) { h.shelf.erase("p") }, "There is a newer run.", 0},
		"no store":           {func(_ *testing.T, h *house) { h.shelf.down(time.Hour, "events") }, "This cannot be shown right now.", 1},
		"restart": {func(t *testing.T, h *house) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := h.Close(ctx); err != nil {
				t.Error(err)
			}
		}, "The server is restarting.", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := open(patient)
				b := openAt(a.shelf, patient)
				a.begin("p")
				synctest.Wait()
				run := b.lastOf(t, "p")
				seen := make(chan string)
				go func() { seen <- watch(t.Context(), run) }()
				time.Sleep(time.Second)
				test.act(t, b)
				if got := <-seen; !strings.HasPrefix(got, "text:a ") || !strings.HasSuffix(got, Interrupted) {
					t.Errorf("got %q", got)
				}
				if _, sentence := run.Final(); !strings.HasPrefix(sentence, test.want) {
					t.Error(sentence)
				}
				if n := strings.Count(b.log.String(), "\n"); n != test.log {
					t.Errorf("%d lines:\n%s", n, b.log.String())
				}
				if last := b.lastOf(t, "p"); last == run {
					t.Error("who looks later does not ask again")
				}
				a.drain(t)
				b.drain(t)
			})
		})
	}
}

// Two instances that start at once have one run between them, whatever the order.
func TestStartOnBoth(t *testing.T) {
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			a := open(paced(time.Second, 3))
			b := openAt(a.shelf, paced(time.Second, 3))
			one, two := a.begin("p"), b.begin("p")
			seen := make(chan string)
			for _, run := range []*Run{one, two} {
				go func() { seen <- watch(t.Context(), run) }()
			}
			for range 2 {
				if got := <-seen; got != "text:abc done" {
					t.Errorf("round %d: %q", round, got)
				}
			}
			a.drain(t)
			b.drain(t)
			if one.ID() != two.ID() || len(a.told)+len(b.told) != 2 {
				t.Errorf("round %d: two runs", round)
			}
			if n := len(a.shelf.entries); n != 2 {
				t.Errorf("round %d: %d entries", round, n)
			}
		})
	}
}

func TestErasedBeforeItIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		h.shelf.fail = func(call string) error {
			if call == "start" {
				return fmt.Errorf("store: %w", ErrNone)
			}
			return nil
		}
		run := h.begin("p")
		if got := watch(t.Context(), run); got != Interrupted {
			t.Errorf("got %q", got)
		}
		h.drain(t)
		if !errors.Is(run.why(), errRemoved) || strings.Contains(h.log.String(), "ERROR") {
			t.Errorf("%v\n%s", run.why(), h.log.String())
		}
	})
}

// Wait waits for the ends of the runs that go on to be written down, and for no
// others.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(paced(time.Second, 3))
		h.shelf.delay("end", time.Second)
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		run := h.begin("p")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in too short a time: %v", err)
		}
		if err := h.Wait(t.Context()); err != nil || h.shelf.of("p", "brief").Status != Done || run.Status() != Done {
			t.Errorf("%v, kept as %q", err, h.shelf.of("p", "brief").Status)
		}
	})
}
