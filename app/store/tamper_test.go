package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/store/trailtest"
)

var trailTables = []string{"trail_leaves", "trail_payloads", "trail_keys", "trail_checkpoints"}

// thin is of how many changes one is tried. The race detector makes the engine
// slow, and has nothing to find in them.
var thin = 1

// querier is a pool or a connection.
type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// table is what a table holds, without generated columns, by its key.
type table struct {
	name    string
	columns []string // the key first
	rows    [][]any
}

func readTable(ctx context.Context, db querier, name string) (table, error) {
	tb := table{name: name}
	columns, err := db.QueryContext(ctx, "SELECT name FROM pragma_table_info('"+name+"') ORDER BY cid")
	if err != nil {
		return tb, err
	}
	defer columns.Close()
	for columns.Next() {
		var column string
		if err := columns.Scan(&column); err != nil {
			return tb, err
		}
		tb.columns = append(tb.columns, column)
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(tb.columns, ", ")+" FROM "+name+" ORDER BY 1")
	if err != nil {
		return tb, err
	}
	defer rows.Close()
	for rows.Next() {
		values := make([]any, len(tb.columns))
		dest := make([]any, len(values))
		for i := range dest {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return tb, err
		}
		tb.rows = append(tb.rows, values)
	}
	return tb, errors.Join(columns.Err(), rows.Err())
}

// honest is a small log of many kinds in a closed file, and what was published of
// it. old is the same file, some acts earlier.
type honest struct {
	file, old   []byte
	size        int64
	keptSizes   []int64
	newest      []byte   // the published checkpoint of all entries, which the database does not keep
	users       []string // ids of those that are there
	entriesOf   map[string][]int64
	signer      *audit.Signer
	keys        note.Verifiers
	now         *clock
	credentials []account.Credential
}

func newHonest(t *testing.T) *honest {
	t.Helper()
	h := &honest{now: newClock(), entriesOf: map[string][]int64{}}
	h.signer, h.keys = testSigner(t)
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	db := must[*DB](t)(Open(t.Context(), url, h.now.Now))
	act := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	act(recorded(db, audit.Entry{Kind: audit.ServerStarted, Detail: map[string]string{"version": "1"}}))
	a, b, gone := register(t, db, h.now, "a"), register(t, db, h.now, "b"), register(t, db, h.now, "gone")
	h.users = []string{a.User.ID, b.User.ID}
	slices.Sort(h.users)
	h.credentials = []account.Credential{a.Credential, b.Credential}
	act(recorded(db, audit.Entry{Kind: audit.SignInRefused, Actor: gone.User.ID, Reason: "signature", Client: gone.Session.Client}))
	for i, c := range h.credentials {
		h.now.Advance(1e9)
		s := signIn(fmt.Sprint("in", i), c, h.now.Now())
		must[SignedIn](t)(db.SignIn(t.Context(), s, audit.Entry{
			Kind: audit.SignedIn, Credential: account.CredentialRef(c.ID), Session: s.Session.ID, Client: s.Session.Client,
		}))
	}
	h.keptSizes = append(h.keptSizes, must[int64](t)(db.TrailSize(t.Context())))
	keep(t, db)
	act(recorded(db, audit.Entry{Kind: audit.SignInRefused, Reason: "several", Count: 4, Detail: map[string]string{"expired": "3", "unknown": "1"}}))
	erased(t, db, "cedar-gone", audit.Entry{Kind: audit.Erased, Reason: "command line"})
	act(recorded(db, audit.Entry{Kind: audit.TrailExported}, audit.Entry{Kind: audit.SignInRefused, Reason: "expired"}))
	h.keptSizes = append(h.keptSizes, must[int64](t)(db.TrailSize(t.Context())))
	keep(t, db)
	must[bool](t)(db.scrub(t.Context()))
	h.old = must[[]byte](t)(os.ReadFile(path))
	act(db.EndSession(t.Context(), a.Session.ID, audit.Entry{Kind: audit.SignedOut, Session: a.Session.ID}))
	act(recorded(db, audit.Entry{Kind: audit.SignInRefused, Actor: b.User.ID, Reason: "counter"}))
	h.size, h.newest = checkpoint(t, db)
	for _, e := range must[[]audit.Stored](t)(db.Entries(t.Context(), 0, 100)) {
		if e.Payload != nil {
			r := must[audit.Record](t)(audit.Open(e.Index, e.Leaf.Kind, e.Leaf.Time, e.Payload))
			h.entriesOf[r.Actor] = append(h.entriesOf[r.Actor], e.Index)
		}
	}
	equal(t, trailtest.Check(t, db, h.newest).Erased, 2)
	act(db.Close())
	h.file = must[[]byte](t)(os.ReadFile(path))
	return h
}

