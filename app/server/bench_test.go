package server_test

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bio/app/server"
)

// quietSite is a site that logs nothing.
func quietSite(b *testing.B) *site {
	b.Helper()
	s := newSite(b)
	s.Server = must(server.New(server.Options{
		Settings: s.settings, Secret: secret, DB: s.db, Now: s.clock.Now, Log: slog.New(slog.DiscardHandler),
	}))
	return s
}

// discard is a response writer that keeps nothing but the status.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) WriteHeader(status int)      { w.status = status }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (w *discard) Flush()                      {}

// answer answers a copy of the request: middleware may replace its body.
func (s *site) answer(b *testing.B, r *http.Request, want int) {
	asked, w := *r, discard{header: http.Header{}}
	s.ServeHTTP(&w, &asked)
	if w.status != want {
		b.Fatalf("%s %s: answered %d, not %d", r.Method, r.URL, w.status, want)
	}
}

func BenchmarkGet(b *testing.B) {
	s := quietSite(b)
	signedIn := s.browser()
	signedIn.register()
	for _, c := range []struct {
		name   string
		by     *browser
		target string
	}{
		{"home, first visit", s.browser(), "/"},
		{"home, signed out", signedIn.signedOut(), "/"},
		{"home, with return_to", signedIn.signedOut(), "/?return_to=/account"},
		{"home, signed in", signedIn, "/"},
		{"ceremony", signedIn.signedOut(), "/ceremony"},
		{"account", signedIn, "/account"},
		{"checkpoint", s.browser(), "/audit/checkpoint"},
		{"proof", s.browser(), "/audit/proof?index=0"},
		{"healthz", s.browser(), "/healthz"},
		{"not found", s.browser(), "/nowhere"},
	} {
		b.Run(c.name, func(b *testing.B) {
			want := http.StatusOK
			if c.name == "not found" {
				want = http.StatusNotFound
			}
			r := c.by.request(http.MethodGet, c.target, nil)
			b.ReportAllocs()
			for b.Loop() {
				s.answer(b, r, want)
			}
		})
	}
}

// BenchmarkPress is a press from the request to the end of its answer, made
// durable; its signature is made before.
func BenchmarkPress(b *testing.B) {
	for _, c := range []struct {
		name   string
		fields url.Values
		forged bool
		status int
	}{
		{"sent on", url.Values{"return_to": {"/readyz"}}, false, http.StatusSeeOther},
		{"page and agent", nil, false, http.StatusOK},
		{"refused", nil, true, http.StatusUnauthorized},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := quietSite(b)
			by := s.browser()
			d, _ := by.register()
			by = by.signedOut()
			if c.forged {
				d.Key = s.device().Key
			}
			requests := make([]*http.Request, b.N)
			for i := range requests {
				fields := url.Values{"credential": {d.get(by.ceremony("/ceremony"))}}
				maps.Copy(fields, c.fields)
				requests[i] = by.request(http.MethodPost, "/", io.NopCloser(strings.NewReader(fields.Encode())))
				requests[i].Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, r := range requests {
				s.answer(b, r, c.status)
			}
		})
	}
}
