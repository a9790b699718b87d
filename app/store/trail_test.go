package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/store/trailtest"
)

// testSigner signs the checkpoints of the tests' log.
func testSigner(t testing.TB) (*audit.Signer, note.Verifiers) {
	t.Helper()
	signer := must[*audit.Signer](t)(audit.NewSigner(audit.Origin("bio.example.com", 1), bytes.Repeat([]byte{7}, 32)))
	return signer, must[note.Verifiers](t)(audit.Verifiers(signer.Keys()...))
}

// checkpoint signs the log as it is.
func checkpoint(t testing.TB, db *DB) (size int64, signed []byte) {
	t.Helper()
	signer, _ := testSigner(t)
	size = must[int64](t)(db.TrailSize(t.Context()))
	root := must[tlog.Hash](t)(tlog.TreeHash(size, db.Tree(t.Context())))
	return size, must[[]byte](t)(signer.Sign(size, root))
}

func keep(t testing.TB, db *DB) (signed []byte) {
	t.Helper()
	size, signed := checkpoint(t, db)
	if err := db.KeepCheckpoint(t.Context(), size, signed); err != nil {
		t.Fatal(err)
	}
	return signed
}

func register(t testing.TB, db *DB, c *clock, seed string) Registration {
	t.Helper()
	r := registration(seed, c.Now())
	must[account.User](t)(db.Register(t.Context(), r, registered(seed)))
	return r
}

func TestTrailPages(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	if err := recorded(db, audit.Entry{Kind: audit.ServerStarted}); err != nil {
		t.Fatal(err)
	}
	user := register(t, db, c, "1").User.ID
	want := audit.Entry{Kind: audit.SignInRefused, Actor: user, Reason: "signature", Count: 3,
		Client: audit.Client{Network: "2001:db8::/48", Browser: "Safari", System: "iPhone"}, Detail: map[string]string{"k": "v\x00\"é<\u2028"}}
	for i := range 10 {
		e := want
		if i%2 == 1 {
			e.Actor = ""
		}
		if i%4 == 2 {
			e.Kind = audit.RunStarted
		}
		if err := recorded(db, e); err != nil {
			t.Fatal(err)
		}
	}
	all := []int64{10, 8, 6, 4, 2, 1}
	for _, tt := range []struct {
		limit   int
		without []audit.Kind
		want    []int64
	}{
		{1, nil, all}, {2, nil, all}, {6, nil, all}, {7, nil, all}, {2, []audit.Kind{}, all},
		{2, []audit.Kind{audit.RunStarted}, []int64{10, 6, 2, 1}},
		{3, []audit.Kind{audit.RunStarted, audit.Registered, "none"}, []int64{10, 6, 2}},
	} {
		var indexes []int64
		for before := int64(0); len(indexes) <= len(all); {
			page := must[[]audit.Record](t)(db.Trail(ctx, user, before, tt.limit, tt.without...))
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				indexes, before = append(indexes, r.Index), r.Index
				if r.Kind != audit.Registered {
					equal(t, r, audit.Record{Index: r.Index, At: epoch, Kind: r.Kind, Actor: user, Reason: want.Reason, Client: want.Client, Count: 3, Detail: want.Detail})
				}
			}
		}
		equal(t, indexes, tt.want)
	}
	for _, limit := range []int{0, -1} {
		equal(t, len(must[[]audit.Record](t)(db.Trail(ctx, user, 0, limit))), 0)
	}
	equal(t, len(must[[]audit.Record](t)(db.Trail(ctx, "", 0, 10))), 0)
	trailtest.Check(t, db)
}

