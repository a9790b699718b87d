package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server of its own, on a free port of the loopback interface.
type process struct {
	cmd     *exec.Cmd
	addr    string // 127.0.0.1:port
	origin  string // http://localhost:port
	began   time.Time
	output  string // file of what it printed
	stopped bool
}

// usual settings keep the client's attempts, all from one address, from being
// limited, and the log from growing with them.
var usual = []string{"BIO_RATE_LIMIT=1000000/s,1000000", "BIO_REFUSAL_LIMIT=1000000/s,1000000", "BIO_LOG=warn"}

// serve starts Bio on the data directory; settings go over the usual ones.
func (b *bench) serve(data string, settings ...string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return b.serveAt(addr, data, settings...)
}

func (b *bench) serveAt(addr, data string, settings ...string) (*process, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	origin := "http://localhost:" + port
	env := slices.Concat(usual, []string{"BIO_URL=" + origin, "BIO_LISTEN=" + addr, "BIO_DATA=" + data}, settings)
	return b.spawn(addr, origin, env, b.binary)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (b *bench) spawn(addr, origin string, env []string, command ...string) (*process, error) {
	output, err := os.CreateTemp(b.dir, "output-")
	if err != nil {
		return nil, err
	}
	defer output.Close()
	p := &process{addr: addr, origin: origin, output: output.Name()}
	p.cmd = exec.CommandContext(b.ctx, command[0], command[1:]...)
	p.cmd.Dir, p.cmd.Env = b.dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.began = time.Now()
	return p, p.cmd.Start()
}

// patience bounds how long a server may take to answer or to stop.
const patience = 20 * time.Second

// until asks for path every half millisecond until the answer is 200, and
// returns how long ago the process was started then.
func (p *process) until(ctx context.Context, path string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	ask := request("GET", path, p.host(), "")
	for {
		if k, err := dial(p.addr); err == nil {
			status, _, err := k.do(ask)
			k.Close()
			if err == nil && status == 200 {
				return time.Since(p.began), nil
			}
		}
		select {
		case <-ctx.Done():
			printed, _ := os.ReadFile(p.output)
			return 0, fmt.Errorf("no 200 of %s: %w\n%s", path, ctx.Err(), printed)
		case <-tick.C:
		}
	}
}

// stop ends the process in its orderly way.
func (p *process) stop() error { return p.end(syscall.SIGTERM) }

// kill ends the process at once. It may be called after stop.
func (p *process) kill() { _ = p.end(syscall.SIGKILL) } // killed is how it is to end

func (p *process) end(signal syscall.Signal) error {
	if p.stopped {
		return nil
	}
	p.stopped = true
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	late := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	return p.cmd.Wait()
}

// tick is the unit of CPU times in /proc, USER_HZ: 100 a second on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the processor time that the process has used, in user and system mode
// (proc_pid_stat(5), fields 14 and 15).
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(text, []byte(") ")) // the name may hold spaces
	fields := strings.Fields(string(after))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: %d fields", p.proc("stat"), len(fields))
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is what a process holds, in bytes (proc_pid_status(5)).
type memory struct {
	resident int64 // VmRSS
	own      int64 // RssAnon: without the pages of the binary, which the kernel may drop
	most     int64 // VmHWM: resident at its highest
}

func (m memory) String() string {
	return fmt.Sprintf("%s, %s of it the binary; %s at most", megabytes(m.resident), megabytes(m.resident-m.own), megabytes(m.most))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

func (p *process) memory() (m memory, err error) {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return memory{}, err
	}
	for name, into := range map[string]*int64{"VmRSS:": &m.resident, "RssAnon:": &m.own, "VmHWM:": &m.most} {
		_, after, _ := strings.Cut(string(text), "\n"+name)
		value, _, _ := strings.Cut(after, " kB\n")
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("%s: %s %w", p.proc("status"), name, err)
		}
		*into = kilobytes << 10
	}
	return m, nil
}

func (p *process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), file)
}

// host is what a browser names in its requests.
func (p *process) host() string { return host(p.origin) }

func host(origin string) string { return strings.TrimPrefix(origin, "http://") }
