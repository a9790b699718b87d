package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
	"bio/assets"
)

// headers are on every answer.
func headers(secure bool) map[string]string {
	h := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
			"connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "no-referrer",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	}
	if secure {
		h["Strict-Transport-Security"] = "max-age=31536000"
	}
	return h
}

func checkHeaders(t *testing.T, name string, p *page, secure bool) {
	t.Helper()
	for header, want := range headers(secure) {
		if got := p.header.Values(header); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s is %q, want %q", name, header, got, want)
		}
	}
	policy := p.header.Get("Permissions-Policy")
	if !strings.HasPrefix(policy, "publickey-credentials-get=(self), publickey-credentials-create=(self), ") {
		t.Errorf("%s: Permissions-Policy %q", name, policy)
	}
	for _, part := range strings.Split(policy, ", ")[2:] {
		if !strings.HasSuffix(part, "=()") {
			t.Errorf("%s: Permissions-Policy allows %q", name, part)
		}
	}
	if !secure && p.header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%s: HSTS without https", name)
	}
	if len(p.header.Get("X-Request-Id")) < 16 {
		t.Errorf("%s: request id %q", name, p.header.Get("X-Request-Id"))
	}
	if p.header.Get("Server") != "" || p.header.Get("X-Powered-By") != "" {
		t.Errorf("%s: says what it runs on", name)
	}
}

