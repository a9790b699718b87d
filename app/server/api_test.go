package server_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

const (
	registerBegin  = "/auth/webauthn/register/begin"
	registerFinish = "/auth/webauthn/register/finish"
	signInBegin    = "/auth/webauthn/sign-in/begin"
	signInFinish   = "/auth/webauthn/sign-in/finish"
	credentials    = "/auth/webauthn/credentials"
)

// call sends JSON to the API; no body for "".
func (b *browser) call(method, target, body string) *page {
	b.t.Helper()
	r := b.request(method, target, nil)
	if body != "" {
		r = b.request(method, target, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
	}
	return b.send(r)
}

// creation are creation options as register/begin answers them, and options those
// of either ceremony.
type creation struct {
	options
	exclude []string
}

// begin begins a ceremony, which has to be granted.
func (b *browser) begin(target, body string) creation {
	b.t.Helper()
	p := b.call("POST", target, body)
	var get, create struct{ PublicKey json.RawMessage }
	var o creation
	var more struct {
		ExcludeCredentials []struct{ ID string }
	}
	for to, from := range map[any]*struct{ PublicKey json.RawMessage }{&o.Get: &get, &o.Create: &create, &more: &create} {
		if err := json.Unmarshal([]byte(p.body), from); err != nil || p.status != http.StatusOK {
			b.t.Fatalf("%s: %d %s", target, p.status, p.body)
		}
		if err := json.Unmarshal(from.PublicKey, to); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, one := range more.ExcludeCredentials {
		o.exclude = append(o.exclude, one.ID)
	}
	return o
}

// passkeyJSON is a passkey as the API has it.
type passkeyJSON struct {
	ID, Name, AAGUID string
	DeviceType       string `json:"device_type"`
	BackupEligible   bool   `json:"backup_eligible"`
	BackupState      bool   `json:"backup_state"`
	Transports       []string
	SignCount        uint32    `json:"sign_count"`
	CreatedAt        time.Time `json:"created_at"`
	LastUsedAt       time.Time `json:"last_used_at"`
}

type finishJSON struct {
	Verified   bool
	User       struct{ ID, Name string }
	Credential passkeyJSON
	Signals    [][2]any
}

type sessionJSON struct {
	User struct {
		ID, Name string
		Groups   []string
	}
	Session struct {
		ID           string
		CreatedAt    time.Time `json:"created_at"`
		ExpiresAt    time.Time `json:"expires_at"`
		AuthTime     time.Time `json:"auth_time"`
		UserVerified bool      `json:"user_verified"`
	}
}

// reads fails unless the answer is JSON of the status, and returns it.
func reads[T any](t testing.TB, p *page, status int) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(p.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || p.status != status || p.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %q, want %d: %s %v", p.status, p.header.Get("Content-Type"), status, p.body, err)
	}
	return v
}

// enrol registers through the API: a new account or, signed in, a further passkey.
func (b *browser) enrol(d *device, body string) finishJSON {
	b.t.Helper()
	o := b.begin(registerBegin, body)
	return reads[finishJSON](b.t, b.call("POST", registerFinish, d.create(o.options)), http.StatusOK)
}

// enter signs in through the API.
func (b *browser) enter(d *device) finishJSON {
	b.t.Helper()
	o := b.begin(signInBegin, "{}")
	return reads[finishJSON](b.t, b.call("POST", signInFinish, d.get(o.options)), http.StatusOK)
}

func (b *browser) passkeys() []passkeyJSON {
	b.t.Helper()
	return reads[[]passkeyJSON](b.t, b.call("GET", credentials, ""), http.StatusOK)
}

func passkeyAt(d *device) string { return credentials + "/" + encode(d.ID) }

// checkCode fails unless the answer is the problem of that code.
func checkCode(t testing.TB, name string, p *page, status int, code string) {
	t.Helper()
	var problem struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	err := json.Unmarshal([]byte(p.body), &problem)
	if err != nil || p.status != status || problem.Status != status || problem.Code != code || problem.Type != "urn:bio:"+code ||
		problem.Title == "" || problem.Detail == "" || p.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %d %q, want the problem %d %s: %s %v", name, p.status, p.header.Get("Content-Type"), status, code, p.body, err)
	}
}

