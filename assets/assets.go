// Package assets holds what browsers load beside the pages: the script, the
// style sheets and the icon, embedded, and named by their content so that
// browsers may keep them for ever. It also holds the SDK for other pages, bio.js
// with its types.
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run github.com/evanw/esbuild/cmd/esbuild@v0.28.2 --minify --charset=utf8 --log-level=warning --outdir=dist auth.js bio.js run.css style.css

//go:embed icon.svg bio.d.ts dist
var embedded embed.FS

// types are the media types that are served; nosniff leaves no other way to say.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	".ts":  "text/plain; charset=utf-8",
}

// prefix is where the server mounts Handler.
const prefix = "/assets/"

// asset is one file in the encodings in which it is served.
type asset struct {
	hashed string // auth.<12 hex digits>.js
	mime   string
	plain  representation
	zipped func() representation // compressed once, when first asked for
}

type representation struct {
	body []byte
	etag string
}

// load reads and hashes everything once.
var load = sync.OnceValue(func() map[string]*asset {
	assets := map[string]*asset{} // by both names
	err := fs.WalkDir(embedded, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:6])
		name, ext := path.Base(file), path.Ext(file)
		a := &asset{
			hashed: strings.TrimSuffix(name, ext) + "." + hash + ext,
			mime:   types[ext],
			plain:  representation{body, `"` + hash + `"`},
			zipped: sync.OnceValue(func() representation { return representation{compress(body), `"` + hash + `-gzip"`} }),
		}
		assets[name], assets[a.hashed] = a, a
		return nil
	})
	if err != nil {
		panic("assets: embedded files: " + err.Error()) // the embedded tree cannot fail to read
	}
	return assets
})

func compress(body []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	w.Write(body)                                         // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}

// Path is the address of the asset of that name, such as
// "/assets/auth.0123456789ab.js" for "auth.js". It panics when there is none.
func Path(name string) string {
	a, ok := load()[name]
	if !ok {
		panic("assets: no " + name)
	}
	return prefix + a.hashed
}

// Icon is the icon as a data: URL, so that a page shows it without a request.
var Icon = sync.OnceValue(func() string {
	escape := strings.NewReplacer("%", "%25", "#", "%23", "<", "%3C", ">", "%3E", `"`, "%27", "\n", "")
	return "data:image/svg+xml," + escape.Replace(string(load()["icon.svg"].plain.body))
})

// Handler serves the assets under /assets/: by the name with the hash to keep for
// ever, by the plain name to ask again each time.
func Handler() http.Handler {
	assets := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		name, ok := strings.CutPrefix(r.URL.Path, prefix)
		a := assets[name]
		if !ok || a == nil {
			h.Set("Cache-Control", "no-store")
			http.Error(w, "Not found.", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "Only GET and HEAD.", http.StatusMethodNotAllowed)
			return
		}
		h.Set("Vary", "Accept-Encoding")
		if name == a.hashed {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			h.Set("Cache-Control", "no-cache")
		}
		as, zipped := a.plain, acceptsGzip(r.Header.Values("Accept-Encoding"))
		if zipped {
			as = a.zipped()
		}
		h.Set("ETag", as.etag)
		if noneMatch(r.Header.Values("If-None-Match"), as.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if zipped {
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("Content-Type", a.mime)
		h.Set("Content-Length", strconv.Itoa(len(as.body)))
		if r.Method == http.MethodGet {
			w.Write(as.body) // the client may be gone, which is no one's problem
		}
	})
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3): gzip counts when it, or
// else *, is named with a weight other than 0.
func acceptsGzip(values []string) bool {
	accepted, named := false, false
	for element := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding, weight, _ := strings.Cut(element, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && (coding != "*" || named) {
			continue
		}
		named = coding == "gzip"
		_, q, _ := strings.Cut(weight, "=")
		value, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		accepted = err != nil || value > 0
	}
	return accepted
}

// noneMatch reports whether If-None-Match names etag, by weak comparison
// (RFC 9110 §13.1.2).
func noneMatch(values []string, etag string) bool {
	for element := range strings.SplitSeq(strings.Join(values, ","), ",") {
		element = strings.TrimSpace(element)
		if element == "*" || strings.TrimPrefix(element, "W/") == etag {
			return true
		}
	}
	return false
}
