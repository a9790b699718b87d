package assets_test

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"bio/assets"
)

func TestPath(t *testing.T) {
	for name, form := range map[string]string{
		"auth.js":   `^/assets/auth\.[0-9a-f]{12}\.js$`,
		"bio.js":    `^/assets/bio\.[0-9a-f]{12}\.js$`,
		"style.css": `^/assets/style\.[0-9a-f]{12}\.css$`,
		"run.css":   `^/assets/run\.[0-9a-f]{12}\.css$`,
		"icon.svg":  `^/assets/icon\.[0-9a-f]{12}\.svg$`,
	} {
		if got := assets.Path(name); !regexp.MustCompile(form).MatchString(got) {
			t.Errorf("Path(%q) = %q", name, got)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Path of what is not there did not panic")
		}
	}()
	assets.Path("none.js")
}

func get(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for key, values := range header {
		r.Header[http.CanonicalHeaderKey(key)] = values
	}
	w := httptest.NewRecorder()
	assets.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var source io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		source = z
	}
	b, err := io.ReadAll(source)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHandler(t *testing.T) {
	const forever, ask = "public, max-age=31536000, immutable", "no-cache"
	css := assets.Path("style.css")
	plain := get(t, "GET", css, nil).Header.Get("ETag")
	zipped := get(t, "GET", css, http.Header{"Accept-Encoding": {"gzip"}}).Header.Get("ETag")
	if plain == "" || zipped == "" || plain == zipped {
		t.Fatalf("ETags %s and %s", plain, zipped)
	}
	tests := []struct {
		name, method, target string
		header               http.Header
		status               int
		mime, cache, coding  string
	}{
		{"style", "GET", css, nil, 200, "text/css; charset=utf-8", forever, ""},
		{"script", "GET", assets.Path("auth.js"), nil, 200, "text/javascript; charset=utf-8", forever, ""},
		{"icon", "GET", assets.Path("icon.svg"), nil, 200, "image/svg+xml", forever, ""},
		{"plain name", "GET", "/assets/auth.js", nil, 200, "text/javascript; charset=utf-8", ask, ""},
		{"SDK", "GET", assets.Path("bio.js"), nil, 200, "text/javascript; charset=utf-8", forever, ""},
		{"SDK, plain name", "GET", "/assets/bio.js", nil, 200, "text/javascript; charset=utf-8", ask, ""},
		{"SDK's types", "GET", "/assets/bio.d.ts", nil, 200, "text/plain; charset=utf-8", ask, ""},
		{"no source map", "GET", "/assets/bio.js.map", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"query", "GET", css + "?x", nil, 200, "text/css; charset=utf-8", forever, ""},
		{"head", "HEAD", css, nil, 200, "text/css; charset=utf-8", forever, ""},
		{"gzip", "GET", css, http.Header{"Accept-Encoding": {"gzip, deflate, br"}}, 200, "text/css; charset=utf-8", forever, "gzip"},
		{"gzip, head", "HEAD", css, http.Header{"Accept-Encoding": {"br;q=1, GZIP ; q=0.2"}}, 200, "text/css; charset=utf-8", forever, "gzip"},
		{"gzip in a second line", "GET", css, http.Header{"Accept-Encoding": {"br", "gzip"}}, 200, "text/css; charset=utf-8", forever, "gzip"},
		{"anything", "GET", css, http.Header{"Accept-Encoding": {"*"}}, 200, "text/css; charset=utf-8", forever, "gzip"},
		{"gzip refused", "GET", css, http.Header{"Accept-Encoding": {"gzip;q=0, br"}}, 200, "text/css; charset=utf-8", forever, ""},
		{"gzip refused, the rest not", "GET", css, http.Header{"Accept-Encoding": {"gzip;q=0.000, *"}}, 200, "text/css; charset=utf-8", forever, ""},
		{"the rest, gzip refused", "GET", css, http.Header{"Accept-Encoding": {"*, gzip;q=0"}}, 200, "text/css; charset=utf-8", forever, ""},
		{"not gzip", "GET", css, http.Header{"Accept-Encoding": {"identity, x-gzipped"}}, 200, "text/css; charset=utf-8", forever, ""},
		{"fresh", "GET", css, http.Header{"If-None-Match": {plain}}, 304, "", forever, ""},
		{"fresh, weak, of several", "GET", css, http.Header{"If-None-Match": {`"x", W/` + plain}}, 304, "", forever, ""},
		{"fresh, any", "HEAD", css, http.Header{"If-None-Match": {"*"}}, 304, "", forever, ""},
		{"fresh, gzip", "GET", css, http.Header{"If-None-Match": {zipped}, "Accept-Encoding": {"gzip"}}, 304, "", forever, ""},
		{"fresh in the other encoding", "GET", css, http.Header{"If-None-Match": {plain}, "Accept-Encoding": {"gzip"}}, 200, "text/css; charset=utf-8", forever, "gzip"},
		{"stale", "GET", css, http.Header{"If-None-Match": {`"x"`}}, 200, "text/css; charset=utf-8", forever, ""},
		{"old hash", "GET", "/assets/auth.000000000000.js", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"none", "GET", "/assets/none.js", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"folder", "GET", "/assets/", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"inner path", "GET", "/assets/dist/auth.js", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"way up", "GET", "/assets/../assets.go", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"elsewhere", "GET", "/auth.js", nil, 404, "text/plain; charset=utf-8", "no-store", ""},
		{"post", "POST", css, nil, 405, "text/plain; charset=utf-8", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := get(t, test.method, test.target, test.header)
			if r.StatusCode != test.status {
				t.Errorf("status %d, want %d", r.StatusCode, test.status)
			}
			for key, want := range map[string]string{
				"Content-Type":           test.mime,
				"Cache-Control":          test.cache,
				"Content-Encoding":       test.coding,
				"X-Content-Type-Options": "nosniff",
			} {
				if got := r.Header.Get(key); got != want {
					t.Errorf("%s: %q, want %q", key, got, want)
				}
			}
			got := body(t, &http.Response{Header: http.Header{}, Body: r.Body})
			if (test.method == "HEAD" || test.status == 304) && got != "" {
				t.Errorf("a body of %d bytes", len(got))
			}
			if test.status == 200 || test.status == 304 {
				if r.Header.Get("Vary") != "Accept-Encoding" || r.Header.Get("ETag") == "" {
					t.Errorf("Vary %q, ETag %q", r.Header.Get("Vary"), r.Header.Get("ETag"))
				}
			}
			if test.status == 200 && test.method == "GET" && r.Header.Get("Content-Length") != strconv.Itoa(len(got)) {
				t.Errorf("Content-Length %s of %d", r.Header.Get("Content-Length"), len(got))
			}
		})
	}
	for _, name := range []string{"style.css", "run.css", "auth.js", "icon.svg"} {
		a := body(t, get(t, "GET", assets.Path(name), nil))
		b := body(t, get(t, "GET", assets.Path(name), http.Header{"Accept-Encoding": {"gzip"}}))
		if a == "" || a != b {
			t.Errorf("%s differs between its encodings", name)
		}
	}
}

