package views

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"bio/agent"
)

var update = flag.Bool("update", false, "write the golden files")

const options = `{"get":{"challenge":"Y2hhbGxlbmdl","rpId":"localhost"},"create":{"rp":{"id":"localhost","name":"Bio"},"user":{"id":"aGFuZGxl","name":"cedar-otter-42","displayName":"cedar-otter-42"},"challenge":"Y2hhbGxlbmdl"},"ttl":300000}`

const signals = `[["signalUnknownCredential",{"rpId":"localhost","credentialId":"AAAA"}]]`

// ran is the work of one run, whose events come together, and which then has ended.
func ran(r Run, es ...agent.Event) *Work {
	return &Work{Runs: []Run{r}, Events: batches(step{0, es}, step{0, nil})}
}

// step is what comes at once of one run.
type step struct {
	run    int
	events []agent.Event
}

func batches(steps ...step) iter.Seq2[int, []agent.Event] {
	return func(yield func(int, []agent.Event) bool) {
		for _, s := range steps {
			if !yield(s.run, s.events) {
				return
			}
		}
	}
}

func ended(status, sentence string) func() (string, string) {
	return func() (string, string) { return status, sentence }
}

// static is a component that writes text as it is and then returns err.
func static(text string, err error) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, wrong := io.WriteString(w, text)
		return errors.Join(wrong, err)
	})
}

const proof = `{"get":{"challenge":"Y2hhbGxlbmdl","rpId":"localhost","allowCredentials":[{"type":"public-key","id":"AAAA"}]},"ttl":300000}`

var at = time.Date(2026, 11, 21, 15, 31, 7, 0, time.FixedZone("CET", 3600))

var acts = []Activity{
	{Words: "Signed in with Firefox on Linux, from 203.0.113.0/24", When: "3 minutes ago", At: at},
	{Words: "Refused a sign-in from 2001:db8:1234::/48: the signature was wrong", When: "yesterday", At: at.AddDate(0, 0, -1), Alarming: true},
}

func recovering(by string) *Recovery {
	return &Recovery{
		By: by, Begun: Moment{at.Add(-time.Hour), "an hour ago"}, Due: Moment{at.Add(23 * time.Hour), "in 23 hours"},
		Cancel: Press{Action: "/account/recovery/cancel", Options: proof},
	}
}

// manage is the page of a person with n passkeys and as many sessions.
func manage(n int) *Manage {
	now := Moment{at, "just now"}
	m := &Manage{
		Passkeys: []Passkey{
			{Name: "iCloud Keychain", Synced: true, BackedUp: true, Here: true, Created: Moment{at.AddDate(0, -8, 0), "8 months ago"}, LastUsed: now},
			{Name: "YubiKey 5", Created: Moment{at.AddDate(0, -8, 0), "8 months ago"}, LastUsed: Moment{at.AddDate(0, 0, -1), "yesterday"}},
			{Name: "Windows Hello", Synced: true, Created: Moment{at.AddDate(0, 0, -3), "3 days ago"}},
			{Name: "My other phone & <its very-long-name-that-has-no-place-to-break>", Synced: true, BackedUp: true, Created: now, LastUsed: now},
		}[:n],
		Add: Press{Action: "/account/passkeys/add", Options: proof},
		Sessions: []Session{
			{Client: "Firefox on Linux, from 203.0.113.0/24", This: true, Began: Moment{at.Add(-time.Hour), "an hour ago"}, Seen: now},
			{Client: "Safari on iOS, from 2001:db8:1234::/48", Began: Moment{at.Add(-9 * time.Hour), "9 hours ago"}, Seen: Moment{at.Add(-time.Hour), "an hour ago"}, End: "/account/sessions/s1/end"},
			{Began: Moment{at.Add(-20 * time.Hour), "20 hours ago"}, Seen: Moment{at.Add(-19 * time.Hour), "19 hours ago"}, End: "/account/sessions/s2/end"},
			{Client: "Chrome on Android", Began: Moment{at.Add(-22 * time.Hour), "22 hours ago"}, Seen: Moment{at.Add(-22 * time.Hour), "22 hours ago"}, End: "/account/sessions/s3/end"},
		}[:n],
		Rename: Press{Action: "/account/name", Options: proof},
		Erase:  Press{Action: "/account/erase", Options: proof},
	}
	for i := range m.Passkeys {
		id := "/account/passkeys/" + string("pqrs"[i])
		m.Passkeys[i].Rename = Press{Action: id + "/rename", Options: proof}
		if n > 1 {
			m.Passkeys[i].Remove = &Press{Action: id + "/remove", Options: proof}
		}
	}
	if n > 1 {
		m.EndOthers = &Press{Action: "/account/sessions/end-others", Options: proof}
	}
	return m
}

