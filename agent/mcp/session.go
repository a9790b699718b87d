package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent/chat"
)

// server is one of the servers, with the session that all runs share.
type server struct {
	name   string
	allow  map[string]bool // names of tools; "*": all
	tools  *Tools
	client *sdk.Client
	dial   func(context.Context) (sdk.Connection, error)

	mu      sync.Mutex
	session *session // that the next one gets; nil: none yet
}

// session is one with a server, being opened or open.
type session struct {
	ctx    context.Context // its end is the session's
	cancel context.CancelFunc
	ready  chan struct{} // closed once the next two are known
	*sdk.ClientSession
	err error

	// server.mu guards these.
	users int
	idle  *time.Timer // runs while there are none
	// names are the tools' own by those that the model knows; nil: not listed yet.
	names map[string]string
}

// acquire returns the session, open, for use until it is released.
func (s *server) acquire(ctx context.Context) (*session, error) {
	s.mu.Lock()
	if s.tools.ctx.Err() != nil {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.session == nil {
		c := &session{ready: make(chan struct{})}
		c.ctx, c.cancel = context.WithCancel(s.tools.ctx)
		s.session = c
		s.tools.running.Go(func() { s.run(c) })
	}
	c := s.session
	c.users++
	if c.idle != nil {
		c.idle.Stop()
	}
	s.mu.Unlock()

	err := error(nil)
	select {
	case <-c.ready:
		err = c.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.release(c)
		return nil, err
	}
	return c, nil
}

func (s *server) release(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.users--
	switch {
	case c.users > 0:
	case s.session != c:
		c.cancel()
	default:
		c.idle = time.AfterFunc(idleTimeout, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if c.users == 0 {
				s.retire(c)
			}
		})
	}
}

// drop sees to it that nobody gets the session any more.
func (s *server) drop(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(c)
}

// retire is drop, with the lock held. Those that use the session may finish.
func (s *server) retire(c *session) {
	if s.session == c {
		s.session = nil
	}
	if c.users == 0 {
		c.cancel()
	}
}

// run opens the session, and returns when it is over.
func (s *server) run(c *session) {
	defer c.cancel()
	if c.err = s.open(c); c.err != nil {
		s.drop(c)
		close(c.ready)
		return
	}
	close(c.ready)
	_ = c.Wait() // why it ended is for those whose calls it broke off
	s.drop(c)
}

func (s *server) open(c *session) error {
	conn, err := s.dial(c.ctx)
	if err != nil {
		return err
	}
	// The session's own Close would wait for the calls in flight.
	context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	x := new(exchange)
	ctx, cancel := context.WithTimeout(x.in(c.ctx), connectTimeout)
	defer cancel()
	c.ClientSession, err = s.client.Connect(ctx, dialled{conn}, nil)
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w within %v", ErrUnreachable, connectTimeout)
	}
	return x.failure(err)
}

// dialled is a connection as a transport.
type dialled struct{ sdk.Connection }

func (d dialled) Connect(context.Context) (sdk.Connection, error) { return d.Connection, nil }

// use does something with the session, and once more with another when the first
// turns out to be one that the server could not begin it with; what can be done
// twice without harm, also when that is only likely.
func (s *server) use(ctx context.Context, limit time.Duration, harmless bool, do func(context.Context, *session) error) error {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	gone, err := s.try(within, harmless, do)
	if gone {
		_, err = s.try(within, harmless, do)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.tools.ctx.Err() != nil:
		return ErrClosed
	case within.Err() != nil:
		return fmt.Errorf("%w within %v", ErrUnreachable, limit)
	}
	return err
}

func (s *server) try(ctx context.Context, harmless bool, do func(context.Context, *session) error) (gone bool, err error) {
	c, err := s.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer s.release(c)
	x := new(exchange)
	ctx, cancel := context.WithCancel(x.in(ctx))
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	err = do(ctx, c)
	gone = x.gone(harmless) || errors.Is(err, sdk.ErrConnectionClosed)
	// A session whose connection failed is for nobody else, though its end may not
	// have been noticed yet.
	if gone || err != nil && refused(err) == nil && ctx.Err() == nil {
		s.drop(c)
	}
	return gone, x.failure(err)
}

// list returns the tools that are allowed.
func (s *server) list(ctx context.Context) ([]chat.Tool, error) {
	var list []chat.Tool
	err := s.use(ctx, listTimeout, true, func(ctx context.Context, c *session) (err error) {
		list, err = s.ask(ctx, c)
		return err
	})
	return list, err
}

