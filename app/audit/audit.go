// Package audit is the trail: a Merkle log (RFC 6962) with one leaf for every act.
//
// A leaf holds commitments only. The payload beside it says who, from where and
// why, and can be destroyed with its account while the tree still verifies. A
// checkpoint is a signed note (C2SP tlog-checkpoint) of the tree's size and root:
// who keeps one notices every later change of what came before it.
//
// The package is pure: it seals entries, signs and reads checkpoints, checks a
// log or an export, and knows no database.
package audit

import (
	"net/netip"
	"time"
)

// Entry is one act, as its transaction records it.
type Entry struct {
	Kind       Kind
	Actor      string            // id of the user who acted; empty when nobody is known
	Subject    string            // id of the user whom the act removed
	Credential string            // ref of the passkey: never its id
	Session    string            // session id; kept as its SessionRef
	Reason     string            // why something was refused: a class, never input
	Client     Client            // where from
	Count      int               // how many acts this entry stands for; 0: one
	Detail     map[string]string // further facts; never secrets, raw ids or addresses
}

// Record is an entry as it is read again.
type Record struct {
	Index int64 // its place in the log: 0, 1, 2, …
	At    time.Time
	Kind  Kind
	// Actor is a user id, Credential and Session are refs; empty where the act had none.
	Actor, Credential, Session string
	Reason                     string
	Client                     Client
	Count                      int
	Detail                     map[string]string
}

// Client is what is kept of where an act came from.
type Client struct {
	Network string // "203.0.113.0/24", "2001:db8::/48": see Network
	Browser string // "Firefox": see Browser
	System  string // "Linux"
}

// Network cuts an address to the prefix that is kept: /24 of IPv4, /48 of IPv6.
// The zero address gives "".
func Network(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}
