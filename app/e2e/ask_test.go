package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"

	"bio/agent"
)

// echo is an agent that answers with the prompt.
var echo = agent.Emit(func(_ context.Context, in *agent.Input, emit func(agent.Event) error) error {
	return emit(agent.Event{Text: "You asked **" + strconv.Quote(in.Prompt) + "**."})
})

func TestAsk(t *testing.T) {
	p := serve(t, echo).browse(t)
	p.register()
	want := func(answer string) {
		t.Helper()
		p.account()
		p.wantAddress("/")
		if got := p.text("#run [role=log]"); got != answer {
			t.Errorf("the answer reads %q, want %q", got, answer)
		}
	}
	want(`You asked "".`) // of the sign-in
	p.fill("#ask [name=prompt]", "Where is <b>Ada</b>?")
	p.answer(200, func() { p.click("#ask button") })
	want(`You asked "Where is <b>Ada</b>?".`)
	if got := p.text("#run .asked"); got != "Where is <b>Ada</b>?" {
		t.Errorf("the page says that %q was asked", got)
	}
	if got := eval[string](p, "document.querySelector('#ask [name=prompt]').value"); got != "" {
		t.Errorf("the field holds %q for the next question", got)
	}
	runs := p.site.count("SELECT count(*) FROM runs")
	p.reload() // replays, and asks nothing
	want(`You asked "Where is <b>Ada</b>?".`)
	if n := p.site.count("SELECT count(*) FROM runs"); n != runs {
		t.Errorf("the reload made %d runs", n-runs)
	}
}

// told is an agent that says what a test has it say, until the test ends its run.
type told struct {
	t     *testing.T
	words chan string // "" ends a run
}

func tell(t *testing.T) *told { return &told{t, make(chan string)} }

