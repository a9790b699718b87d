package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"golang.org/x/net/html"
	_ "modernc.org/sqlite"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
	"bio/app/store/storetest"
)

const (
	local  = "http://localhost:8080"
	public = "https://bio.example.com"
)

var (
	epoch  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secret = []byte("a root secret of thirty-two bytes")
)

// site is the whole program, but for its listeners, by a clock that stands still
// until it is moved.
type site struct {
	*server.Server
	t        testing.TB
	settings *config.Settings // those of the command line beside it
	clock    *storetest.Clock
	db       *store.DB
	path     string  // of the database
	raw      *sql.DB // the same database, as another program sees it
	log      *journal
	url      *url.URL
	process  http.Handler // in place of the server, when it runs on its own
	links    int          // of recovery that were made
	waits    bool         // its agents end by themselves: what they did is written down before an answer is read
}

// environment is a site's settings and parts, where they are not the usual ones.
type environment struct {
	settings []string // NAME=value, over the usual
	secret   []byte
	agent    agent.Agent
	like     *site // shares its database and clock
}

// newSite makes a site from settings over the usual ones. The limits are wide, so
// that only the tests of limits meet them.
func newSite(t testing.TB, settings ...string) *site {
	t.Helper()
	return environment{settings: settings}.site(t)
}

