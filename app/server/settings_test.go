package server_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

// door is a way in: what it offers, {"get":…,"create":…} and on pages "ttl", as JSON,
// and where it takes the answers of the two ceremonies.
type door struct {
	offer       func(*browser) string
	create, get string
}

var doors = map[string]door{
	"the page":                 {func(b *browser) string { return b.onPage("/") }, "/", "/"},
	"the page with return_to":  {func(b *browser) string { return b.onPage("/?return_to=/later") }, "/", "/"},
	"the page that is renewed": {func(b *browser) string { return b.get("/ceremony").body }, "/", "/"},
	"the API": {func(b *browser) string {
		ask := func(target string) (answer struct{ PublicKey json.RawMessage }) {
			if err := json.Unmarshal([]byte(b.call("POST", target, "{}").body), &answer); err != nil {
				b.t.Fatal(err)
			}
			return answer
		}
		return fmt.Sprintf(`{"get":%s,"create":%s}`, ask(signInBegin).PublicKey, ask(registerBegin).PublicKey)
	}, registerFinish, signInFinish},
}

// onPage is the data-options of a page's button.
func (b *browser) onPage(target string) string {
	b.t.Helper()
	for n := range must(html.Parse(strings.NewReader(b.get(target).body))).Descendants() {
		if a := attributes(n); a["id"] == "auth" {
			return a["data-options"]
		}
	}
	b.t.Fatalf("no button at %s", target)
	return ""
}

// comeTo opens a door in a new browser, a minute later: what follows a refusal within
// its minute is folded.
func (s *site) comeTo(d door) (b *browser, o options) {
	s.t.Helper()
	s.clock.Advance(time.Minute)
	server.Settle(s.t.Context(), s.Server, false)
	b = s.browser()
	if err := json.Unmarshal([]byte(d.offer(b)), &o); err != nil {
		s.t.Fatal(err)
	}
	return b, o
}

// answer sends a credential to a door.
func (b *browser) answer(target, credential string) *page {
	b.t.Helper()
	if target == "/" {
		return b.post("/", url.Values{"credential": {credential}})
	}
	return b.call("POST", target, credential)
}

// flat are the members of JSON by their path, such as create.rp.id, without those
// that are of one press or not of a setting.
func flat(path string, value any, into map[string]any) map[string]any {
	object, ok := value.(map[string]any)
	if !ok {
		into[path] = value
		return into
	}
	for name, member := range object {
		switch at := strings.TrimPrefix(path+"."+name, "."); at {
		case "get.challenge", "create.challenge", "create.user", "create.pubKeyCredParams":
		default:
			flat(at, member, into)
		}
	}
	return into
}

