package views

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
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
			{[]string{" four\n", "\n"}, `<div data-kind="text"><p dir="auto">one &lt;two&gt;<br>three ` + "\uFFFD four</p></div>"},
			{[]string{"- five\n\n- six", "\n\nsev"}, `<div data-kind="text"><ul dir="auto"><li><p>five</p></li><li><p>six</p></li></ul></div><span class="tail" aria-hidden="true">sev</span>`},
			{[]string{"en\n\neight\n\n", "nine\n\n# ten\n\n> eleven\n\n* * *\n\nt"}, `<div data-kind="text"><p dir="auto">seven</p><p dir="auto">eight</p><p dir="auto">nine</p></div>` +
				`<div data-kind="text"><h3 dir="auto">ten</h3><blockquote dir="auto"><p>eleven</p></blockquote><hr></div><span class="tail" aria-hidden="true">t</span>`},
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
	const end = `<div data-kind="text"><p dir="auto">t</p></div><p data-final="done"></p></div></section></main></body></html>`
	if !strings.HasSuffix(page, end) {
		t.Errorf("page ends %q", page[len(page)-200:])
	}
}

// TestStatus checks what stands beside the text: of what comes together the last
// status, which does not end a block; one that is said again only keeps the
// connection. A run that has ended has none.
func TestStatus(t *testing.T) {
	const tail, said = `<span class="tail" aria-hidden="true">`, `<p data-kind="status">`
	text := func(s string) agent.Event { return agent.Event{Text: s} }
	status := func(s string) agent.Event { return agent.Event{Kind: agent.Status, Text: s} }
	one := agent.Event{Kind: agent.Data, Data: json.RawMessage("1")}
	for name, test := range map[string]struct {
		status  string // of the run
		batches [][]agent.Event
		want    string
	}{
		"beside": {"running", [][]agent.Event{{text("one ")}, {status("Reading…")}, {status("Reading…")}, {text("two")}},
			tail + "one </span>" + said + "Reading…</p>\n" + tail + `two</span><div data-kind="text"><p dir="auto">one two</p></div>`},
		"the last": {"running", [][]agent.Event{{status("a"), text("b"), status("c"), one, status("d"), text("\n\ne"), status("f")}, {status("g"), status("f")}},
			`<div data-kind="text"><p dir="auto">b</p></div><div data-kind="data"><p>1</p></div>` + said + "f</p>" + tail + `e</span><div data-kind="text"><p dir="auto">e</p></div>`},
		"replayed": {"done", [][]agent.Event{{status("a"), text("b"), status("c"), one, status("d")}, {status("d")}},
			`<div data-kind="text"><p dir="auto">b</p></div><div data-kind="data"><p>1</p></div>`},
	} {
		t.Run(name, func(t *testing.T) {
			run := running
			run.Status = test.status
			var steps []step
			for _, events := range test.batches {
				steps = append(steps, step{0, events})
			}
			page := rendered(t, follow(&Work{Runs: []Run{run}, Events: batches(append(steps, step{0, nil})...)}))
			if want := test.want + `<p data-final="done"></p>`; page != want {
				t.Errorf("got  %s\nwant %s", page, want)
			}
		})
	}
}

// together is the page of a run whose events come in so many batches.
func together(t *testing.T, r Run, n int, events []agent.Event) string {
	t.Helper()
	var steps []step
	for i := range n {
		steps = append(steps, step{0, events[i*len(events)/n : (i+1)*len(events)/n]})
	}
	return rendered(t, follow(&Work{Runs: []Run{r}, Events: batches(append(steps, step{0, nil})...)}))
}

// TestSameText checks that who follows reads what who comes later reads, whatever
// it is, and that beyond what is Markdown every character is in its place.
func TestSameText(t *testing.T) {
	answer := string(output(t, "testdata/markdown/answer.md").Text) + "\n\n"
	many := strings.Repeat("a **b**\n\n", maxParts)
	for name, text := range map[string]string{
		"answer":       answer,
		"many answers": strings.Repeat(answer, 60),
		"many blocks":  many,
		"long lines":   strings.Repeat("<a>  &\t b…\u202e"+strings.Repeat("c ", 500)+"\n \n", 2000),
		"directions":   many + "1\u200f-2\n" + strings.Repeat("c ", 100) + "\n" + strings.Repeat("\u05d0\u200f-\u200d\u200d2 \ufe0f\ufe0f\n", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			var events []agent.Event
			for rest := text; rest != ""; {
				n := min(len(rest), 97)
				events, rest = append(events, agent.Event{Text: rest[:n]}), rest[n:]
			}
			read := func(page string) (text string, lines int) {
				for n := range parse(t, page).Descendants() {
					if kind, _ := attr(n, "data-kind"); kind == "text" {
						text += inner(n)
						if n.Data == "span" {
							lines++
						}
					}
				}
				return text, lines
			}
			run := running
			live, _ := read(together(t, run, len(events), events))
			run.Status = "done"
			replayed, lines := read(together(t, run, 1, []agent.Event{{Text: text}}))
			if live != replayed {
				t.Errorf("who follows reads %d bytes, who comes later %d", len(live), len(replayed))
			}
			if lines > 2+len(text)/maxStretch {
				t.Errorf("%d elements of lines", lines)
			}
			if name == "many blocks" && (lines < len(many)/2/maxStretch || !strings.HasSuffix(live, many[len(many)/2:])) {
				t.Errorf("in %d elements the text ends %.40q", lines, live[len(live)-40:])
			}
		})
	}
}