func TestHeaders(t *testing.T) {
	for _, address := range []string{local, public} {
		t.Run(address, func(t *testing.T) {
			secure := strings.HasPrefix(address, "https")
			s := newSite(t, "BIO_URL="+address, "BIO_REGISTRATION=open")
			b := s.browser()
			answers := map[string]*page{
				"GET /": b.get("/"), "GET /?return_to=/x": b.get("/?return_to=/x"), "GET /?invite=x": b.get("/?invite=x"),
				"GET /ceremony": b.get("/ceremony"), "GET /ceremony?for=undo": b.get("/ceremony?for=undo"),
				"GET /healthz": b.get("/healthz"), "GET /readyz": b.get("/readyz"), "GET /nowhere": b.get("/nowhere"),
				"GET /sign-out": b.get("/sign-out"), "POST /run": b.post("/run", nil), "POST / empty": b.post("/", nil),
				"POST / malformed": b.post("/", url.Values{"credential": {"{"}}), "POST / large": b.post("/", url.Values{"credential": {strings.Repeat("x", 70_000)}}),
				"PUT /": b.send(b.request(http.MethodPut, "/", nil)), "OPTIONS /": b.send(b.request(http.MethodOptions, "/", nil)),
				"GET /assets/nothing": b.get("/assets/nothing"),
				"POST register/begin": b.call("POST", registerBegin, "{}"), "POST register/finish": b.call("POST", registerFinish, "{}"),
				"POST sign-in/begin": b.call("POST", signInBegin, "{}"), "POST sign-in/finish": b.call("POST", signInFinish, "{}"),
				"GET credentials": b.call("GET", credentials, ""), "PATCH credential": b.call("PATCH", credentials+"/x", "{}"),
				"DELETE credential": b.call("DELETE", credentials+"/x", ""), "GET /auth/session": b.call("GET", "/auth/session", ""),
				"POST /auth/sign-out": b.call("POST", "/auth/sign-out", ""), "GET /auth/nowhere": b.call("GET", "/auth/nowhere", ""),
				"PUT /auth/session": b.call("PUT", "/auth/session", "{}"), "OPTIONS /auth/session": b.call("OPTIONS", "/auth/session", ""),
				"GET passkey-endpoints": b.get("/.well-known/passkey-endpoints"), "GET change-password": b.get("/.well-known/change-password"),
				"GET /account": b.get("/account"), "POST /account": b.post("/account", nil),
				"GET /audit/checkpoint": b.get("/audit/checkpoint"), "GET /audit/key": b.get("/audit/key"),
				"GET /audit/tile/x": b.get("/audit/tile/x"), "GET /audit/tile/0/999": b.get("/audit/tile/0/999"),
				"GET /audit/proof": b.get("/audit/proof"), "GET /audit/proof?index=0": b.get("/audit/proof?index=0"),
				"GET /audit/1/checkpoint": b.get("/audit/1/checkpoint"), "GET /audit/1/tile/0/000.p/1": b.get("/audit/1/tile/0/000.p/1"),
				"GET /audit/2/key": b.get("/audit/2/key"), "GET /audit/2/proof?index=0&size=1": b.get("/audit/2/proof?index=0&size=1"),
				"GET /audit/proof?index=999&size=1000": b.get("/audit/proof?index=999&size=1000"), "PUT /audit/key": b.send(b.request(http.MethodPut, "/audit/key", nil)),
			}
			cross := b.clone()
			cross.header.Set("Sec-Fetch-Site", "cross-site")
			answers["POST / cross-site"] = cross.post("/", nil)
			answers["GET /auth/session cross-site"] = cross.call("GET", "/auth/session", "")
			late := b.get("/").auth
			s.clock.Advance(time.Hour)
			answers["POST / late"] = b.press(late, s.device().create(late.options))
			_, answers["POST / registered"] = b.register()
			answers["GET / signed in"] = b.get("/")
			answers["GET / going on"] = b.get("/?return_to=/x")
			answers["GET /account signed in"] = b.get("/account")
			answers["POST /run signed in"] = b.post("/run", nil)
			d := s.device()
			answers["POST register/finish signed in"] = b.call("POST", registerFinish, d.create(b.begin(registerBegin, "{}").options))
			answers["POST sign-in/finish signed in"] = b.call("POST", signInFinish, d.get(b.begin(signInBegin, "{}").options))
			answers["GET credentials signed in"] = b.call("GET", credentials, "")
			answers["PATCH credential signed in"] = b.call("PATCH", passkeyAt(d), `{"name":"x"}`)
			answers["GET /auth/session signed in"] = b.call("GET", "/auth/session", "")
			answers["DELETE credential signed in"] = b.call("DELETE", passkeyAt(d), "")
			answers["POST /sign-out"] = b.post("/sign-out", nil)
			for name, p := range answers {
				checkHeaders(t, name, p, secure)
				if got := p.header.Get("Cache-Control"); !strings.HasPrefix(got, "no-store") && name != "GET /assets/nothing" {
					t.Errorf("%s: Cache-Control %q", name, got)
				}
				if strings.HasPrefix(p.header.Get("Content-Type"), "text/html") && !strings.HasSuffix(p.header.Get("Content-Type"), "UTF-8") {
					t.Errorf("%s: Content-Type %q", name, p.header.Get("Content-Type"))
				}
				if inline := regexp.MustCompile(`(?i)<[^>]+\s(on[a-z]+|style)=|<style|<script(>| [^s])|javascript:`).FindString(p.body); inline != "" {
					t.Errorf("%s: %q in the page", name, inline)
				}
			}
			for _, name := range []string{assets.Path("auth.js"), assets.Path("style.css"), "/audit/tile/0/000.p/1", "/audit/proof?index=0&size=1", "/audit/proof?from=1&size=1"} {
				p := b.get(name)
				checkHeaders(t, name, p, secure)
				if got := p.header.Values("Cache-Control"); p.status != http.StatusOK || len(got) != 1 || !strings.Contains(got[0], "immutable") {
					t.Errorf("%s: %d, Cache-Control %q", name, p.status, got)
				}
			}
			// A break turns the addresses without a number to another log.
			if _, err := s.db.Record(t.Context(), audit.Entry{Kind: audit.TrailReopened}); err != nil {
				t.Fatal(err)
			}
			b = environment{like: s, settings: []string{"BIO_URL=" + address}}.site(t).browser() // started again
			for name, want := range map[string]string{
				"/audit/tile/0/000.p/1": "no-store", "/audit/proof?index=0&size=1": "no-store", "/audit/2/checkpoint": "no-store", "/audit/2/key": "no-store",
				"/audit/2/tile/0/000.p/1": "immutable", "/audit/2/proof?index=0&size=1": "immutable", "/audit/2/proof?from=1&size=1": "immutable", "/audit/2/proof?index=0": "no-store",
			} {
				p := b.get(name)
				checkHeaders(t, name, p, secure)
				if got := p.header.Values("Cache-Control"); p.status != http.StatusOK || len(got) != 1 || !strings.Contains(got[0], want) {
					t.Errorf("%s: %d, Cache-Control %q, want %s", name, p.status, got, want)
				}
			}
		})
	}
}

