package e2e

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// tab is one tab of a browser, as a person without cookies opens it. Whatever a
// person would see in the developer tools fails the test: console warnings and
// errors, CSP violations, uncaught exceptions, failed requests.
type tab struct {
	*authenticator
	t    *testing.T
	ctx  context.Context
	site *site

	mu         sync.Mutex
	documents  []*document
	requests   []string // "GET Document /"
	ceremonies []string // "immediate", "get", "create"
	problems   []string
	expected   map[int64]bool // statuses of documents that the story foresees
}

// document is an answer to a navigation.
type document struct {
	id      network.RequestID
	loader  cdp.LoaderID
	status  int64
	url     string
	shown   bool // it has replaced the one before
	headers network.Headers
}

// browse opens a tab in a browser context of its own.
func (s *site) browse(t *testing.T) *tab {
	t.Helper()
	return s.newTab(t, chromium.context(t), chromedp.WithNewBrowserContext())
}

// another opens a tab beside this one, with the same cookies.
func (p *tab) another() *tab {
	p.t.Helper()
	return p.site.newTab(p.t, p.ctx, chromedp.WithNewWindow(false))
}

func (s *site) newTab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, site: s, expected: map[int64]bool{}}
	if err := chromedp.Listen(ctx, p.observe); err != nil {
		t.Fatal(err)
	}
	call(p, audits.Enable, cdp.Empty{})
	call(p, runtime.AddBinding, runtime.AddBindingParams{Name: "ceremony"})
	p.before(ceremonies)
	call(p, webauthn.Enable, webauthn.EnableParams{})
	p.authenticator = p.plugIn(synced)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			t.Error("the browser says: ", problem)
		}
		for _, document := range p.documents {
			p.checkHeaders(document)
		}
	})
	return p
}

// ceremonies tells the test of each WebAuthn call, and lets it answer in the
// browser's stead: instead.get = (options, native) => …. A virtual authenticator
// has no dialog, and with it Chromium says of an immediate get that finds nothing
// what it says of one that was dismissed; here it says what it says to people.
const ceremonies = `
self.instead = {}
self.dismiss = () => Promise.reject(new DOMException('The operation either timed out or was not allowed.', 'NotAllowedError'))
for (const method of self.CredentialsContainer ? ['get', 'create'] : []) {
  const native = CredentialsContainer.prototype[method]
  CredentialsContainer.prototype[method] = function (options) {
    const kind = options.uiMode ?? method
    const call = asked => native.call(this, asked).catch(error => {
      throw kind == 'immediate' && error.name == 'NotAllowedError'
        ? new DOMException('No immediate discoverable credentials are found.', 'NotAllowedError') : error
    })
    ceremony(kind)
    return kind in instead ? instead[kind](options, call) : call(options)
  }
}`

