package views

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

const (
	// maxBlock is how long a block may be, in bytes; a longer one is cut, so that
	// nobody waits for its end and a viewer holds no more.
	maxBlock = 64 << 10
	// maxParts is how many parts of a run are Markdown: its lines, what in them
	// could become an element, and more for each block and link, by what they cost.
	// It is more than a long answer has, and so few that the worst costs a few
	// times what plain text does, here and in the browser.
	maxParts   = 12_000
	blockParts = 5
	linkParts  = 4
)

// blocks cuts Markdown that comes in pieces into blocks that can be rendered by
// themselves: a paragraph, a list, a fence, a table. Where it cuts does not depend
// on the pieces. A block ends with a blank line outside a fence; one with a list,
// or with indented code, ends there only when what follows does not belong to it.
// With the block that is one part too much it stops: that block, and all that
// follows, is given line by line, to be shown as it is written.
type blocks struct {
	text   []byte // of the block that is not complete
	line   int    // where in text the first line begins that was not looked at
	top    int    // where in text the last line began that is not indented
	seen   int    // how much of text tail has given
	fence  string // the marks that opened a fence which is open, or empty
	opener string // the line that opened it; also before the text, when the fence was cut
	again  bool   // the fence was cut: the block begins with opener
	loose  bool   // it may go on after a blank line
	blank  bool   // it did not end at the blank line before line
	cr     bool   // the last byte that came was a carriage return
	parts  int    // of all that has been looked at
	plain  bool   // what is given is lines, and not a block; text is one that is not whole
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// add takes the next piece and gives each block that is complete by it.
func (b *blocks) add(piece string, complete func(block string)) {
	if piece == "" {
		return
	}
	after := b.cr
	b.cr = piece[len(piece)-1] == '\r'
	if after && piece[0] == '\n' {
		piece = piece[1:]
	}
	for s := lineEnds.Replace(piece); s != ""; {
		if b.plain {
			b.pass(s, complete)
			return
		}
		n := min(len(s), maxBlock-len(b.text))
		if i := strings.IndexByte(s[:n], '\n'); i >= 0 {
			n = i + 1
		}
		b.text = append(b.text, s[:n]...)
		whole := s[n-1] == '\n'
		s = s[n:]
		switch rest := b.text[b.line:]; {
		case whole:
			b.look(rest, complete)
		case b.blank && decided(rest) && !goesOn(rest):
			b.cut(b.line, complete)
		}
		if len(b.text) == maxBlock {
			b.cut(b.overflow(), complete)
		}
	}
}

// end gives what is left, as a block of its own.
func (b *blocks) end(complete func(block string)) {
	if b.blank && b.line < len(b.text) && !goesOn(append(b.text[b.line:], '\n')) {
		b.cut(b.line, complete)
	}
	if !b.plain && len(bytes.TrimSpace(b.text)) > 0 {
		b.fence = ""
		b.cut(len(b.text), complete)
	}
	if b.plain && len(b.text) > 0 {
		complete(string(b.text))
	}
	*b = blocks{parts: b.parts}
}

// pass gives the lines that are whole with s.
func (b *blocks) pass(s string, complete func(string)) {
	b.text = append(b.text, s...)
	n := bytes.LastIndexByte(b.text, '\n') + 1
	if n == 0 && len(b.text) >= maxBlock {
		n = wholeRunes(b.text)
	}
	if n > 0 {
		lines := string(b.text[:n])
		b.text, b.seen = bytes.Clone(b.text[n:]), 0
		complete(lines)
	}
}

// tail is what has come of the block that is not complete since it was last given,
// when that is so many bytes: whole runes, and nothing before the first that is to
// be seen.
func (b *blocks) tail(least int) string {
	end := wholeRunes(b.text)
	if end < b.seen+max(least, 1) || len(bytes.TrimSpace(b.text[:end])) == 0 {
		return ""
	}
	t := string(b.text[b.seen:end])
	b.seen = end
	return t
}

// look takes a line that is whole.
func (b *blocks) look(line []byte, complete func(string)) {
	body := bytes.TrimSpace(line)
	if b.fence != "" {
		if len(body) >= len(b.fence) && len(bytes.Trim(body, b.fence[:1])) == 0 && indent(line) < 4 {
			b.fence = ""
		}
		b.parts++
		b.line = len(b.text)
		return
	}
	if len(body) == 0 {
		switch {
		case b.line == 0:
			b.text, b.seen = b.text[:0], 0
		case b.loose:
			b.blank, b.line = true, len(b.text)
		default:
			b.cut(b.line, complete)
			b.text, b.seen = b.text[:0], 0
		}
		return
	}
	if b.blank && !goesOn(line) {
		b.cut(b.line, complete)
	}
	b.parts += parts(line)
	b.blank = false
	in := indent(line)
	if in == 0 {
		b.top = b.line
	}
	switch marks := fenceOf(body); {
	case marks != "" && (in < 2 || in < 4 && !b.loose):
		b.fence, b.opener, b.loose = marks, string(b.text[b.line:]), false
	case isItem(line), b.line == 0 && in >= 4:
		b.loose = true
	}
	b.line = len(b.text)
}

// overflow is where a block that has become too long is cut: before the last line
// that stands by itself, or else between two lines, two words, or two runes.
func (b *blocks) overflow() int {
	if b.fence == "" && b.top > 0 {
		return b.top
	}
	if b.line > 0 {
		return b.line
	}
	if space := bytes.LastIndexByte(b.text, ' ') + 1; space > len(b.text)/2 {
		return space
	}
	return wholeRunes(b.text)
}

// cut completes the block with the first n bytes of text. A fence that is open
// goes on in the next. With one part too much, all of text is lines.
func (b *blocks) cut(n int, complete func(string)) {
	if n > b.line && b.fence == "" {
		b.parts += parts(b.text[b.line:n])
	}
	if b.parts += blockParts; b.parts > maxParts {
		*b = blocks{text: b.text, seen: b.seen, cr: b.cr, parts: b.parts, plain: true}
		b.pass("", complete)
		return
	}
	block := string(b.text[:n])
	if b.again {
		block = b.opener + block
	}
	b.again = b.fence != ""
	b.text = bytes.Clone(b.text[n:])
	b.line, b.top, b.seen = max(b.line-n, 0), 0, 0 // the block takes the tails away
	b.loose, b.blank = false, false
	complete(block)
}

var links = [][]byte{[]byte("]("), []byte("://"), []byte("www.")}

// parts counts a line, and what in it could become an element: by the marks of
// Markdown, and the dots and colons of addresses.
func parts(line []byte) int {
	n := 1
	for _, link := range links {
		n += linkParts * bytes.Count(line, link)
	}
	for i, c := range line {
		switch c {
		case '|', '*', '_', '~', '`', '[', '<', '>', '.', ':', ')':
			n++
		case ' ', '\t', '\n':
			if i > 0 && (line[i-1] == '-' || line[i-1] == '+') {
				n++
			}
		}
	}
	return n
}

// wholeRunes is the length of text without a rune that has only begun at its end.
func wholeRunes(text []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if at := len(text) - i; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return at
			}
			break
		}
	}
	return len(text)
}

