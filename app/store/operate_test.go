package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
)

var (
	disabled  = audit.Entry{Kind: audit.Disabled, Reason: "command line", Client: passkeyAdded.Client}
	enabled   = audit.Entry{Kind: audit.Enabled, Reason: "command line"}
	groupsSet = audit.Entry{Kind: audit.GroupsSet, Reason: "command line"}
)

// members registers accounts with these groups, called cedar- and their seed.
func members(t testing.TB, db *DB, c *clock, groups map[string][]string) {
	t.Helper()
	for seed, groups := range groups {
		r := registration(seed, c.Now())
		r.User.Groups = groups
		must[account.User](t)(db.Register(t.Context(), r, registered(seed)))
	}
}

func TestUsers(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	list := func() (all []Listed) {
		t.Helper()
		if err := db.Users(ctx, func(l Listed) error { all = append(all, l); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	equal(t, len(list()), 0)
	var want []Listed
	for _, name := range []string{"ash-1", "Birch-1", "cedar-1", "Dogwood-1"} { // of letters alone, not of their case
		r := registration(name, c.Now())
		r.Names = []string{name}
		want = append(want, Listed{User: must[account.User](t)(db.Register(ctx, r, registered(name))), Passkeys: 1, LastUsedAt: c.Now()})
		c.Advance(time.Minute)
	}
	second := add(t, db, c, "second", sessionID("Birch-1"))
	want[1].Passkeys, want[1].LastUsedAt = 2, c.Now()
	c.Advance(time.Hour)
	begin(t, db, c, "ash-1", "waits")
	want[0].Recovering = true
	offer(t, db, c, "Dogwood-1", "not begun")
	user, _, err := db.DisableUser(ctx, "cedar-1", false, disabled)
	if err != nil {
		t.Fatal(err)
	}
	want[2].User = user
	equal(t, list(), want)

	// The newest use is of either passkey, and the caller may stop.
	opened(t, db, c, "in", second)
	want[1].LastUsedAt = c.Now()
	equal(t, list()[1], want[1])
	// Until it is completed.
	c.Advance(day)
	opened(t, db, c, "recovered", account.Credential{ID: sum("credential", "waits"), SignCount: 1})
	want[0].Passkeys, want[0].LastUsedAt, want[0].Recovering = 2, c.Now(), false
	equal(t, list()[0], want[0])
	calls, enough := 0, errors.New("enough")
	wantErr(t, db.Users(ctx, func(Listed) error { calls++; return enough }), enough)
	equal(t, calls, 1)
}

func TestDisableUser(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	user := must[account.User](t)(db.User(ctx, r.User.ID))
	sessions := []string{r.Session.ID, opened(t, db, c, "in", r.Credential)}
	offer(t, db, c, "cedar-1", "new")
	c.Advance(time.Minute)
	size := must[int64](t)(db.TrailSize(ctx))

	got, ended, err := db.DisableUser(ctx, "CEDAR-1", false, disabled)
	user.DisabledAt = c.Now()
	slices.Sort(sessions)
	equal(t, []any{got, slices.Sorted(slices.Values(ended)), err}, []any{user, sessions, error(nil)})
	equal(t, must[account.User](t)(db.User(ctx, user.ID)), user)
	want := []audit.Record{{Kind: audit.Disabled, Reason: "command line"}}
	for _, id := range ended {
		want = append(want, audit.Record{Kind: audit.SessionRevoked, Session: audit.SessionRef(id), Reason: "account disabled"})
	}
	for i := range want {
		want[i].Index, want[i].At, want[i].Actor, want[i].Client = size+int64(i), c.Now(), user.ID, disabled.Client
	}
	records := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 3))
	slices.Reverse(records)
	equal(t, records, want)
	for _, id := range sessions {
		_, _, err := db.Session(ctx, id)
		wantErr(t, err, session.ErrNone)
	}
	if _, _, err := db.Session(ctx, other.Session.ID); err != nil {
		t.Error(err)
	}

	// Nothing lets them in, and doing it again is no act.
	before := db.contents(t)
	_, err = db.SignIn(ctx, signIn("late", r.Credential, c.Now()), signedIn("late"))
	wantErr(t, err, account.ErrDisabled)
	_, err = db.StepUp(ctx, stepUp("late", r.Session.ID, r.Credential, Prove{}, c.Now()), steppedUp)
	wantErr(t, err, session.ErrNone)
	_, _, err = db.AddCredential(ctx, addition("more", r.Session.ID, c.Now()), passkeyAdded)
	wantErr(t, err, session.ErrNone)
	_, err = db.RemoveCredential(ctx, removal(r.Credential.ID, r.Session.ID, c.Now()), passkeyRemoved)
	wantErr(t, err, session.ErrNone)
	_, _, err = db.BeginRecovery(ctx, recovering("new", c.Now()), recoveryBegun)
	wantErr(t, err, account.ErrRecovery)
	c.Advance(time.Minute)
	got, ended, err = db.DisableUser(ctx, "cedar-1", false, disabled)
	equal(t, []any{got, ended, err}, []any{user, []string(nil), error(nil)})
	_, _, err = db.DisableUser(ctx, "nobody", true, disabled)
	wantErr(t, err, account.ErrNotFound)
	equal(t, db.contents(t), before)

	got, err = db.EnableUser(ctx, "Cedar-1", enabled)
	user.DisabledAt = time.Time{}
	equal(t, []any{got, err}, []any{user, error(nil)})
	equal(t, must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 1)), []audit.Record{{
		Index: size + 3, At: c.Now(), Kind: audit.Enabled, Actor: user.ID, Reason: "command line",
	}})
	before = db.contents(t)
	got, err = db.EnableUser(ctx, "cedar-1", enabled)
	equal(t, []any{got, err}, []any{user, error(nil)})
	_, err = db.EnableUser(ctx, "nobody", enabled)
	wantErr(t, err, account.ErrNotFound)
	equal(t, db.contents(t), before)
	opened(t, db, c, "again", r.Credential)
	_, _, err = db.BeginRecovery(ctx, recovering("new", c.Now()), recoveryBegun) // its link went with that
	wantErr(t, err, account.ErrRecovery)
	checkInvariants(t, db)
}

