package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/runs"
	"bio/app/session"
	"bio/app/store/trailtest"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A clock that stands still until it is moved.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(epoch.UnixMilli())
	return c
}

func (c *clock) Now() time.Time          { return time.UnixMilli(c.ms.Load()).UTC() }
func (c *clock) Advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func fileURL(t testing.TB) string { return "file:" + filepath.Join(t.TempDir(), "bio.db") }

func openAt(t testing.TB, url string, now func() time.Time) *DB {
	t.Helper()
	db, err := Open(context.Background(), url, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openTest(t testing.TB) (*DB, *clock) {
	t.Helper()
	c := newClock()
	return openAt(t, fileURL(t), c.Now), c
}

// other opens the same file as another program would.
func other(t testing.TB, url string) *sql.DB {
	t.Helper()
	path, err := filePath(url)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := openPool(path, "_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

func sum(kind, seed string) []byte {
	s := sha256.Sum256([]byte(kind + seed))
	return s[:]
}

func sessionID(seed string) string { return hex.EncodeToString(sum("session", seed)[:16]) }

func press(seed string, now time.Time) Press {
	return Press{
		Challenge: sum("challenge", seed),
		Expires:   now.Add(5 * time.Minute),
		Session: session.Session{
			ID: sessionID(seed), CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(24 * time.Hour), AuthTime: now,
			UserVerified: true, Client: audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"},
		},
	}
}

func registration(seed string, now time.Time) Registration {
	handle := sum("handle", seed)
	return Registration{
		Press: press(seed, now),
		User:  account.User{ID: account.UserID(handle), Handle: handle},
		Names: []string{"cedar-" + seed, "otter-" + seed},
		Credential: account.Credential{
			ID: sum("credential", seed), PublicKey: []byte{0xa5, 1, 2}, SignCount: 1, Flags: 0x1d, AAGUID: make([]byte, 16),
			Transports: []string{"internal", "hybrid"}, AttestationType: "none", AttestationFormat: "none", Name: "Passkey",
		},
	}
}

func signIn(seed string, c account.Credential, now time.Time) SignIn {
	c.SignCount++
	c.LastUsedAt = now
	return SignIn{Press: press(seed, now), Credential: c}
}

func registered(seed string) audit.Entry {
	return audit.Entry{Kind: audit.Registered, Credential: account.CredentialRef(sum("credential", seed)), Session: sessionID(seed)}
}

func signedIn(seed string) audit.Entry {
	return audit.Entry{Kind: audit.SignedIn, Session: sessionID(seed)}
}

// recorded records entries.
func recorded(db *DB, entries ...audit.Entry) error {
	_, err := db.Record(context.Background(), entries...)
	return err
}

// count runs a query of one number beside the store.
func (db *DB) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.reads.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// counts gives the sizes of the tables.
func (db *DB) counts(t testing.TB) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, table := range []string{"users", "credentials", "sessions", "challenges", "invitations", "trail_leaves"} {
		all[table] = db.count(t, "SELECT count(*) FROM "+table)
	}
	return all
}

// contents is all that the tables hold, by their names.
func (db *DB) contents(t testing.TB) map[string][][]any {
	t.Helper()
	names := must[table](t)(readTable(t.Context(), db.reads, "sqlite_schema"))
	all := map[string][][]any{}
	for _, row := range names.rows {
		if kind, name := row[0].(string), row[1].(string); kind == "table" && !strings.HasPrefix(name, "sqlite_") {
			all[name] = must[table](t)(readTable(t.Context(), db.reads, name)).rows
		}
	}
	return all
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// isErr is errors.Is, and compares an account.EarlyError by what it says.
func isErr(err, target error) bool {
	var got, want *account.EarlyError
	if errors.As(target, &want) {
		return errors.As(err, &got) && *got == *want
	}
	return errors.Is(err, target)
}

func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !isErr(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
}

func TestRegisterReadsBack(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := registration("1", c.Now())
	r.User.Groups = []string{"ops", "dev", "ops"}
	user := must[account.User](t)(db.Register(ctx, r, registered("1")))

	want := account.User{ID: r.User.ID, Handle: r.User.Handle, Name: "cedar-1", Groups: []string{"dev", "ops"}, CreatedAt: epoch}
	equal(t, user, want)
	equal(t, must[account.User](t)(db.User(ctx, user.ID)), want)

	cred := r.Credential
	cred.UserID, cred.UserHandle, cred.CreatedAt, cred.LastUsedAt = user.ID, user.Handle, epoch, epoch
	u, got, err := db.Credential(ctx, cred.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, u, want)
	equal(t, got, cred)
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, user.ID)), []account.Credential{cred})
	equal(t, db.count(t, "SELECT count(*) FROM credentials WHERE device_type = 'multi' AND backup_eligible = 1 AND backup_state = 1"), 1)

	s, u, err := db.Session(ctx, r.Session.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSession := r.Session
	wantSession.UserID, wantSession.Credential = user.ID, account.CredentialRef(cred.ID)
	equal(t, s, wantSession)
	equal(t, u, want)

	equal(t, must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 10)), []audit.Record{{
		Index: 0, At: epoch, Kind: audit.Registered, Actor: user.ID,
		Credential: account.CredentialRef(cred.ID), Session: audit.SessionRef(s.ID),
	}})
}

