package audit

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Every entry completes one subtree of each level up to the number of trailing
// ones of its index: itself, perhaps a pair, perhaps four. The hashes of these
// are kept beside it, lowest first, so that the tree is stored in one row an entry.

// completed is how many subtrees the entry at index completes.
func completed(index int64) int { return bits.TrailingZeros64(^uint64(index)) + 1 }

// Place is where a stored hash of tlog's numbering is kept: beside the entry at
// index, the level'th of its hashes.
func Place(stored int64) (index int64, level int) {
	level, n := tlog.SplitStoredHashIndex(stored)
	return (n+1)<<level - 1, level
}

// peaks is a run of entries [0, size) of a tree as the fewest complete subtrees.
type peaks struct {
	size  int64
	nodes []peak
}

type peak struct {
	level int
	hash  tlog.Hash
}

// add puts a complete subtree of 1<<level entries to the right of what is there.
// It merges what makes a larger one; each subtree, the added one first, is shown
// to see, whose answer is used for it from there on.
func (p *peaks) add(level int, h tlog.Hash, see func(level int, h tlog.Hash) tlog.Hash) error {
	if p.size&(1<<level-1) != 0 {
		return errors.New("audit: no subtree of that size begins there")
	}
	p.size += 1 << level
	for {
		if see != nil {
			h = see(level, h)
		}
		last := len(p.nodes) - 1
		if last < 0 || p.nodes[last].level != level {
			break
		}
		h = tlog.NodeHash(p.nodes[last].hash, h)
		p.nodes = p.nodes[:last]
		level++
	}
	p.nodes = append(p.nodes, peak{level, h})
	return nil
}

// root is the hash of the tree of these entries (RFC 6962 §2.1).
func (p *peaks) root() tlog.Hash {
	last := len(p.nodes) - 1
	if last < 0 {
		root, _ := tlog.TreeHash(0, nil) // reads nothing
		return root
	}
	h := p.nodes[last].hash
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(p.nodes[i].hash, h)
	}
	return h
}

// span returns the levels of the fewest complete subtrees that make up the
// entries [from, to), left to right.
func span(from, to int64) []int {
	var levels []int
	for from < to {
		level := bits.Len64(uint64(to-from)) - 1
		if from > 0 {
			level = min(level, bits.TrailingZeros64(uint64(from)))
		}
		levels = append(levels, level)
		from += 1 << level
	}
	return levels
}

// spanHashes reads the hashes of span(from, to).
func spanHashes(from, to int64, r tlog.HashReader) ([]tlog.Hash, error) {
	var indexes []int64
	for _, level := range span(from, to) {
		indexes = append(indexes, tlog.StoredHashIndex(level, from>>level))
		from += 1 << level
	}
	if len(indexes) == 0 {
		return nil, nil
	}
	return r.ReadHashes(indexes)
}

// addSpan adds hashes as spanHashes gave them.
func (p *peaks) addSpan(to int64, hashes []tlog.Hash) error {
	levels := span(p.size, to)
	if len(levels) != len(hashes) {
		return fmt.Errorf("audit: %d hashes for the entries from %d to %d, which are %d subtrees", len(hashes), p.size, to, len(levels))
	}
	for i, level := range levels {
		if err := p.add(level, hashes[i], nil); err != nil {
			return err
		}
	}
	return nil
}
