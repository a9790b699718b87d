package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"
)

func TestQuantile(t *testing.T) {
	all := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(all, q); got != want {
			t.Errorf("%v: got %d, want %d", q, got, want)
		}
	}
	if got := median([]time.Duration(nil)); got != 0 {
		t.Errorf("of none: got %d", got)
	}
}

func TestConn(t *testing.T) {
	long := strings.Repeat("0123456789", 5000)
	answers := map[string]http.HandlerFunc{
		"/cookies": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Set-Cookie"] = []string{"bio-known=1; Path=/", "bio=a.b.c; Path=/; HttpOnly"}
		},
		"/length":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "short") },
		"/empty":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSeeOther) },
		"/chunked": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, long) },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) }))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []struct {
		path   string
		status int
		body   string
	}{
		{"/length", 200, "short"}, {"/chunked", 200, long}, {"/empty", 303, ""}, {"/length", 200, "short"},
	} {
		asked := time.Now()
		status, body, err := c.do(request("GET", want.path, addr, ""))
		if err != nil || status != want.status || string(body) != want.body {
			t.Errorf("%s: %d, %d bytes, %v", want.path, status, len(body), err)
		}
		if c.first.Before(asked) || c.first.After(time.Now()) {
			t.Errorf("%s: asked at %v, the first byte came at %v", want.path, asked, c.first)
		}
		last, err := dial(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer last.Close()
		status, open, err := last.open(request("GET", want.path, addr, ""))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(open); err != nil || status != want.status || string(body) != want.body {
			t.Errorf("%s, as it comes: %d, %d bytes, %v", want.path, status, len(body), err)
		}
	}
	if c.session != "" {
		t.Errorf("a session from nowhere: %q", c.session)
	}
	if _, _, err := c.do(request("GET", "/cookies", addr, "")); err != nil || c.session != "a.b.c" {
		t.Errorf("got the session %q, %v", c.session, err)
	}
}

