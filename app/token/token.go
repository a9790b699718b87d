// Package token signs and verifies Bio's tokens: compact JWS (RFC 7515) with
// EdDSA over Ed25519 (RFC 8037), told apart by their typ header (RFC 8725 §3.11).
package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ErrInvalid says that a token is not to be believed. It is the only thing that
// Verify says of a token, whatever is wrong with it.
var ErrInvalid = errors.New("token: not valid")

// maxLen bounds what is looked at: no token of Bio comes near it.
const maxLen = 8 << 10

// Keyring signs with one key and verifies with that and its predecessors. It is
// safe for concurrent use.
type Keyring struct {
	id       string
	private  ed25519.PrivateKey
	accepted map[string]ed25519.PublicKey // by key id
}

// NewKeyring makes a keyring from Ed25519 seeds of 32 bytes (RFC 8032 §5.1.5):
// the one that signs, and those that are still accepted.
func NewKeyring(seed []byte, previous ...[]byte) *Keyring {
	k := &Keyring{private: ed25519.NewKeyFromSeed(seed), accepted: map[string]ed25519.PublicKey{}}
	for _, s := range append([][]byte{seed}, previous...) {
		public := ed25519.NewKeyFromSeed(s).Public().(ed25519.PublicKey)
		k.accepted[Thumbprint(public)] = public
	}
	k.id = Thumbprint(k.private.Public().(ed25519.PublicKey))
	return k
}

// Thumbprint is the key id: the JWK thumbprint of the public key (RFC 7638,
// RFC 8037 appendix A.3), base64url.
func Thumbprint(public ed25519.PublicKey) string {
	jwk := fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, base64.RawURLEncoding.EncodeToString(public))
	sum := sha256.Sum256([]byte(jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Sign returns the claims as a token of that type, such as "session+jwt".
func (k *Keyring) Sign(typ string, claims jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = typ, k.id
	return t.SignedString(k.private)
}

// Expect is what a token must be. Every member is required.
type Expect struct {
	Type     string
	Issuer   string
	Audience string
	Now      time.Time
}

// Verify checks the signature, the type, the issuer, the audience and the
// expiry of a token and reads its claims into claims. A token has one spelling:
// base64url is decoded strictly, without padding or line breaks.
func (k *Keyring) Verify(compact string, want Expect, claims jwt.Claims) error {
	if len(compact) > maxLen || strings.ContainsAny(compact, "\r\n") {
		return ErrInvalid
	}
	_, err := jwt.ParseWithClaims(compact, claims,
		func(t *jwt.Token) (any, error) {
			kid, _ := t.Header["kid"].(string)
			public, ok := k.accepted[kid]
			if !ok || t.Header["typ"] != want.Type {
				return nil, ErrInvalid
			}
			return public, nil
		},
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(want.Issuer), jwt.WithAudience(want.Audience), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return want.Now }))
	if err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return nil
}
