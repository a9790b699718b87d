package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"bio/agent/lines"
)

// dataOf reads events to their end.
func dataOf(r io.Reader) (all []string, err error) {
	for data, err := range Events(r) {
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
	return all, nil
}

func TestEvents(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   []string
	}{
		"nothing":                          {"", nil},
		"blank lines":                      {"\n\r\r\n\n", nil},
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
			if got, err := dataOf(strings.NewReader(test.stream)); !slices.Equal(got, test.want) || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// A line end of two bytes is not waited for: an event is there with the first.
func TestDoNotWait(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("data: a\r\n\r"))
	for data, err := range Events(r) {
		if string(data) != "a" || err != nil {
			t.Errorf("got %q, %v", data, err)
		}
		break
	}
}

func TestFail(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		rest io.Reader // after an event
		want error
	}{
		"broken":       {io.MultiReader(strings.NewReader("data: b\n"), iotest.ErrReader(broken)), broken},
		"a long line":  {io.MultiReader(strings.NewReader("data: "), repeat("x")), lines.ErrTooLong},
		"a long field": {repeat("x"), lines.ErrTooLong},
		"a long event": {repeat("data: xxxxxxxxx\r"), lines.ErrTooLong},
		"capped":       {Cap(repeat(":\n\n"), 1<<20), lines.ErrTooLong},
	} {
		got, err := dataOf(io.MultiReader(strings.NewReader("data: a\n\n"), test.rest))
		if err != test.want || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestCap(t *testing.T) {
	for n, want := range map[int64]error{0: lines.ErrTooLong, 2: lines.ErrTooLong, 3: nil, 4: nil} {
		for _, r := range []io.Reader{strings.NewReader("abc"), iotest.OneByteReader(strings.NewReader("abc")), iotest.DataErrReader(strings.NewReader("abc"))} {
			if got, err := io.ReadAll(Cap(r, n)); string(got) != "abc"[:min(n, 3)] || err != want {
				t.Errorf("%d: got %q, %v", n, got, err)
			}
		}
	}
}

// repeat is more than an event may have.
func repeat(s string) io.Reader { return strings.NewReader(strings.Repeat(s, 2*MaxEvent/len(s))) }

// FuzzEvents says that a stream reads the same however its bytes arrive and its
// lines end, and that any data comes through it whole.
func FuzzEvents(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		want, err := dataOf(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		unix := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(stream))
		again := "" // the events, plainly
		for _, data := range want {
			again += plainly(data)
		}
		for name, r := range map[string]io.Reader{
			"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)), "with line feeds": strings.NewReader(unix), "written again": strings.NewReader(again),
		} {
			if got, err := dataOf(r); !slices.Equal(got, want) || err != nil {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
		if got, err := dataOf(strings.NewReader(plainly(unix))); !slices.Equal(got, []string{unix}) || err != nil {
			t.Errorf("as data: got %q, %v, want %q", got, err, unix)
		}
	})
}

// plainly is an event of that data.
func plainly(data string) string {
	return "data: " + strings.ReplaceAll(data, "\n", "\ndata: ") + "\n\n"
}
