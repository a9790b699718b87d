package store

import (
	"context"
	"strings"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
)

// Press is what every press of the button brings.
type Press struct {
	Challenge  []byte
	Expires    time.Time       // until when the challenge is good
	Session    session.Session // its UserID and Credential are set by the store
	Replaces   string          // id of the session that this one replaces, or ""
	Invitation []byte          // hash of an invitation's token, or nil
}

// Registration is a press that makes an account. The credential's UserID and
// UserHandle are set by the store; a zero CreatedAt or LastUsedAt becomes now.
type Registration struct {
	Press
	User       account.User
	Names      []string // candidates: the first that is free becomes the user's name
	Credential account.Credential
}

// SignIn is a press with a passkey that is known.
type SignIn struct {
	Press
	Credential account.Credential // with its new SignCount, Flags and LastUsedAt
	Undo       string             // id of a user made by accident, to be removed, or ""
	UndoAfter  time.Time          // only if it was made then or later; zero: not at all
	// SuggestAfter allows the suggestion of a second passkey, if there was none
	// since then; zero: no suggestion.
	SuggestAfter time.Time
}

// SignedIn is the outcome of a SignIn.
type SignedIn struct {
	User        account.User
	Removed     bool         // whether the user named in Undo was removed
	RemovedUser account.User // that user, as it was
	Recovered   bool         // the passkey of a recovery opened the account for the first time
	Suggest     bool         // a second passkey: the account has one, which is not backed up
	Ended       []string     // ids of the sessions that were removed: the one replaced, those of RemovedUser, all others of a recovered account
}

// Register makes the account, its credential and its session, consumes the
// challenge, uses the invitation, ends the session that is replaced, and
// appends the entries; those without an actor get the new user. It returns the
// user as it was stored. Errors: passkey.ErrChallengeUsed before any other,
// passkey.ErrChallenge when it expired meanwhile, account.ErrInvitation,
// account.ErrCredentialExists, ErrNamesTaken.
func (db *DB) Register(ctx context.Context, r Registration, entry audit.Entry, more ...audit.Entry) (account.User, error) {
	var user account.User
	err := db.write(ctx, func(t *tx) error {
		if err := consume(t, r.Challenge, r.Expires); err != nil {
			return err
		}
		groups, used, err := r.invitation(t)
		if err != nil {
			return err
		}
		user = r.User
		user.Groups = union(user.Groups, groups)
		user.CreatedAt = orNow(t, user.CreatedAt)
		if user.Name, err = insertUser(t, user, r.Names); err != nil {
			return err
		}
		c := r.Credential
		c.UserID, c.UserHandle = user.ID, user.Handle
		c.CreatedAt, c.LastUsedAt = orNow(t, c.CreatedAt), orNow(t, c.LastUsedAt)
		if err := insertCredential(t, c); err != nil {
			return err
		}
		replaced, err := r.open(t, user.ID, account.CredentialRef(c.ID))
		if err != nil {
			return err
		}
		return appendTrail(t, user.ID, concat([]audit.Entry{entry}, more, used, replaced)...)
	})
	if err != nil {
		return account.User{}, err
	}
	return user, nil
}

