package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
	"bio/app/audit"
)

// house is Runs, an instance of its own, with what they reported.
type house struct {
	*Runs
	shelf *shelf
	log   bytes.Buffer
	mu    sync.Mutex
	told  []Life // guarded by mu: of beginnings, whose status is running, and of ends
}

// open opens an instance with one agent, called brief.
func open(a agent.Agent, change ...func(*Options)) *house { return openAt(newShelf(), a, change...) }

func openAt(s *shelf, a agent.Agent, change ...func(*Options)) *house {
	h := &house{shelf: s}
	tell := func(life Life) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, life)
	}
	o := Options{
		Agents: []Named{{"brief", a}}, Store: s, Timeout: time.Minute, Max: 4, Queue: 4, MaxEvents: 1000, MaxBytes: 1 << 16, Keep: 8,
		Now: time.Now, Log: slog.New(slog.NewJSONHandler(&h.log, nil)), Began: tell, Ended: tell,
	}
	for _, change := range change {
		change(&o)
	}
	h.Runs = New(o)
	return h
}

// drain closes the house, which waits for the reports.
func (h *house) drain(t *testing.T) {
	t.Helper()
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func person(name string) agent.User { return agent.User{ID: name, Name: name} }

// begin starts a run of brief.
func (h *house) begin(name string) *Run { return h.Start(person(name), Ask{Agent: "brief"})[0] }

// lastOf is the last run of brief, or nil.
func (h *house) lastOf(t *testing.T, name string) *Run {
	for _, run := range h.Last(t.Context(), name) {
		if run.Agent() == "brief" {
			return run
		}
	}
	return nil
}

// words are events as a viewer sees them. Text joins.
func words(events []agent.Event) string {
	var out strings.Builder
	text := false
	for _, event := range events {
		if event.Kind == agent.Text && text {
			out.WriteString(event.Text)
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		fmt.Fprintf(&out, "%s:%s%s", event.Kind, event.Text, event.Data)
		if event.View != nil {
			_ = event.View.Render(context.Background(), &out)
		}
		text = event.Kind == agent.Text
	}
	return out.String()
}

// watch is what a viewer sees: kinds and texts, then how the run ended.
func watch(ctx context.Context, run *Run) string {
	var all []agent.Event
	for _, events := range Follow(ctx, []*Run{run}) {
		all = append(all, events...)
	}
	return strings.TrimPrefix(words(all)+" "+ending(run), " ")
}

// ending is how the run ended, and whether what is said of it fits.
func ending(run *Run) string {
	status, sentence := run.Final()
	if status == Done && sentence == "There was nothing to say." {
		return "done without a word"
	} else if (sentence == "") != (status == Running || status == Done) {
		return fmt.Sprintf("%q does not go with %q", sentence, status)
	}
	return status
}

// says emits texts and returns err.
func says(err error, texts ...string) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		for _, text := range texts {
			if err := emit(agent.Event{Text: text}); err != nil {
				return err
			}
		}
		return err
	})
}

// emits emits events.
func emits(events ...agent.Event) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		for _, event := range events {
			if err := emit(event); err != nil {
				return err
			}
		}
		return nil
	})
}

func status(text string) agent.Event { return agent.Event{Kind: agent.Status, Text: text} }
func data(text string) agent.Event {
	return agent.Event{Kind: agent.Data, Data: json.RawMessage(text)}
}

// deaf says a and then holds its goroutine, whatever happens, until let go.
func deaf(release <-chan struct{}) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		err := emit(agent.Event{Text: "a"})
		<-release
		return err
	})
}

// patient says a and waits for its context.
var patient = agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
	if err := emit(agent.Event{Text: "a"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
})

// component is a View that writes what it says, and returns or panics with err.
type component struct {
	html  string
	err   error
	panic bool
}

func (c component) Render(_ context.Context, w io.Writer) error {
	if _, err := io.WriteString(w, c.html); err != nil {
		return err
	}
	if c.panic {
		panic(c.err)
	}
	return c.err
}

func views(c component) agent.Event { return agent.Event{Kind: agent.View, View: c} }

