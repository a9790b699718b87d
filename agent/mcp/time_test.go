//go:build unix

package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent/mcp"
)

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
