package e2e

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"bio/app/account"
	"bio/app/audit"
)

// act is the form of the sensitive act that is posted to an address of the
// account's page.
func act(address string) string { return fmt.Sprintf("form[action=%q]", "/account/"+address) }

// do presses the button of a form and waits for the page that answers.
func (p *tab) do(status int64, form string, before ...func()) *document {
	p.t.Helper()
	for _, prepare := range before {
		prepare()
	}
	d := p.answer(status, func() { p.t.Helper(); p.click(form + " button") })
	p.loaded()
	return d
}

// withOther lets the next press use the passkey of another account.
func withOther(p *tab) func() {
	return func() {
		p.t.Helper()
		other := p.site.browse(p.t)
		other.register()
		key := newSecurityKey(p)
		key.take(other.passkeys()...)
		p.present(false)
	}
}

// owner signs in whom the first start's link makes an owner.
func (s *site) owner(t *testing.T) *tab {
	t.Helper()
	p := s.browse(t)
	p.openAndPress(s.invite())
	return p
}

// recovery makes a link that gives an account back, and returns its path.
func (s *site) recovery(name string) string {
	s.t.Helper()
	token := base64.RawURLEncoding.EncodeToString([]byte("eighteen bytes too"))
	_, err := s.db.OfferRecovery(s.t.Context(), name, account.Recovery{
		TokenHash: account.TokenHash(token), ExpiresAt: s.clock.Now().Add(7 * 24 * time.Hour),
	}, audit.Entry{Kind: audit.RecoveryOffered, Reason: "on the machine"})
	if err != nil {
		s.t.Fatal(err)
	}
	return "/?recover=" + token
}

// wantNotice compares what the page says of the last press.
func (p *tab) wantNotice(want string) {
	p.t.Helper()
	if got := p.text(".notice, [data-say=notice]"); got != want {
		p.t.Errorf("the page says %q, want %q", got, want)
	}
}

// items are what the entries of a list say, each in one line.
func (p *tab) items(list string) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf("[...document.querySelectorAll('%s li')].map(e => e.innerText.trim().replace(/\\s+/g, ' '))", list))
}

// signIn signs the passkeys' account in, in a browser of its own that has them.
func (s *site) signIn(t *testing.T, passkeys ...*webauthn.Credential) *tab {
	t.Helper()
	p := s.browse(t)
	p.take(passkeys...)
	p.openAndPress("/")
	return p
}

// addOnKey adds a passkey on a security key, which stays plugged in and answers
// no more.
func (p *tab) addOnKey() *authenticator {
	p.t.Helper()
	key := newSecurityKey(p)
	p.present(false)
	p.do(200, act("passkeys/add"))
	p.wantNotice("The passkey “Passkey 2” is added.")
	key.present(false)
	p.present(true)
	return key
}

func TestRenamePasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	p.wantCeremonies("immediate", "create")
	p.click("#passkeys summary")
	p.fill("#passkeys [action$=rename] [name=name]", "Büro & Sofa")
	p.do(200, "#passkeys [action$=rename]")
	p.wantCeremonies("get")
	p.wantNotice("The passkey is called “Büro & Sofa” now.")
	p.wantAddress("/account")
	if got := p.text("#passkeys .name"); got != "Büro & Sofa" {
		t.Errorf("the passkey is called %q", got)
	}
	p.reload() // a GET
	if got := p.text("#passkeys .name"); got != "Büro & Sofa" || p.visible(".notice") {
		t.Errorf("after a reload the passkey is called %q", got)
	}
}

// The sign-in of a moment ago is proof enough: one press, one new passkey, which
// works at once.
func TestAddPasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	p.wantCeremonies("immediate", "create")
	key := p.addOnKey()
	p.wantCeremonies("create")
	key.wantPasskeys(1)
	p.wantPasskeys(1)
	if got := p.items("#passkeys"); len(got) != 2 || !strings.Contains(got[0], "Synced") || !strings.Contains(got[1], "Stays on one device Not backed up") {
		t.Errorf("the page lists %q", got)
	}
	key.present(true)
	p.present(false)
	p.do(200, act("name"))
	if got := p.items("#passkeys"); !strings.Contains(got[1], "Opened this session") {
		t.Errorf("after a press with the new passkey the page lists %q", got)
	}
	p.wantUsers(1)
}

