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
)

// house is Runs with what they reported.
type house struct {
	*Runs
	log  bytes.Buffer
	mu   sync.Mutex
	told []Life // guarded by mu: of starts, whose status is running, and of ends
}

func open(a agent.Agent, change ...func(*Options)) *house {
	h := new(house)
	tell := func(life Life) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, life)
	}
	o := Options{
		Agent: a, Name: "brief", Timeout: time.Minute, Max: 4, MaxEvents: 1000, MaxBytes: 1 << 16, Keep: 8,
		Now: time.Now, Log: slog.New(slog.NewJSONHandler(&h.log, nil)), Started: tell, Ended: tell,
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

// view is what a viewer sees: kinds and texts, then how the run ended.
func view(ctx context.Context, run *Run) string {
	var out strings.Builder
	for event := range run.Events(ctx) {
		fmt.Fprintf(&out, "%s:%s%s ", event.Kind, event.Text, event.Data)
	}
	status, sentence := run.Final()
	if status == Done && sentence == "There was nothing to say." {
		status = "done without a word"
	} else if (sentence == "") != (status == Running || status == Done) {
		return fmt.Sprintf("%q does not go with %q", sentence, status)
	}
	return out.String() + status
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

// deaf says a and then holds its goroutine, whatever happens, until let go.
func deaf(release <-chan struct{}) agent.Agent {
	return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		err := emit(agent.Event{Text: "a"})
		<-release
		return err
	})
}

// component is a View that shows nothing.
type component struct{}

func (component) Render(context.Context, io.Writer) error { return nil }

// patient says a and waits for its context.
var patient = agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
	if err := emit(agent.Event{Text: "a"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
})

func TestOutcomes(t *testing.T) {
	data := func(text string) agent.Event { return agent.Event{Kind: agent.Data, Data: json.RawMessage(text)} }
	emits := func(events ...agent.Event) agent.Agent {
		return agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for _, event := range events {
				if err := emit(event); err != nil {
					return err
				}
			}
			return nil
		})
	}
	endless := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for yield(agent.Event{Text: "ab"}, nil) {
			}
		}
	})
	for name, test := range map[string]struct {
		agent  agent.Agent
		change func(*Options)
		want   string
		log    string // of the error
	}{
		"done":          {agent: says(nil, "a", "b"), want: "text:a text:b done"},
		"nothing":       {agent: says(nil), want: "done without a word"},
		"only a status": {agent: emits(agent.Event{Kind: agent.Status, Text: "…"}), want: "status:… done without a word"},
		"kinds": {
			agent: emits(agent.Event{Kind: agent.Status, Text: "…"}, data(`{"a":1}`), agent.Event{Kind: agent.View, View: component{}}, agent.Event{Kind: agent.Approval, Text: "?"}),
			want:  `status:… data:{"a":1} view: approval:? done`,
		},
		"error":           {agent: says(errors.New("broken"), "a"), want: "text:a failed", log: "broken"},
		"panic":           {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { panic("broken") }), want: "failed", log: "agent: panic: broken"},
		"goroutine ended": {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { runtime.Goexit(); return "", nil }), want: "failed", log: errExit.Error()},
		"invalid event":   {agent: emits(agent.Event{Text: "a"}, agent.Event{Kind: agent.View}), want: "text:a failed", log: "agent: invalid event: view without a component"},
		"invalid UTF-8":   {agent: emits(agent.Event{Text: "a\xff\xfeb"}, data("\"\xff\"")), want: "text:a\uFFFDb data:\"\uFFFD\" done"},
		"deadline":        {agent: patient, change: func(o *Options) { o.Timeout = quiet / 2 }, want: "text:a failed", log: errDeadline.Error()},
		"too many events": {
			agent: endless, change: func(o *Options) { o.MaxEvents = 3 },
			want: "text:ab text:ab text:ab cut", log: errCut.Error(),
		},
		"too many bytes": {
			agent: endless, change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:ab text:ab text:a cut", log: errCut.Error(),
		},
		"just enough": {agent: says(nil, "ab", "cd"), change: func(o *Options) { o.MaxBytes, o.MaxEvents = 4, 2 }, want: "text:ab text:cd done"},
		"too much at once": {
			agent: says(nil, strings.Repeat("é", 50<<20)), change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:éé cut", log: errCut.Error(),
		},
		"too much data": {
			agent: emits(agent.Event{Text: "a"}, data(`"1234"`)), change: func(o *Options) { o.MaxBytes = 6 },
			want: "text:a cut", log: errCut.Error(),
		},
		"data that grows when mended": {
			agent: emits(data("\"\xffa\xffa\"")), change: func(o *Options) { o.MaxBytes = 6 },
			want: "cut", log: errCut.Error(),
		},
		"a status is not cut in two": {
			agent: emits(agent.Event{Kind: agent.Status, Text: "abcdef"}), change: func(o *Options) { o.MaxBytes = 3 },
			want: "cut", log: errCut.Error(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(test.agent, func(o *Options) {
					if test.change != nil {
						test.change(o)
					}
				})
				run := h.Start(person("p"), "a secret prompt")
				if got := view(t.Context(), run); got != test.want {
					t.Errorf("got  %q\nwant %q", got, test.want)
				}
				if got := view(t.Context(), run); got != test.want {
					t.Errorf("replayed %q\nwant %q", got, test.want)
				}
				h.drain(t)

				var line struct {
					Level, Msg, Agent, Run, Status, User, Error, Stack string
					Ms                                                 float64
				}
				if err := json.Unmarshal(h.log.Bytes(), &line); err != nil {
					t.Fatalf("not one line: %v\n%s", err, h.log.String())
				}
				status := run.Status()
				level := "WARN"
				if status == Done {
					level = "INFO"
				}
				if line.Level != level || line.Agent != "brief" || line.Run != run.ID() || line.User != "p" || line.Status != status || line.Error != test.log || (line.Stack != "") != (name == "panic") {
					t.Errorf("logged %s", h.log.String())
				}
				began := Life{ID: run.ID(), User: "p", Agent: "brief", Started: true, Status: Running}
				ended := began
				ended.Status, ended.Took = status, time.Duration(line.Ms*1e6)
				if want := []Life{began, ended}; !slices.Equal(h.told, want) {
					t.Errorf("told %+v, want %+v", h.told, want)
				}
				if strings.Contains(h.log.String(), "secret") {
					t.Error("the log has the prompt")
				}
			})
		})
	}
}

