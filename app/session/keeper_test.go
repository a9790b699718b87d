package session_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
	"bio/app/store"
	"bio/app/store/storetest"
	"bio/app/token"
)

const (
	issuer = "https://bio.example.com"
	idle   = 2 * time.Hour
	limit  = 10 * time.Hour
)

var (
	epoch  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seed   = []byte("an Ed25519 seed of 32 bytes: one")
	older  = []byte("an Ed25519 seed of 32 bytes: two")
	client = audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"}
)

// counting is the real store, which counts what it is asked and can be stopped on
// its way back.
type counting struct {
	session.Store
	reads, touches atomic.Int32
	read           func() // called after a read, before it is handed over
}

func (c *counting) Session(ctx context.Context, id string) (session.Session, account.User, error) {
	c.reads.Add(1)
	s, u, err := c.Store.Session(ctx, id)
	if c.read != nil {
		c.read()
	}
	return s, u, err
}

func (c *counting) TouchSession(ctx context.Context, id string, at time.Time) error {
	c.touches.Add(1)
	return c.Store.TouchSession(ctx, id, at)
}

// place is one database with a keeper; more keepers are other instances.
type place struct {
	t     testing.TB
	clock *storetest.Clock
	db    *store.DB
	made  int
}

func newPlace(t testing.TB) *place {
	clock := storetest.NewClock(epoch)
	return &place{t: t, clock: clock, db: storetest.NewAt(t, clock)}
}

func (p *place) keeper(seeds ...[]byte) (*session.Keeper, *counting) {
	if len(seeds) == 0 {
		seeds = [][]byte{seed}
	}
	c := &counting{Store: p.db}
	return session.New(session.Options{
		Store: c, Keys: token.NewKeyring(seeds[0], seeds[1:]...), Issuer: issuer, Idle: idle, Max: limit, Now: p.clock.Now,
	}), c
}

// signIn registers someone and returns their session and its token.
func (p *place) signIn(k *session.Keeper) (session.Session, account.User, string) {
	p.t.Helper()
	p.made++
	handle := make([]byte, 32)
	handle[0], handle[1] = byte(p.made), byte(p.made>>8)
	id := account.UserID(handle)
	credential := account.Credential{
		ID: handle, UserID: id, UserHandle: handle, PublicKey: []byte{1}, AAGUID: make([]byte, 16), Name: "Passkey",
	}
	s := k.Begin(id, credential, true, client)
	u, err := p.db.Register(context.Background(), store.Registration{
		Press:      store.Press{Challenge: handle, Expires: p.clock.Now().Add(time.Minute), Session: s},
		User:       account.User{ID: id, Handle: handle, CreatedAt: s.CreatedAt},
		Names:      account.Names(handle),
		Credential: credential,
	}, audit.Entry{Kind: audit.Registered, Actor: id})
	if err != nil {
		p.t.Fatal(err)
	}
	compact, err := k.Token(s, u, true)
	if err != nil {
		p.t.Fatal(err)
	}
	return s, u, compact
}

func (p *place) check(k *session.Keeper, compact string, want bool) {
	p.t.Helper()
	_, _, err := k.Check(context.Background(), compact)
	switch {
	case want && err != nil:
		p.t.Errorf("signed out: %v", err)
	case !want && !errors.Is(err, session.ErrNone):
		p.t.Errorf("got %v, want signed out", err)
	}
}

func end(t testing.TB, k *session.Keeper, id string) {
	t.Helper()
	if err := k.End(context.Background(), id, audit.Entry{Kind: audit.SignedOut, Session: id}); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	s, u, compact := p.signIn(k)
	other, _ := p.keeper() // reads it from the database
	for name, keeper := range map[string]*session.Keeper{"its own": k, "another": other} {
		gotSession, gotUser, err := keeper.Check(context.Background(), compact)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, gotSession); diff != "" {
			t.Errorf("%s keeper's session (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(u, gotUser); diff != "" {
			t.Errorf("%s keeper's user (-want +got):\n%s", name, diff)
		}
	}
	if raw, err := base64.RawURLEncoding.DecodeString(s.ID); err != nil || len(raw) < 16 {
		t.Errorf("session id %q", s.ID)
	}
	if again := k.Begin(u.ID, account.Credential{}, true, client); again.ID == s.ID {
		t.Error("two sessions have one id")
	}
}

