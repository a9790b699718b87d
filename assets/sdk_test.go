package assets_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/go-webauthn/webauthn/protocol"

	"bio/assets"
)

// patience is how long a condition may take to come true on a busy machine.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.ctx != nil && chromium.err == nil {
		ctx, cancel := context.WithTimeout(chromium.ctx, patience)
		if err := chromedp.Cancel(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "the browser did not close:", err)
		}
		cancel()
	}
	os.Exit(code)
}

// chromium is the one browser of the package, started by the first test that
// needs it.
var chromium struct {
	once sync.Once
	ctx  context.Context
	err  error
}

func browser(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("BIO_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	if path == "" {
		const why = "there is no chromium here: install it, or name it with BIO_CHROMIUM"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	chromium.once.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("headless", "new"),
			chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, _ := chromedp.NewExecAllocator(context.Background(), options...)
		chromium.ctx, _ = chromedp.NewContext(allocator) // ended by TestMain
		chromium.err = chromedp.Do(chromium.ctx)
	})
	if chromium.err != nil {
		t.Fatalf("%s does not start: %v", path, chromium.err)
	}
	return chromium.ctx
}

// answer is what the API says to one call.
type answer struct {
	status int
	body   string
}

func problem(status int, code string) answer {
	return answer{status, fmt.Sprintf(`{"type":"urn:bio:%s","title":"No","status":%d,"detail":"About %s."}`, code, status, code)}
}

// api is the JSON API as the SDK sees it, and the origin that serves the SDK. It
// takes credentials as the server does, but answers as the test has written.
type api struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	script   map[string][]answer // by call, in order; then what is usual
	calls    []string            // "POST register/begin"
	bodies   map[string]string   // the last one of each call
	allowed  string              // another origin that may call
	passkeys []string            // the ids of those that registered, base64url
	begun    atomic.Int64
	held     chan struct{} // when set, begin waits for it
}

const csp = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; require-trusted-types-for 'script'"

func serveAPI(t *testing.T) *api {
	t.Helper()
	a := &api{t: t, script: map[string][]answer{}, bodies: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/assets/", func(w http.ResponseWriter, r *http.Request) {
		a.share(w, r) // as the server does
		assets.Handler().ServeHTTP(w, r)
	})
	mux.HandleFunc("/auth/webauthn/", a.serve)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", csp)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, pageText)
	})
	a.url = listen(t, mux)
	return a
}

const pageText = `<!doctype html><html lang="en"><title>A page</title><input aria-label="Name" autocomplete="username webauthn"></html>`

