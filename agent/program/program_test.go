//go:build unix

package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/agenttest"
	"bio/agent/lines"
	"bio/agent/program"
)

// helpers are programs of which the shell is not capable. This test binary is
// all of them: it is run again with a name.
var helpers = map[string]func(){
	// binary writes every byte, many times.
	"binary": func() {
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		os.Stdout.Write(bytes.Repeat(every, 64))
	},
	// leaves a process in a group of its own that holds all three pipes.
	"leaves": func() {
		sleeper := exec.Command("sleep", "1000")
		sleeper.Stdin, sleeper.Stdout, sleeper.Stderr = os.Stdin, os.Stdout, os.Stderr
		sleeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := sleeper.Start(); err != nil {
			panic(err)
		}
		fmt.Println(sleeper.Process.Pid)
	},
	// leads says whether it leads a process group.
	"leads": func() { fmt.Print(syscall.Getpgrp() == os.Getpid()) },
	// tidies up when it is told to end.
	"tidies": func() {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		fmt.Println("ready")
		<-told
		fmt.Println("more")
		os.NewFile(3, "held").WriteString("bye\n")
	},
	// panics on a goroutine of its own.
	"panics": func() {
		fmt.Println("so far")
		go panic("of the program")
		select {}
	},
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && helpers[os.Args[1]] != nil {
		helpers[os.Args[1]]()
		return
	}
	os.Exit(m.Run())
}

func helper(t *testing.T, name string) []string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, name}
}

// sh is a command that runs a script, with its arguments as $1 and so on.
func sh(script string, arguments ...string) []string {
	return append([]string{"sh", "-c", script, "script"}, arguments...)
}