func TestOutcomes(t *testing.T) {
	endless := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for yield(agent.Event{Text: "ab"}, nil) {
			}
		}
	})
	statuses := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for yield(status("…"), nil) {
			}
		}
	})
	huge := strings.Repeat("0123456789abcdef", 4<<10)
	for name, test := range map[string]struct {
		agent  agent.Agent
		change func(*Options)
		want   string
		log    string // of the error
		view   string // the error of a view in the log
	}{
		"done":          {agent: says(nil, "a", "b"), want: "text:ab done"},
		"nothing":       {agent: says(nil), want: "done without a word"},
		"only a status": {agent: emits(status("…")), want: "status:… done without a word"},
		"kinds": {
			agent: emits(status("…"), data(`{"a":1}`), views(component{html: "<b>v</b>"}), agent.Event{Kind: agent.Approval, Text: "?"}),
			want:  `status:… data:{"a":1} view:<b>v</b> approval:? done`,
		},
		"what does not belong to its kind": {
			agent: emits(agent.Event{Text: "a", Data: json.RawMessage("{"), View: component{html: "x"}}, agent.Event{Kind: agent.Data, Data: json.RawMessage("1"), View: component{html: "x"}}),
			want:  "text:a data:1 done",
		},
		"error":           {agent: says(errors.New("broken"), "a"), want: "text:a failed", log: "broken"},
		"output too long": {agent: says(fmt.Errorf("program: %w", lines.ErrTooLong), "a"), want: "text:a cut", log: "program: " + lines.ErrTooLong.Error()},
		"panic":           {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { panic("broken") }), want: "failed", log: "agent: panic: broken"},
		"goroutine ended": {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { runtime.Goexit(); return "", nil }), want: "failed", log: errExit.Error()},
		"invalid event":   {agent: emits(agent.Event{Text: "a"}, agent.Event{Kind: agent.View}), want: "text:a failed", log: "agent: invalid event: view without a component"},
		"invalid UTF-8":   {agent: emits(agent.Event{Text: "a\xff\xfeb"}, data("\"\xff\""), views(component{html: "c\xff"})), want: "text:a\uFFFDb data:\"\uFFFD\" view:c\uFFFD done"},
		"deadline":        {agent: patient, change: func(o *Options) { o.Timeout = quiet / 2 }, want: "text:a failed", log: errDeadline.Error()},
		"too many events": {
			agent: statuses, change: func(o *Options) { o.MaxEvents = 3 },
			want: "status:… status:… status:… cut", log: errCut.Error(),
		},
		"pieces of text are few events": {
			agent: says(nil, strings.Split(strings.Repeat("ab,", 500), ",")...), change: func(o *Options) { o.MaxEvents = 4 },
			want: "text:" + strings.Repeat("ab", 500) + " done",
		},
		"too many bytes": {
			agent: endless, change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:ababa cut", log: errCut.Error(),
		},
		"just enough": {agent: says(nil, "ab", "cd"), change: func(o *Options) { o.MaxBytes, o.MaxEvents = 4, 1 }, want: "text:abcd done"},
		"too much at once": {
			agent: says(nil, strings.Repeat("é", 50<<20)), change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:éé cut", log: errCut.Error(),
		},
		"100 MiB": {
			agent: says(nil, slices.Repeat([]string{huge}, 1600)...), change: func(o *Options) { o.MaxBytes = 3 << 16 },
			want: "text:" + huge + huge + huge + " cut", log: errCut.Error(),
		},
		"too much data": {
			agent: emits(agent.Event{Text: "a"}, data(`"1234"`)), change: func(o *Options) { o.MaxBytes = 6 },
			want: "text:a cut", log: errCut.Error(),
		},
		"data that grows when mended": {
			agent: emits(data("\"\xffa\xffa\"")), change: func(o *Options) { o.MaxBytes = 6 },
			want: "cut", log: errCut.Error(),
		},
		"too much of a view": {
			agent: emits(views(component{html: "<b></b>"}), views(component{html: "<b></b>"})), change: func(o *Options) { o.MaxBytes = 13 },
			want: "view:<b></b> cut", log: errCut.Error(),
		},
		"a status is not cut in two": {
			agent: emits(status("abcdef")), change: func(o *Options) { o.MaxBytes = 3 },
			want: "cut", log: errCut.Error(),
		},
		"a view that fails": {
			agent: emits(views(component{html: "<p>secret", err: io.ErrShortWrite}), agent.Event{Text: "a"}),
			want:  "view:<p>This part could not be shown.</p> text:a done", view: io.ErrShortWrite.Error(),
		},
		"a view that panics": {
			agent: emits(views(component{html: "<p>secret", err: io.ErrShortWrite, panic: true})),
			want:  "view:<p>This part could not be shown.</p> done", view: "agent: panic: short write",
		},
		"a view without end": {
			agent: emits(views(component{html: strings.Repeat("a", agent.MaxView+1)})),
			want:  "view:<p>This part could not be shown.</p> done", view: "agent: invalid event: a view of more than 1048576 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(test.agent, func(o *Options) {
					if test.change != nil {
						test.change(o)
					}
				})
				run := h.Start(person("p"), Ask{Prompt: "a secret prompt"})[0]
				if got := watch(t.Context(), run); got != test.want {
					t.Errorf("got  %q\nwant %q", got, test.want)
				}
				if got := watch(t.Context(), run); got != test.want {
					t.Errorf("replayed %q\nwant %q", got, test.want)
				}
				h.drain(t)

				lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
				if test.view != "" {
					first := logged(t, lines[0])
					if first.Level != "WARN" || first.Run != run.ID() || first.Error != test.view || (first.Stack != "") != (name == "a view that panics") {
						t.Errorf("logged %s", lines[0])
					}
					lines = lines[1:]
				}
				if len(lines) != 1 {
					t.Fatalf("not one line:\n%s", h.log.String())
				}
				line := logged(t, lines[0])
				status := run.Status()
				level := "WARN"
				if status == Done {
					level = "INFO"
				}
				if line.Level != level || line.Agent != "brief" || line.Run != run.ID() || line.User != "p" || line.Status != status || line.Error != test.log || (line.Stack != "") != (name == "panic") {
					t.Errorf("logged %s", lines[0])
				}
				began := Life{ID: run.ID(), User: "p", Agent: "brief", Started: true, Status: Running}
				ended := began
				ended.Status, ended.Took = status, time.Duration(line.Ms*1e6)
				if want := []Life{began, ended}; !slices.Equal(h.told, want) {
					t.Errorf("told %+v, want %+v", h.told, want)
				}
				if strings.Contains(h.log.String(), "secret") {
					t.Error("the log has the prompt, or what was said")
				}

				kept := h.shelf.of("p", "brief")
				finalStatus, sentence := run.Final()
				if kept.ID != run.ID() || kept.Prompt != "a secret prompt" || kept.Status != finalStatus || kept.Sentence != sentence || kept.EndedAt.IsZero() {
					t.Errorf("kept %+v", kept.Record)
				}
				if got := strings.TrimPrefix(words(kept.events)+" "+ending(run), " "); got != test.want {
					t.Errorf("kept %q", got)
				}
				// Another instance shows the same.
				elsewhere := openAt(h.shelf, says(nil))
				if got := watch(t.Context(), elsewhere.lastOf(t, "p")); got != test.want {
					t.Errorf("elsewhere %q", got)
				}
				elsewhere.drain(t)
			})
		})
	}
}

