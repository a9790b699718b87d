package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
)

const (
	sqlTrailSize = "SELECT coalesce(max(idx) + 1, 0) FROM trail_leaves"
	sqlTrailHead = "SELECT coalesce(max(idx) + 1, 0), (SELECT key FROM trail_keys WHERE user_id = ?) FROM trail_leaves"
	sqlTrailKey  = "SELECT key FROM trail_keys WHERE user_id = ?"
	sqlLeafHash  = "SELECT substr(hashes, 1 + 32 * ?2, 32) FROM trail_leaves WHERE idx = ?1"

	sqlInsertLeaf = `INSERT INTO trail_leaves (idx, at, kind, actor, credential, subject, commitment, hashes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	sqlInsertPayload = "INSERT INTO trail_payloads (idx, salt, payload) VALUES (?, ?, ?)"
	sqlInsertKey     = "INSERT INTO trail_keys (user_id, key) VALUES (?, ?)"
)

// appendTrail appends the entries, in their order, at the transaction's time.
// Those without an actor get the one given.
func appendTrail(t *tx, actor string, entries ...audit.Entry) error {
	_, err := extendTrail(t, actor, entries)
	return err
}

// extendTrail is appendTrail and returns the size of the log with the entries.
func extendTrail(t *tx, actor string, entries []audit.Entry) (size int64, err error) {
	first := actor
	if len(entries) > 0 {
		first = cmp.Or(entries[0].Actor, actor)
	}
	var firstKey audit.Key
	if _, err := t.row(sqlTrailHead, []any{first}, &size, (*[]byte)(&firstKey)); err != nil {
		return 0, err
	}
	keys := map[string]audit.Key{"": nil, first: firstKey}
	key := func(userID string) (audit.Key, error) {
		if key, known := keys[userID]; known {
			return key, nil
		}
		var key audit.Key
		_, err := t.row(sqlTrailKey, []any{userID}, (*[]byte)(&key))
		keys[userID] = key
		return key, err
	}
	for _, e := range entries {
		e.Actor = cmp.Or(e.Actor, actor)
		actorKey, err := key(e.Actor)
		if err != nil {
			return 0, err
		}
		subjectKey, err := key(e.Subject)
		if err != nil {
			return 0, err
		}
		if e.Actor != "" && actorKey == nil {
			// Of someone erased meanwhile: what is kept now no erasure would find.
			e = audit.Entry{Kind: e.Kind, Subject: e.Subject, Reason: e.Reason, Count: e.Count}
		}
		if err := appendEntry(t, size, audit.Seal(e, t.now, actorKey, subjectKey)); err != nil {
			return 0, err
		}
		size++
	}
	return size, nil
}

func appendEntry(t *tx, index int64, s audit.Sealed) error {
	hashes, err := tlog.StoredHashesForRecordHash(index, s.Leaf.Hash(), tlog.HashReaderFunc(t.readHashes))
	if err != nil {
		return err
	}
	kept := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		kept = append(kept, h[:]...)
	}
	l := s.Leaf
	if err := t.insert(sqlInsertLeaf, index, stamp(l.Time), string(l.Kind), nullable(l.Actor), nullable(l.Credential),
		nullable(l.Subject), l.Commitment[:], kept); err != nil {
		return err
	}
	return t.insert(sqlInsertPayload, index, s.Salt, string(s.Payload))
}

// insert inserts one row. A trigger that drops it without an error must not let
// the act pass without its entry.
func (t *tx) insert(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n != 1 {
		err = errors.New("store: the trail did not take an entry: run bio audit verify")
	}
	return err
}

// nullable keeps a nil slice from becoming an empty blob.
func nullable(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// readHashes reads stored hashes of tlog's numbering inside the transaction: of
// an entry's neighbours to its left, one on the average.
func (t *tx) readHashes(stored []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(stored))
	for i, n := range stored {
		index, level := audit.Place(n)
		var kept []byte
		found, err := t.row(sqlLeafHash, []any{index, level}, &kept)
		if err != nil {
			return nil, err
		}
		if !found || copy(hashes[i][:], kept) != tlog.HashSize {
			return nil, fmt.Errorf("store: the trail has no hash of level %d at entry %d: run bio audit verify", level, index)
		}
	}
	return hashes, nil
}

// Record appends entries of which nothing else changed, such as a refusal, and
// returns the size of the log with them.
func (db *DB) Record(ctx context.Context, entries ...audit.Entry) (size int64, err error) {
	err = db.write(ctx, func(t *tx) (err error) {
		size, err = extendTrail(t, "", entries)
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

const sqlTrail = `SELECT trail_leaves.idx, at, kind, payload FROM trail_payloads
JOIN trail_leaves ON trail_leaves.idx = trail_payloads.idx
WHERE trail_payloads.actor = ? AND trail_payloads.idx < ? AND kind NOT IN (SELECT value FROM json_each(?)) ORDER BY trail_payloads.idx DESC LIMIT ?`

// Trail returns at most limit records whose actor is the user, newest first:
// those before the index given, or the newest when it is 0 (nothing is before
// entry 0: do not ask). Those of the kinds given last are left out.
func (db *DB) Trail(ctx context.Context, userID string, before int64, limit int, without ...audit.Kind) ([]audit.Record, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	var records []audit.Record
	err := db.rows(ctx, sqlTrail, []any{userID, before, kinds(without), max(limit, 0)}, func(scan func(...any) error) error {
		var index int64
		var at stamp
		var kind audit.Kind
		var payload []byte
		if err := scan(&index, &at, &kind, &payload); err != nil {
			return err
		}
		r, err := audit.Open(index, kind, time.Time(at), payload)
		records = append(records, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// kinds is a list of kinds as a query takes it: a JSON array.
func kinds(list []audit.Kind) string {
	text, err := json.Marshal(list)
	if err != nil || list == nil {
		return "[]"
	}
	return string(text)
}

// TrailSize returns how many entries the log has.
func (db *DB) TrailSize(ctx context.Context) (size int64, err error) {
	_, err = db.row(ctx, sqlTrailSize, nil, &size)
	return size, err
}

// A hash is asked for as 64 times its entry's index, plus its level.
const sqlHashes = `SELECT wanted.key, substr(trail_leaves.hashes, 1 + 32 * (wanted.value & 63), 32)
FROM json_each(?) AS wanted CROSS JOIN trail_leaves ON trail_leaves.idx = wanted.value >> 6`

// Tree reads the tree's stored hashes, for proofs and tiles (sumdb/tlog).
func (db *DB) Tree(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(stored []int64) ([]tlog.Hash, error) {
		wanted := make([]int64, len(stored))
		for i, n := range stored {
			index, level := audit.Place(n)
			wanted[i] = index<<6 | int64(level)
		}
		text, err := json.Marshal(wanted)
		if err != nil {
			return nil, err
		}
		hashes, found := make([]tlog.Hash, len(stored)), 0
		err = db.rows(ctx, sqlHashes, []any{string(text)}, func(scan func(...any) error) error {
			var i int
			var kept []byte
			if err := scan(&i, &kept); err != nil {
				return err
			}
			if copy(hashes[i][:], kept) == tlog.HashSize {
				found++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if found != len(stored) {
			return nil, fmt.Errorf("store: the trail lacks %d of %d hashes: run bio audit verify", len(stored)-found, len(stored))
		}
		return hashes, nil
	})
}

const sqlEntries = `SELECT trail_leaves.idx, at, kind, trail_leaves.actor, credential, subject, commitment, hashes, salt, payload, key
FROM trail_leaves LEFT JOIN trail_payloads ON trail_payloads.idx = trail_leaves.idx
LEFT JOIN trail_keys ON trail_keys.user_id = trail_payloads.actor
WHERE trail_leaves.idx >= ? ORDER BY trail_leaves.idx LIMIT ?`

// Entries returns at most limit entries of the log from the index on, in order,
// as they are kept, for a Checker or an Exporter. A value that the store cannot
// have written is left out, so that its entry is what the Checker names.
func (db *DB) Entries(ctx context.Context, from int64, limit int) ([]audit.Stored, error) {
	var entries []audit.Stored
	err := db.rows(ctx, sqlEntries, []any{from, max(limit, 0)}, func(scan func(...any) error) error {
		var s audit.Stored
		var at, kind, actor, credential, subject, commitment, hashes, salt, payload, key any
		if err := scan(&s.Index, &at, &kind, &actor, &credential, &subject, &commitment, &hashes, &salt, &payload, &key); err != nil {
			return err
		}
		s.Leaf = audit.Leaf{Kind: audit.Kind(content(kind)), Actor: content(actor), Credential: content(credential), Subject: content(subject)}
		if ms, ok := at.(int64); ok {
			s.Leaf.Time = time.UnixMilli(ms).UTC()
		}
		if c := content(commitment); len(c) == len(s.Leaf.Commitment) {
			s.Leaf.Commitment = [32]byte(c)
		}
		if h := content(hashes); len(h)%tlog.HashSize == 0 {
			for ; len(h) > 0; h = h[tlog.HashSize:] {
				s.Hashes = append(s.Hashes, tlog.Hash(h[:tlog.HashSize]))
			}
		}
		s.Salt, s.Payload, s.Actor = content(salt), content(payload), content(key)
		entries = append(entries, s)
		return nil
	})
	return entries, err
}

// content is a text or a blob, and nil of all else.
func content(column any) []byte {
	switch v := column.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

const (
	// It has the condition of the partial index, without which that is not used.
	sqlMilestones = `SELECT count(*), coalesce(max(idx), -1) FROM trail_leaves
WHERE kind = ? AND idx < ? AND kind IN ('trail.exported', 'trail.reopened')`
	sqlFirstSince = "SELECT min(idx) FROM trail_leaves WHERE at >= ? AND idx < ?"
	sqlLastUntil  = "SELECT max(idx) FROM trail_leaves WHERE at < ? AND idx < ?"
)

// Milestones returns how many entries of a kind there are below an index, and the
// index of the last, -1 when there is none. The kind is audit.TrailExported or
// audit.TrailReopened: these are found without reading the log.
func (db *DB) Milestones(ctx context.Context, kind audit.Kind, below int64) (n int, last int64, err error) {
	if kind != audit.TrailExported && kind != audit.TrailReopened {
		return 0, -1, fmt.Errorf("store: %s is not a milestone of the trail", kind)
	}
	_, err = db.row(ctx, sqlMilestones, []any{string(kind), below}, &n, &last)
	return n, last, err
}

// Period returns the entries of a period below an index: those from the first at
// or after since up to, but not with, end, which follows the last before until.
// A zero time does not bound.
func (db *DB) Period(ctx context.Context, since, until time.Time, below int64) (first, end int64, err error) {
	first, end = 0, below
	for _, b := range []struct {
		query string
		at    time.Time
		none  int64
		plus  int64
		to    *int64
	}{{sqlFirstSince, since, below, 0, &first}, {sqlLastUntil, until, 0, 1, &end}} {
		if b.at.IsZero() {
			continue
		}
		var found *int64
		if _, err := db.row(ctx, b.query, []any{stamp(b.at), below}, &found); err != nil {
			return 0, 0, err
		}
		*b.to = b.none
		if found != nil {
			*b.to = *found + b.plus
		}
	}
	return min(first, end), end, nil
}

const (
	sqlNewestSize       = "SELECT coalesce(max(size), 0) FROM trail_checkpoints"
	sqlInsertCheckpoint = "INSERT INTO trail_checkpoints (size, previous, note) VALUES (?, ?, ?)"
)

// KeepCheckpoint keeps a signed checkpoint of the log, unless one of that size or
// larger is kept. It is an error when the log is smaller. It is itself the record
// of nothing else, and leaves no entry.
func (db *DB) KeepCheckpoint(ctx context.Context, size int64, note []byte) error {
	return db.write(ctx, func(t *tx) error {
		var newest int64
		if _, err := t.row(sqlNewestSize, nil, &newest); err != nil || size <= newest {
			return err
		}
		_, err := t.exec(sqlInsertCheckpoint, size, newest, string(note))
		return err
	})
}

const sqlCheckpoints = "SELECT size, note FROM trail_checkpoints ORDER BY size"

// Checkpoints returns all that are kept, oldest first.
func (db *DB) Checkpoints(ctx context.Context) (notes [][]byte, err error) {
	err = db.rows(ctx, sqlCheckpoints, nil, func(scan func(...any) error) error {
		var size int64
		var note []byte
		err := scan(&size, &note)
		notes = append(notes, note)
		return err
	})
	return notes, err
}

const sqlNewestCheckpoint = "SELECT note FROM trail_checkpoints ORDER BY size DESC LIMIT 1"

// NewestCheckpoint returns the last of Checkpoints, nil when there is none.
func (db *DB) NewestCheckpoint(ctx context.Context) (note []byte, err error) {
	_, err = db.row(ctx, sqlNewestCheckpoint, nil, &note)
	return note, err
}

const sqlKeys = "SELECT user_id, key FROM trail_keys"

// Keys calls each on every account that has not been erased, and its key.
func (db *DB) Keys(ctx context.Context, each func(userID string, key audit.Key)) error {
	return db.rows(ctx, sqlKeys, nil, func(scan func(...any) error) error {
		var id string
		var key []byte
		if err := scan(&id, &key); err != nil {
			return err
		}
		each(id, key)
		return nil
	})
}

// newKey makes the key under which the trail names a new user.
func newKey(t *tx, userID string) error {
	return t.insert(sqlInsertKey, userID, []byte(audit.NewKey()))
}

// Of a removed user: the key first, which guards the payloads.
const (
	sqlDropKey      = "DELETE FROM trail_keys WHERE user_id = ?"
	sqlDropPayloads = "DELETE FROM trail_payloads WHERE actor = ?"
)
