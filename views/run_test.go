package views

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"golang.org/x/net/html"

	"bio/agent"
)

// wire is a response whose client sees only what was flushed.
type wire struct {
	pending, seen bytes.Buffer
	flushes       int
	fail          error
}

func (w *wire) Write(p []byte) (int, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	return w.pending.Write(p)
}

func (w *wire) Flush() { w.flushes++; w.pending.WriteTo(&w.seen) }

var running = Run{ID: "k7q2", Agent: "brief", Status: "running", Final: ended("done", "")}

func TestStream(t *testing.T) {
	var w wire
	work := &Work{Runs: []Run{running}}
	work.Events = func(yield func(int, []agent.Event) bool) {
		shell := w.seen.String()
		for _, part := range []string{`data-account="cedar-otter-42"`, `action="/sign-out"`, `id="ask"`, `/assets/run.`, `/assets/auth.`, `data-run="k7q2" data-status="running"`, `action="/run/stop"`, `class="pending"`} {
			if !strings.Contains(shell, part) {
				t.Errorf("before the first event the client has no %s", part)
			}
		}
		if strings.Contains(shell, "data-kind") || strings.Contains(shell, "data-final") {
			t.Error("the shell has an event or the end already")
		}
		for _, batch := range []struct {
			texts []string
			want  string
		}{
			{[]string{"one ", "<two>"}, `<span class="tail" aria-hidden="true">one &lt;two&gt;</span>`},
			{[]string{"\nthree\u202e \xff"}, `<span class="tail" aria-hidden="true">` + "\nthree \uFFFD</span>"},
			{[]string{" four\n", "\n"}, `<div data-kind="text" dir="auto"><p>one &lt;two&gt;<br>three ` + "\uFFFD four</p></div>"},
			{[]string{"- five\n\n- six", "\n\nsev"}, `<div data-kind="text" dir="auto"><ul><li><p>five</p></li><li><p>six</p></li></ul></div><span class="tail" aria-hidden="true">sev</span>`},
		} {
			before := w.seen.Len()
			var events []agent.Event
			for _, text := range batch.texts {
				events = append(events, agent.Event{Text: text})
			}
			flushes := w.flushes
			yield(0, events)
			if got := w.seen.String()[before:]; got != batch.want || w.flushes != flushes+1 {
				t.Errorf("after %q the client got %q in %d flushes", batch.texts, got, w.flushes-flushes)
			}
		}
		yield(0, nil)
		yield(0, nil) // said twice, it ends once
	}
	if err := HomePage(Home{Account: "cedar-otter-42", Ask: &Ask{}, Work: work}).Render(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	page := w.seen.String()
	const end = `<div data-kind="text" dir="auto"><p>sev</p></div><p data-final="done"></p></div></section></main></body></html>`
	if !strings.HasSuffix(page, end) {
		t.Errorf("page ends %q", page[len(page)-200:])
	}
}

// TestQuiet checks what passes beside the text: a status does not end a block, and
// one that is said again only keeps the connection.
func TestQuiet(t *testing.T) {
	status := agent.Event{Kind: agent.Status, Text: "Reading…"}
	work := &Work{Runs: []Run{running}, Events: batches(
		step{0, []agent.Event{{Text: "one "}}},
		step{0, []agent.Event{status}},
		step{0, []agent.Event{status}},
		step{0, []agent.Event{{Text: "two"}}},
		step{0, nil},
	)}
	page := rendered(t, follow(work))
	const want = `<span class="tail" aria-hidden="true">one </span><p data-kind="status">Reading…</p>` + "\n" +
		`<span class="tail" aria-hidden="true">two</span><div data-kind="text" dir="auto"><p>one two</p></div><p data-final="done"></p>`
	if page != want {
		t.Errorf("got %s", page)
	}
}

func TestStreamStops(t *testing.T) {
	gone := errors.New("client gone")
	for name, leave := range map[string]func(*wire, context.CancelFunc){
		"write fails": func(w *wire, _ context.CancelFunc) { w.fail = gone },
		"cancelled":   func(_ *wire, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var w wire
			yielded := 0
			work := &Work{Runs: []Run{running}}
			work.Events = func(yield func(int, []agent.Event) bool) {
				for yield(0, []agent.Event{{Text: "more"}}) {
					if yielded++; yielded == 3 {
						leave(&w, cancel)
					}
				}
			}
			err := HomePage(Home{Account: "cedar-otter-42", Work: work}).Render(ctx, &w)
			if !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if yielded != 3 {
				t.Errorf("%d batches were taken, want 3", yielded)
			}
		})
	}
}

// TestView checks that a component gets the request's context, and is written as
// it is.
func TestView(t *testing.T) {
	type key struct{}
	view := templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, ctx.Value(key{}).(string))
		return err
	})
	var b bytes.Buffer
	work := ran(running, agent.Event{Text: "before"}, agent.Event{Kind: agent.View, View: view})
	if err := follow(work).Render(context.WithValue(t.Context(), key{}, "<em>whole</em>"), &b); err != nil {
		t.Fatal(err)
	}
	if want := `<p>before</p></div><div data-kind="view"><em>whole</em></div><p data-final="done">`; !strings.Contains(b.String(), want) {
		t.Errorf("got %s", b.String())
	}
}

// TestPlaces checks that what comes of several runs stands in the order in which it
// comes, each in a slot that there is once, and that the end of a run takes the
// place of the button that stops it.
func TestPlaces(t *testing.T) {
	work := &Work{Events: batches(
		step{7, []agent.Event{{Text: "last"}, {Kind: agent.Data, Data: json.RawMessage("1")}}},
		step{0, []agent.Event{{Text: "first\n\n"}}},
		step{7, nil},
	)}
	for i := range MaxRuns {
		r := running
		r.ID = string("abcdefgh"[i])
		work.Runs = append(work.Runs, r)
	}
	host := find(t, parse(t, rendered(t, HomePage(Home{Account: "a", Work: work}))), "id", "run")
	slots := map[string]int{}
	var order []string
	for n := range host.Descendants() {
		if name, _ := attr(n, "name"); n.Data == "slot" {
			slots[name]++
		}
		if slot, ok := attr(n, "slot"); ok {
			if n.Parent != host || n.Type != html.ElementNode {
				t.Errorf("<%s slot=%s> is not a child of the host", n.Data, slot)
			}
			order = append(order, slot+" "+inner(n))
		}
	}
	if len(slots) != 2*MaxRuns {
		t.Errorf("%d slots", len(slots))
	}
	for name, n := range slots {
		if n != 1 {
			t.Errorf("%d slots %s", n, name)
		}
	}
	if got, want := strings.Join(order, "|"), "r8 last|r8 1|r1 first|r8 |e8 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
