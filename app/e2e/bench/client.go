package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// site answers one request, given as its bytes. The body is good until the next.
type site interface {
	do(request []byte) (status int, body []byte, err error)
}

// request writes a request. Headers are lines that end in CRLF.
func request(method, path, host, headers string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers + "\r\n")
}

// conn is a connection that is kept alive. It reads just as much of HTTP as the
// servers measured here speak: net/http's client would use more of the processors
// than they do.
type conn struct {
	net.Conn
	in      *bufio.Reader
	body    []byte
	first   time.Time // when the first byte of the last answer came
	session string    // the value of the session cookie that was set last
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReaderSize(c, 8<<10)}, nil
}

var errAnswer = errors.New("answer cannot be read")

func (c *conn) do(request []byte) (status int, body []byte, err error) {
	status, length, err := c.head(request)
	if err != nil {
		return 0, nil, err
	}
	c.body = c.body[:0]
	if length != chunked {
		return status, c.body, c.read(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return 0, nil, err
		}
		n, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return 0, nil, errAnswer
		}
		if err := c.read(int(n)); err != nil {
			return 0, nil, err
		}
		if _, err := c.line(); err != nil {
			return 0, nil, err
		}
		if n == 0 {
			return status, c.body, nil
		}
	}
}

// open returns the status of an answer whose body the caller reads as it comes. It
// is the connection's last. What takes longer than a usual answer needs a deadline
// of its own.
func (c *conn) open(request []byte) (status int, body io.Reader, err error) {
	status, length, err := c.head(request)
	switch {
	case err != nil:
		return 0, nil, err
	case length == chunked:
		return status, httputil.NewChunkedReader(c.in), nil
	}
	return status, io.LimitReader(c.in, int64(length)), nil
}

// chunked is the length of a body that says it as it comes.
const chunked = -1

// head sends a request and reads its answer as far as the body.
func (c *conn) head(request []byte) (status, length int, err error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, 0, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return 0, 0, err
	}
	c.first = time.Now()
	line, err := c.line()
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, errAnswer
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, errAnswer
	}
	for {
		line, err := c.line()
		if err != nil {
			return 0, 0, err
		}
		if len(line) == 0 {
			return status, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) { // as net/http writes them
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, errAnswer
			}
		case "Transfer-Encoding":
			length = chunked
		case "Set-Cookie":
			if value, ok := bytes.CutPrefix(value, []byte("bio=")); ok {
				value, _, _ = bytes.Cut(value, []byte(";"))
				c.session = string(value)
			}
		}
	}
}

// line reads one line, without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimSuffix(line, []byte("\r\n")), err
}

// read appends n bytes to the body.
func (c *conn) read(n int) error {
	start := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.in, c.body[start:])
	return err
}

// did is what came of a load.
type did struct {
	n         int
	took      time.Duration
	latencies []time.Duration
	client    time.Duration // processor time of this process
}

// rate is in acts a second.
func (d did) rate() float64 { return float64(d.n) / d.took.Seconds() }

// load lets workers act, each on a connection of its own, one act after another
// while more says so. The first error ends it.
func load(addr string, workers int, more func() bool, act func(worker int, s site) error) (did, error) {
	all := make([][]time.Duration, workers)
	errs := make([]error, workers)
	conns := make([]*conn, workers)
	for i := range conns {
		var err error
		if conns[i], err = dial(addr); err != nil {
			return did{}, err
		}
		defer conns[i].Close()
	}
	used, err := ownCPU()
	if err != nil {
		return did{}, err
	}
	began := time.Now()
	var working sync.WaitGroup
	for i := range workers {
		working.Go(func() {
			for more() && errs[i] == nil {
				start := time.Now()
				errs[i] = act(i, conns[i])
				all[i] = append(all[i], time.Since(start))
			}
		})
	}
	working.Wait()
	d := did{took: time.Since(began)}
	usedNow, err := ownCPU()
	d.client = usedNow - used
	for _, latencies := range all {
		d.latencies = append(d.latencies, latencies...)
	}
	d.n = len(d.latencies)
	return d, errors.Join(append(errs, err)...)
}

// during is true until d is over.
func during(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// ownCPU is the processor time that this process has used.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// expect is an error unless the status is the one wanted.
func expect(what string, status, want int, body []byte) error {
	if status == want {
		return nil
	}
	said := string(body)
	if _, after, ok := strings.Cut(said, "data-say=\"notice\">"); ok {
		said, _, _ = strings.Cut(after, "<")
	}
	return fmt.Errorf("%s: answered %d instead of %d: %.300s", what, status, want, said)
}