func build(t *testing.T, o program.Options) agent.Agent {
	t.Helper()
	a, err := program.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs a to its end and returns its text and its error.
func run(ctx context.Context, a agent.Agent, in agent.Input) (string, error) {
	var text strings.Builder
	for event, err := range a.Run(ctx, &in) {
		if err != nil {
			return text.String(), err
		}
		text.WriteString(event.Text)
	}
	return text.String(), nil
}

// held is a named pipe. The processes that open it for writing, and those that
// inherit it from them, hold it until they end.
type held struct {
	Name string
	read *os.File
}

func hold(t *testing.T) held {
	t.Helper()
	name := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	// Otherwise this would wait for the other side.
	read, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	return held{name, read}
}

// wait waits until all that hold the pipe have ended, and returns what they wrote.
func (h held) wait(t *testing.T) string {
	t.Helper()
	written, err := io.ReadAll(h.read)
	if err != nil {
		t.Fatal(err)
	}
	return string(written)
}

func TestAnswer(t *testing.T) {
	got := agenttest.Run(t, build(t, program.Options{Command: sh(`
		echo '{"kind":"status","text":"Looking…"}'
		echo Hello.
		echo '{"kind":"data","data":{"a":1}}'
		printf 'No line feed.'`)}), agent.Input{})
	var said strings.Builder
	for _, event := range got {
		fmt.Fprintf(&said, "%s %q %s,", event.Kind, event.Text, event.Data)
	}
	if want := `status "Looking…" ,text "Hello.\n" ,data "" {"a":1},text "No line feed." ,`; said.String() != want {
		t.Errorf("got %s\nwant %s", said.String(), want)
	}
}

// What is said is there before the program has ended, line feed or not.
func TestAnswerComesAtOnce(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	a := build(t, program.Options{Command: sh(`printf Hello; read -r next <"$1"; printf ", $next"`, pipe)})
	said := ""
	for event, err := range a.Run(t.Context(), &agent.Input{}) {
		if err != nil {
			t.Fatal(err)
		}
		if said += event.Text; said == "Hello" {
			if err := os.WriteFile(pipe, []byte("otter\n"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if said != "Hello, otter" {
		t.Errorf("got %q", said)
	}
}

func TestRequest(t *testing.T) {
	in := agent.Input{
		RunID: "run-7", Prompt: "what's \"new\"?\n",
		User: agent.User{ID: "01", Name: "cedar-otter-42", Groups: []string{"ops"}},
	}
	a := build(t, program.Options{Command: []string{"cat"}, Brief: func(_ context.Context, in *agent.Input) (string, error) {
		return "All is well, " + in.User.Name + ".", nil
	}})
	want, err := json.Marshal(lines.NewRequest(&in, "All is well, cedar-otter-42."))
	if err != nil {
		t.Fatal(err)
	}
	if got := agenttest.Text(t, a, in); got != string(want)+"\n" {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := agenttest.Text(t, build(t, program.Options{Command: []string{"cat"}}), in); !strings.Contains(got, `"brief":""`) {
		t.Errorf("without a brief: %s", got)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("BIO_SECRET", "of the server")
	t.Setenv("HOME", "/home/otter")
	t.Setenv("LANG", "C.UTF-8")
	for name, test := range map[string]struct {
		in   agent.Input
		want []string
	}{
		"no trace": {agent.Input{}, []string{"HOME=/home/otter", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}},
		"trace": {agent.Input{TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			[]string{"HOME=/home/otter", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH"), "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := slices.Sorted(strings.Lines(agenttest.Text(t, build(t, program.Options{Command: []string{"env"}}), test.in)))
			if want := strings.Join(test.want, "\n") + "\n"; strings.Join(got, "") != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
	t.Run("without HOME", func(t *testing.T) {
		os.Unsetenv("HOME") // until t.Setenv above restores it
		if got := agenttest.Text(t, build(t, program.Options{Command: []string{"env"}}), agent.Input{}); strings.Contains(got, "HOME") {
			t.Errorf("got %q", got)
		}
	})
}

func TestWhereItRuns(t *testing.T) {
	if got := agenttest.Text(t, build(t, program.Options{Command: helper(t, "leads")}), agent.Input{}); got != "true" {
		t.Errorf("leads a process group: %s", got)
	}
	// A relative program is looked up when the agent is made.
	t.Chdir(t.TempDir())
	if err := os.WriteFile("script", []byte("#!/bin/sh\necho $#: $1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := build(t, program.Options{Command: []string{"./script", "a b"}})
	t.Chdir("/")
	if got := agenttest.Text(t, a, agent.Input{}); got != "1: a b\n" {
		t.Errorf("a relative program: %q", got)
	}
	if got := agenttest.Text(t, build(t, program.Options{Command: []string{"pwd"}}), agent.Input{}); got != "/\n" {
		t.Errorf("working directory: %s", got)
	}
}

func TestNewRefuses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options program.Options
		want    error
		says    string
	}{
		"nothing":        {program.Options{}, program.ErrCommand, "it is empty"},
		"an empty word":  {program.Options{Command: []string{""}}, program.ErrCommand, "it is empty"},
		"NUL":            {program.Options{Command: []string{"sh", "\x00"}}, program.ErrCommand, "NUL"},
		"not in PATH":    {program.Options{Command: []string{"no-such-program"}}, exec.ErrNotFound, `"no-such-program"`},
		"not there":      {program.Options{Command: []string{"/no/such/program"}}, fs.ErrNotExist, "/no/such/program"},
		"not executable": {program.Options{Command: []string{script}}, fs.ErrPermission, script},
		"a directory":    {program.Options{Command: []string{filepath.Dir(script)}}, syscall.EISDIR, filepath.Dir(script)},
		"negative limit": {program.Options{Command: []string{"sh"}, Limit: -1}, nil, "-1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := program.New(test.options)
			if a != nil || err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
}

// Programs that are no good, or only odd.
func TestPrograms(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("a", 1<<20) // more than a pipe holds
	for name, test := range map[string]struct {
		command []string
		prompt  string
		want    string
		exit    string // of the error; "" for none
	}{
		"says nothing":                {[]string{"true"}, "", "", ""},
		"never reads its input":       {sh("echo a"), large, "a\n", ""},
		"closes its input early":      {sh("exec <&-; echo a"), large, "a\n", ""},
		"reads a little of it":        {sh("head -c 5 >/dev/null; echo a"), large, "a\n", ""},
		"closes its output early":     {sh("echo a; exec >&-; cat >/dev/null"), large, "a\n", ""},
		"exits 3":                     {sh("echo a; exit 3"), "", "a\n", "exit status 3"},
		"exits 3 without a line feed": {sh("printf a; exit 3"), large, "a", "exit status 3"},
		"is killed":                   {sh("echo a; kill -9 $$"), "", "a\n", "signal: killed"},
		"panics":                      {helper(t, "panics"), "", "so far\n", "exit status 2"},
		"is a child's parent":         {sh("echo a | cat"), "", "a\n", ""},
		"answers in 100 KiB":          {sh("head -c 102400 /dev/zero | tr '\\0' a"), "", large[:102400], ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := run(t.Context(), build(t, program.Options{Command: test.command}), agent.Input{Prompt: test.prompt})
			if got != test.want {
				t.Errorf("got %.100q, want %.100q", got, test.want)
			}
			if test.exit == "" && err != nil || test.exit != "" && (err == nil || err.Error() != "program: "+test.exit) {
				t.Errorf("got error %v, want %q", err, test.exit)
			}
			if _, ok := errors.AsType[*exec.ExitError](err); ok != (test.exit != "") {
				t.Errorf("%v is not an ExitError", err)
			}
		})
	}
}

func TestBinary(t *testing.T) {
	t.Parallel()
	got := agenttest.Text(t, build(t, program.Options{Command: helper(t, "binary")}), agent.Input{})
	if !utf8.ValidString(got) || strings.Count(got, "\uFFFD") != 128*64 || utf8.RuneCountInString(got) != 256*64 {
		t.Errorf("got %d runes", utf8.RuneCountInString(got))
	}
}

func TestTooMuch(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"100 MiB": `exec head -c 104857600 /dev/zero`,
		"without end, and will not be told": `
			trap "" TERM PIPE
			while :; do head -c 1048576 /dev/zero; done 2>/dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := hold(t)
			a := build(t, program.Options{Command: sh(`exec 3>"$1"; `+script, held.Name), Limit: 100_000})
			got, err := run(t.Context(), a, agent.Input{})
			if got != strings.Repeat("\x00", 100_000) || !errors.Is(err, lines.ErrTooLong) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			held.wait(t)
		})
	}
}

var errStopped = errors.New("stopped")

// A run that is stopped ends its program, whatever that thinks of it, and all
// that is of its group.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		last   string // written to the held pipe
	}{
		"ends":                         {`echo ready; exec sleep 1000`, ""},
		"tidies up":                    {`exec "$2" tidies`, "bye\n"},
		"has a child that tidies up":   {`trap "" TERM; "$2" tidies; :`, "bye\n"},
		"ignores it":                   {`trap "" TERM; echo ready; exec sleep 1000`, ""},
		"ignores it without its pipes": {`trap "" TERM; echo ready; exec sleep 1000 <&- >&- 2>&-`, ""},
		"has children":                 {`sleep 1000 & sleep 1000 >/dev/null 2>&1 & echo ready; wait`, ""},
		"has children that ignore it":  {`(trap "" TERM; exec sleep 1000) & (trap "" TERM; exec sleep 1000 >/dev/null 2>&1) & sleep 1000 & echo ready; wait`, ""},
		"writes on":                    {`trap "" TERM; echo ready; while echo more; do :; done`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := hold(t)
			script := `exec 3>"$1"; echo held >&3; ` + test.script
			a := build(t, program.Options{Command: sh(script, held.Name, helper(t, "tidies")[0]), Limit: 1 << 40})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var got error
			for event, err := range a.Run(ctx, &agent.Input{}) {
				if got = err; err == nil && event.Text == "ready\n" {
					cancel(errStopped)
				}
			}
			if got != errStopped {
				t.Errorf("got %v", got)
			}
			if got := held.wait(t); got != "held\n"+test.last {
				t.Errorf("its last words were %q", got)
			}
		})
	}

	t.Run("before it starts", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStopped)
		if got, err := run(ctx, build(t, program.Options{Command: sh("echo a")}), agent.Input{}); got != "" || err != errStopped {
			t.Errorf("got %q, %v", got, err)
		}
	})

	t.Run("nobody listens any more", func(t *testing.T) {
		held := hold(t)
		a := build(t, program.Options{Command: sh(`exec 3>"$1"; echo held >&3; echo a; echo b; exec sleep 1000`, held.Name)})
		for range a.Run(t.Context(), &agent.Input{}) {
			break
		}
		if got := held.wait(t); got != "held\n" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("the consumer panics", func(t *testing.T) {
		held := hold(t)
		a := build(t, program.Options{Command: sh(`exec 3>"$1"; echo held >&3; echo a; exec sleep 1000`, held.Name)})
		func() {
			defer func() {
				if value := recover(); value != "of the consumer" {
					t.Errorf("recovered %v", value)
				}
			}()
			for range a.Run(t.Context(), &agent.Input{}) {
				panic("of the consumer")
			}
		}()
		if got := held.wait(t); got != "held\n" {
			t.Errorf("got %q", got)
		}
	})
}

// What a program leaves behind does not keep the run, and does not outlive it.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"with the pipes":              `sleep 1000 & `,
		"without the pipes":           `sleep 1000 <&- >&- 2>&- & `,
		"with one pipe":               `sleep 1000 <&- >&- & `,
		"with its own mind":           `(trap "" TERM HUP; exec sleep 1000) & `,
		"that holds the input unread": `sleep 1000 0<&4 >&- 2>&- & `,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := hold(t)
			a := build(t, program.Options{Command: sh(`exec 3>"$1" 4<&0; echo held >&3; `+script+`echo a`, held.Name)})
			if got := agenttest.Text(t, a, agent.Input{Prompt: strings.Repeat("a", 1<<20)}); got != "a\n" {
				t.Errorf("got %q", got)
			}
			if got := held.wait(t); got != "held\n" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("out of the group", func(t *testing.T) {
		t.Parallel()
		got := agenttest.Text(t, build(t, program.Options{Command: helper(t, "leaves")}), agent.Input{Prompt: strings.Repeat("a", 1<<20)})
		pid, err := strconv.Atoi(strings.TrimSpace(got))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("it was not left alone: %v", err)
		}
	})
}

func TestErrors(t *testing.T) {
	errBrief := errors.New("no brief")
	a := build(t, program.Options{Command: sh("echo a"), Brief: func(context.Context, *agent.Input) (string, error) { return "", errBrief }})
	if got, err := run(t.Context(), a, agent.Input{}); got != "" || !errors.Is(err, errBrief) {
		t.Errorf("got %q, %v", got, err)
	}

	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	a = build(t, program.Options{Command: []string{script}})
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	if got, err := run(t.Context(), a, agent.Input{}); got != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStandardError(t *testing.T) {
	for name, test := range map[string]struct {
		script       string
		exit, stderr string // as logged; both "" for nothing
	}{
		"nothing":     {"echo a; exit 3", "", ""},
		"and exits 0": {"echo a; echo hm >&2", "exit status 0", "hm\n"},
		"and exits 3": {"echo a; echo 'oh no' >&2; exit 3", "exit status 3", "oh no\n"},
		"killed":      {"echo a; echo hm >&2; kill -9 $$", "signal: killed", "hm\n"},
		"too much": {"echo a; echo first >&2; head -c 10485760 /dev/zero | tr '\\0' x >&2; echo; echo last >&2",
			"exit status 0", strings.Repeat("x", 8<<10-len("last\n")) + "last\n"},
		"no text": {"echo a; printf 'a\\377' >&2", "exit status 0", "a\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&logged, nil))
			got, err := run(t.Context(), build(t, program.Options{Command: sh(test.script), Log: log}), agent.Input{RunID: "run-7"})
			if !strings.HasPrefix(got, "a\n") {
				t.Errorf("got %q", got)
			}
			if err != nil && strings.Contains(err.Error(), "oh no") {
				t.Errorf("the error has it too: %v", err)
			}
			if test.exit == "" {
				if logged.Len() > 0 {
					t.Errorf("logged %s", logged.String())
				}
				return
			}
			var line struct{ Level, Run, Exit, Stderr string }
			if err := json.Unmarshal(logged.Bytes(), &line); err != nil {
				t.Fatalf("%v in %.200s", err, logged.String())
			}
			if line.Level != "WARN" || line.Run != "run-7" || line.Exit != test.exit || line.Stderr != test.stderr {
				t.Errorf("logged %.200s", logged.String())
			}
		})
	}
	t.Run("without a log", func(t *testing.T) {
		agenttest.Run(t, build(t, program.Options{Command: sh("echo hm >&2")}), agent.Input{})
	})
}

// missing skips a test on a machine that lacks something; a CI machine must have it.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Every run would leak what one leaves open.
func TestNothingStaysOpen(t *testing.T) {
	open := func() int {
		descriptors, err := os.ReadDir("/dev/fd")
		if err != nil {
			missing(t, "the open descriptors cannot be counted: "+err.Error())
		}
		return len(descriptors)
	}
	good := build(t, program.Options{Command: sh("echo a")})
	bad := build(t, program.Options{Command: sh("while echo a; do :; done"), Limit: 10})
	before := 0
	for i := range 8 {
		if _, err := run(t.Context(), good, agent.Input{}); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), bad, agent.Input{}); !errors.Is(err, lines.ErrTooLong) {
			t.Fatal(err)
		}
		if i == 0 { // what Go itself keeps open is there
			before = open()
		}
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

func TestManyAtOnce(t *testing.T) {
	a := build(t, program.Options{Command: []string{"cat"}})
	for i := range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf(`"run_id":"run-%d"`, i)
			if got := agenttest.Text(t, a, agent.Input{RunID: fmt.Sprintf("run-%d", i)}); !strings.Contains(got, id) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestExamples(t *testing.T) {
	t.Chdir("..")
	// say runs an example, and returns its kinds, each once, its text and its last event.
	say := func(t *testing.T, command, brief string, in agent.Input) (kinds []agent.Kind, text string, last agent.Event) {
		words, err := program.Split(command)
		if err != nil {
			t.Fatal(err)
		}
		a := build(t, program.Options{Command: words, Brief: func(context.Context, *agent.Input) (string, error) { return brief, nil }})
		for _, last = range agenttest.Run(t, a, in) {
			kinds = append(kinds, last.Kind)
			if last.Kind == agent.Text {
				text += last.Text
			}
		}
		return slices.Compact(kinds), text, last
	}
	want := []agent.Kind{agent.Status, agent.Text, agent.Data}

	t.Run("greet.py", func(t *testing.T) {
		if out, err := exec.Command("python3", "--version").CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("there is no Python 3 to run it: %v %s", err, out))
		}
		for name, test := range map[string]struct{ command, brief, prompt, want string }{
			"alone":          {"examples/greet.py", "", "", ""},
			"with all":       {"python3 examples/greet.py", "All is well.", `a "b" <c>`, "All is well.\n\nYou asked: a \"b\" <c>\n\n"},
			"not in English": {"examples/greet.py", "Tout va bien, été.", "", "Tout va bien, été.\n\n"},
		} {
			t.Run(name, func(t *testing.T) {
				kinds, text, last := say(t, test.command, test.brief, agent.Input{Prompt: test.prompt})
				if !slices.Equal(kinds, want) || !strings.HasPrefix(text, "Good ") || !strings.HasSuffix(text, ", cedar-otter-42.\n\n"+test.want) ||
					!strings.Contains(string(last.Data), `"week"`) {
					t.Errorf("got %v, %q, %s", kinds, text, last.Data)
				}
			})
		}
	})

	t.Run("uptime.sh", func(t *testing.T) {
		if _, err := exec.LookPath("uptime"); err != nil {
			missing(t, "there is no uptime on this system")
		}
		kinds, text, last := say(t, "examples/uptime.sh", "", agent.Input{})
		var data struct {
			Disk struct {
				Used float64 `json:"used_kib"`
			}
		}
		if err := json.Unmarshal(last.Data, &data); err != nil || data.Disk.Used <= 0 || !slices.Equal(kinds, want) || !strings.Contains(text, "load average") {
			t.Errorf("got %v, %q, %s, %v", kinds, text, last.Data, err)
		}
	})
}
