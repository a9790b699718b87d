package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"bio/app/audit"
	"bio/app/store/trailtest"
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
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 100 / thin {
		enough := 1 + random.IntN(12)
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
			if acknowledged = append(acknowledged, id); len(acknowledged) == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || len(acknowledged) < enough {
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

const sqlSessionsOf = "SELECT coalesce(payload ->> '$.session', '') FROM trail_payloads JOIN trail_leaves USING (idx) WHERE kind IN "

const sqlSteppedFrom = "SELECT payload ->> '$.detail.replaced' FROM trail_payloads JOIN trail_leaves USING (idx) WHERE kind = 'session.stepped_up'"

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
	if got := strings("SELECT \"table\" FROM pragma_foreign_key_check"); len(got) > 0 {
		t.Fatalf("foreign keys: %q", got)
	}
	trailtest.Check(t, db)
	// Every session began with exactly one entry, and has none of an end.
	began, ended := map[string]int{}, map[string]bool{}
	for _, ref := range strings(sqlSessionsOf + "('account.registered', 'session.signed_in', 'session.stepped_up')") {
		began[ref]++
	}
	for _, ref := range strings(sqlSessionsOf + "('session.signed_out', 'session.replaced', 'session.expired', 'session.revoked') UNION ALL " + sqlSteppedFrom) {
		if ended[ref] && ref != "" {
			t.Fatalf("session %s ended twice", ref)
		}
		ended[ref] = true
	}
	for _, id := range strings("SELECT id FROM sessions") {
		ref := audit.SessionRef(id)
		if began[ref] != 1 || ended[ref] {
			t.Fatalf("session %s: began %d times, ended %v", id, began[ref], ended[ref])
		}
		ended[ref] = true // it is accounted for
	}
	for ref := range began {
		if ref != "" && !ended[ref] {
			t.Fatalf("an entry says that session %s began, and there is none", ref)
		}
	}
	if got := strings("SELECT id FROM users WHERE 1 <> (SELECT count(*) FROM trail_payloads JOIN trail_leaves USING (idx) WHERE trail_payloads.actor = users.id AND kind = 'account.registered')"); len(got) > 0 {
		t.Fatalf("users without one entry of it: %q", got)
	}
	if got := strings("SELECT idx FROM trail_payloads WHERE actor IS NOT NULL AND actor NOT IN (SELECT id FROM users)"); len(got) > 0 {
		t.Fatalf("entries of nobody: %q", got)
	}
	for what, query := range map[string]string{
		"users without a passkey":                        "SELECT id FROM users WHERE NOT EXISTS (SELECT 1 FROM credentials WHERE user_id = users.id AND effective_at IS NULL)",
		"sessions of a disabled account":                 "SELECT sessions.id FROM sessions JOIN users ON users.id = user_id WHERE disabled_at IS NOT NULL",
		"sessions of a passkey that waits, or another's": "SELECT sessions.id FROM sessions JOIN credentials ON ref = credential WHERE effective_at IS NOT NULL OR credentials.user_id <> sessions.user_id",
		"runs that did not begin once, or ended otherwise than they are": `SELECT id FROM runs WHERE 1 <> (SELECT count(*) FROM trail_payloads
JOIN trail_leaves USING (idx) WHERE kind = 'run.started' AND payload ->> '$.detail.run' = runs.id AND trail_payloads.actor = user_id)
OR (status <> 'running') <> (SELECT count(*) FROM trail_payloads JOIN trail_leaves USING (idx)
WHERE kind = 'run.ended' AND payload ->> '$.detail.run' = runs.id AND payload ->> '$.reason' = status)`,
		"runs that began, did not end, and are gone": `SELECT payload ->> '$.detail.run' FROM trail_payloads JOIN trail_leaves USING (idx)
WHERE kind IN ('run.started', 'run.ended') AND payload ->> '$.detail.run' IS NOT NULL AND payload ->> '$.detail.run' NOT IN (SELECT id FROM runs)
GROUP BY 1 HAVING count(*) <> 2`,
		"runs that have ended and have no time of it": "SELECT id FROM runs WHERE (status = 'running') <> (ended_at IS NULL)",
		"runs that lack an event":                     "SELECT run_id FROM run_events GROUP BY run_id HAVING count(*) <> max(idx) + 1",
		"passkeys that wait without a link that was used": `SELECT ref FROM credentials WHERE effective_at IS NOT NULL
AND user_id NOT IN (SELECT user_id FROM recoveries WHERE used_at IS NOT NULL)`,
	} {
		if got := strings(query); len(got) > 0 {
			t.Fatalf("%s: %q", what, got)
		}
	}
}
