package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bio/agent"
	"bio/app/config"
	"bio/app/server"
)

// start is a running program.
type start struct {
	t       *testing.T
	dir     string
	address string
	stop    context.CancelFunc
	ended   chan error
	said    chan string
	log     journal
}

func (s *start) Write(p []byte) (int, error) {
	s.said <- string(p)
	return len(p), nil
}

func settings(t *testing.T, environ ...string) *config.Settings {
	t.Helper()
	s, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var quiet = slog.New(slog.DiscardHandler)

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// run starts the program on the data and returns what it said.
func run(t *testing.T, dir string, environ ...string) (*start, string) {
	t.Helper()
	port := freePort(t)
	ctx, stop := context.WithCancel(t.Context())
	s := &start{t: t, dir: dir, address: "http://localhost:" + port, stop: stop, ended: make(chan error, 1), said: make(chan string, 1)}
	o := server.Options{
		Settings: settings(t, append(environ, "BIO_LISTEN=127.0.0.1:"+port, "BIO_DATA="+dir)...), Log: slog.New(slog.NewJSONHandler(&s.log, nil)), Version: "test",
	}
	go func() { s.ended <- server.Run(ctx, o, s) }()
	select {
	case said := <-s.said:
		return s, said
	case err := <-s.ended:
		stop()
		t.Fatalf("did not start: %v", err)
		return nil, ""
	}
}

func (s *start) end() {
	s.t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Errorf("ended with %v", err)
	}
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	s, said := run(t, dir)
	for _, want := range []string{s.address, dir, s.address + "/?invite="} {
		if !strings.Contains(said, want) {
			t.Errorf("said %q without %q", said, want)
		}
	}
	for path, want := range map[string]fs.FileMode{"": 0o700, "../": 0o700, "secret": 0o600, "bio.db": 0o600, "bio.db-wal": 0o600} {
		if got := mode(t, filepath.Join(dir, path)); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	secret := must(os.ReadFile(filepath.Join(dir, "secret")))
	if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(string(secret))); err != nil || len(raw) != 32 {
		t.Errorf("secret of %d bytes, %v", len(raw), err)
	}
	for target, want := range map[string]int{"/": 200, "/healthz": 200, "/readyz": 200, "/nowhere": 404} {
		answer, err := http.Get(s.address + target)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", target, answer.StatusCode)
		}
	}
	s.end()

	again, saidAgain := run(t, dir)
	link := regexp.MustCompile(`/\?invite=\S+`)
	if got, want := link.FindString(saidAgain), link.FindString(said); got != want || want == "" {
		t.Errorf("the second start's link is %q, the first's %q", got, want)
	}
	if !bytes.Equal(must(os.ReadFile(filepath.Join(dir, "secret"))), secret) {
		t.Error("the second start made a new secret")
	}
	again.end()
	if left := must(filepath.Glob(filepath.Join(dir, ".*"))); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// With its secret in the settings, a start makes none.
func TestStartWithSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, _ := run(t, dir, "BIO_SECRET="+base64.RawURLEncoding.EncodeToString(secret[:32]))
	s.end()
	if _, err := os.Stat(filepath.Join(dir, "secret")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("secret: %v", err)
	}
}

// Two starts at once on one new directory agree on the secret.
func TestTwoFirstStarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	const n = 4
	said := make(chan string, n)
	for range n {
		port := freePort(t)
		ctx, stop := context.WithCancel(t.Context())
		s := &start{t: t, stop: stop, ended: make(chan error, 1), said: make(chan string, 1)}
		o := server.Options{Settings: settings(t, "BIO_LISTEN=127.0.0.1:"+port, "BIO_DATA="+dir), Log: quiet}
		go func() { s.ended <- server.Run(ctx, o, s) }()
		defer s.end()
		go func() {
			select {
			case text := <-s.said:
				said <- text
			case err := <-s.ended:
				s.ended <- nil
				said <- fmt.Sprint("did not start: ", err)
			}
		}()
	}
	links := map[string]bool{}
	for range n {
		text := <-said
		link := regexp.MustCompile(`invite=\S+`).FindString(text)
		if link == "" {
			t.Errorf("said %q", text)
		}
		links[link] = true
	}
	if len(links) != 1 {
		t.Errorf("%d secrets", len(links))
	}
}

