// Package mcp gives an agent of package chat the tools of MCP servers (Model
// Context Protocol, https://modelcontextprotocol.io): programs that are spoken to
// over their standard input and output, and URLs that speak streamable HTTP.
//
// Only tools that are on the list of those allowed are shown to the model, and
// only they are called. A server can do what it likes with what the model tells
// it, and the model reads what a server answers: allow what you trust.
//
// All runs share one session with each server. It is opened when it is needed,
// opened again when it was lost, and closed when nobody used it for five minutes.
// Servers cannot ask the person, the model or the file system for anything.
//
// A program runs as one of package program does: in a process group of its own, as
// the server's user, with PATH, HOME and LANG and nothing else of the environment;
// sh -c can set what it needs. It is told to end by the end of its input, then by
// SIGTERM and SIGKILL, a second apart. A URL is called as package webhook calls
// one: no redirect is followed, no proxy of the environment is used, and addresses
// that are not public are refused unless they are allowed.
package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent"
	"bio/agent/chat"
	"bio/agent/internal/child"
	"bio/agent/internal/outward"
)

const (
	connectTimeout = 10 * time.Second
	listTimeout    = 15 * time.Second // connecting included
	callTimeout    = time.Minute      // connecting included
	idleTimeout    = 5 * time.Minute
	maxMessage     = 4 << 20  // bytes of a message from a server
	maxPages       = 16       // of a server's list
	maxTools       = 128      // in one list; OpenAI takes no more
	maxTool        = 32 << 10 // bytes of a tool's description and schema
)

// Why there are no tools, or no result. None has what a server wrote in it.
var (
	ErrUnreachable = errors.New("mcp: no answer from the server")
	ErrStatus      = errors.New("mcp: the server answered with status") // the number follows
	ErrRefused     = errors.New("mcp: the server refused with code")    // of JSON-RPC; the number follows
	ErrAnswer      = errors.New("mcp: broken answer")
	ErrInput       = errors.New("mcp: the tool asks for input that nobody can give")
	ErrTool        = errors.New("mcp: no such tool")
	ErrClosed      = errors.New("mcp: closed")
	// ErrAddress says that the URL leads to an address that is not allowed.
	ErrAddress = outward.ErrAddress
	// ErrOptions says that [New] cannot make tools of its options.
	ErrOptions = errors.New("mcp: invalid options")
)

// Server is an MCP server: a Command or a URL.
type Server struct {
	// Name is what [Options].Allow and the model call it: 1 to 24 of a-z, 0-9 and
	// -, the first one a letter.
	Name string
	// Command is the program and its arguments; program.Split makes it of a
	// command line. A program without a slash is looked up in the PATH.
	Command []string
	// URL is https; or, with AllowPrivate, http to a loopback address or to
	// localhost.
	URL          string
	Key          string // sent to the URL as a bearer token; empty: none is
	AllowPrivate bool   // addresses of the URL that are not public
}

// Options are what the tools are made of.
type Options struct {
	Servers []Server
	// Allow has the tools that may be used, each as server/tool, or server/* for
	// all of a server, now and later. Every server needs one.
	Allow []string
	// Log is told of servers and tools that are left out, of calls that a tool
	// answers with an error or a server refuses, without what they say, and of
	// programs that end by themselves: with the last 8 KiB of their standard error.
	// Nil: nobody is.
	Log *slog.Logger
}

// Tools are tools of MCP servers, as a [chat.Tools]. The model knows each as
// server__tool; a name that would have other characters than a-z, A-Z, 0-9, _ and
// -, or more than 64, ends in a part of its hash. A person reads the title that the
// server gives it, or server/tool.
type Tools struct {
	log     *slog.Logger
	servers []*server
	ctx     context.Context // of all sessions
	cancel  context.CancelFunc
	running sync.WaitGroup // sessions and programs
}

var (
	_ chat.Tools = (*Tools)(nil)
	_ io.Closer  = (*Tools)(nil)
)

