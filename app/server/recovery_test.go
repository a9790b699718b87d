package server_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

// linkLasts is how long the recovery links of these tests can be used.
const linkLasts = 7 * 24 * time.Hour

// offers makes a recovery link for the account and returns its address.
func (s *site) offers(name string) string {
	s.t.Helper()
	s.links++
	token := encode(fmt.Appendf(nil, "recovery link %4d", s.links))
	_, err := s.db.OfferRecovery(context.Background(), name, account.Recovery{
		TokenHash: account.TokenHash(token), ExpiresAt: s.clock.Now().Add(linkLasts),
	}, audit.Entry{Kind: audit.RecoveryOffered, Reason: "command line"})
	if err != nil {
		s.t.Fatal(err)
	}
	return "/?recover=" + token
}

// recovers begins a recovery of the account in another browser.
func (s *site) recovers(name string) (*browser, *device) {
	s.t.Helper()
	b, d := s.browser(), s.device()
	if p := b.registerWith(d, s.offers(name)); p.status != http.StatusOK || !strings.HasPrefix(p.notice, "The recovery of "+name+" has begun.") {
		s.t.Fatalf("%d %s", p.status, p.notice)
	}
	return b, d
}

const (
	sayWaits    = "Your new passkey opens the account in "
	sayRecovery = "That recovery link was used already, was replaced by another one, or has expired."
)

