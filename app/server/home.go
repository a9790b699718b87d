package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"bio/agent/brief"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/runs"
	"bio/views"
)

// home answers GET /: the signed-in page, or the button.
func (s *Server) home(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	query := r.URL.Query()
	ask := query.Get("return_to")
	if ask == "" {
		ask = query.Get("rd")
	}
	returnTo, invite := s.returnTo(ask), query.Get("invite")
	if token := query.Get("recover"); token != "" {
		return s.recovery(c, token)
	}
	if v.signedIn && invite == "" {
		if returnTo != "" {
			return c.Redirect(http.StatusSeeOther, returnTo)
		}
		return s.showHome(c, http.StatusOK, views.Home{}, nil)
	}

	binding := s.cookies.binding(c.Response(), r)
	if returnTo == "" && invite == "" {
		offer := s.rp.Offer(passkey.SignIn, binding)
		page := buffers.Get().(*[]byte)
		defer buffers.Put(page)
		*page = s.plain[s.knownTo(r)].AppendTo((*page)[:0], offer.Challenge, offer.UserHandle, offer.Name)
		return s.html(c, http.StatusOK, *page)
	}
	if invite == "" {
		return s.render(c, http.StatusOK, views.Page(s.authProps(c, binding, returnTo, "")))
	}
	i, err := s.db.Invitation(r.Context(), account.TokenHash(invite))
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return err
	}
	if err != nil || !i.Usable(s.now()) {
		if v.signedIn {
			return s.showHome(c, http.StatusOK, views.Home{Notice: "That invitation was used already or has expired. You are signed in."}, nil)
		}
		page := s.authProps(c, binding, returnTo, "")
		page.Title, page.Notice = "Not invited", outcomeOf(account.ErrInvitation).sentence
		return s.render(c, http.StatusOK, views.Page(page))
	}
	page := s.authProps(c, binding, returnTo, invite)
	page.Invited, page.Known = invited(i, v, page.Closed), page.Known || v.signedIn
	return s.render(c, http.StatusOK, views.Page(page))
}

// recovery shows the page of a recovery link.
func (s *Server) recovery(c echo.Context, token string) error {
	v := visitOf(c)
	binding := s.cookies.binding(c.Response(), c.Request())
	page, err := s.recoverProps(c, binding, token)
	switch {
	case errors.Is(err, account.ErrRecovery) && v.signedIn:
		return s.showHome(c, http.StatusOK, views.Home{Notice: outcomeOf(err).sentence + " You are signed in."}, nil)
	case errors.Is(err, account.ErrRecovery):
		page = s.authProps(c, binding, "", "")
		page.Title, page.Notice = outcomeOf(err).title, outcomeOf(err).sentence
	case err != nil:
		return err
	}
	return s.render(c, http.StatusOK, views.Page(page))
}

// invited says what an invitation gives.
func invited(i account.Invitation, v *visit, closed bool) string {
	what := "You are invited. Press Auth to come in."
	if closed {
		what = "This invitation is for someone who has an account here. Press Auth to use it."
	}
	if (account.User{Groups: i.Groups}).In(account.Owner) {
		what = "Whoever presses Auth here becomes an owner of this Bio."
	}
	if v.signedIn {
		what += " You are signed in as " + v.user.Name + "."
	}
	return what
}

// knownTo reports whether a passkey was used in this browser here.
func (s *Server) knownTo(r *http.Request) bool {
	_, known := s.cookies.read(r, s.cookies.known)
	return known
}

// buffers hold plain pages while they are written.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// plainPages are the signed-out page as most people get it, by whether the
// browser is known, cut where an offer stands: the rest is the same for everyone.
func (s *Server) plainPages() (map[bool]*views.Stencil, error) {
	pages := map[bool]*views.Stencil{}
	for _, known := range []bool{false, true} {
		page, err := views.NewStencil(func(v []string) templ.Component {
			offer := passkey.Offer{Challenge: v[0], UserHandle: v[1], Name: v[2]}
			return views.Page(views.Auth{
				Ceremony: views.Ceremony{
					Options: string(s.rp.OptionsJSON(offer)), Known: known, Closed: !s.mayRegister(nil),
				},
				Elsewhere: s.settings.Origin(),
			})
		}, 2, 1, 2)
		if err != nil {
			return nil, err
		}
		pages[known] = page
	}
	return pages, nil
}

