package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

// Each class of refusal leaves an entry that says which, and whose where that is
// known: then it is in their activity.
func TestRefusedClasses(t *testing.T) {
	s := newSite(t)
	owner := s.browser()
	d, _ := owner.register()
	key := s.device() // bound to its device
	key.flags, key.Counter = bound, 5
	keyOwner := s.browser()
	keyOwner.registerWith(key, "/")
	user, keyUser := account.UserID(d.handle), account.UserID(key.handle)

	for i, tt := range []struct {
		reason string
		actor  string
		with   *device // whose passkey the entry refers to; nil when it names nobody
		press  func(b *browser, f *form) *page
	}{
		{"expired", "", nil, func(b *browser, f *form) *page {
			s.clock.Advance(6 * time.Minute)
			return b.press(f, d.get(f.options))
		}},
		{"expired", "", nil, func(b *browser, f *form) *page { // another browser's
			return b.press(f, d.get(s.browser().button("/").options))
		}},
		{"replayed", "", nil, func(b *browser, f *form) *page {
			credential := d.get(f.options)
			if p := b.clone().press(f, credential); p.status != http.StatusOK {
				t.Fatalf("the first time: %d", p.status)
			}
			return b.press(f, credential)
		}},
		{"wrong origin", "", nil, func(b *browser, f *form) *page {
			return b.press(f, d.get(f.options, func(f *draft) { f.client["origin"] = "https://evil.example" }))
		}},
		{"user verification missing", user, d, func(b *browser, f *form) *page {
			return b.press(f, d.get(f.options, func(f *draft) { f.flags &^= account.FlagUserVerified }))
		}},
		{"bad signature", user, d, func(b *browser, f *form) *page { return b.press(f, flipped(d, f.options, "signature", 77)) }},
		{"wrong user handle", user, d, func(b *browser, f *form) *page {
			return b.press(f, d.get(f.options, func(f *draft) { f.response["userHandle"] = encode([]byte("x")) }))
		}},
		{"counter", keyUser, key, func(b *browser, f *form) *page { return b.press(f, key.get(f.options)) }},
		{"malformed", "", nil, func(b *browser, f *form) *page { return b.press(f, "{") }},
		{"no credential", "", nil, func(b *browser, f *form) *page { return b.press(f, "") }},
	} {
		b := s.browser()
		b.addr = fmt.Sprintf("198.51.%d.7:1", i)
		p := tt.press(b, b.button("/"))
		trail := s.trail()
		got := trail[len(trail)-1]
		want := audit.Record{
			Kind: audit.SignInRefused, Reason: tt.reason, Actor: tt.actor,
			Client: audit.Client{Network: fmt.Sprintf("198.51.%d.0/24", i), Browser: "Firefox", System: "Linux"},
		}
		if tt.with != nil {
			want.Credential = account.CredentialRef(tt.with.ID)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(audit.Record{}, "Index", "At"), cmpopts.EquateEmpty()); diff != "" || p.status/100 != 4 {
			t.Errorf("%s: %d (-want +got):\n%s", tt.reason, p.status, diff)
		}
	}
	unknown := s.device()
	unknown.handle = d.handle
	b := s.browser()
	b.addr = "192.0.2.1:1"
	f := b.button("/")
	b.press(f, unknown.get(f.options))
	if got := s.trail()[len(s.trail())-1]; got.Reason != "unknown passkey" || got.Actor != "" {
		t.Errorf("%+v", got)
	}

	refused := func(b *browser) (n int) {
		acts, _, _ := b.get("/account").activity(t)
		for _, a := range acts {
			if strings.HasPrefix(a.words, "An attempt to sign in was refused with Firefox on Linux, from 198.51.") && a.alarming {
				n++
			}
		}
		return n
	}
	if refused(owner) != 3 || refused(keyOwner) != 1 {
		t.Errorf("the persons see %d and %d", refused(owner), refused(keyOwner))
	}
}

