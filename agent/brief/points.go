package brief

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rank is how soon a point has to be read.
type rank int

const (
	urgent rank = iota // perhaps somebody else has got in, or is about to
	waits              // for the person's answer
	odd                // perhaps somebody else tries, and has got nothing
	news
)

// point is one thing to say.
type point struct {
	rank rank
	lead string // strong, unless the point is only news
	rest string
	step string // what to do about it; may be empty
}

// String is the point as Markdown, without its step.
func (p point) String() string {
	if p.lead != "" && p.rank < news {
		return "**" + p.lead + "**" + p.rest
	}
	return p.lead + p.rest
}

// points are what needs attention and what is new, the most urgent first.
func (f Facts) points(groups []string, now time.Time) []point {
	acts := make(map[Kind][]Act)
	for _, act := range f.Acts {
		acts[act.Kind] = append(acts[act.Kind], act)
	}
	for _, same := range acts {
		slices.SortStableFunc(same, func(a, b Act) int { return a.At.Compare(b.At) })
	}
	all := slices.DeleteFunc([]point{
		f.recovery(acts, now),
		f.miscounted(acts[CounterAnomaly], now),
		f.signedIn(acts[SignedIn], now),
		f.added(acts[PasskeyAdded], now),
		f.removed(acts[PasskeyRemoved], now),
		f.refused(acts[Refused], now),
		f.waiting(),
		enabled(acts[Enabled], now),
		grouped(acts[GroupsSet], groups, now),
		f.firstTime(),
		f.syncable(acts[BackupEligibleChanged]),
	}, func(p point) bool { return p == point{} })
	slices.SortStableFunc(all, func(a, b point) int { return int(a.rank - b.rank) })
	return all
}

// recovery tells how far a recovery has come, and nothing of its way there.
func (f Facts) recovery(acts map[Kind][]Act, now time.Time) point {
	cancel := "If this is not you, " + link("cancel the recovery", account) + "."
	if r := f.Recovery; r != nil {
		return point{
			lead: "Someone with a recovery link is waiting to get into this account",
			rest: ". They began " + Ago(now, r.Begun) + f.from(Visit{Browser: r.Browser, System: r.System, Network: r.Network}) +
				". Their new passkey opens it " + ahead(now, r.Due) + ", and ends your sessions.",
			step: cancel,
		}
	}
	var newest Act
	// Of two at the same time, the later here is the later there.
	for _, kind := range []Kind{RecoveryCancelled, RecoveryOffered, RecoveryBegun, RecoveryCompleted} {
		if same := acts[kind]; len(same) > 0 && !same[len(same)-1].At.Before(newest.At) {
			newest = same[len(same)-1]
		}
	}
	when := " " + Ago(now, newest.At)
	whence := when + f.from(newest.Visit) + "."
	switch newest.Kind {
	case RecoveryCancelled:
		return point{rank: news, rest: "The recovery of this account was cancelled" + whence}
	case RecoveryOffered:
		return point{
			rank: odd,
			lead: "An owner made a recovery link for this account",
			rest: when + ". Whoever uses it has to wait, and you can cancel meanwhile.",
			step: suspect("you did not ask for that link"),
		}
	case RecoveryBegun:
		return point{lead: "Someone began to recover this account", rest: whence, step: cancel}
	case RecoveryCompleted:
		if !f.here(newest.Visit) {
			return point{
				lead: "This account was recovered with a new passkey",
				rest: whence + " All other sessions ended then.",
				step: "If you did not recover it, " + link("remove that passkey", passkeys) + ".",
			}
		}
		p := point{rank: news, rest: "The recovery is complete: your new passkey opened this account, and all other sessions ended."}
		if len(f.Passkeys) > 1 {
			p.step = "The old passkeys still open it: " + link("remove those that you no longer have", passkeys) + "."
		}
		return p
	}
	return point{}
}

func (f Facts) miscounted(acts []Act, now time.Time) point {
	if len(acts) == 0 {
		return point{}
	}
	last := acts[len(acts)-1]
	yours := f.yours(acts)
	return point{
		lead: strings.ToUpper(yours[:1]) + yours[1:] + " miscounted its uses",
		rest: times(count(acts), last, now) + f.from(last.Visit) + ". That can mean that a copy of it exists.",
		step: "To be safe, " + link("add a new passkey and remove that one", passkeys) + ".",
	}
}

func (f Facts) signedIn(acts []Act, now time.Time) point {
	acts, alien := notable(acts, f.strange)
	if len(acts) == 0 {
		return point{}
	}
	last, n := acts[len(acts)-1], count(acts)
	if !alien {
		return point{rank: news, rest: "You also signed in" + times(n, last, now) + f.from(last.Visit) + "."}
	}
	p := point{
		lead: "There was another sign-in",
		rest: " " + Ago(now, last.At) + f.from(last.Visit) + ".",
		step: "If you do not know that sign-in, " + link("end its session", sessions) + ".",
	}
	if n > 1 {
		p.lead = fmt.Sprintf("There were %d other sign-ins", n)
		p.rest = ", the last" + p.rest
		p.step = "If you do not know those sign-ins, " + link("end their sessions", sessions) + "."
	}
	return p
}

func (f Facts) added(acts []Act, now time.Time) point {
	return f.passkeyed(acts, now, "add", "added", link("remove it", passkeys), link("remove them", passkeys))
}

func (f Facts) removed(acts []Act, now time.Time) point {
	end := link("end the sessions that are not yours", sessions)
	return f.passkeyed(acts, now, "remove", "removed", end, end)
}