// The whole of it, as a program goes through it.
func TestAPI(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	checkCode(t, "signed out", b.call("GET", "/auth/session", ""), 401, "signed_out")

	d := s.device()
	o := b.begin(registerBegin, `{"name":"  Laptop \n"}`)
	if o.Create.RP.ID != "localhost" || o.Create.User.ID == "" || o.exclude != nil || s.rows()["challenges"] != 0 {
		t.Errorf("options %+v, rows %v", o, s.rows())
	}
	made := reads[finishJSON](t, b.call("POST", registerFinish, d.create(o.options)), 200)
	want := finishJSON{Verified: true, Credential: passkeyJSON{
		ID: encode(d.ID), Name: "Laptop", AAGUID: "00000000-0000-0000-0000-000000000000", DeviceType: "multi", BackupEligible: true,
		BackupState: true, Transports: []string{"internal"}, CreatedAt: epoch, LastUsedAt: epoch,
	}}
	want.User.ID, want.User.Name = account.UserID(d.handle), o.Create.User.Name
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("registered (-want +got):\n%s", diff)
	}
	b.checkSignedIn(made.User.Name)
	if got := s.rows(); got["users"] != 1 || got["credentials"] != 1 || got["sessions"] != 1 || got["challenges"] != 1 {
		t.Errorf("rows %v", got)
	}

	now := reads[sessionJSON](t, b.call("GET", "/auth/session", ""), 200)
	var first sessionJSON
	first.User.ID, first.User.Name, first.User.Groups = made.User.ID, made.User.Name, []string{}
	first.Session.ID, first.Session.UserVerified = s.trail()[0].Session, true
	first.Session.CreatedAt, first.Session.AuthTime, first.Session.ExpiresAt = epoch, epoch, epoch.Add(24*time.Hour)
	if diff := cmp.Diff(first, now); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}

	// A second passkey, a key.
	s.clock.Advance(5 * time.Minute)
	key := s.device()
	key.flags, key.Counter = bound, 7
	before := b.cookies["bio"]
	o = b.begin(registerBegin, "{}")
	if diff := cmp.Diff([]string{encode(d.ID)}, o.exclude); diff != "" || o.Create.User.ID != encode(d.handle) || o.Create.User.Name != made.User.Name {
		t.Errorf("options of a further passkey: %+v, excluded %v", o.Create.User, o.exclude)
	}
	added := reads[finishJSON](t, b.call("POST", registerFinish, key.create(o.options)), 200)
	if added.User != made.User || added.Credential.Name != "Passkey" || added.Credential.DeviceType != "single" || added.Credential.SignCount != 7 ||
		added.Credential.BackupEligible || added.Credential.BackupState {
		t.Errorf("added %+v", added)
	}
	if diff := cmp.Diff([]passkeyJSON{made.Credential, added.Credential}, b.passkeys()); diff != "" || b.cookies["bio"] != before {
		t.Errorf("passkeys (-want +got):\n%s", diff)
	}

	// Its name; and a session of its own.
	renamed := reads[passkeyJSON](t, b.call("PATCH", passkeyAt(key), `{"name":"Ключ ☂","id":"ignored"}`), 200)
	added.Credential.Name = "Ключ ☂"
	if diff := cmp.Diff(added.Credential, renamed); diff != "" {
		t.Errorf("renamed (-want +got):\n%s", diff)
	}
	key.Counter = 8
	other := s.browser()
	if in := other.enter(key); in.User != made.User || in.Credential.SignCount != 8 || in.Credential.Name != "Ключ ☂" ||
		!in.Credential.LastUsedAt.Equal(epoch.Add(5*time.Minute)) || !in.Credential.CreatedAt.Equal(epoch.Add(5*time.Minute)) {
		t.Errorf("signed in %+v", in)
	}

	// Removed, it ends what it opened, at once.
	s.clock.Advance(time.Minute)
	checkCode(t, "an old proof", b.call("DELETE", passkeyAt(key), ""), 403, "reauthentication_required")
	b.enter(d)
	if b.cookies["bio"] == before {
		t.Error("signing in kept the session")
	}
	other.checkSignedIn(made.User.Name)
	if p := b.call("DELETE", passkeyAt(key), ""); p.status != 204 || p.body != "" {
		t.Errorf("%d %s", p.status, p.body)
	}
	checkCode(t, "its session", other.call("GET", "/auth/session", ""), 401, "signed_out")
	b.checkSignedIn(made.User.Name)
	if list := b.passkeys(); len(list) != 1 || list[0].ID != encode(d.ID) {
		t.Errorf("passkeys %+v", list)
	}
	checkCode(t, "again", b.call("DELETE", passkeyAt(key), ""), 404, "not_found")
	checkCode(t, "the last", b.call("DELETE", passkeyAt(d), ""), 409, "last_passkey")
	gone := s.browser()
	key.Counter = 9
	o = gone.begin(signInBegin, "{}")
	checkCode(t, "with the removed one", gone.call("POST", signInFinish, key.get(o.options)), 401, "unknown_passkey")

	for range 2 {
		if p := b.call("POST", "/auth/sign-out", "{}"); p.status != 204 || b.cookies["bio"] != "" {
			t.Errorf("sign-out: %d", p.status)
		}
	}
	kinds := map[audit.Kind]int{
		audit.Registered: 1, audit.PasskeyAdded: 1, audit.PasskeyRenamed: 1, audit.SignedIn: 2, audit.SessionReplaced: 1,
		audit.PasskeyRemoved: 1, audit.SessionRevoked: 1, audit.SignInRefused: 1, audit.SignedOut: 1,
	}
	if diff := cmp.Diff(kinds, s.kinds()); diff != "" {
		t.Errorf("trail (-want +got):\n%s", diff)
	}
	for _, r := range s.trail() {
		switch r.Kind {
		case audit.PasskeyAdded, audit.PasskeyRenamed, audit.PasskeyRemoved:
			if r.Actor != made.User.ID || r.Credential != account.CredentialRef(key.ID) || r.Session == "" || r.Client.Browser != "Firefox" {
				t.Errorf("the trail says %+v", r)
			}
		}
	}
}

// Removing the passkey of one's own session ends that too.
func TestAPIRemoveOwn(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, spare := s.device(), s.device()
	made := b.enrol(d, "{}")
	b.enrol(spare, "{}")
	if p := b.call("DELETE", passkeyAt(d), ""); p.status != 204 || b.cookies["bio"] != "" {
		t.Errorf("%d, cookies %v", p.status, b.cookies)
	}
	b.checkSignedIn("")
	if in := b.enter(spare); in.User != made.User {
		t.Errorf("signed in %+v", in)
	}
}

