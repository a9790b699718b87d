package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/a-h/templ"

	"bio/agent"
	"bio/app/account"
	"bio/app/runs"
	"bio/app/store"
	"bio/views"
)

// workshop is the runtime of the agents by itself, over a real store.
type workshop struct {
	*runs.Runs
	ctx  context.Context
	db   *store.DB
	user agent.User
	say  func(yield func(agent.Event, error) bool) // what the next run does
}

// openWorkshop makes one for the person, bounded as the server's is but in
// bytes, so that a run can have as many events whatever they are.
func openWorkshop(ctx context.Context, in *inside, v *visitor) *workshop {
	w := &workshop{ctx: ctx, db: in.db, user: agent.User{ID: account.UserID(v.handle), Name: "bench"}}
	w.Runs = runs.New(runs.Options{
		Agents: []agent.Named{{Name: "bench", Agent: agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
			return w.say
		})}},
		Store: in.db, Memory: in.db.Memory, Timeout: time.Minute, Max: 1, MaxEvents: 4096, MaxBytes: 1 << 30, Keep: 1,
		Now: time.Now, Log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	return w
}

// run has a run say event n times to a viewer; a nil viewer is none. It returns how
// long that took, from its start until it has ended in the store and for its viewer.
func (w *workshop) run(event agent.Event, n int, viewer func(*runs.Run) error) (time.Duration, error) {
	w.say = func(yield func(agent.Event, error) bool) {
		for range n {
			if !yield(event, nil) {
				return
			}
		}
	}
	began := time.Now()
	run := w.Start(w.user, runs.Ask{})[0].Run
	var err error
	if viewer != nil {
		err = viewer(run)
	}
	err = errors.Join(err, w.Wait(w.ctx))
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, w.whole(run, event, n)
}

// whole shows that the run was kept with all its events. Pieces of text were joined.
func (w *workshop) whole(run *runs.Run, event agent.Event, n int) error {
	kept, events, err := w.db.RunEvents(w.ctx, run.ID(), 0)
	if err != nil {
		return err
	}
	said := 0
	for _, e := range events {
		said += len(e.Text)
	}
	if kept.Status != runs.Done || said != n*len(event.Text) || event.Kind != agent.Text && len(events) != n {
		return fmt.Errorf("a run of %d events of %s ended as %q with %d, %d bytes of text", n, event.Kind, kept.Status, len(events), said)
	}
	return nil
}

// followed takes the events as the page does, and drops them.
func (w *workshop) followed(run *runs.Run) error {
	for range runs.Follow(w.ctx, []*runs.Run{run}) {
	}
	return w.ctx.Err()
}

// rendered writes the page of the run to nowhere.
func (w *workshop) rendered(run *runs.Run) error {
	return views.HomePage(views.Home{Account: w.user.Name, Work: &views.Work{
		Runs:   []views.Run{{ID: run.ID(), Agent: run.Agent(), Status: run.Status(), Final: run.Final}},
		Events: runs.Follow(w.ctx, []*runs.Run{run}),
	}}).Render(w.ctx, io.Discard)
}

// events measures what an event costs the runtime, from the agent's yielding it
// to the store and to a viewer: a long run less an empty one, for each of its
// events.
func (b *bench) events() (err error) {
	const origin, n = "http://localhost:8080", 4000
	in, err := openInside(b.ctx, filepath.Join(b.dir, "events"), origin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.db.Close()) }()
	v, err := register(in, origin)
	if err != nil {
		return err
	}
	w := openWorkshop(b.ctx, in, v)
	defer func() { err = errors.Join(err, w.Close(b.ctx)) }()

	all := []struct {
		kind  string
		event agent.Event
	}{
		{"text", agent.Event{Text: "a few words of text, "}},
		{"status", agent.Event{Kind: agent.Status, Text: "Looking around…"}},
		{"data", agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"host":"web-1","load":0.7}`)}},
		{"view", agent.Event{Kind: agent.View, View: templ.Raw("<p>a part of the page</p>")}},
	}
	viewers := []func(*runs.Run) error{w.followed, nil, w.rendered}
	times := make([][]series, len(viewers)) // by viewer and kind
	var parts []func() error
	for i, viewer := range viewers {
		times[i] = make([]series, len(all))
		for j, e := range all {
			parts = append(parts, func() (err error) {
				// The first removes what was kept of the run before.
				var took [3]time.Duration
				for k, n := range []int{0, 0, n} {
					if took[k], err = w.run(e.event, n, viewer); err != nil {
						return err
					}
				}
				times[i][j].add([]time.Duration{(took[2] - took[1]) / n})
				return nil
			})
		}
	}
	if err := b.rounds(pick(b, 15, 3), parts...); err != nil {
		return err
	}
	show := func(times []series) (text string, most time.Duration) {
		for j, e := range all {
			each := times[j].median()
			text, most = text+fmt.Sprintf(", %s of %s", micro(each), e.kind), max(most, each)
		}
		return text[2:], most
	}
	text, most := show(times[0])
	b.add("the runtime's own cost of an event, from the agent to the store and a viewer", text, "< 5 µs", most < 5*time.Microsecond)
	text, _ = show(times[1])
	b.note("  without a viewer", "%s", text)
	text, _ = show(times[2])
	b.note("  to the store and the page that the viewer gets", "%s", text)
	return nil
}