func pages() map[string]templ.Component {
	first := Ceremony{Options: options}
	account := Account{Name: "cedar-otter-42", Activity: acts, Newest: true, Older: "/account?before=17"}
	one := account
	one.Manage = manage(1)
	full := account
	full.Manage, full.Notice, full.Here, full.Signals = manage(4), "Your passkey is now called “Blue key”.", "/account", signals
	full.Recovery = recovering("Chrome on Android, from 203.0.113.0/24")
	owner := one
	owner.Notice, owner.Here, owner.Manage = "The invitation is made. Its link is below, under Other people.", "/account", manage(2)
	owner.Manage.Proven, owner.Manage.Owner = true, &Owner{
		Invite: Press{Action: "/account/invite", Options: proof}, Recover: Press{Action: "/account/recover", Options: proof},
		Link:   "https://bio.example.com/?invite=dG9rZW4gb2YgYW4gaW52aXRhdGlvbg",
		LinkIs: "It lets one person in, once, within 7 days.",
	}
	waiting := one
	waiting.Recovery = recovering("")
	past := account
	past.Newest, past.Recovery = false, waiting.Recovery
	brief := Run{ID: "k7q2", Agent: "brief", Status: "running", Final: ended("done", "")}
	home := Home{Account: "cedar-otter-42", Ask: &Ask{Agents: []string{"brief"}}, Work: ran(brief,
		agent.Event{Kind: agent.Status, Text: "Looking at what happened since last time…"},
		agent.Event{Text: "All is "}, agent.Event{Text: "quiet.\n\n- Two passkeys."},
	)}
	fresh := home
	fresh.Undo, fresh.Here = &Ceremony{Options: proof, Known: true}, "/"
	waits := home
	waits.Recovery, waits.Here = recovering("Chrome on Android, from 203.0.113.0/24"), "/"
	single := home
	single.Suggest = &Press{Action: "/account/passkeys/add", Options: proof}
	all := home
	all.Recovery, all.Undo, all.Suggest, all.Notice = recovering(""), &Ceremony{Options: proof}, single.Suggest, "You are back in cedar-otter-42."
	back := home
	back.Notice, back.Signals, back.Here = "You are back in cedar-otter-42.", signals, "/"
	kinds := home
	failed := brief
	failed.Status, failed.Prompt = "failed", "What is <new>?\nTell me all."
	failed.Final = ended("failed", "The agent stopped early. You can run it again.")
	kinds.Work = ran(failed,
		agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"a":[1,"<b>"]}`)},
		agent.Event{Kind: agent.Data, Data: json.RawMessage(`not <JSON>`)},
		agent.Event{Kind: agent.View, View: static("<em>whole</em>", nil)},
		agent.Event{Kind: agent.Approval, Text: "deploy-bot waits for your approval."},
	)
	several := home
	several.Ask = &Ask{Agents: []string{"brief", "news & views"}}
	news := Run{ID: "m3x9", Agent: "news & views", Status: "running", Prompt: "What is new?", Final: ended("cut", "Cut here: the agent said more than this page takes.")}
	asked := brief
	asked.Prompt = news.Prompt
	several.Work = &Work{Runs: []Run{asked, news}, Events: batches(
		step{1, []agent.Event{{Kind: agent.Status, Text: "Reading…"}}},
		step{0, []agent.Event{{Text: "# Today\n\nAll is "}}},
		step{1, []agent.Event{{Text: "One"}, {Kind: agent.Data, Data: json.RawMessage(`[{"n":1}]`)}}},
		step{0, []agent.Event{{Text: "quiet."}}},
		step{1, []agent.Event{{Kind: agent.Status, Text: "Reading…"}, {Kind: agent.View, View: static("<em>whole</em>", nil)}, {Kind: agent.Approval, Text: "?"}}},
		step{1, nil}, step{0, nil},
	)}
	apart := several
	news.Prompt = strings.Repeat("What is new, and what of it matters? ", 10)
	apart.Work = &Work{Runs: []Run{brief, news}, Events: batches()}
	failure := func(status int, title, sentence, id string) templ.Component {
		return FailurePage(Failure{Status: status, Title: title, Sentence: sentence, RequestID: id})
	}
	return map[string]templ.Component{
		"auth":           Page(Auth{Ceremony: first}),
		"auth-known":     Page(Auth{Ceremony: Ceremony{Options: options, Known: true, ReturnTo: "https://grafana.example.com/d/1?a=1&b=2"}}),
		"auth-refused":   Page(Auth{Ceremony: first, Notice: "That passkey was not accepted. Press Auth to try again.", Signals: signals, Here: "/?return_to=%2Faccount"}),
		"auth-closed":    Page(Auth{Ceremony: Ceremony{Options: options, Closed: true}}),
		"auth-invited":   Page(Auth{Ceremony: Ceremony{Options: options, Invite: "dG9rZW4"}, Invited: "This link makes you an owner."}),
		"auth-elsewhere": Page(Auth{Ceremony: first, Elsewhere: "https://bio.example.com"}),
		"auth-recovering": Page(Auth{
			Ceremony: Ceremony{Options: `{"create":{"challenge":"Y2hhbGxlbmdl"},"ttl":300000}`, Recover: "dG9r+ZW4&x"},
			Title:    "Recover an account", Invited: "This link brings you back into cedar-otter-42.",
		}),
		"home":                   HomePage(home),
		"home-recovery":          HomePage(waits),
		"home-suggest":           HomePage(single),
		"home-all":               HomePage(all),
		"home-new":               HomePage(fresh),
		"home-notice":            HomePage(back),
		"home-kinds":             HomePage(kinds),
		"home-several":           HomePage(several),
		"home-apart":             HomePage(apart),
		"home-no-run":            HomePage(Home{Account: "cedar-otter-42", Work: &Work{}}),
		"account":                AccountPage(one),
		"account-full":           AccountPage(full),
		"account-owner":          AccountPage(owner),
		"account-recovery":       AccountPage(waiting),
		"account-later":          AccountPage(Account{Name: "cedar-otter-42", Activity: acts[1:], Older: "/account?before=3&x=1"}),
		"account-later-recovery": AccountPage(past),
		"account-last":           AccountPage(Account{Name: "cedar-otter-42", Activity: acts[:1]}),
		"account-new":            AccountPage(Account{Name: "cedar-otter-42", Newest: true, Manage: manage(1)}),
		"account-past":           AccountPage(Account{Name: "cedar-otter-42"}),
		"403":                    failure(403, "Not from here", "That came from another site, so nothing was done.", ""),
		"404":                    failure(404, "Nothing here", "There is no page at this address.", ""),
		"405":                    failure(405, "Not that way", "This address does not take that kind of request.", ""),
		"429":                    failure(429, "Too many tries", "Try again in 30 seconds.", ""),
		"500":                    failure(500, "That went wrong", "Nothing was changed. Try again in a moment.", "01JD7Q2M8T"),
		"503":                    failure(503, "Not just now", "Nothing was changed. Try again in a few seconds.", "01JD7Q2M8T"),
		"reload":                 Reload(),
	}
}

func rendered(t *testing.T, c templ.Component) string {
	t.Helper()
	s, err := render(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var hash = regexp.MustCompile(`(/assets/\w+)\.[0-9a-f]{12}\.`)

func TestGolden(t *testing.T) {
	for name, page := range pages() {
		t.Run(name, func(t *testing.T) {
			got := hash.ReplaceAllString(rendered(t, page), "$1.HASH.") + "\n"
			file := filepath.Join("testdata", name+".golden.html")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("page differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func attr(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

// find is the first element that has the attribute, with that value unless it is "".
func find(t *testing.T, doc *html.Node, key, value string) *html.Node {
	t.Helper()
	for n := range doc.Descendants() {
		if v, ok := attr(n, key); ok && (value == "" || v == value) {
			return n
		}
	}
	t.Fatalf("no element with %s=%q", key, value)
	return nil
}

func inner(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

// TestPolicy checks what the content security policy forbids and what browsers
// mend silently.
func TestPolicy(t *testing.T) {
	for name, page := range pages() {
		t.Run(name, func(t *testing.T) {
			source := rendered(t, page)
			if !strings.HasPrefix(source, `<!doctype html><html lang="en">`) {
				t.Errorf("page begins %.40q", source)
			}
			ids := map[string]bool{}
			headings := 0
			for n := range parse(t, source).Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				switch n.Data {
				case "style", "iframe", "object", "base":
					t.Errorf("<%s>", n.Data)
				case "h1":
					headings++
				case "script":
					if src, _ := attr(n, "src"); n.FirstChild != nil || !strings.HasPrefix(src, "/assets/auth.") {
						t.Errorf("script %q", src)
					}
				case "form":
					if method, _ := attr(n, "method"); method != "post" {
						t.Errorf("form with method %q", method)
					}
					if n.FirstChild == nil {
						t.Error("a form that the parser closed at once")
					}
				}
				for _, a := range n.Attr {
					switch {
					case a.Key == "style", strings.HasPrefix(a.Key, "on"), strings.HasPrefix(strings.TrimSpace(a.Val), "javascript:"):
						t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
					case a.Key == "id" && ids[a.Val]:
						t.Errorf("id %s twice", a.Val)
					case a.Key == "id":
						ids[a.Val] = true
					}
				}
			}
			if headings != 1 {
				t.Errorf("%d h1", headings)
			}
		})
	}
}

// TestForms checks that every press has the shape that the script and the server
// take: a place for the credential, one button, and a ceremony of the same act.
func TestForms(t *testing.T) {
	own := map[string]string{"auth": "/ceremony?recover=dG9r%2BZW4%26x", "undo": "/ceremony?for=undo"}
	for name, page := range pages() {
		t.Run(name, func(t *testing.T) {
			for form := range parse(t, rendered(t, page)).Descendants() {
				if form.Data != "form" {
					continue
				}
				id, _ := attr(form, "id")
				action, _ := attr(form, "action")
				_, press := attr(form, "data-options")
				buttons, credentials := 0, 0
				for n := range form.Descendants() {
					kind, _ := attr(n, "type")
					field, _ := attr(n, "name")
					switch {
					case n.Data == "button":
						buttons++
					case n.Data == "input" && kind == "hidden" && field == "credential":
						credentials++
					case n.Data == "input" && kind != "hidden":
						if complete, _ := attr(n, "autocomplete"); n.Parent.Data != "label" || complete != "off" {
							t.Errorf("%s: the field %s has no label, or is filled in by the browser", action, field)
						}
					}
				}
				if buttons != 1 || press != (credentials == 1) {
					t.Errorf("%s: %d buttons, %d places for a credential", action, buttons, credentials)
				}
				want, ceremony := "/ceremony?for="+url.QueryEscape(action), must(attr(form, "data-ceremony"))
				if id != "" {
					want = own[id]
				}
				if press && ceremony != want && (id != "auth" || ceremony != "") {
					t.Errorf("%s: its ceremony is %q, want %q", action, ceremony, want)
				}
			}
		})
	}
}

// The page around the options has 3 KiB.
func TestAuthSize(t *testing.T) {
	size := len(rendered(t, Page(Auth{})))
	t.Logf("%d bytes", size)
	if size > 3<<10 {
		t.Errorf("%d bytes", size)
	}
}

// hostile are values that would do something if any page wrote them as they are.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`' autofocus onfocus='alert(1)`,
	`</title></textarea></noscript></pre><svg onload=alert(1)>`,
	`javascript:alert(1)`,
	` JaVa` + "\t" + `script:alert(1)`,
	`data:text/html,<script>alert(1)</script>`,
	`&lt;script&gt;&#34;&quot;&amp;`,
	`<!--><script>alert(1)</script>-->`,
	"]]><style>*{display:none}</style>",
	`{{constructor.constructor('alert(1)')()}}${alert(1)}`,
	"\u202eevil\u2066\u0085",
	`</main></body></html><body onload=alert(1)>`,
}

