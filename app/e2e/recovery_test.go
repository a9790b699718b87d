package e2e

import (
	"strings"
	"testing"
	"time"
)

// recoveryLink makes a link for an account on the owner's page.
func (p *tab) recoveryLink(name string) string {
	p.t.Helper()
	p.fill("#people [name=account]", name)
	p.do(200, act("recoveries"))
	p.wantNotice("The recovery link is made.")
	return p.link()
}

// begin opens a recovery link and presses: nothing is open yet.
func (p *tab) begin(link, name string) {
	p.t.Helper()
	p.open(link)
	if got := p.text(".news"); !strings.Contains(got, "gives "+name+" back") {
		p.t.Errorf("the link explains %q", got)
	}
	p.press(200)
	p.loaded()
	if got := p.text("[data-say=notice]"); !strings.HasPrefix(got, "The recovery of "+name+" has begun.") {
		p.t.Errorf("the page says %q", got)
	}
	p.wantAddress("/")
	p.wantPasskeys(1)
}

// An owner's link is used by someone; whoever has the account sees it on every
// page, and ends it with one press.
func TestRecoveryCancelled(t *testing.T) {
	s := serve(t, nil)
	owner, p, someone := s.owner(t), s.browse(t), s.browse(t)
	name := p.register()
	owner.openAccount()
	link := owner.recoveryLink(name)

	p.reload()
	if p.visible("#recovery") {
		t.Error("a recovery waits that nobody has begun")
	}
	someone.begin(link, name)
	someone.wantCeremonies("create")
	for _, address := range []string{"/", "/account", "/account?before=1"} {
		p.open(address)
		if got := p.text("#recovery"); !strings.Contains(got, "Chrome on Linux, from this machine, begun just now. Their new passkey opens it in 24 hours") {
			t.Errorf("%s says of the recovery %q", address, got)
		}
	}
	owner.reload()
	if owner.visible("#recovery") {
		t.Error("another account's page speaks of the recovery")
	}

	p.open("/")
	p.wantCeremonies("immediate", "create")
	p.do(200, act("recovery/cancel"))
	p.wantCeremonies("get")
	p.wantNotice("The recovery is cancelled: its passkey opens nothing. If you did not expect one, tell whoever runs this site.")
	if p.visible("#recovery") {
		t.Error("the recovery still waits")
	}
	p.wantPasskeys(1)

	s.clock.advance(25 * time.Hour)
	someone.reload()
	someone.press(401)
	someone.wantPasskeys(0)
	someone.open(link)
	if got := someone.text("[data-say=notice]"); !strings.HasPrefix(got, "That recovery link was used already") {
		t.Errorf("the used link says %q", got)
	}
}

// When its time has come, the new passkey opens the account, and all other
// sessions are over.
func TestRecovery(t *testing.T) {
	s := serve(t, nil, "BIO_RECOVERY_DELAY=2h") // shorter than the sessions
	owner, old, p := s.owner(t), s.browse(t), s.browse(t)
	name := old.register()
	owner.openAccount()
	p.begin(owner.recoveryLink(name), name)
	p.wantCeremonies("create")

	s.clock.advance(time.Hour)
	p.reload()
	p.press(403)
	if got := p.text("[data-say=notice]"); !strings.HasPrefix(got, "Your new passkey opens the account in ") {
		t.Errorf("before its time a press is told %q", got)
	}
	p.wantPasskeys(1)
	old.reload()
	if got := old.account(); got != name {
		t.Errorf("while the recovery waits the old browser shows %q", got)
	}

	s.clock.advance(time.Hour + time.Second)
	p.reload()
	p.press(200)
	if got := p.account(); got != name {
		t.Errorf("the recovery led to %s, want %s", got, name)
	}
	p.wantNotice("This account is yours again. All other sessions are over. On your account’s page, remove the passkeys that you have lost.")
	old.reload()
	if !old.visible(button) {
		t.Error("the old session goes on")
	}

	// The lost passkey is removed, and opens nothing more.
	p.openAccount()
	p.do(200, "#passkeys li:nth-child(1) [action$=remove]")
	p.wantNotice("The passkey is removed, and the sessions that it opened are over.")
	old.press(401)
	old.wantPasskeys(0)
	p.wantUsers(2)
}