// listen serves on a port of localhost, the one host that is a secure context
// without TLS and may be an RP ID.
func listen(t *testing.T, handler http.Handler) string {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// share lets the other origin read.
func (a *api) share(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	allowed := a.allowed
	a.mu.Unlock()
	if origin := r.Header.Get("Origin"); origin != "" && origin == allowed {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
	}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	a.share(w, r)
	if r.Method == http.MethodOptions {
		return
	}
	call := r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), "/auth/webauthn/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the page went away
	}
	if len(body) > 0 != (r.Header.Get("Content-Type") == "application/json") {
		a.t.Errorf("%s has the type %q and a body of %d bytes", call, r.Header.Get("Content-Type"), len(body))
	}

	a.mu.Lock()
	a.calls = append(a.calls, call)
	a.bodies[call] = string(body)
	held := a.held
	a.mu.Unlock()
	if held != nil && strings.HasSuffix(call, "/begin") {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var said answer
	if written := a.script[call]; len(written) > 0 {
		said, a.script[call] = written[0], written[1:]
	} else {
		said = a.usual(call, r, body)
	}
	if strings.HasSuffix(call, "/begin") && said.status == 200 {
		http.SetCookie(w, &http.Cookie{Name: "bio-pre", Value: "browser", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	if said.status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(said.status)
	io.WriteString(w, said.body)
}

const credential = `{"id":"AQID","name":"Windows Hello","aaguid":"08987058-cadc-4b81-b6e1-30de50dcbe96","device_type":"single",` +
	`"backup_eligible":false,"backup_state":false,"transports":["internal"],"sign_count":1,"created_at":"2026-11-21T14:00:00Z","last_used_at":"2026-11-21T14:00:01Z"}`

const verified = `{"verified":true,"user":{"id":"00112233445566778899aabbccddeeff","name":"cedar-otter-42"},"credential":` + credential + `}`

// usual is what a server says when all is well.
func (a *api) usual(call string, r *http.Request, body []byte) answer {
	switch call {
	case "POST register/begin":
		return answer{200, a.creation("")}
	case "POST sign-in/begin":
		return answer{200, a.request("")}
	case "POST register/finish":
		parsed, err := protocol.ParseCredentialCreationResponseBytes(body)
		if err != nil {
			a.t.Errorf("the registration cannot be read: %v\n%s", err, body)
			return problem(400, "malformed")
		}
		a.check(r, parsed.Response.CollectedClientData, protocol.CreateCeremony)
		if !slices.Equal(parsed.Response.Transports, []protocol.AuthenticatorTransport{protocol.Internal}) {
			a.t.Errorf("transports %v", parsed.Response.Transports)
		}
		a.passkeys = append(a.passkeys, parsed.ID)
		return answer{200, verified}
	case "POST sign-in/finish":
		parsed, err := protocol.ParseCredentialRequestResponseBytes(body)
		if err != nil {
			a.t.Errorf("the assertion cannot be read: %v\n%s", err, body)
			return problem(400, "malformed")
		}
		a.check(r, parsed.Response.CollectedClientData, protocol.AssertCeremony)
		if string(parsed.Response.UserHandle) != handle {
			a.t.Errorf("user handle %x", parsed.Response.UserHandle)
		}
		return answer{200, verified}
	case "GET credentials":
		return answer{200, "[" + credential + "]"}
	}
	switch r.Method {
	case http.MethodPatch:
		return answer{200, credential}
	case http.MethodDelete:
		return answer{204, ""}
	}
	a.t.Errorf("unforeseen: %s", call)
	return problem(404, "not_found")
}

// check looks for what the browser signed among what was offered, of which a call
// that was given up may have had the last, and for the cookie that begin set.
func (a *api) check(r *http.Request, signed protocol.CollectedClientData, ceremony protocol.CeremonyType) {
	offered := false
	for n := a.begun.Load(); n > 0; n-- {
		offered = offered || signed.Challenge == challenge(n)
	}
	if signed.Type != ceremony || !offered {
		a.t.Errorf("signed %s of %s, want %s of one that was offered", signed.Type, signed.Challenge, ceremony)
	}
	if cookie, err := r.Cookie("bio-pre"); err != nil || cookie.Value != "browser" {
		a.t.Errorf("%s comes without the cookie", r.URL.Path)
	}
}

// handle has bytes that base64url writes as - and _.
const handle = "\xfb\xff\xfe user handle"

// challenge is the nth that is offered; it has - and _ too, and no padding.
func challenge(n int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "\xfb\xff\xfe challenge %d", n))
}

func (a *api) creation(more string) string {
	n := a.begun.Add(1)
	return fmt.Sprintf(`{"publicKey":{"rp":{"id":"localhost","name":"Bio"},"challenge":%q,"timeout":300000,
		"user":{"id":%q,"name":"cedar-otter-42","displayName":"cedar-otter-42"},
		"pubKeyCredParams":[{"type":"public-key","alg":-7}],
		"authenticatorSelection":{"residentKey":"required","userVerification":"required"}%s}}`,
		challenge(n), base64.RawURLEncoding.EncodeToString([]byte(handle)), more)
}

func (a *api) request(more string) string {
	n := a.begun.Add(1)
	return fmt.Sprintf(`{"publicKey":{"rpId":"localhost","challenge":%q,"userVerification":"required"%s}}`, challenge(n), more)
}

// say writes what the API says to the next calls of that kind.
func (a *api) say(call string, said ...answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script[call] = append(a.script[call], said...)
}

// allow lets pages of another origin call.
func (a *api) allow(origin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.allowed = origin
}

// body is what the last call of that kind sent.
func (a *api) body(call string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bodies[call]
}

// registered are the ids of the passkeys that registered, base64url.
func (a *api) registered() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.passkeys)
}

// hold keeps every begin waiting until release.
func (a *api) hold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = make(chan struct{})
}

func (a *api) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.held)
	a.held = nil
}

// wantCalls compares the calls since the last look.
func (a *api) wantCalls(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.calls, want) {
		a.t.Errorf("calls %q, want %q", a.calls, want)
	}
	a.calls = nil
}