// A credential's id stands in the file once, in its own row, however often the
// row was written; and not at all when it has gone.
func TestCredentialIDStandsOnce(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	db := openAt(t, url, c.Now)
	ctx := t.Context()
	copies := map[string]int{}
	var all []Registration
	for i := range 60 {
		r := registration(fmt.Sprint(i), c.Now())
		must[account.User](t)(db.Register(ctx, r, registered(fmt.Sprint(i))))
		copies[string(r.Credential.ID)] = 1
		all = append(all, r)
	}
	for round := range 3 {
		for i, r := range all {
			seed := fmt.Sprintf("%d in round %d", i, round)
			s := signIn(seed, r.Credential, c.Now())
			s.Credential.SignCount <<= 8 * round // so that rows grow, and pages are laid out anew
			s.Replaces = r.Session.ID
			must[SignedIn](t)(db.SignIn(ctx, s, audit.Entry{
				Kind: audit.SignedIn, Credential: account.CredentialRef(r.Credential.ID), Session: s.Session.ID,
			}))
		}
	}
	// Another passkey for each, called ever longer names; of every third account
	// one of the two goes, the older or the newer.
	for i, r := range all {
		asks := opened(t, db, c, fmt.Sprint("to add ", i), r.Credential)
		second := add(t, db, c, fmt.Sprint("second of ", i), asks)
		copies[string(second.ID)] = 1
		for length := range 4 {
			for _, id := range [][]byte{r.Credential.ID, second.ID} {
				must[account.Credential](t)(db.RenameCredential(ctx, r.User.ID, id, strings.Repeat("key", 7*length+1), passkeyRenamed))
			}
		}
		if i > 0 && i%3 == 0 {
			gone := [][]byte{r.Credential.ID, second.ID}[i%2]
			must[[]string](t)(db.RemoveCredential(ctx, removal(gone, asks, c.Now()), passkeyRemoved))
			copies[string(gone)] = 0
		}
	}
	dup := registration("dup", c.Now())
	must[account.User](t)(db.Register(ctx, dup, registered("dup")))
	s := signIn("undo", all[0].Credential, c.Now())
	s.Credential.SignCount <<= 24
	s.Replaces, s.Undo, s.UndoAfter = dup.Session.ID, dup.User.ID, epoch
	if out := must[SignedIn](t)(db.SignIn(ctx, s, signedIn("undo"))); !out.Removed {
		t.Fatal("the duplicate is still there")
	}
	copies[string(dup.Credential.ID)] = 0
	must[int](t)(db.ExpireSessions(ctx, 0))
	if err := db.Close(); err != nil { // which folds the WAL into the file
		t.Fatal(err)
	}
	path, _ := filePath(url)
	file := must[[]byte](t)(os.ReadFile(path))
	lower := bytes.ToLower(file)
	for id, want := range copies {
		if got := bytes.Count(file, []byte(id)); got != want {
			t.Errorf("%x stands %d times, want %d", id, got, want)
		}
		for _, form := range []string{hex.EncodeToString([]byte(id)), base64.RawURLEncoding.EncodeToString([]byte(id)), base64.RawStdEncoding.EncodeToString([]byte(id))} {
			if bytes.Contains(lower, []byte(strings.ToLower(form))) {
				t.Errorf("%x stands as %s", id, form)
			}
		}
	}
}