// Every run is told of once when it starts and once when it ends, in that order;
// one that is refused has only an end, and one that is looked at again neither.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient, func(o *Options) { o.Max = 1 })
		running := h.Start(person("p"), "")
		if h.Start(person("p"), "") != running {
			t.Error("a second run beside the first")
		}
		busy := h.Start(person("q"), "")
		h.Forget("p")
		synctest.Wait()
		h.drain(t)
		late := h.Start(person("r"), "")
		want := []Life{
			{ID: running.ID(), User: "p", Agent: "brief", Started: true, Status: Running},
			{ID: busy.ID(), User: "q", Agent: "brief", Status: Failed},
			{ID: running.ID(), User: "p", Agent: "brief", Started: true, Status: Interrupted},
			{ID: late.ID(), User: "r", Agent: "brief", Status: Interrupted},
		}
		if !slices.Equal(h.told, want) {
			t.Errorf("told %+v, want %+v", h.told, want)
		}
	})
}

// Runs that are ended from outside as they start are told of in order too.
func TestToldInOrder(t *testing.T) {
	h := open(patient)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				h.Start(person("p"), "")
			}
		})
		wg.Go(func() {
			for range 200 {
				h.Forget("p")
			}
		})
	}
	wg.Wait()
	h.Forget("p")
	h.drain(t)
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
}

func TestRunIsNamed(t *testing.T) {
	var got agent.Input
	h := open(agent.Reply(func(_ context.Context, in *agent.Input) (string, error) { got = *in; return "", nil }))
	run := h.Start(agent.User{ID: "p", Name: "cedar-otter-42", Groups: []string{"owner"}}, "why?")
	h.drain(t)
	if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(run.ID()) || run.Agent() != "brief" {
		t.Errorf("id %q, agent %q", run.ID(), run.Agent())
	}
	if got.RunID != run.ID() || got.User.Name != "cedar-otter-42" || !slices.Equal(got.User.Groups, []string{"owner"}) || got.Prompt != "why?" {
		t.Errorf("input %+v", got)
	}
}

