package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
	"bio/app/store/trailtest"
)

// addition is a press by the person whose session it is.
func addition(seed, sessionID string, now time.Time) Addition {
	r := registration(seed, now)
	return Addition{
		Challenge: r.Challenge, Expires: r.Expires, SessionID: sessionID, Proven: now.Add(-5 * time.Minute), Credential: r.Credential,
	}
}

func removal(id []byte, sessionID string, now time.Time) Removal {
	return Removal{SessionID: sessionID, Proven: now.Add(-5 * time.Minute), ID: id}
}

var (
	passkeyAdded   = audit.Entry{Kind: audit.PasskeyAdded, Client: audit.Client{Network: "198.51.100.0/24", Browser: "Safari"}}
	passkeyRenamed = audit.Entry{Kind: audit.PasskeyRenamed, Client: passkeyAdded.Client}
	passkeyRemoved = audit.Entry{Kind: audit.PasskeyRemoved, Client: passkeyAdded.Client}
)

// add adds a passkey and returns it.
func add(t testing.TB, db *DB, c *clock, seed, sessionID string) account.Credential {
	t.Helper()
	_, added, err := db.AddCredential(t.Context(), addition(seed, sessionID, c.Now()), passkeyAdded)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// opened signs in with the passkey and returns the session's id.
func opened(t testing.TB, db *DB, c *clock, seed string, with account.Credential) string {
	t.Helper()
	s := signIn(seed, with, c.Now())
	s.Credential.Flags |= account.FlagBackupEligible // its counter need not rise
	must[SignedIn](t)(db.SignIn(t.Context(), s, signedIn(seed)))
	return s.Session.ID
}

func TestAddCredential(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := register(t, db, c, "1")
	want := r.User
	want.Name, want.CreatedAt = "cedar-1", epoch
	c.Advance(time.Minute)

	a := addition("2", r.Session.ID, c.Now())
	// Whoever the caller thinks it is for, and whatever the entry says.
	a.Credential.UserID, a.Credential.UserHandle = "someone", []byte("someone")
	e := passkeyAdded
	e.Actor, e.Credential, e.Session = "someone", "another", "elsewhere"
	user, got, err := db.AddCredential(ctx, a, e)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, user, want)
	added := a.Credential
	added.UserID, added.UserHandle, added.CreatedAt, added.LastUsedAt = user.ID, user.Handle, c.Now(), c.Now()
	equal(t, got, added)
	user, got, err = db.Credential(ctx, added.ID)
	equal(t, []any{user, got, err}, []any{want, added, error(nil)})
	_, first, _ := db.Credential(ctx, r.Credential.ID)
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, user.ID)), []account.Credential{first, added})
	equal(t, must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 1)), []audit.Record{{
		Index: 1, At: c.Now(), Kind: audit.PasskeyAdded, Actor: user.ID, Credential: account.CredentialRef(added.ID),
		Session: audit.SessionRef(r.Session.ID), Client: passkeyAdded.Client,
	}})

	// Times that are given are kept, to the millisecond, and it opens sessions.
	a = addition("3", r.Session.ID, c.Now())
	a.Credential.CreatedAt, a.Credential.LastUsedAt = epoch.Add(time.Microsecond), epoch.Add(time.Second)
	_, got, err = db.AddCredential(ctx, a, passkeyAdded)
	equal(t, []any{got.CreatedAt, got.LastUsedAt, err}, []any{epoch, epoch.Add(time.Second), error(nil)})
	s, u, err := db.Session(ctx, opened(t, db, c, "in", added))
	equal(t, []any{s.Credential, u.ID, err}, []any{account.CredentialRef(added.ID), user.ID, error(nil)})
	equal(t, db.counts(t), map[string]int{"users": 1, "credentials": 3, "sessions": 2, "challenges": 4, "invitations": 0, "trail_leaves": 4})
	checkInvariants(t, db)
}

