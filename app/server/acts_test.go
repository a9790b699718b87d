package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bio/app/account"
	"bio/app/audit"
)

// Where the acts of the account's page are posted to.
const (
	addPasskey     = "/account/passkeys/add"
	endOthers      = "/account/sessions/end-others"
	renameAccount  = "/account/name"
	eraseAccount   = "/account/erase"
	cancelRecovery = "/account/recovery/cancel"
	makeInvitation = "/account/invitations"
	makeRecovery   = "/account/recoveries"
)

func passkeyAct(d *device, act string) string {
	return "/account/passkeys/" + account.CredentialRef(d.ID) + "/" + act
}

// asks opens the account's page and returns the form of one act, filled in: name,
// value, ….
func (b *browser) asks(address string, fields ...string) *form {
	b.t.Helper()
	p := b.get("/account")
	f := p.acts[address]
	if f == nil {
		b.t.Fatalf("%d: no form for %s", p.status, address)
	}
	return f.with(fields...)
}

// crafted is the form of an act that the page does not show.
func (b *browser) crafted(address string, fields ...string) *form {
	b.t.Helper()
	f := &form{action: address, offers: []string{"get", "ttl"}, fields: url.Values{}}
	f.options = b.ceremony("/ceremony?for=" + url.QueryEscape(address))
	return f.with(fields...)
}

func (f *form) with(fields ...string) *form {
	for pair := range slices.Chunk(fields, 2) {
		f.fields.Set(pair[0], pair[1])
	}
	return f
}

// adds adds a passkey to the account that is signed in.
func (b *browser) adds() *device {
	b.t.Helper()
	d := b.device()
	f := b.asks(addPasskey)
	if p := b.press(f, d.create(f.options)); p.status != http.StatusOK || !strings.HasPrefix(p.notice, "The passkey “Passkey") || !strings.HasSuffix(p.notice, "” is added.") {
		b.t.Fatalf("a passkey was not added: %d %s", p.status, p.notice)
	}
	return d
}

// owner is someone who owns the site.
func (s *site) owner() (b *browser, d *device, name string) {
	s.t.Helper()
	b, d = s.browser(), s.device()
	p := b.registerWith(d, "/?invite="+s.invite(time.Time{}, account.Owner))
	if p.account == "" {
		s.t.Fatalf("%d %s", p.status, p.notice)
	}
	return b, d, p.account
}

// who is what the API says of the session; false when there is none.
func (b *browser) who() (who sessionJSON, signedIn bool) {
	b.t.Helper()
	p := b.clone().call("GET", "/auth/session", "")
	if p.status == http.StatusUnauthorized {
		return sessionJSON{}, false
	}
	return reads[sessionJSON](b.t, p, http.StatusOK), true
}

