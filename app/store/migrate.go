package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations are the scripts in their order. The number of those applied is the
// schema's version, kept in PRAGMA user_version.
var migrations = mustReadMigrations()

type migration struct{ name, script string }

func mustReadMigrations() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql") // sorted
	if err != nil {
		panic(err) // the pattern is a constant
	}
	list := make([]migration, 0, len(names))
	for _, name := range names {
		script, err := migrationFiles.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		list = append(list, migration{path.Base(name), string(script)})
	}
	return list
}

const (
	sqlVersion = "PRAGMA user_version"
	// The first script once made this table.
	sqlOldTrail = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'trail')"
)

// migrate brings the schema to the version of list, forward only, each script
// in a transaction of its own. Any number of programs may do so at once: the
// version is read again once the lock is held.
func migrate(ctx context.Context, conn *sql.Conn, list []migration) error {
	for {
		version, err := schemaVersion(ctx, conn)
		if err != nil {
			return err
		}
		if version > len(list) {
			return fmt.Errorf("it was written by a newer version of Bio (schema %d, this version knows %d): start that version, or restore a backup", version, len(list))
		}
		if version == len(list) {
			return nil
		}
		if err := migrateOne(ctx, conn, list); err != nil {
			return err
		}
	}
}

// migrateOne applies the next script, if there is still one when it has the lock.
func migrateOne(ctx context.Context, conn *sql.Conn, list []migration) (err error) {
	if _, err := conn.ExecContext(ctx, sqlBegin); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// A connection that keeps its transaction is closed by the caller.
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), sqlRollback)
		}
	}()
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	if version < len(list) {
		if err := apply(ctx, conn, list[version], version); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, sqlCommit)
	return err
}

func apply(ctx context.Context, conn *sql.Conn, m migration, version int) error {
	if version == 0 {
		var objects int
		if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&objects); err != nil {
			return err
		}
		if objects > 0 {
			return fmt.Errorf("it is a database of another program: choose another file")
		}
	}
	if version == 1 {
		// Whatever makes a trail now takes the version past 1 with it.
		var old bool
		if err := conn.QueryRowContext(ctx, sqlOldTrail).Scan(&old); err != nil {
			return err
		}
		if old {
			return errors.New("it was made by a version of Bio before its trail was a Merkle log, and cannot be carried over: set BIO_DATA to a new directory, or move this file away")
		}
	}
	// One by one: a remote database takes no script.
	for _, statement := range statements(m.script) {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	// A pragma takes no parameter.
	_, err := conn.ExecContext(ctx, fmt.Sprintf("%s = %d", sqlVersion, version+1))
	return err
}

// statements are a script's: a blank line stands between two of them, and nowhere
// else. A parser would cost a fresh start more than everything else together.
func statements(script string) []string {
	return strings.Split(strings.TrimSpace(script), "\n\n")
}

func schemaVersion(ctx context.Context, conn *sql.Conn) (version int, err error) {
	err = conn.QueryRowContext(ctx, sqlVersion).Scan(&version)
	return version, err
}