// verdict is what a verification says.
type verdict struct {
	Problems []audit.Problem
	Findings []string
	Unknown  int // checkpoints whose key is not known
}

// verify is what an operator does: the entries against the published checkpoint
// and, when that finds nothing, the file. An error is a finding too.
func (h *honest) verify(ctx context.Context, db *DB) (v verdict) {
	report, err := trailtest.Entries(ctx, db, h.keys, h.newest)
	v.Problems, v.Unknown = report.Problems, report.Unknown
	if err != nil {
		v.Findings = append(v.Findings, err.Error())
	}
	if len(v.Problems)+len(v.Findings) > 0 {
		return v
	}
	findings, err := db.CheckFile(ctx)
	if err != nil {
		findings = append(findings, err.Error())
	}
	for _, f := range findings {
		if !strings.HasPrefix(f, "the schema was changed") { // TestSchemaIsChecked
			v.Findings = append(v.Findings, f)
		}
	}
	return v
}

func (v verdict) nothing() bool { return len(v.Problems)+len(v.Findings)+v.Unknown == 0 }

// entry reports whether the verdict names one of the entries, or that all before
// it are missing.
func (v verdict) entry(indexes ...int64) bool {
	return slices.ContainsFunc(indexes, func(i int64) bool {
		return slices.ContainsFunc(v.Findings, func(f string) bool { return strings.HasSuffix(f, fmt.Sprintf(": %d", i)) }) ||
			slices.ContainsFunc(v.Problems, func(p audit.Problem) bool {
				return p.First <= i && (i <= p.Last || i == p.Last+1 && p.What == "missing") && !strings.HasPrefix(p.What, "a checkpoint")
			})
	})
}

// says reports whether a finding has the words.
func (v verdict) says(words string) bool {
	return slices.ContainsFunc(v.Findings, func(f string) bool { return strings.Contains(f, words) })
}

// checkpoint reports whether the verdict is about checkpoints.
func (v verdict) checkpoint() bool {
	return v.Unknown > 0 || v.says("checkpoint") ||
		slices.ContainsFunc(v.Problems, func(p audit.Problem) bool { return strings.Contains(p.What, "checkpoint") })
}