// contents are all rows of all tables but the trail's, without when a session was last
// seen.
func (s *site) contents() map[string][]string {
	s.t.Helper()
	all := map[string][]string{}
	var names []string
	schema := must(s.raw.Query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'trail_%'"))
	for schema.Next() {
		var name string
		if err := schema.Scan(&name); err != nil {
			s.t.Fatal(err)
		}
		names = append(names, name)
	}
	schema.Close()
	for _, name := range names {
		rows := must(s.raw.Query("SELECT * FROM " + name))
		columns := must(rows.Columns())
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		for rows.Next() {
			if err := rows.Scan(values...); err != nil {
				s.t.Fatal(err)
			}
			var row strings.Builder
			for i, column := range columns {
				if column != "seen_at" {
					fmt.Fprintf(&row, "%s=%q ", column, fmt.Sprint(*values[i].(*any)))
				}
			}
			all[name] = append(all[name], row.String())
		}
		if err := rows.Err(); err != nil {
			s.t.Fatal(err)
		}
		rows.Close()
	}
	return all
}

// since are the entries of the trail behind the first n.
func (s *site) since(n int) []audit.Record { return s.trail()[n:] }

// does presses the form of one act, which has to be granted, and checks what is so of
// every act: the form's challenge serves a passkey that exists, the answer is the
// account's page that says what was done, the session goes on under a new id and the
// old one is over, and the trail has the press and, behind it, the act.
func (b *browser) does(d *device, f *form, kinds ...audit.Kind) *page {
	b.t.Helper()
	old, n := b.clone(), len(b.trail())
	was, _ := old.who()
	if !slices.Equal(f.offers, []string{"get", "ttl"}) {
		b.t.Errorf("%s offers %q", f.action, f.offers)
	}
	p := b.press(f, d.get(f.options))
	if p.status != http.StatusOK || p.account == "" || p.notice == "" || p.here != "/account" || p.header.Get("Location") != "" {
		b.t.Fatalf("%s: %d as %q, %q, here %q", f.action, p.status, p.account, p.notice, p.here)
	}
	is, signedIn := b.who()
	if token := p.cookie(b.t, b.name("bio")).Value; !signedIn || token == old.cookies[b.name("bio")] || is.Session.ID == was.Session.ID || is.User.ID != was.User.ID {
		b.t.Errorf("%s: session %+v, then %+v, %t", f.action, was, is, signedIn)
	}
	if _, alive := old.who(); alive {
		b.t.Errorf("%s: the old session answers", f.action)
	}
	entries := b.since(n)
	var got []audit.Kind
	for _, e := range entries {
		got = append(got, e.Kind)
	}
	if diff := cmp.Diff(append([]audit.Kind{audit.SteppedUp}, kinds...), got); diff != "" {
		b.t.Fatalf("%s: trail (-want +got):\n%s", f.action, diff)
	}
	if e := entries[0]; e.Actor != is.User.ID || e.Credential != account.CredentialRef(d.ID) || e.Session != is.Session.ID || e.Detail["replaced"] != was.Session.ID {
		b.t.Errorf("%s: the trail says %+v", f.action, e)
	}
	return p
}

// refused presses the form of one act, and fails unless it was refused on the account's
// page and nothing was changed. The form's next press has a fresh challenge.
func (b *browser) refused(name string, f *form, credential string, status int, sentence string) *page {
	b.t.Helper()
	before, token := b.contents(), b.cookies[b.name("bio")]
	p := b.press(f, credential)
	if p.status != status || p.account == "" || !strings.HasPrefix(p.notice, sentence) || p.here != "/account" || b.cookies[b.name("bio")] != token {
		b.t.Errorf("%s: %d as %q, %q, here %q, want %d, %q", name, p.status, p.account, p.notice, p.here, status, sentence)
	}
	if strings.Contains(p.notice, "Auth") {
		b.t.Errorf("%s: speaks of a button that is not on this page: %q", name, p.notice)
	}
	if diff := cmp.Diff(before, b.contents()); diff != "" {
		b.t.Errorf("%s: changed (-before +after):\n%s", name, diff)
	}
	if next := p.acts[f.action]; next != nil && next.options.Get.Challenge+next.options.Create.Challenge == f.options.Get.Challenge+f.options.Create.Challenge {
		b.t.Errorf("%s: the old challenge again", name)
	}
	return p
}

// signalled are the calls of the Signal API that a page carries, by method.
func (p *page) signalled(t testing.TB) map[string][]map[string]any {
	t.Helper()
	all := map[string][]map[string]any{}
	if p.signals == "" {
		return all
	}
	var calls [][2]json.RawMessage
	if err := json.Unmarshal([]byte(p.signals), &calls); err != nil {
		t.Fatalf("signals %q: %v", p.signals, err)
	}
	for _, call := range calls {
		var method string
		var options map[string]any
		if json.Unmarshal(call[0], &method) != nil || json.Unmarshal(call[1], &options) != nil {
			t.Fatalf("signals %q", p.signals)
		}
		all[method] = append(all[method], options)
	}
	return all
}

// checkAccepted fails unless the page tells the browser that exactly these are the
// passkeys of the account, and what it is called.
func checkAccepted(t testing.TB, p *page, name string, of ...*device) {
	t.Helper()
	checkList(t, p, of...)
	want := []map[string]any{{"rpId": "localhost", "userId": encode(of[0].handle), "name": name, "displayName": name}}
	if diff := cmp.Diff(want, p.signalled(t)["signalCurrentUserDetails"]); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}

// checkList fails unless the page tells the browser that exactly these are the
// passkeys of the account.
func checkList(t testing.TB, p *page, of ...*device) {
	t.Helper()
	ids := []any{}
	for _, d := range of {
		ids = append(ids, encode(d.ID))
	}
	want := []map[string]any{{"rpId": "localhost", "userId": encode(of[0].handle), "allAcceptedCredentialIds": ids}}
	anyOrder := cmpopts.SortSlices(func(a, b any) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
	if diff := cmp.Diff(want, p.signalled(t)["signalAllAcceptedCredentials"], anyOrder); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
}

// Every act that a person can do, and no other, has a form with options of its own.
func TestActForms(t *testing.T) {
	s := newSite(t)
	b, d, name := s.owner()
	check := func(b *browser, target string, want ...string) {
		t.Helper()
		p := b.get(target)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(p.acts))); diff != "" {
			t.Errorf("%s: forms (-want +got):\n%s", target, diff)
		}
		seen := map[string]string{}
		for address, f := range p.acts {
			offers, ttl, challenge := []string{"get", "ttl"}, 300_000, f.options.Get.Challenge
			if address == addPasskey {
				offers, ttl, challenge = []string{"create", "ttl"}, 240_000, f.options.Create.Challenge
			}
			if !slices.Equal(f.offers, offers) || f.options.TTL != ttl || challenge == "" {
				t.Errorf("%s offers %q for %d ms, challenge %q", address, f.offers, f.options.TTL, challenge)
			}
			if other := seen[challenge]; other != "" {
				t.Errorf("one challenge for %s and %s", address, other)
			}
			seen[challenge] = address
			if f.ceremony != "/ceremony?for="+url.QueryEscape(address) || f.fields.Get("credential") != "" || !f.fields.Has("credential") {
				t.Errorf("%s: renewed at %s, fields %v", address, f.ceremony, f.fields)
			}
		}
	}
	always := []string{renameAccount, eraseAccount, addPasskey, passkeyAct(d, "rename")}
	owners := []string{makeInvitation, makeRecovery}
	check(b, "/account", slices.Concat(always, owners)...)
	check(b, "/")

	spare := b.adds()
	check(b, "/account", slices.Concat(always, owners, []string{passkeyAct(d, "remove"), passkeyAct(spare, "rename"), passkeyAct(spare, "remove")})...)
	other := s.browser()
	other.signIn(spare)
	more := slices.Concat(always, owners, []string{passkeyAct(d, "remove"), passkeyAct(spare, "rename"), passkeyAct(spare, "remove"), endOthers})
	check(b, "/account", more...)
	check(b, "/account?before=1000")

	// While a recovery waits, every page can cancel it; its passkey is not among the
	// account's.
	s.recovers(name)
	check(b, "/account", append(more, cancelRecovery)...)
	check(other, "/", cancelRecovery)
	check(b, "/account?before=1000", cancelRecovery)

	// Someone who is no owner.
	plain := s.browser()
	d, _ = plain.register()
	check(plain, "/account", renameAccount, eraseAccount, addPasskey, passkeyAct(d, "rename"))
}

