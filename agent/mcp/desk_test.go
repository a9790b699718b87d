//go:build unix

package mcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

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
