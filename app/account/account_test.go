package account

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var nameForm = regexp.MustCompile(`^[a-z]+-[a-z]+-\d{2,4}$`)

func handle(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16) }

func TestName(t *testing.T) {
	seen := map[string]int{}
	const many = 20000
	for i := range many {
		name := Name(handle(i), 0)
		if !nameForm.MatchString(name) {
			t.Fatalf("name %q", name)
		}
		if name != Name(handle(i), 0) {
			t.Fatalf("%q is not always the same", name)
		}
		seen[name]++
	}
	// 20,000 out of some 2.2 million: about 90 pairs meet by chance.
	if len(seen) < many-200 {
		t.Errorf("%d names for %d accounts", len(seen), many)
	}
}

func TestNames(t *testing.T) {
	for i := range 1000 {
		names := Names(handle(i))
		if names[0] != Name(handle(i), 0) {
			t.Fatalf("the first proposal is %q, and what a page offers %q", names[0], Name(handle(i), 0))
		}
		for attempt, name := range names {
			if !nameForm.MatchString(name) {
				t.Errorf("proposal %d: %q", attempt, name)
			}
			if digits := len(name) - strings.LastIndexByte(name, '-') - 1; digits != 2 && attempt < 3 || digits != 4 && attempt >= 3 {
				t.Errorf("proposal %d has %d digits: %q", attempt, digits, name)
			}
		}
		if slices.Sort(names); len(slices.Compact(names)) < 7 {
			t.Errorf("proposals repeat: %v", names)
		}
	}
}

func TestWords(t *testing.T) {
	clean := regexp.MustCompile(`^[a-z]{3,12}$`)
	for name, words := range map[string][]string{"first": firstWords[:], "second": secondWords[:]} {
		if len(words) < 128 {
			t.Errorf("only %d %s words", len(words), name)
		}
		for i, w := range words {
			if !clean.MatchString(w) {
				t.Errorf("%s word %q", name, w)
			}
			if slices.Contains(words[:i], w) {
				t.Errorf("%s word %q twice", name, w)
			}
		}
	}
	for _, w := range firstWords {
		if slices.Contains(secondWords[:], w) {
			t.Errorf("%q is both a first and a second word", w)
		}
	}
}

func TestUserID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	a, b := UserID(handle(1)), UserID(handle(2))
	if !form.MatchString(a) || a == b || a != UserID(handle(1)) {
		t.Errorf("ids %s and %s", a, b)
	}
}

func TestCredentialRef(t *testing.T) {
	id := []byte("0123456789abcdef")
	// printf 'bio credential\0000123456789abcdef' | sha256sum | cut -c-32
	if got, want := CredentialRef(id), "2d2a80b212ef1a7d32de154545b7ee68"; got != want {
		t.Errorf("ref %s, want %s", got, want)
	}
	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen := map[string][]byte{UserID(id): id, "": nil}
	for _, id := range [][]byte{nil, {0}, {0, 0}, id[:15], id, append(id[:len(id):len(id)], 0), bytes.ToUpper(id), bytes.Repeat([]byte{0xff}, 1023)} {
		ref := CredentialRef(id)
		if !form.MatchString(ref) {
			t.Errorf("ref %q of %x", ref, id)
		}
		if other, ok := seen[ref]; ok {
			t.Errorf("%x and %x have one ref", id, other)
		}
		seen[ref] = id
	}
}

