package lines_test

import (
	"fmt"
	"strings"

	"bio/agent"
	"bio/agent/lines"
)

func Example() {
	answer := strings.NewReader(`{"kind":"status","text":"Looking around…"}
Hello, otter.
{"kind":"data","data":{"passkeys":2}}
{"kind":"view","text":"<b>not from here</b>"}
`)
	err := lines.Read(answer, 0, func(event agent.Event) error {
		_, err := fmt.Printf("%s: %q%s\n", event.Kind, event.Text, event.Data)
		return err
	})
	fmt.Println(err)
	// Output:
	// status: "Looking around…"
	// text: "Hello, otter.\n"
	// data: ""{"passkeys":2}
	// text: "{\"kind\":\"view\",\"text\":\"<b>not from here</b>\"}\n"
	// <nil>
}
