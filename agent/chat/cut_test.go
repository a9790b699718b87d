package chat

import (
	"strings"
	"testing"
)

func TestEnding(t *testing.T) {
	const cut = "\n\n*Cut.*"
	for name, test := range map[string]struct{ said, want string }{
		"nothing":                  {"", "*Cut.*"},
		"a word":                   {"Once", cut},
		"a line":                   {"Once\n", cut},
		"emphasis":                 {"Once **upon", cut},
		"a table":                  {"| a | b |\n|---|---|\n| c", cut},
		"a list":                   {"- a\n- b", cut},
		"a code span":              {"Say `once", cut},
		"two marks":                {"a\n``", cut},
		"a span of three marks":    {"```a``` b", cut},
		"a whole fence":            {"```go\na\n```", cut},
		"a whole fence, and more":  {"```\na\n```\n\nOnce", cut},
		"a fence":                  {"Once:\n\n```go\nfunc", "\n```" + cut},
		"a fence and a line":       {"```\na\n", "```" + cut},
		"only a fence":             {"```", "\n```" + cut},
		"tildes":                   {"~~~ a`b\n", "~~~" + cut},
		"other marks in a fence":   {"~~~\n```\n", "~~~" + cut},
		"four marks":               {"````\n```\na", "\n````" + cut},
		"a longer end":             {"```\n`````\na", cut},
		"an end with words":        {"```\n``` a\n", "```" + cut},
		"an end that is indented":  {"```\n   ```\n", cut},
		"an end that is code":      {"```\n    ```\n", "```" + cut},
		"a half end":               {"```\na\n``", "\n```" + cut},
		"blank lines in a fence":   {"```\na\n\nb", "\n```" + cut},
		"the second fence":         {"```\na\n```\n```\nb", "\n```" + cut},
		"other line ends":          {"a\r```\rb\r\n```\r\n~~~\r\n", "~~~" + cut},
		"indented a little":        {"   ```\na", "\n```" + cut},
		"code":                     {"a\n\n    ```\n", cut},
		"code by a tab":            {"a\n\n\t```\n", cut},
		"a fence below code":       {"a\n\n    b\n  ```\nc", cut}, // a block that the page ends at the next paragraph
		"a fence in a list":        {"1. a\n\n   ```\n   b", cut},
		"a fence in a bullet":      {"- a\n  ```\n  b", cut},
		"a fence after a list":     {"- a\n\nb\n\n  ```\nc", "\n```" + cut},
		"a fence that ends a list": {"- a\n```\nb", "\n```" + cut},
		"another fence after that": {"- a\n```\nb\n```\n  ```\nc", "\n```" + cut},
		"a fence in a quote":       {"> ```\n> a", cut},
	} {
		if got := ending(test.said, "Cut."); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// FuzzEnding shows that no fence is open where the sentence stands.
func FuzzEnding(f *testing.F) {
	for _, said := range []string{"", "```", "- a\n  ~~~\n\n\tb\n~~~", "    a\n  ```\r\n````\r", "\u00a0```", strings.Repeat("`", 99)} {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said string) {
		end := ending(said, "Cut.")
		if !strings.HasSuffix("\n\n"+end, "\n\n*Cut.*") {
			t.Fatalf("%q ends with %q", said, end)
		}
		if fence := openFence(said + strings.TrimSuffix(end, "*Cut.*")); fence != "" {
			t.Errorf("%q and %q: %q is open", said, end, fence)
		}
	})
}
