package views

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/a-h/templ"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extended "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

const (
	// maxMarks is how many characters that could open or close something a
	// paragraph may have, beyond which it is shown as it is written: what the
	// parser does with them takes time in their square. A hundred links have
	// fewer.
	maxMarks = 256
	// maxDepth is how deep quotes and lists may stand in each other, lists
	// counting twice; and twice that, emphasis and all.
	maxDepth = 24
)

// outline is the levels of the headings above the next one, as the agent wrote
// them. The page's own headings end with h2, and no level is left out below it.
type outline []int

// level is the level on the page of the next heading.
func (o *outline) level(written int) int {
	above := *o
	for len(above) > 0 && above[len(above)-1] >= written {
		above = above[:len(above)-1]
	}
	*o = append(above, written)
	return min(2+len(*o), 6)
}

// markdown writes a block as HTML, which is to pass the policy. The blocks of one
// answer share an outline.
func markdown(block string, headings *outline) string {
	source := []byte(block)
	w := writer{source: source, headings: headings}
	w.children(grammar().Parse(text.NewReader(source)), 0)
	return legible(w.String())
}

// policy is the wall behind the writer, which makes nothing that is not on it.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	blocks := []string{"p", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "pre", "div"}
	p.AllowElements(blocks...)
	p.AllowElements("br", "hr", "li", "code", "em", "strong", "del", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("dir").Matching(regexp.MustCompile(`^auto$`)).OnElements(blocks...)
	p.AllowAttrs("start").Matching(regexp.MustCompile(`^[0-9]{1,9}$`)).OnElements("ol")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^task$`)).OnElements("li")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^(center|right)$`)).OnElements("th", "td")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^wide$`)).OnElements("div")
	p.AllowAttrs("role").Matching(regexp.MustCompile(`^group$`)).OnElements("div")
	p.AllowAttrs("aria-label").Matching(regexp.MustCompile(`^Table$`)).OnElements("div")
	p.AllowAttrs("tabindex").Matching(regexp.MustCompile(`^0$`)).OnElements("div", "pre")
	p.AllowAttrs("href").Matching(regexp.MustCompile(`^(/([^/\\]|$)|https?://[^/\\@])[!-~]*$`)).OnElements("a")
	p.AllowAttrs("rel").Matching(regexp.MustCompile(`^noopener noreferrer nofollow$`)).OnElements("a")
	p.AllowAttrs("dir").Matching(regexp.MustCompile(`^ltr$`)).OnElements("a")
	p.AllowURLSchemes("http", "https")
	p.AllowRelativeURLs(true)
	p.RequireParseableURLs(true)
	return p
})

// grammar is CommonMark with tables, strikethrough, task lists and addresses as
// links (GFM), without HTML, which is text like any other, and without reference
// definitions: they would be unseen, and could stand in another block.
var grammar = sync.OnceValue(func() parser.Parser {
	return parser.NewParser(
		parser.WithBlockParsers(
			util.Prioritized(parser.NewSetextHeadingParser(), 100),
			util.Prioritized(parser.NewThematicBreakParser(), 200),
			util.Prioritized(shallow{parser.NewListParser()}, 300),
			util.Prioritized(parser.NewListItemParser(), 400),
			util.Prioritized(parser.NewCodeBlockParser(), 500),
			util.Prioritized(sober{parser.NewATXHeadingParser()}, 600),
			util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
			util.Prioritized(shallow{parser.NewBlockquoteParser()}, 800),
			util.Prioritized(parser.NewParagraphParser(), 1000),
		),
		parser.WithInlineParsers(
			util.Prioritized(extension.NewTaskCheckBoxParser(), 0),
			util.Prioritized(parser.NewCodeSpanParser(), 100),
			util.Prioritized(parser.NewLinkParser(), 200),
			util.Prioritized(parser.NewAutoLinkParser(), 300),
			util.Prioritized(parser.NewEmphasisParser(), 500),
			util.Prioritized(extension.NewStrikethroughParser(), 500),
			util.Prioritized(extension.NewLinkifyParser(), 999),
		),
		parser.WithParagraphTransformers(
			util.Prioritized(tables{extension.NewTableParagraphTransformer()}, 100),
			util.Prioritized(paragraphs{}, 200),
		),
		parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
	)
})

// shallow is a parser of quotes or lists that opens none below maxDepth.
type shallow struct{ parser.BlockParser }

func (s shallow) Open(parent ast.Node, reader text.Reader, pc parser.Context) (ast.Node, parser.State) {
	depth := 0
	for n := parent; n != nil; n = n.Parent() {
		depth++
	}
	if depth > maxDepth {
		return nil, parser.NoChildren
	}
	return s.BlockParser.Open(parent, reader, pc)
}