type logLine struct {
	Level, Msg, Agent, Run, Status, User, Error, Stack string
	Ms                                                 float64
}

func logged(t *testing.T, text string) (line logLine) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return line
}

// What is told and recorded of runs, in order: a beginning and an end, for one that
// is refused only an end, and for one that is looked at again neither.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) { o.Max, o.Queue = 1, 0 })
		ask := Ask{Session: "session", Client: audit.Client{Browser: "Firefox"}}
		running := h.Start(person("p"), ask)[0]
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
			o.Agents = append(o.Agents, Named{"slow", patient}, Named{"a-1", says(nil, "a")})
			o.Timeout = 55 * time.Second
		})
		names := func(runs []*Run) (names []string) {
			for _, run := range runs {
				names = append(names, run.Agent())
			}
			return names
		}
		all := h.Start(person("p"), Ask{})
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
		again := h.Start(person("p"), Ask{})
		if again[0] == all[0] || again[1] == all[1] || again[2] == all[2] {
			t.Error("what has ended was not started again")
		}
		if one := h.Start(person("p"), Ask{Agent: "slow"}); len(one) != 1 || one[0] != again[1] {
			t.Error("what is running was started again")
		}
		if none := h.Start(person("p"), Ask{Agent: "nobody"}); len(none) != 0 {
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

// Sixteen viewers, some from the start, some late, some that leave, one that
// stands still: each sees all, in order, and none disturbs another.
func TestViewers(t *testing.T) {
	const events = 500
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			<-ready
			for n := range events {
				if err := emit(agent.Event{Text: fmt.Sprint(n, " ")}); err != nil {
					return err
				}
				runtime.Gosched()
			}
			return nil
		}))
		run := h.begin("p")
		var want strings.Builder
		for n := range events {
			fmt.Fprint(&want, n, " ")
		}
		var wg sync.WaitGroup
		still := make(chan struct{})
		for viewer := range 16 {
			wg.Go(func() {
				var got strings.Builder
				stood := viewer != 0
				for _, events := range Follow(t.Context(), []*Run{run}) {
					for _, event := range events {
						if event.Kind == agent.Text {
							got.WriteString(event.Text)
						}
					}
					if !stood {
						<-still
						stood = true
					}
					if viewer%4 == 3 {
						return
					}
				}
				if got.String() != want.String() {
					t.Errorf("viewer %d: %s", viewer, got.String())
				}
			})
		}
		synctest.Wait()
		close(ready)
		h.drain(t) // the run does not wait for the viewer that stands still
		close(still)
		wg.Wait()
		if len(run.viewers) != 0 || run.armed != 0 {
			t.Errorf("%d viewers are left, %d armed", len(run.viewers), run.armed)
		}
	})
}

