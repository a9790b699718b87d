package runs

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"bio/app/audit"
)

// What is told and recorded of runs, in order: a beginning and an end, for one that
// is refused only an end, and for one that is looked at again neither.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) { o.Max, o.Queue = 1, 0 })
		ask := Ask{Session: "session", Client: audit.Client{Browser: "Firefox"}}
		running := h.Start(person("p"), ask)[0].Run
		if h.begin("p") != running {
			t.Error("a second run beside the first")
		}
		synctest.Wait()
		busy := h.begin("q")
		h.Forget("p")
		synctest.Wait()
		h.drain(t)
		late := h.begin("r")
		want := []Life{
			{ID: running.ID(), User: "p", Agent: "brief", Started: true, Status: Running},
			{ID: busy.ID(), User: "q", Agent: "brief", Status: Failed},
			{ID: running.ID(), User: "p", Agent: "brief", Started: true, Status: Interrupted},
			{ID: late.ID(), User: "r", Agent: "brief", Status: Interrupted},
		}
		if !slices.Equal(h.told, want) {
			t.Errorf("told %+v, want %+v", h.told, want)
		}
		detail := map[string]string{"agent": "brief", "run": running.ID()}
		entries := []audit.Entry{
			{Kind: audit.RunStarted, Actor: "p", Session: "session", Client: ask.Client, Detail: detail},
			{Kind: audit.RunEnded, Actor: "p", Reason: Interrupted, Detail: detail},
		}
		if got := fmt.Sprintf("%+v", h.shelf.entries); got != fmt.Sprintf("%+v", entries) {
			t.Errorf("recorded %s\nwant %+v", got, entries)
		}
	})
}

// Runs that are ended from outside as they start are told of in order too.
func TestToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 200 {
					h.begin("p")
				}
			})
			wg.Go(func() {
				for range 200 {
					h.Forget("p")
					runtime.Gosched()
				}
			})
		}
		wg.Wait()
		h.Forget("p")
		h.drain(t)
		synctest.Wait()
		statuses := map[string][]string{}
		for _, life := range h.told {
			if life.Started {
				statuses[life.ID] = append(statuses[life.ID], life.Status)
			}
		}
		for id, got := range statuses {
			if !slices.Equal(got, []string{Running, Interrupted}) {
				t.Errorf("run %s: %q", id, got)
			}
		}
		if len(h.active) != 0 || h.busy != 0 || len(h.queue) != 0 {
			t.Errorf("%d active, %d busy, %d wait", len(h.active), h.busy, len(h.queue))
		}
	})
}
