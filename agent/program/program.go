// Package program makes an agent of a program in any language.
//
// The program is started anew for every run. It gets one JSON object
// ([lines.Request]) and a line feed on standard input, which is then closed, and
// answers in lines on standard output: package lines says how, and plain text is
// an answer too. What it writes to standard error goes to the log. An exit status
// other than 0 fails the run, after what was said before.
//
// It runs in a process group of its own, in the server's working directory, as
// the server's user, and with nothing of the server's environment but PATH, HOME
// and LANG; TRACEPARENT is the run's place in a trace, where there is one. It is
// no prison: a program can read what the server's user can.
//
// When the run is over before the program is, its group gets SIGTERM, and SIGKILL
// a second later. What the program leaves running in its group when it exits is
// killed, at the latest a second later, and never keeps the run.
package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bio/agent"
	"bio/agent/internal/child"
	"bio/agent/lines"
)

// ErrCommand says that a command cannot be one.
var ErrCommand = errors.New("program: not a command")

// Options are what the agent is made of.
type Options struct {
	// Command is the program and its arguments; [Split] makes it of a command
	// line. A program without a slash is looked up in the server's PATH.
	Command []string
	// Brief returns what there is to say of the person, for the request. Its
	// error fails the run. When it is nil, the program is told nothing.
	Brief func(ctx context.Context, in *agent.Input) (string, error)
	// Limit is how many bytes of output are taken. More ends the run with
	// [lines.ErrTooLong]. 0 is [lines.DefaultLimit]. It counts the lines as they are
	// written; of what they say, a run keeps 256 KiB.
	Limit int64
	// Log gets the last 8 KiB of what a run wrote to standard error, if anything,
	// with the run's id and how the program ended. When it is nil, nobody does.
	Log *slog.Logger
}

// New makes the agent. The error wraps [ErrCommand] when the command is empty or
// has a NUL byte in it, an [exec.Error] when there is no such program or none that
// may be run, and [errors.ErrUnsupported] where the system has no process groups.
func New(o Options) (agent.Agent, error) {
	if !child.Groups {
		return nil, fmt.Errorf("program: no process groups on this system: %w", errors.ErrUnsupported)
	}
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrCommand)
	}
	if slices.ContainsFunc(o.Command, func(word string) bool { return strings.ContainsRune(word, 0) }) {
		return nil, fmt.Errorf("%w: it has a NUL byte", ErrCommand)
	}
	if o.Limit < 0 {
		return nil, fmt.Errorf("program: a limit of %d bytes", o.Limit)
	}
	path, err := exec.LookPath(o.Command[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	o.Command = slices.Clone(o.Command)
	p := program{o, path}
	return agent.Emit(p.run), nil
}

type program struct {
	Options
	path string // absolute
}

func (p *program) run(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
	request, err := p.request(ctx, in)
	if err != nil {
		return err
	}
	// Not cmd.StdoutPipe: Wait closes that, with what is not yet read.
	output, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	defer output.Close()
	wanted, stop := context.WithCancel(ctx)
	defer stop()
	var said child.Tail
	cmd := exec.CommandContext(wanted, p.path)
	cmd.Args = p.Command
	cmd.Env = environment(in)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), input, &said
	cmd.WaitDelay = child.Grace
	child.Own(cmd)
	err = cmd.Start()
	input.Close()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("program: %w", err)
	}

	var exit error
	exited := make(chan struct{})
	go func() { // so that the group is killed even if emit panics
		exit = cmd.Wait()
		child.Kill(cmd)
		close(exited)
		linger(output)
	}()
	err = lines.Read(answer{output, exited}, p.Limit, emit)
	if err != nil {
		stop() // nobody takes the rest
	}
	<-exited
	if p.Log != nil && len(said) > 0 {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "program wrote to standard error", slog.String("run", in.RunID),
			slog.String("exit", cmd.ProcessState.String()), slog.String("stderr", strings.ToValidUTF8(string(said), "\uFFFD")))
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case exit != nil && !errors.Is(exit, exec.ErrWaitDelay): // which is what it left running, not the program
		return fmt.Errorf("program: %w", exit)
	}
	return nil
}

// request is the run's request and a line feed.
func (p *program) request(ctx context.Context, in *agent.Input) ([]byte, error) {
	brief := ""
	if p.Brief != nil {
		var err error
		if brief, err = p.Brief(ctx, in); err != nil {
			return nil, fmt.Errorf("program: brief: %w", err)
		}
	}
	request, err := json.Marshal(lines.NewRequest(in, brief))
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	return append(request, '\n'), nil
}

// environment is all that the program sees.
func environment(in *agent.Input) []string {
	env := child.Environment()
	if in.TraceParent != "" {
		env = append(env, "TRACEPARENT="+in.TraceParent)
	}
	return env
}

// answer reads what a program writes. Once the program has exited, its output
// ends when nothing more comes for a while, for a process that left the group
// may hold it open. However slowly it is read, all that was written is.
type answer struct {
	output *os.File
	exited <-chan struct{}
}

func (a answer) Read(b []byte) (int, error) {
	select {
	case <-a.exited:
		linger(a.output)
	default: // and then whoever closes exited sees to it
	}
	n, err := a.output.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

// linger lets the next read of output wait no longer than a while. A pipe that
// is closed already needs no deadline.
func linger(output *os.File) { _ = output.SetReadDeadline(time.Now().Add(child.Grace)) }
