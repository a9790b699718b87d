package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/labstack/echo/v4"
	"golang.org/x/mod/sumdb/tlog"
)

// What outsiders may ask of the trail: hashes and signatures, never what an entry
// says. Everything they get is below a checkpoint that was published.

var (
	errNoSuchTree  = errors.New("server: the log does not have that")
	errNotTreePath = errors.New("server: not a question about the log")
)

// forever is for what never changes: the tree below a published size.
const forever = "public, max-age=31536000, immutable"

// published is the log that the address is of. Each log after a break has addresses
// of its own, /audit/2/…: below them nothing ever changes. Those without a number
// are of the log that is.
func (s *Server) published(c echo.Context, newest func(context.Context) (published, error)) (published, error) {
	p, err := newest(c.Request().Context())
	if asked := c.Param("log"); err == nil && asked != "" && (asked != strconv.Itoa(p.number) || p.number == 1) {
		err = errNoSuchTree
	}
	return p, err
}

// immutable lets an answer be kept: not that of an address which a break turns to
// another log.
func (p published) immutable(c echo.Context) {
	if p.number == 1 || c.Param("log") != "" {
		c.Response().Header().Set("Cache-Control", forever)
	}
}

// auditCheckpoint answers GET /audit/checkpoint: the log as it is now, signed
// (C2SP tlog-checkpoint).
func (s *Server) auditCheckpoint(c echo.Context) error {
	p, err := s.published(c, s.trail.checkpoint)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, echo.MIMETextPlainCharsetUTF8, p.note)
}

// auditKey answers GET /audit/key: the verifier key of checkpoints.
func (s *Server) auditKey(c echo.Context) error {
	p, err := s.published(c, s.trail.below)
	if err != nil {
		return err
	}
	return c.String(http.StatusOK, p.keys[0]+"\n")
}

// auditTile answers GET /audit/tile/<L>/<NNN>[.p/<W>] (C2SP tlog-tiles): up to 256
// hashes of one level.
func (s *Server) auditTile(c echo.Context) error {
	// The path of sumdb/tlog names the height of tiles too: always 8.
	tile, err := tlog.ParseTilePath("tile/8/" + c.Param("*"))
	if err != nil || tile.L < 0 || tile.L > 7 {
		return errNotTreePath
	}
	p, err := s.published(c, s.trail.below)
	if err != nil {
		return err
	}
	// Hashes of level 8L: there are size >> 8L.
	if have := p.Size >> (8 * tile.L); tile.N > have>>8 || tile.N<<8+int64(tile.W) > have {
		return errNoSuchTree
	}
	data, err := tlog.ReadTileData(tile, s.db.Tree(c.Request().Context()))
	if err != nil {
		return err
	}
	p.immutable(c)
	return c.Blob(http.StatusOK, echo.MIMEOctetStream, data)
}

// auditProof answers GET /audit/proof?index=&size=, that an entry is in the tree
// of a size, and ?from=&size=, that this tree only grew from one of the size from
// (RFC 6962 §2.1.1, §2.1.2). Without a size it is of the newest checkpoint.
func (s *Server) auditProof(c echo.Context) error {
	p, err := s.published(c, s.trail.below)
	if err != nil {
		return err
	}
	query := c.QueryParams()
	size := p.Size
	if query.Has("size") {
		if size, err = number(query, "size"); err != nil {
			return err
		}
	}
	switch {
	case query.Has("index") == query.Has("from"):
		return errNotTreePath
	case size > p.Size:
		return errNoSuchTree
	case query.Has("index"):
		return s.inclusion(c, p, size)
	}
	return s.consistency(c, p, size)
}

func (s *Server) inclusion(c echo.Context, p published, size int64) error {
	index, err := number(c.QueryParams(), "index")
	switch {
	case err != nil:
		return err
	case index >= size:
		return errNoSuchTree
	}
	tree := s.db.Tree(c.Request().Context())
	hashes, err := tlog.ProveRecord(size, index, tree)
	if err != nil {
		return err
	}
	leaf, err := tree.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	return proof(c, p, struct {
		Index    int64       `json:"index"`
		Size     int64       `json:"size"`
		LeafHash tlog.Hash   `json:"leaf_hash"`
		Hashes   []tlog.Hash `json:"hashes"`
	}{index, size, leaf[0], listed(hashes)})
}

func (s *Server) consistency(c echo.Context, p published, size int64) error {
	from, err := number(c.QueryParams(), "from")
	switch {
	case err != nil:
		return err
	case from < 1 || from > size:
		return errNoSuchTree
	}
	hashes, err := tlog.ProveTree(size, from, s.db.Tree(c.Request().Context()))
	if err != nil {
		return err
	}
	return proof(c, p, struct {
		From   int64       `json:"from"`
		Size   int64       `json:"size"`
		Hashes []tlog.Hash `json:"hashes"`
	}{from, size, listed(hashes)})
}

// proof answers with a proof, which holds for ever when its size was asked for.
func proof(c echo.Context, p published, of any) error {
	if c.QueryParams().Has("size") {
		p.immutable(c)
	}
	return c.JSON(http.StatusOK, of)
}

// number reads a parameter that is given once, as a number is written.
func number(query url.Values, name string) (int64, error) {
	values := query[name]
	if len(values) != 1 {
		return 0, errNotTreePath
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != values[0] {
		return 0, errNotTreePath
	}
	return n, nil
}

// listed is a list that is never null.
func listed(hashes []tlog.Hash) []tlog.Hash {
	if hashes == nil {
		return []tlog.Hash{}
	}
	return hashes
}