// authProps are the signed-out page's, with a fresh offer.
func (s *Server) authProps(c echo.Context, binding, returnTo, invite string) views.Auth {
	return views.Auth{
		Ceremony: views.Ceremony{
			Options: string(s.rp.OptionsJSON(s.rp.Offer(passkey.SignIn, binding))),
			Known:   s.knownTo(c.Request()), Closed: !s.mayRegister(account.TokenHash(invite)),
			ReturnTo: returnTo, Invite: invite,
		},
		Elsewhere: s.settings.Origin(),
	}
}

// undoProps is the form that proves an older account on the first page of a new one.
func (s *Server) undoProps(binding string, user account.User) *views.Ceremony {
	offer := s.rp.Offer(passkey.UndoDuplicate(user.ID), binding)
	return &views.Ceremony{Options: string(s.rp.GetOptionsJSON(offer)), Known: true}
}

// here is the address that shows the same form again.
func here(c views.Ceremony) string {
	query := url.Values{}
	if c.ReturnTo != "" {
		query.Set("return_to", c.ReturnTo)
	}
	if c.Invite != "" {
		query.Set("invite", c.Invite)
	}
	if len(query) == 0 {
		return "/"
	}
	return "/?" + query.Encode()
}

// ceremony answers GET /ceremony: fresh options for a page that has grown old.
func (s *Server) ceremony(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	binding := s.cookies.binding(c.Response(), r)
	if token := c.QueryParam("recover"); token != "" {
		options, _, err := s.recoverOptions(r.Context(), binding, token)
		if err != nil {
			return err
		}
		return c.JSONBlob(http.StatusOK, options)
	}
	form := c.QueryParam("for")
	switch {
	case form == "":
		return c.JSONBlob(http.StatusOK, s.rp.OptionsJSON(s.rp.Offer(passkey.SignIn, binding)))
	case !v.signedIn:
		return errNotSignedIn
	case form == "undo":
		return c.JSONBlob(http.StatusOK, []byte(s.undoProps(binding, v.user).Options))
	case form == actAdd:
		has, err := s.db.Credentials(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		add, _ := s.addPress(v, binding, has)
		return c.JSONBlob(http.StatusOK, []byte(add.Options))
	case actAddress.MatchString(form):
		return c.JSONBlob(http.StatusOK, []byte(s.actPress(v.user, binding, form).Options))
	}
	return echo.ErrNotFound
}

// signOut answers POST /sign-out. It works as often as it is pressed.
func (s *Server) signOut(c echo.Context) error {
	if err := s.end(c); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, "/")
}

// end ends the session of this browser, if there is one.
func (s *Server) end(c echo.Context) error {
	v := visitOf(c)
	if v.signedIn {
		err := s.sessions.End(c.Request().Context(), v.session.ID, audit.Entry{
			Kind: audit.SignedOut, Actor: v.user.ID, Session: v.session.ID, Client: v.client(c.Request()),
		})
		if err != nil {
			return err
		}
		s.trail.grown()
	}
	s.cookies.signOut(c.Response())
	return nil
}

// toFirstPage answers addresses that only forms post to, when someone opens them.
func toFirstPage(c echo.Context) error { return c.Redirect(http.StatusSeeOther, "/") }

