package views

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"bio/agent"
	"bio/assets"
)

// patience is how long a condition may take to come true on a busy machine.
const patience = 30 * time.Second

// policyOfPages is the content security policy of every page (DESIGN.md).
const policyOfPages = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// tab is a page in Chromium, and everything that it asked for and complained of.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	requests []string
	problems []string
}

// browse shows a page under the policy, from a server of its own.
func browse(t *testing.T, shown templ.Component) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser is slow")
	}
	mux := http.NewServeMux()
	mux.Handle("/assets/", assets.Handler())
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policyOfPages)
		if err := shown.Render(r.Context(), w); err != nil && r.Context().Err() == nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromiumPath(t)), chromedp.Flag("headless", "new"), chromedp.DisableGPU)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, url: server.URL}
	if err := chromedp.Listen(ctx, p.observe); err != nil {
		t.Fatal(err)
	}
	// A test waits for what comes, not for the end of the page.
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	call(p, page.Navigate, page.NavigateParams{URL: server.URL + "/"})
	return p
}

// watch makes a violation of the policy, which is no error to the page, one.
const watch = "addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective, e.blockedURI, e.sample))"

func chromiumPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("BIO_CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const why = "there is no chromium here: install it, or name it with BIO_CHROMIUM"
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

// observe runs on the goroutine that reads the browser's messages.
func (p *tab) observe(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	problem := func(what ...any) { p.problems = append(p.problems, fmt.Sprint(what...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, "data:image/svg+xml,") { // the icon
			p.requests = append(p.requests, strings.TrimPrefix(e.Request.URL, p.url))
		}
	case *page.EventJavascriptDialogOpening:
		problem("a dialog: ", e.Message)
	case *page.EventFrameAttached:
		problem("a frame")
	case *runtime.EventExceptionThrown:
		problem("uncaught: ", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		for _, a := range e.Args {
			problem("console: ", string(a.Value))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelWarning || e.Entry.Level == cdplog.EntryLevelError {
			problem(e.Entry.Source, ": ", e.Entry.Text)
		}
	}
}

func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// eval is the value of an expression in the page, which may be a promise.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%.200s: %v", expression, err)
	}
	return value
}

// until waits for a condition in the page.
func (p *tab) until(condition string) {
	p.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !eval[bool](p, "Boolean("+condition+")") {
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("not in %s: %s\n%s", patience, condition, eval[string](p, "document.body.innerText"))
		}
	}
}

// wantQuiet checks that the page asked for its own parts only, and that nothing
// went wrong or was held back in it.
func (p *tab) wantQuiet() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	own := []string{"/", assets.Path("style.css"), assets.Path("run.css"), assets.Path("auth.js")}
	for _, request := range p.requests {
		if !slices.Contains(own, request) {
			p.t.Errorf("a request to %s", request)
		}
	}
	for _, problem := range p.problems {
		p.t.Errorf("the browser says: %s", problem)
	}
}

// strange lists the elements and attributes in events that are not allowed.
const strange = `(allowed => [...document.querySelectorAll('[data-kind] *, .tail *')].flatMap(e => [
	...e.localName in allowed ? [] : ['<' + e.localName + '>'],
	...e.namespaceURI == 'http://www.w3.org/1999/xhtml' ? [] : [e.namespaceURI],
	...e.getAttributeNames().filter(name => !(name in (allowed[e.localName] ?? {}))).map(name => e.localName + ' ' + name),
	...e.localName != 'a' || e.origin == location.origin || e.textContent == e.getAttribute('href') && !e.username ? [] : [e.outerHTML],
]))(%s)`

