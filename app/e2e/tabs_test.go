package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Options live for half a minute in these tests.
const ttl = 30 * time.Second

// grow lets time pass for the page and the server alike.
func (p *tab) grow(d time.Duration) {
	p.t.Helper()
	p.site.clock.advance(d)
	p.run(fmt.Sprintf("{ const now = Date.now; Date.now = () => now() + %d }", d.Milliseconds()))
}

// renewals are the requests for fresh options since the last look.
func (p *tab) renewals() (n int) {
	for _, request := range p.asked() {
		if strings.Contains(request, " /ceremony") {
			n++
		}
	}
	return n
}

func TestOldOptionsAreRenewedInThePress(t *testing.T) {
	p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	p.open("/")
	p.asked()
	p.grow(ttl + time.Second)
	p.press(200)
	p.account()
	asked := p.asked()
	if len(asked) < 2 || asked[0] != "GET Fetch /ceremony" || asked[1] != "POST Document /" {
		t.Errorf("the press asked for %v, want fresh options and then the page", asked)
	}
	if slices.Contains(asked[1:], "GET Fetch /ceremony") {
		t.Error("the options were renewed twice")
	}
	p.wantCeremonies("immediate", "create")
	p.wantUsers(1)
}

// Options past a third of their life are renewed as soon as a person comes near,
// so that the press need not wait.
func TestOldOptionsAreRenewedBeforeThePress(t *testing.T) {
	for name, near := range map[string]string{
		"pointer":  "",
		"focus":    "document.querySelector('#auth button').focus()",
		"visible":  "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))",
		"pageshow": "dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))",
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
			p.open("/")
			p.asked()
			p.grow(ttl * 2 / 5)
			if near == "" {
				if err := chromedp.Do(p.ctx, chromedp.MouseEvent("mouseMoved", 200, 200)); err != nil {
					t.Fatal(err)
				}
			} else {
				p.run(near)
			}
			p.until("performance.getEntriesByName(location.origin + '/ceremony').length == 1")
			p.site.clock.advance(ttl * 4 / 5) // past the life of the first options
			p.press(200)
			p.account()
			if n := p.renewals(); n != 1 {
				t.Errorf("the options were renewed %d times, want once", n)
			}
		})
	}
}

func TestYoungOptionsAreKept(t *testing.T) {
	p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	p.open("/")
	p.asked()
	p.grow(ttl / 5)
	p.press(200)
	p.account()
	if n := p.renewals(); n != 0 {
		t.Errorf("the options were renewed %d times, want never", n)
	}
}

func TestNoConnection(t *testing.T) {
	p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	p.open("/")
	p.run("self.online = fetch; self.fetch = async () => { throw new TypeError('Failed to fetch') }")
	p.grow(ttl)
	p.pressInVain("offline")
	if got, want := p.text("[data-say=offline]"), "No connection. Press Auth to try again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	if p.visible("#other button") {
		t.Error("another way is offered where the connection is the trouble")
	}
	p.wantCeremonies()
	p.run("self.fetch = online")
	p.press(200)
	p.account()
}

// A tab that was behind another, as a browser hides it for real.
func TestHiddenTabComesBack(t *testing.T) {
	p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	p.open("/")
	p.asked()
	front := p.another()
	front.open("/")
	call(front, page.BringToFront, cdp.Empty{})
	p.until("document.hidden")
	p.grow(ttl + time.Second)
	call(p, page.BringToFront, cdp.Empty{})
	p.until("!document.hidden && performance.getEntriesByName(location.origin + '/ceremony').length == 1")
	p.press(200)
	p.account()
	if n := p.renewals(); n != 1 {
		t.Errorf("the options were renewed %d times, want once", n)
	}
}

// Whether the browser kept the page or asks for it anew: the press works.
func TestBackToAnOldPage(t *testing.T) {
	p := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	p.open("/")
	p.grow(ttl + time.Second) // for the page itself, should the browser keep it
	p.openAs(404, "/nothing")
	p.run("setTimeout(() => history.back())")
	p.until("document.querySelector('#auth') && document.readyState == 'complete'")
	p.press(200)
	p.account()
	p.wantUsers(1)
}