// Everything of a log without entries.
func TestEmptyTrail(t *testing.T) {
	db, _ := openTest(t)
	ctx := t.Context()
	equal(t, trailtest.Check(t, db).Size, 0)
	equal(t, must[int64](t)(db.TrailSize(ctx)), 0)
	equal(t, must[int64](t)(db.Record(ctx)), 0)
	equal(t, len(must[[]audit.Stored](t)(db.Entries(ctx, 0, 10))), 0)
	equal(t, len(must[[][]byte](t)(db.Checkpoints(ctx))), 0)
	equal(t, must[[]byte](t)(db.NewestCheckpoint(ctx)) == nil, true)
	n, last, err := db.Milestones(ctx, audit.TrailExported, math.MaxInt64)
	equal(t, []any{n, last, err}, []any{0, int64(-1), error(nil)})
	first, end, err := db.Period(ctx, epoch, epoch.Add(time.Hour), 0)
	equal(t, []any{first, end, err}, []any{int64(0), int64(0), error(nil)})
	size, signed := checkpoint(t, db)
	equal(t, size, 0)
	trailtest.Check(t, db, signed)
	if err := db.KeepCheckpoint(ctx, 0, signed); err != nil {
		t.Fatal(err)
	}
	equal(t, len(must[[][]byte](t)(db.Checkpoints(ctx))), 0)
	hashes, err := db.Tree(ctx).ReadHashes(nil)
	equal(t, []any{len(hashes), err}, []any{0, error(nil)})
	if _, err := db.Tree(ctx).ReadHashes([]int64{0}); err == nil {
		t.Error("it has a hash")
	}
}

func TestRecordGivesTheSize(t *testing.T) {
	db, _ := openTest(t)
	e := audit.Entry{Kind: audit.SignInRefused}
	for _, tt := range []struct{ n, want int }{{0, 0}, {1, 1}, {3, 4}, {0, 4}, {1, 5}} {
		entries := make([]audit.Entry, tt.n)
		for i := range entries {
			entries[i] = e
		}
		equal(t, must[int64](t)(db.Record(t.Context(), entries...)), int64(tt.want))
	}
}

func TestEntriesPage(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	register(t, db, c, "1")
	for range 9 {
		if err := recorded(db, audit.Entry{Kind: audit.SignInRefused}); err != nil {
			t.Fatal(err)
		}
	}
	all := must[[]audit.Stored](t)(db.Entries(ctx, 0, 100))
	equal(t, len(all), 10)
	for _, tt := range []struct {
		from  int64
		limit int
		want  []audit.Stored
	}{
		{0, 3, all[:3]}, {3, 3, all[3:6]}, {9, 3, all[9:]}, {10, 3, nil}, {math.MaxInt64, 1, nil},
		{0, 0, nil}, {0, -1, nil}, {-5, 2, all[:2]}, {0, math.MaxInt, all},
	} {
		equal(t, must[[]audit.Stored](t)(db.Entries(ctx, tt.from, tt.limit)), tt.want)
	}
}

// The tree is that of tlog over the same leaves, at every size, and its proofs
// are tlog's.
func TestTree(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User.ID
	var want []tlog.Hash // stored hashes in tlog's numbering
	reader := tlog.HashReaderFunc(func(stored []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(stored))
		for i, n := range stored {
			hashes[i] = want[n]
		}
		return hashes, nil
	})
	var leaves []tlog.Hash
	for n := int64(1); n <= 70; n++ {
		s := must[[]audit.Stored](t)(db.Entries(ctx, n-1, 1))[0]
		leaves = append(leaves, s.Leaf.Hash())
		want = append(want, must[[]tlog.Hash](t)(tlog.StoredHashesForRecordHash(n-1, s.Leaf.Hash(), reader))...)
		root := must[tlog.Hash](t)(tlog.TreeHash(n, reader))
		equal(t, must[tlog.Hash](t)(tlog.TreeHash(n, db.Tree(ctx))), root)
		if n <= 9 || n == 31 || n == 32 || n == 33 || n == 64 || n == 70 {
			for i := range n {
				if err := tlog.CheckRecord(must[tlog.RecordProof](t)(tlog.ProveRecord(n, i, db.Tree(ctx))), n, root, i, leaves[i]); err != nil {
					t.Fatalf("entry %d of %d: %v", i, n, err)
				}
				older := must[tlog.Hash](t)(tlog.TreeHash(i+1, db.Tree(ctx)))
				if err := tlog.CheckTree(must[tlog.TreeProof](t)(tlog.ProveTree(n, i+1, db.Tree(ctx))), n, root, i+1, older); err != nil {
					t.Fatalf("%d entries of %d: %v", i+1, n, err)
				}
			}
		}
		if err := recorded(db, audit.Entry{Kind: audit.SignedIn, Actor: user}); err != nil {
			t.Fatal(err)
		}
	}
	// In any order, and the same twice.
	got := must[[]tlog.Hash](t)(db.Tree(ctx).ReadHashes([]int64{5, 0, 5, 2, 6, 3}))
	equal(t, got, []tlog.Hash{want[5], want[0], want[5], want[2], want[6], want[3]})
	if _, err := db.Tree(ctx).ReadHashes([]int64{0, int64(len(want)) + 100}); err == nil || !strings.Contains(err.Error(), "lacks 1 of 2 hashes") {
		t.Errorf("got error %v", err)
	}
}

