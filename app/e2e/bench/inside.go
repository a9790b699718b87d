package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
)

// inside is the whole site in this process, without a network.
type inside struct {
	db      *store.DB
	path    string // of the database
	handler http.Handler
}

func openInside(ctx context.Context, dir, origin string) (*inside, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	settings, err := config.Load(append([]string{"BIO_URL=" + origin, "BIO_DATA=" + dir}, usual...))
	if err != nil {
		return nil, err
	}
	s := &inside{path: filepath.Join(dir, "bio.db")}
	if s.db, err = store.Open(ctx, settings.Database, time.Now); err != nil {
		return nil, err
	}
	s.handler, err = server.New(server.Options{
		Settings: settings, Secret: make([]byte, 32), DB: s.db, Now: time.Now,
		Log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	return s, err
}

// do implements site.
func (s *inside) do(request []byte) (int, []byte, error) {
	r, err := incoming(request)
	if err != nil {
		return 0, nil, err
	}
	var w answer
	s.handler.ServeHTTP(&w, r)
	return w.status, w.body, nil
}

// incoming is the request as net/http hands it to a handler.
func incoming(request []byte) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1024"
	return r, err
}

// answer is a response writer that keeps the answer.
type answer struct {
	header http.Header
	status int
	body   []byte
}

func (w *answer) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, b...)
	return len(b), nil
}

// Flush lets pages stream.
func (w *answer) Flush() { w.WriteHeader(http.StatusOK) }