func TestReadsOfNothing(t *testing.T) {
	db, _ := openTest(t)
	ctx := t.Context()
	_, err := db.User(ctx, "x")
	wantErr(t, err, account.ErrNotFound)
	for _, id := range [][]byte{nil, {}, {1}} {
		_, _, err = db.Credential(ctx, id)
		wantErr(t, err, account.ErrNotFound)
		_, err = db.Invitation(ctx, id)
		wantErr(t, err, account.ErrNotFound)
		_, _, err = db.Recovery(ctx, id)
		wantErr(t, err, account.ErrNotFound)
	}
	_, _, err = db.Waiting(ctx, "x")
	wantErr(t, err, account.ErrNotFound)
	equal(t, len(must[[]session.Session](t)(db.Sessions(ctx, "x", epoch, time.Hour))), 0)
	_, _, err = db.Session(ctx, "x")
	wantErr(t, err, session.ErrNone)
	equal(t, len(must[[]account.Credential](t)(db.Credentials(ctx, "x"))), 0)
	equal(t, len(must[[]audit.Record](t)(db.Trail(ctx, "x", 0, 10))), 0)
	wantErr(t, db.EndSession(ctx, "x", audit.Entry{Kind: audit.SignedOut}), session.ErrNone)
	if err := db.TouchSession(ctx, "x", epoch); err != nil {
		t.Fatal(err)
	}
	equal(t, db.counts(t)["trail_leaves"], 0)
}

// Every refusal of a press changes nothing at all.
func TestPressRefused(t *testing.T) {
	used := sum("invitation", "used")
	for _, tt := range []struct {
		name     string
		register func(*Registration)
		signIn   func(*SignIn)
		want     error
	}{
		{"challenge used", func(r *Registration) { r.Challenge = sum("challenge", "1") }, func(s *SignIn) { s.Challenge = sum("challenge", "1") }, passkey.ErrChallengeUsed},
		{"challenge used and credential exists", func(r *Registration) { *r = registration("1", epoch); r.Session.ID = "new" }, nil, passkey.ErrChallengeUsed},
		{"challenge used and credential gone", nil, func(s *SignIn) { s.Challenge = sum("challenge", "1"); s.Credential.ID = []byte("gone") }, passkey.ErrChallengeUsed},
		{"challenge expired", func(r *Registration) { r.Expires = epoch.Add(-time.Millisecond) }, func(s *SignIn) { s.Expires = epoch.Add(-time.Millisecond) }, passkey.ErrChallenge},
		{"credential exists", func(r *Registration) { r.Credential.ID = sum("credential", "1") }, nil, account.ErrCredentialExists},
		{"credential gone", nil, func(s *SignIn) { s.Credential.ID = []byte("gone") }, account.ErrNotFound},
		{"names taken", func(r *Registration) { r.Names = []string{"CEDAR-1", "cedar-1"} }, nil, ErrNamesTaken},
		{"no name", func(r *Registration) { r.Names = nil }, nil, ErrNamesTaken},
		{"invitation unknown", func(r *Registration) { r.Invitation = []byte("unknown") }, func(s *SignIn) { s.Invitation = []byte("unknown") }, account.ErrInvitation},
		{"invitation empty", func(r *Registration) { r.Invitation = []byte{} }, func(s *SignIn) { s.Invitation = []byte{} }, account.ErrInvitation},
		{"invitation used", func(r *Registration) { r.Invitation = used }, func(s *SignIn) { s.Invitation = used }, account.ErrInvitation},
		{"invitation expired", func(r *Registration) { r.Invitation = sum("invitation", "old") }, func(s *SignIn) { s.Invitation = sum("invitation", "old") }, account.ErrInvitation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			for hash, inv := range map[string]account.Invitation{
				string(used): {Groups: []string{"ops"}}, string(sum("invitation", "old")): {ExpiresAt: epoch},
			} {
				inv.TokenHash = []byte(hash)
				if err := db.Invite(ctx, inv, audit.Entry{Kind: audit.InvitationMade}); err != nil {
					t.Fatal(err)
				}
			}
			first := registration("1", c.Now())
			first.Invitation = used
			user := must[account.User](t)(db.Register(ctx, first, registered("1")))
			_, cred, err := db.Credential(ctx, first.Credential.ID)
			if err != nil {
				t.Fatal(err)
			}
			before := db.counts(t)
			if tt.register != nil {
				r := registration("2", c.Now())
				r.Replaces = first.Session.ID
				tt.register(&r)
				_, err := db.Register(ctx, r, registered("2"))
				wantErr(t, err, tt.want)
			}
			if tt.signIn != nil {
				s := signIn("3", cred, c.Now())
				s.Replaces = first.Session.ID
				tt.signIn(&s)
				_, err := db.SignIn(ctx, s, signedIn("3"))
				wantErr(t, err, tt.want)
			}
			equal(t, db.counts(t), before)
			_, after, _ := db.Credential(ctx, first.Credential.ID)
			equal(t, after, cred)
			equal(t, must[account.User](t)(db.User(ctx, user.ID)), user)
		})
	}
}

