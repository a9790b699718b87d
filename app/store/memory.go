package store

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"bio/agent"
	"bio/app/account"
)

// The sizes that agent.Memory promises, in bytes.
const (
	memoryKey   = 128
	memoryValue = 64 << 10
	memoryAll   = 1 << 20 // keys and values
)

// errMemoryKey is a mistake of the agent.
var errMemoryKey = errors.New("store: a key of an agent's memory is UTF-8, and not empty")

// Memory is what the agent of that name keeps about the user. Put fails with
// account.ErrNotFound when there is no such user any more.
func (db *DB) Memory(userID, agentName string) agent.Memory { return memory{db, userID, agentName} }

type memory struct {
	db          *DB
	user, agent string
}

const sqlRemembered = "SELECT value FROM memory WHERE user_id = ? AND agent = ? AND key = ?"

func (m memory) Get(ctx context.Context, key string) (value []byte, err error) {
	found, err := m.db.row(ctx, sqlRemembered, []any{m.user, m.agent, key}, &value)
	if err == nil && !found {
		err = agent.ErrNoMemory
	}
	if err != nil {
		return nil, err
	}
	return value, nil
}

const (
	sqlMemorySize = `SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM memory
WHERE user_id = ? AND agent = ? AND key <> ?`
	sqlRemember = `INSERT INTO memory (user_id, agent, key, value) SELECT id, ?2, ?3, ?4 FROM users WHERE id = ?1
ON CONFLICT (user_id, agent, key) DO UPDATE SET value = excluded.value`
)

func (m memory) Put(ctx context.Context, key string, value []byte) error {
	switch {
	case key == "" || !utf8.ValidString(key):
		return errMemoryKey
	case len(key) > memoryKey || len(value) > memoryValue:
		return agent.ErrMemoryFull
	}
	return m.db.write(ctx, func(t *tx) error {
		var others int
		if _, err := t.row(sqlMemorySize, []any{m.user, m.agent, key}, &others); err != nil {
			return err
		}
		if others+len(key)+len(value) > memoryAll {
			return agent.ErrMemoryFull
		}
		n, err := t.exec(sqlRemember, m.user, m.agent, key, blob(value))
		if err == nil && n == 0 {
			err = account.ErrNotFound
		}
		return err
	})
}

const sqlForgetKey = "DELETE FROM memory WHERE user_id = ? AND agent = ? AND key = ?"

func (m memory) Delete(ctx context.Context, key string) error {
	return m.db.write(ctx, func(t *tx) error {
		_, err := t.exec(sqlForgetKey, m.user, m.agent, key)
		return err
	})
}

const sqlMemoryKeys = "SELECT key FROM memory WHERE user_id = ? AND agent = ? AND key >= ? AND key < ? ORDER BY key"

func (m memory) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = m.db.rows(ctx, sqlMemoryKeys, []any{m.user, m.agent, prefix, after(prefix)}, func(scan func(...any) error) error {
		var key string
		err := scan(&key)
		keys = append(keys, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// after is what follows every text that begins with prefix, and nothing before.
func after(prefix string) string {
	for strings.HasSuffix(prefix, "\xff") { // which is in no key
		prefix = prefix[:len(prefix)-1]
	}
	if prefix == "" {
		return "\xff"
	}
	last := len(prefix) - 1
	return prefix[:last] + string([]byte{prefix[last] + 1})
}

const sqlDeleteUserMemory = "DELETE FROM memory WHERE user_id = ?"