// What the page makes the API knows, and the other way round.
func TestAPIAndPage(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register() // on the page
	if now := reads[sessionJSON](t, b.call("GET", "/auth/session", ""), 200); now.User.Name != registered.account {
		t.Errorf("session %+v", now)
	}
	spare := s.device()
	b.enrol(spare, `{"name":"Spare"}`)
	if in := s.browser().enter(d); in.User.Name != registered.account {
		t.Errorf("the page's passkey: %+v", in)
	}
	for _, one := range []*device{d, spare} {
		if p := s.browser().signIn(one); p.account != registered.account {
			t.Errorf("on the page: %d as %q", p.status, p.account)
		}
	}
	c, own := s.browser(), s.device()
	made := c.enrol(own, "{}")
	if p := c.signInAnew(own); p.account != made.User.Name {
		t.Errorf("the API's account: %d as %q", p.status, p.account)
	}
	if p := c.get("/account"); p.status != 200 || !strings.Contains(p.body, "Made this account") {
		t.Errorf("/account: %d", p.status)
	}
	// A sign-out on either side is one.
	c.post("/sign-out", nil)
	checkCode(t, "signed out on the page", c.call("GET", "/auth/session", ""), 401, "signed_out")
	b.call("POST", "/auth/sign-out", "")
	b.checkSignedIn("")
	// A challenge is good for one press, wherever it is pressed.
	f := b.button("/")
	credential := d.get(f.options)
	reads[finishJSON](t, b.call("POST", signInFinish, credential), 200)
	if p := b.signedOut().press(f, credential); p.status != 409 {
		t.Errorf("pressed twice: %d", p.status)
	}
}

// Where a name is taken, the authenticator is told the other one.
func TestAPINameTaken(t *testing.T) {
	s := newSite(t)
	b, d := s.browser(), s.device()
	o := b.begin(registerBegin, "{}")
	if _, err := s.raw.Exec(`INSERT INTO users (id, handle, name, groups, created_at) VALUES ('x', x'78', ?, '[]', 0);
INSERT INTO trail_keys (user_id, key) VALUES ('x', zeroblob(32))`, o.Create.User.Name); err != nil {
		t.Fatal(err)
	}
	made := reads[finishJSON](t, b.call("POST", registerFinish, d.create(o.options)), 200)
	want := [][2]any{{"signalCurrentUserDetails", map[string]any{
		"rpId": "localhost", "userId": encode(d.handle), "name": made.User.Name, "displayName": made.User.Name,
	}}}
	if diff := cmp.Diff(want, made.Signals); diff != "" || made.User.Name == o.Create.User.Name {
		t.Errorf("signals (-want +got):\n%s", diff)
	}
}