// fill gives the account of that seed so many more passkeys.
func fill(t testing.TB, db *DB, seed string, more int) {
	t.Helper()
	handle := sum("handle", seed)
	c := registration(seed, epoch).Credential
	c.UserID, c.UserHandle, c.CreatedAt, c.LastUsedAt = account.UserID(handle), handle, epoch, epoch
	if err := db.write(t.Context(), func(t *tx) error {
		for i := range more {
			c.ID = sum("credential", fmt.Sprint("more of ", seed, " ", i))
			if err := insertCredential(t, c); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Every refusal of an addition changes nothing, and of several the first counts.
func TestAddCredentialRefused(t *testing.T) {
	full := func(t *testing.T, db *DB) { fill(t, db, "1", account.MaxCredentials-1) }
	ended := func(t *testing.T, db *DB) {
		if err := db.EndSession(t.Context(), sessionID("1"), audit.Entry{Kind: audit.SignedOut, Session: sessionID("1")}); err != nil {
			t.Fatal(err)
		}
	}
	stale := func(a *Addition) { a.Proven = epoch.Add(time.Millisecond) }
	exists := func(a *Addition) { a.Credential.ID = sum("credential", "1") }
	for _, tt := range []struct {
		name    string
		prepare func(*testing.T, *DB)
		change  func(*Addition)
		want    error
	}{
		{"challenge used", nil, func(a *Addition) { a.Challenge = sum("challenge", "1") }, passkey.ErrChallengeUsed},
		{"challenge used and expired, session ended, passkey known", ended, func(a *Addition) {
			a.Challenge, a.Expires = sum("challenge", "1"), epoch.Add(-time.Millisecond)
			exists(a)
		}, passkey.ErrChallengeUsed},
		{"challenge expired", nil, func(a *Addition) { a.Expires = epoch.Add(-time.Millisecond) }, passkey.ErrChallenge},
		{"challenge expired and session ended", ended, func(a *Addition) { a.Expires = epoch.Add(-time.Millisecond) }, passkey.ErrChallenge},
		{"no session", nil, func(a *Addition) { a.SessionID = "" }, session.ErrNone},
		{"session unknown", nil, func(a *Addition) { a.SessionID = "unknown" }, session.ErrNone},
		{"session ended and proof stale", ended, stale, session.ErrNone},
		{"session at its cap", func(t *testing.T, db *DB) {
			if err := db.write(t.Context(), func(t *tx) error {
				_, err := t.exec("UPDATE sessions SET expires_at = ?", stamp(t.now))
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, nil, session.ErrNone},
		{"proof stale", nil, stale, session.ErrStale},
		{"proof stale, account full, passkey known", full, func(a *Addition) { stale(a); exists(a) }, session.ErrStale},
		{"no time of proof", nil, func(a *Addition) { a.Proven = time.Time{} }, session.ErrStale},
		{"account full", full, nil, account.ErrTooMany},
		{"account full and passkey known", full, exists, account.ErrTooMany},
		{"passkey known", nil, exists, account.ErrCredentialExists},
		{"passkey another's", nil, func(a *Addition) { a.Credential.ID = sum("credential", "other") }, account.ErrCredentialExists},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			r := register(t, db, c, "1")
			register(t, db, c, "other")
			if tt.prepare != nil {
				tt.prepare(t, db)
			}
			before := db.counts(t)
			a := addition("2", r.Session.ID, c.Now())
			if tt.change != nil {
				tt.change(&a)
			}
			user, added, err := db.AddCredential(t.Context(), a, passkeyAdded)
			wantErr(t, err, tt.want)
			equal(t, []any{user, added}, []any{account.User{}, account.Credential{}})
			equal(t, db.counts(t), before)
			trailtest.Check(t, db)
		})
	}
}

// A proof counts to the millisecond, which is what a row keeps of it.
func TestProofInTime(t *testing.T) {
	for _, tt := range []struct {
		since time.Duration
		want  error
	}{{-time.Millisecond, nil}, {0, nil}, {time.Millisecond - 1, nil}, {time.Millisecond, session.ErrStale}, {time.Hour, session.ErrStale}} {
		db, c := openTest(t)
		r := register(t, db, c, "1")
		a := addition("2", r.Session.ID, c.Now())
		a.Proven = epoch.Add(tt.since)
		_, _, err := db.AddCredential(t.Context(), a, passkeyAdded)
		wantErr(t, err, tt.want)
		spare := a.Credential.ID
		if err != nil {
			spare = add(t, db, c, "spare", r.Session.ID).ID
		}
		_, err = db.RemoveCredential(t.Context(), Removal{SessionID: r.Session.ID, Proven: a.Proven, ID: spare}, passkeyRemoved)
		wantErr(t, err, tt.want)
	}
}

// The last place in an account goes to one of those who want it at once.
func TestLastPlace(t *testing.T) {
	db, c := openTest(t)
	r := register(t, db, c, "1")
	for i := range account.MaxCredentials - 2 {
		add(t, db, c, fmt.Sprint("more ", i), r.Session.ID)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch _, _, err := db.AddCredential(context.Background(), addition(fmt.Sprint("last ", i), r.Session.ID, c.Now()), passkeyAdded); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, account.ErrTooMany):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, []int{int(won.Load()), db.counts(t)["credentials"]}, []int{1, account.MaxCredentials})
	// Another account has its own count, and a removal makes room.
	other := register(t, db, c, "other")
	add(t, db, c, "of the other", other.Session.ID)
	must[[]string](t)(db.RemoveCredential(t.Context(), removal(sum("credential", "more 0"), r.Session.ID, c.Now()), passkeyRemoved))
	add(t, db, c, "in its place", r.Session.ID)
	checkInvariants(t, db)
}

func TestOneChallengeOneAddition(t *testing.T) {
	db, c := openTest(t)
	r := register(t, db, c, "1")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			a := addition(fmt.Sprint("more ", i), r.Session.ID, c.Now())
			a.Challenge = []byte("the one")
			switch _, _, err := db.AddCredential(context.Background(), a, passkeyAdded); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, passkey.ErrChallengeUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, []int{int(won.Load()), db.counts(t)["credentials"], db.counts(t)["trail_leaves"]}, []int{1, 2, 2})
}

func TestRenameCredential(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	second := add(t, db, c, "2", r.Session.ID)
	_, first, _ := db.Credential(ctx, r.Credential.ID)
	c.Advance(time.Minute)

	e := passkeyRenamed
	e.Actor, e.Credential, e.Session = other.User.ID, "another", r.Session.ID
	renamed := must[account.Credential](t)(db.RenameCredential(ctx, r.User.ID, second.ID, "Blue key 🗝", e))
	second.Name = "Blue key 🗝"
	equal(t, renamed, second)
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID)), []account.Credential{first, second})
	equal(t, must[[]audit.Record](t)(db.Trail(ctx, r.User.ID, 0, 1)), []audit.Record{{
		Index: 3, At: c.Now(), Kind: audit.PasskeyRenamed, Actor: r.User.ID, Credential: account.CredentialRef(second.ID),
		Session: audit.SessionRef(r.Session.ID), Client: passkeyRenamed.Client,
	}})

	before := db.counts(t)
	for name, wrong := range map[string]struct {
		user string
		id   []byte
	}{
		"another's": {r.User.ID, other.Credential.ID}, "of another": {other.User.ID, second.ID}, "unknown": {r.User.ID, []byte("unknown")},
		"nobody's": {"nobody", second.ID}, "nothing": {r.User.ID, nil}, "no user": {"", second.ID},
	} {
		got, err := db.RenameCredential(ctx, wrong.user, wrong.id, "taken over", passkeyRenamed)
		if !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: got error %v", name, err)
		}
		equal(t, got, account.Credential{})
	}
	equal(t, db.counts(t), before)
	equal(t, db.count(t, "SELECT count(*) FROM credentials WHERE name = 'taken over'"), 0)
	checkInvariants(t, db)
}

