package views

import (
	"html"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/util"
	"golang.org/x/net/idna"
)

// place is where a link of an agent may go.
type place struct {
	href   string // ASCII
	leaves bool   // it is not on Bio: the person must see where it goes
}

// destination reads the address of a link. It is ok when it is a path on Bio, or
// http(s) to another host that can be shown as it is: without userinfo, its name in
// ASCII, and nothing in it that a browser would read otherwise than Go. A path on
// Bio has no query: that could open the page of an invitation or a recovery, where
// the next press is for whoever made the link. Nor has one that leaves such a query,
// for it may be Bio's own address.
func destination(address string) (to place, ok bool) {
	for _, c := range []byte(address) {
		if c <= ' ' || c == '\\' || c == 0x7f {
			return place{}, false
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.User != nil || u.Opaque != "" {
		return place{}, false
	}
	rest := u.EscapedPath()
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		rest += "#" + u.EscapedFragment()
	}
	rest = inASCII(rest)
	switch {
	case u.Scheme == "" && u.Host == "":
		if !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "//") || strings.HasPrefix(address, "//") || u.RawQuery != "" {
			return place{}, false
		}
		return place{href: rest}, true
	case u.Scheme != "http" && u.Scheme != "https":
		return place{}, false
	}
	host, ok := hostOf(u)
	if !ok || opensPress(u) {
		return place{}, false
	}
	return place{u.Scheme + "://" + host + rest, true}, true
}

// opensPress reports whether an address, were it Bio's, would change what the first
// page's button does.
func opensPress(u *url.URL) bool {
	query := u.Query()
	return path.Clean("/"+u.Path) == "/" && (query.Has("invite") || query.Has("recover") || query.Has("return_to") || query.Has("rd"))
}

// isWords reports whether the text of a link, as HTML, is words that nobody takes
// for an address: no dot, slash or colon in it, nor anything that looks like one.
func isWords(label string) bool {
	return words.MatchString(html.UnescapeString(tags.ReplaceAllString(label, "")))
}

var (
	tags  = regexp.MustCompile(`<[^>]*>`)
	words = regexp.MustCompile(`^[\p{Lu}\p{Ll}\p{Lt}\p{Lo}\p{M}\p{Nd}\p{So}ー\x{200c}\x{200d} \n,;!?&+()'"’‘“”„«»–—-]*[.…:]?$`)
)

var (
	hostName = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.?$`)
	numeric  = regexp.MustCompile(`(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$`)
)

// hostOf is the host of an address and its port, as they are to be shown.
func hostOf(u *url.URL) (string, bool) {
	name, port := u.Hostname(), u.Port()
	ip, err := netip.ParseAddr(name)
	switch {
	case err == nil && ip.Is4():
	case err == nil:
		if ip.Zone() != "" {
			return "", false
		}
		name = "[" + ip.String() + "]"
	default:
		// What ends in a number is an IPv4 address to browsers, in forms that
		// nobody reads (URL Standard, §3.5 Host parsing).
		if name, err = idna.Lookup.ToASCII(name); err != nil || !hostName.MatchString(name) || numeric.MatchString(name) {
			return "", false
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		return name + ":" + strconv.FormatUint(n, 10), true
	}
	return name, port == "" && !strings.HasSuffix(u.Host, ":")
}

// inASCII encodes the bytes that an address may not have (RFC 3986 §2).
func inASCII(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescaped is the address of a link in Markdown without its backslash escapes and
// character references (CommonMark §2.4 and §2.5).
func unescaped(address []byte) string {
	return string(util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(address))))
}
