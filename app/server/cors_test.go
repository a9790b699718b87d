package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Which origins may use the API, and that no other may use anything.
func TestCORS(t *testing.T) {
	const friend, sibling = "https://app.example.com", "https://shop.example.com:8443"
	s := newSite(t, "BIO_URL="+public, "BIO_ORIGINS="+friend+","+sibling)
	b, d := s.browser(), s.device()
	b.enrol(d, "{}")
	targets := []struct{ method, target, body string }{
		{"POST", registerBegin, "{}"}, {"POST", signInBegin, "{}"}, {"POST", registerFinish, "{}"}, {"POST", signInFinish, "{}"},
		{"GET", credentials, ""}, {"PATCH", passkeyAt(d), `{"name":"x"}`}, {"DELETE", credentials + "/x", ""}, {"GET", "/auth/session", ""},
		{"GET", "/auth/nowhere", ""}, {"POST", "/auth/sign-out", ""},
	}
	for _, tt := range []struct {
		name, origin, site string
		allowed            bool // to send
		shared             bool // is told that it may read
	}{
		{"our own", public, "same-origin", true, false},
		{"our own, no Sec-Fetch", public, "", true, false},
		{"typed", "", "none", true, false},
		{"a program", "", "", true, false},
		{"a friend", friend, "same-site", true, true},
		{"a friend of another site", friend, "cross-site", true, true},
		{"a friend, no Sec-Fetch", friend, "", true, true},
		{"the other", sibling, "same-site", true, true},
		{"a friend's other scheme", "http://app.example.com", "cross-site", false, false},
		{"a friend's other port", friend + ":8443", "same-site", false, false},
		{"a friend's default port", friend + ":443", "same-site", false, false},
		{"a friend in capitals", "https://APP.example.com", "same-site", false, false},
		{"a friend with a path", friend + "/", "same-site", false, false},
		{"below a friend", "https://x.app.example.com", "same-site", false, false},
		{"beginning like a friend", friend + ".evil.example", "cross-site", false, false},
		{"ending like a friend", "https://evil-app.example.com", "same-site", false, false},
		{"the port left out", "https://shop.example.com", "same-site", false, false},
		{"evil", "https://evil.example", "cross-site", false, false},
		{"evil, no Sec-Fetch", "https://evil.example", "", false, false},
		{"null", "null", "cross-site", false, false},
		{"a star", "*", "cross-site", false, false},
		{"no Origin", "", "cross-site", false, false},
		{"a sibling without Origin", "", "same-site", false, false},
		{"an invented site", "", "invented", false, false},
	} {
		at := func() *browser {
			c := b.clone()
			for name, value := range map[string]string{"Origin": tt.origin, "Sec-Fetch-Site": tt.site} {
				if value != "" {
					c.header.Set(name, value)
				}
			}
			return c
		}
		checkShared := func(what string, p *page, preflight bool) {
			t.Helper()
			want := map[string]string{}
			if tt.shared {
				want["Access-Control-Allow-Origin"], want["Access-Control-Allow-Credentials"] = tt.origin, "true"
				if preflight {
					want["Access-Control-Allow-Methods"], want["Access-Control-Allow-Headers"] = "GET, POST, PATCH, DELETE", "Content-Type"
				}
			}
			got := map[string]string{}
			for name, values := range p.header {
				if strings.HasPrefix(name, "Access-Control-") {
					got[name] = strings.Join(values, "|")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", tt.name, what, diff)
			}
			if tt.allowed && !slices.Contains(p.header.Values("Vary"), "Origin") {
				t.Errorf("%s, %s: Vary %q", tt.name, what, p.header.Values("Vary"))
			}
			checkHeaders(t, what, p, true)
		}
		for _, one := range targets {
			p := at().call(one.method, one.target, one.body)
			checkShared(one.target, p, false)
			var problem struct{ Code string }
			_ = json.Unmarshal([]byte(p.body), &problem)
			if (problem.Code == "cross_site") == tt.allowed {
				t.Errorf("%s, %s: %d %s", tt.name, one.target, p.status, p.body)
			}
			if !tt.allowed {
				checkCode(t, tt.name, p, 403, "cross_site")
			}
			if one.target == "/auth/sign-out" && tt.allowed {
				b.enter(d)
			}
			ask := at()
			ask.header.Set("Access-Control-Request-Method", one.method)
			ask.header.Set("Access-Control-Request-Headers", "content-type")
			p = ask.call("OPTIONS", one.target, "")
			checkShared("preflight of "+one.target, p, true)
			if tt.shared && p.status != 204 || !tt.allowed && p.status != 403 {
				t.Errorf("%s, preflight of %s: %d", tt.name, one.target, p.status)
			}
		}
		// The pages stay closed, and unshared; the SDK may be loaded from anywhere.
		for _, target := range []string{"/", "/run", "/sign-out"} {
			p := at().post(target, nil)
			if own := tt.origin == public || tt.site == "none" || tt.name == "a program"; (p.status == 403) == own || p.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, POST %s: %d", tt.name, target, p.status)
			}
			b.enter(d)
		}
		for _, target := range []string{"/", "/ceremony", "/account", "/assets/auth.js", "/.well-known/webauthn", "/healthz"} {
			if p := at().call("GET", target, ""); p.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, GET %s is shared", tt.name, target)
			}
		}
		for _, target := range []string{"/assets/bio.js", "/assets/bio.0123456789ab.js"} {
			p := at().get(target)
			got := p.header.Get("Access-Control-Allow-Origin")
			if want := map[bool]string{true: tt.origin}[tt.shared]; got != want || !slices.Contains(p.header.Values("Vary"), "Origin") {
				t.Errorf("%s, GET %s: shared with %q, Vary %q", tt.name, target, got, p.header.Values("Vary"))
			}
		}
	}
}

// A page of another origin registers and signs in, where cookies go with it.
func TestCORSCeremony(t *testing.T) {
	const friend = "https://app.example.com"
	s := newSite(t, "BIO_URL=https://bio.example.com", "BIO_RP_ID=example.com", "BIO_ORIGINS="+friend)
	b, d := s.browser(), s.device()
	b.header.Set("Origin", friend)
	b.header.Set("Sec-Fetch-Site", "same-site")
	d.origin = friend
	made := b.enrol(d, "{}")
	if in := b.enter(d); in.User != made.User {
		t.Errorf("signed in %+v", in)
	}
	d.origin = "https://www.example.com"
	checkCode(t, "another", b.call("POST", signInFinish, d.get(b.begin(signInBegin, "{}").options)), 401, "refused")
}