// Every setting of the ceremonies stands in the options of every door, and changes
// nothing else in them.
func TestSettingsInOptions(t *testing.T) {
	usual := map[string]any{
		"get.rpId": "localhost", "get.userVerification": "required", "get.timeout": 300_000.0,
		"create.rp.id": "localhost", "create.rp.name": "Bio", "create.timeout": 300_000.0, "create.attestation": "none",
		"create.authenticatorSelection.userVerification": "required", "create.authenticatorSelection.residentKey": "required",
		"create.authenticatorSelection.requireResidentKey": true, "ttl": 300_000.0,
	}
	lasting := func(ms float64) map[string]any {
		return map[string]any{"get.timeout": ms, "create.timeout": ms, "ttl": ms}
	}
	at := func(rpID string) map[string]any { return map[string]any{"get.rpId": rpID, "create.rp.id": rpID} }
	for name, tt := range map[string]struct {
		settings []string
		changes  map[string]any
	}{
		"nothing set":            {},
		"attestation none":       {[]string{"BIO_ATTESTATION=none"}, nil},
		"attestation indirect":   {[]string{"BIO_ATTESTATION=indirect"}, map[string]any{"create.attestation": "indirect"}},
		"attestation direct":     {[]string{"BIO_ATTESTATION=direct"}, map[string]any{"create.attestation": "direct"}},
		"attestation enterprise": {[]string{"BIO_ATTESTATION=enterprise"}, map[string]any{"create.attestation": "enterprise"}},
		"verification required":  {[]string{"BIO_USER_VERIFICATION=required"}, nil},
		"verification preferred": {[]string{"BIO_USER_VERIFICATION=preferred"}, map[string]any{
			"get.userVerification": "preferred", "create.authenticatorSelection.userVerification": "preferred",
		}},
		// Nothing in an answer says whether a passkey is resident: the options are all
		// there is of this setting. The same is true of the relying party's name.
		"resident key required": {[]string{"BIO_RESIDENT_KEY=required"}, nil},
		"resident key preferred": {[]string{"BIO_RESIDENT_KEY=preferred"}, map[string]any{
			"create.authenticatorSelection.residentKey": "preferred", "create.authenticatorSelection.requireResidentKey": false,
		}},
		"RP name":              {[]string{`BIO_RP_NAME=Zoë & "Söhne" </form>`}, map[string]any{"create.rp.name": `Zoë & "Söhne" </form>`}},
		"lifetime 30s":         {[]string{"BIO_CHALLENGE_TTL=30s"}, lasting(30_000)},
		"lifetime 10m":         {[]string{"BIO_CHALLENGE_TTL=10m"}, lasting(600_000)},
		"RP ID of the address": {[]string{"BIO_URL=" + public}, at("bio.example.com")},
		"RP ID of its parent":  {[]string{"BIO_URL=" + public, "BIO_RP_ID=example.com"}, at("example.com")},
		"further origins":      {[]string{"BIO_URL=" + public, "BIO_ORIGINS=https://app.example.net,https://a.example.com:8443"}, at("bio.example.com")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tt.settings...)
			for name, door := range doors {
				want := maps.Clone(usual)
				maps.Copy(want, tt.changes)
				if door.create != "/" {
					delete(want, "ttl")
				}
				var offered any
				if err := json.Unmarshal([]byte(door.offer(s.browser())), &offered); err != nil {
					t.Fatal(err)
				}
				got := flat("", offered, map[string]any{"create.attestation": "none"}) // that is what leaving it out means
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// Every setting of the ceremonies that an answer can go against holds at every door,
// in both ceremonies. An origin is that of the client data here; the header of that
// name is another thing (TestCORS).
func TestSettingsHold(t *testing.T) {
	type row struct {
		settings []string
		after    time.Duration // from the offer to the answer
		by       func(*draft)
		reason   string // of the refusal; "" taken
	}
	unverified := func(f *draft) { f.flags &^= account.FlagUserVerified }
	from := func(origin string) func(*draft) { return func(f *draft) { f.client["origin"] = origin } }
	hashOf := func(rpID string) func(*draft) { return func(f *draft) { f.rpID = rpID } }
	rows := map[string]row{
		"unverified, required":          {settings: []string{"BIO_USER_VERIFICATION=required"}, by: unverified, reason: "user verification missing"},
		"unverified, nothing set":       {by: unverified, reason: "user verification missing"},
		"unverified, preferred":         {settings: []string{"BIO_USER_VERIFICATION=preferred"}, by: unverified},
		"verified, preferred":           {settings: []string{"BIO_USER_VERIFICATION=preferred"}},
		"parent RP, its hash":           {settings: []string{"BIO_URL=" + public, "BIO_RP_ID=example.com"}, by: hashOf("example.com")},
		"parent RP, hash of the host":   {settings: []string{"BIO_URL=" + public, "BIO_RP_ID=example.com"}, by: hashOf("bio.example.com"), reason: "wrong relying party"},
		"parent RP, hash of a stranger": {settings: []string{"BIO_URL=" + public, "BIO_RP_ID=example.com"}, by: hashOf("example.net"), reason: "wrong relying party"},
		"host RP, its hash":             {settings: []string{"BIO_URL=" + public}, by: hashOf("bio.example.com")},
		"host RP, hash of the parent":   {settings: []string{"BIO_URL=" + public}, by: hashOf("example.com"), reason: "wrong relying party"},
	}
	for setting, ttl := range map[string]time.Duration{"30s": 30 * time.Second, "10m": 10 * time.Minute} {
		set := []string{"BIO_CHALLENGE_TTL=" + setting}
		rows["a moment before "+setting] = row{settings: set, after: ttl - time.Millisecond}
		rows["after "+setting] = row{settings: set, after: ttl, reason: "expired"}
	}
	origins := []string{"https://app.example.net", "https://example.com", "https://shop.example.com:8443", "https://bio.example.com:444", "http://localhost:3000"}
	for i := range 20 {
		origins = append(origins, fmt.Sprintf("https://app-%d.example.org", i))
	}
	alone := []string{"BIO_URL=" + public}
	listed := []string{"BIO_URL=" + public, "BIO_ORIGINS=" + strings.Join(origins, ",")}
	for _, one := range append(origins, public) {
		rows["listed: "+one] = row{settings: listed, by: from(one)}
	}
	for _, one := range []string{
		"https://app-20.example.org", "https://example.org", "https://x.app.example.net", "http://app.example.net", "https://shop.example.com", "http://localhost:3001",
	} {
		rows["not listed: "+one] = row{settings: listed, by: from(one), reason: "wrong origin"}
	}
	for _, one := range origins[:6] {
		rows["none listed: "+one] = row{settings: alone, by: from(one), reason: "wrong origin"}
	}

	for name, tt := range rows {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tt.settings...)
			known, _ := s.browser().register()
			for at, door := range doors {
				for _, ceremony := range []struct {
					name, target string
					credential   func(options, ...func(*draft)) string
				}{{"create", door.create, s.device().create}, {"get", door.get, known.get}} {
					b, o := s.comeTo(door)
					s.clock.Advance(tt.after)
					var flags byte
					p := b.answer(ceremony.target, ceremony.credential(o, func(f *draft) {
						if tt.by != nil {
							tt.by(f)
						}
						flags = f.flags
					}))
					if tt.reason == "" {
						in := reads[sessionJSON](t, b.call("GET", "/auth/session", ""), http.StatusOK)
						if verified := flags&account.FlagUserVerified != 0; p.status != http.StatusOK || in.Session.UserVerified != verified {
							t.Errorf("%s, %s: %d, verified %t", at, ceremony.name, p.status, in.Session.UserVerified)
						}
						continue
					}
					status := http.StatusUnauthorized
					if tt.reason == "expired" {
						status = http.StatusConflict
					}
					trail := s.trail()
					if last := trail[len(trail)-1]; p.status != status || b.cookies[b.name("bio")] != "" || last.Kind != audit.SignInRefused || last.Reason != tt.reason {
						t.Errorf("%s, %s: %d, want %d; the trail says %+v, want %q", at, ceremony.name, p.status, status, last, tt.reason)
					}
				}
			}
		})
	}
}

