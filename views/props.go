// Package views holds Bio's pages. Each takes props of its own, so that a page
// cannot leak what it never gets.
package views

import (
	"iter"
	"net/url"
	"time"

	"bio/agent"
)

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.977 generate

// Ceremony is what a form carries so that a press calls WebAuthn at once.
type Ceremony struct {
	Options  string // JSON {"get":…,"create":…,"ttl":ms}; with one of the two, that one is the press
	Known    bool   // a passkey was used in this browser: a press never creates by itself
	Closed   bool   // nobody new can get in here: a press never creates
	ReturnTo string // checked address, or empty
	Invite   string // the invitation's token, or empty
	Recover  string // the recovery link's token, or empty: the press makes a passkey for that account
}

// Press is a form for one sensitive act: of the shape of the button's form, with a
// challenge of its own.
type Press struct {
	Action  string     // address that it posts to: "/account/name"
	Options string     // JSON {"get":…,"ttl":ms} or {"create":…,"ttl":ms}: the one that the press is
	Typed   url.Values // what was in its fields when it was refused, or nil
	Said    string     // what came of its last press, or empty: it has the focus then
}

// typed is what was typed into a field, or what it holds else.
func (p Press) typed(field, otherwise string) string {
	if p.Typed.Has(field) {
		return p.Typed.Get(field)
	}
	return otherwise
}

// Moment is a time and how the page words it.
type Moment struct {
	At    time.Time // shown in full on demand, UTC
	Words string    // "3 minutes ago", "in 23 hours"
}

// Auth is the signed-out page: one button. With Notice it is also the answer to
// a press that did not succeed.
type Auth struct {
	Ceremony
	Title     string // of the window, a few words, or empty
	Notice    string // what happened and what to do, or empty
	More      string // what else there is to say of that, or empty
	Invited   string // what an invitation or a recovery link in the address gives, or empty
	Elsewhere string // the public address: what the script shows when the browser finds that this is another
	Signals   string // JSON [["signalUnknownCredential",{…}],…] for the browser's passkey list, or empty
	Here      string // the address to show instead of the one posted to, or empty
}

// Home is the signed-in page.
type Home struct {
	Account  string
	Recovery *Recovery // one that waits, or nil
	Undo     *Ceremony // on the first page of a new account: the way back to an older one
	Suggest  *Press    // add a second passkey: the account has one, which is not backed up; or nil
	Notice   string    // one sentence about what just happened, or empty
	Signals  string    // as Auth's
	Here     string    // as Auth's
	Work     *Work     // nil when nothing has run yet
	Ask      *Ask      // nil when there are no agents
}

// Work is the runs that the page shows, one for each agent and at most [MaxRuns].
type Work struct {
	Runs []Run
	// Events replays, then follows: the index of a run and its next events
	// together, as they come; no events when that run has ended, after its last.
	// It ends with the runs or the request.
	//
	// What is in a View is written as it is. A status that is the same as the one
	// before is a sign of life.
	Events iter.Seq2[int, []agent.Event]
}

// Run is an agent's run as the page shows it.
type Run struct {
	ID     string
	Agent  string                           // its name
	Prompt string                           // what the person asked, or empty
	Status string                           // when the page begins: "running", "done", "failed", "interrupted", "cut"
	Final  func() (status, sentence string) // asked when it has ended: how, and what to say of it, often ""
}

// Ask is the form that starts runs: it posts "prompt" (of at most 8 KiB, may be
// empty) and, when there are several agents, "agent" (empty for all) to /run.
type Ask struct {
	Agents []string // their names
	// What could not be asked, to be asked again; empty on a new form.
	Notice, Agent, Prompt string
}

// Account is the person's own page. With Notice it is also the answer to a press.
type Account struct {
	Name     string     // of the account
	Notice   string     // what came of the last press, or empty
	Here     string     // as Auth's
	Signals  string     // as Auth's
	Recovery *Recovery  // one that waits, or nil
	Manage   *Manage    // nil on pages of older activity
	Activity []Activity // newest first
	Newest   bool       // this is the first page of the activity
	Older    string     // address of the page of older acts, or empty
}

// Recovery is a recovery of the account that waits for its time.
type Recovery struct {
	By     string // "Chrome on Android, from 203.0.113.0/24", or empty
	Begun  Moment
	Due    Moment // from when the new passkey opens the account
	Cancel Press
}

// Manage is what the person can do on the page.
type Manage struct {
	Passkeys  []Passkey // oldest first
	Add       Press     // its options say whether the press makes the passkey or proves first
	Proven    bool      // it makes the passkey
	Sessions  []Session // this one first, then by last activity
	More      int       // sessions that are not listed
	EndOthers *Press    // nil: there are no others
	Rename    Press     // field "name"
	Erase     Press
	Owner     *Owner // nil for those who are not
}

// Passkey is one of the account's passkeys.
type Passkey struct {
	Name              string
	Synced, BackedUp  bool
	Here              bool // it opened this session
	Created, LastUsed Moment
	Rename            Press  // field "name"
	Remove            *Press // nil: it is the only one
}

// Session is a session of the account.
type Session struct {
	Client      string // "Firefox on Linux, from 203.0.113.0/24", or empty: unknown
	This        bool   // the page was asked for in it
	Began, Seen Moment
	End         string // address that a plain form posts to; empty for this one
}

// Owner is what an owner can do for others.
type Owner struct {
	Invite  Press  // fields "groups" (names, separated by spaces or commas; may be empty) and "days" (1 to 365)
	Recover Press  // field "account": the name of the account
	Link    string // what the last press made, shown this once; or empty
	LinkIs  string // a sentence about it: "It lets one person in, once, within 7 days."
}

// Activity is one act of the person's trail, in words.
type Activity struct {
	Words    string    // "Signed in with Firefox on Linux, from 203.0.113.0/24"
	When     string    // "3 minutes ago"
	At       time.Time // shown in full on demand, UTC
	Alarming bool      // something to look at: a refused attempt, a counter that fell
}

// Failure is a page that says that something is not there or not now.
type Failure struct {
	Status    int    // HTTP status
	Title     string // a few words
	Sentence  string // what to do
	RequestID string // for a report; shown small, or empty
}
