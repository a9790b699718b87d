package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How an agent is reached.
const (
	AgentBrief   = "brief"   // the one in the box, or those of app/hook.go
	AgentExec    = "exec"    // a program
	AgentWebhook = "webhook" // a URL
	AgentChat    = "chat"    // a model behind an OpenAI-compatible endpoint
)

// Agent is one entry of BIO_AGENT.
type Agent struct {
	Name    string // on pages, in the log and in metrics: unique, [a-z0-9-]
	Kind    string // one of the above
	Command string // of AgentExec: a command line
	URL     string // of AgentWebhook, and the base of AgentChat
	Model   string // of AgentChat
}

// String is the entry as BIO_AGENT spells it.
func (a Agent) String() string {
	switch a.Kind {
	case AgentExec:
		return a.Name + "=exec:" + a.Command
	case AgentWebhook:
		return a.Name + "=" + a.URL
	case AgentChat:
		return a.Name + "=chat:" + a.Model + "@" + a.URL
	}
	return AgentBrief
}

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

// maxAgents is how many agents one page can show at once.
const maxAgents = 8

var (
	// A comma stands between two entries only where one begins behind it, so that
	// commands and addresses may have commas of their own.
	entryStart = regexp.MustCompile(`,\s*(?:[a-z0-9-]+=)?(?:brief\s*(?:,|$)|exec:|https?://|chat:)`)
	entryName  = regexp.MustCompile(`^([a-z0-9-]{1,32})=`)
	toolName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,23}/(\*|[A-Za-z0-9_.-]{1,64})$`)
	serverName = regexp.MustCompile(`^([a-z][a-z0-9-]{0,23})=`)
	notName    = regexp.MustCompile(`[^a-z0-9]+`)
)

const agentMend = "Write brief, exec:COMMAND, https://…, or chat:MODEL@BASE_URL; several with commas between them, each as name=…."

// entries cuts a list of agents or tools.
func entries(v string) []string {
	var all []string
	for {
		v = strings.TrimSpace(v)
		at := entryStart.FindStringIndex(v)
		if at == nil {
			break
		}
		all, v = append(all, strings.TrimSpace(v[:at[0]])), v[at[0]+1:]
	}
	return append(all, strings.TrimSpace(v))
}

func (l *loader) agents(s *Settings) {
	for n, text := range entries(l.value("BIO_AGENT")) {
		a, wrong := l.agent(text)
		switch {
		case wrong == "" && slices.ContainsFunc(s.Agents, func(b Agent) bool { return a.Name == b.Name }):
			wrong = "has the name of another one"
		case wrong == "" && n >= maxAgents:
			wrong = "is one too many for a page"
		}
		if wrong != "" {
			l.problem("BIO_AGENT", entry(n+1)+" "+wrong, agentMend)
			continue
		}
		s.Agents = append(s.Agents, a)
	}
	s.AgentTimeout = l.duration("BIO_AGENT_TIMEOUT", time.Second, time.Hour)
	if key, ok := l.lookup("BIO_AGENT_KEY"); ok {
		s.AgentKey = Secret(strings.TrimRight(key, "\r\n"))
		if !headerWord(s.AgentKey) {
			l.problem("BIO_AGENT_KEY", "is not a key of at least 8 printable characters without spaces", "Copy it again, on one line.")
		}
	}
	s.AgentSystem, _ = l.lookup("BIO_AGENT_SYSTEM")
	s.AgentContext = oneOf(l, "BIO_AGENT_CONTEXT", agentContextOff, agentContextTrail) == agentContextTrail
	s.AgentPrivate = oneOf(l, "BIO_AGENT_PRIVATE", "no", "yes") == "yes"
	var err error
	if s.AgentTokens, err = strconv.Atoi(l.value("BIO_AGENT_TOKENS")); err != nil || s.AgentTokens < 1 || s.AgentTokens > 1_000_000 {
		l.problem("BIO_AGENT_TOKENS", "is not a number from 1 to 1000000", "Write one such as 4096.")
	}
	l.agentTools(s)
}

// headerWord reports whether a header can hold the key. A pattern of its length
// would take milliseconds of every start.
func headerWord(key []byte) bool {
	return len(key) >= 8 && len(key) <= 4096 && !slices.ContainsFunc(key, func(b byte) bool { return b <= ' ' || b > '~' })
}

const (
	agentContextOff   = "off"
	agentContextTrail = "trail"
)

// agent reads one entry.
func (l *loader) agent(text string) (a Agent, wrong string) {
	if name := entryName.FindStringSubmatch(text); name != nil {
		a.Name, text = name[1], text[len(name[0]):]
	}
	var found bool
	switch {
	case text == AgentBrief:
		if a.Name != "" && a.Name != AgentBrief {
			return a, "renames brief"
		}
		a.Kind, a.Name = AgentBrief, AgentBrief
		return a, ""
	case strings.HasPrefix(text, "exec:"):
		a.Kind, a.Command = AgentExec, strings.TrimSpace(strings.TrimPrefix(text, "exec:"))
		if a.Command == "" {
			return a, "has no command"
		}
		first, _, _ := strings.Cut(a.Command, " ")
		a.Name = nameOr(a.Name, strings.TrimSuffix(path.Base(strings.Trim(first, `"'`)), path.Ext(first)))
	case strings.HasPrefix(text, "chat:"):
		a.Kind = AgentChat
		if a.Model, a.URL, found = strings.Cut(strings.TrimPrefix(text, "chat:"), "@"); !found || a.Model == "" {
			return a, "has no model or no address"
		}
		if wrong := addressOf(a.URL, true); wrong != "" {
			return a, wrong
		}
		a.Name = nameOr(a.Name, a.Model)
	case strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://"):
		a.Kind, a.URL = AgentWebhook, text
		if wrong := addressOf(a.URL, false); wrong != "" {
			return a, wrong
		}
		u, _ := url.Parse(a.URL)
		a.Name = nameOr(a.Name, u.Hostname())
	default:
		return a, "is not an agent"
	}
	return a, ""
}

