package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
	"bio/app/audit/audittest"
	"bio/app/server"
	"bio/app/store"
)

// published is where a site keeps its newest checkpoint.
func (s *site) published() string { return filepath.Join(filepath.Dir(s.path), "checkpoint") }

// checkpoint asks for the checkpoint and opens it with the key that the site gives.
func (b *browser) checkpoint() (signed string, c audit.Checkpoint) {
	b.t.Helper()
	p, key := b.get("/audit/checkpoint"), b.get("/audit/key")
	if p.status != http.StatusOK || key.status != http.StatusOK {
		b.t.Fatalf("checkpoint %d, key %d", p.status, key.status)
	}
	c, err := audit.OpenCheckpoint([]byte(p.body), must(audit.Verifiers(strings.TrimSuffix(key.body, "\n"))))
	if err != nil {
		b.t.Fatalf("%v: %q", err, p.body)
	}
	return p.body, c
}

// grow lets the log grow to size by refusals of nobody.
func (s *site) grow(size int64) {
	s.t.Helper()
	for {
		has, err := s.db.TrailSize(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		if has >= size {
			return
		}
		entries := make([]audit.Entry, min(size-has, 5000))
		for i := range entries {
			entries[i] = audit.Entry{Kind: audit.SignInRefused, Reason: "expired", Client: audit.Client{Network: "203.0.113.0/24"}}
		}
		if _, err := s.db.Record(context.Background(), entries...); err != nil {
			s.t.Fatal(err)
		}
	}
}

// memory is a tree made of leaf hashes alone.
type memory []tlog.Hash

func (m memory) ReadHashes(stored []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(stored))
	for i, n := range stored {
		if n >= int64(len(m)) {
			return nil, fmt.Errorf("no hash %d", n)
		}
		hashes[i] = m[n]
	}
	return hashes, nil
}

// tree is the log's, made anew of its leaves.
func (s *site) tree() (m memory, leaves []tlog.Hash) {
	s.t.Helper()
	for {
		page, err := s.db.Entries(context.Background(), int64(len(leaves)), 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range page {
			leaf := tlog.RecordHash(e.Leaf.Bytes())
			hashes, err := tlog.StoredHashesForRecordHash(int64(len(leaves)), leaf, m)
			if err != nil {
				s.t.Fatal(err)
			}
			m, leaves = append(m, hashes...), append(leaves, leaf)
		}
		if len(page) == 0 {
			return m, leaves
		}
	}
}

// root is the root of the first size entries, computed from the leaves.
func (s *site) root(size int64) tlog.Hash {
	s.t.Helper()
	tree, _ := s.tree()
	return must(tlog.TreeHash(size, tree))
}

func TestCheckpoint(t *testing.T) {
	for address, origin := range map[string]string{local: "localhost:8080/audit", public: "bio.example.com/audit"} {
		s := newSite(t, "BIO_URL="+address)
		b := s.browser()
		empty, c := b.checkpoint()
		if c.Size != 0 || c.Origin != origin {
			t.Errorf("of an empty log: %+v", c)
		}
		if kept := must(os.ReadFile(s.published())); string(kept) != empty {
			t.Errorf("the file has %q, not %q", kept, empty)
		}
		d, _ := b.register()
		size := int64(0)
		for _, act := range []func(){func() {}, func() { b.signInAnew(d) }, func() { b.post("/sign-out", nil) }} {
			act()
			signed, c := b.checkpoint()
			if c.Size <= size {
				t.Errorf("after an act of %d entries, then of %d", size, c.Size)
			}
			size = c.Size
			if root := s.root(size); c.Root != root || c.Origin != origin {
				t.Errorf("%+v, want the root %v", c, root)
			}
			for range 3 { // nothing happened
				if again, _ := b.checkpoint(); again != signed {
					t.Errorf("then %q, now %q", signed, again)
				}
			}
			if kept := must(os.ReadFile(s.published())); string(kept) != signed {
				t.Errorf("the file has %q, not %q", kept, signed)
			}
			if left := must(filepath.Glob(filepath.Join(filepath.Dir(s.path), ".*"))); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		}
		p := b.get("/audit/checkpoint")
		if got := p.header.Get("Content-Type"); got != "text/plain; charset=UTF-8" || p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q, %q", got, p.header.Get("Cache-Control"))
		}
		key := strings.TrimSuffix(b.get("/audit/key").body, "\n")
		if v, err := note.NewVerifier(key); err != nil || v.Name() != origin {
			t.Errorf("key %q: %v", key, err)
		}
		if fromCommand, err := server.TrailKey(t.Context(), s.settings); err != nil || fromCommand != key {
			t.Errorf("the command says %q, %v, the site %q", fromCommand, err, key)
		}
	}
}