// TestHostileInBrowser shows what agents could be made to say, as it comes and in
// pieces, to one that would run it if it could.
func TestHostileInBrowser(t *testing.T) {
	corpus := hostileOutput(t)
	names := slices.Sorted(maps.Keys(corpus))
	list, err := json.Marshal(allowed)
	if err != nil {
		t.Fatal(err)
	}
	for name, places := range map[string]int{"one": 1, "several": MaxRuns} {
		t.Run(name, func(t *testing.T) {
			work := &Work{}
			for i := range places {
				work.Runs = append(work.Runs, Run{ID: fmt.Sprint(i), Agent: fmt.Sprint("agent ", i), Status: "running", Final: ended("done", "")})
			}
			var steps []step
			for i, name := range names {
				e := corpus[name]
				half := agent.Event{Text: e.Text[:len(e.Text)/2]}
				e.Text = e.Text[len(half.Text):]
				steps = append(steps, step{i % places, []agent.Event{half}}, step{i % places, []agent.Event{e}},
					step{i % places, []agent.Event{{Kind: agent.Status, Text: name}}})
			}
			for i := range places {
				steps = append(steps, step{i, nil})
			}
			work.Events = batches(steps...)
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Ask: &Ask{Agents: []string{"brief"}}, Work: work}))
			p.until("document.readyState == 'complete'")
			if n := eval[int](p, "document.querySelectorAll('[data-final=done]').length"); n != places {
				t.Errorf("%d ends", n)
			}
			for _, what := range eval[[]string](p, fmt.Sprintf(strange, list)) {
				t.Errorf("in the page: %s", what)
			}
			if n := eval[int](p, "[...document.querySelectorAll('.tail[aria-hidden], [data-kind=status]')].filter(e => e.checkVisibility()).length"); n != 0 {
				t.Errorf("%d tails and statuses are left", n)
			}
			if wide := eval[int](p, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
				t.Errorf("the page is %d px too wide", wide)
			}
			p.wantQuiet()
		})
	}
}

// slowly is work of which a test says what comes.
func slowly(runs ...Run) (*Work, chan<- step) {
	steps := make(chan step)
	return &Work{Runs: runs, Events: func(yield func(int, []agent.Event) bool) {
		for s := range steps {
			if !yield(s.run, s.events) {
				return
			}
		}
	}}, steps
}

// TestOrderInBrowser follows two agents whose output comes in turns: each fills
// its own place, without script.
func TestOrderInBrowser(t *testing.T) {
	first, second := running, running
	second.ID, second.Agent = "m3x9", "news"
	work, steps := slowly(first, second)
	p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
	defer sync.OnceFunc(func() { close(steps) })()
	visible := func(want string) {
		t.Helper()
		p.until(fmt.Sprintf(`%s == %q`, order, want))
	}
	send := func(run int, events ...agent.Event) { steps <- step{run, events} }

	visible("brief|Stop|Working…|news|Stop|Working…")
	send(1, agent.Event{Kind: agent.Status, Text: "Reading…"}, agent.Event{Text: "# One\n\ntw"})
	visible("brief|Stop|Working…|news|Stop|One|tw|Reading…")
	send(0, agent.Event{Text: "first"})
	visible("brief|Stop|first|news|Stop|One|tw|Reading…")
	send(1, agent.Event{Text: "o\n\n"}, agent.Event{Kind: agent.Status, Text: "Writing…"})
	visible("brief|Stop|first|news|Stop|One|two|Writing…")
	send(0, agent.Event{Kind: agent.Status, Text: "Thinking…"}, agent.Event{Kind: agent.Data, Data: json.RawMessage(`[1]`)})
	visible("brief|Stop|first|1|Thinking…|news|Stop|One|two|Writing…")
	send(1)
	visible("brief|Stop|first|1|Thinking…|news|One|two")
	send(0, agent.Event{Text: "last"})
	visible("brief|Stop|first|1|last|Thinking…|news|One|two")
	send(0)
	visible("brief|first|1|last|news|One|two")
	p.wantQuiet()
}

