package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/token"
)

// Type and Audience of the tokens.
const (
	Type     = "session+jwt"
	Audience = "bio"
)

// remembered is how many sessions are kept in memory. One that is not costs a
// signature check and the read of its row.
const remembered = 4096

// fresh is how long a row may be answered from memory: what another instance or
// the command line revokes ends here after no more than this.
const fresh = time.Second

// touchEvery is how often activity is written down.
const touchEvery = time.Minute

// Options are what a Keeper works with.
type Options struct {
	Store  Store
	Keys   *token.Keyring
	Issuer string        // the public address
	Idle   time.Duration // without activity, a session ends after this
	Max    time.Duration // and in any case after this
	Now    func() time.Time
}

// Keeper issues and checks sessions. It is safe for concurrent use.
type Keeper struct {
	Options

	mu    sync.Mutex                                // guards what follows
	known *simplelru.LRU[[sha256.Size]byte, *entry] // by the token's hash
	byID  map[string][sha256.Size]byte              // by session id
	ended uint64                                    // counts Forget: a row read across one is not kept
}

// entry is a token whose signature was verified, with the row as last read.
type entry struct {
	session Session
	user    account.User
	readAt  time.Time
}

// New makes a keeper.
func New(o Options) *Keeper {
	k := &Keeper{Options: o, byID: map[string][sha256.Size]byte{}}
	k.known, _ = simplelru.NewLRU(remembered, func(_ [sha256.Size]byte, e *entry) { delete(k.byID, e.session.ID) })
	return k
}

// Begin makes a session that starts now. It is not stored: that is part of the
// transaction of the sign-in.
func (k *Keeper) Begin(userID string, credential account.Credential, userVerified bool, client audit.Client) Session {
	id := make([]byte, 20)
	rand.Read(id)
	now := k.Now().Truncate(time.Millisecond)
	return Session{
		ID: base64.RawURLEncoding.EncodeToString(id), UserID: userID, Credential: account.CredentialRef(credential.ID),
		CreatedAt: now, SeenAt: now, AuthTime: now, ExpiresAt: now.Add(k.Max),
		UserVerified: userVerified, Client: client,
	}
}

// Claims are the session token's (RFC 7519, RFC 8176, RFC 9068 §2.2).
type Claims struct {
	jwt.RegisteredClaims
	SessionID string           `json:"sid"`
	AuthTime  *jwt.NumericDate `json:"auth_time"`
	AMR       []string         `json:"amr"`
	ACR       string           `json:"acr"`
	Verified  bool             `json:"webauthn_verified"`
}

