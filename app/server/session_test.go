package server_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"bio/app/audit"
	"bio/app/session"
	"bio/app/token"
)

// cookie returns what the page sets under that name.
func (p *page) cookie(t testing.TB, name string) *http.Cookie {
	t.Helper()
	i := slices.IndexFunc(p.setCookies, func(c *http.Cookie) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no cookie %s among %q", name, p.header["Set-Cookie"])
	}
	return p.setCookies[i]
}

func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		url, prefix string
		secure      bool
	}{{local, "", false}, {public, "__Host-", true}} {
		t.Run(tt.url, func(t *testing.T) {
			s := newSite(t, "BIO_URL="+tt.url, "BIO_SESSION_MAX=20h")
			b := s.browser()
			first := b.get("/")
			f := first.auth
			entered := b.press(f, s.device().create(f.options))
			out := b.post("/sign-out", nil)
			for _, c := range []struct {
				*http.Cookie
				name     string
				sameSite http.SameSite
				maxAge   int
				value    bool
			}{
				{first.cookie(t, tt.prefix+"bio-pre"), "binding", http.SameSiteLaxMode, 0, true},
				{entered.cookie(t, tt.prefix+"bio"), "session", http.SameSiteStrictMode, int((20 * time.Hour).Seconds()), true},
				{entered.cookie(t, tt.prefix+"bio-known"), "known", http.SameSiteLaxMode, 400 * 24 * 60 * 60, true},
				{out.cookie(t, tt.prefix+"bio"), "session at sign-out", http.SameSiteStrictMode, -1, false},
			} {
				if c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.Secure != tt.secure || c.SameSite != c.sameSite ||
					c.MaxAge != c.maxAge || (c.Value != "") != c.value || !c.Expires.IsZero() || c.Cookie.SameSite != c.sameSite {
					t.Errorf("%s: %s", c.name, c.Raw)
				}
			}
			if known := entered.cookie(t, tt.prefix+"bio-known"); known.Value != "1" {
				t.Errorf("known is %q", known.Value)
			}
			if len(first.setCookies) != 1 || len(entered.setCookies) != 2 || len(out.setCookies) != 1 {
				t.Errorf("%q, %q, %q", first.header["Set-Cookie"], entered.header["Set-Cookie"], out.header["Set-Cookie"])
			}
			if again := b.get("/"); len(again.setCookies) != 0 || !again.auth.known {
				t.Errorf("a browser that has all: %q, known %t", again.header["Set-Cookie"], again.auth.known)
			}
		})
	}
}

// sessionKey is how the session key comes from the root secret.
func sessionKey(root []byte) []byte {
	return must(hkdf.Key(sha256.New, root, nil, "bio session token", 32))
}

