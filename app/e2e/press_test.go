package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func TestRegister(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/")
	p.press(200)
	name := p.account()
	p.wantCeremonies("immediate", "create")
	p.wantUsers(1)
	p.wantAddress("/")
	passkeys := p.passkeys()
	if len(passkeys) != 1 || passkeys[0].UserName != name {
		t.Errorf("the authenticator has %v, want one passkey named %s", passkeys, name)
	}
	if got := p.text("#undo p"); !strings.Contains(got, name) {
		t.Errorf("the new account is not named: %q", got)
	}
	if p.text("#run") == "" {
		t.Error("the agent said nothing")
	}
}

// The answer to the press is the page, and nothing is fetched on the way.
func TestNoFetchOnTheWay(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/")
	p.asked()
	p.press(200)
	p.account()
	for i, request := range p.asked() {
		if document := i == 0; document != (request == "POST Document /") || !document && !strings.Contains(request, " /assets/") {
			t.Errorf("request %d after the press is %s", i+1, request)
		}
	}
}

func TestReload(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.reload()
	if got := p.account(); got != name {
		t.Errorf("after a reload the account is %s, want %s", got, name)
	}
	if p.visible("#undo") {
		t.Error("the way back to an older account is offered twice")
	}
	p.wantPosts(1)
}

func TestRestart(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.site.restart()
	p.reload()
	if got := p.account(); got != name {
		t.Errorf("after a restart the account is %s, want %s", got, name)
	}
	p.answer(200, func() { p.click("#ask button") })
	if got := p.account(); got != name {
		t.Errorf("after a run the account is %s, want %s", got, name)
	}
	p.until("document.querySelector('[data-final=done]')")
	p.wantPosts(1)
}

func TestSignOut(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.register()
	p.signOut()
	p.wantAddress("/")
	if n := s.count("SELECT count(*) FROM sessions"); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	p.reload()
	if !p.visible(button) {
		t.Error("a reload after signing out does not show the button")
	}
}

func TestSignIn(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.signOut()
	p.wantCeremonies("immediate", "create")
	p.press(200)
	if got := p.account(); got != name {
		t.Errorf("signed in to %s, want %s", got, name)
	}
	p.wantCeremonies("immediate")
	p.wantUsers(1)
	p.wantPasskeys(1)
}

// A passkey of another browser or of before the cookies were cleared.
func TestSignInUnknownBrowser(t *testing.T) {
	s := serve(t, nil)
	first := s.browse(t)
	name := first.register()
	p := s.browse(t)
	p.take(first.passkeys()...)
	p.open("/")
	p.press(200)
	if got := p.account(); got != name {
		t.Errorf("signed in to %s, want %s", got, name)
	}
	p.wantCeremonies("immediate")
}

func TestHistoryNeverResubmits(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.open("/?there")
	for _, step := range []struct{ script, search string }{
		{"history.back()", ""}, {"history.forward()", "?there"}, {"history.back()", ""},
	} {
		p.run("setTimeout(() => " + step.script + ")") // so that the answer comes before the page goes
		p.until(fmt.Sprintf("location.search == %q", step.search))
		if got := p.account(); got != name {
			t.Errorf("after %s the account is %q, want %s", step.script, got, name)
		}
	}
	p.reload()
	if got := p.account(); got != name {
		t.Errorf("after a reload the account is %q, want %s", got, name)
	}
	p.wantPosts(1)
}

func TestDismissed(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before("instead.immediate = () => new Promise(done => setTimeout(done, 900)).then(dismiss)")
	p.open("/")
	if p.visible("#other button") {
		t.Error("a link is offered before anything was dismissed")
	}
	p.pressInVain("dismissed")
	if got, want := p.text("[data-say=dismissed]"), "Nothing happened. Press Auth to try again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantCeremonies("immediate") // no create follows
	p.wantPosts(0)
	if got, want := p.text("#other"), "Start a new account"; got != want {
		t.Errorf("the page offers %q, want %q", got, want)
	}
	p.answer(200, func() { p.click("#other [data-mode=create]") })
	p.account()
	p.wantCeremonies("create")
	p.wantUsers(1)
}

