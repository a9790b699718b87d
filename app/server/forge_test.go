package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
	"bio/app/store"
)

// forge changes the database as someone does who can write to it: takes the guards
// off the trail, changes it, makes its tree anew, and puts the guards back.
func (s *site) forge(statements ...string) {
	s.t.Helper()
	ctx := context.Background()
	conn := must(s.raw.Conn(ctx))
	defer conn.Close()
	guards := map[string]string{}
	rows := must(conn.QueryContext(ctx, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			s.t.Fatal(err)
		}
		guards[name] = text
	}
	if err := rows.Close(); err != nil || len(guards) == 0 {
		s.t.Fatal(len(guards), err)
	}
	run := func(query string, args ...any) {
		s.t.Helper()
		if _, err := conn.ExecContext(ctx, query, args...); err != nil {
			s.t.Fatalf("%s: %v", query, err)
		}
	}
	for name := range guards {
		run("DROP TRIGGER " + name)
	}
	for _, statement := range statements {
		run(statement)
	}
	_, leaves := s.tree()
	var tree memory
	for i, leaf := range leaves {
		completed := must(tlog.StoredHashesForRecordHash(int64(i), leaf, tree))
		tree = append(tree, completed...)
		var kept []byte
		for _, h := range completed {
			kept = append(kept, h[:]...)
		}
		run("UPDATE trail_leaves SET hashes = ? WHERE idx = ?", kept, i)
	}
	for _, text := range guards {
		run(text)
	}
}

// copied is a copy of the database as it is, and restore puts its trail back.
func (s *site) copied() (path string) {
	s.t.Helper()
	path = filepath.Join(s.t.TempDir(), "honest.db")
	if _, err := s.raw.Exec("VACUUM INTO ?", path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *site) restore(path string) {
	s.t.Helper()
	statements := []string{"ATTACH '" + path + "' AS old"}
	for _, table := range []string{"trail_payloads (idx, salt, payload)", "trail_leaves", "trail_checkpoints"} {
		name, columns, _ := strings.Cut(table, " ")
		columns = strings.Trim(columns, "()")
		if columns == "" {
			columns = "*"
		}
		statements = append(statements, "DELETE FROM "+name, "INSERT INTO "+table+" SELECT "+columns+" FROM old."+name)
	}
	s.forge(append(statements, "DETACH old")...)
}

// begins is the error of another start on the same data; nil when it was ready.
func (s *site) begins() error {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	return server.Run(ctx, server.Options{
		Settings: settings(s.t.(*testing.T), "BIO_URL="+local, "BIO_LISTEN=127.0.0.1:0", "BIO_DATA="+filepath.Dir(s.path), "BIO_SECRET="+hex.EncodeToString(secret)),
		Log:      quiet, Version: "test",
	}, stopper(stop))
}

// A log that did not grow from what was published is not signed, whatever was done
// to it, until what was is put back. Nor do commands add to it.
func TestForgedWhileServing(t *testing.T) {
	const (
		rewritten = "UPDATE trail_leaves SET at = at - 1 WHERE idx = 3"
		cutLeaves = "DELETE FROM trail_leaves WHERE idx >= 7"
		cutRest   = "DELETE FROM trail_payloads WHERE idx >= 7"
		kept      = "DELETE FROM trail_checkpoints"
	)
	for name, tt := range map[string]struct {
		statements []string
		size       int64 // to which it grows then
		fileIsGone bool
	}{
		"history, then an act":                    {[]string{rewritten}, 11, false},
		"history":                                 {[]string{rewritten}, 10, false},
		"history, of the newest entry":            {[]string{"UPDATE trail_leaves SET at = at + 1 WHERE idx = 9"}, 10, false},
		"history, the file gone":                  {[]string{rewritten}, 11, true},
		"history, the file and what is kept gone": {[]string{rewritten, kept}, 10, true},
		"the tail cut":                            {[]string{cutLeaves, cutRest, kept}, 7, false},
		"the tail cut and regrown":                {[]string{cutLeaves, cutRest, kept}, 12, false},
		"the tail cut and regrown as far":         {[]string{cutLeaves, cutRest, kept}, 10, false},
		"the tail cut and regrown, the file gone": {[]string{cutLeaves, cutRest, kept}, 12, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := s.browser()
			_, made := b.register()
			if err := server.CloseRuns(t.Context(), s.Server); err != nil {
				t.Fatal(err)
			}
			server.Settle(t.Context(), s.Server, false) // with all that its run leaves
			s.grow(10)
			server.Settle(t.Context(), s.Server, false)
			published, c := b.checkpoint()
			if c.Size != 10 {
				t.Fatalf("%+v", c)
			}
			honest := s.copied()

			s.clock.Advance(time.Hour) // what grows is other than what was
			s.forge(tt.statements...)
			s.grow(tt.size)
			if tt.fileIsGone {
				if err := os.Remove(s.published()); err != nil {
					t.Fatal(err)
				}
			}
			for _, target := range []string{"/audit/checkpoint", "/audit/key", "/audit/tile/0/000.p/1", "/audit/proof?index=0&size=1"} {
				p := b.get(target)
				checkProblem(t, p, http.StatusInternalServerError)
				if !strings.Contains(p.body, "does not fit what was published") || p.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %q, %s", target, p.header.Get("Cache-Control"), p.body)
				}
			}
			server.Settle(t.Context(), s.Server, false)
			if !strings.Contains(s.log.String(), `"msg":"no checkpoint was published","error":"the trail `) {
				t.Errorf("the log says nothing: %s", s.log)
			}
			if tt.fileIsGone {
				if _, err := os.Stat(s.published()); err == nil {
					t.Error("a checkpoint was written")
				}
				if err := os.WriteFile(s.published(), []byte(published), 0o600); err != nil { // for the next start
					t.Fatal(err)
				}
			}
			if text := must(os.ReadFile(s.published())); string(text) != published {
				t.Errorf("the file has %q, not %q", text, published)
			}

			before := s.rows()
			if err := s.begins(); !errors.Is(err, server.ErrTrail) {
				t.Errorf("the next start: %v", err)
			}
			if _, err := server.Invite(t.Context(), s.settings, nil, 0); !errors.Is(err, server.ErrTrail) {
				t.Errorf("invite: %v", err)
			}
			if _, _, err := server.EraseUser(t.Context(), s.settings, store.Erasure{Name: made.account}); !errors.Is(err, server.ErrTrail) {
				t.Errorf("erase: %v", err)
			}
			if diff := cmp.Diff(before, s.rows()); diff != "" {
				t.Errorf("the refused changed the database (-before +after):\n%s", diff)
			}

			s.restore(honest)
			s.grow(11)
			if _, c := b.checkpoint(); c.Size != 11 || c.Root != s.root(11) {
				t.Errorf("what was, and one more: %+v", c)
			}
		})
	}
}