// What could not be written down first is not served. What is below a checkpoint
// that was published is.
func TestCheckpointIsWrittenFirst(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	s.grow(1)
	below := map[string]string{}
	for _, before := range []bool{false, true} { // one was published
		if before {
			for _, target := range []string{"/audit/key", "/audit/tile/0/000.p/1", "/audit/proof?index=0&size=1", "/audit/proof?from=1&size=1", "/audit/proof?index=0"} {
				below[target] = b.get(target).body
			}
			if err := os.Remove(s.published()); err != nil {
				t.Fatal(err)
			}
			s.grow(2)
		}
		if err := os.Mkdir(s.published(), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/audit/checkpoint", "/audit/key", "/audit/tile/0/000.p/1", "/audit/proof?index=0&size=1", "/audit/proof?from=1&size=1", "/audit/proof?index=0"} {
			p := b.get(target)
			if want, known := below[target]; known {
				if p.status != http.StatusOK || p.body != want {
					t.Errorf("%s: %d %q, want %q", target, p.status, p.body, want)
				}
				continue
			}
			checkProblem(t, p, http.StatusServiceUnavailable)
		}
		if before {
			for _, target := range []string{"/audit/tile/0/000.p/2", "/audit/proof?index=1", "/audit/proof?index=0&size=2"} {
				checkProblem(t, b.get(target), http.StatusNotFound) // not published yet
			}
		}
		if err := os.Remove(s.published()); err != nil {
			t.Fatal(err)
		}
	}
	if _, c := b.checkpoint(); c.Size != 2 {
		t.Errorf("then of %d entries", c.Size)
	}
}

// A checkpoint a minute stays in the database, that at the end of a burst too, and
// one a day is logged, whether anything happened or not.
func TestCheckpointsKept(t *testing.T) {
	s := newSite(t)
	kept := func() int { return len(must(s.db.Checkpoints(t.Context()))) }
	printed := func() int { return strings.Count(s.log.String(), `"msg":"checkpoint"`) }
	for i, step := range []struct {
		after         time.Duration
		acts          int64
		kept, printed int
	}{
		{0, 1, 1, 1}, {59 * time.Second, 1, 1, 1}, {time.Second, 1, 2, 1}, {30 * time.Second, 1, 2, 1}, {time.Hour, 1, 3, 1},
		{23 * time.Hour, 1, 4, 2}, {-48 * time.Hour, 1, 5, 3}, {time.Second, 1, 5, 3},
		{58 * time.Second, 0, 5, 3}, {time.Second, 0, 6, 3}, {time.Hour, 0, 6, 3}, // the burst is over
		{24 * time.Hour, 0, 6, 4}, {time.Hour, 0, 6, 4}, {24 * time.Hour, 0, 6, 5}, // idle days
	} {
		s.clock.Advance(step.after)
		s.grow(int64(s.rows()["trail"]) + step.acts)
		server.Settle(t.Context(), s.Server, false)
		if kept() != step.kept || printed() != step.printed {
			t.Errorf("step %d, after %s: %d kept, %d printed, want %d and %d", i, step.after, kept(), printed(), step.kept, step.printed)
		}
	}
	newest := must(audit.Claim(must(s.db.NewestCheckpoint(t.Context()))))
	if want := int64(s.rows()["trail"]); newest.Size != want {
		t.Errorf("the newest that is kept is of %d entries, want %d", newest.Size, want)
	}
}

