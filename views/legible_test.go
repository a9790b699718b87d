package views

import (
	"strings"
	"testing"
	"unicode/utf8"

	"bio/agent"
)

func TestLegible(t *testing.T) {
	for s, want := range map[string]string{
		"a\tb\nc\rd\x00\x1b[31m\x7f\u0085\u009b":           "a\tb\ncd[31m",
		"a\xff\xe2\x80z":                                   "a\uFFFD\uFFFD\uFFFDz",
		"\u202ea\u202db\u202ac":                            "abc",
		"\u2066a\u2067b\u2068c\u2069\u202c":                "abc",
		"pass\u00adword \u200bhere\u2060\ufeff":            "password here",
		"a\U000e0061\U000e0062\U000e007fb\U000e0001":       "ab",
		"a\u115f\u3164\uffa0\u034f\u17b4b":                 "ab",
		"\ufff9a\ufffab\ufffb":                             "ab",
		"\u0601\u0661\u06dd":                               "\u0601\u0661\u06dd", // signs that are seen
		"\U00013153\U00013430\U00013155":                   "\U00013153\U00013430\U00013155",
		"नी\u200dनी क्\u200cष":                             "नी\u200dनी क्\u200cष",
		"👩\u200d🚀 ❤\ufe0f\u200d🔥 葛\U000e0100":              "👩\u200d🚀 ❤\ufe0f\u200d🔥 葛\U000e0100",
		"a\u200d\u200c\u200d\u200db":                       "a\u200db",
		"a\ufe0f\ufe0e\ufe00\U000e0101\U000e01efb":         "a\ufe0fb",
		"a\u200d\ufe0fb":                                   "a\u200db",
		"10\u200f-2 \u061c\u200e3":                         "10-2 3", // nothing here reads from right to left
		"\u200fHTML \u05d0\u05d1 10\u200f-2 \u061c\u200e3": "\u200fHTML \u05d0\u05d1 10\u200f-2 \u061c\u200e3",
		"\u0627\u200f\u200f\u200f":                         "\u0627\u200f",
		"":                                                 "",
	} {
		if got := legible(s); got != want {
			t.Errorf("%+q became %+q, want %+q", s, got, want)
		}
		if again := legible(want); again != want {
			t.Errorf("%+q became %+q the second time", want, again)
		}
	}
	// In pieces, it is as it comes.
	var r reading
	got := ""
	for _, piece := range []string{"1\u200f-2 a\u200d", "\u200d\ufe0f", "\u05d0", "\u200f", "\u200f1"} {
		got += r.take(piece)
	}
	if want := "1-2 a\u200d\u05d0\u200f1"; got != want {
		t.Errorf("in pieces it is %+q, want %+q", got, want)
	}
}

func FuzzLegible(f *testing.F) {
	for _, s := range []string{"a\u202e\u200d\u200d\ufe0f\u05d0\u200f", "\xff\x00\U000e0061", "葛\U000e0100\u061c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := legible(s)
		if !utf8.ValidString(got) || unseen.MatchString(got) || legible(got) != got {
			t.Errorf("%+q became %+q", s, got)
		}
		line := oneLine(s)
		if n := utf8.RuneCountInString(line); n > maxStatus || strings.ContainsAny(line, "\n\t\u2028\u2029") || oneLine(line) != line {
			t.Errorf("%+q is the line %+q of %d characters", s, line, n)
		}
	})
}

func TestOneLine(t *testing.T) {
	for s, want := range map[string]string{
		"Reading…":                       "Reading…",
		" a\n\tb \u2028c\u00a0d\r\n":     "a b c d",
		"\u202ea\x00\x1b[1m\u2066b":      "a[1mb",
		strings.Repeat("é", 200):         strings.Repeat("é", 200),
		strings.Repeat("é", 201):         strings.Repeat("é", 199) + "…",
		strings.Repeat("a ", 100000):     strings.Repeat("a ", 99) + "a…",
		strings.Repeat("é", 198) + " éé": strings.Repeat("é", 198) + "…",
	} {
		if got := oneLine(s); got != want {
			t.Errorf("%.40q became %q", s, got)
		}
	}
}

// TestPieces checks that every kind of event that has text is legible.
func TestPieces(t *testing.T) {
	const said = "a\u202e\u2066\x1b\x00\u00ad\U000e0061b"
	run := running
	run.Status = "done"
	for kind, want := range map[agent.Kind]string{
		agent.Text:     `<div data-kind="text"><p dir="auto">a` + "\ufffd" + `b</p></div><p data-final="done"></p>`, // of NUL, CommonMark §2.3
		agent.Status:   `<p data-kind="status">ab</p><p data-final="done"></p>`,
		agent.Approval: `<p data-kind="approval">ab</p><p data-final="done"></p>`,
	} {
		r := run
		if kind == agent.Status {
			r.Status = "running"
		}
		if got := rendered(t, follow(ran(r, agent.Event{Kind: kind, Text: said}))); got != want {
			t.Errorf("%v became %+q", kind, got)
		}
	}
	for _, data := range []string{`["` + said + `"]`, `["` + said + `"` + strings.Repeat(",1", 6*maxParts) + "]"} {
		got := rendered(t, follow(ran(run, agent.Event{Kind: agent.Data, Data: []byte(data)})))
		if want := `<div data-kind="data"><pre tabindex="0">[&#34;ab&#34;`; !strings.HasPrefix(got, want) {
			t.Errorf("data became %.100q", got)
		}
	}
}
