package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
)

func TestMemory(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user, other := register(t, db, c, "1"), register(t, db, c, "2")
	m := db.Memory(user.User.ID, "brief")
	get := func(m agent.Memory, key string) string {
		t.Helper()
		return string(must[[]byte](t)(m.Get(ctx, key)))
	}
	long := strings.Repeat("k", 128)
	for key, value := range map[string]string{"a": "1", "b/1": "", "b/\x00": "nul", "b/é": "\xff\x00", "b0": "x", "c": "x", long: "long", "\U0010FFFF": "last"} {
		if err := m.Put(ctx, key, []byte(value)); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		equal(t, get(m, key), value)
	}
	if err := m.Put(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	equal(t, get(m, "a"), "")
	for prefix, want := range map[string][]string{
		"":           {"a", "b/\x00", "b/1", "b/é", "b0", "c", long, "\U0010FFFF"},
		"b/":         {"b/\x00", "b/1", "b/é"},
		"b":          {"b/\x00", "b/1", "b/é", "b0"},
		"k":          {long},
		"\U0010FFFF": {"\U0010FFFF"},
		"b/\xc3":     {"b/é"}, // half a letter
		"b\xff":      nil,
		"\xff":       nil,
		"d":          nil,
	} {
		if got := must[[]string](t)(m.List(ctx, prefix)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}

	// No other agent and no other person sees it.
	for _, stranger := range []agent.Memory{db.Memory(user.User.ID, "chat"), db.Memory(other.User.ID, "brief")} {
		_, err := stranger.Get(ctx, "a")
		wantErr(t, err, agent.ErrNoMemory)
		equal(t, must[[]string](t)(stranger.List(ctx, "")), []string(nil))
		if err := errors.Join(stranger.Put(ctx, "a", []byte("theirs")), stranger.Delete(ctx, "c")); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, []string{get(m, "a"), get(m, "c")}, []string{"", "x"})

	for range 2 {
		if err := m.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a", "", "\xff", long + "k"} {
		_, err := m.Get(ctx, key)
		wantErr(t, err, agent.ErrNoMemory)
	}
	checkInvariants(t, db)
}

func TestMemoryIsFull(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	m := db.Memory(register(t, db, c, "1").User.ID, "brief")
	most := bytes.Repeat([]byte("v"), 64<<10)
	for i := range 15 {
		if err := m.Put(ctx, fmt.Sprintf("%08d", i), most); err != nil {
			t.Fatal(err)
		}
	}
	// 15 of 64 KiB and 8: 65416 are left, with the key.
	left := 1<<20 - 15*(64<<10+8)
	kept := func() int { return db.count(t, "SELECT sum(octet_length(key) + octet_length(value)) FROM memory") }
	before := kept()
	for name, test := range map[string]struct {
		key   string
		value int
		want  error
	}{
		"key":        {strings.Repeat("k", 129), 0, agent.ErrMemoryFull},
		"value":      {"00000000", 64<<10 + 1, agent.ErrMemoryFull},
		"whole":      {"k", left, agent.ErrMemoryFull},
		"no key":     {"", 1, errMemoryKey},
		"not UTF-8":  {"\xff", 1, errMemoryKey},
		"much worse": {strings.Repeat("k", 1<<20), 1 << 20, agent.ErrMemoryFull},
	} {
		if err := m.Put(ctx, test.key, make([]byte, test.value)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	equal(t, kept(), before)
	if err := errors.Join(
		m.Put(ctx, "00000000", most), // in its own place
		m.Put(ctx, "k", most[:left-1]),
		m.Put(ctx, "k", most[1:left]),
	); err != nil {
		t.Fatal(err)
	}
	wantErr(t, m.Put(ctx, "l", nil), agent.ErrMemoryFull)
	if err := errors.Join(m.Delete(ctx, "00000007"), m.Put(ctx, "l", most)); err != nil {
		t.Fatal(err)
	}
}

// The whole is not exceeded by many at once.
func TestMemoryIsFullAtOnce(t *testing.T) {
	db, c := openTest(t)
	user := register(t, db, c, "1").User.ID
	var wg sync.WaitGroup
	var mu sync.Mutex
	full := 0
	for i := range 32 {
		wg.Go(func() {
			err := db.Memory(user, "brief").Put(t.Context(), fmt.Sprintf("%04d", i), make([]byte, 64<<10-4))
			if err != nil && !errors.Is(err, agent.ErrMemoryFull) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				full++
			}
		})
	}
	wg.Wait()
	equal(t, full, 16)
	equal(t, db.count(t, "SELECT sum(length(key) + length(value)) FROM memory"), 1<<20)
}

func TestMemoryOfNobody(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1")
	m := db.Memory(user.User.ID, "brief")
	if err := m.Put(ctx, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	erased(t, db, "cedar-1", audit.Entry{Kind: audit.Erased})
	_, err := m.Get(ctx, "a")
	wantErr(t, err, agent.ErrNoMemory)
	wantErr(t, m.Put(ctx, "a", []byte("1")), account.ErrNotFound)
	if err := m.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	equal(t, db.count(t, "SELECT count(*) FROM memory"), 0)
	checkInvariants(t, db)
}
