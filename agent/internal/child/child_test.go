//go:build unix

package child_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bio/agent/internal/child"
)

// roles are what a process does. This test binary is all of them: it is run again
// with roles as its arguments, the first for itself, the others for its descendants.
var roles = map[string]func(says *os.File, next *exec.Cmd){
	"ends":    func(*os.File, *exec.Cmd) {},
	"ignores": func(*os.File, *exec.Cmd) { signal.Ignore(syscall.SIGTERM, syscall.SIGHUP) },
	// tidies up when it is told to end.
	"tidies": func(says *os.File, _ *exec.Cmd) {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		go func() {
			<-told
			says.WriteString("bye\n")
			os.Exit(0)
		}()
	},
	// waits for its child, whatever it is told.
	"waits": func(_ *os.File, next *exec.Cmd) {
		signal.Ignore(syscall.SIGTERM)
		go func() {
			next.Wait()
			os.Exit(0)
		}()
	},
	// leaves the group.
	"leaves": func(*os.File, *exec.Cmd) {
		if _, err := syscall.Setsid(); err != nil {
			panic(err)
		}
	},
	"exits": func(says *os.File, _ *exec.Cmd) {
		fmt.Println("of its own accord")
		fmt.Fprintln(os.Stderr, "hm")
		says.WriteString("ready\n")
		os.Exit(0)
	},
	"crashes": func(says *os.File, _ *exec.Cmd) {
		says.WriteString("ready\n")
		for {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	},
	"babbles": func(says *os.File, _ *exec.Cmd) {
		for line := range strings.Lines(much()) {
			os.Stderr.WriteString(line)
		}
		says.WriteString("ready\n")
		os.Exit(0)
	},
}

// much is far more than is kept, of which no two parts are the same.
func much() string {
	var all strings.Builder
	for i := range 10_000 {
		fmt.Fprintln(&all, i)
	}
	return all.String()
}

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		os.Exit(m.Run())
	}
	says, leash := os.NewFile(3, "says"), os.NewFile(4, "leash")
	var next *exec.Cmd
	if len(os.Args) > 2 {
		next = command(context.Background(), says, leash, os.Args[2:])
		next.Stdout, next.Stderr = os.Stdout, os.Stderr
		if err := next.Start(); err != nil {
			panic(err)
		}
	}
	roles[os.Args[1]](says, next)
	says.WriteString("ready\n")
	io.Copy(io.Discard, leash)
	says.WriteString("outlived\n")
}

func command(ctx context.Context, says, leash *os.File, roles []string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, self, roles...)
	cmd.ExtraFiles = []*os.File{says, leash}
	return cmd
}

// lineage is a program and its descendants, each the child of the one before.
type lineage struct {
	*exec.Cmd
	says    *bufio.Reader // what they all write; it ends when the last of them has
	release func()        // lets those that are left end, and say so
	theirs  []*os.File    // to be closed here once they have them
	size    int
}

// prepare makes a lineage that is started, and ended, as the users of child do it.
func prepare(ctx context.Context, t *testing.T, roles ...string) *lineage {
	t.Helper()
	says, theirSays, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirLeash, leash, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { leash.Close() })
	// What should have ended and has not would keep the test, and outlive it.
	late := time.AfterFunc(30*time.Second, release)
	t.Cleanup(func() {
		late.Stop()
		release()
		says.Close()
	})
	cmd := command(ctx, theirSays, theirLeash, roles)
	cmd.WaitDelay = child.Grace
	child.Own(cmd)
	return &lineage{cmd, bufio.NewReader(says), release, []*os.File{theirSays, theirLeash}, len(roles)}
}

