// Package audittest checks the trail from outside: the Merkle tree as RFC 6962 and
// RFC 9162 define it, for tests. It knows no more of package audit than the text
// of an export, and shares no code with it.
package audittest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"
)

// Root computes the root of the tree (32 bytes; RFC 6962 §2.1) of an export of a
// whole log: from its first entry up to its checkpoint's size. What the checkpoint
// says the root is, is Claimed's to read.
func Root(export io.Reader) (root []byte, size int64, err error) {
	r := bufio.NewReader(export)
	_, size, first, end, err := header(r)
	if err != nil {
		return nil, 0, err
	}
	if first != 0 || end != size {
		return nil, 0, fmt.Errorf("audittest: entries %d up to %d of %d, not the whole log", first, end, size)
	}
	var leaves [][]byte
	for {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("audittest: line %d: %w", len(leaves)+2, err)
		}
		var line struct {
			Index int64
			Leaf  json.RawMessage // as it stands there
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, 0, fmt.Errorf("audittest: line %d: %w", len(leaves)+2, err)
		}
		if line.Index != int64(len(leaves)) {
			return nil, 0, fmt.Errorf("audittest: entry %d where %d is due", line.Index, len(leaves))
		}
		leaf := sha256.Sum256(append([]byte{0x00}, line.Leaf...))
		leaves = append(leaves, leaf[:])
	}
	if int64(len(leaves)) != size {
		return nil, 0, fmt.Errorf("audittest: %d entries of %d", len(leaves), size)
	}
	return treeHash(leaves), size, nil
}

// Claimed reads the root and the size that an export's checkpoint says. It does
// not look at the signatures.
func Claimed(export io.Reader) (root []byte, size int64, err error) {
	root, size, _, _, err = header(bufio.NewReader(export))
	return root, size, err
}

// header reads the first line of an export, and of it the text of the signed note.
func header(r *bufio.Reader) (root []byte, size, first, end int64, err error) {
	text, err := r.ReadBytes('\n')
	if err != nil {
		return nil, 0, 0, 0, fmt.Errorf("audittest: first line: %w", err)
	}
	var h struct {
		Checkpoint string
		First, End int64
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, 0, 0, 0, fmt.Errorf("audittest: first line: %w", err)
	}
	lines := strings.Split(h.Checkpoint, "\n")
	if len(lines) < 5 || lines[3] != "" {
		return nil, 0, 0, 0, errors.New("audittest: the checkpoint is no note of three lines")
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return nil, 0, 0, 0, fmt.Errorf("audittest: checkpoint: %w", err)
	}
	root, err = base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return nil, 0, 0, 0, fmt.Errorf("audittest: checkpoint: %w", err)
	}
	return root, size, h.First, h.End, nil
}

// treeHash is MTH of RFC 6962 §2.1 over the leaves' hashes.
func treeHash(leaves [][]byte) []byte {
	switch n := len(leaves); n {
	case 0:
		empty := sha256.Sum256(nil)
		return empty[:]
	case 1:
		return leaves[0]
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two below n
		return node(treeHash(leaves[:k]), treeHash(leaves[k:]))
	}
}

func node(left, right []byte) []byte {
	h := sha256.Sum256(bytes.Join([][]byte{{0x01}, left, right}, nil))
	return h[:]
}

// InclusionRoot computes the root of a tree of size entries from the hash of its
// leaf at index and the inclusion proof of it (RFC 9162 §2.1.3.2); nil when the
// proof cannot be one.
func InclusionRoot(leafHash []byte, index, size int64, proof [][]byte) []byte {
	if index < 0 || index >= size {
		return nil
	}
	fn, sn, r := index, size-1, leafHash
	for _, p := range proof {
		if sn == 0 {
			return nil
		}
		if fn&1 == 1 || fn == sn {
			r = node(p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = node(r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return nil
	}
	return r
}
