package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/gateway"
	"bio/app/passkey"
	"bio/app/session"
	"bio/app/store"
	"bio/views"
)

// pressed is a press of the button, as far as it has been read.
type pressed struct {
	answer   *passkey.Answer // nil when the credential could not be read
	returnTo string
	invite   string
	undo     bool // of the "use your other passkey" form
}

// undoFor is how long an account counts as new: long enough to notice a
// duplicate, too short to have become someone's.
const undoFor = 15 * time.Minute

// press answers the button: it registers or signs in, and the answer is the
// signed-in page.
func (s *Server) press(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	p, err := s.readPress(r)
	if err != nil {
		return err
	}
	v.pressed = p
	credential := r.PostForm.Get("credential")
	if credential == "" {
		return errNoCredential
	}
	if p.answer, err = passkey.Parse([]byte(credential)); err != nil {
		return err
	}
	binding, ok := s.cookies.bound(r)
	if !ok {
		return passkey.ErrChallenge
	}
	if p.answer.IsRegistration() {
		return s.register(c, p, binding)
	}
	return s.signIn(c, p, binding)
}

// readPress reads the form around the credential.
func (s *Server) readPress(r *http.Request) (*pressed, error) {
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, errNotFormFields
	}
	p := &pressed{invite: r.PostForm.Get("invite"), undo: r.PostForm.Has("undo")}
	p.returnTo, _ = gateway.ReturnTo(r.PostForm.Get("return_to"), s.guards)
	return p, nil
}

// guards reports whether the gateway guards a host. This version has no gateway.
func (s *Server) guards(string) bool { return false }

// register makes an account of a new passkey.
func (s *Server) register(c echo.Context, p *pressed, binding string) error {
	r, v := c.Request(), visitOf(c)
	if v.signedIn {
		// Another tab of this browser signed in meanwhile: this page was old, and
		// the passkey it made is one too many.
		return s.showHome(c, http.StatusOK, views.Home{
			Notice: "You were signed in already, so no second account was made.", Here: "/", Signals: s.unknownSignal(p.answer),
		}, nil)
	}
	invitation := account.InvitationHash(p.invite)
	switch {
	case !s.mayRegister(p.invite):
		return errNotAllowed
	case p.invite != "" && invitation == nil:
		return account.ErrInvitation
	}
	reg, err := s.rp.Register(p.answer, passkey.SignIn, binding)
	if err != nil {
		return err
	}
	id := account.UserID(reg.UserHandle)
	begun := s.sessions.Begin(id, reg.Credential, reg.UserVerified, v.client(r))
	user, err := s.db.Register(r.Context(), store.Registration{
		Press: store.Press{
			Challenge: reg.Challenge, Expires: reg.Expires, Session: begun, Invitation: invitation,
		},
		User:  account.User{ID: id, Handle: reg.UserHandle, CreatedAt: begun.CreatedAt},
		Names: account.Names(reg.UserHandle), Credential: reg.Credential,
	}, audit.Entry{Kind: audit.Registered, Actor: id, Credential: reg.Credential.ID, Session: begun.ID, Client: begun.Client})
	if err != nil {
		return err
	}
	page := views.Home{Undo: s.ceremonyProps(binding, passkey.UndoDuplicate(id))}
	if offered := account.Name(reg.UserHandle, 0); user.Name != offered {
		// The authenticator shows the name that the page offered; tell it the real one.
		page.Signals = signals(signal{"signalCurrentUserDetails", map[string]any{
			"rpId": s.rp.ID(), "userId": encode(reg.UserHandle), "name": user.Name, "displayName": user.Name,
		}})
	}
	s.metrics.presses.WithLabelValues("registered").Inc()
	return s.welcome(c, p, begun, user, reg.Credential, page)
}

// mayRegister applies the registration policy. The first owner's invitation
// opens a closed site too: without it nobody could ever get in. Whether an
// invitation can still be used is settled where it is used up.
func (s *Server) mayRegister(invite string) bool {
	switch s.settings.Registration {
	case config.RegistrationOpen:
		return true
	case config.RegistrationInvite:
		return invite != ""
	default:
		return s.isFirstOwner(invite)
	}
}

// signIn recognises a passkey.
func (s *Server) signIn(c echo.Context, p *pressed, binding string) error {
	r, v := c.Request(), visitOf(c)
	purpose := passkey.SignIn
	if p.undo && v.signedIn {
		purpose = passkey.UndoDuplicate(v.user.ID)
	}
	used, err := s.rp.Assert(r.Context(), p.answer, purpose, binding, s.db.Credential)
	if err != nil {
		return err
	}
	begun := s.sessions.Begin(used.User.ID, used.Credential, used.UserVerified, v.client(r))
	entry := audit.Entry{
		Kind: audit.SignedIn, Actor: used.User.ID, Credential: used.Credential.ID, Session: begun.ID, Client: begun.Client,
	}
	entries := []audit.Entry{entry}
	if used.CounterStuck {
		entry.Kind, entry.Reason = audit.CounterAnomaly, "synced passkey"
		entries = append(entries, entry)
	}
	if used.BecameEligible {
		entry.Kind, entry.Reason = audit.BackupEligibleChanged, "now eligible"
		entries = append(entries, entry)
	}
	in := store.SignIn{
		Press: store.Press{
			Challenge: used.Challenge, Expires: used.Expires, Session: begun, Replaces: v.session.ID,
			Invitation: s.usableInvitation(c, p.invite),
		},
		Credential: used.Credential,
	}
	if purpose != passkey.SignIn && v.user.ID != used.User.ID {
		in.Undo, in.UndoAfter = v.user.ID, s.now().Add(-undoFor)
	}
	done, err := s.db.SignIn(r.Context(), in, entries...)
	if err != nil {
		return err
	}
	if v.signedIn {
		s.sessions.Forget(v.session.ID)
	}
	page := views.Home{}
	if done.Removed {
		s.runs.Forget(done.RemovedUser.ID)
		page.Notice = "This is your older account. The new one, " + done.RemovedUser.Name + ", is gone, and so is its passkey."
		page.Signals = signals(signal{"signalAllAcceptedCredentials", map[string]any{
			"rpId": s.rp.ID(), "userId": encode(done.RemovedUser.Handle), "allAcceptedCredentialIds": []string{},
		}})
	}
	s.metrics.presses.WithLabelValues("signed in").Inc()
	return s.welcome(c, p, begun, done.User, used.Credential, page)
}

