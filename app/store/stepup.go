package store

import (
	"context"
	"errors"
	"strings"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
)

// StepUp is a press for one sensitive act in a session that is open.
type StepUp struct {
	Press                         // Replaces is the session that asks; an invitation is not used
	Credential account.Credential // with its new SignCount, Flags and LastUsedAt
	Act        Act
}

// SteppedUp is the outcome of a StepUp.
type SteppedUp struct {
	User    account.User    // as it is after the act
	Session session.Session // the new one, with the time of the old one
	Ended   []string        // ids of the sessions that were removed: the one replaced, and those that the act ended, which may be the new one
}

// Act is one sensitive act: one of the types below.
type Act interface {
	// do does it and appends its entries.
	do(t *tx, by *actor) error
}

// actor is who acts, in a session that has just been made.
type actor struct {
	*SteppedUp
	Press
}

func (a *actor) append(t *tx, entries ...audit.Entry) error {
	return appendTrail(t, a.User.ID, entries...)
}

// StepUp uses the passkey, consumes the challenge, replaces the session with a new
// one, does the act, and appends the entry, to which it adds the session that was
// replaced, the further ones and those of the act. Errors: passkey.ErrChallengeUsed
// before any other, passkey.ErrChallenge when it expired meanwhile, session.ErrNone
// when the session that asks has ended, passkey.ErrUnknown when the credential has
// gone, a *passkey.Refusal when its counter was overtaken, account.ErrDisabled, a
// *account.EarlyError, account.ErrOtherAccount when the passkey is not one of the
// session's account or has not yet completed its recovery, and those of the act.
func (db *DB) StepUp(ctx context.Context, s StepUp, entry audit.Entry, more ...audit.Entry) (SteppedUp, error) {
	var out SteppedUp
	err := db.write(ctx, func(t *tx) error {
		if err := consume(t, s.Challenge, s.Expires); err != nil {
			return err
		}
		old, asking, err := openSession(t, s.Replaces)
		if err != nil {
			return err
		}
		c := s.Credential
		c.LastUsedAt = orNow(t, c.LastUsedAt)
		with, err := useCredential(t, c, asking.ID)
		switch {
		case errors.Is(err, account.ErrNotFound):
			return passkey.ErrUnknown
		case err != nil:
			return err
		}
		// The same session under another id: its time runs on.
		s := s
		s.Session.CreatedAt, s.Session.ExpiresAt = old.CreatedAt, old.ExpiresAt
		if _, err := s.open(t, with.ID, with.ref); err != nil {
			return err
		}
		out = SteppedUp{User: with.User, Session: s.Session, Ended: []string{s.Replaces}}
		stepped := entry
		stepped.Actor, stepped.Credential, stepped.Session = with.ID, with.ref, s.Session.ID
		stepped.Detail = map[string]string{"replaced": audit.SessionRef(s.Replaces)}
		if err := appendTrail(t, with.ID, append([]audit.Entry{stepped}, more...)...); err != nil {
			return err
		}
		return s.Act.do(t, &actor{&out, s.Press})
	})
	if err != nil {
		return SteppedUp{}, err
	}
	if _, erased := s.Act.(EraseSelf); erased {
		_, _ = db.scrub(ctx) // or ExpireSessions will: the user is erased either way
	}
	return out, nil
}

// The acts. Errors are of what the store finds; names and groups have been checked.
type (
	// Prove is nothing more than the press.
	Prove struct{}
	// RenamePasskey gives the user's passkey another name: account.ErrNotFound.
	RenamePasskey struct{ Ref, Name string }
	// RemovePasskey removes the user's passkey and the sessions that it opened:
	// account.ErrNotFound, account.ErrLastCredential.
	RemovePasskey struct{ Ref string }
	// EndOthers ends the user's other sessions.
	EndOthers struct{}
	// Rename gives the user another name: account.ErrNameTaken.
	Rename struct{ Name string }
	// EraseSelf removes the user, as EraseUser does: account.ErrLastOwner.
	EraseSelf struct{}
	// CancelRecovery cancels the recovery that waits: account.ErrNotFound.
	CancelRecovery struct{}
	// MakeInvitation keeps an invitation, as Invite does: account.ErrNotOwner.
	MakeInvitation struct{ Invitation account.Invitation }
	// MakeRecovery keeps a recovery link for the account of that name, as
	// OfferRecovery does: account.ErrNotOwner, account.ErrNotFound, account.ErrDisabled.
	MakeRecovery struct {
		Name     string
		Recovery account.Recovery
	}
)

