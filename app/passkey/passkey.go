// Package passkey holds the WebAuthn ceremonies: the options that a page carries
// and the verification of what the browser sends back (WebAuthn Level 3, §7.1
// and §7.2). It stores nothing. A verified answer names the challenge that was
// consumed, and whoever acts on it stores that in the same transaction.
package passkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"bio/app/account"
)

// Options say who the relying party is and what it asks of authenticators.
type Options struct {
	ID               string   // RP ID: a domain, lower case
	Name             string   // shown by some authenticators
	Origins          []string // scheme://host[:port], compared exactly
	UserVerification string   // "required" or "preferred"
	ResidentKey      string   // "required" or "preferred"
	Attestation      string   // "none", "indirect", "direct" or "enterprise"
	TTL              time.Duration
	Secret           []byte   // keys challenges and user handles
	Previous         [][]byte // still accepted, no longer used
	Now              func() time.Time
}

// RelyingParty runs ceremonies. It is safe for concurrent use.
type RelyingParty struct {
	lib      *webauthn.WebAuthn
	id       string
	origins  []string
	uv       protocol.UserVerificationRequirement
	params   []protocol.CredentialParameter
	ttl      time.Duration
	keys     []keys // the current ones first
	now      func() time.Time
	get      requestOptions
	create   creationOptions
	stranger []byte // COSE key that no one holds, for what is not registered

	// redeem is redeemOwn, but for published test vectors, which bring their own challenges.
	redeem func(encoded string, purpose Purpose, binding string) (redeemed, error)
}

// New makes a relying party; an error says which option is not acceptable.
func New(o Options) (*RelyingParty, error) {
	lib, err := webauthn.New(&webauthn.Config{
		RPID: o.ID, RPDisplayName: o.Name, RPOrigins: o.Origins,
		AttestationPreference: protocol.ConveyancePreference(o.Attestation),
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:        protocol.ResidentKeyRequirement(o.ResidentKey),
			RequireResidentKey: protocol.ResidentKeyNotRequired(),
			UserVerification:   protocol.UserVerificationRequirement(o.UserVerification),
		},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: o.TTL, TimeoutUVD: o.TTL},
			Registration: webauthn.TimeoutConfig{Timeout: o.TTL, TimeoutUVD: o.TTL},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkey: relying party: %w", err)
	}
	if o.ResidentKey == string(protocol.ResidentKeyRequirementRequired) {
		lib.Config.AuthenticatorSelection.RequireResidentKey = protocol.ResidentKeyRequired()
	}
	rp := &RelyingParty{
		lib: lib, id: o.ID, origins: o.Origins, ttl: o.TTL, now: o.Now,
		uv:     protocol.UserVerificationRequirement(o.UserVerification),
		params: webauthn.CredentialParametersRecommendedL3(),
	}
	rp.redeem = rp.redeemOwn
	for _, secret := range append([][]byte{o.Secret}, o.Previous...) {
		rp.keys = append(rp.keys, newKeys(secret))
	}
	if rp.stranger, err = strangerKey(); err != nil {
		return nil, fmt.Errorf("passkey: key: %w", err)
	}
	if err := rp.prepare(); err != nil {
		return nil, err
	}
	return rp, nil
}

// ID is the RP ID.
func (rp *RelyingParty) ID() string { return rp.id }

// strangerKey makes a public key whose private half is dropped at once.
func strangerKey() ([]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := private.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		return nil, err
	}
	return webauthncbor.Marshal(webauthncose.EC2PublicKeyData{
		PublicKeyData: webauthncose.PublicKeyData{
			KeyType: int64(webauthncose.EllipticKey), Algorithm: int64(webauthncose.AlgES256),
		},
		Curve: int64(webauthncose.P256), XCoord: point[1:33], YCoord: point[33:],
	})
}

// Offer is what one page offers: a challenge that serves both get and create,
// and the account that create would make, unless the caller sets another: that
// which the passkey is for.
type Offer struct {
	Challenge  string // base64url
	UserHandle string // base64url
	Name       string // of the account
}

// Offer makes a fresh challenge for the browser of that binding.
func (rp *RelyingParty) Offer(purpose Purpose, binding string) Offer {
	return rp.OfferCarrying(purpose, binding, nil)
}

// OfferCarrying makes a fresh challenge that carries up to 512 bytes to the
// Registration that answers it, so that the server need not remember them. They
// are authenticated, and the browser can read them.
func (rp *RelyingParty) OfferCarrying(purpose Purpose, binding string, carried []byte) Offer {
	challenge := rp.keys[0].issue(rp.now(), purpose, binding, carried)
	handle := rp.keys[0].userHandle(challenge)
	return Offer{
		Challenge:  base64.RawURLEncoding.EncodeToString(append(challenge, carried...)),
		UserHandle: base64.RawURLEncoding.EncodeToString(handle),
		Name:       account.Name(handle, 0),
	}
}

// requestOptions and creationOptions are the library's, with an offer's values as
// they stand in JSON.
type requestOptions struct {
	protocol.PublicKeyCredentialRequestOptions
	Challenge string `json:"challenge"`
}

type creationOptions struct {
	protocol.PublicKeyCredentialCreationOptions
	Challenge string     `json:"challenge"`
	User      userEntity `json:"user"`
}

type userEntity struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
}

