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
)

const day = 24 * time.Hour

func link(seed string) []byte { return sum("link", seed) }

func recovery(seed string, now time.Time) account.Recovery {
	return account.Recovery{TokenHash: link(seed), ExpiresAt: now.Add(7 * day)}
}

// recovering is a press on the link, with a passkey of the same seed.
func recovering(seed string, now time.Time) Recovering {
	r := registration(seed, now)
	return Recovering{Challenge: r.Challenge, Expires: r.Expires, TokenHash: link(seed), Credential: r.Credential, Delay: day}
}

var (
	recoveryOffered = audit.Entry{Kind: audit.RecoveryOffered, Reason: "command line"}
	recoveryBegun   = audit.Entry{Kind: audit.RecoveryBegun, Client: audit.Client{Network: "192.0.2.0/24", Browser: "Edge"}}
)

func offer(t testing.TB, db *DB, c *clock, name, seed string) {
	t.Helper()
	must[account.User](t)(db.OfferRecovery(t.Context(), name, recovery(seed, c.Now()), recoveryOffered))
}

// begin offers a recovery to the account and begins it; its passkey waits.
func begin(t testing.TB, db *DB, c *clock, name, seed string) account.Credential {
	t.Helper()
	offer(t, db, c, name, seed)
	_, waits, err := db.BeginRecovery(t.Context(), recovering(seed, c.Now()), recoveryBegun)
	if err != nil {
		t.Fatal(err)
	}
	return waits
}