// Whatever else the session cookie holds, the visitor is signed out. The dead cookie
// is cleared, but for that of a session that was ended or replaced: the answer that
// says so may overtake the one that brings the next.
func TestDeadCookies(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	_, registered := b.register()
	good := b.cookies["bio"]
	var claims session.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(good, &claims); err != nil {
		t.Fatal(err)
	}
	forge := func(root []byte, typ string, change func(*session.Claims)) string {
		c := claims
		change(&c)
		return must(token.NewKeyring(sessionKey(root)).Sign(typ, c))
	}
	same := func(*session.Claims) {}
	signOut := b.clone()
	out := s.browser()
	out.register()
	ended := out.cookies["bio"]
	out.post("/sign-out", nil)
	in := s.browser()
	d, _ := in.register()
	replaced := in.cookies["bio"]
	in.does(d, in.asks(renameAccount, "name", "Nadia"), audit.Renamed)
	left := map[string]bool{"ended": true, "replaced": true, "unknown session": true}

	if own := forge(secret, "session+jwt", same); own != good {
		t.Fatal("the test does not forge what the site signs")
	}
	for name, cookies := range map[string][]string{
		"empty": {""}, "garbage": {"garbage"}, "dots": {".."}, "truncated": {good[:len(good)-1]}, "half": {good[:len(good)/2]},
		"longer": {good + "A"}, "padded": {good + "="}, "another case": {strings.ToLower(good)},
		"bit-flipped": {good[:40] + string(good[40]^1) + good[41:]}, "ended": {ended}, "replaced": {replaced},
		"of a foreign key": {forge([]byte("another secret, 32 bytes or more"), "session+jwt", same)},
		"another type":     {forge(secret, "at+jwt", same)},
		"another audience": {forge(secret, "session+jwt", func(c *session.Claims) { c.Audience = jwt.ClaimStrings{"gateway"} })},
		"another issuer":   {forge(secret, "session+jwt", func(c *session.Claims) { c.Issuer = public })},
		"expired":          {forge(secret, "session+jwt", func(c *session.Claims) { c.ExpiresAt = jwt.NewNumericDate(epoch) })},
		"unknown session":  {forge(secret, "session+jwt", func(c *session.Claims) { c.SessionID = "unknown" })},
		"twice":            {good, good}, "two, the second good": {"x", good}, "two, the first good": {good, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, target := range []string{"/", "/ceremony"} {
				c := signOut.clone()
				delete(c.cookies, "bio")
				r := c.request(http.MethodGet, target, nil)
				for _, value := range cookies {
					r.Header.Add("Cookie", "bio="+value)
				}
				p := c.send(r)
				if p.status != http.StatusOK || p.account != "" {
					t.Fatalf("%s: %d as %q", target, p.status, p.account)
				}
				if left[name] {
					if len(p.setCookies) != 0 {
						t.Errorf("%s: %q", target, p.header["Set-Cookie"])
					}
					continue
				}
				if dead := p.cookie(t, "bio"); dead.MaxAge >= 0 || dead.Value != "" || dead.SameSite != http.SameSiteStrictMode {
					t.Errorf("%s: not cleared: %s", target, dead.Raw)
				}
			}
			c := signOut.clone()
			delete(c.cookies, "bio")
			r := c.request(http.MethodPost, "/run", nil)
			r.Header.Set("Accept", "application/json") // a page is sent to the button
			for _, value := range cookies {
				r.Header.Add("Cookie", "bio="+value)
			}
			if p := c.send(r); p.status != http.StatusUnauthorized {
				t.Errorf("/run: %d", p.status)
			}
		})
	}
	b.checkSignedIn(registered.account)
}

// The cookie of a session that is over by itself is cleared.
func TestOverCookies(t *testing.T) {
	for name, limits := range map[string][]string{
		"idle": {"BIO_SESSION_IDLE=1h", "BIO_SESSION_MAX=24h"}, "at its cap": {"BIO_SESSION_IDLE=2h", "BIO_SESSION_MAX=2h"},
	} {
		s := newSite(t, limits...)
		b := s.browser()
		b.register()
		s.clock.Advance(2 * time.Hour)
		for _, target := range []string{"/", "/account", "/ceremony"} {
			if dead := b.clone().get(target).cookie(t, "bio"); dead.MaxAge >= 0 || dead.Value != "" {
				t.Errorf("%s, %s: %s", name, target, dead.Raw)
			}
		}
	}
}

// keptCookie fails if an answer says anything of the session's cookie.
func (p *page) keptCookie(t testing.TB, name string) {
	t.Helper()
	for _, c := range p.setCookies {
		if c.Name == "bio" {
			t.Errorf("%s: %d with %s", name, p.status, c.Raw)
		}
	}
}

