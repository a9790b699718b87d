package audittest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// leaves and roots are those of Certificate Transparency's own tests: roots[n] is
// that of the first n leaves.
var (
	leaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots  = []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
)

func hashes(t *testing.T) (list [][]byte) {
	for _, l := range leaves {
		b, err := hex.DecodeString(l)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.Sum256(append([]byte{0}, b...))
		list = append(list, h[:])
	}
	return list
}

func TestTreeHash(t *testing.T) {
	list := hashes(t)
	for n, want := range roots {
		if got := hex.EncodeToString(treeHash(list[:n])); got != want {
			t.Errorf("%d leaves: %s, want %s", n, got, want)
		}
	}
}

// proof is PATH of RFC 6962 §2.1.1.
func proof(index int, list [][]byte) [][]byte {
	if len(list) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(list) {
		k *= 2
	}
	if index < k {
		return append(proof(index, list[:k]), treeHash(list[k:]))
	}
	return append(proof(index-k, list[k:]), treeHash(list[:k]))
}

func TestInclusionRoot(t *testing.T) {
	list := hashes(t)
	for size := 1; size <= len(list); size++ {
		for index := range size {
			want, path := treeHash(list[:size]), proof(index, list[:size])
			root := func(index, size int, path [][]byte) []byte {
				return InclusionRoot(list[index%len(list)], int64(index), int64(size), path)
			}
			if !bytes.Equal(root(index, size, path), want) {
				t.Errorf("entry %d of %d: another root", index, size)
			}
			if bytes.Equal(root(index, size, append(path, list[0])), want) || len(path) > 0 && bytes.Equal(root(index, size, path[1:]), want) {
				t.Errorf("entry %d of %d: a proof of another length gives the root", index, size)
			}
			if other := (index + 1) % size; other != index && bytes.Equal(root(other, size, path), want) {
				t.Errorf("entry %d of %d: the proof of entry %d gives the root", other, size, index)
			}
		}
		if InclusionRoot(list[0], int64(size), int64(size), nil) != nil || InclusionRoot(list[0], -1, int64(size), nil) != nil {
			t.Errorf("an entry outside of %d has a root", size)
		}
	}
}

func TestRootRefuses(t *testing.T) {
	const (
		note  = `"checkpoint":"a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— a AAAA\n"`
		line0 = `{"index":0,"leaf":{}}` + "\n"
	)
	for name, export := range map[string]string{
		"nothing":        "",
		"no JSON":        "x\n",
		"no note":        `{"checkpoint":"a","first":0,"end":1}` + "\n" + line0,
		"a part":         "{" + note + `,"first":1,"end":1}` + "\n",
		"one too few":    "{" + note + `,"first":0,"end":1}` + "\n",
		"one too many":   "{" + note + `,"first":0,"end":1}` + "\n" + line0 + `{"index":1,"leaf":{}}` + "\n",
		"another index":  "{" + note + `,"first":0,"end":1}` + "\n" + `{"index":1,"leaf":{}}` + "\n",
		"half a line":    "{" + note + `,"first":0,"end":1}` + "\n" + strings.TrimSuffix(line0, "\n"),
		"a line no JSON": "{" + note + `,"first":0,"end":1}` + "\nx\n",
	} {
		if _, _, err := Root(strings.NewReader(export)); err == nil {
			t.Errorf("%s: a root", name)
		}
	}
	whole := "{" + note + `,"first":0,"end":1}` + "\n" + line0
	root, size, err := Root(strings.NewReader(whole))
	if want := sha256.Sum256([]byte("\x00{}")); err != nil || size != 1 || !bytes.Equal(root, want[:]) {
		t.Errorf("one entry: %x of %d, %v", root, size, err)
	}
	claimed, size, err := Claimed(strings.NewReader(whole))
	if want := sha256.Sum256(nil); err != nil || size != 1 || !bytes.Equal(claimed, want[:]) {
		t.Errorf("its checkpoint: %x of %d, %v", claimed, size, err)
	}
}