// TestAsides checks that tails and statuses become fewer the more there were, that
// a sign of life brings what was held back, and that blocks are never held back.
func TestAsides(t *testing.T) {
	work := &Work{}
	for i := range MaxRuns {
		r := running
		r.ID = string("abcdefgh"[i])
		work.Runs = append(work.Runs, r)
	}
	const each = 4096
	var w wire
	work.Events = func(yield func(int, []agent.Event) bool) {
		for n := range each {
			for i := range MaxRuns {
				yield(i, []agent.Event{{Text: "words "}, {Kind: agent.Status, Text: strconv.Itoa(n)}})
			}
		}
		asides := strings.Count(w.seen.String(), `class="tail"`) + strings.Count(w.seen.String(), `data-kind="status"`)
		if asides < 500 || asides > 3000 {
			t.Errorf("%d tails and statuses", asides)
		}
		last := agent.Event{Kind: agent.Status, Text: strconv.Itoa(each - 1)}
		w.seen.Reset()
		yield(3, []agent.Event{last})
		if got := w.seen.String(); !strings.HasPrefix(got, `<p data-kind="status" slot="r4">4095</p><span class="tail" aria-hidden="true" slot="r4">words `) {
			t.Errorf("a sign of life brings %q", got)
		}
		w.seen.Reset()
		yield(3, []agent.Event{last})
		if got := w.seen.String(); got != "\n" {
			t.Errorf("the next brings %q", got)
		}
		w.seen.Reset()
		yield(4, []agent.Event{{Text: "\n\n."}})
		if got := w.seen.String(); !strings.HasPrefix(got, `<div data-kind="text" slot="r5"><p dir="auto">words `) || strings.Contains(got, "tail") {
			t.Errorf("a block brings %.200q", got)
		}
	}
	if err := follow(work).Render(t.Context(), &w); err != nil {
		t.Fatal(err)
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
	if want := `<p dir="auto">before</p></div><div data-kind="view"><em>whole</em></div><p data-final="done">`; !strings.Contains(b.String(), want) {
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

// worst are events of a run, 256 KiB of text or data, that cost as much as can be.
var worst = func() map[string][]agent.Event {
	const size = 256 << 10
	all := map[string][]agent.Event{}
	text := func(name, unit string) {
		for rest := fill(unit, size); rest != ""; { // as the server keeps them
			n := min(len(rest), 1<<10)
			all[name], rest = append(all[name], agent.Event{Text: rest[:n]}), rest[n:]
		}
	}
	// few is a block with almost as much of unit as there may be in all.
	few := func(unit string) string {
		each := 0
		for line := range strings.Lines(unit) {
			each += parts([]byte(line))
		}
		return strings.Repeat(unit, maxParts/each*9/10) + "\n\na\n\n"
	}
	text("plain", strings.Repeat("Some plain words of an answer. ", 16)+"\n\n")
	text("one paragraph", "Some plain words of an answer. ")
	text("usual", "## Of it\n\nSome **bold** words and `code`, with a [link](/account).\n\n- one item of the list\n- *another* item\n\n| a | b |\n|---|---|\n| one | two |\n\n")
	text("short blocks", "a\n\n")
	text("quotes", "> a\n\n")
	text("deep quotes", strings.Repeat(">", maxDepth)+"a\n\n")
	text("deep lists", strings.Repeat("- ", maxDepth/2)+"a\n\n")
	text("rules", "***\n\n")
	text("headings", "# a\n\n")
	text("headings in a block", few("# a\n"))
	text("items", few("- a\n"))
	text("lists", few("- a\n+ a\n"))
	text("lines", few("a\n"))
	text("code", few("`a` "))
	text("emphasis", strings.Repeat("*a*", maxMarks/2)+"\n\n")
	text("links", strings.Repeat("[a](/)", maxMarks/2)+"\n\n")
	text("addresses", few("<http://a> "))
	text("addresses in words", few("www.a.b "))
	text("table", few("|a|b|\n|-|-|\n|1|2|\n"))
	text("long table", "a|b\n-|-\n"+strings.Repeat("1\n", 2000)+"\n")
	text("wide table", strings.Repeat("a|", 100)+"\n"+strings.Repeat("-|", 100)+"\n"+strings.Repeat(strings.Repeat("a", 100)+"\n", 500)+"\n")
	text("tables", "|a|\n|-|\n\n")
	text("fences", "```\n```\n\n")
	text("code in lines", "```\n"+strings.Repeat("<\n", size))
	text("what is escaped", "\"")
	for i := range 4096 {
		all["statuses"] = append(all["statuses"], agent.Event{Kind: agent.Status, Text: strconv.Itoa(i)}, agent.Event{Text: "a\n\n"})
		all["tiny data"] = append(all["tiny data"], agent.Event{Kind: agent.Data, Data: json.RawMessage(`[{"a":[1,[2]],"b":{"c":"` + fill("d", 32) + `"}}]`)})
		all["approvals"] = append(all["approvals"], agent.Event{Kind: agent.Approval, Text: fill("a ", 64)})
	}
	data := func(name, before, unit, after string) {
		n := (size - len(before) - len(after)) / (len(unit) + 1)
		all[name] = []agent.Event{{Kind: agent.Data, Data: json.RawMessage(before + strings.TrimSuffix(strings.Repeat(unit+",", n), ",") + after)}}
	}
	data("numbers", "[", "1", "]")
	data("words", "[", `""`, "]")
	data("rows", "[", `{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}`, "]")
	data("objects", "[", `{"":0}`, "]")
	nested := "1"
	for len(nested) < size/7 {
		nested = "[" + strings.TrimSuffix(strings.Repeat(nested+",", 6), ",") + "]"
	}
	data("nested", "[", nested, "]")
	data("deep", strings.Repeat("[", 9000), "[]", strings.Repeat("]", 9000))
	return all
}()

// TestCost compares what a page of the worst runs takes with one of plain text: in
// memory, in allocations, and in elements for the browser.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("pools keep nothing under the race detector, with which the short tests run")
	}
	done := running
	done.Status = "done"
	cost := func(name string) (bytes, allocations, elements int) {
		var before, after runtime.MemStats
		page := rendered(t, follow(ran(done, worst[name]...))) // and what is made once
		runtime.ReadMemStats(&before)
		if err := follow(ran(done, worst[name]...)).Render(t.Context(), io.Discard); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc), int(after.Mallocs - before.Mallocs), strings.Count(page, "<") - strings.Count(page, "</")
	}
	plainBytes, plainAllocations, _ := cost("plain")
	for _, name := range slices.Sorted(maps.Keys(worst)) {
		bytes, allocations, elements := cost(name)
		t.Logf("%-20s %5.1f times the bytes, %5.1f times the allocations, %5d elements", name, float64(bytes)/float64(plainBytes), float64(allocations)/float64(plainAllocations), elements)
		if bytes > 6*plainBytes || allocations > 25*plainAllocations || elements > 5*maxParts/2 {
			t.Errorf("%s takes %d bytes in %d allocations, and has %d elements", name, bytes, allocations, elements)
		}
	}
}

