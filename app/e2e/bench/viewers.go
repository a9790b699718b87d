package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"bio/agent/lines"
)

const (
	// Fewer people than can run at once, with all the tabs that make the viewers.
	watching = 50
	tabs     = 20
	// rhythm is how often each agent says something.
	rhythm = 100 * time.Millisecond
)

// paragraph is one event as its line has it: a paragraph, so that it is shown as
// soon as it comes.
func paragraph(i int) string {
	return fmt.Sprintf(`{"kind":"text","text":"event %d of what there is to say, which is about as long as a line of text is.\n\n"}`, i) + "\n"
}

// numbered is the number of the paragraph that a piece of a page begins with.
func numbered(piece []byte) (n int, ok bool) {
	after, ok := bytes.CutPrefix(piece, []byte("event "))
	digits, _, found := bytes.Cut(after, []byte(" "))
	n, err := strconv.Atoi(string(digits))
	return n, ok && found && err == nil
}

// speaker is the webhook that all runs ask. What a run asks for is the number of
// its person. Each says nothing until begun is closed, then its events in the
// rhythm, and ends when over is closed.
type speaker struct {
	events      int
	asked       sync.WaitGroup // until all runs have asked
	begun, over chan struct{}
	sent        [watching][]atomic.Int64 // when the events were sent, in Unix nanoseconds
}

func newSpeaker(events int) *speaker {
	s := &speaker{events: events, begun: make(chan struct{}), over: make(chan struct{})}
	s.asked.Add(watching)
	for i := range s.sent {
		s.sent[i] = make([]atomic.Int64, events)
	}
	return s
}

func (s *speaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked lines.Request
	err := json.NewDecoder(r.Body).Decode(&asked)
	who, err2 := strconv.Atoi(asked.Prompt)
	if err != nil || err2 != nil || who < 0 || who >= watching {
		http.Error(w, "no number of a person", http.StatusBadRequest)
		return
	}
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	if control.Flush() != nil {
		return
	}
	s.asked.Done()
	if !reached(r.Context(), s.begun) {
		return
	}
	// People do not come all at the same moment.
	beat := time.NewTimer(rhythm * time.Duration(who) / watching)
	defer beat.Stop()
	for i := range s.events {
		select {
		case <-beat.C:
			beat.Reset(rhythm)
		case <-r.Context().Done():
			return
		}
		s.sent[who][i].Store(time.Now().UnixNano())
		if _, err := io.WriteString(w, paragraph(i)); errors.Join(err, control.Flush()) != nil {
			return
		}
	}
	reached(r.Context(), s.over)
}

// reached waits until moment is closed, unless ctx is done before.
func reached(ctx context.Context, moment <-chan struct{}) bool {
	select {
	case <-moment:
		return true
	case <-ctx.Done():
		return false
	}
}

// viewer is a tab with the page of a run.
type viewer struct {
	*conn
	who    int
	page   *bufio.Scanner  // by its tags
	delays []time.Duration // of the events, from their sending to their being read here
}

// attach opens a page and reads it as far as the events of its run.
func attach(p *process, who int, of person) (*viewer, error) {
	c, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	status, body, err := c.open(of.page())
	if err == nil {
		v := &viewer{conn: c, who: who, page: tags(body)}
		for v.page.Scan() {
			if bytes.Contains(v.page.Bytes(), []byte(` role="log"`)) {
				return v, nil
			}
		}
		err = errors.Join(v.page.Err(), fmt.Errorf("GET /: answered %d, without a run", status))
	}
	c.Close()
	return nil, err
}

// watch reads the page to its end. It calls all when every event has come, each
// once and in order: that is so, or there is an error.
func (v *viewer) watch(s *speaker, all func()) error {
	if err := v.SetDeadline(time.Now().Add(rhythm*time.Duration(s.events) + 3*patience)); err != nil {
		return err
	}
	final := ""
	for v.page.Scan() {
		if how := attribute(v.page.Bytes(), "data-final"); how != "" {
			final = how
		}
		n, ok := numbered(v.page.Bytes())
		if !ok {
			continue
		}
		if n != len(v.delays) || n >= s.events {
			return fmt.Errorf("a viewer got event %d, not %d of %d", n, len(v.delays), s.events)
		}
		v.delays = append(v.delays, time.Duration(time.Now().UnixNano()-s.sent[v.who][n].Load()))
		if n == s.events-1 {
			all()
		}
	}
	if err := v.page.Err(); err != nil {
		return err
	}
	if len(v.delays) < s.events || final != "done" {
		return fmt.Errorf("a viewer got %d of %d events, and the end %q", len(v.delays), s.events, final)
	}
	return nil
}