// Sixteen viewers, some from the start, some late, some that leave, one that
// stands still: each sees all, in order, and none disturbs another.
func TestViewers(t *testing.T) {
	const events = 500
	ready := make(chan struct{})
	h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		<-ready
		for n := range events {
			if err := emit(agent.Event{Text: fmt.Sprint(n)}); err != nil {
				return err
			}
			runtime.Gosched()
		}
		return nil
	}))
	run := h.Start(person("p"), "")
	var wg sync.WaitGroup
	still := make(chan struct{})
	for viewer := range 16 {
		wg.Go(func() {
			n := 0
			for event := range run.Events(t.Context()) {
				if event.Kind == agent.Status {
					continue
				}
				if event.Text != fmt.Sprint(n) {
					t.Errorf("viewer %d: event %d is %q", viewer, n, event.Text)
				}
				n++
				if viewer == 0 && n == 1 {
					<-still
				}
				if viewer%4 == 3 && n == 100 {
					return
				}
			}
			if n != events {
				t.Errorf("viewer %d: %d events", viewer, n)
			}
		})
	}
	close(ready)
	h.drain(t) // the run does not wait for the viewer that stands still
	close(still)
	wg.Wait()
	if n := strings.Count(view(t.Context(), run), "text:"); n != events {
		t.Errorf("%d events after the end", n)
	}
}

func TestViewerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.Start(person("p"), "")
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan string)
		go func() { seen <- view(ctx, run) }()
		synctest.Wait()
		cancel()
		if got := <-seen; got != "text:a running" {
			t.Errorf("got %q", got)
		}
		for range run.Events(ctx) {
			t.Error("an event for a viewer that is gone")
		}
		if got := view(t.Context(), run); !strings.HasSuffix(got, "failed") {
			t.Errorf("got %q", got)
		}
		h.drain(t)
	})
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			time.Sleep(15 * time.Second)
			_ = emit(agent.Event{Kind: agent.Status, Text: "Reading…"})
			time.Sleep(9 * time.Second)
			_ = emit(agent.Event{Text: "a"})
			time.Sleep(21 * time.Second)
			return nil
		}))
		run := h.Start(person("p"), "")
		start := time.Now()
		var got []string
		for event := range run.Events(t.Context()) {
			got = append(got, fmt.Sprintf("%v %s", time.Since(start), event.Text))
		}
		want := []string{"10s Still working…", "15s Reading…", "24s a", "34s Reading…", "44s Reading…"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if got := view(t.Context(), run); got != "status:Reading… text:a done" {
			t.Errorf("kept %q", got)
		}
		h.drain(t)
	})
}

func TestOnePerPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		first := h.Start(person("p"), "")
		if again := h.Start(person("p"), ""); again != first {
			t.Error("a second run beside the first")
		}
		if other := h.Start(person("q"), ""); other == first {
			t.Error("two people share a run")
		}
		if h.Last("p") != first || h.Last("nobody") != nil {
			t.Error("Last is another run")
		}
		view(t.Context(), first)
		synctest.Wait()
		next := h.Start(person("p"), "")
		if next == first || h.Last("p") != next {
			t.Error("no new run after the first has ended")
		}
		h.drain(t)
	})
}

// An agent that ignores its context ends for its viewers at the deadline, and
// still counts while it holds its goroutine.
func TestDeafAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(deaf(release), func(o *Options) { o.Max = 2 })
		p, q := h.Start(person("p"), ""), h.Start(person("q"), "")
		start := time.Now()
		for _, run := range []*Run{p, q} {
			if got := view(t.Context(), run); !strings.HasSuffix(got, "failed") || time.Since(start) != time.Minute {
				t.Errorf("got %q after %v", got, time.Since(start))
			}
		}
		for name, cause := range map[string]error{"p": errHeld, "r": errBusy} {
			_, want := outcome(cause)
			run := h.Start(person(name), "")
			if status, sentence := run.Final(); status != Failed || sentence != want {
				t.Errorf("%s: %s %q", name, status, sentence)
			}
			if got := view(t.Context(), run); got != "failed" {
				t.Errorf("%s: %q", name, got)
			}
			if h.Last(name) != run {
				t.Errorf("%s: the refusal is not the last run", name)
			}
		}
		close(release)
		synctest.Wait()
		if got := view(t.Context(), h.Start(person("r"), "")); got != "text:a done" {
			t.Errorf("after they let go: %q", got)
		}
		h.drain(t)
		if got := view(t.Context(), p); got != "text:a failed" {
			t.Errorf("the late return changed the run: %q", got)
		}
		if n := strings.Count(h.log.String(), "\n"); n != 5 {
			t.Errorf("%d log lines:\n%s", n, h.log.String())
		}
	})
}

