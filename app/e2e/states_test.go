package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"

	"bio/agent"
	"bio/app/audit"
)

// states are the pages as people meet them, each with the way there.
var states = []struct {
	name  string
	reach func(*testing.T) *tab
}{
	{"first-visit", func(t *testing.T) *tab { return at(t, "", "") }},
	{"invited", func(t *testing.T) *tab {
		s := serve(t, nil)
		p := s.browse(t)
		p.open(s.invite())
		return p
	}},
	{"pressing", func(t *testing.T) *tab {
		p := at(t, gate, "")
		p.click(button)
		p.untilSays("waiting")
		p.until("self.go")
		return p
	}},
	{"dismissed", func(t *testing.T) *tab {
		return at(t, "instead.immediate = () => new Promise(done => setTimeout(done, 900)).then(dismiss)", "dismissed")
	}},
	{"dismissed-create", func(t *testing.T) *tab { return at(t, noImmediate+"; instead.create = dismiss", "dismissed") }},
	{"ready", func(t *testing.T) *tab {
		return at(t, "Object.defineProperty(navigator, 'userActivation', {value: {isActive: false}})", "ready")
	}},
	{"offline", func(t *testing.T) *tab {
		p := at(t, "self.fetch = async () => { throw new TypeError('Failed to fetch') }", "")
		p.grow(4 * time.Minute)
		p.pressInVain("offline")
		return p
	}},
	{"device-failed", func(t *testing.T) *tab {
		return at(t, "instead.immediate = async () => { throw new DOMException('', 'UnknownError') }", "failed")
	}},
	{"elsewhere", func(t *testing.T) *tab {
		return at(t, "instead.immediate = async () => { throw new DOMException('', 'SecurityError') }", "elsewhere")
	}},
	{"unsupported", func(t *testing.T) *tab {
		p := at(t, "delete self.PublicKeyCredential", "")
		p.untilSays("unsupported")
		return p
	}},
	{"refused", func(t *testing.T) *tab {
		p := at(t, "", "")
		p.take(stranger())
		p.press(401)
		return p
	}},
	{"late", func(t *testing.T) *tab {
		p := at(t, "", "")
		p.site.clock.advance(6 * time.Minute)
		p.press(409)
		return p
	}},
	{"known", func(t *testing.T) *tab {
		p := at(t, "", "")
		p.press(200)
		p.account()
		p.signOut()
		return p
	}},
	{"closed", func(t *testing.T) *tab {
		p := serve(t, nil, "BIO_REGISTRATION=closed").browse(t)
		p.open("/")
		return p
	}},
	{"new-account", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		return p
	}},
	{"undo-dismissed", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.run("instead.get = dismiss")
		p.click("#undo button")
		p.untilSays("dismissed")
		return p
	}},
	{"returning", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.signOut()
		p.site.clock.advance(27 * time.Hour)
		p.reload()
		p.press(200)
		p.account()
		return p
	}},
	{"nothing-run", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.site.restart()
		p.reload()
		return p
	}},
	{"account-dismissed", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.run("instead.get = dismiss")
		p.click(act("name") + " button")
		p.untilSays("dismissed")
		return p
	}},
	{"account-proven", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.site.clock.advance(6 * time.Minute)
		p.reload()
		p.do(200, act("passkeys/add"))
		return p
	}},
	{"account-refused", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.do(401, act("name"), withOther(p))
		return p
	}},
	{"account-bad-name", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.fill(act("name")+" [name=name]", "Ünïcode")
		p.do(422, act("name"))
		return p
	}},
	{"account-full", func(t *testing.T) *tab {
		s := serve(t, nil)
		p := s.owner(t)
		p.openAccount()
		s.crowd()
		p.fill("#people [name=groups]", "ops, billing")
		p.do(200, act("invitations"))
		p.run("for (const e of document.querySelectorAll('details')) e.open = true")
		return p
	}},
	{"account-leaving", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.click("#leave summary")
		return p
	}},
	{"erased", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		p.click("#leave summary")
		p.do(200, act("erase"))
		return p
	}},
	{"suggestion", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.swap(deviceBound)
		p.register()
		p.signOut()
		p.press(200)
		p.account()
		return p
	}},
	{"recovery-link", func(t *testing.T) *tab {
		s := serve(t, nil)
		link := s.recovery(s.browse(t).register())
		p := s.browse(t)
		p.open(link)
		return p
	}},
	{"recovery-begun", func(t *testing.T) *tab {
		s := serve(t, nil)
		link := s.recovery(s.browse(t).register())
		p := s.browse(t)
		p.open(link)
		p.press(200)
		p.loaded()
		return p
	}},
	{"recovery-early", func(t *testing.T) *tab {
		s := serve(t, nil)
		link := s.recovery(s.browse(t).register())
		p := s.browse(t)
		p.open(link)
		p.press(200)
		p.press(403)
		return p
	}},
	{"recovery-waits", func(t *testing.T) *tab { return recovering(t) }},
	{"recovery-waits-account", func(t *testing.T) *tab {
		p := recovering(t)
		p.openAccount()
		return p
	}},
	{"account-new", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		return p
	}},
	{"account", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.visits(10)
		p.openAccount()
		return p
	}},
	{"account-older", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.visits(13)
		p.openAccount()
		p.answer(200, func() { p.click("#activity nav a") })
		return p
	}},
	{"streaming", func(t *testing.T) *tab {
		hook, release := paused(t)
		p := serve(t, hook).browse(t)
		p.open("/")
		p.press(200)
		p.until(reads("First words."))
		t.Cleanup(release) // else the server waits for it
		return p
	}},
	{"every-kind", func(t *testing.T) *tab {
		p := serve(t, emit(func(_ context.Context, emit func(agent.Event) error) error {
			return errors.Join(
				emit(agent.Event{Text: "Two services were deployed while you were away.\n\nBoth are healthy."}),
				emit(agent.Event{Kind: agent.Data, Data: json.RawMessage(`{"services":[{"name":"gateway","version":"2.4.1"},{"name":"billing","version":"1.9.0"}],"checked":"a-very-long-word-that-has-no-place-to-break-in-a-narrow-page"}`)}),
				emit(agent.Event{Kind: agent.Approval, Text: "The deployment of mailer waits for your approval."}))
		})).browse(t)
		p.open("/")
		p.press(200)
		p.account()
		return p
	}},
	{"markdown", func(t *testing.T) *tab { return said(t, "markdown/answer.md", "markdown/edges.md") }},
	{"data", func(t *testing.T) *tab { return said(t, "data/deploys.json", "data/account.json", "data/text.json") }},
	{"data-open", func(t *testing.T) *tab {
		p := said(t, "data/deploys.json", "data/account.json")
		p.run("for (const e of document.querySelectorAll('details')) e.open = true")
		return p
	}},
	{"two-agents", func(t *testing.T) *tab {
		p := serveAgents(t, []agent.Named{{Name: "news", Agent: says(t, "markdown/answer.md", "data/deploys.json")}, {Name: "echo", Agent: echo}}).browse(t)
		p.register()
		p.fill("#ask [name=prompt]", "What is new?")
		p.answer(200, func() { p.click("#ask button") })
		p.account()
		return p
	}},
	{"two-agents-streaming", func(t *testing.T) *tab {
		first, release := paused(t)
		second := tell(t)
		p := serveAgents(t, []agent.Named{{Name: "news", Agent: first}, {Name: "mail", Agent: second}}).browse(t)
		p.open("/")
		p.press(200)
		p.wantSections("news|Reading…|First words. || mail|Working…")
		t.Cleanup(func() { release(); second.end() }) // else the server waits for them
		return p
	}},
	{"stopped", func(t *testing.T) *tab {
		hook, _ := paused(t)
		p := serve(t, hook).browse(t)
		p.open("/")
		p.press(200)
		p.until(reads("First words."))
		p.answer(200, func() { p.clickEarly(".stop button") })
		p.account()
		return p
	}},
	{"several", func(t *testing.T) *tab {
		hook, _ := paused(t)
		letters := emit(func(ctx context.Context, emit func(agent.Event) error) error {
			return errors.Join(
				emit(agent.Event{Text: "Three letters came, and **one** wants an answer:\n\n"}),
				emit(agent.Event{Kind: agent.Data, Data: json.RawMessage(`[{"from":"Ada","about":"the garden","waits":"2 days"},{"from":"Grace","about":"the ship"}]`)}))
		})
		p := serveAgents(t, []agent.Named{{Name: "household-accounts-and-letters", Agent: letters}, {Name: "news", Agent: hook}}).browse(t)
		p.open("/")
		p.press(200)
		p.until(reads("the ship") + "&&" + reads("First words."))
		return p
	}},
	{"busy", func(t *testing.T) *tab {
		hook, _ := paused(t)
		p := serve(t, hook).browse(t)
		p.open("/")
		p.press(200)
		p.until(reads("First words."))
		p.run("document.querySelector('#ask textarea').value = 'What is new in the north?'")
		p.answer(http.StatusConflict, func() { p.clickEarly("#ask button") })
		p.until(reads("First words."))
		return p
	}},
	{"too-long", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		long := strings.Repeat("Wie geht es dir heute, 世界? ", 400)
		p.run("document.querySelector('#ask textarea').value = " + strconv.Quote(long))
		p.answer(422, func() { p.click("#ask button") })
		if got := eval[string](p, "document.querySelector('#ask textarea').value"); got != long {
			t.Errorf("the field keeps %d bytes of %d", len(got), len(long))
		}
		return p
	}},
	{"agent-failed", func(t *testing.T) *tab {
		p := serve(t, emit(func(_ context.Context, emit func(agent.Event) error) error {
			return errors.Join(emit(agent.Event{Text: "Two services were deployed"}), errors.New(fragile))
		})).browse(t)
		p.open("/")
		p.press(200)
		p.account()
		return p
	}},
	{"403", func(t *testing.T) *tab {
		s := serve(t, nil, "BIO_REGISTRATION=invite")
		link := s.invite()
		p := s.browse(t)
		p.open(link)
		s.browse(t).openAndPress(link)
		p.press(403)
		return p
	}},
	{"403-cross-site", func(t *testing.T) *tab {
		s := serve(t, nil)
		p := s.browse(t)
		p.open(elsewhere(t, s))
		p.answer(403, func() { p.click("button") })
		return p
	}},
	{"reload", func(t *testing.T) *tab {
		s := serve(t, nil)
		p := s.browse(t)
		p.register()
		p.before("addEventListener('load', () => stop())") // what would take the page away
		p.open(elsewhere(t, s))
		p.answer(200, func() { p.click("a") })
		p.until("getComputedStyle(document.querySelector('main.late')).opacity == 1")
		return p
	}},
	{"404", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.openAs(404, "/nothing")
		return p
	}},
	{"429", func(t *testing.T) *tab {
		p := serve(t, nil, "BIO_REFUSAL_LIMIT=1/m").browse(t)
		p.open("/")
		p.take(stranger())
		p.press(401)
		p.press(429)
		return p
	}},
	{"500", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.open("/")
		p.site.change("DROP TABLE sessions")
		p.press(500)
		return p
	}},
	{"500-page", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.site.change("DROP TABLE invitations")
		p.openAs(500, "/?invite=ZWlnaHRlZW4gYnl0ZXMgbm93")
		return p
	}},
	{"503", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.open("/")
		p.site.db.Close()
		p.press(503)
		return p
	}},
	{"503-page", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.site.db.Close()
		p.openAs(503, "/?invite=ZWlnaHRlZW4gYnl0ZXMgbm93")
		return p
	}},
}