// observe runs on the goroutine that reads the browser's messages.
func (p *tab) observe(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if address, err := url.Parse(e.Request.URL); err == nil && address.Scheme != "data" {
			p.requests = append(p.requests, fmt.Sprintf("%s %s %s", e.Request.Method, e.Type, address.RequestURI()))
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			p.documents = append(p.documents, &document{
				id: e.RequestID, loader: e.LoaderID, status: e.Response.Status, url: e.Response.URL, headers: e.Response.Headers,
			})
		}
	case *page.EventFrameNavigated:
		for _, d := range p.documents {
			d.shown = d.shown || d.loader == e.Frame.LoaderID
		}
	case *runtime.EventBindingCalled:
		p.ceremonies = append(p.ceremonies, e.Payload)
	case *network.EventLoadingFailed:
		if !e.Canceled {
			p.problem("request failed: %s", e.ErrorText)
		}
	case *runtime.EventExceptionThrown:
		p.problem("uncaught: %v", &chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails})
	case *runtime.EventConsoleAPICalled:
		if e.Type != runtime.ConsoleAPICalledTypeLog && e.Type != runtime.ConsoleAPICalledTypeInfo {
			p.problem("console.%s", e.Type)
		}
	case *audits.EventIssueAdded:
		p.problem("issue: %s", e.Issue.Code)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level != cdplog.EntryLevelVerbose && e.Entry.Level != cdplog.EntryLevelInfo && !p.foreseen(e.Entry) {
			p.problem("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	}
}

func (p *tab) problem(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// foreseen reports whether the entry is Chromium's remark on the status of a
// document that the test expects, or of a refusal of the JSON API, whose caller
// is told.
func (p *tab) foreseen(e *cdplog.Entry) bool {
	if e.Source == cdplog.EntrySourceNetwork && strings.HasPrefix(e.URL, p.site.url+"/auth/") {
		return true
	}
	return slices.ContainsFunc(p.documents, func(d *document) bool {
		return d.id == e.NetworkRequestID && p.expected[d.status]
	})
}

// headers are on every page (DESIGN.md, "Headers on every page").
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
}

func (p *tab) checkHeaders(d *document) {
	if !strings.HasPrefix(d.url, p.site.url+"/") {
		return
	}
	got := map[string]string{}
	for name, value := range d.headers {
		got[strings.ToLower(name)], _ = value.(string)
	}
	for name, want := range headers {
		if value := got[strings.ToLower(name)]; value != want {
			p.t.Errorf("%s: %s is %q, want %q", d.url, name, value, want)
		}
	}
	for name, want := range map[string]string{
		"Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)", "Cache-Control": "no-store",
	} {
		if value := got[strings.ToLower(name)]; !strings.Contains(value, want) {
			p.t.Errorf("%s: %s is %q, want %q in it", d.url, name, value, want)
		}
	}
}

// call runs a protocol command.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// before runs a script in every document from the next on, before its own.
func (p *tab) before(script string) {
	p.t.Helper()
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// eval is the value of an expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// run runs a script in the page.
func (p *tab) run(script string) {
	p.t.Helper()
	eval[chromedp.Void](p, script)
}

// eventually waits for a condition outside the page.
func (p *tab) eventually(what string, condition func() bool) {
	p.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			body, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
			p.t.Fatalf("not in %s: %s\nThe page:\n%s", patience, what, body)
		}
	}
}

// until waits for a condition in the page, whichever document that is.
func (p *tab) until(condition string) {
	p.t.Helper()
	p.eventually(condition, func() bool {
		// Between two documents there is nothing to ask.
		holds, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		return err == nil && holds
	})
}

// loaded waits until the page is there to its end, and its script has run.
func (p *tab) loaded() {
	p.t.Helper()
	p.until("document.readyState == 'complete'")
}

// answer performs an act and waits until the document that it leads to is shown.
// Its status must be as expected.
func (p *tab) answer(status int64, act func()) *document {
	p.t.Helper()
	p.mu.Lock()
	seen := len(p.documents)
	p.expected[status] = true
	p.mu.Unlock()
	act()
	var d *document
	p.eventually("an answer to the act", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.documents) == seen {
			return false
		}
		d = p.documents[len(p.documents)-1]
		return d.shown
	})
	if d.status != status {
		p.t.Fatalf("%s answered %d, want %d\nThe page:\n%s", d.url, d.status, status, eval[string](p, "document.body.innerText"))
	}
	if status >= 400 && !eval[bool](p, "document.querySelector('[data-status=running]') != null") { // which stream only beside a run
		p.loaded()
	}
	return d
}

// open goes to an address: a path of the site, or whole.
func (p *tab) open(address string) { p.t.Helper(); p.openAs(200, address) }

func (p *tab) openAs(status int64, address string) {
	p.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = p.site.url + address
	}
	p.answer(status, func() {
		p.t.Helper()
		call(p, page.Navigate, page.NavigateParams{URL: address})
	})
	p.loaded()
}

func (p *tab) reload() {
	p.t.Helper()
	p.answer(200, func() { p.t.Helper(); call(p, page.Reload, page.ReloadParams{}) })
	p.loaded()
}

// click is a real click, which gives the page transient activation.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.loaded()
	p.clickEarly(selector)
}

// clickEarly is a click on a page that is still on its way.
func (p *tab) clickEarly(selector string) {
	p.t.Helper()
	x, y := p.place(selector)
	if err := chromedp.Do(p.ctx, chromedp.MouseClickXY(x, y)); err != nil {
		p.t.Fatalf("click %s: %v", selector, err)
	}
}

// fill types into a field in place of what it holds.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.click(selector)
	p.run(fmt.Sprintf("document.querySelector(%q).select()", selector))
	p.write(text)
}

// write types into the field that has the focus.
func (p *tab) write(text string) {
	p.t.Helper()
	call(p, input.InsertText, input.InsertTextParams{Text: text})
}