// A start that fails says what to mend and leaves nothing that was not there.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := func(path, text string, mode fs.FileMode) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	good := base64.RawURLEncoding.EncodeToString(secret[:32]) + "\n"
	for name, tt := range map[string]struct {
		prepare func(dir string)
		environ func(dir string) []string
		says    []string
		root    bool // root may do it
	}{
		"port taken": {
			environ: func(string) []string {
				return []string{"BIO_URL=" + local, "BIO_LISTEN=" + taken.Addr().String()}
			},
			says: []string{"BIO_LISTEN", taken.Addr().String(), "taken"},
		},
		"metrics port taken": {
			environ: func(string) []string { return []string{"BIO_METRICS_LISTEN=" + taken.Addr().String()} },
			says:    []string{"BIO_METRICS_LISTEN", "taken"},
		},
		"no such address": {
			environ: func(string) []string { return []string{"BIO_URL=" + local, "BIO_LISTEN=192.0.2.1:8080"} },
			says:    []string{"BIO_LISTEN", "192.0.2.1"},
		},
		"data directory is a file": {
			prepare: func(dir string) { file(dir, "x", 0o600) },
			says:    []string{"data directory", "BIO_DATA", "there is a file of that name"},
		},
		"below a file": {
			prepare: func(dir string) { file(filepath.Dir(dir), "x", 0o600) },
			says:    []string{"data directory", "BIO_DATA"},
		},
		"data directory not writable": {
			prepare: func(dir string) {
				if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o500)); err != nil {
					t.Fatal(err)
				}
			},
			says: []string{"not writable", "BIO_DATA"}, root: true,
		},
		"secret damaged": {
			prepare: func(dir string) { file(filepath.Join(dir, "secret"), "damaged\n", 0o600) },
			says:    []string{"secret", "damaged", "backup"},
		},
		"secret cut off": {
			prepare: func(dir string) { file(filepath.Join(dir, "secret"), good[:20], 0o600) },
			says:    []string{"secret", "damaged"},
		},
		"secret empty": {
			prepare: func(dir string) { file(filepath.Join(dir, "secret"), "", 0o600) },
			says:    []string{"secret", "damaged"},
		},
		"secret readable by others": {
			prepare: func(dir string) { file(filepath.Join(dir, "secret"), good, 0o604) },
			says:    []string{"secret", "0604", "chmod 600"},
		},
		"secret readable by the group": {
			prepare: func(dir string) { file(filepath.Join(dir, "secret"), good, 0o640) },
			says:    []string{"secret", "0640", "chmod 600"},
		},
		"secret is a directory": {
			prepare: func(dir string) {
				if err := os.MkdirAll(filepath.Join(dir, "secret"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
			says: []string{"secret"},
		},
		"not a database": {
			prepare: func(dir string) { file(filepath.Join(dir, "bio.db"), strings.Repeat("not a database. ", 200), 0o600) },
			says:    []string{"bio.db", "not a database"},
		},
		"agent without a program": {
			environ: func(string) []string { return []string{"BIO_AGENT=brief, helper=exec:no-such-program-here"} },
			says:    []string{"the agent helper of BIO_AGENT cannot run", "no-such-program-here", "Mend its entry"},
		},
		"agent with half a quote": {
			environ: func(string) []string { return []string{`BIO_AGENT=helper=exec:sh -c "echo`} },
			says:    []string{"the agent helper of BIO_AGENT cannot run"},
		},
		"agent at a private address": {
			environ: func(string) []string { return []string{"BIO_AGENT=https://10.0.0.1/hook"} },
			says:    []string{"the agent 10-0-0-1 of BIO_AGENT cannot run", "10.0.0.1", "BIO_AGENT_PRIVATE=yes"},
		},
		"tools without a program": {
			environ: func(string) []string {
				return []string{"BIO_AGENT=chat:m@http://localhost:1/v1", "BIO_AGENT_TOOLS=files=exec:no-such-program-here", "BIO_AGENT_ALLOW=files/*"}
			},
			says: []string{"BIO_AGENT_TOOLS", "no-such-program-here"},
		},
		"database in no directory": {
			environ: func(dir string) []string {
				return []string{"BIO_DATABASE_URL=file:" + filepath.Join(dir, "none", "bio.db")}
			},
			says: []string{"directory", "does not exist"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.root && os.Getuid() == 0 {
				t.Skip("root may write anywhere")
			}
			home := t.TempDir()
			dir := filepath.Join(home, "parent", "data")
			if tt.prepare != nil {
				tt.prepare(dir)
			}
			before := tree(t, home)
			environ := []string{"BIO_DATA=" + dir}
			if tt.environ != nil {
				environ = append(environ, tt.environ(dir)...)
			}
			environ = append(environ, "BIO_LISTEN=127.0.0.1:"+freePort(t))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var out bytes.Buffer
			err := server.Run(ctx, server.Options{Settings: settings(t, environ...), Log: quiet}, &out)
			if err == nil || errors.Is(err, server.ErrServing) || out.Len() != 0 {
				t.Fatalf("%v, said %q", err, out.String())
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), good[:10]) {
				t.Errorf("not one clear message: %q", err)
			}
			if after := tree(t, home); !slices.Equal(before, after) {
				t.Errorf("was %q, is %q", before, after)
			}
		})
	}
}