// filled are the pages with one value in every place that takes text.
func filled(s string) map[string]templ.Component {
	c := Ceremony{Options: s, ReturnTo: s, Invite: s, Recover: s}
	press, moment := Press{Action: s, Options: s, Typed: url.Values{"name": {s}, "groups": {s}, "days": {s}, "account": {s}}}, Moment{at, s}
	recovery := &Recovery{By: s, Begun: moment, Due: moment, Cancel: press}
	manage := &Manage{
		Passkeys:  []Passkey{{Name: s, Created: moment, LastUsed: moment, Rename: press, Remove: &press}},
		Add:       press,
		Sessions:  []Session{{Client: s, Began: moment, Seen: moment, End: s}},
		EndOthers: &press, Rename: press, Erase: press,
		Owner: &Owner{Invite: press, Recover: press, Link: s, LinkIs: s},
	}
	return map[string]templ.Component{
		"auth":      Page(Auth{Ceremony: c, Notice: s, Invited: s, Signals: s, Here: s}),
		"elsewhere": Page(Auth{Ceremony: c, Elsewhere: s}),
		"home": HomePage(Home{Account: s, Recovery: recovery, Undo: &c, Suggest: &press, Notice: s, Signals: s, Here: s,
			Ask: &Ask{Agents: []string{s, s}},
			Work: ran(Run{ID: s, Agent: s, Prompt: s, Status: s, Final: ended(s, s)},
				agent.Event{Kind: agent.Status, Text: s}, agent.Event{Kind: agent.Approval, Text: s}, agent.Event{Kind: 99, Text: "word"},
			)}),
		"several": HomePage(Home{Account: "word", Work: &Work{
			Runs:   []Run{{ID: s, Agent: s, Prompt: s, Status: "running"}, {ID: s, Agent: s, Status: "running", Final: ended(s, s)}},
			Events: batches(step{1, []agent.Event{{Kind: agent.Status, Text: s}}}, step{1, nil}),
		}}),
		"account": AccountPage(Account{
			Name: s, Notice: s, Here: s, Signals: s, Recovery: recovery, Manage: manage,
			Older: s, Activity: []Activity{{Words: s, When: s}, {Words: s, When: s, Alarming: true}},
		}),
		"failure": FailurePage(Failure{Status: 400, Title: s, Sentence: s, RequestID: s}),
	}
}

