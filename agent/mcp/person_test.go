package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestTitle(t *testing.T) {
	long, hash := strings.Repeat("ü", maxTitle), modelName("mine", "a\u202eb")
	annotated := func(title string) *sdk.ToolAnnotations { return &sdk.ToolAnnotations{Title: title} }
	for name, test := range map[string]struct {
		offered sdk.Tool
		want    string
	}{
		"a name":                    {sdk.Tool{Name: "echo"}, "mine/echo"},
		"a title":                   {sdk.Tool{Name: "echo", Title: "The echo", Annotations: annotated("no")}, "The echo"},
		"a title beside it":         {sdk.Tool{Name: "echo", Annotations: annotated("The écho")}, "The écho"},
		"no title beside it":        {sdk.Tool{Name: "echo", Annotations: annotated("")}, "mine/echo"},
		"space around it":           {sdk.Tool{Name: "echo", Title: " \tThe echo\n"}, "The echo"},
		"only space":                {sdk.Tool{Name: "echo", Title: " \n"}, "mine/echo"},
		"a line end":                {sdk.Tool{Name: "echo", Title: "The\necho"}, "mine/echo"},
		"a mark that reorders":      {sdk.Tool{Name: "echo", Title: "The \u202eecho", Annotations: annotated("Echo")}, "Echo"},
		"not UTF-8":                 {sdk.Tool{Name: "echo", Title: "\xff"}, "mine/echo"},
		"the longest":               {sdk.Tool{Name: "echo", Title: long}, long},
		"too long":                  {sdk.Tool{Name: "echo", Title: long + "x"}, "mine/echo"},
		"a name that is not plain":  {sdk.Tool{Name: "a\u202eb"}, hash},
		"a name of other letters":   {sdk.Tool{Name: "été.1"}, "mine/été.1"},
		"a name that is very long":  {sdk.Tool{Name: strings.Repeat("a", 999)}, modelName("mine", strings.Repeat("a", 999))},
		"a title for a strange one": {sdk.Tool{Name: "\x00", Title: "The echo"}, "The echo"},
	} {
		if got := title("mine", &test.offered); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// FuzzTitle shows that a title is one short line that can be read.
func FuzzTitle(f *testing.F) {
	f.Add("The echo", "", "echo")
	f.Add("", "\u200f\u2066", "\r\n")
	f.Add(strings.Repeat("a", 65), "\xff\ufffd", strings.Repeat("b", 65))
	f.Fuzz(func(t *testing.T, given, annotated, name string) {
		got := title("mine", &sdk.Tool{Name: name, Title: given, Annotations: &sdk.ToolAnnotations{Title: annotated}})
		if got == "" || utf8.RuneCountInString(got) > maxTitle || strings.ContainsFunc(got, unprintable) {
			t.Errorf("%q, %q and %q are %q", given, annotated, name, got)
		}
	})
}

// What a person reads and the log gets is not what the model gets.
func TestPerson(t *testing.T) {
	garden := sdk.NewServer(&sdk.Implementation{Name: "garden", Version: "1"}, nil)
	add := func(tool sdk.Tool, result *sdk.CallToolResult, err error) {
		tool.InputSchema = json.RawMessage(`{"type":"object"}`)
		garden.AddTool(&tool, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) { return result, err })
	}
	dry := []sdk.Content{&sdk.TextContent{Text: "no water"}}
	add(sdk.Tool{Name: "dig"}, nil, errors.New("no spade"))
	add(sdk.Tool{Name: "soil", Title: "Soil of a bed"}, &sdk.CallToolResult{}, nil)
	add(sdk.Tool{Name: "water", Annotations: &sdk.ToolAnnotations{Title: "Watering"}}, &sdk.CallToolResult{IsError: true, Content: dry}, nil)
	server := httptest.NewServer(sdk.NewStreamableHTTPHandler(
		func(*http.Request) *sdk.Server { return garden }, &sdk.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	defer server.Close()

	var log strings.Builder
	tools, err := New(Options{
		Servers: []Server{{Name: "garden", URL: server.URL, AllowPrivate: true}}, Allow: []string{"garden/*"},
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tools.Close()
	list, err := tools.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("got %v, %v", list, err)
	}
	for i, want := range []struct{ name, title, description, result string }{
		{"garden__dig", "garden/dig", "", "The tool was not called: no spade"},
		{"garden__soil", "Soil of a bed", "Soil of a bed", "Done. The tool has nothing to say."},
		{"garden__water", "Watering", "", "The tool reports an error.\nno water"},
	} {
		if got := list[i]; got.Name != want.name || got.Title != want.title || got.Description != want.description {
			t.Errorf("listed %+v, want %+v", got, want)
		}
		if got, err := tools.Call(t.Context(), want.name, nil); got != want.result || err != nil {
			t.Errorf("%s: got %q, %v", want.name, got, err)
		}
	}
	if got, want := log.String(), `level=WARN msg="an MCP server refused a call" server=garden tool=garden__dig code=0
level=WARN msg="an MCP tool reports an error" server=garden tool=garden__water
`; got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}
