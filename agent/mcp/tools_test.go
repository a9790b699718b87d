//go:build unix

package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent"
	"bio/agent/agenttest"
	"bio/agent/mcp"
)

func TestTools(t *testing.T) {
	weekly := mcp.ModelName("desk", "report.weekly")
	for name, server := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools, log := build(t, server)
			list, err := tools.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []string{}
			for _, tool := range deskTools {
				want = append(want, mcp.ModelName("desk", tool))
			}
			if got := names(list); !slices.Equal(got, want) {
				t.Fatalf("listed %q\n%s", got, log)
			}
			if got := list[3]; got.Description != "This is echo." || string(got.Schema) != `{"properties":{},"type":"object"}` {
				t.Errorf("listed %+v", got)
			}

			for tool, want := range map[string]string{
				"desk__echo":         `{"a":[1,2]}`,
				weekly:               "sunny",
				"desk__capabilities": `{"roots":{}}`, // so the library writes none

				"desk__fails":      "The tool reports an error.\nno water",
				"desk__nothing":    "Done. The tool has nothing to say.",
				"desk__structured": `{"wet":12}`,
				"desk__refuses":    "The tool was not called: no such bed",
				"desk__all": "one\ntwo\n[an image that cannot be shown: image/png, 7 bytes]\n[a sound that cannot be heard: audio/wav, 8 bytes]\n" +
					"[a link to \"beds\": file:///beds]\nthree\n[a file that cannot be shown: file:///b, image/gif, 9 bytes]",
			} {
				if got, err := tools.Call(t.Context(), tool, json.RawMessage(`{"a": [1, 2]}`)); err != nil || got != want {
					t.Errorf("%s: got %q, %v", tool, got, err)
				}
			}
			for _, tool := range []string{"hidden", "none", "report.weekly", "report_weekly", ""} {
				if got, err := call(t, tools, tool); got != "" || !errors.Is(err, mcp.ErrTool) {
					t.Errorf("%q: got %q, %v", tool, got, err)
				}
			}
			if got, err := call(t, tools, "huge"); got != "" || !errors.Is(err, mcp.ErrAnswer) {
				t.Errorf("huge: got %.20q, %v", got, err)
			}
			// A call that comes while the broken session ends may end with it; the one
			// after that has a session of its own.
			got, err := call(t, tools, "nothing")
			if errors.Is(err, mcp.ErrAnswer) {
				got, err = call(t, tools, "nothing")
			}
			if err != nil {
				t.Errorf("after it: got %q, %v", got, err)
			}
			// An older protocol lets a server ask by a request, which is refused.
			older := strings.Contains(name, "sessions")
			if got, err := call(t, tools, "asks"); errors.Is(err, mcp.ErrInput) == older || strings.HasPrefix(got, "The tool was not called: ") != older {
				t.Errorf("asks: got %q, %v", got, err)
			}

			traced := mcp.Trace(agent.Reply(func(ctx context.Context, _ *agent.Input) (string, error) {
				return tools.Call(ctx, "desk__echo", json.RawMessage("{}"))
			}))
			if got := agenttest.Text(t, traced, agent.Input{TraceParent: "00-1-2-01"}); got != "{}00-1-2-01" {
				t.Errorf("traced: got %q", got)
			}

			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped")
			cancel(stopped)
			if _, err := tools.List(ctx); err != stopped {
				t.Errorf("stopped: %v", err)
			}
			if _, err := tools.Call(ctx, "desk__echo", nil); err != stopped {
				t.Errorf("stopped: %v", err)
			}

			if err := tools.Close(); err != nil {
				t.Error(err)
			}
			if _, err := call(t, tools, "echo"); err != mcp.ErrClosed {
				t.Errorf("closed: %v", err)
			}
			if _, err := tools.List(t.Context()); err != mcp.ErrClosed {
				t.Errorf("closed: %v", err)
			}
			for line := range strings.Lines(log.String()) {
				if !strings.HasSuffix(line, `msg="an MCP tool reports an error" server=desk tool=desk__fails`+"\n") &&
					!strings.Contains(line, `msg="an MCP server refused a call" server=desk tool=desk__`) {
					t.Errorf("logged %s", line)
				}
			}
		})
	}
}

// TestList has lists that are cut, and servers that are left out.
func TestList(t *testing.T) {
	many := sdk.NewServer(&sdk.Implementation{Name: "many", Version: "1"}, &sdk.ServerOptions{PageSize: 20})
	handle := func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{}, nil
	}
	for i := range mcp.MaxTools + 1 {
		many.AddTool(&sdk.Tool{Name: fmt.Sprintf("t%03d", i), InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{}}}`)}, handle)
	}
	many.AddTool(&sdk.Tool{Name: "long", Description: strings.Repeat(secret, mcp.MaxTool), InputSchema: json.RawMessage(`{"type":"object"}`)}, handle)
	first := serve(t, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return many }, nil))
	first.Name = "many"
	gone := httptest.NewServer(nil)
	gone.Close()
	tools, log := buildAll(t, mcp.Options{
		Servers: []mcp.Server{{Name: "gone", URL: gone.URL, AllowPrivate: true}, program(t, "desk"), first},
		Allow:   []string{"gone/*", "many/*", "desk/echo", "desk/eco"},
	})
	for range 2 {
		list, err := tools.List(t.Context())
		if err != nil || len(list) != mcp.MaxTools || list[0].Name != "desk__echo" || list[1].Name != "many__t000" ||
			string(list[1].Schema) != `{"properties":{"a":{}},"type":"object"}` {
			t.Errorf("got %q, %v", names(list), err)
		}
	}
	for _, want := range []string{
		`"an MCP server is left out" server=gone error="mcp: no answer from the server: dial`,
		`"an MCP tool is left out" server=many tool=many__long`,
		`"some MCP tools are left out" tools=130 most=128`,
		`"an MCP server does not have a tool that is allowed" server=desk tool=eco`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "tool=eco"); n != 1 {
		t.Errorf("logged %d times that it is misspelt", n)
	}
}