var serverName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,23}$`)

// New makes the tools, and connects to nothing yet. Its error wraps [ErrOptions];
// also an [exec.Error] when there is no such program or none that may be run, and
// [errors.ErrUnsupported] for a program where the system has no process groups.
func New(o Options) (*Tools, error) {
	t := &Tools{log: o.Log}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, options := range o.Servers {
		s, err := t.server(options)
		if err != nil {
			return nil, err
		}
		t.servers = append(t.servers, s)
	}
	for _, entry := range o.Allow {
		name, tool, _ := strings.Cut(entry, "/")
		s := t.find(name)
		if s == nil || tool == "" {
			return nil, fmt.Errorf("%w: %q is not a tool of one of the servers", ErrOptions, entry)
		}
		s.allow[tool] = true
	}
	for _, s := range t.servers {
		if len(s.allow) == 0 {
			return nil, fmt.Errorf("%w: of server %q nothing is allowed", ErrOptions, s.name)
		}
	}
	return t, nil
}

func (t *Tools) server(o Server) (*server, error) {
	switch {
	case !serverName.MatchString(o.Name):
		return nil, fmt.Errorf("%w: %q cannot be a server's name", ErrOptions, o.Name)
	case t.find(o.Name) != nil:
		return nil, fmt.Errorf("%w: two servers are called %q", ErrOptions, o.Name)
	case (o.URL == "") == (len(o.Command) == 0):
		return nil, fmt.Errorf("%w: server %q has neither a command nor a URL, or both", ErrOptions, o.Name)
	case strings.ContainsFunc(o.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("%w: the key of server %q has characters that a header cannot carry", ErrOptions, o.Name)
	case o.URL == "" && (o.Key != "" || o.AllowPrivate):
		return nil, fmt.Errorf("%w: server %q has a key or allows addresses, but has no URL", ErrOptions, o.Name)
	}
	s := &server{
		name:  o.Name,
		allow: make(map[string]bool),
		tools: t,
		client: sdk.NewClient(&sdk.Implementation{Name: "bio", Version: "1"}, &sdk.ClientOptions{
			Capabilities:   &sdk.ClientCapabilities{},                  // nil would be some
			MultiRoundTrip: &sdk.MultiRoundTripOptions{Disabled: true}, // nobody is there to be asked
		}),
	}
	var err error
	if o.URL != "" {
		s.dial, err = dialURL(o)
	} else {
		s.dial, err = t.dialCommand(o)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: server %q: %w", ErrOptions, o.Name, err)
	}
	return s, nil
}

// dialURL returns what connects to a URL.
func dialURL(o Server) (func(context.Context) (sdk.Connection, error), error) {
	client, err := newClient(o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (sdk.Connection, error) {
		return (&sdk.StreamableClientTransport{
			Endpoint:             o.URL,
			HTTPClient:           client,
			MaxEventSize:         maxMessage,
			MaxRetries:           1, // of what resumes an answer that broke off; no call is made again
			DisableStandaloneSSE: true,
		}).Connect(ctx)
	}, nil
}

// dialCommand returns what starts a program and connects to it.
func (t *Tools) dialCommand(o Server) (func(context.Context) (sdk.Connection, error), error) {
	if !child.Groups {
		return nil, fmt.Errorf("no process groups on this system: %w", errors.ErrUnsupported)
	}
	words := slices.Clone(o.Command)
	if slices.ContainsFunc(words, func(word string) bool { return strings.ContainsRune(word, 0) }) {
		return nil, errors.New("the command has a NUL byte")
	}
	path, err := exec.LookPath(words[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	log := t.log.With(slog.String("server", o.Name))
	return func(ctx context.Context) (sdk.Connection, error) {
		p, err := start(path, words)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		t.running.Go(func() { p.wait(log) })
		return (&sdk.IOTransport{Reader: p, Writer: p, MaxLineLength: maxMessage}).Connect(ctx)
	}, nil
}

// find returns the server of that name, or nil.
func (t *Tools) find(name string) *server {
	if i := slices.IndexFunc(t.servers, func(s *server) bool { return s.name == name }); i >= 0 {
		return t.servers[i]
	}
	return nil
}

// List returns the tools that are allowed, in the servers' order, at most 128. All
// servers are asked at once, for at most 15 seconds. One that does not answer is
// left out, for the others are of use without it.
func (t *Tools) List(ctx context.Context) ([]chat.Tool, error) {
	lists := make([][]chat.Tool, len(t.servers))
	var asked sync.WaitGroup
	for i, s := range t.servers {
		asked.Go(func() {
			list, err := s.list(ctx)
			if lists[i] = list; err != nil && ctx.Err() == nil && t.ctx.Err() == nil {
				t.log.LogAttrs(ctx, slog.LevelWarn, "an MCP server is left out",
					slog.String("server", s.name), slog.String("error", err.Error()))
			}
		})
	}
	asked.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case t.ctx.Err() != nil:
		return nil, ErrClosed
	}
	all := slices.Concat(lists...)
	if len(all) > maxTools {
		t.log.LogAttrs(ctx, slog.LevelWarn, "some MCP tools are left out", slog.Int("tools", len(all)), slog.Int("most", maxTools))
		all = all[:maxTools]
	}
	return all, nil
}

// Call calls a tool, and takes at most a minute. It is called again only where the
// server cannot have begun: the session was closed or is unknown to it. The result
// is the text of the answer; what is not text is described in words. What a tool
// reports as its error, and what a server refuses, is a result too.
func (t *Tools) Call(ctx context.Context, name string, arguments json.RawMessage) (string, error) {
	server, _, _ := strings.Cut(name, separator)
	s := t.find(server)
	if s == nil {
		return "", ErrTool
	}
	return s.call(ctx, name, arguments)
}

// Close ends all sessions, and with them the calls that are being made, and waits
// for the programs to end: some seconds at most. Its error is nil.
func (t *Tools) Close() error {
	t.cancel()
	for _, s := range t.servers {
		s.mu.Lock()
		s.session = nil // and now nobody opens another
		s.mu.Unlock()
	}
	t.running.Wait()
	return nil
}

type traceParent struct{}

// Trace is the [agent.Middleware] that passes the run's place in a trace on to the
// tools of the agent: calls have it as traceparent in their _meta.
func Trace(next agent.Agent) agent.Agent {
	return agent.Func(func(ctx context.Context, in *agent.Input) iter.Seq2[agent.Event, error] {
		if in.TraceParent != "" {
			ctx = context.WithValue(ctx, traceParent{}, in.TraceParent)
		}
		return next.Run(ctx, in)
	})
}

// meta is what a request in ctx carries beside its parameters.
func meta(ctx context.Context) sdk.Meta {
	if parent, ok := ctx.Value(traceParent{}).(string); ok {
		return sdk.Meta{"traceparent": parent}
	}
	return nil
}