func TestRemoveCredential(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  bool // the passkey that opened the session which asks
	}{{"another one", false}, {"that of the session which asks", true}} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			r, other := register(t, db, c, "1"), register(t, db, c, "other")
			asks := r.Session.ID
			second := add(t, db, c, "2", asks)
			here := []string{asks, opened(t, db, c, "here", r.Credential)}
			there := []string{opened(t, db, c, "there", second), opened(t, db, c, "there too", second)}
			c.Advance(time.Minute)

			gone, end, stays, keep := second.ID, there, r.Credential.ID, here
			if tt.own {
				gone, end, stays, keep = r.Credential.ID, here, second.ID, there
			}
			e := passkeyRemoved
			e.Actor, e.Credential, e.Session = "someone", "another", "elsewhere"
			ended := must[[]string](t)(db.RemoveCredential(ctx, removal(gone, asks, c.Now()), e))
			slices.Sort(ended)
			slices.Sort(end)
			equal(t, ended, end)

			_, _, err := db.Credential(ctx, gone)
			wantErr(t, err, account.ErrNotFound)
			left := must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID))
			equal(t, []any{len(left), left[0].ID}, []any{1, stays})
			for _, id := range end {
				_, _, err := db.Session(ctx, id)
				wantErr(t, err, session.ErrNone)
			}
			for _, id := range append(keep, other.Session.ID) {
				if _, _, err := db.Session(ctx, id); err != nil {
					t.Errorf("a session of another passkey: %v", err)
				}
			}

			records := must[[]audit.Record](t)(db.Trail(ctx, r.User.ID, 0, 3))
			slices.Reverse(records)
			want := audit.Record{
				Index: 6, At: c.Now(), Kind: audit.PasskeyRemoved, Actor: r.User.ID, Credential: account.CredentialRef(gone),
				Session: audit.SessionRef(asks), Client: passkeyRemoved.Client,
			}
			equal(t, records[0], want)
			var refs []string
			for i, rec := range records[1:] {
				refs = append(refs, rec.Session)
				want.Index, want.Kind, want.Session, want.Reason = int64(7+i), audit.SessionRevoked, rec.Session, "passkey removed"
				equal(t, rec, want)
			}
			wantRefs := []string{audit.SessionRef(end[0]), audit.SessionRef(end[1])}
			slices.Sort(refs)
			slices.Sort(wantRefs)
			equal(t, refs, wantRefs)

			// It cannot be used any more, and may be registered anew.
			_, err = db.SignIn(ctx, signIn("late", account.Credential{ID: gone, SignCount: 9}, c.Now()), signedIn("late"))
			wantErr(t, err, account.ErrNotFound)
			a := addition("again", other.Session.ID, c.Now())
			a.Credential.ID = gone
			if _, _, err := db.AddCredential(ctx, a, passkeyAdded); err != nil {
				t.Fatal(err)
			}
			checkInvariants(t, db)
		})
	}
}