// Later the press proves first, also on a page that was made before.
func TestAddPasskeyLater(t *testing.T) {
	for name, later := range map[string]func(*tab){
		"asked for then": func(p *tab) {
			p.site.clock.advance(6 * time.Minute)
			p.reload()
			if got := p.text(act("passkeys/add")); !strings.Contains(got, "Your press first shows that it is you") {
				p.t.Errorf("the form says %q", got)
			}
		},
		"open since": func(p *tab) { p.grow(6 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, nil).browse(t)
			p.register()
			p.openAccount()
			later(p)
			p.wantCeremonies("immediate", "create")
			p.do(200, act("passkeys/add"))
			p.wantCeremonies("get")
			p.wantNotice("It is you. Now press “Add a passkey” once more, to make the new one.")
			if got := p.items("#passkeys"); len(got) != 1 {
				t.Errorf("the page lists %q", got)
			}
			p.addOnKey()
			p.wantCeremonies("create")
		})
	}
}

// The device says that it has a passkey of this account: nothing is added.
func TestAddPasskeyTwice(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	p.click(act("passkeys/add") + " button")
	if got, want := p.untilSays("held"), "That device has a passkey for this account already."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantPasskeys(1)
	p.addOnKey()
}

func TestRemovePasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	key := p.addOnKey()
	p.do(200, "#passkeys li:nth-child(2) [action$=remove]")
	p.wantNotice("The passkey is removed, and the sessions that it opened are over.")
	key.wantPasskeys(0)
	p.wantPasskeys(1)

	// The last one stays.
	got := p.items("#passkeys")
	if len(got) != 1 || !strings.Contains(got[0], "It cannot be removed: it is the only way into this account. Add another one first.") {
		t.Errorf("the page lists %q", got)
	}
	if p.visible("#passkeys [action$=remove]") {
		t.Error("the last passkey can be removed")
	}
}

// A passkey that removes itself takes the session with it.
func TestRemovePasskeyByItself(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	key := p.addOnKey()
	p.do(200, "#passkeys li:nth-child(1) [action$=remove]")
	p.wantNotice("The passkey is removed, and with it this session, which it opened. Press Auth to sign in with another one.")
	p.wantAddress("/")
	p.wantPasskeys(0)
	key.wantPasskeys(1)
	key.present(true)
	p.press(200)
	p.account()
	p.wantUsers(1)
}

func TestEndSessions(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.register()
	others := []*tab{s.signIn(t, p.passkeys()...), s.signIn(t, p.passkeys()...)}
	signedOut := func() (n int) {
		for _, other := range others {
			other.reload()
			if other.visible(button) {
				n++
			}
		}
		return n
	}
	p.openAccount()
	p.wantCeremonies("immediate", "create")
	if got := p.items("#sessions"); len(got) != 3 || !strings.HasSuffix(got[0], "This session") {
		t.Errorf("the page lists the sessions %q", got)
	}
	p.do(200, "#sessions [action$=end]")
	p.wantCeremonies() // no press of a passkey
	p.wantAddress("/account")
	if got := p.items("#sessions"); len(got) != 2 {
		t.Errorf("after one was ended the page lists the sessions %q", got)
	}
	if n := signedOut(); n != 1 {
		t.Errorf("%d of the other browsers are signed out, want one", n)
	}
	p.do(200, act("sessions/end-others"))
	p.wantCeremonies("get")
	p.wantNotice("All other sessions are over.")
	if n := signedOut(); n != 2 {
		t.Errorf("%d of the other browsers are signed out, want both", n)
	}
	if got := p.items("#sessions"); len(got) != 1 || p.visible(act("sessions/end-others")) {
		t.Errorf("after all others were ended the page lists the sessions %q", got)
	}
}