func TestPeriod(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	// Minutes after the epoch. The clock was once set back.
	minutes := []int{0, 10, 20, 20, 5, 6, 30, 40}
	for i, m := range minutes {
		c.ms.Store(epoch.Add(time.Duration(m) * time.Minute).UnixMilli())
		equal(t, must[int64](t)(db.Record(ctx, audit.Entry{Kind: audit.SignInRefused})), int64(i+1))
	}
	const none = -1
	for _, tt := range []struct {
		since, until int
		below        int64
		first, end   int64
	}{
		{none, none, 8, 0, 8},
		{none, none, 3, 0, 3},
		{none, none, 0, 0, 0},
		{0, none, 8, 0, 8},
		{10, none, 8, 1, 8},
		{11, none, 8, 2, 8},
		{40, none, 8, 7, 8},
		{41, none, 8, 8, 8},
		{40, none, 7, 7, 7},
		{none, 40, 8, 0, 7},
		{none, 41, 8, 0, 8},
		{none, 0, 8, 0, 0},
		{none, 10, 8, 0, 6}, // those from before the clock was set back come along
		{none, 20, 3, 0, 2},
		{10, 20, 8, 1, 6},
		{20, 30, 8, 2, 6},
		{30, 40, 8, 6, 7},
		{21, 29, 8, 6, 6}, // nothing
		{50, 60, 8, 8, 8},
		{30, 5, 8, 1, 1}, // the wrong way round
	} {
		at := func(m int) time.Time {
			if m == none {
				return time.Time{}
			}
			return epoch.Add(time.Duration(m) * time.Minute)
		}
		first, end, err := db.Period(ctx, at(tt.since), at(tt.until), tt.below)
		if first != tt.first || end != tt.end || err != nil {
			t.Errorf("from %d to %d below %d: got [%d, %d), %v, want [%d, %d)", tt.since, tt.until, tt.below, first, end, err, tt.first, tt.end)
		}
		// Whatever the clock did, what was in the period is in it.
		for i, m := range minutes {
			if int64(i) < tt.below && m >= tt.since && (tt.until == none || m < tt.until) && (int64(i) < first || int64(i) >= end) {
				t.Errorf("from %d to %d below %d: entry %d is not in it", tt.since, tt.until, tt.below, i)
			}
		}
	}
	trailtest.Check(t, db)
}

