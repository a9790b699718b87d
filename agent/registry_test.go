package agent_test

import (
	"context"
	"strings"
	"testing"

	"bio/agent"
)

func TestRegistry(t *testing.T) {
	quiet := agent.Reply(func(context.Context, *agent.Input) (string, error) { return "", nil })
	var r agent.Registry
	for _, name := range []string{"second", "a", "9", "a-b--c", strings.Repeat("a", 32)} {
		r.Handle(name, quiet)
	}
	var names []string
	for _, one := range r.All() {
		names = append(names, one.Name)
	}
	if got, want := strings.Join(names, " "), "second a 9 a-b--c "+strings.Repeat("a", 32); got != want {
		t.Errorf("registered %s, want %s", got, want)
	}
	for _, name := range []string{"", "-", "a-", "-a", "A", "a b", "a_b", "ä", "a\n", strings.Repeat("a", 33), "a"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", name)
				}
			}()
			r.Handle(name, quiet)
		}()
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nil was registered")
			}
		}()
		r.Handle("nil", nil)
	}()
	r.All()[0].Name = "changed"
	if len(r.All()) != 5 || r.All()[0].Name != "second" {
		t.Errorf("it has %v", r.All())
	}
}
