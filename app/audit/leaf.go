package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Sizes in bytes.
const (
	KeySize       = 32
	SaltSize      = 16
	PseudonymSize = 16
)

// Key is the random key of one user, under which leaves name them. Destroying it
// leaves nothing in the tree that leads to the person.
type Key []byte

// NewKey makes a key.
func NewKey() Key {
	k := make(Key, KeySize)
	rand.Read(k)
	return k
}

// pseudonym is what a leaf has in place of a value: the first 16 bytes of
// HMAC-SHA-256(key, role ‖ 0 ‖ value); nil without a key or a value.
func (k Key) pseudonym(role, value string) []byte {
	if len(k) == 0 || value == "" {
		return nil
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(role))
	mac.Write([]byte{0})
	mac.Write([]byte(value))
	return mac.Sum(nil)[:PseudonymSize]
}

// The roles of pseudonyms. An account has one pseudonym, whether it acts or is
// acted on.
const (
	accountRole    = "account"
	credentialRole = "credential"
)

// SessionRef is what the trail calls a session: 32 hex digits that join the
// entries of one session without giving its id.
func SessionRef(id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("bio session\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// A Leaf is what the tree holds of an entry: commitments, and nothing that says
// who or where. The pseudonyms are 16 bytes, or empty where there is none.
type Leaf struct {
	Time       time.Time // to the millisecond
	Kind       Kind
	Actor      []byte // pseudonym of the account that acted
	Credential []byte // pseudonym of its passkey
	Subject    []byte // pseudonym, under its own key, of the account that was removed
	Commitment [sha256.Size]byte
}

// erases reports whether the leaf says that its subject's account was erased.
func (l Leaf) erases() bool {
	return len(l.Subject) > 0 && (l.Kind == Erased || l.Kind == DuplicateUndone)
}

const leafVersion = 1

type leafJSON struct {
	Version    int    `json:"v"`
	Time       int64  `json:"time"` // unix ms
	Kind       Kind   `json:"kind"`
	Actor      string `json:"actor,omitempty"`
	Credential string `json:"credential,omitempty"`
	Subject    string `json:"subject,omitempty"`
	Commitment string `json:"commitment"`
}

// Bytes is the leaf as it is hashed: compact JSON, its members in the order of
// the struct, bytes as unpadded base64url.
func (l Leaf) Bytes() []byte {
	text, err := json.Marshal(leafJSON{
		leafVersion, l.Time.UnixMilli(), l.Kind, encode(l.Actor), encode(l.Credential), encode(l.Subject), encode(l.Commitment[:]),
	})
	if err != nil {
		panic(err) // numbers and strings
	}
	return text
}

// Hash is the leaf's hash in the tree (RFC 6962 §2.1).
func (l Leaf) Hash() tlog.Hash { return tlog.RecordHash(l.Bytes()) }

// ParseLeaf reads what Bytes gives, and nothing else: one leaf, one spelling.
func ParseLeaf(text []byte) (Leaf, error) {
	var raw leafJSON
	if err := json.Unmarshal(text, &raw); err != nil {
		return Leaf{}, fmt.Errorf("audit: leaf: %w", err)
	}
	l := Leaf{Time: time.UnixMilli(raw.Time).UTC(), Kind: raw.Kind}
	for _, p := range []struct {
		text string
		to   *[]byte
	}{{raw.Actor, &l.Actor}, {raw.Credential, &l.Credential}, {raw.Subject, &l.Subject}} {
		var err error
		if *p.to, err = decode(p.text); err != nil || len(*p.to) != PseudonymSize && p.text != "" {
			return Leaf{}, errors.New("audit: leaf: a pseudonym is not 16 bytes of base64url")
		}
	}
	commitment, err := decode(raw.Commitment)
	if err != nil || copy(l.Commitment[:], commitment) != len(l.Commitment) {
		return Leaf{}, errors.New("audit: leaf: the commitment is not 32 bytes of base64url")
	}
	if !bytes.Equal(l.Bytes(), text) {
		return Leaf{}, errors.New("audit: leaf: not as this version writes it")
	}
	return l, nil
}

// A payload is what an entry says. It stands beside its leaf, which commits to
// it, and goes when its account is erased.
type payload struct {
	Actor      string            `json:"actor,omitempty"`
	Credential string            `json:"credential,omitempty"`
	Session    string            `json:"session,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Network    string            `json:"network,omitempty"`
	Browser    string            `json:"browser,omitempty"`
	System     string            `json:"system,omitempty"`
	Count      int               `json:"count,omitempty"`
	Detail     map[string]string `json:"detail,omitempty"`
}

func (p payload) bytes() []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // as JSON.stringify and others write it
	if err := encoder.Encode(p); err != nil {
		panic(err) // strings and a number
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func parsePayload(text []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return payload{}, fmt.Errorf("audit: payload: %w", err)
	}
	if !bytes.Equal(p.bytes(), text) {
		return payload{}, errors.New("audit: payload: not as this version writes it")
	}
	return p, nil
}

// commit is SHA-256(salt ‖ payload).
func commit(salt, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(payload)
	return [sha256.Size]byte(h.Sum(nil))
}

// Sealed is an entry as it is kept: a leaf for the tree, and beside it the
// payload and the random salt that keeps the commitment from being guessed.
type Sealed struct {
	Leaf    Leaf
	Salt    []byte
	Payload []byte // compact JSON
}

// valid is the entry with all text as valid UTF-8. Other text would not be read
// back as it was committed to.
func (e Entry) valid() Entry {
	clean := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
	for _, s := range []*string{&e.Actor, &e.Subject, &e.Credential, &e.Reason, &e.Client.Network, &e.Client.Browser, &e.Client.System} {
		*s = clean(*s)
	}
	detail := make(map[string]string, len(e.Detail))
	for name, fact := range e.Detail {
		detail[clean(name)] = clean(fact)
	}
	e.Detail = detail
	return e
}

// Seal makes the leaf and the payload of an entry. actor and subject are the keys
// of the accounts that the entry names. Without the actor's key, as of someone
// erased meanwhile, the entry names neither them nor a passkey: no erasure would
// ever find it.
func Seal(e Entry, at time.Time, actor, subject Key) Sealed {
	e = e.valid()
	if e.Actor == "" || len(actor) == 0 {
		actor, e.Actor, e.Credential = nil, "", ""
	}
	p := payload{
		Actor: e.Actor, Credential: e.Credential, Session: SessionRef(e.Session), Reason: e.Reason,
		Network: e.Client.Network, Browser: e.Client.Browser, System: e.Client.System, Count: e.Count, Detail: e.Detail,
	}
	s := Sealed{Salt: make([]byte, SaltSize), Payload: p.bytes()}
	rand.Read(s.Salt)
	s.Leaf = Leaf{
		Time: time.UnixMilli(at.UnixMilli()).UTC(), Kind: e.Kind,
		Actor: actor.pseudonym(accountRole, e.Actor), Credential: actor.pseudonym(credentialRole, e.Credential),
		Subject: subject.pseudonym(accountRole, e.Subject), Commitment: commit(s.Salt, s.Payload),
	}
	return s
}

// Open reads a payload into the record of its entry. It checks nothing: that is
// the Checker's.
func Open(index int64, kind Kind, at time.Time, text []byte) (Record, error) {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return Record{}, fmt.Errorf("audit: payload: %w", err)
	}
	return Record{
		Index: index, At: at, Kind: kind, Actor: p.Actor, Credential: p.Credential, Session: p.Session,
		Reason: p.Reason, Client: Client{Network: p.Network, Browser: p.Browser, System: p.System},
		Count: p.Count, Detail: p.Detail,
	}, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode reads what encode gives, and nothing else; nil of nothing.
func decode(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && encode(b) != text { // base64 skips line breaks even when strict
		err = errors.New("audit: not as base64url is written")
	}
	return b, err
}
