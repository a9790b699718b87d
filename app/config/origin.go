package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Origin is a web origin (RFC 6454): what a browser writes into the client
// data of a ceremony.
type Origin struct {
	Scheme string // "https", or "http" on localhost
	Host   string // a domain name in lower case
	Port   uint16 // 0 is the scheme's own port
}

// String is the ASCII serialisation (RFC 6454, section 6.2).
func (o Origin) String() string {
	if o == (Origin{}) {
		return ""
	}
	host := o.Host
	if o.Port != 0 {
		host = net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port)))
	}
	return o.Scheme + "://" + host
}

// MarshalText is String.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// parseOrigin reads scheme://host[:port]; one slash may follow, since it is
// how browsers show an origin. What is wrong with it is empty when nothing is.
func parseOrigin(v string) (o Origin, wrong, mend string) {
	const form = "Write scheme, host and port only, such as https://auth.example.com."
	refuse := func(wrong, mend string) (Origin, string, string) { return Origin{}, wrong, mend }

	u, err := url.Parse(v)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return refuse("is not a web address", form)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("is neither https nor http", "Write https://, or http:// on localhost.")
	case u.User != nil:
		return refuse("has a user name or password in it", form)
	case u.Path != "" && u.Path != "/":
		return refuse("has a path", form)
	case strings.ContainsAny(v, "?#"):
		return refuse("has a query or a fragment", form)
	}

	host := strings.ToLower(u.Hostname())
	switch {
	case address(host):
		return refuse("has an IP address for a host, and passkeys need a domain name", "Use a name, such as auth.example.com, or localhost.")
	case strings.IndexFunc(host, func(r rune) bool { return r > 127 }) >= 0:
		return refuse("has letters beyond ASCII in its host", "Write the name in its ASCII form, which begins with xn--.")
	case strings.HasSuffix(host, "."):
		return refuse("has a host that ends with a dot, which is another name to a browser", "Drop the dot.")
	case !domainName(host):
		return refuse("has a host that is not a domain name", form)
	case publicSuffix(host):
		return refuse("has a public suffix for a host, which strangers share", "Use a name below it.")
	}

	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if u.Scheme == "http" && !local {
		return refuse("is plain http, which is only for localhost", "Use https.")
	}

	o = Origin{Scheme: u.Scheme, Host: host}
	if _, port, found := strings.Cut(u.Host, ":"); found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return refuse("has a port that is not one", "Write a port from 1 to 65535, or none.")
		}
		if n != map[string]uint64{"http": 80, "https": 443}[u.Scheme] {
			o.Port = uint16(n)
		}
	}
	return o, "", ""
}

// domainName reports whether host is letters, digits and hyphens in labels
// (RFC 1123, section 2.1), in lower case, and no address.
func domainName(host string) bool {
	if len(host) > 253 || address(host) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

// address reports whether a browser takes host for an IP address: IPv6, or a
// last label that is a number (URL Standard, "ends in a number checker"), so
// that 127.1 and 0x7f000001 are addresses too.
func address(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// publicSuffix reports whether the Public Suffix List names host. A name that
// the list does not know, such as localhost or one of a local network, is none.
func publicSuffix(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(host)
	return suffix == host && (icann || strings.Contains(suffix, "."))
}

// publicSuffixOf reports whether id, a parent of host, is not registrable
// (HTML Standard, "is a registrable domain suffix of or is equal to"), so that
// a browser would refuse it as the RP ID of host.
func publicSuffixOf(host, id string) bool {
	above, _ := publicsuffix.PublicSuffix(host)
	own, _ := publicsuffix.PublicSuffix(id)
	return own == id || above == id || strings.HasSuffix(above, "."+id)
}