func TestMilestones(t *testing.T) {
	db, _ := openTest(t)
	ctx := t.Context()
	for _, kind := range []audit.Kind{audit.ServerStarted, audit.TrailExported, audit.TrailReopened, audit.TrailExported, audit.SignInRefused} {
		if err := recorded(db, audit.Entry{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		kind  audit.Kind
		below int64
		n     int
		last  int64
	}{
		{audit.TrailExported, 5, 2, 3}, {audit.TrailExported, 4, 2, 3}, {audit.TrailExported, 3, 1, 1},
		{audit.TrailExported, 2, 1, 1}, {audit.TrailExported, 1, 0, -1}, {audit.TrailExported, 0, 0, -1},
		{audit.TrailReopened, 5, 1, 2}, {audit.TrailReopened, 2, 0, -1},
	} {
		n, last, err := db.Milestones(ctx, tt.kind, tt.below)
		if n != tt.n || last != tt.last || err != nil {
			t.Errorf("%s below %d: got %d, %d, %v", tt.kind, tt.below, n, last, err)
		}
	}
	if _, _, err := db.Milestones(ctx, audit.SignedIn, 5); err == nil {
		t.Error("any kind is a milestone")
	}
}

func TestKeepCheckpoint(t *testing.T) {
	db, _ := openTest(t)
	ctx := t.Context()
	for range 5 {
		if err := recorded(db, audit.Entry{Kind: audit.SignInRefused}); err != nil {
			t.Fatal(err)
		}
	}
	var want [][]byte
	for _, step := range []struct {
		size int64
		kept bool
	}{{2, true}, {2, false}, {1, false}, {0, false}, {-1, false}, {4, true}, {3, false}, {5, true}} {
		signer, _ := testSigner(t)
		signed := must[[]byte](t)(signer.Sign(max(step.size, 0), must[tlog.Hash](t)(tlog.TreeHash(max(step.size, 0), db.Tree(ctx)))))
		if err := db.KeepCheckpoint(ctx, step.size, signed); err != nil {
			t.Fatal(err)
		}
		if step.kept {
			want = append(want, signed)
		}
		equal(t, must[[][]byte](t)(db.Checkpoints(ctx)), want)
		equal(t, must[[]byte](t)(db.NewestCheckpoint(ctx)), want[len(want)-1])
	}
	if err := db.KeepCheckpoint(ctx, 6, []byte("of more than there is")); err == nil {
		t.Error("a checkpoint of more entries than there are was kept")
	}
	equal(t, must[int64](t)(db.TrailSize(ctx)), 5)
	equal(t, trailtest.Check(t, db).Checkpoints, 3)
}

// Two programs append to one file at once.
func TestTwoProcessesOneTrail(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	dbs := []*DB{openAt(t, url, c.Now), openAt(t, url, c.Now)}
	var wg sync.WaitGroup
	const callers, each = 4, 25
	for i, db := range dbs {
		for g := range callers {
			wg.Go(func() {
				for n := range each {
					seed := fmt.Sprintf("%d-%d-%d", i, g, n)
					_, err := db.Register(context.Background(), registration(seed, c.Now()), registered(seed), audit.Entry{Kind: audit.RunStarted})
					if err := errors.Join(err, recorded(db, audit.Entry{Kind: audit.SignInRefused})); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, db := range dbs {
		checkInvariants(t, db)
		equal(t, trailtest.Check(t, db).Size, int64(2*callers*each*3))
	}
}

// A unit whose entry cannot be appended leaves nothing, and its neighbours in
// the same transaction are whole, without a gap between their entries.
func TestFailedAppendUndoesTheAct(t *testing.T) {
	for _, tt := range []struct{ name, trigger string }{
		{"leaf", "CREATE TRIGGER broken BEFORE INSERT ON trail_leaves WHEN NEW.kind = 'broken' BEGIN SELECT RAISE(ABORT, 'not today'); END"},
		{"leaf, late", "CREATE TRIGGER broken AFTER INSERT ON trail_leaves WHEN NEW.kind = 'broken' BEGIN SELECT RAISE(ABORT, 'not today'); END"},
		{"payload", "CREATE TRIGGER broken AFTER INSERT ON trail_payloads WHEN instr(NEW.payload, 'broken') BEGIN SELECT RAISE(ABORT, 'not today'); END"},
		{"key", "CREATE TRIGGER broken AFTER INSERT ON trail_keys WHEN (SELECT name FROM users WHERE id = NEW.user_id) LIKE 'cedar-broken%' BEGIN SELECT RAISE(ABORT, 'not today'); END"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := fileURL(t)
			c := newClock()
			db := openAt(t, url, c.Now)
			first := register(t, db, c, "first")
			outside := other(t, url)
			if _, err := outside.Exec(tt.trigger); err != nil {
				t.Fatal(err)
			}
			release := hold(t, db.writer)
			const n = 9
			var errs [n]error
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					seed := fmt.Sprint(i)
					r := registration(seed, c.Now())
					e := registered(seed)
					// The second of its entries fails, after the first and all else.
					bad := audit.Entry{Kind: audit.RunStarted, Detail: map[string]string{"agent": "fine"}}
					if i%3 == 1 {
						r.Names = []string{"cedar-broken-" + seed}
						bad.Kind, bad.Detail = "broken", map[string]string{"agent": "broken"}
					}
					_, errs[i] = db.Register(context.Background(), r, e, bad)
				})
			}
			queued(db.writer, n)
			release()
			wg.Wait()
			for i, err := range errs {
				if bad := i%3 == 1; bad != (err != nil) || bad && (!strings.Contains(err.Error(), "not today") || errors.Is(err, ErrUnavailable)) {
					t.Errorf("unit %d: got error %v", i, err)
				}
			}
			if _, err := outside.Exec("DROP TRIGGER broken"); err != nil {
				t.Fatal(err)
			}
			equal(t, db.counts(t), map[string]int{"users": 7, "credentials": 7, "sessions": 7, "challenges": 7, "invitations": 0, "trail_leaves": 13})
			checkInvariants(t, db)
			_, err := db.SignIn(t.Context(), signIn("after", first.Credential, c.Now()), signedIn("after"))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, trailtest.Check(t, db).Size, 14)
		})
	}
}

// A trigger that drops a row without an error does not let an act pass without its
// entry, alone or among others.
func TestDroppedAppendUndoesTheAct(t *testing.T) {
	const ignore = " BEGIN SELECT RAISE(IGNORE); END"
	for _, tt := range []struct{ name, trigger string }{
		{"leaf", "CREATE TRIGGER q BEFORE INSERT ON TRAIL_LEAVES WHEN NEW.kind = 'session.signed_in'" + ignore},
		{"payload", "CREATE TRIGGER q BEFORE INSERT ON TRAIL_PAYLOADS WHEN (SELECT kind FROM trail_leaves WHERE idx = NEW.idx) = 'session.signed_in'" + ignore},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := fileURL(t)
			c := newClock()
			db := openAt(t, url, c.Now)
			ctx := t.Context()
			r := register(t, db, c, "1")
			outside := other(t, url)
			if _, err := outside.Exec(tt.trigger); err != nil {
				t.Fatal(err)
			}
			before, counts, credential := dumpTrail(t, db), db.counts(t), must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID))
			refused := func(err error) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), "did not take an entry") || errors.Is(err, ErrUnavailable) {
					t.Errorf("got error %v", err)
				}
			}
			_, err := db.SignIn(ctx, signIn("in", r.Credential, c.Now()), signedIn("in"))
			refused(err)
			refused(recorded(db, audit.Entry{Kind: audit.ServerStarted}, audit.Entry{Kind: audit.SignedIn}))
			equal(t, dumpTrail(t, db), before)
			equal(t, db.counts(t), counts)
			equal(t, must[[]account.Credential](t)(db.Credentials(ctx, r.User.ID)), credential)

			// Its neighbours in one transaction are whole.
			release := hold(t, db.writer)
			var errs [6]error
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() {
					if i%2 == 0 {
						errs[i] = recorded(db, audit.Entry{Kind: audit.SignInRefused})
						return
					}
					seed := fmt.Sprint("in ", i)
					_, errs[i] = db.SignIn(ctx, signIn(seed, r.Credential, c.Now()), signedIn(seed))
				})
			}
			queued(db.writer, len(errs))
			release()
			wg.Wait()
			for i, err := range errs {
				if i%2 == 1 {
					refused(err)
				} else if err != nil {
					t.Error(err)
				}
			}
			counts["trail_leaves"] += 3
			equal(t, db.counts(t), counts)
			equal(t, must[[]string](t)(db.CheckFile(ctx)), []string{"the schema was changed: these are not as this version makes them: trigger q"})

			if _, err := outside.Exec("DROP TRIGGER q"); err != nil {
				t.Fatal(err)
			}
			must[SignedIn](t)(db.SignIn(ctx, signIn("in", r.Credential, c.Now()), signedIn("in")))
			checkInvariants(t, db)
			equal(t, trailtest.Check(t, db).Size, 1+3+1)
		})
	}
}

