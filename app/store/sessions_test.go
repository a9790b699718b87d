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

// An account has no more than session.Most sessions: a sign-in ends those that were
// seen longest ago, each with its entry.
func TestMostSessions(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r, other := register(t, db, c, "1"), register(t, db, c, "other")
	user := must[account.User](t)(db.User(ctx, r.User.ID))
	seen := func(id string, at time.Time) {
		t.Helper()
		if err := db.TouchSession(ctx, id, at); err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{r.Session.ID}
	// begun begins so many, of which each is seen a second later than the one before.
	begun := func(of Registration, more int) {
		t.Helper()
		if err := db.write(ctx, func(t *tx) error {
			for i := range more {
				s := press(fmt.Sprint(len(ids), " of ", of.User.ID), c.Now()).Session
				s.UserID, s.Credential, s.SeenAt = of.User.ID, account.CredentialRef(of.Credential.ID), c.Now().Add(time.Duration(i+1)*time.Second)
				if of.User.ID == r.User.ID {
					ids = append(ids, s.ID)
				}
				if err := insertSession(t, s); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	begun(r, session.Most-2)
	c.Advance(time.Hour)
	enter := func(seed string, change func(*SignIn), ended ...string) {
		t.Helper()
		size := must[int64](t)(db.TrailSize(ctx))
		s := signIn(seed, r.Credential, c.Now())
		if change != nil {
			change(&s)
		}
		out := must[SignedIn](t)(db.SignIn(ctx, s, signedIn(seed)))
		slices.Sort(ended)
		equal(t, slices.Sorted(slices.Values(out.Ended)), ended)
		equal(t, out, SignedIn{User: user, Ended: out.Ended})
		want := []audit.Record{{Kind: audit.SignedIn, Session: audit.SessionRef(s.Session.ID)}}
		for _, id := range out.Ended {
			_, _, err := db.Session(ctx, id)
			wantErr(t, err, session.ErrNone)
			e := audit.Record{Kind: audit.SessionRevoked, Session: audit.SessionRef(id), Reason: "too many", Client: s.Session.Client}
			if id == s.Replaces {
				e.Kind, e.Reason, e.Credential = audit.SessionReplaced, "", refOf("1")
			}
			want = append(want, e)
		}
		for i := range want {
			want[i].Index, want[i].At, want[i].Actor = size+int64(i), c.Now(), user.ID
		}
		got := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, len(want)))
		slices.Reverse(got)
		equal(t, got, want)
		equal(t, must[int64](t)(db.TrailSize(ctx)), size+int64(len(want)))
		if _, _, err := db.Session(ctx, s.Session.ID); err != nil {
			t.Fatal(err)
		}
		equal(t, db.count(t, "SELECT count(*) FROM sessions WHERE user_id = ?", user.ID), min(session.Most, len(ids)+1))
	}
	enter("the last place", nil)
	seen(ids[0], c.Now()) // it began first, and is in use
	enter("one too many", nil, ids[1])
	enter("another", nil, ids[2])
	enter("in place of one", func(s *SignIn) { s.Replaces = ids[9] }, ids[9])

	// Another account's are its own; a step-up is none more, and one that is replaced
	// may be another account's.
	opened(t, db, c, "of the other", other.Credential)
	up := stepUp("up", sessionID("another"), r.Credential, Prove{}, c.Now())
	up.Credential.SignCount = 9
	equal(t, must[SteppedUp](t)(db.StepUp(ctx, up, steppedUp)).Ended, []string{sessionID("another")})

	// Where there were more before there was a limit, all beyond it end.
	begun(r, 3)
	c.Advance(time.Minute)
	enter("after", nil, ids[3], ids[4], ids[5], ids[6])
	if _, _, err := db.Session(ctx, ids[0]); err != nil {
		t.Error(err)
	}
	equal(t, len(must[[]session.Session](t)(db.Sessions(ctx, other.User.ID, c.Now(), day))), 2)
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
