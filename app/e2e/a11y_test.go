package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// axeCore is where make setup puts axe-core.
const axeCore = "../../.cache/node_modules/axe-core/axe.min.js"

// TestAccessible audits every state in every look: axe-core finds nothing,
// nothing is wider than the screen, and every target is large enough.
func TestAccessible(t *testing.T) {
	axe, err := os.ReadFile(axeCore)
	if err != nil {
		const why = "axe-core is not here: run make setup"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			p := state.reach(t)
			p.run(string(axe))
			for _, l := range looks {
				p.lookAt(l)
				for _, violation := range await[[]string](p, violations) {
					t.Errorf("%s: axe: %s", l, violation)
				}
				if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > l.width {
					t.Errorf("%s: the page is %d px wide", l, wide)
				}
				for _, target := range eval[[]string](p, smallTargets) {
					t.Errorf("%s: too small to hit: %s", l, target)
				}
			}
		})
	}
}

// violations are what axe-core finds. It would read style sheets through style
// elements in shadow roots, which the policy forbids.
const violations = `axe.run(document, {resultTypes: ['violations'], preload: false}).then(({violations}) =>
	violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html + ' ' + n.failureSummary)))`

// smallTargets are those below 44 px. A link in a sentence has the size of its
// words (WCAG 2.2, 2.5.8).
const smallTargets = `[document, document.querySelector('#run')?.shadowRoot].flatMap(
		root => [...root?.querySelectorAll('a, button, summary, select, textarea, input:not([type=hidden])') ?? []])
	.filter(e => e.checkVisibility({visibilityProperty: true}) && !(e.localName == 'a' && getComputedStyle(e).display == 'inline' && e.closest('p, [data-kind=text]')))
	.map(e => [e.getBoundingClientRect(), e.outerHTML])
	.filter(([r]) => r.width < 44 || r.height < 44)
	.map(([r, html]) => Math.round(r.width) + '×' + Math.round(r.height) + ' ' + html)`

// await is the value of a promise in the page.
func await[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// watchShifts adds up how much the layout moves, also just after a click, which
// the browser would forgive.
const watchShifts = `self.shifted = []
new PerformanceObserver(list => shifted.push(...list.getEntries().flatMap(
	e => e.sources.map(s => e.value + ' ' + (s.node?.outerHTML ?? s.node?.textContent))))).observe({type: 'layout-shift', buffered: true})`

// wantStill checks that nothing has moved.
func (p *tab) wantStill() {
	p.t.Helper()
	// Shifts are told of after the frame in which they happened.
	await[bool](p, "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true)))))")
	for _, shift := range eval[[]string](p, "shifted") {
		p.t.Errorf("the layout moved: %s", shift)
	}
}

// No line that appears moves anything, in whichever state the press ends.
func TestNoLayoutShift(t *testing.T) {
	for name, stub := range map[string]string{
		"dismissed": "instead.immediate = dismiss; instead.create = dismiss",
		"failed":    "instead.immediate = async () => { throw new DOMException('', 'UnknownError') }",
		"elsewhere": "instead.immediate = async () => { throw new DOMException('', 'SecurityError') }",
		"ready":     "Object.defineProperty(navigator, 'userActivation', {value: {isActive: false}})",
	} {
		for _, l := range looks[:2] {
			t.Run(name+"-"+l.String(), func(t *testing.T) {
				p := serve(t, nil).browse(t)
				p.lookAt(l)
				p.before(watchShifts)
				p.before(stub)
				p.open("/")
				before := eval[[]float64](p, where)
				p.pressInVain(name)
				p.wantStill()
				if after := eval[[]float64](p, where); after[0] != before[0] || after[1] != before[1] {
					t.Errorf("the button went from %v to %v", before, after)
				}
			})
		}
	}
}

const where = "(r => [r.x + scrollX, r.y + scrollY])(document.querySelector('#auth').getBoundingClientRect())"

func TestNoLayoutShiftWhileStreaming(t *testing.T) {
	hook, release := paused(t)
	p := serve(t, hook).browse(t)
	p.before(watchShifts)
	p.open("/")
	p.press(200)
	p.wantStream(release)
	p.loaded()
	p.wantStill()
}

// A person who uses a keyboard sees where they are, and gets everywhere.
func TestFocusIsVisible(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	var reached []string
	for range 8 {
		if err := chromedp.Do(p.ctx, chromedp.KeyEvent("\t")); err != nil {
			t.Fatal(err)
		}
		if eval[bool](p, "document.activeElement == document.body") {
			break
		}
		if eval[string](p, "getComputedStyle(document.activeElement).outlineStyle") == "none" {
			t.Errorf("the focus is not to be seen on %s", eval[string](p, "document.activeElement.outerHTML"))
		}
		reached = append(reached, eval[string](p, "document.activeElement.innerText || document.activeElement.name"))
	}
	if got, want := strings.Join(reached, ", "), "Bio, Sign out, Your account, Use your other passkey, prompt, Run"; got != want {
		t.Errorf("the keyboard reaches %s, want %s", got, want)
	}
}
