package views

import (
	"strings"
	"unicode"
)

// maxStatus is how many characters of a status are shown.
const maxStatus = 200

// legible is s without what a reader does not see and what changes how the text
// around it is read; what is not UTF-8 becomes U+FFFD. It takes out
//
//   - control characters but tabs and line feeds, and interlinear annotations;
//   - embeddings, overrides and isolates (UAX #9 §2.1 to §2.4), which reorder text
//     far from where they stand;
//   - what is not displayed (UAX #44, Default_Ignorable_Code_Point): soft hyphens,
//     zero-width spaces, tags, fillers. They hide words from those who read, and
//     change what is copied.
//
// Of these stay the joiners and variation selectors that scripts and emoji need,
// each once where it stands, so that rows of them carry nothing; and LRM, RLM and
// ALM (UAX #9 §2.6) in a text with letters that read from right to left. They
// reorder nothing but the digits and signs beside them, as such a letter would, and
// such a text needs them; in another they could only swap figures, unseen.
func legible(s string) string {
	r := reading{leftward: strings.ContainsFunc(s, isLeftward)}
	return r.take(s)
}

// reading is legible for a text that comes in pieces: the marks stay after the
// first letter that reads from right to left.
type reading struct {
	leftward bool
	last     rune // that stayed
}

func (r *reading) take(s string) string {
	return strings.Map(func(c rune) rune {
		if !r.stays(c) {
			return -1
		}
		r.last = c
		return c
	}, s)
}

func (r *reading) stays(c rune) bool {
	switch {
	case c < 0x7f:
		return c >= ' ' || c == '\n' || c == '\t'
	case isLeftward(c):
		r.leftward = true
		return true
	case c < 0xa0, 0xfff9 <= c && c <= 0xfffb:
		return false
	case !isIgnorable(c):
		return true
	case unicode.Is(unicode.Join_Control, c):
		return !unicode.Is(unicode.Join_Control, r.last)
	case unicode.Is(unicode.Variation_Selector, c):
		return !isIgnorable(r.last)
	case c == 0x200e, c == 0x200f, c == 0x061c:
		return r.leftward && c != r.last
	}
	return false
}

// isIgnorable reports whether a character has the property
// Default_Ignorable_Code_Point, or is one between interlinear annotations.
func isIgnorable(c rune) bool {
	return c >= 0xad && unicode.In(c, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, c) && (c < 0x13430 || c > 0x1343f)
}

// isLeftward reports whether a character stands in the blocks of the scripts that
// read from right to left (UAX #9 §3.2), and is seen.
func isLeftward(c rune) bool {
	return c >= 0x590 && (c <= 0x8ff && c != 0x61c || 0xfb1d <= c && c <= 0xfdff || 0xfe70 <= c && c < 0xfeff ||
		0x10800 <= c && c <= 0x10fff || 0x1e800 <= c && c <= 0x1efff)
}

// oneLine is a status as it is shown: legible, in one line, and of at most
// maxStatus characters.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(legible(s)), " ")
	n := 0
	for i := range s {
		if n++; n == maxStatus {
			if rest := s[i:]; len([]rune(rest)) > 1 {
				return strings.TrimRight(s[:i], " ") + "…"
			}
		}
	}
	return s
}
