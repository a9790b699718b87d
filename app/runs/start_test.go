package runs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
)

// drawer is a memory that knows whose it is.
type drawer struct {
	agent.Memory
	user, agent string
}

func TestInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got agent.Input
		h := open(agent.Reply(func(_ context.Context, in *agent.Input) (string, error) { got = *in; return "", nil }), func(o *Options) {
			o.Memory = func(user, agent string) agent.Memory { return drawer{nil, user, agent} }
		})
		ask := Ask{Agent: "brief", Prompt: "why\xff?", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
		run := h.Start(agent.User{ID: "p", Name: "cedar-otter-42", Groups: []string{"owner"}}, ask)[0]
		h.drain(t)
		if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(run.ID()) || run.Agent() != "brief" || run.Prompt() != "why\uFFFD?" {
			t.Errorf("id %q, agent %q, prompt %q", run.ID(), run.Agent(), run.Prompt())
		}
		if got.RunID != run.ID() || got.User.Name != "cedar-otter-42" || !slices.Equal(got.User.Groups, []string{"owner"}) ||
			got.Prompt != "why\uFFFD?" || got.TraceParent != ask.TraceParent || got.Memory != (drawer{nil, "p", "brief"}) {
			t.Errorf("input %+v", got)
		}
	})
}

// Several agents of one person run beside each other.
func TestAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, "b"), func(o *Options) {
			o.Agents = append(o.Agents, agent.Named{Name: "slow", Agent: patient}, agent.Named{Name: "a-1", Agent: says(nil, "a")})
			o.Timeout = 55 * time.Second
		})
		names := func(runs []*Run) (names []string) {
			for _, run := range runs {
				names = append(names, run.Agent())
			}
			return names
		}
		all := runsOf(h.Start(person("p"), Ask{}))
		if want := []string{"brief", "slow", "a-1"}; !slices.Equal(names(all), want) || !slices.Equal(names(h.Last(t.Context(), "p")), want) {
			t.Errorf("started %q, last %q", names(all), names(h.Last(t.Context(), "p")))
		}
		got := []string{"", "", ""}
		for i, events := range Follow(t.Context(), all) {
			if events == nil {
				got[i] += all[i].Status()
			}
			got[i] += words(events) + "|"
		}
		working := strings.Repeat("status:Still working…|", 5)
		if want := []string{"text:b|done|", "text:a|" + working + "failed|", "text:a|done|"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		synctest.Wait()
		again := runsOf(h.Start(person("p"), Ask{}))
		if again[0] == all[0] || again[1] == all[1] || again[2] == all[2] {
			t.Error("what has ended was not started again")
		}
		if one := runsOf(h.Start(person("p"), Ask{Agent: "slow"})); len(one) != 1 || one[0] != again[1] {
			t.Error("what is running was started again")
		}
		if none := runsOf(h.Start(person("p"), Ask{Agent: "nobody"})); len(none) != 0 {
			t.Errorf("started %q", names(none))
		}
		h.Forget("p")
		synctest.Wait()
		if last := h.Last(t.Context(), "p"); len(last) != 3 { // the store knows, until the account goes there
			t.Errorf("last %q", names(last))
		}
		h.shelf.erase("p")
		h.drain(t)
	})
}

func TestOnePerPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		h.shelf.delay("end", time.Second)
		first := h.begin("p")
		if again := h.begin("p"); again != first {
			t.Error("a second run beside the first")
		}
		if other := h.begin("q"); other == first {
			t.Error("two people share a run")
		}
		if h.lastOf(t, "p") != first || h.lastOf(t, "nobody") != nil {
			t.Error("Last is another run")
		}
		watch(t.Context(), first)
		synctest.Wait()
		next := h.begin("p") // while the end of the first is not yet in the store
		id := next.ID()
		if next == first || h.lastOf(t, "p") != next {
			t.Error("no new run after the first has ended")
		}
		synctest.Wait()
		if kept := h.shelf.of("p", "brief"); kept.ID != first.ID() || kept.Status != Running {
			t.Errorf("kept %+v", kept.Record)
		}
		time.Sleep(2 * time.Second)
		if kept := h.shelf.of("p", "brief"); kept.ID != id || next.ID() != id {
			t.Errorf("kept %+v", kept.Record)
		}
		h.drain(t)
	})
}

func TestStartFromManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(says(nil, "a", "b"), func(o *Options) { o.Max, o.Queue, o.Keep = 2, 3, 3 })
		var wg sync.WaitGroup
		for n := range 16 {
			wg.Go(func() {
				for range 50 {
					run := h.begin(fmt.Sprint(n % 8))
					watch(t.Context(), run)
					h.Last(t.Context(), fmt.Sprint(n%5))
					if n == 0 {
						h.Forget("1")
					}
					if n == 1 {
						_ = h.Stop(t.Context(), "2", run.ID())
					}
				}
			})
		}
		wg.Wait()
		h.drain(t)
		synctest.Wait()
		if len(h.active) != 0 || h.busy != 0 || len(h.queue) != 0 || h.recent.Len() > 3 || len(h.last) != h.recent.Len() {
			t.Errorf("%d active, %d busy, %d wait, %d and %d kept", len(h.active), h.busy, len(h.queue), h.recent.Len(), len(h.last))
		}
	})
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no time":       func(o *Options) { o.Timeout = 0 },
		"no store":      func(o *Options) { o.Store = nil },
		"no agents":     func(o *Options) { o.Agents = nil },
		"nil agent":     func(o *Options) { o.Agents = []agent.Named{{Name: "brief", Agent: nil}} },
		"no name":       func(o *Options) { o.Agents[0].Name = "" },
		"the same name": func(o *Options) { o.Agents = append(o.Agents, o.Agents[0]) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			open(patient, change)
		}()
	}
}
