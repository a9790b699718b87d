//go:build unix

package mcp_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent"
	"bio/agent/agenttest"
	"bio/agent/chat"
	"bio/agent/mcp"
)

// secret is in all that a server writes and that no error may repeat.
const secret = "hunter2"

// desk is a server with a tool of every sort.
func desk() *sdk.Server {
	server := sdk.NewServer(&sdk.Implementation{Name: "desk", Version: "1"}, nil)
	add := func(name string, handle func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error)) {
		server.AddTool(&sdk.Tool{Name: name, Description: "This is " + name + ".", InputSchema: json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`)}, handle)
	}
	answer := func(name string, result *sdk.CallToolResult) {
		add(name, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) { return result, nil })
	}
	text := func(text string) *sdk.CallToolResult {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}
	}
	add("echo", func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		parent, _ := r.Params.Meta["traceparent"].(string)
		return text(string(r.Params.Arguments) + parent), nil
	})
	add("refuses", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return nil, errors.New("no such bed")
	})
	add("hangs", func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	add("exits", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
		return nil, nil
	})
	add("capabilities", func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		encoded, err := json.Marshal(r.Session.InitializeParams().Capabilities)
		return text(string(encoded)), err
	})
	answer("pid", text(strconv.Itoa(os.Getpid())))
	answer("environment", text(strings.Join(os.Environ(), "\n")))
	answer("fails", &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: "no water"}}})
	answer("nothing", &sdk.CallToolResult{})
	answer("report.weekly", text("sunny"))
	answer("structured", &sdk.CallToolResult{StructuredContent: map[string]any{"wet": 12}})
	answer("huge", text(strings.Repeat(secret, mcp.MaxMessage/len(secret)+1)))
	answer("all", &sdk.CallToolResult{StructuredContent: 1, Content: []sdk.Content{
		&sdk.TextContent{Text: "one"},
		&sdk.TextContent{Text: "two"},
		&sdk.ImageContent{MIMEType: "image/png", Data: make([]byte, 7)},
		&sdk.AudioContent{MIMEType: "audio/wav", Data: make([]byte, 8)},
		&sdk.ResourceLink{Name: "beds", URI: "file:///beds"},
		&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///a", Text: "three"}},
		&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///b", MIMEType: "image/gif", Blob: make([]byte, 9)}},
	}})
	answer("asks", &sdk.CallToolResult{InputRequests: sdk.InputRequestMap{"name": &sdk.ElicitParams{Message: secret, RequestedSchema: json.RawMessage(`{"type":"object"}`)}}})
	answer("hidden", text(secret))
	return server
}

var deskTools = []string{"all", "asks", "capabilities", "echo", "environment", "exits", "fails", "hangs", "huge", "nothing", "pid", "refuses", "report.weekly", "structured"}

// helpers are programs. This test binary is all of them: it is run again with a name.
var helpers = map[string]func(){
	"desk": func() { desk().Run(context.Background(), &sdk.StdioTransport{}) },
	// stubborn does not end.
	"stubborn": func() {
		signal.Ignore(syscall.SIGTERM)
		desk().Run(context.Background(), &sdk.StdioTransport{})
		select {}
	},
	"babbles": func() { fmt.Println(secret); io.Copy(io.Discard, os.Stdin) },
	"fails":   func() { fmt.Fprintln(os.Stderr, "no key"); os.Exit(4) },
	// leaves a process in a group of its own behind that holds its pipes.
	"leaves": func() {
		sleeper := exec.Command("sleep", "1000")
		sleeper.Stdin, sleeper.Stdout, sleeper.Stderr = os.Stdin, os.Stdout, os.Stderr
		sleeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := sleeper.Start(); err != nil {
			panic(err)
		}
		fmt.Fprintf(os.Stderr, "left %d.", sleeper.Process.Pid)
	},
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && helpers[os.Args[1]] != nil {
		helpers[os.Args[1]]()
		return
	}
	os.Setenv("BIO_SECRET", secret)
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // to which nothing goes
	os.Exit(m.Run())
}

func program(t *testing.T, name string) mcp.Server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return mcp.Server{Name: "desk", Command: []string{self, name}}
}

// serve answers on this machine until the test ends.
func serve(t *testing.T, handler http.Handler) mcp.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return mcp.Server{Name: "desk", URL: server.URL + "/" + secret, AllowPrivate: true}
}

func handler(o sdk.StreamableHTTPOptions) http.Handler {
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return desk() }, &o)
}

// servers are the desk by every transport.
func servers(t *testing.T) map[string]mcp.Server {
	return map[string]mcp.Server{
		"a program":              program(t, "desk"),
		"a URL":                  serve(t, handler(sdk.StreamableHTTPOptions{Stateless: true})),
		"a URL that says JSON":   serve(t, handler(sdk.StreamableHTTPOptions{Stateless: true, JSONResponse: true})),
		"a URL with sessions":    serve(t, handler(sdk.StreamableHTTPOptions{})),
		"JSON, and has sessions": serve(t, handler(sdk.StreamableHTTPOptions{JSONResponse: true})),
	}
}

// build makes tools of one server, all of which but one are allowed, and what they log.
func build(t *testing.T, s mcp.Server) (*mcp.Tools, *logged) {
	t.Helper()
	var allow []string
	for _, tool := range deskTools {
		allow = append(allow, s.Name+"/"+tool)
	}
	return buildAll(t, mcp.Options{Servers: []mcp.Server{s}, Allow: allow})
}

func buildAll(t *testing.T, o mcp.Options) (*mcp.Tools, *logged) {
	t.Helper()
	log := new(logged)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	tools, err := mcp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tools.Close()
		if strings.Contains(log.String(), secret) {
			t.Errorf("logged\n%s", log)
		}
	})
	return tools, log
}

// logged is a log that is read while it is written.
type logged struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// call calls a tool of the desk without arguments.
func call(t *testing.T, tools *mcp.Tools, tool string) (string, error) {
	t.Helper()
	result, err := tools.Call(t.Context(), "desk__"+tool, json.RawMessage("{}"))
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("%s: %v", tool, err)
	}
	return result, err
}

// names are the tools' names.
func names(tools []chat.Tool) (all []string) {
	for _, tool := range tools {
		all = append(all, tool.Name)
	}
	return all
}

func TestTools(t *testing.T) {
	weekly := mcp.ModelName("desk", "report.weekly")
	for name, server := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools, log := build(t, server)
			list, err := tools.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []string{}
			for _, tool := range deskTools {
				want = append(want, mcp.ModelName("desk", tool))
			}
			if got := names(list); !slices.Equal(got, want) {
				t.Fatalf("listed %q\n%s", got, log)
			}
			if got := list[3]; got.Description != "This is echo." || string(got.Schema) != `{"properties":{},"type":"object"}` {
				t.Errorf("listed %+v", got)
			}

			for tool, want := range map[string]string{
				"desk__echo":         `{"a":[1,2]}`,
				weekly:               "sunny",
				"desk__capabilities": `{"roots":{}}`, // so the library writes none

				"desk__fails":      "The tool reports an error.\nno water",
				"desk__nothing":    "Done. The tool has nothing to say.",
				"desk__structured": `{"wet":12}`,
				"desk__refuses":    "The tool was not called: no such bed",
				"desk__all": "one\ntwo\n[an image that cannot be shown: image/png, 7 bytes]\n[a sound that cannot be heard: audio/wav, 8 bytes]\n" +
					"[a link to \"beds\": file:///beds]\nthree\n[a file that cannot be shown: file:///b, image/gif, 9 bytes]",
			} {
				if got, err := tools.Call(t.Context(), tool, json.RawMessage(`{"a": [1, 2]}`)); err != nil || got != want {
					t.Errorf("%s: got %q, %v", tool, got, err)
				}
			}
			for _, tool := range []string{"hidden", "none", "report.weekly", "report_weekly", ""} {
				if got, err := call(t, tools, tool); got != "" || !errors.Is(err, mcp.ErrTool) {
					t.Errorf("%q: got %q, %v", tool, got, err)
				}
			}
			if got, err := call(t, tools, "huge"); got != "" || !errors.Is(err, mcp.ErrAnswer) {
				t.Errorf("huge: got %.20q, %v", got, err)
			}
			// A call that comes while the broken session ends may end with it; the one
			// after that has a session of its own.
			got, err := call(t, tools, "nothing")
			if errors.Is(err, mcp.ErrAnswer) {
				got, err = call(t, tools, "nothing")
			}
			if err != nil {
				t.Errorf("after it: got %q, %v", got, err)
			}
			// An older protocol lets a server ask by a request, which is refused.
			older := strings.Contains(name, "sessions")
			if got, err := call(t, tools, "asks"); errors.Is(err, mcp.ErrInput) == older || strings.HasPrefix(got, "The tool was not called: ") != older {
				t.Errorf("asks: got %q, %v", got, err)
			}

			traced := mcp.Trace(agent.Reply(func(ctx context.Context, _ *agent.Input) (string, error) {
				return tools.Call(ctx, "desk__echo", json.RawMessage("{}"))
			}))
			if got := agenttest.Text(t, traced, agent.Input{TraceParent: "00-1-2-01"}); got != "{}00-1-2-01" {
				t.Errorf("traced: got %q", got)
			}

			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped")
			cancel(stopped)
			if _, err := tools.List(ctx); err != stopped {
				t.Errorf("stopped: %v", err)
			}
			if _, err := tools.Call(ctx, "desk__echo", nil); err != stopped {
				t.Errorf("stopped: %v", err)
			}

			if err := tools.Close(); err != nil {
				t.Error(err)
			}
			if _, err := call(t, tools, "echo"); err != mcp.ErrClosed {
				t.Errorf("closed: %v", err)
			}
			if _, err := tools.List(t.Context()); err != mcp.ErrClosed {
				t.Errorf("closed: %v", err)
			}
			if log.String() != "" {
				t.Errorf("logged\n%s", log)
			}
		})
	}
}

func TestProgram(t *testing.T) {
	t.Run("one for all", func(t *testing.T) {
		tools, _ := build(t, program(t, "desk"))
		var pids sync.Map
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				pid, err := call(t, tools, "pid")
				if err != nil {
					t.Error(err)
				}
				pids.Store(pid, true)
			})
		}
		calls.Wait()
		if all := maps.Collect(pids.Range); len(all) != 1 {
			t.Errorf("they are %v", all)
		}
		environment, err := call(t, tools, "environment")
		for _, variable := range strings.Split(environment, "\n") {
			if name, _, _ := strings.Cut(variable, "="); !slices.Contains([]string{"PATH", "HOME", "LANG"}, name) || err != nil {
				t.Errorf("it has %s, %v", variable, err)
			}
		}
	})

	t.Run("exits", func(t *testing.T) {
		tools, log := build(t, program(t, "desk"))
		before, _ := call(t, tools, "pid")
		if got, err := call(t, tools, "exits"); got != "" || !errors.Is(err, mcp.ErrAnswer) {
			t.Errorf("got %q, %v", got, err)
		}
		if after, err := call(t, tools, "pid"); err != nil || after == before || after == "" {
			t.Errorf("got %s after %s, %v", after, before, err)
		}
		tools.Close()
		if got := log.String(); !strings.Contains(got, `server=desk exit="exit status 3" stderr="last words\n"`) || strings.Count(got, "\n") != 1 {
			t.Errorf("logged\n%s", got)
		}
	})

	t.Run("does not end", func(t *testing.T) {
		t.Parallel()
		tools, log := build(t, program(t, "stubborn"))
		text, err := call(t, tools, "pid")
		pid, _ := strconv.Atoi(text)
		if err != nil || pid == 0 {
			t.Fatal(text, err)
		}
		tools.Close()
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH || log.String() != "" {
			t.Errorf("it is still there: %v\n%s", err, log)
		}
	})

	t.Run("leaves children", func(t *testing.T) {
		t.Parallel()
		// All that hold the named pipe have ended when there is nothing more to read.
		held := filepath.Join(t.TempDir(), "held")
		if err := syscall.Mkfifo(held, 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := os.OpenFile(held, os.O_RDONLY|syscall.O_NONBLOCK, 0) // otherwise it would wait for them
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		script := `exec 3>"$1"; echo held >&3; sleep 1000 & exec "$2" desk`
		tools, _ := build(t, mcp.Server{Name: "desk", Command: append([]string{"sh", "-c", script, "script", held}, program(t, "desk").Command...)})
		if got, err := call(t, tools, "echo"); err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		tools.Close()
		if got, err := io.ReadAll(read); err != nil || string(got) != "held\n" {
			t.Errorf("got %q, %v", got, err)
		}
	})

	for name, want := range map[string]string{"babbles": "", "fails": "no key", "leaves": "left "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools, log := build(t, program(t, name))
			if got, err := call(t, tools, "echo"); got != "" || !errors.Is(err, mcp.ErrAnswer) {
				t.Errorf("got %q, %v", got, err)
			}
			if list, err := tools.List(t.Context()); len(list) > 0 || err != nil {
				t.Errorf("got %v, %v", list, err)
			}
			tools.Close()
			if got := log.String(); !strings.Contains(got, "is left out") || !strings.Contains(got, want) {
				t.Errorf("logged\n%s", got)
			} else if name == "leaves" {
				for _, left := range regexp.MustCompile(`left (\d+)\.`).FindAllStringSubmatch(got, -1) {
					pid, _ := strconv.Atoi(left[1])
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Errorf("what left the group was not left alone: %v", err)
					}
				}
			}
		})
	}
}

// TestLost has sessions that the server forgets.
func TestLost(t *testing.T) {
	forgot := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, body, status) })
	}
	for name, unknown := range map[string]http.Handler{
		"404":           forgot(http.StatusNotFound, "session not found"),
		"404 as JSON":   forgot(http.StatusNotFound, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`),
		"400 as JSON":   forgot(http.StatusBadRequest, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID"}}`),
		"the library's": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first string // session
			var forgets atomic.Bool
			before, after := handler(sdk.StreamableHTTPOptions{}), handler(sdk.StreamableHTTPOptions{})
			tools, log := build(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id := r.Header.Get("Mcp-Session-Id")
				switch {
				case !forgets.Load():
					first = cmp.Or(id, first)
					before.ServeHTTP(w, r)
				case id == first && unknown != nil:
					unknown.ServeHTTP(w, r)
				default:
					after.ServeHTTP(w, r)
				}
			})))
			if _, err := tools.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			forgets.Store(true)
			if got, err := call(t, tools, "report.weekly"); !errors.Is(err, mcp.ErrTool) {
				t.Errorf("got %q, %v", got, err)
			}
			if got, err := tools.Call(t.Context(), mcp.ModelName("desk", "report.weekly"), json.RawMessage("{}")); got != "sunny" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if list, err := tools.List(t.Context()); len(list) != len(deskTools) || err != nil {
				t.Errorf("got %v, %v", list, err)
			}
			if first == "" || log.String() != "" {
				t.Errorf("session %q, logged\n%s", first, log)
			}
		})
	}
}