// nameOr is name, or one made of other.
func nameOr(name, other string) string {
	if name != "" {
		return name
	}
	made := strings.Trim(notName.ReplaceAllString(strings.ToLower(other), "-"), "-")
	if len(made) > 32 {
		made = strings.Trim(made[:32], "-")
	}
	if made == "" {
		return "agent"
	}
	return made
}

// addressOf says what is wrong with the address of an agent, or "". Over plain http
// only this machine is asked, or, where model is set, an address of one's own network.
func addressOf(text string, model bool) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return "has an address that cannot be read, or with a user or a fragment in it"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "has an address that is neither https nor http"
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" || err == nil && ip.IsLoopback() || model && (err == nil && ip.IsPrivate() || !strings.Contains(u.Hostname(), ".")) {
		return ""
	}
	return "has a plain http address of another machine"
}

func (l *loader) agentTools(s *Settings) {
	if v, ok := l.lookup("BIO_AGENT_TOOLS"); ok {
		for n, text := range entries(v) {
			var t Tools
			name := serverName.FindStringSubmatch(text)
			wrong := "is not name=exec:COMMAND or name=https://…"
			if name != nil {
				t.Name, text = name[1], text[len(name[0]):]
				command, isCommand := strings.CutPrefix(text, "exec:")
				switch {
				case isCommand && strings.TrimSpace(command) != "":
					t.Command, wrong = strings.TrimSpace(command), ""
				case strings.HasPrefix(text, "http"):
					t.URL, wrong = text, addressOf(text, false)
				}
			}
			if wrong == "" && slices.ContainsFunc(s.AgentTools, func(other Tools) bool { return other.Name == t.Name }) {
				wrong = "has the name of another one"
			}
			if wrong != "" {
				l.problem("BIO_AGENT_TOOLS", entry(n+1)+" "+wrong, "Write MCP servers such as files=exec:mcp-files /srv, web=https://mcp.example.com/mcp.")
				continue
			}
			s.AgentTools = append(s.AgentTools, t)
		}
	}
	v, _ := l.lookup("BIO_AGENT_ALLOW")
	for n, item := range list(v) {
		server, _, _ := strings.Cut(item, "/")
		switch {
		case !toolName.MatchString(item):
			l.problem("BIO_AGENT_ALLOW", entry(n)+" is not server/tool or server/*", "Write tools such as files/read, web/*.")
		case !slices.ContainsFunc(s.AgentTools, func(t Tools) bool { return t.Name == server }):
			l.problem("BIO_AGENT_ALLOW", entry(n)+" is of no server in BIO_AGENT_TOOLS", "Write the name that the server has there.")
		default:
			s.AgentAllow = append(s.AgentAllow, item)
		}
	}
	if len(s.AgentTools) > 0 && len(s.AgentAllow) == 0 {
		l.problem("BIO_AGENT_ALLOW", "is empty, so that no tool of BIO_AGENT_TOOLS can be used", fmt.Sprintf("Write the tools that the model may use, such as %s/*.", s.AgentTools[0].Name))
	}
}