// SignIn makes a session for the credential's user and updates the credential,
// consumes the challenge, uses the invitation, ends the session that is
// replaced, removes an account made by accident, completes a recovery, and appends
// the entries; those without an actor get the user. Errors: passkey.ErrChallengeUsed
// before any other, passkey.ErrChallenge when it expired meanwhile,
// account.ErrNotFound when the credential has gone, a *passkey.Refusal when its
// counter was overtaken, account.ErrDisabled, a *account.EarlyError,
// account.ErrInvitation, session.ErrNone when the session that asks for the undo
// has ended.
func (db *DB) SignIn(ctx context.Context, s SignIn, entry audit.Entry, more ...audit.Entry) (SignedIn, error) {
	var out SignedIn
	err := db.write(ctx, func(t *tx) error {
		if err := consume(t, s.Challenge, s.Expires); err != nil {
			return err
		}
		c := s.Credential
		c.LastUsedAt = orNow(t, c.LastUsedAt)
		out = SignedIn{}
		with, err := useCredential(t, c, "")
		if err != nil {
			return err
		}
		user := with.User
		groups, used, err := s.invitation(t)
		if err != nil {
			return err
		}
		replaced, err := s.open(t, user.ID, with.ref)
		if err != nil {
			return err
		}
		for _, one := range replaced {
			out.Ended = append(out.Ended, one.Session)
		}
		var recovered []audit.Entry
		if with.recovers {
			if out.Ended, recovered, err = completeRecovery(t, user.ID, with.ref, s, out.Ended); err != nil {
				return err
			}
			out.Recovered = true
		}
		if out.Suggest, err = suggest(t, with, s); err != nil {
			return err
		}
		if err := addGroups(t, &user, groups); err != nil {
			return err
		}
		out.User = user
		if err := appendTrail(t, user.ID, concat([]audit.Entry{entry}, more, used, replaced, recovered)...); err != nil {
			return err
		}
		// After the replaced session, which may be one of the account that goes.
		if s.Undo != "" && s.Undo != user.ID {
			// Only a session of that account, which is open until now, may ask for it.
			if s.Replaces != "" && (len(replaced) != 1 || replaced[0].Actor != s.Undo) {
				return session.ErrNone
			}
			out.RemovedUser, out.Removed, err = duplicate(t, s)
			if err != nil || !out.Removed {
				return err
			}
			undone := s.entry(audit.DuplicateUndone, nil)
			undone.Actor = user.ID
			ended, err := removeUser(t, out.RemovedUser.ID, undone)
			out.Ended = append(out.Ended, ended...)
			return err
		}
		return nil
	})
	if err != nil {
		return SignedIn{}, err
	}
	if out.Removed {
		_, _ = db.scrub(ctx) // or ExpireSessions will: the user is erased either way
	}
	return out, nil
}

const sqlSuggested = `UPDATE users SET suggested_at = ? WHERE id = ?
AND (SELECT count(*) FROM credentials WHERE user_id = users.id AND effective_at IS NULL) = 1`

// suggest reports whether it is time to suggest a second passkey, and notes that it
// was. That is no act and leaves no entry.
func suggest(t *tx, u used, s SignIn) (bool, error) {
	if s.Credential.BackupState() || !u.suggested.Before(s.SuggestAfter) {
		return false, nil
	}
	n, err := t.exec(sqlSuggested, stamp(t.now), u.ID)
	return n == 1, err
}

const sqlConsume = "INSERT INTO challenges (challenge, expires_at) VALUES (?, ?) ON CONFLICT (challenge) DO NOTHING"

// consume makes the challenge a used one. One that has expired is refused here
// too: its row may have been there and forgotten.
func consume(t *tx, challenge []byte, expires time.Time) error {
	n, err := t.exec(sqlConsume, challenge, expires.UnixMilli())
	switch {
	case err != nil:
		return err
	case n == 0:
		return passkey.ErrChallengeUsed
	case t.now.After(expires):
		return passkey.ErrChallenge
	}
	return nil
}

// invitation uses the press's invitation, if there is one, and returns the
// groups that it gives and its entry.
func (p Press) invitation(t *tx) ([]string, []audit.Entry, error) {
	if p.Invitation == nil {
		return nil, nil, nil
	}
	i, err := useInvitation(t, p.Invitation)
	if err != nil {
		return nil, nil, err
	}
	var detail map[string]string
	if len(i.Groups) > 0 {
		detail = map[string]string{"groups": strings.Join(i.Groups, " ")}
	}
	return i.Groups, []audit.Entry{p.entry(audit.InvitationUsed, detail)}, nil
}

// open ends the session that is replaced, if it is there, starts the new one,
// and returns the entry of the former, whose actor is the user that it was of.
func (p Press) open(t *tx, userID, credential string) ([]audit.Entry, error) {
	var replaced []audit.Entry
	if p.Replaces != "" {
		old, found, err := deleteSession(t, p.Replaces)
		if err != nil {
			return nil, err
		}
		if found {
			replaced = []audit.Entry{{
				Kind: audit.SessionReplaced, Actor: old.UserID, Credential: old.Credential,
				Session: old.ID, Client: p.Session.Client,
			}}
		}
	}
	s := p.Session
	s.UserID, s.Credential = userID, credential
	return replaced, insertSession(t, s)
}

// entry is an entry of something that the press brought about.
func (p Press) entry(kind audit.Kind, detail map[string]string) audit.Entry {
	return audit.Entry{Kind: kind, Session: p.Session.ID, Client: p.Session.Client, Detail: detail}
}

func orNow(t *tx, at time.Time) time.Time {
	if at.IsZero() {
		return t.now
	}
	return exact(at)
}

func concat(lists ...[]audit.Entry) []audit.Entry {
	var all []audit.Entry
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