// From the link to the account: offered, begun, waited for, completed.
func TestRecovery(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	user := must[account.User](t)(db.User(ctx, r.User.ID))
	elsewhere := opened(t, db, c, "elsewhere", r.Credential)
	newest := func(n int) []audit.Record {
		records := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, n))
		slices.Reverse(records)
		return records
	}
	c.Advance(time.Minute)

	// Whoever the caller thinks it is for, and whatever the entry says.
	asked := recovery("new", c.Now())
	asked.UserID, asked.CreatedAt, asked.UsedAt = "someone", epoch, epoch
	e := recoveryOffered
	e.Actor = other.User.ID
	equal(t, must[account.User](t)(db.OfferRecovery(ctx, "CEDAR-1", asked, e)), user)
	offered := account.Recovery{UserID: user.ID, TokenHash: link("new"), CreatedAt: c.Now(), ExpiresAt: c.Now().Add(7 * day)}
	got, u, err := db.Recovery(ctx, link("new"))
	equal(t, []any{got, u, err}, []any{offered, user, error(nil)})
	_, _, err = db.Waiting(ctx, user.ID)
	wantErr(t, err, account.ErrNotFound)
	equal(t, newest(1), []audit.Record{{Index: 3, At: c.Now(), Kind: audit.RecoveryOffered, Actor: user.ID, Reason: "command line"}})

	c.Advance(time.Hour)
	press := recovering("new", c.Now())
	press.Credential.UserID, press.Credential.UserHandle = "someone", []byte("someone")
	e = recoveryBegun
	e.Actor, e.Credential = "someone", "another"
	waits := press.Credential
	waits.UserID, waits.UserHandle, waits.CreatedAt, waits.LastUsedAt = user.ID, user.Handle, c.Now(), c.Now()
	waits.EffectiveAt = c.Now().Add(day)
	u, begun, err := db.BeginRecovery(ctx, press, e)
	equal(t, []any{u, begun, err}, []any{user, waits, error(nil)})
	begun, from, err := db.Waiting(ctx, user.ID)
	equal(t, []any{begun, from, err}, []any{waits, recoveryBegun.Client, error(nil)})
	u, begun, err = db.Credential(ctx, waits.ID)
	equal(t, []any{u, begun, err}, []any{user, waits, error(nil)})
	offered.UsedAt = c.Now()
	got, _, err = db.Recovery(ctx, link("new"))
	equal(t, []any{got, err}, []any{offered, error(nil)})
	equal(t, newest(1), []audit.Record{{
		Index: 4, At: c.Now(), Kind: audit.RecoveryBegun, Actor: user.ID, Credential: account.CredentialRef(waits.ID), Client: recoveryBegun.Client,
	}})

	c.Advance(day - time.Millisecond)
	before := db.contents(t)
	s := signIn("early", waits, c.Now())
	s.Replaces = r.Session.ID
	out, err := db.SignIn(ctx, s, signedIn("early"))
	wantErr(t, err, &account.EarlyError{EffectiveAt: waits.EffectiveAt, Wait: time.Millisecond})
	equal(t, out, SignedIn{})
	equal(t, db.contents(t), before)
	checkInvariants(t, db)

	c.Advance(time.Millisecond)
	s = signIn("in", waits, c.Now())
	s.Replaces, s.SuggestAfter = r.Session.ID, c.Now()
	must[SignedIn](t)(db.SignIn(ctx, signIn("of other", other.Credential, c.Now()), signedIn("of other")))
	equal(t, must[SignedIn](t)(db.SignIn(ctx, s, signedIn("in"))), SignedIn{User: user, Recovered: true, Ended: []string{r.Session.ID, elsewhere}})
	_, first, _ := db.Credential(ctx, r.Credential.ID)
	waits.EffectiveAt, waits.SignCount, waits.LastUsedAt = time.Time{}, 2, c.Now()
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, user.ID)), []account.Credential{first, waits})
	_, _, err = db.Waiting(ctx, user.ID)
	wantErr(t, err, account.ErrNotFound)
	_, _, err = db.Recovery(ctx, link("new"))
	wantErr(t, err, account.ErrNotFound)
	left := must[[]session.Session](t)(db.Sessions(ctx, user.ID, c.Now(), time.Hour))
	equal(t, []any{len(left), left[0].ID}, []any{1, s.Session.ID})
	equal(t, db.counts(t)["sessions"], 3) // both of the other's
	want := []audit.Record{
		{Kind: audit.SignedIn, Session: s.Session.ID},
		{Kind: audit.SessionReplaced, Session: r.Session.ID, Credential: refOf("1"), Client: s.Session.Client},
		{Kind: audit.RecoveryCompleted, Session: s.Session.ID, Credential: refOf("new"), Client: s.Session.Client},
		{Kind: audit.SessionRevoked, Session: elsewhere, Reason: "recovery", Client: s.Session.Client},
	}
	for i, rec := range want {
		want[i].Index, want[i].At, want[i].Actor, want[i].Session = int64(6+i), c.Now(), user.ID, audit.SessionRef(rec.Session)
	}
	equal(t, newest(4), want)

	// From now on it is a passkey like any other.
	again := signIn("again", waits, c.Now())
	equal(t, must[SignedIn](t)(db.SignIn(ctx, again, signedIn("again"))), SignedIn{User: user})
	checkInvariants(t, db)
}