// What a command published counts too, before the server has seen it.
func TestForgedBesideCommand(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	s.grow(10)
	b.checkpoint()
	s.grow(13)
	published, _ := environment{like: s}.site(t).browser().checkpoint()
	honest := s.copied()
	s.forge("DELETE FROM trail_leaves WHERE idx >= 12", "DELETE FROM trail_payloads WHERE idx >= 12")
	checkProblem(t, b.get("/audit/checkpoint"), http.StatusInternalServerError)
	if text := must(os.ReadFile(s.published())); string(text) != published {
		t.Errorf("the file has %q, not %q", text, published)
	}
	s.restore(honest)
	if signed, _ := b.checkpoint(); signed != published {
		t.Errorf("%q, not %q", signed, published)
	}
}

// What signs nothing needs no secret, which may be kept where the command is not.
func TestInviteWithoutSecret(t *testing.T) {
	h := newHouse(t)
	h.start().end()
	secret := h.read("secret")
	h.remove("secret")
	h.act()
	h.write("secret", secret)
	h.start().end()
	h.checkWhole()
}

// A break that was recorded beside the server, on a log as large as that which it
// published last, turns it to the new log.
func TestReopenedWhileServing(t *testing.T) {
	s := newSite(t)
	s.grow(10)
	s.browser().checkpoint()
	s.clock.Advance(time.Hour)
	s.forge("DELETE FROM trail_leaves WHERE idx >= 9", "DELETE FROM trail_payloads WHERE idx >= 9")
	note, err := server.ReopenTrail(t.Context(), s.settings)
	if err != nil {
		t.Fatal(err)
	}
	signed, c := s.browser().checkpoint()
	if signed != string(note) || c.Size != 10 || c.Origin != "localhost:8080/audit/2" {
		t.Errorf("%+v", c)
	}
}