// A person who has lost every passkey, from the link to the account.
func TestRecovery(t *testing.T) {
	s := newSite(t, "BIO_RECOVERY_DELAY=90m")
	one := s.browser()
	lost, made := one.register()
	one.addr = "198.51.100.9:1"
	stranger := s.browser()
	_, others := stranger.register()

	// The link's page offers a passkey of that account, and no other.
	b, d := s.browser(), s.device()
	link := s.offers(made.account)
	before := s.contents()
	f := b.button(link)
	user := f.options.Create.User
	if !slices.Equal(f.offers, []string{"create", "ttl"}) || user.ID != encode(lost.handle) || user.Name != made.account || f.options.TTL != 300_000 ||
		len(f.options.Create.ExcludeCredentials) != 1 || f.options.Create.ExcludeCredentials[0].ID != encode(lost.ID) ||
		"/?recover="+f.fields.Get("recover") != link || f.ceremony != "/ceremony"+link[1:] {
		t.Errorf("the link's form %+v", f)
	}
	for _, sentence := range []string{"This link gives " + made.account + " back to its person, who has lost every passkey.", "opens the account 2 hours later, and ends all its sessions then", "One press makes a new passkey for this account."} {
		if !strings.Contains(b.get(link).body, sentence) {
			t.Errorf("the link's page does not say %q", sentence)
		}
	}
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("looking changed (-before +after):\n%s", diff)
	}

	// The press: a passkey, which opens nothing yet.
	n := len(s.trail())
	p := b.press(f, d.create(f.options))
	due := "on 1 March 2026 at 13:30 UTC: come back then, and press Auth."
	if p.status != http.StatusOK || p.account != "" || p.here != "/" || p.notice != "The recovery of "+made.account+" has begun." ||
		!strings.Contains(p.body, sayWaits+"2 hours, "+due+" Until then, whoever is signed in to the account can cancel it with a passkey.") {
		t.Errorf("begun: %d as %q, here %q, %q", p.status, p.account, p.here, p.notice)
	}
	if b.cookies["bio"] != "" || b.cookies["bio-known"] != "1" || !p.auth.known || p.auth.fields.Has("recover") {
		t.Errorf("begun: cookies %v, form %+v", b.cookies, p.auth)
	}
	if e := s.since(n); len(e) != 1 || e[0].Kind != audit.RecoveryBegun || e[0].Actor != account.UserID(lost.handle) || e[0].Credential != account.CredentialRef(d.ID) {
		t.Errorf("the trail says %+v", e)
	}

	// Everyone who is signed in there is told, on every page, and nobody else.
	two := s.browser()
	home := two.signIn(lost)
	warning := "Someone with a recovery link is waiting to get into this account.Firefox on Linux, from 203.0.113.0/24, begun just now. Their new passkey opens it in 2 hours, and ends your sessions.If this is not you:Cancel the recovery"
	for name, p := range map[string]*page{"after signing in": home, "/": two.get("/"), "/account": two.get("/account"), "another session": one.get("/"), "older activity": one.get("/account?before=99")} {
		if p.recovery != warning || p.acts[cancelRecovery] == nil {
			t.Errorf("%s: %q, can cancel: %t", name, p.recovery, p.acts[cancelRecovery] != nil)
		}
	}
	for _, p := range []*page{stranger.get("/"), stranger.get("/account"), b.get("/")} {
		if p.recovery != "" || p.acts[cancelRecovery] != nil {
			t.Errorf("another account's page says %q", p.recovery)
		}
	}
	checkAccepted(t, two.get("/account"), made.account, lost, d) // or the browser would drop it
	if all := two.passkeys(); len(all) != 1 {
		t.Errorf("passkeys %+v", all)
	}

	// Too early, up to the last moment.
	early := func(after time.Duration, left string) {
		t.Helper()
		s.clock.Advance(after)
		before, n := s.contents(), s.refusals()
		p := b.signIn(d)
		if p.status != http.StatusForbidden || p.account != "" || p.notice != sayWaits+left+", "+due || p.signals != "" {
			t.Errorf("after %s: %d as %q, %q, signals %q", after, p.status, p.account, p.notice, p.signals)
		}
		b.checkFresh(p, nil)
		c := b.clone()
		o := c.begin(signInBegin, "{}").options
		checkCode(t, "early", c.call("POST", signInFinish, d.get(o)), 403, "recovery_waits")
		server.Settle(t.Context(), s.Server, true)
		if diff := cmp.Diff(before, s.contents()); diff != "" || s.refusals() != n+2 {
			t.Errorf("%d refusals, changed (-before +after):\n%s", s.refusals()-n, diff)
		}
	}
	n = len(s.trail())
	early(0, "2 hours")
	if e := s.trail()[n]; e.Kind != audit.SignInRefused || e.Reason != "recovery waits" || e.Actor != account.UserID(lost.handle) || e.Credential != account.CredentialRef(d.ID) {
		t.Errorf("the trail says %+v", e)
	}
	early(time.Hour, "30 minutes")
	early(30*time.Minute-time.Millisecond, "a second")

	// In time.
	s.clock.Advance(time.Millisecond)
	if p := one.get("/account"); !strings.Contains(p.recovery, "opens it from now on") {
		t.Errorf("due: %q", p.recovery)
	}
	p = b.signIn(d)
	if p.status != http.StatusOK || p.account != made.account || !strings.HasPrefix(p.notice, "This account is yours again. All other sessions are over.") || p.recovery != "" {
		t.Errorf("in time: %d as %q, %q", p.status, p.account, p.notice)
	}
	for _, over := range []*browser{one, two} {
		if _, alive := over.who(); alive {
			t.Error("a session of before answers")
		}
	}
	stranger.checkSignedIn(others.account)
	kinds := s.kinds()
	if kinds[audit.RecoveryCompleted] != 1 || kinds[audit.SessionRevoked] != 2 {
		t.Errorf("trail %v", kinds)
	}
	b.does(d, b.asks(passkeyAct(lost, "remove")), audit.PasskeyRemoved) // a passkey like any other
	if p := s.browser().signIn(lost); p.status != http.StatusUnauthorized {
		t.Errorf("the lost passkey: %d", p.status)
	}
}

