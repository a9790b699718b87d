package views

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/page"

	"bio/agent"
)

// drawn is something to be seen of a run, and where it is: CSS pixels from the
// page's upper left corner.
type drawn struct {
	Run                      int // in the order of the page
	What                     string
	Left, Top, Right, Bottom float64
	Cut                      bool // some of it is not to be seen
}

// drawings are what is to be seen of each run: the words of its name, the button
// that stops it, and the boxes in its log.
const drawings = `(run => [...(run.shadowRoot ?? document).querySelectorAll('section[data-run]')].flatMap((section, i) => {
	const slot = section.querySelector('[role=log] slot')
	const logged = slot ? slot.assignedElements({flatten: true}) : [...section.querySelector('[role=log]').children]
	const stop = section.querySelector('slot')?.assignedElements({flatten: true})[0] ?? section
	const words = document.createRange()
	words.selectNodeContents(section.querySelector('h2'))
	return [['name', words], ['stop', stop.querySelector('.stop button')], ...logged.map(e => [e.className || e.dataset.kind || 'final', e])]
		.filter(([, e]) => e?.checkVisibility?.() ?? e == words)
		.map(([What, e]) => {
			const r = e.getBoundingClientRect()
			return {Run: i, What, Left: r.left, Top: r.top + scrollY, Right: r.right, Bottom: r.bottom + scrollY,
				Cut: r.left < 0 || r.right > innerWidth || e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight}
		})
}))(document.querySelector('#run'))`

// styled holds when the page and the shadow root in it have their style sheets.
const styled = "[document, document.querySelector('#run').shadowRoot].every(root => [...root?.querySelectorAll('link[rel=stylesheet]') ?? []].every(link => link.sheet))"

// seen is what is drawn on a screen of that width, when the styles are there.
func (p *tab) seen(width int64) []drawn {
	p.t.Helper()
	p.lookAt(width, "light")
	p.until(fmt.Sprintf("innerWidth == %d && %s", width, styled))
	return eval[[]drawn](p, drawings)
}

// where is the first thing of a kind that is drawn of a run.
func where(all []drawn, run int, what string) (d drawn, ok bool) {
	i := slices.IndexFunc(all, func(d drawn) bool { return d.Run == run && d.What == what })
	if i < 0 {
		return drawn{}, false
	}
	return all[i], true
}

// below is where the text of a run is below its name, which is where it was when
// nothing above it moves. What several agents say moves those below, as it must.
func below(all []drawn, run int) (text drawn, ok bool) {
	name, _ := where(all, run, "name")
	text, ok = where(all, run, "text")
	text.Top, text.Bottom = text.Top-name.Top, text.Bottom-name.Top
	if run == 0 {
		text.Left += name.Top // the first does not move at all
	}
	return text, ok
}

// Whatever an agent is called and says that it does, nothing lies over something
// else, nothing is cut, and what is being read stays where it is.
func TestStatusInBrowser(t *testing.T) {
	const long = "housekeeping-of-the-letters-2026" // the longest that a name can be
	statuses := []string{
		"Waiting: 1 before you.",
		"Looking at what happened since last time…",
		"Word",
		"Reading the letters: 75 of 120 are read, and three are to be answered",
		strings.Repeat("letters-without-a-place-to-break", 2),
	}
	for name, agents := range map[string][]string{
		"one": {"brief"}, "long": {long}, "several": {"word", long}, "all": {"a", long, "b", "c", "d", "e", "f", "g"},
	} {
		t.Run(name, func(t *testing.T) {
			var runs []Run
			for i, agent := range agents {
				runs = append(runs, Run{ID: fmt.Sprint(i), Agent: agent, Status: "running", Final: ended("failed", "This could not be finished. You can run it again.")})
			}
			work, steps := slowly(runs...)
			end := sync.OnceFunc(func() { close(steps) })
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Ask: &Ask{Agents: agents}, Work: work}))
			defer end()
			widths := []int64{360, 1440}
			before := map[int64][]drawn{}
			check := func(when string, own ...string) {
				t.Helper()
				for _, width := range widths {
					all := p.seen(width)
					for i, a := range all {
						if a.Cut {
							t.Errorf("%d, %s: the %s of %s is cut", width, when, a.What, agents[a.Run])
						}
						for _, b := range all[i+1:] {
							if a.Left < b.Right && b.Left < a.Right && a.Top < b.Bottom && b.Top < a.Bottom {
								t.Errorf("%d, %s: the %s of %s lies over the %s of %s", width, when, a.What, agents[a.Run], b.What, agents[b.Run])
							}
						}
					}
					for run := range agents {
						for _, what := range own {
							if _, ok := where(all, run, what); !ok {
								t.Errorf("%d, %s: there is no %s of %s", width, when, what, agents[run])
							}
						}
						if was, ok := below(before[width], run); ok {
							if is, _ := below(all, run); is != was {
								t.Errorf("%d, %s: the text of %s went from %v to %v", width, when, agents[run], was, is)
							}
						}
					}
					before[width] = all
				}
			}
			shows := func(words string) {
				t.Helper()
				p.until(fmt.Sprintf("%s.split('|').filter(s => s == %q).length == %d", order, words, len(agents)))
			}
			shows("Working…")
			check("before it says something", "name", "stop", "pending")
			for run := range agents {
				steps <- step{run, []agent.Event{{Text: "First words, and further ones.\n\n"}}}
			}
			shows("First words, and further ones.")
			clear(before) // what comes to be read makes room for itself
			check("when there is something to read", "name", "stop", "text")
			for _, status := range statuses {
				for run := range agents {
					steps <- step{run, []agent.Event{{Kind: agent.Status, Text: status}}}
				}
				shows(status)
				check(status, "name", "stop", "text", "status")
			}
			for run := range agents {
				steps <- step{run, nil}
			}
			clear(before) // how one ended makes room for itself
			end()
			p.until("document.readyState == 'complete'")
			check("at the end", "name", "text", "final")
			p.wantQuiet()
		})
	}
}