func TestClaims(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	for _, tt := range []struct {
		synced, verified bool
		amr              []string
	}{
		{true, true, []string{"swk", "user", "mfa"}}, {true, false, []string{"swk", "user"}},
		{false, true, []string{"hwk", "user", "mfa"}}, {false, false, []string{"hwk", "user"}},
	} {
		s := k.Begin("someone", account.Credential{}, tt.verified, client)
		compact, err := k.Token(s, account.User{}, tt.synced)
		if err != nil {
			t.Fatal(err)
		}
		var c session.Claims
		parsed, err := jwt.ParseWithClaims(compact, &c, func(*jwt.Token) (any, error) {
			return ed25519.NewKeyFromSeed(seed).Public(), nil
		}, jwt.WithTimeFunc(p.clock.Now))
		if err != nil {
			t.Fatal(err)
		}
		date := jwt.NewNumericDate
		want := session.Claims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer: issuer, Subject: "someone", Audience: jwt.ClaimStrings{"bio"},
				IssuedAt: date(epoch), ExpiresAt: date(epoch.Add(limit)),
			},
			SessionID: s.ID, AuthTime: date(epoch), AMR: tt.amr, ACR: "phr", Verified: tt.verified,
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		if parsed.Header["typ"] != "session+jwt" || parsed.Header["kid"] == nil {
			t.Errorf("header %v", parsed.Header)
		}
	}
}

// The token of a session that goes on under a new id says when it ends and when its
// passkey was used last.
func TestClaimsGoOn(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	first := k.Begin("someone", account.Credential{}, true, client)
	p.clock.Advance(limit - time.Hour)
	next := k.Begin("someone", account.Credential{}, true, client)
	next.CreatedAt, next.ExpiresAt = first.CreatedAt, first.ExpiresAt
	compact, err := k.Token(next, account.User{}, true)
	if err != nil {
		t.Fatal(err)
	}
	var c session.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(compact, &c); err != nil {
		t.Fatal(err)
	}
	if c.SessionID == first.ID || !c.ExpiresAt.Equal(epoch.Add(limit)) || !c.AuthTime.Equal(p.clock.Now()) {
		t.Errorf("claims %+v", c)
	}
}

// A session that was ended is told from one that is over by itself, and from what is
// no session's token.
func TestEnded(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	fresh, _ := p.keeper() // remembers nothing
	s, _, compact := p.signIn(k)
	_, _, idles := p.signIn(k)
	check := func(compact string, ended bool) {
		t.Helper()
		for _, k := range []*session.Keeper{k, fresh} {
			if _, _, err := k.Check(context.Background(), compact); !errors.Is(err, session.ErrNone) || errors.Is(err, session.ErrEnded) != ended {
				t.Errorf("got %v", err)
			}
		}
	}
	end(t, k, s.ID)
	for range 2 {
		check(compact, true)
	}
	check(compact[:len(compact)-1], false)
	check("garbage", false)
	p.clock.Advance(idle + time.Millisecond)
	check(idles, false)
	p.clock.Advance(limit)
	check(compact, false) // at its cap the token says so itself
	check(idles, false)
}