// A program that signs in with its passkey completes it as well.
func TestRecoveryByAPI(t *testing.T) {
	s := newSite(t, "BIO_RECOVERY_DELAY=1s")
	one := s.browser()
	_, made := one.register()
	b, d := s.recovers(made.account)
	s.clock.Advance(time.Second)
	if in := b.enter(d); in.User.Name != made.account {
		t.Errorf("signed in %+v", in)
	}
	if _, alive := one.who(); alive || s.kinds()[audit.RecoveryCompleted] != 1 {
		t.Errorf("a session of before answers: %t, trail %v", alive, s.kinds())
	}
	if all := b.passkeys(); len(all) != 2 {
		t.Errorf("passkeys %+v", all)
	}
}

// One press cancels it, from any page.
func TestCancelRecovery(t *testing.T) {
	for _, target := range []string{"/", "/account", "/account?before=99"} {
		s := newSite(t)
		one := s.browser()
		d, made := one.register()
		b, thiefs := s.recovers(made.account)
		p := one.does(d, one.get(target).acts[cancelRecovery], audit.RecoveryCancelled)
		if !strings.HasPrefix(p.notice, "The recovery is cancelled: its passkey opens nothing.") || p.recovery != "" {
			t.Errorf("%s: %q, still says %q", target, p.notice, p.recovery)
		}
		checkAccepted(t, p, made.account, d)
		if p := b.signIn(thiefs); p.status != http.StatusUnauthorized || !strings.Contains(p.signals, "signalUnknownCredential") {
			t.Errorf("its passkey: %d, signals %q", p.status, p.signals)
		}
		s.clock.Advance(25 * time.Hour)
		if p := b.signIn(thiefs); p.status != http.StatusUnauthorized {
			t.Errorf("its passkey, later: %d", p.status)
		}
		one.signIn(d)
		f := one.crafted(cancelRecovery)
		one.refused("again", f, d.get(f.options), 404, "No recovery waits any more.")
	}
}

// A link works once, while it is the last one of its account, for its days.
func TestRecoveryLinkIsOver(t *testing.T) {
	for name, over := range map[string]func(s *site, link, account string){
		"used":     func(s *site, link, _ string) { s.browser().registerWith(s.device(), link) },
		"replaced": func(s *site, _, account string) { s.offers(account) },
		"expired":  func(s *site, _, _ string) { s.clock.Advance(linkLasts - time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			_, made := s.browser().register()
			link := s.offers(made.account)
			b, d := s.browser(), s.device()
			f := b.button(link)
			over(s, link, made.account)
			if name == "expired" { // the link, not the page
				f = b.button(link)
				s.clock.Advance(time.Minute)
			}
			before := s.contents()
			p := b.press(f, d.create(f.options))
			if p.status != http.StatusForbidden || !strings.HasPrefix(p.notice, sayRecovery) || p.auth == nil || p.auth.fields.Has("recover") || p.here != "/" {
				t.Errorf("pressed: %d, %q, here %q", p.status, p.notice, p.here)
			}
			if dead := p.signalled(t)["signalUnknownCredential"]; len(dead) != 1 || dead[0]["credentialId"] != encode(d.ID) {
				t.Errorf("signals %q", p.signals)
			}
			p = b.get(link)
			if p.status != http.StatusOK || !strings.HasPrefix(p.notice, sayRecovery) || p.auth.fields.Has("recover") || strings.Contains(p.body, made.account) {
				t.Errorf("opened: %d, %q", p.status, p.notice)
			}
			checkCode(t, "renewed", b.get("/ceremony"+link[1:]), 403, "recovery")
			if diff := cmp.Diff(before, s.contents()); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
			in := s.browser()
			_, other := in.register()
			if p := in.get(link); p.status != http.StatusOK || p.account != other.account || !strings.HasPrefix(p.notice, sayRecovery) || !strings.HasSuffix(p.notice, "You are signed in.") {
				t.Errorf("opened by someone who is in: %d as %q, %q", p.status, p.account, p.notice)
			}
		})
	}
}

