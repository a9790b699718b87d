package chat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bio/agent"
	"bio/agent/internal/outward"
	"bio/agent/internal/sse"
	"bio/agent/lines"
)

// completion is an answer, or a piece of one (chat.completion and
// chat.completion.chunk).
type completion struct {
	Choices []choice `json:"choices"`
	Error   any      `json:"error"`
}

type choice struct {
	Index        int    `json:"index"`
	Delta        delta  `json:"delta"`
	Message      delta  `json:"message"`
	FinishReason string `json:"finish_reason"`
}

// first returns the choice that was asked for, there being others with some
// endpoints, or nil.
func (c *completion) first() *choice {
	i := slices.IndexFunc(c.Choices, func(c choice) bool { return c.Index == 0 })
	if i < 0 {
		return nil
	}
	return &c.Choices[i]
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

// read reads an answer and emits its text as it comes. Of what follows a reason to
// end it waits a moment for more: some endpoints give every piece one.
func (r *run) read(body io.ReadCloser) (*answer, error) {
	a, b := new(answer), bufio.NewReader(sse.Cap(body, r.most()))
	// An endpoint that ignores "stream" answers with one object. No event begins so.
	start, err := peek(b)
	if err != nil {
		return nil, broken(err)
	}
	if start == '{' {
		return a, r.whole(a, b)
	}
	seen := false
	var end *time.Timer
	for data, err := range sse.Events(b) {
		data = bytes.TrimSpace(data)
		switch {
		case err != nil && a.finish != "" && err != lines.ErrTooLong, string(data) == "[DONE]":
			return a, nil
		case err != nil:
			return nil, broken(err)
		case len(data) == 0:
			continue
		}
		seen = true
		piece, err := r.parse(data)
		switch {
		case err != nil && a.finish != "":
			return a, nil
		case err != nil:
			return nil, err
		}
		c := piece.first()
		if c == nil { // the count of tokens, say
			continue
		}
		if err := r.take(a, &c.Delta, c.FinishReason); err != nil {
			return nil, err
		}
		switch {
		case a.finish == "":
		case end == nil:
			end = time.AfterFunc(r.grace, func() { body.Close() })
			defer end.Stop()
		default:
			end.Reset(r.grace)
		}
	}
	switch {
	case a.finish != "":
		return a, nil
	case !seen:
		return nil, ErrProtocol // a page of HTML, say
	}
	return nil, ErrBroken
}

// most is how many bytes an answer may have, comments, counts and all else that is
// not the model's words included: some 300 come for a token of four.
func (r *run) most() int64 { return 100*min(r.room, 1<<40) + sse.MaxEvent }

// broken is the error of an answer whose body has one.
func broken(err error) error {
	if err == lines.ErrTooLong {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBroken, outward.Reason(err))
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

// whole reads an answer that is no stream, and not what may follow it.
func (r *run) whole(a *answer, body io.Reader) error {
	var data json.RawMessage
	err := json.NewDecoder(sse.Cap(body, sse.MaxEvent)).Decode(&data)
	if _, ok := errors.AsType[*json.SyntaxError](err); ok { // its text may quote the data
		return ErrProtocol
	}
	if err != nil {
		return broken(err)
	}
	all, err := r.parse(data)
	if err != nil {
		return err
	}
	c := all.first()
	if c == nil {
		return ErrProtocol
	}
	return r.take(a, &c.Message, c.FinishReason)
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
