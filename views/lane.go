package views

import (
	"cmp"
	"context"
	"io"
	"strings"

	"github.com/a-h/templ"

	"bio/agent"
)

const (
	// maxStretch is how many bytes of lines that are shown as they are written
	// stand together. Each that comes lets the browser lay out all of them anew.
	maxStretch = 4 << 10
	// asidesAtPace is how many tails and statuses a page takes as they come.
	asidesAtPace = 64
)

// follow sends what is there, then what comes, as it comes.
func follow(w *Work) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, out io.Writer) error {
		if err := templ.Flush().Render(ctx, out); err != nil {
			return err
		}
		asides := 0
		lanes := make([]lane, len(w.Runs))
		for i := range lanes {
			lanes[i].out, lanes[i].live, lanes[i].asides = out, w.Runs[i].Status == "running", &asides
			if len(lanes) > 1 {
				lanes[i].slot, lanes[i].stop = slot(i), stopSlot(i)
			}
		}
		for i, events := range w.Events {
			l := &lanes[i]
			if len(events) == 0 {
				l.end(ctx, w.Runs[i].Final)
			} else {
				l.batch(ctx, events)
			}
			if err := cmp.Or(ctx.Err(), l.err); err != nil {
				return err
			}
			if err := templ.Flush().Render(ctx, out); err != nil {
				return err
			}
		}
		// Of a run that goes on without this page: what it said last.
		for i := range lanes {
			if l := &lanes[i]; l.live && !l.ended && oneLine(l.status) != l.shown {
				l.render(ctx, piece(agent.Event{Kind: agent.Status, Text: oneLine(l.status)}, l.slot))
				if l.err != nil {
					return l.err
				}
			}
		}
		return nil
	})
}

// lane writes the events of one run. What is complete of the text that comes at
// once is one element, or one for each part below a heading.
type lane struct {
	out      io.Writer
	err      error  // the first of out
	slot     string // its place, or empty: the only one
	stop     string // the place of the button that stops it, or empty
	live     bool   // it goes on when the page begins: else there are neither tails nor statuses
	asides   *int   // how many of these the page has
	text     blocks
	headings outline
	markup   strings.Builder // of blocks that are complete
	plain    strings.Builder // of what comes after them as it is written
	reading  reading         // of that
	stretch  int             // how long that is by now
	status   string          // the last that came
	shown    string          // the last that was written
	passed   int             // how often something came since then
	ended    bool
}

// batch writes events that come together. The text is written as blocks of it are
// complete, and of the statuses the last: they stand beside the text, and do not end
// a block. A status that comes alone and again is a sign of life.
func (l *lane) batch(ctx context.Context, events []agent.Event) {
	alive := len(events) == 1 && events[0].Kind == agent.Status && events[0].Text == l.status
	for _, e := range events {
		switch e.Kind {
		case agent.Status:
			l.status = e.Text
		case agent.Data, agent.View, agent.Approval:
			l.text.end(l.block)
			l.complete()
			if e.Kind == agent.Data && !l.affords(e.Data) {
				l.write(`<div data-kind="data"` + l.place() + `><pre tabindex="0">` + templ.EscapeString(legible(string(e.Data))) + "</pre></div>")
			} else {
				l.render(ctx, piece(e, l.slot))
			}
		default:
			l.text.add(e.Text, l.block)
		}
	}
	l.complete()
	if l.live && !l.ended {
		l.beside(ctx, alive)
	}
}

// end writes what is left of the text, and how the run ended.
func (l *lane) end(ctx context.Context, how func() (status, sentence string)) {
	if l.ended {
		return
	}
	l.ended = true
	l.text.end(l.block)
	l.complete()
	status, sentence := how()
	l.render(ctx, final(status, sentence, l.slot, l.stop))
}

// block takes a block that is complete, or what is not to be cut into blocks.
func (l *lane) block(source string) {
	if l.text.plain {
		l.lines(source)
		return
	}
	made := markdown(source, &l.headings)
	if isHeading(made) {
		l.complete()
	}
	l.markup.WriteString(made)
}