// indent is how many columns of space a line begins with.
func indent(line []byte) (columns int) {
	for _, c := range line {
		switch c {
		case ' ':
			columns++
		case '\t':
			columns += 4 - columns%4
		default:
			return columns
		}
	}
	return columns
}

// fenceOf is the marks with which a line, without the space around it, opens a
// fence (CommonMark §4.5), or empty.
func fenceOf(body []byte) string {
	if c := body[0]; c == '`' || c == '~' {
		n := len(body) - len(bytes.TrimLeft(body, string(c)))
		if n >= 3 && (c == '~' || bytes.IndexByte(body[n:], '`') < 0) {
			return string(body[:n])
		}
	}
	return ""
}

// isItem reports whether a line begins an item of a list (CommonMark §5.2).
func isItem(line []byte) bool {
	if indent(line) > 3 {
		return false
	}
	line = bytes.TrimLeft(line, " ")
	n := 0
	if len(line) > 0 && strings.IndexByte("-*+", line[0]) >= 0 {
		n = 1
	} else {
		for n < len(line) && '0' <= line[n] && line[n] <= '9' {
			n++
		}
		if n == 0 || n > 9 || n == len(line) || line[n] != '.' && line[n] != ')' {
			return false
		}
		n++
	}
	return n < len(line) && (line[n] == ' ' || line[n] == '\t' || line[n] == '\n')
}

// goesOn reports whether what a line begins may belong to the list, or to the
// indented code, before the blank line above it.
func goesOn(line []byte) bool {
	return line[0] == ' ' || line[0] == '\t' || isItem(line)
}

// decided reports whether what has come of a line is enough for goesOn.
func decided(line []byte) bool {
	switch c := line[0]; {
	case c == '-', c == '*', c == '+':
		return len(line) > 1
	case '0' <= c && c <= '9':
		return len(line) > 10 // nine digits, a dot, a space
	}
	return true
}
