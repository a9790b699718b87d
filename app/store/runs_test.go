package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
)

// runOf is a run that someone begins.
func runOf(userID, agentName, seed string) runs.Record {
	return runs.Record{ID: "run-" + seed, UserID: userID, Agent: agentName, Prompt: "why " + seed + "?", Status: runs.Running}
}

// started starts it, when nothing of its place is running.
func started(t testing.TB, db *DB, c *clock, r runs.Record) runs.Record {
	t.Helper()
	kept := must[runs.Record](t)(db.StartRun(t.Context(), r, c.Now().Add(-runs.Stale), r.Entry()))
	if kept.ID != r.ID {
		t.Fatalf("run %s is running", kept.ID)
	}
	return kept
}

// ended ends it as done.
func ended(t testing.TB, db *DB, r runs.Record, from int, events ...agent.Event) {
	t.Helper()
	r.Status = runs.Done
	if err := db.EndRun(t.Context(), r.ID, from, events, r.Status, "", r.Entry()); err != nil {
		t.Fatal(err)
	}
}

// everyKind has an event of each, with what a column might not take.
var everyKind = []agent.Event{
	{Text: "a\x00b 😀\n"}, {}, {Kind: agent.Status, Text: "Reading…"}, {Kind: agent.Data, Data: json.RawMessage(`{"a": [1, "\u0000"]}`)},
	{Kind: agent.View, View: runs.HTML("<b>\x00</b>")}, {Kind: agent.View, View: runs.HTML("")}, {Kind: agent.Approval, Text: "?"},
}

// shown are events as they can be compared.
func shown(t testing.TB, events []agent.Event) (all []string) {
	for _, e := range events {
		html := []byte(nil)
		if e.Kind == agent.View {
			html = must[[]byte](t)(agent.Render(t.Context(), e))
		}
		all = append(all, fmt.Sprintf("%s %q %s %q", e.Kind, e.Text, e.Data, html))
	}
	return all
}

func read(t testing.TB, db *DB, id string, from int) (runs.Record, []string) {
	t.Helper()
	r, events, err := db.RunEvents(t.Context(), id, from)
	if err != nil {
		t.Fatal(err)
	}
	return r, shown(t, events)
}

func TestRun(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User.ID
	size := must[int64](t)(db.TrailSize(ctx))
	c.Advance(time.Minute)
	began := c.Now()
	r := runOf(user, "brief", "1")
	entry := r.Entry()
	entry.Session, entry.Client = "session", passkeyAdded.Client
	want := r
	want.StartedAt, want.BeatAt = began, began
	r.StartedAt, r.Sentence, r.Events = epoch, "not yet", 9 // what a run that begins has not
	equal(t, must[runs.Record](t)(db.StartRun(ctx, r, began, entry)), want)

	all := shown(t, everyKind)
	c.Advance(time.Second)
	stop, err := db.KeepEvents(ctx, r.ID, 0, everyKind[:3])
	equal(t, []any{stop, err}, []any{false, error(nil)})
	c.Advance(time.Second)
	stop, err = db.KeepEvents(ctx, r.ID, 3, nil) // a beat
	equal(t, []any{stop, err}, []any{false, error(nil)})
	want.BeatAt, want.Events = c.Now(), 3
	for from := range 5 {
		got, events := read(t, db, r.ID, from)
		equal(t, got, want)
		equal(t, events, append([]string(nil), all[min(from, 3):3]...))
	}
	equal(t, must[[]runs.Record](t)(db.LastRuns(ctx, user)), []runs.Record{want})

	// What came twice stays as it was.
	stop, err = db.KeepEvents(ctx, r.ID, 2, append([]agent.Event{{Text: "another"}}, everyKind[3:5]...))
	equal(t, []any{stop, err}, []any{false, error(nil)})
	_, events := read(t, db, r.ID, 0)
	equal(t, events, all[:5])

	c.Advance(time.Second)
	want.Status, want.Sentence, want.EndedAt, want.BeatAt, want.Events = runs.Cut, "Cut here.", c.Now(), c.Now(), len(all)
	if err := db.EndRun(ctx, r.ID, 5, everyKind[5:], runs.Cut, "Cut here.", want.Entry()); err != nil {
		t.Fatal(err)
	}
	for from := range len(all) + 2 {
		got, events := read(t, db, r.ID, from)
		equal(t, got, want)
		equal(t, events, append([]string(nil), all[min(from, len(all)):]...))
	}
	detail := map[string]string{"agent": "brief", "run": r.ID}
	records := must[[]audit.Record](t)(db.Trail(ctx, user, 0, 2))
	equal(t, records, []audit.Record{
		{Index: size + 1, At: c.Now(), Kind: audit.RunEnded, Actor: user, Reason: runs.Cut, Detail: detail},
		{Index: size, At: began, Kind: audit.RunStarted, Actor: user, Session: audit.SessionRef("session"), Client: entry.Client, Detail: detail},
	})
	checkInvariants(t, db)

	// The next of the same agent takes its place; another agent's stays.
	other := started(t, db, c, runOf(user, "chat", "2"))
	next := started(t, db, c, runOf(user, "brief", "3"))
	all2 := must[[]runs.Record](t)(db.LastRuns(ctx, user))
	slices.SortFunc(all2, func(a, b runs.Record) int { return strings.Compare(a.ID, b.ID) })
	equal(t, all2, []runs.Record{other, next})
	_, _, err = db.RunEvents(ctx, r.ID, 0)
	wantErr(t, err, runs.ErrNone)
	equal(t, db.count(t, "SELECT count(*) FROM run_events"), 0)
	checkInvariants(t, db)
}

