package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// exportFormat is the first member of an export's first line.
const exportFormat = "bio-trail/1"

// maxLine bounds a line of an export, in bytes.
const maxLine = 1 << 20

// ExportHeader is the first line of an export: what ties its entries, First up to
// but not End, to a checkpoint, and the checkpoint to that of the export before.
// Since and Until are what was asked for; nothing proves them.
type ExportHeader struct {
	Format     string `json:"format"`
	Checkpoint string `json:"checkpoint"` // the signed note
	Since      string `json:"since,omitempty"`
	Until      string `json:"until,omitempty"`
	First      int64  `json:"first"`
	End        int64  `json:"end"`
	Previous   int64  `json:"previous"` // size of the checkpoint of the export before; 0: none
	// Left and Right are the hashes of the fewest complete subtrees of the entries
	// before First and from End on, left to right: with those of the entries they
	// give the root.
	Left        []tlog.Hash `json:"left"`
	Right       []tlog.Hash `json:"right"`
	Consistency []tlog.Hash `json:"consistency"` // from Previous (RFC 6962 §2.1.2); empty when that is 0
}

type exportLine struct {
	Index   int64           `json:"index"`
	Leaf    json.RawMessage `json:"leaf"`
	Salt    string          `json:"salt,omitempty"` // base64url
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Exporter writes an export.
type Exporter struct {
	encoder *json.Encoder
	next    int64
	header  ExportHeader
}

// fits says whether the header can be of a log of size entries.
func (h ExportHeader) fits(size int64) error {
	if h.First < 0 || h.First > h.End || h.End > size || h.Previous < 0 || h.Previous > size {
		return fmt.Errorf("audit: export: entries %d up to %d, after an export of %d, cannot be of a log of %d", h.First, h.End, h.Previous, size)
	}
	return nil
}

// NewExporter writes the first line. The header's proofs are made here, from the
// tree whose checkpoint it has, of size entries.
func NewExporter(w io.Writer, h ExportHeader, size int64, tree tlog.HashReader) (*Exporter, error) {
	err := h.fits(size)
	if err != nil {
		return nil, err
	}
	h.Format = exportFormat
	if h.Left, err = spanHashes(0, h.First, tree); err != nil {
		return nil, err
	}
	if h.Right, err = spanHashes(h.End, size, tree); err != nil {
		return nil, err
	}
	h.Consistency = nil
	if h.Previous > 0 {
		proof, err := tlog.ProveTree(size, h.Previous, tree)
		if err != nil {
			return nil, err
		}
		h.Consistency = proof
	}
	for _, list := range []*[]tlog.Hash{&h.Left, &h.Right, &h.Consistency} {
		if *list == nil {
			*list = []tlog.Hash{} // an empty list, not null
		}
	}
	e := &Exporter{encoder: json.NewEncoder(w), next: h.First, header: h}
	e.encoder.SetEscapeHTML(false) // leaves and payloads stay as they were hashed
	return e, e.encoder.Encode(h)
}

// Add writes the next entry's line.
func (e *Exporter) Add(s Stored) error {
	if s.Index != e.next || s.Index >= e.header.End {
		return fmt.Errorf("audit: export: entry %d comes where %d is due", s.Index, e.next)
	}
	e.next++
	line := exportLine{Index: s.Index, Leaf: s.Leaf.Bytes()}
	if s.Payload != nil {
		line.Salt, line.Payload = encode(s.Salt), s.Payload
	}
	if err := e.encoder.Encode(line); err != nil {
		return fmt.Errorf("audit: export: entry %d: %w", s.Index, err)
	}
	return nil
}

// ExportReport is what an export proves.
type ExportReport struct {
	Header     ExportHeader
	Checkpoint Checkpoint
	Erased     int64     // entries without a payload
	Unproven   int64     // of them, those whose account's erasure must be in a later part of the log
	From, To   time.Time // of the first and the last entry; zero when there is none
}

// CheckExport checks an export with nothing but the verifier keys: the checkpoint
// against them, each payload against its leaf, all leaves against the checkpoint.
// What ties it to the export before is for CheckSuccessor. A Problem names entries
// that are wrong. progress is called now and then with how many
// entries are done and how many there are.
func CheckExport(r io.Reader, keys note.Verifiers, progress func(done, total int64)) (ExportReport, error) {
	var report ExportReport
	lines, h, err := openExport(r)
	if err != nil {
		return report, err
	}
	report.Header = h
	report.Checkpoint, err = OpenCheckpoint([]byte(h.Checkpoint), keys)
	if errors.Is(err, ErrUnknownKey) {
		return report, fmt.Errorf("%w: it is of the log %q: give that log's key. If you did, the signature was damaged", err, report.Checkpoint.Origin)
	}
	if err != nil {
		return report, err
	}
	size := report.Checkpoint.Size
	if err := h.fits(size); err != nil {
		return report, err
	}
	missing, erased := map[string]gone{}, map[string]bool{}
	var tree peaks
	if err := tree.addSpan(h.First, h.Left); err != nil {
		return report, err
	}
	for index := h.First; index < h.End; index++ {
		line, err := nextLine(lines)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return report, Problem{index, h.End - 1, "missing: the file ends before them"}
		}
		if err != nil {
			return report, err
		}
		leaf, what := checkLine(index, line)
		if what != "" {
			return report, Problem{index, index, what}
		}
		if leaf.erased {
			report.Erased++
			g, known := missing[string(leaf.Actor)]
			if !known {
				g.first = index
			}
			g.entries++
			missing[string(leaf.Actor)] = g
		}
		if leaf.erases() {
			erased[string(leaf.Subject)] = true
		}
		if index == h.First {
			report.From = leaf.Time
		}
		report.To = leaf.Time
		_ = tree.add(0, leaf.Hash(), nil) // a single entry stands anywhere
		if done := index + 1 - h.First; done%1024 == 0 || index+1 == h.End {
			progress(done, h.End-h.First)
		}
	}
	switch _, err := nextLine(lines); {
	case err == nil:
		return report, errors.New("audit: export: there is more after its last entry")
	case !errors.Is(err, io.EOF):
		return report, err
	}
	if err := tree.addSpan(size, h.Right); err != nil {
		return report, err
	}
	switch {
	case tree.root() == report.Checkpoint.Root:
		return report, report.erasures(missing, erased)
	case h.First == h.End:
		return report, errors.New("audit: export: the hashes in the first line are not those of the checkpoint")
	}
	return report, Problem{h.First, h.End - 1, fmt.Sprintf("the checkpoint of %d entries says that they were others, or the hashes in the first line are wrong", size)}
}

// gone are the entries of one account whose payload is not there.
type gone struct{ first, entries int64 }

// erasures looks for the erasure of every account whose payloads are gone. It comes
// after them and before the checkpoint: in an export that goes so far it must be.
func (r *ExportReport) erasures(missing map[string]gone, erased map[string]bool) error {
	first := int64(-1)
	for pseudonym, g := range missing {
		if erased[pseudonym] {
			continue
		}
		r.Unproven += g.entries
		if first < 0 || g.first < first {
			first = g.first
		}
	}
	if r.Unproven > 0 && r.Header.End == r.Checkpoint.Size {
		return Problem{first, first, unerased}
	}
	return nil
}

// unerased is what is wrong with a payload that is gone for no reason.
const unerased = "its payload is missing, and no entry says that its account was erased"

// sameSite reports whether two names are of logs that were one after the other in
// one place.
func sameSite(before, after string) bool {
	base := func(origin string) string {
		if i := strings.LastIndexByte(origin, '/'); i >= 0 && strings.Trim(origin[i+1:], "0123456789") == "" {
			return origin[:i]
		}
		return origin
	}
	return base(before) == base(after)
}

// CheckSuccessor checks that the log of an export only grew from that of the one
// before: nothing that was exported then is different now. A log that was reopened
// in between goes on with what was left.
func (r ExportReport) CheckSuccessor(next ExportReport) error {
	h := next.Header
	switch {
	case !sameSite(r.Checkpoint.Origin, next.Checkpoint.Origin):
		return fmt.Errorf("audit: export: the logs are two: %q and %q", r.Checkpoint.Origin, next.Checkpoint.Origin)
	case h.Previous == 0 && r.Checkpoint.Size > 0:
		return fmt.Errorf("audit: export: it was made as a first one: nothing ties it to this one of %d entries", r.Checkpoint.Size)
	case h.Previous != r.Checkpoint.Size:
		return fmt.Errorf("audit: export: it follows one of %d entries, not this one of %d: give the files in the order in which they were made, without leaving one out", h.Previous, r.Checkpoint.Size)
	}
	if h.Previous == 0 {
		return nil // every log begins with nothing
	}
	if err := tlog.CheckTree(h.Consistency, next.Checkpoint.Size, next.Checkpoint.Root, r.Checkpoint.Size, r.Checkpoint.Root); err != nil {
		return Problem{0, r.Checkpoint.Size - 1, "they were others in the export before"}
	}
	return nil
}

// wholeLines splits at line feeds and nothing else: each line ends with one, and
// a carriage return is part of its line.
func wholeLines(text []byte, atEOF bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return i + 1, text[:i], nil
	}
	if atEOF && len(text) > 0 {
		return 0, nil, fmt.Errorf("the last line is cut off: %w", io.ErrUnexpectedEOF)
	}
	return 0, nil, nil
}

// ExportClaim reads the checkpoint of an export, without checking anything: what
// the export claims.
func ExportClaim(r io.Reader) (Checkpoint, error) {
	_, h, err := openExport(r)
	if err != nil {
		return Checkpoint{}, err
	}
	return Claim([]byte(h.Checkpoint))
}

// openExport reads the first line.
func openExport(r io.Reader) (*bufio.Scanner, ExportHeader, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	line, err := nextLine(lines)
	if errors.Is(err, io.EOF) {
		err = errors.New("audit: export: the file is empty")
	}
	if err != nil {
		return nil, ExportHeader{}, err
	}
	h, err := parseHeader(line)
	return lines, h, err
}

// nextLine returns the next line; io.EOF after the last.
func nextLine(lines *bufio.Scanner) ([]byte, error) {
	if lines.Scan() {
		return lines.Bytes(), nil
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("audit: export: a line is longer than %d bytes", maxLine)
	case err != nil:
		return nil, fmt.Errorf("audit: export: %w", err)
	}
	return nil, io.EOF
}

func parseHeader(line []byte) (ExportHeader, error) {
	var h ExportHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Format != exportFormat {
		return ExportHeader{}, fmt.Errorf("audit: export: the first line is not that of a %s export", exportFormat)
	}
	// null is no list, though it would be written as it was read.
	if !same(line, h) || h.Left == nil || h.Right == nil || h.Consistency == nil || h.Previous == 0 && len(h.Consistency) > 0 {
		return ExportHeader{}, errors.New("audit: export: the first line is not as this version writes it")
	}
	return h, nil
}

type exported struct {
	Leaf
	erased bool
}

// checkLine reads the line of the entry at index and checks its payload.
func checkLine(index int64, text []byte) (exported, string) {
	var line exportLine
	if err := json.Unmarshal(text, &line); err != nil {
		return exported{}, "its line cannot be read"
	}
	leaf, err := ParseLeaf(line.Leaf)
	switch {
	case line.Index != index:
		return exported{}, fmt.Sprintf("missing: entry %d comes in its place", line.Index)
	case err != nil, !same(text, line), line.Payload == nil && line.Salt != "":
		return exported{}, "its line is not as this version writes it"
	case line.Payload == nil && len(leaf.Actor) == 0:
		return exported{}, "its payload is missing"
	case line.Payload == nil:
		return exported{leaf, true}, ""
	}
	salt, err := decode(line.Salt)
	if err != nil || len(salt) != SaltSize {
		return exported{}, "its salt is not 16 bytes of base64url"
	}
	_, what := checkPayload(leaf, salt, line.Payload)
	return exported{leaf, false}, what
}

// same reports whether text is how v is written.
func same(text []byte, v any) bool {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v) == nil && bytes.Equal(bytes.TrimSuffix(b.Bytes(), []byte("\n")), text)
}
