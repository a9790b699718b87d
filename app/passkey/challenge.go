package passkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"
)

// Purpose is what a challenge may be used for: the sign-in, or one sensitive
// action on one thing. A press for one never serves another.
type Purpose string

// SignIn is the purpose of the button: register or sign in.
const SignIn Purpose = "sign-in"

// UndoDuplicate is the purpose of proving an older account from the first page
// of the new account of that user id.
func UndoDuplicate(userID string) Purpose { return Purpose("undo-duplicate " + userID) }

// AddPasskey is the purpose of adding a passkey to the account of that user id.
func AddPasskey(userID string) Purpose { return Purpose("add-passkey " + userID) }

// Act is the purpose of one sensitive act of that user id: the address that it is
// posted to names it, and the thing that it is about.
func Act(userID, address string) Purpose { return Purpose("act " + userID + " " + address) }

// Recover is the purpose of making a passkey by the recovery link with that hash.
func Recover(tokenHash []byte) Purpose { return Purpose("recover " + hex.EncodeToString(tokenHash)) }

// A challenge is issued (unix ms, 8 bytes) ‖ random (16) ‖ MAC (16), and behind
// these, under the same MAC, what it carries: mostly nothing.
const (
	challengeLen = 40
	signedLen    = 24
	macLen       = 16
	maxCarried   = 512
)

// skew is how far ahead another instance's clock may be.
const skew = time.Minute

// keys are what one root secret gives: challenges are authenticated and user
// handles derived with it. The pools keep keyed hashes, which cost more to make
// than to use.
type keys struct{ mac, handle *sync.Pool }

func newKeys(secret []byte) keys {
	pool := func(label string) *sync.Pool {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(label))
		key := mac.Sum(nil)
		return &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	}
	return keys{mac: pool("challenge"), handle: pool("user handle")}
}

func sum(pool *sync.Pool, dst []byte, write func(hash.Hash)) []byte {
	h := pool.Get().(hash.Hash)
	defer pool.Put(h)
	h.Reset()
	write(h)
	return h.Sum(dst)
}

// tag is the challenge's MAC over its first 24 bytes, the purpose, the browser's
// binding and what it carries. A NUL, which occurs in neither purpose nor binding,
// keeps them apart.
func (k keys) tag(signed []byte, purpose Purpose, binding string, carried []byte) []byte {
	return sum(k.mac, make([]byte, 0, sha256.Size), func(h hash.Hash) {
		h.Write(signed)
		h.Write([]byte(purpose))
		h.Write([]byte{0})
		h.Write([]byte(binding))
		if len(carried) > 0 {
			h.Write([]byte{0})
			h.Write(carried)
		}
	})[:macLen]
}

// userHandle derives the handle of the account that would be created, so that
// nothing is stored for a visitor who only looks.
func (k keys) userHandle(challenge []byte) []byte {
	return sum(k.handle, make([]byte, 0, sha256.Size), func(h hash.Hash) { h.Write(challenge) })
}

// issue makes a fresh challenge, without what it carries.
func (k keys) issue(now time.Time, purpose Purpose, binding string, carried []byte) []byte {
	c := make([]byte, signedLen, challengeLen)
	binary.BigEndian.PutUint64(c, uint64(now.UnixMilli()))
	rand.Read(c[8:signedLen])
	return append(c, k.tag(c, purpose, binding, carried)...)
}

// redeemed is a challenge of ours.
type redeemed struct {
	challenge []byte // without what it carries
	carried   []byte
	expires   time.Time
	keys      keys // that it was made with
}

// redeemOwn checks a challenge as it stands in the client data. Every error is
// ErrChallenge.
func (rp *RelyingParty) redeemOwn(encoded string, purpose Purpose, binding string) (redeemed, error) {
	fail := func(why string) (redeemed, error) { return redeemed{}, fmt.Errorf("%w: %s", ErrChallenge, why) }
	c, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	// The decoder passes over line breaks, which no browser writes.
	if err != nil || len(c) < challengeLen || len(c) > challengeLen+maxCarried || strings.ContainsAny(encoded, "\r\n") {
		return fail("not one of ours")
	}
	c, carried := c[:challengeLen:challengeLen], append([]byte(nil), c[challengeLen:]...)
	for _, k := range rp.keys {
		if subtle.ConstantTimeCompare(c[signedLen:], k.tag(c[:signedLen], purpose, binding, carried)) != 1 {
			continue
		}
		issued := time.UnixMilli(int64(binary.BigEndian.Uint64(c)))
		expires := issued.Add(rp.ttl)
		switch now := rp.now(); {
		case issued.After(now.Add(skew)):
			return fail("from the future")
		case !now.Before(expires):
			return fail("expired")
		}
		return redeemed{c, carried, expires, k}, nil
	}
	return fail("another browser's, purpose's or installation's")
}