// What another site's page sends is refused, before anything else is looked at.
func TestCrossSite(t *testing.T) {
	s := newSite(t, "BIO_URL="+public)
	b := s.browser()
	d, registered := b.register()
	before := s.rows()
	for _, target := range []string{"/", "/sign-out", "/run"} {
		for name, header := range map[string]map[string]string{
			"cross-site":             {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
			"same-site":              {"Sec-Fetch-Site": "same-site", "Origin": "https://www.example.com"},
			"without Origin":         {"Sec-Fetch-Site": "cross-site"},
			"Origin null":            {"Origin": "null"},
			"Origin of another site": {"Origin": "https://evil.example"},
			"Origin of a sibling":    {"Origin": "https://www.bio.example.com"},
			"Origin of another port": {"Origin": "https://bio.example.com:8443"},
			"null, cross-site":       {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
			"an invented site":       {"Sec-Fetch-Site": "invented"},
		} {
			c := b.clone()
			for k, v := range header {
				c.header.Set(k, v)
			}
			p := c.post(target, url.Values{"credential": {"{}"}})
			if p.status != http.StatusForbidden || p.account != "" || p.auth != nil {
				t.Errorf("%s, %s: %d", target, name, p.status)
			}
		}
	}
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	b.checkSignedIn(registered.account)
	for name, header := range map[string]map[string]string{
		"same-origin": {"Sec-Fetch-Site": "same-origin", "Origin": public}, "typed": {"Sec-Fetch-Site": "none"},
		"our Origin, no Sec-Fetch": {"Origin": public}, "a program": {},
	} {
		c := b.signedOut()
		f := c.get("/").auth
		for k, v := range header {
			c.header.Set(k, v)
		}
		if p := c.press(f, d.get(f.options)); p.status != http.StatusOK {
			t.Errorf("%s: %d", name, p.status)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/nowhere", 404}, {"POST", "/nowhere", 404}, {"GET", "/index.html", 404}, {"GET", "//", 404}, {"GET", "/./", 404},
		{"GET", "//evil.example", 404}, {"GET", "/%09/evil.example", 404}, {"GET", "/ceremony/", 404}, {"GET", "/.env", 404},
		{"GET", "/assets/", 404}, {"GET", "/assets/../server.go", 404}, {"GET", "/assets/%2e%2e/x", 404},
		{"PUT", "/", 405}, {"DELETE", "/", 405}, {"TRACE", "/", 405}, {"POST", "/ceremony", 405},
		{"POST", "/healthz", 405}, {"POST", assets.Path("auth.js"), 405},
		{"POST", "/audit/checkpoint", 405}, {"HEAD", "/audit/checkpoint", 405}, {"POST", "/audit/key", 405}, {"HEAD", "/audit/key", 405},
		{"PUT", "/audit/tile/0/000", 405}, {"HEAD", "/audit/tile/0/000", 405}, {"DELETE", "/audit/proof", 405}, {"HEAD", "/audit/proof", 405},
		{"POST", "/account", 405}, {"DELETE", "/account", 405},
		{"GET", "/audit", 404}, {"GET", "/audit/", 404}, {"GET", "/audit/tile", 404}, {"GET", "/audit/checkpoint/", 404}, {"GET", "/audit/secret", 404},
		{"GET", "/account/", 404}, {"GET", "/account/passkeys", 404},
	} {
		p := b.send(b.request(tt.method, tt.target, nil))
		if p.status != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.target, p.status, tt.status)
		}
		if p.header.Get("Location") != "" {
			t.Errorf("%s %s leads to %s", tt.method, tt.target, p.header.Get("Location"))
		}
		if tt.status == 405 && p.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tt.method, tt.target)
		}
		if p.header.Get("Content-Type") == "text/html; charset=UTF-8" && !strings.Contains(p.body, p.header.Get("X-Request-Id")) {
			t.Errorf("%s %s: the page does not name the request", tt.method, tt.target)
		}
	}
	if got := s.rows(); got["trail"] != 0 {
		t.Errorf("rows %v", got)
	}
}

// A visitor who only looks writes nothing, a crawler neither.
func TestGetWritesNothing(t *testing.T) {
	s := newSite(t)
	out, in := s.browser(), s.browser()
	in.register()
	invite := s.invite(time.Time{}, "ops")
	in.get("/audit/checkpoint") // what has happened is published by now
	var before, after int
	const version = "PRAGMA data_version" // changes with what others commit
	s.raw.SetMaxOpenConns(1)
	rows := s.rows()
	if err := s.raw.QueryRow(version).Scan(&before); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*browser{out, in} {
		for range 100 {
			for _, target := range []string{
				"/", "/?return_to=/x", "/?invite=" + invite, "/?invite=x", "/ceremony", "/ceremony?for=undo",
				"/healthz", "/readyz", "/nowhere", "/sign-out", "/run", "/account", "/account?before=1",
				"/auth/session", credentials, "/auth/nowhere", "/.well-known/passkey-endpoints", "/.well-known/change-password",
				"/audit/checkpoint", "/audit/key", "/audit/tile/0/000.p/1", "/audit/proof?index=0", assets.Path("auth.js"), assets.Path("style.css"),
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					b.send(b.request(method, target, nil))
				}
			}
			b.begin(registerBegin, `{"name":"Laptop"}`) // nor does one who only begins
			b.begin(signInBegin, "{}")
		}
	}
	if err := s.raw.QueryRow(version).Scan(&after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, s.rows()); diff != "" || before != after {
		t.Errorf("the database was written to: %d changes, rows (-want +got):\n%s", after-before, diff)
	}
}