// What is wrong with a body, for each route that takes one.
func TestAPIBodies(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d := s.device()
	b.enrol(d, "{}")
	rows := s.rows()
	for _, route := range []struct {
		method, target string
		finish         bool
	}{
		{"POST", registerBegin, false}, {"POST", registerFinish, true}, {"POST", signInBegin, false}, {"POST", signInFinish, true},
		{"PATCH", passkeyAt(d), false},
	} {
		for name, tt := range map[string]struct {
			media, body string
			status      int
			code        string
		}{
			"no media type":        {"", "{}", 415, "unsupported_media_type"},
			"a form":               {"application/x-www-form-urlencoded", "name=x", 415, "unsupported_media_type"},
			"text":                 {"text/plain", "{}", 415, "unsupported_media_type"},
			"a broken media type":  {"application/json; charset", "{}", 415, "unsupported_media_type"},
			"nothing":              {"application/json", "", 400, "malformed"},
			"white space":          {"application/json", " \n", 400, "malformed"},
			"half":                 {"application/json", `{"name":`, 400, "malformed"},
			"null":                 {"application/json", "null", 400, "malformed"},
			"a list":               {"application/json", "[]", 400, "malformed"},
			"a string":             {"application/json", `"{}"`, 400, "malformed"},
			"two values":           {"application/json", "{} {}", 400, "malformed"},
			"a byte order mark":    {"application/json", "\ufeff{}", 400, "malformed"},
			"no UTF-8":             {"application/json", "{\"name\":\"\xff\"}", 400, "malformed"},
			"deep":                 {"application/json", `{"x":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + "}", 400, "malformed"},
			"a name that is none":  {"application/json; charset=utf-8", `{"name":5,"invite":{},"rawId":7}`, 400, "malformed"},
			"too large":            {"application/json", `{"name":"` + strings.Repeat("x", 70_000) + `"}`, 413, "too_large"},
			"too large, in chunks": {"application/json", `{"name":"` + strings.Repeat("x", 70_000) + `"}`, 413, "too_large"},
		} {
			if route.target == signInBegin && name == "a name that is none" {
				continue // it takes no members
			}
			r := b.request(route.method, route.target, strings.NewReader(tt.body))
			if tt.media != "" {
				r.Header.Set("Content-Type", tt.media)
			}
			if strings.HasSuffix(name, "chunks") {
				r.ContentLength = -1
			}
			checkCode(t, route.target+" "+name, b.send(r), tt.status, tt.code)
		}
	}
	server.Settle(t.Context(), s.Server, true)
	after := s.rows()
	if rows["trail"] = after["trail"]; !maps.Equal(rows, after) || s.refusals() != 2*17 {
		t.Errorf("rows %v, then %v, %d refusals", rows, after, s.refusals())
	}
}

// Each route's other errors.
func TestAPIErrors(t *testing.T) {
	s := newSite(t)
	b, d, spare := s.browser(), s.device(), s.device()
	b.enrol(d, "{}")
	b.enrol(spare, "{}")
	stranger := s.device()
	foreign := s.browser()
	foreign.enrol(stranger, "{}")
	old := b.clone()

	for name, one := range map[string]*page{
		"list":   b.signedOut().call("GET", credentials, ""),
		"rename": b.signedOut().call("PATCH", passkeyAt(d), `{"name":"x"}`),
		"remove": b.signedOut().call("DELETE", passkeyAt(d), ""),
		"who":    b.signedOut().call("GET", "/auth/session", ""),
	} {
		checkCode(t, name, one, 401, "signed_out")
	}
	for _, id := range []string{encode(stranger.ID), encode([]byte("nothing")), "%0A", "=", "a", encode(d.ID) + "%0A", encode(d.ID) + "=", strings.Repeat("A", 4000)} {
		checkCode(t, "rename "+id, b.call("PATCH", credentials+"/"+id, `{"name":"x"}`), 404, "not_found")
		checkCode(t, "remove "+id, b.call("DELETE", credentials+"/"+id, ""), 404, "not_found")
	}
	for _, name := range []string{``, `{"name":""}`, `{"name":" "}`, `{"name":"a\nb"}`, `{"name":"\u202e"}`, `{"name":"` + strings.Repeat("é", 65) + `"}`} {
		if name != "" {
			checkCode(t, "begin with "+name, b.call("POST", registerBegin, name), 422, "bad_name")
			checkCode(t, "signed out, begin with "+name, b.signedOut().call("POST", registerBegin, name), 422, "bad_name")
		} else {
			name = "{}"
		}
		checkCode(t, "rename to "+name, b.call("PATCH", passkeyAt(d), name), 422, "bad_name")
	}
	for _, tt := range []struct {
		method, target string
		status         int
		code           string
	}{
		{"GET", "/auth/", 404, "not_found"}, {"GET", "/auth/webauthn", 404, "not_found"}, {"POST", "/auth/nowhere", 404, "not_found"},
		{"GET", credentials + "/", 404, "not_found"}, {"GET", "/auth/session/", 404, "not_found"},
		{"GET", registerBegin, 405, "method_not_allowed"}, {"PUT", registerFinish, 405, "method_not_allowed"},
		{"GET", signInBegin, 405, "method_not_allowed"}, {"DELETE", signInFinish, 405, "method_not_allowed"},
		{"POST", credentials, 405, "method_not_allowed"}, {"GET", passkeyAt(d), 405, "method_not_allowed"},
		{"POST", "/auth/session", 405, "method_not_allowed"}, {"GET", "/auth/sign-out", 405, "method_not_allowed"},
	} {
		p := b.call(tt.method, tt.target, "")
		checkCode(t, tt.method+" "+tt.target, p, tt.status, tt.code)
		if tt.status == 405 && p.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tt.method, tt.target)
		}
	}

	// A proof is good for five minutes, and a sign-in is another.
	o := b.begin(registerBegin, "{}")
	s.clock.Advance(5 * time.Minute)
	b.begin(registerBegin, "{}")
	s.clock.Advance(time.Millisecond)
	extra := s.device()
	checkCode(t, "begin", b.call("POST", registerBegin, "{}"), 403, "reauthentication_required")
	p := b.call("POST", registerFinish, extra.create(o.options))
	checkCode(t, "finish", p, 403, "reauthentication_required")
	checkSignals(t, p, extra)
	checkCode(t, "remove", b.call("DELETE", passkeyAt(spare), ""), 403, "reauthentication_required")
	if p := b.call("PATCH", passkeyAt(spare), `{"name":"x"}`); p.status != 200 {
		t.Errorf("renaming needs a proof: %d", p.status)
	}
	b.enter(d)
	b.enrol(s.device(), "{}")
	old.checkSignedIn("")

	// What ended elsewhere, within the second that this instance remembers it for.
	there := environment{like: s}.site(t)
	away := b.clone()
	o = b.begin(registerBegin, "{}")
	credential := s.device().create(o.options)
	away.site = there
	away.call("POST", "/auth/sign-out", "")
	checkCode(t, "remove, ended elsewhere", b.clone().call("DELETE", passkeyAt(spare), ""), 401, "signed_out")
	again := b.clone()
	checkCode(t, "finish, ended elsewhere", again.call("POST", registerFinish, credential), 409, "expired")

	// Without the database nothing is known, and nothing done.
	in := s.browser()
	in.enter(d)
	o = in.begin(registerBegin, "{}")
	credential = s.device().create(o.options)
	assertion := d.get(in.begin(signInBegin, "{}").options)
	s.db.Close()
	for name, p := range map[string]*page{
		"begin":    in.call("POST", registerBegin, "{}"),
		"finish":   in.call("POST", registerFinish, credential),
		"sign in":  in.call("POST", signInFinish, assertion),
		"list":     in.call("GET", credentials, ""),
		"rename":   in.call("PATCH", passkeyAt(d), `{"name":"x"}`),
		"remove":   in.call("DELETE", passkeyAt(d), ""),
		"sign out": in.call("POST", "/auth/sign-out", ""),
	} {
		checkCode(t, name, p, 503, "unavailable")
		if p.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
	}
}

// checkSignals fails unless the problem tells the browser to forget the passkey.
func checkSignals(t testing.TB, p *page, d *device) {
	t.Helper()
	var problem struct{ Signals [][2]any }
	if err := json.Unmarshal([]byte(p.body), &problem); err != nil {
		t.Fatal(err)
	}
	var want [][2]any
	if d != nil {
		want = [][2]any{{"signalUnknownCredential", map[string]any{"rpId": "localhost", "credentialId": encode(d.ID)}}}
	}
	if diff := cmp.Diff(want, problem.Signals); diff != "" {
		t.Errorf("signals (-want +got):\n%s", diff)
	}
}

// Each refusal of a finish: its code, its reason in the trail, no session, nothing
// else in the database, and what the browser is to forget.
func TestAPIRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		settings []string
		finish   func(b *browser, d *device) *page
		status   int
		code     string
		reason   string
		forget   bool // the passkey of d
	}{
		"registration refused": {finish: func(b *browser, d *device) *page {
			return b.call("POST", registerFinish, d.create(b.begin(registerBegin, "{}").options, func(f *draft) { f.client["origin"] = "https://evil.example" }))
		}, status: 401, code: "refused", reason: "wrong origin", forget: true},
		"a carried name that was changed": {finish: func(b *browser, d *device) *page {
			o := b.begin(registerBegin, `{"name":"Laptop"}`)
			raw := must(base64.RawURLEncoding.DecodeString(o.Create.Challenge))
			o.Create.Challenge = encode([]byte(strings.Replace(string(raw), "Laptop", "Tablet", 1)))
			return b.call("POST", registerFinish, d.create(o.options))
		}, status: 409, code: "expired", reason: "expired", forget: true},
		"unknown passkey": {finish: func(b *browser, d *device) *page {
			d.handle = make([]byte, 32)
			return b.call("POST", signInFinish, d.get(b.begin(signInBegin, "{}").options))
		}, status: 401, code: "unknown_passkey", reason: "unknown passkey", forget: true},
		"an assertion to register with": {finish: func(b *browser, d *device) *page {
			d.handle = make([]byte, 32)
			return b.call("POST", registerFinish, d.get(b.begin(signInBegin, "{}").options))
		}, status: 400, code: "malformed", reason: "malformed"},
		"a registration to sign in with": {finish: func(b *browser, d *device) *page {
			return b.call("POST", signInFinish, d.create(b.begin(registerBegin, "{}").options))
		}, status: 400, code: "malformed", reason: "malformed"},
		"an empty object": {finish: func(b *browser, d *device) *page { return b.call("POST", registerFinish, "{}") },
			status: 400, code: "malformed", reason: "malformed"},
		"late": {finish: func(b *browser, d *device) *page {
			o := b.begin(registerBegin, "{}")
			b.clock.Advance(5 * time.Minute)
			return b.call("POST", registerFinish, d.create(o.options))
		}, status: 409, code: "expired", reason: "expired", forget: true},
		"another browser's": {finish: func(b *browser, d *device) *page {
			o := b.begin(registerBegin, "{}")
			c := b.browser()
			c.get("/")
			return c.call("POST", registerFinish, d.create(o.options))
		}, status: 409, code: "expired", reason: "expired", forget: true},
		"no cookie": {finish: func(b *browser, d *device) *page {
			return b.browser().call("POST", registerFinish, d.create(b.begin(registerBegin, "{}").options))
		}, status: 409, code: "no_cookie", reason: "no binding", forget: true},
		"no cookie to sign in": {finish: func(b *browser, d *device) *page {
			return b.browser().call("POST", signInFinish, d.get(b.begin(signInBegin, "{}").options))
		}, status: 409, code: "no_cookie", reason: "no binding"},
		"by invitation only, with a page's challenge": {settings: []string{"BIO_REGISTRATION=invite"}, finish: func(b *browser, d *device) *page {
			return b.call("POST", registerFinish, d.create(b.button("/").options))
		}, status: 403, code: "registration_not_allowed", reason: "registration not allowed", forget: true},
		"closed, with a page's challenge": {settings: []string{"BIO_REGISTRATION=closed"}, finish: func(b *browser, d *device) *page {
			return b.call("POST", registerFinish, d.create(b.ceremony("/ceremony")))
		}, status: 403, code: "registration_not_allowed", reason: "registration not allowed", forget: true},
		"user not verified": {finish: func(b *browser, d *device) *page {
			return b.call("POST", registerFinish, d.create(b.begin(registerBegin, "{}").options, func(f *draft) { f.flags &^= account.FlagUserVerified }))
		}, status: 401, code: "refused", reason: "user verification missing", forget: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tt.settings...)
			b, d := s.browser(), s.device()
			before := s.rows()
			p := tt.finish(b, d)
			checkCode(t, name, p, tt.status, tt.code)
			if b.cookies["bio"] != "" {
				t.Error("there is a session")
			}
			if tt.forget {
				checkSignals(t, p, d)
			} else {
				checkSignals(t, p, nil)
			}
			before["trail"]++
			if diff := cmp.Diff(before, s.rows()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if last := s.trail()[0]; last.Kind != audit.SignInRefused || last.Reason != tt.reason {
				t.Errorf("the trail says %+v, want %q", last, tt.reason)
			}
		})
	}
}

// The negative rows of WebAuthn L3 §7.1 and §7.2, through the API: of a new
// account, of a further passkey, of a sign-in.
func TestAPIMatrix(t *testing.T) {
	s := newSite(t, "BIO_URL="+public)
	owner, d := s.browser(), s.device()
	name := owner.enrol(d, "{}").User.Name
	rows := s.rows()
	check := func(t *testing.T, b *browser, begin, finish, reason string, credential func(options) string) {
		t.Helper()
		s.clock.Advance(time.Minute) // what follows a refusal within its minute is folded
		server.Settle(t.Context(), s.Server, false)
		if b == owner { // its proof is old by now
			owner.enter(d)
			rows = s.rows()
		}
		p := b.call("POST", finish, credential(b.begin(begin, "{}").options))
		switch reason {
		case "malformed":
			checkCode(t, reason, p, 400, "malformed")
		case "expired":
			checkCode(t, reason, p, 409, "expired")
		default:
			checkCode(t, reason, p, 401, "refused")
		}
		got := s.rows()
		if rows["trail"] = got["trail"]; !maps.Equal(rows, got) {
			t.Errorf("rows %v, then %v", rows, got)
		}
		trail := s.trail()
		if last := trail[len(trail)-1]; last.Kind != audit.SignInRefused || last.Reason != reason {
			t.Errorf("the trail says %+v, want %q", last, reason)
		}
	}
	out := s.browser()
	for name, tt := range matrix {
		t.Run("create "+name, func(t *testing.T) {
			check(t, out, registerBegin, registerFinish, tt.reason, func(o options) string { return s.device().create(o, tt.by) })
			check(t, owner, registerBegin, registerFinish, tt.reason, func(o options) string { return s.device().create(o, tt.by) })
		})
		t.Run("get "+name, func(t *testing.T) {
			check(t, out, signInBegin, signInFinish, tt.reason, func(o options) string { return d.get(o, tt.by) })
		})
	}
	for name, tt := range matrixCreate {
		t.Run("create "+name, func(t *testing.T) {
			for _, b := range []*browser{out, owner} {
				check(t, b, registerBegin, registerFinish, tt.reason, func(o options) string {
					d := s.device()
					return d.create(o, func(f *draft) { tt.by(d, f) })
				})
			}
		})
	}
	for name, tt := range matrixGet {
		t.Run("get "+name, func(t *testing.T) {
			check(t, out, signInBegin, signInFinish, tt.reason, func(o options) string { return d.get(o, tt.by) })
		})
	}
	owner.checkSignedIn(name)
	out.checkSignedIn("")
}

// A finish that is sent again does nothing, and takes nothing away.
func TestAPIReplay(t *testing.T) {
	s := newSite(t)
	b, d, spare := s.browser(), s.device(), s.device()
	out := s.browser()
	o := out.begin(registerBegin, "{}")
	registration := d.create(o.options)
	reads[finishJSON](t, out.clone().call("POST", registerFinish, registration), 200)
	p := out.call("POST", registerFinish, registration)
	checkCode(t, "registration", p, 409, "used")
	checkSignals(t, p, nil)

	b.enter(d)
	addition := spare.create(b.begin(registerBegin, "{}").options)
	reads[finishJSON](t, b.call("POST", registerFinish, addition), 200)
	p = b.call("POST", registerFinish, addition)
	checkCode(t, "addition", p, 409, "used")
	checkSignals(t, p, nil)
	thief := s.device()
	thief.ID = spare.ID // another key under the same id
	for _, c := range []*browser{b, out} {
		p = c.call("POST", registerFinish, thief.create(c.begin(registerBegin, "{}").options))
		checkCode(t, "an id that is taken", p, 409, "already_registered")
		checkSignals(t, p, nil)
	}
	assertion := d.get(out.begin(signInBegin, "{}").options)
	reads[finishJSON](t, out.clone().call("POST", signInFinish, assertion), 200)
	checkCode(t, "assertion", out.call("POST", signInFinish, assertion), 409, "used")
	if got := s.rows(); got["users"] != 1 || got["credentials"] != 2 {
		t.Errorf("rows %v", got)
	}
}

// Nothing of B acts on A, with A's session or without.
func TestAPIOthers(t *testing.T) {
	s := newSite(t)
	a, b, da, db := s.browser(), s.browser(), s.device(), s.device()
	ours, theirs := a.enrol(da, "{}"), b.enrol(db, "{}")
	a.enrol(s.device(), "{}")
	b.cookies["bio-pre"] = a.cookies["bio-pre"] // as near as they can come
	passkeys := a.passkeys()

	// What B began, with A's session; and what A began, with B's.
	for name, tt := range map[string]struct{ began, sends *browser }{
		"begun by B, sent as A": {b, a}, "begun by A, sent as B": {a, b},
		"begun by no one, sent as A": {a.signedOut(), a}, "begun by A, sent by no one": {a, a.signedOut()},
	} {
		d := s.device()
		credential := d.create(tt.began.begin(registerBegin, "{}").options)
		p := tt.sends.clone().call("POST", registerFinish, credential)
		checkCode(t, name, p, 409, "expired")
		checkSignals(t, p, d)
	}
	// B's assertion does nothing to A's passkeys, whose challenge it has.
	o := a.begin(registerBegin, "{}")
	o.Get.Challenge = o.Create.Challenge
	checkCode(t, "B's assertion adds nothing", a.clone().call("POST", registerFinish, db.get(o.options)), 400, "malformed")
	checkCode(t, "nor does it sign in", a.clone().call("POST", signInFinish, db.get(o.options)), 409, "expired")
	checkCode(t, "nor on the page", asProblem(a).press(&form{action: "/", fields: url.Values{}}, db.get(o.options)), 409, "expired")
	// B's passkey with A's user handle.
	o = a.begin(signInBegin, "{}")
	forged := db.get(o.options, func(f *draft) { f.response["userHandle"] = encode(da.handle) })
	checkCode(t, "B's passkey as A's", a.clone().call("POST", signInFinish, forged), 401, "refused")
	// B's passkey with A's session is B's sign-in, and A's session ends with it.
	c := a.clone()
	in := reads[finishJSON](t, c.call("POST", signInFinish, db.get(a.begin(signInBegin, "{}").options)), 200)
	if in.User != theirs.User || c.cookies["bio"] == a.cookies["bio"] {
		t.Errorf("signed in %+v", in)
	}
	a.checkSignedIn("")
	a.enter(da)
	for _, method := range []string{"PATCH", "DELETE"} {
		body := map[string]string{"PATCH": `{"name":"B's"}`}[method]
		checkCode(t, method+" of A's by B", c.call(method, passkeyAt(da), body), 404, "not_found")
		checkCode(t, method+" of B's by A", a.call(method, passkeyAt(db), body), 404, "not_found")
	}
	if list := c.passkeys(); len(list) != 1 || list[0].ID != encode(db.ID) {
		t.Errorf("B's passkeys %+v", list)
	}
	now := a.passkeys()
	if now[0].LastUsedAt = passkeys[0].LastUsedAt; !cmp.Equal(passkeys, now) {
		t.Errorf("A's passkeys:\n%s", cmp.Diff(passkeys, now))
	}
	if who := reads[sessionJSON](t, a.call("GET", "/auth/session", ""), 200); who.User.ID != ours.User.ID {
		t.Errorf("A is %+v", who)
	}
}

func asProblem(b *browser) *browser {
	c := b.clone()
	c.header.Set("Accept", "application/json")
	return c
}

// Every sign-in is a new session, and the one before is dead.
func TestAPISessions(t *testing.T) {
	s := newSite(t)
	b, d := s.browser(), s.device()
	b.enrol(d, "{}")
	cookies, refs := map[string]bool{}, map[string]bool{}
	for range 4 {
		now := reads[sessionJSON](t, b.call("GET", "/auth/session", ""), 200)
		if strings.Contains(b.cookies["bio"], now.Session.ID) || len(now.Session.ID) != 32 {
			t.Errorf("the session's own id: %s", now.Session.ID)
		}
		cookies[b.cookies["bio"]], refs[now.Session.ID] = true, true
		before := b.clone()
		s.clock.Advance(time.Second)
		b.enter(d)
		before.checkSignedIn("")
	}
	if len(cookies) != 4 || len(refs) != 4 {
		t.Errorf("%d cookies, %d ids", len(cookies), len(refs))
	}
	if got := s.rows()["sessions"]; got != 1 {
		t.Errorf("%d sessions", got)
	}
}

// The registration policy and invitations, as on the page.
func TestAPIInvitations(t *testing.T) {
	ask := func(invite string) string { return `{"invite":` + string(must(json.Marshal(invite))) + `}` }
	for _, tt := range []struct{ policy, none, broken, invented, invited string }{
		{"open", "", "invitation", "invitation", ""},
		{"invite", "registration_not_allowed", "invitation", "invitation", ""},
		{"closed", "registration_not_allowed", "registration_not_allowed", "registration_not_allowed", "registration_not_allowed"},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			s := newSite(t, "BIO_REGISTRATION="+tt.policy)
			token, link := s.invite(epoch.Add(time.Hour), "ops"), must(server.FirstOwner(t.Context(), s.Server))
			for body, code := range map[string]string{
				"{}": tt.none, ask(""): tt.none, ask("x"): tt.broken, ask(encode(make([]byte, 18))): tt.invented, ask(token): tt.invited,
			} {
				p := s.browser().call("POST", registerBegin, body)
				if code != "" {
					checkCode(t, body, p, 403, code)
				} else if p.status != 200 {
					t.Errorf("%s: %d %s", body, p.status, p.body)
				}
				if strings.Contains(p.body, token) {
					t.Errorf("%s: the invitation is in the answer", body)
				}
			}
			_, owner, _ := strings.Cut(link, "=")
			o := s.browser()
			if made := o.enrol(s.device(), ask(owner)); s.groups(made.User.Name) != `["owner"]` {
				t.Errorf("the first owner: %s", s.groups(made.User.Name))
			}
			checkCode(t, "the owner's again", s.browser().call("POST", registerBegin, ask(owner)), 403, "invitation")
			if tt.invited != "" {
				return
			}
			// Two begin with it, one gets in; with a name, which is kept too.
			one, two, d := s.browser(), s.browser(), s.device()
			first := one.begin(registerBegin, `{"name":"Laptop",`+ask(token)[1:])
			second := two.begin(registerBegin, ask(token))
			made := reads[finishJSON](t, one.call("POST", registerFinish, s.device().create(first.options)), 200)
			if s.groups(made.User.Name) != `["ops"]` || made.Credential.Name != "Laptop" {
				t.Errorf("invited: %s, %+v", s.groups(made.User.Name), made)
			}
			p := two.call("POST", registerFinish, d.create(second.options))
			checkCode(t, "used", p, 403, "invitation")
			checkSignals(t, p, d)
			checkCode(t, "used, begin", two.call("POST", registerBegin, ask(token)), 403, "invitation")
			late := s.invite(epoch.Add(time.Minute))
			second = two.begin(registerBegin, ask(late))
			s.clock.Advance(time.Minute)
			checkCode(t, "over", two.call("POST", registerFinish, d.create(second.options)), 403, "invitation")
			// Adding a passkey is no registration.
			one.enrol(s.device(), "{}")
		})
	}
}

// Two tabs begin at once, and each ends with what it was asked for.
func TestAPITabs(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	one, two := b.begin(registerBegin, `{"name":"One"}`), b.begin(registerBegin, `{"name":"`+strings.Repeat("<", 64)+`"}`)
	for want, o := range map[string]creation{"One": one, strings.Repeat("<", 64): two} {
		added := reads[finishJSON](t, b.call("POST", registerFinish, s.device().create(o.options)), 200)
		if added.Credential.Name != want {
			t.Errorf("called %q, want %q", added.Credential.Name, want)
		}
	}
}

// An account has 100 passkeys and no more: one that has them is told before it makes
// another, and one that had room for it when it asked.
func TestAPITooMany(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	for range 98 {
		b.enrol(s.device(), "{}")
	}
	asked := b.begin(registerBegin, "{}")
	b.enrol(s.device(), "{}")
	checkCode(t, "begin", b.call("POST", registerBegin, "{}"), 409, "too_many_passkeys")
	d := s.device()
	p := b.call("POST", registerFinish, d.create(asked.options))
	checkCode(t, "one more", p, 409, "too_many_passkeys")
	checkSignals(t, p, d)
	if n := len(b.passkeys()); n != 100 {
		t.Errorf("%d passkeys", n)
	}
}

// Begin and finish count as attempts, a refused finish as a refusal.
func TestAPILimits(t *testing.T) {
	s := newSite(t, "BIO_RATE_LIMIT=1/s,4")
	b := s.browser()
	for _, target := range []string{registerBegin, signInBegin, registerFinish, signInFinish} {
		if p := b.call("POST", target, "{}"); p.status == http.StatusTooManyRequests {
			t.Errorf("%s: %d", target, p.status)
		}
	}
	for _, r := range []struct{ method, target string }{
		{"POST", registerBegin}, {"POST", registerFinish}, {"POST", signInBegin}, {"POST", signInFinish},
		{"GET", credentials}, {"PATCH", credentials + "/x"}, {"DELETE", credentials + "/x"}, {"GET", "/auth/session"},
	} {
		p := b.call(r.method, r.target, "{}")
		checkCode(t, r.target, p, 429, "too_many")
		if retryAfter(t, p) != time.Second {
			t.Errorf("%s: wait %s", r.target, retryAfter(t, p))
		}
	}
	if p := b.call("POST", "/auth/sign-out", ""); p.status != 204 {
		t.Errorf("sign-out is limited: %d", p.status)
	}

	s = newSite(t, "BIO_REFUSAL_LIMIT=3/m")
	b = s.browser()
	in, d := s.browser(), s.device()
	in.addr = "198.51.100.7:1"
	in.enrol(d, "{}")
	b.cookies = in.cookies // signed in or not
	for _, target := range []string{registerFinish, signInFinish} {
		checkCode(t, target, b.call("POST", target, "{"), 400, "malformed")
	}
	for range 5 { // what is no press is no refusal of one
		b.call("PATCH", passkeyAt(d), "{")
		b.call("POST", registerBegin, "{")
	}
	o := b.begin(registerBegin, "{}")
	s.clock.Advance(4 * time.Minute)
	b.call("POST", signInFinish, "{")
	b.call("POST", signInFinish, "{")
	s.clock.Advance(time.Second)
	o.Create.Challenge = "x"
	checkCode(t, "a stale one counts, signed in too", b.call("POST", registerFinish, s.device().create(o.options)), 409, "expired")
	checkCode(t, "then", b.call("POST", registerFinish, "{"), 429, "too_many")
	server.Settle(t.Context(), s.Server, true)
	if n := s.refusals(); n != 5 {
		t.Errorf("%d refusals in the trail", n)
	}
}

func TestWellKnown(t *testing.T) {
	s := newSite(t, "BIO_URL="+public)
	b := s.browser()
	got := reads[map[string]string](t, b.get("/.well-known/passkey-endpoints"), 200)
	if diff := cmp.Diff(map[string]string{"enroll": public + "/account", "manage": public + "/account"}, got); diff != "" {
		t.Errorf("passkey-endpoints (-want +got):\n%s", diff)
	}
	if p := b.get("/.well-known/change-password"); p.status != 303 || p.header.Get("Location") != "/account" {
		t.Errorf("change-password: %d to %s", p.status, p.header.Get("Location"))
	}
}

// The codes are part of the contract: every problem has one of them.
func TestProblemCodes(t *testing.T) {
	contract := strings.Fields(`malformed refused unknown_passkey signed_out expired used no_cookie already_registered last_passkey
		reauthentication_required registration_not_allowed invitation cross_site bad_name too_many_passkeys too_large too_many unavailable
		not_found method_not_allowed unsupported_media_type internal
		disabled recovery recovery_waits not_owner last_owner name_taken bad_group bad_days registration_closed
		too_long`)
	slices.Sort(contract)
	if diff := cmp.Diff(contract, server.Codes()); diff != "" {
		t.Errorf("codes (-contract +table):\n%s", diff)
	}
}

// FuzzAPI: whatever a body brings, no route does anything with it that was not
// asked for, and none fails.
func FuzzAPI(f *testing.F) {
	s := newSite(f)
	in, d := s.browser(), s.device()
	made := in.enrol(d, "{}")
	out := s.browser()
	out.get("/")
	f.Add([]byte("{}"))
	f.Add([]byte(`{"name":"Laptop","invite":""}`))
	f.Add([]byte(`{"name":"\u202e"}`))
	f.Add([]byte(`{"name":null,"invite":"AAAA"}`))
	f.Add([]byte(`{"name":5}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{} {}`))
	f.Add([]byte("{\"name\":\"\xff\"}"))
	f.Add([]byte(d.get(out.begin(signInBegin, "{}").options, func(d *draft) { d.client["origin"] = "https://evil.example" })))
	f.Add([]byte(s.device().create(out.begin(registerBegin, "{}").options, func(d *draft) { d.rpID = "evil.example" })))
	f.Add([]byte(`{"id":"AAAA","rawId":"AAAA","type":"public-key","response":{"attestationObject":"oA","clientDataJSON":"e30"}}`))
	before := s.rows()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, b := range []*browser{in.clone(), out.clone()} {
			b.t = t
			for _, r := range []struct{ method, target string }{
				{"POST", registerBegin}, {"POST", registerFinish}, {"POST", signInBegin}, {"POST", signInFinish}, {"PATCH", passkeyAt(d)},
			} {
				q := b.request(r.method, r.target, strings.NewReader(string(body)))
				q.Header.Set("Content-Type", "application/json")
				p := b.send(q)
				begun := strings.HasSuffix(r.target, "begin") || r.method == "PATCH"
				if p.status/100 != 4 && !(begun && p.status == 200) {
					t.Errorf("%s: %d", r.target, p.status)
				}
				var answer map[string]any
				if err := json.Unmarshal([]byte(p.body), &answer); err != nil {
					t.Errorf("%s: %s %v", r.target, p.body, err)
				}
			}
		}
		in.clone().checkSignedIn(made.User.Name)
		after := s.rows()
		if before["trail"] = after["trail"]; !maps.Equal(before, after) {
			t.Errorf("rows %v, then %v", before, after)
		}
	})
}