// TestOldInBrowser shows several runs to a browser that knows no declarative shadow
// roots: all is there in the order in which it came.
func TestOldInBrowser(t *testing.T) {
	old := templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, strings.Replace(rendered(t, pages()["home-several"]), "<template shadowrootmode", "<template unknown", 1))
		return err
	})
	p := browse(t, old)
	p.until("document.readyState == 'complete'")
	const want = "Today|One|n|1|whole|?|Cut here: the agent said more than this page takes.|All is quiet."
	if got := eval[string](p, "document.querySelector('#run').innerText.split(/\\s*\\n\\s*/).join('|')"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.wantQuiet()
}

// order is what is to be seen of the runs, in the order of the page: the words of
// each box, those that stand beside a heading last.
const order = `(host => {
	const texts = []
	const walk = (node, aside) => {
		if (node.nodeType == Node.TEXT_NODE) return void (node.data.trim() && texts.at(-1).push([aside, node.data.trim()]))
		if (node.nodeType != Node.ELEMENT_NODE || node.localName != 'slot' && !node.checkVisibility()) return
		if (node.localName == 'section') texts.push([])
		const assigned = node.localName == 'slot' ? node.assignedNodes() : []
		for (const child of assigned.length ? assigned : (node.shadowRoot ?? node).childNodes) walk(child, aside || node.dataset?.kind == 'status')
	}
	if (host) walk(host)
	return texts.flatMap(section => [...section.filter(([aside]) => !aside), ...section.filter(([aside]) => aside)].map(([, text]) => text)).join('|')
})(document.querySelector('#run'))`

// TestAloneInBrowser follows one agent.
func TestAloneInBrowser(t *testing.T) {
	work, steps := slowly(running)
	p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
	defer sync.OnceFunc(func() { close(steps) })()
	visible := func(want string) {
		t.Helper()
		p.until(fmt.Sprintf(`%s == %q`, order, want))
	}
	send := func(events ...agent.Event) { steps <- step{0, events} }
	visible("brief|Stop|Working…")
	send(agent.Event{Text: "- a\n"})
	visible("brief|Stop|- a")
	send(agent.Event{Kind: agent.Status, Text: "Reading…"}, agent.Event{Text: "- b\n\nc"})
	visible("brief|Stop|a|b|c|Reading…")
	send(agent.Event{Kind: agent.Status, Text: "Writing…"}, agent.Event{Text: "d"})
	visible("brief|Stop|a|b|c|d|Writing…")
	send()
	visible("brief|a|b|cd")
	p.wantQuiet()
}

// TestManyBlocksInBrowser shows as many blocks as an agent can say, which took a
// minute when each was an element of its own: the last are lines of text that stay,
// whatever follows them.
func TestManyBlocksInBrowser(t *testing.T) {
	for name, places := range map[string]int{"one": 1, "several": 2} {
		t.Run(name, func(t *testing.T) {
			runs := []Run{running, running}[:places]
			work, steps := slowly(runs...)
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
			defer sync.OnceFunc(func() { close(steps) })()
			steps <- step{0, []agent.Event{{Text: strings.Repeat("a\n\n", 80000)}}}
			steps <- step{0, []agent.Event{{Text: "  <b>\n"}, {Kind: agent.Status, Text: "Reading…"}}}
			steps <- step{0, []agent.Event{{Text: "   the"}}}
			p.until("document.querySelector('#run > .tail, [role=log] > .tail')?.checkVisibility()")
			steps <- step{0, []agent.Event{{Text: "  last\nand"}}}
			const last = "[...document.querySelectorAll('[data-kind=text]')].at(-1)"
			p.until(last + "?.textContent == '   the  last\\n'")
			if n := eval[int](p, "document.querySelectorAll('#run *').length"); n > 3000 {
				t.Errorf("%d elements", n)
			}
			if got := eval[string](p, "getComputedStyle("+last+".firstChild).whiteSpace"); got != "pre-wrap" {
				t.Errorf("its white space is %s", got)
			}
			steps <- step{0, []agent.Event{{Kind: agent.Data, Data: json.RawMessage("1")}, {Text: "after"}}}
			steps <- step{0, nil}
			p.until("document.querySelector('[data-final]')")
			const hidden = "[...document.querySelectorAll('[data-kind=text], [data-kind=text] .tail')].filter(e => !e.checkVisibility()).length"
			if n := eval[int](p, hidden); n != 0 {
				t.Errorf("%d are hidden", n)
			}
			if wide := eval[int](p, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
				t.Errorf("the page is %d px too wide", wide)
			}
			p.wantQuiet()
		})
	}
}