// write makes a file of the content and returns its URL.
func write(t testing.TB, content []byte) (url string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bio.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

// unguarded is the honest file without triggers and constraints, opened by us and
// by someone who changes it.
func (h *honest) unguarded(t *testing.T) (*DB, *sql.Conn) {
	t.Helper()
	url := write(t, h.file)
	pool := other(t, url)
	conn := must[*sql.Conn](t)(pool.Conn(t.Context()))
	t.Cleanup(func() { conn.Close() })
	exec := func(query string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	exec("PRAGMA synchronous = OFF")
	exec("PRAGMA ignore_check_constraints = ON")
	exec("PRAGMA writable_schema = ON")
	exec("DELETE FROM sqlite_schema WHERE type = 'trigger' AND tbl_name GLOB 'trail_*'")
	exec("UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table' AND name GLOB 'trail_*'")
	exec("PRAGMA writable_schema = RESET")
	db := openAt(t, url, h.now.Now)
	if v := h.verify(t.Context(), db); !v.nothing() {
		t.Fatalf("before anything was changed: %+v", v)
	}
	return db, conn
}

// A tamper changes the tables and is undone.
type tamper struct {
	what  string
	named func(verdict) bool
	do    []statement
	undo  []statement
}

type statement struct {
	query string
	args  []any
}

// owner says whether a verdict names what belongs to the row with the key.
func (h *honest) owner(tb table, key any) func(verdict) bool {
	switch tb.name {
	case "trail_leaves", "trail_payloads":
		return func(v verdict) bool { return v.entry(key.(int64)) }
	case "trail_keys":
		return func(v verdict) bool { return v.says(key.(string)) || v.entry(h.entriesOf[key.(string)]...) }
	}
	return verdict.checkpoint
}

func (tb table) update(column string, value, key any) statement {
	return statement{fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s = ?", tb.name, column, tb.columns[0]), []any{value, key}}
}

func (tb table) insert(row []any) statement {
	return statement{fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", tb.name, strings.Join(tb.columns, ", "), strings.Repeat(", ?", len(row)-1)), row}
}

func (tb table) remove(key any) statement {
	return statement{fmt.Sprintf("DELETE FROM %s WHERE %s = ?", tb.name, tb.columns[0]), []any{key}}
}

// variants are the value with one bit of each byte turned, of a number the
// neighbours and one far away, and nothing at all.
func variants(value any) (all []any) {
	flip := func(b []byte, i int) []byte {
		b = slices.Clone(b)
		b[i] ^= 1 << (i % 8)
		return b
	}
	switch v := value.(type) {
	case []byte:
		for i := range v {
			all = append(all, flip(v, i))
		}
		all = append(all, []byte{}, v[:len(v)-1])
	case string:
		for i := range v {
			all = append(all, string(flip([]byte(v), i)))
		}
		all = append(all, "", v+" ")
	case int64:
		all = append(all, v+1, v-1, v^1<<40, -v-1)
	}
	if value != nil {
		all = append(all, nil)
	} else {
		all = append(all, make([]byte, audit.PseudonymSize))
	}
	return all
}

func (h *honest) tampers(tables []table) (all []tamper) {
	for _, tb := range tables {
		taken := map[any]bool{}
		for _, row := range tb.rows {
			taken[row[0]] = true
		}
		for r, row := range tb.rows {
			key := row[0]
			named := h.owner(tb, key)
			for c, column := range tb.columns {
				for _, value := range variants(row[c]) {
					next := key
					if c == 0 {
						if next = value; taken[value] || value == nil {
							continue // the engine does not take it
						}
					}
					all = append(all, tamper{
						fmt.Sprintf("%s %v: %s from %.80q to %.80q", tb.name, key, column, row[c], value), named,
						[]statement{tb.update(column, value, key)}, []statement{tb.update(column, row[c], next)},
					})
				}
			}
			// The newest that is kept may go unnoticed: nothing is lost with it while
			// a newer one is known, as is published.
			if tb.name != "trail_checkpoints" || r < len(tb.rows)-1 {
				all = append(all, tamper{fmt.Sprintf("%s %v removed", tb.name, key), named, []statement{tb.remove(key)}, []statement{tb.insert(row)}})
			}
			for _, stray := range map[string][]any{
				"trail_leaves": {int64(-1), h.size, h.size + 5, int64(1) << 40}, "trail_payloads": {int64(-1), h.size, int64(1) << 40},
				"trail_keys": {"stray"}, "trail_checkpoints": {int64(-1), int64(1), h.size, h.size + 1, int64(1) << 40},
			}[tb.name] {
				copied := slices.Clone(row)
				copied[0] = stray
				all = append(all, tamper{
					fmt.Sprintf("%s %v also as %v", tb.name, key, stray), h.owner(tb, stray),
					[]statement{tb.insert(copied)}, []statement{tb.remove(stray)},
				})
			}
			for _, later := range tb.rows[r+1:] {
				swap := swapped(tb, key, later[0])
				all = append(all, tamper{fmt.Sprintf("%s %v and %v swapped", tb.name, key, later[0]), func(v verdict) bool {
					return named(v) || h.owner(tb, later[0])(v)
				}, swap, swap})
			}
		}
	}
	// Whole entries, with their payloads.
	for i := range h.size {
		for j := i + 1; j < h.size; j++ {
			swap := append(swapped(tables[0], i, j), swapped(tables[1], i, j)...)
			all = append(all, tamper{fmt.Sprintf("entries %d and %d swapped", i, j), func(v verdict) bool { return v.entry(i, j) }, swap, swap})
		}
	}
	// The tail, with the checkpoints that tell of it.
	for n := range h.size {
		var undo []statement
		for i, tb := range tables {
			for _, row := range tb.rows {
				switch first, ok := row[0].(int64); {
				case i < 2 && first >= n, ok && tb.name == "trail_checkpoints" && first > n:
					undo = append(undo, tb.insert(row))
				}
			}
		}
		all = append(all, tamper{fmt.Sprintf("cut short to %d", n), func(v verdict) bool {
			return slices.ContainsFunc(v.Problems, func(p audit.Problem) bool {
				return p.First == n && p.Last == h.size-1 && strings.Contains(p.What, "missing")
			})
		}, []statement{
			{"DELETE FROM trail_payloads WHERE idx >= ?", []any{n}}, {"DELETE FROM trail_leaves WHERE idx >= ?", []any{n}},
			{"DELETE FROM trail_checkpoints WHERE size > ?", []any{n}},
		}, undo})
	}
	return all
}

// swapped exchanges the keys of two rows.
func swapped(tb table, a, b any) []statement {
	var between any = int64(1) << 41
	if _, ok := a.(string); ok {
		between = "between"
	}
	key := tb.columns[0]
	return []statement{tb.update(key, between, a), tb.update(key, a, b), tb.update(key, b, between)}
}

// Whatever is changed in the trail's tables, by someone who takes their guards
// off, is found, and what is found names it.
func TestTampering(t *testing.T) {
	h := newHonest(t)
	db, outside := h.unguarded(t)
	ctx := t.Context()
	var tables []table
	for _, name := range trailTables {
		tables = append(tables, must[table](t)(readTable(ctx, outside, name)))
	}
	run := func(statements []statement) error {
		if _, err := outside.ExecContext(ctx, "BEGIN"); err != nil {
			return err
		}
		for _, s := range statements {
			if _, err := outside.ExecContext(ctx, s.query, s.args...); err != nil {
				_, _ = outside.ExecContext(ctx, "ROLLBACK")
				return fmt.Errorf("%s %v: %w", s.query, s.args, err)
			}
		}
		_, err := outside.ExecContext(ctx, "COMMIT")
		return err
	}
	all := h.tampers(tables)
	onlyUnknown := 0
	for i, tamper := range all {
		if i%thin > 0 {
			continue
		}
		if err := run(tamper.do); err != nil {
			t.Fatalf("%s: %v", tamper.what, err)
		}
		switch v := h.verify(ctx, db); {
		case v.nothing():
			t.Errorf("not found: %s", tamper.what)
		case len(v.Problems)+len(v.Findings) == 0:
			onlyUnknown++
		case !tamper.named(v):
			t.Errorf("not named: %s: %+v", tamper.what, v)
		}
		if err := run(tamper.undo); err != nil {
			t.Fatalf("%s: undo: %v", tamper.what, err)
		}
	}
	for i, name := range trailTables {
		equal(t, must[table](t)(readTable(ctx, outside, name)).rows, tables[i].rows)
	}
	if v := h.verify(ctx, db); !v.nothing() {
		t.Fatalf("after all was undone: %+v", v)
	}
	t.Logf("%d changes; %d of them make the key of a checkpoint an unknown one", len(all), onlyUnknown)
}

// An old copy of the file in place of it, as it is or with other acts since.
func TestOldCopy(t *testing.T) {
	h := newHonest(t)
	ctx := t.Context()
	db := openAt(t, write(t, h.old), h.now.Now)
	size := must[int64](t)(db.TrailSize(ctx))
	equal(t, size, h.keptSizes[1])
	trailtest.Check(t, db) // by itself it is whole
	want := fmt.Sprintf("missing: a checkpoint of %d entries was published", h.size)
	for size < h.size {
		equal(t, h.verify(ctx, db), verdict{Problems: []audit.Problem{{First: size, Last: h.size - 1, What: want}}})
		size = must[int64](t)(db.Record(ctx, audit.Entry{Kind: audit.SignInRefused}))
	}
	want = fmt.Sprintf("the checkpoint of %d entries says that they were others", h.size)
	for range 3 {
		equal(t, h.verify(ctx, db), verdict{Problems: []audit.Problem{{First: h.keptSizes[1], Last: h.size - 1, What: want}}})
		must[int64](t)(db.Record(ctx, audit.Entry{Kind: audit.SignInRefused}))
		keep(t, db)
		trailtest.Check(t, db)
	}
}

// Guards that are taken off the tables are missed, and others are noticed.
func TestSchemaIsChecked(t *testing.T) {
	h := newHonest(t)
	names := func(kind string) []string {
		t.Helper()
		tb := must[*sql.Rows](t)(openAt(t, write(t, h.file), h.now.Now).reads.Query("SELECT name FROM sqlite_schema WHERE type = ? AND tbl_name GLOB 'trail_*' AND sql IS NOT NULL", kind))
		defer tb.Close()
		var all []string
		for tb.Next() {
			var name string
			if err := tb.Scan(&name); err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
		return all
	}
	const ignore = " BEGIN SELECT RAISE(IGNORE); END"
	changes := map[string]string{
		"CREATE TRIGGER trail_helper AFTER INSERT ON trail_leaves BEGIN DELETE FROM sessions; END": "trigger trail_helper",
		"CREATE INDEX at ON trail_leaves (at)":                                                     "index at",
		// The engine does not mind the case of names.
		"CREATE TRIGGER q BEFORE INSERT ON TRAIL_LEAVES WHEN NEW.kind = 'session.signed_in'" + ignore:                                   "trigger q",
		"CREATE TRIGGER q BEFORE INSERT ON Trail_Payloads WHEN instr(NEW.payload, 'session')" + ignore:                                  "trigger q",
		"CREATE TRIGGER q BEFORE DELETE ON sessions" + ignore:                                                                           "trigger q",
		"CREATE TRIGGER q AFTER INSERT ON users BEGIN UPDATE users SET groups = '[\"owner\"]'; END":                                     "trigger q",
		"CREATE TRIGGER q AFTER INSERT ON challenges BEGIN DELETE FROM challenges; END":                                                 "trigger q",
		"CREATE TABLE trail_more (x INTEGER) STRICT":                                                                                    "table trail_more",
		"CREATE VIEW everyone AS SELECT * FROM users":                                                                                   "view everyone",
		"DROP TRIGGER trail_leaves_insert; CREATE TRIGGER trail_leaves_insert BEFORE INSERT ON trail_leaves WHEN 0 BEGIN SELECT 1; END": "trigger trail_leaves_insert",
		"CREATE TRIGGER b AFTER INSERT ON users BEGIN SELECT 1; END; CREATE TRIGGER a AFTER INSERT ON users BEGIN SELECT 1; END":        "trigger a, trigger b",
		// A name that the engine keeps for itself, which can be had all the same.
		"CREATE TRIGGER q BEFORE INSERT ON trail_leaves" + ignore + "; PRAGMA writable_schema = ON; " +
			"UPDATE sqlite_schema SET name = 'sqlite_q', sql = replace(sql, 'TRIGGER q', 'TRIGGER sqlite_q') WHERE name = 'q'": "trigger sqlite_q",
	}
	guards := 0
	for _, kind := range []string{"trigger", "index"} {
		for _, name := range names(kind) {
			changes["DROP "+kind+" "+name] = kind + " " + name
			guards++
		}
	}
	equal(t, guards, 12+2)
	for change, named := range changes {
		url := write(t, h.file)
		db := openAt(t, url, h.now.Now)
		equal(t, len(must[[]string](t)(db.CheckFile(t.Context()))), 0)
		if _, err := other(t, url).Exec(change); err != nil {
			t.Fatal(err)
		}
		findings := must[[]string](t)(db.CheckFile(t.Context()))
		equal(t, findings, []string{"the schema was changed: these are not as this version makes them: " + named})
	}
}

// What the engine keeps for itself, as for its planner, is no change.
func TestStatisticsAreNoChange(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	db := openAt(t, url, c.Now)
	register(t, db, c, "1")
	if _, err := other(t, url).Exec("ANALYZE"); err != nil {
		t.Fatal(err)
	}
	equal(t, db.count(t, "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'sqlite_stat?'") > 0, true)
	trailtest.Check(t, db)
}

// An account without entries and key was not made by Bio.
func TestKeylessAccount(t *testing.T) {
	url := fileURL(t)
	db := openAt(t, url, newClock().Now)
	if _, err := other(t, url).Exec("INSERT INTO users (id, handle, name, groups, created_at) VALUES ('stray', x'01', 'stray', '[]', 0)"); err != nil {
		t.Fatal(err)
	}
	equal(t, must[[]string](t)(db.CheckFile(t.Context())), []string{"an account has no key: stray"})
}

// A bit that turned in a page of the trail's tables or indexes is found, or it
// carried nothing: all that is read is as it was.
func TestDamagedFile(t *testing.T) {
	h := newHonest(t)
	url := write(t, h.file)
	db := openAt(t, url, h.now.Now)
	ctx := t.Context()
	var pages []int
	if err := db.rows(ctx, "SELECT pageno FROM dbstat WHERE name GLOB 'trail_*' OR name GLOB 'sqlite_autoindex_trail_*'", nil, func(scan func(...any) error) error {
		var n int
		err := scan(&n)
		pages = append(pages, n)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	content := func(db *DB) ([]table, error) {
		var all []table
		for _, name := range trailTables {
			tb, err := readTable(ctx, db.reads, name)
			if err != nil {
				return nil, err
			}
			all = append(all, tb)
		}
		return all, nil
	}
	want := must[[]table](t)(content(db))
	pageSize := db.count(t, "PRAGMA page_size")
	random := rand.New(rand.NewPCG(1, 2))
	outcomes := map[string]int{}
	for range 2500 / thin {
		page := pages[random.IntN(len(pages))]
		at := (page-1)*pageSize + random.IntN(pageSize)
		if h.file[at] == 0 && random.IntN(20) > 0 { // most of it is free space
			continue
		}
		bit := byte(1) << random.IntN(8)
		damaged := bytes.Clone(h.file)
		damaged[at] ^= bit
		path := filepath.Join(t.TempDir(), "bio.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(ctx, "file:"+path, h.now.Now)
		if err != nil {
			outcomes["not opened"]++
			continue
		}
		if h.verify(ctx, db).nothing() {
			got, err := content(db)
			if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(table{})) {
				t.Errorf("page %d, byte %d, bit %#x: not found: %v", page, at%pageSize, bit, err)
			}
			outcomes["nothing"]++
		} else {
			outcomes["found"]++
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if outcomes["found"] == 0 || outcomes["nothing"] == 0 && thin == 1 {
		t.Errorf("this does not look at the file: %v", outcomes)
	}
}
