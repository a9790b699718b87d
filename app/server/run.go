package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/runs"
	"bio/app/store"
	"bio/app/token"
)

// The server's limits in time and size. Without them a slow client holds its
// connection for ever.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
)

// Draining: for drainNotice, answers ask their clients to close the connection, so
// that fewer are cut while they write the next request; then running agents and
// requests in flight get their time. A connection that the system has taken and
// the server has not can still be lost.
const (
	drainNotice = 250 * time.Millisecond
	drainRuns   = 8 * time.Second
	drainAll    = 12 * time.Second
	drainTrail  = 5 * time.Second
)

// housekeeping is how often what has expired is removed; the first time when those
// who wait for a start have been answered.
const (
	firstHousekeeping = time.Second
	housekeeping      = time.Minute
)

// ErrServing says that a server that had started stopped badly. Any other error
// of Run is of the start, and says what to mend.
var ErrServing = errors.New("serving stopped")

// Run opens what the settings name, serves until ctx is done, then drains; the
// secret, the database and the clock of o are its own. Once it is ready it prints
// one short block to out. A start that fails leaves nothing behind that was not
// there, but perhaps an empty database that the next start takes up.
func Run(ctx context.Context, o Options, out io.Writer) error {
	settings := o.Settings
	if err := checkAgents(o); err != nil {
		return err
	}
	web, err := listen("BIO_LISTEN", settings.Listen)
	if err != nil {
		return err
	}
	defer web.Close()
	var side net.Listener
	if settings.MetricsListen != "" {
		if side, err = listen("BIO_METRICS_LISTEN", settings.MetricsListen); err != nil {
			return err
		}
		defer side.Close()
	}

	data, err := openData(settings)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, settings.Database, time.Now)
	if err != nil {
		data.discard()
		return err
	}
	defer db.Close()
	if err := data.secure(); err != nil {
		return err
	}
	o.Secret, o.DB, o.Now = data.secret, db, time.Now
	s, err := New(o)
	if err != nil {
		return err
	}
	if err := s.trail.start(ctx); err != nil {
		return err
	}
	if err := s.started(ctx, o.Version); err != nil {
		return err
	}
	link, err := s.firstOwner(ctx)
	if err != nil {
		return err
	}
	// Where nobody else serves this database, what runs in it was left by a crash.
	lock, err := data.claim(func() error {
		_, err := db.InterruptRuns(ctx, time.Now().Add(time.Hour), runs.Crashed)
		return err
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	s.adviseAgents(o.Agents)
	fmt.Fprint(out, greeting(settings, s.agents, link))
	return s.Serve(ctx, web, side)
}

// Serve answers requests on web, and Prometheus on side unless that is nil, until
// ctx is done. Then it drains: requests in flight are answered, runs are given
// their time, what waits for the trail is recorded. Its errors wrap ErrServing.
func (s *Server) Serve(ctx context.Context, web, side net.Listener) error {
	server := s.httpServer(s)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(web) }()
	if side != nil {
		metrics := s.httpServer(s.metrics.handler())
		go func() { failed <- metrics.Serve(side) }()
		defer metrics.Close()
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var keepers sync.WaitGroup
	keepers.Go(func() { s.keepHouse(background) })
	keepers.Go(func() { s.trail.keep(background) })

	var failure error
	select {
	case err := <-failed:
		failure = fmt.Errorf("%w: %w", ErrServing, err)
	case <-ctx.Done():
	}
	s.drain(server)
	stop()
	keepers.Wait()
	// Last, when nothing acts any more, and whatever the time: what is not recorded
	// now is lost.
	last, done := context.WithTimeout(context.Background(), drainTrail)
	defer done()
	s.trail.settle(last, true)
	return failure
}

// drain answers the requests in flight and lets runs end.
func (s *Server) drain(web *http.Server) {
	s.log.Info("draining")
	s.draining.Store(true)
	time.Sleep(drainNotice)
	ctx, cancel := context.WithTimeout(context.Background(), drainAll)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, drainRuns)
		defer cancel()
		err := s.runs.Close(ctx)
		if s.mcp != nil {
			s.mcp.Close() // and its programs have ended
		}
		ended <- err
	}()
	err := web.Shutdown(ctx)
	if runsErr := <-ended; runsErr != nil {
		s.log.Warn("agent runs were interrupted", "error", runsErr)
	}
	if err != nil { // a client that never finishes its request must not decide how we exit
		s.log.Warn("requests were cut", "after", drainAll.String())
		web.Close()
	}
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// keepHouse removes what has expired until ctx is done.
func (s *Server) keepHouse(ctx context.Context) {
	next := time.NewTimer(firstHousekeeping)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(housekeeping)
		}
		expired, err := s.db.ExpireSessions(ctx, s.settings.SessionIdle)
		if err != nil && ctx.Err() == nil {
			s.log.Error("expired sessions were not removed", "error", err)
		}
		interrupted, err := s.runs.EndStale(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("runs that were left were not ended", "error", err)
		}
		if expired+interrupted > 0 {
			s.trail.grown()
		}
	}
}

