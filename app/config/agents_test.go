package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"bio/agent/program"
)

// Wanted agents.
func command(name, line string) Agent { return Agent{Name: name, Kind: AgentExec, Command: line} }
func hook(name, url, key string) Agent {
	return Agent{Name: name, Kind: AgentWebhook, URL: url, Key: keyOf(key)}
}
func model(name, model, url, key string) Agent {
	return Agent{Name: name, Kind: AgentChat, Model: model, URL: url, Key: keyOf(key)}
}

func keyOf(key string) Secret {
	if key == "" {
		return nil
	}
	return Secret(key)
}

var inTheBox = Agent{Name: "brief", Kind: AgentBrief}

func TestAgents(t *testing.T) {
	for name, test := range map[string]struct {
		agents, key string
		want        []Agent
	}{
		"none named": {"", "", []Agent{inTheBox}},
		"all kinds": {
			`brief, weather=exec:sh -c "a, b", greet=exec:/opt/Greet_me.py --x=1,2 ,m=https://Hooks.example.com/a?b=c,d,chat:qwen3:8b@http://ollama:11434/v1,hook`, "",
			[]Agent{
				inTheBox, command("weather", `sh -c "a, b"`), command("greet", "/opt/Greet_me.py --x=1,2"),
				hook("m", "https://Hooks.example.com/a?b=c,d", ""), model("qwen3-8b", "qwen3:8b", "http://ollama:11434/v1", ""),
				{Name: "hook", Kind: AgentHook},
			},
		},
		"of the program, beside the one in the box": {"hook, brief", "", []Agent{{Name: "hook", Kind: AgentHook}, inTheBox}},
		"by their own names":                        {"brief=brief,hook=hook", "", []Agent{inTheBox, {Name: "hook", Kind: AgentHook}}},

		"a command in the middle": {"host=exec:uptime.sh,brief", "", []Agent{command("host", "uptime.sh"), inTheBox}},
		"in single quotes":        {`exec:sh -c 'curl x, https://evil'`, "", []Agent{command("sh", `sh -c 'curl x, https://evil'`)}},
		"in double quotes":        {`exec:sh -c "\", x=https://evil", brief`, "", []Agent{command("sh", `sh -c "\", x=https://evil"`), inTheBox}},
		"behind a backslash":      {`exec:echo a\,x=https://evil`, "", []Agent{command("echo", `echo a\,x=https://evil`)}},
		"after quotes":            {`exec:echo 'a, "b'",", x=exec:ls`, "", []Agent{command("echo", `echo 'a, "b'","`), command("x", "ls")}},
		"a quote in an address":   {`https://a.example/it's, brief`, "", []Agent{hook("a-example", "https://a.example/it's", ""), inTheBox}},
		"commas of a command":     {"x=exec:cut -d, -f1,2 https://x", "", []Agent{command("x", "cut -d, -f1,2 https://x")}},
		"two addresses":           {"https://a.example/x,https://b.example/y, m=https://c.example", "", []Agent{hook("a-example", "https://a.example/x", ""), hook("b-example", "https://b.example/y", ""), hook("m", "https://c.example", "")}},

		"named by a quoted path":  {`exec:'/opt/my agent/run.sh' -x`, "", []Agent{command("run", `'/opt/my agent/run.sh' -x`)}},
		"named by half a quote":   {`exec:/opt/"my agent"/run\ it.sh -x`, "", []Agent{command("run-it", `/opt/"my agent"/run\ it.sh -x`)}},
		"named by nothing":        {`exec:''`, "", []Agent{command("agent", "''")}},
		"named by a long program": {"exec:" + strings.Repeat("a", 31) + "-b", "", []Agent{command(strings.Repeat("a", 31), strings.Repeat("a", 31)+"-b")}},
		"the longest name":        {strings.Repeat("a", 32) + "=exec:ls", "", []Agent{command(strings.Repeat("a", 32), "ls")}},
		"a name of one":           {"1=exec:ls", "", []Agent{command("1", "ls")}},

		"a model with a revision":    {"chat:org/m@rev@http://localhost:1/v1", "", []Agent{model("org-m-rev", "org/m@rev", "http://localhost:1/v1", "")}},
		"an address with an at":      {"chat:m@https://gw.example/@http://x", "", []Agent{model("m", "m", "https://gw.example/@http://x", "")}},
		"a model in the own network": {"chat:m@http://my_llm:1/v1,a=chat:m@http://10.0.0.1/v1,b=chat:m@http://[fd00::1]/v1,c=chat:m@http://[::ffff:192.168.0.1]/v1", "", []Agent{model("m", "m", "http://my_llm:1/v1", ""), model("a", "m", "http://10.0.0.1/v1", ""), model("b", "m", "http://[fd00::1]/v1", ""), model("c", "m", "http://[::ffff:192.168.0.1]/v1", "")}},
		"a hook on this machine":     {"http://127.0.0.2:1/x,b=http://localhost/x,c=http://[::1]/x", "", []Agent{hook("127-0-0-2", "http://127.0.0.2:1/x", ""), hook("b", "http://localhost/x", ""), hook("c", "http://[::1]/x", "")}},

		"one key":                  {"brief, a=https://a.example/x", "key-of-mine\n", []Agent{inTheBox, hook("a", "https://a.example/x", "key-of-mine")}},
		"one key, one host":        {"a=chat:m@https://a.example/v1,b=chat:n@https://A.example/v2", "sk-12345", []Agent{model("a", "m", "https://a.example/v1", "sk-12345"), model("b", "n", "https://A.example/v2", "sk-12345")}},
		"one key with a comma":     {"a=https://a.example", "key,of=mine", []Agent{hook("a", "https://a.example", "key,of=mine")}},
		"one key with an equals":   {"a=https://a.example", "b=key-of-mine", []Agent{hook("a", "https://a.example", "b=key-of-mine")}},
		"a key for nobody":         {"brief", "key-of-mine", []Agent{inTheBox}},
		"a key for signing":        {"a=https://a.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", []Agent{hook("a", "https://a.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}},
		"that a model may have":    {"a=chat:m@https://a.example", "whsec_12", []Agent{model("a", "m", "https://a.example", "whsec_12")}},
		"a key by name":            {"a=https://a.example,b=chat:m@https://b.example", "b=key-of-b", []Agent{hook("a", "https://a.example", ""), model("b", "m", "https://b.example", "key-of-b")}},
		"keys by name":             {"a=https://a.example,b=chat:m@https://b.example", "b=key=of=b= ,\n a=key-of-a\n", []Agent{hook("a", "https://a.example", "key-of-a"), model("b", "m", "https://b.example", "key=of=b=")}},
		"keys by names of hosts":   {"https://a.example,chat:m@https://b.example", "a-example=key-of-a,m=key-of-m,", []Agent{hook("a-example", "https://a.example", "key-of-a"), model("m", "m", "https://b.example", "key-of-m")}},
		"one key, named for each":  {"a=https://a.example,b=https://b.example", "a=key-of-both,b=key-of-both", []Agent{hook("a", "https://a.example", "key-of-both"), hook("b", "https://b.example", "key-of-both")}},
		"a program beside a model": {"x=exec:ls, m=chat:m@http://localhost:1/v1", "key-of-mine", []Agent{command("x", "ls"), model("m", "m", "http://localhost:1/v1", "key-of-mine")}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load([]string{"BIO_AGENT=" + test.agents, "BIO_AGENT_KEY=" + test.key})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.Agents, test.want) {
				t.Errorf("got\n%v\nwant\n%v", s.Agents, test.want)
			}
			again(t, s)
		})
	}
}

func TestAgentSettings(t *testing.T) {
	want := defaults()
	want.AgentTimeout, want.AgentSystem, want.AgentContext, want.AgentTokens, want.AgentPrivate = 2*time.Minute, "Be kind.", true, 9, true
	want.Agents = []Agent{model("m", "m", "http://localhost:1/v1", "")}
	want.AgentTools = []Tools{{Name: "files", Command: "mcp-files /srv 'a, b=exec:c'"}, {Name: "web", URL: "https://mcp.example.com/mcp"}}
	want.AgentAllow = []string{"files/read", "web/*"}
	got, err := Load([]string{
		"BIO_AGENT=chat:m@http://localhost:1/v1", "BIO_AGENT_TIMEOUT=2m", "BIO_AGENT_SYSTEM=Be kind.", "BIO_AGENT_CONTEXT=trail",
		"BIO_AGENT_TOKENS=9", "BIO_AGENT_PRIVATE=yes",
		"BIO_AGENT_TOOLS=files=exec:mcp-files /srv 'a, b=exec:c', web=https://mcp.example.com/mcp", "BIO_AGENT_ALLOW=files/read,web/*",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got\n%#v\nwant\n%#v", *got, want)
	}
	again(t, got)
}

// TestAgentProblems holds whole sentences: they are what an operator has.
func TestAgentProblems(t *testing.T) {
	const (
		forms     = " Write brief, hook, exec:COMMAND, https://…, or chat:MODEL@BASE_URL; several with commas between them, each as name=…."
		badName   = " has a name that is not 1 to 32 lower-case letters, digits and hyphens between them. Write one such as host=…."
		noName    = " stands behind a command and has no name. Write it as name=…, or quote the comma if it belongs to the command."
		empty     = " is empty. Write an agent there, or take its comma out; quote a comma that ends a command."
		unread    = " has an address that cannot be read, or with a user or a fragment in it. Write scheme, host and path, such as https://agents.example.com/bio."
		number    = " has a number for a host. Write an address as four numbers, such as 10.0.0.1, or a name."
		plainHook = " has a plain http address of another machine. Use https; http is for localhost."
		plainChat = " has a plain http address of another machine. Use https; http is for localhost, private addresses, and names without a dot."
		badModel  = " has no model or no address. Write chat:MODEL@BASE_URL, such as chat:qwen3:8b@http://localhost:11434/v1."
		badKey    = " is not a key of at least 8 printable characters without spaces. Copy it again, on one line."
		badSecret = ` begins with whsec_, and what follows is not base64. Copy it again whole, or make one with: echo "whsec_$(openssl rand -base64 32)"`
		unmarked  = "BIO_AGENT_KEY is one key for agents of several hosts or kinds, and each would learn it. Write whose it is, and leave out who needs none: a=KEY, b=KEY."
		takesNone = " is for an agent that takes no key. Take it out: only webhooks and models take a key."
		unknown   = " names no agent of BIO_AGENT. Write name=key; who takes one is called a. A key with a comma can only stand alone."
		noTools   = " is not name=exec:COMMAND or name=https://…, with a name in lower case. Write MCP servers such as files=exec:mcp-files /srv, web=https://mcp.example.com/mcp."
		noTool    = " is not server/tool or server/*. Write tools such as files/read, web/*."
		noServer  = " is of no server in BIO_AGENT_TOOLS. Write the name that the server has there."

		aModel = "BIO_AGENT=chat:m@http://localhost:1/v1"
		aHook  = "BIO_AGENT=a=https://a.example"
	)
	at := func(setting string, n int, text string) string {
		return fmt.Sprintf("%s has an entry (number %d) that%s", setting, n, text)
	}
	agent := func(n int, text string) string { return at("BIO_AGENT", n, text) }
	key := func(n int, text string) string { return at("BIO_AGENT_KEY", n, text) }
	for _, test := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"BIO_AGENT=gpt"}, []string{agent(1, " is not an agent."+forms)}},
		{[]string{"BIO_AGENT=brif"}, []string{agent(1, " is not an agent. Did you mean brief?")}},
		{[]string{"BIO_AGENT=Brief, breif,hok"}, []string{
			agent(1, " is not an agent. Did you mean brief?"), agent(2, " is not an agent. Did you mean brief?"), agent(3, " is not an agent. Did you mean hook?"),
		}},
		{[]string{"BIO_AGENT=x=Exec:ls"}, []string{agent(1, " is not an agent. Did you mean exec:?")}},
		{[]string{"BIO_AGENT=htps://a.example/x"}, []string{agent(1, " is not an agent. Did you mean https://?")}},
		{[]string{"BIO_AGENT=" + strings.Repeat("b", 1000)}, []string{agent(1, " is not an agent."+forms)}},

		{[]string{"BIO_AGENT= "}, []string{agent(1, " is empty."+forms)}},
		{[]string{"BIO_AGENT=brief,"}, []string{agent(2, empty)}},
		{[]string{"BIO_AGENT=brief,,a=exec:ls"}, []string{agent(2, empty)}},
		{[]string{"BIO_AGENT=, brief"}, []string{agent(1, empty)}},
		{[]string{"BIO_AGENT=exec:cut -f1 -d,"}, []string{agent(2, empty)}},
		{[]string{"BIO_AGENT=https://a.example/x,"}, []string{agent(2, empty)}},
		{[]string{"BIO_AGENT=exec:"}, []string{agent(1, " has no command. Write it behind exec:, such as exec:/opt/greet.py.")}},
		{[]string{`BIO_AGENT=exec:ls \ , brief`}, []string{agent(1, " has a command that ends with a backslash. Take it out, or quote it.")}},

		{[]string{"BIO_AGENT=Host=exec:ls"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT=brief, Host=exec:ls"}, []string{agent(2, badName)}},
		{[]string{"BIO_AGENT=a=exec:ls, Host=exec:ls"}, []string{agent(2, badName)}},
		{[]string{"BIO_AGENT=-=exec:ls"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT=---=exec:ls"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT=a-=exec:ls,-a=exec:ls"}, []string{agent(1, badName), agent(2, badName)}},
		{[]string{"BIO_AGENT=my agent=exec:sh -c 'a, b'"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT==exec:ls"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT=" + strings.Repeat("a", 33) + "=exec:ls"}, []string{agent(1, badName)}},
		{[]string{"BIO_AGENT=x=brief"}, []string{agent(1, " calls brief by another name, and brief keeps its own. Write brief alone.")}},
		{[]string{"BIO_AGENT=x=hook"}, []string{agent(1, " gives a name to hook, and the agents of app/hook.go keep theirs. Write hook alone.")}},
		{[]string{"BIO_AGENT=brief,brief"}, []string{agent(2, " has the name of another one. Give it another, as name=….")}},
		{[]string{"BIO_AGENT=exec:/a/x.py,x=exec:/b/y.sh"}, []string{agent(2, " has the name of another one. Give it another, as name=….")}},
		{[]string{"BIO_AGENT=a=exec:a,b=exec:a,c=exec:a,d=exec:a,e=exec:a,f=exec:a,g=exec:a,h=exec:a,i=exec:a"}, []string{
			"BIO_AGENT has 9 agents, and 8 is the most that a page can show. Take some out.",
		}},

		{[]string{"BIO_AGENT=exec:/bin/echo a,https://b"}, []string{agent(2, noName)}},
		{[]string{"BIO_AGENT=x=exec:/bin/echo a, chat:m@https://b"}, []string{agent(2, noName)}},
		{[]string{"BIO_AGENT=exec:/a/x.py,exec:/b/x.sh,y=exec:z"}, []string{agent(2, noName)}},
		{[]string{`BIO_AGENT=exec:sh -c 'curl x', https://evil`}, []string{agent(2, noName)}},

		{[]string{"BIO_AGENT=chat:model"}, []string{agent(1, badModel)}},
		{[]string{"BIO_AGENT=chat:@https://a.example"}, []string{agent(1, badModel)}},
		{[]string{"BIO_AGENT=chat:m@ftp://a.example"}, []string{agent(1, " has an address that is neither https nor http. Write https://, or http:// for this machine.")}},
		{[]string{"BIO_AGENT=chat:m@rev@ftp://a.example"}, []string{agent(1, " has an address that is neither https nor http. Write https://, or http:// for this machine.")}},
		{[]string{"BIO_AGENT=chat:m@http://a.example/v1"}, []string{agent(1, plainChat)}},
		{[]string{"BIO_AGENT=chat:m@http://8.8.8.8/v1"}, []string{agent(1, plainChat)}},
		{[]string{"BIO_AGENT=chat:m@http://[2001:4860:4860::8888]/v1"}, []string{agent(1, plainChat)}},
		{[]string{"BIO_AGENT=chat:m@http://evil。com/v1"}, []string{agent(1, plainChat)}}, // a full stop to IDNA
		{[]string{"BIO_AGENT=chat:m@http://134744072/v1"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=chat:m@http://0x08080808/v1"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=chat:m@http://0X08080808./v1"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=chat:m@http://01002004010/v1"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=chat:m@http://010.8/v1"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=chat:m@http://１３４７４４０７２/v1"}, []string{agent(1, plainChat)}},
		{[]string{"BIO_AGENT=chat:m@http://:80/v1"}, []string{agent(1, unread)}},
		{[]string{"BIO_AGENT=https://134744072/x"}, []string{agent(1, number)}},
		{[]string{"BIO_AGENT=http://10.0.0.1/x"}, []string{agent(1, plainHook)}},
		{[]string{"BIO_AGENT=http://compose/x"}, []string{agent(1, plainHook)}},
		{[]string{"BIO_AGENT=https://u:hunter2@a.example/"}, []string{agent(1, unread)}},
		{[]string{"BIO_AGENT=https://a.example/x brief"}, []string{agent(1, unread)}},

		{[]string{"BIO_AGENT_KEY=short"}, []string{"BIO_AGENT_KEY" + badKey}},
		{[]string{"BIO_AGENT_KEY=with\x01control"}, []string{"BIO_AGENT_KEY" + badKey}},
		{[]string{"BIO_AGENT_KEY=with space"}, []string{"BIO_AGENT_KEY" + badKey}},
		{[]string{"BIO_AGENT=a=chat:m@https://a.example/v1,b=chat:m@https://b.example/v1", "BIO_AGENT_KEY=hunter2-of-a"}, []string{unmarked}},
		{[]string{"BIO_AGENT=a=chat:m@http://localhost:1/v1,b=chat:m@http://localhost:2/v1", "BIO_AGENT_KEY=hunter2-of-a"}, []string{unmarked}},
		{[]string{"BIO_AGENT=a=https://a.example,b=chat:m@https://a.example", "BIO_AGENT_KEY=hunter2-of-a"}, []string{unmarked}},
		{[]string{"BIO_AGENT=a=https://a.example,x=exec:ls,b=https://b.example", "BIO_AGENT_KEY=hunter2,of-a"}, []string{unmarked}},
		{[]string{aHook, "BIO_AGENT_KEY=a=hunter2-of-a,b=hunter2-of-b"}, []string{key(2, unknown)}},
		{[]string{aHook, "BIO_AGENT_KEY=c=hunter2-of-c,b=hunter2-of-b"}, []string{key(1, unknown), key(2, unknown)}},
		{[]string{aHook, "BIO_AGENT_KEY=hunter2,a=hunter2-of-a"}, []string{key(1, unknown)}},
		{[]string{aHook, "BIO_AGENT_KEY=a=hunter2,of-a"}, []string{key(1, badKey), key(2, unknown)}},
		{[]string{aHook, "BIO_AGENT_KEY=a=hunter2-of-a, a=hunter2-of-a"}, []string{key(2, " is the second key of an agent. Keep one of the two.")}},
		{[]string{"BIO_AGENT=brief,a=exec:ls", "BIO_AGENT_KEY=brief=hunter2-of-a,a=hunter2-of-a,b=hunter2-of-b"}, []string{
			key(1, takesNone), key(2, takesNone), key(3, " names no agent of BIO_AGENT. Take it out: only webhooks and models take a key."),
		}},
		{[]string{aHook, "BIO_AGENT_KEY=whsec_…"}, []string{"BIO_AGENT_KEY" + badSecret}},
		{[]string{aHook, "BIO_AGENT_KEY=whsec_"}, []string{"BIO_AGENT_KEY" + badSecret}},
		{[]string{aHook, "BIO_AGENT_KEY=whsec_hunter2"}, []string{"BIO_AGENT_KEY" + badSecret}},
		{[]string{aHook, "BIO_AGENT_KEY=a=whsec_hunter2"}, []string{key(1, badSecret)}},
		// A problem of BIO_AGENT makes none of BIO_AGENT_KEY.
		{[]string{"BIO_AGENT=gpt, a=https://a.example, b=https://b.example", "BIO_AGENT_KEY=gpt=hunter2-of-gpt"}, []string{agent(1, " is not an agent."+forms)}},
		{[]string{"BIO_AGENT=gpt, a=https://a.example", "BIO_AGENT_KEY=gpt=hunter2-of-gpt,a=hunter2-of-a"}, []string{agent(1, " is not an agent."+forms)}},

		{[]string{"BIO_AGENT_TIMEOUT=2h"}, []string{"BIO_AGENT_TIMEOUT is not a duration of whole seconds from 1s to 1h. Write one such as 1m."}},
		{[]string{"BIO_AGENT_CONTEXT=all"}, []string{"BIO_AGENT_CONTEXT is not a value that it can have. Write off or trail."}},
		{[]string{"BIO_AGENT_TOKENS=0"}, []string{"BIO_AGENT_TOKENS is not a number from 1 to 1000000. Write one such as 4096."}},
		{[]string{"BIO_AGENT_PRIVATE=1"}, []string{"BIO_AGENT_PRIVATE is not a value that it can have. Write no or yes."}},

		{[]string{aModel, "BIO_AGENT_TOOLS=exec:x"}, []string{at("BIO_AGENT_TOOLS", 1, noTools)}},
		{[]string{aModel, "BIO_AGENT_TOOLS=Files=exec:x", "BIO_AGENT_ALLOW=Files/*"}, []string{at("BIO_AGENT_TOOLS", 1, noTools), at("BIO_AGENT_ALLOW", 1, noTool)}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x,", "BIO_AGENT_ALLOW=b/*"}, []string{at("BIO_AGENT_TOOLS", 2, " is empty. Write MCP servers such as files=exec:mcp-files /srv, web=https://mcp.example.com/mcp.")}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x,https://evil.example", "BIO_AGENT_ALLOW=a/*"}, []string{at("BIO_AGENT_TOOLS", 2, noTools)}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=http://10.0.0.1/x", "BIO_AGENT_ALLOW=a/*"}, []string{at("BIO_AGENT_TOOLS", 1, plainHook)}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x,a=exec:y", "BIO_AGENT_ALLOW=a/*"}, []string{at("BIO_AGENT_TOOLS", 2, " has the name of another one. Give it another.")}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x"}, []string{"BIO_AGENT_ALLOW is empty, so that no tool of BIO_AGENT_TOOLS can be used. Write the tools that the model may use, such as a/*."}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x", "BIO_AGENT_ALLOW=mine"}, []string{at("BIO_AGENT_ALLOW", 1, noTool)}},
		{[]string{aModel, "BIO_AGENT_TOOLS=a=exec:x", "BIO_AGENT_ALLOW=b/*"}, []string{at("BIO_AGENT_ALLOW", 1, noServer)}},
		{[]string{"BIO_AGENT_ALLOW=mine"}, []string{at("BIO_AGENT_ALLOW", 1, noTool)}},
		{[]string{"BIO_AGENT_ALLOW=b/*"}, []string{at("BIO_AGENT_ALLOW", 1, noServer)}},
		{[]string{"BIO_AGENT_TOOLS=a=exec:x"}, []string{"BIO_AGENT_TOOLS has tools for models, and BIO_AGENT names no model. Add chat:MODEL@BASE_URL there, or unset this one."}},
		{[]string{aHook, "BIO_AGENT_TOOLS=a=exec:x", "BIO_AGENT_ALLOW=a/*"}, []string{"BIO_AGENT_TOOLS has tools for models, and BIO_AGENT names no model. Add chat:MODEL@BASE_URL there, or unset this one."}},
		{[]string{"BIO_AGENT=chat:m", "BIO_AGENT_TOOLS=a=exec:x", "BIO_AGENT_ALLOW=a/*"}, []string{agent(1, badModel)}},
	} {
		t.Run(strings.Join(test.environ, " "), func(t *testing.T) {
			_, err := Load(test.environ)
			if err == nil {
				t.Fatalf("no problem, want\n%s", strings.Join(test.want, "\n"))
			}
			_, got, _ := strings.Cut(err.Error(), "\n  ")
			if want := strings.Join(test.want, "\n  "); got != want {
				t.Errorf("got\n  %s\nwant\n  %s", got, want)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a problem holds a key")
			}
		})
	}
}

func TestAgentKeysStayHidden(t *testing.T) {
	s, err := Load([]string{"BIO_AGENT=a=https://a.example,b=chat:m@https://b.example", "BIO_AGENT_KEY=a=hunter2-of-a,b=hunter2-of-b"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{s, *s, s.Agents, s.Agents[0], &s.Agents[1]} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("settings", "all", s, "agents", s.Agents, "agent", s.Agents[0])
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", "all", s, "agents", s.Agents, "agent", s.Agents[0])
	for _, leak := range []string{"hunter2", "68756e74657232", "68756E74657232", "aHVudGVyM", "104 117 110 116"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q leaks in:\n%s", leak, out.String())
		}
	}
	if !strings.Contains(s.String(), "BIO_AGENT_KEY=[redacted]\n") {
		t.Errorf("String gives:\n%s", s)
	}
}

// FuzzLetters holds the quotes that are known here to those of the package that runs
// the command.
func FuzzLetters(f *testing.F) {
	for _, line := range []string{
		"", "a b", `sh -c 'a, "b"' "c 'd' \" \x \$" e\ f\\ \'`, "a\\\nb\tc\n'd\ne'", `''`, `"a\`, `a'b`, `'\$' '\\'`, `"\\" "\` + "\n" + `"`, "a\x00'\x00'",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := program.Split(line)
		if err != nil {
			return // the server says so when it starts
		}
		var said strings.Builder
		for i, c := range letters(line) {
			if line[i] != c.char {
				t.Fatalf("%q: the place %d is not that of %q", line, i, c.char)
			}
			if !c.space() {
				said.WriteByte(c.char)
			}
		}
		if want := strings.Join(words, ""); said.String() != want {
			t.Fatalf("%q says %q, want %q", line, said.String(), want)
		}
		if trimmed := strings.TrimLeft(line, " \t\n"); len(words) > 0 && words[0] != "" && !strings.HasPrefix(trimmed, "\\\n") {
			if got := firstWord(trimmed); got != words[0] {
				t.Fatalf("%q begins with %q, want %q", line, got, words[0])
			}
		}
	})
}

func FuzzAgents(f *testing.F) {
	f.Add("brief, host=exec:agent/examples/uptime.sh", "")
	f.Add(`a=exec:sh -c 'x, "https://b"' \, "c", hook,b=https://a.example/?b=c,d`, "b=key,of=b")
	f.Add("chat:org/m@rev@http://localhost:1/v1,m=chat:m@HTTPS://b.example,brief", "org-m-rev=12345678, m=a=b=c=d=e=f")
	f.Add("https://a.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Fuzz(func(t *testing.T, agents, key string) {
		s, err := Load([]string{"BIO_AGENT=" + agents, "BIO_AGENT_KEY=" + key})
		if err != nil {
			if key != "" && len(key) > 40 && strings.Contains(err.Error(), key) {
				t.Fatalf("a problem holds the key: %v", err)
			}
			return
		}
		again(t, s)
		party := map[string]string{}
		for _, a := range s.Agents {
			if a.Key == nil {
				continue
			}
			if !a.takesKey() {
				t.Fatalf("%v has a key", a)
			}
			// Where a name was not written, one key has one reader.
			if p, ok := party[key]; ok && string(a.Key) == strings.TrimRight(key, "\r\n") && p != a.party() {
				t.Fatalf("%v has a key that was meant for %s", a, p)
			}
			party[key] = a.party()
		}
	})
}
