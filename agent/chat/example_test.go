package chat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"bio/agent"
	"bio/agent/chat"
)

// garden is what the model may look at.
type garden struct{}

func (garden) List(context.Context) ([]chat.Tool, error) {
	return []chat.Tool{{
		Name:        "soil",
		Description: "How wet the soil of a bed is, in percent.",
		Schema:      json.RawMessage(`{"type":"object","properties":{"bed":{"type":"string"}},"required":["bed"]}`),
	}}, nil
}

func (garden) Call(_ context.Context, _ string, arguments json.RawMessage) (string, error) {
	var asked struct{ Bed string }
	if err := json.Unmarshal(arguments, &asked); err != nil || asked.Bed != "roses" {
		return "There is no such bed. There is: roses.", nil
	}
	return "12", nil
}

func Example() {
	// In place of a model: http://localhost:11434/v1 is Ollama's.
	endpoint := httptest.NewServer(http.HandlerFunc(pretend))
	defer endpoint.Close()

	gardener, err := chat.New(chat.Options{
		BaseURL: endpoint.URL + "/v1",
		Model:   "llama3.2",
		Context: func(ctx context.Context, in *agent.Input) (string, error) {
			return in.User.Name + " grows roses.", nil
		},
		Tools: garden{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	in := &agent.Input{User: agent.User{Name: "cedar-otter-42"}, Prompt: "Must I water?"}
	for event, err := range gardener.Run(context.Background(), in) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %q\n", event.Kind, event.Text)
	}
	// Output:
	// status "Asking soil…"
	// text "Yes: "
	// text "the roses are at 12 %."
}

// pretend answers as a model would that looks before it speaks.
func pretend(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	last := asked.Messages[len(asked.Messages)-1]
	w.Header().Set("Content-Type", "text/event-stream")
	if last.Role == "user" {
		fmt.Fprint(w, `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"soil","arguments":"{\"bed\":"}}]}}]}`+"\n\n")
		fmt.Fprint(w, `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"roses\"}"}}]},"finish_reason":"tool_calls"}]}`+"\n\n")
	} else {
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"Yes: "}}]}`+"\n\n")
		fmt.Fprintf(w, `data: {"choices":[{"delta":{"content":"the roses are at %s %%."},"finish_reason":"stop"}]}`+"\n\n", last.Content)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}
