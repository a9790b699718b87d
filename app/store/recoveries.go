package store

import (
	"context"
	"time"

	"bio/app/account"
	"bio/app/audit"
)

const sqlRecovery = `SELECT recoveries.user_id, recoveries.token_hash, recoveries.created_at, recoveries.expires_at,
recoveries.used_at, ` + userColumns + " FROM recoveries JOIN users ON users.id = recoveries.user_id WHERE recoveries.token_hash = ?"

// recoveryFields are the destinations of sqlRecovery.
func recoveryFields(r *account.Recovery, u *account.User) []any {
	return append([]any{
		&r.UserID, &r.TokenHash, (*stamp)(&r.CreatedAt), (*stamp)(&r.ExpiresAt), (*stamp)(&r.UsedAt),
	}, userFields(u)...)
}

// Recovery returns the recovery link with the hash, usable or not, and the account
// that it gives back; account.ErrNotFound when there is none.
func (db *DB) Recovery(ctx context.Context, tokenHash []byte) (account.Recovery, account.User, error) {
	var r account.Recovery
	var u account.User
	found, err := db.row(ctx, sqlRecovery, []any{blob(tokenHash)}, recoveryFields(&r, &u)...)
	switch {
	case err != nil:
		return account.Recovery{}, account.User{}, err
	case !found:
		return account.Recovery{}, account.User{}, account.ErrNotFound
	}
	return r, u, nil
}

const sqlWaiting = "SELECT " + credentialColumns + `, recoveries.network, recoveries.browser, recoveries.system
FROM credentials JOIN recoveries ON recoveries.user_id = credentials.user_id
WHERE credentials.user_id = ? AND credentials.effective_at IS NOT NULL`

// Waiting returns the passkey of the recovery of that user's account that has been
// begun and neither completed nor cancelled, and where it was begun from;
// account.ErrNotFound when there is none.
func (db *DB) Waiting(ctx context.Context, userID string) (account.Credential, audit.Client, error) {
	var c account.Credential
	var from audit.Client
	found, err := db.row(ctx, sqlWaiting, []any{userID}, append(credentialFields(&c), &from.Network, &from.Browser, &from.System)...)
	switch {
	case err != nil:
		return account.Credential{}, audit.Client{}, err
	case !found:
		return account.Credential{}, audit.Client{}, account.ErrNotFound
	}
	return c, from, nil
}

// OfferRecovery keeps a recovery link for the account of that name, in any case of
// letters, and appends the entry, of which the user becomes the actor. A link of
// before is void, and what came of it is cancelled. The recovery's UserID and
// CreatedAt are set by the store. It returns the user; account.ErrNotFound when
// there is none, account.ErrDisabled.
func (db *DB) OfferRecovery(ctx context.Context, name string, r account.Recovery, entry audit.Entry) (u account.User, err error) {
	err = db.write(ctx, func(t *tx) (err error) {
		u, err = offerRecovery(t, name, r, entry)
		return err
	})
	if err != nil {
		return account.User{}, err
	}
	return u, nil
}

const sqlOfferRecovery = `INSERT INTO recoveries (user_id, token_hash, created_at, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET token_hash = excluded.token_hash, created_at = excluded.created_at,
expires_at = excluded.expires_at, used_at = NULL, network = '', browser = '', system = ''`

func offerRecovery(t *tx, name string, r account.Recovery, entry audit.Entry) (account.User, error) {
	u, err := userNamed(t, name)
	switch {
	case err != nil:
		return u, err
	case !u.DisabledAt.IsZero():
		return u, account.ErrDisabled
	}
	// A link that takes another's place takes also what came of that.
	if _, err := cancelRecovery(t, u.ID, audit.Entry{Reason: "another link", Client: entry.Client}); err != nil {
		return u, err
	}
	if _, err := t.exec(sqlOfferRecovery, u.ID, r.TokenHash, stamp(t.now), stamp(r.ExpiresAt)); err != nil {
		return u, err
	}
	entry.Actor = u.ID
	return u, appendTrail(t, u.ID, entry)
}

