// Package brief is the agent in the box: a short briefing from the person's own
// trail. It says what needs attention and what is new since last time, the most
// urgent first, whether the passkeys are safe, and the one thing to do next, as a
// link. It is a pure function of the facts and the time: no model, no network.
//
// A briefing is Markdown (CommonMark): paragraphs, a list, strong words and at
// most one link, to a path of the same site. Names are escaped: they read as they
// are, and make neither markup nor links.
package brief

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bio/agent"
)

// Facts are what the briefing is made of.
type Facts struct {
	// Visit is the sign-in that this briefing is for.
	Visit Visit
	// Last is the sign-in before it; its At is zero on a first visit.
	Last Visit
	// Seen are the browsers, systems and networks of every sign-in of this
	// person before Visit, in any order. Those of Last count as seen anyway.
	Seen Seen
	// Passkeys are all that open the account.
	Passkeys []Passkey
	// Acts are what happened between Last.At and now, in any order, without the
	// sign-in Visit itself. Those of a kind that is not named here are left out.
	Acts []Act
	// Recovery is one that waits, or nil.
	Recovery *Recovery
	// Approvals is how many wait for the person's answer.
	Approvals int
}

// Visit is one sign-in. What is not known of it is empty.
type Visit struct {
	At      time.Time
	Browser string // family: "Firefox"
	System  string // "Linux"
	Network string // prefix: "203.0.113.0/24"
}

// Seen are sets of what was seen before.
type Seen struct{ Browsers, Systems, Networks []string }

// Passkey is one way into the account.
type Passkey struct {
	Name     string // as the person knows it; may be empty
	Synced   bool   // backup eligible: it can live on several devices (WebAuthn L3 §6.1.3)
	BackedUp bool   // backup state
	Created  time.Time
	LastUsed time.Time // zero: never
}

// Recovery is a recovery of the account that was begun and neither completed nor
// cancelled. What is not known of where it was begun is empty.
type Recovery struct {
	Begun, Due               time.Time // Due: from then on its passkey opens the account
	Browser, System, Network string    // as those of a Visit
}

// Kind names an act, as the trail does.
type Kind string

// The acts that a briefing speaks of.
const (
	SignedIn              Kind = "session.signed_in"
	Refused               Kind = "session.refused"
	CounterAnomaly        Kind = "passkey.counter_anomaly"
	BackupEligibleChanged Kind = "passkey.backup_eligible_changed"
	PasskeyAdded          Kind = "passkey.added"
	PasskeyRemoved        Kind = "passkey.removed"
	RecoveryOffered       Kind = "recovery.offered"
	RecoveryBegun         Kind = "recovery.begun"
	RecoveryCancelled     Kind = "recovery.cancelled"
	RecoveryCompleted     Kind = "recovery.completed"
	Enabled               Kind = "account.enabled"
	GroupsSet             Kind = "account.groups_set"
)

// Act is one thing that happened: a [Visit] of any kind.
type Act struct {
	Kind Kind
	Visit
	Count   int    // how many times, when these are told as one; 0: once
	Passkey string // the name of the passkey that did it, or to which it was done; empty where not known
}

