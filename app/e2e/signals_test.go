package e2e

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
)

// The answer comes after the challenge has expired: the passkey that was made
// opens nothing, and goes; the next press works at once.
func TestLateAnswer(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(gate)
	p.open("/")
	p.answer(409, func() {
		p.click(button)
		p.until("self.go")
		p.site.clock.advance(6 * time.Minute)
		p.run("go()")
	})
	if got, want := p.text("[data-say=notice]"), "That took too long. Press Auth again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantPasskeys(0)
	p.wantUsers(0)
	p.wantAddress("/")
	p.wantCeremonies("immediate", "create")
	p.answer(200, func() {
		p.click(button)
		p.until("self.go")
		p.run("go()")
	})
	p.account()
	p.wantUsers(1)
	p.wantPasskeys(1)
}

func TestUnknownPasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.take(stranger())
	p.open("/")
	p.press(401)
	if got, want := p.text("[data-say=notice]"), "That passkey was not accepted. Press Auth to try again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantPasskeys(0)
	p.wantCeremonies("immediate")
	p.press(200)
	p.account()
	p.wantUsers(1)
}

// The account was removed on the server: the passkey in the dialog is dead.
func TestRemovedPasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.before(noImmediate)
	p.register()
	p.signOut()
	p.wantCeremonies("create")
	p.site.change("DELETE FROM sessions")
	p.site.change("DELETE FROM credentials")
	p.press(401)
	p.wantCeremonies("get")
	p.wantPasskeys(0)
}

// choose makes the dialog's choice among several passkeys.
func choose(id []byte) string {
	return fmt.Sprintf(`instead.get = ({publicKey}, native) => native({publicKey: {...publicKey,
		allowCredentials: [{type: 'public-key', id: Uint8Array.from(atob(%q), c => c.charCodeAt())}]}})`,
		base64.StdEncoding.EncodeToString(id))
}

func TestDuplicateUndone(t *testing.T) {
	s := serve(t, nil)
	first := s.browse(t)
	older := first.register()
	old := first.passkeys()[0]

	p := s.browse(t)
	newer := p.register()
	p.wantUsers(2)
	p.wantCeremonies("immediate", "create")
	p.take(old)
	p.run(choose(old.CredentialID))
	p.answer(200, func() { p.click("#undo button") })
	if got := p.account(); got != older {
		t.Errorf("the way back led to %s, want %s", got, older)
	}
	p.wantCeremonies("get")
	if got := p.text(".notice"); !strings.Contains(got, newer) {
		t.Errorf("the page does not say that %s is gone: %q", newer, got)
	}
	p.wantPasskeys(1)
	if got := p.passkeys(); len(got) == 1 && got[0].UserName != older {
		t.Errorf("the passkey left is that of %s, want that of %s", got[0].UserName, older)
	}
	p.wantUsers(1)
	if n := s.count("SELECT count(*) FROM users WHERE name = ?", newer); n != 0 {
		t.Errorf("%s is still in the database", newer)
	}
	p.reload()
	if got := p.account(); got != older {
		t.Errorf("after a reload the account is %s, want %s", got, older)
	}
}

// The person has no other passkey after all.
func TestUndoDismissed(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.run("instead.get = dismiss")
	p.click("#undo button")
	if got, want := p.untilSays("dismissed"), "Nothing happened. You can try again."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.wantCeremonies("immediate", "create", "get")
	p.reload()
	if got := p.account(); got != name {
		t.Errorf("after a reload the account is %s, want %s", got, name)
	}
	p.wantUsers(1)
	p.wantPasskeys(1)
}

// The person chooses the passkey of the new account itself: nothing is lost.
func TestUndoWithTheSamePasskey(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	p.answer(200, func() { p.click("#undo button") })
	if got := p.account(); got != name {
		t.Errorf("the account is %s, want %s", got, name)
	}
	p.wantUsers(1)
	p.wantPasskeys(1)
}

// A passkey that the site does not know opens no older account, and costs none.
func TestUndoRefused(t *testing.T) {
	p := serve(t, nil).browse(t)
	name := p.register()
	unknown := stranger()
	p.take(unknown)
	p.run(choose(unknown.CredentialID))
	p.answer(401, func() { p.click("#undo button") })
	if got := p.account(); got != name {
		t.Errorf("the account is %s, want %s", got, name)
	}
	if got := p.text(".notice"); !strings.Contains(got, "not accepted") {
		t.Errorf("the page says %q", got)
	}
	p.wantUsers(1)
	p.wantPasskeys(1)
}

// invite makes the invitation of an owner, as the first start does, and returns
// the path of its link.
func (s *site) invite() string {
	s.t.Helper()
	token := base64.RawURLEncoding.EncodeToString([]byte("eighteen bytes now"))
	err := s.db.Invite(s.t.Context(), account.Invitation{
		TokenHash: account.TokenHash(token), Groups: []string{account.Owner}, CreatedAt: s.clock.Now(),
	}, audit.Entry{Kind: audit.InvitationMade, Reason: "first start"})
	if err != nil {
		s.t.Fatal(err)
	}
	return "/?invite=" + token
}

func TestOwnerLink(t *testing.T) {
	s := serve(t, nil, "BIO_REGISTRATION=invite")
	link := s.invite()
	owner, late, later := s.browse(t), s.browse(t), s.browse(t)
	late.open(link)

	owner.open(link)
	if got := owner.text(".news"); !strings.Contains(got, "owner") {
		t.Errorf("the link explains %q", got)
	}
	owner.press(200)
	name := owner.account()
	owner.wantAddress("/")
	if n := s.count("SELECT count(*) FROM users WHERE name = ? AND groups = ?", name, `["owner"]`); n != 1 {
		t.Errorf("%s is not an owner", name)
	}

	used := "That invitation was used already or has expired. If you have an account here, press Auth; otherwise ask for a new one."
	late.press(403)
	if got := late.text("[data-say=notice]"); got != used {
		t.Errorf("a press through the used link says %q, want %q", got, used)
	}
	late.wantPasskeys(0)
	later.open(link)
	if got := later.text("[data-say=notice]"); got != used {
		t.Errorf("the used link says %q, want %q", got, used)
	}
	owner.wantUsers(1)
}

// Where nobody new gets in, a press never makes a passkey.
func TestClosed(t *testing.T) {
	p := serve(t, nil, "BIO_REGISTRATION=closed").browse(t)
	p.before("instead.get = dismiss")
	p.open("/")
	p.pressInVain("dismissed")
	p.wantCeremonies("immediate", "get")
	if p.visible("#other [data-mode=create]") {
		t.Error("a new account is offered")
	}
}
