package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"

	"bio/agent"
)

// fragile is what no person should ever read.
const fragile = "dial tcp 10.0.0.7: secret"

// wantWhole checks that a page came to its end.
func (p *tab) wantWhole(d *document) {
	p.t.Helper()
	p.loaded()
	body := call(p, network.GetResponseBody, network.GetResponseBodyParams{RequestID: d.id}).Body
	if !strings.HasSuffix(strings.TrimSpace(string(body)), "</html>") {
		p.t.Errorf("the page ends with %q", body[max(0, len(body)-80):])
	}
}

func TestAgentTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		agent  agent.Func
		status string
		says   string
	}{
		"fails": {emit(func(context.Context, func(agent.Event) error) error {
			return errors.New(fragile)
		}), "failed", "This could not be finished. You can run it again."},
		"fails halfway": {emit(func(_ context.Context, emit func(agent.Event) error) error {
			return errors.Join(emit(agent.Event{Text: "So far so good."}), errors.New(fragile))
		}), "failed", "This could not be finished. You can run it again."},
		"panics": {emit(func(context.Context, func(agent.Event) error) error {
			panic(fragile)
		}), "failed", "This could not be finished. You can run it again."},
		"sends nonsense": {emit(func(_ context.Context, emit func(agent.Event) error) error {
			return emit(agent.Event{Kind: agent.Data, Data: json.RawMessage("{")})
		}), "failed", "This could not be finished. You can run it again."},
		"passes its deadline": {emit(func(ctx context.Context, _ func(agent.Event) error) error {
			<-ctx.Done()
			return nil
		}), "failed", "This took too long, and was ended. You can try again."},
		"floods": {emit(func(_ context.Context, emit func(agent.Event) error) error {
			for emit(agent.Event{Text: strings.Repeat("on and ", 100)}) == nil {
			}
			return nil
		}), "cut", "Cut here: there was more than fits on the page."},
		"sends markup": {emit(func(_ context.Context, emit func(agent.Event) error) error {
			return errors.Join(emit(agent.Event{Text: "</section><script>alert(1)</script><img src=x onerror=alert(1)>"}),
				emit(agent.Event{Kind: agent.Status, Text: "<b>now</b>"}),
				emit(agent.Event{Kind: agent.Data, Data: json.RawMessage(`"</pre><script>alert(1)</script>"`)}))
		}), "done", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, c.agent, "BIO_AGENT_TIMEOUT=1s").browse(t)
			p.open("/")
			d := p.press(200)
			p.account()
			p.wantWhole(d)
			if got := eval[string](p, "document.querySelector('[data-final]').dataset.final"); got != c.status {
				t.Errorf("the run is %q, want %q", got, c.status)
			}
			if got := p.text("[data-final]"); got != c.says {
				t.Errorf("the page says %q, want %q", got, c.says)
			}
			if strings.Contains(eval[string](p, "document.documentElement.outerHTML"), fragile) {
				t.Error("the page shows what only the log should have")
			}
			if eval[int](p, "document.querySelectorAll('#run script, #run img, #run b').length") != 0 {
				t.Error("the agent's words became markup")
			}
			p.reload()
			p.account()
			if got := p.text("[data-final]"); got != c.says {
				t.Errorf("after a reload the page says %q, want %q", got, c.says)
			}
		})
	}
}

func emit(fn func(context.Context, func(agent.Event) error) error) agent.Func {
	return agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
		return fn(ctx, emit)
	}).Run
}

// paused is an agent that says something, waits to be let go on, and says more.
func paused(t *testing.T) (a agent.Agent, release func()) {
	turn, ended := make(chan struct{}), make(chan struct{})
	a = emit(func(ctx context.Context, emit func(agent.Event) error) error {
		err := errors.Join(emit(agent.Event{Kind: agent.Status, Text: "Reading…"}), emit(agent.Event{Text: "First words."}))
		select {
		case <-turn:
		case <-ended:
		case <-ctx.Done():
		}
		return errors.Join(err, emit(agent.Event{Text: " Last words."}))
	})
	t.Cleanup(func() { close(ended) })
	return a, func() {
		select {
		case turn <- struct{}{}:
		case <-time.After(patience):
			t.Error("the agent does not wait to be let go on")
		}
	}
}

// reads holds when a person reads words in what an agent said.
func reads(words string) string {
	return fmt.Sprintf("document.querySelector('#run')?.innerText.includes(%q)", words)
}

// wantStream checks a page that is on its way, and then one that is there.
func (p *tab) wantStream(release func()) {
	p.t.Helper()
	p.until(reads("First words."))
	p.until("performance.getEntriesByName('first-contentful-paint').length")
	if eval[bool](p, reads("Last words.")) || eval[string](p, "document.readyState") == "complete" {
		p.t.Error("the page is complete before the agent is")
	}
	release()
	p.until(reads("First words. Last words."))
	p.until("document.querySelector('[data-final=done]')")
}

func TestStream(t *testing.T) {
	hook, release := paused(t)
	p := serve(t, hook).browse(t)
	p.open("/")
	d := p.press(200)
	p.wantStream(release)
	p.wantWhole(d)
	if got := p.text("#run [role=log]"); got != "First words. Last words." {
		t.Errorf("at the end the page reads %q", got)
	}
}

func TestStreamWithoutScript(t *testing.T) {
	hook, release := paused(t)
	p := serve(t, hook).browse(t)
	p.open("/")
	p.press(200)
	p.wantStream(release)
	p.loaded()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	d := p.answer(200, func() { p.click("#ask button") })
	p.wantStream(release)
	p.wantWhole(d)
	p.wantPosts(1)
}

// A page that is reloaded in the middle replays and follows the same run.
func TestStreamReloaded(t *testing.T) {
	hook, release := paused(t)
	p := serve(t, hook).browse(t)
	p.open("/")
	p.press(200)
	p.until(reads("First words."))
	run := eval[string](p, "document.querySelector('#run').dataset.run")
	p.answer(200, func() { p.run("setTimeout(() => location.reload())") })
	p.wantStream(release)
	if got := eval[string](p, "document.querySelector('#run').dataset.run"); got != run {
		t.Errorf("the reload shows run %s, want %s", got, run)
	}
	p.wantPosts(1)
}