// Whatever is wrong with a token, the visitor is just signed out.
func TestCheckForeign(t *testing.T) {
	p := newPlace(t)
	k, store := p.keeper()
	s, _, compact := p.signIn(k)
	sign := func(seed []byte, typ string, change func(*session.Claims)) string {
		c := session.Claims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer: issuer, Subject: s.UserID, Audience: jwt.ClaimStrings{"bio"}, ExpiresAt: jwt.NewNumericDate(epoch.Add(time.Hour)),
			},
			SessionID: s.ID,
		}
		change(&c)
		compact, err := token.NewKeyring(seed).Sign(typ, c)
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	same := func(*session.Claims) {}
	p.check(k, sign(seed, "session+jwt", same), true) // but for what follows
	for name, spoilt := range map[string]string{
		"nothing": "", "garbage": "garbage", "truncated": compact[:len(compact)-1], "longer": compact + "A",
		"of a foreign key": sign(older, "session+jwt", same),
		"another type":     sign(seed, "at+jwt", same),
		"another audience": sign(seed, "session+jwt", func(c *session.Claims) { c.Audience = jwt.ClaimStrings{"gateway"} }),
		"another issuer":   sign(seed, "session+jwt", func(c *session.Claims) { c.Issuer = "https://evil.example" }),
		"expired":          sign(seed, "session+jwt", func(c *session.Claims) { c.ExpiresAt = jwt.NewNumericDate(epoch) }),
		"without session":  sign(seed, "session+jwt", func(c *session.Claims) { c.SessionID = "" }),
		"unknown session":  sign(seed, "session+jwt", func(c *session.Claims) { c.SessionID = "unknown" }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := k.Check(context.Background(), spoilt); !errors.Is(err, session.ErrNone) {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := store.reads.Load(); n > 3 {
		t.Errorf("%d reads: a token that is not ours reached the database", n)
	}
}

func TestIdle(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	_, _, compact := p.signIn(k)
	for range 3 { // activity keeps it alive
		p.clock.Advance(idle)
		p.check(k, compact, true)
	}
	p.clock.Advance(idle + time.Millisecond)
	p.check(k, compact, false)
	other, _ := p.keeper()
	p.check(other, compact, false)
}

// Activity does not move the hard cap.
func TestCap(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	_, _, compact := p.signIn(k)
	for p.clock.Now().Add(time.Hour).Before(epoch.Add(limit)) {
		p.clock.Advance(time.Hour)
		p.check(k, compact, true)
	}
	p.clock.Advance(epoch.Add(limit - time.Millisecond).Sub(p.clock.Now()))
	p.check(k, compact, true)
	p.clock.Advance(time.Millisecond)
	p.check(k, compact, false)
	other, _ := p.keeper()
	p.check(other, compact, false)
}

// Activity is written down at most once a minute.
func TestTouch(t *testing.T) {
	p := newPlace(t)
	k, store := p.keeper()
	s, _, compact := p.signIn(k)
	for range 10 * 60 { // ten minutes, a request a second
		p.check(k, compact, true)
		p.clock.Advance(time.Second)
	}
	p.check(k, compact, true)
	if n := store.touches.Load(); n != 10 {
		t.Errorf("%d touches in ten minutes", n)
	}
	row, _, err := p.db.Session(context.Background(), s.ID)
	if err != nil || !row.SeenAt.Equal(p.clock.Now()) || !row.ExpiresAt.Equal(s.ExpiresAt) {
		t.Errorf("seen at %s, ends at %s, %v", row.SeenAt, row.ExpiresAt, err)
	}
}

// One question is asked about a new session, which may have ended since it was
// stored, and none about one that was just seen.
func TestHitAsksNothing(t *testing.T) {
	p := newPlace(t)
	k, store := p.keeper()
	_, _, compact := p.signIn(k)
	for range 100 {
		p.check(k, compact, true)
	}
	if r, w := store.reads.Load(), store.touches.Load(); r != 1 || w != 0 {
		t.Errorf("%d reads, %d writes", r, w)
	}
	p.clock.Advance(2 * time.Second)
	for range 100 {
		p.check(k, compact, true)
	}
	if r := store.reads.Load(); r != 2 {
		t.Errorf("%d reads after two seconds", r)
	}
}

func TestHitAllocations(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	_, _, compact := p.signIn(k)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := k.Check(ctx, compact); err != nil {
			t.Fatal(err)
		}
	}); n > 12 {
		t.Errorf("%.0f allocations", n)
	}
}

// Ending takes effect here at once, and in another instance within a second.
func TestEnd(t *testing.T) {
	p := newPlace(t)
	here, _ := p.keeper()
	there, _ := p.keeper()
	s, _, compact := p.signIn(here)
	_, _, neighbour := p.signIn(here)
	p.check(there, compact, true)
	end(t, here, s.ID)
	p.check(here, compact, false)
	p.check(here, compact, false)
	p.clock.Advance(time.Second + time.Millisecond)
	p.check(there, compact, false)
	p.check(here, neighbour, true)
	p.check(there, neighbour, true)
	end(t, here, s.ID) // twice is fine
	end(t, here, "never was")
	p.check(here, compact, false)
}