// No event is missed between looking and waiting.
func TestArm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		for name, change := range map[string]func(*Run){
			"event": func(run *Run) { _ = run.add(status("…")) },
			"note":  func(run *Run) { run.queued(1) },
			"end":   func(run *Run) { run.settle(nil) },
		} {
			run := newRun(h.Runs, "1", place{"p", "brief"}, "")
			bell := make(chan struct{}, 1)
			v := run.join(bell)
			run.next(&v)
			change(run)
			if name != "end" && len(bell) > 0 {
				t.Errorf("%s: it rings for one who does not wait", name)
			}
			select {
			case <-bell:
			default:
			}
			run.arm(bell, v)
			if len(bell) == 0 {
				t.Errorf("%s: it does not ring", name)
			}
		}
		h.drain(t)
	})
}

func TestViewerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan string)
		go func() { seen <- watch(ctx, run) }()
		synctest.Wait()
		cancel()
		if got := <-seen; got != "text:a running" {
			t.Errorf("got %q", got)
		}
		for range Follow(ctx, []*Run{run}) {
			t.Error("an event for a viewer that is gone")
		}
		for range Follow(t.Context(), nil) {
			t.Error("an event of no run")
		}
		if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") {
			t.Errorf("got %q", got)
		}
		h.drain(t)
	})
}

// Events are given as they come, those that come close together at once.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for n, pause := range []time.Duration{5, 1, 20, 20, 20, 300, 47, 1, 10} {
				time.Sleep(pause * time.Millisecond)
				_ = emit(status(fmt.Sprint(n)))
			}
			return nil
		}))
		run := h.begin("p")
		start := time.Now()
		var got []string
		for _, events := range Follow(t.Context(), []*Run{run}) {
			got = append(got, fmt.Sprintf("%v %s", time.Since(start).Milliseconds(), words(events)))
		}
		want := []string{"5 status:0", "55 status:1 status:2 status:3", "105 status:4", "366 status:5", "416 status:6 status:7", "424 status:8", "424 "}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		h.drain(t)
	})
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			time.Sleep(15 * time.Second)
			_ = emit(status("Reading…"))
			time.Sleep(9 * time.Second)
			_ = emit(agent.Event{Text: "a"})
			time.Sleep(21 * time.Second)
			return nil
		}))
		run := h.begin("p")
		start := time.Now()
		var got []string
		for _, events := range Follow(t.Context(), []*Run{run}) {
			got = append(got, fmt.Sprintf("%v %s", time.Since(start), words(events)))
		}
		want := []string{"10s status:Still working…", "15s status:Reading…", "24s text:a", "34s status:Reading…", "44s status:Reading…", "45s "}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if got := watch(t.Context(), run); got != "status:Reading… text:a done" {
			t.Errorf("kept %q", got)
		}
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