// tree lists what is there, with modes and sizes.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := path + " " + info.Mode().String()
		if !d.IsDir() {
			line += fmt.Sprint(" ", info.Size())
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// live is a site that listens.
type live struct {
	*site
	address string
	stop    context.CancelFunc
	ended   chan error
}

func (s *site) listen(t *testing.T) *live {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	v := &live{site: s, address: l.Addr().String(), stop: stop, ended: make(chan error, 1)}
	go func() { v.ended <- s.Serve(ctx, l, nil) }()
	return v
}

// dial opens a connection and sends text.
func (v *live) dial(text string) (net.Conn, *bufio.Reader) {
	v.t.Helper()
	conn, err := net.Dial("tcp", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		v.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// slow is an agent that says one word at once and another when it is told to.
type slow struct{ release chan struct{} }

func (a slow) Run(ctx context.Context, _ *agent.Input) iter.Seq2[agent.Event, error] {
	return func(yield func(agent.Event, error) bool) {
		if !yield(agent.Event{Kind: agent.Text, Text: "beginning"}, nil) {
			return
		}
		select {
		case <-a.release:
			yield(agent.Event{Kind: agent.Text, Text: "ending"}, nil)
		case <-ctx.Done():
		}
	}
}

// While the server drains, what is in flight is answered whole: a page that
// streams, and a request whose body is still on its way.
func TestDrain(t *testing.T) {
	hook := slow{make(chan struct{})}
	s := environment{agent: hook}.site(t)
	v := s.listen(t)

	b := s.browser()
	form := b.get("/").auth
	fields := form.fields
	fields.Set("credential", s.device().create(form.options))
	body := fields.Encode()
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Cookie: bio-pre=%s\r\n", b.cookies["bio-pre"])
	_, stream := v.dial(head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
	streaming, err := http.ReadResponse(stream, nil)
	if err != nil || streaming.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", streaming, err)
	}
	page := bufio.NewReader(streaming.Body)
	var read strings.Builder
	for !strings.Contains(read.String(), "beginning") { // the shell and the first words are there
		c, err := page.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q", err, read.String())
		}
		read.WriteByte(c)
	}

	// "100 Continue" says that the handler waits for the body.
	upload, uploaded := v.dial("POST / HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		"Expect: 100-continue\r\nContent-Length: 13\r\n\r\n")
	if line, err := uploaded.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := uploaded.ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	v.stop()
	ready := func() int { p := s.browser().get("/readyz"); return p.status }
	for ready() != http.StatusServiceUnavailable {
		runtime.Gosched()
	}
	// Answers ask their clients to close, so that none is cut in its next request.
	if p := s.browser().get("/healthz"); p.status != http.StatusOK || p.header.Get("Connection") != "close" {
		t.Errorf("healthz: %d, Connection %q", p.status, p.header.Get("Connection"))
	}
	if _, err := io.WriteString(upload, "credential={}"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(uploaded, nil)
	if err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("the request in flight: %v %v", answer, err)
	} else if rest, err := io.ReadAll(answer.Body); err != nil || !bytes.Contains(rest, []byte("</html>")) {
		t.Errorf("the request in flight was cut off: %v", err)
	}
	close(hook.release)
	rest, err := io.ReadAll(page)
	if err != nil || !bytes.Contains(rest, []byte("ending")) || !bytes.Contains(rest, []byte(`data-final="done"`)) || !bytes.Contains(rest, []byte("</html>")) {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if err := <-v.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, err := net.Dial("tcp", v.address); err == nil {
		t.Error("still listening")
	}
}

func TestHeaderTooLarge(t *testing.T) {
	v := newSite(t).listen(t)
	for size, want := range map[int]int{8 << 10: 200, 64 << 10: 431} {
		_, r := v.dial("GET / HTTP/1.1\r\nHost: localhost:8080\r\nX-Long: " + strings.Repeat("x", size) + "\r\n\r\n")
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != want {
			t.Errorf("a header of %d bytes: %v %v", size, answer, err)
		}
	}
	v.stop()
	<-v.ended
}

// What is not HTTP, or twice of what should be once, is refused.
func TestMalformedRequests(t *testing.T) {
	v := newSite(t).listen(t)
	for name, text := range map[string]string{
		"not HTTP":            "hello\r\n\r\n",
		"no host":             "GET / HTTP/1.1\r\n\r\n",
		"two hosts":           "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"two lengths":         "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a header with space": "GET / HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
	} {
		_, r := v.dial(text)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v %v", name, answer, err)
		}
	}
	v.stop()
	<-v.ended
}

// A program that has ended has left nothing running.
func TestRunLeaksNothing(t *testing.T) {
	before := goroutines()
	s, _ := run(t, filepath.Join(t.TempDir(), "data"))
	client := &http.Client{Transport: &http.Transport{}}
	for range 20 {
		answer, err := client.Get(s.address)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	client.CloseIdleConnections()
	s.end()
	for deadline := time.Now().Add(10 * time.Second); len(goroutines()) > len(before); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("left running:\n%s", strings.Join(goroutines(), "\n\n"))
		}
	}
}

// goroutines are those that run this module's or the database's code, but for
// tests, and but for one that libsql's connector keeps with every pool for good.
func goroutines() []string {
	stack := make([]byte, 1<<20)
	stack = stack[:runtime.Stack(stack, true)]
	var all []string
	for _, g := range strings.Split(string(stack), "\n\n") {
		if strings.Contains(g, "testing.") || strings.Contains(g, "connectionOpener") ||
			!strings.Contains(g, "bio/") && !strings.Contains(g, "database/sql") && !strings.Contains(g, "net/http.(*conn)") {
			continue
		}
		all = append(all, g)
	}
	return all
}