// showHome streams the signed-in page: the shell at once, then the runs' events
// as they come. Without runs of its own it shows the person's last ones.
func (s *Server) showHome(c echo.Context, status int, page views.Home, started []*runs.Run) error {
	r, v := c.Request(), visitOf(c)
	page.Account = v.user.Name
	if page.Ask == nil {
		page.Ask = &views.Ask{Agent: r.URL.Query().Get("agent")} // the one that was asked last
	}
	page.Ask.Agents = s.agents
	// The page of a press that succeeded is shown, whatever the database says now.
	var err error
	if page.Recovery, err = s.waiting(c); err != nil {
		s.log.Error("recovery not looked for", "error", err, "request", v.requestID)
	}
	if page.Recovery != nil {
		page.Recovery.Cancel = s.actPress(v.user, s.cookies.binding(c.Response(), r), actCancelRecovery)
	}
	if started == nil {
		started = s.runs.Last(r.Context(), v.user.ID)
	}
	page.Work = s.work(c, started)
	response := c.Response()
	h := response.Header()
	h.Set(echo.HeaderContentType, echo.MIMETextHTMLCharsetUTF8)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the stream back
	if r.Method == http.MethodHead {
		return c.NoContent(status)
	}
	stream := &stream{Response: response, control: http.NewResponseController(response)}
	response.WriteHeader(status)
	if err := views.HomePage(page).Render(r.Context(), stream); err != nil && r.Context().Err() == nil {
		return err
	}
	return nil
}

// stream is an answer that goes on for as long as something comes of it: each piece
// gets the time that the server gives a whole answer.
type stream struct {
	*echo.Response
	control *http.ResponseController
}

func (w *stream) Write(p []byte) (int, error) {
	until := time.Now().Add(writeTimeout)
	if err := errors.Join(w.control.SetReadDeadline(until), w.control.SetWriteDeadline(until)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return w.Response.Write(p)
}

// render writes a page whole: to a buffer first, so that a page that fails is
// not half a page.
func (s *Server) render(c echo.Context, status int, page templ.Component) error {
	b := templ.GetBuffer()
	defer templ.ReleaseBuffer(b)
	if err := page.Render(c.Request().Context(), b); err != nil {
		return err
	}
	return s.html(c, status, b.Bytes())
}

func (s *Server) html(c echo.Context, status int, page []byte) error {
	c.Response().Header()[echo.HeaderContentLength] = []string{strconv.Itoa(len(page))}
	return c.HTMLBlob(status, page)
}

// facts are what brief speaks of, from the person's own trail.
func (s *Server) facts(ctx context.Context, userID string) (brief.Facts, error) {
	var f brief.Facts
	credentials, err := s.db.Credentials(ctx, userID)
	if err != nil {
		return f, err
	}
	names := map[string]string{}
	for _, c := range credentials {
		names[account.CredentialRef(c.ID)] = c.Name
		f.Passkeys = append(f.Passkeys, brief.Passkey{
			Name: c.Name, Synced: c.BackupEligible(), BackedUp: c.BackupState(), Created: c.CreatedAt, LastUsed: c.LastUsedAt,
		})
	}
	made, from, err := s.db.Waiting(ctx, userID)
	switch {
	case err == nil:
		f.Recovery = &brief.Recovery{
			Begun: made.CreatedAt, Due: made.EffectiveAt, Browser: from.Browser, System: from.System, Network: from.Network,
		}
	case !errors.Is(err, account.ErrNotFound):
		return f, err
	}
	records, err := s.db.Trail(ctx, userID, 0, 50, audit.RunStarted, audit.RunEnded, audit.SteppedUp)
	if err != nil {
		return f, err
	}
	for _, record := range records { // newest first
		visit := brief.Visit{
			At: record.At, Browser: record.Client.Browser, System: record.Client.System, Network: record.Client.Network,
		}
		entry := record.Kind == audit.SignedIn || record.Kind == audit.Registered
		switch {
		case entry && f.Visit.At.IsZero():
			f.Visit = visit
		case entry && f.Last.At.IsZero():
			f.Last = visit
		case f.Last.At.IsZero():
			kind := brief.Kind(record.Kind)
			// A folded entry names its classes in its detail.
			if record.Kind == audit.SignInRefused && (record.Reason == "counter" || record.Detail["counter"] != "") {
				kind = brief.CounterAnomaly // of a device-bound passkey: refused, and no less alarming
			}
			f.Acts = append(f.Acts, brief.Act{Kind: kind, Visit: visit, Count: record.Count, Passkey: names[record.Credential]})
		}
		if entry && !f.Visit.At.Equal(record.At) {
			f.Seen.Browsers = append(f.Seen.Browsers, visit.Browser)
			f.Seen.Systems = append(f.Seen.Systems, visit.System)
			f.Seen.Networks = append(f.Seen.Networks, visit.Network)
		}
	}
	return f, nil
}