// untilCalled waits until that call has come.
func (a *api) untilCalled(call string) {
	a.t.Helper()
	eventually(a.t, call, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Contains(a.calls, call)
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// tab is a page that has the SDK as the global sdk, and a virtual authenticator
// (WebAuthn L3 §11) with a person in front of it who says yes at once.
type tab struct {
	t             *testing.T
	ctx           context.Context
	authenticator webauthn.AuthenticatorID
}

// open opens a page at an address, with scripts that run before its own, and
// loads the SDK from an address.
func open(t *testing.T, address, module string, before ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser(t), chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Error("uncaught: ", &chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails})
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, script := range append([]string{observe}, before...) {
		call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	}
	call(p, webauthn.Enable, webauthn.EnableParams{})
	p.authenticator = call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21,
			Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true,
			IsUserVerified: true, AutomaticPresenceSimulation: true, DefaultBackupEligibility: true, DefaultBackupState: true,
		},
	}).AuthenticatorID
	call(p, page.Navigate, page.NavigateParams{URL: address})
	eventually(t, "the page is there", func() bool {
		there, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf("location.href == %q && document.readyState == 'complete'", address)))
		return err == nil && there
	})
	await[bool](p, fmt.Sprintf("import(%q).then(module => { self.sdk = module; return true })", module))
	return p
}

// observe counts the ceremonies, and lets a test answer in the browser's stead:
// instead.get = (options, native) => ….
const observe = `
self.instead = {}
self.ceremonies = []
self.rejects = (name, message = '') => () => Promise.reject(new DOMException(message, name))
for (const method of self.CredentialsContainer ? ['get', 'create'] : []) {
  const native = CredentialsContainer.prototype[method]
  CredentialsContainer.prototype[method] = function (options) {
    ceremonies.push(options.mediation ?? method)
    const call = options => native.call(this, options)
    return instead[method] ? instead[method](options, call) : call(options)
  }
}`

// call runs a protocol command.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// await is the value of a promise in the page.
func await[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (p *tab) run(script string) { p.t.Helper(); await[bool](p, script+"; true") }

// outcome is what came of a call: its JSON, or the error.
type outcome struct {
	JSON, Name, Code, Detail, Message string
	Status                            int
	Known                             bool // it is a PasskeyError
}

const settle = `.then(value => ({ json: JSON.stringify(value) ?? 'undefined' }), error => ({
	name: error.name, code: error.code, status: error.status, detail: error.detail, message: error.message,
	known: error instanceof sdk.PasskeyError && error instanceof Error,
}))`

// try makes a call of the SDK, such as "signIn()".
func (p *tab) try(expression string) outcome {
	p.t.Helper()
	return await[outcome](p, "sdk.passkey."+expression+settle)
}

// start makes a call that is waited for later, by its name.
func (p *tab) start(name, expression string) {
	p.t.Helper()
	p.run("self." + name + " = sdk.passkey." + expression + settle)
}

func (p *tab) outcomeOf(name string) outcome { p.t.Helper(); return await[outcome](p, name) }

func (o outcome) wantVerified(t *testing.T) {
	t.Helper()
	if o.JSON != verified {
		t.Errorf("got %+v, want %s", o, verified)
	}
}

func (o outcome) wantCode(t *testing.T, code string, status int) {
	t.Helper()
	if o.Code != code || o.Status != status || !o.Known || o.Name != "PasskeyError" || o.Message == "" {
		t.Errorf("got %+v, want %s with %d", o, code, status)
	}
}

func (p *tab) wantCeremonies(want ...string) {
	p.t.Helper()
	if got := await[[]string](p, "ceremonies.splice(0)"); !slices.Equal(got, want) {
		p.t.Errorf("ceremonies %q, want %q", got, want)
	}
}

func (p *tab) passkeys() []*webauthn.Credential {
	p.t.Helper()
	return call(p, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: p.authenticator}).Credentials
}

func (p *tab) wantPasskeys(want int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d passkeys", want), func() bool { return len(p.passkeys()) == want })
}

// presence sets whether the person says yes by themselves.
func (p *tab) presence(enabled bool) {
	p.t.Helper()
	call(p, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: p.authenticator, Enabled: enabled})
}

// ready is a page of the API's own origin.
func ready(t *testing.T, before ...string) (*api, *tab) {
	t.Helper()
	a := serveAPI(t)
	return a, open(t, a.url+"/", a.url+assets.Path("bio.js"), before...)
}

func TestSDKSource(t *testing.T) {
	for _, target := range []string{"/assets/bio.js", assets.Path("bio.js")} {
		r := get(t, "GET", target, http.Header{"Origin": {"https://app.example.com"}})
		if r.Header.Get("SourceMap") != "" {
			t.Errorf("%s has a source map", target)
		}
		script := body(t, r)
		for _, never := range []string{"eval(", "Function(", "innerHTML", "document.write", "sourceMappingURL", "toJSON(", "OptionsFromJSON", "import("} {
			if strings.Contains(script, never) {
				t.Errorf("%s has %s", target, never)
			}
		}
	}
}

