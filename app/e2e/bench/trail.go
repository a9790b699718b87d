package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/store"
)

// trailSecret is the root secret of the installations here, in hex: that of
// openInside, so that all sign with the same keys.
var trailSecret = "BIO_SECRET=" + strings.Repeat("00", 32)

// logged is an installation whose trail was made to grow.
type logged struct {
	*process
	data        string
	kept        string // a copy of data as it was made, or ""
	people      []*visitor
	alone, many crowded
}

// settle serves an installation for as long as its people need to come in, and
// lets its trail grow to size entries.
func (b *bench) settle(data string, size int64) (_ *logged, err error) {
	l := &logged{data: data}
	if l.process, err = b.serve(data, trailSecret); err != nil {
		return nil, err
	}
	defer l.kill()
	if _, err := l.until(b.ctx, "/"); err != nil {
		return nil, err
	}
	if l.people, err = crowd(l.process, 16); err != nil {
		return nil, err
	}
	if err := l.stop(); err != nil {
		return nil, err
	}
	return l, l.grow(b.ctx, size)
}

func (l *logged) database() string { return filepath.Join(l.data, "bio.db") }

// grow appends sign-ins of the people until the trail has size entries.
func (l *logged) grow(ctx context.Context, size int64) (err error) {
	db, err := store.Open(ctx, "file:"+l.database(), time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	have, err := db.TrailSize(ctx)
	for err == nil && have < size {
		batch := make([]audit.Entry, min(1000, size-have))
		for i := range batch {
			batch[i] = signedIn(l.people[i%len(l.people)], fmt.Sprint(have, i))
		}
		have, err = db.Record(ctx, batch...)
	}
	return err
}

// signedIn is the entry of a sign-in.
func signedIn(v *visitor, session string) audit.Entry {
	return audit.Entry{
		Kind: audit.SignedIn, Actor: account.UserID(v.handle), Credential: account.CredentialRef(v.credential), Session: session,
		Client: audit.Client{Network: "127.0.0.0/24", Browser: "Chrome", System: "Linux"},
	}
}

// again starts the server without what was left the last time: the entries, where
// there is a copy to go back to, and the sessions and used challenges, which
// would then weigh on one side only.
func (l *logged) again(b *bench) (err error) {
	if l.kept != "" {
		if err := os.RemoveAll(l.data); err != nil {
			return err
		}
		if err := os.CopyFS(l.data, os.DirFS(l.kept)); err != nil {
			return err
		}
	} else if err := forget(b.ctx, l.database()); err != nil {
		return err
	}
	// The passkeys are bound to the origin.
	if l.process, err = b.serveAt(l.addr, l.data, trailSecret); err != nil {
		return err
	}
	_, err = l.until(b.ctx, "/")
	return err
}

// forget removes all sessions and used challenges.
func forget(ctx context.Context, database string) error {
	connector, err := libsql.NewConnector("file:" + database)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	_, err = pool.ExecContext(ctx, "DELETE FROM sessions; DELETE FROM challenges")
	return errors.Join(err, pool.Close())
}

// compare lets people sign in over both trails in turn, for a while.
func (b *bench) compare(short, long *logged) error {
	var warm crowded
	var parts []func() error
	for _, l := range []*logged{short, long} {
		if err := l.again(b); err != nil {
			return err
		}
		defer l.kill()
		if err := warm.round(l.process, l.people, true, 100*time.Millisecond); err != nil {
			return err
		}
		d := pick(b, 200*time.Millisecond, 100*time.Millisecond)
		parts = append(parts,
			func() error { return l.alone.round(l.process, l.people[:1], true, d) },
			func() error { return l.many.round(l.process, l.people, true, d) })
	}
	if err := b.rounds(4, parts...); err != nil {
		return err
	}
	return errors.Join(short.stop(), long.stop())
}

// trail measures what the log costs: sign-ins over a short and a long one, then
// the parts of it over the long one.
func (b *bench) trail() error {
	const few = 1000
	many := pick[int64](b, 1_000_000, 20_000)
	short, err := b.settle(filepath.Join(b.dir, "trail"), few)
	if err != nil {
		return err
	}
	short.kept = short.data + "-kept"
	if err := os.CopyFS(short.kept, os.DirFS(short.data)); err != nil {
		return err
	}
	began := time.Now()
	long, err := b.settle(filepath.Join(b.dir, "trail-long"), many)
	if err != nil {
		return err
	}
	grown := float64(many) / time.Since(began).Seconds()
	info, err := os.Stat(long.database())
	if err != nil {
		return err
	}
	if err := b.rounds(pick(b, 9, 4), func() error { return b.compare(short, long) }); err != nil {
		return err
	}
	one, all := median(ratios(long.alone.rates, short.alone.rates)), median(ratios(long.many.rates, short.many.rates))
	b.add(fmt.Sprintf("sign-in rate at %s entries in the trail, against %s", thousands(many), thousands(few)),
		fmt.Sprintf("%.2f one at a time, %.2f at once (server CPU of one at once: %s against %s)",
			one, all, micro(median(long.many.server)), micro(median(short.many.server))),
		">= 0.90", min(one, all) >= 0.90)
	b.note("  the database then", "%d bytes an entry", info.Size()/many)
	b.note("  made to grow by 1,000 entries a transaction", "%.0f entries a second", grown)
	if err := b.parts(long); err != nil {
		return err
	}
	return b.commands(long)
}

// thousands is a number as the table shows it.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
