package config

import (
	"iter"
	"strings"
)

// letter is one byte that a command line says, in quotes or not.
type letter struct {
	char   byte
	quoted bool // or behind a backslash
}

// letters gives what a command line says, with the places of its bytes. Quotes and
// backslashes are those of bio/agent/program.Split; one that is not closed reaches
// to the end.
func letters(line string) iter.Seq2[int, letter] {
	return func(yield func(int, letter) bool) {
		var quote byte // that is open, or 0
		for i := 0; i < len(line); i++ {
			c, quoted := line[i], quote != 0
			switch {
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
				continue
			case quoted && c == quote:
				quote = 0
				continue
			case c == '\\' && quote != '\'' && i+1 < len(line) && (quote == 0 || strings.IndexByte("$`\"\\\n", line[i+1]) >= 0):
				if i++; line[i] == '\n' { // the line goes on
					continue
				}
				c, quoted = line[i], true
			}
			if !yield(i, letter{c, quoted}) {
				return
			}
		}
	}
}

// space reports whether the letter stands between words.
func (l letter) space() bool { return !l.quoted && strings.IndexByte(" \t\n", l.char) >= 0 }

// firstWord is the program of a command line, without its quotes.
func firstWord(command string) string {
	var word strings.Builder
	for _, c := range letters(command) {
		if c.space() {
			break
		}
		word.WriteByte(c.char)
	}
	return word.String()
}

// parseCommand reads the command line behind exec:. What is wrong with it is empty
// when nothing is.
func parseCommand(text string) (command, wrong, mend string) {
	command = strings.TrimSpace(text)
	if command == "" {
		return "", "has no command", "Write it behind exec:, such as exec:/opt/greet.py."
	}
	for _, c := range letters(command) {
		// Printed before another entry, it would quote the comma.
		if c.char == '\\' && !c.quoted {
			return "", "has a command that ends with a backslash", "Take it out, or quote it."
		}
	}
	return command, "", ""
}