func (e environment) site(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, log: &journal{}}
	if e.like != nil {
		s.clock, s.db, s.path, s.raw = e.like.clock, e.like.db, e.like.path, e.like.raw
	} else {
		s.clock, s.path = storetest.NewClock(epoch), filepath.Join(t.TempDir(), "bio.db")
	}
	if e.secret == nil {
		e.secret = secret
	}
	// The first of a name counts.
	var err error
	s.settings, err = config.Load(append(slices.Clone(e.settings),
		"BIO_URL="+local, "BIO_RATE_LIMIT=1000000/s", "BIO_REFUSAL_LIMIT=1000000/s",
		"BIO_DATA="+filepath.Dir(s.path), "BIO_SECRET="+hex.EncodeToString(e.secret)))
	if err != nil {
		t.Fatal(err)
	}
	s.url = must(url.Parse(s.settings.Origin()))
	s.waits = e.agent == nil
	if e.like == nil {
		if s.db, err = store.Open(t.Context(), "file:"+s.path, s.clock.Now); err != nil {
			t.Fatal(err)
		}
		if s.raw, err = sql.Open("sqlite", "file:"+s.path+"?_pragma=busy_timeout(5000)"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.raw.Close(); s.db.Close() })
		t.Cleanup(func() { s.checkTrail() }) // whatever a test did
	}
	s.Server, err = server.New(server.Options{
		Settings: s.settings, Secret: e.secret, DB: s.db, Agents: named(e.agent), Now: s.clock.Now, Version: "test",
		Log: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// named is the one agent of a site, or none: then it is brief.
func named(a agent.Agent) []agent.Named {
	if a == nil {
		return nil
	}
	return []agent.Named{{Name: "agent", Agent: a}}
}

// journal keeps what is logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// runsWritten waits until the runs that go on have ended and are written down.
func (s *site) runsWritten() {
	s.t.Helper()
	if err := server.WaitForRuns(context.Background(), s.Server); err != nil {
		s.t.Fatal(err)
	}
}

// tables are what a press can change.
var tables = map[string]string{
	"users": "users", "credentials": "credentials", "sessions": "sessions", "challenges": "challenges",
	"invitations": "invitations", "trail": "trail_leaves",
}

// rows counts what the database holds.
func (s *site) rows() map[string]int {
	s.t.Helper()
	n := map[string]int{}
	for name, table := range tables {
		var count int
		if err := s.raw.QueryRow("SELECT count(*) FROM " + table).Scan(&count); err != nil {
			s.t.Fatal(err)
		}
		n[name] = count
	}
	return n
}

// trail is the whole log; of an erased account's entries only what the leaves say.
func (s *site) trail() []audit.Record {
	s.t.Helper()
	var all []audit.Record
	for {
		page, err := s.db.Entries(context.Background(), int64(len(all)), 100)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range page {
			r := audit.Record{Index: e.Index, At: e.Leaf.Time, Kind: e.Leaf.Kind}
			if e.Payload != nil {
				if r, err = audit.Open(e.Index, e.Leaf.Kind, e.Leaf.Time, e.Payload); err != nil {
					s.t.Fatal(err)
				}
			}
			all = append(all, r)
		}
		if len(page) == 0 {
			return all
		}
	}
}

func (s *site) kinds() map[audit.Kind]int {
	n := map[audit.Kind]int{}
	for _, r := range s.trail() {
		n[r.Kind]++
	}
	return n
}

// refusals are how many the trail tells of.
func (s *site) refusals() (n int) {
	for _, r := range s.trail() {
		if r.Kind == audit.SignInRefused {
			n += max(1, r.Count)
		}
	}
	return n
}

// checkTrail verifies the whole log, as an operator does beside the server.
func (s *site) checkTrail() audit.Report {
	s.t.Helper()
	report, err := server.VerifyTrail(context.Background(), s.settings, nil, nil, func(_, _ int64) {})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, problem := range report.Problems {
		s.t.Errorf("the trail: %v", problem)
	}
	return report
}

// invite makes an invitation and returns its token.
func (s *site) invite(expires time.Time, groups ...string) string {
	s.t.Helper()
	sum := sha256.Sum256([]byte(s.clock.Now().String() + strings.Join(groups, " ") + hex.EncodeToString([]byte{byte(s.rows()["invitations"])})))
	token := encode(sum[:18])
	err := s.db.Invite(context.Background(), account.Invitation{
		TokenHash: account.TokenHash(token), Groups: groups, ExpiresAt: expires,
	}, audit.Entry{Kind: audit.InvitationMade})
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// browser is one person's browser with its cookies.
type browser struct {
	*site
	addr    string // of the network, with a port
	agent   string
	header  http.Header
	cookies map[string]string
}

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"

func (s *site) browser() *browser {
	return &browser{
		site: s, addr: "203.0.113.77:50123", agent: firefox, header: http.Header{}, cookies: map[string]string{},
	}
}

// clone is a browser with the same cookies, as far as they have come.
func (b *browser) clone() *browser {
	c := *b
	c.cookies, c.header = maps.Clone(b.cookies), b.header.Clone()
	return &c
}

func (b *browser) request(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, b.url.Scheme+"://"+b.url.Host+target, body)
	r.TLS = nil // the proxy in front speaks it
	r.RemoteAddr = b.addr
	for name, values := range b.header {
		r.Header[name] = values
	}
	if b.agent != "" {
		r.Header.Set("User-Agent", b.agent)
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// send answers a request and keeps the cookies that come back.
func (b *browser) send(r *http.Request) *page {
	b.t.Helper()
	w := httptest.NewRecorder()
	if b.process != nil {
		b.process.ServeHTTP(w, r)
	} else {
		b.ServeHTTP(w, r)
	}
	if b.waits {
		b.runsWritten()
	}
	p := read(b.t, w.Result())
	for _, c := range p.setCookies {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return p
}

func (b *browser) get(target string) *page {
	b.t.Helper()
	return b.send(b.request(http.MethodGet, target, nil))
}

func (b *browser) post(target string, form url.Values) *page {
	b.t.Helper()
	r := b.request(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(r)
}

// page is an answer as a browser reads it.
type page struct {
	status     int
	header     http.Header
	body       string
	setCookies []*http.Cookie
	account    string // main[data-account]
	notice     string // what is said of the last press
	signals    string // body[data-signals]
	here       string // body[data-here]
	auth, undo *form
	acts       map[string]*form // forms of one sensitive act each, by the address that they post to
	plain      []string         // where the forms without a ceremony post to
	link       string           // code#link
	run        string           // the text of section#run
	prompt     string           // in the form that asks the agents
	recovery   string           // the text of section#recovery
	ids        map[string]bool
}

// form is a form with a ceremony.
type form struct {
	action   string
	ceremony string   // where it renews its options
	offers   []string // the members of its options, sorted
	options  options
	fields   url.Values
	known    bool
	closed   bool
}

// options are what the page gives to the browser.
type options struct {
	Get struct {
		Challenge        string
		RPID             string `json:"rpId"`
		UserVerification string
	}
	Create struct {
		Challenge string
		RP        struct{ ID, Name string }
		User      struct{ ID, Name, DisplayName string }

		ExcludeCredentials []struct{ ID string }
	}
	TTL int
}

func read(t testing.TB, answer *http.Response) *page {
	t.Helper()
	body := must(io.ReadAll(answer.Body))
	answer.Body.Close()
	p := &page{
		status: answer.StatusCode, header: answer.Header, body: string(body), setCookies: answer.Cookies(),
		acts: map[string]*form{}, ids: map[string]bool{},
	}
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		return p
	}
	doc, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		a := attributes(n)
		p.ids[a["id"]] = true
		switch {
		case n.Data == "body":
			p.signals, p.here = a["data-signals"], a["data-here"]
		case n.Data == "main":
			p.account = a["data-account"]
		case n.Data == "form" && a["id"] == "auth":
			p.auth = readForm(t, n, a)
		case n.Data == "form" && a["id"] == "undo":
			p.undo = readForm(t, n, a)
		case n.Data == "form" && a["data-options"] != "":
			if p.acts[a["action"]] != nil {
				t.Errorf("two forms for %s", a["action"])
			}
			p.acts[a["action"]] = readForm(t, n, a)
		case n.Data == "form":
			p.plain = append(p.plain, a["action"])
		case a["id"] == "link":
			p.link = text(n)
		case a["id"] == "run":
			p.run = text(n)
		case a["name"] == "prompt":
			p.prompt = text(n)
		case a["id"] == "recovery":
			p.recovery = strings.Join(strings.Fields(text(n)), " ")
		case a["data-say"] == "notice" || a["class"] == "notice":
			p.notice = text(n)
		}
	}
	return p
}

func readForm(t testing.TB, n *html.Node, a map[string]string) *form {
	f := &form{action: a["action"], ceremony: a["data-ceremony"], fields: url.Values{}}
	_, f.known = a["data-known"]
	_, f.closed = a["data-closed"]
	var members map[string]any
	if err := errors.Join(json.Unmarshal([]byte(a["data-options"]), &f.options), json.Unmarshal([]byte(a["data-options"]), &members)); err != nil {
		t.Fatalf("options %q: %v", a["data-options"], err)
	}
	f.offers = slices.Sorted(maps.Keys(members))
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.Data == "input" {
			field := attributes(c)
			f.fields.Set(field["name"], field["value"])
		}
	}
	return f
}

func attributes(n *html.Node) map[string]string {
	a := map[string]string{}
	for _, one := range n.Attr {
		a[one.Key] = one.Val
	}
	return a
}

func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// draft is an answer of an authenticator before it is signed.
type draft struct {
	client     map[string]any
	rpID       string
	flags      byte
	count      uint32
	attested   []byte
	extensions []byte
	format     string
	out        map[string]any // replaces members of the credential once it is signed
	response   map[string]any // replaces members of its response once it is signed
}

func (d *draft) authenticatorData() []byte {
	hash := sha256.Sum256([]byte(d.rpID))
	b := append(hash[:], d.flags)
	b = binary.BigEndian.AppendUint32(b, d.count)
	return append(append(b, d.attested...), d.extensions...)
}

// device is an authenticator with one passkey.
type device struct {
	virtualwebauthn.Credential
	origin string
	handle []byte
	flags  byte
}

const (
	flagAttested   = 1 << 6
	flagExtensions = 1 << 7
	bound          = account.FlagUserPresent | account.FlagUserVerified
	synced         = bound | account.FlagBackupEligible | account.FlagBackupState
)

func (s *site) device() *device {
	d := &device{origin: s.url.String(), flags: synced}
	// virtualwebauthn leaves leading zeros out of coordinates.
	for d.Key == nil || len(d.Key.AttestationData()) != 77 {
		d.Credential = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	return d
}

// clone is the same passkey for another goroutine: virtualwebauthn's keys change
// when they sign.
func (d *device) clone() *device {
	c, key := *d, *d.Key
	c.Key = &key
	return &c
}

func (d *device) attestedData() []byte {
	b := make([]byte, 16) // AAGUID
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.ID)))
	return append(append(b, d.ID...), d.Key.AttestationData()...)
}

// create answers navigator.credentials.create().
func (d *device) create(o options, changes ...func(*draft)) string {
	f := &draft{
		client: map[string]any{"type": "webauthn.create", "challenge": o.Create.Challenge, "origin": d.origin, "crossOrigin": false},
		rpID:   o.Create.RP.ID, flags: d.flags | flagAttested, count: d.Counter, attested: d.attestedData(), format: "none",
		out: map[string]any{}, response: map[string]any{"transports": []string{"internal"}},
	}
	for _, change := range changes {
		change(f)
	}
	d.handle = must(base64.RawURLEncoding.DecodeString(o.Create.User.ID))
	authData := f.authenticatorData()
	object := append([]byte("\xa3\x63fmt"), byte(0x60+len(f.format)))
	object = append(object, f.format...)
	object = append(object, "\x67attStmt\xa0\x68authData\x59"...)
	object = binary.BigEndian.AppendUint16(object, uint16(len(authData)))
	return d.answer(f, map[string]any{"attestationObject": encode(append(object, authData...))})
}

// get answers navigator.credentials.get().
func (d *device) get(o options, changes ...func(*draft)) string {
	f := &draft{
		client: map[string]any{"type": "webauthn.get", "challenge": o.Get.Challenge, "origin": d.origin, "crossOrigin": false},
		rpID:   o.Get.RPID, flags: d.flags, count: d.Counter,
		out: map[string]any{}, response: map[string]any{},
	}
	for _, change := range changes {
		change(f)
	}
	authData, client := f.authenticatorData(), sha256.Sum256(must(json.Marshal(f.client)))
	digest := sha256.Sum256(append(bytes.Clone(authData), client[:]...))
	return d.answer(f, map[string]any{
		"authenticatorData": encode(authData), "signature": encode(must(d.Key.Sign(digest[:]))), "userHandle": encode(d.handle),
	})
}

func (d *device) answer(f *draft, response map[string]any) string {
	response["clientDataJSON"] = encode(must(json.Marshal(f.client)))
	maps.Copy(response, f.response)
	credential := map[string]any{"id": encode(d.ID), "rawId": encode(d.ID), "type": "public-key", "response": response}
	maps.Copy(credential, f.out)
	return string(must(json.Marshal(credential)))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// press sends a form with a credential.
func (b *browser) press(f *form, credential string) *page {
	b.t.Helper()
	fields := maps.Clone(f.fields)
	fields.Set("credential", credential)
	return b.post(f.action, fields)
}

// register opens the page and makes an account with a new device.
func (b *browser) register() (*device, *page) {
	b.t.Helper()
	d := b.device()
	p := b.registerWith(d, "/")
	if p.status != http.StatusOK || p.account == "" {
		b.t.Fatalf("registration answered %d: %s", p.status, p.notice)
	}
	return d, p
}

func (b *browser) registerWith(d *device, target string) *page {
	b.t.Helper()
	f := b.button(target)
	return b.press(f, d.create(f.options))
}

// signIn opens the page and presses with a known device.
func (b *browser) signIn(d *device) *page {
	b.t.Helper()
	f := b.button("/")
	return b.press(f, d.get(f.options))
}

// button opens a page that has one.
func (b *browser) button(target string) *form {
	b.t.Helper()
	p := b.get(target)
	if p.auth == nil {
		b.t.Fatalf("no button at %s: %d", target, p.status)
	}
	return p.auth
}

// signedOut drops the session, as a browser does that closes it.
func (b *browser) signedOut() *browser {
	c := b.clone()
	delete(c.cookies, b.name("bio"))
	return c
}

// name is a cookie's name on this site.
func (b *browser) name(plain string) string {
	if b.url.Scheme == "https" {
		return "__Host-" + plain
	}
	return plain
}

// checkSignedIn fails unless the browser is signed in as the account.
func (b *browser) checkSignedIn(account string) {
	b.t.Helper()
	if got := b.clone().get("/"); got.status != http.StatusOK || got.account != account {
		b.t.Errorf("signed in as %q (%d), want %q", got.account, got.status, account)
	}
}

// ceremony asks for fresh options, as a page does that has grown old.
func (b *browser) ceremony(target string) options {
	b.t.Helper()
	p := b.get(target)
	var o options
	if err := json.Unmarshal([]byte(p.body), &o); err != nil || p.status != http.StatusOK {
		b.t.Fatalf("%s: %d %s", target, p.status, p.body)
	}
	return o
}
