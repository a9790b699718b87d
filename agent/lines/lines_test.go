package lines_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
)

func TestRequest(t *testing.T) {
	in := &agent.Input{
		RunID: "run-1", Prompt: "a \"b\"\n", TraceParent: "not for the body",
		User: agent.User{ID: "01", Name: "cedar-otter-42", Groups: []string{"ops", "owner"}},
	}
	for name, test := range map[string]struct {
		in    *agent.Input
		brief string
		want  string
	}{
		"everything": {in, "All is well.",
			`{"run_id":"run-1","user":{"id":"01","name":"cedar-otter-42","groups":["ops","owner"]},"prompt":"a \"b\"\n","brief":"All is well."}`},
		"nothing": {&agent.Input{}, "",
			`{"run_id":"","user":{"id":"","name":"","groups":[]},"prompt":"","brief":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := json.Marshal(lines.NewRequest(test.in, test.brief)); err != nil || string(got) != test.want {
				t.Errorf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

func text(s string) agent.Event   { return agent.Event{Text: s} }
func status(s string) agent.Event { return agent.Event{Kind: agent.Status, Text: s} }
func data(s string) agent.Event   { return agent.Event{Kind: agent.Data, Data: json.RawMessage(s)} }

var objects = map[string]struct {
	line string
	want agent.Event
}{
	"text":                   {`{"kind":"text","text":"a\nb"}`, text("a\nb")},
	"text of nothing":        {`{"kind":"text","text":""}`, text("")},
	"status":                 {`{"kind":"status","text":"Looking…"}`, status("Looking…")},
	"data":                   {`{"kind":"data","data":{"a": [1, "x"]}}`, data(`{"a": [1, "x"]}`)},
	"data of null":           {`{"kind":"data","data":null}`, data("null")},
	"data with text":         {`{"kind":"data","text":"a","data":1}`, data("1")},
	"text with data":         {`{"kind":"text","text":"a","data":1}`, text("a")},
	"members it has not":     {`{"v":2,"kind":"text","text":"a","view":"<b>"}`, text("a")},
	"white space around":     {" \t{ \"kind\" : \"text\", \"text\" : \"a\" } \r", text("a")},
	"escapes":                {`{"kind":"text","text":"\u003cb\u003e \ud83e\udda6"}`, text("<b> 🦦")},
	"half of a pair":         {`{"kind":"text","text":"\ud83e"}`, text("\uFFFD")},
	"bytes that are no text": {"{\"kind\":\"text\",\"text\":\"a\xff\xffb\"}", text("a\uFFFD\uFFFDb")},
	"data that is no text":   {"{\"kind\":\"data\",\"data\":\"a\xffb\"}", data("\"a\uFFFDb\"")},
}

var plain = map[string]string{
	"nothing":                  "",
	"words":                    "Hello.",
	"carriage return":          "Hello.\r",
	"white space":              "  ",
	"view":                     `{"kind":"view","text":"<b>a</b>"}`,
	"approval":                 `{"kind":"approval","text":"Send it?"}`,
	"a kind that is none":      `{"kind":"Text","text":"a"}`,
	"no kind":                  `{"text":"a"}`,
	"text without text":        `{"kind":"text"}`,
	"text that is null":        `{"kind":"text","text":null}`,
	"text that is a number":    `{"kind":"text","text":1}`,
	"status without text":      `{"kind":"status","data":"a"}`,
	"data without data":        `{"kind":"data","text":"{}"}`,
	"half an object":           `{"kind":"text","text":"a`,
	"two objects":              `{"kind":"text","text":"a"}{"kind":"text","text":"b"}`,
	"an object after a word":   `a {"kind":"text","text":"a"}`,
	"an object in an array":    `[{"kind":"text","text":"a"}]`,
	"a string":                 `"text"`,
	"a byte order mark first":  "\uFEFF" + `{"kind":"text","text":"a"}`,
	"longer than an object is": `{"kind":"text","text":"` + strings.Repeat("a", lines.MaxLine) + `"}`,
}

func TestParse(t *testing.T) {
	for name, test := range objects {
		t.Run(name, func(t *testing.T) {
			if got := lines.Parse([]byte(test.line)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	for name, line := range plain {
		t.Run(name, func(t *testing.T) {
			if got := lines.Parse([]byte(line)); !reflect.DeepEqual(got, text(line+"\n")) {
				t.Errorf("got %+v", got)
			}
		})
	}
	t.Run("keeps nothing of the line", func(t *testing.T) {
		for _, line := range []string{"Hello.", `{"kind":"text","text":"a"}`, `{"kind":"data","data":[1]}`} {
			buf := []byte(line)
			got, want := lines.Parse(buf), lines.Parse([]byte(line))
			clear(buf)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s became %+v", line, got)
			}
		}
	})
}

// read reads an answer and joins its texts, as the page does.
func read(r io.Reader, limit int64) ([]agent.Event, error) {
	var events []agent.Event
	var joined bytes.Buffer
	flush := func() {
		if joined.Len() > 0 {
			events = append(events, text(joined.String()))
			joined.Reset()
		}
	}
	err := lines.Read(r, limit, func(event agent.Event) error {
		if event.Kind == agent.Text {
			joined.WriteString(event.Text)
			return nil
		}
		flush()
		events = append(events, event)
		return nil
	})
	flush()
	return events, err
}

// chunked are the ways in which an answer may arrive.
var chunked = map[string]func(io.Reader) io.Reader{
	"at once":             func(r io.Reader) io.Reader { return r },
	"by the byte":         iotest.OneByteReader,
	"by halves":           iotest.HalfReader,
	"the end with a part": iotest.DataErrReader,
}

func TestRead(t *testing.T) {
	long := strings.Repeat("é", lines.MaxLine)
	fits := strings.Repeat("a", lines.MaxLine-len(`{"kind":"status","text":""}`))
	for name, test := range map[string]struct {
		answer string
		want   []agent.Event
	}{
		"nothing":                   {"", nil},
		"text":                      {"a\n\nb\n", []agent.Event{text("a\n\nb\n")}},
		"no line feed at the end":   {"a\nb", []agent.Event{text("a\nb")}},
		"an object at the end":      {"{\"kind\":\"status\",\"text\":\"a\"}", []agent.Event{status("a")}},
		"half an object":            {"a\n{\"kind\":\"sta", []agent.Event{text("a\n{\"kind\":\"sta")}},
		"characters of all lengths": {"aé€🦦\n🦦€éa", []agent.Event{text("aé€🦦\n🦦€éa")}},
		"half a character":          {"a\xf0\x9f\xa6", []agent.Event{text("a\uFFFD\uFFFD\uFFFD")}},
		"white space at the end":    {"a\n ", []agent.Event{text("a\n ")}},
		"all kinds":                 {"{\"kind\":\"status\",\"text\":\"a\"}\nb\n{\"kind\":\"data\",\"data\":1}\n{\"kind\":\"text\",\"text\":\"c\"}\nd", []agent.Event{status("a"), text("b\n"), data("1"), text("cd")}},
		"an object in a line":       {"a {\"kind\":\"status\",\"text\":\"a\"}\n", []agent.Event{text("a {\"kind\":\"status\",\"text\":\"a\"}\n")}},
		"carriage returns":          {"a\r\n{\"kind\":\"status\",\"text\":\"a\"}\r\nb\r\n", []agent.Event{text("a\r\n"), status("a"), text("b\r\n")}},
		"bytes that are no text":    {"a\xff\xfe\n\xe2\x82\n\x00", []agent.Event{text("a\uFFFD\uFFFD\n\uFFFD\uFFFD\n\x00")}},
		"a long line":               {long + "\nb", []agent.Event{text(long + "\nb")}},
		"a long line of an object":  {"{" + long + "}\nb", []agent.Event{text("{" + long + "}\nb")}},
		"a long line of blanks":     {strings.Repeat(" ", 2*lines.MaxLine) + "{\"kind\":\"status\",\"text\":\"a\"}", []agent.Event{text(strings.Repeat(" ", 2*lines.MaxLine) + "{\"kind\":\"status\",\"text\":\"a\"}")}},
		"as long as an object is":   {"{\"kind\":\"status\",\"text\":\"" + fits + "\"}\nb", []agent.Event{status(fits), text("b")}},
		"a byte longer than that":   {"{\"kind\":\"status\",\"text\":\"a" + fits + "\"}\nb", []agent.Event{text("{\"kind\":\"status\",\"text\":\"a" + fits + "\"}\nb")}},
	} {
		for how, chunks := range chunked {
			t.Run(name+", "+how, func(t *testing.T) {
				got, err := read(chunks(strings.NewReader(test.answer)), 0)
				if err != nil || !reflect.DeepEqual(got, test.want) {
					t.Errorf("got %.200q, %v\nwant %.200q", got, err, test.want)
				}
			})
		}
	}
}

func TestReadLimit(t *testing.T) {
	const object = `{"kind":"status","text":"a"}`
	for name, test := range map[string]struct {
		answer string
		limit  int64
		want   []agent.Event
		err    error
	}{
		"as long as it may be":       {"a\nb", 3, []agent.Event{text("a\nb")}, nil},
		"a byte longer":              {"a\nbc", 3, []agent.Event{text("a\nb")}, lines.ErrTooLong},
		"in the middle of an object": {"a\n" + object, 20, []agent.Event{text("a\n")}, lines.ErrTooLong},
		"after an object":            {object + "\nb", int64(len(object)) + 1, []agent.Event{status("a")}, lines.ErrTooLong},
		"in a character":             {"aé", 2, []agent.Event{text("a")}, lines.ErrTooLong},
		"by default":                 {strings.Repeat("a", lines.DefaultLimit+1), 0, []agent.Event{text(strings.Repeat("a", lines.DefaultLimit))}, lines.ErrTooLong},
	} {
		for how, chunks := range chunked {
			t.Run(name+", "+how, func(t *testing.T) {
				got, err := read(chunks(strings.NewReader(test.answer)), test.limit)
				if err != test.err || !reflect.DeepEqual(got, test.want) {
					t.Errorf("got %.200q, %v\nwant %.200q, %v", got, err, test.want, test.err)
				}
			})
		}
	}
}

// A line that cannot be an object is shown as it grows, and so is a long one.
func TestReadEmitsAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		pieces []string // each is written when all that is wanted of those before was emitted
		want   []string // what each piece brings
	}{
		"lines":            {[]string{"a\nb\n", "c\n"}, []string{"a\nb\n", "c\n"}},
		"words":            {[]string{"Hel", "lo, {", "otter}", "\n"}, []string{"Hel", "lo, {", "otter}", "\n"}},
		"a late word":      {[]string{"  ", "a"}, []string{"", "  a"}},
		"half a character": {[]string{"a\xc3", "\xa9"}, []string{"a", "é"}},
		"an object":        {[]string{`{"kind":"text",`, `"text":"a"}`, "\n"}, []string{"", "", "a"}},
		"no object":        {[]string{"{otter", "}\n"}, []string{"", "{otter}\n"}},
		"a long line":      {[]string{"{" + strings.Repeat("a", lines.MaxLine), "b"}, []string{"{" + strings.Repeat("a", lines.MaxLine), "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := io.Pipe()
			said := make(chan string, 8) // the pieces are few
			go func() {
				defer close(said)
				if err := lines.Read(r, 0, func(event agent.Event) error {
					said <- event.Text
					return nil
				}); err != nil {
					t.Error(err)
				}
			}()
			for i, piece := range test.pieces {
				if _, err := w.Write([]byte(piece)); err != nil {
					t.Fatal(err)
				}
				for want := test.want[i]; want != ""; {
					got := <-said
					if got == "" || !strings.HasPrefix(want, got) {
						t.Fatalf("piece %d brought %.100q of %.100q", i, got, want)
					}
					want = want[len(got):]
				}
			}
			w.Close()
			if got, more := <-said; more {
				t.Errorf("%.100q came only at the end", got)
			}
		})
	}
}

var errBroken = errors.New("broken")

func TestReadFails(t *testing.T) {
	t.Run("the reader", func(t *testing.T) {
		got, err := read(io.MultiReader(strings.NewReader("a\nb {"), iotest.ErrReader(errBroken)), 0)
		if err != errBroken || !reflect.DeepEqual(got, []agent.Event{text("a\nb {")}) {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("the reader in an object", func(t *testing.T) {
		got, err := read(io.MultiReader(strings.NewReader("a\n{\"kind\":"), iotest.ErrReader(errBroken)), 0)
		if err != errBroken || !reflect.DeepEqual(got, []agent.Event{text("a\n")}) {
			t.Errorf("got %q, %v", got, err)
		}
	})
	for name, answer := range map[string]string{
		"emit of a line": "a\nb\n", "emit of a piece": "a", "emit of the last line": `{"kind":"text","text":"a"}`,
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := lines.Read(strings.NewReader(answer), 0, func(agent.Event) error { calls++; return errBroken })
			if err != errBroken || calls != 1 {
				t.Errorf("%v after %d calls", err, calls)
			}
		})
	}
}

// FuzzRead shows that the events do not depend on how the answer arrives, that
// they are valid and no other than those that may be said, and that nothing of
// plain text is lost.
func FuzzRead(f *testing.F) {
	for _, object := range objects {
		f.Add([]byte("a\n"+object.line+"\nb"), int64(0))
	}
	for _, line := range plain {
		f.Add([]byte(line+"\r\n"+line), int64(len(line)))
	}
	f.Fuzz(func(t *testing.T, answer []byte, limit int64) {
		want, wantErr := read(bytes.NewReader(answer), limit)
		if tooLong := int64(len(answer)) > limit && limit > 0 || len(answer) > lines.DefaultLimit && limit <= 0; tooLong != (wantErr == lines.ErrTooLong) {
			t.Fatalf("%d bytes of %d: %v", len(answer), limit, wantErr)
		}
		for how, chunks := range chunked {
			if got, err := read(chunks(bytes.NewReader(answer)), limit); err != wantErr || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %q, %v\nat once %q, %v", how, got, err, want, wantErr)
			}
		}
		for _, event := range want {
			if event.Check() != nil || !utf8.ValidString(event.Text) || !utf8.Valid(event.Data) ||
				!slices.Contains([]agent.Kind{agent.Text, agent.Status, agent.Data}, event.Kind) || event.View != nil {
				t.Errorf("%+v", event)
			}
		}
		if !bytes.ContainsRune(answer, '{') && utf8.Valid(answer) && wantErr == nil && len(answer) > 0 {
			if !reflect.DeepEqual(want, []agent.Event{text(string(answer))}) {
				t.Errorf("%q became %q", answer, want)
			}
		}
	})
}