// start starts them all, and returns when they are what they should be.
func (l *lineage) start(t *testing.T) {
	t.Helper()
	err := l.Start()
	for _, file := range l.theirs {
		file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for range l.size {
		if said, err := l.says.ReadString('\n'); said != "ready\n" {
			t.Fatalf("one of them says %q, %v", said, err)
		}
	}
}

// last waits until all have ended, and returns what they said meanwhile.
func (l *lineage) last(t *testing.T) string {
	t.Helper()
	said, err := io.ReadAll(l.says)
	if err != nil {
		t.Error(err)
	}
	return string(said)
}

// leaveNothing fails the test if, in the end, this process has a child, and be it one
// that has ended and was not waited for, or more goroutines than now.
func leaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
			t.Errorf("a child is left: %d, %v", pid, err)
		}
		late := time.After(30 * time.Second)
		for runtime.NumGoroutine() > before { // one that is about to return is still counted
			select {
			case <-late:
				stacks := make([]byte, 1<<16)
				t.Errorf("%d goroutines, before it were %d\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
				return
			default:
				runtime.Gosched()
			}
		}
	})
}

// When the context is done, all of the group are told to end. While the program that
// leads it tidies up, or waits for one that does, nobody is killed.
func TestOwn(t *testing.T) {
	leaveNothing(t)
	if !child.Groups {
		t.Error("there are groups")
	}
	for name, test := range map[string]struct {
		roles []string
		state string
		last  string
	}{
		"ends":                            {[]string{"ends"}, "signal: terminated", ""},
		"tidies up":                       {[]string{"tidies"}, "exit status 0", "bye\n"},
		"ignores it":                      {[]string{"ignores"}, "signal: killed", ""},
		"a child that ends":               {[]string{"waits", "ends"}, "exit status 0", ""},
		"a child that tidies up":          {[]string{"waits", "tidies"}, "exit status 0", "bye\n"},
		"a child that ignores it":         {[]string{"ends", "ignores"}, "signal: terminated", ""},
		"a grandchild that tidies up":     {[]string{"waits", "waits", "tidies"}, "exit status 0", "bye\n"},
		"a grandchild that ignores it":    {[]string{"ends", "ends", "ignores"}, "signal: terminated", ""},
		"an orphan that ignores it":       {[]string{"ends", "exits", "ignores"}, "signal: terminated", ""},
		"three generations that are deaf": {[]string{"ignores", "ignores", "ignores"}, "signal: killed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l := prepare(ctx, t, test.roles...)
			if test.state != "signal: killed" {
				l.WaitDelay = time.Minute // they need less, however slow the machine is
			}
			l.start(t)
			if group, err := syscall.Getpgid(l.Process.Pid); group != l.Process.Pid {
				t.Errorf("process %d is of group %d, %v", l.Process.Pid, group, err)
			}
			cancel()
			err := l.Wait()
			child.Kill(l.Cmd)
			if got := l.ProcessState.String(); got != test.state || err == nil {
				t.Errorf("it ended with %s, %v, want %s", got, err, test.state)
			}
			if got := l.last(t); got != test.last {
				t.Errorf("the last words are %q, want %q", got, test.last)
			}
		})
	}
}

// What a program that ends by itself leaves in its group is ended at once, whatever
// it thinks of that.
func TestKill(t *testing.T) {
	leaveNothing(t)
	for name, test := range map[string]struct {
		roles []string
		state string
	}{
		"nothing":                      {[]string{"exits"}, "exit status 0"},
		"a child":                      {[]string{"exits", "ends"}, "exit status 0"},
		"a child that ignores it":      {[]string{"exits", "ignores"}, "exit status 0"},
		"a grandchild that ignores it": {[]string{"exits", "exits", "ignores"}, "exit status 0"},
		"of a crash":                   {[]string{"crashes", "ignores", "tidies"}, "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := prepare(t.Context(), t, test.roles...)
			l.start(t)
			err := l.Wait()
			child.Kill(l.Cmd)
			if got := l.ProcessState.String(); got != test.state || (err == nil) != l.ProcessState.Success() {
				t.Errorf("it ended with %s, %v, want %s", got, err, test.state)
			}
			if got := l.last(t); got != "" {
				t.Errorf("the last words are %q", got)
			}
		})
	}
}

