// Package brief is the agent in the box: a short briefing from the person's own
// trail. It says what happened since last time, whether the passkeys are safe,
// and the one thing to do next, if any. It is a pure function of the facts and
// the time: no model, no network.
package brief

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	// Passkeys are all that the account has.
	Passkeys []Passkey
	// Acts are what happened between Last.At and now, in any order, without the
	// sign-in Visit itself. Those of a kind that is not named here are left out.
	Acts []Act
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

// Kind names an act, as the trail does.
type Kind string

// The acts that a briefing speaks of.
const (
	SignedIn              Kind = "session.signed_in"
	Refused               Kind = "session.refused"
	CounterAnomaly        Kind = "passkey.counter_anomaly"
	BackupEligibleChanged Kind = "passkey.backup_eligible_changed"
)

// Act is one thing that happened: a [Visit] of any kind.
type Act struct {
	Kind Kind
	Visit
	Count int // how many times, when these are told as one; 0: once
}

// stale is how long a passkey may go unused before the briefing asks about it.
const stale = 180 * 24 * time.Hour

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
		for i, paragraph := range write(in.User.Name, f, now()) {
			if i > 0 {
				paragraph = "\n\n" + paragraph
			}
			if err := emit(agent.Event{Text: paragraph}); err != nil {
				return err
			}
		}
		return nil
	})
}

// write returns the paragraphs of the briefing, at most ten lines with a blank
// one between each. They read the same as plain text and as Markdown.
func write(name string, f Facts, now time.Time) []string {
	if f.Last.At.IsZero() {
		return welcome(name, f)
	}
	news, alarming := whatIsNew(f, now)
	safety, step := passkeys(f.Passkeys, now)
	if alarming {
		step = "If you cannot explain any of this, tell whoever runs this place."
	}
	opening := greet("Welcome back", name) + " " + lastTime(f, now)
	if len(news) == 0 {
		return []string{opening, join("All is quiet since then.", safety, step)}
	}
	paragraphs := []string{opening + " What is new:", "- " + strings.Join(news, "\n- ")}
	if closing := join(safety, step); closing != "" {
		paragraphs = append(paragraphs, closing)
	}
	return paragraphs
}

func welcome(name string, f Facts) []string {
	kept := ""
	if len(f.Passkeys) == 1 {
		if name := called(f.Passkeys[0]); name != "" {
			kept = " " + name
		}
	}
	safety, step := passkeys(f.Passkeys, time.Time{})
	if step == "" {
		step = "Next time, just press Auth."
	}
	return []string{
		greet("Welcome", name) + " This account is new, and it is yours.",
		"There is no password to remember: your passkey" + kept + " opens it. " +
			"A passkey is a key that your device keeps for you, and uses only when you say so with your finger, face or PIN.",
		join(safety, step),
	}
}