func TestRegisterAndSignIn(t *testing.T) {
	a, p := ready(t)
	p.try("register({name: 'Ada', invite: 'token'})").wantVerified(t)
	if got, want := a.bodies["POST register/begin"], `{"name":"Ada","invite":"token"}`; got != want {
		t.Errorf("begin has %s, want %s", got, want)
	}
	p.wantPasskeys(1)
	p.try("signIn()").wantVerified(t)
	if got := a.body("POST sign-in/begin"); got != "{}" {
		t.Errorf("begin has %s", got)
	}
	p.wantCeremonies("create", "get")
	a.wantCalls("POST register/begin", "POST register/finish", "POST sign-in/begin", "POST sign-in/finish")

	p.try("register()").wantVerified(t)
	if got := a.body("POST register/begin"); got != "{}" {
		t.Errorf("begin without options has %s", got)
	}
}

func TestAccount(t *testing.T) {
	a, p := ready(t)
	if got := p.try("list()"); got.JSON != "["+credential+"]" {
		t.Errorf("list: %+v", got)
	}
	if got := p.try("rename('AQID', 'Blue key')"); got.JSON != credential {
		t.Errorf("rename: %+v", got)
	}
	if got, want := a.bodies["PATCH credentials/AQID"], `{"name":"Blue key"}`; got != want {
		t.Errorf("rename has %s, want %s", got, want)
	}
	if got := p.try("delete('AQID')"); got.JSON != "undefined" {
		t.Errorf("delete: %+v", got)
	}
	p.try("delete('../a b?')")
	a.wantCalls("GET credentials", "PATCH credentials/AQID", "DELETE credentials/AQID", "DELETE credentials/..%2Fa%20b%3F")
	p.wantCeremonies()
}

// Exports are those of the types.
func TestExports(t *testing.T) {
	_, p := ready(t)
	if got, want := await[string](p, "JSON.stringify([Object.keys(sdk), Object.keys(sdk.passkey)])"),
		`[["PasskeyError","passkey"],["register","signIn","list","rename","delete"]]`; got != want {
		t.Errorf("exports %s, want %s", got, want)
	}
	got := await[string](p, "(e => JSON.stringify([e.name, e.code, e.status, e.detail, e.message, String(e)]))(new sdk.PasskeyError('failed'))")
	if want := `["PasskeyError","failed",0,"","failed","PasskeyError: failed"]`; got != want {
		t.Errorf("a PasskeyError is %s, want %s", got, want)
	}
}

// problems is every code of the server, where it is likely, and what the SDK
// makes of it.
var problems = []struct {
	code   string
	status int
	act    string // of the SDK
	call   string // of the API
	want   string
}{
	{"malformed", 400, "signIn()", "POST sign-in/finish", "failed"},
	{"refused", 401, "signIn()", "POST sign-in/finish", "refused"},
	{"signed_out", 401, "list()", "GET credentials", "signed_out"},
	{"expired", 409, "signIn()", "POST sign-in/finish", "expired"},
	{"expired", 409, "register()", "POST register/finish", "expired"},
	{"used", 409, "signIn()", "POST sign-in/finish", "expired"},
	{"no_cookie", 409, "signIn()", "POST sign-in/finish", "no_cookie"},
	{"already_registered", 409, "register()", "POST register/finish", "already_registered"},
	{"last_passkey", 409, "delete('AQID')", "DELETE credentials/AQID", "last_passkey"},
	{"reauthentication_required", 403, "register()", "POST register/begin", "reauthentication_required"},
	{"reauthentication_required", 403, "delete('AQID')", "DELETE credentials/AQID", "reauthentication_required"},
	{"registration_not_allowed", 403, "register()", "POST register/finish", "not_allowed"},
	{"invitation", 403, "register({invite: 'x'})", "POST register/begin", "not_allowed"},
	{"disabled", 403, "signIn()", "POST sign-in/finish", "not_allowed"},
	{"recovery_waits", 403, "signIn()", "POST sign-in/finish", "not_allowed"},
	{"too_many_passkeys", 409, "register()", "POST register/begin", "too_many_passkeys"},
	{"cross_site", 403, "signIn()", "POST sign-in/begin", "not_allowed"},
	{"bad_name", 422, "rename('AQID', '')", "PATCH credentials/AQID", "bad_name"},
	{"too_large", 413, "rename('AQID', '')", "PATCH credentials/AQID", "failed"},
	{"too_many", 429, "signIn()", "POST sign-in/begin", "too_many"},
	{"unavailable", 503, "signIn({conditional: true})", "POST sign-in/begin", "unavailable"},
	{"not_found", 404, "rename('AQID', 'x')", "PATCH credentials/AQID", "no_passkey"},
	{"method_not_allowed", 405, "list()", "GET credentials", "failed"},
	{"internal", 500, "list()", "GET credentials", "failed"},
	{"constructor", 500, "list()", "GET credentials", "failed"},
	{"of_tomorrow", 503, "list()", "GET credentials", "unavailable"},
	{"unknown_passkey", 401, "signIn()", "POST sign-in/finish", "no_passkey"}, // which takes the passkey away
}

