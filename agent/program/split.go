package program

import (
	"fmt"
	"strings"
)

// Split splits a command line into words, at spaces, tabs and line feeds. Single
// quotes, double quotes and backslashes are those of a shell (POSIX Shell Command
// Language §2.2). Nothing is expanded and there are no operators or comments: $HOME,
// *, |, > and # are themselves. A pipeline needs a shell: sh -c '… | …'. The error
// of a quote that is not closed, or of a backslash at the end, wraps [ErrCommand].
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false // the word, perhaps with an empty quote
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, fmt.Errorf("%w: a ' is not closed", ErrCommand)
			}
			word.WriteString(line[i+1 : i+1+n])
			i += n + 1
			begun = true
		case '"':
			n, err := double(&word, line[i+1:])
			if err != nil {
				return nil, err
			}
			i += n
			begun = true
		case '\\':
			if i++; i == len(line) {
				return nil, fmt.Errorf("%w: a \\ at the end", ErrCommand)
			}
			if line[i] == '\n' { // the line goes on
				continue
			}
			word.WriteByte(line[i])
			begun = true
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// double writes what is in double quotes, after the first, to word. It returns
// the length up to and with the second.
func double(word *strings.Builder, line string) (int, error) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(line) && line[i+1] == '\n':
			i++
		case c == '\\' && i+1 < len(line) && strings.IndexByte("$`\"\\", line[i+1]) >= 0:
			i++
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
	}
	return 0, fmt.Errorf(`%w: a " is not closed`, ErrCommand)
}
