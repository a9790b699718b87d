package passkey

import "errors"

// What can be wrong with an answer. Every error of this package wraps exactly one.
var (
	// ErrMalformed says that the credential cannot be read: JSON, base64url or CBOR.
	ErrMalformed = errors.New("passkey: malformed credential")
	// ErrRefused says that the ceremony's verification failed; Reason says where.
	ErrRefused = errors.New("passkey: refused")
	// ErrUnknown says that no such passkey is registered here.
	ErrUnknown = errors.New("passkey: unknown credential")
	// ErrChallenge says that the challenge is too old, or of another browser or purpose.
	ErrChallenge = errors.New("passkey: challenge not valid")
	// ErrChallengeUsed says that the challenge was consumed before. The store
	// returns it: consuming is part of the transaction that it authorises.
	ErrChallengeUsed = errors.New("passkey: challenge already used")
)

// Refusal is an ErrRefused with its class, which the trail keeps and no page shows.
type Refusal struct {
	Reason string // a fixed phrase, never input
	User   string // id of the user whose passkey was named, or empty
}

func (r *Refusal) Error() string        { return ErrRefused.Error() + ": " + r.Reason }
func (r *Refusal) Is(target error) bool { return target == ErrRefused }
