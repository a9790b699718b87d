package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "bio.example.com/audit"

func newSigner(t testing.TB, origin string, seeds ...[]byte) *Signer {
	s, err := NewSigner(origin, seeds...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifiers(t testing.TB, keys ...string) note.Verifiers {
	v, err := Verifiers(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, s *Signer, size int64, root tlog.Hash) []byte {
	signed, err := s.Sign(size, root)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// rawNote signs a text as C2SP signed-note and Ed25519 say, without package note.
func rawNote(text, name string, seed []byte) string {
	private := ed25519.NewKeyFromSeed(seed)
	id := sha256.Sum256(append([]byte(name+"\n\x01"), private[32:]...))
	return text + "\n— " + name + " " + base64.StdEncoding.EncodeToString(append(id[:4], ed25519.Sign(private, []byte(text))...)) + "\n"
}

// A checkpoint is the three lines of C2SP tlog-checkpoint in a signed note. This
// one is for ever: others keep such notes.
func TestCheckpointBytes(t *testing.T) {
	s := newSigner(t, origin, counting(0, 32))
	root := tlog.Hash(counting(224, 32))
	want := rawNote("bio.example.com/audit\n1234567\n4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=\n", origin, counting(0, 32))
	if got := string(sign(t, s, 1234567, root)); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	const golden = "bio.example.com/audit\n1234567\n4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=\n\n" +
		"— bio.example.com/audit B4FocBkoSQg3C3A1YG3z9rwJCc1MNjkjFOJYSTs/r822jit+31KvF1Auy7gItHLHYSt7KeK9AT/uRUhqqvEqLSb9CQs=\n"
	if want != golden {
		t.Errorf("\n%s\nwant\n%s", want, golden)
	}
	if key := "bio.example.com/audit+07816870+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"; s.Key() != key || len(s.Keys()) != 1 || s.Keys()[0] != key || s.Origin() != origin {
		t.Errorf("the key is %s, want %s", s.Key(), key)
	}
	c, err := OpenCheckpoint([]byte(want), verifiers(t, s.Key()))
	if err != nil || c != (Checkpoint{origin, 1234567, root}) {
		t.Errorf("%+v, %v", c, err)
	}
	empty, _ := tlog.TreeHash(0, nil)
	if got := string(sign(t, s, 0, empty)); !strings.HasPrefix(got, origin+"\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— ") {
		t.Errorf("of nothing:\n%s", got)
	}
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		host   string
		number int
		want   string
	}{
		{"bio.example.com", 1, "bio.example.com/audit"},
		{"localhost:8080", 1, "localhost:8080/audit"},
		{"[::1]:8080", 2, "[::1]:8080/audit/2"},
		{"bio.example.com", 12, "bio.example.com/audit/12"},
	} {
		got := Origin(tt.host, tt.number)
		if got != tt.want {
			t.Errorf("log %d of %s is %s, want %s", tt.number, tt.host, got, tt.want)
		}
		s := newSigner(t, got, seed(1))
		if c, err := OpenCheckpoint(sign(t, s, 1, tlog.Hash{}), verifiers(t, s.Keys()...)); err != nil || c.Origin != tt.want {
			t.Errorf("%s: %+v, %v", got, c, err)
		}
	}
}

// While a secret is replaced both keys sign: who knows either one is served.
func TestRotation(t *testing.T) {
	both := newSigner(t, origin, seed(2), seed(1), seed(2), seed(1))
	if len(both.Keys()) != 2 || both.Key() != newSigner(t, origin, seed(2)).Key() || both.Keys()[1] != newSigner(t, origin, seed(1)).Key() {
		t.Fatalf("keys %v", both.Keys())
	}
	signed := sign(t, both, 5, tlog.Hash{7})
	want := Checkpoint{origin, 5, tlog.Hash{7}}
	for name, keys := range map[string][]string{
		"old": both.Keys()[1:], "new": both.Keys()[:1], "both": both.Keys(), "twice": {both.Key(), both.Key()},
	} {
		if c, err := OpenCheckpoint(signed, verifiers(t, keys...)); err != nil || c != want {
			t.Errorf("with the key %s: %+v, %v", name, c, err)
		}
	}
	for name, keys := range map[string]note.Verifiers{
		"nil": nil, "none": verifiers(t), "another": verifiers(t, newSigner(t, origin, seed(3)).Key()),
		"the same of another log": verifiers(t, newSigner(t, origin+"/2", seed(1)).Key()),
	} {
		if c, err := OpenCheckpoint(signed, keys); !errors.Is(err, ErrUnknownKey) || c != want {
			t.Errorf("with the key %s: %+v, %v", name, c, err)
		}
	}
}

// Another log's signature is none, whoever else signed.
func TestAnotherLog(t *testing.T) {
	mine, other := newSigner(t, origin, seed(1)), newSigner(t, origin+"/2", seed(1))
	body := Checkpoint{origin, 5, tlog.Hash{}}.text()
	line := func(name string, n byte) string {
		return strings.SplitAfter(rawNote(body, name, seed(n)), "\n\n")[1]
	}
	all := verifiers(t, mine.Key(), other.Key())
	for _, tt := range []struct {
		name    string
		lines   string
		keys    note.Verifiers
		unknown bool
		refused bool
	}{
		{"its own", line(origin, 1), all, false, false},
		{"another's", line(origin+"/2", 1), all, false, true},
		{"another's, unknown", line(origin+"/2", 1), nil, false, true},
		{"a witness and its own", line("witness.example", 9) + line(origin, 1), all, false, false},
		{"another's and its own", line(origin+"/2", 1) + line(origin, 1), all, false, false},
		{"another's and its own, unknown", line(origin+"/2", 1) + line(origin, 1), verifiers(t, other.Key()), true, false},
		{"a witness and its own, all unknown", line("witness.example", 9) + line(origin, 1), nil, true, false},
		{"a witness alone", line("witness.example", 9), all, false, true},
		{"its own twice", line(origin, 1) + line(origin, 1), all, false, true},
		{"a witness twice", line(origin, 1) + line("witness.example", 9) + line("witness.example", 9), all, false, true},
		{"a bad one of its own", line(origin, 1)[:len(origin)+20] + line(origin, 1)[len(origin)+20:len(origin)+21] + "AAAA" + line(origin, 1)[len(origin)+25:], all, false, true},
	} {
		c, err := OpenCheckpoint([]byte(body+"\n"+tt.lines), tt.keys)
		if unknown := errors.Is(err, ErrUnknownKey); unknown != tt.unknown || (err != nil && !unknown) != tt.refused || tt.refused && c != (Checkpoint{}) || !tt.refused && c.Size != 5 {
			t.Errorf("signed by %s: %+v, %v", tt.name, c, err)
		}
	}
}

// No byte of a signed checkpoint can be another one.
func TestCheckpointFlipped(t *testing.T) {
	s := newSigner(t, origin, seed(1))
	keys := verifiers(t, s.Keys()...)
	signed := sign(t, s, 1234567, tlog.Hash(counting(224, 32)))
	for i := range signed {
		for x := 1; x < 256; x++ {
			changed := bytes.Clone(signed)
			changed[i] ^= byte(x)
			if c, err := OpenCheckpoint(changed, keys); err == nil {
				t.Fatalf("byte %d as %q is accepted: %+v", i, changed[i], c)
			}
		}
		if _, err := OpenCheckpoint(signed[:i], keys); err == nil {
			t.Errorf("the first %d bytes are accepted", i)
		}
		if _, err := OpenCheckpoint(append(append(bytes.Clone(signed[:i]), '\n'), signed[i:]...), keys); err == nil {
			t.Errorf("a line feed before byte %d is accepted", i)
		}
	}
}

// What is signed and yet no checkpoint of ours is refused.
func TestOpenCheckpointRefuses(t *testing.T) {
	keys := verifiers(t, newSigner(t, origin, seed(1)).Key())
	const hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for name, text := range map[string]string{
		"two lines":     origin + "\n5\n",
		"an extension":  origin + "\n5\n" + hash + "\nmore\n",
		"an empty line": origin + "\n5\n" + hash + "\n\n",
		"no origin":     "\n5\n" + hash + "\n",
		"no size":       origin + "\n\n" + hash + "\n",
		"a minus":       origin + "\n-5\n" + hash + "\n",
		"a plus":        origin + "\n+5\n" + hash + "\n",
		"a zero before": origin + "\n05\n" + hash + "\n",
		"hexadecimal":   origin + "\n0x5\n" + hash + "\n",
		"too large":     origin + "\n9223372036854775808\n" + hash + "\n",
		"short hash":    origin + "\n5\n" + hash[:40] + "\n",
		"no padding":    origin + "\n5\n" + hash[:43] + "\n",
		"stray bits":    origin + "\n5\n" + hash[:42] + "V=\n",
		"base64url":     origin + "\n5\n" + strings.NewReplacer("+", "-", "/", "_").Replace(hash) + "\n",
		"a space after": origin + "\n5\n" + hash + " \n",
	} {
		if c, err := OpenCheckpoint([]byte(rawNote(text, origin, seed(1))), keys); err == nil || errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	good := rawNote(origin+"\n5\n"+hash+"\n", origin, seed(1))
	if _, err := OpenCheckpoint([]byte(good), keys); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no signature": origin + "\n5\n" + hash + "\n", "an empty one": origin + "\n5\n" + hash + "\n\n",
		"carriage returns": strings.ReplaceAll(good, "\n", "\r\n"), "something before": "\n" + good, "something after": good + "\n",
	} {
		if c, err := OpenCheckpoint([]byte(text), keys); err == nil || errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	for name, make := range map[string]func() (*Signer, error){
		"no seed":        func() (*Signer, error) { return NewSigner(origin) },
		"a short seed":   func() (*Signer, error) { return NewSigner(origin, seed(1), seed(2)[:31]) },
		"a long seed":    func() (*Signer, error) { return NewSigner(origin, append(seed(1), 1)) },
		"no origin":      func() (*Signer, error) { return NewSigner("", seed(1)) },
		"a space in it":  func() (*Signer, error) { return NewSigner("bio audit", seed(1)) },
		"a plus in it":   func() (*Signer, error) { return NewSigner("bio+audit", seed(1)) },
		"a line in it":   func() (*Signer, error) { return NewSigner("bio\naudit", seed(1)) },
		"not valid text": func() (*Signer, error) { return NewSigner("\xff", seed(1)) },
	} {
		if s, err := make(); err == nil {
			t.Errorf("%s: %v", name, s.Keys())
		}
	}
}

func TestVerifiersRefuse(t *testing.T) {
	good := newSigner(t, origin, seed(1)).Key()
	for _, key := range []string{"", "x", origin, good[:len(good)-1], good + "A", "x" + good, strings.Replace(good, "+", "+0", 1), "PRIVATE+KEY+" + good} {
		if _, err := Verifiers(good, key); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// What is accepted is what would be written, and its signatures are not spelled
// another way.
func FuzzOpenCheckpoint(f *testing.F) {
	one, two := newSigner(f, origin, seed(1)), newSigner(f, origin, seed(1), seed(2))
	keys := verifiers(f, one.Key())
	f.Add(sign(f, one, 0, tlog.Hash{}))
	f.Add(sign(f, two, 1<<62, tlog.Hash{1}))
	f.Add(sign(f, newSigner(f, "another", seed(1)), 7, tlog.Hash{2}))
	f.Add([]byte(rawNote("a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", "a", seed(5))))
	f.Fuzz(func(t *testing.T, signed []byte) {
		c, err := OpenCheckpoint(signed, keys)
		if err != nil && !errors.Is(err, ErrUnknownKey) {
			if c != (Checkpoint{}) {
				t.Errorf("%+v comes with %v", c, err)
			}
			return
		}
		body, signatures, _ := strings.Cut(string(signed), "\n\n")
		if body+"\n" != c.text() {
			t.Errorf("%q is written as %q", body, c.text())
		}
		own, seen := false, map[string]bool{}
		for line := range strings.Lines(signatures) {
			name, text, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
			b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(text, "\n"))
			if err != nil || len(b) < 5 || line != "— "+name+" "+base64.StdEncoding.EncodeToString(b)+"\n" || seen[line] {
				t.Fatalf("the signature %q: %v", line, err)
			}
			seen[line] = true
			own = own || name == c.Origin
		}
		if !own {
			t.Errorf("%s is not signed in its name", c.Origin)
		}
	})
}