// Every refusal to begin a recovery changes nothing, and of several the first counts.
func TestBeginRecoveryRefused(t *testing.T) {
	disable := func(t *testing.T, db *DB, _ *clock) {
		if _, _, err := db.DisableUser(t.Context(), "cedar-1", false, audit.Entry{Kind: audit.Disabled}); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(r *Recovering) { r.Credential.ID = sum("credential", "1") }
	full := func(t *testing.T, db *DB, _ *clock) { fill(t, db, "1", account.MaxCredentials-1) }
	for _, tt := range []struct {
		name    string
		prepare func(*testing.T, *DB, *clock)
		change  func(*Recovering)
		want    error
	}{
		{"challenge used", nil, func(r *Recovering) { r.Challenge = sum("challenge", "1") }, passkey.ErrChallengeUsed},
		{"challenge used and expired, link unknown", nil, func(r *Recovering) {
			r.Challenge, r.Expires, r.TokenHash = sum("challenge", "1"), epoch.Add(-time.Millisecond), link("unknown")
		}, passkey.ErrChallengeUsed},
		{"challenge expired", nil, func(r *Recovering) { r.Expires = epoch.Add(-time.Millisecond) }, passkey.ErrChallenge},
		{"challenge expired and link unknown", nil, func(r *Recovering) {
			r.Expires, r.TokenHash = epoch.Add(-time.Millisecond), link("unknown")
		}, passkey.ErrChallenge},
		{"no link", nil, func(r *Recovering) { r.TokenHash = nil }, account.ErrRecovery},
		{"link unknown", nil, func(r *Recovering) { r.TokenHash = link("unknown") }, account.ErrRecovery},
		{"link of an invitation", func(t *testing.T, db *DB, _ *clock) {
			if err := db.Invite(t.Context(), account.Invitation{TokenHash: link("invitation")}, audit.Entry{Kind: audit.InvitationMade}); err != nil {
				t.Fatal(err)
			}
		}, func(r *Recovering) { r.TokenHash = link("invitation") }, account.ErrRecovery},
		{"link used", func(t *testing.T, db *DB, c *clock) { begin(t, db, c, "cedar-1", "used") },
			func(r *Recovering) { r.TokenHash = link("used") }, account.ErrRecovery},
		{"link replaced", func(t *testing.T, db *DB, c *clock) { offer(t, db, c, "cedar-1", "newer") }, nil, account.ErrRecovery},
		{"link expired", func(_ *testing.T, _ *DB, c *clock) { c.Advance(7 * day) }, func(r *Recovering) { r.Expires = epoch.Add(8 * day) }, account.ErrRecovery},
		{"link expired, account disabled, passkey known", func(t *testing.T, db *DB, c *clock) {
			disable(t, db, c)
			c.Advance(7 * day)
		}, func(r *Recovering) { r.Expires = epoch.Add(8 * day); exists(r) }, account.ErrRecovery},
		{"account disabled", disable, nil, account.ErrRecovery},
		{"account disabled and passkey known", disable, exists, account.ErrRecovery},
		{"account disabled and enabled again", func(t *testing.T, db *DB, c *clock) {
			disable(t, db, c)
			must[account.User](t)(db.EnableUser(t.Context(), "cedar-1", enabled))
		}, nil, account.ErrRecovery},
		{"account full", full, nil, account.ErrTooMany},
		{"account full and passkey known", full, exists, account.ErrTooMany},
		{"link used and account full", func(t *testing.T, db *DB, c *clock) {
			begin(t, db, c, "cedar-1", "used")
			fill(t, db, "1", account.MaxCredentials-2)
		}, func(r *Recovering) { r.TokenHash = link("used") }, account.ErrRecovery},
		{"passkey known", nil, exists, account.ErrCredentialExists},
		{"passkey another's", nil, func(r *Recovering) { r.Credential.ID = sum("credential", "other") }, account.ErrCredentialExists},
		{"passkey of another's recovery", func(t *testing.T, db *DB, c *clock) { begin(t, db, c, "cedar-other", "waits") },
			func(r *Recovering) { r.Credential.ID = sum("credential", "waits") }, account.ErrCredentialExists},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			register(t, db, c, "1")
			register(t, db, c, "other")
			offer(t, db, c, "cedar-1", "new")
			if tt.prepare != nil {
				tt.prepare(t, db, c)
			}
			before := db.contents(t)
			r := recovering("new", epoch)
			if tt.change != nil {
				tt.change(&r)
			}
			u, k, err := db.BeginRecovery(t.Context(), r, recoveryBegun)
			wantErr(t, err, tt.want)
			equal(t, []any{u, k}, []any{account.User{}, account.Credential{}})
			equal(t, db.contents(t), before)
		})
	}
}

