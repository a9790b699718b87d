package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// began is when the tests' logs begin.
var began = time.Date(2026, 11, 21, 9, 30, 0, 123e6, time.UTC)

func seed(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// fakeKey is the key of an account in the tests: the same in each run.
func fakeKey(id string) Key {
	sum := sha256.Sum256([]byte("key of " + id))
	return sum[:]
}

// fataler is a test, a fuzz test or one of rapid's.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// testLog is a log in memory, as the store keeps one. Without a test it is the
// same in each run and process.
type testLog struct {
	t       fataler
	signer  *Signer
	known   note.Verifiers
	keys    map[string]Key
	erased  map[string]bool
	entries []Stored
	hashes  []tlog.Hash // of tlog's numbering
	notes   [][]byte
}

func newLog(t fataler, accounts ...string) *testLog {
	l := &testLog{t: t, keys: map[string]Key{}, erased: map[string]bool{}}
	var err error
	if l.signer, err = NewSigner(Origin("bio.example.com", 1), seed(1)); err != nil {
		t.Fatal(err)
	}
	if l.known, err = Verifiers(l.signer.Keys()...); err != nil {
		t.Fatal(err)
	}
	for _, id := range accounts {
		l.keys[id] = fakeKey(id)
	}
	return l
}

func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

func (l *testLog) size() int64 { return int64(len(l.entries)) }

func (l *testLog) root(size int64) tlog.Hash {
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	return root
}

// append seals an entry and puts it at the end.
func (l *testLog) append(e Entry) {
	at := began.Add(time.Duration(l.size()) * time.Second)
	sealed := Seal(e, at, l.keys[e.Actor], l.keys[e.Subject])
	salt := sha256.Sum256(fmt.Append(nil, "salt of ", l.size()))
	sealed.Salt = salt[:SaltSize]
	sealed.Leaf.Commitment = commit(sealed.Salt, sealed.Payload)
	hashes, err := tlog.StoredHashesForRecordHash(l.size(), sealed.Leaf.Hash(), l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes = append(l.hashes, hashes...)
	l.entries = append(l.entries, Stored{
		Index: l.size(), Leaf: sealed.Leaf, Hashes: hashes, Salt: sealed.Salt, Payload: sealed.Payload, Actor: slices.Clone(l.keys[e.Actor]),
	})
	l.verify()
}

// erase appends the erasure of an account and destroys what names it.
func (l *testLog) erase(kind Kind, actor, id string) {
	l.append(Entry{Kind: kind, Actor: actor, Subject: id, Reason: "command line"})
	delete(l.keys, id)
	l.erased[id] = true
	for i := range l.entries {
		s := &l.entries[i]
		if p, err := parsePayload(s.Payload); err == nil && p.Actor == id {
			s.Salt, s.Payload, s.Actor = nil, nil, nil
		}
	}
	l.verify()
}

// checkpoint publishes the log as it is.
func (l *testLog) checkpoint() {
	l.notes = append(l.notes, l.sign(l.size(), l.root(l.size())))
	l.verify()
}

func (l *testLog) sign(size int64, root tlog.Hash) []byte {
	signed, err := l.signer.Sign(size, root)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

// verify checks the whole log, which is honest.
func (l *testLog) verify() {
	l.t.Helper()
	r := l.check()
	erased := int64(0)
	for _, s := range l.entries {
		if s.Payload == nil {
			erased++
		}
	}
	covered := int64(0)
	if n := len(l.notes); n > 0 {
		c, err := OpenCheckpoint(l.notes[n-1], l.known)
		if err != nil {
			l.t.Fatal(err)
		}
		covered = c.Size
	}
	if len(r.Problems) > 0 || r.More > 0 || r.Size != l.size() || r.Root != l.root(l.size()) || r.Erased != erased ||
		r.Covered != covered || r.Checkpoints != len(l.notes) || r.Unknown != 0 {
		l.t.Fatalf("an honest log of %d entries, %d erased, %d covered: %+v", l.size(), erased, covered, r)
	}
}

// check checks the log as it may be now.
func (l *testLog) check() Report { return l.checker().End() }

// checker has seen the log as it may be now.
func (l *testLog) checker() *Checker {
	c := NewChecker(l.notes, l.known)
	for _, s := range l.entries {
		if err := c.Add(s); err != nil {
			break
		}
	}
	return c
}

// copied is a deep copy of what is kept.
func (l *testLog) copied() *testLog {
	c := *l
	c.keys, c.hashes = maps.Clone(l.keys), slices.Clone(l.hashes)
	c.entries = nil
	for _, s := range l.entries {
		s.Leaf.Actor, s.Leaf.Credential, s.Leaf.Subject = slices.Clone(s.Leaf.Actor), slices.Clone(s.Leaf.Credential), slices.Clone(s.Leaf.Subject)
		s.Hashes, s.Salt, s.Payload, s.Actor = slices.Clone(s.Hashes), slices.Clone(s.Salt), slices.Clone(s.Payload), slices.Clone(s.Actor)
		c.entries = append(c.entries, s)
	}
	c.notes = nil
	for _, n := range l.notes {
		c.notes = append(c.notes, slices.Clone(n))
	}
	return &c
}

// aLog is a log of size entries by three accounts and by nobody, with a duplicate
// undone and an erasure, and checkpoints at three sizes; the last when all is
// there but the last entry.
func aLog(t fataler, size int64) *testLog {
	l := newLog(t, "user-a", "user-b", "user-c")
	client := Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"}
	for l.size() < size {
		switch n := l.size(); {
		case n == size/2:
			l.erase(Erased, "", "user-b")
		case n == size/4:
			l.erase(DuplicateUndone, "user-a", "user-c")
		case n%5 == 3:
			l.append(Entry{Kind: SignInRefused, Reason: "unknown", Credential: strings.Repeat("0f", 16), Client: client, Count: int(n)})
		case n%7 == 5:
			l.append(Entry{Kind: ServerStarted, Detail: map[string]string{"version": "1.0", "who": "<b>\"a&b\"</b>\u2028"}})
		default:
			id := []string{"user-a", "user-b", "user-c"}[n%3]
			if l.erased[id] {
				id = "user-a"
			}
			l.append(Entry{
				Kind: SignedIn, Actor: id, Credential: strings.Repeat("c"+id[5:], 16), Session: "session", Client: client,
			})
		}
		if n := l.size(); n == size/3 || n == size/2+1 || n == size-1 {
			l.checkpoint()
		}
	}
	return l
}
