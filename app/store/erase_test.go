package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"testing"
	"time"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
	"bio/app/session"
	"bio/app/store/trailtest"
)

// person is someone with a network of their own.
type person struct {
	Registration
	sessions []string
	kinds    []audit.Kind      // of their entries
	also     map[string][]byte // further traces
}

func newPerson(t testing.TB, db *DB, c *clock, seed string) *person {
	t.Helper()
	p := &person{Registration: registration(seed, c.Now()), kinds: []audit.Kind{audit.Registered}}
	p.Names = []string{"heron-" + seed + "-grey"}
	p.Credential.PublicKey, p.Credential.Name = sum("public key", seed), "Key of "+seed+"."
	n := sum("network", seed)
	p.Session.Client.Network = fmt.Sprintf("%x:%x:%x::/48", n[:2], n[2:4], n[4:6])
	must[account.User](t)(db.Register(t.Context(), p.Registration, p.entry(audit.Registered, p.Session)))
	p.sessions = []string{p.Session.ID}
	return p
}

func (p *person) entry(kind audit.Kind, s session.Session) audit.Entry {
	return audit.Entry{Kind: kind, Credential: account.CredentialRef(p.Credential.ID), Session: s.ID, Client: p.Session.Client}
}

func (p *person) signIn(t testing.TB, db *DB, c *clock, seed string) {
	t.Helper()
	p.Credential.SignCount++
	s := signIn(seed, p.Credential, c.Now())
	s.Session.Client = p.Session.Client
	must[SignedIn](t)(db.SignIn(t.Context(), s, p.entry(audit.SignedIn, s.Session)))
	p.sessions, p.kinds = append(p.sessions, s.Session.ID), append(p.kinds, audit.SignedIn)
}

// work lets an agent do something for them, and keep something of them.
func (p *person) work(t testing.TB, db *DB, c *clock, seed string) {
	t.Helper()
	r := runOf(p.User.ID, "brief", seed)
	r.Prompt = string(fmt.Appendf(nil, "%x", sum("prompt", seed)))
	started(t, db, c, r)
	said, shown, kept, key := sum("said", seed), sum("shown", seed), sum("kept", seed), fmt.Sprintf("%x", sum("key", seed))
	events := []agent.Event{{Text: fmt.Sprintf("%x", said)}, {Kind: agent.View, View: runs.HTML(fmt.Sprintf("<p>%x</p>", shown))}}
	if _, err := db.KeepEvents(t.Context(), r.ID, 0, events); err != nil {
		t.Fatal(err)
	}
	if err := db.Memory(p.User.ID, "brief").Put(t.Context(), key, kept); err != nil {
		t.Fatal(err)
	}
	p.kinds = append(p.kinds, audit.RunStarted)
	if p.also == nil {
		p.also = map[string][]byte{}
	}
	maps.Copy(p.also, map[string][]byte{
		"prompt " + seed: sum("prompt", seed), "run " + seed: []byte(r.ID), "what was said " + seed: said, "view " + seed: shown,
		"memory " + seed: kept, "key of memory " + seed: []byte(key),
	})
}

// traces are how the person may be known, but by the key of their pseudonyms.
func (p *person) traces() map[string][]byte {
	all := map[string][]byte{
		"user id": []byte(p.User.ID), "handle": p.User.Handle, "name": []byte(p.Names[0]),
		"credential id": p.Credential.ID, "credential ref": []byte(account.CredentialRef(p.Credential.ID)),
		"public key": p.Credential.PublicKey, "passkey's name": []byte(p.Credential.Name),
		"network": []byte(p.Session.Client.Network),
	}
	maps.Copy(all, p.also)
	for _, id := range p.sessions {
		all["session "+id], all["ref of session "+id] = []byte(id), []byte(audit.SessionRef(id))
	}
	return all
}

