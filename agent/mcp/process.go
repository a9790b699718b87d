package mcp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bio/agent/internal/child"
)

// unread is how many messages may wait for a program to read them.
const unread = 64

var errUnread = errors.New("the program does not read its input")

// process is a program that runs, as the two ends of a connection.
type process struct {
	cmd    *exec.Cmd
	stop   context.CancelFunc // sends SIGTERM, and SIGKILL after a while
	output *os.File           // of the program
	input  *os.File           // of the program; feed's alone
	queue  chan []byte        // to be written to input
	closed chan struct{}
	close  func()
	said   child.Tail
	left   atomic.Bool // its output ended before anybody closed the connection
}

// start starts the program at path. Whoever does must call wait.
func start(path string, words []string) (*process, error) {
	output, theirOutput, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirOutput.Close()
	theirInput, input, err := os.Pipe()
	if err != nil {
		output.Close()
		return nil, err
	}
	defer theirInput.Close()
	p := &process{output: output, input: input, queue: make(chan []byte, unread), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() {
		close(p.closed)
		time.AfterFunc(child.Grace, p.stop)
	})
	var wanted context.Context
	wanted, p.stop = context.WithCancel(context.Background())
	p.cmd = exec.CommandContext(wanted, path)
	p.cmd.Args = words
	p.cmd.Env = child.Environment()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirInput, theirOutput, &p.said
	p.cmd.WaitDelay = child.Grace
	child.Own(p.cmd)
	if err := p.cmd.Start(); err != nil {
		p.stop()
		output.Close()
		input.Close()
		return nil, err
	}
	return p, nil
}

// wait feeds the program, and returns when it has ended and the connection has
// been closed. It logs an end that nobody asked for.
func (p *process) wait(log *slog.Logger) {
	defer p.stop()
	var fed sync.WaitGroup
	fed.Go(p.feed)
	_ = p.cmd.Wait() // how it ended is in its state
	child.Kill(p.cmd)
	if p.left.Load() || !p.isClosed() {
		log.LogAttrs(context.Background(), slog.LevelWarn, "an MCP server ended",
			slog.String("exit", p.cmd.ProcessState.String()), slog.String("stderr", strings.ToValidUTF8(string(p.said), "\uFFFD")))
	}
	// A process that left the group may hold the pipes open. That one of them is
	// closed already is no harm.
	_ = p.output.SetReadDeadline(time.Now().Add(child.Grace))
	_ = p.input.SetWriteDeadline(time.Now())
	<-p.closed // as the connection is when its output ends
	fed.Wait()
	p.output.Close()
}

// feed writes what is in the queue, and closes the input in the end.
func (p *process) feed() {
	defer p.input.Close()
	for {
		select {
		case message := <-p.queue:
			if _, err := p.input.Write(message); err != nil {
				return // the end of the program says more
			}
		case <-p.closed:
			return
		}
	}
}

// Read reads what the program writes.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.output.Read(b)
	if err != nil && !p.isClosed() {
		p.left.Store(true)
	}
	return n, err
}

func (p *process) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// Write hands over a message for the program to read, and does not wait.
func (p *process) Write(message []byte) (int, error) {
	select {
	case p.queue <- bytes.Clone(message):
		return len(message), nil
	default:
		return 0, errUnread
	}
}

// Close tells the program to end.
func (p *process) Close() error {
	p.close()
	return nil
}