// A start says when nobody who is known signed the checkpoint that it compares with.
func TestCheckpointOfNobody(t *testing.T) {
	one, two := "BIO_SECRET="+strings.Repeat("a1", 32), "BIO_SECRET="+strings.Repeat("b2", 32)
	const warns = "signed with a key that is not known here"
	for name, tt := range map[string]struct {
		change  func(h *house)
		environ []string
		warns   bool
	}{
		"as it was":              {func(*house) {}, []string{one}, false},
		"another secret":         {func(*house) {}, []string{two}, true},
		"with the previous":      {func(*house) {}, []string{two, strings.Replace(one, "BIO_SECRET", "BIO_SECRET_PREVIOUS", 1)}, false},
		"another address":        {func(*house) {}, []string{one, "BIO_URL=http://localhost:9090"}, true},
		"a signature of nothing": {func(h *house) { h.resign(bytes.Repeat([]byte{0x5a}, 68)) }, []string{one}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.start(one).end()
			tt.change(h)
			s := h.start(tt.environ...)
			if log := s.log.String(); strings.Contains(log, warns) != tt.warns || strings.Contains(log, `"WARN"`) != tt.warns {
				t.Errorf("warns %t: %s", tt.warns, log)
			}
			s.end()
			h.checkWhole(tt.environ...)
		})
	}

	// A signature that is said to be of the known key, and is not, is damage; what
	// the server refuses, a command does not add to.
	h := newHouse(t, one)
	h.start().end()
	signature := must(note.Open(h.read("checkpoint"), must(audit.Verifiers(must(server.TrailKey(t.Context(), h.settings())))))).Sigs[0]
	raw := append([]byte{byte(signature.Hash >> 24), byte(signature.Hash >> 16), byte(signature.Hash >> 8), byte(signature.Hash)}, make([]byte, 64)...)
	h.resign(raw)
	if err := h.refuse(); !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "Restore it from your backup, or remove it") {
		t.Errorf("%v", err)
	}
	if _, err := server.Invite(t.Context(), h.settings(), nil, 0); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("invite: %v", err)
	}
}

// resign puts another signature, of 4 and 64 bytes, under the checkpoint in the file.
func (h *house) resign(signature []byte) {
	h.t.Helper()
	text, line, _ := bytes.Cut(h.read("checkpoint"), []byte("\n\n"))
	name := strings.Fields(string(line))[1]
	h.write("checkpoint", []byte(string(text)+"\n\n— "+name+" "+base64.StdEncoding.EncodeToString(signature)+"\n"))
}

// The addresses of a log have its number after a break, and what they answer is for
// ever. Those without a number are of the log that is.
func TestAddressesAfterABreak(t *testing.T) {
	const forever, noStore = "public, max-age=31536000, immutable", "no-store"
	s := newSite(t, "BIO_URL="+public)
	b := s.browser()
	s.grow(4)
	whats := []string{"checkpoint", "key", "tile/0/000.p/2", "proof?index=1&size=2", "proof?from=1&size=2", "proof?index=1"}
	check := func(prefix, what string, status int, cache string) {
		t.Helper()
		p := b.get(prefix + what)
		if got := p.header.Values("Cache-Control"); p.status != status || len(got) != 1 || got[0] != cache {
			t.Errorf("%s%s: %d, Cache-Control %q, want %d, %q", prefix, what, p.status, got, status, cache)
		}
		if status == http.StatusNotFound {
			checkProblem(t, p, status)
		}
	}
	cache := func(what string) string {
		if strings.Contains(what, "tile") || strings.Contains(what, "size=") {
			return forever
		}
		return noStore
	}
	bodies := map[string]string{}
	for _, what := range whats {
		check("/audit/", what, http.StatusOK, cache(what))
		for _, number := range []string{"0/", "1/", "2/", "-1/", "x/"} {
			check("/audit/"+number, what, http.StatusNotFound, noStore)
		}
		bodies[what] = b.get("/audit/" + what).body
	}
	for number := 2; number <= 3; number++ {
		if _, err := s.db.Record(t.Context(), audit.Entry{Kind: audit.TrailReopened, Reason: "command line"}); err != nil {
			t.Fatal(err)
		}
		if p := b.get("/audit/checkpoint"); p.status != http.StatusInternalServerError {
			t.Errorf("a break under a running server: %d", p.status) // only what a start refuses is reopened
		}
		s = environment{like: s, settings: []string{"BIO_URL=" + public}}.site(t) // started again
		b = s.browser()
		own := "/audit/" + string(rune('0'+number)) + "/"
		for _, what := range whats {
			check("/audit/", what, http.StatusOK, noStore)
			check(own, what, http.StatusOK, cache(what))
			if numbered, plain := b.get(own+what).body, b.get("/audit/"+what).body; numbered != plain {
				t.Errorf("%s: %q, without the number %q", own+what, numbered, plain)
			}
			for _, other := range []string{"1/", "0" + own[7:], "+" + own[7:], "4/", "99999999999999999999/"} {
				check("/audit/"+other, what, http.StatusNotFound, noStore)
			}
			if number == 3 {
				check("/audit/2/", what, http.StatusNotFound, noStore)
			}
		}
		// The checkpoint is at its origin (C2SP tlog-tiles).
		_, c := b.checkpoint()
		if p := b.get(strings.TrimPrefix(c.Origin, s.url.Host) + "/checkpoint"); p.status != http.StatusOK || !strings.HasPrefix(p.body, c.Origin+"\n") {
			t.Errorf("%s: %d %q", c.Origin, p.status, p.body)
		}
		for what, was := range bodies { // what was left is what it was
			if strings.Contains(what, "size=") || strings.Contains(what, "tile") {
				if now := b.get(own + what).body; now != was {
					t.Errorf("%s: %q, before the break %q", what, now, was)
				}
			}
		}
	}
}