// An account without a key would be named in no entry.
func TestDroppedKeyUndoesTheAct(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	db := openAt(t, url, c.Now)
	if _, err := other(t, url).Exec("CREATE TRIGGER q BEFORE INSERT ON TRAIL_KEYS BEGIN SELECT RAISE(IGNORE); END"); err != nil {
		t.Fatal(err)
	}
	_, err := db.Register(t.Context(), registration("1", c.Now()), registered("1"))
	if err == nil || !strings.Contains(err.Error(), "did not take an entry") {
		t.Errorf("got error %v", err)
	}
	equal(t, db.counts(t), map[string]int{"users": 0, "credentials": 0, "sessions": 0, "challenges": 0, "invitations": 0, "trail_leaves": 0})
}

// Keys are of the accounts that are there, and give their pseudonyms.
func TestKeys(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	keys := func() map[string]audit.Key {
		all := map[string]audit.Key{}
		if err := db.Keys(ctx, func(userID string, key audit.Key) { all[userID] = key }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	equal(t, keys(), map[string]audit.Key{})
	one, two := register(t, db, c, "1"), register(t, db, c, "2")
	want := map[string]audit.Key{one.User.ID: db.keyOf(t, one.User.ID), two.User.ID: db.keyOf(t, two.User.ID)}
	equal(t, keys(), want)
	erased(t, db, "cedar-1", audit.Entry{Kind: audit.Erased})
	delete(want, one.User.ID)
	equal(t, keys(), want)

	// An erasure that was recorded and not done is found by them.
	problems := func() []audit.Problem {
		checker := audit.NewChecker(nil, nil)
		for _, e := range must[[]audit.Stored](t)(db.Entries(ctx, 0, 100)) {
			if err := checker.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Keys(ctx, checker.Alive); err != nil {
			t.Fatal(err)
		}
		return checker.End().Problems
	}
	equal(t, len(problems()), 0)
	if err := recorded(db, audit.Entry{Kind: audit.Erased, Subject: two.User.ID}); err != nil {
		t.Fatal(err)
	}
	equal(t, problems(), []audit.Problem{{First: 3, Last: 3, What: "it says that an account was erased, which is here: " + two.User.ID}})

	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Keys(ctx, func(string, audit.Key) {}); err == nil {
		t.Error("a closed database has keys")
	}
}

// Nothing that a method is given in the raw is in the trail, however written.
func TestTrailHasNothingRaw(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	raw := map[string][]byte{}
	remember := func(p Press, r *Registration) {
		raw["challenge of "+p.Session.ID], raw["session "+p.Session.ID] = p.Challenge, []byte(p.Session.ID)
		raw["decoded session "+p.Session.ID] = must[[]byte](t)(hex.DecodeString(p.Session.ID))
		if r != nil {
			raw["handle of "+p.Session.ID], raw["credential of "+p.Session.ID] = r.User.Handle, r.Credential.ID
			raw["public key of "+p.Session.ID] = r.Credential.PublicKey
			raw["name of "+p.Session.ID] = []byte(r.Names[0])
		}
	}
	invitation := sum("invitation", "raw")
	raw["invitation"] = invitation
	if err := db.Invite(ctx, account.Invitation{TokenHash: invitation, Groups: []string{"ops"}}, audit.Entry{Kind: audit.InvitationMade}); err != nil {
		t.Fatal(err)
	}
	owner := sum("invitation", "owner")
	raw["owner's invitation"] = owner
	must[bool](t)(db.InviteFirstOwner(ctx, owner, audit.Entry{Kind: audit.InvitationMade}))
	one, dup, gone := registration("one", c.Now()), registration("dup", c.Now()), registration("gone", c.Now())
	one.Invitation = invitation
	for _, r := range []*Registration{&one, &dup, &gone} {
		r.Credential.PublicKey = sum("public key", r.Session.ID)
		remember(r.Press, r)
		e := audit.Entry{Kind: audit.Registered, Credential: account.CredentialRef(r.Credential.ID), Session: r.Session.ID, Client: r.Session.Client}
		must[account.User](t)(db.Register(ctx, *r, e))
	}
	in := signIn("undo", one.Credential, c.Now())
	in.Replaces, in.Undo, in.UndoAfter = dup.Session.ID, dup.User.ID, epoch
	remember(in.Press, nil)
	out := must[SignedIn](t)(db.SignIn(ctx, in, audit.Entry{Kind: audit.SignedIn, Credential: account.CredentialRef(one.Credential.ID), Session: in.Session.ID}))
	equal(t, out.Removed, true)
	last := signIn("last", one.Credential, c.Now())
	remember(last.Press, nil)
	last.Credential.SignCount += 10
	must[SignedIn](t)(db.SignIn(ctx, last, signedIn("last")))
	if err := db.EndSession(ctx, in.Session.ID, audit.Entry{Kind: audit.SignedOut, Session: in.Session.ID}); err != nil {
		t.Fatal(err)
	}
	for _, seed := range []string{"second", "third"} {
		a := addition(seed, last.Session.ID, c.Now())
		raw["challenge of the "+seed], raw["credential "+seed] = a.Challenge, a.Credential.ID
		raw["public key of the "+seed], a.Credential.PublicKey = sum("public key", seed), sum("public key", seed)
		if _, _, err := db.AddCredential(ctx, a, passkeyAdded); err != nil {
			t.Fatal(err)
		}
		raw["name of the "+seed] = []byte("Key under the mat, " + seed)
		must[account.Credential](t)(db.RenameCredential(ctx, one.User.ID, a.Credential.ID, string(raw["name of the "+seed]), passkeyRenamed))
	}
	revoked := signIn("revoked", registration("second", c.Now()).Credential, c.Now())
	remember(revoked.Press, nil)
	must[SignedIn](t)(db.SignIn(ctx, revoked, signedIn("revoked")))
	equal(t, must[[]string](t)(db.RemoveCredential(ctx, removal(revoked.Credential.ID, last.Session.ID, c.Now()), passkeyRemoved)), []string{revoked.Session.ID})
	if err := recorded(db, audit.Entry{Kind: audit.SignInRefused, Actor: one.User.ID, Credential: account.CredentialRef(one.Credential.ID), Session: last.Session.ID, Reason: passkey.ErrRefused.Error()}); err != nil {
		t.Fatal(err)
	}
	erased(t, db, "cedar-gone", audit.Entry{Kind: audit.Erased})
	c.Advance(48 * time.Hour)
	must[int](t)(db.ExpireSessions(ctx, time.Hour))
	keep(t, db)

	var dump strings.Builder
	for _, name := range trailTables {
		for _, row := range must[table](t)(readTable(ctx, db.reads, name)).rows {
			for _, value := range row {
				if b := content(value); b != nil {
					dump.Write(append(b, '\n'))
				}
			}
		}
	}
	if !strings.Contains(dump.String(), audit.SessionRef(last.Session.ID)) {
		t.Fatal("the trail was not read")
	}
	for what, value := range raw {
		for _, form := range forms(value) {
			if strings.Contains(strings.ToLower(dump.String()), strings.ToLower(form)) {
				t.Errorf("%s is in the trail as %q", what, form)
			}
		}
	}
}

// forms are the ways in which bytes may be written.
func forms(raw []byte) []string {
	return []string{
		string(raw), hex.EncodeToString(raw),
		base64.RawStdEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw),
		base64.RawURLEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw),
	}
}

// Nothing of an account that is erased can come back, and a late entry that
// names it names nobody.
func TestLateEntryOfTheErased(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	r := register(t, db, c, "1")
	erased(t, db, "cedar-1", audit.Entry{Kind: audit.Erased})
	size := must[int64](t)(db.Record(ctx, audit.Entry{
		Kind: audit.RunEnded, Actor: r.User.ID, Credential: account.CredentialRef(r.Credential.ID), Session: r.Session.ID,
		Reason: "done", Client: r.Session.Client, Detail: map[string]string{"run": "x"},
	}))
	s := must[[]audit.Stored](t)(db.Entries(ctx, size-1, 1))[0]
	equal(t, []any{string(s.Payload), s.Leaf.Kind, s.Leaf.Actor == nil, s.Leaf.Credential == nil}, []any{`{"reason":"done"}`, audit.RunEnded, true, true})
	trailtest.Check(t, db)
}

func TestTrailTablesDefendThemselves(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	db := openAt(t, url, c.Now)
	user := register(t, db, c, "1").User.ID
	register(t, db, c, "2")
	keep(t, db)
	if err := recorded(db, audit.Entry{Kind: audit.SignInRefused}, audit.Entry{Kind: audit.SignInRefused}); err != nil {
		t.Fatal(err)
	}
	keep(t, db)
	if err := recorded(db, audit.Entry{Kind: audit.SignInRefused}); err != nil {
		t.Fatal(err)
	}
	outside := other(t, url)
	before := dumpTrail(t, db)
	const leaf = " INTO trail_leaves (idx, at, kind, commitment, hashes) VALUES "
	const payload = " INTO trail_payloads (idx, salt, payload) VALUES "
	const key = " INTO trail_keys (user_id, key) VALUES "
	const kept = " INTO trail_checkpoints (size, previous, note) VALUES "
	for _, query := range []string{
		"UPDATE trail_leaves SET kind = 'x'",
		"UPDATE trail_leaves SET idx = idx + 10",
		"UPDATE OR REPLACE trail_leaves SET idx = 1 WHERE idx = 2",
		"UPDATE OR IGNORE trail_leaves SET at = 0",
		"DELETE FROM trail_leaves WHERE idx = 4",
		"DELETE FROM trail_leaves",
		"INSERT OR REPLACE" + leaf + "(2, 0, 'x', zeroblob(32), zeroblob(32))",
		"REPLACE" + leaf + "(4, 0, 'x', zeroblob(32), zeroblob(32))",
		"INSERT" + leaf + "(1, 0, 'x', zeroblob(32), zeroblob(64)) ON CONFLICT DO UPDATE SET kind = 'x'",
		"INSERT" + leaf + "(6, 0, 'x', zeroblob(32), zeroblob(32))",
		"INSERT" + leaf + "(-1, 0, 'x', zeroblob(32), zeroblob(32))",
		"INSERT" + leaf + "(NULL, 0, 'x', zeroblob(32), zeroblob(64))",
		"INSERT INTO trail_leaves (at, kind, commitment, hashes) VALUES (0, 'x', zeroblob(32), zeroblob(64))",
		"INSERT OR REPLACE" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(64)), (5, 0, 'y', zeroblob(32), zeroblob(64))",
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(32))",  // a hash is missing
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(96))",  // one is too many
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(63))",  // half a hash
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(0))",   // none
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(31), zeroblob(64))",  // a short commitment
		"INSERT" + leaf + "(5, 0, NULL, zeroblob(32), zeroblob(64))", // no kind
		"INSERT INTO trail_leaves (idx, at, kind, actor, commitment, hashes) VALUES (5, 0, 'x', zeroblob(15), zeroblob(32), zeroblob(64))",

		"UPDATE trail_payloads SET payload = '{}'",
		"UPDATE OR REPLACE trail_payloads SET idx = 1 WHERE idx = 2",
		"INSERT OR REPLACE" + payload + "(4, zeroblob(16), '{}')",
		"INSERT OR REPLACE" + payload + "(1, zeroblob(16), '{}')",
		"INSERT" + payload + "(4, zeroblob(16), '{}') ON CONFLICT DO UPDATE SET payload = '{}'",
		"INSERT" + payload + "(5, zeroblob(16), '{}')",
		"INSERT" + payload + "(-1, zeroblob(16), '{}')",
		"INSERT" + payload + "(NULL, zeroblob(16), '{}')",
		"DELETE FROM trail_payloads WHERE idx = 0",
		"DELETE FROM trail_payloads WHERE idx = 4", // of nobody
		"DELETE FROM trail_payloads",

		"UPDATE trail_keys SET key = zeroblob(32)",
		"UPDATE OR REPLACE trail_keys SET user_id = '" + user + "'",
		"INSERT OR REPLACE" + key + "('" + user + "', zeroblob(32))",
		"INSERT" + key + "('" + user + "', zeroblob(32)) ON CONFLICT DO UPDATE SET key = zeroblob(32)",
		"INSERT" + key + "('new', zeroblob(31))",
		"DELETE FROM trail_keys WHERE user_id = '" + user + "'",
		"DELETE FROM trail_keys",

		"UPDATE trail_checkpoints SET note = ''",
		"UPDATE OR REPLACE trail_checkpoints SET size = 2 WHERE size = 4",
		"INSERT OR REPLACE" + kept + "(4, 2, 'x')",
		"INSERT OR REPLACE" + kept + "(2, 0, 'x')",
		"INSERT" + kept + "(3, 2, 'x')",
		"INSERT" + kept + "(6, 4, 'x')",
		"INSERT" + kept + "(5, 2, 'x')",
		"INSERT" + kept + "(4, 2, 'x') ON CONFLICT DO UPDATE SET note = 'x'",
		"INSERT" + kept + "(NULL, 4, 'x')",
		"INSERT" + kept + "(0, 0, 'x')",
		"DELETE FROM trail_checkpoints WHERE size = 2",
		"DELETE FROM trail_checkpoints",
	} {
		if _, err := outside.Exec(query); err == nil {
			t.Errorf("accepted: %s", query)
		}
		equal(t, dumpTrail(t, db), before)
	}
	trailtest.Check(t, db)
	// What comes next is taken: it was not for the wrong reason.
	for _, query := range []string{
		"INSERT" + leaf + "(5, 0, 'x', zeroblob(32), zeroblob(64))", "INSERT" + payload + "(5, zeroblob(16), '{}')",
		"INSERT" + key + "('new', zeroblob(32))", "DELETE FROM trail_keys WHERE user_id = 'new'", "INSERT" + kept + "(6, 4, 'x')",
	} {
		if _, err := outside.Exec(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// dumpTrail is all that the trail's tables hold.
func dumpTrail(t testing.TB, db *DB) string {
	t.Helper()
	var b strings.Builder
	for _, name := range trailTables {
		fmt.Fprintf(&b, "%x\n", must[table](t)(readTable(t.Context(), db.reads, name)).rows)
	}
	return b.String()
}