func TestRenamePasskey(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	spare := b.adds()
	address := passkeyAct(d, "rename")

	p := b.does(d, b.asks(address, "name", "  Ключ ☂\n"), audit.PasskeyRenamed)
	if p.notice != "The passkey is called “Ключ ☂” now." {
		t.Errorf("notice %q", p.notice)
	}
	checkAccepted(t, p, made.account, d, spare)
	b.does(spare, b.asks(passkeyAct(spare, "rename"), "name", "Spare"), audit.PasskeyRenamed) // pressed with itself
	names := map[string]string{}
	for _, one := range b.passkeys() {
		names[one.ID] = one.Name
	}
	if diff := cmp.Diff(map[string]string{encode(d.ID): "Ключ ☂", encode(spare.ID): "Spare"}, names); diff != "" {
		t.Errorf("passkeys (-want +got):\n%s", diff)
	}
	if e := s.trail()[len(s.trail())-1]; e.Credential != account.CredentialRef(spare.ID) {
		t.Errorf("the trail says %+v", e)
	}

	for name, bad := range map[string]string{"nothing": "", "white": " \t ", "65 runes": strings.Repeat("ä", 65), "two lines": "a\nb", "direction": "a\u202eb", "not UTF-8": "\xff"} {
		f := b.asks(address, "name", bad)
		b.refused(name, f, d.get(f.options), 422, "A passkey's name has 1 to 64 characters")
	}
	f := b.asks(address)
	f.fields.Del("name")
	b.refused("no name", f, d.get(f.options), 422, "A passkey's name")

	f = b.crafted(passkeyAct(s.device(), "rename"), "name", "x")
	b.refused("no such passkey", f, d.get(f.options), 404, "You have no such passkey here.")
	f.action = "/account/passkeys/" + strings.ToUpper(account.CredentialRef(d.ID)) + "/rename"
	b.refused("another spelling", f, d.get(f.options), 409, "That took too long. Press again.")
}

