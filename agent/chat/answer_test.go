package chat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
)

// dataOf reads events to their end.
func dataOf(r io.Reader) (all []string, err error) {
	for data, err := range events(bufio.NewReader(r)) {
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
	return all, nil
}

func TestEvents(t *testing.T) {
	for _, test := range []struct {
		stream string
		want   []string
	}{
		{"", nil},
		{"data: a\n\n", []string{"a"}},
		{"data:a\n\ndata:  b\n\n", []string{"a", " b"}},
		{"data: a\r\n\r\ndata: b\r\rdata: c\n\n", []string{"a", "b", "c"}},
		{"data: a\r\ndata: b\rdata: c\n\r\n", []string{"a\nb\nc"}},
		{"data: a\ndata\ndata:\n\n", []string{"a\n\n"}},
		{"data\n\n", []string{""}},
		{"\n\r\r\n\n", nil},
		{":comment\nevent: x\nid: 1\nretry: 2\ndata: a\nunknown: y\nDATA: z\n data: z\n\n", []string{"a"}},
		{"event: x\n\ndata: a\n\n", []string{"a"}},
		{"\uFEFFdata: a\n\n\uFEFFdata: b\n\n", []string{"a"}},
		{"data: a\n\ndata: b\n", []string{"a"}},
		{"data: a\n\ndata: b", []string{"a"}},
		{"data: a: b\n\n", []string{"a: b"}},
	} {
		got, err := dataOf(strings.NewReader(test.stream))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, %v, want %q", test.stream, got, err, test.want)
		}
	}
}

// A line end of two bytes is not waited for: an event is there with the first.
func TestEventsDoNotWait(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("data: a\r\n\r"))
	for data, err := range events(bufio.NewReader(r)) {
		if string(data) != "a" || err != nil {
			t.Errorf("got %q, %v", data, err)
		}
		break
	}
}

func TestEventsFail(t *testing.T) {
	broken := errors.New("broken")
	got, err := dataOf(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)))
	if err != broken || !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for name, endless := range map[string]io.Reader{
		"line":   io.MultiReader(strings.NewReader("data: "), repeat("x")),
		"field":  repeat("x"),
		"event":  repeat("data: xxxxxxxxx\n"),
		"events": io.MultiReader(strings.NewReader("data: b\n\n"), repeat("data: a\r")),
	} {
		if got, err := dataOf(endless); err != lines.ErrTooLong || name == "events" && !slices.Equal(got, []string{"b"}) {
			t.Errorf("%s: got %d events, %v", name, len(got), err)
		}
	}
}

// repeat never ends.
func repeat(s string) io.Reader { return &repeated{bytes.Repeat([]byte(s), 4096)} }

type repeated struct{ of []byte }

func (r *repeated) Read(p []byte) (int, error) { return copy(p, r.of), nil }

func FuzzEvents(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := dataOf(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		slow, err := dataOf(iotest.OneByteReader(bytes.NewReader(stream)))
		if err != nil || !slices.Equal(slow, got) {
			t.Errorf("byte by byte %q, %v, want %q", slow, err, got)
		}
		// Written again, plainly, the events are the same.
		var again strings.Builder
		for _, data := range got {
			for _, line := range strings.Split(data, "\n") {
				fmt.Fprintf(&again, "data: %s\n", line)
			}
			again.WriteString("\n")
		}
		if back, err := dataOf(strings.NewReader(again.String())); err != nil || !slices.Equal(back, got) {
			t.Errorf("written again %q, %v, want %q", back, err, got)
		}
	})
}

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
	a, err = next.read(r)
	return out.String(), texts, next, a, err
}

func FuzzRead(f *testing.F) {
	const limit = 100
	f.Fuzz(func(t *testing.T, body []byte) {
		said, texts, r, a, err := readAll(t, bytes.NewReader(body), limit)
		if texts > limit {
			t.Errorf("%d bytes of text", texts)
		}
		if err != nil && !slices.Contains([]error{ErrProtocol, ErrBroken, lines.ErrTooLong}, err) && !errors.Is(err, ErrEndpoint) {
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
