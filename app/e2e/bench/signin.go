package main

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"time"
)

// prepared is one press, signed before it is timed.
type prepared struct {
	credential []byte // JSON
	challenge  string
}

func prepare(s site, v *visitor, n int) ([]prepared, error) {
	all := make([]prepared, n)
	for i := range all {
		_, body, err := s.do(v.home)
		if err != nil {
			return nil, err
		}
		if all[i].challenge, err = challenge(body); err != nil {
			return nil, err
		}
		if all[i].credential, err = v.assert(all[i].challenge); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// series times one thing: the median of every round.
type series struct {
	medians []time.Duration
	objects []int64 // allocations of one, where they are counted
}

func (s *series) add(latencies []time.Duration) { s.medians = append(s.medians, median(latencies)) }

func (s *series) median() time.Duration { return median(s.medians) }

// timed calls act n times and keeps the median of its durations.
func (s *series) timed(n int, act func(i int) error) error {
	latencies := make([]time.Duration, n)
	for i := range latencies {
		start := time.Now()
		if err := act(i); err != nil {
			return err
		}
		latencies[i] = time.Since(start)
	}
	s.add(latencies)
	return nil
}

// pressed times n presses of the visitor inside the handler and returns the
// sessions that they open, as the values of their cookies. With sessions given,
// each press takes the place of one.
func pressed(into *series, in *inside, v *visitor, n int, redirected bool, sessions []string) ([]string, error) {
	presses, err := prepare(in, v, n)
	if err != nil {
		return nil, err
	}
	requests, answers := make([]*http.Request, n), make([]answer, n)
	for i, p := range presses {
		if requests[i], err = incoming(v.press(p.credential, redirected)); err != nil {
			return nil, err
		}
		if sessions != nil {
			requests[i].AddCookie(&http.Cookie{Name: "bio", Value: sessions[i]})
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = into.timed(n, func(i int) error { in.handler.ServeHTTP(&answers[i], requests[i]); return nil })
	runtime.ReadMemStats(&after)
	into.objects = append(into.objects, int64(after.Mallocs-before.Mallocs)/int64(n))
	want := http.StatusOK
	if redirected {
		want = http.StatusSeeOther
	}
	opened := make([]string, n)
	for i, a := range answers {
		err = errors.Join(err, expect("sign-in", a.status, want, a.body))
		for _, c := range (&http.Response{Header: a.header}).Cookies() {
			if c.Name == "bio" {
				opened[i] = c.Value
			}
		}
	}
	return opened, err
}

// signIn compares a sign-in with the parts that it cannot do without.
func (b *bench) signIn() (err error) {
	const origin = "http://localhost:8080"
	in, err := openInside(b.ctx, filepath.Join(b.dir, "inside"), origin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.db.Close()) }()
	v, err := register(in, origin)
	if err != nil {
		return err
	}
	if err := v.forged(in); err != nil {
		return err
	}
	f, err := openFloor(b.ctx, in, v)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(f.close(), err) }()
	out, err := b.serve(filepath.Join(b.dir, "outside"))
	if err != nil {
		return err
	}
	defer out.kill()
	if _, err := out.until(b.ctx, "/"); err != nil {
		return err
	}
	people, err := crowd(out, 16)
	if err != nil {
		return err
	}

	var verify, commit, signing, handler, page, whole, wholePage series
	n := pick(b, 150, 50)
	inside := func(into *series, redirected bool) error {
		_, err := pressed(into, in, v, n, redirected, nil)
		return err
	}
	outside := func(into *series, redirected bool) error {
		i := 0
		did, err := load(out.addr, 1, func() bool { i++; return i <= n },
			func(_ int, s site) error { return people[0].signIn(s, redirected) })
		into.add(did.latencies)
		return err
	}
	err = b.rounds(pick(b, 15, 5),
		func() error {
			presses, err := prepare(in, v, n)
			if err != nil {
				return err
			}
			err = verify.timed(n, func(i int) error { return f.verify(presses[i].credential, presses[i].challenge) })
			return errors.Join(err, signing.timed(n, func(i int) error { _, err := v.assert(presses[i].challenge); return err }))
		},
		func() error { return commit.timed(n, func(int) error { return f.commit(b.ctx) }) },
		func() error { return inside(&handler, true) },
		func() error { return inside(&page, false) },
		func() error { return outside(&whole, true) },
		func() error { return outside(&wholePage, false) },
	)
	if err != nil {
		return err
	}
	sums := make([]time.Duration, len(verify.medians))
	for i := range sums {
		sums[i] = verify.medians[i] + commit.medians[i]
	}
	show := func(s series) (string, float64) {
		times := median(ratios(s.medians, sums))
		text := fmt.Sprintf("%.2f (%s", times, micro(s.median()))
		if s.objects != nil {
			text += fmt.Sprintf(", %d allocations", median(s.objects))
		}
		return text + ")", times
	}
	text, times := show(handler)
	b.add("sign-in, handler only, against parse + verify + commit", text, "<= 1.5", times <= 1.5)
	text, _ = show(page)
	b.note("  the same, answered by the page with its agent", "%s", text)
	b.note("  parse + verify + commit", "%s = %s + %s", micro(median(sums)), micro(verify.median()), micro(commit.median()))
	text, times = show(whole)
	b.add("sign-in as a client sees it, 1 at a time, against the same", text, "<= 3", times <= 3)
	text, _ = show(wholePage)
	b.note("  the same, answered by the page with its agent", "%s", text)
	b.note("  of it the client's own signing", "%s", micro(signing.median()))
	return b.atOnce(out, people)
}

// crowded is what rounds of many sign-ins at once came to.
type crowded struct {
	rates          []float64
	p99            []time.Duration
	server, client []time.Duration // processor time of one sign-in
}

func (c *crowded) round(p *process, people []*visitor, redirected bool, d time.Duration) error {
	used, err := p.cpu()
	if err != nil {
		return err
	}
	did, err := load(p.addr, len(people), during(d), func(i int, s site) error { return people[i].signIn(s, redirected) })
	if err != nil {
		return err
	}
	usedNow, err := p.cpu()
	c.rates, c.p99 = append(c.rates, did.rate()), append(c.p99, quantile(did.latencies, 0.99))
	c.server = append(c.server, (usedNow-used)/time.Duration(did.n))
	c.client = append(c.client, did.client/time.Duration(did.n))
	return err
}

func (c *crowded) String() string {
	return fmt.Sprintf("%.0f a second, none refused, p99 %s (CPU of one: server %s, client %s)",
		median(c.rates), milli(median(c.p99)), micro(median(c.server)), micro(median(c.client)))
}

// atOnce measures sign-ins that come at the same time. The first refusal ends it.
func (b *bench) atOnce(p *process, people []*visitor) error {
	var redirected, page crowded
	d := pick(b, 1500*time.Millisecond, 500*time.Millisecond)
	err := b.rounds(pick(b, 5, 2),
		func() error { return redirected.round(p, people, true, d) },
		func() error { return page.round(p, people, false, d) })
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("sign-in as a client sees it, %d at once", len(people)), redirected.String(),
		">= 1,700 a second, none refused, p99 <= 50 ms",
		median(redirected.rates) >= 1700 && median(redirected.p99) <= 50*time.Millisecond)
	b.note("  the same, answered by the page with its agent", "%s", page.String())
	return nil
}