// What is asked of attestation is a preference (WebAuthn L3 §5.4.7): whatever it is,
// an answer may come without a statement, and a statement that comes has to verify,
// asked for or not. What was verified is kept; whom it speaks for is judged by nobody.
func TestSettingsAttestation(t *testing.T) {
	for _, asked := range []string{"none", "indirect", "direct", "enterprise"} {
		s := newSite(t, "BIO_ATTESTATION="+asked)
		for name, tt := range map[string]struct {
			by     func(*device) func(*draft)
			kept   string // type and format; "" refused
			reason string
		}{
			"no statement":                 {func(*device) func(*draft) { return func(*draft) {} }, "none none", ""},
			"its own signature":            {func(d *device) func(*draft) { return packed(d, nil) }, "basic_surrogate packed", ""},
			"another key's signature":      {func(*device) func(*draft) { return packed(s.device(), nil) }, "", "bad signature"},
			"a signature of another press": {func(d *device) func(*draft) { return packed(d, func(f *draft) { f.client["challenge"] = "x" }) }, "", "bad signature"},
			"a signature of other data":    {func(d *device) func(*draft) { return packed(d, func(f *draft) { f.count++ }) }, "", "bad signature"},
		} {
			for at, door := range doors {
				t.Run(asked+", "+name+", "+at, func(t *testing.T) {
					b, o := s.comeTo(door)
					d := s.device()
					p := b.answer(door.create, d.create(o, tt.by(d)))
					if tt.kept == "" {
						trail := s.trail()
						if last := trail[len(trail)-1]; p.status != http.StatusUnauthorized || b.cookies["bio"] != "" || last.Reason != tt.reason {
							t.Errorf("%d, the trail says %+v, want %q", p.status, last, tt.reason)
						}
						return
					}
					var kept string
					err := s.raw.QueryRow("SELECT attestation_type || ' ' || attestation_format FROM credentials WHERE id = ?", d.ID).Scan(&kept)
					if err != nil || p.status != http.StatusOK || kept != tt.kept {
						t.Errorf("%d, kept %q, want %q; %v", p.status, kept, tt.kept, err)
					}
					if p := b.signInAnew(d); p.status != http.StatusOK {
						t.Errorf("the next press: %d", p.status)
					}
				})
			}
		}
	}
}

// packed puts a packed self attestation in the place of none (WebAuthn L3 §8.2), made
// with the signer's key over the draft as other changes it.
func packed(signer *device, other func(*draft)) func(*draft) {
	return func(f *draft) {
		authData, signed := f.authenticatorData(), *f
		signed.client = maps.Clone(f.client)
		if other != nil {
			other(&signed)
		}
		client := sha256.Sum256(must(json.Marshal(signed.client)))
		digest := sha256.Sum256(append(signed.authenticatorData(), client[:]...))
		signature := must(signer.Key.Sign(digest[:]))
		object := append([]byte("\xa3\x63fmt\x66packed\x67attStmt\xa2\x63alg\x26\x63sig\x58"), byte(len(signature)))
		object = append(append(object, signature...), "\x68authData\x59"...)
		object = binary.BigEndian.AppendUint16(object, uint16(len(authData)))
		f.response["attestationObject"] = encode(append(object, authData...))
	}
}