func TestTokenHash(t *testing.T) {
	token := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xfe}, 16)) // ends in a partial byte
	hash := TokenHash(token)
	if len(hash) != 32 || !bytes.Equal(hash, TokenHash(token)) {
		t.Fatalf("hash %x", hash)
	}
	if longer := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xfe}, 17)); bytes.Equal(TokenHash(longer), hash) {
		t.Error("two tokens have one hash")
	}
	for name, spoilt := range map[string]string{
		"nothing": "", "too short": base64.RawURLEncoding.EncodeToString(make([]byte, 15)),
		"padded": token + "==", "standard alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(token),
		"another spelling": token[:len(token)-1] + "h", "garbage": "not a token at all!!!!", "space": " " + token,
	} {
		if got := TokenHash(spoilt); got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// An invitation has one spelling. The decoder by itself passes over line breaks.
func TestTokenHashLineBreaks(t *testing.T) {
	token := base64.RawURLEncoding.EncodeToString(make([]byte, 18))
	for _, spoilt := range []string{token + "\n", "\r" + token, token[:4] + "\r\n" + token[4:]} {
		if got := TokenHash(spoilt); got != nil {
			t.Errorf("%q has a hash", spoilt)
		}
	}
}

func TestInvitationUsable(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		i    Invitation
		want bool
	}{
		{"for ever", Invitation{}, true},
		{"used", Invitation{UsedAt: now.Add(-time.Hour)}, false},
		{"in time", Invitation{ExpiresAt: now.Add(time.Millisecond)}, true},
		{"just over", Invitation{ExpiresAt: now}, false},
		{"used in time", Invitation{ExpiresAt: now.Add(time.Hour), UsedAt: now}, false},
	} {
		if got := tt.i.Usable(now); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestCredentialName(t *testing.T) {
	long := strings.Repeat("é", 64)
	family := "👨\u200d👩\u200d👧 tablet"
	for name, want := range map[string]string{
		"YubiKey 5": "YubiKey 5", "k": "k", "  my phone\t\r\n": "my phone", "\u00a0\u3000phone\u2003": "phone",
		long: long, " " + long + " ": long, family: family, "مفتاح": "مفتاح", "<b>&amp;\"'": "<b>&amp;\"'",
		"two  spaces": "two  spaces", "\ufffd": "\ufffd", "\x00\tkey": "", "key\x00": "",
		"": "", " ": "", "\u3000\u00a0\n": "", "\u200b": "", "\u200d \u2060": "", "\u00ad": "",
		long + "e": "", strings.Repeat("a", 65): "",
		"\u3164": "", "\u115f\u1160": "", "\u034f": "", "\ufe0f": "", "\uffa0 \u17b4": "", "\U000e0100\u180b": "", // which count as printed
		"❤\ufe0f": "❤\ufe0f", "a\u034f": "a\u034f", "\u3164k": "\u3164k",
		"a\nb": "", "a\tb": "", "a\x7fb": "", "a\x1bb": "", "a\u0085b": "", "a\u2028b": "", "a\u2029b": "",
		"a\u202eb": "", "a\u202a": "", "\u2066a\u2069": "", "a\u2067b": "", "a\u200eb": "", "a\u061cb": "",
		"\xff": "", "key \xc3": "", "\xed\xa0\x80": "",
	} {
		got, err := CredentialName(name)
		if got != want || (want == "") != errors.Is(err, ErrBadName) || want != "" && err != nil {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func FuzzCredentialName(f *testing.F) {
	for _, seed := range []string{"YubiKey 5", " my phone\n", "a\u202eb", "\u200b", "\u3164", "❤\ufe0f", "\xff", strings.Repeat("é", 65), ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := CredentialName(name)
		if err != nil {
			if !errors.Is(err, ErrBadName) || got != "" {
				t.Errorf("%q: got %q, %v", name, got, err)
			}
			return
		}
		if n := utf8.RuneCountInString(got); n < 1 || n > 64 || !utf8.ValidString(got) || !strings.Contains(name, got) {
			t.Errorf("%q became %q", name, got)
		}
		if again, err := CredentialName(got); again != got || err != nil {
			t.Errorf("%q became %q, and that %q, %v", name, got, again, err)
		}
	})
}

func TestUserName(t *testing.T) {
	long := strings.Repeat("a", 40)
	for name, want := range map[string]string{
		"cedar-otter-42": "cedar-otter-42", "Ann Lee": "Ann Lee", "J.R_R-T x": "J.R_R-T x", "42": "42", "ab": "ab",
		" \tann\r\n": "ann", long: long, " " + long + " ": long,
		"": "", " ": "", "a": "", " a ": "", long + "a": "",
		"-ann": "", "ann-": "", ".ann": "", "ann.": "", "_ann": "", "ann_": "", "--": "",
		"a--b": "", "a- b": "", "a  b": "", "a._b": "", "a\tb": "", "a\nb": "", "ab\n\x00": "",
		"änn": "", "ann\u00a0": "", "\u3000ann": "", "аnn": "", "ann\u200b": "", "ann\u202e": "", "ａｎｎ": "", "\xff\xff": "",
		strings.Repeat("0a", 16): "", strings.Repeat("F", 32): "", " " + strings.Repeat("7", 32) + " ": "", // what looks like a user id
		strings.Repeat("a", 31): strings.Repeat("a", 31), strings.Repeat("a", 33): strings.Repeat("a", 33),
		strings.Repeat("a", 31) + "g": strings.Repeat("a", 31) + "g", strings.Repeat("a", 15) + "-" + strings.Repeat("a", 16): strings.Repeat("a", 15) + "-" + strings.Repeat("a", 16),
		"a,b": "", "a:b": "", "a@b": "", "a/b": "", "<b>": "", "a'b": "", "$(a)": "", "a;b": "",
	} {
		got, err := UserName(name)
		if got != want || (want == "") != errors.Is(err, ErrBadUserName) || want != "" && err != nil {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
	// Whatever Bio itself calls an account may be given back to it.
	for i := range 1000 {
		for _, name := range Names(handle(i)) {
			if got, err := UserName(name); got != name || err != nil {
				t.Errorf("%q: %q, %v", name, got, err)
			}
		}
	}
}

func FuzzUserName(f *testing.F) {
	for _, seed := range []string{"cedar-otter-42", " Ann Lee\n", "a--b", "-a", "ａｎｎ", "\xff", strings.Repeat("a", 41), strings.Repeat("0A", 16), ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := UserName(name)
		if err != nil {
			if !errors.Is(err, ErrBadUserName) || got != "" {
				t.Errorf("%q: got %q, %v", name, got, err)
			}
			return
		}
		letter := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }
		for i := range len(got) {
			if !letter(got[i]) && (!strings.Contains("-._ ", got[i:i+1]) || i == 0 || i == len(got)-1 || !letter(got[i-1])) {
				t.Errorf("%q has %q at %d", got, got[i], i)
			}
		}
		if _, err := hex.DecodeString(got); err == nil && len(got) == len(UserID(nil)) {
			t.Errorf("%q looks like a user id", got)
		}
		if n := len(got); n < 2 || n > 40 || strings.Trim(name, " \t\r\n") != got {
			t.Errorf("%q became %q", name, got)
		}
		if again, err := UserName(got); again != got || err != nil {
			t.Errorf("%q became %q, and that %q, %v", name, got, again, err)
		}
	})
}

func TestGroups(t *testing.T) {
	long := strings.Repeat("g", 64)
	many := func(n int) (all []string) {
		for i := range n {
			all = append(all, "g"+string(rune('a'+i/26))+string(rune('a'+i%26)))
		}
		return all
	}
	for _, tt := range []struct{ names, want []string }{
		{nil, nil}, {[]string{}, nil},
		{[]string{"ops", "dev", "ops"}, []string{"dev", "ops"}},
		{[]string{Owner}, []string{Owner}}, {[]string{"0", "a.b-c_d"}, []string{"0", "a.b-c_d"}},
		{[]string{long}, []string{long}},
		{many(32), many(32)}, {append(many(32), "gaa"), many(32)},
	} {
		given := slices.Clone(tt.names)
		got, err := Groups(tt.names)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v", tt.names, got, err)
		}
		if !slices.Equal(tt.names, given) {
			t.Errorf("what was given is now %q", tt.names)
		}
	}
	for name, names := range map[string][]string{
		"empty": {""}, "capital": {"Ops"}, "space": {"a b"}, "around": {" ops"}, "line": {"ops\n"}, "comma": {"a,b"}, "dot first": {".a"},
		"hyphen first": {"-a"}, "underscore first": {"_a"}, "long": {long + "g"}, "accent": {"é"}, "star": {"*"}, "one of two": {"ops", "a b"},
		"many": many(33), "bytes": {"\xff"},
	} {
		if got, err := Groups(names); !errors.Is(err, ErrBadGroup) || got != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func FuzzGroups(f *testing.F) {
	for _, seed := range []string{"ops,dev,ops", "", "a b", "owner", "A", "\xff", ".a,-b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		got, err := Groups(strings.Split(joined, ","))
		if err != nil {
			if !errors.Is(err, ErrBadGroup) || got != nil {
				t.Errorf("%q: got %q, %v", joined, got, err)
			}
			return
		}
		again, err := Groups(got)
		if err != nil || !slices.Equal(again, got) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%q became %q, and that %q, %v", joined, got, again, err)
		}
	})
}

func TestRecoveryUsable(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		r    Recovery
		want bool
	}{
		{"in time", Recovery{ExpiresAt: now.Add(time.Millisecond)}, true},
		{"just over", Recovery{ExpiresAt: now}, false},
		{"without an end", Recovery{}, false}, // unlike an invitation, it has one
		{"used", Recovery{ExpiresAt: now.Add(time.Hour), UsedAt: now.Add(-time.Hour)}, false},
	} {
		if got := tt.r.Usable(now); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestEarlyError(t *testing.T) {
	err := &EarlyError{EffectiveAt: time.Date(2026, 3, 1, 14, 0, 0, 0, time.FixedZone("", 7200)), Wait: time.Hour}
	if got, want := err.Error(), "account: the recovery waits until 2026-03-01T12:00:00Z"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUserIn(t *testing.T) {
	u := User{Groups: []string{"ops", Owner}}
	for group, want := range map[string]bool{Owner: true, "ops": true, "own": false, "": false, "OWNER": false} {
		if u.In(group) != want {
			t.Errorf("in %q: %t", group, !want)
		}
	}
}

func TestCredentialFlags(t *testing.T) {
	for flags, want := range map[byte]struct {
		eligible, backedUp bool
		device             string
	}{
		FlagUserPresent | FlagUserVerified:                     {false, false, "single"},
		FlagBackupEligible:                                     {true, false, "multi"},
		FlagBackupEligible | FlagBackupState | FlagUserPresent: {true, true, "multi"},
	} {
		c := Credential{Flags: flags}
		if c.BackupEligible() != want.eligible || c.BackupState() != want.backedUp || c.DeviceType() != want.device {
			t.Errorf("%08b: %t %t %s", flags, c.BackupEligible(), c.BackupState(), c.DeviceType())
		}
	}
}

func FuzzTokenHash(f *testing.F) {
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 18)))
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAA\n")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAB")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		hash := TokenHash(token)
		if hash == nil {
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != token {
			t.Errorf("%q has a second spelling", token)
		}
	})
}