// FuzzAuditAddress: whatever an address below /audit asks for, the answer is one, or
// a refusal that nobody keeps.
func FuzzAuditAddress(f *testing.F) {
	first, reopened := newSite(f), newSite(f)
	for _, s := range []*site{first, reopened} {
		s.grow(300)
	}
	if _, err := reopened.db.Record(f.Context(), audit.Entry{Kind: audit.TrailReopened}); err != nil {
		f.Fatal(err)
	}
	for _, target := range []string{
		"/checkpoint", "/key", "/tile/0/000", "/tile/0/001.p/44", "/tile/1/000.p/1", "/tile/7/000.p/1", "/tile/8/000", "/proof?index=7&size=9", "/proof?from=1", "/proof?size=0&from=0",
		"/2/checkpoint", "/2/key", "/2/tile/0/000", "/2/proof?index=300", "/02/key", "/%32/tile/0/000", "/2//key", "//2/key", "/2/tile/", "/2/tile/0/x000/../000", "/tile/%2e%2e/key",
		"", "/", "/2", "/2/", "/proof/key", "/key/", "/proof?index=%zz", "/proof?index=1;size=2", "/tile/0/000?%", "/proof?index=0&size=9223372036854775807", "/tile/0/x999/x999/x999/x999/x999/999",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		address, err := url.ParseRequestURI("/audit" + target)
		if err != nil || !strings.HasPrefix(address.Path, "/audit") {
			return // net/http refuses it by itself
		}
		for _, s := range []*site{first, reopened} {
			b := s.browser()
			b.t = t
			r := b.request(http.MethodGet, "/", nil)
			copied := *address
			r.URL = &copied
			p := b.send(r)
			cache := p.header.Get("Cache-Control")
			switch {
			case p.status >= 500, p.status == http.StatusOK && cache == "", p.status != http.StatusOK && cache != "no-store":
				t.Errorf("%q: %d, Cache-Control %q", target, p.status, cache)
			}
		}
	})
}

