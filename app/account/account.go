// Package account says who a person is to Bio: users, the passkeys that prove
// them, and the invitations that let them in. It holds types and rules and does
// no input or output.
package account

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrNotFound says that no such user, credential or invitation exists.
	ErrNotFound = errors.New("account: not found")
	// ErrCredentialExists says that a credential id is already registered, to
	// this user or another (WebAuthn L3 §7.1 step 26).
	ErrCredentialExists = errors.New("account: credential already registered")
	// ErrLastOwner says that without this user nobody would be an owner.
	ErrLastOwner = errors.New("account: the last owner")
	// ErrTooMany says that the account has as many passkeys as it may have.
	ErrTooMany = errors.New("account: too many passkeys")
	// ErrLastCredential says that without this passkey nobody could sign in to
	// the account.
	ErrLastCredential = errors.New("account: the last passkey cannot be removed")
	// ErrBadName says that a passkey cannot be called so: see CredentialName.
	ErrBadName = errors.New("account: bad name")
	// ErrBadUserName says that an account cannot be called so: see UserName.
	ErrBadUserName = errors.New("account: bad account name")
	// ErrNameTaken says that another account has the name.
	ErrNameTaken = errors.New("account: name taken")
	// ErrBadGroup says that a group cannot be called so: see Groups.
	ErrBadGroup = errors.New("account: bad group name")
	// ErrInvitation says that an invitation is unknown, used or expired.
	ErrInvitation = errors.New("account: invitation cannot be used")
	// ErrRecovery says that a recovery link is unknown, used, replaced or expired.
	ErrRecovery = errors.New("account: recovery link cannot be used")
	// ErrDisabled says that an operator has disabled the account.
	ErrDisabled = errors.New("account: disabled")
	// ErrOtherAccount says that a passkey is not one of the account that it was
	// used for.
	ErrOtherAccount = errors.New("account: the passkey of another account")
	// ErrNotOwner says that only an owner may do that.
	ErrNotOwner = errors.New("account: not an owner")
)

// EarlyError says that a passkey was made by a recovery and that its time has not
// come.
type EarlyError struct {
	EffectiveAt time.Time
	Wait        time.Duration // until then
}

func (e *EarlyError) Error() string {
	return "account: the recovery waits until " + e.EffectiveAt.UTC().Format(time.RFC3339)
}

// MaxCredentials is how many passkeys an account may have.
const MaxCredentials = 100

// Owner is the group whose members run this installation.
const Owner = "owner"

// User is one account.
type User struct {
	ID        string    // UserID(Handle): 32 hex digits, the subject of tokens
	Handle    []byte    // WebAuthn user handle: 32 bytes, never shown
	Name      string    // cedar-otter-42: unique, shown by the authenticator's chooser
	Groups    []string  // sorted, without duplicates
	CreatedAt time.Time // when its first passkey was registered
	// DisabledAt is since when nobody can sign in to it; zero: they can.
	DisabledAt time.Time
}

// UserID derives a user's public identifier from the WebAuthn user handle. It is
// one-way, so that an identifier in a log or a header does not give the handle.
func UserID(handle []byte) string {
	sum := sha256.Sum256(append([]byte("bio user id\x00"), handle...))
	return hex.EncodeToString(sum[:16])
}

// In reports whether the user is a member of group.
func (u User) In(group string) bool { return slices.Contains(u.Groups, group) }

// Authenticator data flags (WebAuthn L3 §6.1).
const (
	FlagUserPresent    = 1 << 0
	FlagUserVerified   = 1 << 2
	FlagBackupEligible = 1 << 3
	FlagBackupState    = 1 << 4
)

// Credential is one registered passkey.
type Credential struct {
	ID                []byte // 16 to 1023 bytes, unique over all users
	UserID            string
	UserHandle        []byte
	PublicKey         []byte // COSE_Key
	SignCount         uint32
	Flags             byte // authenticator data flags of the last accepted ceremony
	AAGUID            []byte
	Transports        []string // as the browser reported them at registration
	AttestationType   string
	AttestationFormat string
	Name              string
	CreatedAt         time.Time
	LastUsedAt        time.Time
	// EffectiveAt is from when a passkey that a recovery made opens the account;
	// zero: it does.
	EffectiveAt time.Time
}

// BackupEligible reports whether the passkey may be synced between devices.
func (c Credential) BackupEligible() bool { return c.Flags&FlagBackupEligible != 0 }

// BackupState reports whether the passkey is backed up at present.
func (c Credential) BackupState() bool { return c.Flags&FlagBackupState != 0 }

// DeviceType is "multi" for a synced passkey and "single" for a device-bound one.
func (c Credential) DeviceType() string {
	if c.BackupEligible() {
		return "multi"
	}
	return "single"
}

// maxName is how many runes a passkey's name may have.
const maxName = 64

// CredentialName returns a passkey's name as its owner gave it, without the white
// space around it: 1 to 64 runes of valid UTF-8, of which one at least can be
// seen, on one line, and none that changes the direction of what is written
// around it (Unicode Bidi_Control, UAX #9). Otherwise it is ErrBadName.
func CredentialName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", ErrBadName
	}
	name = strings.TrimSpace(name)
	visible := func(r rune) bool {
		return r != ' ' && unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
	}
	stray := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) }
	if utf8.RuneCountInString(name) > maxName || !strings.ContainsFunc(name, visible) || strings.ContainsFunc(name, stray) {
		return "", ErrBadName
	}
	return name, nil
}

// CredentialRef is what everything but the credential's own row calls a
// credential: 32 hex digits. It is one-way, so that sessions, records and logs
// join on it without giving the id.
func CredentialRef(id []byte) string {
	sum := sha256.Sum256(append([]byte("bio credential\x00"), id...))
	return hex.EncodeToString(sum[:16])
}

// Recovery is a link by which a person who has lost every passkey asks for their
// account, once. Only the hash of its token is stored.
type Recovery struct {
	UserID    string
	TokenHash []byte // TokenHash of the token
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // zero: not yet
}

// Usable reports whether the link can still be used at the time now.
func (r Recovery) Usable(now time.Time) bool { return r.UsedAt.IsZero() && now.Before(r.ExpiresAt) }

// Invitation lets its bearer in, once. Only the hash of its token is stored.
type Invitation struct {
	TokenHash []byte // TokenHash of the token
	Groups    []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: until it is used
	UsedAt    time.Time // zero: not yet
}

// Usable reports whether the invitation can still be used at the time now.
func (i Invitation) Usable(now time.Time) bool {
	return i.UsedAt.IsZero() && (i.ExpiresAt.IsZero() || now.Before(i.ExpiresAt))
}

// TokenHash is what is stored of the token of an invitation or a recovery link. A token that is not
// strict base64url of at least 16 bytes has the hash nil, which matches nothing.
func TokenHash(token string) []byte {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	// The decoder passes over line breaks.
	if err != nil || len(raw) < 16 || strings.ContainsAny(token, "\r\n") {
		return nil
	}
	sum := sha256.Sum256(append([]byte("bio invitation\x00"), raw...))
	return sum[:]
}