// shape is a page without its text and its attributes' values.
func shape(doc *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode {
			b.WriteString("<" + n.Data)
			for _, a := range n.Attr {
				b.WriteString(" " + a.Key)
			}
			b.WriteString(">")
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
		if n.Type == html.ElementNode {
			b.WriteString("</" + n.Data + ">\n")
		}
	}
	walk(doc)
	return b.String()
}

// checkInert fails when the value s changes what a page is made of.
func checkInert(t *testing.T, s string) {
	t.Helper()
	plain := filled("word")
	for name, page := range filled(s) {
		doc := parse(t, rendered(t, page))
		if diff := cmp.Diff(shape(parse(t, rendered(t, plain[name]))), shape(doc)); diff != "" {
			t.Errorf("%s: %q changes the page:\n%s", name, s, diff)
		}
		for n := range doc.Descendants() {
			href, ok := attr(n, "href")
			if ok && n.Data == "a" && strings.HasPrefix(strings.ToLower(href), "javascript:") {
				t.Errorf("%s: link to %q", name, href)
			}
			if action, ok := attr(n, "action"); ok && strings.HasPrefix(strings.ToLower(strings.TrimSpace(action)), "javascript:") {
				t.Errorf("%s: form to %q", name, action)
			}
		}
	}
}

