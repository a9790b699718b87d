package server

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"

	"bio/app/account"
	"bio/app/config"
)

// derived are the keys that come from the root secret (HKDF, RFC 5869): one for
// each use, the current one first, then those of previous secrets.
type derived struct {
	session [][]byte // Ed25519 seeds
	passkey [][]byte // challenges and user handles
	trail   [][]byte // Ed25519 seeds of checkpoints
	owner   string   // the first owner's invitation, a token
}

func derive(secret []byte, previous []config.Secret) derived {
	var d derived
	for _, root := range append([]config.Secret{secret}, previous...) {
		d.session = append(d.session, key(root, "bio session token"))
		d.trail = append(d.trail, key(root, "bio trail checkpoint"))
		d.passkey = append(d.passkey, key(root, "bio passkey ceremony"))
	}
	d.owner = base64.RawURLEncoding.EncodeToString(key(secret, "bio first owner invitation")[:18])
	return d
}

func key(root []byte, use string) []byte {
	k, err := hkdf.Key(sha256.New, root, nil, use, 32)
	if err != nil {
		panic(err) // only for lengths that HKDF does not give
	}
	return k
}

// isFirstOwner reports whether the hash is that of the invitation that the first
// start printed.
func (s *Server) isFirstOwner(invitation []byte) bool {
	return invitation != nil && bytes.Equal(invitation, account.TokenHash(s.keys.owner))
}
