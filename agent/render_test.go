package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/a-h/templ"

	"bio/agent"
)

func TestRender(t *testing.T) {
	writes := func(pieces ...string) templ.Component {
		return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
			for _, piece := range pieces {
				_, _ = io.WriteString(w, piece) // as one that does not care
			}
			return nil
		})
	}
	most := strings.Repeat("a", agent.MaxView)
	for name, test := range map[string]struct {
		event agent.Event
		want  string
		err   error
	}{
		"html":             {agent.Event{Kind: agent.View, View: writes("<p>", "a</p>")}, "<p>a</p>", nil},
		"nothing":          {agent.Event{Kind: agent.View, View: writes()}, "", nil},
		"invalid UTF-8":    {agent.Event{Kind: agent.View, View: writes("a\xff")}, "a\uFFFD", nil},
		"as much as fits":  {agent.Event{Kind: agent.View, View: writes(most)}, most, nil},
		"too much":         {agent.Event{Kind: agent.View, View: writes(most, "b")}, "", agent.ErrEvent},
		"after too much":   {agent.Event{Kind: agent.View, View: writes(most+"b", "c")}, "", agent.ErrEvent},
		"error":            {agent.Event{Kind: agent.View, View: templ.ComponentFunc(func(_ context.Context, w io.Writer) error { fmt.Fprint(w, "<p>"); return errBroken })}, "", errBroken},
		"panic":            {agent.Event{Kind: agent.View, View: templ.ComponentFunc(func(_ context.Context, w io.Writer) error { fmt.Fprint(w, "<p>"); panic(errBroken) })}, "", errBroken},
		"no component":     {agent.Event{Kind: agent.View}, "", agent.ErrEvent},
		"of another kind":  {agent.Event{Text: "a", View: writes("a")}, "", agent.ErrEvent},
		"of no known kind": {agent.Event{Kind: 9, View: writes("a")}, "", agent.ErrEvent},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := agent.Render(t.Context(), test.event)
			if string(got) != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if _, panicked := errors.AsType[*agent.PanicError](err); panicked != (name == "panic") {
				t.Errorf("got %#v", err)
			}
		})
	}
}

func ExampleRender() {
	greeting := templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "<p>Hello.</p>")
		return err
	})
	html, err := agent.Render(context.Background(), agent.Event{Kind: agent.View, View: greeting})
	fmt.Println(string(html), err)
	// Output: <p>Hello.</p> <nil>
}
