package store

import (
	"bytes"
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

// stepUp is a press for the act, in the session that asks.
func stepUp(seed, asks string, with account.Credential, act Act, now time.Time) StepUp {
	s := signIn(seed, with, now)
	s.Replaces = asks
	return StepUp{Press: s.Press, Credential: s.Credential, Act: act}
}

var steppedUp = audit.Entry{Kind: audit.SteppedUp, Client: passkeyAdded.Client}

func refOf(seed string) string { return account.CredentialRef(sum("credential", seed)) }

// household is an owner with two passkeys and three sessions, whose account someone
// recovers, and another person.
type household struct {
	db            *DB
	c             *clock
	me, other     Registration
	second, waits account.Credential
	here          string // the session that asks
}

func newHousehold(t testing.TB) *household {
	t.Helper()
	h := &household{}
	h.db, h.c = openTest(t)
	h.me = registration("me", h.c.Now())
	h.me.User.Groups = []string{account.Owner}
	must[account.User](t)(h.db.Register(t.Context(), h.me, registered("me")))
	h.other = register(t, h.db, h.c, "other")
	h.here = h.me.Session.ID
	a := addition("second", h.here, h.c.Now())
	a.Credential.Flags = account.FlagUserPresent | account.FlagUserVerified // bound to its device
	var err error
	if _, h.second, err = h.db.AddCredential(t.Context(), a, passkeyAdded); err != nil {
		t.Fatal(err)
	}
	opened(t, h.db, h.c, "elsewhere", h.me.Credential)
	must[SignedIn](t)(h.db.SignIn(t.Context(), signIn("there", h.second, h.c.Now()), signedIn("there")))
	h.waits = begin(t, h.db, h.c, "cedar-me", "waits")
	h.c.Advance(time.Minute)
	return h
}

// What every act changes, says and ends.
func TestStepUp(t *testing.T) {
	newID := sessionID("new")
	invited := account.Invitation{TokenHash: sum("invitation", "1"), Groups: []string{"ops", "dev"}, ExpiresAt: epoch.Add(day)}
	offered := account.Recovery{TokenHash: link("of other"), ExpiresAt: epoch.Add(day)}
	named := func(t *testing.T, h *household, want string) {
		equal(t, must[account.User](t)(h.db.User(t.Context(), h.me.User.ID)).Name, want)
	}
	gone := func(seed string) func(*testing.T, *household) {
		return func(t *testing.T, h *household) {
			_, _, err := h.db.Credential(t.Context(), sum("credential", seed))
			wantErr(t, err, account.ErrNotFound)
		}
	}
	for _, tt := range []struct {
		name   string
		act    Act
		called string         // the user, after it
		says   []audit.Record // its entries, but for those of sessions
		ended  []string       // besides the session that asks
		reason string         // of each of these
		with   string         // the credential that their entries name
		check  func(*testing.T, *household)
	}{
		{name: "prove", act: Prove{}},
		{
			name: "rename a passkey", act: RenamePasskey{refOf("second"), "Blue key 🗝"},
			says: []audit.Record{{Kind: audit.PasskeyRenamed, Credential: refOf("second")}},
			check: func(t *testing.T, h *household) {
				_, k, err := h.db.Credential(t.Context(), h.second.ID)
				equal(t, []any{k.Name, err}, []any{"Blue key 🗝", error(nil)})
			},
		},
		{
			name: "remove another passkey", act: RemovePasskey{refOf("second")},
			says:  []audit.Record{{Kind: audit.PasskeyRemoved, Credential: refOf("second")}},
			ended: []string{sessionID("there")}, reason: "passkey removed", with: refOf("second"), check: gone("second"),
		},
		{
			name: "remove the passkey of the press", act: RemovePasskey{refOf("me")},
			says:  []audit.Record{{Kind: audit.PasskeyRemoved, Credential: refOf("me")}},
			ended: []string{sessionID("elsewhere"), newID}, reason: "passkey removed", with: refOf("me"), check: gone("me"),
		},
		{
			name: "end the others", act: EndOthers{},
			ended: []string{sessionID("elsewhere"), sessionID("there")}, reason: "from another session",
		},
		{
			name: "rename", act: Rename{"maple-7"}, called: "maple-7",
			says:  []audit.Record{{Kind: audit.Renamed, Detail: map[string]string{"from": "cedar-me", "to": "maple-7"}}},
			check: func(t *testing.T, h *household) { named(t, h, "maple-7") },
		},
		{
			name: "rename in another case", act: Rename{"Cedar-Me"}, called: "Cedar-Me",
			says:  []audit.Record{{Kind: audit.Renamed, Detail: map[string]string{"from": "cedar-me", "to": "Cedar-Me"}}},
			check: func(t *testing.T, h *household) { named(t, h, "Cedar-Me") },
		},
		{name: "rename to the same", act: Rename{"cedar-me"}},
		{
			name: "cancel the recovery", act: CancelRecovery{},
			says: []audit.Record{{Kind: audit.RecoveryCancelled, Credential: refOf("waits"), Reason: "account page"}},
			check: func(t *testing.T, h *household) {
				gone("waits")(t, h)
				_, _, err := h.db.Waiting(t.Context(), h.me.User.ID)
				wantErr(t, err, account.ErrNotFound)
				r := recovering("again", h.c.Now())
				r.TokenHash = link("waits")
				_, _, err = h.db.BeginRecovery(t.Context(), r, recoveryBegun)
				wantErr(t, err, account.ErrRecovery)
			},
		},
		{
			name: "invite", act: MakeInvitation{invited},
			says: []audit.Record{{Kind: audit.InvitationMade, Reason: "account page", Detail: map[string]string{"groups": "ops dev"}}},
			check: func(t *testing.T, h *household) {
				want := invited
				want.Groups, want.CreatedAt = []string{"dev", "ops"}, h.c.Now()
				equal(t, must[account.Invitation](t)(h.db.Invitation(t.Context(), invited.TokenHash)), want)
			},
		},
		{
			name: "invite to no group", act: MakeInvitation{account.Invitation{TokenHash: invited.TokenHash}},
			says: []audit.Record{{Kind: audit.InvitationMade, Reason: "account page"}},
		},
		{
			name: "offer a recovery", act: MakeRecovery{"CEDAR-other", offered},
			says: []audit.Record{{Kind: audit.RecoveryMade}}, // and nothing of whom for
			check: func(t *testing.T, h *household) {
				want := offered
				want.UserID, want.CreatedAt = h.other.User.ID, h.c.Now()
				got, u, err := h.db.Recovery(t.Context(), offered.TokenHash)
				equal(t, []any{got, u.Name, err}, []any{want, "cedar-other", error(nil)})
				// The entry does not say who the owner is.
				equal(t, must[[]audit.Record](t)(h.db.Trail(t.Context(), h.other.User.ID, 0, 1)), []audit.Record{{
					Index: must[int64](t)(h.db.TrailSize(t.Context())) - 1, At: h.c.Now(),
					Kind: audit.RecoveryOffered, Actor: h.other.User.ID, Reason: "account page",
				}})
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHousehold(t)
			db, ctx, now := h.db, t.Context(), h.c.Now()
			size, before := must[int64](t)(db.TrailSize(ctx)), db.counts(t)
			s := stepUp("new", h.here, h.me.Credential, tt.act, now)
			s.Credential.SignCount = 9
			// Whatever the entry says.
			e := steppedUp
			e.Actor, e.Credential, e.Session, e.Detail = "someone", "another", "elsewhere", map[string]string{"groups": "all"}
			out := must[SteppedUp](t)(db.StepUp(ctx, s, e, audit.Entry{Kind: audit.BackupEligibleChanged}))

			user := account.User{ID: h.me.User.ID, Handle: h.me.User.Handle, Name: "cedar-me", Groups: []string{account.Owner}, CreatedAt: epoch}
			if tt.called != "" {
				user.Name = tt.called
			}
			equal(t, out.User, user)
			equal(t, out.Ended[0], h.here)
			ended := slices.Sorted(slices.Values(out.Ended[1:]))
			slices.Sort(tt.ended)
			if !slices.Equal(ended, tt.ended) {
				t.Fatalf("ended %q, want %q", ended, tt.ended)
			}

			says := append([]audit.Record{
				{Kind: audit.SteppedUp, Credential: refOf("me"), Client: steppedUp.Client, Detail: map[string]string{"replaced": audit.SessionRef(h.here)}},
				{Kind: audit.BackupEligibleChanged},
			}, tt.says...)
			for i := range says {
				says[i].Session = audit.SessionRef(newID)
				if i > 1 {
					says[i].Client = s.Session.Client
				}
			}
			says[1].Session = ""
			for _, id := range out.Ended[1:] {
				says = append(says, audit.Record{
					Kind: audit.SessionRevoked, Credential: tt.with, Session: audit.SessionRef(id), Reason: tt.reason, Client: s.Session.Client,
				})
			}
			for i := range says {
				says[i].Index, says[i].At, says[i].Actor = size+int64(i), now, user.ID
			}
			records := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, len(says)))
			slices.Reverse(records)
			equal(t, records, says)

			// The session has another id; what ended is gone, and nothing else is.
			for _, id := range out.Ended {
				_, _, err := db.Session(ctx, id)
				wantErr(t, err, session.ErrNone)
			}
			opened := s.Session // whose time runs on, with a new proof
			opened.CreatedAt, opened.ExpiresAt = h.me.Session.CreatedAt, h.me.Session.ExpiresAt
			equal(t, out.Session, opened)
			if !slices.Contains(out.Ended, newID) {
				opened.UserID, opened.Credential = user.ID, refOf("me")
				got, u, err := db.Session(ctx, newID)
				equal(t, []any{got, u, err}, []any{opened, user, error(nil)})
			}
			after := db.counts(t)
			equal(t, []int{after["sessions"], after["challenges"]}, []int{before["sessions"] + 1 - len(out.Ended), before["challenges"] + 1})
			if _, used, err := db.Credential(ctx, h.me.Credential.ID); err == nil {
				equal(t, []any{used.SignCount, used.LastUsedAt}, []any{uint32(9), now})
			}
			if tt.check != nil {
				tt.check(t, h)
			}
			checkInvariants(t, db)
		})
	}
}

