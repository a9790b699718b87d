package account

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Name proposes an account name for a user handle: two words and a number, such
// as cedar-otter-42. attempt is 0 for the first proposal and counts up when a
// name is taken; from the fourth on the number has four digits. It is derived, so
// that the name a page offers is the name the server gives.
func Name(handle []byte, attempt int) string {
	sum := sha256.Sum256(append([]byte("bio account name\x00"+strconv.Itoa(attempt)+"\x00"), handle...))
	low, span := uint32(10), uint32(90)
	if attempt >= 3 {
		low, span = 1000, 9000
	}
	first := binary.BigEndian.Uint32(sum[0:]) % uint32(len(firstWords))
	second := binary.BigEndian.Uint32(sum[4:]) % uint32(len(secondWords))
	number := low + binary.BigEndian.Uint32(sum[8:])%span
	return firstWords[first] + "-" + secondWords[second] + "-" + strconv.Itoa(int(number))
}

// Names are the proposals for a user handle, in order.
func Names(handle []byte) []string {
	names := make([]string, 8)
	for i := range names {
		names[i] = Name(handle, i)
	}
	return names
}

// minUserName and maxUserName bound the names that people give their accounts.
const minUserName, maxUserName = 2, 40

// userName is what an account can be called: what means itself in a header and in
// a shell, without the letters of other scripts that look like these.
var userName = regexp.MustCompile(`^[A-Za-z0-9]+([-._ ][A-Za-z0-9]+)*$`)

// looksLikeID is what a name must not look like.
var looksLikeID = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)

// UserName returns an account's name as its person gave it, without the white
// space around it: 2 to 40 ASCII letters and digits, with single hyphens, dots,
// underscores and spaces between them, and not what looks like a user id. Otherwise it is ErrBadUserName.
func UserName(name string) (string, error) {
	name = strings.Trim(name, " \t\r\n")
	if len(name) < minUserName || len(name) > maxUserName || !userName.MatchString(name) || looksLikeID.MatchString(name) {
		return "", ErrBadUserName
	}
	return name, nil
}

// group is what a group can be called, so that it means itself in a header.
var group = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// MaxGroups is how many groups one account or invitation may have.
const MaxGroups = 32

// Groups returns the names sorted and without duplicates. Each has up to 64
// lower-case letters, digits, dots, hyphens and underscores, and there are at most
// 32; otherwise it is ErrBadGroup.
func Groups(names []string) ([]string, error) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > MaxGroups || slices.ContainsFunc(names, func(name string) bool { return !group.MatchString(name) }) {
		return nil, ErrBadGroup
	}
	return names, nil
}
