package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent"
	"bio/agent/chat"
	"bio/agent/mcp"
)

func Example() {
	garden := httptest.NewServer(newGarden())
	defer garden.Close()

	tools, err := mcp.New(mcp.Options{
		Servers: []mcp.Server{{
			Name:         "garden",
			URL:          garden.URL, // or Command: []string{"garden-mcp", "--read-only"}
			AllowPrivate: true,
		}},
		Allow: []string{"garden/soil"}, // and not garden/dig
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tools.Close()

	gardener, err := chat.New(chat.Options{BaseURL: "http://localhost:11434/v1", Model: "llama3.2", Tools: tools})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = agent.Chain(gardener, mcp.Trace) // is the agent for app/hook.go

	// What the model is shown and does:
	list, err := tools.List(context.Background())
	fmt.Println(len(list), list[0].Name, err)
	result, err := tools.Call(context.Background(), "garden__soil", json.RawMessage(`{"bed":"roses"}`))
	fmt.Println(result, err)
	// Output:
	// 1 garden__soil <nil>
	// The roses are at 12 %. <nil>
}

// newGarden is an MCP server.
func newGarden() http.Handler {
	type bed struct {
		Bed string `json:"bed"`
	}
	server := sdk.NewServer(&sdk.Implementation{Name: "garden", Version: "1"}, nil)
	say := func(what string) sdk.ToolHandlerFor[bed, any] {
		return func(_ context.Context, _ *sdk.CallToolRequest, in bed) (*sdk.CallToolResult, any, error) {
			text := &sdk.TextContent{Text: fmt.Sprintf("The %s %s", in.Bed, what)}
			return &sdk.CallToolResult{Content: []sdk.Content{text}}, nil, nil
		}
	}
	sdk.AddTool(server, &sdk.Tool{Name: "soil", Description: "How wet the soil of a bed is."}, say("are at 12 %."))
	sdk.AddTool(server, &sdk.Tool{Name: "dig", Description: "Digs a bed up."}, say("are no more."))
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil)
}