func TestNameFallsToNextCandidate(t *testing.T) {
	db, c := openTest(t)
	must[account.User](t)(db.Register(t.Context(), registration("1", c.Now()), registered("1")))
	r := registration("2", c.Now())
	r.Names = []string{"Cedar-1", "otter-2", "never"}
	u := must[account.User](t)(db.Register(t.Context(), r, registered("x")))
	equal(t, u.Name, "otter-2")
	equal(t, must[account.User](t)(db.User(t.Context(), u.ID)).Name, "otter-2")
}

// An authenticator may give no AAGUID and no transports.
func TestEmptyBlobAndLists(t *testing.T) {
	db, c := openTest(t)
	r := registration("1", c.Now())
	r.Credential.AAGUID, r.Credential.Transports = nil, nil
	must[account.User](t)(db.Register(t.Context(), r, registered("x")))
	_, got, err := db.Credential(t.Context(), r.Credential.ID)
	if err != nil || len(got.AAGUID) != 0 || got.Transports != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestSignIn(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := registration("1", c.Now())
	user := must[account.User](t)(db.Register(ctx, r, registered("1")))
	if err := db.Invite(ctx, account.Invitation{TokenHash: []byte("hash"), Groups: []string{"owner"}, ExpiresAt: c.Now().Add(time.Hour)},
		audit.Entry{Kind: audit.InvitationMade}); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	s := signIn("2", r.Credential, c.Now())
	s.Credential.Flags, s.Credential.SignCount = 0x0d, 9
	s.Replaces, s.Invitation = r.Session.ID, []byte("hash")
	out := must[SignedIn](t)(db.SignIn(ctx, s, signedIn("2")))
	user.Groups = []string{"owner"}
	equal(t, out, SignedIn{User: user, Ended: []string{r.Session.ID}})
	equal(t, must[account.User](t)(db.User(ctx, user.ID)), user)
	_, _, err := db.Session(ctx, r.Session.ID)
	wantErr(t, err, session.ErrNone)
	_, cred, _ := db.Credential(ctx, r.Credential.ID)
	equal(t, []any{cred.Flags, cred.SignCount, cred.LastUsedAt, cred.CreatedAt}, []any{byte(0x0d), uint32(9), c.Now(), epoch})
	inv := must[account.Invitation](t)(db.Invitation(ctx, []byte("hash")))
	equal(t, inv.UsedAt, c.Now())

	// A sign-in that crossed with a newer one does not turn it back.
	c.Advance(time.Minute)
	late := signIn("3", r.Credential, epoch)
	late.Credential.SignCount, late.Replaces = 4, "gone"
	must[SignedIn](t)(db.SignIn(ctx, late, signedIn("3")))
	_, cred, _ = db.Credential(ctx, r.Credential.ID)
	equal(t, []any{cred.SignCount, cred.LastUsedAt}, []any{uint32(9), epoch.Add(time.Minute)})

	var kinds []audit.Kind
	var details []map[string]string
	for _, rec := range must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 10)) {
		kinds = append(kinds, rec.Kind)
		if rec.Detail != nil {
			details = append(details, rec.Detail)
		}
	}
	equal(t, kinds, []audit.Kind{audit.SignedIn, audit.SessionReplaced, audit.InvitationUsed, audit.SignedIn, audit.Registered})
	equal(t, details, []map[string]string{{"groups": "owner"}})
}

