package agenttest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"bio/agent"
)

// The sizes that agent.Memory promises, in bytes.
const (
	memoryKey   = 128
	memoryValue = 64 << 10
	memoryAll   = 1 << 20 // keys and values
)

var errMemoryKey = errors.New("agenttest: a key of an agent's memory is UTF-8, and not empty")

// NewMemory returns a memory that is empty, with the limits of the server's. Give
// it to several runs as [agent.Input].Memory, for what one of them keeps to be
// there for the next.
func NewMemory() agent.Memory { return &memory{values: make(map[string][]byte)} }

type memory struct {
	mu     sync.Mutex
	values map[string][]byte // guarded by mu
}

func (m *memory) Get(ctx context.Context, key string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return nil, agent.ErrNoMemory
	}
	return bytes.Clone(value), nil
}

func (m *memory) Put(ctx context.Context, key string, value []byte) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case key == "" || !utf8.ValidString(key):
		return errMemoryKey
	case len(key) > memoryKey || len(value) > memoryValue:
		return agent.ErrMemoryFull
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := len(key) + len(value)
	for other, kept := range m.values {
		if other != key {
			all += len(other) + len(kept)
		}
	}
	if all > memoryAll {
		return agent.ErrMemoryFull
	}
	m.values[key] = append([]byte{}, value...)
	return nil
}

func (m *memory) Delete(ctx context.Context, key string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

func (m *memory) List(ctx context.Context, prefix string) ([]string, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := slices.Collect(maps.Keys(m.values))
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
	slices.Sort(keys)
	return keys, nil
}
