package chat

import (
	"regexp"
	"strings"
)

// cuts says by the reason of the end that an answer is not whole.
var cuts = map[string]string{
	"length":         "Cut here: the answer reached its limit of tokens.",
	"content_filter": "Cut here: the model's provider withheld the rest.",
}

// ending is what to add to the text that was said, so that cut is a paragraph of
// its own after it, wherever it stops.
func ending(said, cut string) string {
	cut = "*" + cut + "*"
	if said == "" {
		return cut
	}
	if fence := openFence(said); fence != "" {
		cut = fence + "\n\n" + cut
		if strings.HasSuffix(said, "\n") {
			return cut
		}
		return "\n" + cut
	}
	return "\n\n" + cut
}

var (
	lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")
	listItem = regexp.MustCompile(`^ {0,3}([-+*]|[0-9]{1,9}[.)])[ \t\n]`)
)

// openFence returns the marks of the fence (CommonMark §4.5) that is open at the
// end of the text, or "". One within a list does not count: a paragraph that is
// not indented ends both.
func openFence(text string) (fence string) {
	begun := false // the block has a line
	loose := false // it is a list, or indented code, and may go on after a blank line
	blank := false // the last line was one
	for line := range strings.Lines(lineEnds.Replace(text) + "\n") {
		body := strings.TrimSpace(line)
		space := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		indent := len(space)
		if strings.Contains(space, "\t") { // which goes on to the fourth column, or further
			indent = max(indent, 4)
		}
		switch {
		case fence != "":
			if indent < 4 && len(body) >= len(fence) && strings.Trim(body, fence[:1]) == "" {
				fence = ""
			}
			continue
		case body == "":
			begun, blank = loose, true
			continue
		case blank && indent == 0 && !listItem.MatchString(line):
			begun, loose = false, false
		}
		blank = false
		switch marks := fenceMarks(body); {
		case marks != "" && (indent < 2 || indent < 4 && !loose):
			fence, loose = marks, false
		case listItem.MatchString(line), !begun && indent >= 4:
			loose = true
		}
		begun = true
	}
	return fence
}

// fenceMarks is the marks with which a line, without the space around it, opens a
// fence, or "".
func fenceMarks(body string) string {
	marks := body[:len(body)-len(strings.TrimLeft(body, body[:1]))]
	if len(marks) >= 3 && (marks[0] == '~' || marks[0] == '`' && !strings.Contains(body[len(marks):], "`")) {
		return marks
	}
	return ""
}
