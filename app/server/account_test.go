package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"bio/app/audit"
	"bio/app/server"
)

// act is a line of /account.
type act struct {
	words, when, at string
	alarming        bool
}

// activity reads a page of /account, and where it says that older acts are.
func (p *page) activity(t testing.TB) (acts []act, older string, newest bool) {
	t.Helper()
	if p.status != http.StatusOK || p.account == "" {
		t.Fatalf("/account answered %d as %q", p.status, p.account)
	}
	var section *html.Node
	for n := range must(html.Parse(strings.NewReader(p.body))).Descendants() {
		if attributes(n)["id"] == "activity" {
			section = n
		}
	}
	if section == nil {
		t.Fatal("no section of activity")
	}
	for n := range section.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "li":
			var a act
			for c := range n.Descendants() {
				switch {
				case c.Type != html.ElementNode:
				case c.Data == "p":
					a.words = strings.Join(strings.Fields(text(c)), " ")
				case c.Data == "strong":
					a.alarming = true
				case c.Data == "time":
					a.when, a.at = text(c), attributes(c)["datetime"]
				}
			}
			a.words = strings.TrimPrefix(a.words, "Look at this: ")
			acts = append(acts, a)
		case n.Data == "a" && text(n) == "Older":
			older = attributes(n)["href"]
		case n.Data == "a" && text(n) == "Newest":
			newest = true
		}
	}
	return acts, older, newest
}

func TestAccountSignedOut(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	for _, target := range []string{"/account", "/account?before=7"} {
		out := b.signedOut()
		p := out.get(target)
		if p.status != http.StatusSeeOther || p.header.Get("Location") != "/?return_to=%2Faccount" || strings.Contains(p.body, registered.account) {
			t.Errorf("%s: %d to %q", target, p.status, p.header.Get("Location"))
		}
		// Signing in there leads back.
		f := out.button(p.header.Get("Location"))
		p = out.press(f, d.get(f.options))
		if p.status != http.StatusSeeOther || p.header.Get("Location") != "/account" {
			t.Errorf("signed in: %d to %q", p.status, p.header.Get("Location"))
		}
		if p := out.get(p.header.Get("Location")); p.status != http.StatusOK || p.account != registered.account {
			t.Errorf("then %d as %q", p.status, p.account)
		}
		program := b.signedOut()
		program.header.Set("Accept", "application/json")
		checkProblem(t, program.get(target), http.StatusUnauthorized)
	}
	if p := b.post("/account", nil); p.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", p.status)
	}
	dead := b.clone()
	dead.cookies["bio"] += "x"
	if p := dead.get("/account"); p.status != http.StatusSeeOther {
		t.Errorf("a spoilt session: %d", p.status)
	}
}

// Each person sees what they did, newest first, and nothing of anyone else's.
func TestAccountIsOnesOwn(t *testing.T) {
	s := newSite(t, "BIO_SESSION_IDLE=100h", "BIO_SESSION_MAX=100h")
	one, other := s.browser(), s.browser()
	other.agent, other.addr = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36", "[2001:db8:7:8::9]:443"
	d, _ := one.register()
	s.clock.Advance(time.Minute)
	spare, _ := other.register()
	s.clock.Advance(time.Hour)
	one.signInAnew(d)
	f := other.signedOut().button("/")
	other.signedOut().press(f, flipped(spare, f.options, "signature", 70))
	s.clock.Advance(50 * time.Hour)
	one.post("/sign-out", nil)
	one.signIn(d)

	acts, older, newest := one.get("/account").activity(t)
	want := []act{
		{"Signed in with Firefox on Linux, from 203.0.113.0/24", "just now", "2026-03-03T15:01:00Z", false},
		{"Signed out with Firefox on Linux, from 203.0.113.0/24", "just now", "2026-03-03T15:01:00Z", false},
		{"Signed in with Firefox on Linux, from 203.0.113.0/24", "2 days ago", "2026-03-01T13:01:00Z", false},
		{"Made this account with Firefox on Linux, from 203.0.113.0/24", "2 days ago", "2026-03-01T12:00:00Z", false},
	}
	if diff := cmp.Diff(want, acts, cmp.AllowUnexported(act{})); diff != "" || older != "" || newest {
		t.Errorf("older %q, newest %t (-want +got):\n%s", older, newest, diff)
	}
	acts, _, _ = other.get("/account").activity(t)
	want = []act{
		{"An attempt to sign in was refused with Chrome on Windows, from 2001:db8:7::/48", "2 days ago", "2026-03-01T13:01:00Z", true},
		{"Made this account with Chrome on Windows, from 2001:db8:7::/48", "2 days ago", "2026-03-01T12:01:00Z", false},
	}
	if diff := cmp.Diff(want, acts, cmp.AllowUnexported(act{})); diff != "" {
		t.Errorf("the other's (-want +got):\n%s", diff)
	}
}