func TestProblems(t *testing.T) {
	a, p := ready(t)
	p.try("register()").wantVerified(t)
	for _, one := range problems {
		t.Run(one.code, func(t *testing.T) {
			a.say(one.call, problem(one.status, one.code))
			got := p.try(one.act)
			got.wantCode(t, one.want, one.status)
			if want := "About " + one.code + "."; got.Detail != want || got.Message != want {
				t.Errorf("detail %q, message %q, want %q", got.Detail, got.Message, want)
			}
		})
	}
}

// What is between may answer without a problem document, or not at all.
func TestNoProblemDocument(t *testing.T) {
	a, p := ready(t)
	for _, one := range []struct {
		said answer
		want string
	}{
		{answer{502, "<html>Bad Gateway</html>"}, "unavailable"},
		{answer{503, ""}, "unavailable"},
		{answer{504, "null"}, "unavailable"},
		{answer{429, "[]"}, "too_many"},
		{answer{404, "<html>"}, "failed"},
		{answer{500, `{"type":"about:blank"}`}, "failed"},
		{answer{500, `{"type":7}`}, "failed"},
		{answer{200, "<html>Sign in to the train's network</html>"}, "failed"},
		{answer{200, "null"}, "failed"},
	} {
		a.say("GET credentials", one.said)
		got := p.try("list()")
		got.wantCode(t, one.want, one.said.status)
		if got.Detail != "" || got.Message != one.want {
			t.Errorf("detail %q, message %q", got.Detail, got.Message)
		}
	}
	p.run("self.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
	p.try("list()").wantCode(t, "unavailable", 0)
	p.try("signIn()").wantCode(t, "unavailable", 0)
	p.run("self.fetch = async () => ({ ok: true, text: () => Promise.reject(new TypeError('network error')) })")
	p.try("list()").wantCode(t, "unavailable", 0)
}

// What the browser itself says, by its real errors or in its stead.
func TestBrowserErrors(t *testing.T) {
	a, p := ready(t)
	for _, one := range []struct{ method, name, want string }{
		{"get", "NotAllowedError", "dismissed"},
		{"get", "AbortError", "dismissed"},
		{"get", "SecurityError", "unsupported"},
		{"get", "NotSupportedError", "unsupported"},
		{"get", "UnknownError", "failed"},
		{"create", "NotAllowedError", "dismissed"},
		{"create", "InvalidStateError", "already_registered"},
		{"create", "ConstraintError", "unsupported"},
		{"create", "NotSupportedError", "unsupported"},
		{"create", "EncodingError", "failed"},
	} {
		p.run(fmt.Sprintf("instead.%s = rejects(%q, 'The browser says so.')", one.method, one.name))
		act := map[string]string{"get": "signIn()", "create": "register()"}[one.method]
		got := p.try(act)
		got.wantCode(t, one.want, 0)
		if got.Detail != "The browser says so." {
			t.Errorf("%s: detail %q", one.name, got.Detail)
		}
	}
	p.run("instead = {get: () => Promise.resolve(null), create: () => Promise.reject()}")
	p.try("signIn()").wantCode(t, "failed", 0)
	p.try("register()").wantCode(t, "failed", 0)
	if a.body("POST sign-in/finish")+a.body("POST register/finish") != "" {
		t.Error("finish after an error")
	}
	p.run("instead = {}")

	p.try("signIn()").wantCode(t, "dismissed", 0) // there is none yet
	p.try("register()").wantVerified(t)
	a.say("POST register/begin", answer{200, a.creation(fmt.Sprintf(`,"excludeCredentials":[{"type":"public-key","id":%q}]`, a.registered()[0]))})
	p.try("register()").wantCode(t, "already_registered", 0)
	a.say("POST sign-in/begin", answer{200, a.request(fmt.Sprintf(`,"allowCredentials":[{"type":"public-key","id":%q}]`, a.registered()[0]))})
	p.try("signIn()").wantVerified(t)
	a.say("POST sign-in/begin", answer{200, a.request(`,"allowCredentials":[{"type":"public-key","id":"AQID"}]`)})
	p.try("signIn()").wantCode(t, "dismissed", 0)
	a.say("POST sign-in/begin", answer{200, strings.Replace(a.request(""), "localhost", "example.com", 1)})
	p.try("signIn()").wantCode(t, "unsupported", 0)
	a.say("POST sign-in/begin", answer{200, "{}"}, answer{200, `{"publicKey":{"challenge":"!"}}`})
	p.try("signIn()").wantCode(t, "failed", 0)
	p.try("signIn()").wantCode(t, "failed", 0)
	call(p, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: p.authenticator, IsUserVerified: false})
	p.try("signIn()").wantCode(t, "dismissed", 0)
}

