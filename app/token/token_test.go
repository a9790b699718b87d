package token_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bio/app/token"
)

var (
	epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seed  = []byte("an Ed25519 seed of 32 bytes: one")
	older = []byte("an Ed25519 seed of 32 bytes: two")
	other = []byte("an Ed25519 seed of 32 bytes: six")
	want  = token.Expect{Type: "session+jwt", Issuer: "https://bio.example.com", Audience: "bio", Now: epoch}
)

func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": want.Issuer, "aud": want.Audience, "sub": "someone", "exp": epoch.Add(time.Hour).Unix(), "iat": epoch.Unix(),
	}
}

func sign(t testing.TB, keys *token.Keyring, typ string, c jwt.Claims) string {
	t.Helper()
	compact, err := keys.Sign(typ, c)
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// craft signs a header and claims of any kind.
func craft(header map[string]any, c any, signature func(signed string) []byte) string {
	signed := part(header) + "." + part(c)
	return signed + "." + encode(signature(signed))
}

func part(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return encode(text)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func public(seed []byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

func with(name string, value any) jwt.MapClaims {
	c := claims()
	c[name] = value
	if value == nil {
		delete(c, name)
	}
	return c
}

func TestVerify(t *testing.T) {
	keys := token.NewKeyring(seed, older)
	good := sign(t, keys, want.Type, claims())
	kid := token.Thumbprint(public(seed))
	header := map[string]any{"alg": "EdDSA", "typ": want.Type, "kid": kid}
	by := func(seed []byte) func(string) []byte {
		return func(signed string) []byte { return ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(signed)) }
	}
	changed := func(name string, value any) map[string]any {
		h := map[string]any{"alg": "EdDSA", "typ": want.Type, "kid": kid}
		h[name] = value
		if value == nil {
			delete(h, name)
		}
		return h
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256 := jwt.NewWithClaims(jwt.SigningMethodRS256, claims())
	rs256.Header["typ"], rs256.Header["kid"] = want.Type, kid
	byRSA, err := rs256.SignedString(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")

	for _, tt := range []struct {
		name    string
		compact string
		ok      bool
	}{
		{"ours", good, true},
		{"of the predecessor", sign(t, token.NewKeyring(older), want.Type, claims()), true},
		{"of a foreign key", sign(t, token.NewKeyring(other), want.Type, claims()), false},
		{"of a foreign key under our id", craft(header, claims(), by(other)), false},
		{"of the predecessor under our id", craft(header, claims(), by(older)), false},
		{"made by hand", craft(header, claims(), by(seed)), true},
		{"two audiences, ours among them", craft(header, with("aud", []string{"gateway", "bio"}), by(seed)), true},

		{"no algorithm", craft(changed("alg", "none"), claims(), func(string) []byte { return nil }), false},
		{"no algorithm, in capitals", craft(changed("alg", "NONE"), claims(), func(string) []byte { return nil }), false},
		{"no algorithm, signed", craft(changed("alg", "none"), claims(), by(seed)), false},
		{"algorithm left out", craft(changed("alg", nil), claims(), by(seed)), false},
		{"HS256 with the public key", craft(changed("alg", "HS256"), claims(), func(signed string) []byte {
			mac := hmac.New(sha256.New, public(seed))
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}), false},
		{"RS256", byRSA, false},
		{"another case of the algorithm", craft(changed("alg", "eddsa"), claims(), by(seed)), false},
		{"the algorithm a list", craft(changed("alg", []string{"EdDSA"}), claims(), by(seed)), false},

		{"another type", sign(t, keys, "at+jwt", claims()), false},
		{"type JWT", sign(t, keys, "JWT", claims()), false},
		{"type in capitals", sign(t, keys, "SESSION+JWT", claims()), false},
		{"type left out", craft(changed("typ", nil), claims(), by(seed)), false},
		{"type a list", craft(changed("typ", []string{want.Type}), claims(), by(seed)), false},
		{"unknown key id", craft(changed("kid", "unknown"), claims(), by(seed)), false},
		{"key id left out", craft(changed("kid", nil), claims(), by(seed)), false},
		{"key id a number", craft(changed("kid", 1), claims(), by(seed)), false},

		{"another audience", sign(t, keys, want.Type, with("aud", "gateway")), false},
		{"no audience", sign(t, keys, want.Type, with("aud", nil)), false},
		{"an empty audience", sign(t, keys, want.Type, with("aud", []string{})), false},
		{"another issuer", sign(t, keys, want.Type, with("iss", "https://evil.example")), false},
		{"no issuer", sign(t, keys, want.Type, with("iss", nil)), false},
		{"expired now", sign(t, keys, want.Type, with("exp", epoch.Unix())), false},
		{"expires next", sign(t, keys, want.Type, with("exp", epoch.Add(time.Second).Unix())), true},
		{"expired long ago", sign(t, keys, want.Type, with("exp", 0)), false},
		{"never expires", sign(t, keys, want.Type, with("exp", nil)), false},
		{"expiry a word", sign(t, keys, want.Type, with("exp", "tomorrow")), false},
		{"not yet", sign(t, keys, want.Type, with("nbf", epoch.Add(time.Minute).Unix())), false},

		{"nothing", "", false},
		{"dots", "..", false},
		{"garbage", "a.b.c", false},
		{"without signature", parts[0] + "." + parts[1] + ".", false},
		{"two parts", parts[0] + "." + parts[1], false},
		{"four parts", good + ".", false},
		{"padded", good + "==", false},
		{"padded header", parts[0] + "=." + parts[1] + "." + parts[2], false},
		{"newline", good + "\n", false},
		{"newline within", parts[0] + ".\n" + parts[1] + "." + parts[2], false},
		{"carriage return", "\r" + good, false},
		{"space", " " + good, false},
		{"Bearer", "Bearer " + good, false},
		{"another's claims", parts[0] + "." + part(with("sub", "another")) + "." + parts[2], false},
		{"very long", sign(t, keys, want.Type, with("more", strings.Repeat("x", 9000))), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c jwt.RegisteredClaims
			err := keys.Verify(tt.compact, want, &c)
			switch {
			case tt.ok && err != nil:
				t.Error(err)
			case tt.ok && c.Subject != "someone":
				t.Errorf("subject %q", c.Subject)
			case !tt.ok && !errors.Is(err, token.ErrInvalid):
				t.Errorf("got %v", err)
			}
		})
	}
}

// No other token is near one that verifies: not a bit, not a prefix.
func TestVerifyEveryBit(t *testing.T) {
	keys := token.NewKeyring(seed)
	good := sign(t, keys, want.Type, claims())
	for i := range len(good) {
		if err := keys.Verify(good[:i], want, jwt.MapClaims{}); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
		for bit := range 8 {
			flipped := []byte(good)
			flipped[i] ^= 1 << bit
			if err := keys.Verify(string(flipped), want, jwt.MapClaims{}); !errors.Is(err, token.ErrInvalid) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

// A retired key is retired: what it signed is no longer believed.
func TestRotation(t *testing.T) {
	first := token.NewKeyring(older)
	compact := sign(t, first, want.Type, claims())
	for _, tt := range []struct {
		name string
		keys *token.Keyring
		ok   bool
	}{
		{"before", first, true},
		{"rotated", token.NewKeyring(seed, older), true},
		{"rotated twice", token.NewKeyring(other, seed, older), true},
		{"retired", token.NewKeyring(seed), false},
	} {
		if err := tt.keys.Verify(compact, want, jwt.MapClaims{}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// Only the newest signs.
	if err := token.NewKeyring(older).Verify(sign(t, token.NewKeyring(seed, older), want.Type, claims()), want, jwt.MapClaims{}); err == nil {
		t.Error("the previous key still signs")
	}
}

// RFC 8037 appendix A.3.
func TestThumbprint(t *testing.T) {
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := token.Thumbprint(x); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", got)
	}
}

// What verifies was signed by us, and has one spelling: decoded and encoded
// again it is the same bytes.
func FuzzVerify(f *testing.F) {
	keys := token.NewKeyring(seed, older)
	good := sign(f, keys, want.Type, claims())
	signed := []string{good, sign(f, token.NewKeyring(older), want.Type, claims())}
	for _, s := range signed {
		f.Add(s)
	}
	f.Add(good + "=")
	f.Add(good[:len(good)-1] + "B")
	f.Add(strings.Replace(good, ".", "\n.", 1))
	f.Add(sign(f, keys, "at+jwt", claims()))
	f.Add(sign(f, token.NewKeyring(other), want.Type, claims()))
	f.Add("")
	f.Fuzz(func(t *testing.T, compact string) {
		if err := keys.Verify(compact, want, jwt.MapClaims{}); err != nil {
			if !errors.Is(err, token.ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !slices.Contains(signed, compact) {
			t.Errorf("%q verifies and was not signed", compact)
		}
		for _, p := range strings.Split(compact, ".") {
			raw, err := base64.RawURLEncoding.DecodeString(p)
			if err != nil || encode(raw) != p {
				t.Errorf("%q has a second spelling", p)
			}
		}
	})
}
