package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"bio/agent"
	"bio/agent/agenttest"
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

// A model does not know of earlier runs. This one does: a layer keeps what was
// asked and answered last, and Context tells it.
func Example_memory() {
	endpoint := httptest.NewServer(http.HandlerFunc(echo)) // in place of a model
	defer endpoint.Close()

	model, err := chat.New(chat.Options{BaseURL: endpoint.URL + "/v1", Model: "llama3.2", Context: recall})
	if err != nil {
		fmt.Println(err)
		return
	}
	friend := agent.Chain(model, remember)

	memory := agenttest.NewMemory() // in the server each person has one
	for _, prompt := range []string{"I planted roses.", "What did I plant?"} {
		for event, err := range friend.Run(context.Background(), &agent.Input{Prompt: prompt, Memory: memory}) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Print(event.Text)
		}
		fmt.Println()
	}
	// Output:
	// I know nothing yet.
	// I know: > Asked: I planted roses. > Answered: I know nothing yet.
}

// recall tells the model what remember has kept.
func recall(ctx context.Context, in *agent.Input) (string, error) {
	last, err := in.Memory.Get(ctx, "last")
	if errors.Is(err, agent.ErrNoMemory) {
		return "", nil // the first time
	}
	return string(last), err
}

// remember keeps the last question and its answer, as far as it is of use.
func remember(next agent.Agent) agent.Agent {
	return agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
		var answer strings.Builder
		for event, err := range next.Run(ctx, in) {
			if err != nil {
				return err
			}
			if event.Kind == agent.Text {
				answer.WriteString(event.Text)
			}
			if err := emit(event); err != nil {
				return err
			}
		}
		last := "Asked: " + in.Prompt + "\nAnswered: " + answer.String()
		return in.Memory.Put(ctx, "last", []byte(last[:min(len(last), 16<<10)]))
	})
}

// echo answers with what it was told of the person.
func echo(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	says := "I know nothing yet."
	if _, known, ok := strings.Cut(asked.Messages[0].Content, "\n\n> "); ok {
		says = "I know: > " + strings.ReplaceAll(known, "\n", " ")
	}
	fmt.Fprintf(w, `{"choices":[{"message":{"content":%q},"finish_reason":"stop"}]}`, says)
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