// sober is a parser of lines that takes none with more than maxMarks.
type sober struct{ parser.BlockParser }

func (s sober) Open(parent ast.Node, reader text.Reader, pc parser.Context) (ast.Node, parser.State) {
	if line, _ := reader.PeekLine(); marks(line) > maxMarks {
		return nil, parser.NoChildren
	}
	return s.BlockParser.Open(parent, reader, pc)
}

// marks counts what could open or close something inline.
func marks(s []byte) (n int) {
	for _, c := range s {
		switch c {
		case '[', ']', '*', '_', '~':
			n++
		}
	}
	return n
}

// tables makes tables of paragraphs, when no cell has more than maxMarks, and when
// most cells of the table are written: a row may be short of some.
type tables struct{ parser.ParagraphTransformer }

func (t tables) Transform(paragraph *ast.Paragraph, reader text.Reader, pc parser.Context) {
	lines, source := paragraph.Lines(), reader.Source()
	written, columns, escaped := 0, 0, 0
	for i := range lines.Len() {
		segment := lines.At(i)
		line := segment.Value(source)
		if marks(line) > maxMarks {
			return
		}
		written += 1 + bytes.Count(line, []byte("|"))
		escaped += bytes.Count(line, []byte(`\|`))
		if len(bytes.Trim(line, " \t\n|:-")) == 0 {
			columns = max(columns, 1+bytes.Count(line, []byte("|")))
		}
	}
	if columns > 0 && 2*columns*lines.Len() <= 3*written && escaped <= maxMarks {
		t.ParagraphTransformer.Transform(paragraph, reader, pc)
	}
}

// paragraphs puts a plain in the place of a paragraph with more than maxMarks.
type paragraphs struct{}

func (paragraphs) Transform(paragraph *ast.Paragraph, reader text.Reader, _ parser.Context) {
	lines, n := paragraph.Lines(), 0
	for i := range lines.Len() {
		segment := lines.At(i)
		n += marks(segment.Value(reader.Source()))
	}
	if n > maxMarks {
		p := &plain{}
		p.SetLines(lines)
		paragraph.Parent().ReplaceChild(paragraph.Parent(), paragraph, p)
	}
}

// plain is a paragraph that is shown as it is written.
type plain struct{ ast.BaseBlock }

var kindPlain = ast.NewNodeKind("Plain")

func (*plain) Kind() ast.NodeKind              { return kindPlain }
func (*plain) IsRaw() bool                     { return true }
func (p *plain) Dump(source []byte, level int) { ast.DumpHelper(p, source, level, nil, nil) }

// writer writes nodes as HTML. It has Bytes and Len of what it has written.
type writer struct {
	bytes.Buffer
	source   []byte
	headings *outline
	inLink   bool // where another link is text
}

// Buffered and Flush make the buffer a util.BufWriter.
func (w *writer) Buffered() int { return 0 }

// Flush does nothing.
func (w *writer) Flush() error { return nil }

func (w *writer) children(n ast.Node, depth int) {
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		w.node(c, depth+1)
	}
}

// within writes the children in an element; tag is its name and attributes.
func (w *writer) within(tag string, n ast.Node, depth int) {
	if depth > 2*maxDepth {
		w.children(n, depth)
		return
	}
	name, _, _ := strings.Cut(tag, " ")
	w.open(tag, depth)
	w.children(n, depth)
	w.WriteString("</" + name + ">")
}

// open writes the tag that opens an element. What stands in nothing else has a
// direction of its own, that of its first letter.
func (w *writer) open(tag string, depth int) {
	w.WriteString("<" + tag)
	if depth == 1 {
		w.WriteString(` dir="auto"`)
	}
	w.WriteString(">")
}

