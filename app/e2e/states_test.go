package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"

	"bio/agent"
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
	{"account-new", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		p.openAccount()
		return p
	}},
	{"account", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		for range 10 {
			p.signOut()
			p.site.clock.advance(27 * time.Hour)
			p.reload()
			p.press(200)
			p.account()
		}
		p.openAccount()
		return p
	}},
	{"account-older", func(t *testing.T) *tab {
		p := serve(t, nil).browse(t)
		p.register()
		for range 13 {
			p.signOut()
			p.site.clock.advance(27 * time.Hour)
			p.reload()
			p.press(200)
			p.account()
		}
		p.openAccount()
		p.answer(200, func() { p.click("#activity nav a") })
		return p
	}},
	{"streaming", func(t *testing.T) *tab {
		hook, _ := paused(t)
		p := serve(t, hook).browse(t)
		p.open("/")
		p.press(200)
		p.until("document.querySelector('#run [data-kind=text]')")
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
