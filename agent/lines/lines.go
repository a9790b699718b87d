// Package lines is what agents that are not Go get and answer: one [Request] in,
// lines out. Programs (package program) and webhooks (package webhook) speak it.
//
// A line of the answer is an event when it is one JSON object of these shapes;
// other members are ignored.
//
//	{"kind":"text","text":"…"}      a piece of the answer; pieces join as they are
//	{"kind":"status","text":"…"}    what is being done now
//	{"kind":"data","data":…}        any JSON value
//
// Every other line is text, with its line feed, so that plain text is an answer
// too. That is so for the kinds that only Go in the server may yield, for what is
// not quite such an object, and for a line of more than [MaxLine] bytes. Invalid
// UTF-8 is replaced with U+FFFD.
package lines

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"bio/agent"
)

// MaxLine is the length of the longest line, in bytes without its line feed,
// that is read as an object.
const MaxLine = 64 << 10

// DefaultLimit is how many bytes of an answer [Read] takes when it is not told.
const DefaultLimit = 1 << 20

// ErrTooLong says that an answer goes on after the limit.
var ErrTooLong = errors.New("lines: the answer is longer than its limit")

// Request is the work to do, as one JSON object.
type Request struct {
	RunID  string `json:"run_id"` // opaque, unique
	User   User   `json:"user"`
	Prompt string `json:"prompt"` // empty when a sign-in started the run
	Brief  string `json:"brief"`  // what is known of the person, as Markdown; or empty
}

// User is the person to work for.
type User struct {
	ID     string   `json:"id"`     // stable and opaque
	Name   string   `json:"name"`   // the account's name
	Groups []string `json:"groups"` // sorted; [] when there are none
}

// NewRequest makes the request of a run.
func NewRequest(in *agent.Input, brief string) Request {
	groups := in.User.Groups
	if groups == nil {
		groups = []string{} // not null
	}
	return Request{
		RunID:  in.RunID,
		User:   User{ID: in.User.ID, Name: in.User.Name, Groups: groups},
		Prompt: in.Prompt,
		Brief:  brief,
	}
}

// Parse reads one line, without its line feed: as the event that it is, else as
// text, to which the line feed is added. The event keeps nothing of line.
func Parse(line []byte) agent.Event {
	if event, ok := object(line); ok {
		return event
	}
	return agent.Event{Text: mend(line) + "\n"}
}

// Read reads an answer to its end and emits its events as they come. A line that
// cannot be an object is not waited for: what there is of it is emitted at once,
// and so is the last line without a line feed.
//
// Read takes limit bytes, or [DefaultLimit] when limit is not positive, and
// returns [ErrTooLong] when there are more. It returns emit's error at once, and
// r's error, each as it is. An object that was cut short by the limit or by an
// error of r is not emitted.
func Read(r io.Reader, limit int64, emit func(agent.Event) error) error {
	if limit <= 0 {
		limit = DefaultLimit
	}
	s := splitter{buf: make([]byte, 0, MaxLine+1), emit: emit}
	for {
		n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
		if int64(n) > limit {
			n, err = int(limit), ErrTooLong
		}
		limit -= int64(n)
		if err := s.take(n); err != nil {
			return err
		}
		if err == io.EOF {
			return s.finish()
		}
		if err != nil {
			return err
		}
	}
}

// splitter turns bytes into events.
type splitter struct {
	// buf is what was read and not emitted: the start of a line that may become
	// an object, or of a character. It has room for the longest line that may be
	// one, and its line feed.
	buf  []byte
	line shape // of which buf is the rest
	emit func(agent.Event) error
}

// shape is what a line can still be.
type shape uint8

const (
	blank shape = iota // anything: so far it has only blanks
	brace              // an object, or text
	text               // text: what there is of it is emitted
)

// blanks are what may stand before an object in its line (RFC 8259 §2).
const blanks = " \t\r"

// take emits what it can, now that n more bytes have been read into buf.
func (s *splitter) take(n int) error {
	rest := s.buf[:len(s.buf)+n]
	fresh := rest[len(s.buf):] // the end of rest, which alone can have line feeds
	for {
		i := bytes.IndexByte(fresh, '\n')
		if i < 0 {
			break
		}
		line := rest[:len(rest)-len(fresh)+i]
		fresh = fresh[i+1:]
		rest = fresh
		event := agent.Event{}
		if s.line == text {
			event.Text = mend(line) + "\n"
		} else {
			event = Parse(line)
		}
		s.line = blank
		if err := s.emit(event); err != nil {
			return err
		}
	}
	if first := bytes.TrimLeft(fresh, blanks); s.line == blank && len(first) > 0 {
		s.line = text
		if first[0] == '{' {
			s.line = brace
		}
	}
	if len(rest) > MaxLine {
		s.line = text
	}
	if whole := complete(rest); s.line == text && whole > 0 {
		if err := s.emit(agent.Event{Text: mend(rest[:whole])}); err != nil {
			return err
		}
		rest = rest[whole:]
	}
	s.buf = append(s.buf[:0], rest...)
	return nil
}

// finish emits what is left, now that no more comes.
func (s *splitter) finish() error {
	if len(s.buf) == 0 {
		return nil
	}
	if event, ok := object(s.buf); ok {
		return s.emit(event)
	}
	return s.emit(agent.Event{Text: mend(s.buf)})
}

// object reads a line that is an event.
func object(line []byte) (agent.Event, bool) {
	var fields struct {
		Kind string          `json:"kind"`
		Text *string         `json:"text"`
		Data json.RawMessage `json:"data"`
	}
	if len(line) > MaxLine || json.Unmarshal(line, &fields) != nil {
		return agent.Event{}, false
	}
	switch {
	case fields.Kind == agent.Text.String() && fields.Text != nil:
		return agent.Event{Text: *fields.Text}, true
	case fields.Kind == agent.Status.String() && fields.Text != nil:
		return agent.Event{Kind: agent.Status, Text: *fields.Text}, true
	case fields.Kind == agent.Data.String() && fields.Data != nil:
		return agent.Event{Kind: agent.Data, Data: bytes.ToValidUTF8(fields.Data, []byte("\uFFFD"))}, true
	}
	return agent.Event{}, false
}

// complete is the length of b without the start of a character at its end.
func complete(b []byte) int {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// mend is b as text. Each invalid byte is replaced on its own, so that the text
// does not depend on where b was cut.
func mend(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string(bytes.Runes(b))
}