// The authenticator's label follows.
func TestRenameAccount(t *testing.T) {
	s := serve(t, nil)
	other := s.browse(t).register()
	p := s.browse(t)
	before := p.register()
	p.openAccount()
	p.fill(act("name")+" [name=name]", other)
	p.do(409, act("name"))
	p.wantNotice("Another account has that name. Choose another one.")
	p.fill(act("name")+" [name=name]", "Grace H.")
	p.do(422, act("name"))
	if got := p.text("h1"); got != before {
		t.Errorf("after two refusals the account is called %s, want %s", got, before)
	}
	p.fill(act("name")+" [name=name]", "grace hopper")
	p.do(200, act("name"))
	p.wantNotice("This account is called grace hopper now.")
	if got := p.text("h1"); got != "grace hopper" {
		t.Errorf("the page is that of %s", got)
	}
	p.eventually("the authenticator's label follows", func() bool { return p.passkeys()[0].UserName == "grace hopper" })
	p.answer(200, func() { p.click("header a") })
	if got := p.account(); got != "grace hopper" {
		t.Errorf("the first page is that of %s", got)
	}
}

func TestErase(t *testing.T) {
	p := serve(t, nil).browse(t)
	before := p.register()
	p.openAccount()
	p.click("#leave summary")
	p.do(200, act("erase"))
	p.wantNotice("The account is erased, with its passkeys, its sessions, and all that the trail said of it.")
	p.wantAddress("/")
	p.wantPasskeys(0)
	p.wantUsers(0)
	if n := p.site.count("SELECT count(*) FROM sessions"); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	p.run("instead.get = dismiss") // the dialog with the phone and the key
	p.pressInVain("dismissed")     // this browser is known: it makes no account unasked
	p.answer(200, func() { p.click("#other [data-mode=create]") })
	if after := p.account(); after == before {
		t.Errorf("the new account is the old one, %s", after)
	}
	p.wantUsers(1)
	p.wantPasskeys(1)
}

func TestActDismissed(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(watchShifts)
	p.register()
	p.openAccount()
	p.run("instead.get = dismiss")
	p.click(act("name") + " button")
	if got, want := p.untilSays("dismissed"), "Nothing happened. You can try again."; got != want || !p.visible("#bar p:not([hidden])") {
		t.Errorf("the bar says %q, want %q", got, want)
	}
	if p.busy() {
		t.Error("the button still says that it waits")
	}
	if n := p.site.journal.answers("POST /account/name"); n != 0 {
		t.Errorf("the form was posted %d times", n)
	}
	p.wantStill()
	p.run("delete instead.get")
	p.do(200, act("name"))
	p.wantCeremonies("immediate", "create", "get", "get")
}

// The passkey of another account proves nothing here, whoever is signed in.
func TestOtherAccountsPasskey(t *testing.T) {
	s := serve(t, nil)
	p, other := s.browse(t), s.browse(t)
	name, theirs := p.register(), other.register()
	key := newSecurityKey(p)
	key.take(other.passkeys()...)
	p.openAccount()

	p.present(false)
	for _, form := range []string{act("name"), act("erase"), "#passkeys [action$=rename]"} {
		p.run("for (const e of document.querySelectorAll('details')) e.open = true")
		p.do(401, form)
		p.wantNotice("That passkey does not open this account. Use one that does.")
		if got := p.text("h1"); got != name {
			t.Fatalf("the page is that of %s, want %s", got, name)
		}
	}
	if got := p.items("#activity"); len(got) == 0 || !strings.Contains(got[0], "Look at this:") || !strings.Contains(got[0], "refused") {
		t.Errorf("the activity says %q", got)
	}
	p.present(true)
	key.present(false)
	p.fill(act("name")+" [name=name]", "ours")
	p.do(200, act("name"))
	p.wantNotice("This account is called ours now.")

	p.wantUsers(2)
	if got := key.passkeys(); len(got) != 1 || got[0].UserName != theirs {
		t.Errorf("the other account's passkey is %v", got)
	}
	other.openAccount()
	if got := other.text("#activity"); strings.Contains(got, "refused") {
		t.Errorf("the other account is told %q", got)
	}
}