// passkeyed is of passkeys that were added or removed, and the step for one and for
// several.
func (f Facts) passkeyed(acts []Act, now time.Time, do, done, one, several string) point {
	acts, alien := notable(acts, f.elsewhere)
	if len(acts) == 0 {
		return point{}
	}
	last, n := acts[len(acts)-1], count(acts)
	p := point{
		lead: "A passkey" + called(last.Passkey) + " was " + done,
		rest: " " + Ago(now, last.At) + f.from(last.Visit) + ".",
		step: "If you did not " + do + " that passkey, " + one + ".",
	}
	if n > 1 {
		p.lead = fmt.Sprintf("%d passkeys were %s", n, done)
		p.rest = ", the last" + called(last.Passkey) + p.rest
		p.step = "If you did not " + do + " those passkeys, " + several + "."
	}
	return p.unless(alien)
}

func (f Facts) refused(acts []Act, now time.Time) point {
	acts, alien := notable(acts, f.elsewhere)
	if len(acts) == 0 {
		return point{}
	}
	last, n, yours := acts[len(acts)-1], count(acts), f.yours(acts)
	p := point{
		rank: odd,
		lead: "An attempt to sign in with " + yours + " was refused",
		rest: " " + Ago(now, last.At) + f.from(last.Visit) + ". Nobody got in that way.",
		step: suspect("that attempt was not yours"),
	}
	if n > 1 {
		p.lead = fmt.Sprintf("%d attempts to sign in with %s were refused", n, yours)
		p.rest = ", the last" + p.rest
		p.step = suspect("those attempts were not yours")
	}
	return p.unless(alien)
}

func (f Facts) waiting() point {
	switch {
	case f.Approvals <= 0:
		return point{}
	case f.Approvals == 1:
		return point{rank: waits, lead: "An approval waits", rest: " for your answer.", step: link("Answer it", approvals) + " when you are ready."}
	}
	return point{
		rank: waits, lead: fmt.Sprintf("%d approvals wait", f.Approvals), rest: " for your answer.",
		step: link("Answer them", approvals) + " when you are ready.",
	}
}

func enabled(acts []Act, now time.Time) point {
	if len(acts) == 0 {
		return point{}
	}
	return point{rank: news, rest: "This account was disabled. An operator enabled it again " + Ago(now, acts[len(acts)-1].At) + "."}
}

// grouped tells what the groups are now, whatever they were in between.
func grouped(acts []Act, groups []string, now time.Time) point {
	if len(acts) == 0 {
		return point{}
	}
	const most = 5
	are := make([]string, 0, most)
	for i, group := range groups {
		if i == most-1 && len(groups) > most {
			are = append(are, fmt.Sprintf("and %d more", len(groups)-i))
			break
		}
		are = append(are, plain(group))
	}
	if len(are) == 0 {
		are = append(are, "none")
	}
	return point{
		rank: news,
		rest: "An operator set your groups " + Ago(now, acts[len(acts)-1].At) + ". They are now: " + strings.Join(are, ", ") + ".",
	}
}

// firstTime says what of this visit was not seen before.
func (f Facts) firstTime() point {
	if f.Last.At.IsZero() {
		return point{}
	}
	var visit Visit
	if !slices.Contains(f.Seen.Browsers, f.Visit.Browser) && f.Visit.Browser != f.Last.Browser {
		visit.Browser = f.Visit.Browser
	}
	if !slices.Contains(f.Seen.Systems, f.Visit.System) && f.Visit.System != f.Last.System {
		visit.System = f.Visit.System
	}
	what := visit.with()
	if network := f.Visit.Network; network != "" && network != f.Last.Network && !slices.Contains(f.Seen.Networks, network) {
		if what != "" {
			what += " and "
		}
		if local(network) {
			what += "from this machine"
		} else {
			what += "from this network (" + plain(network) + ")"
		}
	}
	if what == "" {
		return point{}
	}
	return point{rank: news, rest: "You are here " + what + " for the first time."}
}

func (f Facts) syncable(acts []Act) point {
	if len(acts) == 0 {
		return point{}
	}
	yours := f.yours(acts)
	return point{rank: news, rest: strings.ToUpper(yours[:1]) + yours[1:] + " can now be synced between your devices."}
}

// suspect is the step after what is odd.
func suspect(doubt string) string {
	return "If " + doubt + ", " + link("see what was done", activity) + ", and tell whoever runs this place."
}

// unless makes the point news without a step, unless somebody else may be behind it.
func (p point) unless(alien bool) point {
	if !alien {
		p.rank, p.step = news, ""
	}
	return p
}

// notable returns the acts that are alien, or else all of them.
func notable(acts []Act, alien func(Act) bool) (those []Act, some bool) {
	for _, act := range acts {
		if alien(act) {
			those = append(those, act)
		}
	}
	if len(those) > 0 {
		return those, true
	}
	return acts, false
}

// elsewhere reports whether an act did not come from where this visit comes from.
func (f Facts) elsewhere(a Act) bool { return !f.here(a.Visit) }

// strange reports whether an act came from a browser or system never seen. A
// network alone is not strange: people travel.
func (f Facts) strange(a Act) bool {
	known := func(seen []string, value, last, visit string) bool {
		return value == "" || value == last || value == visit || slices.Contains(seen, value)
	}
	return !known(f.Seen.Browsers, a.Browser, f.Last.Browser, f.Visit.Browser) ||
		!known(f.Seen.Systems, a.System, f.Last.System, f.Visit.System)
}