func TestRemovePasskey(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	lost := b.adds()
	thief := s.browser()
	thief.signIn(lost)

	p := b.does(d, b.asks(passkeyAct(lost, "remove")), audit.PasskeyRemoved, audit.SessionRevoked)
	if !strings.HasPrefix(p.notice, "The passkey is removed, and the sessions that it opened are over.") {
		t.Errorf("notice %q", p.notice)
	}
	checkAccepted(t, p, made.account, d)
	if _, alive := thief.who(); alive {
		t.Error("the session that it opened answers")
	}
	if p := s.browser().signIn(lost); p.status != http.StatusUnauthorized {
		t.Errorf("it signs in: %d", p.status)
	}

	f := b.crafted(passkeyAct(lost, "remove"))
	b.refused("again", f, d.get(f.options), 404, "You have no such passkey here.")
	f = b.crafted(passkeyAct(d, "remove"))
	b.refused("the last", f, d.get(f.options), 409, "That is the only passkey of this account")

	// The passkey that presses takes its session with it.
	spare := b.adds()
	n := len(s.trail())
	f = b.asks(passkeyAct(spare, "remove"))
	p = b.press(f, spare.get(f.options))
	if p.status != http.StatusOK || p.account != "" || p.auth == nil || p.here != "/" ||
		p.notice != "The passkey is removed, and with it this session, which it opened. Press Auth to sign in with another one." {
		t.Errorf("%d as %q, %q, here %q", p.status, p.account, p.notice, p.here)
	}
	checkList(t, p, d)
	if p.signalled(t)["signalCurrentUserDetails"] != nil { // nobody is signed in
		t.Errorf("signals %q", p.signals)
	}
	if dead := p.cookie(t, "bio"); dead.MaxAge >= 0 || dead.Value != "" {
		t.Errorf("the cookie is %s", dead.Raw)
	}
	if _, alive := b.who(); alive {
		t.Error("the session is alive")
	}
	var kinds []audit.Kind
	for _, e := range s.since(n) {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff([]audit.Kind{audit.SteppedUp, audit.PasskeyRemoved, audit.SessionRevoked}, kinds); diff != "" || s.rows()["sessions"] != 0 {
		t.Errorf("sessions %d, trail (-want +got):\n%s", s.rows()["sessions"], diff)
	}
	if p := b.signIn(d); p.account != made.account {
		t.Errorf("the other passkey: %d", p.status)
	}
}

// While a recovery waits, the browser is not told to drop its passkey, whichever of
// the account's is removed.
func TestRemoveWhileRecovering(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	spare, third := b.adds(), b.adds()
	_, waits := s.recovers(made.account)
	p := b.does(d, b.asks(passkeyAct(third, "remove")), audit.PasskeyRemoved)
	checkAccepted(t, p, made.account, d, spare, waits)
	f := b.asks(passkeyAct(d, "remove")) // which opened this session
	p = b.press(f, d.get(f.options))
	if p.status != http.StatusOK || p.account != "" {
		t.Fatalf("%d as %q, %q", p.status, p.account, p.notice)
	}
	checkList(t, p, spare, waits)
}

func TestAddPasskey(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	excluded := func(f *form) (ids []string) {
		for _, one := range f.options.Create.ExcludeCredentials {
			ids = append(ids, one.ID)
		}
		return ids
	}
	// Within five minutes of a proof the press is the making of the passkey; the last
	// of them is left for making it.
	for _, after := range []time.Duration{0, 3*time.Minute + 59*time.Second} {
		s.clock.Advance(after)
		f, p := b.asks(addPasskey), b.get("/account")
		if !slices.Equal(f.offers, []string{"create", "ttl"}) || f.options.Create.User.ID != encode(d.handle) || f.options.Create.User.Name != made.account ||
			!slices.Equal(excluded(f), []string{encode(d.ID)}) || f.options.TTL != int((4*time.Minute-after).Milliseconds()) {
			t.Errorf("after %s: offers %q, %+v", after, f.offers, f.options)
		}
		if strings.Contains(p.body, "first shows that it is you") {
			t.Errorf("after %s: the page speaks of a proof", after)
		}
	}
	f, late := b.asks(addPasskey), b.asks(addPasskey)
	spare, token, n := s.device(), b.cookies["bio"], len(s.trail())
	s.clock.Advance(time.Minute) // she takes her time: five minutes but a second
	p := b.press(f, spare.create(f.options))
	if p.status != http.StatusOK || p.account != made.account || p.here != "/account" || p.notice != "The passkey “Passkey 2” is added." || b.cookies["bio"] != token {
		t.Errorf("added: %d as %q, %q, here %q", p.status, p.account, p.notice, p.here)
	}
	checkAccepted(t, p, made.account, d, spare)
	if e := s.since(n); len(e) != 1 || e[0].Kind != audit.PasskeyAdded || e[0].Credential != account.CredentialRef(spare.ID) {
		t.Errorf("the trail says %+v", e)
	}
	if p := s.browser().signIn(spare); p.account != made.account {
		t.Errorf("it does not sign in: %d", p.status)
	}

	// Later it is refused, and the passkey is signalled away; the press proves first,
	// and its answer offers the making.
	s.clock.Advance(2 * time.Second)
	third := s.device()
	p = b.refused("too late", late, third.create(late.options), 403, "That needs a sign-in of the last five minutes.")
	if dead := p.signalled(t)["signalUnknownCredential"]; len(dead) != 1 || dead[0]["credentialId"] != encode(third.ID) {
		t.Errorf("signals %q", p.signals)
	}
	f = b.asks(addPasskey)
	if !slices.Equal(f.offers, []string{"get", "ttl"}) || !strings.Contains(b.get("/account").body, "first shows that it is you") {
		t.Errorf("later: offers %q", f.offers)
	}
	p = b.does(d, b.asks(addPasskey))
	if !strings.HasPrefix(p.notice, "It is you. Now press “Add a passkey” once more") {
		t.Errorf("notice %q", p.notice)
	}
	f = p.acts[addPasskey]
	if !slices.Equal(f.offers, []string{"create", "ttl"}) || !slices.Equal(excluded(f), []string{encode(d.ID), encode(spare.ID)}) {
		t.Errorf("then: offers %q, excluded %q", f.offers, excluded(f))
	}
	third = s.device()
	if p = b.press(f, third.create(f.options)); p.status != http.StatusOK || p.notice != "The passkey “Passkey 3” is added." {
		t.Errorf("then: %d %s", p.status, p.notice)
	}
	checkAccepted(t, p, made.account, d, spare, third)

	// One that the account has is not signalled away.
	f = b.asks(addPasskey)
	p = b.refused("one that is here", f, spare.create(f.options), 409, "That passkey is already registered.")
	if dead := p.signalled(t)["signalUnknownCredential"]; dead != nil {
		t.Errorf("signals %q", p.signals)
	}
	f = b.asks(addPasskey)
	p = b.refused("refused", f, s.device().create(f.options, func(f *draft) { f.client["origin"] = "https://evil.example" }), 401, "That passkey was not accepted.")
	if dead := p.signalled(t)["signalUnknownCredential"]; len(dead) != 1 {
		t.Errorf("signals %q", p.signals)
	}
}

func TestEndOthers(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	spare := b.adds()
	one, two, stranger := s.browser(), s.browser(), s.browser()
	one.signIn(d)
	two.signIn(spare)
	_, others := stranger.register()

	if p := b.does(d, b.asks(endOthers), audit.SessionRevoked, audit.SessionRevoked); p.notice != "All other sessions are over." || p.acts[endOthers] != nil {
		t.Errorf("notice %q, the form is there: %t", p.notice, p.acts[endOthers] != nil)
	}
	for _, over := range []*browser{one, two} {
		if _, alive := over.who(); alive {
			t.Error("another session answers")
		}
	}
	b.checkSignedIn(made.account)
	stranger.checkSignedIn(others.account)
	b.does(d, b.crafted(endOthers)) // there is none to end
}

// begun begins that many more sessions like one of the browser's account, the first
// seen a millisecond after it, and each after that a millisecond later.
func (b *browser) begun(more int) {
	b.t.Helper()
	who, _ := b.who()
	if _, err := b.raw.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO sessions (id, user_id, credential, created_at, seen_at, expires_at, auth_time, user_verified, network, browser, system)
		SELECT 'another ' || i, user_id, credential, created_at, seen_at + i, expires_at, auth_time, user_verified, network, browser, system
		FROM n JOIN (SELECT * FROM sessions WHERE user_id = ? LIMIT 1)`, more, who.User.ID); err != nil {
		b.t.Fatal(err)
	}
}

// Of many sessions the page lists this one and those that were seen last, and says how
// many more there are.
func TestSessionsListed(t *testing.T) {
	for _, tt := range []struct {
		others, listed int
		more           string
	}{{99, 99, ""}, {100, 99, "And 1 more."}, {130, 99, "And 31 more."}} {
		s := newSite(t)
		b := s.browser()
		d, _ := b.register()
		b.begun(tt.others) // all of them seen after this one
		p := b.get("/account")
		var want []string
		for i := range tt.listed {
			want = append(want, "/account/sessions/"+audit.SessionRef(fmt.Sprint("another ", tt.others-i))+"/end")
		}
		got := slices.DeleteFunc(slices.Clone(p.plain), func(address string) bool { return !strings.HasSuffix(address, "/end") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d others: listed (-want +got):\n%s", tt.others, diff)
		}
		if said := strings.Contains(p.body, " more.</p>"); !strings.Contains(p.body, tt.more) || said != (tt.more != "") {
			t.Errorf("%d others: does not say %q", tt.others, tt.more)
		}
		p = b.does(d, p.acts[endOthers], slices.Repeat([]audit.Kind{audit.SessionRevoked}, tt.others)...)
		if s.rows()["sessions"] != 1 || strings.Contains(p.body, " more.</p>") {
			t.Errorf("%d others: %d sessions are left", tt.others, s.rows()["sessions"])
		}
	}
}

// One session ends by a plain form, without a passkey and without a script.
func TestEndSession(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	other, stranger := s.browser(), s.browser()
	other.signIn(d)
	_, others := stranger.register()
	end := func(b *browser) string {
		who, _ := b.who()
		return "/account/sessions/" + who.Session.ID + "/end"
	}
	address, strange, own := end(other), end(stranger), end(b)
	if p := b.get("/account"); !slices.Contains(p.plain, address) || slices.Contains(p.plain, own) || slices.Contains(p.plain, strange) {
		t.Errorf("plain forms %q", p.plain)
	}
	before := s.contents()
	for name, one := range map[string]struct {
		b       *browser
		address string
	}{
		"another's":     {b, strange},
		"of nobody":     {b, "/account/sessions/" + strings.Repeat("0", 32) + "/end"},
		"no ref at all": {b, "/account/sessions/%00/end"},
		"signed out":    {b.signedOut(), address},
	} {
		if p := one.b.post(one.address, nil); p.status != http.StatusSeeOther || p.header.Get("Location") != "/account" {
			t.Errorf("%s: %d to %s", name, p.status, p.header.Get("Location"))
		}
	}
	checkCode(t, "signed out, a program", asProblem(b.signedOut()).post(address, nil), 401, "signed_out")
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}

	n := len(s.trail())
	for range 2 { // and one that is over is over
		if p := b.post(address, nil); p.status != http.StatusSeeOther || p.header.Get("Location") != "/account" {
			t.Errorf("%d to %s", p.status, p.header.Get("Location"))
		}
		if _, alive := other.who(); alive {
			t.Error("the session answers")
		}
	}
	if e := s.since(n); len(e) != 1 || e[0].Kind != audit.SessionRevoked || e[0].Reason != "from another session" || "/account/sessions/"+e[0].Session+"/end" != address {
		t.Errorf("the trail says %+v", e)
	}
	b.checkSignedIn(made.account)
	stranger.checkSignedIn(others.account)

	if p := b.post(own, nil); p.status != http.StatusSeeOther || b.cookies["bio"] != "" {
		t.Errorf("this one: %d, cookie %q", p.status, b.cookies["bio"])
	}
	b.checkSignedIn("")
}

func TestRenameAccount(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	_, other := s.browser().register()

	p := b.does(d, b.asks(renameAccount, "name", " Nadia.K "), audit.Renamed)
	if p.account != "Nadia.K" || p.notice != "This account is called Nadia.K now." {
		t.Errorf("as %q, %q", p.account, p.notice)
	}
	checkAccepted(t, p, "Nadia.K", d)
	if e := s.trail()[len(s.trail())-1]; e.Detail["from"] != made.account || e.Detail["to"] != "Nadia.K" {
		t.Errorf("the trail says %+v", e)
	}
	b.checkSignedIn("Nadia.K")
	b.does(d, b.asks(renameAccount, "name", "nadia.k"), audit.Renamed) // other letters of one's own name
	b.does(d, b.asks(renameAccount, "name", "nadia.k"))                // no act

	for _, taken := range []string{other.account, strings.ToUpper(other.account)} {
		f := b.asks(renameAccount, "name", taken)
		b.refused("taken", f, d.get(f.options), 409, "Another account has that name. Choose another one.")
	}
	for name, bad := range map[string]string{
		"nothing": "", "one letter": "n", "41 letters": strings.Repeat("n", 41), "umlauts": "Nädia", "two spaces": "a  b", "a header": "a\r\nb: c", "markup": "<b>nadia</b>",
	} {
		f := b.asks(renameAccount, "name", bad)
		b.refused(name, f, d.get(f.options), 422, "A name has 2 to 40 letters")
	}
}

func TestErase(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	spare := b.adds()
	other, stranger := s.browser(), s.browser()
	other.signIn(spare)
	_, others := stranger.register()
	id := account.UserID(d.handle)

	page := b.get("/account")
	for _, sentence := range []string{"This erases your passkeys, your sessions, and all that is recorded of you", "It cannot be undone.", "delete it yourself"} {
		if !strings.Contains(page.body, sentence) {
			t.Errorf("the page does not say %q", sentence)
		}
	}
	f := page.acts[eraseAccount]
	p := b.press(f, d.get(f.options))
	if p.status != http.StatusOK || p.account != "" || p.auth == nil || p.here != "/" || !strings.HasPrefix(p.notice, "The account is erased, with its passkeys") {
		t.Fatalf("%d as %q, %q, here %q", p.status, p.account, p.notice, p.here)
	}
	if dead := p.cookie(t, "bio"); dead.MaxAge >= 0 || dead.Value != "" {
		t.Errorf("the cookie is %s", dead.Raw)
	}
	want := map[string][]map[string]any{"signalAllAcceptedCredentials": {
		{"rpId": "localhost", "userId": encode(d.handle), "allAcceptedCredentialIds": []any{}},
	}}
	if diff := cmp.Diff(want, p.signalled(t)); diff != "" {
		t.Errorf("signals (-want +got):\n%s", diff)
	}
	for _, over := range []*browser{b, other} {
		if _, alive := over.who(); alive {
			t.Error("a session answers")
		}
	}
	for _, gone := range []*device{d, spare} {
		if p := s.browser().signIn(gone); p.status != http.StatusUnauthorized || !strings.Contains(p.signals, "signalUnknownCredential") {
			t.Errorf("a passkey: %d, signals %q", p.status, p.signals)
		}
	}
	if got := s.rows(); got["users"] != 1 || got["credentials"] != 1 || got["sessions"] != 1 {
		t.Errorf("rows %v", got)
	}
	erased := 0
	for _, e := range s.trail() {
		if e.Actor == id {
			t.Errorf("the trail says %+v", e)
		}
		if e.Kind == audit.Erased {
			erased++
		}
	}
	if erased != 1 || strings.Contains(fmt.Sprint(s.contents()), made.account) {
		t.Errorf("erased %d times", erased)
	}
	stranger.checkSignedIn(others.account)
}

// The last owner stays, until there is another one.
func TestEraseOwner(t *testing.T) {
	s := newSite(t)
	b, d, name := s.owner()
	f := b.asks(eraseAccount)
	b.refused("the last owner", f, d.get(f.options), 409, "Nobody else owns this site. Make another owner first")
	b.checkSignedIn(name)
	second, _, _ := s.owner()
	f = b.asks(eraseAccount)
	if p := b.press(f, d.get(f.options)); p.status != http.StatusOK || p.account != "" {
		t.Errorf("one of two owners: %d %s", p.status, p.notice)
	}
	if who, _ := second.who(); !slices.Contains(who.User.Groups, account.Owner) {
		t.Errorf("the other owner: %+v", who)
	}
}

func TestInviteOnPage(t *testing.T) {
	s := newSite(t, "BIO_REGISTRATION=invite", "BIO_SESSION_IDLE=9000h", "BIO_SESSION_MAX=9600h")
	b, d, _ := s.owner()
	made := func(fields ...string) (*page, string) {
		t.Helper()
		p := b.does(d, b.asks(makeInvitation, fields...), audit.InvitationMade)
		if !strings.HasPrefix(p.notice, "The invitation is made.") || !strings.HasPrefix(p.link, local+"/?invite=") || !strings.Contains(p.body, "It is shown this once.") {
			t.Errorf("notice %q, link %q", p.notice, p.link)
		}
		if again := b.get("/account"); again.link != "" || strings.Contains(again.body, p.link) {
			t.Error("the link is shown again")
		}
		return p, strings.TrimPrefix(p.link, local)
	}
	p, link := made("groups", "ops, dev  dev", "days", "3")
	if !strings.Contains(p.body, "This link makes one person, new or not, a member of dev, ops, once, within 3 days.") {
		t.Error("the page does not say what the link gives")
	}
	if e := s.trail()[len(s.trail())-1]; e.Actor != account.UserID(d.handle) || e.Detail["groups"] != "dev ops" || e.Reason != "account page" {
		t.Errorf("the trail says %+v", e)
	}
	guest := s.browser().registerWith(s.device(), link)
	if guest.status != http.StatusOK || s.groups(guest.account) != `["dev","ops"]` {
		t.Errorf("the guest: %d, groups %s", guest.status, s.groups(guest.account))
	}
	stranger := s.browser()
	if p := stranger.get(link); p.auth.fields.Has("invite") || !strings.HasPrefix(p.notice, sayInvitation) {
		t.Errorf("used: %q", p.notice)
	}

	for days, lasts := range map[string]time.Duration{"": 7 * 24 * time.Hour, "1": 24 * time.Hour, "365": 365 * 24 * time.Hour} {
		p, link := made("groups", " ", "days", days)
		if !strings.Contains(p.body, "This link lets one person in, once, within ") {
			t.Error("the page does not say what the link gives")
		}
		s.clock.Advance(lasts - time.Millisecond)
		if p := stranger.get(link); !p.auth.fields.Has("invite") {
			t.Errorf("%q days: over too early", days)
		}
		s.clock.Advance(time.Millisecond)
		if p := stranger.get(link); p.auth.fields.Has("invite") {
			t.Errorf("%q days: not over", days)
		}
	}

	for _, bad := range []string{"Ops", "ops!", "-ops", "ö", strings.Repeat("a", 65), "a;b", `"ops"`} {
		f := b.asks(makeInvitation, "groups", bad, "days", "7")
		b.refused(bad, f, d.get(f.options), 422, "A group has up to 64 lower-case letters")
	}
	for _, bad := range []string{"0", "366", "-1", "x", "1e2", "1.5", " 7", "99999999999999999999"} {
		f := b.asks(makeInvitation, "groups", "ops", "days", bad)
		b.refused(bad, f, d.get(f.options), 422, "An invitation lasts 1 to 365 days.")
	}
}

// Where nobody new may come in, an invitation gives a group to those who are in.
func TestInviteOnClosedPage(t *testing.T) {
	open := newSite(t)
	b, d, _ := open.owner()
	known := open.browser()
	kd, _ := known.register()
	closed := environment{like: open, settings: []string{"BIO_REGISTRATION=closed"}}.site(t)
	b.site, known.site = closed, closed

	f := b.asks(makeInvitation)
	b.refused("no group", f, d.get(f.options), 409, "Nobody new can come in here, so an invitation needs a group")
	p := b.does(d, b.asks(makeInvitation, "groups", "ops"), audit.InvitationMade)
	link := strings.TrimPrefix(p.link, local)
	f = known.button(link)
	if p := known.press(f, kd.get(f.options)); p.status != http.StatusOK || closed.groups(p.account) != `["ops"]` {
		t.Errorf("one who is in: %d, groups %s", p.status, closed.groups(p.account))
	}
}

func TestRecoveryLinkOnPage(t *testing.T) {
	s := newSite(t)
	b, d, owner := s.owner()
	lost, made := s.browser().register()
	p := b.does(d, b.asks(makeRecovery, "account", " "+strings.ToUpper(made.account)+" "), audit.RecoveryMade, audit.RecoveryOffered)
	if !strings.HasPrefix(p.notice, "The recovery link is made.") || !strings.HasPrefix(p.link, local+"/?recover=") ||
		!strings.Contains(p.body, "It works once, within 7 days, and its new passkey opens the account 24 hours later") {
		t.Errorf("notice %q, link %q", p.notice, p.link)
	}
	if again := b.get("/account"); again.link != "" || strings.Contains(again.body, p.link) {
		t.Error("the link is shown again")
	}
	// It is an act upon that person, who is not told whose it was.
	if e := s.trail()[len(s.trail())-1]; e.Actor != account.UserID(lost.handle) || strings.Contains(fmt.Sprint(e), account.UserID(d.handle)) || e.Session != "" {
		t.Errorf("the trail says %+v", e)
	}
	// The owner's own entry says that they made one, and from where, not for whom.
	who, _ := b.who()
	e := s.trail()[len(s.trail())-2]
	if e.Actor != account.UserID(d.handle) || e.Session != who.Session.ID || e.Client.Browser != "Firefox" || e.Client.Network != "203.0.113.0/24" ||
		strings.Contains(fmt.Sprint(e), account.UserID(lost.handle)) || strings.Contains(fmt.Sprint(e), made.account) || len(e.Detail) > 0 {
		t.Errorf("the trail says %+v", e)
	}
	acts, _, _ := b.get("/account").activity(t)
	if acts[0].words != "Made a recovery link for someone with Firefox on Linux, from 203.0.113.0/24" || strings.Contains(fmt.Sprint(acts), made.account) {
		t.Errorf("the owner is told %+v", acts)
	}
	acts, _, _ = s.browserOf(lost).get("/account").activity(t)
	if acts[1].words != "An owner made a recovery link for this account" || !acts[1].alarming || strings.Contains(fmt.Sprint(acts), owner) {
		t.Errorf("the person is told %+v", acts)
	}

	for _, nobody := range []string{"", "  ", "nobody-here-1", made.account + "x"} {
		f := b.asks(makeRecovery, "account", nobody)
		b.refused(nobody, f, d.get(f.options), 404, "There is no account of that name.")
	}
	if _, _, err := s.db.DisableUser(t.Context(), made.account, false, audit.Entry{Kind: audit.Disabled}); err != nil {
		t.Fatal(err)
	}
	f := b.asks(makeRecovery, "account", made.account)
	b.refused("disabled", f, d.get(f.options), 409, "That account is disabled, and a recovery link would not open it.")
}

// browserOf is a browser in which that passkey has signed in.
func (s *site) browserOf(d *device) *browser {
	s.t.Helper()
	b := s.browser()
	if p := b.signIn(d); p.account == "" {
		s.t.Fatalf("%d %s", p.status, p.notice)
	}
	return b
}

// A refused act leaves in its form what was typed, and in no other.
func TestRefusedKeepsTyped(t *testing.T) {
	s := newSite(t)
	b, d, name := s.owner()
	for _, typed := range [][]string{
		{renameAccount, "name", "<Nadia>"}, {passkeyAct(d, "rename"), "name", " \t"},
		{makeInvitation, "groups", "Ops, dev", "days", "366"}, {makeRecovery, "account", "nobody-here-1"},
	} {
		usual := b.get("/account").acts
		f := b.asks(typed[0], typed[1:]...)
		for address, next := range b.press(f, d.get(f.options)).acts {
			want := usual[address]
			if address == typed[0] {
				want.with(typed[1:]...)
			}
			if diff := cmp.Diff(want.fields, next.fields); diff != "" {
				t.Errorf("%s, then %s (-want +got):\n%s", typed[0], address, diff)
			}
		}
		if b.get("/account").account != name {
			t.Errorf("%s was not refused", typed[0])
		}
	}
}

// What is an owner's to do, nobody else does, whatever they post.
func TestOnlyOwners(t *testing.T) {
	s := newSite(t)
	_, _, owner := s.owner()
	// That it was tried is theirs to know.
	refused := func(b *browser, d *device, f *form) {
		t.Helper()
		n := s.settled()
		b.refused(f.action, f, d.get(f.options), 403, "Only an owner of this site can do that.")
		s.settled()
		if e := s.since(n); len(e) != 1 || e[0].Kind != audit.SignInRefused || e[0].Reason != "not an owner" || e[0].Client.Browser != "Firefox" {
			t.Errorf("%s: the trail says %+v", f.action, e)
		}
		f = b.crafted(f.action, "account", owner)
		checkCode(t, f.action, asProblem(b).press(f, d.get(f.options)), 403, "not_owner")
	}
	b, d := s.browser(), s.device()
	plain := b.registerWith(d, "/?invite="+s.invite(time.Time{}, "ops", "owners", "own")).account
	for _, f := range []*form{
		b.crafted(makeInvitation, "groups", "owner", "days", "7"), b.crafted(makeInvitation, "groups", "", "days", ""),
		b.crafted(makeRecovery, "account", owner), b.crafted(makeRecovery, "account", plain), b.crafted(makeRecovery, "account", "nobody-here-1"),
	} {
		refused(b, d, f)
	}
	// Nor does someone who was one when the page was made.
	b, d, name := s.owner()
	f := b.asks(makeInvitation, "groups", "owner", "days", "7")
	if _, err := s.db.SetGroups(t.Context(), name, nil, false, audit.Entry{Kind: audit.GroupsSet}); err != nil {
		t.Fatal(err)
	}
	refused(b, d, f)
}
