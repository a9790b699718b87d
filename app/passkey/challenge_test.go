package passkey_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/passkey"
)

func TestRedeem(t *testing.T) {
	secret, other := []byte("a root secret of thirty-two bytes"), []byte("another secret, 32 bytes or more")
	undo := passkey.UndoDuplicate("0123456789abcdef0123456789abcdef")
	for _, tt := range []struct {
		name    string
		purpose passkey.Purpose // issued for; "" is sign-in
		binding string          // issued to; "" is this browser
		secret  []byte          // issued with; nil is the current one
		carried string
		issued  time.Duration // from now
		spell   func(string) string
		ok      bool
	}{
		{name: "fresh", ok: true},
		{name: "the last millisecond", issued: -ttl + time.Millisecond, ok: true},
		{name: "expired", issued: -ttl},
		{name: "long expired", issued: -ttl * 100},
		{name: "another instance's clock is ahead", issued: time.Minute, ok: true},
		{name: "from the future", issued: time.Minute + time.Millisecond},
		{name: "from a far future", issued: 1000 * time.Hour},
		{name: "another browser", binding: "another binding"},
		{name: "purpose moved into binding", purpose: "sign-in\x00the browser's", binding: " binding"},
		{name: "another purpose", purpose: undo},
		{name: "adding a passkey", purpose: passkey.AddPasskey("0123456789abcdef0123456789abcdef")},
		{name: "carrying", carried: "a name", ok: true},
		{name: "carrying as much as can be", carried: strings.Repeat("x", 512), ok: true},
		{name: "carrying more", carried: strings.Repeat("x", 513)},
		{name: "carrying, expired", carried: "a name", issued: -ttl},
		{name: "carrying, another browser", carried: "a name", binding: "another binding"},
		{name: "carrying, another purpose", carried: "a name", purpose: undo},
		{name: "carrying, previous secret", carried: "a name", secret: other, ok: true},
		{name: "carrying what was not given", spell: func(s string) string { return encode(append(decode(s), "a name"...)) }},
		{name: "carrying no longer", carried: "a name", spell: func(s string) string { return encode(decode(s)[:40]) }},
		{name: "carrying less", carried: "a name", spell: func(s string) string { return encode(decode(s)[:45]) }},
		{name: "carrying something else", carried: "a name", spell: func(s string) string { return encode(append(decode(s)[:40], "A name"...)) }},
		{name: "previous secret", secret: other, ok: true},
		{name: "unknown secret", secret: []byte("a third secret of thirty-two byt")},
		{name: "empty", spell: func(string) string { return "" }},
		{name: "garbage", spell: func(string) string { return "hello" }},
		{name: "all zero", spell: func(s string) string { return strings.Repeat("A", len(s)) }},
		{name: "truncated", spell: func(s string) string { return s[:len(s)-1] }},
		{name: "cut by four", spell: func(s string) string { return s[:len(s)-4] }},
		{name: "longer", spell: func(s string) string { return s + "AAAA" }},
		{name: "padded", spell: func(s string) string { return s + "=" }},
		{name: "padded twice", spell: func(s string) string { return s + "==" }},
		{name: "newline at the end", spell: func(s string) string { return s + "\n" }},
		{name: "newline within", spell: func(s string) string { return s[:20] + "\n" + s[20:] }},
		{name: "carriage return", spell: func(s string) string { return "\r" + s }},
		{name: "space", spell: func(s string) string { return " " + s }},
		{name: "another spelling of the last byte", spell: func(s string) string { return s[:len(s)-1] + next(s[len(s)-1]) }},
		{name: "standard alphabet", spell: func(s string) string {
			return strings.NewReplacer("-", "+", "_", "/").Replace("-" + s[1:])
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newParty(t, func(o *passkey.Options) { o.Secret, o.Previous = secret, [][]byte{other} })
			issuer := newParty(t, func(o *passkey.Options) {
				o.Secret = secret
				if tt.secret != nil {
					o.Secret = tt.secret
				}
			})
			issuer.now = epoch.Add(tt.issued)
			purpose, browser := passkey.SignIn, binding
			if tt.purpose != "" {
				purpose = tt.purpose
			}
			if tt.binding != "" {
				browser = tt.binding
			}
			challenge := issuer.OfferCarrying(purpose, browser, []byte(tt.carried)).Challenge
			if tt.spell != nil {
				challenge = tt.spell(challenge)
			}
			raw, err := passkey.Redeem(p.RelyingParty, challenge, passkey.SignIn, binding)
			switch {
			case tt.ok && err != nil:
				t.Error(err)
			case tt.ok && encode(raw) != challenge:
				t.Errorf("redeemed %s as %s", challenge, encode(raw))
			case !tt.ok && !errors.Is(err, passkey.ErrChallenge):
				t.Errorf("got %v", err)
			}
		})
	}
}