// Every refusal of a removal changes nothing, and of several the first counts.
func TestRemoveCredentialRefused(t *testing.T) {
	first, second, others := sum("credential", "1"), sum("credential", "2"), sum("credential", "other")
	for _, tt := range []struct {
		name   string
		single bool // the account has one passkey
		change func(*Removal)
		want   error
	}{
		{"no session", false, func(r *Removal) { r.SessionID = "" }, session.ErrNone},
		{"session unknown, proof stale, passkey unknown", false, func(r *Removal) { *r = Removal{SessionID: "unknown", Proven: epoch.Add(time.Hour)} }, session.ErrNone},
		{"proof stale", false, func(r *Removal) { r.Proven = epoch.Add(time.Millisecond) }, session.ErrStale},
		{"proof stale and passkey another's", false, func(r *Removal) { r.Proven, r.ID = epoch.Add(time.Millisecond), others }, session.ErrStale},
		{"proof stale and passkey the last", true, func(r *Removal) { r.Proven, r.ID = epoch.Add(time.Millisecond), first }, session.ErrStale},
		{"no time of proof", false, func(r *Removal) { r.Proven = time.Time{} }, session.ErrStale},
		{"passkey another's", false, func(r *Removal) { r.ID = others }, account.ErrNotFound},
		{"passkey another's, and only one", true, func(r *Removal) { r.ID = others }, account.ErrNotFound},
		{"passkey unknown", false, func(r *Removal) { r.ID = []byte("unknown") }, account.ErrNotFound},
		{"no passkey", false, func(r *Removal) { r.ID = nil }, account.ErrNotFound},
		{"the last one", true, func(r *Removal) { r.ID = first }, account.ErrLastCredential},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			r := register(t, db, c, "1")
			register(t, db, c, "other")
			if !tt.single {
				add(t, db, c, "2", r.Session.ID)
			}
			before := db.counts(t)
			asked := removal(second, r.Session.ID, c.Now())
			tt.change(&asked)
			ended, err := db.RemoveCredential(t.Context(), asked, passkeyRemoved)
			wantErr(t, err, tt.want)
			equal(t, ended, nil)
			equal(t, db.counts(t), before)
			trailtest.Check(t, db)
		})
	}
}