// Recovering is a press on a recovery link.
type Recovering struct {
	Challenge  []byte
	Expires    time.Time          // until when the challenge is good
	TokenHash  []byte             // of the link
	Credential account.Credential // its UserID and UserHandle are set by the store; a zero CreatedAt or LastUsedAt becomes now
	Delay      time.Duration      // how long the account's people may cancel
}

const sqlUseRecovery = "UPDATE recoveries SET used_at = ?, network = ?, browser = ?, system = ? WHERE token_hash = ?"

// BeginRecovery uses the link, consumes the challenge, keeps the passkey, which
// opens the account only after the delay, and appends the entry, whose Actor and
// Credential it sets. It returns the user and the passkey as it was stored.
// Errors: passkey.ErrChallengeUsed before any other, passkey.ErrChallenge when it
// expired meanwhile, account.ErrRecovery,
// account.ErrTooMany, account.ErrCredentialExists.
func (db *DB) BeginRecovery(ctx context.Context, r Recovering, entry audit.Entry) (account.User, account.Credential, error) {
	var u account.User
	var c account.Credential
	err := db.write(ctx, func(t *tx) error {
		if err := consume(t, r.Challenge, r.Expires); err != nil {
			return err
		}
		var link account.Recovery
		found, err := t.row(sqlRecovery, []any{blob(r.TokenHash)}, recoveryFields(&link, &u)...)
		switch {
		case err != nil:
			return err
		case !found || !link.Usable(t.now):
			return account.ErrRecovery
		}
		if err := room(t, u.ID); err != nil {
			return err
		}
		if _, err := t.exec(sqlUseRecovery, stamp(t.now), entry.Client.Network, entry.Client.Browser, entry.Client.System, r.TokenHash); err != nil {
			return err
		}
		c = r.Credential
		c.UserID, c.UserHandle = u.ID, u.Handle
		c.CreatedAt, c.LastUsedAt = orNow(t, c.CreatedAt), orNow(t, c.LastUsedAt)
		c.EffectiveAt = exact(t.now.Add(r.Delay))
		if err := insertCredential(t, c); err != nil {
			return err
		}
		begun := entry
		begun.Actor, begun.Credential = u.ID, account.CredentialRef(c.ID)
		return appendTrail(t, u.ID, begun)
	})
	if err != nil {
		return account.User{}, account.Credential{}, err
	}
	return u, c, nil
}

const sqlCancelRecovery = "DELETE FROM credentials WHERE user_id = ? AND effective_at IS NOT NULL RETURNING ref"

// cancelRecovery removes the passkey of a recovery that waits and appends the
// entry, whose Kind, Actor and Credential it sets; cancelled is false, and there is
// no entry, when none waits.
func cancelRecovery(t *tx, userID string, entry audit.Entry) (cancelled bool, err error) {
	found, err := t.row(sqlCancelRecovery, []any{userID}, &entry.Credential)
	if err != nil || !found {
		return false, err
	}
	entry.Kind, entry.Actor = audit.RecoveryCancelled, userID
	return true, appendTrail(t, userID, entry)
}

const sqlCompleteRecovery = "UPDATE credentials SET effective_at = NULL WHERE ref = ?"

// completeRecovery makes the passkey with the ref one like any other and ends all
// sessions of the user but the new one. It returns the ids of those sessions, behind
// the ones given, and the entries.
func completeRecovery(t *tx, userID, ref string, s SignIn, ended []string) ([]string, []audit.Entry, error) {
	if _, err := t.exec(sqlCompleteRecovery, ref); err != nil {
		return nil, nil, err
	}
	if _, err := t.exec(sqlDeleteUserRecovery, userID); err != nil {
		return nil, nil, err
	}
	others, err := deleteSessions(t, sqlDeleteOtherSessions, userID, s.Session.ID)
	if err != nil {
		return nil, nil, err
	}
	completed := s.entry(audit.RecoveryCompleted, nil)
	completed.Credential = ref
	return append(ended, others...), append([]audit.Entry{completed}, revoked(userID, others, "recovery", s.Session.Client)...), nil
}
