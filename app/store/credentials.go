package store

import (
	"context"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
)

const credentialColumns = `credentials.id, credentials.user_id, credentials.user_handle, credentials.public_key,
credentials.sign_count, credentials.flags, credentials.aaguid, credentials.transports,
credentials.attestation_type, credentials.attestation_format, credentials.name,
credentials.created_at, credentials.last_used_at, credentials.effective_at`

// credentialFields are the destinations of credentialColumns.
func credentialFields(c *account.Credential) []any {
	return []any{
		&c.ID, &c.UserID, &c.UserHandle, &c.PublicKey,
		&c.SignCount, &c.Flags, &c.AAGUID, (*list)(&c.Transports),
		&c.AttestationType, &c.AttestationFormat, &c.Name,
		(*stamp)(&c.CreatedAt), (*stamp)(&c.LastUsedAt), (*stamp)(&c.EffectiveAt),
	}
}

const sqlCredential = "SELECT " + credentialColumns + ", " + userColumns +
	" FROM credentials JOIN users ON users.id = credentials.user_id WHERE credentials.ref = ?"

// Credential returns the credential with the id and its user, also one whose
// recovery waits; account.ErrNotFound when there is none.
func (db *DB) Credential(ctx context.Context, id []byte) (account.User, account.Credential, error) {
	var u account.User
	var c account.Credential
	found, err := db.row(ctx, sqlCredential, []any{account.CredentialRef(id)}, append(credentialFields(&c), userFields(&u)...)...)
	switch {
	case err != nil:
		return account.User{}, account.Credential{}, err
	case !found:
		return account.User{}, account.Credential{}, account.ErrNotFound
	}
	return u, c, nil
}

const sqlCredentials = "SELECT " + credentialColumns + ` FROM credentials
WHERE user_id = ? AND effective_at IS NULL ORDER BY created_at, ref`

