package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
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
		status, body, err := c.do(request("GET", want.path, addr, ""))
		if err != nil || status != want.status || string(body) != want.body {
			t.Errorf("%s: %d, %d bytes, %v", want.path, status, len(body), err)
		}
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
