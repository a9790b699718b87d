package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"bio/agent"
	"bio/agent/lines"
	"bio/agent/webhook"
)

func Example() {
	// The other side, in any language: one JSON object in, lines out.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request lines.Request
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, "a request is one JSON object", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		fmt.Fprintln(w, `{"kind":"status","text":"Thinking…"}`)
		fmt.Fprintf(w, "Hello, %s.\n", request.User.Name)
		fmt.Fprintln(w, `{"kind":"data","data":{"open":3}}`)
	}))
	defer other.Close()

	a, err := webhook.New(webhook.Options{
		URL:          other.URL, // https, where it is not this machine
		Secret:       []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
		AllowPrivate: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	in := &agent.Input{RunID: "run-1", User: agent.User{Name: "cedar-otter-42"}}
	for event, err := range a.Run(context.Background(), in) {
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		fmt.Printf("%s: %q\n", event.Kind, event.Text+string(event.Data))
	}
	// Output:
	// status: "Thinking…"
	// text: "Hello, cedar-otter-42.\n"
	// data: "{\"open\":3}"
}
