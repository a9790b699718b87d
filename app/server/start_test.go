package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
)

// house is an installation on its own, which starts and stops.
type house struct {
	t       *testing.T
	dir     string
	environ []string
}

func newHouse(t *testing.T, environ ...string) *house {
	return &house{t, t.TempDir(), append(environ, "BIO_URL="+local)}
}

// settings are those of a command beside it. The first of a name counts.
func (h *house) settings(environ ...string) *config.Settings {
	h.t.Helper()
	return settings(h.t, append(append(environ, h.environ...), "BIO_DATA="+h.dir)...)
}

func (h *house) start(environ ...string) *start {
	h.t.Helper()
	s, _ := run(h.t, h.dir, append(environ, h.environ...)...)
	return s
}

// refuse fails unless the start is refused, and changes nothing.
func (h *house) refuse(environ ...string) error {
	h.t.Helper()
	before := h.files()
	ctx, stop := context.WithCancel(h.t.Context())
	defer stop()
	err := server.Run(ctx, server.Options{
		Settings: h.settings(append(environ, "BIO_LISTEN=127.0.0.1:"+freePort(h.t))...), Log: quiet,
	}, stopper(stop))
	if err == nil || errors.Is(err, server.ErrServing) {
		h.t.Fatalf("not refused: %v", err)
	}
	if diff := cmp.Diff(before, h.files()); diff != "" {
		h.t.Errorf("the refused start changed the files (-before +after):\n%s", diff)
	}
	return err
}

// stopper ends a start that says that it is ready.
type stopper func()

func (s stopper) Write(p []byte) (int, error) {
	s()
	return len(p), nil
}

// files are the hashes of all files.
func (h *house) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		sum := sha256.Sum256(text)
		all[strings.TrimPrefix(path, h.dir)] = fmt.Sprintf("%d %x", len(text), sum[:4])
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) read(name string) []byte {
	h.t.Helper()
	return must(os.ReadFile(h.path(name)))
}

