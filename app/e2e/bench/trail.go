package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/store"
)

// longTrail is how many entries the grown trail has.
const longTrail = 100_000

// grow lets the visitors' trail grow to longTrail entries.
func grow(ctx context.Context, data string, people []*visitor) (err error) {
	db, err := store.Open(ctx, "file:"+filepath.Join(data, "bio.db"), time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch := make([]audit.Entry, 1000)
	for n := 0; n < longTrail; n += len(batch) {
		for i := range batch {
			v := people[i%len(people)]
			batch[i] = audit.Entry{
				Kind: audit.SignedIn, Actor: account.UserID(v.handle), Credential: v.credential, Session: fmt.Sprint(n + i),
				Client: audit.Client{Network: "127.0.0.0/24", Browser: "Chrome", System: "Linux"},
			}
		}
		if err := db.Record(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// trail compares sign-ins over a long trail with those over an empty one.
func (b *bench) trail() error {
	type over struct {
		*process
		people      []*visitor
		alone, many crowded
	}
	var short, long over
	for _, o := range []*over{&short, &long} {
		data := filepath.Join(b.dir, "trail")
		if o == &long {
			data += "-long"
		}
		var err error
		if o.process, err = b.serve(data); err != nil {
			return err
		}
		defer func() { o.kill() }()
		if _, err := o.until(b.ctx, "/"); err != nil {
			return err
		}
		if o.people, err = crowd(o.process, 16); err != nil {
			return err
		}
		if o == &short {
			continue
		}
		if err := o.stop(); err != nil {
			return err
		}
		if err := grow(b.ctx, data, o.people); err != nil {
			return err
		}
		// The passkeys are bound to the origin.
		if o.process, err = b.serveAt(o.addr, data); err != nil {
			return err
		}
		if _, err := o.until(b.ctx, "/"); err != nil {
			return err
		}
	}
	d := pick(b, 700*time.Millisecond, 400*time.Millisecond)
	alone := func(o *over) func() error {
		return func() error { return o.alone.round(o.process, o.people[:1], true, d) }
	}
	many := func(o *over) func() error {
		return func() error { return o.many.round(o.process, o.people, true, d) }
	}
	if err := b.rounds(pick(b, 9, 3), alone(&short), alone(&long), many(&short), many(&long)); err != nil {
		return err
	}
	one, all := median(ratios(long.alone.rates, short.alone.rates)), median(ratios(long.many.rates, short.many.rates))
	b.add("sign-in rate at 100,000 entries in the trail, against an empty one",
		fmt.Sprintf("%.2f one at a time, %.2f at once (server CPU of one at once: %s against %s)",
			one, all, micro(median(long.many.server)), micro(median(short.many.server))),
		">= 0.95", min(one, all) >= 0.95)
	return nil
}
