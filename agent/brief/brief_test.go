package brief

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/agenttest"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

func before(d time.Duration) time.Time { return now.Add(-d) }

func from(ago time.Duration, browser, system, network string) Visit {
	return Visit{At: before(ago), Browser: browser, System: system, Network: network}
}

const (
	home   = "203.0.113.0/24"
	cafe   = "198.51.100.0/24"
	abroad = "2001:db8::/48"
)

var (
	cloud   = Passkey{Name: "iCloud Keychain", Synced: true, BackedUp: true, Created: before(90 * day), LastUsed: now}
	phone   = Passkey{Name: "Google Password Manager", Synced: true, Created: before(90 * day), LastUsed: now}
	key     = Passkey{Name: "YubiKey 5 Series", Created: before(400 * day), LastUsed: before(250 * day)}
	here    = from(0, "Firefox", "Linux", home)
	earlier = from(30*hour, "Firefox", "Linux", home)
	seen    = Seen{Browsers: []string{"Firefox", "Safari"}, Systems: []string{"Linux", "iPhone"}, Networks: []string{home}}
)

func fresh(p Passkey) Passkey {
	p.Created, p.LastUsed = now, now
	return p
}

var situations = []struct {
	name  string
	facts Facts
}{
	{"first visit", Facts{Visit: here, Passkeys: []Passkey{fresh(cloud)}}},
	{"first visit, not backed up", Facts{Visit: here, Passkeys: []Passkey{fresh(phone)}}},
	{"first visit, device-bound", Facts{Visit: here, Passkeys: []Passkey{fresh(Passkey{Name: "Passkey"})}}},
	{"first visit, no facts", Facts{}},
	{"quiet", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}}},
	{"quiet, just now", Facts{Visit: here, Last: from(5*time.Second, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{cloud}}},
	{"quiet, not backed up", Facts{Visit: here, Last: from(3*day, "Safari", "iPhone", cafe), Seen: seen, Passkeys: []Passkey{phone}}},
	{"quiet, device-bound", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{{Created: before(90 * day), LastUsed: now}}}},
	{"quiet, several passkeys", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud, phone}}},
	{"quiet, a forgotten passkey", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud, key}}},
	{"quiet, little known", Facts{Visit: Visit{At: now}, Last: Visit{At: before(800 * day)}}},
	{"new browser", Facts{Visit: from(0, "Chrome", "Linux", home), Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}}},
	{"new browser, system and network", Facts{Visit: from(0, "Edge", "Windows", cafe), Last: from(5*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{phone}}},
	{"new network", Facts{Visit: from(0, "Firefox", "Linux", abroad), Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}}},
	{"refused once", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: Refused, Visit: from(2*hour, "Chrome", "Windows", cafe)},
	}}},
	{"refused often, one of several", Facts{Visit: here, Last: from(20*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{cloud, phone}, Acts: []Act{
		{Kind: Refused, Visit: from(3*day, "", "", abroad)}, {Kind: Refused, Visit: from(10*day, "Firefox", "Linux", home)}, {Kind: Refused, Visit: from(9*day, "Chrome", "Windows", cafe)},
	}}},
	{"refused very often", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: Refused, Visit: from(2*hour, "Chrome", "Windows", cafe)}, {Kind: Refused, Visit: from(hour, "", "", cafe), Count: 999},
	}}},
	{"counter anomalies, told as one", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{{Name: "YubiKey 5 Series", Created: before(90 * day)}}, Acts: []Act{
		{Kind: CounterAnomaly, Visit: from(4*hour, "Chrome", "Windows", home), Count: 7},
	}}},
	{"refused here", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: Refused, Visit: from(90*time.Second, "Firefox", "Linux", home)}, {Kind: Refused, Visit: from(2*time.Minute, "Firefox", "Linux", home)},
	}}},
	{"refused, nowhere known", Facts{Visit: Visit{At: now}, Last: earlier, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: Refused, Visit: Visit{At: before(65 * time.Minute)}}}}},
	{"signed in elsewhere", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: SignedIn, Visit: from(6*hour, "Safari", "iPhone", abroad)},
	}}},
	{"signed in from a strange place", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: SignedIn, Visit: from(6*hour, "Opera", "Windows", abroad)}, {Kind: SignedIn, Visit: from(8*hour, "Safari", "iPhone", home)},
	}}},
	{"counter anomaly", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{{Name: "YubiKey 5 Series", Created: before(90 * day)}}, Acts: []Act{
		{Kind: CounterAnomaly, Visit: from(4*hour, "Chrome", "Windows", home)},
	}}},
	{"became syncable", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: BackupEligibleChanged, Visit: from(10*time.Minute, "Firefox", "Linux", home)}}}},
	{"passkey added", Facts{Visit: here, Last: from(100*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{fresh(phone), cloud}, Acts: []Act{
		{Kind: PasskeyAdded, Visit: from(3*day, "Chrome", "Windows", cafe), Passkey: "Google Password Manager"},
	}}},
	{"passkeys added, also here", Facts{Visit: here, Last: from(100*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{fresh(phone), cloud}, Acts: []Act{
		{Kind: PasskeyAdded, Visit: from(3*day, "Chrome", "Windows", cafe)}, {Kind: PasskeyAdded, Visit: from(2*day, "", "", "")}, {Kind: PasskeyAdded, Visit: here},
	}}},
	{"passkey added here", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone, cloud}, Acts: []Act{
		{Kind: PasskeyAdded, Visit: from(5*time.Minute, "Firefox", "Linux", home), Passkey: "Google Password Manager"},
	}}},
	{"passkey added on the first visit", Facts{Visit: here, Passkeys: []Passkey{fresh(phone), fresh(cloud)}, Acts: []Act{{Kind: PasskeyAdded, Visit: here, Passkey: "iCloud Keychain"}}}},
	{"passkey removed", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone}, Acts: []Act{
		{Kind: PasskeyRemoved, Visit: from(2*hour, "Safari", "iPhone", abroad)},
	}}},
	{"passkeys removed", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: PasskeyRemoved, Visit: from(2*hour, "Safari", "iPhone", home)}, {Kind: PasskeyRemoved, Visit: from(3*hour, "Safari", "iPhone", home)},
	}}},
	{"passkey removed here", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone, cloud}, Acts: []Act{{Kind: PasskeyRemoved, Visit: here}}}},
	{"passkey of several miscounted", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone, cloud}, Acts: []Act{
		{Kind: CounterAnomaly, Visit: from(2*hour, "Firefox", "Linux", home), Passkey: "iCloud Keychain"}, {Kind: CounterAnomaly, Visit: from(3*hour, "", "", ""), Passkey: "iCloud Keychain"},
	}}},
	{"refused, several passkeys", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone, cloud}, Acts: []Act{
		{Kind: Refused, Visit: from(2*hour, "", "", cafe), Passkey: "iCloud Keychain"}, {Kind: Refused, Visit: from(3*hour, "", "", cafe), Passkey: "Google Password Manager"},
	}}},
	{"signed in from strange places", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone}, Acts: []Act{
		{Kind: SignedIn, Visit: from(6*hour, "Opera", "Windows", abroad)}, {Kind: SignedIn, Visit: from(8*hour, "Opera", "Windows", abroad)},
	}}},
	{"recovery offered", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: RecoveryOffered, Visit: Visit{At: before(3 * hour)}}}}},
	{"recovery waits", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone},
		Recovery: &Recovery{before(2 * hour), now.Add(22*hour - time.Minute), "Chrome", "Windows", cafe},
		Acts:     []Act{{Kind: RecoveryOffered, Visit: Visit{At: before(3 * hour)}}, {Kind: RecoveryBegun, Visit: from(2*hour, "Chrome", "Windows", cafe)}},
	}},
	{"recovery waits since long", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Recovery: &Recovery{Begun: before(5 * day), Due: before(4 * day)}}},
	{"recovery waits on a new account", Facts{Visit: here, Passkeys: []Passkey{fresh(cloud)}, Recovery: &Recovery{before(time.Minute), now.Add(3 * day), "Firefox", "Linux", home}}},
	{"recovery begun", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: RecoveryBegun, Visit: from(2*hour, "Chrome", "Windows", cafe)}}}},
	{"recovery cancelled", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: RecoveryCancelled, Visit: from(2*hour, "Safari", "iPhone", home)}, {Kind: RecoveryOffered, Visit: Visit{At: before(9 * hour)}}, {Kind: RecoveryBegun, Visit: from(8*hour, "Chrome", "Windows", cafe)},
	}}},
	{"recovery cancelled by another link", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{
		{Kind: RecoveryOffered, Visit: Visit{At: before(2 * hour)}}, {Kind: RecoveryCancelled, Visit: Visit{At: before(2 * hour)}},
	}}},
	{"recovered here", Facts{Visit: here, Last: from(40*day, "Safari", "iPhone", cafe), Seen: seen, Passkeys: []Passkey{fresh(cloud), key}, Acts: []Act{
		{Kind: RecoveryOffered, Visit: Visit{At: before(30 * hour)}}, {Kind: RecoveryBegun, Visit: from(26*hour, "Firefox", "Linux", home)}, {Kind: RecoveryCompleted, Visit: here},
	}}},
	{"recovered here, nothing old", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{fresh(phone)}, Acts: []Act{{Kind: RecoveryCompleted, Visit: here}}}},
	{"recovered elsewhere", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{fresh(cloud), key}, Acts: []Act{
		{Kind: RecoveryCompleted, Visit: from(4*hour, "Chrome", "Windows", cafe)},
	}}},
	{"enabled again", Facts{Visit: here, Last: from(9*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: Enabled, Visit: Visit{At: before(2 * day)}}}}},
	{"groups set", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: GroupsSet, Visit: Visit{At: before(2 * hour)}}}}},
	{"approval waits", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Approvals: 1}},
	{"approvals wait, not backed up", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{phone}, Approvals: 3}},
	{"approvals wait, refused", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud, phone}, Approvals: 2, Acts: []Act{
		{Kind: Refused, Visit: from(2*hour, "Chrome", "Windows", cafe)},
	}}},
	{"approvals wait, recovery waits", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Approvals: 2,
		Recovery: &Recovery{before(23 * hour), now.Add(30 * time.Minute), "Chrome", "Windows", cafe},
	}},
	{"on this machine", Facts{Visit: from(0, "Chrome", "Linux", "127.0.0.0/24"), Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: Refused, Visit: from(hour, "", "", "::/48")}}}},
	{"hostile names", Facts{Visit: from(0, "[Browser](//evil.example)", "<b>System</b>", "www.evil.example"), Last: from(day, "*Fire*fox", "`Linux`", home), Seen: seen,
		Passkeys: []Passkey{{Name: "  a\n- [name](https://evil.example) that goes on and on and on\x00\xff", Created: before(400 * day)}, cloud},
		Acts: []Act{
			{Kind: PasskeyAdded, Visit: from(hour, "", "", cafe), Passkey: "**[remove all](/account/erase)** \u202e&lt;"},
			{Kind: Refused, Visit: from(hour, "", "", cafe), Passkey: "https://evil.example me@evil.example"},
		}}},
	{"kinds of no interest", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: "session.signed_out", Visit: from(hour, "", "", "")}}}},
	{"everything at once", Facts{Visit: from(0, "Edge", "Windows", cafe), Last: from(45*day, "Firefox", "Linux", home), Seen: seen,
		Passkeys: []Passkey{fresh(phone), {Name: "Key", Created: before(day)}, key}, Approvals: 1,
		Acts: []Act{
			{Kind: PasskeyAdded, Visit: from(day, "", "", "")}, {Kind: PasskeyRemoved, Visit: from(2*day, "", "", "")}, {Kind: GroupsSet, Visit: Visit{At: before(day)}},
			{Kind: RecoveryOffered, Visit: Visit{At: before(day)}}, {Kind: Enabled, Visit: Visit{At: before(day)}},
			{Kind: CounterAnomaly, Visit: from(4*day, "Chrome", "Windows", home)}, {Kind: CounterAnomaly, Visit: from(5*day, "Chrome", "Windows", home)},
			{Kind: Refused, Visit: from(3*day, "", "Android", cafe)}, {Kind: SignedIn, Visit: from(6*day, "Opera", "", abroad)}, {Kind: BackupEligibleChanged, Visit: from(day, "", "", "")},
		}}},
}

