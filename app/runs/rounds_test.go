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

	"pgregory.net/rapid"

	"bio/agent"
)

// several opens an instance with agents called a, b, c, …, each of which takes ten
// seconds, and returns what gets its turn, in order.
func several(agents int, change func(*Options)) (h *house, turns func() []string) {
	var mu sync.Mutex
	var all []string
	h = open(patient, func(o *Options) {
		o.Agents = nil
		for i := range agents {
			name := string(rune('a' + i))
			o.Agents = append(o.Agents, agent.Named{Name: name, Agent: agent.Reply(func(_ context.Context, in *agent.Input) (string, error) {
				mu.Lock()
				all = append(all, in.User.ID+name)
				mu.Unlock()
				time.Sleep(10 * time.Second)
				return "", nil
			})})
		}
		o.Max, o.Queue, o.Timeout = 1, 8, time.Hour
		change(o)
	})
	return h, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// told is what the viewers of a run are told, now.
func told(run *Run) string {
	v := run.join(make(chan struct{}, 1))
	return strings.TrimPrefix(words(run.next(&v)), "status:")
}

// People take turns, each as they came, and the place that is shown is true.
func TestRounds(t *testing.T) {
	for name, test := range map[string]struct {
		asks string // person and agent; -pa stops that; a point is ten seconds
		want string // the turns
		said string // of the last that was asked for
	}{
		"in order":                  {"xa pa qa ra", "xa pa qa ra", "Waiting: 2 runs before this one."},
		"next":                      {"xa pa", "xa pa", "Waiting: you are next."},
		"in turns":                  {"xa pa pb pc qa qb ra", "xa pa qa ra pb qb pc", "Waiting: 2 runs before this one."},
		"one of one's own":          {"xa pa pb", "xa pa pb", "Waiting: 1 run before this one."},
		"again and again":           {"xa pa pb qa . . qb", "xa pa qa pb qb", "Waiting: 1 run before this one."},
		"new people hold up nobody": {"xa pa pb qa . ra . sa", "xa pa qa pb ra sa", "Waiting: 2 runs before this one."},
		"before the seconds":        {"xa pa qa qb pb . . ra", "xa pa qa pb qb ra", "Waiting: 2 runs before this one."},
		"a second asked first":      {"xa pa qa qb pb . rb", "xa pa qa pb rb qb", "Waiting: 2 runs before this one."},
		"one's next takes a place":  {"xa pa pb pc qa -pa qb", "xa pb qa pc qb", "Waiting: 3 runs before this one."},
		"the last leaves":           {"xa pa pb qa -pb pb", "xa pa qa pb", "Waiting: 2 runs before this one."},
		"all leave":                 {"xa pa pb qa qb -pa -pb pa", "xa qa pa qb", "Waiting: 1 run before this one."},
		"a queue that was empty":    {"xa pa pb pc . . . qa pa", "xa pa pb pc qa pa", "Waiting: 1 run before this one."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, turns := several(3, func(*Options) {})
				last := ""
				for _, ask := range strings.Fields(test.asks) {
					if ask == "." {
						time.Sleep(10 * time.Second)
					} else if id, stop := strings.CutPrefix(ask, "-"); stop {
						h.active[place{id[:1], id[1:]}].interrupt(errStopped)
					} else {
						run := h.Start(person(ask[:1]), Ask{Agent: ask[1:]})[0].Run
						last = told(run)
					}
					synctest.Wait()
				}
				time.Sleep(time.Hour)
				if got := strings.Join(turns(), " "); got != test.want || last != test.said {
					t.Errorf("got %s, %q", got, last)
				}
				if len(h.waits) != 0 || len(h.queue) != 0 {
					t.Errorf("%v %d are held", h.waits, len(h.queue))
				}
				h.drain(t)
			})
		})
	}
}

