package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// names reports whether a problem is of the entry at i.
func (p Problem) names(i int64) bool { return p.First <= i && i <= p.Last }

// only is a list of one problem.
func only(first, last int64, what string) []Problem { return []Problem{{first, last, what}} }

// wantProblems compares problems, of which What may be a part.
func wantProblems(t *testing.T, name string, got, want []Problem) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(g, w Problem) bool {
		return g.First == w.First && g.Last == w.Last && strings.Contains(g.What, w.What)
	}) {
		t.Errorf("%s: problems %q, want %q", name, got, want)
	}
}

// An honest log is never called otherwise: every step of these is verified.
func TestHonestLogs(t *testing.T) {
	for size := range int64(41) {
		l := aLog(t, size)
		if l.size() != size {
			t.Fatalf("a log of %d has %d", size, l.size())
		}
	}
	accounts := []string{"user-a", "user-b", "user-c", "user-d"}
	rapid.Check(t, func(t *rapid.T) {
		l := newLog(t, accounts...)
		for range rapid.IntRange(0, 25).Draw(t, "steps") {
			id := rapid.SampledFrom(accounts).Draw(t, "account")
			switch rapid.IntRange(0, 9).Draw(t, "act") {
			case 0:
				l.checkpoint()
			case 1:
				if !l.erased[id] {
					l.erase(rapid.SampledFrom([]Kind{Erased, DuplicateUndone}).Draw(t, "kind"), rapid.SampledFrom([]string{"", id, "user-a"}).Draw(t, "by"), id)
				}
			case 2:
				l.append(Entry{Kind: SignInRefused, Credential: "0123"})
			default: // of some erased meanwhile too
				l.append(Entry{Kind: SignedIn, Actor: id, Credential: "0123", Reason: rapid.String().Draw(t, "reason")})
			}
		}
		c := l.checker()
		for id, key := range l.keys {
			c.Alive(id, key)
		}
		if r := c.End(); len(r.Problems) > 0 {
			t.Fatalf("with its living accounts: %q", r.Problems)
		}
	})
}

// changes calls do with each way in which the bytes can have one bit or length
// that they had not.
func changes(b []byte, do func(changed []byte)) {
	for i := range b {
		changed := slices.Clone(b)
		changed[i] ^= 1 << (i % 8)
		do(changed)
	}
	if len(b) > 0 {
		do(b[:len(b)-1])
		do(nil)
	}
	do(append(slices.Clone(b), 0))
}