func TestCeremony(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	p := b.get("/ceremony")
	if p.status != http.StatusOK || !strings.HasPrefix(p.header.Get("Content-Type"), "application/json") || p.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %q %q", p.status, p.header.Get("Content-Type"), p.header.Get("Cache-Control"))
	}
	var o options
	if err := json.Unmarshal([]byte(p.body), &o); err != nil {
		t.Fatal(err)
	}
	page := b.get("/").auth.options
	if o.Get.Challenge == page.Get.Challenge || o.Get.RPID != page.Get.RPID || o.TTL != page.TTL || o.TTL != 300_000 {
		t.Errorf("options %+v, the page's %+v", o, page)
	}
	d := s.device()
	if p := b.press(b.get("/").auth, d.create(o)); p.account != o.Create.User.Name {
		t.Errorf("pressed with them: %d as %q", p.status, p.account)
	}
	c := b.signedOut()
	p = c.get("/ceremony?for=undo")
	checkProblem(t, p, http.StatusUnauthorized)
	if p := b.get("/ceremony?for=undo"); p.status != http.StatusOK {
		t.Errorf("undo, signed in: %d", p.status)
	}
}

// checkProblem fails unless the page is a problem document (RFC 9457).
func checkProblem(t *testing.T, p *page, status int) {
	t.Helper()
	var problem struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	err := json.Unmarshal([]byte(p.body), &problem)
	if err != nil || p.status != status || problem.Status != status || problem.Title == "" || problem.Detail == "" ||
		!slices.Contains(server.Codes(), problem.Code) || problem.Type != "urn:bio:"+problem.Code ||
		p.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %q, want the problem %d: %s %v", p.status, p.header.Get("Content-Type"), status, p.body, err)
	}
}

func TestProblems(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.header.Set("Accept", "application/json")
	checkProblem(t, b.get("/nowhere"), 404)
	checkProblem(t, b.post("/ceremony", nil), 405)
	checkProblem(t, b.post("/run", nil), 401)
	checkProblem(t, b.post("/", nil), 400)
	cross := b.clone()
	cross.header.Set("Sec-Fetch-Site", "cross-site")
	checkProblem(t, cross.post("/", nil), 403)
	checkCode(t, "a page that is not there", b.get("/nowhere"), 404, "not_found")
	checkCode(t, "no credential", b.post("/", nil), 400, "malformed")
	checkCode(t, "another site's", cross.post("/", nil), 403, "cross_site")
	d := s.device()
	late := b.ceremony("/ceremony")
	s.clock.Advance(time.Hour)
	p := b.post("/", url.Values{"credential": {d.create(late)}})
	checkCode(t, "late", p, 409, "expired")
	checkSignals(t, p, d)
}

// Refusals count, in whatever form they are answered.
func TestRefusalsCountAsJSON(t *testing.T) {
	s := newSite(t, "BIO_REFUSAL_LIMIT=3/m")
	b := s.browser()
	b.header.Set("Accept", "application/json")
	for range 3 {
		checkProblem(t, b.post("/", url.Values{"credential": {"{"}}), 400)
	}
	checkProblem(t, b.post("/", url.Values{"credential": {"{"}}), 429)
}

