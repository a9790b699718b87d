package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"bio/agent"
)

// The end of a run depends on what its agent says, not on who looks at it, nor on
// how often it is kept.
func TestLookingCutsNothing(t *testing.T) {
	const pieces = 4000 // at 200 a second
	var want strings.Builder
	for n := range pieces {
		fmt.Fprint(&want, n, " é ")
	}
	for _, viewers := range []int{0, 10} {
		t.Run(fmt.Sprint(viewers, " viewers"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
					for n := range pieces {
						if err := emit(agent.Event{Text: fmt.Sprint(n, " é ")}); err != nil {
							return err
						}
						time.Sleep(5 * time.Millisecond)
					}
					return emit(status("…"))
				}), func(o *Options) { o.MaxEvents = 1 })
				run := h.begin("p")
				var wg sync.WaitGroup
				for n := range viewers {
					wg.Go(func() {
						time.Sleep(time.Duration(n) * 7 * time.Millisecond)
						if got := watch(t.Context(), run); got != "text:"+want.String()+" status:… done" {
							t.Errorf("viewer %d saw %d bytes: … %s", n, len(got), got[max(0, len(got)-100):])
						}
					})
				}
				wg.Wait()
				h.drain(t)
				if got := watch(t.Context(), run); got != "text:"+want.String()+" status:… done" {
					t.Errorf("replayed %d bytes: … %s", len(got), got[max(0, len(got)-100):])
				}
				// Each time it was kept, and each KiB, made one.
				kept := h.shelf.of("p", "brief")
				if most := h.shelf.count("keep") + want.Len()/(joinBytes/2) + 2; len(kept.events) > most {
					t.Errorf("%d events, more than %d", len(kept.events), most)
				}
				if words(kept.events) != "text:"+want.String()+" status:…" {
					t.Error("something else was kept")
				}
			})
		})
	}
}

// Whatever the order of what is said, seen and kept: every viewer and the store get
// all of it once, and what was given never changes.
func TestOpenText(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(patient, func(o *Options) { o.MaxEvents, o.MaxBytes = 1<<20, 1<<20 })
		run := newRun(h.Runs, "1", place{"p", "brief"}, "")
		type reader struct {
			view
			given [][]agent.Event
			was   []string
		}
		readers := make([]reader, 3)
		for i := range readers {
			readers[i].view = run.join(make(chan struct{}, 1))
		}
		var said, kept []agent.Event
		keptWas := ""
		look := func(r *reader) {
			fresh := run.has(r.view)
			events := run.next(&r.view)
			if fresh != (len(events) > 0) {
				rt.Fatalf("something new: %v, but %d events", fresh, len(events))
			}
			r.given, r.was = append(r.given, events), append(r.was, words(events))
		}
		take := func() {
			kept = append(kept, run.take(len(kept))...)
			keptWas = words(kept)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"text": func(rt *rapid.T) {
				size := rapid.SampledFrom([]int{0, 1, 10, 300, joinBytes, 2 * joinBytes}).Draw(rt, "size")
				e := agent.Event{Text: strings.Repeat("é", (size+1)/2)}
				said = append(said, e)
				if err := run.add(e); err != nil {
					rt.Fatal(err)
				}
			},
			"status": func(rt *rapid.T) {
				e := status(fmt.Sprint(len(said)))
				said = append(said, e)
				if err := run.add(e); err != nil {
					rt.Fatal(err)
				}
			},
			"look": func(rt *rapid.T) { look(&readers[rapid.IntRange(0, 2).Draw(rt, "reader")]) },
			"take": func(*rapid.T) { take() },
			"": func(rt *rapid.T) {
				for i, r := range readers {
					for n, events := range r.given {
						if words(events) != r.was[n] {
							rt.Fatalf("what reader %d was given has changed", i)
						}
					}
				}
				if words(kept) != keptWas {
					rt.Fatal("what is kept has changed")
				}
				texts := 0
				for _, e := range run.events {
					if !utf8.ValidString(e.Text) {
						rt.Fatalf("%q was cut in two", e.Text)
					}
					if len(e.Text) > joinBytes && len(e.Text) != 2*joinBytes { // one that was said so
						rt.Fatalf("a text of %d bytes", len(e.Text))
					}
					if e.Kind == agent.Text {
						texts++
					}
				}
				if run.counted != len(run.events)-texts {
					rt.Fatalf("%d counted, of %d with %d texts", run.counted, len(run.events), texts)
				}
			},
		})
		for len(kept) < len(run.events) {
			take()
		}
		want := words(slices.DeleteFunc(said, func(e agent.Event) bool { return e.Kind == agent.Text && e.Text == "" }))
		if words(kept) != want {
			rt.Fatalf("kept %q, want %q", words(kept), want)
		}
		for i := range readers {
			look(&readers[i])
			if got := words(slices.Concat(readers[i].given...)); got != want {
				rt.Fatalf("reader %d saw %q, want %q", i, got, want)
			}
		}
	})
}

// A viewer is told when the last text has grown, even by one who does not read on.
func TestArmGrown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := newRun(h.Runs, "1", place{"p", "brief"}, "")
		bell := make(chan struct{}, 1)
		v := run.join(bell)
		_ = run.add(agent.Event{Text: "a"})
		run.next(&v)
		_ = run.add(agent.Event{Text: "b"})
		if run.arm(bell, v); len(bell) == 0 {
			t.Error("it does not ring")
		}
		if got := words(run.next(&v)); got != "text:b" || len(run.events) != 1 {
			t.Errorf("got %q, of %d events", got, len(run.events))
		}
		if run.arm(bell, v); run.armed != 1 {
			t.Error("it does not wait")
		}
		h.drain(t)
	})
}

// Nothing is nothing, however often it is said.
func TestEmptyText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, slices.Repeat([]string{""}, 5000)...))
		run := h.begin("p")
		if got := watch(t.Context(), run); got != "done without a word" {
			t.Errorf("got %q", got)
		}
		h.drain(t)
		if len(run.events) != 0 {
			t.Errorf("%d events", len(run.events))
		}
	})
}
