package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
)

func TestSessions(t *testing.T) {
	const idle = 2 * time.Hour
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	c.Advance(time.Hour)
	second := opened(t, db, c, "second", r.Credential)
	list := func(userID string, at time.Time) (ids []string) {
		t.Helper()
		for _, s := range must[[]session.Session](t)(db.Sessions(ctx, userID, at, idle)) {
			got, _, err := db.Session(ctx, s.ID)
			equal(t, []any{s, err}, []any{got, error(nil)})
			ids = append(ids, s.ID)
		}
		slices.Sort(ids)
		return ids
	}
	both := slices.Sorted(slices.Values([]string{r.Session.ID, second}))
	for _, tt := range []struct {
		name string
		at   time.Duration
		want []string
	}{
		{"both", time.Hour, both},
		{"just not idle", idle - time.Millisecond, both},
		{"one idle", idle, []string{second}},
		{"the other just not idle", idle + time.Hour - time.Millisecond, []string{second}},
		{"both idle", idle + time.Hour, nil},
	} {
		if got := list(r.User.ID, epoch.Add(tt.at)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	equal(t, list(other.User.ID, c.Now()), []string{other.Session.ID})
	equal(t, len(list("nobody", c.Now())), 0)

	// Activity keeps a session from being idle, not from its cap.
	if err := db.TouchSession(ctx, r.Session.ID, r.Session.ExpiresAt.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	equal(t, list(r.User.ID, r.Session.ExpiresAt.Add(-time.Millisecond)), []string{r.Session.ID})
	equal(t, len(list(r.User.ID, r.Session.ExpiresAt)), 0)
}

// Of more than session.Most sessions of an account, ExpireSessions ends those that were
// seen longest ago, in batches, each with its entry; another account keeps its own.
func TestMostSessions(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	more := expireBatch + 5
	if err := db.write(ctx, func(t *tx) error {
		for i := range session.Most + more - 1 {
			s := press(fmt.Sprint("more ", i), c.Now()).Session
			s.UserID, s.Credential, s.SeenAt = r.User.ID, account.CredentialRef(r.Credential.ID), c.Now().Add(time.Duration(i+1)*time.Second)
			if err := insertSession(t, s); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	size := must[int64](t)(db.TrailSize(ctx))
	equal(t, must[int](t)(db.ExpireSessions(ctx, 12*time.Hour)), more)
	equal(t, db.count(t, "SELECT count(*) FROM sessions WHERE user_id = ?", r.User.ID), session.Most)
	oldest := []string{r.Session.ID}
	for i := range more - 1 {
		oldest = append(oldest, press(fmt.Sprint("more ", i), c.Now()).Session.ID)
	}
	records := must[[]audit.Record](t)(db.Trail(ctx, r.User.ID, 0, more))
	slices.Reverse(records)
	var ended []string
	for i, record := range records {
		equal(t, record, audit.Record{Index: size + int64(i), At: c.Now(), Kind: audit.SessionRevoked, Actor: r.User.ID, Session: record.Session, Reason: "too many"})
		ended = append(ended, record.Session)
	}
	for i, id := range oldest {
		_, _, err := db.Session(ctx, id)
		wantErr(t, err, session.ErrNone)
		oldest[i] = audit.SessionRef(id)
	}
	slices.Sort(ended)
	slices.Sort(oldest)
	equal(t, ended, oldest)
	if _, _, err := db.Session(ctx, other.Session.ID); err != nil {
		t.Error(err)
	}
	equal(t, must[int](t)(db.ExpireSessions(ctx, 12*time.Hour)), 0)
}

// A second passkey is suggested to who has one, which is not backed up, and not
// again before its time.
func TestSuggest(t *testing.T) {
	const week = 7 * day
	db, c := openTest(t)
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	backedUp := r.Credential
	alone := backedUp
	alone.Flags &^= account.FlagBackupState
	suggested := func(seed string, with account.Credential, after time.Time) bool {
		t.Helper()
		s := signIn(seed, with, c.Now())
		s.SuggestAfter = after
		before := must[int64](t)(db.TrailSize(t.Context()))
		out := must[SignedIn](t)(db.SignIn(t.Context(), s, signedIn(seed)))
		equal(t, must[int64](t)(db.TrailSize(t.Context())), before+1) // it is no act
		return out.Suggest
	}
	begin(t, db, c, "cedar-1", "waits") // which is none yet
	for _, step := range []struct {
		name  string
		later time.Duration
		with  account.Credential
		after time.Duration // before now; negative: the zero time
		want  bool
	}{
		{"not asked for", 0, alone, -1, false},
		{"backed up", 0, backedUp, week, false},
		{"the first time", 0, alone, week, true},
		{"at once again", 0, alone, week, false},
		{"just too early", week, alone, week, false},
		{"again", time.Millisecond, alone, week, true},
		{"another way to count", time.Hour, alone, time.Hour - time.Millisecond, true},
		{"not asked for again", week, alone, -1, false},
		{"to someone else, who has seen none", 0, other.Credential, week, false},
	} {
		c.Advance(step.later)
		after := c.Now().Add(-step.after)
		if step.after < 0 {
			after = time.Time{}
		}
		if got := suggested(step.name, step.with, after); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}
	other.Credential.Flags &^= account.FlagBackupState
	equal(t, suggested("to the other", other.Credential, c.Now()), true)

	// Not to who has two.
	c.Advance(2 * week)
	asks := opened(t, db, c, "asks", r.Credential)
	add(t, db, c, "second", asks)
	equal(t, suggested("with two", alone, c.Now()), false)
	must[[]string](t)(db.RemoveCredential(t.Context(), removal(sum("credential", "second"), asks, c.Now()), passkeyRemoved))
	equal(t, suggested("with one again", alone, c.Now()), true)
}