// Without WebAuthn nothing is asked of the server, and the list still works.
func TestUnsupported(t *testing.T) {
	a, p := ready(t, "delete self.PublicKeyCredential")
	p.try("register()").wantCode(t, "unsupported", 0)
	p.try("signIn()").wantCode(t, "unsupported", 0)
	a.wantCalls()
	if got := p.try("list()"); got.JSON != "["+credential+"]" {
		t.Errorf("list: %+v", got)
	}
	a.say("DELETE credentials/AQID", answer{200, `{"signals":[["signalUnknownCredential",{"rpId":"localhost","credentialId":"AQID"}]]}`})
	if got := p.try("delete('AQID')"); got.JSON != "undefined" {
		t.Errorf("delete: %+v", got)
	}
	for _, shape := range []string{"delete PublicKeyCredential.isConditionalMediationAvailable", "PublicKeyCredential.isConditionalMediationAvailable = async () => false"} {
		a, p = ready(t, shape)
		p.try("signIn({conditional: true})").wantCode(t, "unsupported", 0)
		a.wantCalls()
		p.try("register()").wantVerified(t)
	}
}

// Password managers wrap what the browser returns, and browsers lack helpers.
func TestBroken(t *testing.T) {
	for name, before := range map[string]string{
		"toJSON throws":      "PublicKeyCredential.prototype.toJSON = () => { throw new TypeError('Illegal invocation') }",
		"no parsers":         "delete PublicKeyCredential.parseCreationOptionsFromJSON; delete PublicKeyCredential.parseRequestOptionsFromJSON",
		"no capabilities":    "delete PublicKeyCredential.getClientCapabilities",
		"no AbortSignal.any": "delete AbortSignal.any",
		"no signals":         "for (const name of ['signalUnknownCredential', 'signalAllAcceptedCredentials', 'signalCurrentUserDetails']) delete PublicKeyCredential[name]",
		"signals hang":       "PublicKeyCredential.signalUnknownCredential = () => new Promise(() => {})",
		"signals throw":      "PublicKeyCredential.signalUnknownCredential = () => { throw new TypeError('no') }",
		"signals fail":       "PublicKeyCredential.signalUnknownCredential = () => Promise.reject(new TypeError('no'))",
	} {
		t.Run(name, func(t *testing.T) {
			a, p := ready(t, before)
			p.try("register()").wantVerified(t)
			p.try("signIn()").wantVerified(t)
			a.say("POST sign-in/finish", problem(401, "unknown_passkey"))
			p.try("signIn()").wantCode(t, "no_passkey", 401)
		})
	}
	// A wrapped credential without methods still has its bytes.
	t.Run("plain object", func(t *testing.T) {
		a, p := ready(t)
		p.run(`instead.create = async (options, native) => {
			const { rawId, type, response: { clientDataJSON, attestationObject } } = await native(options)
			return { id: 'wrong', rawId, type, response: { clientDataJSON, attestationObject } }
		}`)
		a.say("POST register/finish", answer{200, verified})
		p.try("register()").wantVerified(t)
		if _, err := protocol.ParseCredentialCreationResponseBytes([]byte(a.body("POST register/finish"))); err != nil {
			t.Error(err)
		}
	})
}