// A server beside which a command has published more does not take it back.
func TestCheckpointBesideCommand(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.register()
	before, _ := b.checkpoint()
	var out bytes.Buffer
	if _, err := server.ExportTrail(t.Context(), s.settings, server.Export{}, &out, quietly); err != nil {
		t.Fatal(err)
	}
	exported := must(os.ReadFile(s.published()))
	if string(exported) == before {
		t.Fatal("the export published nothing")
	}
	if now, _ := b.checkpoint(); now != string(exported) {
		t.Errorf("the site serves %q, the command published %q", now, exported)
	}
}

// Nor does it when the command was faster, and has published what the server did
// not see yet.
func TestCheckpointIsNotTakenBack(t *testing.T) {
	s := newSite(t)
	s.grow(9)
	ahead, _ := environment{like: s}.site(t).browser().checkpoint()
	note, err := server.Publish(t.Context(), s.Server, 5)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := audit.Claim(note); err != nil || c.Size != 5 || c.Root != s.root(5) {
		t.Errorf("%+v, %v", c, err)
	}
	if kept := must(os.ReadFile(s.published())); string(kept) != ahead {
		t.Errorf("the file has %q", kept)
	}
}

func quietly(_, _ int64) {}

// client reads tiles as an outsider does.
type client struct {
	b     *browser
	spoil func(tile tlog.Tile, data string) string
}

func (client) Height() int                     { return 8 }
func (client) SaveTiles([]tlog.Tile, [][]byte) {}

func (c client) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		p := c.b.get("/audit/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if p.status != http.StatusOK {
			return nil, fmt.Errorf("%s: %d", tile.Path(), p.status)
		}
		if c.spoil != nil {
			p.body = c.spoil(tile, p.body)
		}
		all = append(all, []byte(p.body))
	}
	return all, nil
}

func TestTiles(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.register()
	s.grow(700)
	memory, _ := s.tree()
	signed, c := b.checkpoint()
	for _, tile := range []tlog.Tile{
		{H: 8, L: 0, N: 0, W: 256}, {H: 8, L: 0, N: 1, W: 256}, {H: 8, L: 0, N: 2, W: 188}, {H: 8, L: 0, N: 2, W: 187}, {H: 8, L: 0, N: 0, W: 1},
		{H: 8, L: 0, N: 1, W: 255}, {H: 8, L: 1, N: 0, W: 1}, {H: 8, L: 1, N: 0, W: 2},
	} {
		p := b.get(tilePath(tile))
		want := must(tlog.ReadTileData(tile, memory))
		if p.status != http.StatusOK || p.body != string(want) || len(want) != 32*tile.W {
			t.Errorf("%s: %d, %d bytes, want %d", tilePath(tile), p.status, len(p.body), len(want))
		}
		if p.header.Get("Content-Type") != "application/octet-stream" || p.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %q, %q", tilePath(tile), p.header.Get("Content-Type"), p.header.Get("Cache-Control"))
		}
	}
	for _, tile := range []tlog.Tile{ // beyond what there is
		{H: 8, L: 0, N: 2, W: 256}, {H: 8, L: 0, N: 2, W: 189}, {H: 8, L: 0, N: 3, W: 256}, {H: 8, L: 0, N: 3, W: 1}, {H: 8, L: 1, N: 0, W: 3}, {H: 8, L: 1, N: 0, W: 256},
		{H: 8, L: 1, N: 1, W: 1}, {H: 8, L: 2, N: 0, W: 1}, {H: 8, L: 7, N: 0, W: 1}, {H: 8, L: 0, N: 1<<55 - 1, W: 256}, {H: 8, L: 0, N: 999_999_999, W: 1},
	} {
		p := b.get(tilePath(tile))
		checkProblem(t, p, http.StatusNotFound)
		if got := p.header.Get("Cache-Control"); got != "no-store" { // it may come
			t.Errorf("%s: Cache-Control %q", tilePath(tile), got)
		}
	}

	// An outsider, with nothing but the checkpoint and tiles.
	tree := tlog.Tree{N: c.Size, Hash: c.Root}
	var all []int64
	for i := range tlog.StoredHashIndex(0, c.Size) {
		all = append(all, i)
	}
	hashes, err := tlog.TileHashReader(tree, client{b: b}).ReadHashes(all)
	if err != nil {
		t.Fatalf("the tiles do not verify: %v\n%s", err, signed)
	}
	for i, h := range hashes {
		if h != memory[i] {
			t.Fatalf("stored hash %d is another", i)
		}
	}
	for _, spoilt := range []tlog.Tile{{H: 8, L: 0, N: 1, W: 256}, {H: 8, L: 0, N: 2, W: 188}, {H: 8, L: 1, N: 0, W: 2}} {
		spoil := func(tile tlog.Tile, data string) string {
			if tile == spoilt {
				return data[:40] + string(data[40]^1) + data[41:]
			}
			return data
		}
		if _, err := tlog.TileHashReader(tree, client{b, spoil}).ReadHashes(all); err == nil {
			t.Errorf("a changed %s verifies", spoilt.Path())
		}
	}
}

