package server_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
	"bio/app/server"
)

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
