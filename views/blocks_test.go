package views

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// cutting is the blocks of pieces, and the tails that were shown beside them.
func cutting(pieces ...string) (whole, tails []string) {
	var b blocks
	whole, tails, _ = cut(&b, pieces...)
	return whole, tails
}

// cut is cutting, and what came after the blocks as it is.
func cut(b *blocks, pieces ...string) (whole, tails []string, rest string) {
	take := func(block string) {
		if b.plain {
			rest += block
		} else {
			whole = append(whole, block)
		}
	}
	for _, p := range pieces {
		b.add(p, take)
		if t := b.tail(0); t != "" {
			tails = append(tails, t)
		}
	}
	b.end(take)
	return whole, tails, rest
}

func TestBlocks(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                   {"", nil},
		"blank":                     {" \n\n\t\n ", nil},
		"one":                       {"a\nb", []string{"a\nb"}},
		"two, far apart":            {"\n\na\n \n\n\nb\n\n", []string{"a\n", "b\n"}},
		"line ends":                 {"a\r\n\r\nb\rc\r\rd", []string{"a\n", "b\nc\n", "d"}},
		"fence":                     {"```go\na\n\n~~~\n``\nb\n````\n\nc", []string{"```go\na\n\n~~~\n``\nb\n````\n", "c"}},
		"fence below a paragraph":   {"a\n~~~ x\n\nb\n~~~\n\nc", []string{"a\n~~~ x\n\nb\n~~~\n", "c"}},
		"fence that stays open":     {"```\na\n\nb\n", []string{"```\na\n\nb\n"}},
		"not a fence":               {"``\na\n\n```a`\n\nb", []string{"``\na\n", "```a`\n", "b"}},
		"code that looks indented":  {"    ```\n\na\n\nb", []string{"    ```\n\n", "a\n", "b"}},
		"list":                      {"- a\n\n- b\n\n  c\n\n1) d\n\ne\n\n", []string{"- a\n\n- b\n\n  c\n\n1) d\n\n", "e\n"}},
		"list below a paragraph":    {"a\n* b\n\n* c\n\n**d**", []string{"a\n* b\n\n* c\n\n", "**d**"}},
		"list with a fence":         {"- a\n  ```\n  b\n\n  c\n  ```\n\nd", []string{"- a\n  ```\n  b\n\n  c\n  ```\n\n", "d"}},
		"fence below a list":        {"- a\n```\nb\n\nc\n```\n\nd", []string{"- a\n```\nb\n\nc\n```\n", "d"}},
		"number that is not a list": {"1.5\n\n2.5\n\n- a\n\n2026", []string{"1.5\n", "2.5\n", "- a\n\n", "2026"}},
		"indented code":             {"    a\n\n    b\n\nc", []string{"    a\n\n    b\n\n", "c"}},
		"tab":                       {"\ta\n\n\tb\n\nc", []string{"\ta\n\n\tb\n\n", "c"}},
		"empty item":                {"-\n\n-\n\na", []string{"-\n\n-\n\n", "a"}},
		"bare mark at the end":      {"- a\n\n-", []string{"- a\n\n-"}},
		"quote":                     {"> a\n>\n> b\n\nc", []string{"> a\n>\n> b\n", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := cutting(test.text)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("whole: -want +got:\n%s", diff)
			}
			got, _ = cutting(strings.Split(test.text, "")...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("byte by byte: -want +got:\n%s", diff)
			}
		})
	}
}

// TestBlocksAtOnce checks that a block comes as soon as it is known to be complete.
func TestBlocksAtOnce(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"a\n\n", "a\n"},
		{"- a\n\nb", "- a\n\n"},
		{"- a\n\n*b", "- a\n\n"},
		{"```\na\n```\n\n", "```\na\n```\n"},
	} {
		var b blocks
		got := ""
		b.add(test.text, func(block string) { got = block })
		if got != test.want {
			t.Errorf("%q gives %q, want %q", test.text, got, test.want)
		}
	}
}

func TestTails(t *testing.T) {
	for name, test := range map[string]struct{ pieces, want []string }{
		"words":           {[]string{"a ", "b", "\n", "\nc"}, []string{"a ", "b", "\n", "c"}},
		"not what is":     {[]string{"a\n\n", "b"}, []string{"b"}},
		"not blank":       {[]string{" ", "\n", "  ", "a"}, []string{"  a"}},
		"whole runes":     {[]string{"a\xe2", "\x80", "\xa6b"}, []string{"a", "…b"}},
		"what never ends": {[]string{"a\xe2", "b"}, []string{"a", "\xe2b"}},
		"after a list":    {[]string{"- a\n\n1", "0", "00 b"}, []string{"- a\n\n1", "0", "00 b"}},
		"not of a list":   {[]string{"- a\n\n2026", " was", " good"}, []string{"- a\n\n2026", " was", "2026 was good"}},
	} {
		if _, got := cutting(test.pieces...); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestLongBlocks checks that a block without an end is cut where it can be read,
// and that nothing is lost.
func TestLongBlocks(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		begins string // each block after the first
	}{
		"lines":    {strings.Repeat("some words and more of them\n", 8000), "some words and more of them\n"},
		"one line": {strings.Repeat("words ", 40000), "words"},
		"one word": {strings.Repeat("…", 80000), "…"},
		"list":     {strings.Repeat("- item\n  with a line that has some more words, and then a few\n  - and one in it\n", 2000), "- item\n"},
		"fence":    {"~~~ go\n" + strings.Repeat("\n\tcode, and some more code in the same line\n", 5000) + "~~~\n", "~~~ go\n"},
		"bytes":    {strings.Repeat("\x80", 200000), "\x80"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := cutting(test.text)
			if len(got) < 3 {
				t.Errorf("%d blocks", len(got))
			}
			opener := ""
			if name == "fence" {
				opener = test.begins
			}
			all := ""
			for i, block := range got {
				if len(block) > maxBlock+len(opener) {
					t.Errorf("a block of %d bytes", len(block))
				}
				if i > 0 {
					if !strings.HasPrefix(block, test.begins) {
						t.Errorf("block %d begins %.20q", i, block)
					}
					block = strings.TrimPrefix(block, opener)
				}
				all += block
			}
			if all != test.text {
				t.Errorf("%d bytes of %d", len(all), len(test.text))
			}
		})
	}
}