// audience is a server with all the runs and their viewers.
type audience struct {
	*process
	*speaker
	people  []person
	viewers []*viewer
}

// gather starts the runs.
func (a *audience) gather() error {
	c, err := dial(a.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if a.people, err = come(a.process, watching); err != nil {
		return err
	}
	for i, p := range a.people {
		if err := p.ask(c, strconv.Itoa(i)); err != nil {
			return err
		}
	}
	asked := make(chan struct{})
	go func() { a.asked.Wait(); close(asked) }()
	select {
	case <-asked:
		return nil
	case <-time.After(patience):
		return errors.New("not all runs have begun")
	}
}

// resting is what the server holds when nothing happens any more.
func (a *audience) resting() (memory, error) {
	time.Sleep(settled)
	return a.memory()
}

// played is what was seen while the runs streamed to their viewers.
type played struct {
	took, cpu time.Duration // until all had everything; of the server
	memory                  // then, with all of them still there
	lost      []error       // of viewers who did not get everything
}

// play lets the runs say everything, and ends them.
func (a *audience) play() (p played, err error) {
	used, err := a.cpu()
	if err != nil {
		return played{}, err
	}
	var seeing, reading sync.WaitGroup
	seeing.Add(len(a.viewers))
	errs := make([]error, len(a.viewers))
	began := time.Now()
	for i, v := range a.viewers {
		reading.Go(func() {
			seen := sync.OnceFunc(seeing.Done)
			defer seen()
			errs[i] = v.watch(a.speaker, seen)
		})
	}
	close(a.begun)
	seeing.Wait()
	p.took = time.Since(began)
	usedNow, err := a.cpu()
	p.cpu = usedNow - used
	if err == nil {
		p.memory, err = a.memory()
	}
	close(a.over)
	reading.Wait()
	p.lost = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	return p, err
}

// viewers attaches many viewers to streaming runs, and measures what they cost
// and how soon they see what is said.
func (b *bench) viewers() (err error) {
	a := &audience{speaker: newSpeaker(pick(b, 100, 10))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: a.speaker}
	go web.Serve(l) // until it is closed
	defer web.Close()
	a.process, err = b.serve(filepath.Join(b.dir, "viewers"),
		"BIO_AGENT=http://"+l.Addr().String()+"/", "BIO_AGENT_PRIVATE=yes", "BIO_AGENT_TIMEOUT=10m")
	if err != nil {
		return err
	}
	defer a.kill()
	if _, err := a.until(b.ctx, "/"); err != nil {
		return err
	}
	if err := a.gather(); err != nil {
		return err
	}
	before, err := a.resting()
	if err != nil {
		return err
	}
	for i := range watching * tabs {
		v, err := attach(a.process, i%watching, a.people[i%watching])
		if err != nil {
			return err
		}
		defer v.Close()
		a.viewers = append(a.viewers, v)
	}
	attached, err := a.resting()
	if err != nil {
		return err
	}

	then, err := a.play()
	if err != nil {
		return err
	}

	var delays []time.Duration
	for _, v := range a.viewers {
		delays = append(delays, v.delays...)
	}
	n := int64(len(a.viewers))
	each := func(m memory) string {
		return fmt.Sprintf("%.1f kB", float64(m.resident-before.resident)/float64(n)/1000)
	}
	b.add(fmt.Sprintf("%s viewers of the streaming runs of %d people", thousands(n), watching),
		fmt.Sprintf("%s got each of %d events, %s after it was sent, p99 %s", thousands(n-int64(len(then.lost))), a.events,
			milli(median(delays)), milli(quantile(delays, 0.99))),
		"all get everything", len(then.lost) == 0)
	if len(then.lost) > 0 {
		b.note("  one that did not", "%v", then.lost[0])
	}
	b.note("  resident memory for each of them", "%s attached, %s after that was streamed (%s before, %s then, %s at most)",
		each(attached), each(then.memory), megabytes(before.resident), megabytes(then.resident), megabytes(then.most))
	b.note("  of the server meanwhile", "%.0f events a second given to viewers, %s CPU each",
		float64(len(delays))/then.took.Seconds(), micro(then.cpu/time.Duration(max(1, len(delays)))))
	return nil
}