// A line that comes in pieces is one line, with what goes on below it.
func TestTailsInBrowser(t *testing.T) {
	for name, n := range map[string]int{"one": 1, "several": 2} {
		t.Run(name, func(t *testing.T) {
			work, steps := slowly(slices.Repeat([]Run{running}, n)...)
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
			defer close(steps)
			for i, piece := range []string{"One ", "line ", "in ", "pieces"} {
				steps <- step{0, []agent.Event{{Text: piece}, {Kind: agent.Status, Text: fmt.Sprint("Piece ", i)}}}
				p.until(fmt.Sprintf("document.querySelectorAll('.tail').length == %d", i+1))
			}
			for _, width := range []int64{360, 1440} {
				all := p.seen(width)
				first, _ := where(all, 0, "tail")
				status, ok := where(all, 0, "status")
				for _, d := range all {
					if d.Run == 0 && d.What == "tail" && (d.Top != first.Top || d.Bottom > status.Top) {
						t.Errorf("%d: a piece is at %v, the first at %v, the status at %v", width, d, first, status)
					}
				}
				if !ok {
					t.Errorf("%d: there is no status", width)
				}
			}
		})
	}
}

// The end of a run moves nothing that was read of it, and takes the place of the
// status when there is nothing to read.
func TestEndInBrowser(t *testing.T) {
	for name, agents := range map[string][]string{"one": {"brief"}, "several": {"brief", "news"}} {
		t.Run(name, func(t *testing.T) {
			var runs []Run
			for i, agent := range agents {
				runs = append(runs, Run{ID: fmt.Sprint(i), Agent: agent, Status: "running", Final: ended("failed", "Too much is running right now.")})
			}
			work, steps := slowly(runs...)
			end := sync.OnceFunc(func() { close(steps) })
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
			defer end()
			last := len(agents) - 1
			steps <- step{0, []agent.Event{{Kind: agent.Status, Text: "Reading…"}}}
			if last > 0 {
				steps <- step{last, []agent.Event{{Text: "Words.\n\n"}, {Kind: agent.Status, Text: "Reading…"}}}
			}
			p.until(fmt.Sprintf("%s.split('|').filter(s => s == 'Reading…').length == %d", order, len(agents)))
			before := p.seen(360)
			for run := range agents {
				steps <- step{run, nil}
			}
			end()
			p.until("document.readyState == 'complete'")
			after := p.seen(360)
			status, _ := where(before, 0, "status")
			if final, ok := where(after, 0, "final"); !ok || final != (drawn{0, "final", status.Left, status.Top, status.Right, status.Bottom, false}) {
				t.Errorf("the end is at %v, the status was at %v", final, status)
			}
			for run := range agents {
				was, _ := below(before, run)
				if is, _ := below(after, run); is != was {
					t.Errorf("the text of %s went from %v to %v", agents[run], was, is)
				}
			}
			const calm = "(s => s.fontWeight + ' ' + (s.color == getComputedStyle(document.querySelector('.small')).color))(getComputedStyle(document.querySelector('[data-final]')))"
			if got := eval[string](p, calm); got != "400 true" {
				t.Errorf("the end is said in %s", got)
			}
		})
	}
}

