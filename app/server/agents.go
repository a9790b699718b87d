package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"bio/agent"
	"bio/agent/brief"
	"bio/agent/chat"
	"bio/agent/mcp"
	"bio/agent/program"
	"bio/agent/webhook"
	"bio/app/account"
	"bio/app/config"
	"bio/app/runs"
	"bio/views"
)

// maxPrompt bounds in bytes what a person asks an agent.
const maxPrompt = 8 << 10

// checkAgents makes the agents, and says what is wrong with them before a start has
// made anything that lasts.
func checkAgents(o Options) error {
	_, err := (&Server{settings: o.Settings, now: time.Now, log: o.Log}).named(o.Agents)
	return err
}

// named makes the agents of BIO_AGENT. Those that Go registered stand where it says
// hook, or else in the place of brief.
func (s *Server) named(registered []agent.Named) ([]agent.Named, error) {
	of := func(kind string) bool {
		return slices.ContainsFunc(s.settings.Agents, func(a config.Agent) bool { return a.Kind == kind })
	}
	theirs := config.AgentBrief
	switch {
	case of(config.AgentHook) && len(registered) == 0:
		return nil, errors.New("BIO_AGENT has hook, and app/hook.go registers no agent. Register one, or take hook out")
	case of(config.AgentHook):
		theirs = config.AgentHook
	}
	if err := s.offerTools(); err != nil {
		return nil, err
	}
	var all []agent.Named
	add := func(name string, a agent.Agent) error {
		if slices.ContainsFunc(all, func(other agent.Named) bool { return other.Name == name }) {
			return fmt.Errorf("BIO_AGENT: two agents are called %s: give one another name, as name=…", name)
		}
		all = append(all, agent.Named{Name: name, Agent: a})
		return nil
	}
	for _, a := range s.settings.Agents {
		if a.Kind == theirs && len(registered) > 0 {
			for _, one := range registered {
				if err := add(one.Name, one.Agent); err != nil {
					return nil, err
				}
			}
			continue
		}
		made, err := s.agent(a)
		if err != nil {
			return nil, fmt.Errorf("the agent %s of BIO_AGENT cannot run: %w. Mend its entry, or take it out", a.Name, err)
		}
		if err := add(a.Name, made); err != nil {
			return nil, err
		}
	}
	if len(all) > views.MaxRuns {
		return nil, fmt.Errorf("BIO_AGENT and app/hook.go have %d agents, and %d is the most that a page can show. Take some out", len(all), views.MaxRuns)
	}
	return all, nil
}

// adviseAgents logs what may not be meant.
func (s *Server) adviseAgents(registered []agent.Named) {
	used := false
	for _, a := range s.settings.Agents {
		used = used || a.Kind == config.AgentHook || a.Kind == config.AgentBrief
		if a.Kind == config.AgentWebhook && a.Key == nil {
			s.log.Warn("what is sent to the agent is not signed: it has no key in BIO_AGENT_KEY", "agent", a.Name)
		}
	}
	for _, one := range registered {
		if !used {
			s.log.Warn("the agent of app/hook.go is not used: BIO_AGENT has neither hook nor brief", "agent", one.Name)
		}
	}
}

// agent makes one agent of BIO_AGENT.
func (s *Server) agent(a config.Agent) (agent.Agent, error) {
	switch a.Kind {
	case config.AgentExec:
		words, err := program.Split(a.Command)
		if err != nil {
			return nil, err
		}
		return program.New(program.Options{Command: words, Brief: s.briefing, Log: s.log.With("agent", a.Name)})
	case config.AgentWebhook:
		made, err := webhook.New(webhook.Options{
			URL: a.URL, Secret: a.Key, Brief: s.briefing, AllowPrivate: s.settings.AgentPrivate, Log: s.log.With("agent", a.Name), Now: s.now,
		})
		if err != nil && !s.settings.AgentPrivate {
			err = fmt.Errorf("%w (BIO_AGENT_PRIVATE=yes allows addresses that are not public)", err)
		}
		return made, err
	case config.AgentChat:
		o := chat.Options{
			BaseURL: a.URL, Model: a.Model, Key: string(a.Key), System: s.settings.AgentSystem,
			MaxTokens: s.settings.AgentTokens, Log: s.log.With("agent", a.Name), Now: s.now,
		}
		if s.settings.AgentContext {
			o.Context = s.briefing
		}
		if s.mcp != nil {
			o.Tools = s.mcp
		}
		made, err := chat.New(o)
		if err != nil {
			return nil, err
		}
		return agent.Chain(made, mcp.Trace), nil
	}
	return brief.New(s.facts, s.now), nil
}

// offerTools makes the tools of BIO_AGENT_TOOLS, which all models share.
func (s *Server) offerTools() error {
	if len(s.settings.AgentTools) == 0 {
		return nil
	}
	o := mcp.Options{Allow: s.settings.AgentAllow, Log: s.log}
	for _, one := range s.settings.AgentTools {
		server := mcp.Server{Name: one.Name, URL: one.URL, AllowPrivate: s.settings.AgentPrivate}
		if one.Command != "" {
			words, err := program.Split(one.Command)
			if err != nil {
				return fmt.Errorf("BIO_AGENT_TOOLS: %s: %w", one.Name, err)
			}
			server.Command = words
		}
		o.Servers = append(o.Servers, server)
	}
	tools, err := mcp.New(o)
	if err != nil {
		return fmt.Errorf("BIO_AGENT_TOOLS: %w", err)
	}
	s.mcp = tools
	return nil
}