// Each byte of each thing that is kept of each entry is held: a change is found
// and named.
func TestTamperedEntries(t *testing.T) {
	honest := aLog(t, 13)
	tries := 0
	for i := range honest.size() {
		// tampered changes the entry; exact says that only it is named, else what is
		// named has it among others. It is named first.
		tampered := func(what string, exact bool, change func(s *Stored)) {
			t.Helper()
			tries++
			l := honest.copied()
			change(&l.entries[i])
			r := l.check()
			if len(r.Problems) == 0 {
				t.Errorf("entry %d: another %s is not noticed", i, what)
				return
			}
			if p := r.Problems[0]; exact && (p.First != i || p.Last != i || len(r.Problems) > 1) || !p.names(i) {
				t.Errorf("entry %d: another %s is named %q", i, what, r.Problems)
			}
		}
		s := honest.entries[i]
		for _, d := range []time.Duration{time.Millisecond, -time.Millisecond, 24 * time.Hour} {
			tampered("time", true, func(s *Stored) { s.Leaf.Time = s.Leaf.Time.Add(d) })
		}
		changes([]byte(s.Leaf.Kind), func(b []byte) {
			// An erasure by another name leaves those payloads unexplained, too.
			tampered("kind", len(s.Leaf.Subject) == 0, func(s *Stored) { s.Leaf.Kind = Kind(b) })
		})
		changes(s.Leaf.Commitment[:], func(b []byte) {
			if len(b) == len(s.Leaf.Commitment) {
				tampered("commitment", false, func(s *Stored) { copy(s.Leaf.Commitment[:], b) })
			}
		})
		changes(s.Leaf.Subject, func(b []byte) {
			tampered("subject", len(s.Leaf.Subject) == 0, func(s *Stored) { s.Leaf.Subject = b })
		})
		changes(s.Leaf.Actor, func(b []byte) { tampered("actor", false, func(s *Stored) { s.Leaf.Actor = b }) })
		changes(s.Leaf.Credential, func(b []byte) { tampered("credential", false, func(s *Stored) { s.Leaf.Credential = b }) })
		changes(s.Payload, func(b []byte) {
			if len(b) > 0 || len(s.Payload) > 0 { // without a payload and without a salt: see below
				tampered("payload", true, func(s *Stored) { s.Payload = b })
			}
		})
		changes(s.Salt, func(b []byte) { tampered("salt", true, func(s *Stored) { s.Salt = b }) })
		if len(s.Actor) > 0 {
			changes(s.Actor, func(b []byte) { tampered("key", true, func(s *Stored) { s.Actor = b }) })
		}
		for level := range s.Hashes {
			changes(s.Hashes[level][:], func(b []byte) {
				if len(b) != tlog.HashSize {
					return
				}
				tampered("hash", false, func(s *Stored) { copy(s.Hashes[level][:], b) })
				l := honest.copied()
				copy(l.entries[i].Hashes[level][:], b)
				if p := l.check().Problems[0]; p.First != i-1<<level+1 || p.Last != i {
					t.Errorf("entry %d: another hash of level %d is named %q", i, level, p)
				}
			})
		}
		tampered("number of hashes", true, func(s *Stored) { s.Hashes = s.Hashes[:len(s.Hashes)-1] })
		tampered("number of hashes", true, func(s *Stored) { s.Hashes = append(s.Hashes, tlog.Hash{}) })
		tampered("number of hashes", true, func(s *Stored) { s.Hashes = nil })
		if len(s.Actor) > 0 { // as if its account had been erased
			tampered("payload, none", true, func(s *Stored) { s.Payload, s.Salt, s.Actor = nil, nil, nil })
		} else if s.Payload != nil {
			tampered("payload, none", true, func(s *Stored) { s.Payload, s.Salt = nil, nil })
		}
	}
	t.Logf("%d changes", tries)
}