// Few people with many agents leave room for everybody else.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const agents, people = 8, 7
		h, turns := several(agents, func(o *Options) { o.Max, o.Queue = 2, 8 })
		for n := range people {
			h.Start(person(fmt.Sprint(n)), Ask{})
		}
		late := h.Start(person("late"), Ask{})
		if got, want := told(late[0].Run), fmt.Sprintf("Waiting: %d runs before this one.", people); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if _, sentence := h.Start(person("too much"), Ask{})[0].Final(); !strings.HasPrefix(sentence, "Too much is running") {
			t.Errorf("the ninth: %q", sentence)
		}
		// Who waits already may ask for more.
		late[7].interrupt(errStopped)
		synctest.Wait()
		if again := h.Start(person("late"), Ask{Agent: "h"})[0]; again.Run == late[7].Run || again.Status() != Running {
			t.Error("who waits has to wait with that")
		}
		time.Sleep(45 * time.Second)
		if !slices.Contains(turns(), "latea") {
			t.Errorf("it had no turn: %q", turns())
		}
		h.drain(t)
	})
}

// Who waits with several agents is as patient as a full queue of such people takes.
func TestPatienceWithSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) {
			o.Agents = append(o.Agents, agent.Named{Name: "b", Agent: patient}, agent.Named{Name: "c", Agent: patient})
			o.Max, o.Queue = 1, 1
		})
		h.begin("p")
		start := time.Now()
		run := h.Start(person("q"), Ask{})[2].Run
		if got := watch(t.Context(), run); !strings.HasSuffix(got, Failed) || time.Since(start) != 4*time.Minute {
			t.Errorf("%q after %v", got, time.Since(start))
		}
		close(release)
		h.drain(t)
	})
}

func TestCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) {
			o.Agents = append(o.Agents, agent.Named{Name: "quick", Agent: says(nil)})
			o.Max = 2
		})
		check := func(when string, want [4]int) {
			t.Helper()
			synctest.Wait()
			var got [4]int
			got[0], got[1] = h.Count("brief")
			got[2], got[3] = h.Count("quick")
			if got != want {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		check("at first", [4]int{})
		h.begin("p")
		h.begin("q")
		h.begin("r")
		h.Start(person("s"), Ask{})
		check("all asked", [4]int{2, 2, 0, 1})
		h.Forget("r")
		check("one left", [4]int{2, 1, 0, 1})
		h.Forget("p")
		check("one ended, and holds its turn", [4]int{2, 1, 0, 1})
		close(release)
		check("all let go", [4]int{})
		if working, waiting := h.Count("unknown"); working != 0 || waiting != 0 {
			t.Error("an agent that is unknown has runs")
		}
		h.drain(t)
	})
}

// Whoever comes and goes, the firsts of all people are before their seconds, and so
// on, and everything that counts the queue agrees.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(patient, func(o *Options) { o.Max = 2 })
		for name := range 4 {
			h.counts[fmt.Sprint(name)] = new(count)
		}
		var all []*Run
		id := 0
		rt.Repeat(map[string]func(*rapid.T){
			"enter": func(rt *rapid.T) {
				at := place{rapid.SampledFrom([]string{"p", "q", "r"}).Draw(rt, "user"), fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "agent"))}
				if slices.ContainsFunc(all, func(run *Run) bool { return run.at == at }) {
					return
				}
				id++
				run := newRun(h.Runs, fmt.Sprint(id), at, "")
				all = append(all, run)
				h.enter(run)
			},
			"leave": func(rt *rapid.T) {
				if len(all) == 0 {
					return
				}
				i := rapid.IntRange(0, len(all)-1).Draw(rt, "run")
				h.leave(all[i])
				all = slices.Delete(all, i, i+1)
			},
			"": func(rt *rapid.T) {
				if h.busy != min(len(all), 2) || h.busy+len(h.queue) != len(all) {
					rt.Fatalf("%d busy and %d wait of %d", h.busy, len(h.queue), len(all))
				}
				waits, working, waiting := map[string]int{}, 0, 0
				for i, run := range h.queue {
					if i > 0 && h.queue[i-1].rank > run.rank || run.rank != waits[run.at.user] {
						rt.Fatalf("the %d-th is of rank %d", i, run.rank)
					}
					waits[run.at.user]++
					if !run.waiting || run.before != i {
						rt.Fatalf("the %d-th was told %d", i, run.before)
					}
				}
				for _, c := range h.counts {
					working, waiting = working+c.working, waiting+c.waiting
				}
				if fmt.Sprint(waits) != fmt.Sprint(h.waits) || working != h.busy || waiting != len(h.queue) {
					rt.Fatalf("%v wait, %v are counted; %d work, %d wait", waits, h.waits, working, waiting)
				}
			},
		})
	})
}