// A run waits for its turn, and its viewers see how many are before it.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, in *agent.Input, emit func(agent.Event) error) error {
			_ = emit(agent.Event{Text: in.User.ID})
			time.Sleep(10*time.Second - time.Millisecond)
			return nil
		}), func(o *Options) { o.Max, o.Queue = 1, 3 })
		seen := map[string]chan string{}
		var waits []*Run
		for _, name := range []string{"a", "b", "c", "d"} {
			run := h.begin(name)
			if h.begin(name) != run || h.lastOf(t, name) != run {
				t.Errorf("%s does not wait as one", name)
			}
			waits = append(waits, run)
			seen[name] = make(chan string, 1)
			go func() { seen[name] <- watch(t.Context(), run) }()
			synctest.Wait()
		}
		busy := h.begin("e")
		_, sentence := outcome(errBusy)
		if got, said := busy.Final(); got != Failed || said != sentence || h.lastOf(t, "e") != busy {
			t.Errorf("beyond the queue: %s, %q", got, said)
		}
		if kept := h.shelf.of("b", "brief"); kept.ID != "" {
			t.Error("what waits is written down")
		}
		// c does not want to wait.
		if err := errors.Join(h.Stop(t.Context(), "c", waits[2].ID()), func() error {
			if err := h.Stop(t.Context(), "e", waits[3].ID()); err != ErrNone {
				return fmt.Errorf("stopped by another: %v", err)
			}
			return nil
		}()); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]string{
			"a": "text:a done",
			"b": "status:Waiting: you are next. status:Working… text:b done",
			"c": "status:Waiting: 1 before you. interrupted",
			"d": "status:Waiting: 2 before you. status:Waiting: 1 before you. status:Waiting: you are next. status:Working… text:d done",
		} {
			if got := <-seen[name]; got != want {
				t.Errorf("%s saw %q, want %q", name, got, want)
			}
		}
		if got := watch(t.Context(), waits[3]); got != "text:d done" {
			t.Errorf("kept %q", got)
		}
		h.drain(t)
		if n := h.shelf.count("start"); n != 3 {
			t.Errorf("%d were written down", n)
		}
	})
}

// Who waits longer than a full queue takes, waits for what does not let go.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) { o.Max, o.Queue = 2, 3 })
		h.begin("a")
		h.begin("b")
		start := time.Now()
		run := h.begin("c")
		if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") || time.Since(start) != 3*time.Minute {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		synctest.Wait()
		if len(h.queue) != 0 || h.busy != 2 {
			t.Errorf("%d wait, %d busy", len(h.queue), h.busy)
		}
		close(release)
		h.drain(t)
	})
}

// An agent that ignores its context ends for its viewers at the deadline, and
// still counts while it holds its goroutine.
func TestDeafAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) { o.Max, o.Queue = 2, 0 })
		p, q := h.begin("p"), h.begin("q")
		start := time.Now()
		for _, run := range []*Run{p, q} {
			if got := watch(t.Context(), run); !strings.HasSuffix(got, "failed") || time.Since(start) != time.Minute {
				t.Errorf("got %q after %v", got, time.Since(start))
			}
		}
		for name, cause := range map[string]error{"p": errHeld, "r": errBusy} {
			_, want := outcome(cause)
			run := h.begin(name)
			if status, sentence := run.Final(); status != Failed || sentence != want {
				t.Errorf("%s: %s %q", name, status, sentence)
			}
			if got := watch(t.Context(), run); got != "failed" {
				t.Errorf("%s: %q", name, got)
			}
		}
		synctest.Wait()
		if kept := h.shelf.of("p", "brief"); kept.Status != Failed {
			t.Errorf("the end is not kept: %q", kept.Status)
		}
		close(release)
		synctest.Wait()
		if got := watch(t.Context(), h.begin("r")); got != "text:a done" {
			t.Errorf("after they let go: %q", got)
		}
		h.drain(t)
		if got := watch(t.Context(), p); got != "text:a failed" {
			t.Errorf("the late return changed the run: %q", got)
		}
		if n := strings.Count(h.log.String(), "\n"); n != 5 {
			t.Errorf("%d log lines:\n%s", n, h.log.String())
		}
	})
}