// Credentials returns the user's credentials, oldest first, without one whose
// recovery waits.
func (db *DB) Credentials(ctx context.Context, userID string) ([]account.Credential, error) {
	var all []account.Credential
	err := db.rows(ctx, sqlCredentials, []any{userID}, func(scan func(...any) error) error {
		var c account.Credential
		if err := scan(credentialFields(&c)...); err != nil {
			return err
		}
		all = append(all, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

const sqlInsertCredential = `INSERT INTO credentials (ref, id, user_id, user_handle, public_key, sign_count, flags,
aaguid, transports, attestation_type, attestation_format, name, created_at, last_used_at, effective_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ref) DO NOTHING`

// insertCredential returns account.ErrCredentialExists when the id is taken.
func insertCredential(t *tx, c account.Credential) error {
	n, err := t.exec(sqlInsertCredential, account.CredentialRef(c.ID), c.ID, c.UserID, c.UserHandle, c.PublicKey, c.SignCount,
		c.Flags, blob(c.AAGUID), list(c.Transports), c.AttestationType, c.AttestationFormat, c.Name,
		stamp(c.CreatedAt), stamp(c.LastUsedAt), stamp(c.EffectiveAt))
	if err == nil && n == 0 {
		return account.ErrCredentialExists
	}
	return err
}

// The counter and the time of use never fall, so that of two sign-ins that
// cross neither is lost. The counter of a device-bound passkey has to rise here
// too: of two copies that show the same next count at once, one gets in.
const (
	sqlUseCredential = `UPDATE credentials SET flags = ?1, sign_count = max(sign_count, ?2),
last_used_at = max(last_used_at, ?3)
WHERE ref = ?4 AND (flags & 8 OR ?2 > sign_count OR ?2 = 0 AND sign_count = 0)`
	sqlCredentialUser = "SELECT " + userColumns + ", users.suggested_at, credentials.effective_at" +
		" FROM credentials JOIN users ON users.id = credentials.user_id WHERE credentials.ref = ?"
)

// used is the account that a use of a passkey opens.
type used struct {
	account.User
	ref       string    // of the passkey
	suggested time.Time // when a second passkey was last suggested
	recovers  bool      // the passkey was made by a recovery and is used for the first time
}

// useCredential records a use of the credential and returns its account;
// account.ErrNotFound when it has gone, a *passkey.Refusal when its counter has
// been overtaken. Where it must be one that opens the account of the id asking, any
// other is account.ErrOtherAccount; else account.ErrDisabled, a *account.EarlyError
// when its recovery waits.
func useCredential(t *tx, c account.Credential, asking string) (used, error) {
	u := used{ref: account.CredentialRef(c.ID)}
	n, err := t.exec(sqlUseCredential, c.Flags, c.SignCount, stamp(c.LastUsedAt), u.ref)
	if err != nil {
		return used{}, err
	}
	var effective time.Time
	found, err := t.row(sqlCredentialUser, []any{u.ref}, append(userFields(&u.User), (*stamp)(&u.suggested), (*stamp)(&effective))...)
	switch {
	case err != nil:
		return used{}, err
	case !found:
		return used{}, account.ErrNotFound
	case asking != "" && (u.ID != asking || !effective.IsZero()): // whatever else may be said of it
		return used{}, account.ErrOtherAccount
	case n == 0:
		return used{}, &passkey.Refusal{Reason: "counter", User: u.ID}
	case !u.DisabledAt.IsZero():
		return used{}, account.ErrDisabled
	case t.now.Before(effective):
		return used{}, &account.EarlyError{EffectiveAt: effective, Wait: effective.Sub(t.now)}
	}
	u.recovers = !effective.IsZero()
	return u, nil
}

// sqlOwned counts a user's passkeys, and among them the one with the ref.
const sqlOwned = `SELECT count(*), count(*) FILTER (WHERE ref = ?2) FROM credentials
WHERE user_id = ?1 AND effective_at IS NULL`

// owned returns how many passkeys the user has, and whether the one with the ref
// is among them.
func owned(t *tx, userID, ref string) (n int, theirs bool, err error) {
	_, err = t.row(sqlOwned, []any{userID, ref}, &n, &theirs)
	return n, theirs, err
}

const sqlCountCredentials = "SELECT count(*) FROM credentials WHERE user_id = ?"

// room is account.ErrTooMany when the user can have no further passkey, with one
// whose recovery waits.
func room(t *tx, userID string) error {
	var n int
	_, err := t.row(sqlCountCredentials, []any{userID}, &n)
	if err == nil && n >= account.MaxCredentials {
		err = account.ErrTooMany
	}
	return err
}

// Addition is a press that adds a passkey to an account that is signed in.
type Addition struct {
	Challenge  []byte
	Expires    time.Time          // until when the challenge is good
	SessionID  string             // of the session that asks, which must be open
	Proven     time.Time          // a passkey was used in that session then or later
	Credential account.Credential // its UserID and UserHandle are set by the store; a zero CreatedAt or LastUsedAt becomes now
}

// AddCredential adds the passkey to the account of the session, consumes the
// challenge, and appends the entry, whose Actor, Credential and Session it sets.
// It returns the user and the passkey as it was stored. Errors, in this order:
// passkey.ErrChallengeUsed, passkey.ErrChallenge when it expired meanwhile,
// session.ErrNone when the session has ended, session.ErrStale when its proof is
// older than Proven, account.ErrTooMany, account.ErrCredentialExists.
func (db *DB) AddCredential(ctx context.Context, a Addition, entry audit.Entry) (account.User, account.Credential, error) {
	var user account.User
	var c account.Credential
	err := db.write(ctx, func(t *tx) (err error) {
		if err := consume(t, a.Challenge, a.Expires); err != nil {
			return err
		}
		if user, err = proven(t, a.SessionID, a.Proven); err != nil {
			return err
		}
		c = a.Credential
		ref := account.CredentialRef(c.ID)
		if err := room(t, user.ID); err != nil {
			return err
		}
		c.UserID, c.UserHandle = user.ID, user.Handle
		c.CreatedAt, c.LastUsedAt = orNow(t, c.CreatedAt), orNow(t, c.LastUsedAt)
		if err := insertCredential(t, c); err != nil {
			return err
		}
		e := entry
		e.Actor, e.Credential, e.Session = user.ID, ref, a.SessionID
		return appendTrail(t, user.ID, e)
	})
	if err != nil {
		return account.User{}, account.Credential{}, err
	}
	return user, c, nil
}

const sqlRenameCredential = `UPDATE credentials SET name = ? WHERE ref = ? AND user_id = ? AND effective_at IS NULL
RETURNING ` + credentialColumns

// RenameCredential gives the user's passkey another name, an
// account.CredentialName, and appends the entry, whose Actor and Credential it
// sets. It returns the passkey as it is then; account.ErrNotFound when the user
// has no such passkey.
func (db *DB) RenameCredential(ctx context.Context, userID string, id []byte, name string, entry audit.Entry) (account.Credential, error) {
	var c account.Credential
	err := db.write(ctx, func(t *tx) (err error) {
		c, err = renameCredential(t, userID, account.CredentialRef(id), name, entry)
		return err
	})
	if err != nil {
		return account.Credential{}, err
	}
	return c, nil
}

func renameCredential(t *tx, userID, ref, name string, entry audit.Entry) (c account.Credential, err error) {
	found, err := t.row(sqlRenameCredential, []any{name, ref, userID}, credentialFields(&c)...)
	switch {
	case err != nil:
		return c, err
	case !found:
		return c, account.ErrNotFound
	}
	entry.Actor, entry.Credential = userID, ref
	return c, appendTrail(t, userID, entry)
}

// Removal names the passkey of a person who is signed in.
type Removal struct {
	SessionID string    // of the session that asks, which must be open
	Proven    time.Time // a passkey was used in that session then or later
	ID        []byte    // of the passkey
}

const sqlDeleteCredential = "DELETE FROM credentials WHERE ref = ?"

// RemoveCredential removes a passkey from the account of the session and ends
// every session that was opened with it, which may be the one that asks. It
// appends the entry, whose Actor, Credential and Session it sets, and one of
// audit.SessionRevoked for each session, and returns the ids of those sessions.
// Errors, in this order: session.ErrNone when the session that asks has ended,
// session.ErrStale when its proof is older than Proven, account.ErrNotFound when
// the user has no such passkey, account.ErrLastCredential when they have no other.
func (db *DB) RemoveCredential(ctx context.Context, r Removal, entry audit.Entry) (ended []string, err error) {
	err = db.write(ctx, func(t *tx) error {
		user, err := proven(t, r.SessionID, r.Proven)
		if err != nil {
			return err
		}
		removed := entry
		removed.Session = r.SessionID
		ended, err = removeCredential(t, user.ID, account.CredentialRef(r.ID), removed)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

func removeCredential(t *tx, userID, ref string, entry audit.Entry) (ended []string, err error) {
	n, theirs, err := owned(t, userID, ref)
	switch {
	case err != nil:
		return nil, err
	case !theirs:
		return nil, account.ErrNotFound
	case n == 1:
		return nil, account.ErrLastCredential
	}
	// The sessions first: they refer to the passkey.
	if ended, err = deleteSessions(t, sqlDeleteCredentialSessions, ref); err != nil {
		return nil, err
	}
	if _, err := t.exec(sqlDeleteCredential, ref); err != nil {
		return nil, err
	}
	entry.Actor, entry.Credential = userID, ref
	over := revoked(userID, ended, "passkey removed", entry.Client)
	for i := range over {
		over[i].Credential = ref
	}
	return ended, appendTrail(t, userID, append([]audit.Entry{entry}, over...)...)
}