// A run that is running elsewhere is returned, and nothing is changed; one whose
// server is gone is ended and replaced.
func TestStartRunTwice(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User.ID
	first := started(t, db, c, runOf(user, "brief", "1"))
	c.Advance(runs.Stale)
	before := db.contents(t)
	second := runOf(user, "brief", "2")
	equal(t, must[runs.Record](t)(db.StartRun(ctx, second, c.Now().Add(-runs.Stale), second.Entry())), first)
	equal(t, db.contents(t), before)

	if _, err := db.KeepEvents(ctx, first.ID, 0, everyKind); err != nil {
		t.Fatal(err)
	}
	c.Advance(runs.Stale + time.Millisecond)
	equal(t, started(t, db, c, second).ID, second.ID)
	var got []string
	for _, r := range must[[]audit.Record](t)(db.Trail(ctx, user, 0, 3)) {
		got = append(got, fmt.Sprint(r.Kind, " ", r.Detail["run"], " ", r.Reason))
	}
	equal(t, got, []string{"run.started run-2 ", "run.ended run-1 interrupted", "run.started run-1 "})
	checkInvariants(t, db)

	// Whoever still has the first learns that it is over.
	_, err := db.KeepEvents(ctx, first.ID, 0, nil)
	wantErr(t, err, runs.ErrNone)
	checkInvariants(t, db)
}

