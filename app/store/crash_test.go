package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// crashChild writes until it is killed: four at a time register and sign in, and
// say each session's id once it is acknowledged.
func crashChild(url, round string) error {
	db, err := Open(context.Background(), url, time.Now)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				seed := fmt.Sprintf("%s-%d-%d", round, g, i)
				r := registration(seed, time.Now())
				if _, err := db.Register(context.Background(), r, registered(seed)); err != nil {
					errs <- err
					return
				}
				fmt.Println("ack", r.Session.ID)
				s := signIn(seed+"-in", r.Credential, time.Now())
				if _, err := db.SignIn(context.Background(), s, signedIn(seed+"-in")); err != nil {
					errs <- err
					return
				}
				fmt.Println("ack", s.Session.ID)
			}
		}()
	}
	return <-errs
}

// A program that is killed at any moment has every write that it acknowledged,
// and no act without its record.
func TestKill(t *testing.T) {
	if url := os.Getenv("BIO_STORE_TEST_CRASH"); url != "" {
		t.Fatal(crashChild(url, os.Getenv("BIO_STORE_TEST_ROUND")))
	}
	url := fileURL(t)
	for round := range 20 {
		cmd := exec.Command(must[string](t)(os.Executable()), "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "BIO_STORE_TEST_CRASH="+url, fmt.Sprintf("BIO_STORE_TEST_ROUND=%d", round))
		out := must[io.ReadCloser](t)(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []string
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if errors.Is(err, io.EOF) {
				break // dead; a line cut short was not acknowledged
			}
			if err != nil {
				t.Fatal(err)
			}
			id, ok := strings.CutPrefix(strings.TrimSpace(line), "ack ")
			if !ok {
				t.Fatalf("the child says %q", line)
			}
			if acknowledged = append(acknowledged, id); len(acknowledged) == 3+7*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || len(acknowledged) < 3+7*round {
			t.Fatalf("the child ended after %d: %v", len(acknowledged), err)
		}
		db := must[*DB](t)(Open(t.Context(), url, time.Now))
		for _, id := range acknowledged {
			if _, _, err := db.Session(t.Context(), id); err != nil {
				t.Errorf("round %d: session %s was acknowledged: %v", round, id, err)
			}
		}
		checkInvariants(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkInvariants checks what holds of every database after every change.
func checkInvariants(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, db *DB) {
	t.Helper()
	strings := func(query string) (all []string) {
		t.Helper()
		rows, err := db.reads.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := strings("PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
		t.Fatalf("integrity: %q", got)
	}
	if got := strings("SELECT \"table\" FROM pragma_foreign_key_check"); len(got) > 0 {
		t.Fatalf("foreign keys: %q", got)
	}
	if got := strings("SELECT seq FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS n FROM trail) WHERE seq <> n"); len(got) > 0 {
		t.Fatalf("gaps in the trail: %q", got)
	}
	// Every session began with exactly one record, and has none of an end.
	began, ended := map[string]int{}, map[string]bool{}
	for _, hash := range strings("SELECT session FROM trail WHERE kind IN ('account.registered', 'session.signed_in')") {
		began[hash]++
	}
	for _, hash := range strings("SELECT session FROM trail WHERE kind IN ('session.signed_out', 'session.replaced', 'session.expired')") {
		if ended[hash] {
			t.Fatalf("session %s ended twice", hash)
		}
		ended[hash] = true
	}
	for _, id := range strings("SELECT id FROM sessions") {
		if hash := hashID("bio trail session\x00", id); began[hash] != 1 || ended[hash] {
			t.Fatalf("session %s: began %d times, ended %v", id, began[hash], ended[hash])
		}
	}
	if got := strings("SELECT id FROM users WHERE 1 <> (SELECT count(*) FROM trail WHERE actor = users.id AND kind = 'account.registered')"); len(got) > 0 {
		t.Fatalf("users without one record of it: %q", got)
	}
	if got := strings("SELECT id FROM users WHERE NOT EXISTS (SELECT 1 FROM credentials WHERE user_id = users.id)"); len(got) > 0 {
		t.Fatalf("users without a credential: %q", got)
	}
}