// An invitation that would make more groups than an account may have gives none, and
// is not used.
func TestInvitationToTooManyGroups(t *testing.T) {
	groups := func(from, n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("group-%02d", from+i))
		}
		return all
	}
	for _, tt := range []struct {
		name      string
		has       int
		gives     []string
		want      error
		afterward int
	}{
		{"one more", account.MaxGroups - 1, groups(90, 1), nil, account.MaxGroups},
		{"two more", account.MaxGroups - 1, groups(90, 2), account.ErrInvitation, account.MaxGroups - 1},
		{"all that there may be, of none", 0, groups(0, account.MaxGroups), nil, account.MaxGroups},
		{"all that there may be, of one more", 1, groups(50, account.MaxGroups), account.ErrInvitation, 1},
		{"one that is so already", account.MaxGroups, groups(3, 1), nil, account.MaxGroups},
		{"one beyond", account.MaxGroups, groups(90, 1), account.ErrInvitation, account.MaxGroups},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			r := registration("1", c.Now())
			r.User.Groups = groups(0, tt.has)
			user := must[account.User](t)(db.Register(t.Context(), r, registered("1")))
			hash := sum("invitation", "1")
			if err := db.Invite(t.Context(), account.Invitation{TokenHash: hash, Groups: tt.gives}, audit.Entry{Kind: audit.InvitationMade}); err != nil {
				t.Fatal(err)
			}
			before := db.contents(t)
			s := signIn("2", r.Credential, c.Now())
			s.Invitation, s.Replaces = hash, r.Session.ID
			out, err := db.SignIn(t.Context(), s, signedIn("2"))
			wantErr(t, err, tt.want)
			equal(t, len(must[account.User](t)(db.User(t.Context(), user.ID)).Groups), tt.afterward)
			if tt.want != nil {
				equal(t, out, SignedIn{})
				equal(t, db.contents(t), before)
			}
			checkInvariants(t, db)
		})
	}
}

func TestUndo(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*testing.T, *DB, *SignIn, account.User)
		removed bool
	}{
		{"a just-made duplicate", func(*testing.T, *DB, *SignIn, account.User) {}, true},
		{"made exactly then", func(_ *testing.T, _ *DB, s *SignIn, dup account.User) { s.UndoAfter = dup.CreatedAt }, true},
		{"too old", func(_ *testing.T, _ *DB, s *SignIn, dup account.User) {
			s.UndoAfter = dup.CreatedAt.Add(time.Millisecond)
		}, false},
		{"no time given", func(_ *testing.T, _ *DB, s *SignIn, _ account.User) { s.UndoAfter = time.Time{} }, false},
		{"unknown", func(_ *testing.T, _ *DB, s *SignIn, _ account.User) { s.Undo, s.Replaces = "x", "" }, false},
		{"made in the future", func(t *testing.T, db *DB, _ *SignIn, dup account.User) {
			if err := db.write(t.Context(), func(t *tx) error {
				_, err := t.exec("UPDATE users SET created_at = ? WHERE id = ?", stamp(t.now.Add(time.Hour)), dup.ID)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"with a group", func(t *testing.T, db *DB, _ *SignIn, dup account.User) {
			if err := db.write(t.Context(), func(t *tx) error { return addGroups(t, &dup, []string{account.Owner}) }); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"oneself", func(_ *testing.T, _ *DB, s *SignIn, _ account.User) {
			s.Undo, s.UndoAfter = account.UserID(sum("handle", "old")), epoch
		}, false},
		{"with two passkeys", func(t *testing.T, db *DB, _ *SignIn, dup account.User) {
			c := registration("extra", epoch).Credential
			c.UserID, c.UserHandle, c.CreatedAt, c.LastUsedAt = dup.ID, dup.Handle, epoch, epoch
			if err := db.write(t.Context(), func(t *tx) error { return insertCredential(t, c) }); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			old := registration("old", c.Now())
			old.User.Groups = []string{"ops"}
			user := must[account.User](t)(db.Register(ctx, old, registered("old")))
			c.Advance(24 * time.Hour)
			r := registration("dup", c.Now())
			dup := must[account.User](t)(db.Register(ctx, r, registered("dup")))
			s := signIn("in", old.Credential, c.Now())
			s.Replaces, s.Undo, s.UndoAfter = r.Session.ID, dup.ID, c.Now().Add(-10*time.Minute)
			tt.prepare(t, db, &s, dup)
			other := signIn("elsewhere", r.Credential, c.Now()).Session
			if tt.removed { // another browser of the account that goes
				other.UserID, other.Credential = dup.ID, account.CredentialRef(r.Credential.ID)
				if err := db.write(ctx, func(t *tx) error { return insertSession(t, other) }); err != nil {
					t.Fatal(err)
				}
			}
			out := must[SignedIn](t)(db.SignIn(ctx, s, signedIn("in")))
			equal(t, out.Removed, tt.removed)
			_, err := db.User(ctx, dup.ID)
			if !tt.removed {
				equal(t, err, error(nil))
				want := SignedIn{User: user}
				if s.Replaces != "" {
					want.Ended = []string{s.Replaces}
				}
				equal(t, out, want)
				return
			}
			wantErr(t, err, account.ErrNotFound)
			equal(t, out, SignedIn{User: user, Removed: true, RemovedUser: dup, Ended: []string{r.Session.ID, other.ID}})
			equal(t, must[account.User](t)(db.User(ctx, user.ID)), user)
			_, _, err = db.Credential(ctx, r.Credential.ID)
			wantErr(t, err, account.ErrNotFound)
			rec := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 1))[0]
			equal(t, []any{rec.Kind, rec.Session}, []any{audit.DuplicateUndone, audit.SessionRef(s.Session.ID)})
			equal(t, len(must[[]audit.Record](t)(db.Trail(ctx, dup.ID, 0, 10))), 0)
			equal(t, trailtest.Check(t, db).Erased, 2) // registered, session replaced
		})
	}
}

// The right to undo an account ends with the session that asks for it.
func TestUndoAfterSignOut(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	old, r := registration("old", c.Now()), registration("dup", c.Now())
	must[account.User](t)(db.Register(ctx, old, registered("x")))
	dup := must[account.User](t)(db.Register(ctx, r, registered("x")))
	if err := db.EndSession(ctx, r.Session.ID, audit.Entry{Kind: audit.SignedOut}); err != nil {
		t.Fatal(err)
	}
	s := signIn("in", old.Credential, c.Now())
	s.Replaces, s.Undo, s.UndoAfter = r.Session.ID, dup.ID, epoch.Add(-time.Hour)
	_, err := db.SignIn(ctx, s, signedIn("x"))
	wantErr(t, err, session.ErrNone)
	if _, err := db.User(ctx, dup.ID); err != nil {
		t.Error(err)
	}
}

func TestTouchAndEndSession(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := registration("1", c.Now())
	user := must[account.User](t)(db.Register(ctx, r, registered("x")))
	for _, step := range []struct{ at, want time.Duration }{{time.Minute, time.Minute}, {0, time.Minute}, {2 * time.Minute, 2 * time.Minute}} {
		if err := db.TouchSession(ctx, r.Session.ID, epoch.Add(step.at)); err != nil {
			t.Fatal(err)
		}
		s, _, err := db.Session(ctx, r.Session.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, s.SeenAt, epoch.Add(step.want))
		equal(t, s.ExpiresAt, r.Session.ExpiresAt)
	}
	equal(t, db.counts(t)["trail_leaves"], 1) // registered
	end := func() error {
		return db.EndSession(ctx, r.Session.ID, audit.Entry{Kind: audit.SignedOut, Session: r.Session.ID})
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, end(), session.ErrNone)
	records := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 10))
	equal(t, len(records), 2)
	equal(t, records[0].Kind, audit.SignedOut)
}