// isHeading reports whether what markdown made begins with a heading.
func isHeading(made string) bool {
	return len(made) > 2 && made[1] == 'h' && made[2] != 'r'
}

// affords counts data as parts of the run, of which maxParts are more than text: what
// is shown beyond is the JSON as it is.
func (l *lane) affords(data []byte) bool {
	all, shown := entries(data)
	l.text.parts += blockParts + shown + all/6
	return l.text.parts <= maxParts
}

// entries counts what arrays and objects have in JSON, and what of it is shown:
// maxRows of each that is not deeper than maxTree.
func entries(data []byte) (all, shown int) {
	var at []int // which entry it is, of each array and object around it
	beyond := 0  // how deep the one is of which enough is shown
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			continue
		case '[', '{':
			at = append(at, 0)
		case ']', '}':
			if beyond == len(at) {
				beyond = 0
			}
			at = at[:max(len(at)-1, 0)]
			continue
		case ',':
			if len(at) == 0 {
				return all, shown // it is not JSON
			}
			if at[len(at)-1]++; at[len(at)-1] == maxRows && beyond == 0 {
				beyond = len(at)
			}
		default:
			continue
		}
		if all++; beyond == 0 && len(at) <= maxTree {
			shown++
		}
	}
	return all, shown
}

// lines takes text that is shown as it is written. An element between two lines,
// in which is nothing, ends what stands together.
func (l *lane) lines(source string) {
	for source != "" {
		n := len(source)
		if from := max(maxStretch-l.stretch, 0); from < n {
			if i := strings.IndexByte(source[from:], '\n'); i >= 0 {
				n = from + i + 1
			}
		}
		l.plain.WriteString(templ.EscapeString(l.reading.take(source[:n])))
		if l.stretch += n; l.stretch > maxStretch && source[n-1] == '\n' {
			l.complete()
			l.write("<div" + l.place() + "></div>")
			l.stretch = 0
		}
		source = source[n:]
	}
}

// complete writes the text that was taken. What is not Markdown is a tail that
// nothing follows, so that it stays.
func (l *lane) complete() {
	if l.markup.Len() > 0 {
		l.write(`<div data-kind="text"` + l.place() + ">" + policy().Sanitize(l.markup.String()) + "</div>")
	}
	if l.plain.Len() > 0 {
		l.write(`<span data-kind="text"` + l.place() + `><span class="tail">` + l.plain.String() + "</span></span>")
	}
	l.markup.Reset()
	l.plain.Reset()
}

// beside writes what is seen until something takes its place: the status, and what
// has come of a block that is not complete, which the style sheet takes away when
// the next comes, or the block. It asks each of them about all that follows, so that
// the more there were, the more has to come before the next is written; or a sign of
// life.
func (l *lane) beside(ctx context.Context, alive bool) {
	l.passed++
	least := *l.asides / asidesAtPace
	least *= least
	switch status := oneLine(l.status); {
	case status == l.shown:
		l.passed = 0
		if alive {
			l.write("\n")
		}
	case alive || l.passed > least/16:
		l.shown, l.passed = status, 0
		l.render(ctx, piece(agent.Event{Kind: agent.Status, Text: status}, l.slot))
		*l.asides++
	default: // it is held back, and may be what keeps the connection
		l.write("\n")
	}
	if alive {
		least = 0
	}
	if tail := l.text.tail(least); tail != "" {
		l.write(`<span class="tail" aria-hidden="true"` + l.place() + ">" + templ.EscapeString(legible(tail)) + "</span>")
		*l.asides++
	}
}

func (l *lane) place() string {
	if l.slot == "" {
		return ""
	}
	return ` slot="` + l.slot + `"`
}

func (l *lane) write(s string) {
	if l.err == nil {
		_, l.err = io.WriteString(l.out, s)
	}
}

func (l *lane) render(ctx context.Context, c templ.Component) {
	if l.err == nil {
		l.err = c.Render(ctx, l.out)
	}
}