// Every refusal of a step-up changes nothing, and of several the first counts.
func TestStepUpRefused(t *testing.T) {
	exec := func(t *testing.T, db *DB, query string, args ...any) {
		if err := db.write(t.Context(), func(t *tx) error { _, err := t.exec(query, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	disableOther := func(t *testing.T, h *household, _ *StepUp) {
		if _, _, err := h.db.DisableUser(t.Context(), "cedar-other", false, audit.Entry{Kind: audit.Disabled}); err != nil {
			t.Fatal(err)
		}
	}
	// The act would be refused too, at the very end.
	noAct := RenamePasskey{"unknown", "x"}
	used := func(s *StepUp) { s.Challenge = sum("challenge", "me") }
	expired := func(s *StepUp) { s.Expires = epoch }
	noSession := func(s *StepUp) { s.Replaces = "unknown" }
	noPasskey := func(s *StepUp) { s.Credential.ID = []byte("unknown") }
	others := func(h *household, s *StepUp) {
		s.Credential = h.other.Credential
		s.Credential.SignCount, s.Credential.LastUsedAt = 99, h.c.Now()
	}
	byOther := func(h *household, s *StepUp) { others(h, s); s.Replaces = h.other.Session.ID }
	recovers := func(t *testing.T, h *household, s *StepUp) {
		s.Credential = h.waits
		s.Credential.SignCount = 99
	}
	later := func(t *testing.T, h *household, s *StepUp) {
		h.c.Advance(day)
		s.Replaces = opened(t, h.db, h.c, "later", h.me.Credential)
		s.Expires = h.c.Now().Add(time.Minute)
	}
	act := func(a Act) func(*testing.T, *household, *StepUp) {
		return func(_ *testing.T, _ *household, s *StepUp) { s.Act = a }
	}
	for _, tt := range []struct {
		name    string
		prepare func(*testing.T, *household, *StepUp)
		want    error
	}{
		{"challenge used", func(_ *testing.T, _ *household, s *StepUp) { used(s) }, passkey.ErrChallengeUsed},
		{"challenge used and expired, no session, no passkey", func(_ *testing.T, _ *household, s *StepUp) {
			used(s)
			expired(s)
			noSession(s)
			noPasskey(s)
		}, passkey.ErrChallengeUsed},
		{"challenge expired", func(_ *testing.T, _ *household, s *StepUp) { expired(s) }, passkey.ErrChallenge},
		{"challenge expired, no session, no passkey", func(_ *testing.T, _ *household, s *StepUp) {
			expired(s)
			noSession(s)
			noPasskey(s)
		}, passkey.ErrChallenge},
		{"no session given", func(_ *testing.T, _ *household, s *StepUp) { s.Replaces = "" }, session.ErrNone},
		{"session unknown and no passkey", func(_ *testing.T, _ *household, s *StepUp) { noSession(s); noPasskey(s) }, session.ErrNone},
		{"session over", func(t *testing.T, h *household, s *StepUp) {
			if err := h.db.EndSession(t.Context(), h.here, audit.Entry{Kind: audit.SignedOut, Session: h.here}); err != nil {
				t.Fatal(err)
			}
		}, session.ErrNone},
		{"session at its cap", func(t *testing.T, h *household, s *StepUp) {
			exec(t, h.db, "UPDATE sessions SET expires_at = ? WHERE id = ?", stamp(h.c.Now()), h.here)
		}, session.ErrNone},
		{"no passkey", func(_ *testing.T, _ *household, s *StepUp) { noPasskey(s); s.Act = noAct }, passkey.ErrUnknown},
		{"counter overtaken", func(_ *testing.T, h *household, s *StepUp) {
			s.Credential = h.second // which was used since
			s.Act = noAct
		}, passkey.ErrRefused},
		{"counter overtaken, of the last owner who erases", func(_ *testing.T, h *household, s *StepUp) {
			s.Credential = h.second
			s.Act = EraseSelf{}
		}, passkey.ErrRefused},
		{"another's, overtaken", func(t *testing.T, h *household, s *StepUp) {
			exec(t, h.db, "UPDATE credentials SET flags = 5 WHERE ref = ?", refOf("other"))
			others(h, s)
			s.Credential.SignCount = 1
		}, account.ErrOtherAccount},
		{"another's, overtaken, of a disabled account", func(t *testing.T, h *household, s *StepUp) {
			exec(t, h.db, "UPDATE credentials SET flags = 5 WHERE ref = ?", refOf("other"))
			disableOther(t, h, s)
			others(h, s)
			s.Credential.SignCount = 1
		}, account.ErrOtherAccount},
		{"of a disabled account", func(t *testing.T, h *household, s *StepUp) { disableOther(t, h, s); others(h, s) }, account.ErrOtherAccount},
		{"of a disabled account, in its session", func(t *testing.T, h *household, s *StepUp) { disableOther(t, h, s); byOther(h, s) }, session.ErrNone},
		{"of a recovery that waits", recovers, account.ErrOtherAccount},
		{"of a recovery that waits, to cancel it", func(t *testing.T, h *household, s *StepUp) {
			recovers(t, h, s)
			s.Act = CancelRecovery{}
		}, account.ErrOtherAccount},
		{"of a recovery that waits, overtaken", func(t *testing.T, h *household, s *StepUp) {
			exec(t, h.db, "UPDATE credentials SET flags = 5 WHERE ref = ?", refOf("waits"))
			recovers(t, h, s)
			s.Credential.SignCount = 1
		}, account.ErrOtherAccount},
		{"of a recovery that waits, in another's session", func(t *testing.T, h *household, s *StepUp) {
			recovers(t, h, s)
			s.Replaces = h.other.Session.ID
		}, account.ErrOtherAccount},
		{"of a recovery whose time has come", func(t *testing.T, h *household, s *StepUp) { recovers(t, h, s); later(t, h, s) }, account.ErrOtherAccount},
		{"another account's", func(_ *testing.T, h *household, s *StepUp) { others(h, s); s.Act = noAct }, account.ErrOtherAccount},
		{"in another's session", func(_ *testing.T, h *household, s *StepUp) { s.Replaces = h.other.Session.ID; s.Act = EraseSelf{} }, account.ErrOtherAccount},

		{"rename: unknown", act(noAct), account.ErrNotFound},
		{"rename: another's", act(RenamePasskey{refOf("other"), "x"}), account.ErrNotFound},
		{"rename: one that waits", act(RenamePasskey{refOf("waits"), "x"}), account.ErrNotFound},
		{"remove: unknown", act(RemovePasskey{"unknown"}), account.ErrNotFound},
		{"remove: nothing", act(RemovePasskey{}), account.ErrNotFound},
		{"remove: another's", act(RemovePasskey{refOf("other")}), account.ErrNotFound},
		{"remove: one that waits", act(RemovePasskey{refOf("waits")}), account.ErrNotFound},
		{"remove: the last, beside one that waits", func(t *testing.T, h *household, s *StepUp) {
			begin(t, h.db, h.c, "cedar-other", "of other")
			byOther(h, s)
			s.Act = RemovePasskey{refOf("other")}
		}, account.ErrLastCredential},
		{"name taken", act(Rename{"cedar-other"}), account.ErrNameTaken},
		{"name taken in another case", act(Rename{"CEDAR-Other"}), account.ErrNameTaken},
		{"the last owner erases", act(EraseSelf{}), account.ErrLastOwner},
		{"the last owner who is not disabled erases", func(t *testing.T, h *household, s *StepUp) {
			must[account.User](t)(h.db.SetGroups(t.Context(), "cedar-other", []string{account.Owner}, false, audit.Entry{Kind: audit.GroupsSet}))
			disableOther(t, h, s)
			s.Act = EraseSelf{}
		}, account.ErrLastOwner},
		{"cancel: none waits", func(_ *testing.T, h *household, s *StepUp) { byOther(h, s); s.Act = CancelRecovery{} }, account.ErrNotFound},
		{"invite: no owner", func(_ *testing.T, h *household, s *StepUp) {
			byOther(h, s)
			s.Act = MakeInvitation{account.Invitation{TokenHash: link("x")}}
		}, account.ErrNotOwner},
		{"offer: no owner", func(_ *testing.T, h *household, s *StepUp) {
			byOther(h, s)
			s.Act = MakeRecovery{"nobody", recovery("x", epoch)}
		}, account.ErrNotOwner},
		{"offer: disabled", func(t *testing.T, h *household, s *StepUp) {
			disableOther(t, h, s)
			s.Act = MakeRecovery{"cedar-other", recovery("x", epoch)}
		}, account.ErrDisabled},
		{"offer: nobody", act(MakeRecovery{"nobody", recovery("x", epoch)}), account.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHousehold(t)
			s := stepUp("new", h.here, h.me.Credential, EndOthers{}, h.c.Now())
			tt.prepare(t, h, &s)
			before := h.db.contents(t)
			out, err := h.db.StepUp(t.Context(), s, steppedUp)
			wantErr(t, err, tt.want)
			equal(t, out, SteppedUp{})
			equal(t, h.db.contents(t), before)
			trailtest.Check(t, h.db)
		})
	}
}

// However often a session steps up, it began when it began and ends when it would
// have; only its proof is new.
func TestStepUpKeepsTheCap(t *testing.T) {
	db, c := openTest(t)
	r := register(t, db, c, "1")
	asks, ends := r.Session.ID, r.Session.ExpiresAt
	for i := 1; c.Now().Before(ends.Add(-time.Hour)); i++ {
		c.Advance(time.Hour)
		r.Credential.SignCount++
		up := stepUp(fmt.Sprint("up ", i), asks, r.Credential, Prove{}, c.Now())
		out := must[SteppedUp](t)(db.StepUp(t.Context(), up, steppedUp))
		asks = up.Session.ID
		row, _, err := db.Session(t.Context(), asks)
		for _, s := range []session.Session{out.Session, row} {
			equal(t, []any{s.ID, s.CreatedAt, s.ExpiresAt, s.SeenAt, s.AuthTime, err}, []any{asks, epoch, ends, c.Now(), c.Now(), error(nil)})
		}
	}
	c.Advance(time.Hour)
	_, err := db.StepUp(t.Context(), stepUp("at its end", asks, r.Credential, Prove{}, c.Now()), steppedUp)
	wantErr(t, err, session.ErrNone)
	equal(t, must[int](t)(db.ExpireSessions(t.Context(), day)), 1)
}

// Of 50 presses at once, with one challenge or in one session, one acts.
func TestOneStepUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*StepUp)
		want   error
	}{
		{"one challenge", func(s *StepUp) { s.Challenge = []byte("the one") }, passkey.ErrChallengeUsed},
		{"one session", func(*StepUp) {}, session.ErrNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHousehold(t)
			before := h.db.counts(t)
			var won atomic.Int32
			var wg sync.WaitGroup
			for i := range 50 {
				seed := fmt.Sprint(i)
				s := stepUp(seed, h.here, h.me.Credential, MakeInvitation{account.Invitation{TokenHash: sum("invitation", seed)}}, h.c.Now())
				tt.change(&s)
				wg.Go(func() {
					switch _, err := h.db.StepUp(context.Background(), s, steppedUp); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, tt.want):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			before["invitations"]++
			before["challenges"]++
			before["trail_leaves"] += 2
			equal(t, h.db.counts(t), before)
			equal(t, won.Load(), 1)
			checkInvariants(t, h.db)
		})
	}
}

// Who erases their account leaves nothing, not even what the press for it wrote.
func TestStepUpErases(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	db := openAt(t, url, c.Now)
	ctx := t.Context()
	var people []*person
	for i := range 30 {
		people = append(people, newPerson(t, db, c, fmt.Sprint(i)))
	}
	gone, stays := people[11], people[12]
	for _, p := range []*person{stays, gone} { // two owners
		must[account.User](t)(db.SetGroups(ctx, p.Names[0], []string{account.Owner}, false, audit.Entry{Kind: audit.GroupsSet}))
	}
	waits := begin(t, db, c, gone.Names[0], "waits")
	gone.kinds = append(gone.kinds, audit.GroupsSet, audit.RecoveryOffered, audit.RecoveryBegun)
	gone.also = map[string][]byte{"link": link("waits"), "id of what waits": waits.ID, "ref of what waits": []byte(refOf("waits"))}
	for i, p := range people {
		p.signIn(t, db, c, fmt.Sprint("in ", i))
	}
	published, key := keep(t, db), db.keyOf(t, gone.User.ID)

	s := stepUp("erases", gone.Session.ID, gone.Credential, EraseSelf{}, c.Now())
	s.Session.Client = gone.Session.Client
	e := steppedUp
	e.Client = gone.Session.Client
	out := must[SteppedUp](t)(db.StepUp(ctx, s, e))
	gone.sessions = append(gone.sessions, s.Session.ID)
	gone.noTrace(t, path, key)
	equal(t, out.User, account.User{ID: gone.User.ID, Handle: gone.User.Handle, Name: gone.Names[0], Groups: []string{account.Owner}, CreatedAt: epoch})
	equal(t, slices.Sorted(slices.Values(out.Ended)), slices.Sorted(slices.Values(gone.sessions)))
	equal(t, db.counts(t), map[string]int{"users": 29, "credentials": 29, "sessions": 58, "challenges": 62, "invitations": 0, "trail_leaves": 30 + 30 + 2 + 2 + 2})
	equal(t, db.count(t, "SELECT count(*) FROM recoveries"), 0)

	// registered, groups, offered, begun, signed in, stepped up
	report := trailtest.Check(t, db, published)
	equal(t, report.Erased, int64(len(gone.kinds)+1))
	entries := must[[]audit.Stored](t)(db.Entries(ctx, 0, 100))
	last := entries[len(entries)-1]
	equal(t, []any{last.Leaf.Kind, string(last.Payload), last.Leaf.Actor == nil}, []any{audit.Erased, `{"reason":"account page"}`, true})
	if before := entries[len(entries)-2]; before.Leaf.Kind != audit.SteppedUp || before.Payload != nil || !bytes.Equal(before.Leaf.Actor, last.Leaf.Subject) {
		t.Errorf("before it stands %+v", before)
	}
	checkInvariants(t, db)
	_, err := db.StepUp(ctx, stepUp("again", s.Session.ID, gone.Credential, Prove{}, c.Now()), steppedUp)
	wantErr(t, err, session.ErrNone)
}