// ask asks for the list of tools. A session in which that fails is not used again.
func (s *server) ask(ctx context.Context, c *session) ([]chat.Tool, error) {
	var list []chat.Tool
	names := make(map[string]string)
	params := &sdk.ListToolsParams{}
	for range maxPages {
		params.Meta = meta(ctx)
		page, err := c.ListTools(ctx, params)
		if err != nil {
			if ctx.Err() != context.Canceled { // which is the run's matter
				s.drop(c)
			}
			return nil, err
		}
		for _, offered := range page.Tools {
			name := modelName(s.name, offered.Name)
			if !s.allow["*"] && !s.allow[offered.Name] || names[name] != "" {
				continue
			}
			tool, err := convert(s.name, offered)
			if err != nil {
				s.tools.log.LogAttrs(ctx, slog.LevelWarn, "an MCP tool is left out",
					slog.String("server", s.name), slog.String("tool", name), slog.String("error", err.Error()))
				continue
			}
			names[name] = offered.Name
			list = append(list, tool)
		}
		if params.Cursor = page.NextCursor; params.Cursor == "" {
			s.listed(c, names)
			return list, nil
		}
	}
	s.drop(c)
	return nil, fmt.Errorf("a list of more than %d pages", maxPages)
}

// listed keeps the names of the tools for calls. The first time it logs what is
// allowed and not there, for it may be misspelt.
func (s *server) listed(c *session, names map[string]string) {
	s.mu.Lock()
	first := c.names == nil
	c.names = names
	s.mu.Unlock()
	for _, tool := range slices.Sorted(maps.Keys(s.allow)) {
		if first && tool != "*" && names[modelName(s.name, tool)] == "" {
			s.tools.log.LogAttrs(c.ctx, slog.LevelWarn, "an MCP server does not have a tool that is allowed",
				slog.String("server", s.name), slog.String("tool", tool))
		}
	}
}

// own is the tool's own name, or "".
func (s *server) own(ctx context.Context, c *session, name string) (string, error) {
	s.mu.Lock()
	names := c.names
	s.mu.Unlock()
	if names == nil { // the tool was listed in an earlier session
		if _, err := s.ask(ctx, c); err != nil {
			return "", err
		}
		s.mu.Lock()
		names = c.names
		s.mu.Unlock()
	}
	return names[name], nil
}

// call calls the tool that the model knows by name.
func (s *server) call(ctx context.Context, name string, arguments json.RawMessage) (string, error) {
	var own string
	var answer *sdk.CallToolResult
	var refusal *jsonrpc.Error
	err := s.use(ctx, callTimeout, false, func(ctx context.Context, c *session) (err error) {
		if own, err = s.own(ctx, c, name); err != nil || own == "" {
			return err
		}
		answer, err = c.CallTool(ctx, &sdk.CallToolParams{Meta: meta(ctx), Name: own, Arguments: arguments})
		if refusal = refused(err); refusal != nil {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case own == "":
		return "", ErrTool
	case refusal != nil:
		s.tools.log.LogAttrs(ctx, slog.LevelWarn, "an MCP server refused a call",
			slog.String("server", s.name), slog.String("tool", name), slog.Int64("code", refusal.Code))
		return text("The tool was not called: " + refusal.Message), nil
	case answer.NeedsInput():
		return "", ErrInput
	case answer.IsError:
		s.tools.log.LogAttrs(ctx, slog.LevelWarn, "an MCP tool reports an error",
			slog.String("server", s.name), slog.String("tool", name))
	}
	return result(answer), nil
}

// refused is what a server answered in place of a result, or nil.
func refused(err error) *jsonrpc.Error {
	refusal, ok := errors.AsType[*jsonrpc.Error](err)
	// The library has errors of its own in that form.
	if !ok || refusal.Code <= -32003 && refusal.Code >= -32005 {
		return nil
	}
	return refusal
}

type exchanging struct{}

// exchange is what is known of the last HTTP request that was made in a context.
type exchange struct {
	mu     sync.Mutex
	why    error // it has no answer that can be read; nil: it has, or there was none
	status int   // that refused a request of a session
}

func (x *exchange) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, exchanging{}, x)
}

func (x *exchange) set(why error, status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.why, x.status = why, status
}

// gone reports whether the request found no session; with guess, also where that
// is only likely.
func (x *exchange) gone(guess bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.status == http.StatusNotFound || guess && x.status == http.StatusBadRequest
}

// failure is err without what a server wrote.
func (x *exchange) failure(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	refusal := refused(err)
	switch {
	case err == nil:
		return nil
	case refusal != nil:
		return fmt.Errorf("%w %d", ErrRefused, refusal.Code)
	case x.why != nil:
		return x.why
	}
	return ErrAnswer
}
