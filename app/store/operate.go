package store

import (
	"context"
	"strings"
	"time"

	"bio/app/account"
	"bio/app/audit"
)

// What an operator does to accounts. Names are taken in any case of letters; a
// running server notices within its session.Keeper's time.

// Listed is an account as a list of all has it.
type Listed struct {
	account.User
	Passkeys   int
	LastUsedAt time.Time // of any of its passkeys
	Recovering bool      // a recovery waits
}

const sqlUsers = "SELECT " + userColumns + `, (SELECT count(*) FROM credentials WHERE user_id = users.id AND effective_at IS NULL),
(SELECT max(last_used_at) FROM credentials WHERE user_id = users.id AND effective_at IS NULL),
EXISTS (SELECT 1 FROM credentials WHERE user_id = users.id AND effective_at IS NOT NULL) FROM users ORDER BY name`

// Users calls each with every account, by name, until it returns an error.
func (db *DB) Users(ctx context.Context, each func(Listed) error) error {
	return db.rows(ctx, sqlUsers, nil, func(scan func(...any) error) error {
		var u Listed
		if err := scan(append(userFields(&u.User), &u.Passkeys, (*stamp)(&u.LastUsedAt), &u.Recovering)...); err != nil {
			return err
		}
		return each(u)
	})
}

const sqlSetDisabled = "UPDATE users SET disabled_at = ? WHERE id = ?"

// DisableUser ends all sessions of the account, voids a recovery link and what came
// of it, and lets nobody sign in to it; it appends the entry and one of audit.SessionRevoked for each session. It returns
// the user and the ids of those sessions; account.ErrNotFound, account.ErrLastOwner
// unless lastOwner is set. One that is disabled already is left as it is, with no
// entry.
func (db *DB) DisableUser(ctx context.Context, name string, lastOwner bool, entry audit.Entry) (u account.User, ended []string, err error) {
	err = db.write(ctx, func(t *tx) error {
		ended = nil
		if u, err = userNamed(t, name); err != nil || !u.DisabledAt.IsZero() {
			return err
		}
		if !lastOwner {
			if err := anotherOwner(t, u); err != nil {
				return err
			}
		}
		u.DisabledAt = exact(t.now)
		if _, err := t.exec(sqlSetDisabled, stamp(t.now), u.ID); err != nil {
			return err
		}
		if ended, err = deleteSessions(t, sqlDeleteUserSessions, u.ID); err != nil {
			return err
		}
		// Nobody could cancel a recovery meanwhile.
		if _, err := cancelRecovery(t, u.ID, audit.Entry{Reason: "account disabled"}); err != nil {
			return err
		}
		if _, err := t.exec(sqlDeleteUserRecovery, u.ID); err != nil {
			return err
		}
		return appendTrail(t, u.ID, append([]audit.Entry{entry}, revoked(u.ID, ended, "account disabled", entry.Client)...)...)
	})
	if err != nil {
		return account.User{}, nil, err
	}
	return u, ended, nil
}

// EnableUser lets its people sign in to the account again, and appends the entry.
// It returns the user; account.ErrNotFound. One that is not disabled is left as it
// is, with no entry.
func (db *DB) EnableUser(ctx context.Context, name string, entry audit.Entry) (u account.User, err error) {
	err = db.write(ctx, func(t *tx) error {
		if u, err = userNamed(t, name); err != nil || u.DisabledAt.IsZero() {
			return err
		}
		u.DisabledAt = time.Time{}
		if _, err := t.exec(sqlSetDisabled, nil, u.ID); err != nil {
			return err
		}
		return appendTrail(t, u.ID, entry)
	})
	if err != nil {
		return account.User{}, err
	}
	return u, nil
}

// SetGroups makes the user a member of these groups and of no other, and appends
// the entry with what they were and are. It returns the user; account.ErrNotFound,
// account.ErrLastOwner unless lastOwner is set. Groups that are so already are no
// act.
func (db *DB) SetGroups(ctx context.Context, name string, groups []string, lastOwner bool, entry audit.Entry) (u account.User, err error) {
	err = db.write(ctx, func(t *tx) error {
		if u, err = userNamed(t, name); err != nil {
			return err
		}
		was := strings.Join(u.Groups, " ")
		after := u
		after.Groups = union(groups, nil)
		is := strings.Join(after.Groups, " ")
		if is == was {
			return nil
		}
		if !lastOwner && !after.In(account.Owner) {
			if err := anotherOwner(t, u); err != nil {
				return err
			}
		}
		u = after
		if _, err := t.exec(sqlSetGroups, list(u.Groups), u.ID); err != nil {
			return err
		}
		set := entry
		set.Detail = map[string]string{"were": was, "are": is}
		return appendTrail(t, u.ID, set)
	})
	if err != nil {
		return account.User{}, err
	}
	return u, nil
}

// RevokeSessions ends all sessions of the account and appends an entry of
// audit.SessionRevoked for each. It returns the user and how many they were;
// account.ErrNotFound.
func (db *DB) RevokeSessions(ctx context.Context, name, reason string) (u account.User, ended int, err error) {
	err = db.write(ctx, func(t *tx) error {
		if u, err = userNamed(t, name); err != nil {
			return err
		}
		ids, err := deleteSessions(t, sqlDeleteUserSessions, u.ID)
		if err != nil {
			return err
		}
		ended = len(ids)
		return appendTrail(t, u.ID, revoked(u.ID, ids, reason, audit.Client{})...)
	})
	if err != nil {
		return account.User{}, 0, err
	}
	return u, ended, nil
}

const sqlAnySessions = "SELECT id, user_id FROM sessions LIMIT ?"

// RevokeAllSessions ends every session of everybody, in small batches, each with
// its entry, and returns how many. On an error those before it have ended, and are
// counted.
func (db *DB) RevokeAllSessions(ctx context.Context, reason string) (int, error) {
	for total := 0; ; {
		n := 0
		err := db.write(ctx, func(t *tx) error {
			var entries []audit.Entry
			err := t.rows(sqlAnySessions, []any{expireBatch}, func(scan func(...any) error) error {
				e := audit.Entry{Kind: audit.SessionRevoked, Reason: reason}
				err := scan(&e.Session, &e.Actor)
				entries = append(entries, e)
				return err
			})
			if err != nil {
				return err
			}
			for _, e := range entries {
				if _, _, err := deleteSession(t, e.Session); err != nil {
					return err
				}
			}
			n = len(entries)
			return appendTrail(t, "", entries...)
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < expireBatch {
			return total, nil
		}
	}
}