// started records the start, with what decides who gets in and who is believed.
func (s *Server) started(ctx context.Context, version string) error {
	keys := make([]string, len(s.keys.session))
	for i, seed := range s.keys.session {
		keys[i] = token.Thumbprint(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	}
	_, signer, err := s.trail.signer(ctx, math.MaxInt64)
	if err != nil {
		return err
	}
	// A commit here would be a third of the time that a start takes.
	s.trail.later(audit.Entry{Kind: audit.ServerStarted, Detail: map[string]string{
		"version": version, "token_keys": strings.Join(keys, " "), "trail_keys": strings.Join(signer.Keys(), " "),
		"rp_id": s.settings.RPID, "origins": strings.Join(s.settings.AllOrigins(), " "),
		"registration": string(s.settings.Registration), "user_verification": string(s.settings.UserVerification),
	}})
	return nil
}

// firstOwner keeps the first owner's invitation and returns its link, or "" once
// it was used.
func (s *Server) firstOwner(ctx context.Context) (string, error) {
	usable, err := s.db.InviteFirstOwner(ctx, account.TokenHash(s.keys.owner),
		audit.Entry{Kind: audit.InvitationMade, Reason: "first owner"})
	if err != nil || !usable {
		return "", err
	}
	return inviteLink(s.settings, s.keys.owner), nil
}

// greeting is the block that a start prints.
func greeting(settings *config.Settings, agents []string, link string) string {
	var b strings.Builder
	path, err := filepath.Abs(settings.Data)
	if err != nil {
		path = settings.Data
	}
	fmt.Fprintf(&b, "\n  Bio is ready at  %s\n", settings.Origin())
	if _, port, _ := net.SplitHostPort(settings.Listen); port != strconv.Itoa(int(settings.URL.Port)) {
		fmt.Fprintf(&b, "  It listens on    %s\n", settings.Listen)
	}
	fmt.Fprintf(&b, "  Its data is in   %s\n", path)
	if len(agents) > 1 {
		fmt.Fprintf(&b, "  Its agents are   %s\n", strings.Join(agents, ", "))
	} else {
		fmt.Fprintf(&b, "  Its agent is     %s\n", strings.Join(agents, ", "))
	}
	if link != "" {
		fmt.Fprintf(&b, "  Become its owner %s\n                   (works once: whoever presses Auth there owns this Bio)\n", link)
	}
	b.WriteByte('\n')
	return b.String()
}

func listen(name, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another program. Stop that one, or set %s to another address, such as %s=:8081", addr, name, name)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("this user may not listen on %s. Set %s to a port above 1023", addr, name)
	}
	return nil, fmt.Errorf("cannot listen on %s: %w. Set %s to an address of this machine", addr, bareNet(err), name)
}

func bareNet(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// ipNet is the prefix as echo takes it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