func (Prove) do(*tx, *actor) error { return nil }

func (a RenamePasskey) do(t *tx, by *actor) error {
	_, err := renameCredential(t, by.User.ID, a.Ref, a.Name, by.entry(audit.PasskeyRenamed, nil))
	return err
}

func (a RemovePasskey) do(t *tx, by *actor) error {
	ended, err := removeCredential(t, by.User.ID, a.Ref, by.entry(audit.PasskeyRemoved, nil))
	by.Ended = append(by.Ended, ended...)
	return err
}

func (EndOthers) do(t *tx, by *actor) error {
	ended, err := deleteSessions(t, sqlDeleteOtherSessions, by.User.ID, by.Press.Session.ID)
	if err != nil {
		return err
	}
	by.Ended = append(by.Ended, ended...)
	return by.append(t, revoked(by.User.ID, ended, "from another session", by.Press.Session.Client)...)
}

const (
	sqlNameTaken  = "SELECT EXISTS (SELECT 1 FROM users WHERE name = ? AND id <> ?)"
	sqlRenameUser = "UPDATE users SET name = ? WHERE id = ?"
)

func (a Rename) do(t *tx, by *actor) error {
	if a.Name == by.User.Name {
		return nil
	}
	var taken bool
	if _, err := t.row(sqlNameTaken, []any{a.Name, by.User.ID}, &taken); err != nil {
		return err
	}
	if taken {
		return account.ErrNameTaken
	}
	if _, err := t.exec(sqlRenameUser, a.Name, by.User.ID); err != nil {
		return err
	}
	entry := by.entry(audit.Renamed, map[string]string{"from": by.User.Name, "to": a.Name})
	by.User.Name = a.Name
	return by.append(t, entry)
}

func (EraseSelf) do(t *tx, by *actor) error {
	if err := anotherOwner(t, by.User); err != nil {
		return err
	}
	ended, err := removeUser(t, by.User.ID, audit.Entry{Kind: audit.Erased, Reason: "account page"})
	by.Ended = append(by.Ended, ended...)
	return err
}

func (CancelRecovery) do(t *tx, by *actor) error {
	entry := by.entry(audit.RecoveryCancelled, nil)
	entry.Reason = "account page"
	cancelled, err := cancelRecovery(t, by.User.ID, entry)
	if err == nil && !cancelled {
		err = account.ErrNotFound
	}
	return err
}

func (a MakeInvitation) do(t *tx, by *actor) error {
	if !by.User.In(account.Owner) {
		return account.ErrNotOwner
	}
	entry := by.entry(audit.InvitationMade, nil)
	entry.Reason = "account page"
	if len(a.Invitation.Groups) > 0 {
		entry.Detail = map[string]string{"groups": strings.Join(a.Invitation.Groups, " ")}
	}
	return invite(t, a.Invitation, by.User.ID, entry)
}

func (a MakeRecovery) do(t *tx, by *actor) error {
	if !by.User.In(account.Owner) {
		return account.ErrNotOwner
	}
	if err := by.append(t, by.entry(audit.RecoveryMade, nil)); err != nil {
		return err
	}
	// The person's entry does not say who the owner is, nor the owner's who they are.
	_, err := offerRecovery(t, a.Name, a.Recovery, audit.Entry{Kind: audit.RecoveryOffered, Reason: "account page"})
	return err
}
