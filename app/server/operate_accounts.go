package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/store"
)

// byOperator is the reason in the entries of what an operator does.
const byOperator = "command line"

// A Refusal says to an operator why nothing was done, and what to do. It wraps
// account.ErrNotFound, account.ErrLastOwner or account.ErrDisabled.
type Refusal struct {
	words string
	err   error
}

func (r *Refusal) Error() string { return r.words }

// Unwrap returns what the store said.
func (r *Refusal) Unwrap() error { return r.err }

// refusal puts what the store says of the account of that name into words.
func refusal(err error, name string) error {
	switch {
	case errors.Is(err, account.ErrNotFound):
		return &Refusal{fmt.Sprintf("no account is called %s: bio users lists them", name), err}
	case errors.Is(err, account.ErrLastOwner):
		return &Refusal{fmt.Sprintf("%s is the only owner who can sign in: make another first (bio invite --group owner), or add --last-owner", name), err}
	case errors.Is(err, account.ErrDisabled):
		return &Refusal{fmt.Sprintf("%s is disabled, and a recovery link would not open it: enable it first (bio users enable)", name), err}
	}
	return err
}

// act does what leaves an entry, and refuses in words.
func act(ctx context.Context, settings *config.Settings, name string, do func(*store.DB) error) error {
	db, err := openToAct(ctx, settings)
	if err != nil {
		return err
	}
	defer db.Close()
	return refusal(do(db), name)
}

// change is act for what leaves an entry unless the account is so already, and
// reports whether it was not.
func change(ctx context.Context, settings *config.Settings, name string, do func(*store.DB) (account.User, error)) (user account.User, changed bool, err error) {
	err = act(ctx, settings, name, func(db *store.DB) error {
		before, err := db.UserNamed(ctx, name)
		if err != nil {
			return err
		}
		user, err = do(db)
		changed = before.DisabledAt.IsZero() != user.DisabledAt.IsZero() || !slices.Equal(before.Groups, user.Groups)
		return err
	})
	return user, changed, err
}

// groupNames is account.Groups, with a refusal in words.
func groupNames(names []string) ([]string, error) {
	groups, err := account.Groups(names)
	if err == nil {
		return groups, nil
	}
	for _, name := range names {
		if _, err := account.Groups([]string{name}); err != nil {
			return nil, fmt.Errorf("%q is not a group: a group has up to 64 lower-case letters, digits, dots, hyphens and underscores, and begins with a letter or digit", name)
		}
	}
	return nil, fmt.Errorf("%d groups are more than one account can have", len(names))
}

// Invite makes an invitation beside a running server, or without one, and returns
// its link. It can be used once, for ttl or, when that is 0, until it is used.
func Invite(ctx context.Context, settings *config.Settings, groups []string, ttl time.Duration) (string, error) {
	groups, err := groupNames(groups)
	switch {
	case err != nil:
		return "", err
	case settings.Registration == config.RegistrationClosed && len(groups) == 0:
		return "", errors.New("BIO_REGISTRATION is closed, so nobody new can come in: set it to invite, or give --group for someone who has an account")
	case ttl < 0:
		return "", errors.New("an invitation cannot have expired already: write a time such as 168h, or 0")
	}
	db, err := openToAct(ctx, settings)
	if err != nil {
		return "", err
	}
	defer db.Close()
	token := newToken()
	invitation := account.Invitation{TokenHash: account.TokenHash(token), Groups: groups}
	if ttl > 0 {
		invitation.ExpiresAt = time.Now().Add(ttl)
	}
	entry := audit.Entry{Kind: audit.InvitationMade, Reason: byOperator}
	if len(groups) > 0 {
		entry.Detail = map[string]string{"groups": strings.Join(groups, " ")}
	}
	if err := db.Invite(ctx, invitation, entry); err != nil {
		return "", err
	}
	return inviteLink(settings, token), nil
}

func inviteLink(settings *config.Settings, token string) string {
	return settings.Origin() + "/?invite=" + token
}