var otter = agent.User{ID: "u1", Name: "cedar-otter-42", Groups: []string{"dev", "ops"}}

// show writes events as the golden files have them.
func show(events []agent.Event) string {
	var out strings.Builder
	for _, event := range events {
		if event.Kind == agent.Status {
			out.WriteString("[" + event.Text + "]\n")
		} else {
			out.WriteString(event.Text)
		}
	}
	return out.String() + "\n"
}

func TestGolden(t *testing.T) {
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			var asked string
			a := New(func(_ context.Context, userID string) (Facts, error) {
				asked = userID
				return s.facts, nil
			}, func() time.Time { return now })
			events := agenttest.Run(t, a, agent.Input{User: otter})
			if asked != "u1" {
				t.Errorf("asked for the facts of %q", asked)
			}
			got := show(events)
			text := Write(otter, s.facts, now)
			if got != "[Looking at what happened since last time…]\n"+text+"\n" {
				t.Errorf("the agent says\n%s\nand Write\n%s", got, text)
			}
			sound(t, text)
			file := filepath.Join("testdata", strings.NewReplacer(" ", "-", ",", "").Replace(s.name)+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNoName(t *testing.T) {
	for _, name := range []string{"", " \n", "\u200b"} {
		for _, f := range []Facts{{}, {Last: earlier}} {
			if got := Write(agent.User{Name: name}, f, now); !regexp.MustCompile(`^Welcome( back)?\. `).MatchString(got) {
				t.Errorf("%q: got %q", name, got)
			}
		}
	}
}

// What the groups are now is told, and not all of very many.
func TestGroups(t *testing.T) {
	f := Facts{Visit: here, Last: earlier, Seen: seen, Acts: []Act{{Kind: GroupsSet, Visit: Visit{At: before(hour)}}}}
	for _, test := range []struct {
		groups []string
		want   string
	}{
		{nil, "none."},
		{[]string{"a_b", "www.example.com"}, `a\_b, www\.example.com.`},
		{[]string{"a", "b", "c", "d", "e"}, "a, b, c, d, e."},
		{[]string{"a", "b", "c", "d", "e", "f"}, "a, b, c, d, and 2 more."},
	} {
		got := Write(agent.User{Groups: test.groups}, f, now)
		if want := "An operator set your groups an hour ago. They are now: " + test.want; !strings.Contains(got, want) {
			t.Errorf("%q: %s", test.groups, got)
		}
	}
}

// Who asks is told that there is no answer, and gets the briefing.
func TestPrompt(t *testing.T) {
	a := New(func(context.Context, string) (Facts, error) { return situations[0].facts, nil }, func() time.Time { return now })
	briefing := Write(otter, situations[0].facts, now)
	for prompt, want := range map[string]string{
		"": briefing, " \n": briefing,
		"What is new?": "This agent cannot answer that: it only tells what happened on this account.\n\n" + briefing,
	} {
		if got := agenttest.Text(t, a, agent.Input{User: otter, Prompt: prompt}); got != want {
			t.Errorf("%q: got\n%s", prompt, got)
		}
	}
}

func TestFactsFail(t *testing.T) {
	broken := errors.New("broken")
	a := New(func(context.Context, string) (Facts, error) { return Facts{}, broken }, func() time.Time { return now })
	var events []agent.Event
	var failure error
	for event, err := range a.Run(t.Context(), &agent.Input{}) {
		if failure = err; err == nil {
			events = append(events, event)
		}
	}
	if !errors.Is(failure, broken) || len(events) != 1 || events[0].Kind != agent.Status {
		t.Errorf("got %v, %v", events, failure)
	}
}

func TestGone(t *testing.T) {
	a := New(func(context.Context, string) (Facts, error) { return situations[0].facts, nil }, func() time.Time { return now })
	for stop := range 3 {
		n := 0
		for range a.Run(t.Context(), &agent.Input{}) {
			if n++; n > stop {
				break
			}
		}
		if n != stop+1 {
			t.Errorf("%d events after a stop at %d", n, stop+1)
		}
	}
}

func TestAgo(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{-hour, "just now"}, {0, "just now"}, {time.Minute - 1, "just now"},
		{time.Minute, "a minute ago"}, {2 * time.Minute, "2 minutes ago"}, {hour - 1, "59 minutes ago"},
		{hour, "an hour ago"}, {2 * hour, "2 hours ago"}, {day - 1, "23 hours ago"},
		{day, "yesterday"}, {2*day - 1, "yesterday"}, {2 * day, "2 days ago"}, {14*day - 1, "13 days ago"},
		{14 * day, "2 weeks ago"}, {61*day - 1, "8 weeks ago"}, {61 * day, "2 months ago"},
		{730*day - 1, "23 months ago"}, {730 * day, "2 years ago"}, {4000 * day, "10 years ago"},
	} {
		if got := Ago(now, before(test.d)); got != test.want {
			t.Errorf("%v: got %q, want %q", test.d, got, test.want)
		}
	}
}

func TestAhead(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{-hour, "from now on"}, {0, "from now on"}, {1, "in a second"}, {time.Second + 1, "in 2 seconds"}, {time.Minute, "in 60 seconds"},
		{time.Minute + 1, "in 2 minutes"}, {hour, "in 60 minutes"}, {hour + 1, "in 2 hours"}, {22*hour - 1, "in 22 hours"},
		{2 * day, "in 48 hours"}, {2*day + 1, "in 3 days"}, {30 * day, "in 30 days"},
	} {
		if got := ahead(now, now.Add(test.d)); got != test.want {
			t.Errorf("%v: got %q, want %q", test.d, got, test.want)
		}
	}
}

