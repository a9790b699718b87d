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
	"unicode"
)

// How an agent is reached.
const (
	AgentBrief   = "brief"   // the one in the box; without an AgentHook, those of app/hook.go where there are any
	AgentHook    = "hook"    // those of app/hook.go, which have names of their own
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
	Key     Secret // of AgentWebhook and AgentChat, from BIO_AGENT_KEY; nil: none
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
	return a.Kind
}

// maxAgents is how many agents one page can show at once.
const maxAgents = 8

// entryStart is how an entry begins, with a name or without.
const entryStart = `(?:[^\s,=:]+=)?(?:(?:brief|hook)\s*(?:,|$)|exec:|https?://|chat:)`

var (
	// Commands and addresses may have commas of their own: a comma ends one only
	// before these.
	afterCommand = regexp.MustCompile(`^\s*(?:,|$|` + entryStart + `)`)
	afterAddress = regexp.MustCompile(`^(?:\s|,|$|` + entryStart + `)`)

	entryKind = regexp.MustCompile(`^(?:[^,=:]*=)?(exec:|https?://|chat:)`)
	agentName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$`)
	modelAt   = regexp.MustCompile(`@https?://`)
	notName   = regexp.MustCompile(`[^a-z0-9]+`)
	localName = regexp.MustCompile(`^[a-z0-9_-]+$`)
)

const agentMend = "Write brief, hook, exec:COMMAND, https://…, or chat:MODEL@BASE_URL; several with commas between them, each as name=…."

// entries cuts a list of agents or tools at the commas between them.
func entries(v string) []string {
	var all []string
	for {
		v = strings.TrimSpace(v)
		end := entryEnd(v)
		all = append(all, strings.TrimSpace(v[:end]))
		if end == len(v) {
			return all
		}
		v = v[end+1:]
	}
}

// entryEnd is the place of the comma that ends the first entry, or the length. A
// quote that is not closed reaches to the end; what runs the command refuses it.
func entryEnd(v string) int {
	kind := entryKind.FindStringSubmatch(v)
	if kind == nil { // a word
		if i := strings.IndexByte(v, ','); i >= 0 {
			return i
		}
		return len(v)
	}
	if kind[1] == "exec:" {
		for i, c := range letters(v) {
			if c.char == ',' && !c.quoted && afterCommand.MatchString(v[i+1:]) {
				return i
			}
		}
		return len(v)
	}
	for i := range len(v) {
		if v[i] == ',' && afterAddress.MatchString(v[i+1:]) {
			return i
		}
	}
	return len(v)
}

// named cuts the name from an entry that has one.
func named(text string) (name, rest string, ok bool) {
	name, rest, ok = strings.Cut(text, "=")
	if !ok || strings.Contains(name, ":") {
		return "", text, false
	}
	return name, rest, true
}

func (l *loader) agents(s *Settings) {
	good := len(l.problems)
	all := entries(l.value("BIO_AGENT"))
	command := false // the entry before is one
	for n, text := range all {
		a, wrong, mend := parseAgent(text)
		_, _, hasName := named(text)
		switch {
		case text == "" && len(all) > 1:
			mend = "Write an agent there, or take its comma out; quote a comma that ends a command."
		case wrong == "" && command && !hasName && a.Kind != AgentBrief && a.Kind != AgentHook:
			// What the command says there would otherwise be an agent, and get what
			// people ask.
			wrong, mend = "stands behind a command and has no name", "Write it as name=…, or quote the comma if it belongs to the command."
		case wrong == "" && slices.ContainsFunc(s.Agents, func(b Agent) bool { return a.Name == b.Name }):
			wrong, mend = "has the name of another one", "Give it another, as name=…."
		}
		command = a.Kind == AgentExec
		if wrong != "" {
			l.problem("BIO_AGENT", entry(n+1)+" "+wrong, mend)
			continue
		}
		s.Agents = append(s.Agents, a)
	}
	if len(all) > maxAgents {
		l.problem("BIO_AGENT", fmt.Sprintf("has %d agents, and %d is the most that a page can show", len(all), maxAgents), "Take some out.")
	}
	complete := len(l.problems) == good

	s.AgentTimeout = l.duration("BIO_AGENT_TIMEOUT", time.Second, time.Hour)
	l.agentKeys(s.Agents, complete)
	s.AgentSystem, _ = l.lookup("BIO_AGENT_SYSTEM")
	s.AgentContext = oneOf(l, "BIO_AGENT_CONTEXT", agentContextOff, agentContextTrail) == agentContextTrail
	s.AgentPrivate = oneOf(l, "BIO_AGENT_PRIVATE", "no", "yes") == "yes"
	var err error
	if s.AgentTokens, err = strconv.Atoi(l.value("BIO_AGENT_TOKENS")); err != nil || s.AgentTokens < 1 || s.AgentTokens > 1_000_000 {
		l.problem("BIO_AGENT_TOKENS", "is not a number from 1 to 1000000", "Write one such as 4096.")
	}
	l.agentTools(s, complete)
}