func tilePath(tile tlog.Tile) string {
	return "/audit/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}

func TestTilePaths(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	s.grow(300)
	for target, want := range map[string]int{
		"0/000": 200, "0/000.p/17": 200, "1/000.p/1": 200, "0/001.p/44": 200, "0/000?x=y": 200,
		"": 400, "0": 400, "0/": 400, "0/0": 400, "0/00": 400, "0/0000": 400, "00/000": 400, "+0/000": 400, "-1/000": 400, "8/000": 400, "63/000": 400, "64/000": 400,
		"99999999999999999999/000": 400, "0/000/": 400, "/0/000": 400, "0//000": 400, "0/-001": 400, "0/ 000": 400, "0/x000/000": 400, "0/x000": 400, "0/000/000": 400,
		"0/x001/x234/067x": 400, "0/000.p": 400, "0/000.p/": 400, "0/000.p/0": 400, "0/000.p/256": 400, "0/000.p/257": 400, "0/000.p/-1": 400,
		"0/000.p/017": 400, "0/000.p/1/2": 400, "0/000.p/99999999999999999999": 400, "0/000.P/1": 400, "data/000": 400, "entries/000": 400, "0/%3000": 400,
		"../checkpoint": 400, "..%2fcheckpoint": 400, "0/%2e%2e": 400, "0/000%00": 400, "0/000%0a": 400, "0/%c0%ae": 400, "0%2f000": 400, "0/000.p%2f1": 400,
		"0/" + strings.Repeat("x999/", 10) + "999": 400, "0/" + strings.Repeat("x", 4000): 400, "%zz": 400, "0/٠٠٠": 400,
		"0/x999/999": 404, "0/x999/x999/x999/999": 404, "0/002": 404, "0/001": 404, "0/001.p/45": 404, "1/000": 404,
	} {
		address, err := url.ParseRequestURI("/audit/tile/" + target)
		if err != nil {
			continue // net/http refuses it by itself
		}
		r := b.request(http.MethodGet, "/", nil)
		r.URL = address // as it came over the wire
		p := b.send(r)
		if p.status != want {
			t.Errorf("%q: %d, want %d", target, p.status, want)
		}
		if want >= 400 {
			checkProblem(t, p, want)
		}
	}
}

// proof is what /audit/proof answers.
type proof struct {
	Index    *int64
	From     *int64
	Size     int64
	LeafHash tlog.Hash `json:"leaf_hash"`
	Hashes   []tlog.Hash
}

func (b *browser) proof(query string) (p proof) {
	b.t.Helper()
	page := b.get("/audit/proof?" + query)
	d := json.NewDecoder(strings.NewReader(page.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || page.status != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "application/json") || p.Hashes == nil {
		b.t.Fatalf("%s: %d %s %v", query, page.status, page.body, err)
	}
	want := "no-store"
	if strings.Contains(query, "size=") {
		want = "public, max-age=31536000, immutable"
	}
	if got := page.header.Get("Cache-Control"); got != want {
		b.t.Errorf("%s: Cache-Control %q", query, got)
	}
	return p
}

func TestProofs(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, _ := b.register()
	b.signInAnew(d)
	b.press(b.signedOut().get("/").auth, "{}")
	s.grow(41)
	memory, leaves := s.tree()
	n := int64(len(leaves))
	root := func(size int64) tlog.Hash { return must(tlog.TreeHash(size, memory)) }
	for size := int64(1); size <= n; size++ {
		for index := range size {
			p := b.proof(fmt.Sprintf("index=%d&size=%d", index, size))
			if p.Index == nil || *p.Index != index || p.Size != size || p.From != nil || p.LeafHash != leaves[index] {
				t.Fatalf("%d of %d: %+v", index, size, p)
			}
			if err := tlog.CheckRecord(p.Hashes, size, root(size), index, leaves[index]); err != nil {
				t.Errorf("%d of %d: %v", index, size, err)
			}
			path := make([][]byte, len(p.Hashes))
			for i, h := range p.Hashes {
				path[i] = h[:]
			}
			if want := root(size); !bytes.Equal(audittest.InclusionRoot(p.LeafHash[:], index, size, path), want[:]) {
				t.Errorf("%d of %d: another root by RFC 9162", index, size)
			}
		}
		for from := int64(1); from <= size; from++ {
			p := b.proof(fmt.Sprintf("from=%d&size=%d", from, size))
			if p.From == nil || *p.From != from || p.Size != size || p.Index != nil {
				t.Fatalf("from %d to %d: %+v", from, size, p)
			}
			if err := tlog.CheckTree(p.Hashes, size, root(size), from, root(from)); err != nil {
				t.Errorf("from %d to %d: %v", from, size, err)
			}
		}
	}
	// Without a size, of the newest.
	if p := b.proof("index=7"); p.Size != n || tlog.CheckRecord(p.Hashes, n, root(n), 7, leaves[7]) != nil {
		t.Errorf("%+v", p)
	}
	if p := b.proof("from=7"); p.Size != n || tlog.CheckTree(p.Hashes, n, root(n), 7, root(7)) != nil {
		t.Errorf("%+v", p)
	}
	for query, want := range map[string]int{
		"": 400, "size=5": 400, "index=1&from=1": 400, "index=1&from=1&size=5": 400, "index": 400, "index=": 400, "index=&size=5": 400, "index=1&size=": 400,
		"index=-1": 400, "index=1&size=-5": 400, "index=1.0": 400, "index=1e3": 400, "index=0x1": 400, "index=+1": 400, "index=%2B1": 400, "index=%201": 400, "index=1%00": 400,
		"index=01": 400, "index=-0": 400, "index=1&index=2": 400, "index=1&index=1": 400, "index=1&size=5&size=5": 400, "from=1&from=1": 400, "from=x": 400,
		"index=99999999999999999999": 400, "index=1&size=99999999999999999999": 400, "from=-1": 400, "index=%zz": 400, "INDEX=1": 400, "index=%D9%A1": 400,
		"index=41": 404, "index=5&size=5": 404, "index=1&size=42": 404, "index=1&size=0": 404, "index=0&size=0": 404, "index=9223372036854775807": 404,
		"index=1&size=9223372036854775807": 404, "from=0": 404, "from=0&size=5": 404, "from=6&size=5": 404, "from=42": 404, "from=1&size=42": 404,
		"from=9223372036854775807&size=9223372036854775807": 404,
	} {
		p := b.get("/audit/proof?" + query)
		checkProblem(t, p, want)
		if got := p.header.Get("Cache-Control"); got != "no-store" { // what is not there yet may come
			t.Errorf("%s: Cache-Control %q", query, got)
		}
	}
}

// A proof of one entry among 100,000 is seventeen hashes at most.
func TestProofIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("100,000 entries")
	}
	s := newSite(t)
	b := s.browser()
	s.grow(100_000)
	_, c := b.checkpoint()
	for _, index := range []int64{0, 1, 54_321, 65_535, 65_536, 98_303, 98_304, 99_999} {
		p := b.proof(fmt.Sprintf("index=%d&size=%d", index, c.Size))
		if len(p.Hashes) > 17 || tlog.CheckRecord(p.Hashes, c.Size, c.Root, index, p.LeafHash) != nil {
			t.Errorf("%d: %d hashes", index, len(p.Hashes))
		}
	}
}