// More acts than fit on a page are each on one of them, also when others come
// meanwhile.
func TestAccountPages(t *testing.T) {
	s := newSite(t)
	b, other := s.browser(), s.browser()
	d, _ := b.register()
	others, _ := other.register()
	for n := range 59 {
		s.clock.Advance(time.Second)
		b.signInAnew(d)
		if n == 23 || n == 24 {
			if _, older, _ := b.get("/account").activity(t); (older != "") != (n == 24) {
				t.Errorf("%d acts: older at %q", n+2, older)
			}
		}
		if n%7 == 0 {
			other.signInAnew(others)
		}
	}
	server.Settle(t.Context(), s.Server, false) // runs of the agent, which are not told here
	user := s.trail()[0].Actor
	var want []string
	for _, r := range slices.Backward(s.trail()) {
		if r.Actor == user && r.Kind != audit.RunStarted && r.Kind != audit.RunEnded {
			want = append(want, fmt.Sprint(r.At.Format(time.RFC3339), " ", server.Activity(r)))
		}
	}
	var got []string
	pages := 0
	for target := "/account"; target != ""; pages++ {
		acts, older, newest := b.get(target).activity(t)
		if newest != (pages > 0) || older != "" && len(acts) != 25 || len(acts) == 0 {
			t.Errorf("page %d: %d acts, older at %q, newest %t", pages, len(acts), older, newest)
		}
		for _, a := range acts {
			got = append(got, a.at+" "+a.words)
		}
		target = older
		b.signedOut().signIn(d) // meanwhile
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 60 || pages < 3 {
		t.Errorf("%d acts on %d pages (-want +got):\n%s", len(want), pages, diff)
	}
}

// Whatever an address asks for, the answer is a page of the person's own.
func TestAccountBefore(t *testing.T) {
	s := newSite(t)
	s.browser().register() // entries 0 to 2 are someone else's
	b := s.browser()
	_, registered := b.register()
	for before, want := range map[string]struct {
		acts   int
		newest bool // there is a way back to the newest page
	}{
		"": {1, false}, "0": {1, false}, "x": {1, false}, "-1": {1, false}, "-9223372036854775808": {1, false}, "99999999999999999999": {1, false},
		"-99999999999999999999": {1, false}, "1e3": {1, false}, "1 OR 1=1": {1, false}, "0x10": {1, false}, "1;DROP TABLE users": {1, false}, "\x00": {1, false}, "٣": {1, false},
		"9223372036854775807": {1, true}, "4": {1, true}, "3": {0, true},
	} {
		p := b.get("/account?" + url.Values{"before": {before}}.Encode())
		acts, older, newest := p.activity(t)
		if len(acts) != want.acts || newest != want.newest || older != "" || p.account != registered.account {
			t.Errorf("%q: %d acts, older at %q, newest %t", before, len(acts), older, newest)
		}
		if want.acts == 0 && !strings.Contains(p.body, "Nothing older.") {
			t.Errorf("%q: says nothing", before)
		}
	}
	if acts, _, _ := b.get("/account?before=4&before=3").activity(t); len(acts) != 1 { // the first counts
		t.Errorf("twice: %d acts", len(acts))
	}
	b.get("/account?before=%zz").activity(t)
}

// Every kind of act has its words.
func TestActivity(t *testing.T) {
	here := audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"}
	type words struct {
		audit.Record
		want string
	}
	table := map[audit.Kind][]words{
		audit.Registered:      {{audit.Record{Client: here}, "Made this account with Firefox on Linux, from 203.0.113.0/24"}},
		audit.DuplicateUndone: {{audit.Record{Client: here}, "Removed an account made by accident with Firefox on Linux, from 203.0.113.0/24"}},
		audit.Erased:          {{audit.Record{Reason: "command line"}, "Erased an account"}},
		audit.SignedIn: {
			{audit.Record{}, "Signed in"},
			{audit.Record{Client: here}, "Signed in with Firefox on Linux, from 203.0.113.0/24"},
			{audit.Record{Client: audit.Client{Browser: "Firefox"}}, "Signed in with Firefox"},
			{audit.Record{Client: audit.Client{System: "Linux"}}, "Signed in on Linux"},
			{audit.Record{Client: audit.Client{Network: "2001:db8::/48"}}, "Signed in from 2001:db8::/48"},
			{audit.Record{Client: audit.Client{Network: "2001:db8::/48", System: "Linux"}}, "Signed in on Linux, from 2001:db8::/48"},
			{audit.Record{Client: audit.Client{Network: "127.0.0.0/24"}}, "Signed in from this machine"},
			{audit.Record{Client: audit.Client{Network: "::/48", Browser: "Firefox", System: "Linux"}}, "Signed in with Firefox on Linux, from this machine"},
			{audit.Record{Client: audit.Client{Network: "127.0.1.0/24"}}, "Signed in from 127.0.1.0/24"},
		},
		audit.SignInRefused: {
			{audit.Record{Client: here, Reason: "bad signature"}, "An attempt to sign in was refused with Firefox on Linux, from 203.0.113.0/24"},
			{audit.Record{Count: 1}, "An attempt to sign in was refused"},
			{audit.Record{Count: 999, Reason: "several", Detail: map[string]string{"counter": "2"}, Client: audit.Client{Network: "203.0.113.0/24"}},
				"999 attempts to sign in were refused from 203.0.113.0/24"},
			{audit.Record{Client: here, Reason: "passkey of another account"}, "A passkey that does not open this account was refused with Firefox on Linux, from 203.0.113.0/24"},
		},
		audit.SignedOut:       {{audit.Record{Client: here}, "Signed out with Firefox on Linux, from 203.0.113.0/24"}},
		audit.SessionReplaced: {{audit.Record{Client: here}, "Left a session by signing in again with Firefox on Linux, from 203.0.113.0/24"}},
		audit.SessionExpired: {
			{audit.Record{Reason: "idle"}, "A session ended, because it was not used"}, {audit.Record{Reason: "cap"}, "A session ended, because its time was over"},
		},
		audit.SessionRevoked: {
			{audit.Record{Reason: "command line"}, "An operator ended a session"},
			{audit.Record{Reason: "account disabled"}, "An operator ended a session"},
			{audit.Record{Reason: "from another session", Client: here}, "Ended a session with Firefox on Linux, from 203.0.113.0/24"},
			{audit.Record{Reason: "passkey removed", Client: here}, "A session ended with its passkey with Firefox on Linux, from 203.0.113.0/24"},
			{audit.Record{Reason: "too many"}, "A session ended, the oldest of too many"},
			{audit.Record{Reason: "recovery", Client: here}, "A session ended with the recovery with Firefox on Linux, from 203.0.113.0/24"},
		},
		audit.Renamed: {{audit.Record{Client: here, Detail: map[string]string{"from": "amber-otter-42", "to": "Nadia"}},
			"Renamed this account to Nadia with Firefox on Linux, from 203.0.113.0/24"}},
		audit.Disabled: {{audit.Record{}, "An operator disabled this account"}},
		audit.Enabled:  {{audit.Record{}, "An operator enabled this account again"}},
		audit.GroupsSet: {
			{audit.Record{Detail: map[string]string{"were": "", "are": "dev ops"}}, "An operator set your groups: dev, ops"},
			{audit.Record{Detail: map[string]string{"were": "dev", "are": ""}}, "An operator set your groups: none"},
		},
		audit.RecoveryMade: {{audit.Record{Client: here}, "Made a recovery link for someone with Firefox on Linux, from 203.0.113.0/24"}},
		audit.RecoveryOffered: {
			{audit.Record{Reason: "account page"}, "An owner made a recovery link for this account"},
			{audit.Record{Reason: "command line"}, "An operator made a recovery link for this account"},
		},
		audit.RecoveryBegun:         {{audit.Record{Client: here}, "Someone began to recover this account with Firefox on Linux, from 203.0.113.0/24"}},
		audit.RecoveryCancelled:     {{audit.Record{Client: here}, "The recovery of this account was cancelled with Firefox on Linux, from 203.0.113.0/24"}},
		audit.RecoveryCompleted:     {{audit.Record{Client: here}, "This account was recovered with a new passkey with Firefox on Linux, from 203.0.113.0/24"}},
		audit.PasskeyAdded:          {{audit.Record{}, "Added a passkey"}},
		audit.PasskeyRenamed:        {{audit.Record{}, "Renamed a passkey"}},
		audit.PasskeyRemoved:        {{audit.Record{}, "Removed a passkey"}},
		audit.CounterAnomaly:        {{audit.Record{}, "Your passkey miscounted its uses"}},
		audit.BackupEligibleChanged: {{audit.Record{}, "Your passkey can now be synced"}},
		audit.InvitationMade: {
			{audit.Record{}, "Invited someone"}, {audit.Record{Detail: map[string]string{"groups": "dev ops"}}, "Invited someone, to join dev, ops"},
		},
		audit.InvitationUsed: {
			{audit.Record{}, "Used an invitation"}, {audit.Record{Detail: map[string]string{"groups": "dev ops"}}, "Used an invitation, and joined dev, ops"},
			{audit.Record{Client: here, Detail: map[string]string{"groups": "ops"}}, "Used an invitation with Firefox on Linux, from 203.0.113.0/24, and joined ops"},
		},
		"of.another_version": {{audit.Record{}, "of.another_version"}},
	}
	for _, event := range audit.Events() {
		if rows := table[event.Kind]; (len(rows) > 0) != (event.Words != "") {
			t.Errorf("%s: %d rows for the words %q", event.Kind, len(rows), event.Words)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(table)) {
		for _, row := range table[kind] {
			row.Kind = kind
			if got := server.Activity(row.Record); got != row.want {
				t.Errorf("%s: %q, want %q", kind, got, row.want)
			}
		}
	}
}

// Times are counted from the server's clock.
func TestAccountTimes(t *testing.T) {
	s := newSite(t, "BIO_SESSION_IDLE=9000h", "BIO_SESSION_MAX=9600h")
	b := s.browser()
	b.register()
	var passed time.Duration
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, "just now"}, {time.Minute, "a minute ago"}, {3 * time.Minute, "3 minutes ago"}, {2 * time.Hour, "2 hours ago"}, {24 * time.Hour, "yesterday"},
		{15 * 24 * time.Hour, "2 weeks ago"}, {100 * 24 * time.Hour, "3 months ago"},
	} {
		s.clock.Advance(step.after - passed)
		passed = step.after
		acts, _, _ := b.get("/account").activity(t)
		if len(acts) != 1 || acts[0].when != step.want || acts[0].at != epoch.Format(time.RFC3339) {
			t.Errorf("after %s: %+v", step.after, acts)
		}
	}
	s.clock.Advance(-passed - time.Hour) // the clock is set back
	if acts, _, _ := b.get("/account").activity(t); acts[0].when != "just now" {
		t.Errorf("%+v", acts)
	}
}
