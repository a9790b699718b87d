package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	sqlite3 "modernc.org/sqlite/lib"
)

// What a reader of entries does not see: rows that belong to none, and damage of
// the file that hides rows from an index.
const (
	sqlNegative      = "SELECT idx FROM trail_leaves WHERE idx < 0 LIMIT 20"
	sqlStrayPayloads = "SELECT idx FROM trail_payloads WHERE idx NOT IN (SELECT idx FROM trail_leaves) LIMIT 20"
	sqlStrayKeys     = "SELECT user_id FROM trail_keys WHERE user_id NOT IN (SELECT id FROM users) LIMIT 20"
	sqlKeyless       = "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM trail_keys) LIMIT 20"
	sqlMisplaced     = "SELECT size FROM trail_checkpoints WHERE coalesce(instr(note, char(10) || size || char(10)), 0) = 0 LIMIT 20"
	sqlUnlinked      = `SELECT size FROM trail_checkpoints AS c
WHERE previous IS NOT (SELECT coalesce(max(size), 0) FROM trail_checkpoints WHERE size < c.size) LIMIT 20`
	sqlIntegrity = "PRAGMA integrity_check(20)"
)

// CheckFile looks for what the entries do not show: rows of the trail that belong
// to none, checkpoints that were moved or removed, guards that were taken off the
// tables, and damage of the database. It returns a sentence for each finding.
func (db *DB) CheckFile(ctx context.Context) (findings []string, err error) {
	damaged := func(err error) bool {
		code, _ := resultCode(err)
		if code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB {
			findings = append(findings, fmt.Sprintf("the database is damaged: %v", err))
			return true
		}
		return false
	}
	for _, q := range []struct{ query, says string }{
		{sqlNegative, "an entry stands before the first: %s"},
		{sqlStrayPayloads, "a payload stands where no entry is: %s"},
		{sqlStrayKeys, "a key is left of an account that is gone: %s"},
		{sqlKeyless, "an account has no key: %s"},
		{sqlMisplaced, "a checkpoint is kept under a size that is not its own: %s"},
		{sqlUnlinked, "the checkpoint before that of %s entries is gone, or another"},
		{sqlIntegrity, "the database is damaged: %s"},
	} {
		err := db.rows(ctx, q.query, nil, func(scan func(...any) error) error {
			var what string
			if err := scan(&what); err != nil {
				return err
			}
			if what != "ok" {
				findings = append(findings, fmt.Sprintf(q.says, what))
			}
			return nil
		})
		if err != nil && !damaged(err) {
			return nil, err
		}
	}
	changed, err := db.checkSchema(ctx)
	if err != nil && !damaged(err) {
		return nil, err
	}
	return append(findings, changed...), nil
}

// Of what has a name of the engine's, only tables are its own: a trigger with one
// was smuggled in.
const sqlSchema = `SELECT type || ' ' || name, sql FROM sqlite_schema
WHERE sql IS NOT NULL AND NOT (type = 'table' AND name GLOB 'sqlite_*')`

// checkSchema compares the tables, indexes and triggers with those of a new
// database. All of them: a trigger on any table can act for itself.
func (db *DB) checkSchema(ctx context.Context) (findings []string, err error) {
	want, err := newSchema()
	if err != nil {
		return nil, err
	}
	got, err := readSchema(ctx, db.reads)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(got)
	maps.Copy(all, want)
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if got[name] != want[name] {
			changed = append(changed, name)
		}
	}
	if changed == nil {
		return nil, nil
	}
	return []string{"the schema was changed: these are not as this version makes them: " + strings.Join(changed, ", ")}, nil
}

// newSchema is the schema that the migrations make, in memory.
var newSchema = sync.OnceValues(func() (map[string]string, error) {
	ctx := context.Background()
	pool, err := openPool(":memory:", "")
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	defer conn.Close()
	if err := migrate(ctx, conn, migrations); err != nil {
		return nil, classify(err)
	}
	return readSchema(ctx, conn)
})

func readSchema(ctx context.Context, from interface {
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}) (map[string]string, error) {
	stmt, err := from.PrepareContext(ctx, sqlSchema)
	if err != nil {
		return nil, classify(err)
	}
	defer stmt.Close()
	objects := map[string]string{}
	err = eachRow(ctx, stmt, nil, func(scan func(...any) error) error {
		var name, text string
		err := scan(&name, &text)
		objects[name] = text
		return err
	})
	return objects, err
}