func TestChallenge(t *testing.T) {
	want := strings.Repeat("aZ_-09", 9)
	for _, body := range []string{
		`{"get":{"challenge":"` + want + `"`,
		`data-options="{&#34;get&#34;:{&#34;challenge&#34;:&#34;` + want + `&#34;,`,
	} {
		if got, err := challenge([]byte(body)); got != want || err != nil {
			t.Errorf("%s: got %q, %v", body, got, err)
		}
	}
	for _, body := range []string{"", "challenge", `"challenge":"` + want + `a"`, want} {
		if got, err := challenge([]byte(body)); err == nil {
			t.Errorf("%q: got %q", body, got)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add([]byte(`{"challenge":"` + strings.Repeat("aZ_-09", 9) + `"`))
	f.Add([]byte("challenge"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got, err := challenge(body); err == nil && (len(got) != challengeLen || !bytes.Contains(body, []byte(got))) {
			t.Errorf("got %q of %q", got, body)
		}
	})
}

func TestLoads(t *testing.T) {
	page := `<link rel="stylesheet" href="/a.css"><script src="/b.js"></script><a href="/c">c</a><script>1</script><img src="d.png">`
	for head, more := range map[string][]string{
		`<link rel="icon" href="data:,">`: {"data:,", "/a.css", "/b.js", "d.png"},
		"":                                {"/a.css", "/b.js", "d.png", "/favicon.ico"},
	} {
		got, err := loadedByPage([]byte(head + page))
		if err != nil || !slices.Equal(got, more) {
			t.Errorf("%q: got %q, %v", head, got, err)
		}
	}
	if got := loadedByStyle([]byte(`a{b:url( "x.woff" )}c{d:url(y.png)}`)); !slices.Equal(got, []string{"x.woff", "y.png"}) {
		t.Errorf("got %q", got)
	}
}

func TestTable(t *testing.T) {
	b := &bench{}
	b.add("speed", "2", ">= 1", true)
	b.add("size", "2", "<= 1", false)
	b.note("  of it", "%d", 1)
	var out bytes.Buffer
	if err := b.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"speed    2         >= 1  met\n", "size     2         <= 1  not met\n", "  of it  1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1_000_000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

func TestWeigh(t *testing.T) {
	report := filepath.Join(t.TempDir(), "used.json")
	if err := weigh(t.Context(), report, "false"); err == nil {
		t.Error("a command that failed was weighed")
	}
	if err := weigh(t.Context(), report, "true"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var u used
	if err := json.Unmarshal(text, &u); err != nil || u.Took <= 0 || u.Peak <= 0 {
		t.Errorf("%s, %v", text, err)
	}
}

func TestSessionID(t *testing.T) {
	for cookie, want := range map[string]string{
		"e30." + encode([]byte(`{"sid":"abc","sub":"x"}`)) + ".sig": "abc",
		"e30.!.sig": "",
		"e30.e.sig": "",
		"":          "",
	} {
		if got, err := sessionID(cookie); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", cookie, got, err)
		}
	}
}

func TestPaired(t *testing.T) {
	var p paired
	var calls []string
	call := func(name string) func() error {
		return func() error { calls = append(calls, name); return nil }
	}
	if err := p.timed(2, call("before"), call("first"), call("second")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"before", "first", "second", "before", "first", "second"}; !slices.Equal(calls, want) {
		t.Errorf("got %q", calls)
	}
	if len(p.first.medians) != 1 || len(p.second.medians) != 1 || len(p.difference.medians) != 1 {
		t.Errorf("got %+v", p)
	}
	for _, failing := range []int{0, 1, 2} {
		acts := []func() error{call(""), call(""), call("")}
		acts[failing] = func() error { return io.EOF }
		if err := p.timed(1, acts[0], acts[1], acts[2]); err != io.EOF {
			t.Errorf("act %d: got %v", failing, err)
		}
	}
}

func TestForget(t *testing.T) {
	const origin = "http://localhost:8080"
	in, err := openInside(t.Context(), t.TempDir(), origin)
	if err != nil {
		t.Fatal(err)
	}
	defer in.db.Close()
	v, err := register(in, origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.signIn(in, true); err != nil {
		t.Fatal(err)
	}
	if err := forget(t.Context(), in.path); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, in.path, `SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM challenges),
(SELECT count(*) FROM trail_leaves)`); got != [3]int{0, 0, 2} {
		t.Errorf("sessions, challenges, entries: %d", got)
	}
}

// counts asks a database for three numbers.
func counts(t *testing.T, database, query string) (n [3]int) {
	t.Helper()
	connector, err := libsql.NewConnector("file:" + database)
	if err != nil {
		t.Fatal(err)
	}
	pool := sql.OpenDB(connector)
	defer pool.Close()
	if err := pool.QueryRow(query).Scan(&n[0], &n[1], &n[2]); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFill(t *testing.T) {
	const origin, others = "http://localhost:8080", 100
	dir := t.TempDir()
	in, err := openInside(t.Context(), dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fill(t.Context(), in.path, others, time.Now()); err != nil {
		t.Fatal(err)
	}
	b := &bench{ctx: t.Context()}
	headers, err := b.settleIn(dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	if got := counts(t, in.path, `SELECT count(DISTINCT users.id), count(DISTINCT ref), count(DISTINCT sessions.id)
FROM users JOIN credentials ON credentials.user_id = users.id JOIN sessions ON sessions.user_id = users.id`); got !=
		[3]int{others + 1, others + theirPasskeys, others + theirSessions} {
		t.Errorf("users, passkeys, sessions: %d", got)
	}
	if got := counts(t, in.path, `SELECT (SELECT count(*) FROM pragma_foreign_key_check),
(SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'),
(SELECT count(DISTINCT substr(id, 1, 1)) FROM users)`); got != [3]int{0, 0, 16} {
		t.Errorf("foreign keys, integrity, first digits: %d", got)
	}

	if in, err = openInside(t.Context(), dir, origin); err != nil {
		t.Fatal(err)
	}
	defer in.db.Close()
	if ended, err := in.db.ExpireSessions(t.Context(), 12*time.Hour); ended != 0 || err != nil {
		t.Errorf("%d sessions ended: %v", ended, err)
	}
	status, page, err := in.do(request("GET", "/account", host(origin), headers))
	if err != nil || status != http.StatusOK || bytes.Count(page, []byte("/account/sessions/")) < theirSessions {
		t.Errorf("GET /account: %d, %v", status, err)
	}
}