// Of two acts in one session, such as from two tabs, the second finds it replaced: its
// answer leaves the cookie of the first, also where another process still remembers
// the session.
func TestTwoTabs(t *testing.T) {
	s := newSite(t)
	elsewhere := environment{like: s}.site(t)
	for _, second := range []*site{s, elsewhere} {
		b := s.browser()
		d, made := b.register()
		spare := b.adds()
		late := b.clone()
		late.site = second
		late.checkSignedIn(made.account) // and is remembered
		rename, erase, remove := late.asks(passkeyAct(d, "rename"), "name", "x"), late.asks(eraseAccount), late.asks(passkeyAct(spare, "remove"))
		add := late.asks(addPasskey)
		b.does(d, b.asks(renameAccount, "name", "Nadia-"+made.account), audit.Renamed)
		for name, press := range map[string]func(b *browser) *page{
			"rename":            func(b *browser) *page { return b.press(rename, d.get(rename.options)) },
			"erase":             func(b *browser) *page { return b.press(erase, d.get(erase.options)) },
			"remove":            func(b *browser) *page { return b.press(remove, spare.get(remove.options)) },
			"add":               func(b *browser) *page { return b.press(add, s.device().create(add.options)) },
			"the API's removal": func(b *browser) *page { return b.call("DELETE", passkeyAt(spare), "") },
		} {
			before := s.contents()
			p := press(late.clone())
			if p.status != http.StatusUnauthorized || p.account != "" {
				t.Errorf("%s: %d as %q", name, p.status, p.account)
			}
			p.keptCookie(t, name)
			if diff := cmp.Diff(before, s.contents()); diff != "" {
				t.Errorf("%s: changed (-before +after):\n%s", name, diff)
			}
		}
		for _, target := range []string{"/", "/account", "/auth/session"} {
			late.clone().get(target).keptCookie(t, target)
		}
		b.checkSignedIn("Nadia-" + made.account)
	}
}

// Where the session ends by what is asked, its cookie is cleared.
func TestEndedCookies(t *testing.T) {
	for name, end := range map[string]func(b *browser, d *device) *page{
		"one's own passkey removed": func(b *browser, d *device) *page {
			f := b.asks(passkeyAct(d, "remove"))
			return b.press(f, d.get(f.options))
		},
		"by the API":   func(b *browser, d *device) *page { return b.call("DELETE", passkeyAt(d), "") },
		"erased":       func(b *browser, d *device) *page { f := b.asks(eraseAccount); return b.press(f, d.get(f.options)) },
		"signed out":   func(b *browser, _ *device) *page { return b.post("/sign-out", nil) },
		"API sign-out": func(b *browser, _ *device) *page { return b.call("POST", "/auth/sign-out", "") },
		"this session ended": func(b *browser, _ *device) *page {
			who, _ := b.who()
			return b.post("/account/sessions/"+who.Session.ID+"/end", nil)
		},
	} {
		s := newSite(t)
		b := s.browser()
		d, _ := b.register()
		b.adds()
		p := end(b, d)
		if dead := p.cookie(t, "bio"); dead.MaxAge >= 0 || dead.Value != "" || p.status >= 400 {
			t.Errorf("%s: %d with %s", name, p.status, dead.Raw)
		}
		if _, alive := b.who(); alive {
			t.Errorf("%s: the session answers", name)
		}
	}
}

