package chat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"bio/agent"
)

const (
	maxCalls  = 16       // of tools, in one run
	maxResult = 64 << 10 // bytes of a tool's result
)

// Tool is something that the model may ask for.
type Tool struct {
	Name        string // endpoints take 1 to 64 of a-z, A-Z, 0-9, _ and -
	Title       string // what the person reads when it is asked, as plain text; empty: Name
	Description string // for the model
	// Schema is the JSON Schema of the arguments, an object's; nil: there are none.
	Schema json.RawMessage
}

// Tools are what the model may use: in one run one after the other, and at most
// 16 times. Several runs may use them at once.
type Tools interface {
	// List returns the tools. It is asked at the start of each run; its error ends
	// the run.
	List(ctx context.Context) ([]Tool, error)
	// Call calls the tool that was listed by that name. The arguments are a JSON
	// object that the model wrote: it may be anything, whatever the schema says.
	// The model gets the result, if it is not longer than 64 KiB, and reads it as
	// it reads all text. Of an error it gets to know only that there was one; the
	// log has its text. What the model should know of a failure is a result.
	Call(ctx context.Context, name string, arguments json.RawMessage) (result string, err error)
}

// tool is a [Tool] as endpoints have it.
type tool struct {
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
}

// toolCall is a call that the model makes, or a piece of one.
type toolCall struct {
	Index    int    `json:"index,omitempty"` // in the answer; not sent
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"` // JSON in a string
	} `json:"function"`
	// Extra must come back as it is, for those who send it
	// (https://ai.google.dev/gemini-api/docs/thought-signatures).
	Extra json.RawMessage `json:"extra_content,omitempty"`

	arguments []byte // the pieces of Function.Arguments
}

// list puts the tools into the request.
func (r *run) list(ctx context.Context) error {
	if r.Tools == nil {
		return nil
	}
	tools, err := r.Tools.List(ctx)
	if err != nil {
		return fmt.Errorf("chat: the tools: %w", err)
	}
	r.titles = make(map[string]string, len(tools))
	for _, t := range tools {
		f := function{t.Name, t.Description, t.Schema}
		if f.Parameters == nil {
			f.Parameters = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		if !json.Valid(f.Parameters) {
			return fmt.Errorf("chat: the tools: the schema of %q is not JSON", t.Name)
		}
		r.request.Tools = append(r.request.Tools, tool{"function", f})
		r.titles[t.Name] = cmp.Or(t.Title, t.Name)
	}
	return nil
}

// call adds a piece to the call that it belongs to. What goes beyond the calls of
// one run is dropped, for it would not be made.
func (a *answer) call(piece toolCall) {
	for i := len(a.calls) - 1; i >= 0; i-- {
		c := &a.calls[i]
		// Some endpoints give every call the same index: another id is another call.
		if c.Index != piece.Index || c.ID != "" && piece.ID != "" && c.ID != piece.ID {
			continue
		}
		if c.ID == "" {
			c.ID = piece.ID
		}
		if c.Function.Name == "" { // some repeat it with every piece
			c.Function.Name = piece.Function.Name
		}
		if c.Extra == nil {
			c.Extra = piece.Extra
		}
		c.arguments = append(c.arguments, piece.Function.Arguments...)
		return
	}
	if len(a.calls) < maxCalls {
		piece.arguments = []byte(piece.Function.Arguments)
		a.calls = append(a.calls, piece)
	}
}

// use makes the calls of an answer and adds it and the results to the
// conversation.
func (r *run) use(ctx context.Context, a *answer) error {
	said := message{Role: "assistant", Reasoning: a.reasoning.String(), ToolCalls: a.calls}
	if a.text.Len() > 0 {
		text := a.text.String()
		said.Content = &text
	}
	results := make([]message, len(a.calls))
	for i := range a.calls {
		c := &a.calls[i]
		c.Type, c.Index = "function", 0
		result, err := r.result(ctx, c)
		if err != nil {
			return err
		}
		results[i] = message{Role: "tool", Content: &result, ToolCallID: c.ID}
	}
	r.request.Messages = append(append(r.request.Messages, said), results...)
	return nil
}

// result makes a call, and is what to tell the model of it.
func (r *run) result(ctx context.Context, c *toolCall) (string, error) {
	name, arguments := c.Function.Name, bytes.TrimSpace(c.arguments)
	if len(arguments) == 0 { // as some models write that there are none
		arguments = []byte("{}")
	}
	object := arguments[0] == '{' && json.Valid(arguments)
	if !object {
		arguments = []byte("{}") // endpoints that parse them refuse what is no object
	}
	c.Function.Arguments = string(arguments)
	r.calls++
	title, listed := r.titles[name]
	switch {
	case r.calls > maxCalls:
		return "Not done: there were too many calls. Answer with what you know.", nil
	case !listed:
		return "Not done: there is no tool of that name.", nil
	case !object:
		return "Not done: the arguments are not a JSON object.", nil
	}
	if err := r.emit(agent.Event{Kind: agent.Status, Text: "Asking " + title + "…"}); err != nil {
		return "", err
	}
	result, err := r.Tools.Call(ctx, name, arguments)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		r.Log.LogAttrs(ctx, slog.LevelWarn, "tool",
			slog.String("run", r.in.RunID), slog.String("tool", name), slog.String("error", err.Error()))
		return "The tool failed.", nil
	case len(result) > maxResult:
		return fmt.Sprintf("The result is too long to be passed on: %d bytes of at most %d. Ask for less.", len(result), maxResult), nil
	}
	return result, nil
}
