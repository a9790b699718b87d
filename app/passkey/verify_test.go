package passkey_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/passkey"
)

func TestRegister(t *testing.T) {
	p, d := newParty(t), newDevice()
	d.Counter = 3
	offer := p.Offer(passkey.SignIn, binding)
	p.now = epoch.Add(time.Minute)
	reg, err := p.register(d.create(offer, func(f *draft) {
		f.response["transports"] = []string{"internal", "<script>", "hybrid", "", "usb", "INTERNAL"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	handle := decode(offer.UserHandle)
	want := &passkey.Registration{
		Challenge: decode(offer.Challenge), Expires: epoch.Add(ttl), UserHandle: handle, UserVerified: true,
		Credential: account.Credential{
			ID: d.ID, UserID: account.UserID(handle), UserHandle: handle, PublicKey: d.Key.AttestationData(),
			SignCount: 3, Flags: synced | flagAttested, AAGUID: make([]byte, 16),
			Transports:      []string{"internal", "hybrid", "usb"},
			AttestationType: "none", AttestationFormat: "none", Name: "Passkey", CreatedAt: p.now, LastUsedAt: p.now,
		},
	}
	if diff := cmp.Diff(want, reg); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
}

// What is wrong in the same way with an answer of either ceremony (§7.1 and §7.2).
var badBoth = map[string]struct {
	reason string // of the refusal; "" malformed; "challenge" ErrChallenge
	by     func(*draft)
}{
	"another challenge":       {"challenge", func(f *draft) { f.client["challenge"] = encode(make([]byte, 40)) }},
	"an empty challenge":      {"challenge", func(f *draft) { f.client["challenge"] = "" }},
	"no challenge":            {"challenge", func(f *draft) { delete(f.client, "challenge") }},
	"an unknown type":         {"wrong type", func(f *draft) { f.client["type"] = "payment.get" }},
	"no type":                 {"wrong type", func(f *draft) { delete(f.client, "type") }},
	"type in capitals":        {"wrong type", func(f *draft) { f.client["type"] = strings.ToUpper(f.client["type"].(string)) }},
	"http":                    {"wrong origin", func(f *draft) { f.client["origin"] = "http://example.org" }},
	"another port":            {"wrong origin", func(f *draft) { f.client["origin"] = "https://example.org:8443" }},
	"the default port":        {"wrong origin", func(f *draft) { f.client["origin"] = "https://example.org:443" }},
	"a subdomain":             {"wrong origin", func(f *draft) { f.client["origin"] = "https://www.example.org" }},
	"another domain":          {"wrong origin", func(f *draft) { f.client["origin"] = "https://example.org.evil.example" }},
	"origin in capitals":      {"wrong origin", func(f *draft) { f.client["origin"] = "HTTPS://EXAMPLE.ORG" }},
	"origin with user":        {"wrong origin", func(f *draft) { f.client["origin"] = "https://u@example.org" }},
	"origin with path":        {"wrong origin", func(f *draft) { f.client["origin"] = "https://example.org/" }},
	"origin null":             {"wrong origin", func(f *draft) { f.client["origin"] = "null" }},
	"no origin":               {"wrong origin", func(f *draft) { delete(f.client, "origin") }},
	"in a frame":              {"cross origin", func(f *draft) { f.client["crossOrigin"] = true }},
	"in another site's frame": {"cross origin", func(f *draft) { f.client["crossOrigin"], f.client["topOrigin"] = true, "https://evil.example" }},
	"a top origin":            {"cross origin", func(f *draft) { f.client["topOrigin"] = "https://evil.example" }},
	"another RP ID":           {"wrong relying party", func(f *draft) { f.rpID = "evil.example" }},
	"a parent RP ID":          {"wrong relying party", func(f *draft) { f.rpID = "org" }},
	"user not present":        {"user presence missing", func(f *draft) { f.flags &^= account.FlagUserPresent }},
	"user not verified":       {"user verification missing", func(f *draft) { f.flags &^= account.FlagUserVerified }},
	"backed up, not eligible": {"backup flags", func(f *draft) { f.flags &^= account.FlagBackupEligible }},
	"unsolicited credProps": {"unsolicited extension", func(f *draft) {
		f.out["clientExtensionResults"] = map[string]any{"credProps": map[string]any{"rk": true}}
	}},
	"unsolicited appid": {"unsolicited extension", func(f *draft) {
		f.out["clientExtensionResults"] = map[string]any{"appid": true}
	}},
	"unsolicited prf": {"unsolicited extension", func(f *draft) {
		f.out["clientExtensionResults"] = map[string]any{"prf": map[string]any{"enabled": true}}
	}},

	"client data no JSON":       {"", func(f *draft) { f.response["clientDataJSON"] = encode([]byte("{")) }},
	"client data with more":     {"", func(f *draft) { f.response["clientDataJSON"] = encode([]byte("{} {}")) }},
	"client data a list":        {"", func(f *draft) { f.response["clientDataJSON"] = encode([]byte("[]")) }},
	"no client data":            {"", func(f *draft) { f.response["clientDataJSON"] = nil }},
	"id not rawId":              {"", func(f *draft) { f.out["rawId"] = encode(make([]byte, 32)) }},
	"no id":                     {"", func(f *draft) { f.out["id"] = "" }},
	"no rawId":                  {"", func(f *draft) { f.out["rawId"] = nil }},
	"another credential type":   {"", func(f *draft) { f.out["type"] = "password" }},
	"no credential type":        {"", func(f *draft) { f.out["type"] = nil }},
	"a response that is a list": {"", func(f *draft) { f.out["response"] = []string{} }},
	"no response":               {"", func(f *draft) { f.out["response"] = nil }},
	"id of 1024 bytes": {"", func(f *draft) {
		f.out["id"], f.out["rawId"] = encode(make([]byte, 1024)), encode(make([]byte, 1024))
	}},
	"authenticator data with more":    {"", func(f *draft) { f.extensions = []byte{0xa0} }},
	"extensions promised, none there": {"", func(f *draft) { f.flags |= flagExtensions }},
	"extensions that are not a map":   {"", func(f *draft) { f.flags |= flagExtensions; f.extensions = []byte{0x01} }},
	"extensions cut off":              {"", func(f *draft) { f.flags |= flagExtensions; f.extensions = []byte{0xa1, 0x63} }},
}

func check(t *testing.T, err error, reason string) {
	t.Helper()
	switch reason {
	case "":
		if !errors.Is(err, passkey.ErrMalformed) {
			t.Errorf("got %v, want malformed", err)
		}
	case "challenge":
		if !errors.Is(err, passkey.ErrChallenge) {
			t.Errorf("got %v, want the challenge refused", err)
		}
	default:
		checkRefused(t, err, reason)
	}
}

func TestBothRefused(t *testing.T) {
	for name, tt := range badBoth {
		t.Run(name, func(t *testing.T) {
			p := newParty(t)
			offer := p.Offer(passkey.SignIn, binding)
			_, err := p.register(newDevice().create(offer, tt.by))
			check(t, err, tt.reason)
			d, c := p.registered(t, synced, 0)
			_, err = p.assert(d.get(offer, tt.by), c)
			check(t, err, tt.reason)
		})
	}
}

func TestRegisterRefused(t *testing.T) {
	key := newDevice().Key.AttestationData()
	for name, tt := range map[string]struct {
		reason string
		by     func(*device, *draft)
	}{
		"an assertion's type": {"wrong type", func(_ *device, f *draft) { f.client["type"] = "webauthn.get" }},
		"id of 15 bytes":      {"short credential id", func(d *device, f *draft) { d.ID = d.ID[:15]; f.attested = d.attestedData() }},
		"id of 1 byte":        {"short credential id", func(d *device, f *draft) { d.ID = d.ID[:1]; f.attested = d.attestedData() }},
		"an RSA key that takes seconds to verify with": {"key too large", func(d *device, f *draft) {
			rsa := append([]byte("\xa4\x01\x03\x03\x39\x01\x00\x20\x59\x9c\x40"), bytes.Repeat([]byte{0xff}, 40000)...)
			f.attested = bytes.Replace(d.attestedData(), d.Key.AttestationData(), append(rsa, "\x21\x43\x01\x00\x01"...), 1)
		}},
		"a signature that takes seconds to verify": {"key too large", func(_ *device, f *draft) {
			f.format, f.statement = "packed", append([]byte("\xa2\x63alg\x26\x63sig\x59\x04\x01"), make([]byte, 1025)...)
		}},
		"a statement of 9 KiB": {"key too large", func(_ *device, f *draft) {
			f.format, f.statement = "packed", append([]byte("\xa1\x63x5c\x81\x59\x24\x00"), make([]byte, 9<<10)...)
		}},
		"attested id not the id": {"not valid", func(d *device, f *draft) { f.attested = bytes.Replace(f.attested, d.ID, make([]byte, 32), 1) }},
		"algorithm not offered": {"algorithm not offered", func(_ *device, f *draft) {
			f.attested = bytes.Replace(f.attested, []byte{3, 0x26}, []byte{3, 0x38, 46}, 1)
		}},
		"an unknown format":       {"bad attestation", func(_ *device, f *draft) { f.format = "invented" }},
		"a statement of nothing":  {"bad attestation", func(_ *device, f *draft) { f.format = "packed" }},
		"attested data not there": {"", func(_ *device, f *draft) { f.attested = nil }},
		"attested data not said":  {"", func(_ *device, f *draft) { f.flags &^= flagAttested }},
		"attested data cut off":   {"", func(_ *device, f *draft) { f.attested = f.attested[:len(f.attested)-1] }},
		"a key that is no map":    {"", func(_ *device, f *draft) { f.attested = append(f.attested[:len(f.attested)-len(key)], 0xff) }},
		"attestation cut off":     {"", func(_ *device, f *draft) { f.response["attestationObject"] = encode([]byte("\xa3\x63fmt\x64none")) }},
		"attestation with more": {"", func(_ *device, f *draft) {
			f.response["attestationObject"] = encode([]byte("\xa1\x63fmt\x64none\x00"))
		}},
		"attestation no CBOR":    {"", func(_ *device, f *draft) { f.response["attestationObject"] = encode([]byte("{}")) }},
		"attestation no base64":  {"", func(_ *device, f *draft) { f.response["attestationObject"] = "*" }},
		"an inner id of 1024":    {"", func(d *device, f *draft) { d.ID = make([]byte, 1024); f.attested = d.attestedData() }},
		"transports not a list":  {"", func(_ *device, f *draft) { f.response["transports"] = "usb" }},
		"transports not strings": {"", func(_ *device, f *draft) { f.response["transports"] = []int{1} }},
	} {
		t.Run(name, func(t *testing.T) {
			p, d := newParty(t), newDevice()
			_, err := p.register(d.create(p.Offer(passkey.SignIn, binding), func(f *draft) { tt.by(d, f) }))
			check(t, err, tt.reason)
		})
	}
}

// Ids of 16 and of 1023 bytes are the ends of what is accepted (§4, §7.1 step 25).
func TestRegisterIDLengths(t *testing.T) {
	for _, n := range []int{16, 1023} {
		p, d := newParty(t), newDevice()
		d.ID = bytes.Repeat([]byte{7}, n)
		reg, err := p.register(d.create(p.Offer(passkey.SignIn, binding)))
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		} else if !bytes.Equal(reg.Credential.ID, d.ID) {
			t.Errorf("%d bytes became %d", n, len(reg.Credential.ID))
		}
	}
}

func TestAssertRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		reason string
		by     func(*draft)
	}{
		"a registration's type":     {"wrong type", func(f *draft) { f.client["type"] = "webauthn.create" }},
		"no user handle":            {"wrong user handle", func(f *draft) { f.response["userHandle"] = nil }},
		"an empty user handle":      {"wrong user handle", func(f *draft) { f.response["userHandle"] = "" }},
		"another user handle":       {"wrong user handle", func(f *draft) { f.response["userHandle"] = encode(make([]byte, 32)) }},
		"another key's signature":   {"bad signature", func(f *draft) { f.response["signature"] = encode(must(newDevice().Key.Sign(make([]byte, 32)))) }},
		"no signature":              {"bad signature", func(f *draft) { f.response["signature"] = nil }},
		"a signature of nothing":    {"bad signature", func(f *draft) { f.response["signature"] = "" }},
		"a signature of zeros":      {"bad signature", func(f *draft) { f.response["signature"] = encode([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}) }},
		"no authenticator data":     {"", func(f *draft) { f.response["authenticatorData"] = nil }},
		"authenticator data of 36":  {"", func(f *draft) { f.response["authenticatorData"] = encode(make([]byte, 36)) }},
		"attested data not there":   {"", func(f *draft) { f.flags |= flagAttested }},
		"signature a number":        {"", func(f *draft) { f.response["signature"] = 1 }},
		"a user handle no base64":   {"", func(f *draft) { f.response["userHandle"] = "%" }},
		"client data of the future": {"bad signature", func(f *draft) { f.response["clientDataJSON"] = clientData(f, "extra", "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParty(t)
			d, c := p.registered(t, synced, 0)
			_, err := p.assert(d.get(p.Offer(passkey.SignIn, binding), tt.by), c)
			check(t, err, tt.reason)
		})
	}
}

// clientData is the draft's with one more member.
func clientData(f *draft, name, value string) string {
	client := map[string]any{name: value}
	for k, v := range f.client {
		client[k] = v
	}
	return encode(must(json.Marshal(client)))
}

// A passkey of one user never serves as another's, though both are known.
func TestAssertOtherUser(t *testing.T) {
	p := newParty(t)
	a, _ := p.registered(t, synced, 0)
	b, credentialB := p.registered(t, synced, 0)
	a.ID = b.ID // A's key under B's id and handle
	a.handle = b.handle
	_, err := p.assert(a.get(p.Offer(passkey.SignIn, binding)), credentialB)
	checkRefused(t, err, "bad signature")
}

// What is not registered is ErrUnknown, though it verifies in every other way,
// and carries no more than what a known one carries.
func TestAssertUnknown(t *testing.T) {
	p := newParty(t)
	d, c := p.registered(t, synced, 0)
	stranger := newDevice()
	stranger.handle = make([]byte, 32)
	for name, credential := range map[string][]byte{
		"a stranger":                  stranger.get(p.Offer(passkey.SignIn, binding)),
		"a stranger who is not there": stranger.get(p.Offer(passkey.SignIn, binding), func(f *draft) { f.flags = 0 }),
		"a stranger without a handle": stranger.get(p.Offer(passkey.SignIn, binding), func(f *draft) { f.response["userHandle"] = nil }),
		"a stranger without a signature": stranger.get(p.Offer(passkey.SignIn, binding), func(f *draft) {
			f.response["signature"] = nil
		}),
	} {
		if _, err := p.assert(credential, c); !errors.Is(err, passkey.ErrUnknown) || errors.Is(err, passkey.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The challenge comes first: an old page tells nothing of who is known.
	offer := p.Offer(passkey.SignIn, binding)
	p.now = p.now.Add(ttl)
	for _, one := range []*device{d, stranger} {
		if _, err := p.assert(one.get(offer), c); !errors.Is(err, passkey.ErrChallenge) {
			t.Errorf("late: %v", err)
		}
	}
}

// A database that cannot be asked is not an unknown passkey.
func TestAssertLookupFails(t *testing.T) {
	p := newParty(t)
	d, _ := p.registered(t, synced, 0)
	down := errors.New("the database is down")
	a, err := passkey.Parse(d.get(p.Offer(passkey.SignIn, binding)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Assert(context.Background(), a, passkey.SignIn, binding,
		func(context.Context, []byte) (account.User, account.Credential, error) {
			return account.User{}, account.Credential{}, down
		})
	if !errors.Is(err, down) || errors.Is(err, passkey.ErrUnknown) || errors.Is(err, passkey.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// A challenge for one purpose does not serve another, in either direction.
func TestPurposes(t *testing.T) {
	p := newParty(t)
	d, c := p.registered(t, synced, 0)
	undo, others := passkey.UndoDuplicate(c.UserID), passkey.UndoDuplicate("another")
	for _, issued := range []passkey.Purpose{passkey.SignIn, undo, others} {
		for _, used := range []passkey.Purpose{passkey.SignIn, undo, others} {
			a, err := passkey.Parse(d.get(p.Offer(issued, binding)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Assert(context.Background(), a, used, binding, known(c))
			if (err == nil) != (issued == used) || err != nil && !errors.Is(err, passkey.ErrChallenge) {
				t.Errorf("issued for %q, used for %q: %v", issued, used, err)
			}
		}
	}
}

// The policy for signature counters (§7.2 step 22).
func TestCounter(t *testing.T) {
	for _, tt := range []struct {
		name        string
		flags       byte
		stored, new uint32
		refused     bool
		stuck       bool
		want        uint32
	}{
		{"device-bound, none", bound, 0, 0, false, false, 0},
		{"device-bound, rises", bound, 5, 6, false, false, 6},
		{"device-bound, leaps", bound, 5, 1 << 31, false, false, 1 << 31},
		{"device-bound, first", bound, 0, 1, false, false, 1},
		{"device-bound, equal", bound, 5, 5, true, false, 0},
		{"device-bound, lower", bound, 5, 4, true, false, 0},
		{"device-bound, gone", bound, 5, 0, true, false, 0},
		{"synced, none", synced, 0, 0, false, false, 0},
		{"synced, rises", synced, 5, 6, false, false, 6},
		{"synced, equal", synced, 5, 5, false, true, 5},
		{"synced, lower", synced, 5, 4, false, true, 5},
		{"synced, gone", synced, 5, 0, false, true, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newParty(t)
			d, c := p.registered(t, tt.flags, tt.stored)
			d.Counter = tt.new
			used, err := p.assert(d.get(p.Offer(passkey.SignIn, binding)), c)
			if tt.refused {
				checkRefused(t, err, "counter")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if used.CounterStuck != tt.stuck || used.Credential.SignCount != tt.want {
				t.Errorf("stuck %t, count %d", used.CounterStuck, used.Credential.SignCount)
			}
		})
	}
}

// Backup eligibility may come, and never go (§7.2 steps 18 and 19).
func TestBackupFlags(t *testing.T) {
	const up = account.FlagUserPresent | account.FlagUserVerified
	for _, tt := range []struct {
		name        string
		stored, new byte
		refused     bool
		became      bool
	}{
		{"stays device-bound", up, up, false, false},
		{"stays synced", synced, synced, false, false},
		{"backed up later", up | account.FlagBackupEligible, synced, false, false},
		{"no longer backed up", synced, up | account.FlagBackupEligible, false, false},
		{"becomes eligible", up, up | account.FlagBackupEligible, false, true},
		{"becomes synced", up, synced, false, true},
		{"no longer eligible", synced, up, true, false},
		{"backed up, not eligible", up, up | account.FlagBackupState, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newParty(t)
			d, c := p.registered(t, tt.stored, 0)
			d.flags = tt.new
			used, err := p.assert(d.get(p.Offer(passkey.SignIn, binding)), c)
			if tt.refused {
				checkRefused(t, err, "backup flags")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if used.BecameEligible != tt.became || used.Credential.Flags != tt.new {
				t.Errorf("became %t, flags %x, want %t, %x", used.BecameEligible, used.Credential.Flags, tt.became, tt.new)
			}
			// The next time it is as it now is.
			used, err = p.assert(d.get(p.Offer(passkey.SignIn, binding)), used.Credential)
			if err != nil || used.BecameEligible {
				t.Errorf("next time: became %t, %v", used != nil && used.BecameEligible, err)
			}
		})
	}
}

// A passkey that becomes eligible is judged by what it was: device-bound.
func TestEligibleDoesNotHideCounter(t *testing.T) {
	p := newParty(t)
	d, c := p.registered(t, bound, 5)
	d.flags, d.Counter = synced, 5
	_, err := p.assert(d.get(p.Offer(passkey.SignIn, binding)), c)
	checkRefused(t, err, "counter")
}

func TestUserVerification(t *testing.T) {
	for _, tt := range []struct {
		requirement string
		verified    bool
		ok          bool
	}{
		{"required", true, true}, {"required", false, false}, {"preferred", true, true}, {"preferred", false, true},
	} {
		p := newParty(t, func(o *passkey.Options) { o.UserVerification = tt.requirement })
		d, c := p.registered(t, synced, 0)
		if !tt.verified {
			d.flags &^= account.FlagUserVerified
		}
		used, err := p.assert(d.get(p.Offer(passkey.SignIn, binding)), c)
		if !tt.ok {
			checkRefused(t, err, "user verification missing")
			continue
		}
		if err != nil {
			t.Errorf("%s, verified %t: %v", tt.requirement, tt.verified, err)
		} else if used.UserVerified != tt.verified {
			t.Errorf("%s, verified %t: said %t", tt.requirement, tt.verified, used.UserVerified)
		}
	}
}

// The browser's timeout is only a hint: an answer is on time or late by our clock.
func TestLateAnswers(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		ok    bool
	}{{0, true}, {ttl - time.Millisecond, true}, {ttl, false}, {ttl + time.Hour, false}, {-2 * time.Minute, false}} {
		p := newParty(t)
		d, c := p.registered(t, synced, 0)
		offer := p.Offer(passkey.SignIn, binding)
		answers := [][]byte{newDevice().create(offer), d.get(offer)}
		p.now = p.now.Add(tt.after)
		_, first := p.register(answers[0])
		_, second := p.assert(answers[1], c)
		for _, err := range []error{first, second} {
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, passkey.ErrChallenge) {
				t.Errorf("after %s: %v", tt.after, err)
			}
		}
	}
}

// Registration and assertion bind to the browser that got the page.
func TestOtherBrowser(t *testing.T) {
	p := newParty(t)
	d, c := p.registered(t, synced, 0)
	offer := p.Offer(passkey.SignIn, "another browser")
	if _, err := p.register(newDevice().create(offer)); !errors.Is(err, passkey.ErrChallenge) {
		t.Errorf("registration: %v", err)
	}
	if _, err := p.assert(d.get(offer), c); !errors.Is(err, passkey.ErrChallenge) {
		t.Errorf("assertion: %v", err)
	}
}

// After a change of secrets an open page still works, and the account that it
// makes is the one that it offered.
func TestPreviousSecret(t *testing.T) {
	before := newParty(t, func(o *passkey.Options) { o.Secret = []byte("the old secret of 32 bytes, more") })
	after := newParty(t, func(o *passkey.Options) { o.Previous = [][]byte{[]byte("the old secret of 32 bytes, more")} })
	offer := before.Offer(passkey.SignIn, binding)
	d := newDevice()
	reg, err := after.register(d.create(offer))
	if err != nil {
		t.Fatal(err)
	}
	if encode(reg.UserHandle) != offer.UserHandle {
		t.Errorf("handle %s, offered %s", encode(reg.UserHandle), offer.UserHandle)
	}
	if _, err := after.assert(d.get(before.Offer(passkey.SignIn, binding)), reg.Credential); err != nil {
		t.Error(err)
	}
	if _, err := newParty(t).register(newDevice().create(offer)); !errors.Is(err, passkey.ErrChallenge) {
		t.Errorf("a retired secret: %v", err)
	}
}

// No error says what was expected: it may reach a log.
func TestErrorsTellNothing(t *testing.T) {
	p := newParty(t)
	d, c := p.registered(t, synced, 0)
	for name, tt := range badBoth {
		offer := p.Offer(passkey.SignIn, binding)
		_, err := p.assert(d.get(offer, tt.by), c)
		for _, secret := range []string{offer.Challenge, encode(c.UserHandle), encode(c.ID), encode(c.PublicKey)} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestCredentialID(t *testing.T) {
	p := newParty(t)
	d, _ := p.registered(t, synced, 0)
	for _, tt := range []struct {
		credential   []byte
		registration bool
	}{{d.create(p.Offer(passkey.SignIn, binding)), true}, {d.get(p.Offer(passkey.SignIn, binding)), false}} {
		a, err := passkey.Parse(tt.credential)
		if err != nil {
			t.Fatal(err)
		}
		if a.IsRegistration() != tt.registration || !slices.Equal(a.CredentialID(), d.ID) {
			t.Errorf("registration %t, id %x", a.IsRegistration(), a.CredentialID())
		}
	}
}

func TestParseMalformed(t *testing.T) {
	p := newParty(t)
	good := newDevice().create(p.Offer(passkey.SignIn, binding))
	for name, credential := range map[string]string{
		"nothing": "", "null": "null", "a string": `"credential"`, "a number": "1", "a list": "[]", "no members": "{}",
		"cut off": string(good[:len(good)-1]), "with more": string(good) + "{}", "with a word more": string(good) + " x",
		"not UTF-8": "{\"id\":\"\xff\"}", "deep": strings.Repeat("[", 20000), "a form": "id=1&rawId=1",
	} {
		if a, err := passkey.Parse([]byte(credential)); !errors.Is(err, passkey.ErrMalformed) || a != nil {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

// A signature longer than any algorithm makes it is not worth a look.
func TestParseLongSignature(t *testing.T) {
	p := newParty(t)
	credential := newDevice().get(p.Offer(passkey.SignIn, binding), func(f *draft) { f.response["signature"] = encode(make([]byte, 1025)) })
	if _, err := passkey.Parse(credential); !errors.Is(err, passkey.ErrMalformed) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	p := newParty(f)
	d := newDevice()
	offer := p.Offer(passkey.SignIn, binding)
	f.Add(d.create(offer))
	f.Add(d.get(offer))
	for _, tt := range badBoth {
		f.Add(d.create(offer, tt.by))
		f.Add(d.get(offer, tt.by))
	}
	f.Add([]byte(`{"id":"\n","rawId":"","type":"public-key","response":{}}`))
	f.Fuzz(func(t *testing.T, credential []byte) {
		a, err := passkey.Parse(credential)
		switch {
		case err != nil && (!errors.Is(err, passkey.ErrMalformed) || a != nil):
			t.Errorf("%v, %v", a, err)
		case err == nil && (len(a.CredentialID()) == 0 || len(a.CredentialID()) > 1023):
			t.Errorf("id of %d bytes", len(a.CredentialID()))
		case err != nil:
			return
		}
		// Whatever can be read can be judged, by someone whom it does not know.
		if a.IsRegistration() {
			_, err = p.Register(a, passkey.SignIn, "a browser that never had a page")
		} else {
			_, err = p.Assert(context.Background(), a, passkey.SignIn, "a browser that never had a page", known(account.Credential{}))
		}
		if !errors.Is(err, passkey.ErrChallenge) {
			t.Errorf("judged: %v", err)
		}
	})
}