// TestResume has an answer that the server breaks off and wants to be asked for.
func TestResume(t *testing.T) {
	var calls atomic.Int32
	server := sdk.NewServer(&sdk.Implementation{Name: "desk", Version: "1"}, nil)
	server.AddTool(&sdk.Tool{Name: "echo", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		calls.Add(1)
		r.Extra.CloseSSEStream(sdk.CloseSSEStreamArgs{RetryAfter: time.Millisecond})
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "back"}}}, nil
	})
	resumes := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server },
		&sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)})
	var resumed atomic.Int32
	tools, _ := build(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			resumed.Add(1)
		}
		resumes.ServeHTTP(w, r)
	})))
	if got, err := call(t, tools, "echo"); got != "back" || err != nil || calls.Load() != 1 || resumed.Load() != 1 {
		t.Errorf("got %q, %v after %d calls, resumed %d times", got, err, calls.Load(), resumed.Load())
	}
}

// calledBy is the desk, but calls of tools are answered by answer.
func calledBy(answer http.HandlerFunc) http.Handler {
	desk := handler(sdk.StreamableHTTPOptions{Stateless: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client left
		}
		if bytes.Contains(body, []byte(`"tools/call"`)) {
			answer(w, r)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		desk.ServeHTTP(w, r)
	})
}

