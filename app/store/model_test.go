package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
)

// model is the store as simply as it can be said.
type model struct {
	users       map[string]account.User       // by id
	credentials map[string]account.Credential // by id
	sessions    map[string]session.Session    // by id
	challenges  map[string]bool
	invitations map[string]account.Invitation // by hash
	trail       int                           // how many records
}

func (m *model) nameTaken(name string) bool {
	for _, u := range m.users {
		if u.Name == name {
			return true
		}
	}
	return false
}

// owned gives the ids of a user's credentials, sorted.
func (m *model) owned(userID string) (ids []string) {
	for id, c := range m.credentials {
		if c.UserID == userID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *model) passkeys(userID string) int { return len(m.owned(userID)) }

// asks gives the session that asks for something that needs a proof, or why it
// cannot.
func (m *model) asks(id string, since, now time.Time) (session.Session, error) {
	s, ok := m.sessions[id]
	switch {
	case !ok || !now.Before(s.ExpiresAt):
		return session.Session{}, session.ErrNone
	case s.AuthTime.Before(since):
		return session.Session{}, session.ErrStale
	}
	return s, nil
}

// use marks an invitation as used and gives its groups.
func (m *model) use(hash []byte, now time.Time) []string {
	if hash == nil {
		return nil
	}
	i := m.invitations[string(hash)]
	i.UsedAt = now
	m.invitations[string(hash)] = i
	m.trail++
	return i.Groups
}

func (m *model) usable(hash []byte, now time.Time) bool {
	i, ok := m.invitations[string(hash)]
	return hash == nil || ok && i.Usable(now)
}

func (m *model) open(p Press, userID, credential string) {
	if _, ok := m.sessions[p.Replaces]; ok {
		delete(m.sessions, p.Replaces)
		m.trail++
	}
	p.Session.UserID, p.Session.Credential = userID, credential
	m.sessions[p.Session.ID] = p.Session
}

// TestModel drives the store and the model with the same random acts, compares
// what they answer, and checks everything that must hold after each of them.
func TestModel(t *testing.T) {
	const idle = 2 * time.Hour
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		c := newClock()
		db, err := Open(t.Context(), "file:"+dir+"/bio.db", c.Now)
		if err != nil {
			rt.Fatal(err)
		}
		defer db.Close()
		ctx := t.Context()
		m := &model{
			users: map[string]account.User{}, credentials: map[string]account.Credential{}, sessions: map[string]session.Session{},
			challenges: map[string]bool{}, invitations: map[string]account.Invitation{},
		}
		fresh := 0
		seed := func() string { fresh++; return fmt.Sprint(fresh) }
		// some draws one that exists, or one that does not.
		some := func(label string, keys []string) string {
			slices.Sort(keys)
			return rapid.SampledFrom(append(keys, "unknown")).Draw(rt, label)
		}
		sessions := func() []string { return slices.Collect(maps.Keys(m.sessions)) }
		vary := func(p *Press) {
			if rapid.IntRange(0, 4).Draw(rt, "reuse challenge") == 0 {
				p.Challenge = []byte(some("challenge", slices.Collect(maps.Keys(m.challenges))))
			}
			if rapid.IntRange(0, 9).Draw(rt, "old challenge") == 0 {
				p.Expires = c.Now().Add(-time.Second)
			}
			if rapid.Bool().Draw(rt, "replaces") {
				p.Replaces = some("session", sessions())
			}
			if rapid.IntRange(0, 2).Draw(rt, "invited") == 0 {
				p.Invitation = []byte(some("invitation", slices.Collect(maps.Keys(m.invitations))))
			}
		}
		same := func(err, want error) {
			rt.Helper()
			if !errors.Is(err, want) {
				rt.Fatalf("got error %v, want %v", err, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				r := registration(s, now)
				vary(&r.Press)
				r.Names = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 4).Draw(rt, "names")
				if rapid.IntRange(0, 5).Draw(rt, "same credential") == 0 {
					r.Credential.ID = []byte(some("credential", slices.Collect(maps.Keys(m.credentials))))
				}
				free := slices.IndexFunc(r.Names, func(n string) bool { return !m.nameTaken(n) })
				e := registered(s)
				e.Credential = account.CredentialRef(r.Credential.ID)
				user, err := db.Register(ctx, r, e)
				_, exists := m.credentials[string(r.Credential.ID)]
				switch {
				case m.challenges[string(r.Challenge)]:
					same(err, passkey.ErrChallengeUsed)
				case now.After(r.Expires):
					same(err, passkey.ErrChallenge)
				case !m.usable(r.Invitation, now):
					same(err, account.ErrInvitation)
				case free < 0:
					same(err, ErrNamesTaken)
				case exists:
					same(err, account.ErrCredentialExists)
				default:
					same(err, nil)
					m.challenges[string(r.Challenge)] = true
					m.trail++
					u := r.User
					u.Name, u.CreatedAt, u.Groups = r.Names[free], now, union(m.use(r.Invitation, now), nil)
					if diff := cmp.Diff(u, user); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
					k := r.Credential
					k.UserID, k.UserHandle, k.CreatedAt, k.LastUsedAt = u.ID, u.Handle, now, now
					m.users[u.ID], m.credentials[string(k.ID)] = u, k
					m.open(r.Press, u.ID, account.CredentialRef(k.ID))
				}
			},
			"sign in": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				id := some("credential", slices.Collect(maps.Keys(m.credentials)))
				known, exists := m.credentials[id]
				in := signIn(s, account.Credential{ID: []byte(id), Flags: rapid.Byte().Draw(rt, "flags"), SignCount: rapid.Uint32Max(9).Draw(rt, "count")}, now)
				vary(&in.Press)
				if rapid.Bool().Draw(rt, "undo") {
					in.Undo = some("user", slices.Collect(maps.Keys(m.users)))
					in.UndoAfter = now.Add(-10 * time.Minute)
				}
				out, err := db.SignIn(ctx, in, signedIn(s))
				switch {
				case m.challenges[string(in.Challenge)]:
					same(err, passkey.ErrChallengeUsed)
				case now.After(in.Expires):
					same(err, passkey.ErrChallenge)
				case !exists:
					same(err, account.ErrNotFound)
				case !known.BackupEligible() && in.Credential.SignCount <= known.SignCount && in.Credential.SignCount+known.SignCount > 0:
					same(err, passkey.ErrRefused)
				case !m.usable(in.Invitation, now):
					same(err, account.ErrInvitation)
				case in.Undo != "" && in.Undo != known.UserID && in.Replaces != "" && m.sessions[in.Replaces].UserID != in.Undo:
					same(err, session.ErrNone)
				default:
					same(err, nil)
					m.challenges[string(in.Challenge)] = true
					m.trail++
					want := SignedIn{}
					if _, ok := m.sessions[in.Replaces]; ok {
						want.Ended = append(want.Ended, in.Replaces)
					}
					known.Flags, known.SignCount, known.LastUsedAt = in.Credential.Flags, max(known.SignCount, in.Credential.SignCount), now
					m.credentials[id] = known
					u := m.users[known.UserID]
					u.Groups = union(u.Groups, m.use(in.Invitation, now))
					m.open(in.Press, u.ID, account.CredentialRef(known.ID))
					dup, ok := m.users[in.Undo]
					if ok && dup.ID != u.ID && !dup.CreatedAt.Before(in.UndoAfter) && m.passkeys(dup.ID) == 1 && len(dup.Groups) == 0 {
						want.Removed, want.RemovedUser = true, dup
						m.trail++
						delete(m.users, dup.ID)
						maps.DeleteFunc(m.credentials, func(_ string, k account.Credential) bool { return k.UserID == dup.ID })
						maps.DeleteFunc(m.sessions, func(id string, s session.Session) bool {
							if s.UserID == dup.ID {
								want.Ended = append(want.Ended, id)
							}
							return s.UserID == dup.ID
						})
					}
					m.users[u.ID], want.User = u, u
					slices.Sort(want.Ended)
					slices.Sort(out.Ended)
					if diff := cmp.Diff(want, out); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
			},
			"add": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				a := addition(s, some("session", sessions()), now)
				a.Proven = now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(rt, "minutes")) * time.Minute)
				if rapid.IntRange(0, 4).Draw(rt, "reuse challenge") == 0 {
					a.Challenge = []byte(some("challenge", slices.Collect(maps.Keys(m.challenges))))
				}
				if rapid.IntRange(0, 9).Draw(rt, "old challenge") == 0 {
					a.Expires = now.Add(-time.Second)
				}
				if rapid.IntRange(0, 5).Draw(rt, "same credential") == 0 {
					a.Credential.ID = []byte(some("credential", slices.Collect(maps.Keys(m.credentials))))
				}
				user, added, err := db.AddCredential(ctx, a, passkeyAdded)
				asks, want := m.asks(a.SessionID, a.Proven, now)
				_, exists := m.credentials[string(a.Credential.ID)]
				switch {
				case m.challenges[string(a.Challenge)]:
					same(err, passkey.ErrChallengeUsed)
				case now.After(a.Expires):
					same(err, passkey.ErrChallenge)
				case want != nil:
					same(err, want)
				case m.passkeys(asks.UserID) >= maxCredentials:
					same(err, account.ErrTooMany)
				case exists:
					same(err, account.ErrCredentialExists)
				default:
					same(err, nil)
					m.challenges[string(a.Challenge)] = true
					m.trail++
					u, k := m.users[asks.UserID], a.Credential
					k.UserID, k.UserHandle, k.CreatedAt, k.LastUsedAt = u.ID, u.Handle, now, now
					m.credentials[string(k.ID)] = k
					if diff := cmp.Diff([]any{u, k}, []any{user, added}); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
			},
			"rename": func(rt *rapid.T) {
				id := some("credential", slices.Collect(maps.Keys(m.credentials)))
				userID := some("user", slices.Collect(maps.Keys(m.users)))
				known, exists := m.credentials[id]
				if rapid.Bool().Draw(rt, "own") && exists {
					userID = known.UserID
				}
				name := rapid.StringN(1, 64, -1).Draw(rt, "name")
				renamed, err := db.RenameCredential(ctx, userID, []byte(id), name, passkeyRenamed)
				if !exists || known.UserID != userID {
					same(err, account.ErrNotFound)
					return
				}
				same(err, nil)
				known.Name = name
				m.credentials[id] = known
				m.trail++
				if diff := cmp.Diff(known, renamed); diff != "" {
					rt.Fatalf("-want +got:\n%s", diff)
				}
			},
			"remove": func(rt *rapid.T) {
				now := c.Now()
				r := removal([]byte(some("credential", slices.Collect(maps.Keys(m.credentials)))), some("session", sessions()), now)
				r.Proven = now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(rt, "minutes")) * time.Minute)
				if own := m.owned(m.sessions[r.SessionID].UserID); len(own) > 0 && rapid.Bool().Draw(rt, "own") {
					r.ID = []byte(rapid.SampledFrom(own).Draw(rt, "own credential"))
				}
				ended, err := db.RemoveCredential(ctx, r, passkeyRemoved)
				asks, want := m.asks(r.SessionID, r.Proven, now)
				known, exists := m.credentials[string(r.ID)]
				switch {
				case want != nil:
					same(err, want)
				case !exists || known.UserID != asks.UserID:
					same(err, account.ErrNotFound)
				case m.passkeys(asks.UserID) == 1:
					same(err, account.ErrLastCredential)
				default:
					same(err, nil)
					delete(m.credentials, string(r.ID))
					m.trail++
					var gone []string
					maps.DeleteFunc(m.sessions, func(id string, s session.Session) bool {
						opened := s.Credential == account.CredentialRef(r.ID)
						if opened {
							gone = append(gone, id)
							m.trail++
						}
						return opened
					})
					slices.Sort(gone)
					slices.Sort(ended)
					if diff := cmp.Diff(gone, ended); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
			},
			"end": func(rt *rapid.T) {
				id := some("session", sessions())
				err := db.EndSession(ctx, id, audit.Entry{Kind: audit.SignedOut, Session: id})
				if _, ok := m.sessions[id]; !ok {
					same(err, session.ErrNone)
					return
				}
				same(err, nil)
				delete(m.sessions, id)
				m.trail++
			},
			"touch": func(rt *rapid.T) {
				id := some("session", sessions())
				at := c.Now().Add(time.Duration(rapid.IntRange(-90, 0).Draw(rt, "minutes")) * time.Minute)
				same(db.TouchSession(ctx, id, at), nil)
				if s, ok := m.sessions[id]; ok && at.After(s.SeenAt) {
					s.SeenAt = at
					m.sessions[id] = s
				}
			},
			"expire": func(rt *rapid.T) {
				now, n := c.Now(), len(m.sessions)
				maps.DeleteFunc(m.sessions, func(_ string, s session.Session) bool {
					return !now.Before(s.ExpiresAt) || !now.Before(s.SeenAt.Add(idle))
				})
				n -= len(m.sessions)
				m.trail += n
				got, err := db.ExpireSessions(ctx, idle)
				same(err, nil)
				if got != n {
					rt.Fatalf("expired %d, want %d", got, n)
				}
				// All challenges of the model end five minutes after they were made.
				rows := db.count(t, "SELECT count(*) FROM challenges WHERE expires_at < ?", now.Add(-clockStep).UnixMilli())
				if rows != 0 {
					rt.Fatalf("%d old challenges are kept", rows)
				}
				for id := range m.challenges {
					if db.count(t, "SELECT count(*) FROM challenges WHERE challenge = ?", []byte(id)) == 0 {
						delete(m.challenges, id)
					}
				}
			},
			"invite": func(rt *rapid.T) {
				i := account.Invitation{TokenHash: []byte("invitation " + rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 1, 1, -1).Draw(rt, "hash")),
					Groups: union(rapid.SliceOfN(rapid.SampledFrom([]string{"owner", "ops"}), 0, 3).Draw(rt, "groups"), nil), CreatedAt: c.Now()}
				if len(i.Groups) == 0 {
					i.Groups = nil
				}
				if rapid.Bool().Draw(rt, "expires") {
					i.ExpiresAt = c.Now().Add(time.Hour)
				}
				same(db.Invite(ctx, i, audit.Entry{Kind: audit.InvitationMade}), nil)
				if _, ok := m.invitations[string(i.TokenHash)]; !ok {
					m.invitations[string(i.TokenHash)] = i
					m.trail++
				}
			},
			"refuse": func(*rapid.T) {
				same(recorded(db, audit.Entry{Kind: audit.SignInRefused, Reason: "signature"}), nil)
				m.trail++
			},
			"wait": func(rt *rapid.T) {
				c.Advance(time.Duration(rapid.IntRange(0, 300).Draw(rt, "minutes")) * time.Minute)
			},
			"": func(rt *rapid.T) {
				checkInvariants(rt, db)
				got := db.counts(t)
				want := map[string]int{"users": len(m.users), "credentials": len(m.credentials), "sessions": len(m.sessions),
					"challenges": len(m.challenges), "invitations": len(m.invitations), "trail_leaves": m.trail}
				if diff := cmp.Diff(want, got); diff != "" {
					rt.Fatalf("-want +got:\n%s", diff)
				}
				for id, s := range m.sessions {
					got, user, err := db.Session(ctx, id)
					same(err, nil)
					if diff := cmp.Diff([]any{s, m.users[s.UserID]}, []any{got, user}); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
				for id, k := range m.credentials {
					user, got, err := db.Credential(ctx, []byte(id))
					same(err, nil)
					if diff := cmp.Diff([]any{k, m.users[k.UserID]}, []any{got, user}); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
				for hash, i := range m.invitations {
					got, err := db.Invitation(ctx, []byte(hash))
					same(err, nil)
					if diff := cmp.Diff(i, got); diff != "" {
						rt.Fatalf("-want +got:\n%s", diff)
					}
				}
			},
		})
	})
}
