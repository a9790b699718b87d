//go:build unix

package mcp_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent/mcp"
)

// TestLost has sessions that the server forgets.
func TestLost(t *testing.T) {
	forgot := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, body, status) })
	}
	for name, unknown := range map[string]http.Handler{
		"404":           forgot(http.StatusNotFound, "session not found"),
		"404 as JSON":   forgot(http.StatusNotFound, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`),
		"400":           forgot(http.StatusBadRequest, "no valid session"),
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
			if strings.HasPrefix(name, "400") { // the server may have begun it, so it is made once
				if got, err := tools.Call(t.Context(), mcp.ModelName("desk", "report.weekly"), json.RawMessage("{}")); !errors.Is(err, mcp.ErrStatus) {
					t.Errorf("got %q, %v", got, err)
				}
			}
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