// Whatever is no link's token is none.
func TestRecoveryTokens(t *testing.T) {
	s := newSite(t)
	_, made := s.browser().register()
	good := strings.TrimPrefix(s.offers(made.account), "/?recover=")
	for name, token := range map[string]string{
		"a letter": "x", "unknown": encode(make([]byte, 18)), "padded": good + "=", "a line break": good + "\n", "shorter": good[:len(good)-1],
		"longer": good + "A", "an invitation": s.invite(time.Time{}), "a hash": encode(account.TokenHash(good)),
	} {
		b := s.browser()
		if p := b.get("/?" + url.Values{"recover": {token}}.Encode()); p.status != http.StatusOK || !strings.HasPrefix(p.notice, sayRecovery) || p.auth.fields.Has("recover") {
			t.Errorf("%s: %d %q", name, p.status, p.notice)
		}
		checkCode(t, name, b.get("/ceremony?"+url.Values{"recover": {token}}.Encode()), 403, "recovery")
		f := b.button("/?recover="+good).with("recover", token)
		if p := b.press(f, s.device().create(f.options)); p.status != http.StatusForbidden && p.status != http.StatusConflict || p.account != "" {
			t.Errorf("%s, pressed: %d as %q", name, p.status, p.account)
		}
	}
	if n := s.rows()["credentials"]; n != 1 {
		t.Errorf("%d passkeys", n)
	}
}

// A refused press on a link keeps the form for the next one.
func TestRecoveryRefused(t *testing.T) {
	s := newSite(t)
	in, made := s.browser().register()
	link := s.offers(made.account)
	b := s.browser()
	late := b.button(link)
	s.clock.Advance(5 * time.Minute)
	for name, tt := range map[string]struct {
		press    func(f *form) *page
		status   int
		sentence string
	}{
		"no credential": {func(f *form) *page { return b.press(f, "") }, 400, sayScript},
		"malformed":     {func(f *form) *page { return b.press(f, "{") }, 400, sayMalformed},
		"an assertion":  {func(f *form) *page { return b.press(f, in.get(b.ceremony("/ceremony"))) }, 400, sayMalformed},
		"refused": {func(f *form) *page {
			return b.press(f, s.device().create(f.options, func(f *draft) { f.client["origin"] = "https://evil.example" }))
		}, 401, sayRefused},
		"late":                   {func(*form) *page { return b.press(late, s.device().create(late.options)) }, 409, sayLate},
		"a sign-up's challenge":  {func(f *form) *page { return b.press(f, s.device().create(b.ceremony("/ceremony"))) }, 409, sayLate},
		"one that is registered": {func(f *form) *page { return b.press(f, in.create(f.options)) }, 409, sayRegistered},
	} {
		p := tt.press(b.button(link))
		if p.status != tt.status || !strings.HasPrefix(p.notice, tt.sentence) || p.here != link || p.account != "" {
			t.Errorf("%s: %d as %q, %q, here %q", name, p.status, p.account, p.notice, p.here)
		}
		if p.auth == nil || "/?recover="+p.auth.fields.Get("recover") != link || !slices.Equal(p.auth.offers, []string{"create", "ttl"}) {
			t.Fatalf("%s: the form is %+v", name, p.auth)
		}
		if name == "late" { // what it offers then works
			defer func() {
				if p := b.press(p.auth, s.device().create(p.auth.options)); p.status != http.StatusOK {
					t.Errorf("the next press: %d %s", p.status, p.notice)
				}
			}()
		}
	}
	if n := s.rows()["credentials"]; n != 1 {
		t.Errorf("%d passkeys", n)
	}
}