// A session that began while its account was disabled has ended with the others, or
// never began.
func TestDisableWhileSigningIn(t *testing.T) {
	db, c := openTest(t)
	for round := range 20 {
		seed := fmt.Sprint(round)
		r := register(t, db, c, seed)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				in := fmt.Sprintf("in %d-%d", round, i)
				if _, err := db.SignIn(context.Background(), signIn(in, r.Credential, c.Now()), signedIn(in)); err != nil && !errors.Is(err, account.ErrDisabled) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				in := fmt.Sprintf("up %d-%d", round, i)
				s := stepUp(in, r.Session.ID, r.Credential, Prove{}, c.Now())
				if _, err := db.StepUp(context.Background(), s, steppedUp); err != nil && !errors.Is(err, session.ErrNone) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, _, err := db.DisableUser(context.Background(), "cedar-"+seed, false, disabled); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		equal(t, db.counts(t)["sessions"], 0)
	}
	checkInvariants(t, db)
}

// An owner who can sign in stays, unless it is said otherwise.
func TestLastOwner(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	members(t, db, c, map[string][]string{"a": {account.Owner, "dev"}, "b": {account.Owner}, "c": {"owners"}})
	disable := func(name string, last bool) error {
		_, _, err := db.DisableUser(ctx, name, last, disabled)
		return err
	}
	enable := func(name string, _ bool) error { _, err := db.EnableUser(ctx, name, enabled); return err }
	set := func(groups ...string) func(string, bool) error {
		return func(name string, last bool) error {
			_, err := db.SetGroups(ctx, name, groups, last, groupsSet)
			return err
		}
	}
	erase := func(name string, last bool) error {
		_, _, err := db.EraseUser(ctx, Erasure{Name: name, LastOwner: last}, audit.Entry{Kind: audit.Erased})
		return err
	}
	for i, step := range []struct {
		act  func(string, bool) error
		name string
		last bool
		want error
	}{
		{disable, "cedar-c", false, nil},
		{disable, "cedar-a", false, nil}, // there is b
		{disable, "cedar-b", false, account.ErrLastOwner},
		{set("ops"), "cedar-b", false, account.ErrLastOwner},
		{erase, "cedar-b", false, account.ErrLastOwner},
		{set(account.Owner, "ops"), "cedar-b", false, nil},
		{set("dev"), "cedar-a", false, nil}, // who is disabled; there is b
		{set("ops"), "cedar-b", false, account.ErrLastOwner},
		{set("ops"), "cedar-b", true, nil},
		{set(account.Owner), "cedar-c", false, nil}, // who is disabled
		{set(account.Owner), "cedar-b", false, nil},
		{disable, "cedar-b", false, account.ErrLastOwner},
		{enable, "cedar-c", false, nil},
		{disable, "cedar-b", false, nil},
		{disable, "cedar-c", false, account.ErrLastOwner},
		{disable, "cedar-c", true, nil},
	} {
		before := db.contents(t)
		if err := step.act(step.name, step.last); !errors.Is(err, step.want) {
			t.Fatalf("step %d: %s: got error %v, want %v", i, step.name, err, step.want)
		}
		if step.want != nil {
			equal(t, db.contents(t), before)
		}
	}
	checkInvariants(t, db)
}

