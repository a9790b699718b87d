package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"

	"bio/app/audit"
)

// The number is taken inside the statement, and the table's trigger accepts no
// other: records are numbered without gaps and none can be written over.
const sqlAppend = `INSERT INTO trail (seq, at, kind, actor, credential, session, reason, network, browser, system, detail)
VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM trail), ?, ?, nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''),
nullif(?, ''), nullif(?, ''), nullif(?, ''), ?)`

// appendTrail appends the entries, in their order, at the transaction's time.
// Those without an actor get the one given.
func appendTrail(t *tx, actor string, entries ...audit.Entry) error {
	for _, e := range entries {
		if e.Actor == "" {
			e.Actor = actor
		}
		if _, err := t.exec(sqlAppend, stamp(t.now), string(e.Kind), e.Actor,
			hashID("bio trail credential\x00", string(e.Credential)), hashID("bio trail session\x00", e.Session),
			e.Reason, e.Client.Network, e.Client.Browser, e.Client.System, facts(e.Detail)); err != nil {
			return err
		}
	}
	return nil
}

// hashID is what the trail keeps of an id: 32 hex digits that join records of
// one credential or session without giving its id; nothing of nothing.
func hashID(domain, id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(domain + id))
	return hex.EncodeToString(sum[:16])
}

// Record appends entries of which nothing else changed: a refusal.
func (db *DB) Record(ctx context.Context, entries ...audit.Entry) error {
	return db.write(ctx, func(t *tx) error { return appendTrail(t, "", entries...) })
}

const sqlTrail = `SELECT seq, at, kind, actor, coalesce(credential, ''), coalesce(session, ''), coalesce(reason, ''),
coalesce(network, ''), coalesce(browser, ''), coalesce(system, ''), detail
FROM trail WHERE actor = ? AND seq < ? ORDER BY seq DESC LIMIT ?`

// Trail returns at most limit records whose actor is the user, newest first:
// those before the number given, or the newest when it is 0.
func (db *DB) Trail(ctx context.Context, userID string, before int64, limit int) ([]audit.Record, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	var records []audit.Record
	err := eachRow(ctx, db.stmts[sqlTrail], []any{userID, before, max(limit, 0)}, func(scan func(...any) error) error {
		var r audit.Record
		if err := scan(&r.Seq, (*stamp)(&r.At), &r.Kind, &r.Actor, &r.Credential, &r.Session, &r.Reason,
			&r.Client.Network, &r.Client.Browser, &r.Client.System, (*facts)(&r.Detail)); err != nil {
			return err
		}
		records = append(records, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}