func TestExpireSessions(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	const idle = 12 * time.Hour
	ids := map[string]time.Duration{"alive": time.Hour, "idle": 0, "cap": 23 * time.Hour}
	var cred account.Credential
	r := registration("alive", c.Now())
	r.Session.ExpiresAt = epoch.Add(48 * time.Hour)
	user := must[account.User](t)(db.Register(ctx, r, registered("x")))
	_, cred, _ = db.Credential(ctx, r.Credential.ID)
	for _, seed := range []string{"idle", "cap"} {
		must[SignedIn](t)(db.SignIn(ctx, signIn(seed, cred, c.Now()), signedIn(seed)))
	}
	for seed, seen := range ids {
		if err := db.TouchSession(ctx, sessionID(seed), epoch.Add(seen)); err != nil {
			t.Fatal(err)
		}
	}
	// More than one batch of idle ones, and of challenges.
	for i := range expireBatch + 20 {
		must[SignedIn](t)(db.SignIn(ctx, signIn(fmt.Sprint(i), cred, c.Now()), signedIn(fmt.Sprint(i))))
	}
	c.Advance(12*time.Hour - time.Millisecond)
	equal(t, must[int](t)(db.ExpireSessions(ctx, idle)), 0)
	equal(t, db.counts(t)["challenges"], 0)
	c.Advance(time.Millisecond)
	equal(t, must[int](t)(db.ExpireSessions(ctx, idle)), expireBatch+21)
	c.Advance(12 * time.Hour)
	if err := db.TouchSession(ctx, sessionID("alive"), c.Now()); err != nil {
		t.Fatal(err)
	}
	equal(t, must[int](t)(db.ExpireSessions(ctx, idle)), 1)
	equal(t, db.counts(t)["sessions"], 1)
	last := must[[]audit.Record](t)(db.Trail(ctx, user.ID, 0, 2))
	equal(t, last[0], audit.Record{Index: int64(2*expireBatch + 44), At: c.Now(), Kind: audit.SessionExpired, Actor: user.ID,
		Credential: account.CredentialRef(cred.ID), Session: audit.SessionRef(sessionID("cap")), Reason: "cap"})
	equal(t, last[1].Reason, "idle")
}

