package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
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

// checkFresh fails unless the page has a form whose next press works.
func (b *browser) checkFresh(p *page, before *form) {
	b.t.Helper()
	switch {
	case p.auth == nil:
		b.t.Errorf("%d: no button to press again", p.status)
	case p.auth.options.Get.Challenge == "" || p.auth.options.Get.Challenge != p.auth.options.Create.Challenge:
		b.t.Errorf("%d: challenges %q and %q", p.status, p.auth.options.Get.Challenge, p.auth.options.Create.Challenge)
	case before != nil && p.auth.options.Get.Challenge == before.options.Get.Challenge:
		b.t.Errorf("%d: the old challenge again", p.status)
	}
}

func TestRegister(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	first := b.get("/")
	if first.status != http.StatusOK || first.auth == nil || first.auth.known || first.auth.closed || !first.ids["what"] {
		t.Fatalf("first visit: %d, %+v, one sentence: %t", first.status, first.auth, first.ids["what"])
	}
	d := s.device()
	p := b.press(first.auth, d.create(first.auth.options))
	if p.status != http.StatusOK || p.account != first.auth.options.Create.User.Name || p.undo == nil || p.here != "/" || p.signals != "" {
		t.Fatalf("registration: %d, account %q offered as %q, undo %t, here %q, signals %q",
			p.status, p.account, first.auth.options.Create.User.Name, p.undo != nil, p.here, p.signals)
	}
	if p.run == "" || !strings.Contains(p.body, `data-final="done"`) {
		t.Errorf("the agent's work is not in the answer: %q", p.run)
	}
	want := map[string]int{"users": 1, "credentials": 1, "sessions": 1, "challenges": 1, "invitations": 0, "trail": 3}
	if diff := cmp.Diff(want, s.rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got := s.kinds(); got["account.registered"] != 1 || got["run.started"] != 1 || got["run.ended"] != 1 {
		t.Errorf("trail %v", got)
	}
	again := b.get("/")
	if again.account != p.account || again.undo != nil {
		t.Errorf("reload: %q, undo %t", again.account, again.undo != nil)
	}
}

func TestSignIn(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	if out := b.post("/sign-out", nil); out.status != http.StatusSeeOther || out.header.Get("Location") != "/" {
		t.Fatalf("sign-out: %d to %s", out.status, out.header.Get("Location"))
	}
	page := b.get("/")
	if page.account != "" || page.auth == nil || !page.auth.known {
		t.Fatalf("after sign-out: %q, known %t", page.account, page.auth != nil && page.auth.known)
	}
	p := b.press(page.auth, d.get(page.auth.options))
	if p.status != http.StatusOK || p.account != registered.account || p.undo != nil {
		t.Errorf("sign-in: %d, %q, want %q, undo %t", p.status, p.account, registered.account, p.undo != nil)
	}
	if p.header.Get("Location") != "" || p.run == "" {
		t.Error("the answer is not the page with the agent's work")
	}
	if got := s.rows(); got["users"] != 1 || got["sessions"] != 1 {
		t.Errorf("rows %v", got)
	}
	other := s.browser() // the same passkey in another browser
	if p := other.signIn(d); p.account != registered.account {
		t.Errorf("another browser: %q", p.account)
	}
	b.checkSignedIn(registered.account)
}

func TestReturnTo(t *testing.T) {
	s := newSite(t)
	d, _ := s.browser().register()
	for ask, want := range map[string]string{
		"/account": "/account", "/a?b=c#d": "/a?b=c#d", "/": "", // the signed-in page is there already
		"//evil.example": "", "https://evil.example/": "", `/\evil.example`: "", "/%09/evil.example": "", "javascript:alert(1)": "",
		"https:evil.example": "", "///evil.example": "", "/a\r\nSet-Cookie: x=1": "", "http://localhost:8080/": "",
	} {
		for _, name := range []string{"return_to", "rd"} {
			b := s.browser()
			page := b.get("/?" + url.Values{name: {ask}}.Encode())
			if got := page.auth.fields.Get("return_to"); got != want {
				t.Errorf("%s=%q: the page asks for %q, want %q", name, ask, got, want)
			}
			page.auth.fields.Set("return_to", ask) // whatever the page said
			p := b.press(page.auth, d.get(page.auth.options))
			switch {
			case want == "" && (p.status != http.StatusOK || p.header.Get("Location") != ""):
				t.Errorf("%q: %d to %q", ask, p.status, p.header.Get("Location"))
			case want != "" && (p.status != http.StatusSeeOther || p.header.Get("Location") != want):
				t.Errorf("%q: %d to %q, want %q", ask, p.status, p.header.Get("Location"), want)
			}
			if b.get("/?"+url.Values{name: {ask}}.Encode()).status != map[bool]int{true: 303, false: 200}[want != ""] {
				t.Errorf("%q: signed in, not as it should be", ask)
			}
		}
	}
}

// A refused press keeps where the person was going.
func TestRefusedKeepsReturnTo(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get("/?return_to=/account")
	p := b.press(page.auth, "{}")
	if p.status != http.StatusBadRequest || p.auth.fields.Get("return_to") != "/account" || p.here != "/?return_to=%2Faccount" {
		t.Errorf("%d, return_to %q, here %q", p.status, p.auth.fields.Get("return_to"), p.here)
	}
}

// Also when the press was refused before its form was read.
func TestTooManyKeepsReturnTo(t *testing.T) {
	s := newSite(t, "BIO_RATE_LIMIT=1/h,1")
	b := s.browser()
	page := b.get("/?return_to=/account")
	b.press(page.auth, "{}")
	if p := b.press(page.auth, "{}"); p.status != http.StatusTooManyRequests || p.auth.fields.Get("return_to") != "/account" {
		t.Errorf("%d, return_to %q", p.status, p.auth.fields.Get("return_to"))
	}
}

// After a database error nothing is known of a passkey, and it is left alone.
func TestNoSignalWithoutDatabase(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	f := b.get("/").auth
	credential := s.device().create(f.options)
	s.clock.Advance(10 * time.Minute)
	s.db.Close()
	if p := b.press(f, credential); p.status != http.StatusConflict || p.signals != "" {
		t.Errorf("%d, signals %q", p.status, p.signals)
	}
}

// The sentences of the contract's status table.
const (
	sayScript     = "A passkey can only be asked for by a script"
	sayMalformed  = "That could not be read. Press Auth again."
	sayRefused    = "That passkey was not accepted. Press Auth to try again."
	sayNoCookie   = "Your browser did not send Bio's cookie back. Allow cookies for this page, and press Auth again."
	sayLate       = "That took too long. Press Auth again."
	sayUsed       = "That press was already used. Press Auth again."
	sayRegistered = "That passkey is already registered. Press Auth again to sign in with it."
	sayNotAllowed = "New accounts need an invitation here."
	sayInvitation = "That invitation was used already or has expired."
	sayTooLarge   = "That was too large to be read. Make it shorter, and send it again."
	sayDatabase   = "The database cannot be reached. Nothing was changed. Try again in a moment."
)

// Each refusal of the status table: its sentence, fresh options, nothing but its
// entry in the database, no session.
func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		settings []string
		press    func(*browser, *form) *page
		status   int
		sentence string
		reason   string
		signals  string // part of
	}{
		"no credential": {press: func(b *browser, f *form) *page { return b.press(f, "") },
			status: 400, sentence: sayScript, reason: "no credential"},
		"no form": {press: func(b *browser, f *form) *page { return b.post("/", nil) },
			status: 400, sentence: sayScript, reason: "no credential"},
		"a form that cannot be read": {press: func(b *browser, f *form) *page {
			r := b.request("POST", "/", strings.NewReader("credential=%zz"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return b.send(r)
		}, status: 400, sentence: sayMalformed, reason: "malformed"},
		"JSON in place of a form": {press: func(b *browser, f *form) *page {
			r := b.request("POST", "/", strings.NewReader(`{"credential":{}}`))
			r.Header.Set("Content-Type", "application/json")
			return b.send(r)
		}, status: 400, sentence: sayScript, reason: "no credential"},
		"malformed": {press: func(b *browser, f *form) *page { return b.press(f, "{") },
			status: 400, sentence: sayMalformed, reason: "malformed"},
		"bad CBOR": {press: func(b *browser, f *form) *page {
			return b.press(f, b.device().create(f.options, func(d *draft) { d.response["attestationObject"] = encode([]byte{0xa1}) }))
		}, status: 400, sentence: sayMalformed, reason: "malformed"},
		"registration refused": {press: func(b *browser, f *form) *page {
			return b.press(f, b.device().create(f.options, func(d *draft) { d.client["origin"] = "https://evil.example" }))
		}, status: 401, sentence: sayRefused, reason: "wrong origin", signals: "signalUnknownCredential"},
		"unknown passkey": {press: func(b *browser, f *form) *page {
			d := b.device()
			d.handle = make([]byte, 32)
			return b.press(f, d.get(f.options))
		}, status: 401, sentence: sayRefused, reason: "unknown passkey", signals: "signalUnknownCredential"},
		"expired": {press: func(b *browser, f *form) *page {
			b.clock.Advance(5 * time.Minute)
			return b.press(f, b.device().create(f.options))
		}, status: 409, sentence: sayLate, reason: "expired", signals: "signalUnknownCredential"},
		"another browser's": {press: func(b *browser, f *form) *page {
			b.cookies = map[string]string{}
			b.get("/")
			return b.press(f, b.device().create(f.options))
		}, status: 409, sentence: sayLate, reason: "expired", signals: "signalUnknownCredential"},
		"no binding": {press: func(b *browser, f *form) *page {
			b.cookies = map[string]string{}
			return b.press(f, b.device().create(f.options))
		}, status: 409, sentence: sayNoCookie, reason: "no binding", signals: "signalUnknownCredential"},
		"a spoilt binding": {press: func(b *browser, f *form) *page {
			b.cookies["bio-pre"] += "A"
			return b.press(f, b.device().create(f.options))
		}, status: 409, sentence: sayNoCookie, reason: "no binding", signals: "signalUnknownCredential"},
		"two bindings": {press: func(b *browser, f *form) *page {
			r := b.request("POST", "/", strings.NewReader(url.Values{"credential": {b.device().create(f.options)}}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Add("Cookie", "bio-pre="+b.cookies["bio-pre"])
			return b.send(r)
		}, status: 409, sentence: sayNoCookie, reason: "no binding", signals: "signalUnknownCredential"},
		"by invitation only": {settings: []string{"BIO_REGISTRATION=invite"}, press: func(b *browser, f *form) *page {
			return b.press(f, b.device().create(f.options))
		}, status: 403, sentence: sayNotAllowed, reason: "registration not allowed", signals: "signalUnknownCredential"},
		"an invented invitation": {settings: []string{"BIO_REGISTRATION=invite"}, press: func(b *browser, f *form) *page {
			f.fields.Set("invite", encode(make([]byte, 18)))
			return b.press(f, b.device().create(f.options))
		}, status: 403, sentence: sayInvitation, reason: "invitation", signals: "signalUnknownCredential"},
		"an invitation that is none": {settings: []string{"BIO_REGISTRATION=invite"}, press: func(b *browser, f *form) *page {
			f.fields.Set("invite", "x")
			return b.press(f, b.device().create(f.options))
		}, status: 403, reason: "invitation", signals: "signalUnknownCredential"},
		"closed": {settings: []string{"BIO_REGISTRATION=closed"}, press: func(b *browser, f *form) *page {
			f.fields.Set("invite", "x")
			return b.press(f, b.device().create(f.options))
		}, status: 403, sentence: sayNotAllowed, reason: "registration not allowed", signals: "signalUnknownCredential"},
		"too large": {press: func(b *browser, f *form) *page { return b.press(f, strings.Repeat("x", 70_000)) },
			status: 413, sentence: sayTooLarge, reason: "too large"},
		"too large, in chunks": {press: func(b *browser, f *form) *page {
			r := b.request("POST", "/", strings.NewReader("credential="+strings.Repeat("x", 70_000)))
			r.ContentLength = -1
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return b.send(r)
		}, status: 413, sentence: sayTooLarge, reason: "too large"},
		"as JSON": {press: func(b *browser, f *form) *page {
			b.header.Set("Accept", "application/json")
			defer b.header.Del("Accept")
			return b.press(f, "{")
		}, status: 400, reason: "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tt.settings...)
			b := s.browser()
			f := b.get("/").auth
			before := s.rows()
			p := tt.press(b, f)
			if p.status != tt.status || !strings.HasPrefix(p.notice, tt.sentence) {
				t.Errorf("%d %q, want %d %q", p.status, p.notice, tt.status, tt.sentence)
			}
			if name != "as JSON" {
				b.checkFresh(p, f)
			}
			if p.account != "" || b.cookies["bio"] != "" {
				t.Error("there is a session")
			}
			if !strings.Contains(p.signals, tt.signals) || tt.signals == "" && p.signals != "" {
				t.Errorf("signals %q, want %q", p.signals, tt.signals)
			}
			before["trail"]++
			if diff := cmp.Diff(before, s.rows()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if trail := s.trail(); len(trail) > 0 {
				if last := trail[len(trail)-1]; last.Kind != audit.SignInRefused || last.Reason != tt.reason {
					t.Errorf("the trail says %+v, want the reason %q", last, tt.reason)
				}
			}
			if name == "closed" || strings.Contains(name, "invit") {
				return
			}
			// The next press works.
			if name == "as JSON" {
				p = b.get("/")
			}
			if again := b.press(p.auth, b.device().create(p.auth.options)); again.status != http.StatusOK || again.account == "" {
				t.Errorf("the next press: %d %q", again.status, again.notice)
			}
		})
	}
}

// A body that says that it is too large is not read.
func TestTooLargeIsNotRead(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	body := strings.NewReader("credential=" + strings.Repeat("x", 4<<20))
	r := b.request("POST", "/", body)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p := b.send(r); p.status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", p.status)
	}
	if n := body.Size() - int64(body.Len()); n > 128<<10 {
		t.Errorf("%d bytes were read", n)
	}
}

// A length that says "too large" is an attempt like any other: it does not fill
// the trail faster than the limit allows.
func TestTooLargeIsLimited(t *testing.T) {
	s := newSite(t, "BIO_REFUSAL_LIMIT=3/m")
	b := s.browser()
	statuses := map[int]int{}
	for range 10 {
		r := b.request("POST", "/", strings.NewReader(""))
		r.ContentLength = 70000
		statuses[b.send(r).status]++
	}
	server.Settle(t.Context(), s.Server, true)
	if diff := cmp.Diff(map[int]int{413: 3, 429: 7}, statuses); diff != "" || s.refusals() != 3 {
		t.Errorf("-want +got:\n%s, %d in the trail", diff, s.refusals())
	}
}

// matrix are the negative rows of WebAuthn L3 §7.1 and §7.2 that serve both
// ceremonies. A reason of "malformed" answers 400, "expired" 409, others 401.
var matrix = map[string]struct {
	reason string
	by     func(*draft)
}{
	"7.1.9 7.2.12 another challenge":          {"expired", func(f *draft) { f.client["challenge"] = encode(make([]byte, 40)) }},
	"7.1.9 7.2.12 empty challenge":            {"expired", func(f *draft) { f.client["challenge"] = "" }},
	"7.1.9 7.2.12 padded challenge":           {"expired", func(f *draft) { f.client["challenge"] = f.client["challenge"].(string) + "==" }},
	"7.1.8 7.2.11 unknown type":               {"wrong type", func(f *draft) { f.client["type"] = "payment.get" }},
	"7.1.9 7.2.13 origin http":                {"wrong origin", func(f *draft) { f.client["origin"] = "http://bio.example.com" }},
	"7.1.9 7.2.13 origin sibling":             {"wrong origin", func(f *draft) { f.client["origin"] = "https://www.bio.example.com" }},
	"7.1.9 7.2.13 origin parent":              {"wrong origin", func(f *draft) { f.client["origin"] = "https://example.com" }},
	"7.1.9 7.2.13 origin port":                {"wrong origin", func(f *draft) { f.client["origin"] = "https://bio.example.com:8443" }},
	"7.1.9 7.2.13 origin default port":        {"wrong origin", func(f *draft) { f.client["origin"] = "https://bio.example.com:443" }},
	"7.1.9 7.2.13 origin user":                {"wrong origin", func(f *draft) { f.client["origin"] = "https://u@bio.example.com" }},
	"7.1.9 7.2.13 origin path":                {"wrong origin", func(f *draft) { f.client["origin"] = "https://bio.example.com/path" }},
	"7.1.9 7.2.13 origin capitals":            {"wrong origin", func(f *draft) { f.client["origin"] = "https://BIO.example.com" }},
	"7.1.9 7.2.13 origin null":                {"wrong origin", func(f *draft) { f.client["origin"] = "null" }},
	"7.1.10 7.2.14 cross origin":              {"cross origin", func(f *draft) { f.client["crossOrigin"] = true }},
	"7.1.11 7.2.14 top origin":                {"cross origin", func(f *draft) { f.client["crossOrigin"], f.client["topOrigin"] = true, "https://evil.example" }},
	"7.1.11 7.2.14 top origin without a flag": {"cross origin", func(f *draft) { f.client["topOrigin"] = "https://evil.example" }},
	"7.1.14 7.2.15 RP ID hash":                {"wrong relying party", func(f *draft) { f.rpID = "evil.example" }},
	"7.1.14 7.2.15 RP ID hash of the parent":  {"wrong relying party", func(f *draft) { f.rpID = "example.com" }},
	"7.1.15 7.2.16 user not present":          {"user presence missing", func(f *draft) { f.flags &^= account.FlagUserPresent }},
	"7.1.16 7.2.17 user not verified":         {"user verification missing", func(f *draft) { f.flags &^= account.FlagUserVerified }},
	"7.1.17 7.2.18 backed up, not eligible":   {"backup flags", func(f *draft) { f.flags &^= account.FlagBackupEligible }},
	"7.1.28 7.2.23 unsolicited extension": {"unsolicited extension", func(f *draft) {
		f.out["clientExtensionResults"] = map[string]any{"prf": map[string]any{"enabled": true}}
	}},
	"7.1.5 7.2.9 id not rawId":         {"malformed", func(f *draft) { f.out["rawId"] = encode(make([]byte, 32)) }},
	"7.1.5 7.2.9 type not public-key":  {"malformed", func(f *draft) { f.out["type"] = "password" }},
	"7.1.6 7.2.9 client data no JSON":  {"malformed", func(f *draft) { f.response["clientDataJSON"] = encode([]byte("{")) }},
	"7.1.6 7.2.9 client data trailing": {"malformed", func(f *draft) { f.response["clientDataJSON"] = encode([]byte("{} {}")) }},
	"7.1.13 7.2.9 trailing bytes":      {"malformed", func(f *draft) { f.extensions = []byte{0xa0} }},
	"7.1.13 7.2.9 extensions missing":  {"malformed", func(f *draft) { f.flags |= flagExtensions }},
	"7.1.25 7.2.5 id of 1,024 bytes": {"malformed", func(f *draft) {
		f.out["id"], f.out["rawId"] = encode(make([]byte, 1024)), encode(make([]byte, 1024))
	}},
}

var matrixCreate = map[string]struct {
	reason string
	by     func(*device, *draft)
}{
	"7.1.7 type of an assertion":   {"wrong type", func(_ *device, f *draft) { f.client["type"] = "webauthn.get" }},
	"7.1.13 no attested data":      {"malformed", func(_ *device, f *draft) { f.flags &^= flagAttested; f.attested = nil }},
	"7.1.13 attested data cut off": {"malformed", func(_ *device, f *draft) { f.attested = f.attested[:len(f.attested)-1] }},
	"7.1.13 CBOR cut off":          {"malformed", func(_ *device, f *draft) { f.response["attestationObject"] = encode([]byte("\xa3\x63fmt")) }},
	"7.1.20 algorithm not offered": {"algorithm not offered", func(_ *device, f *draft) {
		f.attested = []byte(strings.Replace(string(f.attested), "\x03\x26", "\x03\x38\x2e", 1))
	}},
	"7.1.21 unknown format":    {"bad attestation", func(_ *device, f *draft) { f.format = "invented" }},
	"7.1.22 no such statement": {"bad attestation", func(_ *device, f *draft) { f.format = "packed" }},
	"7.1.25 id of 1 byte":      {"short credential id", func(d *device, f *draft) { d.ID = d.ID[:1]; f.attested = d.attestedData() }},
	"7.1.25 id of 15 bytes":    {"short credential id", func(d *device, f *draft) { d.ID = d.ID[:15]; f.attested = d.attestedData() }},
	"7.1.25 attested id differs": {"not valid", func(d *device, f *draft) {
		f.attested = []byte(strings.Replace(string(f.attested), string(d.ID), strings.Repeat("x", 32), 1))
	}},
}

var matrixGet = map[string]struct {
	reason string
	by     func(*draft)
}{
	"7.2.6 no user handle":           {"wrong user handle", func(f *draft) { f.response["userHandle"] = nil }},
	"7.2.6 empty user handle":        {"wrong user handle", func(f *draft) { f.response["userHandle"] = "" }},
	"7.2.6 another user handle":      {"wrong user handle", func(f *draft) { f.response["userHandle"] = encode(make([]byte, 32)) }},
	"7.2.11 type of a registration":  {"wrong type", func(f *draft) { f.client["type"] = "webauthn.create" }},
	"7.2.18 19 eligible no more":     {"backup flags", func(f *draft) { f.flags &^= account.FlagBackupEligible | account.FlagBackupState }},
	"7.2.21 another key's signature": {"bad signature", func(f *draft) { f.response["signature"] = encode([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}) }},
	"7.2.21 no signature":            {"bad signature", func(f *draft) { f.response["signature"] = nil }},
	"7.2.21 other authenticator data": {"bad signature", func(f *draft) {
		f.count++
		f.response["authenticatorData"] = encode(f.authenticatorData())
		f.count--
	}},
}

func TestMatrix(t *testing.T) {
	s := newSite(t, "BIO_URL="+public)
	owner := s.browser()
	d, _ := owner.register()

	check := func(t *testing.T, reason string, credential func(*form) string) {
		t.Helper()
		s.clock.Advance(time.Minute) // what follows a refusal within its minute is folded
		server.Settle(t.Context(), s.Server, false)
		b := s.browser()
		f := b.get("/").auth
		before := s.rows()
		p := b.press(f, credential(f))
		status := 401
		switch reason {
		case "malformed":
			status = 400
		case "expired":
			status = 409
		}
		if p.status != status || p.account != "" || b.cookies["__Host-bio"] != "" {
			t.Errorf("%d as %q, want %d", p.status, p.account, status)
		}
		b.checkFresh(p, f)
		before["trail"]++
		if diff := cmp.Diff(before, s.rows()); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		trail := s.trail()
		if last := trail[len(trail)-1]; last.Kind != audit.SignInRefused || last.Reason != reason {
			t.Errorf("the trail says %+v, want %q", last, reason)
		}
	}
	for name, tt := range matrix {
		t.Run("create "+name, func(t *testing.T) {
			check(t, tt.reason, func(f *form) string { return s.device().create(f.options, tt.by) })
		})
		t.Run("get "+name, func(t *testing.T) {
			check(t, tt.reason, func(f *form) string { return d.get(f.options, tt.by) })
		})
	}
	for name, tt := range matrixCreate {
		t.Run("create "+name, func(t *testing.T) {
			check(t, tt.reason, func(f *form) string {
				d := s.device()
				return d.create(f.options, func(f *draft) { tt.by(d, f) })
			})
		})
	}
	for name, tt := range matrixGet {
		t.Run("get "+name, func(t *testing.T) {
			check(t, tt.reason, func(f *form) string { return d.get(f.options, tt.by) })
		})
	}
	t.Run("get 7.2.22 counter", func(t *testing.T) {
		key := s.device()
		key.flags, key.Counter = bound, 5
		if p := s.browser().registerWith(key, "/"); p.status != http.StatusOK {
			t.Fatal(p.status)
		}
		check(t, "counter", func(f *form) string { return key.get(f.options) })
		key.Counter = 4
		check(t, "counter", func(f *form) string { return key.get(f.options) })
		key.Counter = 6
		if p := s.browser().signIn(key); p.status != http.StatusOK {
			t.Errorf("a counter that rises: %d", p.status)
		}
		check(t, "counter", func(f *form) string { return key.get(f.options) })
	})
	owner.checkSignedIn(owner.get("/").account)
}

// Each bit of an assertion that is signed.
func TestMatrixFlippedBits(t *testing.T) {
	if testing.Short() {
		t.Skip("some 400 presses")
	}
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	b = b.signedOut()
	for _, member := range []string{"authenticatorData", "signature"} {
		for i := range 37 * 8 {
			f := b.get("/").auth
			p := b.press(f, flipped(d, f.options, member, i))
			if p.status/100 != 4 || b.cookies["bio"] != "" {
				t.Errorf("%s bit %d: %d", member, i, p.status)
			}
		}
	}
}

// What is noticed and allowed leaves its own entry.
func TestNoticed(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register() // synced
	d.Counter = 5
	b.signInAnew(d)
	d.Counter = 5
	if p := b.signInAnew(d); p.status != http.StatusOK {
		t.Errorf("a synced passkey's counter: %d", p.status)
	}
	key := s.device()
	key.flags = bound
	other := s.browser()
	other.registerWith(key, "/")
	key.flags = synced
	if p := other.signInAnew(key); p.status != http.StatusOK {
		t.Errorf("now eligible: %d", p.status)
	}
	other.signInAnew(key)
	if got := s.kinds(); got["passkey.counter_anomaly"] != 1 || got["passkey.backup_eligible_changed"] != 1 {
		t.Errorf("trail %v", got)
	}
	key.flags = bound
	if p := other.signInAnew(key); p.status != http.StatusUnauthorized {
		t.Errorf("no longer eligible: %d", p.status)
	}
}

// signInAnew signs in anew, from a browser without a session.
func (b *browser) signInAnew(d *device) *page {
	b.t.Helper()
	return b.signedOut().signIn(d)
}

// What a stranger learns from a refusal does not tell known passkeys from unknown.
func TestRefusalsLookTheSame(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	stranger := s.device()
	stranger.handle = d.handle
	b = s.browser()
	look := func(credential func(options) string) string {
		f := b.get("/").auth
		p := b.press(f, credential(f.options))
		body := p.body
		for _, changing := range []string{p.auth.options.Get.Challenge, p.auth.options.Create.User.ID, p.auth.options.Create.User.Name} {
			body = strings.ReplaceAll(body, changing, "*")
		}
		if p.signals != "" { // the one difference that the contract allows
			body = strings.Replace(body, ` data-signals="`+strings.ReplaceAll(p.signals, `"`, "&#34;")+`"`, "", 1)
		}
		p.header.Del("X-Request-Id")
		p.header.Del("Content-Length")
		return fmt.Sprint(p.status, p.header, body)
	}
	bad := func(f *draft) { f.response["signature"] = encode([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}) }
	want := look(func(o options) string { return d.get(o, bad) })
	for name, credential := range map[string]func(options) string{
		"unknown passkey":      func(o options) string { return stranger.get(o) },
		"unknown passkey, bad": func(o options) string { return stranger.get(o, bad) },
		"wrong user handle": func(o options) string {
			return d.get(o, func(f *draft) { f.response["userHandle"] = encode([]byte("x")) })
		},
		"wrong origin": func(o options) string {
			return d.get(o, func(f *draft) { f.client["origin"] = "https://evil.example" })
		},
		"a registration, not a press": func(o options) string { return d.get(o, func(f *draft) { f.client["type"] = "webauthn.create" }) },
	} {
		if diff := cmp.Diff(want, look(credential)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// One assertion from 200 goroutines opens one session.
func TestReplay(t *testing.T) {
	s := newSite(t)
	d, registered := s.browser().register()
	b := s.browser()
	f := b.get("/").auth
	credential := d.get(f.options)
	var status [600]atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		c := b.clone()
		wg.Go(func() {
			p := c.press(f, credential)
			status[p.status].Add(1)
			if (p.status == http.StatusOK) != (p.account == registered.account) || (p.status == http.StatusConflict) != strings.HasPrefix(p.notice, sayUsed) {
				t.Errorf("%d as %q: %q", p.status, p.account, p.notice)
			}
		})
	}
	wg.Wait()
	if status[200].Load() != 1 || status[409].Load() != 199 {
		t.Errorf("%d accepted, %d refused", status[200].Load(), status[409].Load())
	}
	server.Settle(t.Context(), s.Server, true)
	if got := s.kinds(); got[audit.Registered] != 1 || got[audit.SignedIn] != 1 || s.refusals() != 199 {
		t.Errorf("trail %v, of %d refusals", got, s.refusals())
	}
	if n := s.rows()["sessions"]; n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// One registration from many goroutines makes one account.
func TestReplayRegistration(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	f := b.get("/").auth
	credential := s.device().create(f.options)
	var ok atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		c := b.clone()
		wg.Go(func() {
			switch p := c.press(f, credential); p.status {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusConflict:
			default:
				t.Errorf("%d %q", p.status, p.notice)
			}
		})
	}
	wg.Wait()
	if got := s.rows(); ok.Load() != 1 || got["users"] != 1 || got["credentials"] != 1 || got["sessions"] != 1 {
		t.Errorf("%d accepted, %v", ok.Load(), got)
	}
}

// A registration that is sent again names a passkey that is someone's only one:
// no answer tells the browser to forget it.
func TestResentRegistration(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	f := b.get("/").auth
	credential := s.device().create(f.options)
	first := b.press(f, credential)
	signedOut := b.clone()
	delete(signedOut.cookies, "bio")
	for _, later := range []time.Duration{0, time.Minute, 10 * time.Minute} {
		s.clock.Advance(later)
		if p := b.press(f, credential); p.status != http.StatusOK || p.account != first.account || p.signals != "" {
			t.Errorf("signed in: %d as %q, signals %q", p.status, p.account, p.signals)
		}
		if p := signedOut.press(f, credential); p.status != http.StatusConflict || p.signals != "" {
			t.Errorf("signed out: %d, signals %q", p.status, p.signals)
		}
	}
}

// A credential id that is registered already is never written over.
func TestRegisteredTwice(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	key := func() (key []byte) {
		if err := s.raw.QueryRow("SELECT public_key FROM credentials").Scan(&key); err != nil {
			t.Fatal(err)
		}
		return key
	}
	before := key()
	for range 3 {
		thief := s.device()
		thief.ID = d.ID // another key under the same id
		p := s.browser().registerWith(thief, "/")
		if p.status != http.StatusConflict || !strings.HasPrefix(p.notice, sayRegistered) || p.account != "" {
			t.Errorf("%d as %q: %q", p.status, p.account, p.notice)
		}
		if p.signals != "" { // the passkey on the device is good
			t.Errorf("signals %q", p.signals)
		}
	}
	if got := s.rows(); got["users"] != 1 || got["credentials"] != 1 || got["sessions"] != 1 {
		t.Errorf("rows %v", got)
	}
	if string(key()) != string(before) {
		t.Error("the key was written over")
	}
	if p := b.signInAnew(d); p.account != registered.account {
		t.Errorf("its owner: %d", p.status)
	}
}

// Many people at once never get each other's page.
func TestNeverMixed(t *testing.T) {
	const each = 60
	s := newSite(t)
	var wg sync.WaitGroup
	for range 4 {
		b := s.browser()
		d, registered := b.register()
		for range 2 {
			c, d := b.clone(), d.clone()
			wg.Go(func() {
				for i := range each {
					var p *page
					switch i % 3 {
					case 0:
						p = c.get("/")
					case 1:
						p = c.signInAnew(d)
					default:
						c.post("/run", nil)
						p = c.get("/")
					}
					if p.account != registered.account {
						t.Errorf("got the page of %q (%d), want %q", p.account, p.status, registered.account)
					}
				}
			})
		}
	}
	wg.Wait()
}

// A press in a second tab of a browser that signed in meanwhile shows the
// signed-in page, whatever the old page could do.
func TestSecondTab(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	tab := b.get("/").auth
	d, registered := b.register()
	rows := s.rows()

	spare := s.device()
	p := b.press(tab, spare.create(tab.options))
	if p.status != http.StatusOK || p.account != registered.account || !strings.Contains(p.signals, encode(spare.ID)) {
		t.Errorf("a new passkey: %d as %q, signals %q", p.status, p.account, p.signals)
	}
	if diff := cmp.Diff(rows, s.rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if p = b.press(tab, d.get(tab.options)); p.status != http.StatusOK || p.account != registered.account {
		t.Errorf("the passkey: %d as %q", p.status, p.account)
	}
	s.clock.Advance(time.Hour)
	if p = b.press(tab, d.get(tab.options)); p.status != http.StatusOK || p.account != registered.account {
		t.Errorf("an old page: %d as %q", p.status, p.account)
	}
	b.checkSignedIn(registered.account)
}

// Names are unique: where the one that was offered is taken, the device is told.
func TestNameTaken(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	f := b.get("/").auth
	offered := f.options.Create.User.Name
	if _, err := s.raw.Exec(`INSERT INTO users (id, handle, name, groups, created_at) VALUES ('x', x'78', ?, '[]', 0);
INSERT INTO trail_keys (user_id, key) VALUES ('x', zeroblob(32))`, offered); err != nil {
		t.Fatal(err)
	}
	p := b.press(f, s.device().create(f.options))
	if p.status != http.StatusOK || p.account == "" || p.account == offered {
		t.Fatalf("%d as %q, offered %q", p.status, p.account, offered)
	}
	for _, part := range []string{"signalCurrentUserDetails", f.options.Create.User.ID, p.account, `"localhost"`} {
		if !strings.Contains(p.signals, part) {
			t.Errorf("signals %q without %q", p.signals, part)
		}
	}
}

// Which accounts a form speaks of is not the client's to say.
func TestFieldsAreNotTrusted(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	_, registered := b.register()
	other := s.browser()
	f := other.get("/").auth
	fields := maps.Clone(f.fields)
	fields.Set("user", registered.account)
	fields.Set("name", "root")
	fields.Set("groups", "owner")
	fields.Set("credential", s.device().create(f.options))
	p := other.post("/", fields)
	if p.status != http.StatusOK || p.account != f.options.Create.User.Name {
		t.Errorf("%d as %q", p.status, p.account)
	}
	var owners int
	if err := s.raw.QueryRow("SELECT count(*) FROM users WHERE groups <> '[]'").Scan(&owners); err != nil || owners != 0 {
		t.Errorf("%d accounts with groups, %v", owners, err)
	}
	// Fields in the address are not the form's.
	f = other.signedOut().get("/").auth
	if p := other.signedOut().post("/?credential="+url.QueryEscape(s.device().create(f.options)), nil); p.status != http.StatusBadRequest {
		t.Errorf("a credential in the address: %d", p.status)
	}
}