func retryAfter(t *testing.T, p *page) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(p.header.Get("Retry-After"))
	if err != nil || n < 1 {
		t.Errorf("Retry-After %q", p.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

func TestRateLimit(t *testing.T) {
	s := newSite(t, "BIO_RATE_LIMIT=1/s,5")
	b := s.browser()
	for range 5 {
		if p := b.get("/ceremony"); p.status != http.StatusOK {
			t.Fatalf("within the burst: %d", p.status)
		}
	}
	p := b.get("/ceremony")
	checkProblem(t, p, http.StatusTooManyRequests)
	if wait := retryAfter(t, p); wait != time.Second {
		t.Errorf("wait %s", wait)
	}
	rows := s.rows()
	p = b.post("/", nil)
	if p.status != http.StatusTooManyRequests || p.auth == nil || !strings.HasPrefix(p.notice, "Too many attempts from your network. Try again in") {
		t.Errorf("POST /: %d %q", p.status, p.notice)
	}
	retryAfter(t, p)
	if diff := cmp.Diff(rows, s.rows()); diff != "" {
		t.Errorf("a limited press wrote (-want +got):\n%s", diff)
	}
	for target, want := range map[string]int{"/": 200, "/healthz": 200, "/readyz": 200, "/nowhere": 404} {
		if p := b.get(target); p.status != want {
			t.Errorf("%s is limited: %d", target, p.status)
		}
	}
	if p := b.post("/run", nil); p.status != http.StatusTooManyRequests {
		t.Errorf("/run: %d", p.status)
	}
	s.clock.Advance(time.Second)
	if p := b.get("/ceremony"); p.status != http.StatusOK {
		t.Errorf("after a second: %d", p.status)
	}
	if p := b.get("/ceremony"); p.status != http.StatusTooManyRequests {
		t.Errorf("and once more: %d", p.status)
	}
}

// Who is one client.
func TestRateLimitClients(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		proxies             string
		forwarded           string
		same                bool
	}{
		{name: "one address, two ports", first: "203.0.113.1:1", second: "203.0.113.1:2", same: true},
		{name: "two addresses", first: "203.0.113.1:1", second: "203.0.113.2:1"},
		{name: "one /64", first: "[2001:db8:1:2::1]:1", second: "[2001:db8:1:2:ffff::2]:1", same: true},
		{name: "two /64", first: "[2001:db8:1:2::1]:1", second: "[2001:db8:1:3::1]:1"},
		{name: "IPv4 in IPv6", first: "203.0.113.1:1", second: "[::ffff:203.0.113.1]:1", same: true},
		{name: "a stranger's X-Forwarded-For", first: "203.0.113.1:1", second: "203.0.113.1:1", forwarded: "198.51.100.7", same: true},
		{name: "a stranger's, with proxies elsewhere", first: "203.0.113.1:1", second: "203.0.113.1:1", forwarded: "198.51.100.7",
			proxies: "10.0.0.0/8", same: true},
		{name: "a proxy's", first: "10.0.0.1:1", second: "10.0.0.1:1", forwarded: "198.51.100.7", proxies: "10.0.0.0/8"},
		{name: "a client's before the proxy's", first: "203.0.113.1:1", second: "10.0.0.1:1", forwarded: "198.51.100.7, 203.0.113.1",
			proxies: "10.0.0.0/8", same: true},
		{name: "through two proxies", first: "203.0.113.1:1", second: "10.0.0.1:1", forwarded: "198.51.100.7, 203.0.113.1, 10.9.9.9",
			proxies: "10.0.0.0/8", same: true},
		{name: "a proxy that says nonsense", first: "10.0.0.1:1", second: "10.0.0.1:1", forwarded: "a", proxies: "10.0.0.0/8", same: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := []string{"BIO_RATE_LIMIT=1/m,1"}
			if tt.proxies != "" {
				settings = append(settings, "BIO_TRUSTED_PROXIES="+tt.proxies)
			}
			s := newSite(t, settings...)
			first, second := s.browser(), s.browser()
			first.addr, second.addr = tt.first, tt.second
			if tt.forwarded != "" {
				second.header.Set("X-Forwarded-For", tt.forwarded)
				second.header.Set("X-Real-Ip", "198.51.100.8")
				second.header.Set("Forwarded", "for=198.51.100.9")
			}
			if p := first.get("/ceremony"); p.status != http.StatusOK {
				t.Fatal(p.status)
			}
			if p := second.get("/ceremony"); (p.status == http.StatusTooManyRequests) != tt.same {
				t.Errorf("%d, want one client: %t", p.status, tt.same)
			}
		})
	}
}

func TestRefusalLimit(t *testing.T) {
	s := newSite(t, "BIO_REFUSAL_LIMIT=60/m,3")
	b := s.browser()
	d, _ := b.register()
	b = b.signedOut()
	for range 3 {
		if p := b.post("/", url.Values{"credential": {"{"}}); p.status != http.StatusBadRequest {
			t.Fatal(p.status)
		}
	}
	f := s.browser().get("/").auth
	p := b.press(f, d.get(f.options))
	if p.status != http.StatusTooManyRequests || retryAfter(t, p) != time.Second {
		t.Errorf("after three refusals: %d", p.status)
	}
	other := s.browser()
	other.addr = "198.51.100.7:1"
	for range 20 { // what succeeds does not count
		if p := other.signInAnew(d); p.status != http.StatusOK {
			t.Fatalf("someone else: %d", p.status)
		}
	}
	s.clock.Advance(time.Second)
	if p := b.signIn(d); p.status != http.StatusOK {
		t.Errorf("after a second: %d", p.status)
	}
}