func TestInviteTwice(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	inv := account.Invitation{TokenHash: []byte("hash"), Groups: []string{"owner"}}
	for range 2 {
		if err := db.Invite(ctx, inv, audit.Entry{Kind: audit.InvitationMade}); err != nil {
			t.Fatal(err)
		}
		inv.Groups = nil
	}
	inv.Groups, inv.CreatedAt = []string{"owner"}, c.Now()
	equal(t, must[account.Invitation](t)(db.Invitation(ctx, inv.TokenHash)), inv)
	equal(t, db.counts(t)["trail_leaves"], 1)
}

// 200 presses with one challenge at once: one account, one session, one entry.
func TestOneChallengeOneRegistration(t *testing.T) {
	db, c := openTest(t)
	var won, used atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r := registration(fmt.Sprint(i), c.Now())
			r.Challenge = []byte("the one")
			switch _, err := db.Register(context.Background(), r, registered(fmt.Sprint(i))); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, passkey.ErrChallengeUsed):
				used.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, []int32{won.Load(), used.Load()}, []int32{1, 199})
	equal(t, db.counts(t), map[string]int{"users": 1, "credentials": 1, "sessions": 1, "challenges": 1, "invitations": 0, "trail_leaves": 1})
}

func TestOneInvitationOneUse(t *testing.T) {
	db, c := openTest(t)
	hash := sum("invitation", "1")
	if err := db.Invite(t.Context(), account.Invitation{TokenHash: hash, Groups: []string{account.Owner}}, audit.Entry{Kind: audit.InvitationMade}); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			r := registration(fmt.Sprint(i), c.Now())
			r.Invitation = hash
			switch u, err := db.Register(context.Background(), r, registered(fmt.Sprint(i))); {
			case err == nil && u.In(account.Owner):
				won.Add(1)
			case errors.Is(err, account.ErrInvitation):
			default:
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
	wg.Wait()
	equal(t, won.Load(), 1)
	equal(t, db.counts(t), map[string]int{"users": 1, "credentials": 1, "sessions": 1, "challenges": 1, "invitations": 1, "trail_leaves": 3})
}

// One credential in two registrations at once is one row.
func TestOneCredentialOneRow(t *testing.T) {
	db, c := openTest(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r := registration(fmt.Sprint(i), c.Now())
			r.Credential.ID = []byte("the one credential")
			switch _, err := db.Register(context.Background(), r, registered(fmt.Sprint(i))); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, account.ErrCredentialExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, won.Load(), 1)
	equal(t, db.counts(t)["users"], 1)
}

// An entry that cannot be appended undoes the act, whichever it is.
func TestNoActWithoutRecord(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	db := openAt(t, url, c.Now)
	ctx := t.Context()
	r := register(t, db, c, "1")
	second := add(t, db, c, "second", r.Session.ID)
	owner := register(t, db, c, "owner")
	must[account.User](t)(db.SetGroups(ctx, "cedar-owner", []string{account.Owner}, false, groupsSet))
	register(t, db, c, "disabled")
	if _, _, err := db.DisableUser(ctx, "cedar-disabled", false, disabled); err != nil {
		t.Fatal(err)
	}
	register(t, db, c, "recovers")
	waits := begin(t, db, c, "cedar-recovers", "waits")
	c.Advance(day)
	asks, ownerAsks := opened(t, db, c, "asks", r.Credential), opened(t, db, c, "owner asks", owner.Credential)
	begin(t, db, c, "cedar-1", "waits for 1")
	offer(t, db, c, "cedar-owner", "offered")
	running, stale := started(t, db, c, runOf(r.User.ID, "brief", "1")), started(t, db, c, runOf(r.User.ID, "chat", "2"))
	user := func(_ account.User, err error) error { return err }
	up := func(act Act, more ...audit.Entry) func() error {
		return func() error {
			_, err := db.StepUp(ctx, stepUp("up", asks, r.Credential, act, c.Now()), steppedUp, more...)
			return err
		}
	}
	ownerUp := func(act Act) func() error {
		return func() error {
			_, err := db.StepUp(ctx, stepUp("up", ownerAsks, owner.Credential, act, c.Now()), steppedUp)
			return err
		}
	}
	outside := other(t, url)
	if _, err := outside.Exec("CREATE TRIGGER broken BEFORE INSERT ON trail_leaves WHEN NEW.kind <> 'session.stepped_up' BEGIN SELECT RAISE(ABORT, 'no records today'); END"); err != nil {
		t.Fatal(err)
	}
	before := db.contents(t)
	for name, act := range map[string]func() error{
		"register": func() error { return user(db.Register(ctx, registration("2", c.Now()), registered("2"))) },
		"sign in":  func() error { _, err := db.SignIn(ctx, signIn("3", r.Credential, c.Now()), signedIn("3")); return err },
		"recover":  func() error { _, err := db.SignIn(ctx, signIn("3", waits, c.Now()), signedIn("3")); return err },
		"end":      func() error { return db.EndSession(ctx, asks, audit.Entry{Kind: audit.SignedOut}) },
		"expire":   func() error { _, err := db.ExpireSessions(ctx, 0); return err },
		"invite": func() error {
			return db.Invite(ctx, account.Invitation{TokenHash: []byte("hash")}, audit.Entry{Kind: audit.InvitationMade})
		},
		"start a run": func() error {
			_, err := db.StartRun(ctx, runOf(owner.User.ID, "brief", "3"), c.Now(), running.Entry())
			return err
		},
		"replace a run": func() error {
			_, err := db.StartRun(ctx, runOf(r.User.ID, "chat", "4"), c.Now().Add(time.Second), stale.Entry())
			return err
		},
		"end a run": func() error {
			return db.EndRun(ctx, running.ID, 0, []agent.Event{{Text: "a"}}, runs.Done, "", running.Entry())
		},
		"interrupt runs": func() error {
			_, err := db.InterruptRuns(ctx, c.Now().Add(time.Second), runs.Crashed)
			return err
		},
		"record": func() error { return recorded(db, audit.Entry{Kind: audit.SignInRefused}) },
		"add": func() error {
			_, _, err := db.AddCredential(ctx, addition("7", asks, c.Now()), passkeyAdded)
			return err
		},
		"rename passkey": func() error {
			_, err := db.RenameCredential(ctx, r.User.ID, second.ID, "x", passkeyRenamed)
			return err
		},
		"remove": func() error {
			_, err := db.RemoveCredential(ctx, removal(second.ID, asks, c.Now()), passkeyRemoved)
			return err
		},
		"offer": func() error {
			return user(db.OfferRecovery(ctx, "cedar-owner", recovery("x", c.Now()), recoveryOffered))
		},
		"begin": func() error {
			_, _, err := db.BeginRecovery(ctx, recovering("offered", c.Now()), recoveryBegun)
			return err
		},
		"disable":    func() error { _, _, err := db.DisableUser(ctx, "cedar-1", false, disabled); return err },
		"enable":     func() error { return user(db.EnableUser(ctx, "cedar-disabled", enabled)) },
		"groups":     func() error { return user(db.SetGroups(ctx, "cedar-1", []string{"x"}, false, groupsSet)) },
		"revoke":     func() error { _, _, err := db.RevokeSessions(ctx, "cedar-1", "x"); return err },
		"revoke all": func() error { _, err := db.RevokeAllSessions(ctx, "x"); return err },
		"erase": func() error {
			_, _, err := db.EraseUser(ctx, Erasure{Name: "cedar-1"}, audit.Entry{Kind: audit.Erased})
			return err
		},
		"step up": up(Prove{}, audit.Entry{Kind: audit.BackupEligibleChanged}), "step up: end others": up(EndOthers{}), "step up: rename": up(Rename{"x"}), "step up: erase": up(EraseSelf{}),
		"step up: remove": up(RemovePasskey{refOf("second")}), "step up: rename passkey": up(RenamePasskey{refOf("second"), "x"}),
		"step up: cancel": up(CancelRecovery{}), "step up: invite": ownerUp(MakeInvitation{account.Invitation{TokenHash: []byte("hash")}}),
		"step up: offer": ownerUp(MakeRecovery{"cedar-1", recovery("x", c.Now())}),
	} {
		if err := act(); err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no records today") {
			t.Errorf("%s: got error %v", name, err)
		}
		equal(t, db.contents(t), before)
	}
	if _, err := outside.Exec("DROP TRIGGER broken"); err != nil {
		t.Fatal(err)
	}
	must[account.User](t)(db.Register(ctx, registration("2", c.Now()), registered("2")))
	checkInvariants(t, db)
}