// says is an agent that says what is in files of views/testdata.
func says(t *testing.T, files ...string) agent.Agent {
	t.Helper()
	var events []agent.Event
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join("../../views/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".json" {
			events = append(events, agent.Event{Kind: agent.Data, Data: content})
		} else {
			events = append(events, agent.Event{Text: string(content)})
		}
	}
	return emit(func(_ context.Context, emit func(agent.Event) error) error {
		for _, e := range events {
			if err := emit(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// said is the page with what is in files of views/testdata.
func said(t *testing.T, files ...string) *tab {
	t.Helper()
	p := serve(t, says(t, files...)).browse(t)
	p.register()
	return p
}

// at opens the first page of a new site after a script, and with a sentence to
// expect presses in vain.
func at(t *testing.T, script, say string) *tab {
	t.Helper()
	p := serve(t, nil).browse(t)
	if script != "" {
		p.before(script)
	}
	p.open("/")
	if say != "" {
		p.pressInVain(say)
	}
	return p
}

// recovering is a person's page while someone's recovery of the account waits.
func recovering(t *testing.T) *tab {
	t.Helper()
	s := serve(t, nil)
	p := s.browse(t)
	link := s.recovery(p.register())
	someone := s.browse(t)
	someone.open(link)
	someone.press(200)
	p.reload()
	return p
}

// crowd gives the one account of the site passkeys and sessions, as years leave
// them behind.
func (s *site) crowd() {
	s.t.Helper()
	for i, name := range []string{"iCloud Keychain", "YubiKey 5 Series with NFC", "Windows Hello on the desk in the attic room, behind the old lamp"} {
		s.change(`INSERT INTO credentials SELECT substr(hex(randomblob(16)), 1, 32), randomblob(32), user_id, user_handle, public_key,
			sign_count, iif(?1 = 0, 29, 5), aaguid, transports, attestation_type, attestation_format, ?2, created_at - ?1 * 86400000 * 40,
			last_used_at - (?1 + 1) * 86400000, NULL FROM credentials ORDER BY last_used_at DESC LIMIT 1`, i, name)
	}
	for i, client := range [][3]string{
		{"203.0.113.0/24", "Firefox", "Linux"}, {"2001:db8:a::/48", "Safari", "iPhone"}, {"198.51.100.0/24", "Edge", "Windows"}, {},
	} {
		s.change(`INSERT INTO sessions SELECT hex(randomblob(16)), user_id, credential, created_at - ?1 * 3600000, seen_at - ?1 * 60000 * 17,
			expires_at, auth_time, user_verified, ?2, ?3, ?4 FROM sessions ORDER BY created_at DESC LIMIT 1`, i+1, client[0], client[1], client[2])
	}
}

// visits lets the person come back so often, a day apart; the last time they stay.
func (p *tab) visits(n int) {
	p.t.Helper()
	var user string
	if err := p.site.rows.QueryRow("SELECT id FROM users").Scan(&user); err != nil {
		p.t.Fatal(err)
	}
	from := audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"}
	for range n - 1 {
		p.site.clock.advance(27 * time.Hour)
		if _, err := p.site.db.Record(p.t.Context(),
			audit.Entry{Kind: audit.SignedIn, Actor: user, Client: from}, audit.Entry{Kind: audit.SignedOut, Actor: user, Client: from}); err != nil {
			p.t.Fatal(err)
		}
	}
	p.site.clock.advance(27 * time.Hour)
	p.reload()
	p.press(200)
	p.account()
}

func (p *tab) openAndPress(address string) {
	p.t.Helper()
	p.open(address)
	p.press(200)
	p.account()
}

// look is how a page is looked at.
type look struct {
	scheme string // "light" or "dark"
	width  int64  // CSS pixels
}

var looks = []look{{"light", 360}, {"light", 1440}, {"dark", 360}, {"dark", 1440}}

func (l look) String() string { return fmt.Sprintf("%s-%d", l.scheme, l.width) }

// lookAt shows the page as a person with that screen and taste sees it.
func (p *tab) lookAt(l look) {
	p.t.Helper()
	height := int64(900)
	if l.width < 600 {
		height = 740
	}
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: l.width, Height: height, DeviceScaleFactor: 1,
	})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: l.scheme},
	}})
}
