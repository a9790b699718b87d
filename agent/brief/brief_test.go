package brief

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
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
	{"passkey added", Facts{Visit: here, Last: from(100*day, "Firefox", "Linux", home), Seen: seen, Passkeys: []Passkey{
		fresh(Passkey{Name: "  a\n- [name](https://example.com) that goes on and on and on\x00\xff"}), cloud, key,
	}}},
	{"kinds of no interest", Facts{Visit: here, Last: earlier, Seen: seen, Passkeys: []Passkey{cloud}, Acts: []Act{{Kind: "session.signed_out", Visit: from(hour, "", "", "")}}}},
	{"everything at once", Facts{Visit: from(0, "Edge", "Windows", cafe), Last: from(45*day, "Firefox", "Linux", home), Seen: seen,
		Passkeys: []Passkey{fresh(phone), {Name: "Key", Created: before(day)}, key},
		Acts: []Act{
			{Kind: CounterAnomaly, Visit: from(4*day, "Chrome", "Windows", home)}, {Kind: CounterAnomaly, Visit: from(5*day, "Chrome", "Windows", home)},
			{Kind: Refused, Visit: from(3*day, "", "Android", cafe)}, {Kind: SignedIn, Visit: from(6*day, "Opera", "", abroad)}, {Kind: BackupEligibleChanged, Visit: from(day, "", "", "")},
		}}},
}

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
			events := agenttest.Run(t, a, agent.Input{User: agent.User{ID: "u1", Name: "cedar-otter-42"}})
			if asked != "u1" {
				t.Errorf("asked for the facts of %q", asked)
			}
			got := show(events)
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
	for _, f := range []Facts{{}, {Last: earlier}} {
		if got := write("", f, now)[0]; !regexp.MustCompile(`^Welcome( back)?\. `).MatchString(got) {
			t.Errorf("got %q", got)
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

// FuzzWrite makes facts of every sort and checks what holds for all briefings.
func FuzzWrite(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, "Key \xff\n- name")
	}
	clock := regexp.MustCompile(`\d:\d\d|20\d\d-|\bUTC\b`)
	f.Fuzz(func(t *testing.T, seed uint64, passkey string) {
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(of ...string) string { return of[random.IntN(len(of))] }
		visit := func() Visit {
			return from(time.Duration(random.Int64N(int64(1000*day))),
				pick("", "Firefox", "Chrome", "Edge"), pick("", "Linux", "Windows"), pick("", home, cafe, abroad))
		}
		facts := Facts{Visit: visit(), Last: visit(), Seen: Seen{Browsers: []string{pick("", "Firefox", "Chrome")}}}
		if random.IntN(4) == 0 {
			facts.Last.At = time.Time{}
		}
		for range random.IntN(4) {
			facts.Passkeys = append(facts.Passkeys, Passkey{
				Name: passkey, Synced: random.IntN(2) == 0, BackedUp: random.IntN(2) == 0, Created: visit().At, LastUsed: visit().At,
			})
		}
		for range random.IntN(20) {
			facts.Acts = append(facts.Acts, Act{Kind(pick(string(SignedIn), string(Refused), string(CounterAnomaly), string(BackupEligibleChanged), "other")), visit(), random.IntN(4)})
		}
		text := strings.Join(write("cedar-otter-42", facts, now), "\n\n")
		lines := strings.Split(text, "\n")
		if len(lines) > 10 || !utf8.ValidString(text) {
			t.Errorf("%d lines:\n%s", len(lines), text)
		}
		named := called(Passkey{Name: passkey})
		for _, line := range lines {
			if named != "" {
				line = strings.ReplaceAll(line, " "+named, "") // a name may look like anything
			}
			switch {
			case line == "":
			case !strings.HasSuffix(line, ".") && !strings.HasSuffix(line, "What is new:"):
				t.Errorf("a line that does not end as a sentence: %q", line)
			case strings.Contains(line, "  ") || strings.Contains(line, " .") || strings.Contains(line, " ,") || strings.Contains(line, ",,"):
				t.Errorf("odd spacing: %q", line)
			case clock.MatchString(strings.ReplaceAll(line, abroad, "")):
				t.Errorf("a clock time: %q", line)
			}
		}
	})
}