// What went on in a run that had ended when the page began is not in the page, not
// even until its end comes.
func TestPastStatusInBrowser(t *testing.T) {
	for name, n := range map[string]int{"one": 1, "several": 2} {
		t.Run(name, func(t *testing.T) {
			past := running
			past.Status = "done"
			work, steps := slowly(slices.Repeat([]Run{past}, n)...)
			p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: work}))
			defer close(steps)
			steps <- step{0, []agent.Event{{Kind: agent.Status, Text: "Reading…"}, {Text: "All is quiet.\n\n"}}}
			p.until("document.querySelector('[data-kind=text]')")
			if eval[bool](p, "document.querySelector('[data-kind=status]') != null") {
				t.Error("it is in the page")
			}
		})
	}
}

// A small value is open at first; a large, long or deep one is folded, and so is
// one in a table.
func TestOpen(t *testing.T) {
	long := `"` + strings.Repeat("long ", 20) + `"`
	for _, test := range []struct {
		json         string
		open, folded int
	}{
		{`{"disk":{"free":12,"of":40}}`, 1, 0},
		{`{"disk":{"a":1,"b":"2","c":null,"d":true,"e":[1,2,3]}}`, 1, 0},
		{`{"disk":{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}}`, 0, 1},
		{`{"disk":{"free":` + long + `}}`, 0, 1},
		{`{"names":[` + long + `]}`, 0, 1},
		{`{"names":["` + strings.Repeat("n", 40) + `","` + strings.Repeat("m", 40) + `"]}`, 1, 0},
		{`{"none":{},"short":[1,2],"text":` + long + `}`, 0, 0},
		{`{"a":{"b":{"c":1}}}`, 1, 1},
		{`[[[{"a":1},2],3],4]`, 1, 2},
		{`[[[[{"a":1},2],3],4],5]`, 0, 4},
		{`[{"a":{"b":1}},{"a":2}]`, 0, 1},
	} {
		page := rendered(t, data(json.RawMessage(test.json)))
		open, folded := strings.Count(page, "<details open>"), strings.Count(page, "<details>")
		if open != test.open || folded != test.folded {
			t.Errorf("%s: %d open and %d folded, want %d and %d", test.json, open, folded, test.open, test.folded)
		}
	}
}

// The edge of a table that goes on beyond it has a shade, until it is scrolled to
// its end; that of one which does not has none.
func TestWideInBrowser(t *testing.T) {
	wide := agent.Event{Kind: agent.Data, Data: json.RawMessage(`[{"service":"gateway","state":"deployed","version":"2.4.1","region":"north","operator":"cedar-otter-42"}]`)}
	narrow := agent.Event{Kind: agent.Data, Data: json.RawMessage(`[{"n":1}]`)}
	p := browse(t, HomePage(Home{Account: "cedar-otter-42", Work: ran(running, wide, narrow)}))
	p.until("document.readyState == 'complete'")
	for _, scheme := range []string{"light", "dark"} {
		p.lookAt(360, scheme)
		eval[bool](p, "document.querySelector('.wide').scrollLeft = 0, true")
		if p.edge(0) == p.paper() {
			t.Errorf("%s: nothing shows that the table goes on", scheme)
		}
		eval[bool](p, "document.querySelector('.wide').scrollLeft = 1e6, true")
		if got, want := p.edge(0), p.paper(); got != want {
			t.Errorf("%s: the edge of the table's end is %v, want %v", scheme, got, want)
		}
		if got, want := p.edge(1), p.paper(); got != want {
			t.Errorf("%s: the edge of a table that ends there is %v, want %v", scheme, got, want)
		}
	}
}

// edge is the colour of the i-th table's right edge, in its upper corner.
func (p *tab) edge(i int) color.Color {
	p.t.Helper()
	at := eval[[]float64](p, fmt.Sprintf("(r => [r.right - 1 + scrollX, r.top + 2 + scrollY])(document.querySelectorAll('.wide')[%d].getBoundingClientRect())", i))
	return p.pixel(at[0], at[1])
}

// paper is the colour of the page's upper left corner.
func (p *tab) paper() color.Color { p.t.Helper(); return p.pixel(0, 0) }

func (p *tab) pixel(x, y float64) color.Color {
	p.t.Helper()
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Clip: &page.Viewport{X: x, Y: y, Width: 1, Height: 1, Scale: 1}, CaptureBeyondViewport: new(true),
	})
	drawn, err := png.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		p.t.Fatal(err)
	}
	return drawn.At(0, 0)
}
