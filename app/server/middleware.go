package server

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/session"
	"bio/views"
)

// visit is what is known of a request beyond HTTP.
type visit struct {
	requestID string
	addr      netip.Addr
	signedIn  bool
	presses   bool // its refusal is that of a press
	session   session.Session
	user      account.User
	pressed   *pressed // set by the handler of a press
	reason    string   // of a refusal, for the log
}

// withVisit is the context that everything inside observe gets.
type withVisit struct {
	echo.Context
	visit
}

func visitOf(c echo.Context) *visit { return &c.(*withVisit).visit }

// client is what is kept of where a request came from.
func (v *visit) client(r *http.Request) audit.Client {
	browser, system := audit.Browser(r.UserAgent())
	return audit.Client{Network: audit.Network(v.addr), Browser: browser, System: system}
}

// clientAddress reads the client's address: the peer's, or what a trusted proxy
// says of it. With no trusted proxy, no header changes it.
func clientAddress(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, prefix := range trusted {
		options = append(options, echo.TrustIPRange(ipNet(prefix)))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// fromProxy reports whether the request's peer is a trusted proxy.
func (s *Server) fromProxy(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(s.settings.TrustedProxies, func(p netip.Prefix) bool {
		return p.Contains(peer.Addr().Unmap())
	})
}

// observe surrounds everything: it gives the request its id, turns a panic and an
// error into an answer, and writes the one log line.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	next = contained(next)
	return func(outer echo.Context) error {
		c := &withVisit{Context: outer}
		began := time.Now()
		r := c.Request()
		addr, _ := netip.ParseAddr(c.RealIP())
		v := &c.visit
		v.addr = addr
		if given := r.Header.Get(echo.HeaderXRequestID); given != "" && s.fromProxy(r) && requestID.MatchString(given) {
			v.requestID = given
		} else {
			raw := make([]byte, 12)
			rand.Read(raw)
			v.requestID = base64.RawURLEncoding.EncodeToString(raw)
		}
		c.Response().Header()[echo.HeaderXRequestID] = []string{v.requestID}
		if s.draining.Load() {
			c.Response().Header()["Connection"] = []string{"close"}
		}

		err := next(c)
		late := c.Response().Committed // then the page itself has said what it could
		if err != nil {
			s.fail(err, c)
		}

		route, took, status := c.Path(), time.Since(began), c.Response().Status
		if route == "" {
			route = "none"
		}
		method := r.Method
		if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete}, method) {
			method = "other" // a client's invention must not become a label
		}
		s.metrics.answered(method, route, status, took)
		level := slog.LevelInfo
		if status >= 500 || err != nil && late {
			level = slog.LevelError
		}
		if !s.log.Enabled(r.Context(), level) {
			return nil
		}
		attrs := make([]slog.Attr, 0, 10)
		attrs = append(attrs,
			slog.String("method", method), slog.String("route", route), slog.Int("status", status),
			slog.Float64("ms", float64(took.Microseconds())/1000), slog.Int64("bytes", c.Response().Size),
			slog.String("request", v.requestID), slog.String("network", audit.Network(v.addr)))
		if v.signedIn {
			attrs = append(attrs, slog.String("user", v.user.ID))
		}
		if v.reason != "" {
			attrs = append(attrs, slog.String("reason", v.reason))
		}
		if err != nil && level == slog.LevelError {
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		s.log.LogAttrs(r.Context(), level, "request", attrs...)
		return nil
	}
}

// contained turns a handler's panic into an error.
func contained(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return next(c)
	}
}

type header struct {
	name  string
	value []string // shared by all answers: never changed
}

// pageHeaders are on every answer; assets replace Cache-Control.
func pageHeaders(secure bool) []header {
	h := []header{
		{"Content-Security-Policy", []string{"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
			"connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'"}},
		{"Permissions-Policy", []string{"publickey-credentials-get=(self), publickey-credentials-create=(self), " +
			"accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), geolocation=(), " +
			"gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), screen-wake-lock=(), serial=(), usb=(), " +
			"xr-spatial-tracking=()"}},
		{"Cross-Origin-Opener-Policy", []string{"same-origin"}},
		{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
		{"Referrer-Policy", []string{"no-referrer"}},
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"X-Frame-Options", []string{"DENY"}},
		{"Cache-Control", []string{"no-store"}},
	}
	if secure {
		h = append(h, header{"Strict-Transport-Security", []string{"max-age=31536000"}})
	}
	return h
}

