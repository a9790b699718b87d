package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math/bits"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/tursodatabase/libsql-client-go/libsql"
	"golang.org/x/mod/sumdb/tlog"

	"bio/app/account"
	"bio/app/audit"
)

// floor is what a sign-in cannot do without: the library's parsing and
// verification, and one durable transaction of the rows that a sign-in writes,
// into the same database as the sign-ins that are compared with it. What the
// trail keeps goes into tables of the floor's own.
type floor struct {
	lib        *webauthn.WebAuthn
	passkey    passkeyOwner
	pool       *sql.DB
	conn       *sql.Conn
	statements []*sql.Stmt // in the order of commit
	entries    uint64      // committed so far
}

// floorTables are those of the trail without what makes it one: no triggers, no
// checks, no hashing. The actor, which the trail finds inside the payload for its
// index, is taken out of it, so that the rows are about as long as the trail's.
var floorTables = []string{
	`CREATE TABLE floor_leaves (idx INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL,
actor BLOB, credential BLOB, subject BLOB, commitment BLOB NOT NULL, hashes BLOB NOT NULL) STRICT`,
	`CREATE TABLE floor_payloads (idx INTEGER NOT NULL PRIMARY KEY, salt BLOB NOT NULL, payload TEXT NOT NULL,
actor TEXT) STRICT`,
	"CREATE INDEX floor_payloads_actor ON floor_payloads (actor) WHERE actor IS NOT NULL",
}

// passkeyOwner is a user as the library sees one.
type passkeyOwner struct{ credential account.Credential }

func (u passkeyOwner) WebAuthnID() []byte          { return u.credential.UserHandle }
func (u passkeyOwner) WebAuthnName() string        { return "bench" }
func (u passkeyOwner) WebAuthnDisplayName() string { return "bench" }
func (u passkeyOwner) WebAuthnCredentials() []webauthn.Credential {
	return []webauthn.Credential{{
		ID: u.credential.ID, PublicKey: u.credential.PublicKey,
		Flags:         webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(u.credential.Flags)),
		Authenticator: webauthn.Authenticator{AAGUID: u.credential.AAGUID, SignCount: u.credential.SignCount},
	}}
}

func openFloor(ctx context.Context, s *inside, v *visitor) (_ *floor, err error) {
	f := &floor{}
	f.lib, err = webauthn.New(&webauthn.Config{RPID: "localhost", RPDisplayName: "Bio", RPOrigins: []string{v.origin}})
	if err != nil {
		return nil, err
	}
	if _, f.passkey.credential, err = s.db.Credential(ctx, v.credential); err != nil {
		return nil, err
	}
	connector, err := libsql.NewConnector("file:" + s.path + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, err
	}
	f.pool = sql.OpenDB(connector)
	defer func() {
		if err != nil {
			f.pool.Close()
		}
	}()
	if f.conn, err = f.pool.Conn(ctx); err != nil {
		return nil, err
	}
	for _, text := range floorTables {
		if _, err := f.conn.ExecContext(ctx, text); err != nil {
			return nil, err
		}
	}
	for _, text := range []string{
		"BEGIN IMMEDIATE",
		"INSERT INTO challenges (challenge, expires_at) VALUES (?, ?)",
		"UPDATE credentials SET flags = ?, sign_count = ?, last_used_at = ? WHERE ref = ?",
		`INSERT INTO sessions (id, user_id, credential, created_at, seen_at, expires_at, auth_time, user_verified,
network, browser, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		`INSERT INTO floor_leaves (idx, at, kind, actor, credential, subject, commitment, hashes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		"INSERT INTO floor_payloads (idx, salt, payload, actor) VALUES (?, ?, ?, ?)",
		"COMMIT",
	} {
		statement, err := f.conn.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		f.statements = append(f.statements, statement)
	}
	return f, nil
}

func (f *floor) close() error { return f.pool.Close() }

// verify parses and verifies an assertion of the challenge.
func (f *floor) verify(credential []byte, challenge string) error {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(credential)
	if err != nil {
		return fmt.Errorf("library: %w", err)
	}
	_, _, err = f.lib.ValidatePasskeyLogin(
		func(_, _ []byte) (webauthn.User, error) { return f.passkey, nil },
		webauthn.SessionData{Challenge: challenge, RelyingPartyID: "localhost", UserVerification: protocol.VerificationRequired},
		parsed)
	if err != nil {
		return fmt.Errorf("library: %w", err)
	}
	return nil
}

// commit writes the rows of one sign-in.
func (f *floor) commit(ctx context.Context) error {
	random := make([]byte, 40)
	rand.Read(random)
	c, id, now := f.passkey.credential, encode(random[:20]), time.Now().UnixMilli()
	ref := account.CredentialRef(c.ID)
	// An entry keeps the hashes of the subtrees that it completes: two on average.
	hashes := make([]byte, (bits.TrailingZeros64(^f.entries)+1)*tlog.HashSize)
	payload := `{"credential":"` + ref + `","session":"` + hex.EncodeToString(random[:16]) +
		`","network":"127.0.0.0/24","browser":"Chrome","system":"Linux"}`
	for i, values := range [][]any{
		{},
		{random, now + 300_000},
		{c.Flags, c.SignCount, now, ref},
		{id, c.UserID, ref, now, now, now + 86_400_000, now, true, "127.0.0.0/24", "Chrome", "Linux"},
		{int64(f.entries), now, string(audit.SignedIn), random[:16], random[16:32], nil, random[:32], hashes},
		{int64(f.entries), random[:16], payload, c.UserID},
		{},
	} {
		if _, err := f.statements[i].ExecContext(ctx, values...); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	f.entries++
	return nil
}