// OfferRecovery makes a recovery link for the account of that name and returns it,
// with the account and the time until which the link works. The errors that a
// Refusal wraps are account.ErrNotFound and account.ErrDisabled.
func OfferRecovery(ctx context.Context, settings *config.Settings, name string, ttl time.Duration) (link string, user account.User, expires time.Time, err error) {
	if ttl <= 0 {
		return "", account.User{}, time.Time{}, errors.New("a recovery link always expires: write a time such as 24h")
	}
	token := newToken()
	expires = time.Now().Add(ttl)
	err = act(ctx, settings, name, func(db *store.DB) (err error) {
		user, err = db.OfferRecovery(ctx, name, account.Recovery{TokenHash: account.TokenHash(token), ExpiresAt: expires},
			audit.Entry{Kind: audit.RecoveryOffered, Reason: byOperator})
		return err
	})
	if err != nil {
		return "", account.User{}, time.Time{}, err
	}
	return recoverLink(settings, token), user, expires, nil
}

// Users calls each with every account, by name, until it returns an error.
func Users(ctx context.Context, settings *config.Settings, each func(store.Listed) error) error {
	db, err := openDatabase(ctx, settings)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Users(ctx, each)
}

// User returns the account of that name, in any case of letters; a Refusal of
// account.ErrNotFound when there is none.
func User(ctx context.Context, settings *config.Settings, name string) (account.User, error) {
	db, err := openDatabase(ctx, settings)
	if err != nil {
		return account.User{}, err
	}
	defer db.Close()
	user, err := db.UserNamed(ctx, name)
	return user, refusal(err, name)
}

// DisableUser ends all sessions of the account, lets nobody sign in to it, and
// returns how many they were. Without changed it was disabled already. The errors
// that a Refusal wraps are account.ErrNotFound and, unless lastOwner is set,
// account.ErrLastOwner.
func DisableUser(ctx context.Context, settings *config.Settings, name string, lastOwner bool) (user account.User, ended int, changed bool, err error) {
	user, changed, err = change(ctx, settings, name, func(db *store.DB) (account.User, error) {
		u, ids, err := db.DisableUser(ctx, name, lastOwner, audit.Entry{Kind: audit.Disabled, Reason: byOperator})
		ended = len(ids)
		return u, err
	})
	return user, ended, changed, err
}

// EnableUser lets its people sign in to the account again. Without changed they
// could. The error that a Refusal wraps is account.ErrNotFound.
func EnableUser(ctx context.Context, settings *config.Settings, name string) (user account.User, changed bool, err error) {
	return change(ctx, settings, name, func(db *store.DB) (account.User, error) {
		return db.EnableUser(ctx, name, audit.Entry{Kind: audit.Enabled, Reason: byOperator})
	})
}

// SetGroups makes the account a member of these groups and of no other. Without
// changed it was so already. The errors that a Refusal wraps are those of
// DisableUser.
func SetGroups(ctx context.Context, settings *config.Settings, name string, groups []string, lastOwner bool) (user account.User, changed bool, err error) {
	if groups, err = groupNames(groups); err != nil {
		return account.User{}, false, err
	}
	return change(ctx, settings, name, func(db *store.DB) (account.User, error) {
		return db.SetGroups(ctx, name, groups, lastOwner, audit.Entry{Kind: audit.GroupsSet, Reason: byOperator})
	})
}

// EraseUser erases an account and all that is theirs. When clean is false, a reader
// holds traces in the WAL, which go when it has let go. The errors that a Refusal
// wraps are those of DisableUser.
func EraseUser(ctx context.Context, settings *config.Settings, e store.Erasure) (user account.User, clean bool, err error) {
	err = act(ctx, settings, e.Name, func(db *store.DB) (err error) {
		user, clean, err = db.EraseUser(ctx, e, audit.Entry{Kind: audit.Erased, Reason: byOperator})
		return err
	})
	return user, clean, err
}

// RevokeSessions ends all sessions of the account and returns how many they were.
// The error that a Refusal wraps is account.ErrNotFound.
func RevokeSessions(ctx context.Context, settings *config.Settings, name string) (user account.User, ended int, err error) {
	err = act(ctx, settings, name, func(db *store.DB) (err error) {
		user, ended, err = db.RevokeSessions(ctx, name, byOperator)
		return err
	})
	return user, ended, err
}

// RevokeAllSessions ends all sessions of everybody and returns how many they were.
// On an error those have ended, and others are left.
func RevokeAllSessions(ctx context.Context, settings *config.Settings) (ended int, err error) {
	err = act(ctx, settings, "", func(db *store.DB) (err error) {
		ended, err = db.RevokeAllSessions(ctx, byOperator)
		return err
	})
	return ended, err
}