func TestSetGroups(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	members(t, db, c, map[string][]string{"1": {"ops", "dev"}})
	user := must[account.User](t)(db.User(ctx, registration("1", epoch).User.ID))
	for _, tt := range []struct {
		groups, is []string
		detail     map[string]string // nil: no act
	}{
		{[]string{"ops", "dev"}, []string{"dev", "ops"}, nil},
		{[]string{"web", "ops", "web"}, []string{"ops", "web"}, map[string]string{"were": "dev ops", "are": "ops web"}},
		{nil, nil, map[string]string{"were": "ops web", "are": ""}},
		{[]string{}, nil, nil},
		{[]string{account.Owner}, []string{account.Owner}, map[string]string{"were": "", "are": "owner"}},
	} {
		c.Advance(time.Minute)
		size := must[int64](t)(db.TrailSize(ctx))
		got := must[account.User](t)(db.SetGroups(ctx, "CEDAR-1", tt.groups, false, groupsSet))
		user.Groups = tt.is
		equal(t, got, user)
		equal(t, must[account.User](t)(db.User(ctx, user.ID)), user)
		if tt.detail != nil {
			equal(t, must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 1)), []audit.Record{{
				Index: size, At: c.Now(), Kind: audit.GroupsSet, Actor: user.ID, Reason: "command line", Detail: tt.detail,
			}})
			size++
		}
		equal(t, must[int64](t)(db.TrailSize(ctx)), size)
	}
	_, err := db.SetGroups(ctx, "nobody", nil, true, groupsSet)
	wantErr(t, err, account.ErrNotFound)
}

func TestRevokeSessions(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	opened(t, db, c, "in", r.Credential)
	user, n, err := db.RevokeSessions(ctx, "CEDAR-1", "command line")
	equal(t, []any{user.ID, n, err}, []any{r.User.ID, 2, error(nil)})
	var ended []string
	for _, rec := range must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 2)) {
		ended = append(ended, rec.Session)
		equal(t, rec, audit.Record{Index: rec.Index, At: c.Now(), Kind: audit.SessionRevoked, Actor: user.ID, Session: rec.Session, Reason: "command line"})
	}
	slices.Sort(ended)
	equal(t, ended, slices.Sorted(slices.Values([]string{audit.SessionRef(r.Session.ID), audit.SessionRef(sessionID("in"))})))
	if _, _, err := db.Session(ctx, other.Session.ID); err != nil {
		t.Error(err)
	}
	before := db.contents(t)
	_, n, err = db.RevokeSessions(ctx, "cedar-1", "command line")
	equal(t, []any{n, err}, []any{0, error(nil)})
	_, _, err = db.RevokeSessions(ctx, "nobody", "command line")
	wantErr(t, err, account.ErrNotFound)
	equal(t, db.contents(t), before)
	opened(t, db, c, "again", r.Credential)
	checkInvariants(t, db)
}

func TestRevokeAllSessions(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	for _, more := range []int{0, expireBatch - 3, expireBatch - 2, expireBatch + 20} { // and two: around one batch
		var people []Registration
		for i := range 2 {
			people = append(people, register(t, db, c, fmt.Sprintf("%d of %d", i, more)))
		}
		for i := range more {
			opened(t, db, c, fmt.Sprintf("in %d of %d", i, more), people[i%2].Credential)
		}
		size := must[int64](t)(db.TrailSize(ctx))
		equal(t, must[int](t)(db.RevokeAllSessions(ctx, "command line")), more+2)
		equal(t, db.counts(t)["sessions"], 0)
		equal(t, must[int64](t)(db.TrailSize(ctx)), size+int64(more+2))
		rec := must[[]audit.Record](t)(db.Trail(ctx, people[0].User.ID, 0, 1))[0]
		equal(t, rec, audit.Record{Index: rec.Index, At: c.Now(), Kind: audit.SessionRevoked, Actor: people[0].User.ID, Session: rec.Session, Reason: "command line"})
	}
	equal(t, must[int](t)(db.RevokeAllSessions(ctx, "command line")), 0)
	checkInvariants(t, db)
}
