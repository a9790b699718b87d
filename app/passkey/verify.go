package passkey

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"bio/app/account"
)

// Answer is what a browser returned: a registration or an assertion.
type Answer struct {
	creation *protocol.ParsedCredentialCreationData
	request  *protocol.ParsedCredentialAssertionData
}

// Bounds, in bytes. Credential ids are as WebAuthn L3 §4 has them. The others
// bound the work of a verification: an RSA key of any length is a valid COSE key,
// and one of a few kilobytes takes seconds to verify with.
const (
	minCredentialID = 16
	maxCredentialID = 1023
	maxSignature    = 1024
	maxPublicKey    = 1024
	maxStatement    = 8 << 10 // a certificate chain among it
)

// Parse reads a PublicKeyCredential as JSON: id, rawId, type and response, with
// base64url members; an attestationObject means registration. Every error is
// ErrMalformed.
func Parse(credential []byte) (*Answer, error) {
	var c struct {
		protocol.PublicKeyCredential
		Response struct {
			protocol.AuthenticatorResponse
			Transports        []string                  `json:"transports"`
			AttestationObject protocol.URLEncodedBase64 `json:"attestationObject"`
			AuthenticatorData protocol.URLEncodedBase64 `json:"authenticatorData"`
			Signature         protocol.URLEncodedBase64 `json:"signature"`
			UserHandle        protocol.URLEncodedBase64 `json:"userHandle"`
		} `json:"response"`
	}
	if err := json.Unmarshal(credential, &c); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(c.RawID) > maxCredentialID || len(c.Response.Signature) > maxSignature {
		return nil, fmt.Errorf("%w: longer than any authenticator makes it", ErrMalformed)
	}
	var a Answer
	var err error
	if len(c.Response.AttestationObject) > 0 {
		a.creation, err = protocol.CredentialCreationResponse{
			PublicKeyCredential: c.PublicKeyCredential,
			AttestationResponse: protocol.AuthenticatorAttestationResponse{
				AuthenticatorResponse: c.Response.AuthenticatorResponse,
				Transports:            c.Response.Transports,
				AttestationObject:     c.Response.AttestationObject,
			},
		}.Parse()
	} else {
		a.request, err = protocol.CredentialAssertionResponse{
			PublicKeyCredential: c.PublicKeyCredential,
			AssertionResponse: protocol.AuthenticatorAssertionResponse{
				AuthenticatorResponse: c.Response.AuthenticatorResponse,
				AuthenticatorData:     c.Response.AuthenticatorData,
				Signature:             c.Response.Signature,
				UserHandle:            c.Response.UserHandle,
			},
		}.Parse()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return &a, nil
}

// IsRegistration reports whether the answer offers a new passkey.
func (a *Answer) IsRegistration() bool { return a.creation != nil }

// CredentialID is the id that the browser named; it is not verified.
func (a *Answer) CredentialID() []byte {
	if a.creation != nil {
		return a.creation.RawID
	}
	return a.request.RawID
}

// WithoutCredProps forgets what the client says of the new credential's properties
// (WebAuthn L3 §10.1.3). It decides nothing here, and libraries report it unasked;
// every other extension that was not asked for is refused.
func (a *Answer) WithoutCredProps() {
	if a.creation != nil {
		a.creation.ClientExtensionResults.CredProps = nil
	} else {
		a.request.ClientExtensionResults.CredProps = nil
	}
}

// Registration is a verified new passkey.
type Registration struct {
	Challenge    []byte    // to be consumed with the registration
	Expires      time.Time // of the challenge
	Carried      []byte    // by the challenge
	UserHandle   []byte    // of the account that it makes, when it makes one
	Credential   account.Credential
	UserVerified bool
}

// Register verifies a registration (WebAuthn L3 §7.1). Errors wrap ErrChallenge
// or ErrRefused; a *Refusal names the class.
func (rp *RelyingParty) Register(a *Answer, purpose Purpose, binding string) (*Registration, error) {
	client := a.creation.Response.CollectedClientData
	redeemed, err := rp.redeem(client.Challenge, purpose, binding)
	if err != nil {
		return nil, err
	}
	if !rp.exactOrigin(client.Origin) {
		return nil, &Refusal{Reason: "wrong origin"}
	}
	if len(a.creation.RawID) < minCredentialID {
		return nil, &Refusal{Reason: "short credential id"}
	}
	// An RSA signature is as long as its key, here one in a certificate.
	attested := a.creation.Response.AttestationObject
	if sig, _ := attested.AttStatement["sig"].([]byte); len(sig) > maxSignature || len(attested.AuthData.AttData.CredentialPublicKey) > maxPublicKey ||
		len(a.creation.Raw.AttestationResponse.AttestationObject)-len(attested.RawAuthData) > maxStatement {
		return nil, &Refusal{Reason: "key too large"}
	}
	handle := redeemed.keys.userHandle(redeemed.challenge)
	made, err := rp.lib.CreateCredential(user{handle: handle}, webauthn.SessionData{
		Challenge: client.Challenge, RelyingPartyID: rp.id, UserID: handle,
		UserVerification: rp.uv, CredParams: rp.params,
	}, a.creation)
	if err != nil {
		return nil, &Refusal{Reason: reasonOf(err)}
	}
	flags := byte(made.Flags.ProtocolValue())
	if err := rp.verified(flags); err != nil {
		return nil, err
	}
	now := rp.now()
	credential := account.Credential{
		ID: made.ID, UserID: account.UserID(handle), UserHandle: handle,
		PublicKey: made.PublicKey, SignCount: made.Authenticator.SignCount, Flags: flags,
		AAGUID: made.Authenticator.AAGUID, AttestationType: made.AttestationType,
		AttestationFormat: made.AttestationFormat, CreatedAt: now, LastUsedAt: now,
		Name: cmp.Or(account.Authenticator(made.Authenticator.AAGUID), "Passkey"),
	}
	for _, t := range a.creation.Response.Transports {
		if known[t] && !slices.Contains(credential.Transports, string(t)) {
			credential.Transports = append(credential.Transports, string(t))
		}
	}
	return &Registration{
		Challenge: redeemed.challenge, Expires: redeemed.expires, Carried: redeemed.carried, UserHandle: handle, Credential: credential,
		UserVerified: flags&account.FlagUserVerified != 0,
	}, nil
}

// known are the transports of WebAuthn L3 §5.8.4 and the ones seen before it;
// anything else that a client reports is not kept.
var known = map[protocol.AuthenticatorTransport]bool{
	protocol.USB: true, protocol.NFC: true, protocol.BLE: true,
	protocol.Hybrid: true, protocol.Internal: true, protocol.SmartCard: true,
}

// Assertion is a verified use of a passkey.
type Assertion struct {
	Challenge    []byte    // to be consumed with what it authorises
	Expires      time.Time // of the challenge
	User         account.User
	Credential   account.Credential // as it is to be stored: count, flags, last use
	UserVerified bool
	// CounterStuck says that the signature counter did not rise on a synced
	// passkey: noticed, and allowed.
	CounterStuck bool
	// BecameEligible says that the passkey has become backup eligible since it
	// was registered: recorded, and allowed.
	BecameEligible bool
}

// Lookup finds a credential and its user; account.ErrNotFound when there is none.
type Lookup func(ctx context.Context, credentialID []byte) (account.User, account.Credential, error)

// Assert verifies an assertion (WebAuthn L3 §7.2). Errors wrap ErrChallenge,
// ErrRefused or ErrUnknown, or are lookup's own. A passkey that is not
// registered takes the same steps as one that is, against a key that no one holds.
func (rp *RelyingParty) Assert(ctx context.Context, a *Answer, purpose Purpose, binding string, lookup Lookup) (*Assertion, error) {
	client := a.request.Response.CollectedClientData
	redeemed, err := rp.redeem(client.Challenge, purpose, binding)
	if err != nil {
		return nil, err
	}
	if !rp.exactOrigin(client.Origin) {
		return nil, &Refusal{Reason: "wrong origin"}
	}
	owner, stored, err := lookup(ctx, a.request.RawID)
	unknown := errors.Is(err, account.ErrNotFound)
	if err != nil && !unknown {
		return nil, err
	}
	presented := a.request.Response.AuthenticatorData.Flags
	stranger := unknown || !bytes.Equal(stored.UserHandle, a.request.Response.UserHandle)
	if stranger {
		stored = account.Credential{
			ID: a.request.RawID, PublicKey: rp.stranger,
			UserHandle: a.request.Response.UserHandle, Flags: byte(presented),
		}
	}
	became := !stored.BackupEligible() && presented.HasBackupEligible()
	if became {
		stored.Flags |= account.FlagBackupEligible
	}

	_, used, err := rp.lib.ValidatePasskeyLogin(
		func(_, _ []byte) (webauthn.User, error) {
			return user{handle: stored.UserHandle, credentials: []webauthn.Credential{{
				ID: stored.ID, PublicKey: stored.PublicKey,
				AttestationType: stored.AttestationType, AttestationFormat: stored.AttestationFormat,
				Flags:         webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(stored.Flags)),
				Authenticator: webauthn.Authenticator{AAGUID: stored.AAGUID, SignCount: stored.SignCount},
			}}}, nil
		},
		webauthn.SessionData{Challenge: client.Challenge, RelyingPartyID: rp.id, UserVerification: rp.uv},
		a.request)
	switch {
	case unknown:
		return nil, ErrUnknown
	case stranger:
		return nil, &Refusal{Reason: "wrong user handle", User: owner.ID}
	case err != nil:
		return nil, &Refusal{Reason: reasonOf(err), User: owner.ID}
	}
	if err := rp.verified(byte(presented)); err != nil {
		return nil, err
	}
	stuck := used.Authenticator.CloneWarning
	if stuck && (became || !stored.BackupEligible()) {
		return nil, &Refusal{Reason: "counter", User: owner.ID}
	}
	stored.SignCount = used.Authenticator.SignCount
	stored.Flags = byte(presented)
	stored.LastUsedAt = rp.now()
	return &Assertion{
		Challenge: redeemed.challenge, Expires: redeemed.expires, User: owner, Credential: stored,
		UserVerified: presented.HasUserVerified(), CounterStuck: stuck, BecameEligible: became,
	}, nil
}

// verified asserts presence and, where it is required, verification once more on
// our side: the library enforces what its session data say, and no more.
func (rp *RelyingParty) verified(flags byte) error {
	if flags&account.FlagUserPresent == 0 {
		return &Refusal{Reason: "user presence missing"}
	}
	if rp.uv == protocol.VerificationRequired && flags&account.FlagUserVerified == 0 {
		return &Refusal{Reason: "user verification missing"}
	}
	return nil
}
