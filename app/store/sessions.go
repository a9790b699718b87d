package store

import (
	"context"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
)

var _ session.Store = (*DB)(nil)

const sessionColumns = `sessions.id, sessions.user_id, sessions.credential, sessions.created_at, sessions.seen_at,
sessions.expires_at, sessions.auth_time, sessions.user_verified, sessions.network, sessions.browser, sessions.system`

// sessionFields are the destinations of sessionColumns.
func sessionFields(s *session.Session) []any {
	return []any{
		&s.ID, &s.UserID, &s.Credential, (*stamp)(&s.CreatedAt), (*stamp)(&s.SeenAt),
		(*stamp)(&s.ExpiresAt), (*stamp)(&s.AuthTime), &s.UserVerified,
		&s.Client.Network, &s.Client.Browser, &s.Client.System,
	}
}

const sqlSession = "SELECT " + sessionColumns + ", " + userColumns +
	" FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = ?"

// Session returns the session with the id and its user, whether or not it has
// expired; session.ErrNone when there is no such row.
func (db *DB) Session(ctx context.Context, id string) (session.Session, account.User, error) {
	var s session.Session
	var u account.User
	found, err := db.row(ctx, sqlSession, []any{id}, append(sessionFields(&s), userFields(&u)...)...)
	switch {
	case err != nil:
		return session.Session{}, account.User{}, err
	case !found:
		return session.Session{}, account.User{}, session.ErrNone
	}
	return s, u, nil
}

// The unary plus keeps the planner from the indexes over everyone's sessions.
const sqlSessions = "SELECT " + sessionColumns + ` FROM sessions
WHERE user_id = ?1 AND +expires_at > ?2 AND +seen_at > ?3`

// Sessions returns the user's sessions that at the time now are neither at their
// cap nor idle for the time given, in no order.
func (db *DB) Sessions(ctx context.Context, userID string, now time.Time, idle time.Duration) ([]session.Session, error) {
	var all []session.Session
	err := db.rows(ctx, sqlSessions, []any{userID, stamp(now), stamp(now.Add(-idle))}, func(scan func(...any) error) error {
		var s session.Session
		if err := scan(sessionFields(&s)...); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// proven returns the user of a session that has neither ended nor reached its cap
// and whose passkey was used at the time since or later; session.ErrNone,
// session.ErrStale. The zero time is a caller's mistake and too late for anyone.
func proven(t *tx, id string, since time.Time) (account.User, error) {
	s, u, err := openSession(t, id)
	switch {
	case err != nil:
		return account.User{}, err
	case since.IsZero() || s.AuthTime.Before(exact(since)):
		return account.User{}, session.ErrStale
	}
	return u, nil
}

// openSession returns a session that has neither ended nor reached its cap, and
// its user; session.ErrNone.
func openSession(t *tx, id string) (s session.Session, u account.User, err error) {
	found, err := t.row(sqlSession, []any{id}, append(sessionFields(&s), userFields(&u)...)...)
	if err == nil && (!found || !t.now.Before(s.ExpiresAt)) {
		err = session.ErrNone
	}
	return s, u, err
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

const (
	sqlDeleteCredentialSessions = "DELETE FROM sessions WHERE credential = ? RETURNING id"
	sqlDeleteOtherSessions      = "DELETE FROM sessions WHERE user_id = ? AND id <> ? RETURNING id"
)

// deleteSessions removes the sessions that the query does and returns their ids.
func deleteSessions(t *tx, query string, args ...any) (ended []string, err error) {
	err = t.rows(query, args, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ended = append(ended, id)
		return err
	})
	return ended, err
}

// revoked are the entries of sessions of a user that were ended.
func revoked(userID string, ended []string, reason string, client audit.Client) []audit.Entry {
	entries := make([]audit.Entry, len(ended))
	for i, id := range ended {
		entries[i] = audit.Entry{Kind: audit.SessionRevoked, Actor: userID, Session: id, Reason: reason, Client: client}
	}
	return entries
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
// for the time given, and those that were seen longest ago of an account with more
// than session.Most, each with its entry, and returns how many. It also
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
	n, err := db.thin(ctx)
	if total += n; err != nil {
		return total, err
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

const (
	sqlCrowded       = "SELECT user_id FROM sessions GROUP BY user_id HAVING count(*) > ?"
	sqlCountSessions = "SELECT count(*) FROM sessions WHERE user_id = ?"
	sqlDeleteOldest  = `DELETE FROM sessions WHERE id IN
(SELECT id FROM sessions WHERE user_id = ? ORDER BY seen_at, id LIMIT ?) RETURNING id`
)

// thin removes the sessions that are too many of one account, which is here and not
// in the sign-in, where it would cost every one of them. It returns how many.
func (db *DB) thin(ctx context.Context) (int, error) {
	var crowded []string
	err := db.rows(ctx, sqlCrowded, []any{session.Most}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		crowded = append(crowded, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	total := 0
	for _, userID := range crowded {
		for more := true; more; {
			ended := 0
			err := db.write(ctx, func(t *tx) error {
				var n int
				if _, err := t.row(sqlCountSessions, []any{userID}, &n); err != nil {
					return err
				}
				ids, err := deleteSessions(t, sqlDeleteOldest, userID, min(max(n-session.Most, 0), expireBatch))
				if err != nil {
					return err
				}
				ended = len(ids)
				return appendTrail(t, userID, revoked(userID, ids, "too many", audit.Client{})...)
			})
			if err != nil {
				return total, err
			}
			total, more = total+ended, ended == expireBatch
		}
	}
	return total, nil
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