// Whoever signed out elsewhere is told so, and where they were.
func TestActSignedOut(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.register()
	p.openAccount()
	p.site.change("DELETE FROM sessions")
	p.site.restart() // which forgets them too
	p.do(401, act("name"))
	p.wantNotice("You are signed out. Press Auth to sign in.")
	p.press(200)
	p.wantAddress("/account")
}

// reach moves the focus to an element with Tab alone; wherever it stops on the way
// is to be seen.
func (p *tab) reach(selector string) {
	p.t.Helper()
	call(p, page.BringToFront, cdp.Empty{}) // only who is looked at may ask for a passkey
	for range 50 {
		p.keys("\t")
		if outline := eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"); outline == "none" {
			p.t.Errorf("the focus is not to be seen on %s", eval[string](p, "document.activeElement.outerHTML"))
		}
		if eval[bool](p, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			return
		}
	}
	p.t.Fatalf("the keyboard does not reach %s", selector)
}

func (p *tab) keys(keys string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.KeyEvent(keys)); err != nil {
		p.t.Fatal(err)
	}
}

// Everything on the page, by keyboard alone.
func TestAccountByKeyboard(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.register()
	s.signIn(t, p.passkeys()...)
	s.signIn(t, p.passkeys()...)
	p.open("/account")
	key := newSecurityKey(p)
	key.present(false)
	enter := func(selector, keys, notice string) {
		t.Helper()
		p.answer(200, func() { p.reach(selector); p.keys(keys) })
		p.loaded()
		if notice != "" {
			p.wantNotice(notice)
		}
	}

	p.reach("#passkeys summary")
	p.keys("\r")
	p.reach("#passkeys [action$=rename] [name=name]") // and what it holds is marked
	p.write("Laptop")
	p.answer(200, func() { p.keys("\r") })
	p.loaded()
	p.wantNotice("The passkey is called “Laptop” now.")

	p.reach("#passkeys summary")
	p.keys(" ")
	p.reach("#passkeys [action$=rename] [name=name]")
	p.write("Notebook")
	enter("#passkeys [action$=rename] button", " ", "The passkey is called “Notebook” now.")

	p.present(false)
	key.present(true)
	enter(act("passkeys/add")+" button", "\r", "The passkey “Passkey” is added.")
	p.present(true)
	key.present(false)
	enter("#passkeys li:nth-child(2) [action$=remove] button", " ", "The passkey is removed, and the sessions that it opened are over.")
	enter("#sessions [action$=end] button", "\r", "")
	enter(act("sessions/end-others")+" button", "\r", "All other sessions are over.")

	p.reach(act("name") + " [name=name]")
	p.write("ada")
	p.answer(200, func() { p.keys("\r") })
	p.loaded()
	p.wantNotice("This account is called ada now.")

	p.reach("#leave summary")
	p.keys(" ")
	enter(act("erase")+" button", "\r", "The account is erased, with its passkeys, its sessions, and all that the trail said of it.")
	p.wantUsers(0)
}

// Without script the page is there to read, a press is answered in words, and a
// session can be ended.
func TestAccountWithoutScript(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	p.register()
	other := s.signIn(t, p.passkeys()...)
	p.openAccount()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.reload()
	if got := p.text("noscript"); !strings.Contains(got, "Changes here need a script") {
		t.Errorf("the page explains %q", got)
	}
	for _, form := range []string{act("name"), act("passkeys/add"), act("sessions/end-others")} {
		p.do(400, form)
		p.wantNotice("A passkey can only be asked for by a script, and none ran. Turn on JavaScript for this page, or wait until it has loaded, and press again.")
	}
	p.do(200, "#sessions [action$=end]")
	other.reload()
	if !other.visible(button) {
		t.Error("the other session goes on")
	}
}