const (
	agentContextOff   = "off"
	agentContextTrail = "trail"
)

// parseAgent reads one entry. What is wrong with it is empty when nothing is.
func parseAgent(text string) (a Agent, wrong, mend string) {
	if text == "" {
		return a, "is empty", agentMend
	}
	name, text, hasName := named(text)
	switch {
	case text == AgentBrief:
		a.Kind, a.Name = AgentBrief, AgentBrief
		if hasName && name != AgentBrief {
			return a, "calls brief by another name, and brief keeps its own", "Write brief alone."
		}
		return a, "", ""
	case text == AgentHook:
		a.Kind, a.Name = AgentHook, AgentHook
		if hasName && name != AgentHook {
			return a, "gives a name to hook, and the agents of app/hook.go keep theirs", "Write hook alone."
		}
		return a, "", ""
	case strings.HasPrefix(text, "exec:"):
		a.Kind = AgentExec
		if a.Command, wrong, mend = parseCommand(strings.TrimPrefix(text, "exec:")); wrong != "" {
			return a, wrong, mend
		}
		file := path.Base(firstWord(a.Command))
		a.Name = nameOf(strings.TrimSuffix(file, path.Ext(file)))
	case strings.HasPrefix(text, "chat:"):
		a.Kind, text = AgentChat, strings.TrimPrefix(text, "chat:")
		// A model may have an @ in its own name.
		at := strings.LastIndexByte(text, '@')
		if cut := modelAt.FindStringIndex(text); cut != nil {
			at = cut[0]
		}
		if at < 1 {
			return a, "has no model or no address", "Write chat:MODEL@BASE_URL, such as chat:qwen3:8b@http://localhost:11434/v1."
		}
		a.Model, a.URL = text[:at], text[at+1:]
		if wrong, mend = addressOf(a.URL, true); wrong != "" {
			return a, wrong, mend
		}
		a.Name = nameOf(a.Model)
	case strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://"):
		a.Kind, a.URL = AgentWebhook, text
		if wrong, mend = addressOf(a.URL, false); wrong != "" {
			return a, wrong, mend
		}
		u, _ := url.Parse(a.URL)
		a.Name = nameOf(u.Hostname())
	default:
		if near := nearestKind(text); near != "" {
			return a, "is not an agent", "Did you mean " + near + "?"
		}
		return a, "is not an agent", agentMend
	}
	if hasName {
		if a.Name = name; !agentName.MatchString(name) {
			return a, "has a name that is not 1 to 32 lower-case letters, digits and hyphens between them", "Write one such as host=…."
		}
	}
	return a, "", ""
}

// nearestKind gives the beginning of an entry that text most likely misspells, or "".
func nearestKind(text string) string {
	word, _, colon := strings.Cut(strings.ToLower(text), ":")
	kinds := []string{"brief", "hook"}
	if colon {
		kinds = []string{"exec:", "chat:", "https://", "http://"}
	}
	best, at := "", 3
	for _, kind := range kinds {
		right, _, _ := strings.Cut(kind, ":")
		// Of four letters one may be wrong, of five two.
		if d := distance(word[:min(len(word), 16)], right); d < at && d <= (len(right)+1)/3 {
			best, at = kind, d
		}
	}
	return best
}

// nameOf makes a name of text that was not meant as one.
func nameOf(text string) string {
	made := strings.Trim(notName.ReplaceAllString(strings.ToLower(text), "-"), "-")
	if len(made) > 32 {
		made = strings.Trim(made[:32], "-")
	}
	if made == "" {
		return "agent"
	}
	return made
}

// addressOf says what is wrong with the address of an agent, or "". Over plain http
// only this machine is asked, or, for a model, an address of one's own network. A
// name without a dot is taken for one of that: it is how compose files and the
// like call their services, and no name of the internet.
func addressOf(text string, model bool) (wrong, mend string) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.ContainsFunc(text, unicode.IsSpace) {
		return "has an address that cannot be read, or with a user or a fragment in it", "Write scheme, host and path, such as https://agents.example.com/bio."
	}
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	isIP := err == nil
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "has an address that is neither https nor http", "Write https://, or http:// for this machine."
	case !isIP && address(host):
		// 134744072 is 8.8.8.8 to many a resolver.
		return "has a number for a host", "Write an address as four numbers, such as 10.0.0.1, or a name."
	case u.Scheme == "https" || host == "localhost" || isIP && ip.IsLoopback():
		return "", ""
	case !model:
		return "has a plain http address of another machine", "Use https; http is for localhost."
	case isIP && ip.IsPrivate() || localName.MatchString(host):
		return "", ""
	}
	return "has a plain http address of another machine", "Use https; http is for localhost, private addresses, and names without a dot."
}
