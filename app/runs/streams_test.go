package runs

import (
	"context"
	"testing"
	"testing/synctest"

	"bio/agent"
)

// A person follows so many streams at once: of more, the oldest ends and says so.
func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) {
			o.Agents = append(o.Agents, agent.Named{Name: "done", Agent: says(nil, "b")})
		})
		all := runsOf(h.Start(person("p"), Ask{}))
		other := h.begin("q")
		synctest.Wait()
		follow := func(ctx context.Context, all ...*Run) chan []string {
			seen := make(chan []string, 1)
			go func() {
				got := make([]string, len(all))
				for i, events := range Follow(ctx, all) {
					got[i] += words(events) + "|"
				}
				seen <- got
			}()
			synctest.Wait()
			return seen
		}
		ended := func(seen chan []string) bool { synctest.Wait(); return len(seen) > 0 }

		others := follow(t.Context(), other)
		first := follow(t.Context(), all...)
		// One that does not read: it holds up nobody, and ends when it goes on.
		stuck := make(chan struct{})
		var after []string
		over := make(chan struct{})
		go func() {
			for _, events := range Follow(t.Context(), all[:1]) {
				<-stuck
				after = append(after, words(events))
			}
			close(over)
		}()
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		var rest []chan []string
		for range maxStreams - 2 {
			rest = append(rest, follow(ctx, all...))
		}
		if ended(first) {
			t.Fatal("the first ended while there was room")
		}
		rest = append(rest, follow(ctx, all...))
		if !ended(first) {
			t.Fatal("the oldest goes on")
		}
		if got, want := <-first, "text:a|status:"+crowded+"|"; got[0] != want || got[1] != "text:b||" {
			t.Errorf("the oldest saw %q, want %q", got, want)
		}
		rest = append(rest, follow(ctx, all...))
		if ended(rest[0]) {
			t.Error("a third ended, though the second had to")
		}
		close(stuck)
		<-over
		if len(after) != 2 || after[1] != "status:"+crowded {
			t.Errorf("the one that did not read saw %q", after)
		}
		if n := len(h.streams["p"]); n != maxStreams {
			t.Errorf("%d streams are held", n)
		}
		leave()
		for _, seen := range rest {
			<-seen
		}
		again := follow(t.Context(), all...)
		if ended(others) || ended(again) || all[0].Status() != Running {
			t.Error("one ended that had room")
		}
		h.Forget("p")
		h.Forget("q")
		<-again
		<-others
		synctest.Wait()
		if len(h.streams) != 0 || len(all[0].viewers) != 0 {
			t.Errorf("%d people and %d viewers are held", len(h.streams), len(all[0].viewers))
		}
		h.drain(t)
	})
}

// A page of runs that have ended is whole, however many others are open.
func TestStreamOfEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, "a"))
		run := h.begin("p")
		h.drain(t)
		for range maxStreams {
			s := &stream{bell: make(chan struct{}, 1)}
			h.attend("p", s)
			defer h.dismiss("p", s)
		}
		var got []agent.Event
		for _, events := range Follow(t.Context(), []*Run{run}) {
			got = append(got, events...)
		}
		if words(got) != "text:a" {
			t.Errorf("got %q", words(got))
		}
	})
}