var (
	escaped = regexp.MustCompile(`\\[!-/:-@\[-\x60{-~]`)
	linked  = regexp.MustCompile(`\[[A-Za-z ]+\]\((/account|/account#activity|/account#passkeys|/account#sessions|/approvals)\)`)
	strong  = regexp.MustCompile(`(?m)^(- )?\*\*[^*]+\*\*`)
	marked  = regexp.MustCompile("[\\\\`*_~<>&@\\[\\]]|://|www\\.")
	clock   = regexp.MustCompile(`\d:\d\d|20\d\d-|\bUTC\b`)
)

// sound checks what holds for every briefing: it is short, every line is a
// sentence, one link at most leads to a place on Bio, and there is no other markup
// than strong words at the beginning of a point.
func sound(t *testing.T, text string) {
	t.Helper()
	if lines := strings.Count(text, "\n") + 1; lines > 12 || utf8.RuneCountInString(text) > 1500 || !utf8.ValidString(text) {
		t.Errorf("%d lines, %d characters:\n%s", lines, utf8.RuneCountInString(text), text)
	}
	if links := linked.FindAllString(text, -1); len(links) > 1 {
		t.Errorf("%d links:\n%s", len(links), text)
	}
	bare := strong.ReplaceAllString(linked.ReplaceAllString(escaped.ReplaceAllString(text, " "), ""), "")
	if mark := marked.FindString(bare); mark != "" {
		t.Errorf("a mark %q:\n%s", mark, text)
	}
}

