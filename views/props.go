// Package views holds Bio's pages. Each takes props of its own, so that a page
// cannot leak what it never gets.
package views

import (
	"errors"
	"iter"
	"time"

	"bio/agent"
)

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.977 generate

// Ceremony is what a form carries so that a press calls WebAuthn at once.
type Ceremony struct {
	Options  string // JSON {"get":…,"create":…,"ttl":ms}
	Known    bool   // a passkey was used in this browser: a press never creates by itself
	Closed   bool   // nobody new can get in here: a press never creates
	ReturnTo string // checked address, or empty
	Invite   string // the invitation's token, or empty
}

// Auth is the signed-out page: one button. With Notice it is also the answer to
// a press that did not succeed.
type Auth struct {
	Ceremony
	Title     string // of the window, a few words, or empty
	Notice    string // what happened and what to do, or empty
	Invited   string // what an invitation in the address gives, or empty
	Elsewhere string // the public address: what the script shows when the browser finds that this is another
	Signals   string // JSON [["signalUnknownCredential",{…}],…] for the browser's passkey list, or empty
	Here      string // the address to show instead of the one posted to, or empty
}

// Home is the signed-in page.
type Home struct {
	Account string
	Undo    *Ceremony // on the first page of a new account: the way back to an older one
	Notice  string    // one sentence about what just happened, or empty
	Signals string
	Here    string
	Run     *Run // nil when nothing has run since the server started
}

// Run is an agent's run as the page shows it.
type Run struct {
	ID     string
	Agent  string
	Status string                           // when the page begins: "running", "done", "failed", "interrupted", "cut"
	Events iter.Seq[agent.Event]            // replays, then follows; ends with the run or the request
	Final  func() (status, sentence string) // asked after Events: how it ended, and what to say of it, often ""
	Broken func(error)                      // told of a View that could not be shown, for the log; wraps ErrView; may be nil
}

// ErrView says that the component of a View event failed or panicked. The page
// shows a sentence in its place.
var ErrView = errors.New("views: component failed")

// Account is the person's own page.
type Account struct {
	Name     string     // of the account
	Activity []Activity // newest first
	Newest   bool       // this is the first page of the activity
	Older    string     // address of the page of older acts, or empty
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