// What outsiders get is hashes and signatures: nothing of an account, a network or
// a browser.
func TestAuditSaysNothingOfPeople(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	b.signInAnew(d)
	user := s.trail()[0]
	for _, target := range []string{
		"/audit/checkpoint", "/audit/key", "/audit/tile/0/000.p/2", "/audit/proof?index=0", "/audit/proof?index=0&size=1", "/audit/proof?from=1",
		"/audit/proof?index=99", "/audit/tile/x", "/audit/tile/0/999",
	} {
		for _, who := range []*browser{b, s.browser()} {
			p := who.get(target)
			if len(p.setCookies) > 0 {
				t.Errorf("%s sets cookies", target)
			}
			for name, value := range map[string]string{
				"name": registered.account, "id": user.Actor, "passkey": user.Credential, "session": user.Session, "network": "203.0.113", "browser": "Firefox", "kind": "session.",
			} {
				if strings.Contains(p.body, value) || strings.Contains(fmt.Sprint(p.header), value) {
					t.Errorf("%s has the %s: %s", target, name, p.body)
				}
			}
		}
	}
}

// The trail as the real server wrote it, exported, and its root computed by RFC
// 6962 from the lines alone.
func TestExportByAnotherHand(t *testing.T) {
	s := newSite(t)
	if err := server.Started(t.Context(), s.Server); err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	d, made := b.register()
	b.signInAnew(d)
	for range 3 {
		b.press(b.signedOut().get("/").auth, "{}")
	}
	b.post("/run", nil)
	b.post("/sign-out", nil)
	s.browser().register()
	if err := server.CloseRuns(t.Context(), s.Server); err != nil {
		t.Fatal(err)
	}
	server.Settle(t.Context(), s.Server, true)
	if _, _, err := server.EraseUser(t.Context(), s.settings, store.Erasure{Name: made.account}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	header, err := server.ExportTrail(t.Context(), s.settings, server.Export{}, &out, quietly)
	if err != nil {
		t.Fatal(err)
	}
	root, size, err := audittest.Root(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	claimed, of, err := audittest.Claimed(bytes.NewReader(out.Bytes()))
	if err != nil || size != of || !bytes.Equal(root, claimed) || size != header.End || size < 10 {
		t.Errorf("the root of %d entries is %x, the checkpoint of %d says %x, %v", size, root, of, claimed, err)
	}
	report := s.checkTrail()
	if !bytes.Equal(root, report.Root[:]) || report.Size != size || report.Covered != size || report.Erased == 0 {
		t.Errorf("the database has %+v", report)
	}
	_, c := b.checkpoint()
	if !bytes.Equal(root, c.Root[:]) {
		t.Errorf("the site serves %v", c.Root)
	}
	// And as whoever has the file and the key.
	keys := must(audit.Verifiers(strings.TrimSpace(b.get("/audit/key").body)))
	if got, err := audit.CheckExport(bytes.NewReader(out.Bytes()), keys, quietly); err != nil || got.Checkpoint != c {
		t.Errorf("%+v, %v", got, err)
	}
	lines := strings.Count(out.String(), "\n")
	if int64(lines) != size+1 {
		t.Errorf("%d lines of %d entries", lines, size)
	}
}
