package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
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
	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/runs"
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

// What is asked is at most 8 KiB, and of an agent that there is; else nothing starts,
// and nothing that was written is lost.
func TestAskIsRefused(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	const tooLong = "That is too long to ask: the most is 8 KiB, some 8,000 Latin letters. Shorten it, and press Run again."
	long := strings.Repeat("é", 4<<10)
	for name, tt := range map[string]struct {
		by     *browser
		fields url.Values
		status int
		code   string
		notice string
	}{
		"too long":      {b, url.Values{"prompt": {long + "a"}}, 422, "too_long", tooLong},
		"far too long":  {b, url.Values{"prompt": {strings.Repeat("本", 48<<10)}}, 422, "too_long", tooLong},
		"no such agent": {b, url.Values{"prompt": {"<a>"}, "agent": {"butler"}}, 404, "not_found", "There is no agent of that name here."},
		"signed out":    {s.browser(), url.Values{"prompt": {"a"}}, 401, "signed_out", ""},
	} {
		checkCode(t, name, asProblem(tt.by).post("/run", tt.fields), tt.status, tt.code)
		p := tt.by.post("/run", tt.fields)
		if tt.status == 401 {
			if p.header.Get("Location") != "/" {
				t.Errorf("%s: the page is %d to %q", name, p.status, p.header.Get("Location"))
			}
		} else if p.status != tt.status || p.prompt != tt.fields.Get("prompt") || p.notice != tt.notice {
			t.Errorf("%s: the page is %d, says %q, and of what was written keeps %d characters", name, p.status, p.notice, len(p.prompt))
		}
		if kept := s.kept(); kept != nil {
			t.Errorf("%s: started %q", name, kept)
		}
	}
	lines := strings.Repeat("\r\n", 8<<10) // as a form sends 8 KiB
	for _, prompt := range []string{long, lines, "a\xff"} {
		if p := b.post("/run", url.Values{"agent": {"brief"}, "prompt": {prompt}}); p.status != http.StatusSeeOther {
			t.Errorf("%d bytes: %d", len(prompt), p.status)
		}
	}
	if diff := cmp.Diff([]string{"brief done a\uFFFD"}, s.kept()); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// What is asked while an agent is at work comes back to be asked again, beside the
// run that goes on; without words, that run is as good.
func TestAskWhileAtWork(t *testing.T) {
	hook := slow{make(chan struct{}, 2)}
	s := environment{agent: hook}.site(t)
	b := s.browser()
	b.enrol(s.device(), "{}")
	if p := b.post("/run", url.Values{"prompt": {"first"}}); p.status != http.StatusSeeOther {
		t.Fatalf("%d", p.status)
	}
	s.awaitKept("agent running first")
	w := httptest.NewRecorder()
	server.Metrics(s.Server).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"# TYPE bio_agent_runs gauge\n", `bio_agent_runs{agent="agent",state="working"} 1`, `bio_agent_runs{agent="agent",state="waiting"} 0`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	for _, prompt := range []string{"", "first"} { // a second press is the same question
		if p := b.post("/run", url.Values{"prompt": {prompt}}); p.status != http.StatusSeeOther {
			t.Errorf("%q: %d", prompt, p.status)
		}
	}
	checkCode(t, "as a program", asProblem(b).post("/run", url.Values{"prompt": {"second"}}), http.StatusConflict, "busy")
	r := b.request(http.MethodPost, "/run", strings.NewReader("prompt=second+%26+last"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rest := s.reads(r, "beginning")
	hook.release <- struct{}{}
	page := rest()
	s.runsWritten()
	for _, want := range []string{">second &amp; last</textarea>", "agent is still at work. Stop it, or ask again later.", "beginningending"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the page:\n%s", want, page)
		}
	}
	if diff := cmp.Diff([]string{"agent done first"}, s.kept()); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// No page view starts a run, nor does a sign-in that leads elsewhere, nor one through
// the API.
func TestWhatStartsNoRun(t *testing.T) {
	s := newSite(t)
	b, d := s.browser(), s.device()
	b.registerWith(d, "/?return_to=/account")
	out := b.signedOut()
	if p := out.press(out.button("/?return_to=/account"), d.get(out.button("/?return_to=/account").options)); p.status != http.StatusSeeOther {
		t.Fatalf("%d %s", p.status, p.notice)
	}
	out = b.signedOut()
	out.enter(d)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, target := range []string{"/", "/?prompt=a&agent=brief", "/run", "/run?prompt=a", "/run/stop", "/account", "/ceremony"} {
			r := out.request(method, target, nil)
			r.Header.Set("Sec-Purpose", "prefetch")
			out.send(r)
			out.send(out.request(method, target, nil))
		}
	}
	if kept, trail := s.kept(), s.kinds(); kept != nil || trail[audit.RunStarted] != 0 {
		t.Errorf("started %q, trail %v", kept, trail)
	}
	if p := out.get("/"); !strings.Contains(p.run, "Nothing to read just now") || !slices.Contains(p.plain, "/run") {
		t.Errorf("the page: %s, forms %q", p.run, p.plain)
	}
}

// runID is the id of the one run in the database.
func (s *site) runID() (id string) {
	s.t.Helper()
	if err := s.raw.QueryRow("SELECT id FROM runs").Scan(&id); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// A person stops their own run, and nobody else's.
func TestStopRun(t *testing.T) {
	hook := slow{make(chan struct{}, 1)}
	s := environment{agent: hook}.site(t)
	b, other := s.browser(), s.browser()
	b.enrol(s.device(), "{}")
	other.enrol(s.device(), "{}")
	b.post("/run", url.Values{"prompt": {"begin"}})
	s.awaitKept("agent running begin")
	stop := url.Values{"run": {s.runID()}}
	for name, by := range map[string]*browser{"another": other, "nobody": s.browser()} {
		if p := by.post("/run/stop", stop); p.status != http.StatusSeeOther || p.header.Get("Location") != "/" {
			t.Errorf("%s: %d to %q", name, p.status, p.header.Get("Location"))
		}
	}
	checkCode(t, "signed out", asProblem(s.browser()).post("/run/stop", stop), 401, "signed_out")
	for _, fields := range []url.Values{nil, {"run": {""}}, {"run": {"other"}}} {
		b.post("/run/stop", fields)
	}
	hook.release <- struct{}{}
	s.runsWritten()
	if diff := cmp.Diff([]string{"agent done begin"}, s.kept()); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}

	b.post("/run", url.Values{"prompt": {"begin"}})
	s.awaitKept("agent running begin")
	stop.Set("run", s.runID())
	for range 2 { // one that has ended has ended
		if p := b.post("/run/stop", stop); p.status != http.StatusSeeOther || p.header.Get("Location") != "/" {
			t.Errorf("%d to %q", p.status, p.header.Get("Location"))
		}
		s.runsWritten()
	}
	if diff := cmp.Diff([]string{"agent interrupted begin"}, s.kept()); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if got := pieces(t, b.get("/").body)[""]; got[len(got)-1] != "interrupted: Stopped." {
		t.Errorf("the page says %q", got)
	}
	ends := slices.DeleteFunc(s.trail(), func(r audit.Record) bool { return r.Kind != audit.RunEnded })
	if len(ends) != 2 || ends[0].Reason != runs.Done || ends[1].Reason != runs.Interrupted {
		t.Errorf("the trail says %+v", ends)
	}
}

// follow opens the page on a listening site and reads until it has shown the words.
func (v *live) follow(b *browser, words string) (rest func() string) {
	v.t.Helper()
	_, r := v.dial(fmt.Sprintf("GET / HTTP/1.1\r\nHost: localhost:8080\r\nCookie: bio=%s\r\n\r\n", b.cookies["bio"]))
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		v.t.Fatalf("%v %v", answer, err)
	}
	var read strings.Builder
	for one := make([]byte, 1); !strings.Contains(read.String(), words); {
		n, err := answer.Body.Read(one)
		read.Write(one[:n])
		if err != nil {
			v.t.Fatalf("%v after %q", err, read.String())
		}
	}
	return func() string {
		more, err := io.ReadAll(answer.Body)
		if err != nil {
			v.t.Errorf("after %q: %v", read.String(), err)
		}
		return read.String() + string(more)
	}
}

// Another instance of the installation replays a run and follows it, and stops it.
func TestAnotherInstance(t *testing.T) {
	for _, end := range []string{"done:", "interrupted: Stopped."} {
		hook := slow{make(chan struct{})}
		s := environment{agent: hook}.site(t)
		there := environment{agent: slow{}, like: s}.site(t)
		b := s.browser()
		b.enrol(s.device(), "{}")
		b.post("/run", url.Values{"prompt": {"begin"}})
		s.awaitKept("agent running begin")
		v := there.listen(t)
		rest := v.follow(b, "beginning")
		want := []string{"text: beginning", end}
		if end == "done:" {
			want[0] += "ending"
			close(hook.release)
		} else {
			c := there.browser()
			c.cookies = maps.Clone(b.cookies)
			c.post("/run/stop", url.Values{"run": {s.runID()}})
		}
		if diff := cmp.Diff(want, pieces(t, rest())[""]); diff != "" {
			t.Errorf("there (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, pieces(t, b.get("/").body)[""]); diff != "" {
			t.Errorf("here (-want +got):\n%s", diff)
		}
		v.stop()
		if err := <-v.ended; err != nil {
			t.Error(err)
		}
		s.runsWritten()
	}
}

// A run whose server is gone is shown as cut off once its beat is too old, ended by
// the next housekeeping, and can be run again.
func TestCrash(t *testing.T) {
	s := newSite(t)
	b, d := s.browser(), s.device()
	b.enrol(d, "{}")
	// All that a server leaves that wrote this and was killed.
	record := runs.Record{ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa", UserID: account.UserID(d.handle), Agent: "brief", Prompt: "begin", Status: runs.Running}
	if _, err := s.db.StartRun(t.Context(), record, time.Time{}, record.Entry()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.KeepEvents(t.Context(), record.ID, 0, []agent.Event{{Text: "beginning"}}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(runs.Stale + time.Second)
	want := []string{"text: beginning", "interrupted: This was cut off. You can run it again."}
	if p := b.get("/"); !cmp.Equal(pieces(t, p.body)[""], want) || !strings.Contains(p.body, `data-status="interrupted"`) || slices.Contains(p.plain, "/run/stop") {
		t.Errorf("shown as %q, forms %q", pieces(t, p.body), p.plain)
	}
	s.awaitKept("brief running begin")
	v := environment{like: s}.site(t).listen(t)
	s.awaitKept("brief interrupted begin")
	v.stop()
	if err := <-v.ended; err != nil {
		t.Error(err)
	}
	if got := s.since(len(s.trail()) - 1)[0]; got.Kind != audit.RunEnded || got.Reason != runs.Interrupted || got.Detail["run"] != record.ID {
		t.Errorf("the trail says %+v", got)
	}
	if got := pieces(t, b.get("/").body)[""]; !cmp.Equal(got, want) {
		t.Errorf("then shown as %q", got)
	}
	b.post("/run", nil)
	if diff := cmp.Diff([]string{"brief done"}, s.kept()); diff != "" {
		t.Errorf("run again (-want +got):\n%s", diff)
	}
}

// An agent remembers a person from run to run, and no other; what it remembers and
// what it said are erased with the account.
func TestMemory(t *testing.T) {
	hook := agent.Reply(func(ctx context.Context, in *agent.Input) (string, error) {
		was, err := in.Memory.Get(ctx, "visits")
		if err != nil && err != agent.ErrNoMemory {
			return "", err
		}
		return fmt.Sprintf("visit %d", len(was)), in.Memory.Put(ctx, "visits", append(was, 'x'))
	})
	s := environment{agent: hook}.site(t)
	b, other := s.browser(), s.browser()
	d, _ := b.register()
	of := func(table string) (n int) {
		t.Helper()
		if err := s.raw.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 3 {
		if got := pieces(t, b.get("/").body)[""]; got[0] != fmt.Sprintf("text: visit %d", i) {
			t.Errorf("run %d: %q", i, got)
		}
		s.runsWritten()
		b.post("/run", nil)
	}
	s.runsWritten()
	if _, p := other.register(); !strings.Contains(p.run, "visit 0") {
		t.Errorf("another person: %s", p.run)
	}
	s.runsWritten()
	for _, want := range []int{2, 1} {
		if of("runs") != want || of("run_events") != want || of("memory") != want {
			t.Errorf("%d runs, %d events, %d memories, want %d of each", of("runs"), of("run_events"), of("memory"), want)
		}
		if want == 2 {
			b.press(b.asks(eraseAccount), d.get(b.asks(eraseAccount).options))
		}
	}
	if p := other.get("/"); !strings.Contains(p.run, "visit 0") {
		t.Errorf("the other person, then: %s", p.run)
	}
}

// Erasing an account while its agent runs stops that, and leaves nothing of it.
func TestEraseWhileRunning(t *testing.T) {
	s := environment{agent: slow{make(chan struct{})}}.site(t)
	b, d := s.browser(), s.device()
	b.enrol(d, "{}")
	b.post("/run", nil)
	s.awaitKept("agent running")
	f := b.asks(eraseAccount)
	if p := b.press(f, d.get(f.options)); p.status != http.StatusOK || p.account != "" {
		t.Fatalf("%d %s", p.status, p.notice)
	}
	s.runsWritten()
	if kept := s.kept(); kept != nil {
		t.Errorf("left: %q", kept)
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

// patience is a response writer that can wait: it notes when it is told how long.
type patience struct {
	*httptest.ResponseRecorder
	moves  []string // "read", "write": its deadline moved; "piece"
	latest map[string]time.Time
}

func (w *patience) SetReadDeadline(t time.Time) error  { return w.move("read", t) }
func (w *patience) SetWriteDeadline(t time.Time) error { return w.move("write", t) }

func (w *patience) move(which string, t time.Time) error {
	if !t.After(time.Now()) || t.Before(w.latest[which]) {
		return fmt.Errorf("the %s deadline moved from %v to %v", which, w.latest[which], t)
	}
	w.latest[which] = t
	w.moves = append(w.moves, which)
	return nil
}

func (w *patience) Write(p []byte) (int, error) {
	w.moves = append(w.moves, "piece")
	return w.ResponseRecorder.Write(p)
}

// piped is an answer that is read while it is written.
type piped struct {
	http.ResponseWriter
	to *io.PipeWriter
}

func (w piped) Write(p []byte) (int, error) { return w.to.Write(p) }
func (w piped) Flush()                      {}

// reads sends a request, and reads the answer until it has the words. rest reads it
// to its end, and returns all of it.
func (s *site) reads(r *http.Request, words string) (rest func() string) {
	s.t.Helper()
	from, to := io.Pipe()
	go func() {
		s.ServeHTTP(piped{httptest.NewRecorder(), to}, r)
		to.Close()
	}()
	var page strings.Builder
	for piece := make([]byte, 4<<10); !strings.Contains(page.String(), words); {
		n, err := from.Read(piece)
		if page.Write(piece[:n]); err != nil {
			s.t.Fatalf("%v after %s", err, page.String())
		}
	}
	return func() string {
		s.t.Helper()
		if _, err := io.Copy(&page, from); err != nil {
			s.t.Fatal(err)
		}
		return page.String()
	}
}

// A page reads for as long as the session does that opened it, and not a word more.
func TestSessionEndsWhileReading(t *testing.T) {
	for name, end := range map[string]func(*site, *browser) error{
		"signed out": func(_ *site, b *browser) error {
			if p := b.clone().post("/sign-out", nil); p.status != http.StatusSeeOther {
				return fmt.Errorf("sign-out: %d", p.status)
			}
			return nil
		},
		"revoked beside the server": func(s *site, b *browser) error {
			_, n, err := s.db.RevokeSessions(t.Context(), b.get("/account").account, "test")
			s.clock.Advance(2 * time.Second)
			if n == 0 {
				return errors.New("no session was revoked")
			}
			return err
		},
		"at its cap": func(s *site, _ *browser) error {
			s.clock.Advance(s.settings.SessionMax)
			return nil
		},
		"not at all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			hook := slow{make(chan struct{}, 1)}
			s := environment{agent: hook}.site(t)
			b := s.browser()
			b.enrol(s.device(), "{}")
			b.post("/run", nil)
			rest := s.reads(b.request(http.MethodGet, "/", nil), "beginning")
			if end != nil {
				if err := end(s, b); err != nil {
					t.Fatal(err)
				}
			}
			hook.release <- struct{}{}
			got := rest()
			s.runsWritten()
			if strings.Contains(got, "beginningending") != (end == nil) || strings.Contains(got, "Reload it to read on.") != (end != nil) || !strings.Contains(got, "</html>") {
				t.Errorf("the page goes on with %s", got[strings.Index(got, "beginning"):])
			}
			if diff := cmp.Diff([]string{"agent done"}, s.kept()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// A page streams for as long as something comes: the server's own deadlines move
// before each piece. (That they are what ends a connection is net/http's to test.)
func TestStreamOutlastsTimeouts(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.register()
	w := &patience{ResponseRecorder: httptest.NewRecorder(), latest: map[string]time.Time{}}
	s.ServeHTTP(w, b.request(http.MethodGet, "/", nil))
	pieces := 0
	for move := range slices.Chunk(w.moves, 3) {
		pieces++
		if !slices.Equal(move, []string{"read", "write", "piece"}) {
			t.Fatalf("piece %d: %q", pieces, w.moves)
		}
	}
	if pieces < 2 || !strings.Contains(w.Body.String(), `data-final="done"`) || !strings.HasSuffix(strings.TrimSpace(w.Body.String()), "</html>") || !w.Flushed {
		t.Errorf("%d pieces, flushed %t: %s", pieces, w.Flushed, w.Body)
	}
}