func TestRunRefused(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user, other := register(t, db, c, "1").User.ID, register(t, db, c, "2").User.ID
	over, running := started(t, db, c, runOf(user, "brief", "over")), started(t, db, c, runOf(user, "chat", "running"))
	ended(t, db, over, 0, agent.Event{Text: "a"})
	end := func(r runs.Record) error {
		r.Status = runs.Done
		return db.EndRun(ctx, r.ID, 0, []agent.Event{{Text: "b"}}, r.Status, "", r.Entry())
	}
	keep := func(id string, events ...agent.Event) error {
		_, err := db.KeepEvents(ctx, id, 0, events)
		return err
	}
	unrendered := errors.New("a view that was not rendered")
	view := agent.Event{Kind: agent.View, View: brokenView{}}
	before := db.contents(t)
	for name, test := range map[string]struct {
		err  error
		want error
	}{
		"start: nobody's": {func() error {
			r := runOf("nobody", "brief", "3")
			_, err := db.StartRun(ctx, r, c.Now(), r.Entry())
			return err
		}(), runs.ErrNone},
		"keep: ended":           {keep(over.ID, agent.Event{Text: "b"}), runs.ErrNone},
		"keep: unknown":         {keep("unknown", agent.Event{Text: "b"}), runs.ErrNone},
		"keep: not rendered":    {keep(running.ID, agent.Event{Text: "b"}, view), unrendered},
		"end: ended":            {end(over), runs.ErrNone},
		"end: unknown":          {end(runOf(user, "brief", "unknown")), runs.ErrNone},
		"end: not rendered":     {db.EndRun(ctx, running.ID, 0, []agent.Event{view}, runs.Done, "", running.Entry()), unrendered},
		"stop: ended":           {db.AskToStop(ctx, user, over.ID), runs.ErrNone},
		"stop: unknown":         {db.AskToStop(ctx, user, "unknown"), runs.ErrNone},
		"stop: of someone else": {db.AskToStop(ctx, other, running.ID), runs.ErrNone},
		"events: unknown":       {func() error { _, _, err := db.RunEvents(ctx, "unknown", 0); return err }(), runs.ErrNone},
	} {
		if !errors.Is(test.err, test.want) && (test.want != unrendered || test.err == nil || !strings.Contains(test.err.Error(), unrendered.Error())) {
			t.Errorf("%s: got %v, want %v", name, test.err, test.want)
		}
	}
	equal(t, db.contents(t), before)
	equal(t, must[[]runs.Record](t)(db.LastRuns(ctx, other)), []runs.Record(nil))
	checkInvariants(t, db)
}

type brokenView struct{}

func (brokenView) Render(context.Context, io.Writer) error { return nil }

