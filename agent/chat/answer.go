package chat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"

	"bio/agent"
	"bio/agent/lines"
)

// maxEvent bounds one event of the stream, and an answer that is no stream, in
// bytes: a megabyte of text in JSON's longest spelling fits.
const maxEvent = 8 << 20

// completion is an answer, or a piece of one (chat.completion and
// chat.completion.chunk).
type completion struct {
	Choices []struct {
		Delta        delta  `json:"delta"`
		Message      delta  `json:"message"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Error any `json:"error"`
}

// delta is what a piece adds to the answer.
type delta struct {
	Content          string     `json:"content"`
	ReasoningContent string     `json:"reasoning_content"` // DeepSeek, llama.cpp, vLLM
	Reasoning        any        `json:"reasoning"`         // the same with Ollama, newer vLLM and others: a string
	ToolCalls        []toolCall `json:"tool_calls"`
}

// answer is what one answer came to, beside the text that was emitted.
type answer struct {
	text      strings.Builder
	reasoning strings.Builder
	calls     []toolCall
	finish    string // the reason of its end, once it has ended
}

// read reads an answer and emits its text as it comes.
func (r *run) read(body io.Reader) (*answer, error) {
	a, b := new(answer), bufio.NewReader(body)
	// An endpoint that ignores "stream" answers with one object. No event begins so.
	start, err := peek(b)
	if err != nil {
		return nil, transport(ErrBroken, err)
	}
	if start == '{' {
		return a, r.whole(a, b)
	}
	seen := false
	for data, err := range events(b) {
		data = bytes.TrimSpace(data)
		switch {
		case err == lines.ErrTooLong:
			return nil, err
		case err != nil && a.finish == "":
			return nil, transport(ErrBroken, err)
		case err != nil, string(data) == "[DONE]":
			return a, nil
		case len(data) == 0:
			continue
		}
		seen = true
		piece, err := r.parse(data)
		if err != nil {
			return nil, err
		}
		if len(piece.Choices) == 0 { // the count of tokens, say
			continue
		}
		if err := r.take(a, &piece.Choices[0].Delta, piece.Choices[0].FinishReason); err != nil {
			return nil, err
		}
	}
	switch {
	case !seen:
		return nil, ErrProtocol // a page of HTML, say
	case a.finish == "":
		return nil, ErrBroken
	}
	return a, nil
}

// peek returns the next byte, after the white space that keeps some connections
// alive, and leaves it there.
func peek(b *bufio.Reader) (byte, error) {
	for {
		next, err := b.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case bytes.IndexByte([]byte(" \t\r\n"), next) < 0:
			return next, b.UnreadByte()
		}
	}
}

// whole reads an answer that is no stream.
func (r *run) whole(a *answer, body io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(body, maxEvent+1))
	switch {
	case err != nil:
		return transport(ErrBroken, err)
	case len(data) > maxEvent:
		return lines.ErrTooLong
	}
	all, err := r.parse(data)
	switch {
	case err != nil:
		return err
	case len(all.Choices) == 0:
		return ErrProtocol
	}
	return r.take(a, &all.Choices[0].Message, all.Choices[0].FinishReason)
}

func (c *chat) parse(data []byte) (*completion, error) {
	piece := new(completion)
	switch err := json.Unmarshal(data, piece); {
	case err != nil: // its text may quote the data
		return nil, ErrProtocol
	case piece.Error != nil:
		return nil, fmt.Errorf("%w%s", ErrEndpoint, c.reason(piece.Error, ""))
	}
	return piece, nil
}

// take adds a piece to the answer.
func (r *run) take(a *answer, d *delta, finish string) error {
	if reasoning, _ := d.Reasoning.(string); d.ReasoningContent+reasoning != "" {
		if !r.thought {
			r.thought = true
			if err := r.emit(agent.Event{Kind: agent.Status, Text: "Thinking…"}); err != nil {
				return err
			}
		}
		if err := r.spend(len(d.ReasoningContent) + len(reasoning)); err != nil {
			return err
		}
		a.reasoning.WriteString(d.ReasoningContent)
	}
	if d.Content != "" {
		text := d.Content
		if r.said.Len() > 0 && a.text.Len() == 0 { // what it said before it called tools is a paragraph
			text = "\n\n" + text
		}
		a.text.WriteString(d.Content)
		if err := r.say(text); err != nil {
			return err
		}
	}
	for _, piece := range d.ToolCalls {
		f := piece.Function
		if err := r.spend(len(piece.ID) + len(f.Name) + len(f.Arguments) + len(piece.Extra)); err != nil {
			return err
		}
		a.call(piece)
	}
	if finish != "" {
		a.finish = finish
	}
	return nil
}

// say emits text, or as much of it as there is room for.
func (r *run) say(text string) error {
	fits := text
	if int64(len(text)) > r.room {
		fits = strings.ToValidUTF8(text[:r.room], "")
	}
	if fits != "" {
		r.said.WriteString(fits)
		if err := r.emit(agent.Event{Text: fits}); err != nil {
			return err
		}
	}
	return r.spend(len(text))
}

// spend takes n bytes of the room that the model has.
func (r *run) spend(n int) error {
	r.room -= int64(n)
	if r.room < 0 {
		return lines.ErrTooLong
	}
	return nil
}

// events reads server-sent events (HTML Living Standard §9.2.6) and yields the
// data of each, which is good until the next; all else of them is ignored. The
// last thing yielded is an error, if there is one: r's, or [lines.ErrTooLong] for
// an event or a line of more than maxEvent bytes.
func events(r *bufio.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var data, line []byte
		for first, cr := true, false; ; {
			_, err := r.Peek(1) // waits for more
			switch {
			case err == io.EOF: // an event that has no end is none
				return
			case err != nil:
				yield(nil, err)
				return
			case len(data)+len(line) > maxEvent:
				yield(nil, lines.ErrTooLong)
				return
			}
			chunk, _ := r.Peek(r.Buffered())
			if cr && chunk[0] == '\n' { // the second byte of one line end
				r.Discard(1)
				chunk = chunk[1:]
			}
			cr = false
			end := bytes.IndexAny(chunk, "\r\n")
			if end < 0 {
				line = append(line, chunk...)
				r.Discard(len(chunk))
				continue
			}
			line = append(line, chunk[:end]...)
			cr = chunk[end] == '\r'
			r.Discard(end + 1)
			if first {
				line, first = bytes.TrimPrefix(line, []byte("\uFEFF")), false
			}
			field, value, _ := bytes.Cut(line, []byte(":"))
			switch {
			case string(field) == "data":
				data = append(append(data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
			case len(line) == 0 && len(data) > 0:
				if !yield(data[:len(data)-1], nil) {
					return
				}
				data = data[:0]
			}
			line = line[:0]
		}
	}
}
