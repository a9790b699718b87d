package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says what a log was at one size (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string // the log's name
	Size   int64  // how many entries
	Root   tlog.Hash
}

// text is the body of the note: three lines.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, errors.New("audit: checkpoint: not three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, errors.New("audit: checkpoint: the second line is not a size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, errors.New("audit: checkpoint: the third line is not a hash")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if c.Origin == "" || c.text() != text {
		return Checkpoint{}, errors.New("audit: checkpoint: not as this version writes it")
	}
	return c, nil
}

// ErrUnknownKey says that a checkpoint is well formed but signed with no key that
// is known here.
var ErrUnknownKey = errors.New("audit: checkpoint signed with an unknown key")

// OpenCheckpoint reads a signed note and verifies with the keys that it is signed
// in the log's name. The checkpoint is returned with ErrUnknownKey too: then it is
// only a claim.
func OpenCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, error) {
	n, err := note.Open(signed, keys)
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		n = unverified.Note
	case err != nil:
		return Checkpoint{}, fmt.Errorf("audit: checkpoint: %w", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	// note passes over a repeated signature and over stray bits of base64.
	signatures := slices.Concat(n.Sigs, n.UnverifiedSigs)
	once := bytes.Count(signed, []byte("\n")) == strings.Count(n.Text, "\n")+1+len(signatures)
	if !once || slices.ContainsFunc(signatures, func(s note.Signature) bool {
		_, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		return err != nil
	}) {
		return Checkpoint{}, errors.New("audit: checkpoint: its signatures are not as they are written")
	}
	own := func(s note.Signature) bool { return s.Name == c.Origin }
	switch {
	case slices.ContainsFunc(n.Sigs, own):
		return c, nil
	case slices.ContainsFunc(n.UnverifiedSigs, own):
		return c, ErrUnknownKey
	}
	return Checkpoint{}, errors.New("audit: checkpoint: signed in the name of another log")
}

// Claim reads what a signed note says, whoever signed it.
func Claim(signed []byte) (Checkpoint, error) {
	c, err := OpenCheckpoint(signed, note.VerifierList())
	if errors.Is(err, ErrUnknownKey) {
		err = nil
	}
	return c, err
}

// Verifiers reads verifier keys as note has them: name+hash+key. One may be there
// more than once.
func Verifiers(keys ...string) (note.Verifiers, error) {
	var list []note.Verifier
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue // note would call it ambiguous
		}
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("audit: %q is not a verifier key, such as bio.example.com/audit+0123abcd+AQ…", key)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// Signer signs the checkpoints of one log. Ed25519 is deterministic: the same
// tree is always the same note.
type Signer struct {
	origin  string
	signers []note.Signer
	keys    []string
}

// Origin is the name of a log: that of the site at host (with its port, where it
// has one), and after breaks the number of the log.
func Origin(host string, number int) string {
	origin := host + "/audit"
	if number > 1 {
		origin += "/" + strconv.Itoa(number)
	}
	return origin
}

// NewSigner makes the signer of the log called origin from Ed25519 seeds of 32
// bytes: the current one, and those that still sign while outsiders learn it. A
// seed that is there again signs once.
func NewSigner(origin string, seeds ...[]byte) (*Signer, error) {
	s := &Signer{origin: origin}
	for _, seed := range seeds {
		if len(seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("audit: signer: a seed of %d bytes, not %d", len(seed), ed25519.SeedSize)
		}
		private := ed25519.NewKeyFromSeed(seed)
		key, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("audit: signer: %w", err)
		}
		if slices.Contains(s.keys, key) {
			continue
		}
		// name+hash+key: the private form has the same hash.
		hash := strings.Split(key, "+")[1]
		signer, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + hash + "+" +
			base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, seed...)))
		if err != nil {
			return nil, fmt.Errorf("audit: signer: %w", err)
		}
		s.signers, s.keys = append(s.signers, signer), append(s.keys, key)
	}
	if len(s.signers) == 0 {
		return nil, errors.New("audit: signer: no seed")
	}
	return s, nil
}

// algEd25519 is note's number of the algorithm.
const algEd25519 = 1

// Key is the current verifier key: name+hash+key.
func (s *Signer) Key() string { return s.keys[0] }

// Keys are all verifier keys, the current one first.
func (s *Signer) Keys() []string { return s.keys }

// Origin is the name of the log.
func (s *Signer) Origin() string { return s.origin }

// Sign makes the signed note of a tree.
func (s *Signer) Sign(size int64, root tlog.Hash) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: Checkpoint{s.origin, size, root}.text()}, s.signers...)
	if err != nil {
		return nil, fmt.Errorf("audit: sign: %w", err)
	}
	return signed, nil
}