func TestAskToStop(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User.ID
	r, other := started(t, db, c, runOf(user, "brief", "1")), started(t, db, c, runOf(user, "chat", "2"))
	for range 2 {
		if err := db.AskToStop(ctx, user, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]bool{r.ID: true, other.ID: false} {
		stop, err := db.KeepEvents(ctx, id, 0, []agent.Event{{Text: "a"}})
		equal(t, []any{stop, err}, []any{want, error(nil)})
	}
	checkInvariants(t, db)
}

func TestInterruptRuns(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User.ID
	const stale = 2*expireBatch + 1
	for i := range stale {
		r := started(t, db, c, runOf(user, fmt.Sprint("agent-", i), fmt.Sprint(i)))
		if i%2 == 0 {
			if _, err := db.KeepEvents(ctx, r.ID, 0, []agent.Event{{Text: "so far"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	beat := c.Now()
	c.Advance(time.Millisecond)
	fresh := started(t, db, c, runOf(user, "fresh", "fresh"))
	over := started(t, db, c, runOf(user, "over", "over"))
	ended(t, db, over, 0)
	c.Advance(time.Minute)
	size := must[int64](t)(db.TrailSize(ctx))
	for _, want := range []int{stale, 0} {
		equal(t, must[int](t)(db.InterruptRuns(ctx, fresh.BeatAt, runs.Crashed)), want)
	}
	equal(t, must[int64](t)(db.TrailSize(ctx)), size+stale)
	for _, r := range must[[]runs.Record](t)(db.LastRuns(ctx, user)) {
		switch r.Agent {
		case "fresh":
			equal(t, r, fresh)
		case "over":
			equal(t, r.Status, runs.Done)
		default:
			equal(t, []any{r.Status, r.Sentence, r.BeatAt, r.EndedAt}, []any{runs.Interrupted, runs.Crashed, beat, c.Now()})
		}
	}
	checkInvariants(t, db)
}

// What any order of calls makes of the runs is what a map makes of them.
func TestRunsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		c := newClock()
		db, err := Open(t.Context(), "file:"+dir+"/bio.db", c.Now)
		if err != nil {
			rt.Fatal(err)
		}
		defer db.Close()
		ctx := t.Context()
		users := []string{register(t, db, c, "1").User.ID, register(t, db, c, "2").User.ID}
		type run struct {
			runs.Record
			texts []string
			stop  bool
		}
		places := map[string]*run{}
		fresh := 0
		// some draws a run that there is, or was, or never was.
		some := func() (string, *run) {
			id := fmt.Sprint("run-", rapid.IntRange(0, fresh).Draw(rt, "run"))
			for _, r := range places {
				if r.ID == id {
					return id, r
				}
			}
			return id, nil
		}
		texts := func() (events []agent.Event, texts []string) {
			for range rapid.IntRange(0, 3).Draw(rt, "events") {
				fresh++
				texts = append(texts, fmt.Sprint(fresh))
				events = append(events, agent.Event{Text: fmt.Sprint(fresh)})
			}
			return events, texts
		}
		is := func(err error, none bool) {
			if none != errors.Is(err, runs.ErrNone) || err != nil && !none {
				rt.Fatalf("got %v, want none %v", err, none)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"start": func(*rapid.T) {
				fresh++
				r := runOf(evenly(rt, "user", users), evenly(rt, "agent", []string{"brief", "chat"}), fmt.Sprint(fresh))
				kept, err := db.StartRun(ctx, r, c.Now().Add(-runs.Stale), r.Entry())
				if err != nil {
					rt.Fatal(err)
				}
				place := r.UserID + r.Agent
				if old := places[place]; old != nil && old.Status == runs.Running && c.Now().Sub(old.BeatAt) <= runs.Stale {
					r = old.Record
					r.Events = len(old.texts)
				} else {
					r.StartedAt, r.BeatAt = c.Now(), c.Now()
					places[place] = &run{Record: r}
				}
				if kept != r {
					rt.Fatalf("got %+v, want %+v", kept, r)
				}
			},
			"keep": func(*rapid.T) {
				id, r := some()
				events, texts := texts()
				from := 0
				if r != nil {
					from = len(r.texts)
				}
				stop, err := db.KeepEvents(ctx, id, from, events)
				gone := r == nil || r.Status != runs.Running
				is(err, gone)
				if gone {
					return
				}
				r.BeatAt, r.texts = c.Now(), append(r.texts, texts...)
				if stop != r.stop {
					rt.Fatalf("stop is %v", stop)
				}
			},
			"end": func(*rapid.T) {
				id, r := some()
				events, texts := texts()
				gone := r == nil || r.Status != runs.Running
				from, entry := 0, runOf("", "", "x").Entry()
				if r != nil {
					from = len(r.texts)
					is := r.Record
					is.Status = runs.Failed
					entry = is.Entry()
				}
				is(db.EndRun(ctx, id, from, events, runs.Failed, "So.", entry), gone)
				if !gone {
					r.Status, r.Sentence, r.BeatAt, r.EndedAt, r.texts = runs.Failed, "So.", c.Now(), c.Now(), append(r.texts, texts...)
				}
			},
			"stop": func(*rapid.T) {
				id, r := some()
				user := evenly(rt, "user", users)
				gone := r == nil || r.Status != runs.Running || r.UserID != user
				is(db.AskToStop(ctx, user, id), gone)
				if !gone {
					r.stop = true
				}
			},
			"interrupt": func(*rapid.T) {
				n, err := db.InterruptRuns(ctx, c.Now().Add(-runs.Stale), runs.Crashed)
				for _, r := range places {
					if r.Status == runs.Running && c.Now().Sub(r.BeatAt) > runs.Stale {
						r.Status, r.Sentence, r.EndedAt = runs.Interrupted, runs.Crashed, c.Now()
						n--
					}
				}
				if n != 0 || err != nil {
					rt.Fatalf("%d too many, %v", n, err)
				}
			},
			"wait": func(*rapid.T) { c.Advance(time.Duration(rapid.IntRange(1, 10).Draw(rt, "seconds")) * time.Second) },
			"": func(*rapid.T) {
				var got []runs.Record
				for _, user := range users {
					got = append(got, must[[]runs.Record](t)(db.LastRuns(ctx, user))...)
				}
				if len(got) != len(places) {
					rt.Fatalf("%d runs, want %d", len(got), len(places))
				}
				for _, r := range got {
					want := places[r.UserID+r.Agent]
					want.Events = len(want.texts)
					if r != want.Record {
						rt.Fatalf("got %+v, want %+v", r, want.Record)
					}
					_, events, err := db.RunEvents(ctx, r.ID, 0)
					var texts []string
					for _, e := range events {
						texts = append(texts, e.Text)
					}
					if err != nil || !slices.Equal(texts, want.texts) {
						rt.Fatalf("%q, %v, want %q", texts, err, want.texts)
					}
				}
				checkInvariants(rt, db)
			},
		})
	})
}

// instance is a server's runs on a database of its own.
func instance(t testing.TB, url string, now func() time.Time, agents map[string]agent.Agent) (*runs.Runs, *DB) {
	t.Helper()
	db := openAt(t, url, now)
	var named []agent.Named
	for _, name := range slices.Sorted(maps.Keys(agents)) {
		named = append(named, agent.Named{Name: name, Agent: agents[name]})
	}
	r := runs.New(runs.Options{
		Agents: named, Store: db, Memory: db.Memory, Timeout: time.Minute, Max: 8, MaxEvents: 4096, MaxBytes: 256 << 10, Keep: 8,
		Now: now, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { // before that of the database
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.Close(over)
	})
	return r, db
}

// seen is what a viewer sees of a run, to its end.
func seen(t testing.TB, run *runs.Run) string {
	var text strings.Builder
	for _, events := range runs.Follow(t.Context(), []*runs.Run{run}) {
		for _, e := range events {
			if e.Kind == agent.View {
				fmt.Fprintf(&text, "%s", e.View)
			} else if e.Kind != agent.Status {
				text.WriteString(e.Text + string(e.Data))
			}
		}
	}
	return text.String() + " " + run.Status()
}

// written waits until the end of a run, which its viewers see first, is kept.
func written(t testing.TB, db *DB, run *runs.Run) {
	t.Helper()
	for {
		r, _, err := db.RunEvents(t.Context(), run.ID(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != runs.Running {
			return
		}
		runtime.Gosched()
	}
}

// Two instances on one file have one run of each agent between them. Either shows
// it, and either stops it.
func TestTwoInstances(t *testing.T) {
	url := fileURL(t)
	asked := make(chan string)
	parts := make(chan string)
	agents := map[string]agent.Agent{
		"echo": agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
			for {
				select {
				case part, more := <-parts:
					if !more {
						return emit(agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"end": true}`)})
					}
					if err := emit(agent.Event{Text: part}); err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}),
		"notes": agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
			was, err := in.Memory.Get(ctx, "last")
			if err != nil && !errors.Is(err, agent.ErrNoMemory) {
				return err
			}
			if err := in.Memory.Put(ctx, "last", []byte(in.Prompt)); err != nil {
				return err
			}
			asked <- in.User.Name
			return emit(agent.Event{Text: "before: " + string(was)})
		}),
	}
	a, db := instance(t, url, time.Now, agents)
	b, _ := instance(t, url, time.Now, agents)
	r := registration("1", time.Now())
	u := must[account.User](t)(db.Register(t.Context(), r, registered("1")))
	user := agent.User{ID: u.ID, Name: u.Name}

	here := a.Start(user, runs.Ask{Agent: "echo", Prompt: "go on"})[0].Run
	parts <- "one "
	there := b.Start(user, runs.Ask{Agent: "echo"})[0].Run
	views := []*runs.Run{here, there, b.Last(t.Context(), u.ID)[0]}
	var wg sync.WaitGroup
	var saw [3]string
	first := make(chan struct{})
	for i, run := range views {
		wg.Go(func() { saw[i] = seen(t, run) })
	}
	go func() {
		for range runs.Follow(t.Context(), []*runs.Run{there}) {
			close(first)
			return
		}
	}()
	<-first // it has come across
	parts <- "two "
	close(parts)
	wg.Wait()
	for i, got := range saw {
		if got != `one two {"end": true} done` {
			t.Errorf("viewer %d saw %q", i, got)
		}
	}
	equal(t, []string{there.ID(), there.Prompt()}, []string{here.ID(), "go on"})

	// What an agent keeps, it has on the other one.
	for i, want := range []string{"before:  done", "before: first done"} {
		run := []*runs.Runs{a, b}[i].Start(user, runs.Ask{Agent: "notes", Prompt: []string{"first", "second"}[i]})[0].Run
		equal(t, <-asked, u.Name)
		equal(t, seen(t, run), want)
		written(t, db, run)
	}

	// Stopped from the other one.
	parts = make(chan string)
	again := a.Start(user, runs.Ask{Agent: "echo"})[0].Run
	parts <- "and "
	if err := b.Stop(t.Context(), u.ID, again.ID()); err != nil {
		t.Fatal(err)
	}
	equal(t, seen(t, again), "and  interrupted")
	equal(t, seen(t, b.Last(t.Context(), u.ID)[0]), "and  interrupted")
	wantErr(t, b.Stop(t.Context(), u.ID, again.ID()), runs.ErrNone)
	checkInvariants(t, db)

	// Gone with the account.
	erased(t, db, u.Name, audit.Entry{Kind: audit.Erased})
	a.Forget(u.ID)
	equal(t, len(a.Last(t.Context(), u.ID)), 0)
	orphan := b.Start(user, runs.Ask{Agent: "echo"})[0].Run
	equal(t, seen(t, orphan), " interrupted")
	checkInvariants(t, db)
}

// runChild runs an agent that says one thing and goes on, until it is killed.
func runChild(url, userID string) error {
	db, err := Open(context.Background(), url, time.Now)
	if err != nil {
		return err
	}
	r := runs.New(runs.Options{
		Agents: []agent.Named{{Name: "brief", Agent: agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
			fmt.Println("run", in.RunID)
			if err := emit(agent.Event{Text: "so far"}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})}},
		Store: db, Timeout: time.Hour, Max: 1, MaxEvents: 10, MaxBytes: 1000, Keep: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	r.Start(agent.User{ID: userID}, runs.Ask{Prompt: "why?"})
	select {}
}

// A run whose server was killed is shown as interrupted once its beat is stale,
// whoever looks, with what it had said; then it is ended.
func TestKillInTheMiddle(t *testing.T) {
	if url := os.Getenv("BIO_STORE_TEST_RUN"); url != "" {
		t.Fatal(runChild(url, os.Getenv("BIO_STORE_TEST_USER")))
	}
	url := fileURL(t)
	db := openAt(t, url, time.Now)
	u := must[account.User](t)(db.Register(t.Context(), registration("1", time.Now()), registered("1")))
	cmd := exec.Command(must[string](t)(os.Executable()), "-test.run=^TestKillInTheMiddle$")
	cmd.Env = append(os.Environ(), "BIO_STORE_TEST_RUN="+url, "BIO_STORE_TEST_USER="+u.ID)
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var id string
	for lines := bufio.NewScanner(out); id == "" && lines.Scan(); {
		id, _ = strings.CutPrefix(lines.Text(), "run ")
	}
	agents := map[string]agent.Agent{"brief": agent.Reply(func(context.Context, *agent.Input) (string, error) { return "again", nil })}
	now, _ := instance(t, url, time.Now, agents)
	run := now.Last(t.Context(), u.ID)[0]
	equal(t, []string{run.ID(), run.Status(), run.Prompt()}, []string{id, runs.Running, "why?"})
	for _, events := range runs.Follow(t.Context(), []*runs.Run{run}) {
		equal(t, shown(t, events), []string{`text "so far"  ""`})
		break
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	ahead := func() time.Time { return time.Now().Add(runs.Stale + 5*time.Second) }
	later, db2 := instance(t, url, ahead, agents)
	run = later.Last(t.Context(), u.ID)[0]
	_, sentence := run.Final()
	equal(t, []string{seen(t, run), sentence}, []string{"so far interrupted", runs.Crashed})
	equal(t, must[int](t)(db2.InterruptRuns(t.Context(), ahead().Add(-runs.Stale), runs.Crashed)), 1)
	equal(t, must[[]runs.Record](t)(db.LastRuns(t.Context(), u.ID))[0].Status, runs.Interrupted)
	equal(t, seen(t, now.Last(t.Context(), u.ID)[0]), "so far interrupted")
	checkInvariants(t, db)
	equal(t, seen(t, now.Start(agent.User{ID: u.ID}, runs.Ask{})[0].Run), "again done")
}
