package main

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"
)

// startUp measures how soon after its start a server answers.
func (b *bench) startUp() error {
	type moments struct{ health, page []time.Duration }
	var fresh, existing moments
	starts := 0
	start := func(into *moments, data string) error {
		p, err := b.serve(data)
		if err != nil {
			return err
		}
		defer p.kill()
		health, err := p.until(b.ctx, "/healthz")
		if err != nil {
			return err
		}
		page, err := p.until(b.ctx, "/")
		if err != nil {
			return err
		}
		into.health, into.page = append(into.health, health), append(into.page, page)
		return p.stop()
	}
	kept := filepath.Join(b.dir, "start")
	if err := start(new(moments), kept); err != nil {
		return err
	}
	err := b.rounds(pick(b, 10, 4),
		func() error { return start(&existing, kept) },
		func() error {
			starts++
			return start(&fresh, filepath.Join(b.dir, fmt.Sprintf("start-%d", starts)))
		})
	if err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		moments
		goal time.Duration
	}{
		{"existing", existing, 12 * time.Millisecond},
		{"fresh", fresh, 25 * time.Millisecond},
	} {
		page := median(m.page)
		b.add("start to the first 200, "+m.name+" database",
			fmt.Sprintf("%s of /healthz, %s of /", milli(median(m.health)), milli(page)), "<= "+milli(m.goal), page <= m.goal)
	}
	return nil
}

// settled is how long a server is left alone before it counts as idle.
const settled = time.Second

// signIns is how many sign-ins the memory is measured after.
const signIns = 10_000

// memory measures what a server holds, idle and after many sign-ins.
func (b *bench) memory() error {
	p, err := b.serve(filepath.Join(b.dir, "memory"))
	if err != nil {
		return err
	}
	defer p.kill()
	if _, err := p.until(b.ctx, "/"); err != nil {
		return err
	}
	time.Sleep(settled)
	idle, err := p.memory()
	if err != nil {
		return err
	}
	people, err := crowd(p, 16)
	if err != nil {
		return err
	}
	var begun atomic.Int64
	_, err = load(p.addr, len(people), func() bool { return begun.Add(1) <= signIns },
		func(i int, s site) error { return people[i].signIn(s, false) })
	if err != nil {
		return err
	}
	after, err := p.memory()
	if err != nil {
		return err
	}
	b.add("resident memory, idle", idle.String(), "<= 18 MB", idle.resident <= 18<<20)
	b.add("resident memory after 10,000 sign-ins, each with its page and agent", after.String(), "<= 40 MB",
		after.resident <= 40<<20)
	return nil
}