// place brings the tab to the front, waits for a visible element and returns its
// middle.
func (p *tab) place(selector string) (x, y float64) {
	p.t.Helper()
	call(p, page.BringToFront, cdp.Empty{})
	p.until(found(selector) + "?.checkVisibility({visibilityProperty: true})")
	middle := eval[[2]float64](p, fmt.Sprintf(`(element => {
		element.scrollIntoView({block: 'nearest'})
		const { x, y, width, height } = element.getBoundingClientRect()
		return [x + width / 2, y + height / 2]
	})(%s)`, found(selector)))
	return middle[0], middle[1]
}

// found is the first element that a selector finds in the page, or in the shadow
// root of several runs.
func found(selector string) string {
	return fmt.Sprintf("(document.querySelector(%[1]q) ?? document.querySelector('#run')?.shadowRoot?.querySelector(%[1]q))", selector)
}

const button = "#auth button"

// press presses Auth and waits for the page that answers.
func (p *tab) press(status int64) *document {
	p.t.Helper()
	return p.answer(status, func() { p.t.Helper(); p.click(button) })
}

// pressInVain presses Auth and waits for the sentence that says why nothing came
// of it.
func (p *tab) pressInVain(say string) {
	p.t.Helper()
	p.click(button)
	p.untilSays(say)
	if p.busy() {
		p.t.Error("the button still says that it waits")
	}
}

func (p *tab) busy() bool {
	p.t.Helper()
	return eval[bool](p, `Boolean(document.querySelector('[aria-busy]'))`)
}

// untilSays waits until the one visible line is that of say, and returns it.
func (p *tab) untilSays(say string) string {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll('[data-say]')].filter(e => !e.hidden).map(e => e.dataset.say).join() == %q`, say))
	return p.text(fmt.Sprintf("[data-say=%s]", say))
}

// text is what a person reads in an element.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q).innerText.trim()", selector))
}

// visible reports whether a person sees an element.
func (p *tab) visible(selector string) bool {
	p.t.Helper()
	return eval[bool](p, "Boolean("+found(selector)+"?.checkVisibility({visibilityProperty: true}))")
}

// account waits for the signed-in page, to its end, and returns whose it is.
func (p *tab) account() string {
	p.t.Helper()
	p.until("document.querySelector('main[data-account]') && document.readyState == 'complete'")
	return eval[string](p, "document.querySelector('main').dataset.account")
}

// register makes an account with one press and returns its name.
func (p *tab) register() string {
	p.t.Helper()
	p.open("/")
	p.press(200)
	return p.account()
}

// openAccount goes to the person's own page as they do.
func (p *tab) openAccount() {
	p.t.Helper()
	p.answer(200, func() { p.click("main a[href='/account']") })
	p.loaded()
	p.wantAddress("/account")
}

func (p *tab) signOut() {
	p.t.Helper()
	p.answer(200, func() { p.t.Helper(); p.click(`[action="/sign-out"] button`) })
	p.until("document.querySelector('#auth button')")
}

// wantCeremonies compares the WebAuthn calls since the last look. A browser that was
// slow to say that it has no passkey is asked once more, and may be: the machine is
// shared.
func (p *tab) wantCeremonies(want ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := slices.CompactFunc(slices.Clone(p.ceremonies), func(a, b string) bool { return a == "immediate" && b == a })
	if !slices.Equal(p.ceremonies, want) && !slices.Equal(asked, want) {
		p.t.Errorf("the press called %v, want %v", p.ceremonies, want)
	}
	p.ceremonies = nil
}

// asked are the requests since the last look.
func (p *tab) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.requests
	p.requests = nil
	return asked
}

// wantUsers compares the number of accounts in the database.
func (p *tab) wantUsers(want int) {
	p.t.Helper()
	if got := p.site.users(); got != want {
		p.t.Errorf("there are %d accounts, want %d", got, want)
	}
}

// wantPosts compares how often the button's form has reached the server.
func (p *tab) wantPosts(want int) {
	p.t.Helper()
	if got := p.site.journal.answers("POST /"); got != want {
		p.t.Errorf("the form was posted %d times, want %d", got, want)
	}
}

// wantAddress compares the path and query that the person sees.
func (p *tab) wantAddress(want string) {
	p.t.Helper()
	if got := eval[string](p, "location.pathname + location.search"); got != want {
		p.t.Errorf("the address is %s, want %s", got, want)
	}
}