func greet(word, name string) string {
	if name == "" {
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

// whatIsNew returns the news, what matters most first, at most six lines, and
// whether some of it may be the work of somebody else.
func whatIsNew(f Facts, now time.Time) (news []string, alarming bool) {
	acts := make(map[Kind][]Act)
	for _, act := range f.Acts {
		acts[act.Kind] = append(acts[act.Kind], act)
	}
	for _, same := range acts {
		slices.SortStableFunc(same, func(a, b Act) int { return a.At.Compare(b.At) })
	}
	yours := "your passkey"
	if len(f.Passkeys) > 1 {
		yours = "one of your passkeys"
	}

	if odd := acts[CounterAnomaly]; len(odd) > 0 {
		last := odd[len(odd)-1]
		news = append(news, capital(yours)+" miscounted its uses"+times(count(odd), last, now)+f.from(last)+
			". That can mean that a copy of it exists.")
		alarming = true
	}

	if added := addedSince(f); len(added) > 0 {
		newest := added[len(added)-1]
		line := "A passkey was added " + Ago(now, newest.Created)
		if len(added) > 1 {
			line = fmt.Sprintf("%d passkeys were added, the newest %s", len(added), Ago(now, newest.Created))
		}
		if name := called(newest); name != "" {
			line += " " + name
		}
		news = append(news, line+".")
		alarming = true
	}

	if refused := acts[Refused]; len(refused) > 0 {
		last := refused[len(refused)-1]
		line := "An attempt to sign in with " + yours + " was refused " + Ago(now, last.At)
		if n := count(refused); n > 1 {
			line = fmt.Sprintf("%d attempts to sign in with %s were refused, the last %s", n, yours, Ago(now, last.At))
		}
		news = append(news, line+f.from(last)+". Nobody got in that way.")
		alarming = alarming || slices.ContainsFunc(refused, func(a Act) bool { return !f.here(a) })
	}

	if visits := acts[SignedIn]; len(visits) > 0 {
		last := visits[len(visits)-1]
		news = append(news, "You also signed in"+times(count(visits), last, now)+f.from(last)+".")
		alarming = alarming || slices.ContainsFunc(visits, f.strange)
	}

	if line := f.firstTime(); line != "" {
		news = append(news, line)
	}

	if len(acts[BackupEligibleChanged]) > 0 {
		news = append(news, capital(yours)+" can now be synced between your devices.")
	}
	return news, alarming
}

// firstTime says what of this visit was not seen before.
func (f Facts) firstTime() string {
	var visit Visit
	if !slices.Contains(f.Seen.Browsers, f.Visit.Browser) && f.Visit.Browser != f.Last.Browser {
		visit.Browser = f.Visit.Browser
	}
	if !slices.Contains(f.Seen.Systems, f.Visit.System) && f.Visit.System != f.Last.System {
		visit.System = f.Visit.System
	}
	line := visit.with()
	if network := f.Visit.Network; network != "" && network != f.Last.Network && !slices.Contains(f.Seen.Networks, network) {
		if line != "" {
			line += " and "
		}
		line += "from this network (" + network + ")"
	}
	if line == "" {
		return ""
	}
	return "You are here " + line + " for the first time."
}

// here reports whether an act came from where this visit comes from, as far as
// that is known at all.
func (f Facts) here(a Act) bool {
	return a.Browser+a.System+a.Network != "" &&
		a.Browser == f.Visit.Browser && a.System == f.Visit.System && a.Network == f.Visit.Network
}

// strange reports whether an act came from a browser or system never seen. A
// network alone is not strange: people travel.
func (f Facts) strange(a Act) bool {
	known := func(seen []string, value, last, visit string) bool {
		return value == "" || value == last || value == visit || slices.Contains(seen, value)
	}
	return !known(f.Seen.Browsers, a.Browser, f.Last.Browser, f.Visit.Browser) ||
		!known(f.Seen.Systems, a.System, f.Last.System, f.Visit.System)
}

// from says where an act came from, beginning with a comma, or nothing.
func (f Facts) from(a Act) string {
	if f.here(a) && a.with() != "" {
		return ", from a browser like this one"
	}
	var from string
	if with := a.with(); with != "" {
		from = ", " + with
	}
	switch {
	case a.Network == "":
	case a.Network == f.Visit.Network:
		from += ", on this same network"
	default:
		from += ", from network " + a.Network
	}
	return from
}

// with is "with Firefox on Linux", or what is known of that.
func (v Visit) with() string {
	switch {
	case v.Browser != "" && v.System != "":
		return "with " + v.Browser + " on " + v.System
	case v.Browser != "":
		return "with " + v.Browser
	case v.System != "":
		return "on " + v.System
	}
	return ""
}

// passkeys says how safe the passkeys are, and what to do about it, if anything.
func passkeys(all []Passkey, now time.Time) (safety, step string) {
	switch {
	case len(all) == 0:
		return "", ""
	case len(all) == 1 && !all[0].Synced:
		return "Your only passkey lives on one device and cannot be backed up.",
			"Keep that device safe: without it there is no way back in."
	case len(all) == 1 && !all[0].BackedUp:
		return "Your only passkey is not backed up yet.",
			"Turn on syncing in the app that keeps it, so that a lost device does not lock you out."
	case len(all) == 1:
		return "Your passkey is backed up.", ""
	}
	safety = fmt.Sprintf("You have %d passkeys, so that losing one does not lock you out.", len(all))
	oldest := slices.MinFunc(all, func(a, b Passkey) int { return a.seen().Compare(b.seen()) })
	if seen := oldest.seen(); !seen.IsZero() && now.Sub(seen) > stale {
		step = "One of them was last used " + Ago(now, seen)
		if name := called(oldest); name != "" {
			step += " " + name
		}
		step += ": check that you still have it."
	}
	return safety, step
}

// seen is when a passkey certainly was in the person's hands.
func (p Passkey) seen() time.Time {
	if p.LastUsed.After(p.Created) {
		return p.LastUsed
	}
	return p.Created
}

// addedSince returns the passkeys made after the last visit, oldest first.
func addedSince(f Facts) []Passkey {
	var added []Passkey
	for _, p := range f.Passkeys {
		if p.Created.After(f.Last.At) {
			added = append(added, p)
		}
	}
	slices.SortStableFunc(added, func(a, b Passkey) int { return a.Created.Compare(b.Created) })
	return added
}

// called is a passkey's name in brackets, on one line, short and printable, or
// nothing where the name says nothing.
func called(p Passkey) string {
	const most = 40
	printable := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, p.Name)
	name := []rune(strings.Join(strings.Fields(printable), " "))
	if len(name) > most {
		name = append(name[:most-1], '…')
	}
	if len(name) == 0 || strings.EqualFold(string(name), "passkey") {
		return ""
	}
	return "(" + string(name) + ")"
}

// count is how often it happened.
func count(acts []Act) (n int) {
	for _, act := range acts {
		n += max(1, act.Count)
	}
	return n
}

// times is how often something happened, and when last.
func times(n int, last Act, now time.Time) string {
	switch n {
	case 1:
		return " " + Ago(now, last.At)
	case 2:
		return " twice, the last time " + Ago(now, last.At)
	}
	return fmt.Sprintf(" %d times, the last %s", n, Ago(now, last.At))
}

func justNow(now, t time.Time) bool { return now.Sub(t) < time.Minute }

// Ago is how long before now t was, in words. Days are counted in 24 hours, for
// the person's midnight is not known.
func Ago(now, t time.Time) string {
	const day = 24 * time.Hour
	since := now.Sub(t)
	several := func(unit time.Duration, name string) string { return fmt.Sprintf("%d %s ago", since/unit, name) }
	switch {
	case justNow(now, t):
		return "just now"
	case since < 2*time.Minute:
		return "a minute ago"
	case since < time.Hour:
		return several(time.Minute, "minutes")
	case since < 2*time.Hour:
		return "an hour ago"
	case since < day:
		return several(time.Hour, "hours")
	case since < 2*day:
		return "yesterday"
	case since < 14*day:
		return several(day, "days")
	case since < 61*day:
		return several(7*day, "weeks")
	case since < 730*day:
		return several(365*day/12, "months")
	}
	return several(365*day, "years")
}

// capital makes the first letter of an English phrase a capital one.
func capital(phrase string) string { return strings.ToUpper(phrase[:1]) + phrase[1:] }

// join puts the sentences that are not empty beside each other.
func join(sentences ...string) string {
	return strings.Join(slices.DeleteFunc(sentences, func(s string) bool { return s == "" }), " ")
}
