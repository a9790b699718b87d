package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func counting(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from + i)
	}
	return b
}

// The leaf's bytes are in every log that there is: they can never be others.
func TestLeafBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		leaf Leaf
		text string
		hash string
	}{
		{
			"all members",
			Leaf{
				Time: time.UnixMilli(1795253400123), Kind: SignedIn, Actor: counting(0, 16), Credential: counting(16, 16),
				Subject: counting(240, 16), Commitment: [32]byte(counting(32, 32)),
			},
			`{"v":1,"time":1795253400123,"kind":"session.signed_in","actor":"AAECAwQFBgcICQoLDA0ODw","credential":"EBESExQVFhcYGRobHB0eHw","subject":"8PHy8_T19vf4-fr7_P3-_w","commitment":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"}`,
			"0dee74edde16c4e4f3b94b75d4dadd16387e7312e470be188fa399b3a7328c7c",
		},
		{
			"of nobody",
			Leaf{Time: time.UnixMilli(0), Kind: ServerStarted},
			`{"v":1,"time":0,"kind":"server.started","commitment":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
			"2e03f999d771e4f79488ce80aa2f8bfc8e0ddfbc77106b3a006cf8eb620ceb95",
		},
		{
			"of another version, before 1970",
			Leaf{Time: time.UnixMilli(-1), Kind: "a<b>&\"", Commitment: [32]byte(counting(0, 32))},
			`{"v":1,"time":-1,"kind":"a\u003cb\u003e\u0026\"","commitment":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`,
			"572a8a73c6fd4dbbf45fa301af689419768b42aed5bae0b15ba91326fa035c9b",
		},
	} {
		if got := string(tt.leaf.Bytes()); got != tt.text {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.text)
		}
		want := sha256.Sum256([]byte("\x00" + tt.text))
		if got := tt.leaf.Hash(); got != want || hex.EncodeToString(got[:]) != tt.hash {
			t.Errorf("%s: hash %x, want %s", tt.name, got[:], tt.hash)
		}
		read, err := ParseLeaf([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !read.Time.Equal(tt.leaf.Time) || read.Time.Location() != time.UTC || read.Kind != tt.leaf.Kind || !bytes.Equal(read.Actor, tt.leaf.Actor) ||
			!bytes.Equal(read.Credential, tt.leaf.Credential) || !bytes.Equal(read.Subject, tt.leaf.Subject) || read.Commitment != tt.leaf.Commitment {
			t.Errorf("%s: read as %+v", tt.name, read)
		}
	}
}

func TestParseLeafRefuses(t *testing.T) {
	const good = `{"v":1,"time":1,"kind":"a","actor":"AAECAwQFBgcICQoLDA0ODw","commitment":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	if _, err := ParseLeaf([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another version":     {`"v":1`, `"v":2`},
		"no version":          {`"v":1,`, ``},
		"a fraction":          {`"time":1`, `"time":1.0`},
		"an exponent":         {`"time":1`, `"time":1e0`},
		"minus nothing":       {`"time":1`, `"time":-0`},
		"too late":            {`"time":1`, `"time":9223372036854775808`},
		"a space":             {`"time":1`, `"time": 1`},
		"another case":        {`"kind"`, `"Kind"`},
		"a member twice":      {`"kind":"a"`, `"kind":"a","kind":"a"`},
		"one more member":     {`"kind":"a"`, `"kind":"a","more":1`},
		"another order":       {`"v":1,"time":1`, `"time":1,"v":1`},
		"an escape":           {`"kind":"a"`, `"kind":"\u0061"`},
		"another replacement": {`"kind":"a"`, `"kind":"\ufffd"`},
		"not UTF-8":           {`"kind":"a"`, "\"kind\":\"\xff\""},
		"an empty pseudonym":  {`"actor":"AAECAwQFBgcICQoLDA0ODw"`, `"actor":""`},
		"a short pseudonym":   {`DA0ODw`, `DA0O`},
		"a long pseudonym":    {`DA0ODw`, `DA0ODw8P`},
		"stray bits":          {`DA0ODw`, `DA0ODx`},
		"padding":             {`DA0ODw`, `DA0ODw==`},
		"a line break":        {`DA0ODw`, `DA0O\nDw`},
		"standard base64":     {`AAECAwQFBgcICQoLDA0ODw`, `++ECAwQFBgcICQoLDA0ODw`},
		"a short commitment":  {`AAAAAAAAAAA"}`, `AAAAAAA"}`},
		"a long commitment":   {`AAAAAAAAAAA"}`, `AAAAAAAAAAAAAAA"}`},
		"something after":     {`"}`, `"}{}`},
		"null":                {good, `null`},
		"nothing":             {good, ``},
	} {
		if text := strings.Replace(good, change[0], change[1], 1); text == good {
			t.Errorf("%s: nothing changed", name)
		} else if _, err := ParseLeaf([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// One leaf, one spelling.
func FuzzParseLeaf(f *testing.F) {
	for _, s := range aLog(f, 12).entries {
		f.Add(s.Leaf.Bytes())
	}
	f.Add([]byte(`{"v":1,"time":-62135596800000,"kind":"\ufffd\u2028\u0000","subject":"AAAAAAAAAAAAAAAAAAAAAA","commitment":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLeaf(text)
		if err == nil && !bytes.Equal(l.Bytes(), text) {
			t.Errorf("%s\nis written as\n%s", text, l.Bytes())
		}
	})
}

func TestPseudonyms(t *testing.T) {
	a, b := fakeKey("a"), fakeKey("b")
	const id, ref = "user-1", "0123"
	seal := func(e Entry, actor, subject Key) Leaf { return Seal(e, began, actor, subject).Leaf }

	acted := seal(Entry{Kind: SignedIn, Actor: id, Credential: ref}, a, nil)
	removed := seal(Entry{Kind: Erased, Subject: id}, nil, a)
	if len(acted.Actor) != PseudonymSize || !bytes.Equal(acted.Actor, removed.Subject) {
		t.Errorf("as actor %x, as subject %x", acted.Actor, removed.Subject)
	}
	both := seal(Entry{Kind: Erased, Actor: id, Subject: id}, a, a)
	if !bytes.Equal(both.Actor, both.Subject) {
		t.Errorf("who erases themselves is %x and %x", both.Actor, both.Subject)
	}
	// By another implementation of HMAC-SHA-256.
	if got, want := hex.EncodeToString(Key(counting(0, 32)).pseudonym("account", "user-1")), "019c89dd004623428fee4f3c524894b4"; got != want {
		t.Errorf("the pseudonym of user-1 is %s, want %s", got, want)
	}
	for name, other := range map[string][]byte{
		"under another key": seal(Entry{Actor: id}, b, nil).Actor,
		"of another id":     seal(Entry{Actor: "user-2"}, a, nil).Actor,
		"in another role":   seal(Entry{Actor: id, Credential: id}, a, nil).Credential,
		"of a passkey":      acted.Credential,
	} {
		if len(other) != PseudonymSize || bytes.Equal(other, acted.Actor) {
			t.Errorf("%s: %x, and %x", name, other, acted.Actor)
		}
	}
	for name, l := range map[string]Leaf{
		"no key":           seal(Entry{Actor: id, Credential: ref, Subject: id}, nil, nil),
		"keys and no ids":  seal(Entry{}, a, b),
		"a passkey alone":  seal(Entry{Credential: ref}, nil, nil),
		"its key and none": seal(Entry{Credential: ref}, a, nil),
	} {
		if l.Actor != nil || l.Credential != nil || l.Subject != nil {
			t.Errorf("%s: the leaf names %x, %x, %x", name, l.Actor, l.Credential, l.Subject)
		}
	}
}

// Someone erased meanwhile is named nowhere, and neither is a passkey that nobody
// is known by: no erasure would find it.
func TestSealWithoutKey(t *testing.T) {
	read := func(e Entry, key Key) Record {
		s := Seal(e, began, key, nil)
		r, err := Open(7, e.Kind, began, s.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := read(Entry{Kind: SignInRefused, Actor: "user-1", Credential: "0123", Reason: "signature"}, nil); r.Actor != "" || r.Credential != "" || r.Reason != "signature" {
		t.Errorf("of someone erased: %+v", r)
	}
	for name, key := range map[string]Key{"nobody": nil, "nobody, with a key": fakeKey("a")} {
		if r := read(Entry{Kind: SignInRefused, Credential: "0123", Reason: "unknown"}, key); r.Credential != "" || r.Reason != "unknown" {
			t.Errorf("of %s: %+v", name, r)
		}
	}
	if r := read(Entry{Kind: SignInRefused, Actor: "user-1", Credential: "0123"}, fakeKey("a")); r.Actor != "user-1" || r.Credential != "0123" || r.Index != 7 || !r.At.Equal(began) {
		t.Errorf("of someone: %+v", r)
	}
}

// Logs have entries from when the passkey of nobody was kept: they are whole.
func TestPasskeyOfNobody(t *testing.T) {
	l := newLog(t)
	l.append(Entry{Kind: SignInRefused, Reason: "unknown"})
	s := &l.entries[0]
	s.Payload = []byte(`{"credential":"0123","reason":"unknown"}`)
	s.Leaf.Commitment = commit(s.Salt, s.Payload)
	l.rebuild(t)
	wantProblems(t, "the log", l.check().Problems, nil)
	l.mustCheck(t, l.export(t, 0, 1, 1, 0))
}

func TestSealIsSalted(t *testing.T) {
	e := Entry{Kind: SignedIn, Actor: "user-1"}
	a, b := Seal(e, began, fakeKey("a"), nil), Seal(e, began, fakeKey("a"), nil)
	if len(a.Salt) != SaltSize || bytes.Equal(a.Salt, b.Salt) || a.Leaf.Commitment == b.Leaf.Commitment || !bytes.Equal(a.Payload, b.Payload) {
		t.Errorf("the same entry twice:\n%+v\n%+v", a, b)
	}
	if k := NewKey(); len(k) != KeySize || bytes.Equal(k, NewKey()) {
		t.Error("keys are not random")
	}
}

// The payload's bytes are hashed too.
func TestPayloadBytes(t *testing.T) {
	for _, tt := range []struct {
		entry Entry
		text  string
	}{
		{Entry{Kind: ServerStarted}, `{}`},
		{
			Entry{
				Kind: SignInRefused, Actor: "user-1", Subject: "user-2", Credential: "0123", Session: "session id", Reason: "several",
				Client: Client{"203.0.113.0/24", "Firefox", "Linux"}, Count: 12, Detail: map[string]string{"unknown": "5", "expired": "7"},
			},
			`{"actor":"user-1","credential":"0123","session":"` + SessionRef("session id") + `","reason":"several","network":"203.0.113.0/24","browser":"Firefox","system":"Linux","count":12,"detail":{"expired":"7","unknown":"5"}}`,
		},
		{Entry{Reason: `<a href="x">&'</a>`}, `{"reason":"<a href=\"x\">&'</a>"}`},
		{Entry{Reason: "\u2028\u2029\u00e9\U0001f511"}, `{"reason":"\u2028\u2029` + "\u00e9\U0001f511" + `"}`},
		{Entry{Reason: "\x00\b\f\n\r\t\x1f\x7f\\/"}, `{"reason":"\u0000\b\f\n\r\t\u001f` + "\x7f" + `\\/"}`},
		{Entry{Reason: "a\xff\xfeb\xed\xa0\x80"}, "{\"reason\":\"a\ufffdb\ufffd\"}"},
		{Entry{Detail: map[string]string{"\xff": "\xc0", "": ""}}, "{\"detail\":{\"\":\"\",\"\ufffd\":\"\ufffd\"}}"},
		{Entry{Detail: map[string]string{}}, `{}`},
	} {
		s := Seal(tt.entry, began, fakeKey("a"), fakeKey("b"))
		if string(s.Payload) != tt.text {
			t.Errorf("%+v:\n%s, want\n%s", tt.entry, s.Payload, tt.text)
		}
		if want := sha256.Sum256(slices.Concat(s.Salt, s.Payload)); s.Leaf.Commitment != want {
			t.Errorf("%+v: the commitment is not SHA-256 of salt and payload", tt.entry)
		}
		if _, what := checkPayload(s.Leaf, s.Salt, s.Payload); what != "" {
			t.Errorf("%+v: %s", tt.entry, what)
		}
	}
	if got, want := SessionRef("session id"), "666a1601917a9c78433a81e8a85fef55"; got != want || SessionRef("") != "" {
		t.Errorf("the ref is %s, want %s; of none %q", got, want, SessionRef(""))
	}
}

func TestParsePayloadRefuses(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "{} ", `{"actor":""}`, `{"count":0}`, `{"Actor":"a"}`, `{"actor":"a","actor":"a"}`, `{"more":1}`, `{"count":1.0}`, `{"reason":"\ufffd"}`, `{"reason":"\u003c"}`, `{"reason":"b","actor":"a"}`} {
		if p, err := parsePayload([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, p)
		}
	}
}

func FuzzParsePayload(f *testing.F) {
	for _, s := range aLog(f, 12).entries {
		f.Add([]byte(s.Payload))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePayload(text)
		if err == nil && !bytes.Equal(p.bytes(), text) {
			t.Errorf("%s\nis written as\n%s", text, p.bytes())
		}
	})
}

// Whatever an entry holds, what is sealed checks, is exported, and reads as it was.
func TestSealChecks(t *testing.T) {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"<&>\"'\\", "\u2028", "\ufffd", "\xff", "a\xed\xa0\x80", "\x00", "user-1"}))
	key := rapid.SampledFrom([]Key{nil, {}, fakeKey("a"), fakeKey("b")})
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{
			Kind: rapid.SampledFrom(Events()).Draw(t, "event").Kind, Actor: text.Draw(t, "actor"), Subject: text.Draw(t, "subject"),
			Credential: text.Draw(t, "credential"), Session: text.Draw(t, "session"), Reason: text.Draw(t, "reason"),
			Client: Client{text.Draw(t, "network"), text.Draw(t, "browser"), text.Draw(t, "system")},
			Count:  rapid.Int().Draw(t, "count"), Detail: rapid.MapOfN(text, text, 0, 4).Draw(t, "detail"),
		}
		given := maps.Clone(e.Detail)
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<38).Draw(t, "at"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		actor, subject := key.Draw(t, "actor's key"), key.Draw(t, "subject's key")
		s := Seal(e, at, actor, subject)
		if !maps.Equal(e.Detail, given) {
			t.Fatal("the caller's detail was changed")
		}

		stored := Stored{0, s.Leaf, nil, s.Salt, s.Payload, nil}
		p, what := checkPayload(s.Leaf, s.Salt, s.Payload)
		if what != "" {
			t.Fatalf("%s: %s", s.Payload, what)
		}
		if p.Actor != "" {
			stored.Actor = actor
		}
		var c Checker
		c.missing, c.erased = map[string]int64{}, map[string]int64{}
		if what := c.payload(stored); what != "" {
			t.Fatalf("%s: %s", s.Payload, what)
		}

		var line bytes.Buffer
		exporter := Exporter{encoder: json.NewEncoder(&line), header: ExportHeader{End: 1}}
		exporter.encoder.SetEscapeHTML(false)
		if err := exporter.Add(stored); err != nil {
			t.Fatal(err)
		}
		x, what := checkLine(0, bytes.TrimSuffix(line.Bytes(), []byte("\n")))
		if what != "" || !bytes.Equal(x.Bytes(), s.Leaf.Bytes()) || x.Time != s.Leaf.Time {
			t.Fatalf("%s: %s", line.Bytes(), what)
		}

		clean := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
		r, err := Open(0, e.Kind, s.Leaf.Time, s.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if d := at.Sub(r.At); d < 0 || d >= time.Millisecond || r.At.Location() != time.UTC {
			t.Fatalf("%v became %v", at, r.At)
		}
		if len(actor) == 0 || e.Actor == "" {
			e.Actor, e.Credential = "", ""
		}
		if r.Actor != clean(e.Actor) || r.Credential != clean(e.Credential) || r.Session != SessionRef(e.Session) || r.Reason != clean(e.Reason) ||
			r.Client != (Client{clean(e.Client.Network), clean(e.Client.Browser), clean(e.Client.System)}) || r.Count != e.Count {
			t.Fatalf("%+v\nis read as\n%+v", e, r)
		}
		for name, fact := range e.Detail {
			if clean(name) == name && r.Detail[name] != clean(fact) && !slices.ContainsFunc(slices.Collect(maps.Keys(e.Detail)), func(other string) bool { return other != name && clean(other) == name }) {
				t.Fatalf("detail %q: %q, want %q", name, r.Detail[name], clean(fact))
			}
		}
	})
	for _, ms := range []int64{math.MinInt64 / 1_000_000, 0, -1, 1, 1<<53 + 1} {
		s := Seal(Entry{Kind: SignedIn}, time.UnixMilli(ms), nil, nil)
		if l, err := ParseLeaf(s.Leaf.Bytes()); err != nil || l.Time.UnixMilli() != ms || l.Time != s.Leaf.Time {
			t.Errorf("%d ms: %v, %v", ms, l.Time, err)
		}
	}
}
