package config

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

// takesKey reports whether the agent has a use for a key.
func (a Agent) takesKey() bool { return a.Kind == AgentWebhook || a.Kind == AgentChat }

// party is who learns the agent's key: its kind, scheme and host.
func (a Agent) party() string {
	u, err := url.Parse(a.URL)
	if err != nil {
		return a.URL
	}
	return a.Kind + " " + u.Scheme + "://" + strings.ToLower(u.Host)
}

// agentKeys gives agents their keys: one key to all, or each its own of a list.
// Complete says that no agent is missing for a problem that it has.
func (l *loader) agentKeys(agents []Agent, complete bool) {
	v, ok := l.lookup("BIO_AGENT_KEY")
	if !ok {
		return
	}
	v = strings.TrimRight(v, "\r\n")
	if keyList(v, agents) {
		l.eachKey(v, agents, complete)
	} else {
		l.oneKey(Secret(v), agents, complete)
	}
}

// keyList reports whether v is several keys by name. It is already where one item
// has the name of an agent, or where all look as if: what is meant as a list must
// not go out whole, as a key.
func keyList(v string, agents []Agent) bool {
	items, names := 0, 0
	for _, item := range list(v) {
		items++
		name, _, ok := strings.Cut(item, "=")
		if name = strings.ToLower(name); ok && agentName.MatchString(name) {
			if names++; indexAgent(agents, name) >= 0 {
				return true
			}
		}
	}
	return items > 1 && names == items
}

func indexAgent(agents []Agent, name string) int {
	return slices.IndexFunc(agents, func(a Agent) bool { return a.Name == name })
}

// oneKey gives all agents the same key.
func (l *loader) oneKey(key Secret, agents []Agent, complete bool) {
	var one Agent
	var names []string
	several := false
	for _, a := range agents {
		if a.takesKey() {
			several = several || one.Kind != "" && a.party() != one.party()
			names, one = append(names, a.Name+"=KEY"), a
		}
	}
	wrong, mend := keyWrong(one, key)
	if several && complete {
		wrong = "is one key for agents of several hosts or kinds, and each would learn it"
		mend = "Write whose it is, and leave out who needs none: " + strings.Join(names, ", ") + "."
	}
	if wrong != "" {
		l.problem("BIO_AGENT_KEY", wrong, mend)
		return
	}
	for i := range agents {
		if agents[i].takesKey() {
			agents[i].Key = key
		}
	}
}

// eachKey gives agents the keys of a list.
func (l *loader) eachKey(v string, agents []Agent, complete bool) {
	var names []string
	for _, a := range agents {
		if a.takesKey() {
			names = append(names, a.Name)
		}
	}
	for n, item := range list(v) {
		name, text, _ := strings.Cut(item, "=")
		i, key := indexAgent(agents, name), Secret(text)
		var wrong, mend string
		switch {
		case i < 0 && !complete:
			continue // it may be of an agent that has a problem
		case i < 0 && len(names) == 0:
			wrong, mend = "names no agent of BIO_AGENT", "Take it out: only webhooks and models take a key."
		case i < 0:
			wrong, mend = "names no agent of BIO_AGENT", "Write name=key; who takes one is called "+strings.Join(names, ", ")+". A key with a comma can only stand alone."
		case !agents[i].takesKey():
			wrong, mend = "is for an agent that takes no key", "Take it out: only webhooks and models take a key."
		case agents[i].Key != nil:
			wrong, mend = "is the second key of an agent", "Keep one of the two."
		default:
			wrong, mend = keyWrong(agents[i], key)
		}
		if wrong != "" {
			l.problem("BIO_AGENT_KEY", entry(n)+" "+wrong, mend)
			continue
		}
		agents[i].Key = key
	}
}

// keyWrong says what is wrong with a key of an agent, or "".
func keyWrong(a Agent, key Secret) (wrong, mend string) {
	encoded, ok := bytes.CutPrefix(key, []byte("whsec_"))
	if ok && a.Kind == AgentWebhook {
		if _, err := base64.StdEncoding.DecodeString(string(encoded)); err != nil || !headerWord(key) {
			return "begins with whsec_, and what follows is not base64", `Copy it again whole, or make one with: echo "whsec_$(openssl rand -base64 32)"`
		}
		return "", ""
	}
	if !headerWord(key) {
		return "is not a key of at least 8 printable characters without spaces", "Copy it again, on one line."
	}
	return "", ""
}

// headerWord reports whether a header can hold the key. A pattern of its length
// would take milliseconds of every start.
func headerWord(key []byte) bool {
	return len(key) >= 8 && len(key) <= 4096 && !slices.ContainsFunc(key, func(b byte) bool { return b <= ' ' || b > '~' })
}

// spellKeys spells the agents' keys as BIO_AGENT_KEY does. One with a comma is that
// of all, for a list cannot have it.
func spellKeys(agents []Agent) string {
	var all []string
	for _, a := range agents {
		switch {
		case bytes.IndexByte(a.Key, ',') >= 0:
			return string(a.Key)
		case a.Key != nil:
			all = append(all, a.Name+"="+string(a.Key))
		}
	}
	return strings.Join(all, ",")
}
