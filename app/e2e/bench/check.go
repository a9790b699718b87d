package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
	"bio/app/store"
	"bio/app/token"
)

// counted counts how often the store is asked for a session.
type counted struct {
	session.Store
	asked atomic.Int64
}

func (c *counted) Session(ctx context.Context, id string) (session.Session, account.User, error) {
	c.asked.Add(1)
	return c.Store.Session(ctx, id)
}

// check measures what the middleware does for a signed-in request: the cookie out
// of the header, then the session from memory.
func (b *bench) check() error {
	db, err := store.Open(b.ctx, "file:"+filepath.Join(b.dir, "check.db"), time.Now)
	if err != nil {
		return err
	}
	defer db.Close()
	// The clock is read, and stands still: a row that is a second old is read anew.
	still := time.Now()
	rows := &counted{Store: db}
	keeper := session.New(session.Options{
		Store: rows, Keys: token.NewKeyring(make([]byte, 32)), Issuer: "http://localhost:8080",
		Idle: time.Hour, Max: time.Hour, Now: func() time.Time { _ = time.Now(); return still },
	})
	handle := make([]byte, 32)
	user := account.User{ID: account.UserID(handle), Handle: handle}
	passkey := account.Credential{ID: handle[:16], PublicKey: handle}
	begun := keeper.Begin(user.ID, passkey, true, audit.Client{})
	if user, err = db.Register(b.ctx, store.Registration{
		Press: store.Press{Challenge: handle, Expires: still.Add(time.Hour), Session: begun},
		User:  user, Names: account.Names(handle), Credential: passkey,
	}, audit.Entry{Kind: audit.Registered}); err != nil {
		return err
	}
	compact, err := keeper.Token(begun, user, true)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://localhost:8080/", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Cookie", "bio-pre="+encode(handle[:16])+"; bio="+compact+"; bio-known=1")

	// The first check of a session reads its row; the figure is of the others.
	if _, _, err := keeper.Check(b.ctx, compact); err != nil {
		return err
	}
	rows.asked.Store(0)
	var failed error
	var took, allocations []int64
	for range pick(b, 5, 2) {
		result := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				found := r.CookiesNamed("bio")
				if len(found) != 1 {
					failed = errors.New("no session cookie")
					return
				}
				if _, _, err := keeper.Check(b.ctx, found[0].Value); err != nil {
					failed = err
					return
				}
			}
		})
		if failed != nil {
			return failed
		}
		took, allocations = append(took, result.NsPerOp()), append(allocations, result.AllocsPerOp())
	}
	each, objects, asked := time.Duration(median(took)), median(allocations), rows.asked.Load()
	b.add("session check inside the handler", fmt.Sprintf("%s, %d allocations, %d SQL", micro(each), objects, asked),
		"<= 6 µs, 12 allocations, 0 SQL", each <= 6*time.Microsecond && objects <= 12 && asked == 0)
	return nil
}