// BenchmarkReplay is to show what a page of the worst runs costs.
func BenchmarkReplay(b *testing.B) {
	done := running
	done.Status = "done"
	for _, name := range slices.Sorted(maps.Keys(worst)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := follow(ran(done, worst[name]...)).Render(b.Context(), io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a run said last is on the page when the page ends before the run does, however
// much it said before.
func TestLastStatus(t *testing.T) {
	for _, n := range []int{0, 1, 255, 400, 1000} {
		var steps []step
		for i := range n {
			steps = append(steps, step{0, []agent.Event{{Kind: agent.Status, Text: fmt.Sprint("Step ", i)}}})
		}
		steps = append(steps, step{0, []agent.Event{{Kind: agent.Status, Text: "This page has stopped following."}}})
		work := &Work{Runs: []Run{running}, Events: batches(steps...)}
		page := rendered(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
		if got := strings.Count(page, "This page has stopped following."); got != 1 {
			t.Errorf("after %d: it stands there %d times", n, got)
		}
	}
}

// Whatever is held back, each batch brings something: the connection lives by it.
func TestEachBatchBringsSomething(t *testing.T) {
	var w wire
	work := &Work{Runs: []Run{running}, Events: func(yield func(int, []agent.Event) bool) {
		for i := range 2000 {
			event := agent.Event{Text: "word "}
			if i%9 == 8 { // after a pause
				event = agent.Event{Kind: agent.Status, Text: fmt.Sprint("Still working… ", i)}
			}
			before := w.seen.Len()
			if yield(0, []agent.Event{event}); event.Kind == agent.Status && w.seen.Len() == before {
				t.Fatalf("batch %d brings nothing", i)
			}
		}
	}}
	if err := HomePage(Home{Account: "cedar-otter-42", Work: work}).Render(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
}
