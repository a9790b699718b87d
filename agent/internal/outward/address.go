package outward

import (
	"net/netip"
	"slices"
)

// special are the blocks of addresses that are not public: those that the IANA
// registries of special-purpose addresses (RFC 6890) do not call globally
// reachable, the few exceptions inside them that serve protocols and not the web,
// and all of IPv6 outside of its global unicast, 2000::/3.
var special = prefixes(
	"0.0.0.0/8",       // this host
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // carrier-grade NAT
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, where clouds keep their metadata
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/3",     // multicast, reserved, broadcast
	"::/3",            // unspecified, loopback, IPv4-compatible, local NAT64; not yet given out
	"2001::/23",       // protocol assignments, Teredo
	"2001:db8::/32",   // documentation
	"3fff::/20",       // documentation
	"4000::/2",        // not yet given out, segment routing
	"8000::/1",        // unique local, link-local, site-local, multicast; not yet given out
)

// Blocks whose addresses have an IPv4 address in them.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
)

func prefixes(all ...string) (parsed []netip.Prefix) {
	for _, p := range all {
		parsed = append(parsed, netip.MustParsePrefix(p))
	}
	return parsed
}

// public reports whether an address is one of the internet's. One that embeds an
// IPv4 address is when that is; a NAT64 prefix of a network's own cannot be told
// from other addresses.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // no prefix contains an address with a zone
	bytes := a.As16()
	switch {
	case !a.IsValid():
		return false
	case nat64.Contains(a):
		return public(netip.AddrFrom4([4]byte(bytes[12:16])))
	case sixToFour.Contains(a):
		return public(netip.AddrFrom4([4]byte(bytes[2:6])))
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