// TestManyBatchesInBrowser shows several agents that said little at a time, often.
func TestManyBatchesInBrowser(t *testing.T) {
	work := &Work{}
	for i := range MaxRuns {
		work.Runs = append(work.Runs, Run{ID: fmt.Sprint(i), Agent: fmt.Sprint("agent ", i), Status: "running", Final: ended("done", "")})
	}
	work.Events = func(yield func(int, []agent.Event) bool) {
		for n := range 1000 {
			for i := range work.Runs {
				yield(i, []agent.Event{{Kind: agent.Status, Text: fmt.Sprint(n)}, {Text: "words\n\nmore"}})
			}
		}
		for i := range work.Runs {
			yield(i, nil)
		}
	}
	p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
	p.until("document.readyState == 'complete'")
	if n := eval[int](p, "document.querySelectorAll('.tail, [data-kind=status]').length"); n > 2000 {
		t.Errorf("%d tails and statuses", n)
	}
	p.wantQuiet()
}

// looks are the screens that pages are looked at on.
var looks = []struct {
	width  int64
	scheme string
}{{1440, "light"}, {1440, "dark"}, {360, "light"}, {360, "dark"}}

// TestAccessibleInBrowser audits a long answer and several agents with axe-core,
// and reads the accessibility tree.
func TestAccessibleInBrowser(t *testing.T) {
	axe, err := os.ReadFile("../.cache/node_modules/axe-core/axe.min.js")
	if err != nil {
		const why = "axe-core is not here: run make setup"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for name, shown := range map[string]templ.Component{"one": HomePage(longAnswer(t)), "several": pages()["home-several"]} {
		t.Run(name, func(t *testing.T) {
			p := browse(t, shown)
			p.until("document.readyState == 'complete'")
			eval[chromedp.Void](p, string(axe))
			for _, l := range looks {
				p.lookAt(l.width, l.scheme)
				for _, violation := range eval[[]string](p, violations) {
					t.Errorf("%d %s: %s", l.width, l.scheme, violation)
				}
				if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > l.width {
					t.Errorf("%d %s: the page is %d px wide", l.width, l.scheme, wide)
				}
			}
			if name == "several" {
				p.wantTree()
			}
		})
	}
}

func (p *tab) lookAt(width int64, scheme string) {
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

const violations = `axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
	violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html + ' ' + n.failureSummary)))`

// wantTree checks what a screen reader is told of several runs.
func (p *tab) wantTree() {
	p.t.Helper()
	var got []string
	for _, node := range call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored || node.Role == nil || node.Name == nil {
			continue
		}
		var role, name string
		if json.Unmarshal(node.Role.Value, &role) != nil || json.Unmarshal(node.Name.Value, &name) != nil {
			continue
		}
		if slices.Contains([]string{"heading", "log", "region"}, role) {
			got = append(got, role+" "+name)
		}
	}
	want := []string{"heading cedar-otter-42", "region brief", "heading brief", "log brief", "region news & views", "heading news & views", "log news & views", "heading Today"}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("the tree: -want +got:\n%s", diff)
	}
}

// longAnswer is a page with everything that an agent can usually say.
func longAnswer(t *testing.T) Home {
	asked := running
	asked.Prompt = "What changed since yesterday?"
	var said []agent.Event
	for _, file := range []string{"markdown/answer.md", "data/deploys.json", "data/account.json", "markdown/edges.md", "data/text.json"} {
		said = append(said, output(t, "testdata/"+file))
	}
	return Home{Account: "cedar-otter-42", Ask: &Ask{Agents: []string{"brief", "news"}}, Work: ran(asked, said...)}
}