func FuzzHandler(f *testing.F) {
	f.Add("/assets/auth.js", "gzip;q=0.5, *", `W/"x", *`)
	f.Add("/assets/", ";q=", ",")
	f.Add(assets.Path("style.css"), "gzip;q=nan", `"`)
	f.Fuzz(func(t *testing.T, path, accept, match string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path}, Header: http.Header{"Accept-Encoding": {accept}, "If-None-Match": {match}}}
		w := httptest.NewRecorder()
		assets.Handler().ServeHTTP(w, r)
		if c := w.Code; c != 200 && c != 304 && c != 404 {
			t.Errorf("status %d", c)
		}
	})
}

// The first visit has 8 KiB, of which the style has 2.5 and the script 1.5. The
// SDK has 2.5 KiB, and what only the signed-in page looks like 1.5.
func TestSizes(t *testing.T) {
	for name, limit := range map[string]int{"style.css": 2560, "auth.js": 1536, "bio.js": 2560, "run.css": 1536} {
		var b bytes.Buffer
		if _, err := io.Copy(&b, get(t, "GET", assets.Path(name), http.Header{"Accept-Encoding": {"gzip"}}).Body); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes gzipped", name, b.Len())
		if b.Len() > limit {
			t.Errorf("%s has %d bytes gzipped, more than %d", name, b.Len(), limit)
		}
	}
}

func TestIcon(t *testing.T) {
	data, ok := strings.CutPrefix(assets.Icon(), "data:image/svg+xml,")
	if !ok || strings.ContainsAny(data, `<>"#'`) {
		t.Fatalf("icon %q", assets.Icon())
	}
	svg, err := url.PathUnescape(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal([]byte(svg), new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}
}

// TestContrast computes WCAG 2.2 contrast (SC 1.4.3 and 1.4.11) of every pair of
// colours that the style sheet puts on each other, in light and in dark.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	property := regexp.MustCompile(`--([a-z]+): #([0-9a-f]{3,6});`)
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllSubmatch(css, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d :root blocks, want light and dark", len(blocks))
	}
	pairs := []struct {
		front, back string
		least       float64
	}{
		{"ink", "paper", 7},
		{"ink", "well", 7},
		{"quiet", "paper", 4.5},
		{"quiet", "line", 3}, // the word on a button that is disabled
		{"accent", "paper", 4.5},
		{"accent", "well", 3}, // the edge of the button, and of a recovery that waits
		{"paper", "ink", 7},   // what the script says, at the window's lower edge
		{"label", "accent", 4.5},
		{"label", "shine", 3}, // large text, and only near the button's upper edge
	}
	for i, mode := range []string{"light", "dark"} {
		colour := map[string]float64{}
		for _, match := range property.FindAllSubmatch(blocks[i][1], -1) {
			colour[string(match[1])] = luminance(t, string(match[2]))
		}
		for _, pair := range pairs {
			front, ok1 := colour[pair.front]
			back, ok2 := colour[pair.back]
			if !ok1 || !ok2 {
				t.Fatalf("%s: no --%s or --%s", mode, pair.front, pair.back)
			}
			ratio := (max(front, back) + .05) / (min(front, back) + .05)
			t.Logf("%s: %s on %s %.2f", mode, pair.front, pair.back, ratio)
			if ratio < pair.least {
				t.Errorf("%s: %s on %s has contrast %.2f, less than %.1f", mode, pair.front, pair.back, ratio, pair.least)
			}
		}
	}
}

// luminance is the relative luminance of an sRGB colour, as WCAG 2.2 defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	rgb, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(shift int) float64 {
		c := float64(rgb>>shift&255) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*linear(16) + .7152*linear(8) + .0722*linear(0)
}
