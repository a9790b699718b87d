package agent

import (
	"fmt"
	"regexp"
)

// Named is an agent with the name that pages, the log and metrics have for it.
type Named struct {
	Name  string
	Agent Agent
}

// Registry holds agents by name, in the order in which pages show them. The zero
// Registry is empty and ready to use; it is filled before the server starts.
type Registry struct{ named []Named }

var agentName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Handle registers an agent, as http.ServeMux does a handler: it panics when the
// name is not 1 to 32 lower-case letters, digits and inner hyphens, is taken, or
// the agent is nil.
func (r *Registry) Handle(name string, a Agent) {
	if !agentName.MatchString(name) || a == nil {
		panic(fmt.Sprintf("agent: %q cannot be registered", name))
	}
	for _, other := range r.named {
		if other.Name == name {
			panic(fmt.Sprintf("agent: %q is registered already", name))
		}
	}
	r.named = append(r.named, Named{name, a})
}

// All returns the agents in the order in which they were registered.
func (r *Registry) All() []Named { return append([]Named(nil), r.named...) }