// The trail keeps where from, cut; a proxy's word counts, a stranger's does not.
func TestNetworks(t *testing.T) {
	for _, tt := range []struct{ addr, proxies, forwarded, want string }{
		{"203.0.113.77:1", "", "", "203.0.113.0/24"},
		{"[2001:db8:1:2::3]:1", "", "", "2001:db8:1::/48"},
		{"203.0.113.77:1", "", "198.51.100.7", "203.0.113.0/24"},
		{"10.0.0.1:1", "10.0.0.0/8", "198.51.100.7", "198.51.100.0/24"},
		{"10.0.0.1:1", "10.0.0.0/8", "2001:db8:1:2::3", "2001:db8:1::/48"},
	} {
		var settings []string
		if tt.proxies != "" {
			settings = append(settings, "BIO_TRUSTED_PROXIES="+tt.proxies)
		}
		s := newSite(t, settings...)
		b := s.browser()
		b.addr = tt.addr
		if tt.forwarded != "" {
			b.header.Set("X-Forwarded-For", tt.forwarded)
		}
		b.register()
		var kept audit.Client
		if err := s.raw.QueryRow("SELECT network, browser, system FROM sessions").Scan(&kept.Network, &kept.Browser, &kept.System); err != nil {
			t.Fatal(err)
		}
		want := audit.Client{Network: tt.want, Browser: "Firefox", System: "Linux"}
		if recorded := s.trail()[0].Client; recorded != want || kept != want {
			t.Errorf("%s through %q: the trail has %+v, the session %+v", tt.addr, tt.forwarded, recorded, kept)
		}
	}
}

func TestRequestID(t *testing.T) {
	s := newSite(t, "BIO_TRUSTED_PROXIES=10.0.0.0/8")
	b := s.browser()
	seen := map[string]bool{}
	for range 50 {
		id := b.get("/healthz").header.Get("X-Request-Id")
		if seen[id] || id == "" {
			t.Fatalf("request id %q", id)
		}
		seen[id] = true
	}
	for _, tt := range []struct {
		addr, given string
		kept        bool
	}{
		{"203.0.113.1:1", "from-a-stranger", false}, {"10.0.0.1:1", "from-the-proxy", true},
		{"10.0.0.1:1", strings.Repeat("a", 64), true}, {"10.0.0.1:1", strings.Repeat("a", 65), false},
		{"10.0.0.1:1", "<script>", false}, {"10.0.0.1:1", "a b", false}, {"10.0.0.1:1", "a\nb", false}, {"[::ffff:10.0.0.1]:1", "mapped", true},
	} {
		c := s.browser()
		c.addr = tt.addr
		c.header["X-Request-Id"] = []string{tt.given}
		p := c.get("/nowhere")
		if got := p.header.Values("X-Request-Id"); len(got) != 1 || (got[0] == tt.given) != tt.kept {
			t.Errorf("%q from %s became %q", tt.given, tt.addr, got)
		}
		if tt.kept && !strings.Contains(s.log.String(), tt.given) {
			t.Errorf("%q is not in the log", tt.given)
		}
	}
}