// usableInvitation is the hash of an invitation that a known person presses
// through. One that was used already does not keep them out: they are no stranger.
func (s *Server) usableInvitation(c echo.Context, invite string) []byte {
	hash := account.InvitationHash(invite)
	if hash == nil {
		return nil
	}
	i, err := s.db.Invitation(c.Request().Context(), hash)
	if err != nil || !i.Usable(s.now()) {
		return nil
	}
	return hash
}

// welcome hands the session over and shows, or sends to, what comes after it.
func (s *Server) welcome(c echo.Context, p *pressed, begun session.Session, user account.User, with account.Credential, page views.Home) error {
	token, err := s.sessions.Token(begun, user, with.BackupEligible())
	if err != nil {
		return err
	}
	v := visitOf(c)
	v.signedIn, v.session, v.user = true, begun, user
	s.cookies.signIn(c.Response(), token, s.settings.SessionMax)
	if p.returnTo != "" {
		return c.Redirect(http.StatusSeeOther, p.returnTo)
	}
	page.Here = "/"
	return s.showHome(c, http.StatusOK, page, s.runs.Start(agentUser(user), ""))
}

// refusedPress answers a press that did not succeed, with fresh options so that
// the next one works, and records it.
func (s *Server) refusedPress(c echo.Context, o outcome, err error) error {
	r, v := c.Request(), visitOf(c)
	p := v.pressed
	if p == nil { // refused before it was read: what the form asked for is not lost
		var unread error
		if p, unread = s.readPress(r); unread != nil {
			p = &pressed{}
		}
	}
	s.metrics.presses.WithLabelValues("refused").Inc()
	if errors.Is(err, passkey.ErrChallenge) && v.signedIn && !p.undo {
		// An old page of a browser that signed in meanwhile.
		page := views.Home{Here: "/"}
		if p.answer != nil && p.answer.IsRegistration() {
			page.Signals = s.unknownSignal(p.answer)
		}
		return s.showHome(c, http.StatusOK, page, nil)
	}
	if o.status < 500 && o.status != http.StatusTooManyRequests {
		s.limits.refused(v.addr, s.now())
		s.recordRefusal(c, p, err)
	}
	binding := s.cookies.binding(c.Response(), r)
	if v.signedIn && p.undo {
		return s.showHome(c, o.status, views.Home{
			Notice: o.sentence, Here: "/", Undo: s.ceremonyProps(binding, passkey.UndoDuplicate(v.user.ID)),
		}, nil)
	}
	invite := p.invite
	if errors.Is(err, account.ErrInvitation) {
		invite = ""
	}
	page := s.authProps(c, binding, p.returnTo, invite)
	page.Notice, page.Here = o.sentence, here(page.Ceremony)
	if s.orphaned(p, err) {
		page.Signals = s.unknownSignal(p.answer)
	}
	return s.render(c, o.status, views.Page(page))
}

// orphaned reports whether a refused press leaves a passkey on the person's
// device that opens nothing: a new one that was not taken, or one that is truly
// unknown. After a database error nothing is known, and nothing is signalled.
func (s *Server) orphaned(p *pressed, err error) bool {
	switch {
	case p.answer == nil:
		return false
	case errors.Is(err, passkey.ErrUnknown):
		return true
	case !p.answer.IsRegistration():
		return false
	}
	return errors.Is(err, passkey.ErrChallenge) || errors.Is(err, passkey.ErrRefused) ||
		errors.Is(err, errNotAllowed) || errors.Is(err, account.ErrInvitation) || errors.Is(err, store.ErrNamesTaken)
}

// recordRefusal leaves the refusal in the trail. The answer does not wait for a
// database that cannot take it: nothing was granted.
func (s *Server) recordRefusal(c echo.Context, p *pressed, cause error) {
	entry := audit.Entry{Kind: audit.SignInRefused, Reason: reason(cause), Client: visitOf(c).client(c.Request())}
	var refusal *passkey.Refusal
	if errors.As(cause, &refusal) {
		entry.Actor = refusal.User
	}
	if p.answer != nil {
		entry.Credential = p.answer.CredentialID()
	}
	if err := s.db.Record(c.Request().Context(), entry); err != nil {
		s.log.Error("refusal not recorded", "error", err, "request", visitOf(c).requestID)
	}
}

// signal is a call of the WebAuthn Signal API (WebAuthn L3 §5.1.10): a static
// method of PublicKeyCredential and its options.
type signal struct {
	method  string
	options map[string]any
}

func signals(all ...signal) string {
	calls := make([][2]any, len(all))
	for i, one := range all {
		calls[i] = [2]any{one.method, one.options}
	}
	text, err := json.Marshal(calls)
	if err != nil {
		panic(err) // strings and lists of strings
	}
	return string(text)
}

func (s *Server) unknownSignal(a *passkey.Answer) string {
	return signals(signal{"signalUnknownCredential", map[string]any{
		"rpId": s.rp.ID(), "credentialId": encode(a.CredentialID()),
	}})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
