package server

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// healthz: the process answers.
func (s *Server) healthz(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// relatedOrigins lists the origins whose pages may use this site's passkeys
// (WebAuthn L3 §5.11.1).
func (s *Server) relatedOrigins(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string][]string{"origins": s.settings.AllOrigins()})
}

// passkeyEndpoints says where passkeys are made and managed (W3C "A Well-Known URL
// for Relying Party Passkey Endpoints").
func (s *Server) passkeyEndpoints(c echo.Context) error {
	account := s.settings.Origin() + "/account"
	return c.JSON(http.StatusOK, map[string]string{"enroll": account, "manage": account})
}

// toAccount answers /.well-known/change-password (W3C "A Well-Known URL for
// Changing Passwords"): what there is in place of one is on the account's page. It
// is also where forms of that page lead that take no press.
func toAccount(c echo.Context) error { return c.Redirect(http.StatusSeeOther, "/account") }

// readyz: the database is reachable and migrated, and the server is not draining.
func (s *Server) readyz(c echo.Context) error {
	if s.draining.Load() {
		return c.String(http.StatusServiceUnavailable, "draining\n")
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), 2*time.Second)
	defer cancel()
	if err := s.db.Ping(ctx); err != nil {
		s.log.Error("not ready", "error", err)
		return c.String(http.StatusServiceUnavailable, "database\n")
	}
	return c.String(http.StatusOK, "ready\n")
}
