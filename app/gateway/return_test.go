package gateway

import (
	"net/url"
	"strings"
	"testing"
)

func guarded(host string) bool { return host == "grafana.example.com" }

func TestReturnTo(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                                     "/",
		"/account":                              "/account",
		"/account/":                             "/account/",
		"/approve/7?next=%2F%2Fevil.com#top":    "/approve/7?next=%2F%2Fevil.com#top",
		"/a%20b":                                "/a%20b",
		"https://grafana.example.com":           "https://grafana.example.com/",
		"https://grafana.example.com/d/1?var=a": "https://grafana.example.com/d/1?var=a",

		"":                                        "",
		"account":                                 "",
		"//evil.com":                              "",
		"///evil.com":                             "",
		"/\\evil.com":                             "",
		"\\\\evil.com":                            "",
		"/%5Cevil.com":                            "",
		"/%2f/evil.com":                           "",
		"/%09/evil.com":                           "",
		"/\t/evil.com":                            "",
		" /account":                               "",
		"/account ":                               "",
		"/a\r\nSet-Cookie: x=1":                   "",
		"/a%0d%0aSet-Cookie:x":                    "",
		"/..//evil.com":                           "",
		"/%2e%2e/evil":                            "",
		"/./a":                                    "",
		"/a//b":                                   "",
		"https:///evil.com":                       "",
		"https:/0":                                "",
		"https:evil.com":                          "",
		"http://grafana.example.com/":             "",
		"HTTPS://grafana.example.com/":            "",
		"https://GRAFANA.example.com/":            "",
		"https://grafana.example.com./":           "",
		"https://grafana.example.com:443/":        "",
		"https://grafana.example.com:8443/":       "",
		"https://user@grafana.example.com/":       "",
		"https://grafana.example.com@evil.com/":   "",
		"https://evil.com/grafana.example.com":    "",
		"https://grafana.example.com.evil.com/":   "",
		"https://evilgrafana.example.com/":        "",
		"https://grafana.example.com\\@evil.com/": "",
		"https://grafana.example.com/..//x":       "",
		"https://[::1]/":                          "",
		"https://localhost/":                      "",
		"javascript:alert(1)":                     "",
		"data:text/html,x":                        "",
		"/ünïcode":                                "",
		"/" + strings.Repeat("a", maxReturn):      "",
	} {
		got, ok := ReturnTo(raw, guarded)
		if got != want || ok != (want != "") {
			t.Errorf("ReturnTo(%q) = %q, %v; want %q", raw, got, ok, want)
		}
	}
}

// FuzzReturnTo holds what is accepted against a reading of its own: the rules of
// the URL standard that differ from Go's parser.
func FuzzReturnTo(f *testing.F) {
	for _, s := range []string{
		"/account", "https://grafana.example.com/d?x=1#y", "//evil.com", "/\\evil.com", "https:/0", "https:evil.com",
		"///evil.com", "/%2e%2e//x", "https://u@grafana.example.com/", "/a?b=//c", "/;//x", "/%", "https://grafana.example.com?x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := ReturnTo(raw, guarded)
		if !ok {
			if got != "" {
				t.Fatalf("refused, but gave %q", got)
			}
			return
		}
		again, ok := ReturnTo(got, guarded)
		if !ok || again != got {
			t.Fatalf("%q is not its own canonical form: %q, %v", got, again, ok)
		}
		for _, c := range []byte(got) {
			if c <= ' ' || c >= 0x7f || c == '\\' {
				t.Fatalf("%q has byte %#x", got, c)
			}
		}
		if local := strings.HasPrefix(got, "/") && !strings.HasPrefix(got, "//"); !local &&
			!strings.HasPrefix(got, "https://grafana.example.com/") {
			t.Fatalf("%q leaves", got)
		}
		base, _ := url.Parse("https://bio.example.com/")
		to, err := base.Parse(got)
		if err != nil || to.Host != "bio.example.com" && to.Host != "grafana.example.com" || to.User != nil {
			t.Fatalf("%q resolves to %v, %v", got, to, err)
		}
	})
}
