package account

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
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