// No challenge serves a recovery but one of its own link, and that serves nothing else.
func TestRecoveryTakeover(t *testing.T) {
	s := newSite(t)
	one, other := s.browser(), s.browser()
	da, a := one.register()
	_, b := other.register()
	linkA, linkB := s.offers(a.account), s.offers(b.account)
	thief := s.browser()
	formA, formB, signUp := thief.button(linkA), thief.button(linkB), thief.button("/")
	with := func(f, options *form) *form {
		mixed := *f
		mixed.options, mixed.fields = options.options, maps.Clone(f.fields)
		return &mixed
	}
	before := s.contents()
	for name, press := range map[string]func(d *device) *page{
		"another link's challenge": func(d *device) *page { f := with(formA, formB); return thief.press(f, d.create(f.options)) },
		"a sign-up's":              func(d *device) *page { f := with(formA, signUp); return thief.press(f, d.create(f.options)) },
		"a link's for signing up":  func(d *device) *page { f := with(signUp, formA); return thief.press(f, d.create(f.options)) },
		"by the API":               func(d *device) *page { return asProblem(thief).call("POST", registerFinish, d.create(formA.options)) },
		"in another browser":       func(d *device) *page { return s.fresh().press(formA, d.create(formA.options)) },
		"to add a passkey to one's own": func(d *device) *page {
			c := other.clone()
			c.cookies["bio-pre"] = thief.cookies["bio-pre"]
			return c.press(&form{action: addPasskey, fields: url.Values{}}, d.create(formA.options))
		},
		"to add a passkey in its session": func(d *device) *page {
			c := one.clone()
			c.cookies["bio-pre"] = thief.cookies["bio-pre"]
			return c.press(&form{action: addPasskey, fields: url.Values{}}, d.create(formA.options))
		},
		"a passkey's adding, for the link": func(d *device) *page {
			f := with(formA, other.asks(addPasskey))
			c := other.clone()
			return c.press(f, d.create(f.options))
		},
	} {
		d := s.device()
		p := press(d)
		if p.status != http.StatusConflict || !strings.Contains(p.body, encode(d.ID)) { // signalled away
			t.Errorf("%s: %d %s", name, p.status, p.notice)
		}
		if diff := cmp.Diff(before, s.contents()); diff != "" {
			t.Errorf("%s: changed (-before +after):\n%s", name, diff)
		}
	}

	// The session of someone else does not come into it.
	c := other.clone()
	d := s.device()
	f := c.button(linkA)
	if p := c.press(f, d.create(f.options)); p.status != http.StatusOK || !strings.HasPrefix(p.notice, "The recovery of "+a.account) || c.cookies["bio"] != other.cookies["bio"] {
		t.Errorf("in another account's session: %d %s", p.status, p.notice)
	}
	other.checkSignedIn(b.account)
	if p := one.get("/"); p.recovery == "" {
		t.Error("A is not told")
	}
	if p := other.get("/"); p.recovery != "" {
		t.Errorf("B is told %q", p.recovery)
	}

	// While it waits, its passkey does nothing to the account, not even in A's session;
	// nor is it done anything to but cancelled.
	p := one.get("/account")
	waits := func() {
		t.Helper()
		for address, f := range one.get("/account").acts {
			if address == addPasskey {
				f = one.crafted(addPasskey)
				if f.options.Get.Challenge == "" {
					continue // its form makes one
				}
			}
			n := s.settled()
			one.refused(address, f.with("name", "Mine now"), d.get(f.options), 401, "That passkey does not open this account.")
			s.settled()
			if e := s.since(n); len(e) != 1 || e[0].Kind != audit.SignInRefused || e[0].Reason != "passkey of another account" ||
				e[0].Actor != account.UserID(da.handle) || e[0].Credential != "" {
				t.Errorf("%s: the trail says %+v", address, e)
			}
		}
	}
	if len(p.acts) != 5 {
		t.Errorf("%d forms", len(p.acts))
	}
	waits()
	for _, act := range []string{"rename", "remove"} {
		f := one.crafted(passkeyAct(d, act), "name", "x")
		one.refused(act, f, da.get(f.options), 404, "You have no such passkey here.")
	}
	checkCode(t, "rename", one.call("PATCH", passkeyAt(d), `{"name":"x"}`), 404, "not_found")
	checkCode(t, "remove", one.call("DELETE", passkeyAt(d), ""), 404, "not_found")
	// Its time has come: it signs in first.
	s.clock.Advance(24 * time.Hour)
	one.signIn(da)
	waits()
}

