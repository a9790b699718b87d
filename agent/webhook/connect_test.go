//go:build unix

package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"bio/agent/agenttest"
	"bio/agent/webhook"
)

// TestConnect has a port that refuses connections, and takes them from the third
// attempt on.
func TestConnect(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "socket")
	defer socket.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/hunter2", name.(*syscall.SockaddrInet4).Port)

	var log bytes.Buffer
	a := newAgent(t, webhook.Options{URL: url, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := ask(t.Context(), a); !errors.Is(err, webhook.ErrConnect) || !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	if strings.Count(log.String(), "run=run-1") != 2 || strings.Contains(log.String(), "hunter2") {
		t.Errorf("log:\n%s", &log)
	}

	n := 0
	webhook.Wait(a, func(context.Context, time.Duration) error {
		if n++; n < 2 {
			return nil
		}
		if err := syscall.Listen(fd, 8); err != nil {
			t.Fatal(err)
		}
		listener, err := net.FileListener(socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		return nil
	})
	if got := agenttest.Text(t, a, input); got != "hello" || n != 2 {
		t.Errorf("got %q after %d waits", got, n)
	}
}
