package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
	"bio/app/session"
)

// parts measures, in this process, what an entry, a checkpoint and a proof cost
// over a log that is not served meanwhile.
func (b *bench) parts(l *logged) (err error) {
	in, err := openInside(b.ctx, l.data, l.origin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.db.Close()) }()

	v := l.people[0]
	record := func(entries int) func(int) error {
		return func(int) error {
			batch := make([]audit.Entry, entries)
			for i := range batch {
				batch[i] = signedIn(v, fmt.Sprint(rand.Uint64()))
			}
			_, err := in.db.Record(b.ctx, batch...)
			return err
		}
	}
	get := request("GET", "/audit/checkpoint", l.host(), "")
	const more = 100
	var one, batch, plain, replacing series
	var single, checkpoint paired
	n := pick(b, 50, 20)
	err = b.rounds(pick(b, 15, 5),
		func() error { return one.timed(n, record(1)) },
		func() error { return batch.timed(n, record(1+more)) },
		func() error {
			sessions, err := pressed(&plain, in, v, n, true, nil)
			if err != nil {
				return err
			}
			if sessions, err = pressed(&replacing, in, v, n, true, sessions); err != nil {
				return err
			}
			id, err := sessionID(sessions[0])
			if err != nil {
				return err
			}
			seen := time.Now()
			return single.timed(n,
				func() error { seen = seen.Add(time.Second); return nil },
				func() error { return record(1)(0) },
				func() error { return in.db.TouchSession(b.ctx, id, seen) })
		},
		func() error {
			var r *http.Request
			var w answer
			return checkpoint.timed(n,
				func() (err error) {
					w = answer{}
					r, err = incoming(get)
					return errors.Join(err, record(1)(0))
				},
				func() error { in.handler.ServeHTTP(&w, r); return nil },
				func() error {
					return errors.Join(expect("GET /audit/checkpoint", w.status, http.StatusOK, w.body), lasting(l.data, w.body))
				})
		},
	)
	if err != nil {
		return err
	}

	entry := make([]time.Duration, len(one.medians))
	for i := range entry {
		entry[i] = (batch.medians[i] - one.medians[i]) / more
	}
	// What n entries that cost so much take, against the rest of sign-ins.
	share := func(costs []time.Duration, n time.Duration, signIns series) float64 {
		all := make([]float64, len(costs))
		for i, cost := range costs {
			all[i] = float64(n*cost) / float64(signIns.medians[i]-n*cost)
		}
		return median(all)
	}
	size, err := in.db.TrailSize(b.ctx)
	if err != nil {
		return err
	}
	at := fmt.Sprintf(" at %s entries", thousands(size))
	of := share(entry, 1, plain)
	b.add("appending one more entry, against the rest of a sign-in,"+at,
		fmt.Sprintf("%.2f (%s; the sign-in %s)", of, micro(median(entry)), micro(plain.median())), "<= 0.25", of <= 0.25)
	b.note("  two entries, as when the sign-in replaces a session", "%.2f (the sign-in %s)", share(entry, 2, replacing), micro(replacing.median()))
	// The entries of a batch share the pages and reads that a single one has to
	// itself. A commit of one row that is no entry is what a sign-in pays anyway.
	of = share(single.difference.medians, 1, plain)
	b.add("  an entry that shares nothing with others", fmt.Sprintf("%.2f (%s: its commit %s, that of another row %s)",
		of, micro(single.difference.median()), micro(single.first.median()), micro(single.second.median())), "<= 0.25", of <= 0.25)

	took, file := checkpoint.first.median(), checkpoint.second.median()
	text := fmt.Sprintf("%s: size, root, signature, answer, and a file, written and synced, that alone takes %s", milli(took), milli(file))
	if file > time.Millisecond { // the disk's own time
		text = fmt.Sprintf("%s without its file, %s with it", milli(checkpoint.difference.median()), milli(took))
		took = checkpoint.difference.median()
	}
	b.add("checkpoint after an act (GET /audit/checkpoint),"+at, text, "< 1 ms", took < time.Millisecond)
	return b.proof(in, l, min(size, 100_000))
}

// paired times two things in turn, so that what slows the machine for a while
// slows both.
type paired struct{ first, second, difference series }

// timed calls all three n times, and keeps the medians of what the last two take
// and of how much longer the first of them takes.
func (p *paired) timed(n int, before, first, second func() error) error {
	took := [3][]time.Duration{}
	for range n {
		if err := before(); err != nil {
			return err
		}
		start := time.Now()
		if err := first(); err != nil {
			return err
		}
		between := time.Now()
		if err := second(); err != nil {
			return err
		}
		one, other := between.Sub(start), time.Since(between)
		for i, d := range []time.Duration{one, other, one - other} {
			took[i] = append(took[i], d)
		}
	}
	p.first.add(took[0])
	p.second.add(took[1])
	p.difference.add(took[2])
	return nil
}

// sessionID reads the session's id in its cookie, a compact JWS.
func sessionID(cookie string) (string, error) {
	_, after, _ := strings.Cut(cookie, ".")
	claims, _, _ := strings.Cut(after, ".")
	text, err := base64.RawURLEncoding.DecodeString(claims)
	if err != nil {
		return "", fmt.Errorf("session cookie: %w", err)
	}
	var c session.Claims
	if err := json.Unmarshal(text, &c); err != nil {
		return "", fmt.Errorf("session cookie: %w", err)
	}
	return c.SessionID, nil
}

// lasting replaces a file whole, as a checkpoint is published.
func lasting(dir string, text []byte) error {
	f, err := os.CreateTemp(dir, ".bench-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, "bench")); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// proof weighs the proof that the first entry is in the tree of a size: no other
// entry has a longer one.
func (b *bench) proof(in *inside, l *logged, size int64) error {
	status, body, err := in.do(request("GET", fmt.Sprintf("/audit/proof?index=0&size=%d", size), l.host(), ""))
	if err != nil {
		return err
	}
	if err := expect("GET /audit/proof", status, http.StatusOK, body); err != nil {
		return err
	}
	var p struct {
		LeafHash tlog.Hash        `json:"leaf_hash"`
		Hashes   tlog.RecordProof `json:"hashes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("GET /audit/proof: %w", err)
	}
	root, err := tlog.TreeHash(size, in.db.Tree(b.ctx))
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(p.Hashes, size, root, 0, p.LeafHash); err != nil {
		return fmt.Errorf("GET /audit/proof: %w", err)
	}
	b.note(fmt.Sprintf("inclusion proof at %s entries, the longest", thousands(size)), "%d bytes of hashes, %d as JSON",
		len(p.Hashes)*tlog.HashSize, len(body))
	return nil
}
