//go:build unix

package program_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"bio/agent/program"
)

var commands = map[string]struct {
	line string
	want []string
}{
	"nothing":                       {"", nil},
	"blanks":                        {" \t\n", nil},
	"a word":                        {"id", []string{"id"}},
	"words":                         {"  python3\tagent.py   -v ", []string{"python3", "agent.py", "-v"}},
	"single quotes":                 {`sh -c 'echo "$HOME" \n | wc'`, []string{"sh", "-c", `echo "$HOME" \n | wc`}},
	"double quotes":                 {`"a b" "it's"`, []string{"a b", "it's"}},
	"quotes in a word":              {`--name='a b'"c d"e`, []string{"--name=a bc de"}},
	"empty quotes":                  {`'' a"" ""`, []string{"", "a", ""}},
	"backslashes":                   {`a\ b \\ \' \" \n`, []string{"a b", `\`, `'`, `"`, "n"}},
	"backslashes in double quotes":  {`"\" \\ \n \' \$ \` + "`" + `"`, []string{`" \ \n \' $ ` + "`"}},
	"backslashes in single quotes":  {`'\' '\\'`, []string{`\`, `\\`}},
	"line feeds in quotes":          {"'a\nb' \"c\nd\"", []string{"a\nb", "c\nd"}},
	"a line that goes on":           {"a\\\nb \"c\\\nd\" \\\n e", []string{"ab", "cd", "e"}},
	"letters of all kinds":          {"échö 'ö ñ' 🦦", []string{"échö", "ö ñ", "🦦"}},
	"bytes that are no text":        {"a\xff '\xfe'", []string{"a\xff", "\xfe"}},
	"blanks that are none to shell": {"a\u00a0b\u2003c", []string{"a\u00a0b\u2003c"}},
	"a number sign in a word":       {"a#b", []string{"a#b"}},
	"equals":                        {"a=b", []string{"a=b"}},
}

func TestSplit(t *testing.T) {
	for name, test := range commands {
		t.Run(name, func(t *testing.T) {
			got, err := program.Split(test.line)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			shell, err := exec.Command("sh", "-c", `set -f; printf '%s\0' `+strings.Trim(test.line, " \t\n")).Output()
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Join(append(test.want, ""), "\x00"); len(test.want) > 0 && string(shell) != want {
				t.Errorf("a shell reads %q as %q", test.line, shell)
			}
		})
	}
	for name, test := range map[string]struct {
		line string
		want []string
	}{
		"expansions": {"$HOME ~ * ? [a] {a,b} `id` $(id) \"$HOME\"", []string{"$HOME", "~", "*", "?", "[a]", "{a,b}", "`id`", "$(id)", "$HOME"}},
		"operators":  {"a | b > c;d & # e", []string{"a", "|", "b", ">", "c;d", "&", "#", "e"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := program.Split(test.line); err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	for _, line := range []string{`'`, `a 'b`, `"`, `"a\"`, `"a\`, `\`, `a\`, `'a' 'b`, "\"\\\n"} {
		if got, err := program.Split(line); got != nil || !errors.Is(err, program.ErrCommand) {
			t.Errorf("%q: got %q, %v", line, got, err)
		}
	}
}

// FuzzSplit shows that words that are quoted are the same words, and that no
// line makes more of them than it has room for.
func FuzzSplit(f *testing.F) {
	for _, command := range commands {
		f.Add(command.line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := program.Split(line)
		if err != nil {
			if words != nil || !errors.Is(err, program.ErrCommand) || !strings.ContainsAny(line, `'"\`) {
				t.Fatalf("%q: %q, %v", line, words, err)
			}
			return
		}
		if len(strings.Join(words, " ")) > len(line) {
			t.Errorf("%q became %q", line, words)
		}
		if !strings.ContainsAny(line, `'"\`) && !slices.Equal(words, strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n", r) })) {
			t.Errorf("%q became %q", line, words)
		}
		for how, quote := range map[string]func(string) string{
			"single quotes": func(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" },
			"double quotes": func(word string) string {
				return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(word) + `"`
			},
		} {
			quoted := make([]string, len(words))
			for i, word := range words {
				quoted[i] = quote(word)
			}
			if again, err := program.Split(strings.Join(quoted, " ")); err != nil || !slices.Equal(again, words) {
				t.Errorf("%s: %q became %q, %v", how, words, again, err)
			}
		}
	})
}