// A passkey that waits has its place among those that an account may have, so that
// there is one when its time has come.
func TestRecoveryOfFull(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := register(t, db, c, "1")
	fill(t, db, "1", account.MaxCredentials-2)
	begin(t, db, c, "cedar-1", "waits")
	more := func(seed, asks string, want error) {
		t.Helper()
		before := db.contents(t)
		_, _, err := db.AddCredential(ctx, addition(seed, asks, c.Now()), passkeyAdded)
		wantErr(t, err, want)
		if want != nil {
			equal(t, db.contents(t), before)
		}
	}
	more("while it waits", r.Session.ID, account.ErrTooMany)
	waits := begin(t, db, c, "cedar-1", "another link") // which leaves the place to its own
	more("while that waits", r.Session.ID, account.ErrTooMany)
	c.Advance(day)
	more("when its time has come", opened(t, db, c, "asks", r.Credential), account.ErrTooMany)
	equal(t, must[SignedIn](t)(db.SignIn(ctx, signIn("in", waits, c.Now()), signedIn("in"))).Recovered, true)
	more("when it is done", sessionID("in"), account.ErrTooMany)
	equal(t, len(must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID))), account.MaxCredentials)
	// Its place is free again when the passkey is removed, or the recovery cancelled.
	must[[]string](t)(db.RemoveCredential(ctx, removal(waits.ID, opened(t, db, c, "removes", r.Credential), c.Now()), passkeyRemoved))
	begin(t, db, c, "cedar-1", "a third link")
	cancels := opened(t, db, c, "cancels", r.Credential)
	up := stepUp("up", cancels, r.Credential, CancelRecovery{}, c.Now())
	up.Credential.SignCount = 9
	must[SteppedUp](t)(db.StepUp(ctx, up, steppedUp))
	more("cancelled", up.Session.ID, nil)
	more("full again", up.Session.ID, account.ErrTooMany)
}

// The link of an account that is disabled is void, and so is what came of it: nobody
// could cancel that. Enabled again, the account has no link.
func TestDisableCancelsRecovery(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begun bool
		after time.Duration
	}{{"unused", false, 0}, {"while its passkey waits", true, time.Hour}, {"when its passkey could sign in", true, 2 * day}} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			r, other := register(t, db, c, "1"), register(t, db, c, "other")
			others := begin(t, db, c, "cedar-other", "others")
			want := []audit.Record{{Kind: audit.Disabled, Reason: "command line", Client: disabled.Client},
				{Kind: audit.SessionRevoked, Session: audit.SessionRef(r.Session.ID), Reason: "account disabled", Client: disabled.Client}}
			if tt.begun {
				begin(t, db, c, "cedar-1", "old")
				want = append([]audit.Record{{Kind: audit.RecoveryCancelled, Credential: refOf("old"), Reason: "account disabled"}}, want...)
			} else {
				offer(t, db, c, "cedar-1", "old")
			}
			c.Advance(tt.after)
			size := must[int64](t)(db.TrailSize(ctx))
			if _, _, err := db.DisableUser(ctx, "cedar-1", false, disabled); err != nil {
				t.Fatal(err)
			}
			for i := range want {
				want[i].Index, want[i].At, want[i].Actor = size+int64(i), c.Now(), r.User.ID
			}
			got := must[[]audit.Record](t)(db.Trail(ctx, r.User.ID, 0, len(want)))
			slices.Reverse(got)
			equal(t, got, want)
			equal(t, must[int64](t)(db.TrailSize(ctx)), size+int64(len(want)))

			void := func() {
				t.Helper()
				before := db.contents(t)
				_, _, err := db.Recovery(ctx, link("old"))
				wantErr(t, err, account.ErrNotFound)
				_, _, err = db.Waiting(ctx, r.User.ID)
				wantErr(t, err, account.ErrNotFound)
				press := recovering("again", c.Now())
				press.TokenHash = link("old")
				_, _, err = db.BeginRecovery(ctx, press, recoveryBegun)
				wantErr(t, err, account.ErrRecovery)
				_, err = db.SignIn(ctx, signIn("late", account.Credential{ID: sum("credential", "old"), SignCount: 9}, c.Now()), signedIn("late"))
				wantErr(t, err, account.ErrNotFound)
				equal(t, db.contents(t), before)
			}
			void()
			must[account.User](t)(db.EnableUser(ctx, "cedar-1", enabled))
			void()
			waits, _, err := db.Waiting(ctx, other.User.ID)
			equal(t, []any{waits, err}, []any{others, error(nil)})
			checkInvariants(t, db)
			begin(t, db, c, "cedar-1", "new")
		})
	}
}