// errCrossSite says that another site's page sent the request.
var errCrossSite = errors.New("server: cross-site request")

// isAPI reports whether a request is for the JSON API.
func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/auth/") }

// protect sets the headers, refuses what another site sends, answers what other
// origins ask before they send, and bounds the body.
func (s *Server) protect() echo.MiddlewareFunc {
	headers := pageHeaders(s.settings.Secure())
	// Behind a proxy that rewrites Host, our own origin is still our own.
	pages, api := trusting(s.settings.Origin()), trusting(s.settings.AllOrigins()...)
	others := map[string]bool{}
	for _, origin := range s.settings.Origins {
		others[origin.String()] = true
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			h := c.Response().Header()
			for _, one := range headers {
				h[one.name] = one.value
			}
			r := c.Request()
			origins, asked := pages, r
			if isAPI(r) {
				// No GET of the API is a page that others may lead to: each is held to
				// what a POST is held to.
				as := *r
				as.Method = http.MethodPost
				origins, asked = api, &as
			}
			if err := origins.Check(asked); err != nil {
				return errCrossSite
			}
			if share(c, others) {
				return c.NoContent(http.StatusNoContent)
			}
			if r.Body != http.NoBody {
				r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, mostOf(c))
			}
			return next(c)
		}
	}
}

// trusting lets the origins send what other sites may not.
func trusting(origins ...string) *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := p.AddTrustedOrigin(origin); err != nil {
			panic(err) // config has checked it
		}
	}
	return p
}

// share lets pages of the other origins read the API, and load the SDK, with the
// cookies that their browsers send along (Fetch Standard, "CORS protocol"). It
// reports whether the request only asks whether another one may be sent.
func share(c echo.Context, others map[string]bool) (preflight bool) {
	r, h := c.Request(), c.Response().Header()
	// The assets are bio.js by its plain name, and by that with its hash.
	if !isAPI(r) && !strings.HasPrefix(r.URL.Path, "/assets/bio.") {
		return false
	}
	// At the end: the handler of assets sets a Vary of its own.
	c.Response().Before(func() { h.Add("Vary", "Origin") })
	origin := r.Header.Get("Origin")
	if !others[origin] {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	return true
}

// mostOf is how many bytes the body of this request may have.
func mostOf(c echo.Context) int64 {
	if c.Path() == "/run" {
		return maxAskBody
	}
	return maxBody
}

// pressing marks what is refused from here on as a press that was refused.
func pressing(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		visitOf(c).presses = true
		return next(c)
	}
}

// limit counts an attempt against the client.
func (s *Server) limit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if wait, ok := s.limits.allow(visitOf(c).addr, s.now()); !ok {
			return &tooManyError{wait}
		}
		if c.Request().ContentLength > mostOf(c) { // only now: a refusal is worth an attempt too
			return errTooLarge
		}
		return next(c)
	}
}

// recognise reads the session. A cookie that is not a valid session is just
// "signed out", and is cleared.
func (s *Server) recognise(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, v := c.Request(), visitOf(c)
		value, present := s.cookies.read(r, s.cookies.session)
		if !present {
			if s.followedLink(r) {
				return s.render(c, http.StatusOK, views.Reload())
			}
			return next(c)
		}
		var err error
		v.session, v.user, err = s.sessions.Check(r.Context(), value)
		switch {
		case err == nil:
			v.signedIn = true
		case errors.Is(err, session.ErrEnded):
			// Its cookie stays: this answer may overtake that which brings the new one.
		case errors.Is(err, session.ErrNone):
			s.cookies.signOut(c.Response())
		default:
			return err
		}
		return next(c)
	}
}

// followedLink reports whether a person who was here before comes from another
// site: the browser then keeps the Strict session cookie back, once. After a
// reload by our own page it sends it.
func (s *Server) followedLink(r *http.Request) bool {
	if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Site") != "cross-site" ||
		r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return false
	}
	_, known := s.cookies.read(r, s.cookies.known)
	return known
}
