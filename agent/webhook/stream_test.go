package webhook_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
	"bio/agent/webhook"
)

// messages are the data of the stream's messages.
func messages(r io.Reader) (all []string, err error) {
	err = webhook.Messages(r, func(data []byte) error {
		all = append(all, string(data))
		return nil
	})
	return all, err
}

func TestMessages(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   []string
	}{
		"nothing":                          {"", nil},
		"one":                              {"data: a\n\n", []string{"a"}},
		"several":                          {"data: a\n\ndata: b\n\n\n\ndata: c\n\n", []string{"a", "b", "c"}},
		"CR LF":                            {"data: a\r\ndata: b\r\n\r\n", []string{"a\nb"}},
		"CR":                               {"data: a\rdata: b\r\r", []string{"a\nb"}},
		"mixed ends of lines":              {"data: a\r\ndata: b\rdata: c\n\r\n", []string{"a\nb\nc"}},
		"LF CR is two":                     {"data: a\n\rdata: b\n\n", []string{"a", "b"}},
		"no space":                         {"data:a\n\n", []string{"a"}},
		"only one space goes":              {"data:  a \n\n", []string{" a "}},
		"several lines":                    {"data: YHOO\ndata: +2\ndata: 10\n\n", []string{"YHOO\n+2\n10"}},
		"comments and other fields":        {": keep\n\nevent: add\nid: 1\nretry: 9\ndata: a\n:\nx\n\n", []string{"a"}},
		"a field that only begins so":      {"database: a\ndat: b\nDATA: c\n data: d\n\n", nil},
		"no data":                          {"event: ping\n\n", nil},
		"empty data":                       {"data\n\ndata:\n\ndata\ndata\n\n", []string{"", "", "\n"}},
		"a colon in the data":              {"data: a: b\n\n", []string{"a: b"}},
		"a byte order mark":                {"\uFEFFdata: a\n\n", []string{"a"}},
		"two byte order marks":             {"\uFEFF\uFEFFdata: a\n\n", nil},
		"a byte order mark later":          {"\n\uFEFFdata: a\n\n", nil},
		"the last one has no blank line":   {"data: a\n\ndata: b\n", []string{"a"}},
		"the last line has no end":         {"data: a\n\ndata: b", []string{"a"}},
		"NUL and invalid UTF-8 are passed": {"data: \x00\xff\n\n", []string{"\x00\xff"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(test.stream), iotest.OneByteReader(strings.NewReader(test.stream))} {
				if got, err := messages(r); !slices.Equal(got, test.want) || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				}
			}
		})
	}

	errBroken := errors.New("broken")
	got, err := messages(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(errBroken)))
	if !slices.Equal(got, []string{"a"}) || err != errBroken {
		t.Errorf("broken: got %q, %v", got, err)
	}
	n := 0
	err = webhook.Messages(strings.NewReader("data: a\n\ndata: b\n\n"), func([]byte) error { n++; return errBroken })
	if n != 1 || err != errBroken {
		t.Errorf("refused: %d messages, %v", n, err)
	}
}

// events are what a stream says.
func events(r io.Reader, limit int64) (all []agent.Event, err error) {
	err = webhook.Stream(r, limit, func(event agent.Event) error {
		all = append(all, event)
		return nil
	})
	return all, err
}

func TestStream(t *testing.T) {
	long := strings.Repeat("é", lines.MaxLine)
	for name, test := range map[string]struct {
		stream string
		limit  int64
		want   string // the texts, joined
		err    error
	}{
		"text and objects":       {"data: a\n\ndata: {\"kind\":\"text\",\ndata: \"text\":\"b\"}\n\n", 1000, "a\nb", nil},
		"kinds of the server":    {"data: {\"kind\":\"view\"}\n\n", 1000, "{\"kind\":\"view\"}\n", nil},
		"invalid UTF-8":          {"data: caf\xe9\n\n", 1000, "caf\uFFFD\n", nil},
		"just as long as it may": {"data: a\n\n", 9, "a\n", nil},
		"too long":               {"data: a\n\n:", 9, "a\n", lines.ErrTooLong},
		"a long line":            {"data: " + long + "\n\n", 1 << 20, long + "\n", nil},
		"long lines":             {"data: " + long + "\ndata: " + long + "\n\n", 1 << 20, long + "\n" + long + "\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := events(strings.NewReader(test.stream), test.limit)
			var text strings.Builder
			for _, event := range all {
				if text.WriteString(event.Text); len(event.Text) > lines.MaxLine+1 {
					t.Errorf("a piece of %d bytes", len(event.Text))
				}
			}
			if text.String() != test.want || err != test.err {
				t.Errorf("got %.100q, %v", text.String(), err)
			}
		})
	}
}

// FuzzStream says that a stream reads the same however its bytes arrive and its
// lines end, that its events are valid, and that any data comes through it whole.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\n", "\uFEFFdata:a\r\ndata\r\r\n", ": c\nevent: e\ndata: {\"kind\":\"text\",\"text\":\"x\"}\n\n",
		"data: {\"kind\":\"data\",\ndata: \"data\":[1]}\n\ndata: b", "data:\xff\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := messages(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		slow, _ := messages(iotest.OneByteReader(bytes.NewReader(stream)))
		if !slices.Equal(slow, got) {
			t.Fatalf("byte by byte: %q, want %q", slow, got)
		}
		unix := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(stream))
		if same, _ := messages(strings.NewReader(unix)); !slices.Equal(same, got) {
			t.Fatalf("with line feeds: %q, want %q", same, got)
		}
		all, err := events(bytes.NewReader(stream), int64(len(stream)))
		if err != nil || len(stream) < lines.MaxLine && len(all) != len(got) {
			t.Fatalf("%d events of %d messages, %v", len(all), len(got), err)
		}
		for _, event := range all {
			if err := event.Check(); err != nil || event.Kind > agent.Data || !utf8.ValidString(event.Text) || !utf8.Valid(event.Data) {
				t.Fatalf("event %#v: %v", event, err)
			}
		}
		data := strings.ReplaceAll(unix, "\uFEFF", "")
		encoded := "data: " + strings.ReplaceAll(data, "\n", "\ndata: ") + "\n\n"
		if whole, _ := messages(strings.NewReader(encoded)); !slices.Equal(whole, []string{data}) {
			t.Fatalf("encoded: %q, want %q", whole, data)
		}
	})
}
