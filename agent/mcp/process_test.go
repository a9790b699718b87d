//go:build unix

package mcp_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bio/agent/mcp"
)

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
