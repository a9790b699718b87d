package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
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
			"await":   await,
			"occupy":  occupy,
			"person":  person,
			"signup":  signup,
			"session": answers,
			"offered": offered,
			"sql":     change,
			"reader":  reader,
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
			// Whenever it began, it goes on: housekeeping would remove one that is over.
			ID: "session of " + name, UserID: id, CreatedAt: now, SeenAt: time.Now(), AuthTime: now, ExpiresAt: time.Now().Add(time.Hour),
		}},
		User: account.User{ID: id, Handle: sum[:], Groups: args[min(2, len(args)):]}, Names: []string{name},
		Credential: account.Credential{ID: sum[:], PublicKey: sum[:], AAGUID: make([]byte, 16)},
	}, audit.Entry{Kind: audit.Registered, Client: audit.Client{Network: "203.0.113.0/24"}})
	ts.Check(err)
}

// signup makes an account with a passkey at the running server, and puts its name
// and the cookie of its session into the environment: signup NAME SESSION.
func signup(ts *testscript.TestScript, _ bool, args []string) {
	site := "http://localhost:" + ts.Getenv("PORT")
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	call := func(path, body string) []byte {
		answer, err := (&http.Client{Jar: jar}).Post(site+path, "application/json", strings.NewReader(body))
		ts.Check(err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		ts.Check(err)
		if answer.StatusCode != http.StatusOK {
			ts.Fatalf("%s answered %s: %s", path, answer.Status, text)
		}
		return text
	}
	options, err := virtualwebauthn.ParseAttestationOptions(string(call("/auth/webauthn/register/begin", "{}")))
	ts.Check(err)
	key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(key.Key.AttestationData()) != 77 { // virtualwebauthn leaves leading zeros out of coordinates
		key = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	party := virtualwebauthn.RelyingParty{ID: options.RelyingPartyID, Origin: site}
	var made struct{ User struct{ Name string } }
	ts.Check(json.Unmarshal(call("/auth/webauthn/register/finish",
		virtualwebauthn.CreateAttestationResponse(party, virtualwebauthn.NewAuthenticator(), key, *options)), &made))
	at, err := url.Parse(site)
	ts.Check(err)
	ts.Setenv(args[0], made.User.Name)
	for _, cookie := range jar.Cookies(at) {
		if cookie.Name == "bio" {
			ts.Setenv(args[1], cookie.Value)
		}
	}
}

// answers waits until a session answers with a status: session COOKIE STATUS.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ask, err := http.NewRequest(http.MethodGet, "http://localhost:"+ts.Getenv("PORT")+"/auth/session", nil)
	ts.Check(err)
	ask.AddCookie(&http.Cookie{Name: "bio", Value: args[0]})
	for until := time.Now().Add(30 * time.Second); ; {
		answer, err := http.DefaultClient.Do(ask)
		ts.Check(err)
		answer.Body.Close()
		switch {
		case strconv.Itoa(answer.StatusCode) == args[1]:
			return
		case time.Now().After(until):
			ts.Fatalf("the session answers %s, want %s", answer.Status, args[1])
		}
	}
}

// offered fails unless the recovery link just printed is the one of the account, and
// works until the time printed, which is so many hours off: offered NAME HOURS.
func offered(ts *testscript.TestScript, _ bool, args []string) {
	parts := regexp.MustCompile(`^\S+/\?recover=(\S+)\n\(works once, until (.+) UTC; `).FindStringSubmatch(ts.ReadFile("stdout"))
	if parts == nil {
		ts.Fatalf("no recovery link")
	}
	ctx := context.Background()
	db, err := store.Open(ctx, "file:"+ts.MkAbs("data/bio.db"), time.Now)
	ts.Check(err)
	defer db.Close()
	link, user, err := db.Recovery(ctx, account.TokenHash(parts[1]))
	ts.Check(err)
	until, hours := link.ExpiresAt.UTC().Format(time.DateTime), math.Round(link.ExpiresAt.Sub(link.CreatedAt).Hours())
	if user.Name != args[0] || until != parts[2] || fmt.Sprint(hours) != args[1] || !link.Usable(time.Now()) {
		ts.Fatalf("the link is for %s until %s, %v hours", user.Name, until, hours)
	}
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