// TestURL has what a URL answers that is no answer. No call is made twice.
func TestURL(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server was asked") }))
	defer other.Close()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"redirects":    {http.RedirectHandler(other.URL, http.StatusTemporaryRedirect).ServeHTTP, mcp.ErrStatus},
		"unauthorized": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusUnauthorized) }, mcp.ErrStatus},
		"busy":         {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusServiceUnavailable) }, mcp.ErrStatus},
		"not JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, secret)
		}, mcp.ErrAnswer},
		"not an event": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, secret)
		}, mcp.ErrAnswer},
		"no answer in it": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/event-stream") }, mcp.ErrAnswer},
		"of another type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", secret)
			fmt.Fprint(w, secret)
		}, mcp.ErrAnswer},
		"breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, mcp.ErrUnreachable},
		"breaks off within": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "99")
			fmt.Fprint(w, "{")
		}, mcp.ErrAnswer},
		"has no end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range mcp.MaxMessage/1024 + 1 {
				fmt.Fprint(w, strings.Repeat(" ", 1024))
			}
		}, mcp.ErrAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			server := serve(t, calledBy(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer key" {
					t.Errorf("Authorization: %q", got)
				}
				calls.Add(1)
				test.answer(w, r)
			}))
			server.Key = "key"
			tools, _ := build(t, server)
			if got, err := call(t, tools, "echo"); got != "" || !errors.Is(err, test.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("called %d times", n)
			}
		})
	}

	t.Run("it answers nothing else", func(t *testing.T) {
		for name, want := range map[string]error{"redirects": mcp.ErrStatus, "breaks off": mcp.ErrUnreachable} {
			tools, log := build(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if name == "breaks off" {
					panic(http.ErrAbortHandler)
				}
				http.Redirect(w, r, other.URL, http.StatusFound)
			})))
			if list, err := tools.List(t.Context()); len(list) > 0 || err != nil || !strings.Contains(log.String(), want.Error()) {
				t.Errorf("%s: got %v, %v\n%s", name, list, err, log)
			}
		}
	})

	t.Run("closed before it answers", func(t *testing.T) {
		asked := make(chan struct{})
		tools, _ := build(t, serve(t, calledBy(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		})))
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, err := call(t, tools, "echo"); err != mcp.ErrClosed {
				t.Errorf("got %v", err)
			}
		})
		<-asked
		tools.Close()
		asking.Wait()
	})

	t.Run("no proxy", func(t *testing.T) {
		if mcp.Proxied(mcp.Server{URL: "https://desk.example"}) {
			t.Error("one is used")
		}
	})

	t.Run("another address", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		tools, _ := build(t, mcp.Server{Name: "desk", URL: "https://localhost:" + port})
		if got, err := call(t, tools, "echo"); got != "" || !errors.Is(err, mcp.ErrAddress) || !errors.Is(err, mcp.ErrUnreachable) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestList has lists that are cut, and servers that are left out.
func TestList(t *testing.T) {
	many := sdk.NewServer(&sdk.Implementation{Name: "many", Version: "1"}, &sdk.ServerOptions{PageSize: 20})
	handle := func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{}, nil
	}
	for i := range mcp.MaxTools + 1 {
		many.AddTool(&sdk.Tool{Name: fmt.Sprintf("t%03d", i), InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{}}}`)}, handle)
	}
	many.AddTool(&sdk.Tool{Name: "long", Description: strings.Repeat(secret, mcp.MaxTool), InputSchema: json.RawMessage(`{"type":"object"}`)}, handle)
	first := serve(t, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return many }, nil))
	first.Name = "many"
	gone := httptest.NewServer(nil)
	gone.Close()
	tools, log := buildAll(t, mcp.Options{
		Servers: []mcp.Server{{Name: "gone", URL: gone.URL, AllowPrivate: true}, program(t, "desk"), first},
		Allow:   []string{"gone/*", "many/*", "desk/echo", "desk/eco"},
	})
	for range 2 {
		list, err := tools.List(t.Context())
		if err != nil || len(list) != mcp.MaxTools || list[0].Name != "desk__echo" || list[1].Name != "many__t000" ||
			string(list[1].Schema) != `{"properties":{"a":{}},"type":"object"}` {
			t.Errorf("got %q, %v", names(list), err)
		}
	}
	for _, want := range []string{
		`"an MCP server is left out" server=gone error="mcp: no answer from the server: dial`,
		`"an MCP tool is left out" server=many tool=many__long`,
		`"some MCP tools are left out" tools=130 most=128`,
		`"an MCP server does not have a tool that is allowed" server=desk tool=eco`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "tool=eco"); n != 1 {
		t.Errorf("logged %d times that it is misspelt", n)
	}
}

