package agent_test

import (
	"context"
	"fmt"
	"iter"

	"bio/agent"
)

// run prints what an agent says, as the page would show it.
func run(a agent.Agent) {
	in := &agent.Input{RunID: "run-1", User: agent.User{Name: "cedar-otter-42"}}
	for event, err := range agent.Guard(0)(a).Run(context.Background(), in) {
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		fmt.Printf("%s %q\n", event.Kind, event.Text)
	}
}

func ExampleEmit() {
	greeter := agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
		if err := emit(agent.Event{Kind: agent.Status, Text: "Looking around…"}); err != nil {
			return err
		}
		for _, word := range []string{"Hello, ", in.User.Name, "."} {
			if err := emit(agent.Event{Text: word}); err != nil {
				return err // the run is over: stopped, cut, or past its deadline
			}
		}
		return nil
	})
	run(greeter)
	// Output:
	// status "Looking around…"
	// text "Hello, "
	// text "cedar-otter-42"
	// text "."
}

func ExampleReply() {
	run(agent.Reply(func(ctx context.Context, in *agent.Input) (string, error) {
		return "Hello, " + in.User.Name + ".", nil
	}))
	// Output: text "Hello, cedar-otter-42."
}

func ExampleFunc() {
	countdown := agent.Func(func(ctx context.Context, in *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for n := 3; n > 0; n-- {
				if !yield(agent.Event{Text: fmt.Sprint(n)}, nil) {
					return
				}
			}
		}
	})
	run(countdown)
	// Output:
	// text "3"
	// text "2"
	// text "1"
}

func ExampleChain() {
	polite := func(next agent.Agent) agent.Agent {
		return agent.Emit(func(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
			for event, err := range next.Run(ctx, in) {
				if err != nil {
					return err
				}
				if err := emit(event); err != nil {
					return err
				}
			}
			return emit(agent.Event{Text: "Have a good day."})
		})
	}
	blunt := agent.Reply(func(context.Context, *agent.Input) (string, error) { return "No news.", nil })
	run(agent.Chain(blunt, polite, agent.Guard(0)))
	// Output:
	// text "No news."
	// text "Have a good day."
}