// A link is made for an account that is there and may sign in.
func TestOfferRecoveryRefused(t *testing.T) {
	db, c := openTest(t)
	register(t, db, c, "1")
	begin(t, db, c, "cedar-1", "old")
	if _, _, err := db.DisableUser(t.Context(), "cedar-1", false, audit.Entry{Kind: audit.Disabled}); err != nil {
		t.Fatal(err)
	}
	before := db.contents(t)
	for name, want := range map[string]error{"cedar-2": account.ErrNotFound, "": account.ErrNotFound, "cedar-1": account.ErrDisabled} {
		u, err := db.OfferRecovery(t.Context(), name, recovery("new", c.Now()), recoveryOffered)
		wantErr(t, err, want)
		equal(t, u, account.User{})
	}
	equal(t, db.contents(t), before)
}

// Another link voids the one before, and what came of it.
func TestAnotherLink(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begun bool
		after time.Duration
	}{{"unused", false, 0}, {"while its passkey waits", true, time.Hour}, {"when its passkey could sign in", true, 2 * day}} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			r, other := register(t, db, c, "1"), register(t, db, c, "other")
			others := begin(t, db, c, "cedar-other", "others")
			if tt.begun {
				begin(t, db, c, "cedar-1", "old")
			} else {
				offer(t, db, c, "cedar-1", "old")
			}
			c.Advance(tt.after)
			size := must[int64](t)(db.TrailSize(ctx))

			e := recoveryOffered
			e.Client = passkeyAdded.Client
			must[account.User](t)(db.OfferRecovery(ctx, "cedar-1", recovery("new", c.Now()), e))
			want := []audit.Record{{Kind: audit.RecoveryOffered, Reason: "command line"}}
			if tt.begun {
				want = append([]audit.Record{{Kind: audit.RecoveryCancelled, Credential: refOf("old"), Reason: "another link"}}, want...)
			}
			for i := range want {
				want[i].Index, want[i].At, want[i].Actor, want[i].Client = size+int64(i), c.Now(), r.User.ID, passkeyAdded.Client
			}
			got := must[[]audit.Record](t)(db.Trail(ctx, r.User.ID, 0, len(want)))
			slices.Reverse(got)
			equal(t, got, want)
			equal(t, must[int64](t)(db.TrailSize(ctx)), size+int64(len(want)))

			// Nor does the row say who used that one.
			equal(t, db.count(t, "SELECT count(*) FROM recoveries WHERE token_hash = ? AND network || browser || system = ''", link("new")), 1)

			_, _, err := db.Recovery(ctx, link("old"))
			wantErr(t, err, account.ErrNotFound)
			_, _, err = db.Waiting(ctx, r.User.ID)
			wantErr(t, err, account.ErrNotFound)
			_, err = db.SignIn(ctx, signIn("late", account.Credential{ID: sum("credential", "old"), SignCount: 9}, c.Now()), signedIn("late"))
			wantErr(t, err, account.ErrNotFound)
			press := recovering("again", c.Now())
			press.TokenHash = link("old")
			_, _, err = db.BeginRecovery(ctx, press, recoveryBegun)
			wantErr(t, err, account.ErrRecovery)
			if _, _, err := db.BeginRecovery(ctx, recovering("new", c.Now()), recoveryBegun); err != nil {
				t.Fatal(err)
			}
			_, from, err := db.Waiting(ctx, r.User.ID)
			equal(t, []any{from, err}, []any{recoveryBegun.Client, error(nil)})
			waits, _, err := db.Waiting(ctx, other.User.ID)
			equal(t, []any{waits, err}, []any{others, error(nil)})
			checkInvariants(t, db)
		})
	}
}

