package store

import (
	"context"

	"bio/app/account"
)

const userColumns = "users.id, users.handle, users.name, users.groups, users.created_at"

// userFields are the destinations of userColumns.
func userFields(u *account.User) []any {
	return []any{&u.ID, &u.Handle, &u.Name, (*list)(&u.Groups), (*stamp)(&u.CreatedAt)}
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
			return name, nil
		}
	}
	return "", ErrNamesTaken
}

const sqlSetGroups = "UPDATE users SET groups = ? WHERE id = ?"

// addGroups makes u a member of groups.
func addGroups(t *tx, u *account.User, groups []string) error {
	all := union(u.Groups, groups)
	if len(all) == len(u.Groups) {
		return nil
	}
	u.Groups = all
	_, err := t.exec(sqlSetGroups, list(all), u.ID)
	return err
}

const (
	sqlDuplicate = "SELECT " + userColumns + ` FROM users WHERE id = ? AND created_at BETWEEN ? AND ? AND groups = '[]'
AND (SELECT count(*) FROM credentials WHERE user_id = users.id) = 1`
	sqlDeleteUserSessions    = "DELETE FROM sessions WHERE user_id = ? RETURNING id"
	sqlDeleteUserCredentials = "DELETE FROM credentials WHERE user_id = ?"
	sqlDeleteUser            = "DELETE FROM users WHERE id = ?"
)

// removeDuplicate removes the user that s names in Undo, when it is as young
// and as empty as it must be, and reports whether it was, and the ids of the
// sessions that went with it.
func removeDuplicate(t *tx, s SignIn) (u account.User, removed bool, ended []string, err error) {
	found, err := t.row(sqlDuplicate, []any{s.Undo, stamp(s.UndoAfter), stamp(t.now)}, userFields(&u)...)
	if err != nil || !found {
		return account.User{}, false, nil, err
	}
	err = t.rows(sqlDeleteUserSessions, []any{u.ID}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ended = append(ended, id)
		return err
	})
	for _, query := range []string{sqlDeleteUserCredentials, sqlDeleteUser} {
		if err == nil {
			_, err = t.exec(query, u.ID)
		}
	}
	if err != nil {
		return account.User{}, false, nil, err
	}
	return u, true, ended, nil
}
