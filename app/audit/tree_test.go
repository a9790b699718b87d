package audit

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// forest is a tree of leaves that are their own numbers.
type forest []tlog.Hash

func (f *forest) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		list[i] = (*f)[n]
	}
	return list, nil
}

func leafHash(n int64) tlog.Hash { return tlog.RecordHash(fmt.Append(nil, n)) }

func (f *forest) add(t testing.TB, n int64) []tlog.Hash {
	hashes, err := tlog.StoredHashesForRecordHash(n, leafHash(n), f)
	if err != nil {
		t.Fatal(err)
	}
	*f = append(*f, hashes...)
	return hashes
}

// What peaks sees and its root are what tlog stores and computes; each stored hash
// is where Place says.
func TestPeaks(t *testing.T) {
	var f forest
	var p peaks
	if want, _ := tlog.TreeHash(0, nil); p.root() != want {
		t.Errorf("the empty tree is %v, want %v", p.root(), want)
	}
	rows := map[int64][]tlog.Hash{}
	for n := range int64(3001) {
		want := f.add(t, n)
		rows[n] = want
		var seen []tlog.Hash
		if err := p.add(0, leafHash(n), func(level int, h tlog.Hash) tlog.Hash {
			if level != len(seen) {
				t.Fatalf("entry %d: level %d is seen after %d", n, level, len(seen))
			}
			seen = append(seen, h)
			return h
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(seen, want) || completed(n) != len(want) {
			t.Fatalf("entry %d completes %d subtrees of which %d are seen, want %d", n, completed(n), len(seen), len(want))
		}
		if n > 600 && n%499 != 0 && n&(n+1) != 0 && n < 2999 {
			continue
		}
		root, err := tlog.TreeHash(n+1, &f)
		if err != nil {
			t.Fatal(err)
		}
		if p.root() != root || p.size != n+1 {
			t.Fatalf("the root of %d entries is %v of %d, want %v", n+1, p.root(), p.size, root)
		}
	}
	for stored := range int64(len(f)) {
		index, level := Place(stored)
		if rows[index][level] != f[stored] {
			t.Fatalf("stored hash %d is not beside entry %d at level %d", stored, index, level)
		}
	}
}

// The answer of see is used from there on.
func TestPeaksSee(t *testing.T) {
	var p peaks
	other := leafHash(99)
	_ = p.add(0, leafHash(0), func(int, tlog.Hash) tlog.Hash { return other })
	_ = p.add(0, leafHash(1), nil)
	if want := tlog.NodeHash(other, leafHash(1)); p.root() != want {
		t.Errorf("the root is %v, want %v", p.root(), want)
	}
}

func TestPeaksRefuse(t *testing.T) {
	p := peaks{}
	_ = p.add(0, leafHash(0), nil)
	if err := p.add(1, leafHash(1), nil); err == nil {
		t.Error("a pair stands at entry 1")
	}
	for n := range 4 {
		if err := p.addSpan(8, make([]tlog.Hash, n)); (err == nil) != (n == 3) {
			t.Errorf("entries 1 up to 8 as %d subtrees: %v", n, err)
		}
		p = peaks{}
		_ = p.add(0, leafHash(0), nil)
	}
}

// A large tree is one of its halves again and again.
func TestPeaksLarge(t *testing.T) {
	for _, size := range []int64{1<<20 - 1, 1 << 20, 1<<20 + 1, 1<<40 + 12345, 1<<62 - 1, 1<<63 - 1} {
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var list []tlog.Hash
			for _, i := range indexes {
				list = append(list, leafHash(i))
			}
			return list, nil
		})
		hashes, err := spanHashes(0, size, reader)
		if err != nil {
			t.Fatal(err)
		}
		var p peaks
		if err := p.addSpan(size, hashes); err != nil {
			t.Fatal(err)
		}
		if p.size != size || len(p.nodes) != bits.OnesCount64(uint64(size)) {
			t.Errorf("%d entries became %d in %d subtrees", size, p.size, len(p.nodes))
		}
		if size >= 1<<62 {
			continue // tlog counts in int64, and past them
		}
		if want, _ := tlog.TreeHash(size, reader); p.root() != want {
			t.Errorf("the root of %d entries is %v, want %v", size, p.root(), want)
		}
	}
}

// checkSpan holds span to what it says: complete subtrees, side by side, that are
// all of the entries, and the fewest.
func checkSpan(t interface{ Fatalf(string, ...any) }, from, to int64) {
	at := from
	for _, level := range span(from, to) {
		if at&(1<<level-1) != 0 {
			t.Fatalf("[%d, %d): no subtree of level %d begins at %d", from, to, level, at)
		}
		// The one above does not begin here or ends too late: none larger fits.
		if width := int64(1) << level; at&(2*width-1) == 0 && to-at >= 2*width && 2*width > 0 {
			t.Fatalf("[%d, %d): a larger subtree than level %d stands at %d", from, to, level, at)
		}
		at += 1 << level
	}
	if at != max(from, to) {
		t.Fatalf("[%d, %d) is covered up to %d", from, to, at)
	}
}

func TestSpan(t *testing.T) {
	for from := range int64(130) {
		for to := range int64(130) {
			checkSpan(t, from, to)
		}
	}
	checkSpan(t, 0, 1<<62)
	checkSpan(t, 1<<62, 1<<63-1)
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(0, 1<<62).Draw(t, "from")
		checkSpan(t, from, from+rapid.Int64Range(0, 1<<62-1).Draw(t, "width"))
	})
}

// A tree put together from any three runs has the root of the whole.
func TestSpanHashes(t *testing.T) {
	const most = 300
	var f forest
	for n := range int64(most) {
		f.add(t, n)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, most).Draw(t, "size")
		end := rapid.Int64Range(0, size).Draw(t, "end")
		first := rapid.Int64Range(0, end).Draw(t, "first")
		var p peaks
		for _, run := range [][2]int64{{0, first}, {first, end}, {end, size}} {
			hashes, err := spanHashes(run[0], run[1], &f)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.addSpan(run[1], hashes); err != nil {
				t.Fatal(err)
			}
		}
		if want, _ := tlog.TreeHash(size, &f); p.root() != want {
			t.Fatalf("another root of %d", size)
		}
	})
}