// A refusal is the last run, until there is a later one.
func TestRefusalIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) { o.Max, o.Queue = 1, 0 })
		elsewhere := openAt(h.shelf, says(nil, "b"))
		watch(t.Context(), elsewhere.begin("p"))
		h.begin("q")
		time.Sleep(time.Second)
		refused := h.begin("p")
		if h.lastOf(t, "p") != refused {
			t.Error("the run before it is shown")
		}
		// What waits here is shown, whatever goes on elsewhere meanwhile.
		h.options.Queue = 1
		waits := h.begin("w")
		time.Sleep(time.Second)
		watch(t.Context(), elsewhere.begin("w"))
		if h.lastOf(t, "w") != waits {
			t.Error("what waits is not shown")
		}
		time.Sleep(time.Second)
		if got := elsewhere.lastOf(t, "p").Status(); got != Done {
			t.Errorf("elsewhere it is %s", got)
		}
		watch(t.Context(), elsewhere.begin("p"))
		synctest.Wait()
		if got := watch(t.Context(), h.lastOf(t, "p")); got != "text:b done" {
			t.Errorf("got %q", got)
		}
		elsewhere.drain(t)
		h.drain(t)
	})
}

// An agent that is cut and does not return ends for its viewers at once.
func TestDeafToTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for emit(status("a")) == nil {
			}
			if ctx.Err() == nil {
				t.Error("the context goes on after the cut")
			}
			<-release
			return nil
		}), func(o *Options) { o.MaxEvents = 1 })
		start := time.Now()
		if got := watch(t.Context(), h.begin("p")); got != "status:a cut" || time.Since(start) != 0 {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		close(release)
		h.drain(t)
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		synctest.Wait()
		for _, user := range []string{"q", ""} {
			if err := h.Stop(t.Context(), user, run.ID()); err != ErrNone {
				t.Errorf("stopped by %q: %v", user, err)
			}
		}
		if err := h.Stop(t.Context(), "p", run.ID()); err != nil {
			t.Error(err)
		}
		if status, sentence := run.Final(); status != Interrupted || sentence != "Stopped." {
			t.Errorf("%s, %q", status, sentence)
		}
		if got := watch(t.Context(), run); got != "text:a interrupted" {
			t.Errorf("got %q", got)
		}
		synctest.Wait()
		if err := h.Stop(t.Context(), "p", run.ID()); err != ErrNone {
			t.Errorf("stopped twice: %v", err)
		}
		h.drain(t)
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.begin("p")
		synctest.Wait()
		h.shelf.erase("p")
		h.Forget("p")
		h.Forget("nobody")
		if got := watch(t.Context(), run); got != "text:a interrupted" {
			t.Errorf("got %q", got)
		}
		if h.lastOf(t, "p") != nil {
			t.Error("the run is still there")
		}
		synctest.Wait()
		if h.lastOf(t, "p") != nil {
			t.Error("the run came back")
		}
		h.drain(t)
	})
}

