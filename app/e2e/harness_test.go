// Package e2e drives the program in real browsers: a server on port 0, Chromium
// with a virtual authenticator (WebAuthn L3 §11) and Firefox with its soft token.
package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "modernc.org/sqlite"

	"bio/agent"
	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
)

// patience is how long a condition may take to come true on a busy machine.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.close()
	os.Exit(code)
}

// chromium is the one browser of the package, started by the first test that
// needs it.
var chromium browser

type browser struct {
	once sync.Once
	ctx  context.Context
	err  error
}

func (b *browser) context(t *testing.T) context.Context {
	t.Helper()
	path := find(t, "BIO_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	b.once.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.Flag("headless", "new"), chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, _ := chromedp.NewExecAllocator(context.Background(), options...)
		b.ctx, _ = chromedp.NewContext(allocator) // ended by close
		b.err = chromedp.Do(b.ctx)
	})
	if b.err != nil {
		t.Fatalf("%s does not start: %v", path, b.err)
	}
	return b.ctx
}

func (b *browser) close() {
	if b.ctx == nil || b.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Cancel(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "the browser did not close:", err)
	}
}

// find returns the path of a program, named by a variable or by one of names. A
// machine that has none skips the test; a CI machine must have it.
func find(t *testing.T, variable string, names ...string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	why := fmt.Sprintf("there is no %s here: install it, or name it with %s", names[0], variable)
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

// clock is the server's: real time, and as far ahead as a test has moved it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// site is the program, serving on a port of its own.
type site struct {
	t       *testing.T
	url     string // origin
	db      *store.DB
	rows    *sql.DB // the same database, for tests to look into
	clock   *clock
	journal *journal

	settings *config.Settings
	agents   []agent.Named
	stop     func() error // drains, and closes db
}

// serve starts the program with an agent, nil for the one in the box, and further
// settings.
func serve(t *testing.T, hook agent.Agent, environ ...string) *site {
	t.Helper()
	if hook == nil {
		return serveAgents(t, nil, environ...)
	}
	return serveAgents(t, []agent.Named{{Name: "agent", Agent: hook}}, environ...)
}

// serveAgents starts the program with several agents.
func serveAgents(t *testing.T, agents []agent.Named, environ ...string) *site {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, dir := listener.Addr().(*net.TCPAddr), t.TempDir()
	settings, err := config.Load(append([]string{
		fmt.Sprintf("BIO_URL=http://localhost:%d", addr.Port), "BIO_LISTEN=" + addr.String(), "BIO_DATA=" + dir,
	}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, url: settings.Origin(), clock: &clock{}, journal: &journal{}, settings: settings, agents: agents}
	s.rows, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "bio.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	s.start(listener)
	t.Cleanup(func() {
		if err := errors.Join(s.stop(), s.rows.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start opens the database and serves on listener until stop.
func (s *site) start(listener net.Listener) {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), s.settings.Database, s.clock.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	program, err := server.New(server.Options{
		Settings: s.settings, Secret: []byte(strings.Repeat("e2e ", 8)), DB: db, Agents: s.agents,
		Now: s.clock.Now, Log: slog.New(s.journal),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- program.Serve(ctx, listener, nil) }()
	s.db, s.stop = db, func() error {
		cancel()
		return errors.Join(<-served, db.Close())
	}
}

// restart stops the program and starts it anew at the same address, on the same
// data.
func (s *site) restart() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", s.settings.Listen)
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(listener)
}

// count is the one number that a query returns.
func (s *site) count(query string, args ...any) (n int) {
	s.t.Helper()
	if err := s.rows.QueryRow(query, args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// change alters the database behind the server's back.
func (s *site) change(statement string, args ...any) {
	s.t.Helper()
	if _, err := s.rows.Exec(statement, args...); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// users is how many accounts there are.
func (s *site) users() int {
	s.t.Helper()
	return s.count("SELECT count(*) FROM users")
}

// journal is the server's log: the requests that it has answered.
type journal struct {
	mu       sync.Mutex
	answered []string // "POST /"
}

// answers is how often a request was answered to its end.
func (j *journal) answers(request string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.answered {
		if one == request {
			n++
		}
	}
	return n
}

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	values := map[string]string{}
	r.Attrs(func(a slog.Attr) bool {
		values[a.Key] = a.Value.String()
		return true
	})
	if r.Message == "request" {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.answered = append(j.answered, values["method"]+" "+values["route"])
	}
	return nil
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

// TestHarness proves that the tests would notice.
func TestHarness(t *testing.T) {
	for trouble, script := range map[string]string{
		"console.error":                     "console.error('oh')",
		"console.warning":                   "console.warn('oh')",
		"uncaught":                          "setTimeout(() => { throw new Error('oh') })",
		"issue: ContentSecurityPolicyIssue": "document.body.append(Object.assign(document.createElement('style'), {textContent: 'b{}'}))",
		"network error":                     "fetch('/nothing')",
	} {
		t.Run(trouble, func(t *testing.T) {
			p := serve(t, nil).browse(t)
			p.open("/")
			p.run(script)
			p.eventually("the trouble is noticed", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return slices.ContainsFunc(p.problems, func(problem string) bool { return strings.HasPrefix(problem, trouble) })
			})
			p.mu.Lock()
			defer p.mu.Unlock()
			p.problems = nil
		})
	}
}