// In a browser that has been here, no passkey at hand means that it is elsewhere:
// on a phone, on a key. It never means a new account.
func TestNoPasskeyHereButKnown(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.signOut()
	p.wantCeremonies("immediate", "create")
	p.lose()
	p.before("instead.get = dismiss") // the dialog with the phone and the key
	p.reload()
	p.pressInVain("dismissed")
	p.wantCeremonies("immediate", "get")
	p.wantUsers(1)
	p.answer(200, func() { p.click("#other [data-mode=create]") })
	p.account()
	p.wantCeremonies("create")
	p.wantUsers(2)
}

const noImmediate = "PublicKeyCredential.getClientCapabilities = async () => ({})"

func TestNoImmediate(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(noImmediate)
	name := p.register()
	p.wantCeremonies("create")
	p.signOut()
	p.press(200)
	if got := p.account(); got != name {
		t.Errorf("signed in to %s, want %s", got, name)
	}
	p.wantCeremonies("get")
	p.wantUsers(1)
}

func TestNoImmediateDismissed(t *testing.T) {
	s := serve(t, nil)
	first := s.browse(t)
	name := first.register()
	p := s.browse(t)
	p.take(first.passkeys()...)
	p.before(noImmediate + "; instead.create = dismiss")
	p.open("/")
	p.pressInVain("dismissed")
	p.wantCeremonies("create")
	if got, want := p.text("#other"), "I already have a passkey"; got != want {
		t.Errorf("the page offers %q, want %q", got, want)
	}
	p.answer(200, func() { p.click("#other [data-mode=get]") })
	if got := p.account(); got != name {
		t.Errorf("signed in to %s, want %s", got, name)
	}
	p.wantCeremonies("get")
	p.wantUsers(1)
}

func TestNoImmediateKnownDismissed(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(noImmediate)
	p.register()
	p.signOut()
	p.wantCeremonies("create")
	p.before("instead.get = dismiss")
	p.reload()
	p.pressInVain("dismissed")
	p.wantCeremonies("get")
	if got, want := p.text("#other"), "Start a new account"; got != want {
		t.Errorf("the page offers %q, want %q", got, want)
	}
	p.wantUsers(1)
}

// A browser that found nothing in its half second of looking does not know.
func TestSlowLookupAsksOnceMore(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.signOut()
	p.wantCeremonies("immediate", "create")
	p.before(`instead.immediate = (options, native) => {
		delete instead.immediate
		return new Promise(done => setTimeout(done, 502)).then(() => { throw new DOMException('No immediate discoverable credentials are found.', 'NotAllowedError') })
	}`)
	p.reload()
	p.press(200)
	if got := p.account(); got != name {
		t.Errorf("signed in to %s, want %s", got, name)
	}
	p.wantCeremonies("immediate", "immediate")
}

// Without activation Chromium refuses at once, which must not pass for "no
// passkey here".
func TestActivationLost(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before("Object.defineProperty(navigator, 'userActivation', {value: {isActive: false}})")
	p.open("/")
	p.pressInVain("ready")
	if got, want := p.text("[data-say=ready]"), "Ready. Press Auth."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantCeremonies()
}

func TestDeviceFails(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before("instead.immediate = async () => { throw new DOMException('', 'UnknownError') }")
	p.open("/")
	p.pressInVain("failed")
	if got, want := p.text("[data-say=failed]"), "Your device could not do that (UnknownError). Press Auth to try again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantCeremonies("immediate")
}

func TestUserVerificationFails(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.verifyUser(false)
	p.open("/")
	p.pressInVain("dismissed")
	p.wantCeremonies("immediate", "create")
	p.wantUsers(0)
	p.wantPosts(0)
	p.verifyUser(true)
	p.press(200)
	p.account()
	p.wantUsers(1)
}

func TestNoWebAuthn(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before("delete self.PublicKeyCredential")
	p.open("/")
	if !eval[bool](p, "document.querySelector('#auth button').disabled") {
		t.Error("the button is not disabled")
	}
	want := "This browser cannot use passkeys here. Open this page in a current browser."
	if got := p.untilSays("unsupported"); got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
}

