package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
)

func benchDB(b *testing.B) *DB {
	b.Helper()
	return openAt(b, fileURL(b), time.Now)
}

// benchUser registers one user and returns the credential.
func benchUser(b *testing.B, db *DB) account.Credential {
	b.Helper()
	r := registration("user", time.Now())
	if _, err := db.Register(b.Context(), r, registered("user")); err != nil {
		b.Fatal(err)
	}
	c := r.Credential
	c.UserID = r.User.ID
	return c
}

// inParallel runs op b.N times from n goroutines.
func inParallel(b *testing.B, n int, op func(i int) error) {
	b.Helper()
	var next atomic.Int64
	errs := make(chan error, n)
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		go func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					errs <- nil
					return
				}
				if err := op(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkCommit is the floor: one row in one durable transaction, with the
// same driver and nothing of the store.
func BenchmarkCommit(b *testing.B) {
	path, _ := filePath(fileURL(b))
	pool, err := openPool(path, writerParameters)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	if _, err := pool.Exec("CREATE TABLE floor (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"); err != nil {
		b.Fatal(err)
	}
	insert, err := pool.Prepare("INSERT INTO floor (text) VALUES (?)")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := insert.Exec("text"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRegister(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			db := benchDB(b)
			inParallel(b, n, func(i int) error {
				seed := strconv.Itoa(i)
				_, err := db.Register(context.Background(), registration(seed, time.Now()), registered(seed))
				return err
			})
		})
	}
}

func BenchmarkSignIn(b *testing.B) {
	for _, n := range []int{1, 16} {
		for _, trail := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("callers=%d/trail=%d", n, trail), func(b *testing.B) {
				db := benchDB(b)
				c := benchUser(b, db)
				entries := make([]audit.Entry, 1000)
				for i := range entries {
					entries[i] = audit.Entry{Kind: audit.SignedIn, Actor: account.UserID(sum("handle", "user")), Session: strconv.Itoa(i)}
				}
				for range trail / len(entries) {
					if err := recorded(db, entries...); err != nil {
						b.Fatal(err)
					}
				}
				inParallel(b, n, func(i int) error {
					seed := strconv.Itoa(i)
					_, err := db.SignIn(context.Background(), signIn(seed, c, time.Now()), signedIn(seed))
					return err
				})
			})
		}
	}
}