func TestSignals(t *testing.T) {
	a, p := ready(t)
	p.try("register()").wantVerified(t)
	p.wantPasskeys(1)
	user := base64.RawURLEncoding.EncodeToString([]byte(handle))

	// A signal that this browser does not have is passed over.
	a.say("PATCH credentials/AQID", answer{200, strings.TrimSuffix(credential, "}") + fmt.Sprintf(
		`,"signals":[["signalOfTomorrow",{}],["signalCurrentUserDetails",{"rpId":"localhost","userId":%q,"name":"new-name-1","displayName":"new-name-1"}]]}`, user)})
	if got := p.try("rename('AQID', 'x')"); got.JSON != credential {
		t.Errorf("rename: %+v", got)
	}
	eventually(t, "the authenticator's label", func() bool { return p.passkeys()[0].UserName == "new-name-1" })

	// The server's no to one account's passkey leaves the others.
	for _, code := range []string{"refused", "expired", "not_found"} {
		a.say("POST sign-in/finish", problem(401, code))
		p.try("signIn()")
	}
	p.try("signIn()").wantVerified(t)
	p.wantPasskeys(1)

	a.say("POST sign-in/finish", problem(401, "unknown_passkey"))
	p.try("signIn()").wantCode(t, "no_passkey", 401)
	p.wantPasskeys(0)

	p.try("register()").wantVerified(t)
	p.wantPasskeys(1)
	a.say("DELETE credentials/AQID", answer{200, fmt.Sprintf(
		`{"signals":[["signalAllAcceptedCredentials",{"rpId":"localhost","userId":%q,"allAcceptedCredentialIds":[]}]]}`, user)})
	if got := p.try("delete('AQID')"); got.JSON != "undefined" {
		t.Errorf("delete: %+v", got)
	}
	p.wantPasskeys(0)

	// A registration that came too late leaves no passkey, when the server says so.
	a.say("POST register/finish", answer{409, `{"type":"urn:bio:expired","detail":"Late.","signals":[["signalAllAcceptedCredentials",` +
		fmt.Sprintf(`{"rpId":"localhost","userId":%q,"allAcceptedCredentialIds":[]}`, user) + `]]}`})
	p.try("register()").wantCode(t, "expired", 409)
	p.wantPasskeys(0)
}

// Before the person has done anything a stale begin is made once more; after
// that, never.
func TestExpired(t *testing.T) {
	a, p := ready(t)
	p.try("register()").wantVerified(t)
	a.wantCalls("POST register/begin", "POST register/finish")
	p.wantCeremonies("create")

	a.say("POST sign-in/begin", problem(409, "expired"))
	p.try("signIn()").wantVerified(t)
	a.wantCalls("POST sign-in/begin", "POST sign-in/begin", "POST sign-in/finish")
	p.wantCeremonies("get")

	a.say("POST sign-in/begin", problem(409, "expired"), problem(409, "expired"))
	p.try("signIn()").wantCode(t, "expired", 409)
	a.wantCalls("POST sign-in/begin", "POST sign-in/begin")
	p.wantCeremonies()

	a.say("POST sign-in/begin", problem(429, "too_many"))
	p.try("signIn()").wantCode(t, "too_many", 429)
	a.wantCalls("POST sign-in/begin")

	a.say("POST sign-in/finish", problem(409, "expired"))
	p.try("signIn()").wantCode(t, "expired", 409)
	a.wantCalls("POST sign-in/begin", "POST sign-in/finish")
	p.wantCeremonies("get")
}

func TestConditional(t *testing.T) {
	a, p := ready(t)
	p.try("register()").wantVerified(t)
	p.wantCeremonies("create")
	p.try("signIn({conditional: true})").wantVerified(t)
	p.wantCeremonies("conditional")

	// The next ceremony ends the one that waits, without an error of its own.
	p.presence(false)
	p.start("waiting", "signIn({conditional: true})")
	p.run("self.settled = false; waiting.then(() => { settled = true })")
	eventually(t, "the autofill waits", func() bool { return await[int](p, "ceremonies.length") == 1 })
	if await[bool](p, "settled") {
		t.Fatal("the autofill does not wait")
	}
	p.try("list()")
	if await[bool](p, "settled") {
		t.Error("list ends the autofill")
	}
	a.hold()
	p.start("next", "signIn()")
	p.outcomeOf("waiting").wantCode(t, "dismissed", 0)
	p.presence(true)
	a.release()
	p.outcomeOf("next").wantVerified(t)
	p.wantCeremonies("conditional", "get")

	p.presence(false)
	p.start("waiting", "signIn({conditional: true})")
	eventually(t, "the autofill waits", func() bool { return await[int](p, "ceremonies.length") == 1 })
	a.hold()
	p.start("next", "register()")
	p.outcomeOf("waiting").wantCode(t, "dismissed", 0)
	p.presence(true)
	a.release()
	p.outcomeOf("next").wantVerified(t)
	if n := len(a.registered()); n != 2 {
		t.Errorf("%d registrations", n)
	}
}

