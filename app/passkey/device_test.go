package passkey_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"bio/app/account"
	"bio/app/passkey"
)

const (
	rpID    = "example.org"
	origin  = "https://example.org"
	binding = "the browser's binding"
	ttl     = 5 * time.Minute
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// party is a relying party by a clock that stands still until it is moved.
type party struct {
	*passkey.RelyingParty
	now time.Time
}

func newParty(t testing.TB, change ...func(*passkey.Options)) *party {
	t.Helper()
	p := &party{now: epoch}
	o := passkey.Options{
		ID: rpID, Name: "Bio", Origins: []string{origin},
		UserVerification: "required", ResidentKey: "required", Attestation: "none",
		TTL: ttl, Secret: []byte("a root secret of thirty-two bytes"), Now: func() time.Time { return p.now },
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if p.RelyingParty, err = passkey.New(o); err != nil {
		t.Fatal(err)
	}
	return p
}

func preferred(o *passkey.Options) { o.UserVerification = "preferred" }

// draft is an answer before it is signed.
type draft struct {
	client     map[string]any
	rpID       string
	flags      byte
	count      uint32
	attested   []byte // attested credential data
	extensions []byte
	format     string         // of the attestation
	statement  []byte         // CBOR map, empty unless it is set
	out        map[string]any // replaces members of the credential once it is signed
	response   map[string]any // replaces members of its response once it is signed
}

func (d *draft) authenticatorData() []byte {
	hash := sha256.Sum256([]byte(d.rpID))
	b := append(hash[:], d.flags)
	b = binary.BigEndian.AppendUint32(b, d.count)
	return append(append(b, d.attested...), d.extensions...)
}

// device is an authenticator with one passkey. Its draft can be changed before it
// is signed, as a bad authenticator or client would.
type device struct {
	virtualwebauthn.Credential
	handle []byte
	flags  byte // without those that the ceremony sets
}

const (
	flagAttested   = 1 << 6
	flagExtensions = 1 << 7
	synced         = account.FlagUserPresent | account.FlagUserVerified | account.FlagBackupEligible | account.FlagBackupState
	bound          = account.FlagUserPresent | account.FlagUserVerified
)

func newDevice() *device {
	d := &device{flags: synced}
	// virtualwebauthn leaves leading zeros out of coordinates.
	for d.Key == nil || len(d.Key.AttestationData()) != 77 {
		d.Credential = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	return d
}

func (d *device) draft(kind, challenge string) *draft {
	return &draft{
		client: map[string]any{"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false},
		rpID:   rpID, flags: d.flags, count: d.Counter, format: "none",
		out: map[string]any{}, response: map[string]any{},
	}
}

func (d *device) attestedData() []byte {
	b := make([]byte, 16) // AAGUID
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.ID)))
	return append(append(b, d.ID...), d.Key.AttestationData()...)
}

// create answers navigator.credentials.create().
func (d *device) create(o passkey.Offer, changes ...func(*draft)) []byte {
	f := d.draft("webauthn.create", o.Challenge)
	f.flags |= flagAttested
	f.attested = d.attestedData()
	for _, change := range changes {
		change(f)
	}
	d.handle, _ = base64.RawURLEncoding.DecodeString(o.UserHandle)
	authData := f.authenticatorData()
	object := append([]byte("\xa3\x63fmt"), byte(0x60+len(f.format)))
	object = append(object, f.format...)
	if f.statement == nil {
		f.statement = []byte{0xa0}
	}
	object = append(append(object, "\x67attStmt"...), f.statement...)
	object = append(object, "\x68authData\x59"...)
	object = binary.BigEndian.AppendUint16(object, uint16(len(authData)))
	return d.answer(f, map[string]any{"attestationObject": encode(append(object, authData...))})
}

// get answers navigator.credentials.get().
func (d *device) get(o passkey.Offer, changes ...func(*draft)) []byte {
	f := d.draft("webauthn.get", o.Challenge)
	for _, change := range changes {
		change(f)
	}
	authData, client := f.authenticatorData(), sha256.Sum256(must(json.Marshal(f.client)))
	digest := sha256.Sum256(append(authData[:len(authData):len(authData)], client[:]...))
	return d.answer(f, map[string]any{
		"authenticatorData": encode(authData), "signature": encode(must(d.Key.Sign(digest[:]))), "userHandle": encode(d.handle),
	})
}

func (d *device) answer(f *draft, response map[string]any) []byte {
	response["clientDataJSON"] = encode(must(json.Marshal(f.client)))
	for name, value := range f.response {
		response[name] = value
	}
	credential := map[string]any{"id": encode(d.ID), "rawId": encode(d.ID), "type": "public-key", "response": response}
	for name, value := range f.out {
		credential[name] = value
	}
	return must(json.Marshal(credential))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// register parses and verifies a registration.
func (p *party) register(credential []byte) (*passkey.Registration, error) {
	a, err := passkey.Parse(credential)
	if err != nil {
		return nil, err
	}
	return p.Register(a, passkey.SignIn, binding)
}

// known is a lookup that knows one credential.
func known(c account.Credential) passkey.Lookup {
	return func(_ context.Context, id []byte) (account.User, account.Credential, error) {
		if string(id) != string(c.ID) {
			return account.User{}, account.Credential{}, account.ErrNotFound
		}
		return account.User{ID: c.UserID, Handle: c.UserHandle}, c, nil
	}
}

// assert parses and verifies an assertion of the credential.
func (p *party) assert(credential []byte, stored account.Credential) (*passkey.Assertion, error) {
	a, err := passkey.Parse(credential)
	if err != nil {
		return nil, err
	}
	return p.Assert(context.Background(), a, passkey.SignIn, binding, known(stored))
}

// registered is a device that p knows, and its credential.
func (p *party) registered(t testing.TB, flags byte, count uint32) (*device, account.Credential) {
	t.Helper()
	d := newDevice()
	d.flags, d.Counter = flags, count
	reg, err := p.register(d.create(p.Offer(passkey.SignIn, binding)))
	if err != nil {
		t.Fatal(err)
	}
	return d, reg.Credential
}
