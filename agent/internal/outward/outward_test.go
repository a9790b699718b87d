package outward

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const secret = "key-in-a-url"

func TestTarget(t *testing.T) {
	loopback, private, internet := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("1.1.1.1")
	for url, test := range map[string]struct {
		private bool
		want    []netip.Addr // nil: not a URL
	}{
		"https://a.example/":                   {false, []netip.Addr{internet}},
		"https://a.example/b?c":                {true, []netip.Addr{loopback, private, internet}},
		"https://1.1.1.1/":                     {false, []netip.Addr{internet}},
		"http://localhost:1/":                  {true, []netip.Addr{loopback}},
		"http://127.0.0.1:1/":                  {true, []netip.Addr{loopback}},
		"http://127.0.0.1/":                    {false, nil},
		"https://127.0.0.1/":                   {false, nil},
		"http://10.0.0.1/":                     {true, nil},
		"http://a.example/":                    {true, nil},
		"ftp://127.0.0.1/":                     {true, nil},
		"https://u:p@a.example/":               {false, nil},
		"https://a.example/#b":                 {false, nil},
		"https:///a":                           {false, nil},
		"a.example":                            {false, nil},
		"https://a.example/" + secret + "\x7f": {false, nil},
	} {
		_, allowed, err := Target(url, test.private)
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the URL: %v", url, err)
		}
		if (err == nil) != (test.want != nil) {
			t.Errorf("%s: %v", url, err)
			continue
		}
		for _, a := range []netip.Addr{loopback, private, internet} {
			if test.want != nil && allowed(a) != slices.Contains(test.want, a) {
				t.Errorf("%s may lead to %s: %v", url, a, allowed(a))
			}
		}
	}
}

// What a name resolves to is judged when it is connected to.
func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for want, allowed := range map[bool]func(netip.Addr) bool{true: netip.Addr.IsValid, false: public} {
		client := http.Client{Transport: Transport(allowed)}
		answer, err := client.Get("http://localhost:" + port)
		if err == nil {
			answer.Body.Close()
		}
		if (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("allowed %v: %v", want, err)
		}
	}
}
