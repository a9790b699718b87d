package store

import (
	"context"

	"bio/app/account"
	"bio/app/audit"
)

const userColumns = "users.id, users.handle, users.name, users.groups, users.created_at, users.disabled_at"

// userFields are the destinations of userColumns.
func userFields(u *account.User) []any {
	return []any{&u.ID, &u.Handle, &u.Name, (*list)(&u.Groups), (*stamp)(&u.CreatedAt), (*stamp)(&u.DisabledAt)}
}

const sqlUser = "SELECT " + userColumns + " FROM users WHERE id = ?"

// User returns the user with the id; account.ErrNotFound when there is none.
func (db *DB) User(ctx context.Context, id string) (account.User, error) {
	var u account.User
	found, err := db.row(ctx, sqlUser, []any{id}, userFields(&u)...)
	switch {
	case err != nil:
		return account.User{}, err
	case !found:
		return account.User{}, account.ErrNotFound
	}
	return u, nil
}

// UserNamed returns the user of that name, in any case of letters;
// account.ErrNotFound when there is none.
func (db *DB) UserNamed(ctx context.Context, name string) (account.User, error) {
	var u account.User
	found, err := db.row(ctx, sqlUserNamed, []any{name}, userFields(&u)...)
	switch {
	case err != nil:
		return account.User{}, err
	case !found:
		return account.User{}, account.ErrNotFound
	}
	return u, nil
}

const sqlInsertUser = `INSERT INTO users (id, handle, name, groups, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO NOTHING`

// insertUser inserts u under the first of names that is free, and returns it.
func insertUser(t *tx, u account.User, names []string) (string, error) {
	for _, name := range names {
		n, err := t.exec(sqlInsertUser, u.ID, u.Handle, name, list(u.Groups), stamp(u.CreatedAt))
		if err != nil {
			return "", err
		}
		if n == 1 {
			return name, newKey(t, u.ID)
		}
	}
	return "", ErrNamesTaken
}

const sqlSetGroups = "UPDATE users SET groups = ? WHERE id = ?"

// addGroups makes u a member of groups; account.ErrInvitation when these are too many.
func addGroups(t *tx, u *account.User, groups []string) error {
	all := union(u.Groups, groups)
	switch {
	case len(all) == len(u.Groups):
		return nil
	case len(all) > account.MaxGroups:
		return account.ErrInvitation
	}
	u.Groups = all
	_, err := t.exec(sqlSetGroups, list(all), u.ID)
	return err
}

const sqlDuplicate = "SELECT " + userColumns + ` FROM users WHERE id = ? AND created_at BETWEEN ? AND ? AND groups = '[]'
AND (SELECT count(*) FROM credentials WHERE user_id = users.id) = 1`

// duplicate returns the user that s names in Undo, and whether it is as young and
// as empty as it must be to be removed.
func duplicate(t *tx, s SignIn) (u account.User, found bool, err error) {
	found, err = t.row(sqlDuplicate, []any{s.Undo, stamp(s.UndoAfter), stamp(t.now)}, userFields(&u)...)
	if err != nil || !found {
		return account.User{}, false, err
	}
	return u, true, nil
}

// Erasure names the user to be erased, in any case of letters.
type Erasure struct {
	Name      string
	LastOwner bool // even if nobody else is an owner
}

// EraseUser removes the user with passkeys, sessions, runs, what agents keep of
// them, and all that the trail says of them but the leaves, and appends the entry,
// whose Subject becomes the user. It returns the user as it was;
// account.ErrNotFound when there is none, account.ErrLastOwner. When clean is false,
// a reader holds what was erased in the WAL: it goes with the next ExpireSessions.
func (db *DB) EraseUser(ctx context.Context, e Erasure, entry audit.Entry) (u account.User, clean bool, err error) {
	err = db.write(ctx, func(t *tx) error {
		if u, err = userNamed(t, e.Name); err != nil {
			return err
		}
		if !e.LastOwner {
			if err := anotherOwner(t, u); err != nil {
				return err
			}
		}
		_, err = removeUser(t, u.ID, entry)
		return err
	})
	if err != nil {
		return account.User{}, false, err
	}
	clean, scrubbed := db.scrub(ctx) // or ExpireSessions will: the user is erased either way
	return u, clean && scrubbed == nil, nil
}

const (
	sqlUserNamed  = "SELECT " + userColumns + " FROM users WHERE name = ?"
	sqlOtherOwner = `SELECT EXISTS (SELECT 1 FROM users, json_each(groups)
WHERE users.id <> ? AND json_each.value = ? AND users.disabled_at IS NULL)`
)

// userNamed returns the user of that name, in any case of letters;
// account.ErrNotFound when there is none.
func userNamed(t *tx, name string) (u account.User, err error) {
	found, err := t.row(sqlUserNamed, []any{name}, userFields(&u)...)
	if err == nil && !found {
		err = account.ErrNotFound
	}
	return u, err
}

// anotherOwner is account.ErrLastOwner when u is an owner, and nobody else is one
// who can sign in.
func anotherOwner(t *tx, u account.User) error {
	if !u.In(account.Owner) {
		return nil
	}
	var other bool
	_, err := t.row(sqlOtherOwner, []any{u.ID, account.Owner}, &other)
	if err == nil && !other {
		err = account.ErrLastOwner
	}
	return err
}

const (
	sqlDeleteUserSessions    = "DELETE FROM sessions WHERE user_id = ? RETURNING id"
	sqlDeleteUserRecovery    = "DELETE FROM recoveries WHERE user_id = ?"
	sqlDeleteUserCredentials = "DELETE FROM credentials WHERE user_id = ?"
	sqlDeleteUser            = "DELETE FROM users WHERE id = ?"
)

// removeUser removes a user and all that is theirs, and appends the entry, of
// which the user becomes the subject. It returns the ids of their sessions.
func removeUser(t *tx, id string, entry audit.Entry) (ended []string, err error) {
	// First, while there is the key that gives the leaf its subject.
	entry.Subject = id
	if err := appendTrail(t, "", entry); err != nil {
		return nil, err
	}
	ended, err = deleteSessions(t, sqlDeleteUserSessions, id)
	for _, query := range []string{
		sqlDeleteUserRunEvents, sqlDeleteUserRuns, sqlDeleteUserMemory,
		sqlDeleteUserRecovery, sqlDeleteUserCredentials, sqlDeleteUser, sqlDropKey, sqlDropPayloads,
	} {
		if err == nil {
			_, err = t.exec(query, id)
		}
	}
	return ended, err
}
