package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/store"
)

// groupName is what a group may be called, so that it means itself in a header.
var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Invite makes an invitation beside a running server, or without one, and returns
// its link. It can be used once, for ttl or, when that is 0, until it is used.
func Invite(ctx context.Context, settings *config.Settings, groups []string, ttl time.Duration) (string, error) {
	for _, group := range groups {
		if !groupName.MatchString(group) {
			return "", fmt.Errorf("%q is not a group: a group has up to 64 lower-case letters, digits, dots, hyphens and underscores", group)
		}
	}
	if settings.Registration == config.RegistrationClosed && len(groups) == 0 {
		return "", errors.New("BIO_REGISTRATION is closed, so nobody new can come in: set it to invite, or give --group for someone who has an account")
	}
	if ttl < 0 {
		return "", fmt.Errorf("an invitation cannot have expired already: write a time such as 168h, or 0")
	}
	if _, err := os.Stat(strings.TrimPrefix(settings.Database, "file:")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no database yet: start Bio once with these settings, then invite")
	}
	db, err := store.Open(ctx, settings.Database, time.Now)
	if err != nil {
		return "", err
	}
	defer db.Close()
	raw := make([]byte, 18)
	rand.Read(raw)
	token := base64.RawURLEncoding.EncodeToString(raw)
	invitation := account.Invitation{TokenHash: account.InvitationHash(token), Groups: groups}
	if ttl > 0 {
		invitation.ExpiresAt = time.Now().Add(ttl)
	}
	entry := audit.Entry{Kind: audit.InvitationMade, Reason: "command line"}
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