// New makes the agent. facts returns what is known of a user; its error fails
// the run. now gives the time that "yesterday" is counted from.
func New(facts func(ctx context.Context, userID string) (Facts, error), now func() time.Time) agent.Agent {
	return agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
		if err := emit(agent.Event{Kind: agent.Status, Text: "Looking at what happened since last time…"}); err != nil {
			return err
		}
		f, err := facts(ctx, in.User.ID)
		if err != nil {
			return fmt.Errorf("brief: %w", err)
		}
		blocks := paragraphs(in.User, f, now())
		if strings.TrimSpace(in.Prompt) != "" {
			blocks = slices.Insert(blocks, 0, "This agent cannot answer that: it only tells what happened on this account.")
		}
		for i, block := range blocks {
			if i > 0 {
				block = "\n\n" + block
			}
			if err := emit(agent.Event{Text: block}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Write returns the whole briefing of a user, without a line feed at its end.
func Write(user agent.User, f Facts, now time.Time) string {
	return strings.Join(paragraphs(user, f, now), "\n\n")
}

// The places on Bio where the one next step can be taken.
const (
	account   = "/account"
	activity  = "/account#activity"
	approvals = "/approvals"
	passkeys  = "/account#passkeys"
	sessions  = "/account#sessions"
)

func link(words, path string) string { return "[" + words + "](" + path + ")" }

// paragraphs are the briefing's blocks of Markdown.
func paragraphs(user agent.User, f Facts, now time.Time) []string {
	first := f.Last.At.IsZero()
	blocks := opening(user.Name, f, now)
	points := f.points(user.Groups, now)
	step := ""
	for _, p := range points {
		if step = p.step; step != "" {
			break
		}
	}
	safety, weak, advice := f.safety(now)
	switch {
	case step == "" && first && advice == "":
		step = "Next time, just press Auth."
	case step == "":
		step = advice
	case weak: // it is no longer what comes next, but still worth a line
		points = append(points, point{rest: safety})
		safety = ""
	default: // a comfort has no place beside what is urgent
		safety = ""
	}
	if len(points) > 0 {
		blocks = append(blocks, list(points))
	} else if !first {
		safety = join("All is quiet since then.", safety)
	}
	if closing := join(safety, step); closing != "" {
		blocks = append(blocks, closing)
	}
	return blocks
}

func opening(name string, f Facts, now time.Time) []string {
	if !f.Last.At.IsZero() {
		return []string{greet("Welcome back", name) + " " + lastTime(f, now)}
	}
	kept := ""
	if len(f.Passkeys) == 1 {
		kept = called(f.Passkeys[0].Name)
	}
	return []string{
		greet("Welcome", name) + " This account is new, and it is yours.",
		"There is no password to remember: your passkey" + kept + " opens it. " +
			"A passkey is a key that your device keeps for you, and uses only when you say so with your finger, face or PIN.",
	}
}

func greet(word, name string) string {
	if name = plain(name); name == "" {
		return word + "."
	}
	return word + ", " + name + "."
}

func lastTime(f Facts, now time.Time) string {
	sentence := "You were last here " + Ago(now, f.Last.At)
	if justNow(now, f.Last.At) {
		sentence = "You were here just now"
	}
	if with := f.Last.with(); with != "" {
		sentence += ", " + with
	}
	switch {
	case f.Last.Network == "" || f.Visit.Network == "":
	case f.Last.Network == f.Visit.Network:
		sentence += ", on this same network"
	default:
		sentence += ", on another network"
	}
	return sentence + "."
}

// list shows points: one as a paragraph, several as a list of at most six.
func list(points []point) string {
	const most = 6
	if len(points) == 1 {
		return points[0].String()
	}
	var lines []string
	for i, p := range points {
		if i == most-1 && len(points) > most {
			lines = append(lines, fmt.Sprintf("- And %d more: your account has them all.", len(points)-i))
			break
		}
		lines = append(lines, "- "+p.String())
	}
	return strings.Join(lines, "\n")
}

// stale is how long a passkey may go unused before the briefing asks about it.
const stale = 180 * 24 * time.Hour

// safety says how safe the passkeys are, whether that is too little, and what to
// do about it, if anything.
func (f Facts) safety(now time.Time) (says string, weak bool, advice string) {
	switch {
	case len(f.Passkeys) == 0:
		return "", false, ""
	case len(f.Passkeys) == 1 && !f.Passkeys[0].Synced:
		return "Your only passkey lives on one device and cannot be backed up.", true,
			link("Add a second passkey", passkeys) + ", so that a lost device does not lock you out."
	case len(f.Passkeys) == 1 && !f.Passkeys[0].BackedUp:
		return "Your only passkey is not backed up yet.", true,
			link("Add a second passkey", passkeys) + ", or turn on syncing in the app that keeps this one, so that a lost device does not lock you out."
	case len(f.Passkeys) == 1 && f.Last.At.IsZero():
		return "Your passkey is backed up.", false, ""
	case len(f.Passkeys) == 1:
		return "Your passkey is backed up.", false,
			"When you have a minute, " + link("add a second one", passkeys) + " that is kept somewhere else."
	}
	says = fmt.Sprintf("You have %d passkeys, so that losing one does not lock you out.", len(f.Passkeys))
	oldest := slices.MinFunc(f.Passkeys, func(a, b Passkey) int { return a.seen().Compare(b.seen()) })
	if seen := oldest.seen(); !seen.IsZero() && now.Sub(seen) > stale {
		advice = "One of them" + called(oldest.Name) + " was last used " + Ago(now, seen) + ": " +
			link("check that you still have it", passkeys) + "."
	}
	return says, false, advice
}

// seen is when a passkey certainly was in the person's hands.
func (p Passkey) seen() time.Time {
	if p.LastUsed.After(p.Created) {
		return p.LastUsed
	}
	return p.Created
}

// join puts the sentences that are not empty beside each other.
func join(sentences ...string) string {
	return strings.Join(slices.DeleteFunc(sentences, func(s string) bool { return s == "" }), " ")
}
