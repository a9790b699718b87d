package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bio/app/account"
)

// A second passkey is suggested after a sign-in with the only one, where that is not
// backed up, once a week at most.
func TestSuggestion(t *testing.T) {
	const week = 7 * 24 * time.Hour
	s := newSite(t)
	b, d := s.browser(), s.device()
	d.flags = bound
	first := b.registerWith(d, "/")
	suggests := func(when string, p *page, want bool) {
		t.Helper()
		if got := p.acts[addPasskey] != nil; got != want || p.ids["suggest"] != want || p.status != http.StatusOK || p.account != first.account {
			t.Errorf("%s: %d as %q, suggested: %t", when, p.status, p.account, got)
		}
	}
	signIn := func() *page { return s.browser().signIn(d) }

	suggests("registered", first, false)
	suggests("reloaded", b.get("/"), false)
	in := s.browser()
	p := in.signIn(d)
	suggests("signed in", p, true)
	if !strings.Contains(p.body, "This account has one passkey, and it is not backed up.") {
		t.Error("the page does not say why")
	}
	suggests("reloaded", in.get("/"), false)
	suggests("signed in again", signIn(), false)
	s.clock.Advance(week)
	suggests("a week later", signIn(), false) // not before it is over
	s.clock.Advance(time.Millisecond)
	o := in.ceremony("/ceremony")
	if p := in.call("POST", signInFinish, d.get(o)); p.status != http.StatusOK { // where nobody would see it
		t.Fatalf("%d", p.status)
	}
	elsewhere := s.browser()
	f := elsewhere.button("/?return_to=/account")
	if p := elsewhere.press(f, d.get(f.options)); p.status != http.StatusSeeOther {
		t.Errorf("with an address: %d", p.status)
	}
	if p := s.browser().press(f, flipped(d, f.options, "signature", 7)); p.acts[addPasskey] != nil {
		t.Error("a refused press suggests")
	}
	in = s.browser()
	p = in.signIn(d)
	suggests("a week later, and something", p, true)

	// The press makes it, from that page, and the answer is the account's page.
	f, spare := p.acts[addPasskey], s.device()
	if !slices.Equal(f.offers, []string{"create", "ttl"}) || f.options.Create.User.ID != encode(d.handle) || len(f.options.Create.ExcludeCredentials) != 1 {
		t.Errorf("offers %q, %+v", f.offers, f.options.Create)
	}
	if p := in.press(f, spare.create(f.options)); p.status != http.StatusOK || p.here != "/account" || p.notice != "The passkey “Passkey 2” is added." {
		t.Errorf("pressed: %d %s", p.status, p.notice)
	}
	s.clock.Advance(2 * week)
	suggests("with two", signIn(), false)

	// The flags of the passkey that signs in count, as they are now.
	for name, tt := range map[string]struct {
		flags byte
		want  bool
	}{
		"bound to its device": {bound, true}, "backed up": {synced, false}, "eligible": {bound | account.FlagBackupEligible, true},
	} {
		b, d := s.browser(), s.device()
		d.flags = tt.flags
		b.registerWith(d, "/")
		if p := s.browser().signIn(d); (p.acts[addPasskey] != nil) != tt.want {
			t.Errorf("%s: suggested %t", name, p.acts[addPasskey] != nil)
		}
	}
}