// fresh is a browser that has a binding, and nothing more.
func (s *site) fresh() *browser {
	b := s.browser()
	b.get("/")
	return b
}

// Of many presses on one link at once, one begins a recovery.
func TestRecoveryAtOnce(t *testing.T) {
	s := newSite(t)
	_, made := s.browser().register()
	link := s.offers(made.account)
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	var presses []func() *page
	for range 50 {
		b := s.browser()
		f := b.button(link)
		credential := s.device().create(f.options)
		presses = append(presses, func() *page { return b.press(f, credential) })
	}
	for _, press := range presses {
		wg.Go(func() {
			switch p := press(); p.status {
			case http.StatusOK:
				won.Add(1)
			case http.StatusForbidden:
				lost.Add(1)
			default:
				t.Errorf("%d %s", p.status, p.notice)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 49 || s.rows()["credentials"] != 2 || s.kinds()[audit.RecoveryBegun] != 1 {
		t.Errorf("%d began, %d were refused, rows %v", won.Load(), lost.Load(), s.rows())
	}
}

// A disabled account is not recovered, and once it is enabled again its people ask for
// another link.
func TestRecoveryOfDisabled(t *testing.T) {
	s := newSite(t)
	_, made := s.browser().register()
	b, d := s.browser(), s.device()
	link := s.offers(made.account)
	f := b.button(link)
	_, begun := s.browser().register()
	thief, waits := s.recovers(begun.account)
	for _, name := range []string{made.account, begun.account} {
		if _, _, err := s.db.DisableUser(t.Context(), name, false, audit.Entry{Kind: audit.Disabled}); err != nil {
			t.Fatal(err)
		}
	}
	opensNothing := func() {
		t.Helper()
		if p := thief.signIn(waits); p.status != http.StatusUnauthorized || !strings.Contains(p.signals, "signalUnknownCredential") {
			t.Errorf("the passkey that waited: %d %q, signals %q", p.status, p.notice, p.signals)
		}
	}
	check := func() {
		t.Helper()
		before := s.contents()
		p := b.press(f, d.create(f.options))
		if p.status != http.StatusForbidden || !strings.HasPrefix(p.notice, sayRecovery) || !strings.Contains(p.signals, encode(d.ID)) {
			t.Errorf("pressed: %d %q, signals %q", p.status, p.notice, p.signals)
		}
		if p := b.get(link); p.status != http.StatusOK || !strings.HasPrefix(p.notice, sayRecovery) || p.auth.fields.Has("recover") || strings.Contains(p.body, made.account) {
			t.Errorf("opened: %d %q", p.status, p.notice)
		}
		checkCode(t, "renewed", b.get("/ceremony"+link[1:]), 403, "recovery")
		opensNothing()
		if diff := cmp.Diff(before, s.contents()); diff != "" {
			t.Errorf("changed (-before +after):\n%s", diff)
		}
	}
	check()
	for _, name := range []string{made.account, begun.account} {
		if _, err := s.db.EnableUser(t.Context(), name, audit.Entry{Kind: audit.Enabled}); err != nil {
			t.Fatal(err)
		}
	}
	check()
	s.clock.Advance(25 * time.Hour) // when its time would have come
	opensNothing()
	s.recovers(made.account) // by another link
}

// An account that has as many passkeys as it can is recovered when there is room: the
// link stays.
func TestRecoveryOfFull(t *testing.T) {
	s := newSite(t)
	one := s.browser()
	da, made := one.register()
	if _, err := s.raw.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO credentials (ref, id, user_id, user_handle, public_key, sign_count, flags, aaguid, transports, attestation_type, attestation_format, name, created_at, last_used_at)
		SELECT lower(hex(randomblob(16))), randomblob(32), user_id, user_handle, public_key, sign_count, flags, aaguid, transports, attestation_type, attestation_format, name, created_at, last_used_at
		FROM n JOIN (SELECT * FROM credentials)`, account.MaxCredentials-1); err != nil {
		t.Fatal(err)
	}
	link := s.offers(made.account)
	b, d := s.browser(), s.device()
	before := s.contents()
	p := b.registerWith(d, link)
	if p.status != http.StatusConflict || !strings.HasPrefix(p.notice, "This account has as many passkeys as it can have.") || !strings.Contains(p.signals, encode(d.ID)) ||
		p.auth == nil || "/?recover="+p.auth.fields.Get("recover") != link {
		t.Errorf("%d %q, signals %q", p.status, p.notice, p.signals)
	}
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if _, err := s.raw.Exec("DELETE FROM credentials WHERE ref = (SELECT ref FROM credentials WHERE ref <> ? LIMIT 1)", account.CredentialRef(da.ID)); err != nil {
		t.Fatal(err)
	}
	f := one.asks(addPasskey)
	d = s.device()
	if p := b.registerWith(d, link); p.status != http.StatusOK {
		t.Fatalf("%d %q", p.status, p.notice)
	}
	// The place is taken, by whichever passkey.
	spare := s.device()
	p = one.refused("one more", f, spare.create(f.options), 409, "This account has as many passkeys as it can have.")
	if dead := p.signalled(t)["signalUnknownCredential"]; len(dead) != 1 || dead[0]["credentialId"] != encode(spare.ID) {
		t.Errorf("signals %q", p.signals)
	}
	s.clock.Advance(24 * time.Hour)
	if p := b.signIn(d); p.account != made.account || s.rows()["credentials"] != account.MaxCredentials {
		t.Errorf("%d as %q, %d passkeys", p.status, p.account, s.rows()["credentials"])
	}
}

// What a page that has grown old asks for.
func TestCeremonyFor(t *testing.T) {
	s := newSite(t)
	b, d, _ := s.owner()
	ref := account.CredentialRef(d.ID)
	for _, address := range []string{
		renameAccount, eraseAccount, endOthers, cancelRecovery, makeInvitation, makeRecovery, passkeyAct(d, "rename"), passkeyAct(d, "remove"),
		"/account/passkeys/" + strings.Repeat("0", 32) + "/remove", // whether there is one, the press finds out
	} {
		target := "/ceremony?for=" + url.QueryEscape(address)
		one, two := b.ceremony(target), b.ceremony(target)
		if one.Get.Challenge == "" || one.Get.Challenge == two.Get.Challenge || one.Create.Challenge != "" || one.TTL != 300_000 {
			t.Errorf("%s: %+v", address, one)
		}
		checkCode(t, address, b.signedOut().get(target), 401, "signed_out")
	}
	target := "/ceremony?for=" + url.QueryEscape(addPasskey)
	if o := b.ceremony(target); o.Get.Challenge != "" || o.Create.Challenge == "" || o.Create.User.ID != encode(d.handle) || len(o.Create.ExcludeCredentials) != 1 {
		t.Errorf("add: %+v", o)
	}
	s.clock.Advance(4*time.Minute + time.Second)
	if o := b.ceremony(target); o.Get.Challenge == "" || o.Create.Challenge != "" {
		t.Errorf("add, later: %+v", o)
	}
	checkCode(t, "add", b.signedOut().get(target), 401, "signed_out")
	for _, address := range []string{
		"/account", "/account/", "/", "/run", "/sign-out", "/auth/session", "nothing", "/account/name/", "/account/name?x", "/account/names", "x/account/name",
		"/account/passkeys", "/account/passkeys/" + ref, "/account/passkeys/" + ref + "/", "/account/passkeys/" + strings.ToUpper(ref) + "/remove",
		"/account/passkeys/" + ref + "0/remove", "/account/passkeys//remove", "/account/sessions/" + ref + "/end", "/account/name\n", "\n/account/name",
	} {
		checkCode(t, address, b.get("/ceremony?for="+url.QueryEscape(address)), 404, "not_found")
	}
}
