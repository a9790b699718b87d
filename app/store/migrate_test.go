package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tursodatabase/libsql-client-go/sqliteparserutils"

	"bio/app/account"
)

// TestStatements holds the rule of the blank line to the engine's own grammar.
func TestStatements(t *testing.T) {
	for _, m := range migrations {
		want, extra := sqliteparserutils.SplitStatement(m.script)
		if extra.IncompleteCreateTriggerStatement || extra.IncompleteMultilineComment {
			t.Errorf("%s is not whole", m.name)
		}
		got := statements(m.script)
		for i := range got {
			got[i] = code(got[i])
		}
		for i := range want {
			want[i] = code(want[i])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: a blank line stands elsewhere than between statements:\n%q\nwant\n%q", m.name, got, want)
		}
	}
}

// code leaves out what the two ways of cutting do not have to agree on.
func code(statement string) string {
	var b strings.Builder
	for line := range strings.Lines(statement) {
		before, _, _ := strings.Cut(line, "--")
		b.WriteString(strings.Join(strings.Fields(before), " ") + " ")
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), ";")
}

// What version 2 of the schema kept is there after the migration, and works.
func TestMigrateFrom2(t *testing.T) {
	url := fileURL(t)
	path := must[string](t)(filePath(url))
	c := newClock()
	ctx := t.Context()
	r := registration("1", c.Now())
	r.User.Name, r.User.CreatedAt = "cedar-1", c.Now()
	k := r.Credential
	k.UserID, k.UserHandle, k.CreatedAt, k.LastUsedAt = r.User.ID, r.User.Handle, c.Now(), c.Now()
	s := r.Session
	s.UserID, s.Credential = r.User.ID, account.CredentialRef(k.ID)

	pool, err := openPool(path, writerParameters)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(pool, checkPragmas, c.Now)
	if err := errors.Join(w.connect(ctx), migrate(ctx, w.conn, migrations[:2])); err != nil {
		t.Fatal(err)
	}
	go w.loop()
	err = w.do(ctx, func(t *tx) error {
		_, err := insertUser(t, r.User, []string{r.User.Name})
		_, err1 := t.exec(`INSERT INTO credentials (ref, id, user_id, user_handle, public_key, sign_count, flags, aaguid, transports,
attestation_type, attestation_format, name, created_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.Credential, k.ID, k.UserID, k.UserHandle, k.PublicKey, k.SignCount, k.Flags, k.AAGUID, list(k.Transports),
			k.AttestationType, k.AttestationFormat, k.Name, stamp(k.CreatedAt), stamp(k.LastUsedAt))
		return errors.Join(err, err1, insertSession(t, s), appendTrail(t, r.User.ID, registered("1")))
	})
	w.close()
	if err := errors.Join(err, pool.Close()); err != nil {
		t.Fatal(err)
	}

	db := openAt(t, url, c.Now)
	if err := db.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	gotSession, u, err := db.Session(ctx, s.ID)
	equal(t, []any{gotSession, u, err}, []any{s, r.User, error(nil)})
	equal(t, must[[]account.Credential](t)(db.Credentials(ctx, u.ID)), []account.Credential{k})
	checkInvariants(t, db) // the schema is that of a new database, too
	must[SteppedUp](t)(db.StepUp(ctx, stepUp("up", s.ID, k, Rename{"maple-1"}, c.Now()), steppedUp))
	waits := begin(t, db, c, "maple-1", "waits")
	c.Advance(day)
	out := must[SignedIn](t)(db.SignIn(ctx, signIn("in", waits, c.Now()), signedIn("in")))
	equal(t, []any{out.User.Name, out.Recovered}, []any{"maple-1", true})
	checkInvariants(t, db)
}
