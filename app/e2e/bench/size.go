package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// size weighs the binary and what a first visit brings over the wire.
func (b *bench) size() error {
	info, err := os.Stat(b.binary)
	if err != nil {
		return err
	}
	b.add("stripped binary", megabytes(info.Size()), "<= 20 MB", info.Size() <= 20<<20)

	p, err := b.serve(filepath.Join(b.dir, "size"))
	if err != nil {
		return err
	}
	defer p.kill()
	if _, err := p.until(b.ctx, "/"); err != nil {
		return err
	}
	seen, err := visit("http://" + p.addr + "/")
	if err != nil {
		return err
	}
	script, zipped, sent := 0, 0, 0
	var parts []string
	for _, r := range seen {
		kind, _, _ := strings.Cut(strings.TrimPrefix(r.mime, "text/"), ";")
		parts = append(parts, fmt.Sprintf("%s %d", kind, r.zipped))
		if kind == "javascript" {
			script += r.zipped
		}
		zipped += r.zipped
		sent += r.sent
	}
	b.add("script, gzipped", fmt.Sprintf("%d bytes", script), "<= 1,536 bytes", script > 0 && script <= 1536)
	b.add("first visit, gzipped", fmt.Sprintf("%d bytes in %d requests (%s; as sent %d)", zipped, len(seen), strings.Join(parts, ", "), sent),
		"<= 8,192 bytes in 3 requests", zipped <= 8192 && len(seen) <= 3)
	return nil
}

// resource is one answer of a first visit, in bytes of its body.
type resource struct {
	mime   string
	sent   int // as the server sends it to a browser
	zipped int // as sent when that is compressed, else as gzip would make it
}

// visit loads a page as a browser with an empty cache does: the page, what its
// elements load, and what its style sheets load.
func visit(address string) ([]resource, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	var all []resource
	for queue := []string{address}; len(queue) > 0; {
		r, body, err := fetch(queue[0])
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		var loads []string
		switch {
		case strings.HasPrefix(r.mime, "text/html"):
			loads, err = loadedByPage(body)
		case strings.HasPrefix(r.mime, "text/css"):
			loads = loadedByStyle(body)
		}
		if err != nil {
			return nil, err
		}
		queue = queue[1:]
		for _, one := range loads {
			if strings.HasPrefix(one, "data:") {
				continue
			}
			at, err := base.Parse(one)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(queue, at.String()) {
				queue = append(queue, at.String())
			}
		}
	}
	return all, nil
}

func fetch(address string) (resource, []byte, error) {
	ask, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return resource{}, nil, err
	}
	ask.Header.Set("Accept-Encoding", "gzip") // asked for by hand, so that net/http leaves the answer as it is
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return resource{}, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return resource{}, nil, err
	}
	if err := expect("GET "+address, answer.StatusCode, http.StatusOK, body); err != nil {
		return resource{}, nil, err
	}
	r := resource{mime: answer.Header.Get("Content-Type"), sent: len(body), zipped: len(body)}
	if answer.Header.Get("Content-Encoding") == "gzip" {
		plain, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return resource{}, nil, err
		}
		body, err = io.ReadAll(plain)
		return r, body, err
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return resource{}, nil, err
	}
	if _, err := w.Write(body); err != nil {
		return resource{}, nil, err
	}
	err = w.Close()
	r.zipped = zipped.Len()
	return r, body, err
}

// loadedByPage lists what a page's elements load by themselves. A page that names
// no icon makes the browser ask for one.
func loadedByPage(page []byte) ([]string, error) {
	icon := "/favicon.ico"
	var loads []string
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				return nil, z.Err()
			}
			if icon != "" {
				loads = append(loads, icon)
			}
			return loads, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			attributes := map[string]string{}
			t := z.Token()
			for _, a := range t.Attr {
				attributes[a.Key] = a.Val
			}
			switch t.Data {
			case "link":
				loads = append(loads, attributes["href"])
				if attributes["rel"] == "icon" {
					icon = ""
				}
			case "script", "img", "iframe":
				if attributes["src"] != "" {
					loads = append(loads, attributes["src"])
				}
			}
		}
	}
}

var styleLoads = regexp.MustCompile(`url\(\s*["']?([^"')]+)`)

func loadedByStyle(style []byte) []string {
	var loads []string
	for _, found := range styleLoads.FindAllSubmatch(style, -1) {
		loads = append(loads, string(found[1]))
	}
	return loads
}
