package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"flag"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
	"bio/app/store"
)

var update = flag.Bool("update", false, "write what the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bio": main})
}

// TestScripts runs the command line as a person would: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer free.Close()
			e.Setenv("PORT", strconv.Itoa(free.Addr().(*net.TCPAddr).Port))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":  await,
			"occupy": occupy,
			"person": person,
			"sql":    change,
			"reader": reader,
		},
	})
}

// await waits until an address answers with 200: await URL.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for until := time.Now().Add(30 * time.Second); ; {
		answer, err := http.Get(args[0])
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(until) {
			ts.Fatalf("%s does not answer: %v", args[0], err)
		}
	}
}

// person makes an account with a passkey and a session, now or at midnight of a day,
// in a group or none: person NAME [DAY [GROUP]]. A day of - is now.
func person(ts *testscript.TestScript, _ bool, args []string) {
	ctx, now := context.Background(), time.Now()
	if len(args) > 1 && args[1] != "-" {
		day, err := time.Parse(time.DateOnly, args[1])
		ts.Check(err)
		now = day
	}
	db, err := store.Open(ctx, "file:"+ts.MkAbs("data/bio.db"), func() time.Time { return now })
	ts.Check(err)
	defer db.Close()
	name, sum := args[0], sha256.Sum256([]byte(args[0]))
	id := account.UserID(sum[:])
	_, err = db.Register(ctx, store.Registration{
		Press: store.Press{Challenge: []byte(rand.Text()), Expires: now.Add(time.Minute), Session: session.Session{
			ID: "session of " + name, UserID: id, CreatedAt: now, SeenAt: now, AuthTime: now, ExpiresAt: now.Add(time.Hour),
		}},
		User: account.User{ID: id, Handle: sum[:], Groups: args[min(2, len(args)):]}, Names: []string{name},
		Credential: account.Credential{ID: sum[:], PublicKey: sum[:], AAGUID: make([]byte, 16)},
	}, audit.Entry{Kind: audit.Registered, Client: audit.Client{Network: "203.0.113.0/24"}})
	ts.Check(err)
}

// database opens the database as another program does.
func database(ts *testscript.TestScript) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs("data/bio.db")+"?_pragma=busy_timeout(5000)")
	ts.Check(err)
	ts.Defer(func() { db.Close() })
	return db
}

// change changes the database behind Bio's back: sql STATEMENT...
func change(ts *testscript.TestScript, _ bool, args []string) {
	db := database(ts)
	for _, statement := range args {
		_, err := db.Exec(statement)
		ts.Check(err)
	}
}

// reader reads the database, and holds it as it is for the rest of the script.
func reader(ts *testscript.TestScript, _ bool, _ []string) {
	tx, err := database(ts).Begin()
	ts.Check(err)
	ts.Check(tx.QueryRow("SELECT count(*) FROM users").Scan(new(int)))
}

// occupy takes the port for the rest of the script.
func occupy(ts *testscript.TestScript, _ bool, _ []string) {
	taken, err := net.Listen("tcp", ":"+ts.Getenv("PORT"))
	ts.Check(err)
	ts.Defer(func() { taken.Close() })
}
