package store

import (
	"context"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
)

var _ session.Store = (*DB)(nil)

const sqlSession = `SELECT sessions.id, sessions.user_id, sessions.credential, sessions.created_at, sessions.seen_at,
sessions.expires_at, sessions.auth_time, sessions.user_verified, sessions.network, sessions.browser, sessions.system, ` +
	userColumns + " FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = ?"

// sessionFields are the destinations of sqlSession.
func sessionFields(s *session.Session, u *account.User) []any {
	return append([]any{
		&s.ID, &s.UserID, &s.Credential, (*stamp)(&s.CreatedAt), (*stamp)(&s.SeenAt),
		(*stamp)(&s.ExpiresAt), (*stamp)(&s.AuthTime), &s.UserVerified,
		&s.Client.Network, &s.Client.Browser, &s.Client.System,
	}, userFields(u)...)
}

// Session returns the session with the id and its user, whether or not it has
// expired; session.ErrNone when there is no such row.
func (db *DB) Session(ctx context.Context, id string) (session.Session, account.User, error) {
	var s session.Session
	var u account.User
	found, err := db.row(ctx, sqlSession, []any{id}, sessionFields(&s, &u)...)
	switch {
	case err != nil:
		return session.Session{}, account.User{}, err
	case !found:
		return session.Session{}, account.User{}, session.ErrNone
	}
	return s, u, nil
}

// proven returns the user of a session that has neither ended nor reached its cap
// and whose passkey was used at the time since or later; session.ErrNone,
// session.ErrStale. The zero time is a caller's mistake and too late for anyone.
func proven(t *tx, id string, since time.Time) (account.User, error) {
	var s session.Session
	var u account.User
	found, err := t.row(sqlSession, []any{id}, sessionFields(&s, &u)...)
	switch {
	case err != nil:
		return account.User{}, err
	case !found || !t.now.Before(s.ExpiresAt):
		return account.User{}, session.ErrNone
	case since.IsZero() || s.AuthTime.Before(exact(since)):
		return account.User{}, session.ErrStale
	}
	return u, nil
}

const sqlInsertSession = `INSERT INTO sessions (id, user_id, credential, created_at, seen_at, expires_at, auth_time,
user_verified, network, browser, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func insertSession(t *tx, s session.Session) error {
	_, err := t.exec(sqlInsertSession, s.ID, s.UserID, s.Credential, stamp(s.CreatedAt), stamp(s.SeenAt),
		stamp(s.ExpiresAt), stamp(s.AuthTime), s.UserVerified, s.Client.Network, s.Client.Browser, s.Client.System)
	return err
}

const sqlTouchSession = "UPDATE sessions SET seen_at = ?1 WHERE id = ?2 AND seen_at < ?1"

// TouchSession moves the session's SeenAt forward to at, never back. A session
// that has gone is no error. It is no act and leaves no entry.
func (db *DB) TouchSession(ctx context.Context, id string, at time.Time) error {
	return db.write(ctx, func(t *tx) error {
		_, err := t.exec(sqlTouchSession, stamp(at), id)
		return err
	})
}

// EndSession removes the session; session.ErrNone, and no entry, when it has
// already gone. An entry without an actor gets the session's user.
func (db *DB) EndSession(ctx context.Context, id string, entry audit.Entry) error {
	return db.write(ctx, func(t *tx) error {
		s, found, err := deleteSession(t, id)
		if err != nil {
			return err
		}
		if !found {
			return session.ErrNone
		}
		return appendTrail(t, s.UserID, entry)
	})
}

const sqlDeleteSession = "DELETE FROM sessions WHERE id = ? RETURNING user_id, credential"

// deleteSession removes a session and returns its ids.
func deleteSession(t *tx, id string) (s session.Session, found bool, err error) {
	s.ID = id
	found, err = t.row(sqlDeleteSession, []any{id}, &s.UserID, &s.Credential)
	return s, found, err
}

const sqlDeleteCredentialSessions = "DELETE FROM sessions WHERE credential = ? RETURNING id"

// revokeSessions removes the sessions that a passkey opened and returns their ids.
func revokeSessions(t *tx, credential string) (ended []string, err error) {
	err = t.rows(sqlDeleteCredentialSessions, []any{credential}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ended = append(ended, id)
		return err
	})
	return ended, err
}

// Each batch of ExpireSessions is one unit, small enough that a sign-in that
// waits behind it does not notice.
const expireBatch = 100

// clockStep is how far back a clock may be set without a consumed challenge that
// was forgotten becoming valid again.
const clockStep = time.Hour

const (
	sqlExpired = `SELECT id, expires_at FROM sessions WHERE expires_at <= ?1 OR seen_at <= ?2 LIMIT ?3`

	sqlDeleteChallenges = `DELETE FROM challenges WHERE challenge IN
(SELECT challenge FROM challenges WHERE expires_at < ? LIMIT ?)`
)

// ExpireSessions removes the sessions that have reached their cap or were idle
// for the time given, each with its entry, and returns how many. It also
// forgets the consumed challenges that have expired, and empties the WAL of what
// is no longer in the database. It goes in small batches: on an error those
// before it are done, and counted.
func (db *DB) ExpireSessions(ctx context.Context, idle time.Duration) (int, error) {
	total := 0
	for {
		n := 0
		err := db.write(ctx, func(t *tx) (err error) {
			n, err = expire(t, idle)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < expireBatch {
			break
		}
	}
	for {
		var n int64
		err := db.write(ctx, func(t *tx) (err error) {
			n, err = t.exec(sqlDeleteChallenges, stamp(t.now.Add(-clockStep)), expireBatch)
			return err
		})
		if err != nil {
			return total, err
		}
		if n < expireBatch {
			_, err := db.scrub(ctx)
			return total, err
		}
	}
}

// expire removes one batch of sessions.
func expire(t *tx, idle time.Duration) (int, error) {
	var expired []audit.Entry
	var ids []string
	err := t.rows(sqlExpired, []any{stamp(t.now), stamp(t.now.Add(-idle)), expireBatch}, func(scan func(...any) error) error {
		var id string
		var expires time.Time
		if err := scan(&id, (*stamp)(&expires)); err != nil {
			return err
		}
		reason := "idle"
		if !t.now.Before(expires) {
			reason = "cap"
		}
		ids = append(ids, id)
		expired = append(expired, audit.Entry{Kind: audit.SessionExpired, Session: id, Reason: reason})
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i, id := range ids {
		s, _, err := deleteSession(t, id)
		if err != nil {
			return 0, err
		}
		expired[i].Actor, expired[i].Credential = s.UserID, s.Credential
	}
	return len(ids), appendTrail(t, "", expired...)
}