// prepare lets the library make the options; only an offer's values change from
// page to page.
func (rp *RelyingParty) prepare() error {
	assertion, _, err := rp.lib.BeginDiscoverableLogin()
	if err != nil {
		return fmt.Errorf("passkey: request options: %w", err)
	}
	creation, _, err := rp.lib.BeginRegistration(user{handle: []byte{0}}, webauthn.WithCredentialParameters(rp.params))
	if err != nil {
		return fmt.Errorf("passkey: creation options: %w", err)
	}
	rp.get.PublicKeyCredentialRequestOptions = assertion.Response
	rp.create.PublicKeyCredentialCreationOptions = creation.Response
	return nil
}

// pageOptions are an offer as a page carries it.
type pageOptions struct {
	Get    *requestOptions  `json:"get,omitempty"`
	Create *creationOptions `json:"create,omitempty"`
	TTL    int64            `json:"ttl"` // milliseconds
}

// OptionsJSON is the offer as a page carries it: {"get":…,"create":…,"ttl":ms},
// with PublicKeyCredentialRequestOptionsJSON and
// PublicKeyCredentialCreationOptionsJSON (WebAuthn L3 §5.1.8, §5.1.9).
func (rp *RelyingParty) OptionsJSON(o Offer) []byte {
	get, create := rp.request(o), rp.creation(o, nil)
	return marshal(pageOptions{&get, &create, rp.ttl.Milliseconds()})
}

// GetOptionsJSON is the offer as a page carries it where only a passkey that
// exists will do: {"get":…,"ttl":ms}.
func (rp *RelyingParty) GetOptionsJSON(o Offer) []byte {
	get := rp.request(o)
	return marshal(pageOptions{&get, nil, rp.ttl.Milliseconds()})
}

// CreateOptionsJSON is the offer as a page carries it where only a new passkey
// will do, for ttl or for as long as a challenge lasts: {"create":…,"ttl":ms}. An
// authenticator that has one of the passkeys in has makes no other.
func (rp *RelyingParty) CreateOptionsJSON(o Offer, has []account.Credential, ttl time.Duration) []byte {
	create := rp.creation(o, has)
	return marshal(pageOptions{nil, &create, min(ttl, rp.ttl).Milliseconds()})
}

// RequestJSON is the offer for navigator.credentials.get() alone:
// {"publicKey": PublicKeyCredentialRequestOptionsJSON} (WebAuthn L3 §5.1.9).
func (rp *RelyingParty) RequestJSON(o Offer) []byte {
	return marshal(struct {
		PublicKey requestOptions `json:"publicKey"`
	}{rp.request(o)})
}

// CreationJSON is the offer for navigator.credentials.create() alone:
// {"publicKey": PublicKeyCredentialCreationOptionsJSON} (WebAuthn L3 §5.1.8). An
// authenticator that has one of the passkeys in has makes no other.
func (rp *RelyingParty) CreationJSON(o Offer, has []account.Credential) []byte {
	return marshal(struct {
		PublicKey creationOptions `json:"publicKey"`
	}{rp.creation(o, has)})
}

func (rp *RelyingParty) request(o Offer) requestOptions {
	options := rp.get
	options.Challenge = o.Challenge
	return options
}

func (rp *RelyingParty) creation(o Offer, has []account.Credential) creationOptions {
	options := rp.create
	options.Challenge = o.Challenge
	options.User = userEntity{ID: o.UserHandle, Name: o.Name, DisplayName: o.Name}
	for _, c := range has {
		one := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: c.ID}
		for _, t := range c.Transports {
			one.Transport = append(one.Transport, protocol.AuthenticatorTransport(t))
		}
		options.CredentialExcludeList = append(options.CredentialExcludeList, one)
	}
	return options
}

func marshal(options any) []byte {
	text, err := json.Marshal(options)
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

// user is an account as the library sees it.
type user struct {
	handle      []byte
	name        string
	credentials []webauthn.Credential
}

func (u user) WebAuthnID() []byte                         { return u.handle }
func (u user) WebAuthnName() string                       { return u.name }
func (u user) WebAuthnDisplayName() string                { return u.name }
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

// exactOrigin holds the origin to the letter. The library folds case and default
// ports and ignores userinfo and paths; no browser sends any of these.
func (rp *RelyingParty) exactOrigin(origin string) bool { return slices.Contains(rp.origins, origin) }

// reasonOf sorts what the library found into the classes that the trail keeps.
// The library's own text is never shown: it carries expected values.
func reasonOf(err error) string {
	text := strings.ToLower(err.Error())
	if e, ok := err.(*protocol.Error); ok {
		text += " " + strings.ToLower(e.DevInfo) + " " + e.Type
	}
	for _, r := range []struct{ mark, reason string }{
		{"user verification required", "user verification missing"},
		{"user presence required", "user presence missing"},
		{"rp hash mismatch", "wrong relying party"},
		{"cross origin", "cross origin"}, {"toporigin", "cross origin"}, {"top origin", "cross origin"},
		{"validating origin", "wrong origin"},
		{"ceremony type", "wrong type"},
		{"signature", "bad signature"},
		{"backup eligible", "backup flags"}, {"backup state", "backup flags"},
		{"user handle", "wrong user handle"},
		{"extension", "unsolicited extension"},
		{"algorithm", "algorithm not offered"}, {"attestation", "bad attestation"},
	} {
		if strings.Contains(text, r.mark) {
			return r.reason
		}
	}
	return "not valid"
}