func (h *house) write(name string, text []byte) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) remove(name string) {
	h.t.Helper()
	if err := os.Remove(h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

// act records something while nothing runs.
func (h *house) act() {
	h.t.Helper()
	if _, err := server.Invite(h.t.Context(), h.settings(), nil, 0); err != nil {
		h.t.Fatal(err)
	}
}

// verify verifies the log, with the keys of the secret.
func (h *house) verify(environ ...string) audit.Report {
	h.t.Helper()
	report, err := server.VerifyTrail(h.t.Context(), h.settings(environ...), nil, nil, quietly)
	if err != nil {
		h.t.Fatal(err)
	}
	return report
}

// checkWhole fails unless the log is whole and its newest checkpoint covers it.
func (h *house) checkWhole(environ ...string) audit.Report {
	h.t.Helper()
	report := h.verify(environ...)
	if len(report.Problems) > 0 || report.Covered != report.Size || report.Checkpoints == 0 {
		h.t.Errorf("%+v", report)
	}
	return report
}

// ask gets an address of a running start.
func (s *start) ask(target string) string {
	s.t.Helper()
	answer, err := http.Get(s.address + target)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %s %v", target, answer.StatusCode, body, err)
	}
	return string(body)
}

// A stop and a start fit, as often as one likes, with acts in between.
func TestStartFits(t *testing.T) {
	h := newHouse(t)
	size := int64(0)
	for range 3 {
		s := h.start()
		if strings.Contains(s.log.String(), `"WARN"`) {
			t.Errorf("warned: %s", &s.log)
		}
		s.end()
		report := h.checkWhole()
		if report.Size <= size || report.Unknown > 0 {
			t.Errorf("%+v after %d entries", report, size)
		}
		size = report.Size
		h.act() // below no checkpoint yet
	}
}

// An old copy of the database is refused, with the two ways on; the second, a new
// log, has a new name each time.
func TestOldCopy(t *testing.T) {
	h := newHouse(t)
	h.start().end()
	old := h.read("bio.db")
	for number := 2; number <= 4; number++ {
		h.start().end()
		h.act()
		h.start().end()
		published, _ := audit.OpenCheckpoint(h.read("checkpoint"), must(audit.Verifiers()))

		h.write("bio.db", old) // older than every break
		err := h.refuse()
		for _, want := range []string{
			fmt.Sprintf("a checkpoint of %d was published", published.Size), "lost its end", "two honest ways on", "restore the database", "bio audit reopen",
		} {
			if !errors.Is(err, server.ErrTrail) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		if report := h.verify(); len(report.Problems) != 1 || report.Problems[0].Last != published.Size-1 {
			t.Errorf("verify says %v", report.Problems)
		}
		if _, err := server.ExportTrail(t.Context(), h.settings(), server.Export{}, io.Discard, quietly); !errors.Is(err, server.ErrTrail) {
			t.Errorf("an export of it: %v", err)
		}

		note, err := server.ReopenTrail(t.Context(), h.settings())
		if err != nil {
			t.Fatal(err)
		}
		origin := fmt.Sprintf("localhost:8080/audit/%d", number)
		first, err := audit.OpenCheckpoint(note, must(audit.Verifiers(must(server.TrailKey(t.Context(), h.settings())))))
		if err != nil || first.Origin != origin || !bytes.Equal(note, h.read("checkpoint")) {
			t.Errorf("%+v, %v", first, err)
		}
		s := h.start()
		if key := s.ask("/audit/key"); !strings.HasPrefix(key, origin+"+") {
			t.Errorf("key %q", key)
		}
		s.end()
		if report := h.checkWhole(); report.Unknown > 0 { // those of the log before too
			t.Errorf("%+v", report)
		}
		if _, err := server.ReopenTrail(t.Context(), h.settings()); err == nil || !strings.Contains(err.Error(), "nothing to reopen") {
			t.Errorf("once more: %v", err)
		}

		// The break is an entry for everyone to see.
		db, err := store.Open(t.Context(), "file:"+h.path("bio.db"), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		breaks, at, err := db.Milestones(t.Context(), audit.TrailReopened, first.Size)
		entries := must(db.Entries(t.Context(), at, 1))
		db.Close()
		if err != nil || breaks != number-1 || at != first.Size-1 {
			t.Fatalf("%d breaks, the last at %d, %v", breaks, at, err)
		}
		record := must(audit.Open(at, entries[0].Leaf.Kind, entries[0].Leaf.Time, entries[0].Payload))
		if record.Detail["published_size"] != fmt.Sprint(published.Size) || record.Detail["published_root"] != published.Root.String() ||
			record.Detail["published_origin"] != published.Origin || record.Detail["found_size"] == "" || record.Detail["found_root"] == "" {
			t.Errorf("the break says %v", record.Detail)
		}
	}
}

// A break that was recorded before its checkpoint was written does not lock the
// operator out.
func TestReopenCutShort(t *testing.T) {
	h := newHouse(t)
	h.start().end()
	old := h.read("bio.db")
	h.start().end()
	published := h.read("checkpoint")
	h.write("bio.db", old)
	if _, err := server.ReopenTrail(t.Context(), h.settings()); err != nil {
		t.Fatal(err)
	}
	h.write("checkpoint", published) // as if it had ended here
	if err := h.refuse(); !errors.Is(err, server.ErrTrail) {
		t.Errorf("%v", err)
	}
	if _, err := server.ReopenTrail(t.Context(), h.settings()); err != nil {
		t.Errorf("again: %v", err)
	}
	h.start().end()
	h.checkWhole()
}

// The database of another installation, and a fork: refused, whether it is larger
// or smaller.
func TestAnotherDatabase(t *testing.T) {
	h, other := newHouse(t), newHouse(t)
	h.start().end()
	other.start().end()
	own := h.read("bio.db")

	h.write("bio.db", other.read("bio.db"))
	if err := h.refuse(); !errors.Is(err, server.ErrTrail) || !strings.Contains(err.Error(), "the trail is another one") {
		t.Errorf("as large: %v", err)
	}
	other.act()
	h.write("bio.db", other.read("bio.db"))
	if err := h.refuse(); !errors.Is(err, server.ErrTrail) || !strings.Contains(err.Error(), "the trail is another one") {
		t.Errorf("larger: %v", err)
	}
	h.write("bio.db", own)
	h.start().end() // its own is fine

	forked := newHouse(t)
	forked.write("bio.db", own)
	forked.write("secret", h.read("secret"))
	forked.act()
	forked.act()
	forked.act()
	h.write("bio.db", forked.read("bio.db"))
	if err := h.refuse(); !errors.Is(err, server.ErrTrail) {
		t.Errorf("a fork: %v", err)
	}
}

// Without its checkpoint file a start compares with what the database has, and
// warns; a file that cannot be read is never passed over.
func TestCheckpointFile(t *testing.T) {
	h := newHouse(t)
	h.start().end()
	good := h.read("checkpoint")
	h.remove("checkpoint")
	s := h.start()
	if log := s.log.String(); !strings.Contains(log, `"WARN"`) || !strings.Contains(log, "whether the trail's end is missing is not known") {
		t.Errorf("the log says %s", log)
	}
	s.end()
	h.checkWhole()

	good = h.read("checkpoint")
	flip := func(at int) []byte {
		text := bytes.Clone(good)
		text[at] ^= 1
		return text
	}
	for name, text := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "half": good[:len(good)/2], "three lines": good[:bytes.Index(good, []byte("\n\n"))+1],
		"no text": []byte("x"), "name": flip(2), "longer": append(bytes.Clone(good), '\n'), "another note": []byte("hello\n\n— localhost:8080/audit AAAAAAAA\n"),
	} {
		h.write("checkpoint", text)
		err := h.refuse()
		for _, want := range []string{h.path("checkpoint"), "is damaged", "Restore it from your backup, or remove it"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		if report := h.verify(); len(report.Problems) == 0 {
			t.Errorf("%s: verify finds nothing", name)
		}
		if _, err := server.ReopenTrail(t.Context(), h.settings()); err == nil {
			t.Errorf("%s: reopened", name)
		}
	}
	c, _ := audit.OpenCheckpoint(good, must(audit.Verifiers()))
	for _, size := range []int64{c.Size - 1, c.Size + 1} { // a checkpoint, and not of this log
		h.write("checkpoint", bytes.Replace(good, fmt.Appendf(nil, "\n%d\n", c.Size), fmt.Appendf(nil, "\n%d\n", size), 1))
		if err := h.refuse(); !errors.Is(err, server.ErrTrail) {
			t.Errorf("of %d entries in place of %d: %v", size, c.Size, err)
		}
	}

	h.remove("checkpoint")
	if err := os.Mkdir(h.path("checkpoint"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.refuse(); !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("%v", err)
	}
	if _, err := server.VerifyTrail(t.Context(), h.settings(), nil, nil, quietly); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("verify: %v", err)
	}
}

// A changed secret signs the same log with another key, and as long as the old one
// is given too, with both.
func TestChangedSecret(t *testing.T) {
	h := newHouse(t)
	one, two, three := "BIO_SECRET="+strings.Repeat("a1", 32), "BIO_SECRET="+strings.Repeat("b2", 32), "BIO_SECRET="+strings.Repeat("c3", 32)
	previous := func(secret string) string { return strings.Replace(secret, "BIO_SECRET", "BIO_SECRET_PREVIOUS", 1) }
	key := func(environ ...string) string {
		t.Helper()
		return must(server.TrailKey(t.Context(), h.settings(environ...)))
	}
	h.start(one).end()
	first := key(one)

	both := []string{two, previous(one)}
	s := h.start(both...)
	note := []byte(s.ask("/audit/checkpoint"))
	second := strings.TrimSpace(s.ask("/audit/key"))
	for name, key := range map[string]string{"old": first, "new": second} {
		if c, err := audit.OpenCheckpoint(note, must(audit.Verifiers(key))); err != nil || c.Origin != "localhost:8080/audit" {
			t.Errorf("with the %s key alone: %+v, %v", name, c, err)
		}
	}
	s.end()
	if first == second || key(both...) != second {
		t.Errorf("keys %q and %q", first, second)
	}
	if report := h.checkWhole(both...); report.Unknown > 0 {
		t.Errorf("%+v", report)
	}

	s = h.start(three) // the others are forgotten
	note = []byte(s.ask("/audit/checkpoint"))
	third := strings.TrimSpace(s.ask("/audit/key"))
	if _, err := audit.OpenCheckpoint(note, must(audit.Verifiers(third))); err != nil {
		t.Error(err)
	}
	for _, key := range []string{first, second} {
		if _, err := audit.OpenCheckpoint(note, must(audit.Verifiers(key))); !errors.Is(err, audit.ErrUnknownKey) {
			t.Errorf("with a retired key: %v", err)
		}
	}
	s.end()
	if report := h.checkWhole(three); report.Unknown == 0 {
		t.Errorf("%+v", report)
	}
}

// At another address the same log goes on under another name.
func TestChangedAddress(t *testing.T) {
	h := newHouse(t)
	h.start().end()
	moved := "BIO_URL=http://localhost:9090"
	s := h.start(moved)
	key := s.ask("/audit/key")
	c, err := audit.OpenCheckpoint([]byte(s.ask("/audit/checkpoint")), must(audit.Verifiers(strings.TrimSpace(key))))
	if err != nil || c.Origin != "localhost:9090/audit" {
		t.Errorf("%+v, %v", c, err)
	}
	s.end()
	h.checkWhole(moved)
	// A command that does not know of the move must not sign in the old name.
	for name, do := range map[string]func() error{
		"key":    func() error { _, err := server.TrailKey(t.Context(), h.settings()); return err },
		"reopen": func() error { _, err := server.ReopenTrail(t.Context(), h.settings()); return err },
		"export": func() error {
			_, err := server.ExportTrail(t.Context(), h.settings(), server.Export{}, io.Discard, quietly)
			return err
		},
	} {
		before := h.files()
		if err := do(); err == nil || !strings.Contains(err.Error(), "set BIO_URL as the server has it") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, h.files()); diff != "" {
			t.Errorf("%s changed the files (-before +after):\n%s", name, diff)
		}
	}
}

// remote is a server in another process.
type remote string

func (to remote) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := r.Clone(r.Context())
	asked.URL.Host, asked.Host, asked.RequestURI = string(to), r.Host, ""
	answer, err := http.DefaultTransport.RoundTrip(asked)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		w.(*httptest.ResponseRecorder).Code = http.StatusBadGateway // it broke off
	}
}