// A passkey that waits is none of its account's, wherever they are counted or named.
func TestWaitingIsNoPasskey(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := register(t, db, c, "1")
	c.Advance(time.Minute)
	waits := begin(t, db, c, "cedar-1", "new")
	_, first, _ := db.Credential(ctx, r.Credential.ID)
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID)), []account.Credential{first})
	if err := db.Users(ctx, func(l Listed) error {
		equal(t, []any{l.Passkeys, l.LastUsedAt}, []any{1, epoch})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, 2 * day} { // also when its time has come
		c.Advance(later)
		asks := opened(t, db, c, fmt.Sprint("asks ", later), r.Credential)
		before := db.contents(t)
		_, err := db.RenameCredential(ctx, r.User.ID, waits.ID, "Mine", passkeyRenamed)
		wantErr(t, err, account.ErrNotFound)
		_, err = db.RemoveCredential(ctx, removal(waits.ID, asks, c.Now()), passkeyRemoved)
		wantErr(t, err, account.ErrNotFound)
		_, err = db.RemoveCredential(ctx, removal(first.ID, asks, c.Now()), passkeyRemoved)
		wantErr(t, err, account.ErrLastCredential)
		again := addition("more", asks, c.Now())
		again.Credential.ID = waits.ID
		_, _, err = db.AddCredential(ctx, again, passkeyAdded)
		wantErr(t, err, account.ErrCredentialExists)
		equal(t, db.contents(t), before)
	}
	checkInvariants(t, db)
}

// 50 presses on one link at once: one begins, and with it the wait.
func TestOneLinkOneUse(t *testing.T) {
	db, c := openTest(t)
	r := register(t, db, c, "1")
	offer(t, db, c, "cedar-1", "new")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			press := recovering(fmt.Sprint("press ", i), c.Now())
			press.TokenHash = link("new")
			switch _, _, err := db.BeginRecovery(context.Background(), press, recoveryBegun); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, account.ErrRecovery):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, []int{int(won.Load()), db.counts(t)["credentials"], db.counts(t)["trail_leaves"]}, []int{1, 2, 3})
	if _, _, err := db.Waiting(t.Context(), r.User.ID); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, db)
}

// A cancel and a completion at once: one of them comes first, and the other then
// finds nothing to cancel, no session to cancel it from, or no passkey.
func TestCancelWhileCompleting(t *testing.T) {
	db, c := openTest(t)
	for round := range 20 {
		seed := fmt.Sprint(round)
		r := register(t, db, c, seed)
		waits := begin(t, db, c, "cedar-"+seed, "new "+seed)
		c.Advance(day)
		asks := opened(t, db, c, "asks "+seed, r.Credential)
		var cancelled, completed error
		var wg sync.WaitGroup
		wg.Go(func() {
			_, cancelled = db.StepUp(context.Background(), stepUp("cancels "+seed, asks, r.Credential, CancelRecovery{}, c.Now()), steppedUp)
		})
		wg.Go(func() {
			_, completed = db.SignIn(context.Background(), signIn("in "+seed, waits, c.Now()), signedIn("in "+seed))
		})
		wg.Wait()
		if cancelled == nil {
			wantErr(t, completed, account.ErrNotFound)
		} else {
			wantErr(t, cancelled, session.ErrNone)
			wantErr(t, completed, nil)
		}
	}
	checkInvariants(t, db)
}