// A clock that goes back does not revive an answer from memory.
func TestClockGoesBack(t *testing.T) {
	p := newPlace(t)
	here, _ := p.keeper()
	there, _ := p.keeper()
	s, _, compact := p.signIn(here)
	p.check(there, compact, true)
	end(t, here, s.ID)
	p.clock.Advance(-time.Hour)
	p.check(there, compact, false)
}

// What lasts longer than a request learns that its session is over as the next
// request would, asks the store as seldom, and is no activity.
func TestHolds(t *testing.T) {
	p := newPlace(t)
	here, store := p.keeper()
	there, _ := p.keeper()
	s, _, compact := p.signIn(here)
	capped, _, _ := p.signIn(here)
	holds := func(k *session.Keeper, s session.Session, want bool) {
		t.Helper()
		if got, err := k.Holds(t.Context(), s); err != nil || got != want {
			t.Errorf("holds: %t, %v; want %t", got, err, want)
		}
	}
	for range 100 {
		holds(here, s, true)
	}
	if r := store.reads.Load(); r != 1 {
		t.Errorf("%d reads", r)
	}
	holds(there, s, true) // which has not seen its token
	p.check(there, compact, true)
	p.clock.Advance(2 * time.Minute)
	holds(here, s, true)
	if w := store.touches.Load(); w != 0 {
		t.Errorf("%d touches", w)
	}
	end(t, here, s.ID)
	holds(here, s, false)
	holds(there, s, false) // 2 minutes later than it looked
	p.clock.Advance(limit)
	holds(here, capped, false)
	p.db.Close()
	if _, err := there.Holds(t.Context(), s); err == nil {
		t.Error("holds without a store")
	}
}

// A row that was read before the session ended is not remembered after it.
func TestEndWhileReading(t *testing.T) {
	p := newPlace(t)
	issuer, _ := p.keeper()
	s, _, compact := p.signIn(issuer)
	k, store := p.keeper()
	store.read = func() {
		store.read = nil
		end(t, k, s.ID)
	}
	p.check(k, compact, true) // it was, when it was read
	p.check(k, compact, false)
}

// The same for a session that is read anew, because its row was not fresh.
func TestEndWhileReadingAnew(t *testing.T) {
	p := newPlace(t)
	k, store := p.keeper()
	s, _, compact := p.signIn(k)
	p.clock.Advance(2 * time.Minute) // a touch is due as well
	store.read = func() {
		store.read = nil
		end(t, k, s.ID)
	}
	k.Check(context.Background(), compact)
	p.check(k, compact, false)
}

func TestRotation(t *testing.T) {
	p := newPlace(t)
	before, _ := p.keeper(older)
	_, _, compact := p.signIn(before)
	rotated, _ := p.keeper(seed, older)
	p.check(rotated, compact, true)
	retired, _ := p.keeper(seed)
	p.check(retired, compact, false)
	_, _, fresh := p.signIn(rotated)
	p.check(retired, fresh, true)
	p.check(before, fresh, false)
}

// A database that cannot be asked is an error, not "signed out", and not a session.
func TestUnavailable(t *testing.T) {
	p := newPlace(t)
	issuer, _ := p.keeper()
	_, _, compact := p.signIn(issuer)
	p.check(issuer, compact, true)
	k, _ := p.keeper()
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Check(context.Background(), compact); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("got %v", err)
	}
	p.check(issuer, compact, true) // remembered
	p.clock.Advance(2 * time.Second)
	if _, _, err := issuer.Check(context.Background(), compact); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("no longer fresh: got %v", err)
	}
	if err := issuer.End(context.Background(), "x", audit.Entry{Kind: audit.SignedOut}); err == nil {
		t.Error("ended a session without a database")
	}
}

// Many at once: a session that has ended is never answered again.
func TestConcurrent(t *testing.T) {
	p := newPlace(t)
	k, _ := p.keeper()
	var wg sync.WaitGroup
	for range 8 {
		s, _, compact := p.signIn(k)
		var ended atomic.Bool
		for range 4 {
			wg.Go(func() {
				for range 200 {
					before := ended.Load()
					_, _, err := k.Check(context.Background(), compact)
					if before && err == nil {
						t.Error("an ended session was accepted")
					}
				}
			})
		}
		wg.Go(func() {
			end(t, k, s.ID)
			ended.Store(true)
		})
	}
	wg.Wait()
}