// A thousand refusals of one client are one entry at once, and one with the rest
// when their minute is over, or when the server ends.
func TestRefusalsFolded(t *testing.T) {
	for _, end := range []bool{false, true} {
		s := newSite(t)
		b := s.browser()
		for range 1000 {
			b.post("/", url.Values{"credential": {"{"}})
		}
		s.clock.Advance(time.Minute - 1)
		server.Settle(t.Context(), s.Server, false)
		if n := s.rows()["trail"]; n != 1 {
			t.Errorf("%d entries within the minute", n)
		}
		if !end {
			s.clock.Advance(1)
		}
		server.Settle(t.Context(), s.Server, end)
		here := audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"}
		want := []audit.Record{
			{Kind: audit.SignInRefused, Reason: "malformed", Client: here}, {Kind: audit.SignInRefused, Reason: "malformed", Client: here, Count: 999},
		}
		if diff := cmp.Diff(want, s.trail(), cmpopts.IgnoreFields(audit.Record{}, "Index", "At"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		server.Settle(t.Context(), s.Server, end)
		if n := s.rows()["trail"]; n != 2 {
			t.Errorf("%d entries in the end", n)
		}
	}
}

// Folded, refusals keep their classes and stay their person's, apart from those
// of other people from the same network.
func TestRefusalsFoldedByPerson(t *testing.T) {
	s := newSite(t)
	one, other := s.browser(), s.browser()
	d, _ := one.register()
	spare, _ := other.register()
	b := s.browser()
	b.addr = "198.51.100.9:1"
	for i := range 4 {
		f := b.button("/")
		b.press(f, flipped(d, f.options, "signature", 70+i))
		f = b.button("/")
		b.press(f, flipped(spare, f.options, "signature", 70+i))
	}
	f := b.button("/")
	b.press(f, d.get(f.options, func(f *draft) { f.response["userHandle"] = encode([]byte("x")) }))
	server.Settle(t.Context(), s.Server, true)
	for _, tt := range []struct {
		by   *browser
		want []string
	}{
		{one, []string{"4 attempts to sign in were refused with Firefox on Linux, from 198.51.100.0/24", "An attempt to sign in was refused with Firefox on Linux, from 198.51.100.0/24"}},
		{other, []string{"3 attempts to sign in were refused with Firefox on Linux, from 198.51.100.0/24", "An attempt to sign in was refused with Firefox on Linux, from 198.51.100.0/24"}},
	} {
		acts, _, _ := tt.by.get("/account").activity(t)
		var got []string
		for _, a := range acts {
			if strings.Contains(a.words, "refused") {
				got = append(got, a.words)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	user := s.trail()[0].Actor
	for _, r := range s.trail() {
		if r.Actor == user && r.Count == 4 {
			if diff := cmp.Diff(map[string]string{"bad signature": "3", "wrong user handle": "1"}, r.Detail); r.Reason != "several" || diff != "" {
				t.Errorf("%+v (-want +got):\n%s", r, diff)
			}
		}
	}
}

// The briefing tells folded refusals by their number, and a counter among them.
func TestBriefingOfFoldedRefusals(t *testing.T) {
	s := newSite(t)
	key := s.device()
	key.flags, key.Counter = bound, 5
	owner := s.browser()
	owner.registerWith(key, "/")
	key.Counter = 6
	owner.signInAnew(key)
	s.clock.Advance(time.Hour)
	b := s.browser()
	b.addr = "198.51.100.9:1"
	for i := range 10 {
		f := b.button("/")
		b.press(f, flipped(key, f.options, "signature", 70+i))
	}
	key.Counter = 7
	server.Settle(t.Context(), s.Server, true)
	s.clock.Advance(time.Hour)
	if p := owner.signInAnew(key); !strings.Contains(p.run, "10 attempts to sign in with your passkey were refused") {
		t.Errorf("the briefing: %s", p.run)
	}
	s.clock.Advance(time.Hour)
	for i := range 2 {
		f := b.button("/")
		b.press(f, flipped(key, f.options, "signature", 70+i))
	}
	f := b.button("/")
	b.press(f, key.get(f.options)) // its counter has been seen
	server.Settle(t.Context(), s.Server, true)
	s.clock.Advance(time.Hour)
	key.Counter = 8
	if p := owner.signInAnew(key); !strings.Contains(p.run, "miscounted its uses") {
		t.Errorf("the briefing: %s", p.run)
	}
}

// A flood from everywhere does not fill the trail, and every refusal is counted.
func TestRefusalsFlood(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	const networks = 10_000
	for i := range networks {
		b.addr = fmt.Sprintf("%d.%d.9.7:1", 11+i/250, i%250)
		if p := b.post("/", nil); p.status != http.StatusBadRequest {
			t.Fatal(p.status)
		}
	}
	if n := s.rows()["trail"]; n < 2 || n > 102 {
		t.Errorf("%d entries", n)
	}
	s.clock.Advance(time.Minute)
	server.Settle(t.Context(), s.Server, false)
	if n := s.rows()["trail"]; n > 204 || s.refusals() != networks {
		t.Errorf("%d entries of %d refusals", n, s.refusals())
	}
}

// A run is recorded with its person, where they started it, its agent and how it ended.
func TestRunsAreRecorded(t *testing.T) {
	var says func(emit func(agent.Event) error) error
	hook := agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error { return says(emit) })
	s := environment{agent: hook, settings: []string{"BIO_AGENT_TIMEOUT=5s"}}.site(t)
	b := s.browser()
	for i, tt := range []struct {
		status string
		says   func(emit func(agent.Event) error) error
	}{
		{"done", func(emit func(agent.Event) error) error { return emit(agent.Event{Text: "a"}) }},
		{"failed", func(func(agent.Event) error) error { return fmt.Errorf("broken") }},
		{"failed", func(func(agent.Event) error) error { panic("broken") }},
		{"cut", func(emit func(agent.Event) error) error {
			for {
				if err := emit(agent.Event{Text: strings.Repeat("a", 10_000)}); err != nil {
					return err
				}
			}
		}},
	} {
		says = tt.says
		if i == 0 {
			b.register()
		} else {
			b.post("/run", nil)
		}
		p := b.get("/") // streams until the run has ended
		s.runsWritten()
		if !strings.Contains(p.body, `data-final="`+tt.status+`"`) && !strings.Contains(p.body, `data-status="`+tt.status+`"`) {
			t.Fatalf("not %s: %s", tt.status, p.body)
		}
		got := s.trail()[1+2*i:] // behind the registration and the runs before
		if len(got) != 2 {
			t.Fatalf("%s: the trail says %+v", tt.status, got)
		}
		run := map[string]string{"agent": "agent", "run": got[0].Detail["run"]}
		user := s.trail()[0].Actor
		who, _ := b.who()
		want := []audit.Record{
			{
				Kind: audit.RunStarted, Actor: user, Detail: run, Session: who.Session.ID,
				Client: audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"},
			},
			{Kind: audit.RunEnded, Actor: user, Reason: tt.status, Detail: run},
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(audit.Record{}, "Index", "At")); diff != "" || len(run["run"]) != 26 {
			t.Errorf("%s (-want +got):\n%s", tt.status, diff)
		}
	}
	if err := server.CloseRuns(t.Context(), s.Server); err != nil {
		t.Fatal(err)
	}
	before := s.rows()
	b.post("/run", nil) // refused: the server is going
	server.Settle(t.Context(), s.Server, true)
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Errorf("a refused run (-want +got):\n%s", diff)
	}
}

// A run that is stopped because the server ends is recorded, as is all that waits,
// and the last checkpoint covers it.
func TestDrainRecords(t *testing.T) {
	hook := slow{make(chan struct{})}
	s := environment{agent: hook}.site(t)
	v := s.listen(t)
	b := s.browser()
	f := b.button("/")
	answered := make(chan *page)
	credential := s.device().create(f.options)
	go func() { answered <- b.press(f, credential) }()
	c := s.browser()
	for range 5 {
		c.post("/", nil)
	}
	for s.kinds()[audit.Registered] == 0 {
		runtime.Gosched()
	}
	v.stop()
	for s.browser().get("/readyz").status == http.StatusOK {
		runtime.Gosched()
	}
	close(hook.release)
	<-answered
	if err := <-v.ended; err != nil {
		t.Fatal(err)
	}
	if got := s.kinds(); got[audit.RunStarted] != 1 || got[audit.RunEnded] != 1 || s.refusals() != 5 {
		t.Errorf("trail %v, of %d refusals", got, s.refusals())
	}
	none := must(audit.Verifiers())
	last, _ := audit.OpenCheckpoint(must(os.ReadFile(s.published())), none)
	if last.Size != int64(s.rows()["trail"]) || last.Root != s.root(last.Size) {
		t.Errorf("the last checkpoint is of %d entries, the log has %d", last.Size, s.rows()["trail"])
	}
}

// A server publishes by itself what was acted.
func TestKeeper(t *testing.T) {
	s := newSite(t)
	v := s.listen(t)
	s.browser().register()
	none := must(audit.Verifiers())
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if signed, err := os.ReadFile(s.published()); err == nil {
			if c, _ := audit.OpenCheckpoint(signed, none); c.Size >= 1 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was published")
		}
	}
	v.stop()
	if err := <-v.ended; err != nil {
		t.Error(err)
	}
}

// While the database takes nothing, what happens waits, and is recorded once; no agent
// runs that could not be recorded.
func TestNothingIsLost(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	before := s.rows()["trail"]
	const trigger = "CREATE TRIGGER broken BEFORE INSERT ON trail_leaves BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
	if _, err := s.raw.Exec(trigger); err != nil {
		t.Fatal(err)
	}
	c := s.browser()
	c.addr = "198.51.100.9:1"
	refused := 0
	for minute := range 10 {
		for i := range 3 {
			f := c.button("/")
			if p := c.press(f, flipped(d, f.options, "signature", 70+i)); p.status != http.StatusUnauthorized {
				t.Fatalf("%d", p.status)
			}
			c.post("/", nil)
			refused += 2
		}
		if minute == 5 {
			b.post("/run", nil)
			if p := b.get("/"); !strings.Contains(p.run, "This could not be started right now.") {
				t.Errorf("a run while nothing could be written: %s", p.run)
			}
		}
		s.clock.Advance(time.Minute)
		server.Settle(t.Context(), s.Server, false)
	}
	if n := s.rows()["trail"]; n != before {
		t.Fatalf("%d entries while nothing could be written", n-before)
	}
	if !strings.Contains(s.log.String(), "refusal not recorded yet") || !strings.Contains(s.log.String(), "acts were not recorded yet") {
		t.Error("the log says nothing")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	server.Settle(canceled, s.Server, true) // nor is it lost by a pass that is cut short
	if _, err := s.raw.Exec("DROP TRIGGER broken"); err != nil {
		t.Fatal(err)
	}
	if err := server.CloseRuns(t.Context(), s.Server); err != nil {
		t.Fatal(err)
	}
	server.Settle(t.Context(), s.Server, true)
	if got := s.kinds(); s.refusals() != refused || got[audit.RunStarted] != 1 || got[audit.RunEnded] != 1 {
		t.Errorf("%d of %d refusals, trail %v", s.refusals(), refused, got)
	}
	if n := s.rows()["trail"] - before; n > 10 {
		t.Errorf("%d entries", n)
	}
}