// What a reader of the log is told.
func TestProblems(t *testing.T) {
	honest := aLog(t, 13)
	var actor, nobody int64 = -1, -1 // the first entry that is of someone, of nobody
	for i, s := range honest.entries {
		if actor < 0 && len(s.Actor) > 0 {
			actor = int64(i)
		}
		if nobody < 0 && s.Payload != nil && s.Leaf.Actor == nil {
			nobody = int64(i)
		}
	}
	other := newSigner(t, honest.signer.Origin(), seed(9))
	published := honest.size() - 1 // see aLog
	resign := func(s *Signer, size int64, root tlog.Hash) func(l *testLog) {
		return func(l *testLog) { l.notes[len(l.notes)-1] = sign(t, s, size, root) }
	}
	for _, tt := range []struct {
		name   string
		change func(l *testLog)
		want   []Problem
	}{
		{"a leaf", func(l *testLog) { l.entries[5].Leaf.Kind = SignedOut }, only(5, 5, "its leaf was changed")},
		{"a payload", func(l *testLog) { l.entries[actor].Payload = []byte("{}") }, only(actor, actor, "its payload was changed")},
		{"a payload less, of someone who is there", func(l *testLog) {
			l.entries[actor].Payload, l.entries[actor].Salt = nil, nil
		}, only(actor, actor, "no entry says that its account was erased")},
		{"a payload less, of nobody", func(l *testLog) {
			l.entries[nobody].Payload, l.entries[nobody].Salt = nil, nil
		}, only(nobody, nobody, "names nobody who could be erased")},
		{"a payload less, of nobody that is called someone erased", func(l *testLog) {
			l.entries[nobody].Payload, l.entries[nobody].Salt, l.entries[nobody].Leaf.Actor = nil, nil, []byte{}
		}, only(nobody, nobody, "names nobody who could be erased")},
		{"a salt that was left", func(l *testLog) { l.entries[0].Payload = nil }, only(0, 0, "not its salt")},
		{"a key less", func(l *testLog) { l.entries[actor].Actor = nil }, only(actor, actor, "has no key")},
		{"another's key", func(l *testLog) { l.entries[actor].Actor = fakeKey("x") }, only(actor, actor, "the key of its account was changed")},
		{"a hash of four", func(l *testLog) { l.entries[7].Hashes[2][0] ^= 1 }, []Problem{{4, 7, "the hash over them"}, {0, 7, "the hash over them"}}},
		{"an entry less", func(l *testLog) { l.entries = slices.Delete(l.entries, 5, 6) }, only(5, 5, "missing")},
		{"three entries less", func(l *testLog) { l.entries = slices.Delete(l.entries, 5, 8) }, only(5, 7, "missing")},
		{"the first entry less", func(l *testLog) { l.entries = l.entries[1:] }, only(0, 0, "missing")},
		{"an entry twice", func(l *testLog) { l.entries = slices.Insert(l.entries, 6, l.entries[5]) }, only(5, 5, "it comes where entry 6 is due")},
		{"a negative entry", func(l *testLog) { l.entries[0].Index = -1 }, only(-1, -1, "it comes where entry 0 is due")},
		{"two in the wrong order", func(l *testLog) { l.entries[5], l.entries[6] = l.entries[6], l.entries[5] }, only(5, 5, "missing")},
		{"the end less, which was published", func(l *testLog) { l.entries = l.entries[:9] }, only(9, published-1, fmt.Sprintf("missing: a checkpoint of %d entries was published", published))},
		{"all less", func(l *testLog) { l.entries = nil }, only(0, published-1, "missing")},
		{"a checkpoint that is not readable", func(l *testLog) { l.notes[0] = []byte("x") }, only(0, -1, "a checkpoint was changed: ")},
		{"a checkpoint of more", resign(honest.signer, 15, tlog.Hash{}), only(13, 14, "missing: a checkpoint of 15")},
		{"a checkpoint of others", resign(honest.signer, published, tlog.Hash{}), only(7, published-1, "says that they were others")},
		{"a checkpoint of others, by someone else", resign(other, published, tlog.Hash{}), only(7, published-1, "says that they were others")},
		{"a checkpoint of nothing that is something", resign(honest.signer, 0, tlog.Hash{}), only(0, -1, "the checkpoint of 0 entries")},
		{"a found problem", func(*testLog) {}, nil},
	} {
		l := honest.copied()
		tt.change(l)
		wantProblems(t, tt.name, l.check().Problems, tt.want)
	}

	// Only an erasure explains that payloads are gone.
	for kind, want := range map[Kind][]Problem{
		Erased: nil, DuplicateUndone: nil, SessionRevoked: only(0, 0, "no entry says that its account was erased"),
	} {
		l := newLog(t, "user-a")
		l.append(Entry{Kind: SignedIn, Actor: "user-a"})
		l.append(Entry{Kind: kind, Subject: "user-a"})
		l.entries[0].Payload, l.entries[0].Salt = nil, nil
		wantProblems(t, string(kind), l.check().Problems, want)
	}

	// A leaf that names another than its payload does, in a tree of its own.
	for name, change := range map[string]func(*Leaf){
		"key of its account was changed: an actor":     func(l *Leaf) { l.Actor = l.Credential },
		"key of its account was changed: a credential": func(l *Leaf) { l.Credential = l.Actor },
		"do not name the same: no actor":               func(l *Leaf) { l.Actor = nil },
		"do not name the same: no credential":          func(l *Leaf) { l.Credential = nil },
	} {
		l := newLog(t, "user-a")
		l.append(Entry{Kind: SignedIn, Actor: "user-a", Credential: "0123"})
		change(&l.entries[0].Leaf)
		l.rebuild(t)
		what, _, _ := strings.Cut(name, ":")
		wantProblems(t, name, l.check().Problems, only(0, 0, what))
	}
	l := newLog(t, "user-a")
	l.append(Entry{Kind: SignedIn, Actor: "user-a"})
	l.entries[0].Leaf.Credential = l.entries[0].Leaf.Actor
	l.rebuild(t)
	wantProblems(t, "a credential more", l.check().Problems, only(0, 0, "do not name the same"))

	c := NewChecker(nil, nil)
	c.Wrong(Problem{3, 4, "as the caller says"})
	wantProblems(t, "the caller's", c.End().Problems, only(3, 4, "as the caller says"))

	for p, want := range map[Problem]string{
		{4, 4, "missing"}: "entry 4: missing", {4, 6, "missing"}: "entries 4 to 6: missing", {0, -1, "a checkpoint was changed"}: "a checkpoint was changed",
	} {
		if p.Error() != want {
			t.Errorf("%q, want %q", p, want)
		}
	}
}

