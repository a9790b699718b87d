// Package agent is the hook for work that streams into the signed-in page.
//
// An agent is one method: it gets an [Input] and yields events. A run is started
// by a sign-in, or by the person asking for it, never by a plain page view. It
// outlives the request that started it, is kept with its events and replayed to
// every page that shows it, and has a deadline: an agent must return soon after its
// context is done. There is one run of an agent for a person at a time.
//
// Most agents are a function given to [Reply] (one text), [Emit] (events pushed
// as they come) or [Func] (an iterator). Package agenttest tests them.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/a-h/templ"
)

// Kind says what an event is. The zero Kind is Text.
type Kind uint8

// The kinds of events.
const (
	Text     Kind = iota // a piece of the answer, which is Markdown; pieces join as they are, without space or newline
	Status               // what the agent is doing now; the next status replaces it
	Data                 // JSON, shown as a table, a list or a tree
	View                 // a component, rendered as it is; only from Go compiled into the server
	Approval             // something waits for the person's approval; Text says what. This version shows it, and cannot answer it
)

var kinds = [...]string{Text: "text", Status: "status", Data: "data", View: "view", Approval: "approval"}

// String is the kind's name as pages and adapters write it: "text", "status",
// "data", "view" or "approval".
func (k Kind) String() string {
	if int(k) >= len(kinds) {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kinds[k]
}

// ErrEvent says that an event is not a valid one. See [Event.Check].
var ErrEvent = errors.New("agent: invalid event")

// Event is one piece of an agent's output.
type Event struct {
	Kind Kind
	// Text is Markdown in a Text event: no HTML, no images, and a link that leaves
	// the site shows where it goes. In every other event it is plain text. Invalid
	// UTF-8 is replaced.
	Text string
	// Data is one JSON value, of a Data event.
	Data json.RawMessage
	// View is the component of a View event. It is rendered once, when the run
	// takes the event, before the next is asked for; every page gets the same HTML.
	// One that fails, panics or is larger than [MaxView] is not shown in part: a
	// sentence stands in its place, and the run goes on.
	View templ.Component
}

// Check returns an error that wraps [ErrEvent] when the kind is unknown, a Data
// event has no valid JSON or a View event no component. Such an event fails the run.
func (e Event) Check() error {
	switch {
	case int(e.Kind) >= len(kinds):
		return fmt.Errorf("%w: unknown kind %d", ErrEvent, e.Kind)
	case e.Kind == Data && !json.Valid(e.Data):
		return fmt.Errorf("%w: data that is not JSON", ErrEvent)
	case e.Kind == View && e.View == nil:
		return fmt.Errorf("%w: view without a component", ErrEvent)
	}
	return nil
}

// User is the person that an agent works for.
type User struct {
	ID     string   // stable and opaque: 32 hex digits
	Name   string   // the account's name, such as "cedar-otter-42"
	Groups []string // sorted
}

// Input is what a run is given. An agent must not change it.
type Input struct {
	RunID  string // opaque, unique
	User   User
	Prompt string // what the person asked for, at most 8 KiB; empty when the sign-in started the run
	// TraceParent is the run's place in a trace (W3C Trace Context §3.2), to be
	// passed on; or empty.
	TraceParent string
	// Memory is what the agent keeps about User between runs. The server and
	// agenttest always offer one.
	Memory Memory
	// Authorize is nil where the installation offers none, as this version does.
	Authorize Authorizer
}

var (
	// ErrNoMemory says that nothing is kept under a key.
	ErrNoMemory = errors.New("agent: nothing under that key")
	// ErrMemoryFull says that a key, a value or the whole would be too large.
	ErrMemoryFull = errors.New("agent: memory full")
)

// Memory is what one agent keeps about one person between runs. No other agent
// and no other person's run sees it, and it is erased with the account. A key is
// 1 to 128 bytes of UTF-8, a value at most 64 KiB, and all of it together at
// most 1 MiB. The methods may be called from several goroutines.
type Memory interface {
	// Get returns the value of key; ErrNoMemory when there is none.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put sets the value of key; ErrMemoryFull, and no change, beyond the sizes above.
	Put(ctx context.Context, key string, value []byte) error
	// Delete removes key. That there is none is no error.
	Delete(ctx context.Context, key string) error
	// List returns the keys that begin with prefix, sorted.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Authorizer asks the person to approve what the details say, waits for the
// answer, and returns an access token for just that. Each detail is one
// authorization details object (RFC 9396 §2).
type Authorizer func(ctx context.Context, details ...json.RawMessage) (token string, err error)

// Agent does work for a person.
type Agent interface {
	// Run yields what the agent has to say, as it comes. An error ends the run
	// and is the last thing yielded, beside an event that is ignored. The person
	// sees a calm sentence; the error's text goes to the log only.
	//
	// Run must return soon after ctx is done. Panics on the iterator's own
	// goroutine are contained; one on a goroutine that the agent started ends
	// the whole server, as anywhere in Go.
	Run(ctx context.Context, in *Input) iter.Seq2[Event, error]
}

// Func is a function as an [Agent].
type Func func(ctx context.Context, in *Input) iter.Seq2[Event, error]

// Run calls f.
func (f Func) Run(ctx context.Context, in *Input) iter.Seq2[Event, error] { return f(ctx, in) }