// An agent that is cut and does not return ends for its viewers at once.
func TestDeafToTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for emit(agent.Event{Text: "a"}) == nil {
			}
			if ctx.Err() == nil {
				t.Error("the context goes on after the cut")
			}
			<-release
			return nil
		}), func(o *Options) { o.MaxEvents = 1 })
		start := time.Now()
		if got := view(t.Context(), h.Start(person("p"), "")); got != "text:a cut" || time.Since(start) != 0 {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		close(release)
		h.drain(t)
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(patient)
		run := h.Start(person("p"), "")
		synctest.Wait()
		h.Forget("p")
		h.Forget("nobody")
		if got := view(t.Context(), run); got != "text:a interrupted" {
			t.Errorf("got %q", got)
		}
		if h.Last("p") != nil {
			t.Error("the run is still there")
		}
		synctest.Wait()
		if h.Last("p") != nil {
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
				}))
				slow, stuck := h.Start(person("slow"), ""), h.Start(person("deaf"), "")
				seen := make(chan string)
				go func() { seen <- view(t.Context(), slow) }()
				synctest.Wait()
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
					refused := h.Start(person("late"), "")
					if got := view(t.Context(), refused); got != Interrupted {
						t.Errorf("a late start: %q", got)
					}
				}
				wg.Wait()
				slowWant, stuckWant := "text:a done", Failed
				if test.interrupted {
					slowWant, stuckWant = Interrupted, Interrupted
				}
				got := strings.ReplaceAll(<-seen, "status:Still working… ", "")
				if got != slowWant || stuck.Status() != stuckWant {
					t.Errorf("slow %q, deaf %q", got, stuck.Status())
				}
				close(release)
				time.Sleep(time.Minute) // let the slow one see that it is over
			})
		})
	}
	t.Run("says what it interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := open(patient)
			h.Start(person("p"), "")
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
		slow := h.Start(person("slow"), "")
		for _, name := range []string{"a", "b", "c"} {
			view(t.Context(), h.Start(person(name), ""))
			synctest.Wait()
		}
		if h.Last("slow") != slow {
			t.Error("a running run was forgotten")
		}
		if h.Last("a") != nil || h.Last("b") != nil || h.Last("c") == nil {
			t.Error("another is kept than the latest")
		}
		view(t.Context(), slow)
		synctest.Wait()
		if h.Last("c") == nil || h.Last("slow") == nil { // slow is the latest now
			t.Error("fewer are kept than may be")
		}
		view(t.Context(), h.Start(person("d"), ""))
		synctest.Wait()
		if h.Last("c") != nil || h.Last("slow") == nil {
			t.Error("the one looked at longest ago is kept")
		}
		if h.recent.Len() != 2 || len(h.last) != 2 || len(h.active) != 0 {
			t.Errorf("%d, %d and %d are held", h.recent.Len(), len(h.last), len(h.active))
		}
		h.drain(t)
	})
}

func TestStartFromManyGoroutines(t *testing.T) {
	h := open(says(nil, "a", "b"), func(o *Options) { o.Max, o.Keep = 4, 3 })
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range 50 {
				run := h.Start(person(fmt.Sprint(n%8)), "")
				view(t.Context(), run)
				h.Last(fmt.Sprint(n % 5))
				if n == 0 {
					h.Forget("1")
				}
			}
		})
	}
	wg.Wait()
	h.drain(t)
	if len(h.active) != 0 || h.recent.Len() > 3 || len(h.last) != h.recent.Len() {
		t.Errorf("%d active, %d and %d kept", len(h.active), h.recent.Len(), len(h.last))
	}
}

func TestEventsAreTheRunsOwn(t *testing.T) {
	h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		buffer := json.RawMessage(`1`)
		err := emit(agent.Event{Kind: agent.Data, Data: buffer})
		buffer[0] = '2'
		return err
	}))
	run := h.Start(person("p"), "")
	h.drain(t)
	if got := view(t.Context(), run); got != "data:1 done" {
		t.Errorf("got %q", got)
	}
}

func TestOptions(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for missing options")
		}
	}()
	New(Options{})
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

func BenchmarkEvent(b *testing.B) {
	h := open(agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for b.Loop() {
				yield(agent.Event{Text: "a few words of text, "}, nil)
			}
		}
	}), func(o *Options) { o.Timeout, o.MaxEvents, o.MaxBytes = time.Hour, 1<<40, 1<<50 })
	b.ReportAllocs()
	run := h.Start(person("p"), "")
	for range run.Events(b.Context()) {
	}
	if err := h.Close(b.Context()); err != nil {
		b.Error(err)
	}
}