// noTrace fails when anything of the person is in the files.
func (p *person) noTrace(t *testing.T, path string, key []byte) {
	t.Helper()
	traces := p.traces()
	traces["key"] = key
	for _, name := range []string{path, path + "-wal"} {
		file, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		file = bytes.ToLower(file)
		for what, raw := range traces {
			for _, form := range forms(raw) {
				if n := bytes.Count(file, bytes.ToLower([]byte(form))); n > 0 {
					t.Errorf("%s of %s stands %d times in %s", what, p.Names[0], n, name[len(path):])
				}
			}
		}
	}
}

func (db *DB) keyOf(t testing.TB, userID string) (key []byte) {
	t.Helper()
	if err := db.reads.QueryRow(sqlTrailKey, userID).Scan(&key); err != nil || len(key) != audit.KeySize {
		t.Fatal(key, err)
	}
	return key
}

// erased erases a user who is there, whatever they own.
func erased(t *testing.T, db *DB, name string, entry audit.Entry) account.User {
	t.Helper()
	user, _, err := db.EraseUser(t.Context(), Erasure{Name: name, LastOwner: true}, entry)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func TestEraseUser(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	server, db := openAt(t, url, c.Now), openAt(t, url, c.Now)
	ctx := t.Context()
	// Enough, in a mixed order, that rows move between pages.
	var people []*person
	for i := range 40 {
		people = append(people, newPerson(t, server, c, fmt.Sprint(i)))
	}
	for round := range 3 {
		for i, p := range people {
			p.signIn(t, server, c, fmt.Sprintf("%d in round %d", i, round))
		}
	}
	gone, stays := people[17], people[18]
	for _, p := range []*person{gone, stays} {
		p.work(t, server, c, "first-of-"+p.Names[0])
	}
	ended(t, server, must[[]runs.Record](t)(server.LastRuns(ctx, gone.User.ID))[0], 2)
	gone.kinds = append(gone.kinds, audit.RunEnded)
	gone.work(t, server, c, "second-of-"+gone.Names[0]) // the first goes for it
	refused := gone.entry(audit.SignInRefused, session.Session{})
	refused.Actor = gone.User.ID
	if err := recorded(server, refused); err != nil {
		t.Fatal(err)
	}
	waits := begin(t, server, c, gone.Names[0], "waits")
	maps.Copy(gone.also, map[string][]byte{"link": link("waits"), "id of what waits": waits.ID, "ref of what waits": []byte(refOf("waits"))})
	// The server has what it read in its caches.
	if _, _, err := server.Credential(ctx, gone.Credential.ID); err != nil {
		t.Fatal(err)
	}
	published := keep(t, server)
	key := db.keyOf(t, gone.User.ID)
	before := server.counts(t)
	recordsBefore := must[[]audit.Record](t)(server.Trail(ctx, stays.User.ID, 0, 100))
	_, credentialBefore, err := server.Credential(ctx, stays.Credential.ID)
	if err != nil {
		t.Fatal(err)
	}

	user := erased(t, db, "HERON-17-grey", audit.Entry{Kind: audit.Erased, Reason: "command line"})
	gone.noTrace(t, path, key) // while the server has the file open
	equal(t, user, account.User{ID: gone.User.ID, Handle: gone.User.Handle, Name: "heron-17-grey", CreatedAt: epoch})
	_, err = server.User(ctx, gone.User.ID)
	wantErr(t, err, account.ErrNotFound)
	_, _, err = server.Credential(ctx, gone.Credential.ID)
	wantErr(t, err, account.ErrNotFound)
	for _, id := range gone.sessions {
		_, _, err = server.Session(ctx, id)
		wantErr(t, err, session.ErrNone)
	}
	equal(t, len(must[[]audit.Record](t)(server.Trail(ctx, gone.User.ID, 0, 100))), 0)
	after := server.counts(t)
	equal(t, after, map[string]int{
		"users": before["users"] - 1, "credentials": before["credentials"] - 2, "sessions": before["sessions"] - len(gone.sessions),
		"challenges": before["challenges"], "invitations": 0, "trail_leaves": before["trail_leaves"] + 1,
	})

	// The tree is as it was, with one leaf more, which says whom by a pseudonym.
	report := trailtest.Check(t, server, published)
	gone.kinds = append(gone.kinds, audit.SignInRefused, audit.RecoveryOffered, audit.RecoveryBegun)
	equal(t, report.Erased, int64(len(gone.kinds)))
	entries := must[[]audit.Stored](t)(server.Entries(ctx, 0, 1000))
	last := entries[len(entries)-1]
	equal(t, []any{last.Leaf.Kind, string(last.Payload), last.Leaf.Actor == nil}, []any{audit.Erased, `{"reason":"command line"}`, true})
	var kinds []audit.Kind
	for _, e := range entries[:len(entries)-1] {
		if bytes.Equal(e.Leaf.Actor, last.Leaf.Subject) {
			kinds = append(kinds, e.Leaf.Kind)
			equal(t, e.Payload == nil && e.Actor == nil && e.Salt == nil, true)
		}
	}
	equal(t, kinds, gone.kinds)
	equal(t, server.count(t, "SELECT count(*) FROM recoveries"), 0)
	equal(t, server.count(t, "SELECT count(*) FROM runs")+server.count(t, "SELECT count(*) FROM run_events")+server.count(t, "SELECT count(*) FROM memory"), 1+2+1)

	// Another person is as before.
	equal(t, must[[]audit.Record](t)(server.Trail(ctx, stays.User.ID, 0, 100)), recordsBefore)
	equal(t, len(recordsBefore), len(stays.kinds))
	_, credential, err := server.Credential(ctx, stays.Credential.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, credential, credentialBefore)
	for _, id := range stays.sessions {
		if _, _, err := server.Session(ctx, id); err != nil {
			t.Error(err)
		}
	}

	_, _, err = server.EraseUser(ctx, Erasure{Name: "heron-17-grey"}, audit.Entry{Kind: audit.Erased})
	wantErr(t, err, account.ErrNotFound)
	equal(t, server.counts(t), after)
	again := newPerson(t, server, c, "again")
	r := registration("third", c.Now())
	r.Names = []string{"heron-17-grey"}
	must[account.User](t)(server.Register(ctx, r, registered("third")))
	again.signIn(t, server, c, "again in")
	checkInvariants(t, server)
}

// Nobody who was erased leaves a trace, however many they are and however the
// file is laid out by then.
func TestEraseMany(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	server := openAt(t, url, c.Now)
	var people []*person
	for i := range 150 {
		p := newPerson(t, server, c, fmt.Sprint(i))
		people = append(people, p)
		p.work(t, server, c, fmt.Sprintf("of-%d-", i))
		if i >= 10 {
			people[i*7%(i-5)].signIn(t, server, c, fmt.Sprintf("in %d", i))
		}
	}
	for _, i := range []int{3, 149, 75, 0, 74, 76, 100, 31, 62, 128} {
		gone := people[i]
		key := server.keyOf(t, gone.User.ID)
		erased(t, server, gone.Names[0], audit.Entry{Kind: audit.Erased})
		gone.noTrace(t, path, key)
	}
	trailtest.Check(t, server)
}

// An account made by accident is erased likewise.
func TestUndoErases(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	server := openAt(t, url, c.Now)
	beside := openAt(t, url, c.Now)
	ctx := t.Context()
	for i := range 30 {
		newPerson(t, server, c, fmt.Sprint(i))
	}
	old, dup := newPerson(t, server, c, "old"), newPerson(t, server, c, "dup")
	key := server.keyOf(t, dup.User.ID)
	s := signIn("undo", old.Credential, c.Now())
	s.Replaces, s.Undo, s.UndoAfter = dup.Session.ID, dup.User.ID, c.Now().Add(-time.Minute)
	out := must[SignedIn](t)(server.SignIn(ctx, s, old.entry(audit.SignedIn, s.Session)))
	equal(t, out.Removed, true)
	dup.noTrace(t, path, key)
	report := trailtest.Check(t, beside)
	equal(t, report.Erased, 2) // registered, session replaced
	entries := must[[]audit.Stored](t)(beside.Entries(ctx, 30, 100))
	last := entries[len(entries)-1]
	equal(t, []any{last.Leaf.Kind, bytes.Equal(last.Leaf.Subject, entries[1].Leaf.Actor), bytes.Equal(last.Leaf.Actor, entries[0].Leaf.Actor)},
		[]any{audit.DuplicateUndone, true, true})
	checkInvariants(t, server)
}

// A reader that holds on keeps the WAL from being emptied, not the account from
// being erased; housekeeping empties it later.
func TestScrubAfterAReader(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	db := openAt(t, url, c.Now)
	ctx := t.Context()
	p := newPerson(t, db, c, "1")
	key := db.keyOf(t, p.User.ID)
	outside := other(t, url)
	tx, err := outside.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM users").Scan(&n); err != nil {
		t.Fatal(err)
	}
	user, clean, err := db.EraseUser(ctx, Erasure{Name: p.Names[0]}, audit.Entry{Kind: audit.Erased})
	equal(t, []any{user.ID, clean, err}, []any{p.User.ID, false, error(nil)})
	_, err = db.User(ctx, p.User.ID)
	wantErr(t, err, account.ErrNotFound)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	must[int](t)(db.ExpireSessions(ctx, 12*time.Hour))
	p.noTrace(t, path, key)

	// A reader of what is now holds nothing up.
	p = newPerson(t, db, c, "2")
	key = db.keyOf(t, p.User.ID)
	if err := outside.QueryRow("SELECT count(*) FROM users").Scan(&n); err != nil {
		t.Fatal(err)
	}
	_, clean, err = db.EraseUser(ctx, Erasure{Name: p.Names[0]}, audit.Entry{Kind: audit.Erased})
	equal(t, []any{clean, err}, []any{true, error(nil)})
	p.noTrace(t, path, key)
}