// briefing is what programs, webhooks and models are told of a person.
func (s *Server) briefing(ctx context.Context, in *agent.Input) (string, error) {
	f, err := s.facts(ctx, in.User.ID)
	if err != nil {
		return "", err
	}
	return brief.Write(in.User, f, s.now()), nil
}

func agentUser(u account.User) agent.User {
	return agent.User{ID: u.ID, Name: u.Name, Groups: u.Groups}
}

// traceParent is a traceparent of version 00; ids of zeros alone are none (W3C Trace
// Context §3.2.2).
var (
	traceParent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
	noTrace     = regexp.MustCompile(`-0+-`)
)

// traceOf is the trace that a request is part of, or a new one.
func traceOf(h http.Header) string {
	// Two are none: which one would be meant is unknown.
	if given := h.Values("Traceparent"); len(given) == 1 && traceParent.MatchString(given[0]) && !noTrace.MatchString(given[0]) {
		return given[0]
	}
	id := make([]byte, 24)
	rand.Read(id)
	return fmt.Sprintf("00-%x-%x-00", id[:16], id[16:])
}

// ask starts the agents for the person who is signed in: the one of that name, or
// all.
func (s *Server) ask(c echo.Context, name, prompt string) []runs.Asked {
	r, v := c.Request(), visitOf(c)
	return s.runs.Start(agentUser(v.user), runs.Ask{
		Agent: name, Prompt: prompt, TraceParent: traceOf(r.Header), Client: v.client(r), Session: v.session.ID,
	})
}

// begin starts what a sign-in starts.
func (s *Server) begin(c echo.Context) (all []*runs.Run) {
	for _, asked := range s.ask(c, "", "") {
		all = append(all, asked.Run)
	}
	return all
}

// takenWait is how long an answer waits for the store to say that a run of an
// agent goes on in another instance.
const takenWait = 2 * time.Second

// busyError says which agents were not asked, for they are at work on something
// else for that person.
type busyError struct{ agents []string }

func (e *busyError) Error() string {
	return "server: at work: " + strings.Join(e.agents, ", ")
}

// run answers the form that asks the agents; the page it leads to shows the runs.
func (s *Server) run(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn {
		if wantsProblem(c) {
			return errNotSignedIn
		}
		return c.Redirect(http.StatusSeeOther, "/")
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType)); kind != echo.MIMEApplicationForm && r.ContentLength != 0 {
		return errNotFormFields
	}
	if err := r.ParseForm(); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return err
		}
		return errNotFormFields
	}
	// A form sends a line feed as two characters, which nobody wrote.
	name, prompt := r.PostForm.Get("agent"), strings.ReplaceAll(r.PostForm.Get("prompt"), "\r\n", "\n")
	switch {
	case len(prompt) > maxPrompt:
		return s.askAgain(c, errPrompt, name, prompt)
	case name != "" && !slices.Contains(s.agents, name):
		return s.askAgain(c, errNoAgent, name, prompt)
	}
	asked := s.ask(c, name, prompt)
	if prompt != "" { // without one, what goes on is as good as another
		ctx, cancel := context.WithTimeout(r.Context(), takenWait)
		defer cancel()
		var busy []string
		for _, one := range asked {
			if !one.Taken(ctx) && one.Prompt() != prompt { // a second press of one question is that question
				busy = append(busy, one.Agent())
			}
		}
		if len(busy) > 0 {
			return s.askAgain(c, &busyError{busy}, name, prompt)
		}
	}
	// Without a fragment: to one in a page that goes on, a browser jumps at its end.
	if name != "" {
		return c.Redirect(http.StatusSeeOther, "/?agent="+name)
	}
	return c.Redirect(http.StatusSeeOther, "/")
}

// askAgain refuses what was asked, on the page that still has it.
func (s *Server) askAgain(c echo.Context, why error, name, prompt string) error {
	if wantsProblem(c) {
		return why
	}
	o := outcomeOf(why)
	return s.showHome(c, o.status, views.Home{Ask: &views.Ask{Notice: o.sentence, Agent: name, Prompt: prompt}}, nil)
}

// stopRun answers the button that stops a run. One that has ended has ended.
func (s *Server) stopRun(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn && wantsProblem(c) {
		return errNotSignedIn
	}
	if v.signedIn {
		err := s.runs.Stop(r.Context(), v.user.ID, r.PostFormValue("run"))
		if err != nil && !errors.Is(err, runs.ErrNone) {
			return err
		}
	}
	return c.Redirect(http.StatusSeeOther, "/")
}

// work shows runs as they go on, for as long as the session does that reads them.
func (s *Server) work(c echo.Context, all []*runs.Run) *views.Work {
	if len(all) == 0 {
		return nil
	}
	ctx, v := c.Request().Context(), visitOf(c)
	over := false
	w := new(views.Work)
	for _, run := range all {
		w.Runs = append(w.Runs, views.Run{
			ID: run.ID(), Agent: run.Agent(), Prompt: run.Prompt(), Status: run.Status(),
			Final: func() (status, sentence string) {
				if over {
					return runs.Interrupted, "This page has stopped here. Reload it to read on."
				}
				return run.Final()
			},
		})
	}
	w.Events = func(yield func(int, []agent.Event) bool) {
		for i, events := range runs.Follow(ctx, all) {
			// While the database cannot say, nobody can have ended a session in it.
			if holds, err := s.sessions.Holds(ctx, v.session); err == nil && !holds {
				over = true
				for i := range all {
					if !yield(i, nil) {
						return
					}
				}
				return
			}
			if !yield(i, events) {
				return
			}
		}
	}
	return w
}
