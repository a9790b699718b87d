package passkey

import (
	"encoding/base64"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
)

// Redeem is what Register and Assert do with a challenge.
func Redeem(rp *RelyingParty, encoded string, purpose Purpose, binding string) ([]byte, error) {
	challenge, _, _, err := rp.redeem(encoded, purpose, binding)
	return challenge, err
}

// Inject makes rp accept the one challenge given, of whatever form, and no other.
func Inject(rp *RelyingParty, challenge string) {
	rp.redeem = func(encoded string, _ Purpose, _ string) ([]byte, time.Time, keys, error) {
		raw, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil || encoded != challenge {
			return nil, time.Time{}, keys{}, ErrChallenge
		}
		return raw, rp.now().Add(rp.ttl), rp.keys[0], nil
	}
}

// OfferMore makes rp offer every algorithm of WebAuthn L3 that the library knows,
// not only the recommended ones.
func OfferMore(rp *RelyingParty) { rp.params = webauthn.CredentialParametersExtendedL3() }