// The log says what happened, and nothing of who: no cookie, no id of a
// credential, no invitation, no address, no browser.
func TestLog(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.agent = "Mozilla/5.0 (X11; Linux x86_64; secretive) Chrome/156.0.0.0 Safari/537.36"
	invite := s.invite(time.Time{})
	secrets := map[string]string{"address": "203.0.113.77", "port": "50123", "browser": "secretive", "invitation": invite}
	keep := func(what string, b *browser) {
		for name, value := range b.cookies {
			if len(value) > 3 {
				secrets[fmt.Sprintf("%s %s %d", what, name, len(secrets))] = value
				for _, part := range strings.Split(value, ".") {
					secrets[fmt.Sprintf("part of %s %s %d", what, name, len(secrets))] = part
				}
			}
		}
	}
	f := b.get("/?invite=" + invite).auth
	d := s.device()
	made := b.press(f, d.create(f.options))
	keep("registered", b)
	secrets["challenge"], secrets["credential id"] = f.options.Get.Challenge, encode(d.ID)
	secrets["user handle"] = encode(d.handle)
	other := s.browser()
	spare, _ := other.register()
	keep("other", other)
	b.press(made.undo, spare.get(made.undo.options))
	c := b.signedOut()
	for _, press := range []func(o options) string{
		func(o options) string { return "{" },
		func(o options) string { return d.get(o) },
		func(o options) string { return flipped(spare, o, "signature", 80) },
		func(o options) string {
			return spare.get(o, func(f *draft) { f.client["origin"] = "https://evil.example" })
		},
		func(o options) string { return spare.create(o) },
	} {
		f := c.get("/?return_to=/private-path").auth
		c.press(f, press(f.options))
		c.press(f, press(f.options))
		secrets["challenge "+strconv.Itoa(len(secrets))] = f.options.Get.Challenge
	}
	c.cookies["bio"] = "a-spoilt-cookie"
	secrets["spoilt cookie"], secrets["path"], secrets["origin"] = "a-spoilt-cookie", "private-path", "evil.example"
	c.get("/")
	c.get("/nowhere/private-path?token=hidden")
	secrets["query"] = "hidden"
	s.clock.Advance(time.Hour)
	c.press(f, d.get(f.options))
	b.post("/run", nil)
	b.post("/sign-out", nil)
	c.send(c.request("PROPFIND", "/private-path", nil))
	s.db.Close()
	other.get("/")
	c.press(f, d.get(f.options))
	c.get("/?invite=" + invite)
	c.get("/readyz")

	log := s.log.String()
	for name, secret := range secrets {
		if strings.Contains(log, secret) {
			line := log[:strings.Index(log, secret)+len(secret)]
			t.Errorf("%s is in the log: %s", name, line[strings.LastIndex(line, "\n")+1:])
		}
	}
	var lines int
	for scanner := bufio.NewScanner(strings.NewReader(log)); scanner.Scan(); {
		var line struct{ Msg, Request, Network, Route string }
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Msg != "request" {
			continue
		}
		lines++
		if line.Request == "" || line.Network != "203.0.113.0/24" || line.Route == "" {
			t.Errorf("line %s", scanner.Bytes())
		}
	}
	if lines < 30 {
		t.Errorf("%d lines", lines)
	}
	for _, class := range []string{"malformed", "bad signature", "wrong origin", "expired", "replayed"} {
		if class != "replayed" && !strings.Contains(log, `"reason":"`+class+`"`) {
			t.Errorf("no refusal for %q in the log", class)
		}
	}
}

// Without its database the site grants nothing and says so.
func TestDatabaseClosed(t *testing.T) {
	s := newSite(t)
	in := s.browser()
	d, _ := in.register()
	out := s.browser()
	f := out.get("/").auth
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(2 * time.Second) // the session is no longer answered from memory
	for name, p := range map[string]*page{
		"sign-in":      out.press(f, d.get(f.options)),
		"registration": out.press(f, s.device().create(f.options)),
		"with session": in.get("/"),
		"sign-out":     in.post("/sign-out", nil),
		"invitation":   out.get("/?invite=" + encode(make([]byte, 18))),
		"account":      in.get("/account"),
		"checkpoint":   out.get("/audit/checkpoint"),
		"tile":         out.get("/audit/tile/0/000.p/1"),
		"proof":        out.get("/audit/proof?index=0"),
	} {
		if p.status != http.StatusServiceUnavailable || p.account != "" || len(p.setCookies) > 0 && p.setCookies[0].Name == "bio" {
			t.Errorf("%s: %d as %q, cookies %q", name, p.status, p.account, p.header["Set-Cookie"])
		}
		retryAfter(t, p)
		if p.signals != "" {
			t.Errorf("%s: signals %q", name, p.signals)
		}
	}
	if out.cookies["bio"] != "" || in.cookies["bio"] == "" {
		t.Error("a session was made, or lost")
	}
	if p := out.press(f, d.get(f.options)); p.notice != sayDatabase || p.auth == nil {
		t.Errorf("says %q", p.notice)
	}
	for target, want := range map[string]int{"/": 200, "/ceremony": 200, "/healthz": 200, "/readyz": 503} {
		if p := out.get(target); p.status != want {
			t.Errorf("%s: %d, want %d", target, p.status, want)
		}
	}
}

// A sign-in that the database does not take whole is not made at all, and nothing
// is used up by it.
func TestDatabaseFails(t *testing.T) {
	s := newSite(t)
	in := s.browser()
	d, registered := in.register()
	out := s.browser()
	f := out.get("/").auth
	before := s.rows()
	if _, err := s.raw.Exec("CREATE TRIGGER broken BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"); err != nil {
		t.Fatal(err)
	}
	p := out.press(f, d.get(f.options))
	if p.status < 500 || p.account != "" || out.cookies["bio"] != "" {
		t.Errorf("sign-in: %d as %q", p.status, p.account)
	}
	p = out.press(f, s.device().create(f.options))
	if p.status < 500 || p.account != "" {
		t.Errorf("registration: %d as %q", p.status, p.account)
	}
	if strings.Contains(p.body, "disk I/O") || strings.Contains(p.body, "trigger") {
		t.Error("internal text in the page")
	}
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	in.checkSignedIn(registered.account)
	if _, err := s.raw.Exec("DROP TRIGGER broken"); err != nil {
		t.Fatal(err)
	}
	if p := out.press(f, d.get(f.options)); p.account != registered.account { // nothing was used up
		t.Errorf("mended: %d %q", p.status, p.notice)
	}
}