// A page that was left in the middle of a press does not wait for ever.
func TestRestoredPageIsIdle(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(gate)
	p.open("/")
	p.click(button)
	p.until("self.go")
	p.run("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
	if p.busy() {
		t.Error("the restored page still says that it waits")
	}
}

// The other tab's page is old, but its press finds the passkey that was made
// meanwhile.
func TestTwoTabs(t *testing.T) {
	a := serve(t, nil).browse(t)
	a.open("/")
	b := a.another()
	b.open("/")
	a.press(200)
	name := a.account()
	b.take(a.passkeys()...)
	b.press(200)
	if got := b.account(); got != name {
		t.Errorf("the other tab is signed in to %s, want %s", got, name)
	}
	b.wantCeremonies("immediate")
	b.wantUsers(1)
	b.wantPasskeys(1)
}

// The other tab made a passkey before it could know: there is no second account,
// and the passkey goes.
func TestTwoTabsNeverMakeTwoAccounts(t *testing.T) {
	a := serve(t, nil).browse(t)
	a.open("/")
	b := a.another()
	b.open("/")
	a.press(200)
	name := a.account()
	b.press(200)
	if got := b.account(); got != name {
		t.Errorf("the other tab is signed in to %s, want %s", got, name)
	}
	b.wantCeremonies("immediate", "create")
	b.wantUsers(1)
	b.wantPasskeys(0)
	a.wantPasskeys(1)
	if got := b.text(".notice"); !strings.Contains(got, "already") {
		t.Errorf("the other tab explains %q", got)
	}
}

// The same when the other tab's options have expired as well.
func TestTwoTabsOneAsleep(t *testing.T) {
	a := serve(t, nil, "BIO_CHALLENGE_TTL="+ttl.String()).browse(t)
	a.open("/")
	b := a.another()
	b.open("/")
	a.press(200)
	name := a.account()
	a.site.clock.advance(ttl + time.Second)
	b.press(200)
	if got := b.account(); got != name {
		t.Errorf("the other tab is signed in to %s, want %s", got, name)
	}
	b.wantUsers(1)
	b.wantPasskeys(0)
}

func TestSignOutInAnotherTab(t *testing.T) {
	a := serve(t, nil).browse(t)
	name := a.register()
	b := a.another()
	b.open("/")
	if got := b.account(); got != name {
		t.Errorf("the other tab shows %s, want %s", got, name)
	}
	a.signOut()
	b.reload()
	if !b.visible(button) {
		t.Error("the other tab is still signed in")
	}
}

// elsewhere is another site with a link to this one.
func elsewhere(t *testing.T, s *site) string {
	t.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><title>Elsewhere</title><link rel="icon" href="data:,">
			<p><a href="%[1]s/">A link</a><form method="post" action="%[1]s/"><button>A form</button></form>`, s.url)
	}))
	t.Cleanup(other.Close)
	return other.URL
}

// The Strict cookie stays behind at first; one reload by our own page brings it.
func TestLinkFromElsewhere(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	name := p.register()
	p.open(elsewhere(t, s))
	p.asked()
	p.answer(200, func() { p.click("a") })
	if got := p.account(); got != name {
		t.Errorf("the link leads to %q, want %s", got, name)
	}
	if got, want := p.documentsAsked(), []string{"GET Document /", "GET Document /"}; !slices.Equal(got, want) {
		t.Errorf("the link led to %v, want one reload", got)
	}
}

func TestLinkFromElsewhereSignedOut(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.register()
	p.signOut()
	p.open(elsewhere(t, s))
	p.asked()
	p.answer(200, func() { p.click("a") })
	p.until("document.querySelector('#auth') && document.readyState == 'complete'")
	if got, want := p.documentsAsked(), []string{"GET Document /", "GET Document /"}; !slices.Equal(got, want) {
		t.Errorf("the link led to %v, want one reload", got)
	}
}

func TestLinkFromElsewhereFirstVisit(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.open(elsewhere(t, s))
	p.asked()
	p.answer(200, func() { p.click("a") })
	p.until("document.querySelector('#auth') && document.readyState == 'complete'")
	if got, want := p.documentsAsked(), []string{"GET Document /"}; !slices.Equal(got, want) {
		t.Errorf("the link led to %v, want no reload", got)
	}
}

func TestFormFromElsewhere(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.open(elsewhere(t, s))
	p.answer(403, func() { p.click("button") })
	if got := p.text("main"); !strings.Contains(got, "Another site sent you here") {
		t.Errorf("the page says %q", got)
	}
}

// documentsAsked are the requests for pages since the last look.
func (p *tab) documentsAsked() []string {
	return slices.DeleteFunc(p.asked(), func(r string) bool { return !strings.Contains(r, " Document ") })
}
