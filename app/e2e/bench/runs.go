package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runs measures what agents cost those who look at their pages, and what the
// runtime costs by itself.
func (b *bench) runs() error {
	return errors.Join(b.firstByte(), b.viewers(), b.events())
}

// person is a visitor who is signed in.
type person struct {
	*visitor
	session string
}

// come registers n people at a server and makes sure that it refuses forgery.
func come(p *process, n int) ([]person, error) {
	c, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all := make([]person, n)
	for i := range all {
		v, err := register(c, p.origin)
		if err != nil {
			return nil, err
		}
		all[i] = person{v, c.session}
	}
	return all, all[0].forged(c)
}

func (p person) page() []byte { return p.get("/", p.session) }

// ask starts the person's run.
func (p person) ask(s site, prompt string) error {
	status, body, err := s.do(p.post("/run", p.session, "prompt="+prompt))
	if err != nil {
		return err
	}
	return expect("POST /run", status, 303, body)
}

// hooked is an installation with one agent, which is a program, and the times to
// the first bytes of its answers.
type hooked struct {
	*process
	name    string
	endless bool     // its runs end when they are stopped
	final   string   // how they end
	conn    *conn    // for what is answered whole
	nobody  person   // who never ran it
	asking  []person // who run it by asking
	coming  []person // who run it by signing in

	without, with          series // the page of nobody, and of one who has just asked
	redirected, recognised series // the answer to a press: a redirect, and the page
	started                series // the answer to the asking
}

// hook serves Bio with one agent, for n people of each kind.
func (b *bench) hook(name, command, final string, n int) (_ *hooked, err error) {
	h := &hooked{name: name, final: final, endless: final == "interrupted"}
	if h.process, err = b.serve(filepath.Join(b.dir, "runs-"+final), "BIO_AGENT="+command); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.kill()
		}
	}()
	if _, err := h.until(b.ctx, "/"); err != nil {
		return nil, err
	}
	people, err := come(h.process, 1+2*n)
	if err != nil {
		return nil, err
	}
	h.nobody, h.asking, h.coming = people[0], people[1:1+n], people[1+n:]
	h.conn, err = dial(h.addr)
	return h, err
}

