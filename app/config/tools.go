package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Tools is one entry of BIO_AGENT_TOOLS: an MCP server.
type Tools struct {
	Name    string // unique, [a-z0-9-]
	Command string // a command line, or empty
	URL     string // of a streamable HTTP endpoint, or empty
}

// String is the entry as BIO_AGENT_TOOLS spells it.
func (t Tools) String() string {
	if t.Command != "" {
		return t.Name + "=exec:" + t.Command
	}
	return t.Name + "=" + t.URL
}

var (
	toolName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,23}/(\*|[A-Za-z0-9_.-]{1,64})$`)
	serverName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,23}$`)
)

const toolsMend = "Write MCP servers such as files=exec:mcp-files /srv, web=https://mcp.example.com/mcp."

// agentTools reads the tools of models. Complete says that no agent is missing for a
// problem that it has.
func (l *loader) agentTools(s *Settings, complete bool) {
	good := len(l.problems)
	if v, ok := l.lookup("BIO_AGENT_TOOLS"); ok {
		for n, text := range entries(v) {
			t, wrong, mend := parseTools(text)
			if wrong == "" && slices.ContainsFunc(s.AgentTools, func(other Tools) bool { return other.Name == t.Name }) {
				wrong, mend = "has the name of another one", "Give it another."
			}
			if wrong != "" {
				l.problem("BIO_AGENT_TOOLS", entry(n+1)+" "+wrong, mend)
				continue
			}
			s.AgentTools = append(s.AgentTools, t)
		}
	}
	known := len(l.problems) == good
	unused := !slices.ContainsFunc(s.Agents, func(a Agent) bool { return a.Kind == AgentChat })
	if known && complete && unused && len(s.AgentTools) > 0 {
		l.problem("BIO_AGENT_TOOLS", "has tools for models, and BIO_AGENT names no model", "Add chat:MODEL@BASE_URL there, or unset this one.")
		known = false
	}
	l.agentAllow(s, known)
}

// parseTools reads one entry. What is wrong with it is empty when nothing is.
func parseTools(text string) (t Tools, wrong, mend string) {
	if text == "" {
		return t, "is empty", toolsMend
	}
	name, text, _ := named(text)
	if serverName.MatchString(name) {
		t.Name = name
		command, isCommand := strings.CutPrefix(text, "exec:")
		switch {
		case isCommand:
			t.Command, wrong, mend = parseCommand(command)
			return t, wrong, mend
		case strings.HasPrefix(text, "http"):
			t.URL = text
			wrong, mend = addressOf(text, false)
			return t, wrong, mend
		}
	}
	return t, "is not name=exec:COMMAND or name=https://…, with a name in lower case", toolsMend
}

// agentAllow reads which tools may be used. Known says that their servers are.
func (l *loader) agentAllow(s *Settings, known bool) {
	v, _ := l.lookup("BIO_AGENT_ALLOW")
	empty := true
	for n, item := range list(v) {
		empty = false
		server, _, _ := strings.Cut(item, "/")
		switch {
		case !toolName.MatchString(item):
			l.problem("BIO_AGENT_ALLOW", entry(n)+" is not server/tool or server/*", "Write tools such as files/read, web/*.")
		case known && !slices.ContainsFunc(s.AgentTools, func(t Tools) bool { return t.Name == server }):
			l.problem("BIO_AGENT_ALLOW", entry(n)+" is of no server in BIO_AGENT_TOOLS", "Write the name that the server has there.")
		default:
			s.AgentAllow = append(s.AgentAllow, item)
		}
	}
	if known && empty && len(s.AgentTools) > 0 {
		l.problem("BIO_AGENT_ALLOW", "is empty, so that no tool of BIO_AGENT_TOOLS can be used", fmt.Sprintf("Write the tools that the model may use, such as %s/*.", s.AgentTools[0].Name))
	}
}