// A session that steps up goes on under a new id, and ends when it would have.
func TestStepUpKeepsTheCap(t *testing.T) {
	s := newSite(t, "BIO_SESSION_IDLE=2h", "BIO_SESSION_MAX=5h")
	b := s.browser()
	d, _ := b.register()
	claims := func() (c session.Claims) {
		t.Helper()
		if _, _, err := jwt.NewParser().ParseUnverified(b.cookies["bio"], &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	seen := map[string]bool{claims().SessionID: true}
	for i := range 4 {
		s.clock.Advance(time.Hour)
		b.does(d, b.asks(renameAccount, "name", fmt.Sprint("Nadia-", i)), audit.Renamed)
		c, now := claims(), s.clock.Now()
		who, _ := b.who()
		if seen[c.SessionID] || !c.ExpiresAt.Equal(epoch.Add(5*time.Hour)) || !c.AuthTime.Equal(now) {
			t.Errorf("claims %+v", c)
		}
		if is := who.Session; !is.CreatedAt.Equal(epoch) || !is.ExpiresAt.Equal(epoch.Add(5*time.Hour)) || !is.AuthTime.Equal(now) {
			t.Errorf("session %+v", is)
		}
		seen[c.SessionID] = true
	}
	s.clock.Advance(time.Hour - time.Millisecond)
	if _, alive := b.who(); !alive {
		t.Error("over before its time")
	}
	s.clock.Advance(time.Millisecond)
	if _, alive := b.who(); alive {
		t.Error("it outlives its cap")
	}
}

// A thousand changed cookies: none signs in, none is an error.
func TestMutatedCookies(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.register()
	good := b.cookies["bio"]
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/"
	dice := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		changed := []byte(good)
		for range 1 + dice.IntN(3) {
			i := dice.IntN(len(changed))
			switch dice.IntN(4) {
			case 0:
				changed = slices.Delete(changed, i, i+1)
			case 1:
				changed = slices.Insert(changed, i, alphabet[dice.IntN(len(alphabet))])
			default:
				changed[i] = alphabet[dice.IntN(len(alphabet))]
			}
		}
		if string(changed) == good {
			continue
		}
		c := b.clone()
		c.cookies["bio"] = string(changed)
		if p := c.get("/"); p.status != http.StatusOK || p.account != "" || c.cookies["bio"] != "" {
			t.Fatalf("%q: %d as %q", changed, p.status, p.account)
		}
	}
}

// Each sign-in makes a new session, and the one before it is dead.
func TestFixation(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	planted := s.browser()
	planted.register()
	b.cookies["bio"] = planted.cookies["bio"] // an attacker's own session
	b.cookies["bio-pre"] = planted.cookies["bio-pre"]
	victim := s.browser()
	d, registered := victim.register()
	page := s.browser()
	page.cookies["bio-pre"] = planted.cookies["bio-pre"]
	form := page.get("/").auth

	p := b.press(form, d.get(form.options)) // signs in over the planted session
	if p.account != registered.account || b.cookies["bio"] == planted.cookies["bio"] {
		t.Fatalf("%d as %q", p.status, p.account)
	}
	if got := planted.get("/"); got.account != "" {
		t.Errorf("the planted session is alive, as %q", got.account)
	}
	seen := map[string]bool{b.cookies["bio"]: true}
	for range 3 {
		before := b.clone()
		form := b.signedOut().get("/").auth
		if p := b.press(form, d.get(form.options)); p.account != registered.account {
			t.Fatalf("%d as %q: %s", p.status, p.account, p.notice)
		}
		if seen[b.cookies["bio"]] {
			t.Error("the same session again")
		}
		seen[b.cookies["bio"]] = true
		if got := before.get("/"); got.account != "" {
			t.Error("the session before is alive")
		}
	}
	if n := s.kinds()["session.replaced"]; n != 4 {
		t.Errorf("%d replaced", n)
	}
}

func TestSignOut(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	stolen := b.clone()
	other := s.browser()
	other.signIn(d)
	if p := b.post("/sign-out", nil); p.status != http.StatusSeeOther || b.cookies["bio"] != "" || b.cookies["bio-known"] != "1" {
		t.Errorf("%d, cookies %v", p.status, b.cookies)
	}
	if p := stolen.get("/"); p.account != "" {
		t.Error("the session is alive")
	}
	other.checkSignedIn(registered.account) // the other browser's is another
	if p := b.post("/sign-out", nil); p.status != http.StatusSeeOther {
		t.Errorf("again: %d", p.status)
	}
	if p := stolen.post("/sign-out", nil); p.status != http.StatusSeeOther {
		t.Errorf("with a dead session: %d", p.status)
	}
	if got := s.kinds(); got["session.signed_out"] != 1 {
		t.Errorf("trail %v", got)
	}
	in := s.browser()
	_, made := in.register()
	if p := in.get("/sign-out"); p.status != http.StatusSeeOther {
		t.Errorf("GET: %d", p.status)
	}
	in.checkSignedIn(made.account) // opening the address signs nobody out
}

func TestIdleAndCap(t *testing.T) {
	s := newSite(t, "BIO_SESSION_IDLE=2h", "BIO_SESSION_MAX=10h")
	d, registered := s.browser().register()
	idle, busy := s.browser(), s.browser()
	idle.signIn(d)
	busy.signIn(d)
	for range 9 {
		s.clock.Advance(time.Hour)
		busy.checkSignedIn(registered.account)
	}
	idle.checkSignedIn("")
	s.clock.Advance(time.Hour - time.Millisecond)
	busy.checkSignedIn(registered.account)
	s.clock.Advance(time.Millisecond)
	busy.checkSignedIn("")
	s.clock.Advance(-time.Hour) // a clock that is set back revives nothing that is gone
	if _, err := s.db.ExpireSessions(t.Context(), 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	idle.checkSignedIn("")
}

// A secret is changed without anyone noticing, and a retired one signs out.
func TestRotation(t *testing.T) {
	old := newSite(t)
	b := old.browser()
	d, registered := b.register()
	open := old.browser() // a page that is open while the secret changes
	form := open.get("/").auth

	fresh := []byte("a new root secret of 32 bytes ok")
	rotated := environment{
		like: old, secret: fresh, settings: []string{"BIO_SECRET_PREVIOUS=" + hex.EncodeToString(secret)},
	}.site(t)
	retired := environment{like: old, secret: fresh}.site(t)
	at := func(s *site, b *browser) *browser {
		c := b.clone()
		c.site = s
		return c
	}
	at(rotated, b).checkSignedIn(registered.account)
	c := at(rotated, open)
	if p := c.press(form, d.get(form.options)); p.account != registered.account {
		t.Errorf("an open page: %d %q", p.status, p.notice)
	}
	at(retired, c).checkSignedIn(registered.account) // signed with the new secret
	at(old, c).checkSignedIn("")
	at(retired, b).checkSignedIn("")
	c = at(retired, open)
	if p := c.press(form, d.get(form.options)); p.status != http.StatusConflict {
		t.Errorf("a page of the retired secret: %d", p.status)
	}
}

// What another instance ends, ends here within a second.
func TestOtherInstance(t *testing.T) {
	here := newSite(t)
	there := environment{like: here}.site(t)
	b := here.browser()
	_, registered := b.register()
	c := b.clone()
	c.site = there
	c.checkSignedIn(registered.account)
	b.clone().post("/sign-out", nil)
	b.checkSignedIn("")
	here.clock.Advance(time.Second + time.Millisecond)
	c.checkSignedIn("")
}

// A link from another site: the Strict cookie stays away once, and a page that
// reloads itself brings it.
func TestReloadPage(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	_, registered := b.register()
	for _, tt := range []struct {
		name       string
		site, mode string
		known      bool
		session    bool
		target     string
		reload     bool
	}{
		{"a link from another site", "cross-site", "navigate", true, false, "/", true},
		{"with an address to go to", "cross-site", "navigate", true, false, "/?return_to=/account", true},
		{"the reload itself", "same-origin", "navigate", true, false, "/", false},
		{"typed", "none", "navigate", true, false, "/", false},
		{"a sibling", "same-site", "navigate", true, false, "/", false},
		{"never here before", "cross-site", "navigate", false, false, "/", false},
		{"the cookie is there", "cross-site", "navigate", true, true, "/", false},
		{"an image", "cross-site", "no-cors", true, false, "/", false},
		{"an old browser", "", "", true, false, "/", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.clone()
			if !tt.known {
				delete(c.cookies, "bio-known")
			}
			if !tt.session {
				delete(c.cookies, "bio")
			}
			for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Sec-Fetch-Mode": tt.mode, "Sec-Fetch-Dest": "document"} {
				if value != "" {
					c.header.Set(name, value)
				}
			}
			cookies := maps.Clone(c.cookies)
			p := c.get(tt.target)
			if got := strings.Contains(p.body, `http-equiv="refresh"`); got != tt.reload || p.status != http.StatusOK {
				t.Errorf("%d, reloads: %t", p.status, got)
			}
			if tt.reload && (p.auth != nil || !maps.Equal(cookies, c.cookies) || p.header.Get("Cache-Control") != "no-store") {
				t.Error("the page that reloads is more than that")
			}
			if tt.session && p.account != registered.account {
				t.Errorf("as %q", p.account)
			}
		})
	}
}