// FuzzWrite makes facts of every sort and checks what holds for all briefings.
func FuzzWrite(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, "Key \xff\n- name")
	}
	kinds := []Kind{
		SignedIn, Refused, CounterAnomaly, BackupEligibleChanged, PasskeyAdded, PasskeyRemoved,
		RecoveryOffered, RecoveryBegun, RecoveryCancelled, RecoveryCompleted, Enabled, GroupsSet, "other",
	}
	write := func(t *testing.T, seed uint64, name string) string {
		t.Helper()
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(of ...string) string { return of[random.IntN(len(of))] }
		visit := func() Visit {
			return from(time.Duration(random.Int64N(int64(1000*day))),
				pick("", "Firefox", "Chrome", "Edge"), pick("", "Linux", "Windows"), pick("", home, cafe, abroad))
		}
		facts := Facts{Visit: visit(), Last: visit(), Seen: Seen{Browsers: []string{pick("", "Firefox", "Chrome")}}, Approvals: random.IntN(3)}
		if random.IntN(4) == 0 {
			facts.Last.At = time.Time{}
		}
		if from := visit(); random.IntN(4) == 0 {
			facts.Recovery = &Recovery{from.At, now.Add(time.Duration(random.Int64N(int64(9 * day)))), from.Browser, from.System, from.Network}
		}
		for range random.IntN(4) {
			facts.Passkeys = append(facts.Passkeys, Passkey{
				Name: name, Synced: random.IntN(2) == 0, BackedUp: random.IntN(2) == 0, Created: visit().At, LastUsed: visit().At,
			})
		}
		for range random.IntN(20) {
			facts.Acts = append(facts.Acts, Act{kinds[random.IntN(len(kinds))], visit(), random.IntN(4), pick("", name)})
		}
		user := agent.User{Name: name, Groups: []string{name, "ops"}}
		text := Write(user, facts, now)
		slices.Reverse(facts.Acts)
		if again := Write(user, facts, now); again != text {
			t.Errorf("another order of the acts gives\n%s\ninstead of\n%s", again, text)
		}
		return text
	}
	f.Fuzz(func(t *testing.T, seed uint64, name string) {
		sound(t, write(t, seed, name))
		for line := range strings.SplitSeq(write(t, seed, "Key"), "\n") {
			switch {
			case line == "":
			case !strings.HasSuffix(line, "."):
				t.Errorf("a line that does not end as a sentence: %q", line)
			case strings.Contains(line, "  ") || strings.Contains(line, " .") || strings.Contains(line, " ,") || strings.Contains(line, ",,") || strings.Contains(line, ".."):
				t.Errorf("odd spacing: %q", line)
			case clock.MatchString(strings.ReplaceAll(line, abroad, "")):
				t.Errorf("a clock time: %q", line)
			}
		}
	})
}

