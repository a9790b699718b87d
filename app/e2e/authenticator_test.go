package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
)

// authenticator is a virtual authenticator of a tab, with a person in front of it
// who says yes at once. Every tab begins with one that is synced.
type authenticator struct {
	p  *tab
	id webauthn.AuthenticatorID
}

// The makes of authenticators that are built into a device, of which a tab has one.
var (
	synced = webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21,
		Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true,
		IsUserVerified: true, AutomaticPresenceSimulation: true, DefaultBackupEligibility: true, DefaultBackupState: true,
	}
	deviceBound = func() webauthn.VirtualAuthenticatorOptions {
		options := synced
		options.DefaultBackupEligibility, options.DefaultBackupState = false, false
		return options
	}()
)

// plugIn gives the tab an authenticator.
func (p *tab) plugIn(make webauthn.VirtualAuthenticatorOptions) *authenticator {
	p.t.Helper()
	added := call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &make})
	return &authenticator{p, added.AuthenticatorID}
}

// swap gives the tab another authenticator in place of its own.
func (p *tab) swap(make webauthn.VirtualAuthenticatorOptions) {
	p.t.Helper()
	call(p, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: p.authenticator.id})
	p.authenticator = p.plugIn(make)
}

func (a *authenticator) passkeys() []*webauthn.Credential {
	a.p.t.Helper()
	return call(a.p, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id}).Credentials
}

// addCredential is webauthn.AddCredential without the members that Chromium
// refuses of an authenticator that has no trust groups.
var addCredential = cdp.Command[addCredentialParams, cdp.Empty]{Method: webauthn.CommandAddCredential}

type addCredentialParams struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      credential               `json:"credential"`
}

type credential struct {
	CredentialID         []byte  `json:"credentialId"`
	IsResidentCredential bool    `json:"isResidentCredential"`
	RpID                 string  `json:"rpId"`
	PrivateKey           []byte  `json:"privateKey"`
	UserHandle           []byte  `json:"userHandle"`
	SignCount            float64 `json:"signCount"`
	BackupEligibility    bool    `json:"backupEligibility"`
	BackupState          bool    `json:"backupState"`
	UserName             string  `json:"userName"`
	UserDisplayName      string  `json:"userDisplayName"`
}

// take gives the authenticator passkeys, as a sync between devices does.
func (a *authenticator) take(passkeys ...*webauthn.Credential) {
	a.p.t.Helper()
	for _, c := range passkeys {
		call(a.p, addCredential, addCredentialParams{a.id, credential{
			c.CredentialID, c.IsResidentCredential, c.RpID, c.PrivateKey, c.UserHandle, c.SignCount,
			c.BackupEligibility, c.BackupState, c.UserName, c.UserDisplayName,
		}})
	}
}

// lose forgets every passkey.
func (a *authenticator) lose() {
	a.p.t.Helper()
	call(a.p, webauthn.ClearCredentials, webauthn.ClearCredentialsParams{AuthenticatorID: a.id})
}

// verifyUser sets whether the person is recognised as the right one.
func (a *authenticator) verifyUser(verified bool) {
	a.p.t.Helper()
	call(a.p, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: verified})
}

// wantPasskeys waits until so many are left: signals are not awaited by the page.
func (a *authenticator) wantPasskeys(want int) {
	a.p.t.Helper()
	a.p.eventually("the authenticator has the right number of passkeys", func() bool { return len(a.passkeys()) == want })
}

// stranger is a passkey for the site that the site does not know.
func stranger() *webauthn.Credential {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // P-256 has an encoding
	}
	random := make([]byte, 64)
	rand.Read(random)
	return &webauthn.Credential{
		CredentialID: random[:32], UserHandle: random[32:], RpID: "localhost", PrivateKey: private,
		IsResidentCredential: true, SignCount: -1, BackupEligibility: true, BackupState: true, UserName: "lost-mole-11",
	}
}