// Token signs the token of a session that was stored, and remembers the session.
// synced says whether its passkey may live on several devices.
func (k *Keeper) Token(s Session, u account.User, synced bool) (string, error) {
	// A synced passkey is a software-secured key (RFC 8176 §2); a device-bound
	// one is claimed as hardware-secured. "phr": phishing-resistant (OpenID EAP ACR).
	amr := []string{"hwk", "user"}
	if synced {
		amr[0] = "swk"
	}
	if s.UserVerified {
		amr = append(amr, "mfa")
	}
	compact, err := k.Keys.Sign(Type, Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: k.Issuer, Subject: s.UserID, Audience: jwt.ClaimStrings{Audience},
			IssuedAt: jwt.NewNumericDate(s.CreatedAt), ExpiresAt: jwt.NewNumericDate(s.ExpiresAt),
		},
		SessionID: s.ID, AuthTime: jwt.NewNumericDate(s.AuthTime), AMR: amr, ACR: "phr", Verified: s.UserVerified,
	})
	if err != nil {
		return "", fmt.Errorf("session: sign: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// Its first check reads the row, in case it has ended since it was stored.
	k.remember(sha256.Sum256([]byte(compact)), &entry{session: s, user: u})
	return compact, nil
}

// Check says whose session a token is. The error is ErrNone for anything that is
// not a valid session, or the store's own when it cannot be asked.
func (k *Keeper) Check(ctx context.Context, compact string) (Session, account.User, error) {
	key := sha256.Sum256([]byte(compact))
	now := k.Now()

	k.mu.Lock()
	e, ok := k.known.Get(key)
	ended := k.ended
	k.mu.Unlock()

	var id string
	if ok {
		id = e.session.ID
	} else {
		var claims Claims
		want := token.Expect{Type: Type, Issuer: k.Issuer, Audience: Audience, Now: now}
		if err := k.Keys.Verify(compact, want, &claims); err != nil {
			return Session{}, account.User{}, fmt.Errorf("%w: %v", ErrNone, err)
		}
		id = claims.SessionID
	}

	if age := now.Sub(at(e)); !ok || age > fresh || age < 0 {
		s, u, err := k.Store.Session(ctx, id)
		if errors.Is(err, ErrNone) {
			k.Forget(id)
			err = ErrEnded
		}
		if err != nil {
			return Session{}, account.User{}, err
		}
		e = &entry{s, u, now}
		k.mu.Lock()
		if k.ended == ended {
			k.remember(key, e)
		}
		k.mu.Unlock()
	}

	if !now.Before(e.session.ExpiresAt) || now.Sub(e.session.SeenAt) > k.Idle {
		return Session{}, account.User{}, fmt.Errorf("%w: over", ErrNone)
	}
	if now.Sub(e.session.SeenAt) >= touchEvery {
		k.touch(ctx, key, e, now)
	}
	return e.session, e.user, nil
}

func at(e *entry) time.Time {
	if e == nil {
		return time.Time{}
	}
	return e.readAt
}

// touch writes activity down. Should the store not take it, the session is as
// valid as before and the next request tries again.
func (k *Keeper) touch(ctx context.Context, key [sha256.Size]byte, e *entry, now time.Time) {
	if k.Store.TouchSession(ctx, e.session.ID, now) != nil {
		return
	}
	moved := *e
	moved.session.SeenAt = now
	k.mu.Lock()
	defer k.mu.Unlock()
	if current, ok := k.known.Peek(key); ok && current == e {
		k.known.Add(key, &moved)
	}
}

// Holds reports whether a session that Check or Begin gave goes on, for what lasts
// longer than a request. It is not activity.
func (k *Keeper) Holds(ctx context.Context, s Session) (bool, error) {
	now := k.Now()
	k.mu.Lock()
	key, ok := k.byID[s.ID]
	var e *entry
	if ok {
		e, ok = k.known.Peek(key)
	}
	ended := k.ended
	k.mu.Unlock()

	if age := now.Sub(at(e)); !ok || age > fresh || age < 0 {
		read, u, err := k.Store.Session(ctx, s.ID)
		if errors.Is(err, ErrNone) {
			k.Forget(s.ID)
			return false, nil
		}
		if err != nil {
			return false, err
		}
		s = read
		k.mu.Lock()
		if ok && k.ended == ended {
			k.remember(key, &entry{read, u, now})
		}
		k.mu.Unlock()
	}
	return now.Before(s.ExpiresAt), nil
}

// End ends a session and records the entry. It takes effect here at once; ending
// one that has ended already is not an error.
func (k *Keeper) End(ctx context.Context, id string, record audit.Entry) error {
	err := k.Store.EndSession(ctx, id, record)
	if errors.Is(err, ErrNone) {
		err = nil
	}
	if err == nil {
		k.Forget(id)
	}
	return err
}

// Forget drops a session that the store has removed from memory.
func (k *Keeper) Forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended++
	if key, ok := k.byID[id]; ok {
		k.known.Remove(key)
	}
}

// remember keeps the entry; mu is held.
func (k *Keeper) remember(key [sha256.Size]byte, e *entry) {
	k.known.Add(key, e)
	k.byID[e.session.ID] = key
}