// An erasure that never was explains payloads that are gone, until the account is
// found to be there.
func TestForgedErasure(t *testing.T) {
	for _, kind := range []Kind{Erased, DuplicateUndone} {
		l := newLog(t, "user-a", "user-b", "user-c")
		l.append(Entry{Kind: SignedIn, Actor: "user-a"})
		l.append(Entry{Kind: SignedIn, Actor: "user-b"})
		l.erase(kind, "", "user-c")
		l.append(Entry{Kind: kind, Subject: "user-a"})
		l.append(Entry{Kind: SessionRevoked, Actor: "user-b", Subject: "user-b"}) // no erasure
		l.entries[0].Payload, l.entries[0].Salt, l.entries[0].Actor = nil, nil, nil
		for name, tt := range map[string]struct {
			alive map[string]Key
			want  []Problem
		}{
			"nobody":               {nil, nil},
			"one of them":          {l.keys, only(3, 3, "it says that an account was erased, which is here: user-a")},
			"another":              {map[string]Key{"user-b": l.keys["user-b"]}, nil},
			"one with another key": {map[string]Key{"user-a": l.keys["user-b"]}, nil},
			"one without a key":    {map[string]Key{"user-a": nil, "": nil}, nil},
		} {
			c := l.checker()
			for id, key := range tt.alive {
				c.Alive(id, key)
			}
			wantProblems(t, fmt.Sprintf("%s, alive: %s", kind, name), c.End().Problems, tt.want)
		}
	}
}

// What comes after a gap is not checked, and the report says so; all else that is
// wrong stops nothing.
func TestStopped(t *testing.T) {
	honest := aLog(t, 13)
	for name, tt := range map[string]struct {
		change func(l *testLog)
		want   bool
	}{
		"nothing":      {func(*testLog) {}, false},
		"a leaf":       {func(l *testLog) { l.entries[5].Leaf.Kind = SignedOut }, false},
		"an end less":  {func(l *testLog) { l.entries = l.entries[:9] }, false},
		"a gap":        {func(l *testLog) { l.entries = slices.Delete(l.entries, 5, 6) }, true},
		"a repetition": {func(l *testLog) { l.entries = slices.Insert(l.entries, 6, l.entries[5]) }, true},
	} {
		l := honest.copied()
		tt.change(l)
		r := l.check()
		if r.Stopped != tt.want || len(r.Problems) == 0 && name != "nothing" {
			t.Errorf("%s: stopped %v, %q", name, r.Stopped, r.Problems)
		}
		if r.Stopped && r.Size > 6 {
			t.Errorf("%s: %d entries are said to be checked", name, r.Size)
		}
	}
}

// Add's error is the Problem, and Next stays.
func TestAddError(t *testing.T) {
	l := aLog(t, 6)
	c := NewChecker(nil, nil)
	if err := c.Add(l.entries[0]); err != nil || c.Next() != 1 {
		t.Fatal(err, c.Next())
	}
	if err := c.Add(l.entries[2]); err != (Problem{1, 1, "missing"}) || c.Next() != 1 {
		t.Error(err, c.Next())
	}
}

