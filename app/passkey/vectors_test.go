package passkey_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"bio/app/account"
	"bio/app/passkey"
)

// The test vectors of WebAuthn Level 3 §16, extracted to JSON.
const vectorsFile = "../../../shared/webauthn-l3-vectors.json"

type vector struct {
	Name         string
	RPID         string
	Origin       string
	Registration struct {
		Challenge, ClientDataJSON, AttestationObject string
		CredentialID                                 string `json:"credential_id"`
	}
	Authentication struct{ Challenge, ClientDataJSON, AuthenticatorData, Signature string }
}

// expected says how each vector's registration ends: accepted, or refused for
// that reason.
var expected = map[string]string{
	"none-es256": "", "packed-self-es256": "", "none-es256-long-credential-id": "", "packed-es256": "",
	"packed-es384": "", "packed-es512": "", "packed-rs256": "", "packed-eddsa": "", "fido-u2f-es256": "",
	// Frames of other sites are not served.
	"none-es256-crossOrigin": "cross origin", "none-es256-topOrigin": "cross origin",
	// No one verifies Ed448; the others' roots are their vendors'.
	"packed-ed448": "algorithm not offered", "tpm-es256": "bad attestation", "android-key-es256": "bad attestation", "apple-es256": "bad attestation",
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not here: the W3C test vectors were not run", vectorsFile)
	}
	var file struct{ Vectors []vector }
	if err := errors.Join(err, json.Unmarshal(text, &file)); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

// notOffered are the vectors whose algorithms the page does not offer: refused as
// they are, and accepted by a relying party that offers them.
var notOffered = []string{"packed-es384", "packed-es512"}

// party accepts answers without user verification, which most vectors have not.
func (v vector) party(t *testing.T) *party {
	p := newParty(t, preferred)
	if slices.Contains(notOffered, v.Name) {
		_, err := v.register(p, v.creation())
		checkRefused(t, err, "algorithm not offered")
		passkey.OfferMore(p.RelyingParty)
	}
	return p
}

func (v vector) creation() map[string]any {
	return map[string]any{
		"id": v.Registration.CredentialID, "rawId": v.Registration.CredentialID, "type": "public-key",
		"response": map[string]any{
			"clientDataJSON": v.Registration.ClientDataJSON, "attestationObject": v.Registration.AttestationObject,
		},
	}
}

// assertion is the vector's, with the user handle that it leaves out.
func (v vector) assertion(handle []byte) map[string]any {
	return map[string]any{
		"id": v.Registration.CredentialID, "rawId": v.Registration.CredentialID, "type": "public-key",
		"response": map[string]any{
			"clientDataJSON":    v.Authentication.ClientDataJSON,
			"authenticatorData": v.Authentication.AuthenticatorData,
			"signature":         v.Authentication.Signature,
			"userHandle":        encode(handle),
		},
	}
}

func (v vector) register(p *party, credential map[string]any) (*passkey.Registration, error) {
	passkey.Inject(p.RelyingParty, v.Registration.Challenge)
	return p.register(must(json.Marshal(credential)))
}

func (v vector) assert(p *party, credential map[string]any, stored account.Credential) (*passkey.Assertion, error) {
	passkey.Inject(p.RelyingParty, v.Authentication.Challenge)
	return p.assert(must(json.Marshal(credential)), stored)
}

func TestVectors(t *testing.T) {
	all := vectors(t)
	if len(all) != len(expected) {
		t.Errorf("%d vectors, want %d", len(all), len(expected))
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			p := v.party(t)
			want, ok := expected[v.Name]
			if !ok {
				t.Fatal("nothing is said of this vector")
			}
			reg, err := v.register(p, v.creation())
			if want != "" {
				checkRefused(t, err, want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if id := encode(reg.Credential.ID); id != v.Registration.CredentialID {
				t.Errorf("credential id %s, want %s", id, v.Registration.CredentialID)
			}
			used, err := v.assert(p, v.assertion(reg.UserHandle), reg.Credential)
			if err != nil {
				t.Fatal(err)
			}
			if used.User.ID != account.UserID(reg.UserHandle) {
				t.Errorf("user %s", used.User.ID)
			}
		})
	}
}

// members are the parts of a credential that carry something.
var members = []string{"clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle", "id", "rawId", "type"}

// change returns the credential with one member changed, or ok false where it
// has no such member.
func change(credential map[string]any, member string, by func(string) any) (map[string]any, bool) {
	text := must(json.Marshal(credential))
	var copied map[string]any
	if err := json.Unmarshal(text, &copied); err != nil {
		panic(err)
	}
	place := copied
	if _, ok := place[member]; !ok {
		place = copied["response"].(map[string]any)
	}
	value, ok := place[member].(string)
	if !ok {
		return nil, false
	}
	place[member] = by(value)
	return copied, true
}