// serves is set for a process that is to be the server.
const serves = "TEST_SERVES"

// TestMain is also the program that tests start and kill.
func TestMain(m *testing.M) {
	if os.Getenv(serves) == "" {
		os.Exit(m.Run())
	}
	settings := must(config.Load(os.Environ()))
	err := server.Run(context.Background(), server.Options{Settings: settings, Log: slog.New(slog.DiscardHandler), Version: "test"}, os.Stdout)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A server that is killed in the middle of presses starts again: the log fits
// what it published, verifies, and has every act that was acknowledged.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills a process many times")
	}
	h := newHouse(t, "BIO_RATE_LIMIT=1000000/s", "BIO_REFUSAL_LIMIT=1000000/s")
	registered := map[string]bool{} // names of accounts
	var published []string
	signedIn := 0
	for round := range 15 {
		address := "127.0.0.1:" + freePort(t)
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), append(h.environ, serves+"=1", "BIO_DATA="+h.dir, "BIO_LISTEN="+address)...)
		out := must(process.StdoutPipe())
		var errs bytes.Buffer
		process.Stderr = &errs
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatalf("round %d: did not start: %s", round, &errs)
		}
		s := &site{t: t, url: must(url.Parse(local)), process: remote(address)}

		var mu sync.Mutex // guards registered, signedIn and published
		var acts atomic.Int32
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					b, d := s.browser(), s.device()
					page := b.get("/")
					if page.auth == nil {
						return
					}
					p := b.press(page.auth, d.create(page.auth.options))
					if p.status != http.StatusOK || p.account == "" {
						return
					}
					mu.Lock()
					registered[p.account] = true
					mu.Unlock()
					acts.Add(1)
					if page = b.signedOut().get("/"); page.auth == nil {
						return
					}
					if p := b.signedOut().press(page.auth, d.get(page.auth.options)); p.status != http.StatusOK || p.account == "" {
						return
					}
					mu.Lock()
					signedIn++
					mu.Unlock()
					acts.Add(1)
				}
			})
		}
		wg.Go(func() {
			for {
				p := s.browser().get("/audit/checkpoint")
				if p.status != http.StatusOK {
					return
				}
				mu.Lock()
				published = append(published, p.body)
				mu.Unlock()
			}
		})
		for deadline := time.Now().Add(20 * time.Second); acts.Load() < int32(3+round) && time.Now().Before(deadline); {
			_ = s.browser().get("/healthz")
		}
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		_ = process.Wait()
	}

	h.start().end() // it fits
	report := h.checkWhole()
	db, err := store.Open(t.Context(), "file:"+h.path("bio.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, db: db, path: h.path("bio.db")}
	defer db.Close()
	kinds := s.kinds()
	if kinds[audit.Registered] < len(registered) || kinds[audit.SignedIn] < signedIn || len(registered) < 15 {
		t.Errorf("%d registrations and %d sign-ins were acknowledged, the trail has %v", len(registered), signedIn, kinds)
	}
	for _, r := range s.trail() {
		if r.Kind == audit.Registered {
			user, err := db.User(t.Context(), r.Actor)
			if err != nil {
				t.Errorf("entry %d has no account: %v", r.Index, err)
			}
			delete(registered, user.Name)
		}
	}
	if len(registered) > 0 {
		t.Errorf("acknowledged, and not in the trail: %v", registered)
	}
	tree, _ := s.tree()
	keys := must(audit.Verifiers(must(server.TrailKey(t.Context(), h.settings()))))
	for _, note := range published {
		c, err := audit.OpenCheckpoint([]byte(note), keys)
		if err != nil || c.Size > report.Size || c.Root != must(tlog.TreeHash(c.Size, tree)) {
			t.Fatalf("published: %+v, %v", c, err)
		}
	}
}