// BenchmarkEntry gives what one more entry of a person costs a transaction, with
// 1,000 and with 100,000 entries in the log: a record of 101 against one of 1, in
// turns.
func BenchmarkEntry(b *testing.B) {
	for _, trail := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("trail=%d", trail), func(b *testing.B) {
			db := benchDB(b)
			e := audit.Entry{
				Kind: audit.SignedIn, Actor: benchUser(b, db).UserID, Credential: account.CredentialRef([]byte("id")), Session: "session",
				Client: audit.Client{Network: "203.0.113.0/24", Browser: "Firefox", System: "Linux"},
			}
			entries := slices.Repeat([]audit.Entry{e}, 1000)
			for range trail / len(entries) {
				if err := recorded(db, entries...); err != nil {
					b.Fatal(err)
				}
			}
			var took [2]time.Duration
			for b.Loop() {
				for i, n := range []int{1, 101} {
					start := time.Now()
					if err := recorded(db, entries[:n]...); err != nil {
						b.Fatal(err)
					}
					took[i] += time.Since(start)
				}
			}
			b.ReportMetric(float64(took[1]-took[0])/float64(b.N)/100, "ns/entry")
			b.ReportMetric(float64(took[0])/float64(b.N), "ns/record")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSignInLongTrail compares a sign-in at 1,000 entries with one at
// 100,000, in turns.
func BenchmarkSignInLongTrail(b *testing.B) {
	lengths := []int{1000, 100_000}
	var dbs [2]*DB
	var credentials [2]account.Credential
	for i, n := range lengths {
		dbs[i] = benchDB(b)
		credentials[i] = benchUser(b, dbs[i])
		entries := slices.Repeat([]audit.Entry{{Kind: audit.SignedIn, Actor: credentials[i].UserID}}, 1000)
		for range n / len(entries) {
			if err := recorded(dbs[i], entries...); err != nil {
				b.Fatal(err)
			}
		}
	}
	var took [2]time.Duration
	for n := 0; b.Loop(); n++ {
		for i, db := range dbs {
			seed := strconv.Itoa(n)
			s, e := signIn(seed, credentials[i], time.Now()), signedIn(seed)
			start := time.Now()
			if _, err := db.SignIn(b.Context(), s, e); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(start)
		}
	}
	for i, n := range lengths {
		b.ReportMetric(float64(took[i])/float64(b.N), fmt.Sprintf("ns/at-%d", n))
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "long/short")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkSession(b *testing.B) {
	db := benchDB(b)
	benchUser(b, db)
	id := sessionID("user")
	for name, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": b.Context()} {
		for _, n := range []int{1, 16} {
			b.Run(fmt.Sprintf("context=%s/callers=%d", name, n), func(b *testing.B) {
				inParallel(b, n, func(int) error {
					_, _, err := db.Session(ctx, id)
					return err
				})
			})
		}
	}
}

func BenchmarkTrail(b *testing.B) {
	db := benchDB(b)
	user := benchUser(b, db).UserID
	for range 1000 {
		if err := recorded(db, audit.Entry{Kind: audit.SignedIn, Actor: user}, audit.Entry{Kind: audit.SignInRefused}); err != nil {
			b.Fatal(err)
		}
	}
	inParallel(b, 1, func(int) error {
		_, err := db.Trail(context.Background(), user, 0, 20)
		return err
	})
}

func BenchmarkOpen(b *testing.B) {
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			url := fileURL(b)
			b.StartTimer()
			db, err := Open(b.Context(), url, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			db.Close()
			b.StartTimer()
		}
	})
	b.Run("existing", func(b *testing.B) {
		url := fileURL(b)
		openAt(b, url, time.Now).Close()
		for b.Loop() {
			db, err := Open(b.Context(), url, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			db.Close()
			b.StartTimer()
		}
	})
}

// BenchmarkKeepEvents is what the store costs an agent's events: an operation is a
// durable commit of that many, of a few words each.
func BenchmarkKeepEvents(b *testing.B) {
	for _, n := range []int{0, 16, 256} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			db := benchDB(b)
			user := benchUser(b, db).UserID
			events := slices.Repeat([]agent.Event{{Text: "a few words of text, as a model says them in 250 ms"}}, n)
			r := runOf(user, "brief", "1")
			if _, err := db.StartRun(b.Context(), r, time.Now(), r.Entry()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			from := 0
			for b.Loop() {
				if _, err := db.KeepEvents(b.Context(), r.ID, from, events); err != nil {
					b.Fatal(err)
				}
				from += n
			}
		})
	}
}

// BenchmarkRun is the whole of a short run in the store: it takes the place of the
// one before, and ends with two events.
func BenchmarkRun(b *testing.B) {
	db := benchDB(b)
	user := benchUser(b, db).UserID
	events := []agent.Event{{Kind: agent.Status, Text: "Looking around…"}, {Text: "All is well."}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := runOf(user, "brief", strconv.Itoa(i))
		_, err := db.StartRun(b.Context(), r, time.Now(), r.Entry())
		if err == nil {
			err = db.EndRun(b.Context(), r.ID, 0, events, runs.Done, "", r.Entry())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLastRuns is what every signed-in page asks.
func BenchmarkLastRuns(b *testing.B) {
	db := benchDB(b)
	user := benchUser(b, db).UserID
	for _, name := range []string{"brief", "chat"} {
		r := runOf(user, name, name)
		if _, err := db.StartRun(b.Context(), r, time.Now(), r.Entry()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if all, err := db.LastRuns(b.Context(), user); err != nil || len(all) != 2 {
			b.Fatal(all, err)
		}
	}
}