// Two browsers, each with a passkey of its own: removing one ends what it opened
// at once. Nothing tells the other browser before it asks; its next press is
// refused, and takes the dead passkey away.
func TestTwoBrowsers(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	name := p.register()
	p.openAccount()
	key := p.addOnKey()
	other := s.signIn(t, key.passkeys()...)
	if got := other.account(); got != name {
		t.Fatalf("the other browser is signed in to %s, want %s", got, name)
	}
	p.reload()
	if got := p.items("#sessions"); len(got) != 2 {
		t.Errorf("the page lists the sessions %q", got)
	}
	p.do(200, "#passkeys li:nth-child(2) [action$=remove]")
	if got := p.items("#sessions"); len(got) != 1 {
		t.Errorf("after the passkey was removed the page lists the sessions %q", got)
	}
	other.reload()
	if !other.visible(button) {
		t.Error("the session of the removed passkey goes on")
	}
	other.wantPasskeys(1)
	other.press(401)
	other.wantNotice("That passkey was not accepted. Press Auth to try again.")
	other.wantPasskeys(0)
	p.reload()
	if got := p.text("h1"); got != name {
		t.Errorf("the first browser's page is that of %q, want %s", got, name)
	}
	p.wantPasskeys(1)
}

// The other browser is signed in by another passkey than the removed one, which it
// has as well: its next look at the account's page takes that away.
func TestTwoBrowsersSharedPasskey(t *testing.T) {
	s := serve(t, nil)
	p := s.browse(t)
	name := p.register()
	p.openAccount()
	other := s.signIn(t, p.passkeys()...)
	key := p.addOnKey()
	phone := newSecurityKey(other)
	phone.take(key.passkeys()...)
	p.do(200, "#passkeys li:nth-child(2) [action$=remove]")
	other.reload()
	if got := other.account(); got != name {
		t.Errorf("the other browser shows %q, want %s", got, name)
	}
	phone.wantPasskeys(1)
	other.openAccount()
	phone.wantPasskeys(0)
	other.wantPasskeys(1)
}

// link is the path of the link that an owner's press has made.
func (p *tab) link() string {
	p.t.Helper()
	return strings.TrimPrefix(p.text("#link"), p.site.url)
}

func TestInvitation(t *testing.T) {
	s := serve(t, nil, "BIO_REGISTRATION=invite")
	owner := s.owner(t)
	owner.openAccount()
	owner.fill("#people [name=groups]", "ops, billing")
	owner.do(200, act("invitations"))
	owner.wantNotice("The invitation is made.")
	link := owner.link()
	owner.reload()
	if owner.visible("#link") {
		t.Error("the link is shown twice")
	}

	guest, late := s.browse(t), s.browse(t)
	guest.open(link)
	if got, want := guest.text(".news"), "You are invited. Press Auth to come in."; got != want {
		t.Errorf("the link explains %q, want %q", got, want)
	}
	guest.press(200)
	name := guest.account()
	if n := s.count("SELECT count(*) FROM users WHERE name = ? AND groups = ?", name, `["billing","ops"]`); n != 1 {
		t.Errorf("%s is in the wrong groups", name)
	}
	guest.openAccount()
	if guest.visible("#people") {
		t.Error("someone who is no owner can invite")
	}
	late.open(link)
	late.wantNotice("That invitation was used already or has expired. If you have an account here, press Auth; otherwise ask for a new one.")
	late.wantUsers(2)
}

func TestSuggestion(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.swap(deviceBound)
	p.register()
	if p.visible("#suggest") {
		t.Error("a second passkey is suggested on the first page")
	}
	p.signOut()
	p.press(200)
	p.account()
	if got := p.text("#suggest"); !strings.Contains(got, "one passkey, and it is not backed up") {
		t.Errorf("the page suggests %q", got)
	}
	p.wantCeremonies("immediate", "create", "immediate")
	key := newSecurityKey(p)
	p.present(false)
	p.do(200, "#suggest form")
	p.wantCeremonies("create")
	p.wantNotice("The passkey “Passkey 2” is added.")
	p.wantAddress("/account")
	key.wantPasskeys(1)
	if got := p.items("#passkeys"); len(got) != 2 {
		t.Errorf("the page lists %q", got)
	}
}
