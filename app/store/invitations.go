package store

import (
	"bytes"
	"context"

	"bio/app/account"
	"bio/app/audit"
)

const sqlInvitation = "SELECT token_hash, groups, created_at, expires_at, used_at FROM invitations WHERE token_hash = ?"

// invitationFields are the destinations of sqlInvitation.
func invitationFields(i *account.Invitation) []any {
	return []any{&i.TokenHash, (*list)(&i.Groups), (*stamp)(&i.CreatedAt), (*stamp)(&i.ExpiresAt), (*stamp)(&i.UsedAt)}
}

// Invitation returns the invitation with the hash, usable or not;
// account.ErrNotFound when there is none.
func (db *DB) Invitation(ctx context.Context, tokenHash []byte) (account.Invitation, error) {
	var i account.Invitation
	found, err := db.row(ctx, sqlInvitation, []any{blob(tokenHash)}, invitationFields(&i)...)
	switch {
	case err != nil:
		return account.Invitation{}, err
	case !found:
		return account.Invitation{}, account.ErrNotFound
	}
	return i, nil
}

const sqlInsertInvitation = `INSERT INTO invitations (token_hash, groups, created_at, expires_at, used_at)
VALUES (?, ?, ?, ?, ?) ON CONFLICT (token_hash) DO NOTHING`

// Invite keeps the invitation. One that is kept already is left as it is, with
// no error and no entry. A zero CreatedAt becomes now.
func (db *DB) Invite(ctx context.Context, i account.Invitation, entry audit.Entry) error {
	return db.write(ctx, func(t *tx) error { return invite(t, i, "", entry) })
}

func invite(t *tx, i account.Invitation, actor string, entry audit.Entry) error {
	n, err := t.exec(sqlInsertInvitation, i.TokenHash, list(union(i.Groups, nil)), stamp(orNow(t, i.CreatedAt)), stamp(i.ExpiresAt), stamp(i.UsedAt))
	if err != nil || n == 0 {
		return err
	}
	return appendTrail(t, actor, entry)
}

const (
	sqlFirstOwner       = "SELECT token_hash, groups, created_at, expires_at, used_at FROM invitations WHERE first = 1"
	sqlDropFirstOwner   = "DELETE FROM invitations WHERE first = 1"
	sqlInsertFirstOwner = "INSERT INTO invitations (token_hash, groups, created_at, first) VALUES (?, ?, ?, 1)"
)

// InviteFirstOwner keeps the invitation that makes the first owner. There is one
// for the life of the installation: an unused one of another token, which an
// earlier root secret gave, is replaced. usable is false, and nothing is changed,
// once it was used.
func (db *DB) InviteFirstOwner(ctx context.Context, tokenHash []byte, entry audit.Entry) (usable bool, err error) {
	err = db.write(ctx, func(t *tx) error {
		var kept account.Invitation
		found, err := t.row(sqlFirstOwner, nil, invitationFields(&kept)...)
		usable = !found || kept.UsedAt.IsZero()
		if err != nil || !usable || bytes.Equal(kept.TokenHash, tokenHash) {
			return err
		}
		if _, err := t.exec(sqlDropFirstOwner); err != nil {
			return err
		}
		if _, err := t.exec(sqlInsertFirstOwner, tokenHash, list{account.Owner}, stamp(t.now)); err != nil {
			return err
		}
		return appendTrail(t, "", entry)
	})
	return usable && err == nil, err
}

const sqlUseInvitation = "UPDATE invitations SET used_at = ? WHERE token_hash = ?"

// useInvitation marks the invitation as used and returns it;
// account.ErrInvitation when it cannot be used.
func useInvitation(t *tx, tokenHash []byte) (account.Invitation, error) {
	var i account.Invitation
	found, err := t.row(sqlInvitation, []any{tokenHash}, invitationFields(&i)...)
	switch {
	case err != nil:
		return account.Invitation{}, err
	case !found || !i.Usable(t.now):
		return account.Invitation{}, account.ErrInvitation
	}
	_, err = t.exec(sqlUseInvitation, stamp(t.now), tokenHash)
	return i, err
}
