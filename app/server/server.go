// Package server is the web: routes, pages, cookies and errors around the domain
// packages. It is the only one that knows echo.
package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"bio/agent"
	"bio/agent/mcp"
	"bio/app/config"
	"bio/app/passkey"
	"bio/app/runs"
	"bio/app/session"
	"bio/app/store"
	"bio/app/token"
	"bio/views"
)

// Options are what a Server is made of.
type Options struct {
	Settings *config.Settings
	Secret   []byte // the root secret, 32 bytes or more
	DB       *store.DB
	Agents   []agent.Named // in place of brief
	Now      func() time.Time
	Log      *slog.Logger
	Version  string // of the program, for the trail
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	settings *config.Settings
	keys     derived
	db       *store.DB
	rp       *passkey.RelyingParty
	sessions *session.Keeper
	runs     *runs.Runs
	agents   []string   // names, in the order of the page
	mcp      *mcp.Tools // nil: none
	trail    *trail
	now      func() time.Time
	log      *slog.Logger

	cookies  cookies
	limits   *limits
	metrics  *metrics
	plain    map[bool]*views.Stencil // see plainPages
	draining atomic.Bool
	handler  http.Handler
}

// New builds the whole site.
func New(o Options) (*Server, error) {
	s := &Server{settings: o.Settings, db: o.DB, now: o.Now, log: o.Log}
	s.keys = derive(o.Secret, o.Settings.Previous)
	s.cookies = newCookies(o.Settings.Secure())
	s.limits = newLimits(o.Settings.RateLimit, o.Settings.RefusalLimit)
	s.metrics = newMetrics()
	s.sessions = session.New(session.Options{
		Store: o.DB, Keys: token.NewKeyring(s.keys.session[0], s.keys.session[1:]...), Issuer: o.Settings.Origin(),
		Idle: o.Settings.SessionIdle, Max: o.Settings.SessionMax, Now: o.Now,
	})
	var err error
	s.rp, err = passkey.New(passkey.Options{
		ID: o.Settings.RPID, Name: o.Settings.RPName, Origins: o.Settings.AllOrigins(),
		UserVerification: string(o.Settings.UserVerification), ResidentKey: string(o.Settings.ResidentKey),
		Attestation: string(o.Settings.Attestation), TTL: o.Settings.ChallengeTTL,
		Secret: s.keys.passkey[0], Previous: s.keys.passkey[1:], Now: o.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.trail = newTrail(o.DB, o.Settings, s.keys.trail, o.Now, o.Log)
	all, err := s.named(o.Agents)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		s.agents = append(s.agents, one.Name)
	}
	s.runs = runs.New(runs.Options{
		Agents: all, Store: o.DB, Memory: o.DB.Memory, Timeout: o.Settings.AgentTimeout,
		Max: 64, Queue: 1024, MaxEvents: 4096, MaxBytes: 256 << 10,
		Keep: 256, Now: o.Now, Log: o.Log, Began: func(runs.Life) { s.trail.grown() },
		Ended: func(run runs.Life) {
			s.metrics.ran(run)
			s.trail.grown()
		},
	})
	s.metrics.watch(s.runs, s.agents)
	if s.plain, err = s.plainPages(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }
