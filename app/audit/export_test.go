package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/mod/sumdb/tlog"

	"bio/app/audit/audittest"
)

// export writes the entries [first, end) of the log as it was at size, after an
// export made at previous.
func (l *testLog) export(t testing.TB, first, end, size, previous int64) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := NewExporter(&b, ExportHeader{
		Checkpoint: string(l.sign(size, l.root(size))), Since: "2026-11-01", Until: "2026-12-01", First: first, End: end, Previous: previous,
	}, size, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.entries[first:end] {
		if err := e.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func silent(int64, int64) {}

func (l *testLog) checkExport(text []byte) (ExportReport, error) {
	return CheckExport(bytes.NewReader(text), l.known, silent)
}

func (l *testLog) mustCheck(t testing.TB, text []byte) ExportReport {
	t.Helper()
	r, err := l.checkExport(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// Every part of a log, after every export before it, is checked, and follows that
// one.
func TestExports(t *testing.T) {
	const size = 40
	l := aLog(t, size)
	removed := map[string]int64{} // by pseudonym: where an account was erased
	for _, s := range l.entries {
		if s.Leaf.erases() {
			removed[string(s.Leaf.Subject)] = s.Index
		}
	}
	var before [size + 1]ExportReport // of no entries, at each size
	for n := range before {
		n := int64(n)
		before[n] = l.mustCheck(t, l.export(t, n, n, n, 0))
	}
	try := func(first, end, previous int64) {
		text := l.export(t, first, end, size, previous)
		var steps []int64
		r, err := CheckExport(iotest.OneByteReader(bytes.NewReader(text)), l.known, func(done, total int64) { steps = append(steps, done, total) })
		if err != nil {
			t.Fatalf("[%d, %d) after %d: %v", first, end, previous, err)
		}
		want := ExportReport{Checkpoint: Checkpoint{origin, size, l.root(size)}}
		for i, s := range l.entries[first:end] {
			if i == 0 {
				want.From = s.Leaf.Time
			}
			want.To = s.Leaf.Time
			if s.Payload == nil {
				want.Erased++
				if removed[string(s.Leaf.Actor)] >= end {
					want.Unproven++
				}
			}
		}
		h := r.Header
		if r.Checkpoint != want.Checkpoint || r.Erased != want.Erased || r.Unproven != want.Unproven || r.From != want.From || r.To != want.To ||
			h.First != first || h.End != end || h.Previous != previous || h.Since != "2026-11-01" || h.Until != "2026-12-01" {
			t.Fatalf("[%d, %d) after %d: %+v", first, end, previous, r)
		}
		if n := end - first; n > 0 && !slices.Equal(steps, []int64{n, n}) || n == 0 && steps != nil {
			t.Fatalf("[%d, %d): progress %v", first, end, steps)
		}
		if err := before[previous].CheckSuccessor(r); err != nil {
			t.Fatalf("[%d, %d) after %d: %v", first, end, previous, err)
		}
		if other := (previous + 1) % (size + 1); before[other].CheckSuccessor(r) == nil {
			t.Fatalf("[%d, %d) after %d follows one of %d", first, end, previous, other)
		}
	}
	for first := range int64(size + 1) {
		for end := first; end <= size; end++ {
			try(first, end, (first*7+end)%(size+1))
		}
		try(0, size, first)
		try(13, 13, first)
		try(7, 22, first)
	}
}

// Another implementation computes the same roots, and the same from proofs.
func TestExportRoot(t *testing.T) {
	l := aLog(t, 40)
	for size := range int64(41) {
		text := l.export(t, 0, size, size, 0)
		root, n, err := audittest.Root(bytes.NewReader(text))
		claimed, m, err2 := audittest.Claimed(bytes.NewReader(text))
		want := l.root(size)
		if err != nil || err2 != nil || n != size || m != size || !bytes.Equal(root, want[:]) || !bytes.Equal(claimed, want[:]) {
			t.Errorf("%d entries: %x of %d, %v; claimed %x of %d, %v; want %x", size, root, n, err, claimed, m, err2, want[:])
		}
		for index := range size {
			hashes, err := tlog.ProveRecord(size, index, l)
			if err != nil {
				t.Fatal(err)
			}
			var proof [][]byte
			for _, h := range hashes {
				proof = append(proof, h[:])
			}
			leaf := l.entries[index].Leaf.Hash()
			if got := audittest.InclusionRoot(leaf[:], index, size, proof); !bytes.Equal(got, want[:]) {
				t.Errorf("entry %d of %d: the proof gives %x", index, size, got)
			}
		}
	}
}

// The text of an export is for ever, too.
func TestExportBytes(t *testing.T) {
	l := newLog(t, "user-a", "user-b")
	l.append(Entry{Kind: Registered, Actor: "user-b"})
	l.append(Entry{Kind: SignedIn, Actor: "user-a", Credential: "0123", Client: Client{Browser: "Firefox"}})
	l.append(Entry{Kind: SignInRefused, Reason: "<&>\u2028", Count: 3})
	l.erase(Erased, "", "user-b")
	want, err := os.ReadFile("testdata/export.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.export(t, 0, 4, 4, 1); !bytes.Equal(got, want) {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	root, _, err := audittest.Root(bytes.NewReader(want))
	claimed, _, err2 := audittest.Claimed(bytes.NewReader(want))
	if err != nil || err2 != nil || !bytes.Equal(root, claimed) {
		t.Errorf("the root is %x, %v, and claimed %x, %v", root, err, claimed, err2)
	}
}

// passesAs fails unless a changed export is refused, or else says of the log what
// the one that was written says; then what ties it to the one before may differ,
// which CheckSuccessor refuses, and what was asked for.
func passesAs(t testing.TB, l *testLog, name string, before ExportReport, written, changed []byte) {
	t.Helper()
	r, err := l.checkExport(changed)
	if err != nil {
		return
	}
	_, entries, _ := bytes.Cut(written, []byte("\n"))
	head, got, _ := bytes.Cut(changed, []byte("\n"))
	want := l.mustCheck(t, written).Header
	h := r.Header
	tied := h.Previous == want.Previous && slices.Equal(h.Consistency, want.Consistency)
	h.Since, h.Until, h.Previous, h.Consistency = want.Since, want.Until, want.Previous, want.Consistency
	one, _ := json.Marshal(h)
	two, _ := json.Marshal(want)
	if !bytes.Equal(one, two) || !bytes.Equal(got, entries) || !same(head, r.Header) {
		t.Errorf("%s: passes as\n%s", name, changed)
	}
	if err := before.CheckSuccessor(r); (err == nil) != tied {
		t.Errorf("%s: tied to the one before: %v, and %v", name, tied, err)
	}
}

func TestTamperedExports(t *testing.T) {
	l := aLog(t, 9)
	const first, end, size, previous = 3, 7, 9, 5
	before := l.mustCheck(t, l.export(t, 0, previous, previous, 0))
	text := l.export(t, first, end, size, previous)
	for i := range text {
		for _, b := range []byte{text[i] ^ 1, text[i] ^ 0x20, '\n', '\r'} {
			changed := bytes.Clone(text)
			changed[i] = b
			passesAs(t, l, fmt.Sprintf("byte %d as %q", i, b), before, text, changed)
		}
		for _, b := range []byte{'\n', '\r'} {
			passesAs(t, l, fmt.Sprintf("%q before byte %d", b, i), before, text, slices.Insert(bytes.Clone(text), i, b))
		}
		passesAs(t, l, fmt.Sprintf("without byte %d", i), before, text, slices.Delete(bytes.Clone(text), i, i+1))
		if _, err := l.checkExport(text[:i]); err == nil {
			t.Errorf("the first %d bytes pass", i)
		}
	}
	for _, after := range []string{"\n", " ", "x", "{}\n", "\r\n", string(text)} {
		if _, err := l.checkExport(append(bytes.Clone(text), after...)); err == nil {
			t.Errorf("with %q after it, it passes", after)
		}
	}
	if _, err := l.checkExport(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))); err == nil {
		t.Error("with carriage returns it passes")
	}

	// Lines: which entry is named?
	lines := slices.Collect(bytes.Lines(text))
	named := func(name string, lines [][]byte, want Problem) {
		t.Helper()
		_, err := l.checkExport(bytes.Join(lines, nil))
		var p Problem
		if !errors.As(err, &p) || p.First != want.First || p.Last != want.Last || !strings.Contains(p.What, want.What) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	swapped := func(i, j int) [][]byte {
		s := slices.Clone(lines)
		s[i], s[j] = s[j], s[i]
		return s
	}
	for i := 1; i < len(lines); i++ {
		entry := int64(first + i - 1)
		named(fmt.Sprintf("the first %d lines", i), lines[:i], Problem{entry, end - 1, "the file ends"})
		if i < len(lines)-1 {
			named(fmt.Sprintf("without entry %d", entry), slices.Delete(slices.Clone(lines), i, i+1), Problem{entry, entry, fmt.Sprintf("missing: entry %d comes in its place", entry+1)})
			named(fmt.Sprintf("entry %d twice", entry), slices.Insert(slices.Clone(lines), i, lines[i]), Problem{entry + 1, entry + 1, fmt.Sprintf("missing: entry %d", entry)})
		}
		for j := i + 1; j < len(lines); j++ {
			named(fmt.Sprintf("lines %d and %d swapped", i, j), swapped(i, j), Problem{entry, entry, "missing"})
		}
		if _, err := l.checkExport(bytes.Join(swapped(0, i), nil)); err == nil {
			t.Errorf("with line %d first it passes", i)
		}
	}
	if _, err := l.checkExport(bytes.Join(append(lines, lines[len(lines)-1]), nil)); err == nil {
		t.Error("with the last line twice it passes")
	}
}

// rewritten is an export with its first line or one entry's line changed and then
// written as it should be.
func rewritten(t *testing.T, text []byte, header func(*ExportHeader), line int, entry func(*exportLine)) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	n := 0
	for text := range bytes.Lines(text) {
		var h ExportHeader
		var x exportLine
		var v any = &x
		if n == 0 {
			v = &h
		}
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
		if n == 0 && header != nil {
			header(&h)
		}
		if n == line && entry != nil {
			entry(&x)
		}
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return b.Bytes()
}

// What is written as it should be and yet says something else is refused.
func TestForgedExports(t *testing.T) {
	l := aLog(t, 13)
	text := l.export(t, 2, 8, 13, 5) // entry 6 is the second erasure, of user-b, whose entries before have no payload
	if !bytes.Equal(rewritten(t, text, nil, 0, nil), text) {
		t.Fatal("rewriting is not writing")
	}
	erased := slices.IndexFunc(l.entries[2:8], func(s Stored) bool { return s.Payload == nil }) + 1
	nobody := slices.IndexFunc(l.entries[2:8], func(s Stored) bool { return s.Payload != nil && s.Leaf.Actor == nil }) + 1
	someone := slices.IndexFunc(l.entries[2:8], func(s Stored) bool { return s.Payload != nil && s.Leaf.Actor != nil }) + 1
	at := func(line int) string { return fmt.Sprintf("entry %d: ", line+1) }
	for _, tt := range []struct {
		name   string
		header func(*ExportHeader)
		line   int
		entry  func(*exportLine)
		want   string
	}{
		{"another format", func(h *ExportHeader) { h.Format = "bio-trail/2" }, 0, nil, "is not that of a bio-trail/1 export"},
		{"no list", func(h *ExportHeader) { h.Left = nil }, 0, nil, "not as this version writes it"},
		{"no right list", func(h *ExportHeader) { h.Right = nil }, 0, nil, "not as this version writes it"},
		{"no consistency list", func(h *ExportHeader) { h.Consistency = nil }, 0, nil, "not as this version writes it"},
		{"a proof from nothing", func(h *ExportHeader) { h.Previous = 0 }, 0, nil, "not as this version writes it"},
		{"a negative first", func(h *ExportHeader) { h.First = -1 }, 0, nil, "cannot be of a log of 13"},
		{"first after end", func(h *ExportHeader) { h.First = 9 }, 0, nil, "cannot be of a log of 13"},
		{"end after all", func(h *ExportHeader) { h.End = 14 }, 0, nil, "cannot be of a log of 13"},
		{"a negative previous", func(h *ExportHeader) { h.Previous = -1 }, 0, nil, "cannot be of a log of 13"},
		{"previous after all", func(h *ExportHeader) { h.Previous = 14 }, 0, nil, "cannot be of a log of 13"},
		{"first moved", func(h *ExportHeader) { h.First = 1 }, 0, nil, "entry 1: missing: entry 2 comes in its place"},
		{"end moved", func(h *ExportHeader) { h.End = 9 }, 0, nil, "entry 8: missing: the file ends before them"},
		{"end moved back", func(h *ExportHeader) { h.End = 7 }, 0, nil, "there is more after its last entry"},
		{"a hash on the left", func(h *ExportHeader) { h.Left[0][5] ^= 1 }, 0, nil, "entries 2 to 7: the checkpoint of 13 entries"},
		{"a hash on the right", func(h *ExportHeader) { h.Right[0][5] ^= 1 }, 0, nil, "entries 2 to 7: the checkpoint of 13 entries"},
		{"a hash more", func(h *ExportHeader) { h.Left = append(h.Left, tlog.Hash{}) }, 0, nil, "2 hashes for the entries from 0 to 2"},
		{"a hash less", func(h *ExportHeader) { h.Right = h.Right[1:] }, 0, nil, "hashes for the entries from 8 to 13"},
		{"no checkpoint", func(h *ExportHeader) { h.Checkpoint = "" }, 0, nil, "checkpoint: "},
		{"a checkpoint of another size", func(h *ExportHeader) { h.Checkpoint = string(l.sign(12, l.root(12))) }, 0, nil, "hashes for the entries from 8 to 12"},
		{"a checkpoint of another root", func(h *ExportHeader) { h.Checkpoint = string(l.sign(13, l.root(12))) }, 0, nil, "entries 2 to 7: "},
		{"a salt where nothing is", nil, erased, func(x *exportLine) { x.Salt = encode(seed(1)[:16]) }, at(erased) + "its line is not as this version writes it"},
		{"a payload where none was", nil, erased, func(x *exportLine) { x.Salt, x.Payload = encode(seed(1)[:16]), []byte("{}") }, at(erased) + "its payload was changed"},
		{"a null payload", nil, someone, func(x *exportLine) { x.Payload = []byte("null") }, at(someone) + "its payload was changed"},
		{"another payload", nil, someone, func(x *exportLine) { x.Payload = []byte(`{"actor":"user-x"}`) }, at(someone) + "its payload was changed"},
		{"no payload, of nobody", nil, nobody, func(x *exportLine) { x.Salt, x.Payload = "", nil }, at(nobody) + "its payload is missing"},
		{"no salt", nil, nobody, func(x *exportLine) { x.Salt = "" }, at(nobody) + "its salt is not"},
		{"a short salt", nil, nobody, func(x *exportLine) { x.Salt = x.Salt[:20] }, at(nobody) + "its salt is not"},
		{"a broken salt", nil, nobody, func(x *exportLine) { x.Salt = x.Salt[:10] + "\n" + x.Salt[10:] }, at(nobody) + "its salt is not"},
		{"a padded salt", nil, nobody, func(x *exportLine) { x.Salt += "==" }, at(nobody) + "its salt is not"},
		{"another salt", nil, nobody, func(x *exportLine) { x.Salt = encode(seed(1)[:16]) }, at(nobody) + "its payload was changed"},
		{"another leaf", nil, erased, func(x *exportLine) {
			x.Leaf = bytes.Replace(x.Leaf, []byte("session.signed_in"), []byte("session.signed_up"), 1)
		}, "entries 2 to 7: the checkpoint of 13 entries"},
		{"no leaf", nil, someone, func(x *exportLine) { x.Leaf = nil }, at(someone) + "its line is not"},
	} {
		_, err := l.checkExport(rewritten(t, text, tt.header, tt.line, tt.entry))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want …%s…", tt.name, err, tt.want)
		}
	}

	// A payload can be left out where the leaf names someone: an outsider cannot know
	// that no later part of the log has the erasure. The report counts it.
	r, err := l.checkExport(rewritten(t, text, nil, someone, func(x *exportLine) { x.Salt, x.Payload = "", nil }))
	if want := l.mustCheck(t, text).Erased + 1; err != nil || r.Erased != want || r.Unproven != 1 {
		t.Errorf("%d without a payload, %d unproven, %v, want %d and 1", r.Erased, r.Unproven, err, want)
	}

	none := l.export(t, 5, 5, 13, 0)
	_, err = l.checkExport(rewritten(t, none, func(h *ExportHeader) { h.Left[0][0] ^= 1 }, 0, nil))
	if err == nil || !strings.Contains(err.Error(), "the hashes in the first line") {
		t.Errorf("of no entries: %v", err)
	}
}

// In an export that goes on to its checkpoint, payloads are gone only of accounts
// whose erasure it has.
func TestStrippedExports(t *testing.T) {
	l := newLog(t, "user-a", "user-b", "user-c", "user-d")
	for _, id := range []string{"user-a", "user-c", "user-b", "user-d", "user-a"} {
		l.append(Entry{Kind: SignedIn, Actor: id, Session: "session"})
	}
	l.erase(Erased, "", "user-c")                                             // entry 5; takes the payload of 1
	l.append(Entry{Kind: SessionRevoked, Actor: "user-d", Subject: "user-b"}) // no erasure
	l.append(Entry{Kind: SignedOut, Actor: "user-b"})
	l.erase(DuplicateUndone, "user-a", "user-d") // entry 8; takes those of 3 and 6
	l.append(Entry{Kind: TrailExported})
	const size = 10
	strip := func(text []byte, first int64, entries ...int64) []byte {
		for _, i := range entries {
			text = rewritten(t, text, nil, int(i-first)+1, func(x *exportLine) { x.Salt, x.Payload = "", nil })
		}
		return text
	}
	for _, tt := range []struct {
		name             string
		first, end       int64
		strip            []int64
		erased, unproven int64
		wrong            int64 // -1: nothing is
	}{
		{"all, as it was", 0, size, nil, 3, 0, -1},
		{"all, without one payload", 0, size, []int64{0}, 4, 1, 0},
		{"all, without all payloads of one", 0, size, []int64{0, 4, 8}, 6, 3, 0},
		{"all, without those of two", 0, size, []int64{7, 2, 4}, 6, 3, 2},
		{"the end", 4, size, nil, 1, 0, -1},
		{"the end, stripped", 4, size, []int64{7}, 2, 1, 7},
		{"the last entry", 9, size, nil, 0, 0, -1},
		{"no entries", size, size, nil, 0, 0, -1},
		{"a part before both erasures", 0, 5, nil, 2, 2, -1},
		{"a part before one", 0, 7, nil, 3, 2, -1},
		{"a part with both", 0, 9, nil, 3, 0, -1},
		{"a part, stripped", 0, 9, []int64{0, 4, 7}, 6, 3, -1},
		{"a part between", 2, 4, []int64{2}, 2, 2, -1},
	} {
		text := strip(l.export(t, tt.first, tt.end, size, 0), tt.first, tt.strip...)
		for range 40 { // whichever account is looked at first
			r, err := l.checkExport(text)
			var want error
			if tt.wrong >= 0 {
				want = Problem{tt.wrong, tt.wrong, unerased}
			}
			if err != want || r.Erased != tt.erased || r.Unproven != tt.unproven {
				t.Errorf("%s: %v, %d erased, %d unproven, want %v, %d, %d", tt.name, err, r.Erased, r.Unproven, want, tt.erased, tt.unproven)
			}
		}
	}
}

// A claim is what is written, whoever signed it and whatever follows.
func TestExportClaim(t *testing.T) {
	l := aLog(t, 9)
	text := l.export(t, 3, 7, 9, 0)
	want := Checkpoint{origin, 9, l.root(9)}
	head, _, _ := bytes.Cut(text, []byte("\n"))
	stranger := rewritten(t, text, func(h *ExportHeader) { h.Checkpoint = string(sign(t, newSigner(t, origin, seed(9)), 9, l.root(9))) }, 0, nil)
	for name, text := range map[string][]byte{
		"an export": text, "its first line": append(slices.Clone(head), '\n'), "of a key that nobody knows": stranger,
		"with other entries": slices.Concat(head, []byte("\nx\n")),
	} {
		if got, err := ExportClaim(bytes.NewReader(text)); got != want || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := Claim(l.sign(9, l.root(9))); got != want || err != nil {
		t.Errorf("of a note: %+v, %v", got, err)
	}
	with := func(checkpoint string) string {
		return string(rewritten(t, text, func(h *ExportHeader) { h.Checkpoint = checkpoint }, 0, nil))
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":                 {"", "the file is empty"},
		"half a line":             {string(head), "cut off"},
		"another file":            {"{}\n", "is not that of a bio-trail/1 export"},
		"no checkpoint":           {with(""), "checkpoint: "},
		"an unsigned checkpoint":  {with(want.text()), "checkpoint: "},
		"one in another's name":   {with(rawNote(want.text(), "other.example.com/audit", seed(1))), "signed in the name of another log"},
		"one that is not written": {with(rawNote(origin+"\n09\n"+want.Root.String()+"\n", origin, seed(1))), "not as this version writes it"},
	} {
		if got, err := ExportClaim(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) || got != (Checkpoint{}) {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, tt.want)
		}
	}
}

func TestCheckExportErrors(t *testing.T) {
	l := aLog(t, 5)
	text := l.export(t, 0, 5, 5, 0)
	if _, err := CheckExport(bytes.NewReader(text), verifiers(t, newSigner(t, origin, seed(9)).Key()), silent); !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), origin) {
		t.Errorf("with another key: %v", err)
	}
	broken := errors.New("broken disk")
	for n := range len(text) {
		if _, err := CheckExport(io.MultiReader(bytes.NewReader(text[:n]), iotest.ErrReader(broken)), l.known, silent); !errors.Is(err, broken) {
			t.Fatalf("a reader that breaks after %d bytes: %v", n, err)
		}
	}
	if _, err := CheckExport(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(broken)), l.known, silent); !errors.Is(err, broken) {
		t.Errorf("a reader that breaks at the end: %v", err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":      {"", "empty"},
		"no JSON":      {"x\n", "first line is not that of"},
		"half a line":  {"{", "cut off"},
		"a long line":  {strings.Repeat("x", maxLine+1), "longer than"},
		"a long entry": {string(bytes.SplitAfter(text, []byte("\n"))[0]) + strings.Repeat("x", maxLine+1) + "\n", "longer than"},
	} {
		if _, err := l.checkExport([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExporterRefuses(t *testing.T) {
	l := aLog(t, 9)
	for _, h := range []ExportHeader{{First: -1}, {First: 5, End: 4}, {First: 0, End: 10}, {Previous: 10}, {Previous: -1}} {
		var b bytes.Buffer
		if _, err := NewExporter(&b, h, 9, l); err == nil || b.Len() > 0 {
			t.Errorf("%+v: %v, %q", h, err, b.String())
		}
	}
	broken := errors.New("broken database")
	for _, h := range []ExportHeader{{First: 3, End: 9}, {First: 0, End: 3}, {First: 0, End: 9, Previous: 3}} {
		if _, err := NewExporter(io.Discard, h, 9, tlog.HashReaderFunc(func([]int64) ([]tlog.Hash, error) { return nil, broken })); !errors.Is(err, broken) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	e, err := NewExporter(io.Discard, ExportHeader{First: 3, End: 5}, 9, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		index int64
		fine  bool
	}{{2, false}, {4, false}, {3, true}, {3, false}, {4, true}, {5, false}} {
		if err := e.Add(l.entries[step.index]); (err == nil) != step.fine {
			t.Errorf("entry %d: %v", step.index, err)
		}
	}
	e, _ = NewExporter(io.Discard, ExportHeader{First: 0, End: 9}, 9, l)
	damaged := l.copied().entries[0]
	damaged.Payload = []byte("{")
	if err := e.Add(damaged); err == nil || !strings.Contains(err.Error(), "entry 0") {
		t.Errorf("a payload that is no JSON: %v", err)
	}
}

// Exports follow one another without a gap, on one log and on those that go on
// from it after a break.
func TestCheckSuccessor(t *testing.T) {
	l := newLog(t, "user-a", "user-b")
	grow := func(size int64) {
		for l.size() < size {
			l.append(Entry{Kind: SignedIn, Actor: []string{"user-a", "user-b"}[l.size()%2]})
		}
	}
	at := func(l *testLog, size, previous int64) ExportReport {
		return l.mustCheck(t, l.export(t, previous, size, size, previous))
	}
	chain := []ExportReport{at(l, 0, 0)}
	grow(4)
	chain = append(chain, at(l, 4, 0))
	grow(6)
	l.erase(Erased, "", "user-b") // who is in the export before, with payloads
	grow(9)
	chain = append(chain, at(l, 9, 4), at(l, 9, 9))
	grow(13)
	chain = append(chain, at(l, 13, 9))
	for i := range chain[1:] {
		if err := chain[i].CheckSuccessor(chain[i+1]); err != nil {
			t.Errorf("%d and %d: %v", i, i+1, err)
		}
	}

	// Another log from the third entry on, under the same key.
	fork := l.copied()
	fork.entries[2].Leaf.Time = began
	fork.rebuild(t)
	forked := at(fork, 9, 4)
	tampered := chain[2]
	tampered.Header.Consistency = slices.Clone(tampered.Header.Consistency)
	tampered.Header.Consistency[0][0] ^= 1
	short := chain[2]
	short.Header.Consistency = short.Header.Consistency[1:]
	named := func(l *testLog, origin string) *testLog {
		c := l.copied()
		c.signer = newSigner(t, origin, seed(1))
		c.known = verifiers(t, c.signer.Key())
		return c
	}

	// After a break: the same entries, then others, in another name.
	second, third := named(l, origin+"/2"), named(l, origin+"/3")
	reopened := []ExportReport{chain[2], at(second, 13, 9), at(second, 13, 13), at(third, 13, 13)}
	for i := range reopened[1:] {
		if err := reopened[i].CheckSuccessor(reopened[i+1]); err != nil {
			t.Errorf("reopened, %d and %d: %v", i, i+1, err)
		}
	}
	if err := chain[0].CheckSuccessor(at(second, 0, 0)); err != nil {
		t.Errorf("reopened with nothing: %v", err)
	}

	elsewhere := named(l, "other.example.com/audit")
	for _, tt := range []struct {
		name        string
		first, next ExportReport
		want        string
	}{
		{"a fork", chain[1], forked, "entries 0 to 3: they were others in the export before"},
		{"a fork of the same size", chain[2], at(fork, 9, 9), "entries 0 to 8: they were others"},
		{"a changed proof", chain[1], tampered, "entries 0 to 3: "},
		{"a short proof", chain[1], short, "entries 0 to 3: "},
		{"one left out", chain[1], chain[4], "it follows one of 9 entries, not this one of 4"},
		{"the wrong order", chain[4], chain[2], "it follows one of 4 entries, not this one of 13"},
		{"a first one again", chain[4], chain[1], "it was made as a first one: nothing ties it to this one of 13 entries"},
		{"a reopened log with other entries", chain[1], at(named(fork, origin+"/2"), 9, 4), "entries 0 to 3: they were others in the export before"},
		{"a reopened log of other entries, as many", chain[2], at(named(fork, origin+"/2"), 9, 9), "entries 0 to 8: they were others"},
		{"a reopened log that follows nothing", chain[1], at(second, 13, 0), "it was made as a first one"},
		{"another site's log of the same entries", chain[1], at(elsewhere, 9, 4), `the logs are two: "bio.example.com/audit" and "other.example.com/audit"`},
		{"another site's log of nothing", chain[0], at(elsewhere, 0, 0), "the logs are two"},
		{"another site's log after a break", chain[1], at(named(l, "other.example.com/audit/2"), 9, 4), "the logs are two"},
	} {
		if err := tt.first.CheckSuccessor(tt.next); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestSameSite(t *testing.T) {
	for _, tt := range []struct {
		before, after string
		want          bool
	}{
		{Origin("bio.example.com", 1), Origin("bio.example.com", 1), true},
		{Origin("bio.example.com", 1), Origin("bio.example.com", 2), true},
		{Origin("bio.example.com", 2), Origin("bio.example.com", 3), true},
		{Origin("bio.example.com", 9), Origin("bio.example.com", 10), true},
		{Origin("localhost:8080", 1), Origin("localhost:8080", 2), true},
		{Origin("127.0.0.1", 1), Origin("127.0.0.1", 2), true},
		{Origin("[::1]:8080", 1), Origin("[::1]:8080", 12), true},
		{Origin("bio.example.com", 1), Origin("bio.example.org", 1), false},
		{Origin("bio.example.com", 1), Origin("bio.example.org", 2), false},
		{Origin("bio.example.com", 2), Origin("bio.example.org", 2), false},
		{Origin("localhost:8080", 1), Origin("localhost:8081", 1), false},
		{Origin("localhost:8080", 1), Origin("localhost:8081", 2), false},
		{Origin("localhost", 1), Origin("localhost:2", 1), false},
		{Origin("bio.example.com", 1), Origin("bio.example.com", 1) + "2", false},
		{Origin("bio.example.com", 1), Origin("bio.example.com", 1) + "/two", false},
		{Origin("bio.example.com", 1), Origin("bio.example.com", 1) + "/2b", false},
		{Origin("bio.example.com", 1), Origin("bio.example.com", 1) + "/2/2", false},
		{"bio.example.com", "bio.example.com/audit", false},
	} {
		if sameSite(tt.before, tt.after) != tt.want || sameSite(tt.after, tt.before) != tt.want {
			t.Errorf("%q and %q: want %v", tt.before, tt.after, tt.want)
		}
	}
}

// tally counts what was read.
type tally struct {
	io.Reader
	n int
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	t.n += n
	return n, err
}

// An export is read as it is checked, and nothing of it is kept.
func TestCheckExportStreams(t *testing.T) {
	const size = 5000
	var f forest
	l := newLog(t)
	for n := range int64(size) {
		s := Seal(Entry{Kind: ServerStarted, Detail: map[string]string{"version": "1"}}, began, nil, nil)
		hashes, err := tlog.StoredHashesForRecordHash(n, s.Leaf.Hash(), &f)
		if err != nil {
			t.Fatal(err)
		}
		f = append(f, hashes...)
		l.entries = append(l.entries, Stored{Index: n, Leaf: s.Leaf, Salt: s.Salt, Payload: s.Payload})
	}
	l.hashes = f
	text := l.export(t, 0, size, size, 0)
	var ends []int // of each line
	for line := range bytes.Lines(text) {
		end := len(line)
		if len(ends) > 0 {
			end += ends[len(ends)-1]
		}
		ends = append(ends, end)
	}
	reader := &tally{Reader: bytes.NewReader(text)}
	var steps []int64
	if _, err := CheckExport(reader, l.known, func(done, total int64) {
		steps = append(steps, done)
		if ahead := reader.n - ends[done]; total != size || ahead > 16<<10 {
			t.Errorf("after %d of %d entries, %d bytes more are read", done, total, ahead)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int64{1024, 2048, 3072, 4096, 5000}) {
		t.Errorf("progress at %v", steps)
	}
}

func FuzzCheckLine(f *testing.F) {
	l := aLog(f, 13)
	for line := range bytes.Lines(l.export(f, 0, 13, 13, 0)) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")), int64(7))
	}
	f.Fuzz(func(t *testing.T, text []byte, index int64) {
		x, what := checkLine(index, text)
		if what != "" {
			return
		}
		var line exportLine
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatal(err)
		}
		salt, err := decode(line.Salt)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		e := Exporter{encoder: json.NewEncoder(&b), next: index, header: ExportHeader{End: index + 1}}
		e.encoder.SetEscapeHTML(false)
		if index+1 < index {
			return
		}
		if err := e.Add(Stored{Index: index, Leaf: x.Leaf, Salt: salt, Payload: line.Payload}); err != nil {
			t.Fatal(err)
		}
		if b.String() != string(text)+"\n" || x.erased != (line.Payload == nil) {
			t.Errorf("%s\nis written as\n%s", text, b.Bytes())
		}
	})
}

// What passes was written by the one who has the key: the log's own entries.
func FuzzCheckExport(f *testing.F) {
	l := aLog(f, 13)
	for _, h := range [][4]int64{{0, 13, 13, 0}, {2, 8, 13, 5}, {0, 0, 0, 0}, {3, 3, 9, 9}, {5, 6, 6, 1}} {
		f.Add(l.export(f, h[0], h[1], h[2], h[3]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := l.checkExport(text)
		if err != nil {
			return
		}
		if r.Checkpoint.Size > l.size() || r.Checkpoint != (Checkpoint{origin, r.Checkpoint.Size, l.root(r.Checkpoint.Size)}) {
			t.Fatalf("the checkpoint %+v is none of the log", r.Checkpoint)
		}
		lines := slices.Collect(bytes.Lines(text))
		if !same(bytes.TrimSuffix(lines[0], []byte("\n")), r.Header) || int64(len(lines)-1) != r.Header.End-r.Header.First {
			t.Fatalf("passes as\n%s", text)
		}
		for i, line := range lines[1:] {
			s := l.entries[r.Header.First+int64(i)]
			x, what := checkLine(s.Index, bytes.TrimSuffix(line, []byte("\n")))
			if what != "" || !bytes.Equal(x.Bytes(), s.Leaf.Bytes()) {
				t.Errorf("entry %d passes as\n%s", s.Index, line)
			}
		}
	})
}