// next is the character that stands for the following six bits.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[(strings.IndexByte(alphabet, c)+1)%len(alphabet)])
}

// Every bit of a challenge is authenticated.
func TestRedeemFlipped(t *testing.T) {
	p := newParty(t)
	challenge := decode(p.OfferCarrying(passkey.SignIn, binding, []byte("a name")).Challenge)
	for i := range len(challenge) * 8 {
		flipped := slices.Clone(challenge)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := passkey.Redeem(p.RelyingParty, encode(flipped), passkey.SignIn, binding); !errors.Is(err, passkey.ErrChallenge) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
}

func FuzzRedeem(f *testing.F) {
	// A secret of this process's own: what another fuzzing process issued is foreign.
	p := newParty(f, func(o *passkey.Options) { rand.Read(o.Secret) })
	issued := map[string]bool{}
	for i := range 4 {
		c := p.OfferCarrying(passkey.SignIn, binding, make([]byte, i)).Challenge
		issued[c] = true
		f.Add(c)
		f.Add(c + "\n")
		f.Add(c[:53])
		f.Add(base64.StdEncoding.EncodeToString(decode(c)))
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, encoded string) {
		raw, err := passkey.Redeem(p.RelyingParty, encoded, passkey.SignIn, binding)
		switch {
		case err != nil && !errors.Is(err, passkey.ErrChallenge):
			t.Errorf("error %v", err)
		case err == nil && !issued[encoded]:
			t.Errorf("%q was not issued and passes", encoded)
		case err == nil && encode(raw) != encoded:
			t.Errorf("%q has a second spelling", encoded)
		case err != nil && issued[encoded]:
			t.Errorf("%q was issued and fails: %v", encoded, err)
		}
	})
}

// Two offers share nothing but the time.
func TestOffersDiffer(t *testing.T) {
	p := newParty(t)
	a, b := p.Offer(passkey.SignIn, binding), p.Offer(passkey.SignIn, binding)
	if a.Challenge == b.Challenge || a.UserHandle == b.UserHandle {
		t.Errorf("two offers are the same: %v", a)
	}
	if len(decode(a.Challenge)) != 40 || len(decode(a.UserHandle)) != 32 {
		t.Errorf("challenge of %d bytes, handle of %d", len(decode(a.Challenge)), len(decode(a.UserHandle)))
	}
	if bytes.Contains(decode(a.Challenge), decode(a.UserHandle)[:8]) {
		t.Error("the challenge gives the user handle")
	}
	if a.Name != account.Name(decode(a.UserHandle), 0) {
		t.Errorf("name %s", a.Name)
	}
}

