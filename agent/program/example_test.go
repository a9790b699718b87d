//go:build unix

package program_test

import (
	"context"
	"fmt"

	"bio/agent"
	"bio/agent/program"
)

func Example() {
	command, err := program.Split(`sh -c 'echo "{\"kind\":\"status\",\"text\":\"Looking around…\"}"; echo Hello.'`)
	if err != nil {
		panic(err)
	}
	greeter, err := program.New(program.Options{Command: command})
	if err != nil {
		panic(err)
	}
	for event, err := range greeter.Run(context.Background(), &agent.Input{}) {
		fmt.Printf("%s %q %v\n", event.Kind, event.Text, err)
	}
	// Output:
	// status "Looking around…" <nil>
	// text "Hello.\n" <nil>
}