// The last owner goes only when that is said.
func TestEraseLastOwner(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	for name, groups := range map[string][]string{
		"a": {"dev", account.Owner}, "b": {account.Owner}, "c": {"owners", "co-owner"}, "d": nil,
	} {
		r := registration(name, c.Now())
		r.User.Groups = groups
		must[account.User](t)(db.Register(ctx, r, registered(name)))
	}
	entry := audit.Entry{Kind: audit.Erased, Reason: "command line"}
	for _, step := range []struct {
		name string
		last bool
		want error
	}{
		{"nobody", true, account.ErrNotFound},
		{"cedar-d", false, nil}, // no owner
		{"cedar-A", false, nil}, // there is b
		{"cedar-B", false, account.ErrLastOwner},
		{"cedar-b", false, account.ErrLastOwner},
		{"cedar-c", false, nil}, // its groups are only called alike
		{"cedar-b", true, nil},
		{"cedar-b", true, account.ErrNotFound},
	} {
		before, counts := dumpTrail(t, db), db.counts(t)
		user, clean, err := db.EraseUser(ctx, Erasure{Name: step.name, LastOwner: step.last}, entry)
		if !errors.Is(err, step.want) || clean != (step.want == nil) || (user.ID != "") != (step.want == nil) {
			t.Errorf("%s: %+v, clean %v, %v, want %v", step.name, user, clean, err, step.want)
		}
		if step.want != nil {
			equal(t, dumpTrail(t, db), before)
			equal(t, db.counts(t), counts)
		}
		checkInvariants(t, db)
		trailtest.Check(t, db)
	}
	equal(t, db.counts(t)["users"], 0)
}
