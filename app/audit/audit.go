// Package audit describes the records that every act leaves. It is pure: the
// store appends an Entry in the transaction of the act that it records.
package audit

import (
	"net/netip"
	"time"
)

// Kind names an act.
type Kind string

// The acts that are recorded.
const (
	Registered            Kind = "account.registered"
	SignedIn              Kind = "session.signed_in"
	SignInRefused         Kind = "session.refused"
	SignedOut             Kind = "session.signed_out"
	SessionReplaced       Kind = "session.replaced"
	SessionExpired        Kind = "session.expired"
	DuplicateUndone       Kind = "account.duplicate_undone"
	CounterAnomaly        Kind = "passkey.counter_anomaly"
	BackupEligibleChanged Kind = "passkey.backup_eligible_changed"
	InvitationMade        Kind = "invitation.made"
	InvitationUsed        Kind = "invitation.used"
)

// Entry is one act, as its transaction records it.
type Entry struct {
	Kind       Kind
	Actor      string            // user id; empty when nobody is known
	Credential []byte            // credential id; kept as a hash
	Session    string            // session id; kept as a hash
	Reason     string            // why something was refused: a class, never input
	Client     Client            // where from
	Detail     map[string]string // further facts; never secrets, raw ids or addresses
}

// Record is an Entry in its place in the trail.
type Record struct {
	Seq  int64
	At   time.Time
	Kind Kind
	// Credential and Session are hashes, 32 hex digits, empty where the act had none.
	Actor, Credential, Session string
	Reason                     string
	Client                     Client
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
