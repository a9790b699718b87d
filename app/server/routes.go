package server

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"bio/assets"
)

// guardedBy says what stands before a handler.
type guardedBy uint8

const (
	open      guardedBy = iota // nothing: health and assets
	visited                    // the session is read, if there is one
	limited                    // also, attempts are counted against the client
	finishing                  // also, a refusal is that of a press: counted and recorded
)

// routes is the site map.
func (s *Server) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = clientAddress(s.settings.TrustedProxies)
	e.Use(s.observe, s.protect())

	for _, r := range []struct {
		method, path string
		by           guardedBy
		handler      echo.HandlerFunc
	}{
		{http.MethodGet, "/", visited, s.home},
		{http.MethodHead, "/", visited, s.home},
		{http.MethodPost, "/", finishing, s.press},
		{http.MethodGet, "/ceremony", limited, s.ceremony},
		{http.MethodPost, "/sign-out", visited, s.signOut},
		{http.MethodGet, "/sign-out", open, toFirstPage},
		{http.MethodPost, "/run", limited, s.run},
		{http.MethodGet, "/run", open, toFirstPage},
		{http.MethodPost, "/run/stop", limited, s.stopRun},
		{http.MethodGet, "/run/stop", open, toFirstPage},
		{http.MethodGet, "/account", limited, s.account},
		{http.MethodHead, "/account", limited, s.account},
		{http.MethodPost, actAdd, finishing, s.addOnPage},
		{http.MethodPost, actPasskeys + ":ref/rename", finishing, s.act(s.readRenamePasskey)},
		{http.MethodPost, actPasskeys + ":ref/remove", finishing, s.act(s.readRemovePasskey)},
		{http.MethodPost, actSessions + ":ref/end", limited, s.endSession},
		{http.MethodPost, actEndOthers, finishing, s.act(s.readEndOthers)},
		{http.MethodPost, actName, finishing, s.act(s.readRename)},
		{http.MethodPost, actErase, finishing, s.act(s.readErase)},
		{http.MethodPost, actCancelRecovery, finishing, s.act(s.readCancelRecovery)},
		{http.MethodPost, actInvitations, finishing, s.act(s.readInvitation)},
		{http.MethodPost, actRecoveries, finishing, s.act(s.readRecovery)},

		{http.MethodGet, "/audit/checkpoint", open, s.auditCheckpoint},
		{http.MethodGet, "/audit/key", open, s.auditKey},
		{http.MethodGet, "/audit/tile/*", open, s.auditTile},
		{http.MethodGet, "/audit/proof", open, s.auditProof},
		{http.MethodGet, "/audit/:log/checkpoint", open, s.auditCheckpoint},
		{http.MethodGet, "/audit/:log/key", open, s.auditKey},
		{http.MethodGet, "/audit/:log/tile/*", open, s.auditTile},
		{http.MethodGet, "/audit/:log/proof", open, s.auditProof},

		{http.MethodPost, "/auth/webauthn/register/begin", limited, s.beginRegister},
		{http.MethodPost, "/auth/webauthn/register/finish", finishing, s.finishRegister},
		{http.MethodPost, "/auth/webauthn/sign-in/begin", limited, s.beginSignIn},
		{http.MethodPost, "/auth/webauthn/sign-in/finish", finishing, s.finishSignIn},
		{http.MethodGet, "/auth/webauthn/credentials", limited, s.credentials},
		{http.MethodPatch, "/auth/webauthn/credentials/:id", limited, s.renameCredential},
		{http.MethodDelete, "/auth/webauthn/credentials/:id", limited, s.removeCredential},
		{http.MethodGet, "/auth/session", limited, s.session},
		{http.MethodPost, "/auth/sign-out", visited, s.leave},

		{http.MethodGet, "/.well-known/webauthn", open, s.relatedOrigins},
		{http.MethodGet, "/.well-known/passkey-endpoints", open, s.passkeyEndpoints},
		{http.MethodGet, "/.well-known/change-password", open, toAccount},
		{http.MethodGet, "/assets/*", open, echo.WrapHandler(assets.Handler())},
		{http.MethodHead, "/assets/*", open, echo.WrapHandler(assets.Handler())},
		{http.MethodGet, "/healthz", open, s.healthz},
		{http.MethodHead, "/healthz", open, s.healthz},
		{http.MethodGet, "/readyz", open, s.readyz},
		{http.MethodHead, "/readyz", open, s.readyz},
	} {
		// Composed here, once: echo would compose them for every request.
		handler := r.handler
		if r.by >= limited {
			handler = s.limit(handler)
		}
		if r.by >= visited {
			handler = s.recognise(handler)
		}
		if r.by >= finishing {
			handler = pressing(handler)
		}
		e.Add(r.method, r.path, handler)
		if strings.HasPrefix(r.path, "/account/") { // someone opens what only a form posts to
			e.GET(r.path, toAccount)
			e.HEAD(r.path, toAccount)
		}
	}
	return e
}