func TestNoScript(t *testing.T) {
	p := serve(t, nil).browse(t)
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.open("/")
	if got := p.text("noscript"); !strings.Contains(got, "Turn on JavaScript") {
		t.Errorf("the page explains %q", got)
	}
	p.press(400)
	if got := p.text("[data-say=notice]"); !strings.Contains(got, "Turn on JavaScript") {
		t.Errorf("the answer explains %q", got)
	}
	p.wantUsers(0)
}

// gate holds a create until the test lets it go on.
const gate = "instead.create = (options, native) => new Promise(go => self.go = go).then(() => native(options))"

func TestDoubleClick(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(gate)
	p.open("/")
	p.answer(200, func() {
		x, y := p.place(button)
		if err := chromedp.Do(p.ctx, chromedp.MouseClickXY(x, y), chromedp.MouseClickXY(x, y, chromedp.ClickCount(2))); err != nil {
			t.Fatal(err)
		}
		p.until("self.go")
		p.click(button)
		if got, want := p.untilSays("waiting"), "Follow your device."; got != want {
			t.Errorf("while it waits the page says %q, want %q", got, want)
		}
		if !p.busy() {
			t.Error("the button does not say that it waits")
		}
		p.run("go()")
	})
	p.account()
	p.wantCeremonies("immediate", "create")
	p.wantPosts(1)
	p.wantUsers(1)
	p.wantPasskeys(1)
}

func TestEnterPresses(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/")
	p.answer(200, func() {
		if err := chromedp.Do(p.ctx, chromedp.Focus(chromedp.CSS(button)), chromedp.KeyEvent("\r")); err != nil {
			t.Fatal(err)
		}
	})
	p.account()
	p.wantUsers(1)
}

func TestReturnTo(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/?return_to=/%3Fthere")
	p.press(200)
	p.wantAddress("/?there")
	if !slices.Contains(p.asked(), "GET Document /?there") {
		t.Error("the way back was not followed by a GET")
	}
	p.wantPosts(1)
	p.open("/?return_to=/%3Fthere") // already signed in
	p.wantAddress("/?there")
	p.open("/")
	p.account()
}

func TestReturnToElsewhere(t *testing.T) {
	for _, hostile := range []string{"https://evil.example/", "//evil.example/", `/\evil.example/`, "javascript:alert(1)", "http://localhost:1/"} {
		t.Run(hostile, func(t *testing.T) {
			p := serve(t, nil).browse(t)
			p.open("/?return_to=" + url.QueryEscape(hostile))
			p.press(200)
			p.account()
			p.wantAddress("/")
		})
	}
}

// An unlucky press keeps the way back, also over a reload.
func TestReturnToSurvivesRefusal(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.take(stranger())
	p.open("/?return_to=/%3Fthere")
	p.press(401)
	p.wantAddress("/?return_to=%2F%3Fthere")
	p.wantPasskeys(0)
	p.reload()
	p.press(200)
	p.wantAddress("/?there")
}

// A passkey belongs to one address: under another the page says where to go.
func TestOtherAddress(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open(strings.Replace(p.site.url, "localhost", "127.0.0.1", 1) + "/")
	p.pressInVain("elsewhere")
	if p.visible("#other button") {
		t.Error("another way is offered, which would not work here either")
	}
	p.answer(200, func() { p.click("[data-say=elsewhere] a") })
	p.loaded()
	if got := eval[string](p, "location.origin"); got != p.site.url {
		t.Errorf("the page leads to %s, want %s", got, p.site.url)
	}
	p.press(200)
	p.account()
}

// The way to one's own activity, and what it says of a sign-in.
func TestAccount(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/account")
	p.wantAddress("/?return_to=%2Faccount")
	p.press(200)
	p.wantAddress("/account")
	name := p.text("h1")
	if got := p.text("#activity"); !strings.Contains(got, "Made this account with Chrome on Linux, from this machine") || !strings.Contains(got, "just now") {
		t.Errorf("the activity of a new account says %q", got)
	}
	p.answer(200, func() { p.click("header a") })
	if got := p.account(); got != name {
		t.Errorf("the mark leads to %s, want %s", got, name)
	}
	p.openAccount()
}