func TestPlain(t *testing.T) {
	for name, want := range map[string]string{
		"": "", " \t\n": "", "\u200b\u200d": "", "\x00\xff\ufffd": "",
		"YubiKey 5.7 #2":               "YubiKey 5.7 #2",
		"  two\u2028 lines\r\n":        "two lines",
		"\u202eesrever":                "esrever",
		"می\u200cخواهم":                "می\u200cخواهم",
		"👩\u200d💻":                     "👩\u200d💻",
		"a_b *c* ~d~ `e` \\":           "a\\_b \\*c\\* \\~d\\~ \\`e\\` \\\\",
		"![x](/y) <b> &lt; &#60;":      `!\[x\](/y) \<b\> \&lt; \&#60;`,
		"https://a.example www.b.test": `https\://a.example www\.b.test`,
		"mailto:me@a.example":          `mailto:me\@a.example`,
		strings.Repeat("ab", 20):       strings.Repeat("ab", 20),
		strings.Repeat("*", 41):        strings.Repeat(`\*`, 39) + "…",
	} {
		if got := plain(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// FuzzPlain checks that an escaped name has no mark of Markdown left, and reads as
// the name.
func FuzzPlain(f *testing.F) {
	for _, name := range []string{"Key", "[a](https://b.example)", `\`, "wwwww.a.b", ":////", "*_~`<>&@", "a\u200d\x00\n b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := plain(name)
		if mark := marked.FindString(escaped.ReplaceAllString(got, " ")); mark != "" {
			t.Errorf("%q has %q", got, mark)
		}
		reads := escaped.ReplaceAllStringFunc(got, func(pair string) string { return pair[1:] })
		if n := utf8.RuneCountInString(reads); n > 40 || strings.TrimSpace(reads) != reads || strings.ContainsAny(reads, "\n\t\r") {
			t.Errorf("%q reads %q", name, reads)
		}
		if again := plain(reads); again != got {
			t.Errorf("%q reads %q, which is written %q", got, reads, again)
		}
		if ascii := regexp.MustCompile(`^[!-~]{1,40}$`); ascii.MatchString(name) && reads != name {
			t.Errorf("%q reads %q", name, reads)
		}
	})
}
