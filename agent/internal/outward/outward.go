// Package outward is what agents that send requests have in common. It reaches the
// addresses that a setting names, and no others: what is checked is what is connected
// to. It says when to ask again, and why there is no answer, without quoting one.
package outward

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// ConnectTimeout bounds the making of a connection, and that of its TLS.
const ConnectTimeout = 10 * time.Second

// MaxHeader is how large the header of an answer may be, in bytes.
const MaxHeader = 64 << 10

// ErrAddress says that a URL leads to an address that is not allowed.
var ErrAddress = errors.New("address not allowed")

// Target reads a URL and says which addresses it may lead to: with https those of
// the internet; where private ones are allowed, with https any and with http those
// of this machine. Its errors do not repeat the URL, for many have a secret in them;
// that of an address in the URL itself wraps ErrAddress.
func Target(raw string, private bool) (u *url.URL, allowed func(netip.Addr) bool, err error) {
	u, err = url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return nil, nil, errors.New("the URL is not an absolute one")
	}
	if u.User != nil || u.Fragment != "" {
		return nil, nil, errors.New("the URL has a user or a fragment")
	}
	switch {
	case u.Scheme == "https" && private:
		allowed = netip.Addr.IsValid
	case u.Scheme == "https":
		allowed = public
	case u.Scheme == "http" && private:
		allowed = func(a netip.Addr) bool { return a.Unmap().IsLoopback() }
	default:
		return nil, nil, errors.New("the URL is not https")
	}
	a, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil && !allowed(a):
		return nil, nil, fmt.Errorf("%w: %s", ErrAddress, a)
	case err != nil && u.Scheme == "http" && u.Hostname() != "localhost":
		return nil, nil, errors.New("the URL is not https")
	}
	return u, allowed, nil
}

// Transport connects to allowed addresses only, else its error wraps ErrAddress. It
// asks no proxy and keeps no connection: one that is kept may be one that the other
// side has closed, and a POST that went into it is not safe to send again.
func Transport(allowed func(netip.Addr) bool) *http.Transport {
	dialer := net.Dialer{
		Timeout: ConnectTimeout,
		// Here the name is resolved.
		Control: func(_, address string, _ syscall.RawConn) error {
			if a, err := netip.ParseAddrPort(address); err != nil || !allowed(a.Addr()) {
				return ErrAddress
			}
			return nil
		},
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    ConnectTimeout,
		MaxResponseHeaderBytes: MaxHeader,
		DisableKeepAlives:      true,
	}
}
