package store

import (
	"context"

	"bio/app/account"
	"bio/app/passkey"
)

const credentialColumns = `credentials.id, credentials.user_id, credentials.user_handle, credentials.public_key,
credentials.sign_count, credentials.flags, credentials.aaguid, credentials.transports,
credentials.attestation_type, credentials.attestation_format, credentials.name,
credentials.created_at, credentials.last_used_at`

// credentialFields are the destinations of credentialColumns.
func credentialFields(c *account.Credential) []any {
	return []any{
		&c.ID, &c.UserID, &c.UserHandle, &c.PublicKey,
		&c.SignCount, &c.Flags, &c.AAGUID, (*list)(&c.Transports),
		&c.AttestationType, &c.AttestationFormat, &c.Name,
		(*stamp)(&c.CreatedAt), (*stamp)(&c.LastUsedAt),
	}
}

const sqlCredential = "SELECT " + credentialColumns + ", " + userColumns +
	" FROM credentials JOIN users ON users.id = credentials.user_id WHERE credentials.ref = ?"

// Credential returns the credential with the id and its user;
// account.ErrNotFound when there is none.
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

const sqlCredentials = "SELECT " + credentialColumns + " FROM credentials WHERE user_id = ? ORDER BY created_at, ref"

// Credentials returns the user's credentials, oldest first.
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
aaguid, transports, attestation_type, attestation_format, name, created_at, last_used_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ref) DO NOTHING`

// insertCredential returns account.ErrCredentialExists when the id is taken.
func insertCredential(t *tx, c account.Credential) error {
	n, err := t.exec(sqlInsertCredential, account.CredentialRef(c.ID), c.ID, c.UserID, c.UserHandle, c.PublicKey, c.SignCount,
		c.Flags, blob(c.AAGUID), list(c.Transports), c.AttestationType, c.AttestationFormat, c.Name,
		stamp(c.CreatedAt), stamp(c.LastUsedAt))
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
	sqlCredentialUser = "SELECT " + userColumns +
		" FROM credentials JOIN users ON users.id = credentials.user_id WHERE credentials.ref = ?"
)

// useCredential records a use of the credential and returns its user;
// account.ErrNotFound when it has gone, a *passkey.Refusal when its counter has
// been overtaken.
func useCredential(t *tx, c account.Credential) (account.User, error) {
	ref := account.CredentialRef(c.ID)
	n, err := t.exec(sqlUseCredential, c.Flags, c.SignCount, stamp(c.LastUsedAt), ref)
	if err != nil {
		return account.User{}, err
	}
	var u account.User
	found, err := t.row(sqlCredentialUser, []any{ref}, userFields(&u)...)
	switch {
	case err != nil:
		return account.User{}, err
	case !found:
		return account.User{}, account.ErrNotFound
	case n == 0:
		return account.User{}, &passkey.Refusal{Reason: "counter", User: u.ID}
	}
	return u, nil
}