func (a *told) Run(ctx context.Context, in *agent.Input) iter.Seq2[agent.Event, error] {
	return emit(func(ctx context.Context, emit func(agent.Event) error) error {
		for {
			select {
			case text := <-a.words:
				if text == "" {
					return nil
				}
				if err := emit(agent.Event{Text: text}); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})(ctx, in)
}

func (a *told) say(text string) {
	a.t.Helper()
	select {
	case a.words <- text:
	case <-time.After(patience):
		a.t.Fatalf("no run of the agent takes %q", text)
	}
}

func (a *told) end() { a.t.Helper(); a.say("") }

func TestStop(t *testing.T) {
	ended := make(chan error, 1)
	p := serve(t, emit(func(ctx context.Context, emit func(agent.Event) error) error {
		err := emit(agent.Event{Text: "This takes for ever."})
		<-ctx.Done()
		ended <- ctx.Err()
		return err
	})).browse(t)
	p.open("/")
	p.press(200)
	p.until(reads("This takes for ever."))
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.answer(200, func() { p.clickEarly("#run .stop button") })
	p.account()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the agent was ended with %v", err)
	}
	if got := p.text("#run [role=log]"); strings.Join(strings.Fields(got), " ") != "This takes for ever. Stopped." {
		t.Errorf("the page reads %q", got)
	}
	if p.visible("#run .stop") {
		t.Error("there is still a button to stop it")
	}
	p.wantAddress("/")
}

// sections are the runs as they are read: the name of each and what stands in its
// place.
const sections = `[...document.querySelector('#run')?.shadowRoot?.querySelectorAll('section') ?? []].map(section => [
	section.querySelector('h2').textContent,
	...section.querySelector('[role=log] slot').assignedElements({flatten: true}).filter(e => e.checkVisibility()).map(e => e.innerText.trim()),
].join('|')).join(' || ')`

// wantSections waits for what is read of several runs.
func (p *tab) wantSections(want string) {
	p.t.Helper()
	p.until(sections + " == " + strconv.Quote(want))
}

// Two agents that speak in turns each fill their own place, without a script.
func TestTwoAgents(t *testing.T) {
	news, mail := tell(t), tell(t)
	p := serveAgents(t, []agent.Named{{Name: "news", Agent: news}, {Name: "mail", Agent: mail}}).browse(t)
	p.open("/")
	p.press(200)
	news.end()
	mail.end()
	p.account()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.fill("#ask [name=prompt]", "What is new?")
	p.answer(200, func() { p.click("#ask button") })
	p.wantSections("news|Working… || mail|Working…")
	mail.say("Two letters.\n\nOne is ")
	p.wantSections("news|Working… || mail|Two letters.|One is")
	news.say("It **rains**.\n\n")
	p.wantSections("news|It rains. || mail|Two letters.|One is")
	mail.say("urgent.")
	mail.end()
	p.wantSections("news|It rains. || mail|Two letters.|One is urgent.")
	if !p.visible("[aria-label='Stop news']") || p.visible("[aria-label='Stop mail']") {
		t.Error("there is not one button that stops the one that goes on")
	}

	// A reload replays what there was, and follows.
	asked := eval[string](p, "document.querySelector('#run').shadowRoot.querySelector('section').dataset.run")
	d := p.answer(200, func() { call(p, page.Reload, page.ReloadParams{}) })
	p.wantSections("news|It rains. || mail|Two letters.|One is urgent.")
	news.say("It pours.")
	news.end()
	p.wantSections("news|It rains.|It pours. || mail|Two letters.|One is urgent.")
	p.wantWhole(d)
	if got := eval[string](p, "document.querySelector('#run').shadowRoot.querySelector('section').dataset.run"); got != asked {
		t.Errorf("the reload shows run %s, want %s", got, asked)
	}
	if got := p.text(".asked"); got != "What is new?" {
		t.Errorf("the page says that %q was asked", got)
	}
	if p.visible(".stop") {
		t.Error("there is a button to stop what has ended")
	}
}

func TestStopOneOfTwo(t *testing.T) {
	news, mail := tell(t), tell(t)
	p := serveAgents(t, []agent.Named{{Name: "news", Agent: news}, {Name: "mail", Agent: mail}}).browse(t)
	p.open("/")
	p.press(200)
	p.wantSections("news|Working… || mail|Working…")
	p.answer(200, func() { p.clickEarly("[aria-label='Stop mail']") })
	p.wantSections("news|Working… || mail|Stopped.")
	news.say("On and on.")
	news.end()
	p.wantSections("news|On and on. || mail|Stopped.")
	p.account()
}

// What agents could be made to say goes all the way from one to the page, and is
// words there: nothing runs, nothing moves, and nobody is asked for anything.
func TestHostileOutput(t *testing.T) {
	worst := []string{
		"base-and-meta", "close-the-page", "forms", "frames", "handlers", "images", "javascript-entities", "javascript-links",
		"label-that-lies", "media", "mutation", "script-split", "style", "svg", "template",
	}
	p := serve(t, emit(func(_ context.Context, emit func(agent.Event) error) error {
		for _, name := range worst {
			text, err := os.ReadFile(filepath.Join("../../views/testdata/hostile", name+".md"))
			if err != nil {
				return err
			}
			mark, _ := json.Marshal("end of " + name)
			half := len(text) / 2
			err = errors.Join(emit(agent.Event{Text: string(text[:half])}), emit(agent.Event{Kind: agent.Status, Text: string(text)}),
				emit(agent.Event{Text: string(text[half:])}), emit(agent.Event{Kind: agent.Data, Data: mark}))
			if err != nil {
				return err
			}
		}
		return nil
	})).browse(t)
	p.before(`self.ran = []
		for (const name of ['alert', 'open', 'print']) self[name] = (...args) => ran.push(name + ' ' + args)
		addEventListener('securitypolicyviolation', e => ran.push(e.violatedDirective + ' ' + e.blockedURI + e.sample))`)
	p.open("/")
	p.asked()
	d := p.press(200)
	p.account()
	p.wantWhole(d)
	for _, name := range worst {
		if !eval[bool](p, reads("end of "+name)) {
			t.Errorf("%s did not come whole to the page", name)
		}
	}
	for _, request := range p.asked() {
		if request != "POST Document /" && !strings.Contains(request, " /assets/") {
			t.Errorf("the page asked for %s", request)
		}
	}
	if ran := eval[[]string](p, "ran"); len(ran) > 0 {
		t.Errorf("it ran: %s", ran)
	}
	const markup = `[...new Set([...document.querySelectorAll('#run [role=log] *')].flatMap(
		e => [e.localName, ...e.getAttributeNames().map(name => e.localName + ' ' + name)]))]`
	known := strings.Split("a,a href,a rel,a dir,br,div,div data-kind,div dir,li,li class,p,p class,p dir,p data-kind,p data-final,span,span class,span aria-hidden,strong,ul,ul dir", ",") // a span is a tail
	for _, got := range eval[[]string](p, markup) {
		if !slices.Contains(known, got) {
			t.Errorf("the words became markup: %s", got)
		}
	}
	// A link leads where it says that it leads.
	for _, link := range eval[[]string](p, `[...document.querySelectorAll('#run [role=log] a')]
		.filter(a => a.origin != location.origin && a.innerText != a.getAttribute('href')).map(a => a.outerHTML)`) {
		t.Errorf("a link lies: %s", link)
	}
	if eval[string](p, "document.title") != p.text("h1")+" · Bio" || eval[int](p, "document.querySelectorAll('main, #ask, #run').length") != 3 {
		t.Error("the page is another")
	}
}