// What someone did who can write to the database, and hopes that an erasure or
// nothing explains.
func TestVerifyTrailFinds(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	b.signInAnew(d)
	b.checkpoint()
	user := s.trail()[0].Actor
	honest := s.copied()
	drop := func(statement string) func() {
		return func() {
			if _, err := s.raw.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	var guard string
	if err := s.raw.QueryRow("SELECT sql FROM sqlite_schema WHERE name = 'trail_payloads_delete'").Scan(&guard); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		do, undo func()
		want     []string
	}{
		"nothing": {func() {}, func() {}, nil},
		// The pseudonym is right: its key is in the database.
		"a forged erasure": {func() {
			if _, err := s.db.Record(t.Context(), audit.Entry{Kind: audit.Erased, Subject: user, Reason: "command line"}); err != nil {
				t.Fatal(err)
			}
			s.forge("DELETE FROM trail_payloads WHERE idx = 1")
		}, func() { s.restore(honest) }, []string{"it says that an account was erased, which is here: " + user}},
		"a payload gone": {func() { s.forge("DELETE FROM trail_payloads WHERE idx = 1") }, func() { s.restore(honest) },
			[]string{"entry 1: its payload is missing, and no entry says that its account was erased"}},
		"a guard gone": {drop("DROP TRIGGER trail_payloads_delete"), drop(guard), []string{"the schema was changed", "trigger trail_payloads_delete"}},
		"a guard of one's own": {drop("CREATE TRIGGER q BEFORE INSERT ON TRAIL_LEAVES WHEN NEW.kind='session.signed_in' BEGIN SELECT RAISE(IGNORE); END"),
			drop("DROP TRIGGER q"), []string{"the schema was changed", "trigger q"}},
		"a row of nobody": {func() { s.forge("INSERT INTO trail_keys VALUES ('nobody', zeroblob(32))") },
			func() { s.forge("DELETE FROM trail_keys WHERE user_id = 'nobody'") }, []string{"a key is left of an account that is gone: nobody"}},
	} {
		tt.do()
		report := must(server.VerifyTrail(t.Context(), s.settings, nil, nil, quietly))
		tt.undo()
		var all []string
		for _, p := range report.Problems {
			all = append(all, p.Error())
		}
		if (len(all) == 1) != (tt.want != nil) {
			t.Errorf("%s: %q", name, all)
		}
		for _, want := range tt.want {
			if !strings.Contains(strings.Join(all, "\n"), want) {
				t.Errorf("%s: %q does not say %q", name, all, want)
			}
		}
	}
}

// Checkpoints that were kept elsewhere are compared with the log, whatever became of
// those that the house has.
func TestVerifyTrailElsewhere(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	s.grow(5)
	old, _ := b.checkpoint()
	s.grow(9)
	newest, _ := b.checkpoint()
	fork := newSite(t)
	fork.clock.Advance(time.Second)
	fork.grow(7)
	forked, _ := fork.browser().checkpoint()
	fork.grow(12)
	ahead, _ := fork.browser().checkpoint()
	for name, tt := range map[string]struct {
		elsewhere []string
		want      map[string]bool
	}{
		"none":            {nil, nil},
		"a good old one":  {[]string{old}, nil},
		"good ones":       {[]string{newest, old}, nil},
		"one of a fork":   {[]string{old, forked}, map[string]bool{"entries 5 to 6: the checkpoint of 7 entries says that they were others": true}},
		"of more entries": {[]string{ahead}, map[string]bool{"entries 9 to 11: missing: a checkpoint of 12 entries was published": true}},
		"both": {[]string{forked, ahead}, map[string]bool{
			"entries 0 to 6: the checkpoint of 7 entries says that they were others": true, "entries 9 to 11: missing: a checkpoint of 12 entries was published": true}},
	} {
		var notes [][]byte
		for _, text := range tt.elsewhere {
			notes = append(notes, []byte(text))
		}
		report := must(server.VerifyTrail(t.Context(), s.settings, nil, notes, quietly))
		var got []string
		for _, p := range report.Problems {
			got = append(got, p.Error())
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(tt.want)), slices.Sorted(slices.Values(got))); diff != "" || report.Checkpoints != 1+len(notes) || report.Unknown > 0 {
			t.Errorf("%s: %+v (-want +got):\n%s", name, report, diff)
		}
	}
}

// The only owner is not erased by accident.
func TestEraseLastOwner(t *testing.T) {
	s := newSite(t, "BIO_REGISTRATION=invite")
	erase := func(name string, last bool) error {
		_, clean, err := server.EraseUser(t.Context(), s.settings, store.Erasure{Name: name, LastOwner: last})
		if err == nil && !clean {
			t.Errorf("%s: a reader holds traces", name)
		}
		return err
	}
	join := func(groups ...string) string {
		b := s.browser()
		p := b.registerWith(s.device(), "/?invite="+s.invite(time.Time{}, groups...))
		if p.account == "" {
			t.Fatalf("%d %s", p.status, p.notice)
		}
		return p.account
	}
	first, member := join(account.Owner), join("ops")
	for _, name := range []string{first, strings.ToUpper(first)} {
		before := s.rows()
		if err := erase(name, false); err == nil || !strings.Contains(err.Error(), "is the only owner") {
			t.Errorf("the only owner: %v", err)
		}
		if diff := cmp.Diff(before, s.rows()); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}
	second := join("ops", account.Owner)
	for _, step := range []struct {
		name string
		last bool
	}{{member, false}, {first, false}, {second, true}} {
		if err := erase(step.name, step.last); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}
