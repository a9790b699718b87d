package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/labstack/echo/v4"
)

// recorded is an answer as bareEcho gives it again.
type recorded struct {
	Header http.Header
	Body   []byte
}

// bareEcho serves one recorded answer at / and nothing else: what the libraries
// alone cost.
func bareEcho(addr, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var answer recorded
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	mime := answer.Header.Get(echo.HeaderContentType)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/", func(c echo.Context) error {
		h := c.Response().Header()
		for name, values := range answer.Header {
			h[name] = values
		}
		return c.Blob(http.StatusOK, mime, answer.Body)
	})
	return e.Start(addr)
}

// record keeps the answer of GET / in a file.
func (b *bench) record(p *process) (string, error) {
	answer, err := http.Get("http://" + p.addr + "/")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	answer.Header.Del("Date") // net/http's own, in both
	text, err := json.Marshal(recorded{answer.Header, body})
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.dir, "page.json")
	return file, os.WriteFile(file, text, 0o600)
}

// peer is one server of the comparison and what was seen of it, round by round.
type peer struct {
	*process
	rate []float64
	cpu  []time.Duration // of the server, for one request
}

// ask loads the server with GET / for d.
func (s *peer) ask(connections int, d time.Duration) error {
	get := request("GET", "/", s.host(), "")
	used, err := s.process.cpu()
	if err != nil {
		return err
	}
	did, err := load(s.addr, connections, during(d), func(_ int, s site) error {
		status, body, err := s.do(get)
		if err != nil {
			return err
		}
		return expect("GET /", status, 200, body)
	})
	if err != nil {
		return err
	}
	usedNow, err := s.process.cpu()
	s.rate = append(s.rate, did.rate())
	s.cpu = append(s.cpu, (usedNow-used)/time.Duration(did.n))
	return err
}

// page compares GET / of a visitor who was never here with bare echo sending the
// same headers and body.
func (b *bench) page() error {
	var bio, logging, bare peer
	var err error
	if bio.process, err = b.serve(filepath.Join(b.dir, "page")); err != nil {
		return err
	}
	defer bio.kill()
	if logging.process, err = b.serve(filepath.Join(b.dir, "page-logging"), "BIO_LOG=info"); err != nil {
		return err
	}
	defer logging.kill()
	if _, err := bio.until(b.ctx, "/"); err != nil {
		return err
	}
	file, err := b.record(bio.process)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	if bare.process, err = b.spawn(addr, "http://"+addr, nil, self, bareCommand, addr, file); err != nil {
		return err
	}
	defer bare.kill()
	for _, s := range []peer{bare, logging} {
		if _, err := s.until(b.ctx, "/"); err != nil {
			return err
		}
	}

	const connections = 64
	var parts []func() error
	for _, s := range []*peer{&bare, &bio, &logging} {
		parts = append(parts, func() error { return s.ask(connections, pick(b, 1500*time.Millisecond, 400*time.Millisecond)) })
	}
	if err := b.rounds(pick(b, 7, 3), parts...); err != nil {
		return err
	}
	show := func(s peer) string {
		return fmt.Sprintf("%.2f of its rate, %.2f times its CPU (%.0f/s, %s)",
			median(ratios(s.rate, bare.rate)), median(ratios(s.cpu, bare.cpu)), median(s.rate), micro(median(s.cpu)))
	}
	b.add("GET / signed out, against bare echo sending the same bytes", show(bio), ">= 0.75 of its rate",
		median(ratios(bio.rate, bare.rate)) >= 0.75)
	b.note("  the same with the log on (BIO_LOG=info)", "%s", show(logging))
	b.note("  bare echo, "+fmt.Sprint(connections)+" connections", "%.0f/s, %s CPU", median(bare.rate), micro(median(bare.cpu)))
	return nil
}
