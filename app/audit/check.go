package audit

import (
	"cmp"
	"crypto/hmac"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Stored is an entry as it is kept.
type Stored struct {
	Index   int64
	Leaf    Leaf
	Hashes  []tlog.Hash // of the subtrees that it completes, lowest first: see Place
	Salt    []byte
	Payload []byte // nil when it was erased
	Actor   Key    // the key of the account that the payload names; nil when there is none
}

// Problem is something that is wrong with a log.
type Problem struct {
	First, Last int64 // the entries that it concerns; Last is below First when it concerns none
	What        string
}

func (p Problem) Error() string {
	switch {
	case p.First == p.Last:
		return fmt.Sprintf("entry %d: %s", p.First, p.What)
	case p.First < p.Last:
		return fmt.Sprintf("entries %d to %d: %s", p.First, p.Last, p.What)
	}
	return p.What
}

// maxProblems is how many problems are kept; of a log that is all wrong the rest
// says nothing new.
const maxProblems = 20

// Report is what a check found.
type Report struct {
	Size        int64 // entries
	Root        tlog.Hash
	Erased      int64 // entries whose payload went with their account
	Covered     int64 // entries below the newest checkpoint that is signed with a known key
	Checkpoints int   // that were compared
	Unknown     int   // of them, signed with a key that is not known here
	Stopped     bool  // entries are missing: what follows them was not checked
	Problems    []Problem
	More        int // problems that are not listed
}

// Checker checks a whole log, entry by entry: leaves against the tree, payloads
// against their commitments, the tree against checkpoints. It recomputes every
// hash, and goes on after a problem so that each is named where it is.
type Checker struct {
	peaks       peaks
	checkpoints []compared // by size, those that are still to come
	agreed      int64      // the largest signed checkpoint that agreed so far
	report      Report
	// Payloads that are gone, by the pseudonym of their account: the first entry.
	// Their account must turn out to be erased.
	missing map[string]int64
	erased  map[string]int64 // by pseudonym: the entry that says so
}

type compared struct {
	Checkpoint
	unknown bool // signed with a key that is not known here: a claim
}

// NewChecker makes a checker that compares the log with signed checkpoints, in
// any order. One that cannot be read is a problem.
func NewChecker(signed [][]byte, keys note.Verifiers) *Checker {
	c := &Checker{missing: map[string]int64{}, erased: map[string]int64{}}
	for _, text := range signed {
		checkpoint, err := OpenCheckpoint(text, keys)
		unknown := errors.Is(err, ErrUnknownKey)
		if err != nil && !unknown {
			c.Wrong(Problem{0, -1, fmt.Sprintf("a checkpoint was changed: %v", err)})
			continue
		}
		c.report.Checkpoints++
		if unknown {
			c.report.Unknown++
		} else {
			c.report.Covered = max(c.report.Covered, checkpoint.Size)
		}
		c.checkpoints = append(c.checkpoints, compared{checkpoint, unknown})
	}
	slices.SortStableFunc(c.checkpoints, func(a, b compared) int { return cmp.Compare(a.Size, b.Size) })
	c.compare()
	return c
}

// Wrong adds a problem that the caller found.
func (c *Checker) Wrong(p Problem) {
	if len(c.report.Problems) == maxProblems {
		c.report.More++
		return
	}
	c.report.Problems = append(c.report.Problems, p)
}

// Next is the index of the entry that Add wants.
func (c *Checker) Next() int64 { return c.peaks.size }

// Add checks the next entry. The error, a Problem, says that entries are missing
// or out of order: nothing after them can be checked.
func (c *Checker) Add(s Stored) error {
	if next := c.Next(); s.Index != next {
		p := Problem{next, s.Index - 1, "missing"}
		if s.Index < next {
			p = Problem{s.Index, s.Index, fmt.Sprintf("it comes where entry %d is due", next)}
		}
		c.report.Stopped = true
		c.Wrong(p)
		return p
	}
	c.tree(s)
	if what := c.payload(s); what != "" {
		c.Wrong(Problem{s.Index, s.Index, what})
	}
	if s.Leaf.erases() {
		c.erased[string(s.Leaf.Subject)] = s.Index
	}
	c.compare()
	return nil
}

// tree compares what the entry adds to the tree with what is kept. Where they
// differ it goes on with what is kept, so that a change is named where it was
// made and not wherever it leads.
func (c *Checker) tree(s Stored) {
	kept := s.Hashes
	if want := completed(s.Index); len(kept) != want {
		c.Wrong(Problem{s.Index, s.Index, fmt.Sprintf("%d tree hashes are kept in place of %d", len(kept), want)})
		kept = nil
	}
	_ = c.peaks.add(0, s.Leaf.Hash(), func(level int, h tlog.Hash) tlog.Hash { // a single entry stands anywhere
		if level >= len(kept) || kept[level] == h {
			return h
		}
		if level == 0 {
			c.Wrong(Problem{s.Index, s.Index, "its leaf was changed: it does not match its hash in the tree"})
		} else {
			c.Wrong(Problem{s.Index - 1<<level + 1, s.Index, "the hash over them in the tree was changed"})
		}
		return kept[level]
	})
}

// payload says what is wrong with the entry's payload, or "".
func (c *Checker) payload(s Stored) string {
	if s.Payload == nil {
		c.report.Erased++
		switch {
		case len(s.Leaf.Actor) == 0:
			return "its payload is missing, and it names nobody who could be erased"
		case len(s.Salt) > 0:
			return "its payload is gone but not its salt: the erasure was not finished"
		}
		if _, known := c.missing[string(s.Leaf.Actor)]; !known {
			c.missing[string(s.Leaf.Actor)] = s.Index
		}
		return ""
	}
	p, what := checkPayload(s.Leaf, s.Salt, s.Payload)
	switch {
	case what != "":
		return what
	case p.Actor == "":
		return ""
	case len(s.Actor) == 0:
		return "its payload names an account that has no key: the erasure was not finished, or the key was removed"
	case len(s.Actor) != KeySize, // HMAC fills a shorter one with zeros
		!hmac.Equal(s.Leaf.Actor, s.Actor.pseudonym(accountRole, p.Actor)),
		!hmac.Equal(s.Leaf.Credential, s.Actor.pseudonym(credentialRole, p.Credential)):
		return "the key of its account was changed: it does not give the pseudonyms in the leaf"
	}
	return ""
}

// checkPayload compares a payload with its leaf.
func checkPayload(l Leaf, salt, text []byte) (payload, string) {
	if commit(salt, text) != l.Commitment {
		return payload{}, "its payload was changed: it does not match the commitment in the leaf"
	}
	p, err := parsePayload(text)
	if err != nil {
		return payload{}, "its payload cannot be read"
	}
	// A leaf names the passkey of its actor, and no other.
	actor, credential := p.Actor != "", p.Actor != "" && p.Credential != ""
	if actor != (len(l.Actor) > 0) || credential != (len(l.Credential) > 0) {
		return payload{}, "its payload and its leaf do not name the same"
	}
	return p, ""
}

// Alive says, after the last entry and before End, that an account has its key. No
// entry may say that it was erased.
func (c *Checker) Alive(userID string, key Key) {
	if index, erased := c.erased[string(key.pseudonym(accountRole, userID))]; erased {
		c.Wrong(Problem{index, index, "it says that an account was erased, which is here: " + userID})
	}
}

// compare compares the tree with the checkpoints of its present size.
func (c *Checker) compare() {
	for len(c.checkpoints) > 0 && c.checkpoints[0].Size == c.peaks.size {
		checkpoint := c.checkpoints[0]
		c.checkpoints = c.checkpoints[1:]
		switch {
		case checkpoint.Root != c.peaks.root():
			// One of the same size that agreed does not save the entry before it.
			c.Wrong(Problem{max(0, min(c.agreed, checkpoint.Size-1)), checkpoint.Size - 1, fmt.Sprintf("the checkpoint of %d entries says that they were others", checkpoint.Size)})
		case !checkpoint.unknown:
			c.agreed = checkpoint.Size
		}
	}
}

// End returns the report, after the last entry.
func (c *Checker) End() Report {
	r := &c.report
	r.Size, r.Root = c.peaks.size, c.peaks.root()
	r.Covered = min(r.Covered, r.Size)
	if r.Stopped {
		return *r // of what follows nothing is known
	}
	if n := len(c.checkpoints); n > 0 {
		newest := c.checkpoints[n-1]
		c.Wrong(Problem{r.Size, newest.Size - 1, fmt.Sprintf("missing: a checkpoint of %d entries was published", newest.Size)})
	}
	for _, pseudonym := range slices.SortedFunc(maps.Keys(c.missing), func(a, b string) int { return cmp.Compare(c.missing[a], c.missing[b]) }) {
		if _, erased := c.erased[pseudonym]; !erased {
			first := c.missing[pseudonym]
			c.Wrong(Problem{first, first, unerased})
		}
	}
	return *r
}