// TestTooManyParts checks that the block with which there are too many, and all
// after it, is given line by line, white space and all.
func TestTooManyParts(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		blocks int // that are Markdown
	}{
		"blocks":     {strings.Repeat("a\n\n", 20000), 2000},
		"lines":      {strings.Repeat(strings.Repeat("a\n", 995)+"\n", 100), 12},
		"one list":   {strings.Repeat("- a\n", maxParts), 0},
		"marks":      {strings.Repeat("*a* |b|\n\n", 20000), 1200},
		"links":      {strings.Repeat("[a](/b)\n\n", 20000), 1000},
		"one word":   {strings.Repeat("www.", 20000), 0},
		"code":       {"```\n" + strings.Repeat(" <\n", maxParts) + "```\n", 0},
		"few":        {strings.Repeat("Words in a line, with more of them.\n", 5000) + "\n\n", 3},
		"after code": {strings.Repeat("~~~\n|*<\n~~~\n\n", 20000), 1090},
	} {
		t.Run(name, func(t *testing.T) {
			var b blocks
			whole, _, rest := cut(&b, test.text)
			if d := len(whole) - test.blocks; d < -1 || d > 1 {
				t.Errorf("%d blocks, want %d", len(whole), test.blocks)
			}
			if (name == "few") != (rest == "") || !strings.HasSuffix(test.text, rest) {
				t.Errorf("%d bytes of %d follow, from %.20q", len(rest), len(test.text), rest)
			}
		})
	}
	b := blocks{parts: maxParts, text: []byte("- a\n\n"), line: 5, loose: true, blank: true, seen: 5}
	var got string
	take := func(lines string) { got += lines }
	for _, step := range []struct{ piece, lines, tail string }{
		{"b", "- a\n\n", "b"},
		{" \r", "b \n", ""},
		{"\n\xe2\x80", "", ""},
		{"\xa6", "", "…"},
		{"\n\nc  \nd", "…\n\nc  \n", "d"},
		{strings.Repeat("…", maxBlock/3) + "\xe2", "d" + strings.Repeat("…", maxBlock/3), ""},
	} {
		got = ""
		if b.add(step.piece, take); got != step.lines {
			t.Errorf("%.20q gives %.40q, want %.40q", step.piece, got, step.lines)
		}
		if tail := b.tail(0); tail != step.tail {
			t.Errorf("beside %.20q there is %.40q, want %q", step.piece, tail, step.tail)
		}
	}
	got = ""
	if b.end(take); got != "\xe2" {
		t.Errorf("the end gives %q", got)
	}
}

// FuzzBlocks checks that pieces of any size make the same blocks, that all of the
// text is in them, and that a tail shows what they have.
func FuzzBlocks(f *testing.F) {
	for _, text := range []string{"", "a\r\n\r\nb", "- a\n\n- b\n\nc", "```\na\n\nb\n```\n\n\n  c", "1. a\n\n   b\n\n10. c\n\n10 d\n", "    a\n\n    b\n\xff…"} {
		f.Add(text, uint64(len(text)))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		// Sometimes there is not much left that may be cut.
		before := maxParts
		if seed%2 == 0 {
			before -= int(seed/2) % 64
		} else {
			before = 0
		}
		want, _, rest := cut(&blocks{parts: before}, text)
		r := rand.New(rand.NewPCG(seed, 0))
		var pieces []string
		for rest := text; rest != ""; {
			n := 1 + r.IntN(min(len(rest), 12))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, tails, gotRest := cut(&blocks{parts: before}, pieces...)
		if !slices.Equal(got, want) || gotRest != rest {
			t.Errorf("%q in pieces is %q and %q, whole %q and %q", text, got, gotRest, want, rest)
		}
		seen := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if len(text) < maxBlock && seen(strings.Join(want, "\n")+rest) != seen(lineEnds.Replace(text)) {
			t.Errorf("%q is in blocks %q", text, want)
		}
		for _, tail := range tails {
			if utf8.ValidString(text) && !utf8.ValidString(tail) {
				t.Errorf("a tail of %q is %q", text, tail)
			}
		}
	})
}

func BenchmarkBlocks(b *testing.B) {
	text := strings.Repeat("Some words in a line,\nand more of them.\n\n", 25)
	for _, size := range []int{4, len(text)} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				var blocks blocks
				for i := 0; i < len(text); i += size {
					blocks.add(text[i:min(i+size, len(text))], func(string) {})
				}
			}
		})
	}
}