// shown sends a request on a connection of its own, which a page that goes on
// keeps to itself, and times its first byte; before is done when the connection
// stands. It reads the page to its end, which must be that of a run that ended
// so: final is empty for a page without one.
func (h *hooked) shown(request []byte, p person, final string, before func() error) (time.Duration, error) {
	c, err := dial(h.addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := before(); err != nil {
		return 0, err
	}
	began := time.Now()
	status, body, err := c.open(request)
	if err != nil {
		return 0, err
	}
	if status != 200 {
		return 0, fmt.Errorf("a page: answered %d", status)
	}
	took := c.first.Sub(began)
	if c.session != "" {
		p.session = c.session
	}
	got, err := h.ended(body, p)
	if err == nil && got != final {
		err = fmt.Errorf("a run of an agent that %s: ended as %q, not as %q", h.name, got, final)
	}
	return took, err
}

// ended reads a page to its end and returns how its run ended, if there is one. A
// run that does not end by itself is stopped as soon as the page shows it.
func (h *hooked) ended(body io.Reader, p person) (final string, err error) {
	s := tags(body)
	for s.Scan() {
		if run := attribute(s.Bytes(), "data-run"); run != "" && h.endless {
			status, body, err := h.conn.do(p.post("/run/stop", p.session, "run="+run))
			if err := errors.Join(err, expect("POST /run/stop", status, 303, body)); err != nil {
				return "", err
			}
		}
		if how := attribute(s.Bytes(), "data-final"); how != "" {
			final = how
		}
	}
	return final, s.Err()
}

// tags cuts a page behind each tag.
func tags(page io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(page)
	s.Buffer(make([]byte, 0, 512), 1<<20) // the text of an agent can be long
	s.Split(func(data []byte, whole bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '>'); i >= 0 {
			return i + 1, data[:i], nil
		}
		if whole && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	return s
}

// attribute is the value of that attribute of a tag, or "".
func attribute(tag []byte, name string) string {
	_, after, _ := bytes.Cut(tag, []byte(" "+name+`="`))
	value, _, _ := bytes.Cut(after, []byte(`"`))
	return string(value)
}

// pages times the pages of nobody, then those of people who have just asked.
func (h *hooked) pages() error {
	var without, with, started []time.Duration
	for range h.asking {
		took, err := h.shown(h.nobody.page(), h.nobody, "", func() error { return nil })
		if err != nil {
			return err
		}
		without = append(without, took)
	}
	for _, p := range h.asking {
		took, err := h.shown(p.page(), p, h.final, func() error {
			began := time.Now()
			err := p.ask(h.conn, "")
			started = append(started, h.conn.first.Sub(began))
			return err
		})
		if err != nil {
			return err
		}
		with = append(with, took)
	}
	h.without.add(without)
	h.with.add(with)
	h.started.add(started)
	return nil
}

// presses times answers to presses: redirects, which start and show nothing, then
// pages.
func (h *hooked) presses() error {
	var redirected, recognised []time.Duration
	for _, p := range h.coming {
		presses, err := prepare(h.conn, p.visitor, 2)
		if err != nil {
			return err
		}
		began := time.Now()
		status, body, err := h.conn.do(p.press(presses[0].credential, true))
		if err := errors.Join(err, expect("sign-in", status, 303, body)); err != nil {
			return err
		}
		redirected = append(redirected, h.conn.first.Sub(began))
		took, err := h.shown(p.press(presses[1].credential, false), p, h.final, func() error { return nil })
		if err != nil {
			return err
		}
		recognised = append(recognised, took)
	}
	h.redirected.add(redirected)
	h.recognised.add(recognised)
	return nil
}

// much is an answer of some 150 kB.
func much() string {
	var text strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&text, "Line %d of **much** to say, as long as most lines of a text are, and with [a link](/account).\n\n", i)
	}
	return text.String()
}

// firstByte compares the first bytes of signed-in pages with those of pages
// without an agent, whatever the agent does.
func (b *bench) firstByte() error {
	file := filepath.Join(b.dir, "much.md")
	if err := os.WriteFile(file, []byte(much()), 0o600); err != nil {
		return err
	}
	n := pick(b, 6, 4)
	var all []*hooked
	var parts []func() error
	for _, a := range []struct{ name, command, final string }{
		{"says 150 kB at once", "exec:cat '" + file + "'", "done"},
		{"says nothing", "exec:sleep 86400", "interrupted"},
		{"floods", "exec:yes", "cut"},
	} {
		h, err := b.hook(a.name, a.command, a.final, n)
		if err != nil {
			return err
		}
		defer h.kill()
		defer h.conn.Close()
		all = append(all, h)
		parts = append(parts, h.pages, h.presses)
	}
	if err := b.rounds(pick(b, 15, 3), parts...); err != nil {
		return err
	}
	const goal = 2 * time.Millisecond
	for _, h := range all {
		more := median(differences(h.with.medians, h.without.medians))
		b.add("first byte of / signed in, whose agent "+h.name+", against none",
			fmt.Sprintf("%+.2f ms (%s against %s; the answer that started it %s)", float64(more)/1e6,
				milli(h.with.median()), milli(h.without.median()), milli(h.started.median())), "<= 2 ms more", more <= goal)
		more = median(differences(h.recognised.medians, h.redirected.medians))
		b.add("  of the page that answers a press, against a redirect",
			fmt.Sprintf("%+.2f ms (%s against %s)", float64(more)/1e6, milli(h.recognised.median()), milli(h.redirected.median())),
			"<= 2 ms more", more <= goal)
	}
	return nil
}

// differences subtracts round by round.
func differences(from, less []time.Duration) []time.Duration {
	all := make([]time.Duration, len(from))
	for i := range from {
		all[i] = from[i] - less[i]
	}
	return all
}
