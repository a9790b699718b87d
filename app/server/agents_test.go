package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"bio/agent"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
)

// heard is what an agent was told. user has the account's name in it, brief is empty
// or has what the agent in the box has to say.
type heard struct {
	prompt, user, brief, trace string
}

// ear is an agent outside of the server.
type ear struct {
	entry string // of BIO_AGENT, without a name
	last  func() heard
}

// request is what programs and webhooks get.
type request struct {
	RunID         string `json:"run_id"`
	User          struct{ ID, Name string }
	Prompt, Brief string
}

// anExec is a program that answers in lines, and as text what is no line.
func anExec(t *testing.T) ear {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "answer.sh")
	script := `#!/bin/sh
cat > "$1/request"
printf %s "$TRACEPARENT" > "$1/trace"
echo '{"kind":"status","text":"Looking…"}'
echo '{"kind":"data","data":["half full"]}'
echo 'The *program* says hello.'
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return ear{"exec:" + program + " " + dir, func() heard {
		var r request
		if err := json.Unmarshal(must(os.ReadFile(filepath.Join(dir, "request"))), &r); err != nil {
			t.Fatal(err)
		}
		return heard{r.Prompt, r.User.Name, r.Brief, string(must(os.ReadFile(filepath.Join(dir, "trace"))))}
	}}
}

// endpoint is a server on this machine that hears with hears and then answers.
func endpoint(t *testing.T, hears func(*http.Request) (heard, error), media string, answer ...string) (address string, last func() heard) {
	t.Helper()
	var mu sync.Mutex
	var told heard
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, err := hears(r)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		told = h
		mu.Unlock()
		w.Header().Set("Content-Type", media)
		for _, piece := range answer {
			io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, func() heard {
		mu.Lock()
		defer mu.Unlock()
		return told
	}
}

func aWebhook(t *testing.T) ear {
	t.Helper()
	address, last := endpoint(t, func(r *http.Request) (heard, error) {
		if !strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,") || r.Header.Get("Webhook-Id") == "" {
			t.Errorf("not signed: %v", r.Header)
		}
		var told request
		err := json.NewDecoder(r.Body).Decode(&told)
		return heard{told.Prompt, told.User.Name, told.Brief, r.Header.Get("Traceparent")}, err
	}, "application/x-ndjson", `{"kind":"status","text":"Looking…"}`+"\n", `{"kind":"text","text":"The *webhook* `, `says hello."}`+"\n")
	return ear{address + "/hook", last}
}

func aChat(t *testing.T) ear {
	t.Helper()
	address, last := endpoint(t, func(r *http.Request) (heard, error) {
		var asked struct {
			Model    string
			Messages []struct{ Role, Content string }
		}
		err := json.NewDecoder(r.Body).Decode(&asked)
		if r.URL.Path != "/v1/chat/completions" || asked.Model != "owl:1b" || len(asked.Messages) != 2 || r.Header.Get("Authorization") != "Bearer a-key-of-tests" {
			t.Errorf("%s %+v", r.URL, asked)
		}
		system := asked.Messages[0].Content
		_, brief, _ := strings.Cut(system, "Welcome, ")
		return heard{asked.Messages[1].Content, system, brief, r.Header.Get("Traceparent")}, err
	}, "text/event-stream", delta("The *mod"), delta("el* says hello."), `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`+"\n\n", "data: [DONE]\n\n")
	return ear{"chat:owl:1b@" + address + "/v1", last}
}

// delta is a piece of a model's answer.
func delta(text string) string {
	return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", text)
}

// pieces are what stands in the places of the runs on a page, each by its kind: by
// the place's name, which is "" on a page with one run. Statuses, which pass, are none.
func pieces(t *testing.T, body string) map[string][]string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for n := range doc.Descendants() {
		a := attributes(n)
		kind, said := a["data-kind"], a["data-final"]
		if kind != "" && kind != "status" || said != "" {
			all[a["slot"]] = append(all[a["slot"]], strings.TrimSpace(kind+said+": "+strings.Join(strings.Fields(text(n)), " ")))
		}
	}
	return all
}

// kept are the runs in the database, in the order of their agents.
func (s *site) kept() (all []string) {
	s.t.Helper()
	rows := must(s.raw.Query("SELECT agent || ' ' || status || ' ' || prompt FROM runs ORDER BY agent, user_id"))
	defer rows.Close()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(one))
	}
	return all
}

// awaitKept waits until the runs in the database are these: a run that was started a
// moment ago may not be written down yet.
func (s *site) awaitKept(want ...string) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(s.kept(), want); runtime.Gosched() {
		if time.Now().After(deadline) {
			s.t.Fatalf("runs %q, want %q", s.kept(), want)
		}
	}
}

var aTrace = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// Each kind of agent, from the press to the page: what it is told, what is shown of
// it, and that a reload shows the same.
func TestAdapters(t *testing.T) {
	for name, tt := range map[string]struct {
		ear     func(*testing.T) ear
		context string // BIO_AGENT_CONTEXT
		briefed bool
		says    []string
	}{
		"exec":                           {anExec, "off", true, []string{"data: half full", "text: The program says hello.", "done:"}},
		"webhook":                        {aWebhook, "off", true, []string{"text: The webhook says hello.", "done:"}},
		"chat":                           {aChat, "off", false, []string{"text: The model says hello.", "done:"}},
		"chat that is told of the trail": {aChat, "trail", true, []string{"text: The model says hello.", "done:"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := tt.ear(t)
			s := newSite(t, "BIO_AGENT=helper="+a.entry, "BIO_AGENT_PRIVATE=yes", "BIO_AGENT_KEY=a-key-of-tests", "BIO_AGENT_CONTEXT="+tt.context)
			b := s.browser()
			b.header.Set("Traceparent", trace)
			check := func(what, body string) {
				t.Helper()
				if diff := cmp.Diff(map[string][]string{"": tt.says}, pieces(t, body)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
			_, p := b.register()
			check("the sign-in", p.body)
			if got := a.last(); got.trace != trace || !strings.Contains(got.user, p.account) || (got.brief != "") != tt.briefed {
				t.Errorf("a sign-in told %+v", got)
			}

			b.header.Del("Traceparent")
			const prompt = "How *are* you?\nAnd <b>they</b>?"
			if p := b.post("/run", url.Values{"prompt": {strings.ReplaceAll(prompt, "\n", "\r\n")}}); p.status != http.StatusSeeOther || p.header.Get("Location") != "/" {
				t.Errorf("POST /run: %d to %q", p.status, p.header.Get("Location"))
			}
			if got := a.last(); got.prompt != prompt || got.trace == trace || !aTrace.MatchString(got.trace) {
				t.Errorf("POST /run told %+v", got)
			}
			shown := b.get("/")
			check("the page", shown.body)
			if !strings.Contains(shown.run, prompt) {
				t.Errorf("the page does not show the prompt: %s", shown.run)
			}
			if again := b.get("/"); again.run != shown.run {
				t.Errorf("a reload shows %s, then %s", shown.run, again.run)
			}
			if diff := cmp.Diff([]string{"helper done " + prompt}, s.kept()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// Several agents fill their own places, and each is asked alone or with the others.
func TestAgentsSideBySide(t *testing.T) {
	program, hook := anExec(t), aWebhook(t)
	s := newSite(t, "BIO_AGENT=one="+program.entry+", brief, two="+hook.entry, "BIO_AGENT_PRIVATE=yes", "BIO_AGENT_KEY=a-key-of-tests")
	b := s.browser()
	_, p := b.register()
	one := []string{"data: half full", "text: The program says hello.", "done:"}
	two := []string{"text: The webhook says hello.", "done:"}
	check := func(what, body string) {
		t.Helper()
		got := pieces(t, body)
		if len(got["r2"]) < 2 || !strings.Contains(got["r2"][0], "Welcome, ") {
			t.Errorf("%s: brief says %q", what, got["r2"])
		}
		delete(got, "r2")
		if diff := cmp.Diff(map[string][]string{"r1": one, "r3": two}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("the sign-in", p.body)
	for _, tt := range []struct {
		agent, prompt string
		kept          []string
	}{
		{"two", "only you", []string{"brief done", "one done", "two done only you"}},
		{"", "all of you", []string{"brief done all of you", "one done all of you", "two done all of you"}},
	} {
		b.post("/run", url.Values{"agent": {tt.agent}, "prompt": {tt.prompt}})
		if diff := cmp.Diff(tt.kept, s.kept()); diff != "" {
			t.Errorf("%q asked (-want +got):\n%s", tt.agent, diff)
		}
		if got := b.get("/"); !strings.Contains(got.run+got.body, tt.prompt) {
			t.Errorf("%q is not shown", tt.prompt)
		} else {
			check(tt.prompt, got.body)
		}
	}
	if program.last().prompt != "all of you" || hook.last().prompt != "all of you" {
		t.Errorf("%+v, %+v", program.last(), hook.last())
	}
}

// The agents of app/hook.go stand where BIO_AGENT says hook, or in the place of brief.
func TestHook(t *testing.T) {
	said := agent.Reply(func(context.Context, *agent.Input) (string, error) { return "said", nil })
	two := []agent.Named{{Name: "one", Agent: said}, {Name: "two", Agent: said}}
	seven := make([]agent.Named, 7)
	for i := range seven {
		seven[i] = agent.Named{Name: fmt.Sprint("a", i), Agent: said}
	}
	for setting, tt := range map[string]struct {
		registered         []agent.Named
		want, wrong, warns string
	}{
		"":                         {two, "one two", "", ""},
		"brief":                    {two, "one two", "", ""},
		"hook":                     {two, "one two", "", ""},
		"hook, brief":              {two, "one two brief", "", ""},
		"brief, hook":              {two, "brief one two", "", ""},
		"x=exec:true, brief":       {two, "x one two", "", ""},
		"x=exec:true":              {two, "x", "", "BIO_AGENT has neither hook nor brief"},
		"brief, x=exec:true":       {nil, "brief x", "", ""},
		"x=http://127.0.0.1:1/x":   {nil, "x", "", "not signed"},
		"one=exec:true":            {two, "one", "", "BIO_AGENT has neither hook nor brief"},
		"hook, x=exec:false":       {nil, "", "app/hook.go registers no agent", ""},
		"two=exec:true, hook":      {two, "", "two agents are called two", ""},
		"hook, brief, x=exec:true": {seven, "", "have 9 agents, and 8 is the most", ""},
		"hook, last=exec:true":     {seven, "a0 a1 a2 a3 a4 a5 a6 last", "", ""},
	} {
		s := newSite(t)
		settings := must(config.Load([]string{"BIO_DATA=" + t.TempDir(), "BIO_AGENT=" + setting, "BIO_AGENT_PRIVATE=yes"}))
		made, err := server.New(server.Options{
			Settings: settings, Secret: secret, DB: s.db, Agents: tt.registered, Now: s.clock.Now, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
		})
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%q: %v, want %s", setting, err, tt.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", setting, err)
			continue
		}
		if got := strings.Join(server.AgentNames(made), " "); got != tt.want {
			t.Errorf("%q: %s, want %s", setting, got, tt.want)
		}
		server.AdviseAgents(made, tt.registered)
		if log := s.log.String(); strings.Contains(log, "WARN") != (tt.warns != "") || !strings.Contains(log, tt.warns) {
			t.Errorf("%q logs %s", setting, log)
		}
	}
}

// A trace goes on only where it is one.
func TestTrace(t *testing.T) {
	said := make(chan string, 1)
	hook := agent.Reply(func(_ context.Context, in *agent.Input) (string, error) { said <- in.TraceParent; return "", nil })
	s := environment{agent: hook}.site(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	for name, given := range map[string][]string{
		"none": nil, "empty": {""}, "two": {trace, trace}, "of the next version": {"01" + trace[2:]}, "upper case": {strings.ToUpper(trace)},
		"no trace": {"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, "no parent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"},
		"more": {trace + "-x"}, "one": {trace},
	} {
		b.header["Traceparent"] = given
		b.post("/run", nil)
		if got := <-said; !aTrace.MatchString(got) || slices.Contains(given, got) != (name == "one") {
			t.Errorf("%s: %q", name, got)
		}
		s.runsWritten()
	}
}

// A run is counted by its agent and how it ended, and timed; its log line names it,
// and has nothing of what was asked or said.
func TestObserved(t *testing.T) {
	hook := agent.Reply(func(_ context.Context, in *agent.Input) (string, error) {
		if strings.Contains(in.Prompt, "fail") {
			return "half a secret answer", errors.New("the agent's reason")
		}
		return "a secret answer", nil
	})
	s := environment{agent: hook}.site(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	var ids []string
	for _, prompt := range []string{"a secret question", "fail with a secret"} {
		b.post("/run", url.Values{"prompt": {prompt}})
		s.runsWritten()
		ids = append(ids, regexp.MustCompile(`data-run="([^"]+)"`).FindStringSubmatch(b.get("/").body)[1])
	}
	w := httptest.NewRecorder()
	server.Metrics(s.Server).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		"# TYPE bio_agent_runs_total counter\n", "# TYPE bio_agent_run_duration_seconds histogram\n",
		`bio_agent_runs_total{agent="agent",status="done"} 1` + "\n", `bio_agent_runs_total{agent="agent",status="failed"} 1` + "\n",
		`bio_agent_run_duration_seconds_bucket{agent="agent",le="+Inf"} 2` + "\n", `bio_agent_run_duration_seconds_count{agent="agent"} 2` + "\n",
		"\nprocess_resident_memory_bytes ", "\ngo_goroutines ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in the metrics:\n%s", want, w.Body.String())
		}
	}
	lines := strings.Split(s.log.String(), "\n")
	for i, want := range []string{`"status":"done"`, `"status":"failed"`} {
		of := func(line string) bool { return strings.Contains(line, `"msg":"run"`) && strings.Contains(line, ids[i]) }
		at := slices.IndexFunc(lines, of)
		for _, part := range []string{want, `"agent":"agent"`, `"ms":`} {
			if at < 0 || !strings.Contains(lines[at], part) {
				t.Errorf("no line of run %d with %s in\n%s", i, part, s.log)
			}
		}
	}
	if strings.Contains(s.log.String(), "secret") {
		t.Errorf("content is logged:\n%s", s.log)
	}
}

// The agent in the box is told of a recovery, and calls passkeys by their names.
func TestBriefIsToldOf(t *testing.T) {
	s := newStage(t)
	s.b.does(s.d, s.b.asks(passkeyAct(s.d, "rename"), "name", "Laptop"), audit.PasskeyRenamed)
	s.b.signInAnew(s.d)
	stranger := s.browser()
	stranger.addr = "198.51.100.9:1"
	f := stranger.button("/")
	stranger.press(f, flipped(s.d, f.options, "signature", 77))
	s.clock.Advance(time.Hour)
	p := s.b.signInAnew(s.d)
	for _, want := range []string{
		"Someone with a recovery link is waiting to get into this account", "An attempt to sign in with your passkey (Laptop) was refused", "from 198.51.100.0/24",
	} {
		if !strings.Contains(p.run, want) {
			t.Errorf("does not say %q: %s", want, p.run)
		}
	}
}
