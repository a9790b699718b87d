package agenttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"bio/agent"
	"bio/agent/agenttest"
)

func TestMemory(t *testing.T) {
	ctx, m := t.Context(), agenttest.NewMemory()
	put := func(key string, value []byte) {
		t.Helper()
		if err := m.Put(ctx, key, value); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	get := func(key, want string) {
		t.Helper()
		if got, err := m.Get(ctx, key); string(got) != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", key, got, err, want)
		}
	}
	long := strings.Repeat("k", 128)
	for key, value := range map[string]string{"a": "1", "b/1": "", "b/\x00": "nul", "b/é": "\xff\x00", "b0": "x", "c": "x", long: "long"} {
		put(key, []byte(value))
		get(key, value)
	}
	put("a", nil)
	get("a", "")

	// What is kept is the agent's no more, and what it gets is not what is kept.
	value := []byte("before")
	put("a", value)
	copy(value, "after ")
	got, err := m.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "after ")
	get("a", "before")

	for prefix, want := range map[string][]string{
		"":       {"a", "b/\x00", "b/1", "b/é", "b0", "c", long},
		"b/":     {"b/\x00", "b/1", "b/é"},
		"b/\xc3": {"b/é"}, // half a letter
		"b\xff":  nil,
		"d":      nil,
	} {
		if got, err := m.List(ctx, prefix); !slices.Equal(got, want) || err != nil {
			t.Errorf("%q: got %q, %v, want %q", prefix, got, err, want)
		}
	}
	for range 2 {
		if err := m.Delete(ctx, "a"); err != nil {
			t.Error(err)
		}
	}
	for _, key := range []string{"a", "", "\xff", long + "k"} {
		if got, err := m.Get(ctx, key); err != agent.ErrNoMemory {
			t.Errorf("%q: got %q, %v", key, got, err)
		}
	}

	stopped, stop := context.WithCancel(ctx)
	stop()
	_, getErr := m.Get(stopped, "c")
	_, listErr := m.List(stopped, "")
	for _, err := range []error{getErr, listErr, m.Put(stopped, "c", nil), m.Delete(stopped, "c")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
	}
	get("c", "x")
}

// The limits are the server's.
func TestMemoryIsFull(t *testing.T) {
	ctx, m := t.Context(), agenttest.NewMemory()
	for i := range 15 {
		if err := m.Put(ctx, fmt.Sprintf("%08d", i), make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	left := 1<<20 - 15*(64<<10+8) // with the key
	for name, test := range map[string]struct {
		key   string
		value int
	}{
		"key":   {strings.Repeat("k", 129), 0},
		"value": {"00000000", 64<<10 + 1},
		"whole": {"k", left},
	} {
		if err := m.Put(ctx, test.key, make([]byte, test.value)); err != agent.ErrMemoryFull {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, key := range []string{"", "\xff"} {
		if err := m.Put(ctx, key, nil); err == nil || errors.Is(err, agent.ErrMemoryFull) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if err := errors.Join(
		m.Put(ctx, "00000000", make([]byte, 64<<10)), // in its own place
		m.Put(ctx, "k", make([]byte, left-1)),
		m.Put(ctx, "k", make([]byte, left-1)),
	); err != nil {
		t.Error(err)
	}
	if err := m.Put(ctx, "l", nil); err != agent.ErrMemoryFull {
		t.Errorf("one more: %v", err)
	}
	if err := errors.Join(m.Delete(ctx, "00000007"), m.Put(ctx, "l", nil)); err != nil {
		t.Error(err)
	}
}

func TestMemoryAtOnce(t *testing.T) {
	m := agenttest.NewMemory()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			key := fmt.Sprint(i)
			if err := m.Put(t.Context(), key, []byte(key)); err != nil {
				t.Error(err)
			}
			if got, err := m.Get(t.Context(), key); string(got) != key || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if keys, err := m.List(t.Context(), ""); len(keys) != 8 || err != nil {
		t.Errorf("got %q, %v", keys, err)
	}
}
