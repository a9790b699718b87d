package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
)

// readAll reads an answer and writes down what it emits.
func readAll(t *testing.T, r io.Reader, limit int64) (said string, texts int, next *run, a *answer, err error) {
	var out strings.Builder
	next = &run{chat: &chat{}, in: &agent.Input{}, room: limit}
	next.emit = func(event agent.Event) error {
		switch {
		case event.Check() != nil || !utf8.ValidString(event.Text):
			t.Errorf("event %v", event)
		case event.Kind == agent.Text:
			texts += len(event.Text)
		case event.Kind != agent.Status:
			t.Errorf("event %v", event)
		}
		fmt.Fprintf(&out, "%s %q\n", event.Kind, event.Text)
		return nil
	}
	a, err = next.read(io.NopCloser(r))
	return out.String(), texts, next, a, err
}

// Pieces that each have a reason to end are one answer, while they come; and one
// that is not ended otherwise ends a moment after the last.
func TestReasonInEveryPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, endpoint := io.Pipe()
		said := ""
		r := &run{chat: &chat{grace: 2 * time.Second}, in: &agent.Input{}, room: 100, emit: func(event agent.Event) error {
			said += event.Text
			return nil
		}}
		go func() {
			for _, word := range []string{"a", "b", "c"} {
				fmt.Fprintf(endpoint, `data: {"choices":[{"delta":{"content":%q},"finish_reason":"stop"}]}`+"\n\n", word)
				time.Sleep(1500 * time.Millisecond)
			}
			endpoint.Write([]byte(":\n\n: still here\n\n"))
		}()
		if a, err := r.read(body); err != nil || a.finish != "stop" || said != "abc" {
			t.Errorf("got %q, %v", said, err)
		}
	})
}

func FuzzRead(f *testing.F) {
	const limit = 100
	f.Fuzz(func(t *testing.T, body []byte) {
		said, texts, r, a, err := readAll(t, bytes.NewReader(body), limit)
		if texts > limit {
			t.Errorf("%d bytes of text", texts)
		}
		if err != nil && !slices.ContainsFunc([]error{ErrProtocol, ErrBroken, ErrEndpoint, lines.ErrTooLong}, func(known error) bool { return errors.Is(err, known) }) {
			t.Errorf("error %v", err)
		}
		slow, _, _, _, slowErr := readAll(t, iotest.OneByteReader(bytes.NewReader(body)), limit)
		if slow != said || fmt.Sprint(slowErr) != fmt.Sprint(err) {
			t.Errorf("byte by byte\n%s%v, want\n%s%v", slow, slowErr, said, err)
		}
		if err != nil {
			return
		}
		// Whatever the calls are, the conversation goes on with them.
		if err := r.use(t.Context(), a); err != nil {
			t.Errorf("use: %v", err)
		}
		if next, err := json.Marshal(r.request); err != nil {
			t.Errorf("the next request: %v in %s", err, next)
		}
		for i, c := range a.calls {
			if !strings.HasPrefix(c.Function.Arguments, "{") || !json.Valid([]byte(c.Function.Arguments)) {
				t.Errorf("call %d has the arguments %q", i, c.Function.Arguments)
			}
		}
	})
}