// TestTime has what lasts, between a client and a server in one bubble.
func TestTime(t *testing.T) {
	// bubble runs test with a server, or with one that says nothing, and counts its
	// sessions and those that are open.
	bubble := func(name string, server *sdk.Server, test func(t *testing.T, tools *mcp.Tools, sessions, open *atomic.Int32)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sessions, open atomic.Int32
				tools, _ := build(t, mcp.Server{Name: "desk", URL: "https://desk.example"})
				mcp.Dial(tools, "desk", func(ctx context.Context) (sdk.Connection, error) {
					sessions.Add(1)
					open.Add(1)
					here, there := net.Pipe()
					if server == nil {
						go func() {
							defer open.Add(-1)
							io.Copy(io.Discard, there)
						}()
					} else if session, err := server.Connect(context.Background(), &sdk.IOTransport{Reader: there, Writer: there}, nil); err != nil {
						t.Error(err)
					} else {
						go func() {
							defer open.Add(-1)
							session.Wait()
						}()
					}
					return (&sdk.IOTransport{Reader: here, Writer: here}).Connect(ctx)
				})
				test(t, tools, &sessions, &open)
				tools.Close()
				synctest.Wait()
				if n := open.Load(); n != 0 {
					t.Errorf("%d sessions are open", n)
				}
			})
		})
	}
	bubble("idle", desk(), func(t *testing.T, tools *mcp.Tools, sessions, _ *atomic.Int32) {
		for _, test := range []struct {
			after time.Duration
			want  int32
		}{{0, 1}, {4 * time.Minute, 1}, {4 * time.Minute, 1}, {6 * time.Minute, 2}, {time.Minute, 2}} {
			time.Sleep(test.after)
			if got, err := call(t, tools, "echo"); err != nil || sessions.Load() != test.want {
				t.Errorf("got %q, %v in session %d, want %d", got, err, sessions.Load(), test.want)
			}
		}
	})
	bubble("a tool that hangs", desk(), func(t *testing.T, tools *mcp.Tools, sessions, _ *atomic.Int32) {
		start := time.Now()
		if got, err := call(t, tools, "hangs"); got != "" || !errors.Is(err, mcp.ErrUnreachable) || time.Since(start) != time.Minute {
			t.Errorf("got %q, %v after %v", got, err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tools.Call(ctx, "desk__hangs", json.RawMessage("{}")); err != context.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		if _, err := call(t, tools, "echo"); err != nil || sessions.Load() != 1 {
			t.Errorf("got %v in session %d", err, sessions.Load())
		}
	})
	bubble("in use, then idle", desk(), func(t *testing.T, tools *mcp.Tools, sessions, _ *atomic.Int32) {
		// The session is in use all the time, though longer than it may be idle.
		for range 8 {
			call(t, tools, "hangs")
		}
		if sessions.Load() != 1 {
			t.Errorf("session %d", sessions.Load())
		}
	})
	bubble("closed in a call", desk(), func(t *testing.T, tools *mcp.Tools, _, _ *atomic.Int32) {
		var hanging sync.WaitGroup
		hanging.Go(func() {
			if _, err := call(t, tools, "hangs"); err != mcp.ErrClosed {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		tools.Close()
		hanging.Wait()
	})
	bubble("a server that says nothing", nil, func(t *testing.T, tools *mcp.Tools, sessions, _ *atomic.Int32) {
		start := time.Now()
		if list, err := tools.List(t.Context()); list != nil || err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("got %v, %v after %v", list, err, time.Since(start))
		}
		if got, err := call(t, tools, "echo"); got != "" || !errors.Is(err, mcp.ErrUnreachable) || sessions.Load() != 2 {
			t.Errorf("got %q, %v", got, err)
		}
	})
	// A session whose list does not come is closed, though it is in use, and not used again.
	for name, list := range map[string]func(ctx context.Context) (sdk.Result, error){
		"a list that does not come": func(ctx context.Context) (sdk.Result, error) { <-ctx.Done(); return nil, ctx.Err() },
		"a list that has no end": func(context.Context) (sdk.Result, error) {
			return &sdk.ListToolsResult{Tools: []*sdk.Tool{}, NextCursor: "more"}, nil
		},
	} {
		server := desk()
		server.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
			return func(ctx context.Context, method string, r sdk.Request) (sdk.Result, error) {
				if method == "tools/list" {
					return list(ctx)
				}
				return next(ctx, method, r)
			}
		})
		bubble(name, server, func(t *testing.T, tools *mcp.Tools, sessions, open *atomic.Int32) {
			for n := range int32(2) {
				if list, err := tools.List(t.Context()); len(list) > 0 || err != nil || sessions.Load() != n+1 {
					t.Errorf("got %v, %v in session %d", list, err, sessions.Load())
				}
				if synctest.Wait(); open.Load() != 0 {
					t.Error("it is not closed")
				}
			}
		})
	}
	bubble("closed while connecting", nil, func(t *testing.T, tools *mcp.Tools, _, _ *atomic.Int32) {
		var connecting sync.WaitGroup
		connecting.Go(func() {
			if _, err := call(t, tools, "echo"); err != mcp.ErrClosed {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		tools.Close()
		connecting.Wait()
	})
}

func TestNew(t *testing.T) {
	url := mcp.Server{Name: "a", URL: "https://a.example"}
	for name, test := range map[string]struct {
		servers []mcp.Server
		allow   []string
		want    error
	}{
		"nothing":              {nil, nil, nil},
		"a URL":                {[]mcp.Server{url}, []string{"a/x", "a/*"}, nil},
		"a program":            {[]mcp.Server{{Name: "a", Command: []string{"sh", "-c", "true"}}}, []string{"a/*"}, nil},
		"no name":              {[]mcp.Server{{URL: "https://a.example"}}, nil, mcp.ErrOptions},
		"a bad name":           {[]mcp.Server{{Name: "a_b", URL: "https://a.example"}}, []string{"a_b/*"}, mcp.ErrOptions},
		"a long name":          {[]mcp.Server{{Name: strings.Repeat("a", 25), URL: "https://a.example"}}, nil, mcp.ErrOptions},
		"the same name":        {[]mcp.Server{url, url}, []string{"a/*"}, mcp.ErrOptions},
		"neither":              {[]mcp.Server{{Name: "a"}}, []string{"a/*"}, mcp.ErrOptions},
		"both":                 {[]mcp.Server{{Name: "a", URL: "https://a.example", Command: []string{"sh"}}}, []string{"a/*"}, mcp.ErrOptions},
		"no program":           {[]mcp.Server{{Name: "a", Command: []string{"/no/such/program"}}}, []string{"a/*"}, fs.ErrNotExist},
		"an empty program":     {[]mcp.Server{{Name: "a", Command: []string{""}}}, []string{"a/*"}, mcp.ErrOptions},
		"NUL":                  {[]mcp.Server{{Name: "a", Command: []string{"sh", "\x00"}}}, []string{"a/*"}, mcp.ErrOptions},
		"a key for a program":  {[]mcp.Server{{Name: "a", Command: []string{"sh"}, Key: secret}}, []string{"a/*"}, mcp.ErrOptions},
		"a bad key":            {[]mcp.Server{{Name: "a", URL: "https://a.example", Key: secret + "\n"}}, []string{"a/*"}, mcp.ErrOptions},
		"a bad URL":            {[]mcp.Server{{Name: "a", URL: "http://a.example/" + secret}}, []string{"a/*"}, mcp.ErrOptions},
		"an address":           {[]mcp.Server{{Name: "a", URL: "https://10.0.0.1/" + secret}}, []string{"a/*"}, mcp.ErrAddress},
		"nothing allowed":      {[]mcp.Server{url}, nil, mcp.ErrOptions},
		"allowed of another":   {[]mcp.Server{url}, []string{"a/*", "b/*"}, mcp.ErrOptions},
		"allowed without tool": {[]mcp.Server{url}, []string{"a/"}, mcp.ErrOptions},
		"allowed, no slash":    {[]mcp.Server{url}, []string{"a"}, mcp.ErrOptions},
	} {
		t.Run(name, func(t *testing.T) {
			tools, err := mcp.New(mcp.Options{Servers: test.servers, Allow: test.allow})
			if (tools == nil) != (err != nil) || !errors.Is(err, test.want) || err != nil && (!errors.Is(err, mcp.ErrOptions) || strings.Contains(err.Error(), secret)) {
				t.Errorf("got %v", err)
			}
			if tools != nil {
				tools.Close()
			}
		})
	}
}

var endpoints = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func FuzzModelName(f *testing.F) {
	for _, tool := range []string{"", "echo", "report.weekly", "report_weekly", "_a", "a__b", "été", "\xff", strings.Repeat("a", 58), strings.Repeat("a", 59), strings.Repeat("ü", 99)} {
		f.Add(tool, tool+"x")
	}
	f.Fuzz(func(t *testing.T, tool, other string) {
		name := mcp.ModelName("a-server", tool)
		if !endpoints.MatchString(name) || !strings.HasPrefix(name, "a-server__") {
			t.Errorf("%q is called %q", tool, name)
		}
		if own := "a-server__" + tool; endpoints.MatchString(own) && name != own {
			t.Errorf("%q is called %q", tool, name)
		}
		if tool != other && mcp.ModelName("a-server", other) == name {
			t.Errorf("%q and %q are both called %q", tool, other, name)
		}
	})
}

// FuzzResult shows that there is something to read in every result.
func FuzzResult(f *testing.F) {
	for _, answer := range []string{
		`{}`, `null`, `{"content":null}`, `{"content":[],"isError":true}`, `{"content":[{"type":"text"}]}`, `{"content":[{"type":"resource"}]}`,
		`{"content":[{"type":"resource","resource":{"uri":"a","blob":"AA=="}},{"type":"resource_link"},{"type":"tool_use","id":"1"}]}`,
		`{"content":[{"type":"image","data":"AA=="},{"type":"audio"},{"type":"text","text":"\ud800` + "\xff" + `"}]}`, `{"structuredContent":[1,{"a":null}]}`,
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		decoded := new(sdk.CallToolResult)
		if json.Unmarshal(answer, decoded) != nil {
			return
		}
		if got := mcp.Result(decoded); got == "" && len(decoded.Content) == 0 || !utf8.ValidString(got) {
			t.Errorf("%s is %q", answer, got)
		}
	})
}

// FuzzAllow shows that an entry allows what it says, and of the server that it names.
func FuzzAllow(f *testing.F) {
	for _, entry := range []string{"a/x", "a/*", "a/x/y", "a", "/", "b/x", "a/"} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		tools, err := mcp.New(mcp.Options{Servers: []mcp.Server{{Name: "a", URL: "https://a.example"}}, Allow: []string{entry}})
		if tool, ok := strings.CutPrefix(entry, "a/"); (ok && tool != "") != (err == nil) || err != nil && !errors.Is(err, mcp.ErrOptions) {
			t.Errorf("%q: %v", entry, err)
		}
		if err == nil {
			tools.Close()
		}
	})
}