// node writes n. Of kinds that are not listed, only what stands in them.
func (w *writer) node(n ast.Node, depth int) {
	switch n := n.(type) {
	case *ast.Paragraph:
		w.within("p", n, depth)
	case *plain:
		w.open("p", depth)
		for i := range n.Lines().Len() {
			if i > 0 {
				w.WriteString("<br>")
			}
			segment := n.Lines().At(i)
			html.DefaultWriter.RawWrite(w, bytes.TrimSpace(segment.Value(w.source)))
		}
		w.WriteString("</p>")
	case *ast.Heading:
		w.within("h"+strconv.Itoa(w.headings.level(n.Level)), n, depth)
	case *ast.ThematicBreak:
		w.WriteString("<hr>")
	case *ast.CodeBlock, *ast.FencedCodeBlock:
		w.open(`pre tabindex="0"`, depth)
		w.WriteString("<code>")
		for i := range n.Lines().Len() {
			segment := n.Lines().At(i)
			html.DefaultWriter.RawWrite(w, segment.Value(w.source))
		}
		w.WriteString("</code></pre>")
	case *ast.Blockquote:
		w.within("blockquote", n, depth)
	case *ast.List:
		switch {
		case !n.IsOrdered():
			w.within("ul", n, depth)
		case n.Start == 1:
			w.within("ol", n, depth)
		default:
			w.within(`ol start="`+strconv.Itoa(n.Start)+`"`, n, depth)
		}
	case *ast.ListItem:
		if isTask(n) {
			w.within(`li class="task"`, n, depth)
		} else {
			w.within("li", n, depth)
		}
	case *extended.TaskCheckBox:
		if n.IsChecked {
			w.WriteString("☑ ")
		} else {
			w.WriteString("☐ ")
		}
	case *extended.Table:
		w.table(n, depth)
	case *ast.Text:
		value := n.Segment.Value(w.source)
		if n.IsRaw() {
			html.DefaultWriter.RawWrite(w, value)
		} else {
			html.DefaultWriter.Write(w, value)
		}
		if n.SoftLineBreak() || n.HardLineBreak() {
			w.WriteString("<br>")
		}
	case *ast.String:
		html.DefaultWriter.RawWrite(w, n.Value)
	case *ast.CodeSpan:
		w.WriteString("<code>")
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			value := c.(*ast.Text).Segment.Value(w.source)
			html.DefaultWriter.RawWrite(w, bytes.ReplaceAll(value, []byte("\n"), []byte(" ")))
		}
		w.WriteString("</code>")
	case *ast.Emphasis:
		if n.Level == 2 {
			w.within("strong", n, depth)
		} else {
			w.within("em", n, depth)
		}
	case *extended.Strikethrough:
		w.within("del", n, depth)
	case *ast.Link:
		if w.inLink {
			w.children(n, depth)
			return
		}
		w.inLink = true
		w.link(n, unescaped(n.Destination), depth)
		w.inLink = false
	case *ast.AutoLink:
		to, ok := destination(string(n.URL(w.source)))
		if ok && n.AutoLinkType == ast.AutoLinkURL && !w.inLink {
			w.anchor(to)
		} else {
			html.DefaultWriter.RawWrite(w, n.Label(w.source))
		}
	default:
		w.children(n, depth)
	}
}

// link writes a link: on Bio as its text, when that is words; one that leaves, or
// whose text could be an address, as its text and the whole address; one that goes
// nowhere that is known as both in plain text.
func (w *writer) link(n ast.Node, address string, depth int) {
	before := w.Len()
	w.children(n, depth)
	label := string(bytes.TrimSpace(w.Bytes()[before:]))
	to, ok := destination(address)
	switch {
	case ok && (label == "" || label == templ.EscapeString(to.href)):
		w.Truncate(before)
		w.anchor(to)
	case ok && !to.leaves && isWords(label):
		w.Truncate(before)
		w.WriteString(`<a href="` + templ.EscapeString(to.href) + `">` + label + `</a>`)
	case ok:
		w.WriteString(" (")
		w.anchor(to)
		w.WriteString(")")
	case address != "":
		w.WriteString(" (" + templ.EscapeString(address) + ")")
	}
}

// anchor writes a link as the address to which it goes.
func (w *writer) anchor(to place) {
	href := templ.EscapeString(to.href)
	w.WriteString(`<a href="` + href + `"`)
	if to.leaves {
		w.WriteString(` rel="noopener noreferrer nofollow" dir="ltr"`)
	}
	w.WriteString(">" + href + "</a>")
}

// table writes a table in a box that scrolls, which those who use a keyboard reach.
func (w *writer) table(n *extended.Table, depth int) {
	w.open(`div class="wide" role="group" aria-label="Table" tabindex="0"`, depth)
	w.WriteString("<table>")
	cell, section := "th", "<thead>"
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		w.WriteString(section + "<tr>")
		for c := row.FirstChild(); c != nil; c = c.NextSibling() {
			tag := cell
			switch c.(*extended.TableCell).Alignment {
			case extended.AlignCenter:
				tag += ` class="center"`
			case extended.AlignRight:
				tag += ` class="right"`
			}
			w.within(tag, c, depth+1)
		}
		w.WriteString("</tr>")
		section = ""
		if cell == "th" {
			w.WriteString("</thead>")
			cell, section = "td", "<tbody>"
		}
	}
	if section == "" {
		w.WriteString("</tbody>")
	}
	w.WriteString("</table></div>")
}

// isTask reports whether an item of a list begins with a mark.
func isTask(item *ast.ListItem) bool {
	if first := item.FirstChild(); first != nil {
		_, task := first.FirstChild().(*extended.TaskCheckBox)
		return task
	}
	return false
}
