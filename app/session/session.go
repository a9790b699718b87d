// Package session issues, checks, renews and revokes sessions. A session is a
// signed token in a cookie and a row in the store; both must hold, and the row
// is the allowlist.
package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bio/app/account"
	"bio/app/audit"
)

// Most is how many sessions one account has: of more, those that were seen longest
// ago end within a minute.
const Most = 1000

var (
	// ErrNone says that the request is signed out: there is no valid session,
	// whatever is wrong with the token.
	ErrNone = errors.New("session: none")
	// ErrEnded is the ErrNone of a session that was ended before its time, perhaps
	// because another one has taken its place.
	ErrEnded = fmt.Errorf("%w: ended", ErrNone)
	// ErrStale says that the passkey was last used in the session too long ago
	// for what is asked: press Auth again.
	ErrStale = errors.New("session: the proof is too old")
)

// Session is one signed-in browser.
type Session struct {
	ID           string // 128 random bits or more, base64url
	UserID       string
	Credential   string // account.CredentialRef of the passkey that opened it
	CreatedAt    time.Time
	SeenAt       time.Time // last activity, exact to a minute
	ExpiresAt    time.Time // the hard cap, never moved
	AuthTime     time.Time // when the passkey was last used in it
	UserVerified bool      // whether the authenticator verified the user
	Client       audit.Client
}

// Store keeps the sessions.
type Store interface {
	// Session returns the session and its user; ErrNone when there is no such row.
	Session(ctx context.Context, id string) (Session, account.User, error)
	// TouchSession moves SeenAt forward to at, never back; it is bookkeeping of
	// a session that exists, not an act, and leaves no entry.
	TouchSession(ctx context.Context, id string, at time.Time) error
	// EndSession removes the session and records the entry; ErrNone, and no
	// entry, when it has already gone.
	EndSession(ctx context.Context, id string, entry audit.Entry) error
}
