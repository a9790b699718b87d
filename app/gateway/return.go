// Package gateway decides where a person may be sent and, for the services that
// Bio guards, who may pass. It is pure policy: facts in, a decision out.
package gateway

import (
	"net/url"
	"strings"
)

// maxReturn bounds a return address; browsers and proxies cut near this length.
const maxReturn = 2048

// ReturnTo checks the address that a person asks to be sent to after signing in:
// a path on Bio, or https on a host that guarded accepts. What it returns is
// written anew from the address's parts, in printable ASCII, and is read by every
// browser as Bio read it; ok is false for anything else.
func ReturnTo(raw string, guarded func(host string) bool) (address string, ok bool) {
	if raw == "" || len(raw) > maxReturn {
		return "", false
	}
	for _, c := range []byte(raw) {
		// Browsers drop some control characters and read a backslash as a slash.
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return "", false
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil {
		return "", false
	}
	clean := url.URL{
		Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery,
		Fragment: u.Fragment, RawFragment: u.RawFragment,
	}
	switch {
	case strings.HasPrefix(raw, "/"):
		if u.Scheme != "" || u.Host != "" || !plainPath(u.Path) {
			return "", false
		}
	case strings.HasPrefix(raw, "https://"):
		if clean.Path == "" {
			clean.Path = "/"
		}
		if !plainHost(u.Host) || !guarded(u.Host) || !plainPath(clean.Path) {
			return "", false
		}
		clean.Scheme, clean.Host = u.Scheme, u.Host
	default:
		return "", false
	}
	return clean.String(), true
}

// plainPath accepts an absolute path without empty or dot segments, backslashes
// or control characters, also where they were percent-encoded: proxies and
// browsers differ on all of these.
func plainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for _, c := range []byte(path) {
		if c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || s == "" && i < len(segments)-1 {
			return false
		}
	}
	return true
}

// plainHost accepts a lower-case name of letters, digits and inner hyphens in at
// least two labels, without a port.
func plainHost(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return len(labels) > 1 && len(host) <= 253
}