// Someone who recomputes the whole tree after a change is found by what was
// published, and the entries since the checkpoint that still agrees are named.
func TestForgedTree(t *testing.T) {
	honest := aLog(t, 13) // published at 4, 7 and 12
	for i := range int64(12) {
		l := honest.copied()
		s := &l.entries[i]
		s.Leaf.Time = s.Leaf.Time.Add(time.Hour)
		l.rebuild(t)
		r := l.check()
		var want []Problem
		since := int64(0)
		for _, size := range []int64{4, 7, 12} {
			if i < size {
				want = append(want, Problem{since, size - 1, "says that they were others"})
			} else {
				since = size
			}
		}
		wantProblems(t, fmt.Sprintf("entry %d", i), r.Problems, want)
	}

	// So is who leaves one out, puts one in, or changes two.
	for name, change := range map[string]func(l *testLog){
		"left out": func(l *testLog) { l.entries = slices.Delete(l.entries, 5, 6) },
		"put in":   func(l *testLog) { l.entries = slices.Insert(l.entries, 5, l.entries[11]) },
		"changed":  func(l *testLog) { l.entries[5], l.entries[6] = l.entries[6], l.entries[5] },
	} {
		l := honest.copied()
		change(l)
		l.rebuild(t)
		wantProblems(t, name, l.check().Problems[:1], only(4, 6, "says that they were others"))
	}

	// Two that changed places in the table only are both named.
	l := honest.copied()
	l.entries[5].Leaf, l.entries[6].Leaf = l.entries[6].Leaf, l.entries[5].Leaf
	for _, i := range []int64{5, 6} {
		if !slices.ContainsFunc(l.check().Problems, func(p Problem) bool { return p.First == i && p.Last == i }) {
			t.Errorf("entry %d is not named in %q", i, l.check().Problems)
		}
	}
}

// rebuild numbers the entries and computes the tree anew, as a forger would.
func (l *testLog) rebuild(t *testing.T) {
	l.hashes = nil
	for i := range l.entries {
		s := &l.entries[i]
		s.Index = int64(i)
		var err error
		if s.Hashes, err = tlog.StoredHashesForRecordHash(s.Index, s.Leaf.Hash(), l); err != nil {
			t.Fatal(err)
		}
		l.hashes = append(l.hashes, s.Hashes...)
	}
}

// No byte of a kept checkpoint changes unnoticed: it is a problem, or no longer
// signed with a key of ours and covers nothing.
func TestTamperedCheckpoints(t *testing.T) {
	honest := aLog(t, 13)
	for n, signed := range honest.notes {
		changes(signed, func(b []byte) {
			l := honest.copied()
			l.notes[n] = b
			r := l.check()
			if r.Unknown == 0 && len(r.Problems) == 0 {
				t.Errorf("%q is not noticed", b)
			}
			if n == len(honest.notes)-1 && r.Covered != 7 {
				t.Errorf("%q covers %d entries", b, r.Covered)
			}
		})
	}
}

func TestCheckerCounts(t *testing.T) {
	l := aLog(t, 13)
	l.notes = append(l.notes, sign(t, newSigner(t, origin, seed(9)), 13, l.root(13))) // of a secret that is gone
	slices.Reverse(l.notes)
	r := l.check()
	if len(r.Problems) > 0 || r.Checkpoints != 4 || r.Unknown != 1 || r.Covered != 12 || r.Size != 13 || r.Root != l.root(13) {
		t.Errorf("%+v", r)
	}

	short := l.copied()
	short.entries = short.entries[:9]
	if r := short.check(); r.Covered != 9 || r.Size != 9 {
		t.Errorf("9 entries are left, and %d covered of %d", r.Covered, r.Size)
	}

	// A claim that agrees is no ground to stand on.
	forged := aLog(t, 13)
	forged.entries[1].Leaf.Time = began.Add(time.Hour)
	forged.rebuild(t)
	forged.notes = [][]byte{sign(t, newSigner(t, origin, seed(9)), 10, forged.root(10)), l.notes[1]}
	wantProblems(t, "with a claim", forged.check().Problems, only(0, 11, "says that they were others"))

	// Of a log that is all wrong, the rest is counted.
	for i := range l.entries {
		l.entries[i].Payload, l.entries[i].Salt = []byte("x"), bytes.Repeat([]byte{1}, SaltSize)
		l.entries[i].Leaf.Kind = "x"
	}
	if r := l.check(); len(r.Problems) != maxProblems || r.More != 2*13-maxProblems {
		t.Errorf("%d problems and %d more", len(r.Problems), r.More)
	}
}
