package store

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
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
	recoveries  map[string]account.Recovery   // by the id of the user
	trail       int                           // how many records
}

// named gives the user of that name, in any case of letters.
func (m *model) named(name string) (account.User, bool) {
	for _, u := range m.users {
		if strings.EqualFold(u.Name, name) {
			return u, true
		}
	}
	return account.User{}, false
}

func (m *model) nameTaken(name string) bool { _, taken := m.named(name); return taken }

// owned gives the ids of a user's credentials but of one that waits, sorted.
func (m *model) owned(userID string) (ids []string) {
	for id, c := range m.credentials {
		if c.UserID == userID && c.EffectiveAt.IsZero() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *model) passkeys(userID string) int { return len(m.owned(userID)) }

// waiting gives the id of the user's credential that waits, or "".
func (m *model) waiting(userID string) string {
	for id, c := range m.credentials {
		if c.UserID == userID && !c.EffectiveAt.IsZero() {
			return id
		}
	}
	return ""
}

// full says that the user can have no further credential.
func (m *model) full(userID string) bool {
	n := m.passkeys(userID)
	if m.waiting(userID) != "" {
		n++
	}
	return n >= account.MaxCredentials
}

// refuses says why a press comes to nothing, whatever it is for.
func (m *model) refuses(challenge []byte, expires, now time.Time) error {
	switch {
	case m.challenges[string(challenge)]:
		return passkey.ErrChallengeUsed
	case now.After(expires):
		return passkey.ErrChallenge
	}
	return nil
}

// knows gives the credential that is used, as it is after that, or why it opens
// nothing.
func (m *model) knows(used account.Credential, now time.Time) (account.Credential, error) {
	c, exists := m.credentials[string(used.ID)]
	switch {
	case !exists:
		return c, account.ErrNotFound
	case !c.BackupEligible() && used.SignCount <= c.SignCount && used.SignCount+c.SignCount > 0:
		return c, passkey.ErrRefused
	case !m.users[c.UserID].DisabledAt.IsZero():
		return c, account.ErrDisabled
	case now.Before(c.EffectiveAt):
		return c, &account.EarlyError{EffectiveAt: c.EffectiveAt, Wait: c.EffectiveAt.Sub(now)}
	}
	c.Flags, c.SignCount, c.LastUsedAt = used.Flags, max(c.SignCount, used.SignCount), now
	return c, nil
}

// end ends the sessions that are so, each with its record, and gives their ids.
func (m *model) end(so func(session.Session) bool) (ended []string) {
	maps.DeleteFunc(m.sessions, func(id string, s session.Session) bool {
		if so(s) {
			ended = append(ended, id)
			m.trail++
		}
		return so(s)
	})
	return ended
}

// erase removes a user and gives the ids of the sessions, which have no record.
func (m *model) erase(userID string) []string {
	delete(m.users, userID)
	delete(m.recoveries, userID)
	maps.DeleteFunc(m.credentials, func(_ string, k account.Credential) bool { return k.UserID == userID })
	ended := m.end(func(s session.Session) bool { return s.UserID == userID })
	m.trail += 1 - len(ended)
	return ended
}

// cancel removes the user's credential that waits.
func (m *model) cancel(userID string) bool {
	id := m.waiting(userID)
	if id != "" {
		delete(m.credentials, id)
		m.trail++
	}
	return id != ""
}

// offer keeps a recovery link for the account of that name, or says why not.
func (m *model) offer(name string, r account.Recovery, now time.Time) error {
	u, ok := m.named(name)
	switch {
	case !ok:
		return account.ErrNotFound
	case !u.DisabledAt.IsZero():
		return account.ErrDisabled
	}
	m.cancel(u.ID)
	r.UserID, r.CreatedAt = u.ID, now
	m.recoveries[u.ID] = r
	m.trail++
	return nil
}

// remove removes a user's credential and the sessions that it opened, or says why not.
func (m *model) remove(userID, ref string) (ended []string, err error) {
	own := m.owned(userID)
	i := slices.IndexFunc(own, func(id string) bool { return account.CredentialRef([]byte(id)) == ref })
	switch {
	case i < 0:
		return nil, account.ErrNotFound
	case len(own) == 1:
		return nil, account.ErrLastCredential
	}
	delete(m.credentials, own[i])
	m.trail++
	return m.end(func(s session.Session) bool { return s.Credential == ref }), nil
}

// last says that the user is the only owner who can sign in.
func (m *model) last(u account.User) bool {
	for _, other := range m.users {
		if other.ID != u.ID && other.In(account.Owner) && other.DisabledAt.IsZero() {
			return false
		}
	}
	return u.In(account.Owner)
}

// act is what an act does to the model, in a session that has just begun.
func (m *model) act(a Act, out *SteppedUp, here session.Session) (err error) {
	u := out.User
	var ended []string
	switch a := a.(type) {
	case Prove:
	case RenamePasskey:
		err = account.ErrNotFound
		for _, id := range m.owned(u.ID) {
			if account.CredentialRef([]byte(id)) == a.Ref {
				k := m.credentials[id]
				k.Name = a.Name
				m.credentials[id] = k
				m.trail++
				err = nil
			}
		}
	case RemovePasskey:
		ended, err = m.remove(u.ID, a.Ref)
	case EndOthers:
		ended = m.end(func(s session.Session) bool { return s.UserID == u.ID && s.ID != here.ID })
	case Rename:
		other, taken := m.named(a.Name)
		switch {
		case a.Name == u.Name:
		case taken && other.ID != u.ID:
			err = account.ErrNameTaken
		default:
			u.Name = a.Name
			m.users[u.ID], out.User = u, u
			m.trail++
		}
	case EraseSelf:
		if m.last(u) {
			return account.ErrLastOwner
		}
		ended = m.erase(u.ID)
	case CancelRecovery:
		if !m.cancel(u.ID) {
			err = account.ErrNotFound
		}
	case MakeRecovery:
		if !u.In(account.Owner) {
			return account.ErrNotOwner
		}
		m.trail++
		err = m.offer(a.Name, a.Recovery, here.AuthTime)
	}
	out.Ended = append(out.Ended, ended...)
	return err
}

// clone is for an act that may be refused at its end.
func (m *model) clone() *model {
	return &model{
		users: maps.Clone(m.users), credentials: maps.Clone(m.credentials), sessions: maps.Clone(m.sessions),
		challenges: maps.Clone(m.challenges), invitations: maps.Clone(m.invitations), recoveries: maps.Clone(m.recoveries), trail: m.trail,
	}
}

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

// Few long lives of a database find more than many short ones.
func init() {
	for name, value := range map[string]string{"rapid.checks": "40", "rapid.steps": "80"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// evenly draws one of all. rapid itself prefers the first.
func evenly[T any](rt *rapid.T, label string, all []T) T {
	return all[rapid.Uint32().Draw(rt, label)%uint32(len(all))]
}

// TestModel drives the store and the model with the same random acts, compares
// what they answer and hold after each of them, and checks all that must hold.
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
			challenges: map[string]bool{}, invitations: map[string]account.Invitation{}, recoveries: map[string]account.Recovery{},
		}
		fresh := 0
		seed := func() string { fresh++; return fmt.Sprint(fresh) }
		// rarely is seldom true; rapid prefers small numbers.
		rarely := func(label string) bool { return rapid.IntRange(0, 7).Draw(rt, label) == 7 }
		// some draws one that exists or, rarely, one that does not.
		some := func(label string, keys []string) string {
			if len(keys) == 0 || rarely("no "+label) {
				return "unknown"
			}
			slices.Sort(keys)
			return evenly(rt, label, keys)
		}
		sessions := func() []string { return slices.Collect(maps.Keys(m.sessions)) }
		accounts := func() (all []string) {
			for _, u := range m.users {
				all = append(all, u.Name, strings.ToUpper(u.Name))
			}
			return all
		}
		vary := func(p *Press) {
			if rarely("reuse challenge") {
				p.Challenge = []byte(some("challenge", slices.Collect(maps.Keys(m.challenges))))
			}
			if rarely("old challenge") {
				p.Expires = c.Now().Add(-time.Second)
			}
			if rapid.Bool().Draw(rt, "replaces") {
				p.Replaces = some("session", sessions())
			}
			if rapid.IntRange(0, 2).Draw(rt, "invited") == 2 {
				p.Invitation = []byte(some("invitation", slices.Collect(maps.Keys(m.invitations))))
			}
		}
		same := func(err, want error) {
			rt.Helper()
			if !isErr(err, want) {
				rt.Fatalf("got error %v, want %v", err, want)
			}
		}
		agree := func(want, got any) {
			rt.Helper()
			if !reflect.DeepEqual(want, got) { // cmp takes many times as long
				if diff := cmp.Diff(want, got); diff != "" {
					rt.Fatalf("-want +got:\n%s", diff)
				}
			}
		}
		acts := map[string]func(*rapid.T){
			"register": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				r := registration(s, now)
				if len(m.users) > 1 {
					vary(&r.Press)
				}
				r.User.Groups = evenly(rt, "groups", [][]string{nil, {account.Owner}})
				r.Names = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 4).Draw(rt, "names")
				if rarely("same credential") {
					r.Credential.ID = []byte(some("credential", slices.Collect(maps.Keys(m.credentials))))
				}
				free := slices.IndexFunc(r.Names, func(n string) bool { return !m.nameTaken(n) })
				e := registered(s)
				e.Credential = account.CredentialRef(r.Credential.ID)
				user, err := db.Register(ctx, r, e)
				_, exists := m.credentials[string(r.Credential.ID)]
				want := m.refuses(r.Challenge, r.Expires, now)
				switch {
				case want != nil:
					same(err, want)
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
					u.Name, u.CreatedAt, u.Groups = r.Names[free], now, union(r.User.Groups, m.use(r.Invitation, now))
					agree(u, user)
					k := r.Credential
					k.UserID, k.UserHandle, k.CreatedAt, k.LastUsedAt = u.ID, u.Handle, now, now
					m.users[u.ID], m.credentials[string(k.ID)] = u, k
					m.open(r.Press, u.ID, account.CredentialRef(k.ID))
				}
			},
			"sign in": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				id := some("credential", slices.Collect(maps.Keys(m.credentials)))
				in := signIn(s, account.Credential{ID: []byte(id), Flags: rapid.Byte().Draw(rt, "flags"), SignCount: rapid.Uint32Max(9).Draw(rt, "count")}, now)
				vary(&in.Press)
				if rapid.Bool().Draw(rt, "undo") {
					in.Undo = some("user", slices.Collect(maps.Keys(m.users)))
					in.UndoAfter = now.Add(-10 * time.Minute)
				}
				out, err := db.SignIn(ctx, in, signedIn(s))
				pressed := m.refuses(in.Challenge, in.Expires, now)
				known, opens := m.knows(in.Credential, now)
				switch {
				case pressed != nil:
					same(err, pressed)
				case opens != nil:
					same(err, opens)
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
					u := m.users[known.UserID]
					u.Groups = union(u.Groups, m.use(in.Invitation, now))
					m.open(in.Press, u.ID, account.CredentialRef(known.ID))
					if !known.EffectiveAt.IsZero() {
						known.EffectiveAt, want.Recovered = time.Time{}, true
						delete(m.recoveries, u.ID)
						m.trail++
						want.Ended = append(want.Ended, m.end(func(s session.Session) bool { return s.UserID == u.ID && s.ID != in.Session.ID })...)
					}
					m.credentials[id] = known
					dup, ok := m.users[in.Undo]
					if ok && dup.ID != u.ID && !dup.CreatedAt.Before(in.UndoAfter) && m.passkeys(dup.ID) == 1 && m.waiting(dup.ID) == "" && len(dup.Groups) == 0 {
						want.Removed, want.RemovedUser = true, dup
						want.Ended = append(want.Ended, m.erase(dup.ID)...)
					}
					m.users[u.ID], want.User = u, u
					slices.Sort(want.Ended)
					slices.Sort(out.Ended)
					agree(want, out)
				}
			},
			"add": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				a := addition(s, some("session", sessions()), now)
				a.Proven = now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(rt, "minutes")) * time.Minute)
				if rarely("reuse challenge") {
					a.Challenge = []byte(some("challenge", slices.Collect(maps.Keys(m.challenges))))
				}
				if rarely("old challenge") {
					a.Expires = now.Add(-time.Second)
				}
				if rarely("same credential") {
					a.Credential.ID = []byte(some("credential", slices.Collect(maps.Keys(m.credentials))))
				}
				user, added, err := db.AddCredential(ctx, a, passkeyAdded)
				asks, want := m.asks(a.SessionID, a.Proven, now)
				_, exists := m.credentials[string(a.Credential.ID)]
				pressed := m.refuses(a.Challenge, a.Expires, now)
				switch {
				case pressed != nil:
					same(err, pressed)
				case want != nil:
					same(err, want)
				case m.full(asks.UserID):
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
					agree([]any{u, k}, []any{user, added})
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
				if !exists || known.UserID != userID || !known.EffectiveAt.IsZero() {
					same(err, account.ErrNotFound)
					return
				}
				same(err, nil)
				known.Name = name
				m.credentials[id] = known
				m.trail++
				agree(known, renamed)
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
				var gone []string
				if want == nil {
					gone, want = m.remove(asks.UserID, account.CredentialRef(r.ID))
				}
				same(err, want)
				slices.Sort(gone)
				slices.Sort(ended)
				agree(gone, ended)
			},
			"step up": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				ids := slices.Collect(maps.Keys(m.credentials))
				asks, id, target := some("session", sessions()), some("credential", ids), some("target", ids)
				if own := m.owned(m.sessions[asks].UserID); len(own) > 0 && !rarely("any passkey") {
					id, target = rapid.SampledFrom(own).Draw(rt, "own credential"), rapid.SampledFrom(own).Draw(rt, "own target")
				}
				ref := account.CredentialRef([]byte(target))
				act := evenly(rt, "act", []Act{
					Prove{}, Rename{rapid.SampledFrom([]string{"a", "B", "c", "maple " + s}).Draw(rt, "name")}, CancelRecovery{},
					MakeRecovery{some("name", accounts()), recovery(s, now)}, EndOthers{}, RemovePasskey{ref}, RenamePasskey{ref, "key " + s}, EraseSelf{},
				})
				up := stepUp(s, asks, account.Credential{ID: []byte(id), Flags: rapid.Byte().Draw(rt, "flags"), SignCount: rapid.Uint32Max(9).Draw(rt, "count")}, act, now)
				invited := up.Invitation
				vary(&up.Press)
				up.Replaces, up.Invitation = asks, invited
				out, err := db.StepUp(ctx, up, steppedUp)

				want := m.refuses(up.Challenge, up.Expires, now)
				before, open := m.sessions[asks]
				if want == nil && (!open || !now.Before(before.ExpiresAt)) {
					want = session.ErrNone
				}
				used := m.credentials[id]
				known, opens := m.knows(up.Credential, now)
				switch {
				case want != nil:
				case errors.Is(opens, account.ErrNotFound):
					want = passkey.ErrUnknown
				case used.UserID != before.UserID || !used.EffectiveAt.IsZero(): // whatever else is wrong with it
					want = account.ErrOtherAccount
				default:
					want = opens
				}
				began := up.Session
				began.CreatedAt, began.ExpiresAt = before.CreatedAt, before.ExpiresAt
				var stepped SteppedUp
				if want == nil {
					after := m.clone()
					after.challenges[string(up.Challenge)], after.credentials[id] = true, known
					goesOn := up.Press
					goesOn.Session = began
					after.open(goesOn, known.UserID, account.CredentialRef(known.ID)) // its record is that of the step-up
					stepped = SteppedUp{User: m.users[known.UserID], Session: began, Ended: []string{asks}}
					if want = after.act(act, &stepped, began); want == nil {
						*m = *after
					} else {
						stepped = SteppedUp{}
					}
				}
				same(err, want)
				slices.Sort(stepped.Ended)
				slices.Sort(out.Ended)
				agree(stepped, out)
			},
			"offer": func(rt *rapid.T) {
				name, r := some("name", accounts()), recovery(seed(), c.Now())
				_, err := db.OfferRecovery(ctx, name, r, recoveryOffered)
				same(err, m.offer(name, r, c.Now()))
			},
			"recover": func(rt *rapid.T) {
				s, now := seed(), c.Now()
				var links []string
				for _, r := range m.recoveries {
					links = append(links, string(r.TokenHash))
				}
				r := recovering(s, now)
				r.TokenHash = []byte(some("link", links))
				r.Delay = time.Duration(rapid.IntRange(0, 300).Draw(rt, "delay")) * time.Minute
				if rarely("same credential") {
					r.Credential.ID = []byte(some("credential", slices.Collect(maps.Keys(m.credentials))))
				}
				user, begun, err := db.BeginRecovery(ctx, r, recoveryBegun)
				var found account.Recovery
				for _, kept := range m.recoveries {
					if string(kept.TokenHash) == string(r.TokenHash) {
						found = kept
					}
				}
				u := m.users[found.UserID]
				_, exists := m.credentials[string(r.Credential.ID)]
				switch {
				case !found.Usable(now):
					same(err, account.ErrRecovery)
				case m.full(u.ID):
					same(err, account.ErrTooMany)
				case exists:
					same(err, account.ErrCredentialExists)
				default:
					same(err, nil)
					found.UsedAt = now
					k := r.Credential
					k.UserID, k.UserHandle, k.CreatedAt, k.LastUsedAt, k.EffectiveAt = u.ID, u.Handle, now, now, now.Add(r.Delay)
					m.challenges[string(r.Challenge)], m.recoveries[u.ID], m.credentials[string(k.ID)] = true, found, k
					m.trail++
					agree([]any{u, k}, []any{user, begun})
				}
			},
			"disable": func(rt *rapid.T) {
				name, last := some("name", accounts()), rapid.Bool().Draw(rt, "even the last")
				user, ended, err := db.DisableUser(ctx, name, last, disabled)
				u, ok := m.named(name)
				var gone []string
				switch {
				case !ok:
					same(err, account.ErrNotFound)
				case u.DisabledAt.IsZero() && !last && m.last(u):
					same(err, account.ErrLastOwner)
					u = account.User{}
				default:
					same(err, nil)
					if u.DisabledAt.IsZero() {
						u.DisabledAt = c.Now()
						m.trail++
						m.cancel(u.ID)
						delete(m.recoveries, u.ID)
					}
					m.users[u.ID] = u
					gone = m.end(func(s session.Session) bool { return s.UserID == u.ID })
				}
				slices.Sort(gone)
				slices.Sort(ended)
				agree([]any{u, gone}, []any{user, ended})
			},
			"enable": func(rt *rapid.T) {
				name := some("name", accounts())
				_, err := db.EnableUser(ctx, name, enabled)
				u, ok := m.named(name)
				if !ok {
					same(err, account.ErrNotFound)
					return
				}
				same(err, nil)
				if !u.DisabledAt.IsZero() {
					u.DisabledAt = time.Time{}
					m.users[u.ID] = u
					m.trail++
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
		}
		often := append(slices.Sorted(maps.Keys(acts)), "sign in", "sign in", "step up", "step up", "step up", "step up", "offer", "recover", "recover", "enable", "wait")
		for range 2 {
			acts["register"](rt)
		}
		steps := 0
		rt.Repeat(map[string]func(*rapid.T){
			"act": func(rt *rapid.T) { acts[evenly(rt, "what", often)](rt) },
			"": func(rt *rapid.T) {
				if steps++; steps%10 == 0 { // it reads the whole log
					checkInvariants(rt, db)
				}
				got := db.counts(t)
				want := map[string]int{"users": len(m.users), "credentials": len(m.credentials), "sessions": len(m.sessions),
					"challenges": len(m.challenges), "invitations": len(m.invitations), "trail_leaves": m.trail}
				agree(want, got)
				for id, s := range m.sessions {
					got, user, err := db.Session(ctx, id)
					same(err, nil)
					agree([]any{s, m.users[s.UserID]}, []any{got, user})
				}
				for id, k := range m.credentials {
					user, got, err := db.Credential(ctx, []byte(id))
					same(err, nil)
					agree([]any{k, m.users[k.UserID]}, []any{got, user})
				}
				for id, r := range m.recoveries {
					got, user, err := db.Recovery(ctx, r.TokenHash)
					same(err, nil)
					agree([]any{r, m.users[id]}, []any{got, user})
				}
				if n := db.count(t, "SELECT count(*) FROM recoveries"); n != len(m.recoveries) {
					rt.Fatalf("%d recoveries, want %d", n, len(m.recoveries))
				}
				same(db.Users(ctx, func(l Listed) error {
					agree([]any{m.users[l.ID], m.passkeys(l.ID), m.waiting(l.ID) != ""}, []any{l.User, l.Passkeys, l.Recovering})
					return nil
				}), nil)
				for hash, i := range m.invitations {
					got, err := db.Invitation(ctx, []byte(hash))
					same(err, nil)
					agree(i, got)
				}
			},
		})
		checkInvariants(rt, db)
	})
}
