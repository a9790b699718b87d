package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestFilePath(t *testing.T) {
	for _, tt := range []struct{ url, path, err string }{
		{"file:/var/lib/bio/bio.db", "/var/lib/bio/bio.db", ""},
		{"file:///var/lib/bio.db", "/var/lib/bio.db", ""},
		{"file:data/bio.db", "data/bio.db", ""},
		{"file:./data//bio.db", "data/bio.db", ""},
		{"file:/a%20b%3F/%25.db", "/a b?/%.db", ""},
		{"file:a%20b.db", "a b.db", ""},
		{"", "", "only file:"},
		{"/var/lib/bio.db", "", "only file:"},
		{"libsql://db.example.com", "", "only file:"},
		{"file:", "", "names no file"},
		{"file:/data/", "", "names no file"},
		{"file:/.", "", "names no file"},
		{"file:x/..", "", "names no file"},
		{"file::memory:", "", "names no file"},
		{"file://host/bio.db", "", "names a host"},
		{"file:/bio.db?mode=ro", "", "parameters"},
		{"file:/bio.db?", "", "parameters"},
		{"file:/bio.db#x", "", "parameters"},
		{"file:/bio%zz.db", "", "cannot be parsed"},
		{"file:bio%zz.db", "", "cannot be parsed"},
	} {
		path, err := filePath(tt.url)
		if path != tt.path || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %q, %v", tt.url, path, err)
		}
	}
}

// Whatever path is read from a URL, the engine is given a URL of that path.
func FuzzFilePath(f *testing.F) {
	for _, seed := range []string{"file:/a/b.db", "file:a b", "file:///x%3Fy", "file:%2F%2Fx", "file:/a?b", "file::memory:", "http://x/y", "file:x/../../y", "file:/.#"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		path, err := filePath(raw)
		if err != nil {
			return
		}
		again, err := filePath(strings.TrimSuffix(dsn(path, ""), "?"))
		if err != nil || again != path {
			t.Fatalf("%q is %q, then %q, %v", raw, path, again, err)
		}
	})
}

func TestOpenOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?%41#é")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bio.db")
	db := openAt(t, dsn(path, "")[:len(dsn(path, ""))-1], newClock().Now)
	if err := recorded(db, registered("1")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, info.Mode().Perm(), 0o600)
	}
}

func TestOpenNarrowsTheMode(t *testing.T) {
	url := fileURL(t)
	path, _ := filePath(url)
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	openAt(t, url, newClock().Now)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, info.Mode().Perm(), 0o600)
}

func TestOpenRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string) string
		want    string
	}{
		{"no directory", func(_ *testing.T, path string) string { return filepath.Join(path, "x", "bio.db") }, "its directory does not exist"},
		{"a directory", func(t *testing.T, path string) string { return filepath.Dir(path) }, "is a directory"},
		{"not a database", func(t *testing.T, path string) string {
			if err := os.WriteFile(path, bytes.Repeat([]byte("text "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "it is not a database"},
		{"another program's", func(t *testing.T, path string) string {
			if _, err := other(t, "file:"+path).Exec("CREATE TABLE notes (text TEXT)"); err != nil {
				t.Fatal(err)
			}
			return path
		}, "another program"},
		{"older than the log", func(t *testing.T, path string) string {
			if _, err := other(t, "file:"+path).Exec("CREATE TABLE trail (seq INTEGER NOT NULL PRIMARY KEY) STRICT; PRAGMA user_version = 1"); err != nil {
				t.Fatal(err)
			}
			return path
		}, "before its trail was a Merkle log, and cannot be carried over: set BIO_DATA to a new directory, or move this file away"},
		{"newer schema", func(t *testing.T, path string) string {
			openAt(t, "file:"+path, newClock().Now)
			if _, err := other(t, "file:"+path).Exec("PRAGMA user_version = 99"); err != nil {
				t.Fatal(err)
			}
			return path
		}, "newer version of Bio (schema 99"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.prepare(t, filepath.Join(t.TempDir(), "bio.db"))
			_, err := Open(t.Context(), "file:"+path, newClock().Now)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPing(t *testing.T) {
	url := fileURL(t)
	db := openAt(t, url, newClock().Now)
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other(t, url).Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Fatalf("got error %v", err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	db, _ := openTest(t)
	_, err := db.reads.Exec("DELETE FROM users")
	wantErr(t, classify(err), ErrUnavailable) // SQLITE_READONLY
}

func TestPragmasAreChecked(t *testing.T) {
	path, _ := filePath(fileURL(t))
	pool, err := openPool(path, "_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	conn := must[*sql.Conn](t)(pool.Conn(t.Context()))
	defer conn.Close()
	if err := checkPragmas(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "synchronous=2") {
		t.Fatalf("got error %v", err)
	}
}

// Any number of programs may start on one fresh file at once.
func TestConcurrentStarts(t *testing.T) {
	for range 10 {
		url := fileURL(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				db, err := Open(context.Background(), url, newClock().Now)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(db.Ping(context.Background()), recorded(db, registered(fmt.Sprint(i))), db.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		equal(t, openAt(t, url, newClock().Now).counts(t)["trail_leaves"], 8)
	}
}

func TestMigrationsAreNumbered(t *testing.T) {
	for i, m := range migrations {
		if !strings.HasPrefix(m.name, fmt.Sprintf("%04d_", i+1)) {
			t.Errorf("migration %d is %s", i+1, m.name)
		}
	}
}

// A migration that fails leaves nothing; those before it stay.
func TestFailingMigration(t *testing.T) {
	pool := other(t, fileURL(t))
	conn := must[*sql.Conn](t)(pool.Conn(t.Context()))
	defer conn.Close()
	list := []migration{
		{"0001_a.sql", "CREATE TABLE a (x); -- one\nINSERT INTO a VALUES (';');"},
		{"0002_b.sql", "CREATE TABLE b (x); INSERT INTO a VALUES (2); INSERT INTO nowhere VALUES (1);"},
	}
	err := migrate(t.Context(), conn, list)
	if err == nil || !strings.Contains(err.Error(), "0002_b.sql") {
		t.Fatalf("got error %v", err)
	}
	check := func(wantVersion, wantTables, wantRows int) {
		t.Helper()
		var version, tables, rows int
		err := errors.Join(
			conn.QueryRowContext(t.Context(), sqlVersion).Scan(&version),
			conn.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema").Scan(&tables),
			conn.QueryRowContext(t.Context(), "SELECT count(*) FROM a").Scan(&rows))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, []int{version, tables, rows}, []int{wantVersion, wantTables, wantRows})
	}
	check(1, 1, 1)
	list[1].script = "CREATE TABLE b (x); INSERT INTO a VALUES (2);"
	if err := migrate(t.Context(), conn, list); err != nil {
		t.Fatal(err)
	}
	check(2, 2, 2)
	if err := migrate(t.Context(), conn, list[:1]); err == nil {
		t.Fatal("a newer schema was accepted")
	}
}

func TestSchemaGolden(t *testing.T) {
	db, _ := openTest(t)
	var b strings.Builder
	rows := must[*sql.Rows](t)(db.reads.Query("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC, name"))
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		b.WriteString(text + ";\n\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/schema.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, b.String(), string(must[[]byte](t)(os.ReadFile(golden))))
}

// No statement of the store reads a whole table, but those that are meant to.
func TestQueryPlans(t *testing.T) {
	whole := map[string]bool{
		sqlCrowded:     true, // every session of everyone, by the index
		sqlUsers:       true, // every account, for an operator
		sqlAnySessions: true, // a hundred sessions, whoever's, to be ended
		sqlOtherOwner:  true, // only when an owner goes, is disabled or leaves the group
	}
	db, c := openTest(t)
	ctx := t.Context()
	// Everything once, so that every text has been prepared.
	inv := account.Invitation{TokenHash: []byte("hash"), Groups: []string{account.Owner}}
	r, dup := registration("1", c.Now()), registration("2", c.Now())
	s := signIn("3", r.Credential, c.Now())
	s.Credential.Flags &^= account.FlagBackupState
	s.Replaces, s.Invitation, s.Undo, s.UndoAfter, s.SuggestAfter = dup.Session.ID, inv.TokenHash, dup.User.ID, epoch, epoch
	err := db.Invite(ctx, inv, audit.Entry{Kind: audit.InvitationMade})
	_, err1 := db.Register(ctx, r, registered("1"))
	_, err2 := db.Register(ctx, dup, registered("2"))
	out, err3 := db.SignIn(ctx, s, signedIn("3"))
	err4 := db.TouchSession(ctx, s.Session.ID, c.Now())
	_, _, err5 := db.AddCredential(ctx, addition("4", s.Session.ID, c.Now()), passkeyAdded)
	_, err6 := db.RenameCredential(ctx, r.User.ID, r.Credential.ID, "Another name", passkeyRenamed)
	_, err7 := db.RemoveCredential(ctx, removal(sum("credential", "4"), s.Session.ID, c.Now()), passkeyRemoved)
	if err := errors.Join(err, err1, err2, err3, err4, err5, err6, err7); err != nil || !out.Removed || !out.Suggest {
		t.Fatal(err, out)
	}
	register(t, db, c, "other")
	asks := s.Session.ID
	for i, act := range []Act{
		Rename{"maple-1"}, EndOthers{}, MakeInvitation{account.Invitation{TokenHash: []byte("another")}},
		MakeRecovery{"maple-1", recovery("5", c.Now())}, // of oneself
	} {
		up := stepUp(fmt.Sprint("up ", i), asks, r.Credential, act, c.Now())
		must[SteppedUp](t)(db.StepUp(ctx, up, steppedUp))
		asks = up.Session.ID
	}
	first := started(t, db, c, runOf(r.User.ID, "brief", "1"))
	ended(t, db, first, 0, agent.Event{Text: "a"})
	second := started(t, db, c, runOf(r.User.ID, "brief", "2"))
	_, err = db.KeepEvents(ctx, second.ID, 0, nil)
	err1 = db.AskToStop(ctx, r.User.ID, second.ID)
	_, err2 = db.InterruptRuns(ctx, c.Now().Add(runs.Stale), runs.Crashed)
	m := db.Memory(r.User.ID, "brief")
	if err := errors.Join(err, err1, err2, m.Put(ctx, "a", nil), m.Delete(ctx, "a")); err != nil {
		t.Fatal(err)
	}
	waits := begin(t, db, c, "maple-1", "6")
	c.Advance(day)
	must[SignedIn](t)(db.SignIn(ctx, signIn("7", waits, c.Now()), signedIn("7")))
	_, _, err = db.DisableUser(ctx, "maple-1", true, disabled)
	_, err1 = db.EnableUser(ctx, "maple-1", enabled)
	_, _, err2 = db.RevokeSessions(ctx, "maple-1", "command line")
	_, err3 = db.RevokeAllSessions(ctx, "command line")
	_, err4 = db.ExpireSessions(ctx, 0)
	_, err5 = db.SetGroups(ctx, "cedar-other", []string{account.Owner}, false, groupsSet)
	_, _, err6 = db.EraseUser(ctx, Erasure{Name: "maple-1"}, audit.Entry{Kind: audit.Erased})
	err7 = db.KeepCheckpoint(ctx, 1, []byte("note"))
	if err := errors.Join(err, err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	// What a page shows is prepared.
	for _, text := range []string{sqlSessions, sqlCredentials, sqlWaiting, sqlRecovery, sqlLastRuns, sqlRun, sqlRunEvents} {
		if db.stmts[text] == nil {
			t.Errorf("not prepared: %s", text)
		}
	}
	texts := map[string]bool{sqlMilestones: true, sqlEntries: true, sqlUsers: true, sqlMemoryKeys: true, sqlCrowded: true, sqlCountSessions: true, sqlDeleteOldest: true}
	for text := range db.stmts {
		texts[text] = true
	}
	if err := db.write(ctx, func(t *tx) error {
		for text := range t.w.stmts {
			texts[text] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		sqlCountCredentials, sqlOwned, sqlRenameCredential, sqlDeleteCredential, sqlDeleteCredentialSessions, sqlDeleteOtherSessions, sqlNameTaken, sqlRenameUser,
		sqlRecovery, sqlOfferRecovery, sqlUseRecovery, sqlCancelRecovery, sqlCompleteRecovery, sqlDeleteUserRecovery,
		sqlSuggested, sqlUserNamed, sqlSetDisabled, sqlSetGroups, sqlAnySessions, sqlOtherOwner,
		sqlRunAt, sqlInsertRun, sqlDeleteRun, sqlDeleteRunEvents, sqlBeat, sqlInsertEvent, sqlEndRun, sqlStopRun, sqlStaleRuns, sqlInterruptRun,
		sqlMemorySize, sqlRemember, sqlForgetKey, sqlDeleteUserRunEvents, sqlDeleteUserRuns, sqlDeleteUserMemory,
	} {
		if !texts[text] {
			t.Errorf("not prepared: %s", text)
		}
	}
	if len(texts) < 80 {
		t.Fatalf("only %d statements", len(texts))
	}
	for text := range texts {
		switch strings.Fields(text)[0] {
		case "SELECT", "INSERT", "UPDATE", "DELETE":
		default:
			continue
		}
		rows, err := db.reads.Query("EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "?"))...)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if text == sqlMilestones && !strings.Contains(detail, "trail_leaves_milestones") || text == sqlStaleRuns && parent == 0 && strings.Contains(detail, " runs ") && !strings.Contains(detail, "runs_running") {
				t.Errorf("%s\n%s", text, detail)
			}
			if strings.HasPrefix(detail, "SCAN") && !whole[text] && detail != "SCAN CONSTANT ROW" && !strings.Contains(detail, "VIRTUAL TABLE") ||
				strings.Contains(detail, "TEMP B-TREE") && text != sqlDeleteOldest { // which sorts one account's, when they are too many
				t.Errorf("%s\n%s", text, detail)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Close leaves no goroutine of the store. libsql.NewConnector keeps one of its
// own for each of the two pools, for the life of the program.
func TestNoGoroutineLeak(t *testing.T) {
	stacks := func() (all string) {
		buf := make([]byte, 1<<20)
		return string(buf[:runtime.Stack(buf, true)])
	}
	openers := func() int { return strings.Count(stacks(), "sql.(*DB).connectionOpener(") }
	before := openers()
	const opens = 10
	for range opens {
		db, err := Open(t.Context(), fileURL(t), newClock().Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(recorded(db, registered("1")), db.Ping(t.Context()), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// The last pools' goroutines may still be on their way out.
	for openers()-before > 2*opens {
		runtime.Gosched()
	}
	if s := stacks(); strings.Contains(s, "store.(*writer)") {
		t.Fatal(s)
	}
}

// The directory of a test is not searchable for others, hence a copy of the
// program and a directory for this test alone.
func TestReadOnlyDirectory(t *testing.T) {
	if path := os.Getenv("BIO_STORE_TEST_READONLY"); path != "" {
		_, err := Open(t.Context(), "file:"+path, newClock().Now)
		if err == nil || !strings.Contains(err.Error(), "not writable") || !strings.Contains(err.Error(), path) {
			t.Fatalf("%s: got error %v", path, err)
		}
		return
	}
	root, err := os.MkdirTemp("", "bio-store")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	dir := filepath.Join(root, "data")
	self := copyOfSelf(t, root)
	if err := errors.Join(os.Chmod(root, 0o755), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	existing := filepath.Join(dir, "old.db")
	db := must[*DB](t)(Open(t.Context(), "file:"+existing, newClock().Now))
	if err := errors.Join(db.Close(), os.Chmod(existing, 0o444), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	for _, name := range []string{existing, filepath.Join(dir, "new.db")} {
		cmd := exec.Command(self, "-test.run=^TestReadOnlyDirectory$")
		cmd.Dir, cmd.Env = "/", append(os.Environ(), "BIO_STORE_TEST_READONLY="+name)
		if os.Getuid() == 0 { // for whom nothing is read-only
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func copyOfSelf(t *testing.T, dir string) string {
	t.Helper()
	path := must[string](t)(os.Executable())
	from := must[*os.File](t)(os.Open(path))
	defer from.Close()
	to := must[*os.File](t)(os.OpenFile(filepath.Join(dir, "self"), os.O_CREATE|os.O_WRONLY, 0o755))
	_, err := io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}