func TestAbort(t *testing.T) {
	a, p := ready(t)
	p.try("register()").wantVerified(t)
	a.wantCalls("POST register/begin", "POST register/finish")
	p.wantCeremonies("create")

	p.try("signIn({signal: AbortSignal.abort()})").wantCode(t, "dismissed", 0)
	a.wantCalls()
	p.wantCeremonies()

	p.presence(false)
	for _, options := range []string{"conditional: true, ", ""} {
		for _, reason := range []string{"", "'a reason of the page'", "null", "new TypeError('x')"} {
			p.run("self.controller = new AbortController()")
			p.start("waiting", "signIn({"+options+"signal: controller.signal})")
			eventually(t, "the ceremony", func() bool { return await[int](p, "ceremonies.length") == 1 })
			p.run("controller.abort(" + reason + ")")
			p.outcomeOf("waiting").wantCode(t, "dismissed", 0)
			p.run("ceremonies.length = 0")
		}
	}
	p.presence(true)
	p.try("signIn()").wantVerified(t)
	p.wantCeremonies("get")

	// While begin is on its way there is nothing to dismiss yet.
	begun := slices.Repeat([]string{"POST sign-in/begin"}, 9)
	a.wantCalls(append(begun, "POST sign-in/finish")...)
	a.hold()
	p.start("early", "signIn({conditional: true})")
	a.untilCalled("POST sign-in/begin")
	p.start("later", "signIn()")
	p.outcomeOf("early").wantCode(t, "dismissed", 0)
	a.release()
	p.outcomeOf("later").wantVerified(t)
	p.wantCeremonies("get")
}

// A page of another origin uses the module where Bio serves it: the calls go to
// Bio, with its cookies.
func TestCrossOrigin(t *testing.T) {
	a := serveAPI(t)
	app := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, pageText)
	}))
	a.allow(app)
	for _, module := range []string{"/assets/bio.js", assets.Path("bio.js")} {
		p := open(t, app+"/", a.url+module)
		p.try("register()").wantVerified(t)
		p.try("signIn()").wantVerified(t)
		if got := p.try("list()"); got.JSON != "["+credential+"]" {
			t.Errorf("list: %+v", got)
		}
		p.try("rename('AQID', 'x')")
		if got := p.try("delete('AQID')"); got.JSON != "undefined" {
			t.Errorf("delete: %+v", got)
		}
		a.wantCalls("POST register/begin", "POST register/finish", "POST sign-in/begin", "POST sign-in/finish",
			"GET credentials", "PATCH credentials/AQID", "DELETE credentials/AQID")
	}

	// Of an origin that Bio does not allow, the browser keeps the answers.
	p := open(t, app+"/", a.url+"/assets/bio.js")
	a.allow("")
	p.try("list()").wantCode(t, "unavailable", 0)
	p.try("signIn()").wantCode(t, "unavailable", 0)
	p.wantCeremonies()
}

// TestCodes compares the codes of the types with those that the tests above
// bring about.
func TestCodes(t *testing.T) {
	types, err := os.ReadFile("bio.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	var declared, documented []string
	for _, match := range regexp.MustCompile(`(?m)^  \| '(\w+)'$`).FindAllSubmatch(types, -1) {
		declared = append(declared, string(match[1]))
	}
	for _, match := range regexp.MustCompile("(?m)^ \\* - `(\\w+)`:").FindAllSubmatch(types, -1) {
		documented = append(documented, string(match[1]))
	}
	if len(declared) != 16 || !slices.Equal(declared, documented) {
		t.Errorf("declared %q, documented %q", declared, documented)
	}
	brought := []string{"dismissed", "unsupported"} // by the browser
	for _, one := range problems {
		brought = append(brought, one.want)
	}
	for _, code := range declared {
		if !slices.Contains(brought, code) {
			t.Errorf("no test brings about %s", code)
		}
	}
	for _, code := range brought {
		if !slices.Contains(declared, code) {
			t.Errorf("%s is not in the types", code)
		}
	}
}