// The options are those of WebAuthn L3 §5.1.8 and §5.1.9, and nothing besides.
func TestOptionsJSON(t *testing.T) {
	for _, tt := range []struct{ uv, rk, attestation string }{
		{"required", "required", "none"}, {"preferred", "preferred", "direct"},
	} {
		p := newParty(t, func(o *passkey.Options) {
			o.UserVerification, o.ResidentKey, o.Attestation, o.Name = tt.uv, tt.rk, tt.attestation, `Bio </script>"`
		})
		offer := p.Offer(passkey.SignIn, binding)
		var got any
		if err := json.Unmarshal(p.OptionsJSON(offer), &got); err != nil {
			t.Fatal(err)
		}
		parameter := func(alg float64) any { return map[string]any{"type": "public-key", "alg": alg} }
		milliseconds := float64(ttl.Milliseconds())
		want := map[string]any{
			"get": map[string]any{
				"challenge": offer.Challenge, "rpId": rpID, "timeout": milliseconds, "userVerification": tt.uv,
			},
			"create": map[string]any{
				"challenge": offer.Challenge, "timeout": milliseconds,
				"rp":               map[string]any{"id": rpID, "name": `Bio </script>"`},
				"user":             map[string]any{"id": offer.UserHandle, "name": offer.Name, "displayName": offer.Name},
				"pubKeyCredParams": []any{parameter(-8), parameter(-7), parameter(-257)},
				"authenticatorSelection": map[string]any{
					"residentKey": tt.rk, "requireResidentKey": tt.rk == "required", "userVerification": tt.uv,
				},
				"attestation": tt.attestation,
			},
			"ttl": milliseconds,
		}
		if tt.attestation == "none" { // the default may be left out
			if _, ok := got.(map[string]any)["create"].(map[string]any)["attestation"]; !ok {
				delete(want["create"].(map[string]any), "attestation")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("options (-want +got):\n%s", diff)
		}
	}
}

// What the API answers are the same options, one ceremony each.
func TestOptionsOfOneCeremony(t *testing.T) {
	p := newParty(t)
	offer := p.OfferCarrying(passkey.AddPasskey("x"), binding, []byte("a name"))
	offer.UserHandle, offer.Name = encode([]byte("handle")), "cedar-otter-42"
	has := []account.Credential{{ID: []byte("one"), Transports: []string{"internal", "hybrid"}}, {ID: []byte("two")}}
	read := func(text []byte) (o map[string]any) {
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	whole, request, creation := read(p.OptionsJSON(offer)), read(p.RequestJSON(offer)), read(p.CreationJSON(offer, has))
	if diff := cmp.Diff(map[string]any{"publicKey": whole["get"]}, request); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	whole["create"].(map[string]any)["excludeCredentials"] = []any{
		map[string]any{"type": "public-key", "id": encode([]byte("one")), "transports": []any{"internal", "hybrid"}},
		map[string]any{"type": "public-key", "id": encode([]byte("two"))},
	}
	if diff := cmp.Diff(map[string]any{"publicKey": whole["create"]}, creation); diff != "" {
		t.Errorf("creation (-want +got):\n%s", diff)
	}
	if plain := read(p.CreationJSON(offer, nil))["publicKey"].(map[string]any); plain["excludeCredentials"] != nil {
		t.Errorf("excluded %v", plain["excludeCredentials"])
	}
}

// What a challenge carries comes back with the registration, and the challenge that
// is consumed is of the same length with it and without.
func TestCarried(t *testing.T) {
	p := newParty(t)
	for _, carried := range []string{"", "a name", "\x00", strings.Repeat("é", 256)} {
		offer := p.OfferCarrying(passkey.SignIn, binding, []byte(carried))
		reg, err := p.register(newDevice().create(offer))
		if err != nil {
			t.Errorf("%q: %v", carried, err)
			continue
		}
		if string(reg.Carried) != carried || len(reg.Challenge) != 40 || encode(reg.UserHandle) != offer.UserHandle {
			t.Errorf("%q came back as %q, challenge of %d bytes", carried, reg.Carried, len(reg.Challenge))
		}
	}
}

// The values of an offer stand in the JSON as they are.
func TestOfferNeedsNoEscaping(t *testing.T) {
	p, plain := newParty(t), regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	for range 100 {
		o := p.Offer(passkey.SignIn, binding)
		for _, value := range []string{o.Challenge, o.UserHandle, o.Name} {
			if !plain.MatchString(value) {
				t.Fatalf("%q", value)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, by := range map[string]func(*passkey.Options){
		"an address as RP ID": func(o *passkey.Options) { o.ID = "192.0.2.1" },
		"no origin":           func(o *passkey.Options) { o.Origins = nil },
		"a broken RP ID":      func(o *passkey.Options) { o.ID = "exa mple.org" },
	} {
		t.Run(name, func(t *testing.T) {
			o := passkey.Options{
				ID: rpID, Name: "Bio", Origins: []string{origin}, UserVerification: "required", ResidentKey: "required",
				Attestation: "none", TTL: ttl, Secret: make([]byte, 32), Now: time.Now,
			}
			by(&o)
			if rp, err := passkey.New(o); err == nil {
				t.Errorf("accepted as %s", rp.ID())
			}
		})
	}
}
