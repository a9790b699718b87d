package config

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
)

// Secret is key material. However it is printed, logged or encoded, it shows
// as "[redacted]"; only a conversion to []byte gives its bytes.
type Secret []byte

const redacted = "[redacted]"

// minSecret is the length of the shortest secret that is accepted, in bytes.
const minSecret = 32

const secretMend = "Make one with: openssl rand -hex 32"

// String redacts.
func (s Secret) String() string { return redacted }

// Format redacts under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText redacts, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Equal reports whether two secrets are the same, in constant time.
func (s Secret) Equal(other Secret) bool { return subtle.ConstantTimeCompare(s, other) == 1 }

// parseSecret decodes hex or base64url, padded or not. Text that is all hex
// digits is hex: as base64url it would be a secret of less than its length.
func parseSecret(v string) (Secret, bool) {
	b, err := hex.DecodeString(v)
	if err != nil {
		// The decoder skips line breaks; one value has one spelling.
		if strings.ContainsAny(v, "\r\n") {
			return nil, false
		}
		encoding := base64.RawURLEncoding
		if strings.HasSuffix(v, "=") {
			encoding = base64.URLEncoding
		}
		if b, err = encoding.Strict().DecodeString(v); err != nil {
			return nil, false
		}
	}
	if len(b) < minSecret {
		return nil, false
	}
	return b, true
}