// Of the last two passkeys each is removed at once with the other, by the session
// that it opened, in one program or in two: one stays.
func TestLastTwoPasskeys(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	dbs := []*DB{openAt(t, url, c.Now), openAt(t, url, c.Now)}
	for round := range 40 {
		seed := fmt.Sprint(round)
		r := register(t, dbs[0], c, seed)
		second := add(t, dbs[0], c, "second of "+seed, r.Session.ID)
		asked := []Removal{
			removal(r.Credential.ID, r.Session.ID, c.Now()),
			removal(second.ID, opened(t, dbs[0], c, "in with the second of "+seed, second), c.Now()),
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i := range asked {
			wg.Go(func() { _, errs[i] = dbs[i*(round%2)].RemoveCredential(context.Background(), asked[i], passkeyRemoved) })
		}
		wg.Wait()
		lost := 0
		if errs[0] == nil {
			lost = 1
		}
		wantErr(t, errs[1-lost], nil)
		wantErr(t, errs[lost], account.ErrLastCredential)
		left := must[[]account.Credential](t)(dbs[0].Credentials(t.Context(), r.User.ID))
		equal(t, []any{len(left), left[0].ID}, []any{1, asked[lost].ID})
		if _, _, err := dbs[0].Session(t.Context(), asked[lost].SessionID); err != nil {
			t.Error(err)
		}
	}
	checkInvariants(t, dbs[0])
}

// A session that began with a passkey while that was removed has ended with it,
// or never began.
func TestRemoveWhileSigningIn(t *testing.T) {
	db, c := openTest(t)
	r := register(t, db, c, "1")
	for round := range 20 {
		second := add(t, db, c, fmt.Sprint("second ", round), r.Session.ID)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				seed := fmt.Sprintf("in %d-%d", round, i)
				s := signIn(seed, second, c.Now())
				if _, err := db.SignIn(context.Background(), s, signedIn(seed)); err != nil && !errors.Is(err, account.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, err := db.RemoveCredential(context.Background(), removal(second.ID, r.Session.ID, c.Now()), passkeyRemoved); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		equal(t, db.counts(t)["sessions"], 1)
	}
	checkInvariants(t, db)
}

// Activity in a session is no proof.
func TestActivityIsNoProof(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := register(t, db, c, "1")
	second := add(t, db, c, "2", r.Session.ID)
	c.Advance(5*time.Minute + time.Millisecond)
	if err := db.TouchSession(ctx, r.Session.ID, c.Now()); err != nil {
		t.Fatal(err)
	}
	_, _, err := db.AddCredential(ctx, addition("3", r.Session.ID, c.Now()), passkeyAdded)
	wantErr(t, err, session.ErrStale)
	_, err = db.RemoveCredential(ctx, removal(second.ID, r.Session.ID, c.Now()), passkeyRemoved)
	wantErr(t, err, session.ErrStale)
	fresh := opened(t, db, c, "in", r.Credential)
	must[[]string](t)(db.RemoveCredential(ctx, removal(second.ID, fresh, c.Now()), passkeyRemoved))
}