func TestClose(t *testing.T) {
	for name, test := range map[string]struct {
		grace       time.Duration
		interrupted bool
	}{
		"enough time":     {2 * time.Minute, false},
		"too little time": {10 * time.Second, true},
		"no time":         {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				h := open(agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
					if in.User.ID == "deaf" {
						return errors.Join(emit(agent.Event{Text: "a"}), func() error { <-release; return nil }())
					}
					time.Sleep(30 * time.Second)
					return emit(agent.Event{Text: "a"})
				}), func(o *Options) { o.Max = 2 })
				slow, stuck := h.begin("slow"), h.begin("deaf")
				seen := make(chan string)
				go func() { seen <- watch(t.Context(), slow) }()
				synctest.Wait()
				waits := h.begin("waits")
				ctx, cancel := context.WithTimeout(t.Context(), test.grace)
				defer cancel()
				var wg sync.WaitGroup
				for range 2 { // Close may be called twice
					wg.Go(func() {
						if err := h.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					})
				}
				if test.grace > 0 {
					synctest.Wait()
					for _, run := range []*Run{waits, h.begin("late")} {
						if got := watch(t.Context(), run); got != Interrupted {
							t.Errorf("%s: %q", run.at.user, got)
						}
					}
				}
				wg.Wait()
				slowWant, stuckWant := "text:a done", Failed
				if test.interrupted {
					slowWant, stuckWant = Interrupted, Interrupted
				}
				got := strings.TrimSpace(strings.ReplaceAll(<-seen, "status:Still working…", ""))
				if got != slowWant || stuck.Status() != stuckWant {
					t.Errorf("slow %q, deaf %q", got, stuck.Status())
				}
				for _, run := range []*Run{slow, stuck} {
					if kept := h.shelf.of(run.at.user, "brief"); kept.Status != run.Status() {
						t.Errorf("%s is %s in the store", run.at.user, kept.Status)
					}
				}
				close(release)
				time.Sleep(time.Minute) // let the slow one see that it is over
			})
		})
	}
	t.Run("says what it interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := open(patient)
			h.begin("p")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(io.EOF)
			if err := h.Close(ctx); !errors.Is(err, io.EOF) || err.Error() != "runs: interrupted 1: EOF" {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(ctx context.Context, in *agent.Input, _ func(agent.Event) error) error {
			if in.User.ID == "slow" {
				<-ctx.Done()
			}
			return nil
		}), func(o *Options) { o.Keep = 2 })
		slow := h.begin("slow")
		runs := map[string]*Run{}
		for _, name := range []string{"a", "b", "c"} {
			runs[name] = h.begin(name)
			watch(t.Context(), runs[name])
			synctest.Wait()
		}
		if h.last[place{"a", "brief"}] != nil || h.last[place{"b", "brief"}] != nil {
			t.Error("too much is kept in memory")
		}
		if h.lastOf(t, "slow") != slow || h.lastOf(t, "c") != runs["c"] {
			t.Error("what runs, or was last, was forgotten")
		}
		// What memory has forgotten, the store knows.
		if a := h.lastOf(t, "a"); a == runs["a"] || a.ID() != runs["a"].ID() || a.Status() != Done {
			t.Error("not what the store has")
		}
		watch(t.Context(), slow)
		synctest.Wait()
		h.lastOf(t, "slow")
		watch(t.Context(), h.begin("d"))
		synctest.Wait()
		if h.recent.Len() != 2 || len(h.last) != 2 || len(h.active) != 0 || h.last[place{"slow", "brief"}] == nil {
			t.Errorf("%d, %d and %d are held", h.recent.Len(), len(h.last), len(h.active))
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

func TestEventsAreTheRunsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			buffer := json.RawMessage(`1`)
			err := emit(agent.Event{Kind: agent.Data, Data: buffer})
			buffer[0] = '2'
			return err
		}))
		run := h.begin("p")
		h.drain(t)
		if got := watch(t.Context(), run); got != "data:1 done" {
			t.Errorf("got %q", got)
		}
	})
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no time":       func(o *Options) { o.Timeout = 0 },
		"no store":      func(o *Options) { o.Store = nil },
		"no agents":     func(o *Options) { o.Agents = nil },
		"nil agent":     func(o *Options) { o.Agents = []Named{{"brief", nil}} },
		"no name":       func(o *Options) { o.Agents[0].Name = "" },
		"bad name":      func(o *Options) { o.Agents[0].Name = "Brief" },
		"bad inside":    func(o *Options) { o.Agents[0].Name = "br ief" },
		"long name":     func(o *Options) { o.Agents[0].Name = strings.Repeat("a", 33) },
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

func FuzzFit(f *testing.F) {
	for _, seed := range []string{"", "abc", "é€😀", "\xff\xfe", "a\xffa\xff", "\xe2\x82", strings.Repeat("\xff", 50), strings.Repeat("a\xff", 9)} {
		for _, room := range []uint8{0, 1, 2, 3, 4, 9, 200} {
			f.Add(seed, room)
		}
	}
	f.Fuzz(func(t *testing.T, text string, room uint8) {
		got, whole := fit(text, int(room))
		valid := strings.ToValidUTF8(text, "\uFFFD")
		if len(got) > int(room) || !utf8.ValidString(got) {
			t.Errorf("%q does not fit in %d", got, room)
		}
		if whole && got != valid || !whole && len(valid) <= int(room) && len(text) <= int(room)+2*utf8.UTFMax {
			t.Errorf("%q in %d: %q, whole %v", text, room, got, whole)
		}
		if !strings.HasPrefix(valid, got) {
			t.Errorf("%q is not how %q begins", got, valid)
		}
	})
}