// spoilt are the ways in which a member is changed as a whole.
var spoilt = map[string]func(string) any{
	"removed":         func(string) any { return nil },
	"emptied":         func(string) any { return "" },
	"truncated":       func(s string) any { return s[:len(s)-2] },
	"cut to nothing":  func(s string) any { return s[:1] },
	"grown":           func(s string) any { return s + "AA" },
	"a number":        func(string) any { return 7 },
	"a list":          func(s string) any { return []string{s} },
	"an object":       func(s string) any { return map[string]string{"value": s} },
	"not base64url":   func(s string) any { return "!" + s[1:] },
	"standard base64": func(s string) any { return "+/" + s[2:] },
}

func TestVectorsMutated(t *testing.T) {
	for _, v := range vectors(t) {
		if expected[v.Name] != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			p := v.party(t)
			reg, err := v.register(p, v.creation())
			if err != nil {
				t.Fatal(err)
			}
			register := func(c map[string]any) error { _, err := v.register(p, c); return err }
			assert := func(c map[string]any) error { _, err := v.assert(p, c, reg.Credential); return err }

			for _, ceremony := range []struct {
				name       string
				credential map[string]any
				verify     func(map[string]any) error
			}{{"create", v.creation(), register}, {"get", v.assertion(reg.UserHandle), assert}} {
				for _, member := range members {
					for how, by := range spoilt {
						changed, ok := change(ceremony.credential, member, by)
						if !ok {
							continue
						}
						if err := ceremony.verify(changed); !ours(err) {
							t.Errorf("%s with %s %s: %v", ceremony.name, member, how, err)
						}
					}
				}
				// Each ceremony's answer in the other's clothes.
				swap := strings.NewReplacer("webauthn.create", "webauthn.get", "webauthn.get", "webauthn.create")
				swapped, _ := change(ceremony.credential, "clientDataJSON", func(s string) any {
					return encode([]byte(swap.Replace(string(decode(s)))))
				})
				if err := ceremony.verify(swapped); !errors.Is(err, passkey.ErrRefused) {
					t.Errorf("%s with the other type: %v", ceremony.name, err)
				}
			}

			// A signature covers all of an assertion.
			for _, member := range []string{"clientDataJSON", "authenticatorData", "signature", "userHandle", "id", "rawId"} {
				flip(t, v.assertion(reg.UserHandle), member, func(int) bool { return true }, assert)
			}
			// A registration says less: only a packed statement signs the client data and
			// all of the authenticator data; without it, the RP ID and the id must hold.
			object := decode(v.Registration.AttestationObject)
			hash := sha256.Sum256([]byte(v.RPID))
			start := bytes.Index(object, hash[:])
			id := start + 55
			signed := strings.HasPrefix(v.Name, "packed")
			flip(t, v.creation(), "attestationObject", func(i int) bool {
				inID := i >= id && i < id+len(reg.Credential.ID)
				return i >= start && (signed || i < start+len(hash) || inID)
			}, register)
			if signed {
				flip(t, v.creation(), "clientDataJSON", func(int) bool { return true }, register)
			}
			flip(t, v.creation(), "attestationObject", func(i int) bool { return i < start }, func(c map[string]any) error {
				if err := register(c); err != nil {
					return err
				}
				return passkey.ErrRefused // the statement's own fields; no root is trusted in any case
			})
		})
	}
}

// flip flips one bit of every byte of a member that where names.
func flip(t *testing.T, credential map[string]any, member string, where func(int) bool, verify func(map[string]any) error) {
	t.Helper()
	value, _ := change(credential, member, func(s string) any { return s })
	place := value
	if _, ok := place[member]; !ok {
		place = value["response"].(map[string]any)
	}
	original := decode(place[member].(string))
	for i := range original {
		if !where(i) {
			continue
		}
		flipped := slices.Clone(original)
		flipped[i] ^= 1 << (i % 8)
		place[member] = encode(flipped)
		if err := verify(value); !ours(err) {
			t.Errorf("%s with byte %d of %d flipped: %v", member, i, len(original), err)
		}
	}
}

func decode(s string) []byte { return must(base64.RawURLEncoding.DecodeString(s)) }

// ours reports whether err is one that the package promises.
func ours(err error) bool {
	return slices.ContainsFunc([]error{
		passkey.ErrMalformed, passkey.ErrRefused, passkey.ErrUnknown, passkey.ErrChallenge,
	}, func(target error) bool { return errors.Is(err, target) })
}

// checkRefused fails unless err is a Refusal for that reason.
func checkRefused(t *testing.T, err error, reason string) {
	t.Helper()
	var refusal *passkey.Refusal
	switch {
	case !errors.As(err, &refusal):
		t.Errorf("got %v, want a refusal for %q", err, reason)
	case refusal.Reason != reason:
		t.Errorf("refused for %q, want %q", refusal.Reason, reason)
	}
}