// HEAD answers as GET does, without a body.
func TestHead(t *testing.T) {
	s := newSite(t)
	live := httptest.NewServer(s.Server)
	defer live.Close()
	for target, want := range map[string]int{
		"/": 200, "/healthz": 200, "/readyz": 200, assets.Path("auth.js"): 200, "/nowhere": 404, "/?invite=x": 200,
		"/audit/checkpoint": 405, "/audit/proof?index=0": 405, "/audit/tile/x": 405,
	} {
		answer, err := http.Head(live.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		body := must(io.ReadAll(answer.Body))
		answer.Body.Close()
		if answer.StatusCode != want || len(body) != 0 {
			t.Errorf("%s: %d, %d bytes", target, answer.StatusCode, len(body))
		}
	}
}

// A handler that panics is our fault in words, and an error in the log.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	s, err := server.New(server.Options{ // without a database: to ask it panics
		Settings: must(config.Load(nil)), Secret: make([]byte, 32), Now: time.Now, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?invite="+encode(make([]byte, 18)), nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "it was written down") ||
		strings.Contains(w.Body.String(), "nil pointer") || !strings.Contains(log.String(), "nil pointer") {
		t.Errorf("%d %s\n%s", w.Code, w.Body, &log)
	}
}

// All clients together are limited too.
func TestTotalLimit(t *testing.T) {
	s := newSite(t, "BIO_RATE_LIMIT=1/h,1")
	for i := range 251 {
		b := s.browser()
		b.addr = fmt.Sprintf("203.0.113.%d:1", i)
		if p := b.get("/ceremony"); (p.status == http.StatusTooManyRequests) != (i == 250) {
			t.Fatalf("client %d: %d", i, p.status)
		}
	}
}

// Pages of other origins may use the same passkeys where the operator says so.
func TestRelatedOrigins(t *testing.T) {
	s := newSite(t, "BIO_ORIGINS=https://bio.example.net")
	p := s.browser().get("/.well-known/webauthn")
	if p.status != http.StatusOK || strings.TrimSpace(p.body) != `{"origins":["http://localhost:8080","https://bio.example.net"]}` ||
		!strings.HasPrefix(p.header.Get("Content-Type"), "application/json") {
		t.Errorf("%d %s %s", p.status, p.header.Get("Content-Type"), p.body)
	}
}

// Labels are of fixed sets, whatever clients invent.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	b.enrol(s.device(), "{}")
	b.signInAnew(d)
	b.post("/", nil)
	for i := range 50 {
		b.send(b.request(fmt.Sprintf("INVENTED%d", i), "/auth/session", nil))
		b.call("PATCH", fmt.Sprintf("%s/%d", credentials, i), "{}")
		b.get(fmt.Sprintf("/nowhere/%d", i))
		b.get(fmt.Sprintf("/assets/%d.js", i))
		b.get(fmt.Sprintf("/?return_to=/%d", i))
		b.send(b.request(fmt.Sprintf("INVENTED%d", i), "/", nil))
		b.send(b.request(fmt.Sprintf("INVENTED%d", i), "/nowhere", nil))
		cross := b.clone()
		cross.header.Set("Sec-Fetch-Site", "cross-site")
		cross.send(cross.request(fmt.Sprintf("INVENTED%d", i), "/", nil))
	}
	w := httptest.NewRecorder()
	server.Metrics(s.Server).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`bio_presses_total{outcome="registered"} 1`, `bio_presses_total{outcome="signed in"} 1`, `bio_presses_total{outcome="refused"} 1`,
		`bio_presses_total{outcome="passkey added"} 1`,
		`bio_http_requests_total{method="POST",route="/",status="200"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	labels := map[string]map[string]bool{}
	for _, match := range regexp.MustCompile(`(method|route|status|outcome|agent)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if labels[match[1]] == nil {
			labels[match[1]] = map[string]bool{}
		}
		labels[match[1]][match[2]] = true
	}
	for name, most := range map[string]int{"method": 5, "route": 15, "status": 12, "outcome": 4, "agent": 1} {
		if len(labels[name]) > most {
			t.Errorf("%d values of %s: %v", len(labels[name]), name, slices.Sorted(maps.Keys(labels[name])))
		}
	}
	for _, secret := range []string{"nowhere", "INVENTED", "203.0.113"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the metrics", secret)
		}
	}
	if p := b.get("/metrics"); p.status != http.StatusNotFound {
		t.Errorf("metrics for everyone: %d", p.status)
	}
}