func TestHostile(t *testing.T) {
	for _, s := range hostile {
		checkInert(t, s)
	}
	for _, s := range hostile {
		auth := parse(t, rendered(t, filled(s)["auth"]))
		home := parse(t, rendered(t, filled(s)["home"]))
		account := parse(t, rendered(t, filled(s)["account"]))
		for _, place := range []struct {
			what, got string
		}{
			{"notice", inner(find(t, auth, "data-say", "notice"))},
			{"return_to", must(attr(find(t, auth, "name", "return_to"), "value"))},
			{"options", must(attr(find(t, auth, "id", "auth"), "data-options"))},
			{"recover", must(attr(find(t, auth, "name", "recover"), "value"))},
			{"account", must(attr(find(t, home, "data-account", ""), "data-account"))},
			{"asked", inner(find(t, home, "class", "asked"))},
			{"final", inner(find(t, home, "data-final", ""))},
			{"name", must(attr(find(t, account, "data-account", ""), "data-account"))},
			{"passkey", inner(find(t, account, "class", "name"))},
			{"link", inner(find(t, account, "id", "link"))},
			{"rename", must(attr(find(t, account, "name", "name"), "value"))},
			{"words", inner(find(t, find(t, account, "id", "activity"), "role", "list").FirstChild.FirstChild)},
			{"when", inner(find(t, account, "datetime", ""))},
		} {
			if place.got != s {
				t.Errorf("%s: %q became %q", place.what, s, place.got)
			}
		}
		if got := inner(find(t, home, "data-kind", "approval")); got != legible(s) {
			t.Errorf("event: %q became %q", s, got)
		}
	}
}

func must(s string, _ bool) string { return s }

func FuzzHostile(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			t.Skip("an empty value leaves its element away")
		}
		checkInert(t, s)
	})
}