// Pipes that are held open by what a program leaves behind do not keep who waits for
// it, and what it wrote to them is there. What has left the group is left alone.
func TestHeldPipes(t *testing.T) {
	leaveNothing(t)
	for name, test := range map[string]struct {
		roles []string
		last  string
	}{
		"by a child":           {[]string{"exits", "ignores"}, ""},
		"by a grandchild":      {[]string{"exits", "waits", "ignores"}, ""},
		"out of the group":     {[]string{"exits", "leaves"}, "outlived\n"},
		"in the group and out": {[]string{"exits", "ignores", "leaves"}, "outlived\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := prepare(t.Context(), t, test.roles...)
			var output bytes.Buffer
			var said child.Tail
			l.Stdout, l.Stderr = &output, &said
			l.start(t)
			err := l.Wait()
			if !errors.Is(err, exec.ErrWaitDelay) || !l.ProcessState.Success() {
				t.Errorf("it ended with %v, %v", l.ProcessState, err)
			}
			if output.String() != "of its own accord\n" || string(said) != "hm\n" {
				t.Errorf("it wrote %q and %q", output.String(), said)
			}
			child.Kill(l.Cmd)
			if test.last != "" {
				l.release()
			}
			if got := l.last(t); got != test.last {
				t.Errorf("the last words are %q, want %q", got, test.last)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	env, err := exec.LookPath("env") // while there is a PATH
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{"BIO_SECRET", "PATHS", "LANGUAGE", "SSH_AUTH_SOCK", "TRACEPARENT"} {
		t.Setenv(variable, "of the server")
	}
	for name, test := range map[string]struct {
		variables map[string]string
		want      string
	}{
		"all":     {map[string]string{"PATH": "/bin:/usr/bin", "HOME": "/home/otter", "LANG": "C.UTF-8"}, "PATH=/bin:/usr/bin\nHOME=/home/otter\nLANG=C.UTF-8\n"},
		"some":    {map[string]string{"PATH": "/bin"}, "PATH=/bin\n"},
		"empty":   {map[string]string{"HOME": "", "LANG": "a=b"}, "HOME=\nLANG=a=b\n"},
		"nothing": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"PATH", "HOME", "LANG"} {
				value, ok := test.variables[variable]
				if t.Setenv(variable, value); !ok {
					os.Unsetenv(variable) // until t.Setenv restores it
				}
			}
			cmd := exec.Command(env)
			cmd.Env = child.Environment()
			if got, err := cmd.Output(); string(got) != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestTail(t *testing.T) {
	const most = 8 << 10
	much := much()
	var pieces []string // of 0, 1, 2, … bytes
	for rest := much; rest != ""; {
		n := min(len(pieces), len(rest))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	for name, writes := range map[string][]string{
		"nothing":              {},
		"an empty write":       {"a", "", "b"},
		"a little":             {"a", "b\n", "c"},
		"just enough":          {much[:most]},
		"just enough, in two":  {much[:most-1], "x"},
		"one too many":         {much[:most+1]},
		"one too many, in two": {much[:most], "x"},
		"much":                 {much},
		"a little, then much":  {"x", much},
		"much, then a little":  {much, "x"},
		"nearly all, twice":    {much[:most-7], much[:most-3]},
		"many lines":           strings.SplitAfter(much, "\n"),
		"pieces":               pieces,
	} {
		t.Run(name, func(t *testing.T) {
			var tail child.Tail
			buffer := make([]byte, len(much))
			for _, write := range writes {
				b := buffer[:copy(buffer, write)]
				if n, err := tail.Write(b); n != len(b) || err != nil {
					t.Fatalf("wrote %d of %d bytes, %v", n, len(b), err)
				}
				clear(b) // it is the writer's
			}
			all := strings.Join(writes, "")
			if want := all[max(0, len(all)-most):]; string(tail) != want {
				t.Errorf("got %d bytes, want %d, or others", len(tail), len(want))
			}
			if cap(tail) > 4*most {
				t.Errorf("it holds %d bytes", cap(tail))
			}
		})
	}

	t.Run("of a program", func(t *testing.T) {
		leaveNothing(t)
		l := prepare(t.Context(), t, "babbles")
		var said child.Tail
		l.Stderr = &said
		l.start(t)
		if err := l.Wait(); err != nil {
			t.Error(err)
		}
		child.Kill(l.Cmd)
		if string(said) != much[len(much)-most:] {
			t.Errorf("got %d bytes, or others", len(said))
		}
	})
}
