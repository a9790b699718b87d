package server_test

import (
	"net/http"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

// Nobody signs in to an account that an operator has disabled, and its sessions are
// over, here within a second.
func TestDisabled(t *testing.T) {
	s := newSite(t)
	b, other := s.browser(), s.browser()
	d, made := b.register()
	_, others := other.register()
	two := s.browserOf(d)
	if _, ended, err := s.db.DisableUser(t.Context(), made.account, false, audit.Entry{Kind: audit.Disabled, Reason: "command line"}); err != nil || len(ended) != 2 {
		t.Fatal(ended, err)
	}
	s.clock.Advance(time.Second + time.Millisecond)
	for _, over := range []*browser{b, two} {
		if _, alive := over.who(); alive {
			t.Error("a session answers")
		}
		if p := over.get("/account"); p.status != http.StatusSeeOther {
			t.Errorf("the account's page: %d", p.status)
		}
	}
	other.checkSignedIn(others.account)

	before := s.contents()
	server.Settle(t.Context(), s.Server, false)
	n := len(s.trail())
	p := b.signIn(d)
	if p.status != http.StatusForbidden || p.account != "" || p.notice != "This account is disabled. Ask whoever runs this site." || p.signals != "" {
		t.Errorf("%d as %q, %q, signals %q", p.status, p.account, p.notice, p.signals)
	}
	p.keptCookie(t, "an ended session's")
	b.checkFresh(p, nil)
	checkCode(t, "the API", b.call("POST", signInFinish, d.get(b.begin(signInBegin, "{}").options)), 403, "disabled")
	in := other.clone() // in another account's session it changes nothing there
	if p := in.post("/", map[string][]string{"credential": {d.get(in.ceremony("/ceremony"))}}); p.status != http.StatusForbidden {
		t.Errorf("in another account's session: %d", p.status)
	}
	other.checkSignedIn(others.account)
	if a, b := rowsOf(before, d.handle), rowsOf(s.contents(), d.handle); len(a["credentials"]) != 1 || len(b["sessions"]) != 0 {
		t.Errorf("%q, then %q", a, b)
	}
	if e := s.since(n); len(e) == 0 || e[0].Kind != audit.SignInRefused || e[0].Reason != "account disabled" || e[0].Actor != account.UserID(d.handle) {
		t.Errorf("the trail says %+v", e)
	}

	if _, err := s.db.EnableUser(t.Context(), made.account, audit.Entry{Kind: audit.Enabled, Reason: "command line"}); err != nil {
		t.Fatal(err)
	}
	if p := b.signIn(d); p.account != made.account {
		t.Errorf("enabled again: %d as %q", p.status, p.account)
	}
	if _, alive := two.who(); alive {
		t.Error("a session of before came back")
	}
}
