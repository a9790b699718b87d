package audit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"203.0.113.77":                     "203.0.113.0/24",
		"127.0.0.1":                        "127.0.0.0/24",
		"255.255.255.255":                  "255.255.255.0/24",
		"::ffff:203.0.113.77":              "203.0.113.0/24",
		"2001:db8:1:2:3:4:5:6":             "2001:db8:1::/48",
		"2001:db8:1:ffff:ffff:ffff:ffff::": "2001:db8:1::/48",
		"::1":                              "::/48",
		"fe80::1%eth0":                     "fe80::/48",
	} {
		if got := Network(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s became %s, want %s", addr, got, want)
		}
	}
	if got := Network(netip.Addr{}); got != "" {
		t.Errorf("no address became %s", got)
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add([]byte{203, 0, 113, 77})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice())
	f.Add(netip.MustParseAddr("::ffff:203.0.113.77").AsSlice())
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		p, err := netip.ParsePrefix(Network(addr))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 24, false: 48}[p.Addr().Is4()]; p.Bits() != want || p != p.Masked() || !p.Contains(addr.Unmap()) {
			t.Errorf("%s became %s", addr, p)
		}
	})
}

func TestBrowser(t *testing.T) {
	const mozilla = "Mozilla/5.0 "
	for _, tt := range []struct{ agent, family, system string }{
		{mozilla + "(X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0", "Firefox", "Linux"},
		{mozilla + "(Windows NT 10.0; Win64; x64; rv:153.0) Gecko/20100101 Firefox/153.0", "Firefox", "Windows"},
		{mozilla + "(X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36", "Chrome", "Linux"},
		{mozilla + "(X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36", "Chrome", "Linux"},
		{mozilla + "(X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36", "Chrome", "ChromeOS"},
		{mozilla + "(Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36", "Chrome", "Android"},
		{mozilla + "(Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36", "Samsung Internet", "Android"},
		{mozilla + "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0", "Edge", "Windows"},
		{mozilla + "(Linux; Android 10) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36 EdgA/156.0.0.0", "Edge", "Android"},
		{mozilla + "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 OPR/140.0.0.0", "Opera", "macOS"},
		{mozilla + "(X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 Vivaldi/7.9", "Vivaldi", "Linux"},
		{mozilla + "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", "Safari", "macOS"},
		{mozilla + "(iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1", "Safari", "iPhone"},
		{mozilla + "(iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/156.0 Mobile/15E148 Safari/604.1", "Chrome", "iPhone"},
		{mozilla + "(iPad; CPU OS 26_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/153.0 Mobile/15E148 Safari/605.1.15", "Firefox", "iPad"},
		{"curl/8.14.1", "", ""},
		{"", "", ""},
		{"<script>alert(1)</script>", "", ""},
	} {
		if family, system := Browser(tt.agent); family != tt.family || system != tt.system {
			t.Errorf("%s\nis %q on %q, want %q on %q", tt.agent, family, system, tt.family, tt.system)
		}
	}
}

// Whatever a client calls itself, what is kept is one of our own words.
func FuzzBrowser(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0")
	f.Add("Chrome/\x00<b>")
	f.Add(strings.Repeat("Safari/", 1000))
	f.Fuzz(func(t *testing.T, agent string) {
		family, system := Browser(agent)
		if family != "" && !slices.ContainsFunc(families, func(f struct{ token, family string }) bool { return f.family == family }) {
			t.Errorf("family %q", family)
		}
		if system != "" && !slices.ContainsFunc(systems, func(s struct{ token, system string }) bool { return s.system == system }) {
			t.Errorf("system %q", system)
		}
	})
}
