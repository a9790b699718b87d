package passkey

import (
	"encoding/base64"

	"github.com/go-webauthn/webauthn/webauthn"
)

// Redeem is what Register and Assert do with a challenge.
func Redeem(rp *RelyingParty, encoded string, purpose Purpose, binding string) ([]byte, error) {
	r, err := rp.redeem(encoded, purpose, binding)
	return append(r.challenge, r.carried...), err
}

// Inject makes rp accept the one challenge given, of whatever form, and no other.
func Inject(rp *RelyingParty, challenge string) {
	rp.redeem = func(encoded string, _ Purpose, _ string) (redeemed, error) {
		raw, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil || encoded != challenge {
			return redeemed{}, ErrChallenge
		}
		return redeemed{challenge: raw, expires: rp.now().Add(rp.ttl), keys: rp.keys[0]}, nil
	}
}

// OfferMore makes rp offer every algorithm of WebAuthn L3 that the library knows,
// not only the recommended ones.
func OfferMore(rp *RelyingParty) { rp.params = webauthn.CredentialParametersExtendedL3() }
