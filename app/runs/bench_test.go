package runs

import (
	"context"
	"iter"
	"testing"
	"time"

	"bio/agent"
)

// BenchmarkEvent is what the runtime itself costs for an event, from the agent's
// yield to a viewer, with a store that costs nothing. An operation is one event;
// those of kind text are a few words, as of a model.
func BenchmarkEvent(b *testing.B) {
	const inRun = 4000
	for _, event := range []agent.Event{
		{Text: "a few words of text, "}, status("Looking around…"), data(`{"host":"web-1","load":0.7}`), views(component{html: "<p>a part of the page</p>"}),
	} {
		b.Run(event.Kind.String(), func(b *testing.B) {
			n := 0
			h := open(agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
				return func(yield func(agent.Event, error) bool) {
					for i := 0; i < inRun && n < b.N; i++ {
						n++
						yield(event, nil)
					}
				}
			}), func(o *Options) { o.Timeout, o.MaxEvents, o.MaxBytes = time.Hour, 1<<20, 1<<30 })
			b.ReportAllocs()
			b.ResetTimer()
			for n < b.N {
				run := h.begin("p")
				for range Follow(b.Context(), []*Run{run}) {
				}
				<-run.kept
			}
			b.StopTimer()
			if err := h.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}

// BenchmarkViewer is what a viewer costs who comes when all is there: an operation
// is a replay of 256 events.
func BenchmarkViewer(b *testing.B) {
	events := make([]agent.Event, 256)
	for i := range events {
		events[i] = status("Looking around…")
	}
	h := open(emits(events...))
	run := h.begin("p")
	<-run.kept
	b.ReportAllocs()
	for b.Loop() {
		for range Follow(b.Context(), []*Run{run}) {
		}
	}
	if err := h.Close(b.Context()); err != nil {
		b.Error(err)
	}
}
