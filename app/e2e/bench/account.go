package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tursodatabase/libsql-client-go/libsql"

	"bio/app/audit"
	"bio/app/store"
)

// What the person has whose page is measured.
const (
	theirPasskeys = 20
	theirSessions = 50
)

// populated is an installation with one person among others, who is signed in.
type populated struct {
	*process
	headers       string
	account, home arrival
}

// arrival is when the first and the last byte of answers came, from the request on.
type arrival struct{ first, last series }

// asked asks n times for a path. Each answer must have the text so often.
func (a *arrival) asked(p *populated, n int, path, text string, times int) error {
	c, err := dial(p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	get := request("GET", path, p.host(), p.headers)
	first, last := make([]time.Duration, n), make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		status, body, err := c.do(get)
		if err != nil {
			return err
		}
		first[i], last[i] = c.first.Sub(began), time.Since(began)
		if err := expect("GET "+path, status, 200, body); err != nil {
			return err
		}
		if got := strings.Count(string(body), text); got != times {
			return fmt.Errorf("GET %s: %d of %s instead of %d", path, got, text, times)
		}
	}
	a.first.add(first)
	a.last.add(last)
	return nil
}

// populate makes and serves an installation with a person and others. They are
// there first, as in life.
func (b *bench) populate(data string, others int64) (_ *populated, err error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	origin := "http://localhost" + addr[strings.LastIndexByte(addr, ':'):]
	in, err := openInside(b.ctx, data, origin)
	if err != nil {
		return nil, err
	}
	if err := in.db.Close(); err != nil {
		return nil, err
	}
	if err := fill(b.ctx, in.path, others, time.Now()); err != nil {
		return nil, fmt.Errorf("%s others: %w", thousands(others), err)
	}
	p := &populated{}
	if p.headers, err = b.settleIn(data, origin); err != nil {
		return nil, err
	}
	if p.process, err = b.serveAt(addr, data, trailSecret); err != nil {
		return nil, err
	}
	if _, err := p.until(b.ctx, "/"); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// settleIn registers the person with all passkeys and sessions, and returns the
// headers of a browser of theirs.
func (b *bench) settleIn(data, origin string) (headers string, err error) {
	in, err := openInside(b.ctx, data, origin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.db.Close()) }()
	v, err := register(in, origin) // with a session
	if err != nil {
		return "", err
	}
	cookies, err := pressed(new(series), in, v, theirSessions-1, true, nil)
	if err != nil {
		return "", err
	}
	id, err := sessionID(cookies[0])
	if err != nil {
		return "", err
	}
	_, passkey, err := in.db.Credential(b.ctx, v.credential)
	if err != nil {
		return "", err
	}
	now := time.Now()
	for range theirPasskeys - 1 {
		passkey.ID, passkey.CreatedAt = make([]byte, 32), now
		challenge := make([]byte, 40)
		rand.Read(passkey.ID)
		rand.Read(challenge)
		if _, _, err := in.db.AddCredential(b.ctx, store.Addition{
			Challenge: challenge, Expires: now.Add(time.Hour), SessionID: id, Proven: now.Add(-time.Hour), Credential: passkey,
		}, audit.Entry{Kind: audit.PasskeyAdded}); err != nil {
			return "", err
		}
	}
	return v.browser(cookies[0]), nil
}

// fillings make the others: each with a passkey and a session. ?1 is how many, ?2
// the time in unix milliseconds. Their keys are spread over all that there could
// be, and ascend: the trees grow as large as from random ones, in a quarter of the
// time. The person's own fall anywhere among them.
var fillings = []string{
	`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO users (id, handle, name, groups, created_at)
SELECT place || lower(hex(randomblob(12))), CAST(place || hex(randomblob(12)) AS BLOB), 'someone-' || place, '[]',
?2 - (?1 - i) * 31536000000 / ?1
FROM (SELECT i, printf('%08x', i * (4294967295 / ?1)) AS place FROM n)`,
	`INSERT INTO credentials (ref, id, user_id, user_handle, public_key, sign_count, flags, aaguid, transports,
attestation_type, attestation_format, name, created_at, last_used_at)
SELECT substr(id, 1, 8) || lower(hex(randomblob(12))), randomblob(32), id, handle, randomblob(77), 0, 29, zeroblob(16),
'["internal","hybrid"]', 'none', 'none', 'Passkey', created_at, ?2 FROM users`,
	// The newest accounts were seen last: all within six hours, so that no session ends.
	`INSERT INTO sessions (id, user_id, credential, created_at, seen_at, expires_at, auth_time, user_verified,
network, browser, system)
SELECT substr(ref, 1, 8) || lower(hex(randomblob(9))), user_id, ref, began, began, began + 86400000, began, 1,
'203.0.113.0/24', 'Chrome', 'Linux'
FROM (SELECT user_id, ref, ?2 - (?2 - created_at) / 1460 AS began FROM credentials)`,
}

// fill puts others into a database that nobody has open.
func fill(ctx context.Context, database string, others int64, now time.Time) (err error) {
	connector, err := libsql.NewConnector("file:" + database +
		"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-65536)")
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, pool.Close()) }()
	for _, text := range fillings {
		if _, err := pool.ExecContext(ctx, text, others, now.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// account compares the pages of a person with many passkeys and sessions among
// few others and among many.
func (b *bench) account() error {
	const few = 10
	many := pick[int64](b, 1_000_000, 20_000)
	small, err := b.populate(filepath.Join(b.dir, "account"), few)
	if err != nil {
		return err
	}
	defer small.kill()
	began := time.Now()
	large, err := b.populate(filepath.Join(b.dir, "account-many"), many)
	if err != nil {
		return err
	}
	defer large.kill()
	took := time.Since(began)
	info, err := os.Stat(filepath.Join(b.dir, "account-many", "bio.db"))
	if err != nil {
		return err
	}

	var parts []func() error
	for _, p := range []*populated{small, large} {
		parts = append(parts,
			func() error { return p.account.asked(p, 20, "/account", `/remove"`, theirPasskeys) },
			func() error { return p.home.asked(p, 20, "/", "data-account=", 1) })
	}
	if err := b.rounds(pick(b, 75, 5), parts...); err != nil {
		return err
	}
	show := func(few, many arrival) (string, float64) {
		first := median(ratios(many.first.medians, few.first.medians))
		return fmt.Sprintf("%.2f (%s against %s), the last byte %.2f (%s)", first,
			micro(many.first.median()), micro(few.first.median()),
			median(ratios(many.last.medians, few.last.medians)), micro(many.last.median())), first
	}
	text, times := show(small.account, large.account)
	b.add(fmt.Sprintf("first byte of /account, %d passkeys and %d sessions: with %s other accounts against %d",
		theirPasskeys, theirSessions, thousands(many), few), text, "<= 1.30", times <= 1.30)
	text, _ = show(small.home, large.home)
	b.note("  of / signed in", "%s", text)
	b.note("  the database of the many", "%d bytes an account, made in %.0f s", info.Size()/many, took.Seconds())
	return nil
}
