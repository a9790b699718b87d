package server

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
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
	recover  string
	undo     bool   // of the "use your other passkey" form
	act      string // address of a sensitive act, or empty
	user     string // id of the account of a verified passkey that was refused
	onPage   bool   // not through the API
}

// with is the ref of the passkey that was named, or "".
func (p *pressed) with() string {
	if p.answer == nil {
		return ""
	}
	return account.CredentialRef(p.answer.CredentialID())
}

// undoFor is how long an account counts as new: long enough to notice a
// duplicate, too short to have become someone's.
const undoFor = 15 * time.Minute

// press answers the button: it registers or signs in, and the answer is the
// signed-in page.
func (s *Server) press(c echo.Context) error {
	p, binding, err := s.readCredential(c)
	if err != nil {
		return err
	}
	switch {
	case p.recover != "":
		return s.recover(c, p, binding)
	case p.answer.IsRegistration():
		return s.register(c, p, binding)
	}
	return s.signIn(c, p, binding)
}

// readCredential reads a press of a page, and the binding of its browser. A
// sensitive act is for those who are signed in.
func (s *Server) readCredential(c echo.Context) (p *pressed, binding string, err error) {
	r, v := c.Request(), visitOf(c)
	if p, err = s.readPress(r); err != nil {
		return nil, "", err
	}
	v.pressed = p
	if p.act != "" && !v.signedIn {
		return nil, "", errNotSignedIn
	}
	credential := r.PostForm.Get("credential")
	if credential == "" {
		return nil, "", errNoCredential
	}
	if p.answer, err = passkey.Parse([]byte(credential)); err != nil {
		return nil, "", err
	}
	binding, ok := s.cookies.bound(r)
	if !ok {
		return nil, "", errNoBinding
	}
	return p, binding, nil
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
	p := &pressed{
		invite: r.PostForm.Get("invite"), recover: r.PostForm.Get("recover"), undo: r.PostForm.Has("undo"), act: actOf(r), onPage: true,
	}
	p.returnTo = s.returnTo(r.PostForm.Get("return_to"))
	return p, nil
}

// actOf is the address of the sensitive act that a form asks for, or "".
func actOf(r *http.Request) string {
	if r.URL.Path == "/" {
		return ""
	}
	return r.URL.Path
}

// returnTo is where to go after signing in, or "" for the signed-in page. This
// version guards no other hosts.
func (s *Server) returnTo(asked string) string {
	address, _ := gateway.ReturnTo(asked, func(host string) bool { return false })
	if address == "/" {
		return ""
	}
	return address
}

// register makes an account of a new passkey.
func (s *Server) register(c echo.Context, p *pressed, binding string) error {
	v := visitOf(c)
	if v.signedIn {
		// Another tab of this browser signed in meanwhile: this page was old, and
		// the passkey it made is one too many.
		page := views.Home{Here: "/", Signals: signals(s.unknownSignal(c, p.answer))}
		if page.Signals != "" {
			page.Notice = "You were signed in already, so no second account was made."
		}
		return s.showHome(c, http.StatusOK, page, nil)
	}
	invitation, err := s.admit(p.invite)
	if err != nil {
		return err
	}
	reg, err := s.rp.Register(p.answer, passkey.SignIn, binding)
	if err != nil {
		return err
	}
	made, err := s.makeAccount(c, reg, invitation)
	if err != nil {
		return err
	}
	page := views.Home{Notice: ownerNotice(made.user, account.User{}), Signals: signals(s.nameSignal(made.user))}
	if len(made.user.Groups) == 0 { // else it is not empty, and stays
		page.Undo = s.undoProps(binding, made.user)
	}
	return s.welcome(c, p, made.user, page)
}

// admit reads the invitation of someone new, who may have none, and applies the
// registration policy. Whether an invitation can still be used is settled where it
// is used up.
func (s *Server) admit(invite string) (invitation []byte, err error) {
	invitation = account.TokenHash(invite)
	switch {
	case invite != "" && invitation == nil && s.settings.Registration != config.RegistrationClosed:
		return nil, account.ErrInvitation
	case !s.mayRegister(invitation):
		return nil, errNotAllowed
	}
	return invitation, nil
}

// mayRegister applies the registration policy to the hash of an invitation, or to
// none. The first owner's opens a closed site too: without it nobody could ever
// get in.
func (s *Server) mayRegister(invitation []byte) bool {
	switch s.settings.Registration {
	case config.RegistrationOpen:
		return true
	case config.RegistrationInvite:
		return invitation != nil
	default:
		return s.isFirstOwner(invitation)
	}
}

// entered is the account that a press opened, and with which passkey.
type entered struct {
	user account.User
	with account.Credential
}

// makeAccount makes an account of a verified registration and signs it in.
func (s *Server) makeAccount(c echo.Context, reg *passkey.Registration, invitation []byte) (entered, error) {
	r, v := c.Request(), visitOf(c)
	id := account.UserID(reg.UserHandle)
	begun := s.sessions.Begin(id, reg.Credential, reg.UserVerified, v.client(r))
	user, err := s.db.Register(r.Context(), store.Registration{
		Press: store.Press{
			Challenge: reg.Challenge, Expires: reg.Expires, Session: begun, Invitation: invitation,
		},
		User:  account.User{ID: id, Handle: reg.UserHandle, CreatedAt: begun.CreatedAt},
		Names: account.Names(reg.UserHandle), Credential: reg.Credential,
	}, audit.Entry{Kind: audit.Registered, Actor: id, Credential: account.CredentialRef(reg.Credential.ID), Session: begun.ID, Client: begun.Client})
	if err != nil {
		return entered{}, err
	}
	s.metrics.pressed("registered")
	made := entered{user, reg.Credential}
	return made, s.handOver(c, begun, made)
}

// signIn recognises a passkey.
func (s *Server) signIn(c echo.Context, p *pressed, binding string) error {
	asking := visitOf(c).user // before the press
	in, err := s.open(c, p, binding)
	if err != nil {
		return err
	}
	page := views.Home{Notice: ownerNotice(in.user, in.before)}
	if in.Suggest {
		has, err := s.db.Credentials(c.Request().Context(), in.user.ID)
		if err != nil {
			return err
		}
		add, _ := s.addPress(visitOf(c), binding, has)
		page.Suggest = &add
	}
	switch {
	case in.Recovered:
		page.Notice = "This account is yours again. All other sessions are over. On your account’s page, remove the passkeys that you have lost."
	case in.Removed:
		s.runs.Forget(in.RemovedUser.ID)
		page.Notice = "This is your older account. The new one, " + in.RemovedUser.Name + ", is gone, and so is its passkey."
		page.Signals = signals([]signal{s.acceptedSignal(in.RemovedUser, nil)})
	case in.undoing:
		page.Notice = "This is your older account. The newer one, " + asking.Name + ", was kept: it is no longer new and empty."
	}
	return s.welcome(c, p, in.user, page)
}

// opened is what came of a sign-in.
type opened struct {
	entered
	store.SignedIn
	before  account.User // as it was before the press
	undoing bool         // an account made by accident was to be removed
}

// open verifies an assertion and signs its account in.
func (s *Server) open(c echo.Context, p *pressed, binding string) (opened, error) {
	r, v := c.Request(), visitOf(c)
	purpose := passkey.SignIn
	if p.undo && v.signedIn {
		purpose = passkey.UndoDuplicate(v.user.ID)
	}
	used, err := s.rp.Assert(r.Context(), p.answer, purpose, binding, s.db.Credential)
	if err != nil {
		return opened{}, err
	}
	begun := s.sessions.Begin(used.User.ID, used.Credential, used.UserVerified, v.client(r))
	in := store.SignIn{
		Press: store.Press{
			Challenge: used.Challenge, Expires: used.Expires, Session: begun, Replaces: v.session.ID,
		},
		Credential: used.Credential,
	}
	if p.onPage && p.returnTo == "" { // else there is no page for it
		in.SuggestAfter = s.now().Add(-suggestEvery)
	}
	if in.Invitation, err = s.usableInvitation(c, p.invite); err != nil {
		return opened{}, err
	}
	if purpose != passkey.SignIn && v.user.ID != used.User.ID {
		in.Undo, in.UndoAfter = v.user.ID, s.now().Add(-undoFor)
	}
	done, err := s.db.SignIn(r.Context(), in, usedEntry(audit.SignedIn, used, begun), noticed(used, begun)...)
	switch {
	case errors.Is(err, account.ErrNotFound): // removed while this press was verified
		return opened{}, passkey.ErrUnknown
	case errors.Is(err, session.ErrNone): // ended elsewhere, and with it the right to undo
		s.signedOut(c)
		return opened{}, errNotSignedIn
	case errors.Is(err, passkey.ErrChallengeUsed): // sent again by the same browser: nothing to alarm its person with
		return opened{}, err
	case err != nil:
		p.user = used.User.ID
		return opened{}, err
	}
	for _, ended := range done.Ended {
		s.sessions.Forget(ended)
	}
	s.metrics.pressed("signed in")
	out := opened{entered{done.User, used.Credential}, done, used.User, in.Undo != ""}
	return out, s.handOver(c, begun, out.entered)
}

// suggestEvery is how often a second passkey is suggested, at most.
const suggestEvery = 7 * 24 * time.Hour

// usedEntry is an entry of the use of a passkey that begins a session.
func usedEntry(kind audit.Kind, used *passkey.Assertion, begun session.Session) audit.Entry {
	return audit.Entry{
		Kind: kind, Actor: used.User.ID, Credential: account.CredentialRef(used.Credential.ID), Session: begun.ID, Client: begun.Client,
	}
}

// noticed are the entries of what is remarkable about the use of a passkey.
func noticed(used *passkey.Assertion, begun session.Session) (entries []audit.Entry) {
	for _, n := range []struct {
		seen   bool
		kind   audit.Kind
		reason string
	}{
		{used.CounterStuck, audit.CounterAnomaly, "synced passkey"},
		{used.BecameEligible, audit.BackupEligibleChanged, "now eligible"},
	} {
		if n.seen {
			entry := usedEntry(n.kind, used, begun)
			entry.Reason = n.reason
			entries = append(entries, entry)
		}
	}
	return entries
}

// signedOut takes a session that has ended from this visit. Its cookie is left: when
// another answer has brought the next one, this must not take that away.
func (s *Server) signedOut(c echo.Context) {
	v := visitOf(c)
	s.sessions.Forget(v.session.ID)
	v.signedIn, v.session, v.user = false, session.Session{}, account.User{}
}

// ownerNotice tells a person who has just become an owner.
func ownerNotice(now, before account.User) string {
	if now.In(account.Owner) && !before.In(account.Owner) {
		return "You own this Bio now."
	}
	return ""
}

// usableInvitation is the hash of an invitation that a known person presses
// through. One that was used already does not keep them out: they are no stranger.
func (s *Server) usableInvitation(c echo.Context, invite string) ([]byte, error) {
	hash := account.TokenHash(invite)
	if hash == nil {
		return nil, nil
	}
	i, err := s.db.Invitation(c.Request().Context(), hash)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !i.Usable(s.now()):
		return nil, nil
	}
	return hash, nil
}

// handOver gives the session that was stored to the browser.
func (s *Server) handOver(c echo.Context, begun session.Session, in entered) error {
	token, err := s.sessions.Token(begun, in.user, in.with.BackupEligible())
	if err != nil {
		return err
	}
	s.trail.grown()
	v := visitOf(c)
	v.signedIn, v.session, v.user = true, begun, in.user
	s.cookies.signIn(c.Response(), token, s.settings.SessionMax)
	return nil
}

// welcome shows, or sends to, what comes after the button.
func (s *Server) welcome(c echo.Context, p *pressed, user account.User, page views.Home) error {
	if p.returnTo != "" {
		return c.Redirect(http.StatusSeeOther, p.returnTo)
	}
	page.Here = "/"
	return s.showHome(c, http.StatusOK, page, s.begin(c))
}

// recordWithin bounds how long the answer to a refused press waits for the trail:
// nothing was granted, and a database that is slow must not hold up the next try.
const recordWithin = 500 * time.Millisecond

// refused counts a press that did not succeed against the client and leaves it in
// the trail, also when the client has gone.
func (s *Server) refused(c echo.Context, o outcome, cause error) {
	v := visitOf(c)
	s.metrics.pressed("refused")
	if o.status >= 500 || o.status == http.StatusTooManyRequests || s.outdated(v, cause) || harmless(v, o, cause) {
		return
	}
	s.limits.refused(v.addr, s.now())
	entry := audit.Entry{Kind: audit.SignInRefused, Reason: reason(cause), Client: v.client(c.Request())}
	var refusal *passkey.Refusal
	if errors.As(cause, &refusal) {
		entry.Actor = refusal.User
	}
	if v.pressed != nil {
		entry.Actor, entry.Credential = cmp.Or(entry.Actor, v.pressed.user), v.pressed.with()
	}
	if errors.Is(cause, account.ErrNotOwner) {
		entry.Actor = v.user.ID
	}
	if errors.Is(cause, account.ErrOtherAccount) { // theirs is to know that it was tried, not by whom
		entry.Actor, entry.Credential = v.user.ID, ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), recordWithin)
	defer cancel()
	if err := s.trail.refused(ctx, entry); err != nil {
		s.log.Error("refusal not recorded yet", "error", err, "request", v.requestID)
	}
}

// harmless reports whether a press on the account's page failed by what it asked
// for, not by its passkey.
func harmless(v *visit, o outcome, cause error) bool {
	return v.pressed != nil && v.pressed.act != "" &&
		(o.status != http.StatusUnauthorized && !errors.Is(cause, account.ErrNotOwner) || errors.Is(cause, errNotSignedIn) || errors.Is(cause, session.ErrNone))
}

// outdated reports whether a press came from an old page of a browser that has
// signed in meanwhile: nothing was refused that the person does not have.
func (s *Server) outdated(v *visit, cause error) bool {
	stale := errors.Is(cause, passkey.ErrChallenge) || errors.Is(cause, passkey.ErrChallengeUsed) || errors.Is(cause, errNoBinding)
	return stale && v.signedIn && v.pressed != nil && v.pressed.onPage && !v.pressed.undo && v.pressed.act == "" && v.pressed.recover == ""
}

// refusedPress answers a press that did not succeed, with fresh options so that
// the next one works.
func (s *Server) refusedPress(c echo.Context, o outcome, err error) error {
	r, v := c.Request(), visitOf(c)
	p := v.pressed
	if p == nil { // refused before it was read: what the form asked for is not lost
		p = &pressed{act: actOf(r)}
		if o.status != http.StatusRequestEntityTooLarge {
			if read, unread := s.readPress(r); unread == nil {
				p = read
			}
		}
	}
	if s.outdated(v, err) {
		page := views.Home{Here: "/"}
		if p.answer != nil && p.answer.IsRegistration() {
			page.Signals = signals(s.unknownSignal(c, p.answer))
		}
		return s.showHome(c, http.StatusOK, page, nil)
	}
	var dead []signal
	if orphaned(p, err) {
		dead = s.unknownSignal(c, p.answer)
	}
	if p.act != "" && v.signedIn {
		return s.showAccount(c, o.status, news{
			notice: withoutAuth.Replace(o.sentence), signals: dead, at: p.act, typed: r.PostForm,
		})
	}
	binding := s.cookies.binding(c.Response(), r)
	if v.signedIn && p.undo {
		return s.showHome(c, o.status, views.Home{
			Notice: o.sentence, Here: "/", Undo: s.undoProps(binding, v.user), Signals: signals(dead),
		}, nil)
	}
	if p.recover != "" {
		if page, unusable := s.recoverProps(c, binding, p.recover); unusable == nil {
			page.Title, page.Notice, page.Here, page.Signals = o.title, o.sentence, "/?recover="+url.QueryEscape(p.recover), signals(dead)
			return s.render(c, o.status, views.Page(page))
		}
	}
	if p.act != "" {
		p.returnTo = "/account"
	}
	invite := p.invite
	if errors.Is(err, account.ErrInvitation) {
		invite = ""
	}
	page := s.authProps(c, binding, p.returnTo, invite)
	page.Title, page.Notice, page.Here, page.Signals = o.title, o.sentence, here(page.Ceremony), signals(dead)
	return s.render(c, o.status, views.Page(page))
}

// withoutAuth words a sentence for pages whose buttons are called otherwise.
var withoutAuth = strings.NewReplacer("Press Auth", "Press", "press Auth", "press")

// orphaned reports whether a refused press leaves a passkey on the person's
// device that opens nothing: a new one that was not taken, or one that is truly
// unknown. After a database error nothing is known, and nothing is signalled.
func orphaned(p *pressed, err error) bool {
	switch {
	case p == nil || p.answer == nil:
		return false
	case errors.Is(err, passkey.ErrUnknown):
		return true
	case !p.answer.IsRegistration():
		return false
	}
	for _, lost := range []error{
		passkey.ErrChallenge, errNoBinding, passkey.ErrRefused, errNotAllowed, account.ErrInvitation, store.ErrNamesTaken,
		session.ErrNone, session.ErrStale, account.ErrTooMany, account.ErrRecovery, account.ErrDisabled,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// signal is a call of the WebAuthn Signal API (WebAuthn L3 §5.1.10): a static
// method of PublicKeyCredential and its options.
type signal struct {
	method  string
	options map[string]any
}

// MarshalJSON gives [method, options].
func (s signal) MarshalJSON() ([]byte, error) { return json.Marshal([2]any{s.method, s.options}) }

// signals are the calls as a page carries them.
func signals(all []signal) string {
	if len(all) == 0 {
		return ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings and lists of strings
	}
	return string(text)
}

// nameSignal tells the authenticator of a new account its name, where that is not
// the one that was offered.
func (s *Server) nameSignal(user account.User) []signal {
	if user.Name == account.Name(user.Handle, 0) {
		return nil
	}
	return []signal{s.detailsSignal(user)}
}

// detailsSignal tells the authenticator the name of an account.
func (s *Server) detailsSignal(user account.User) signal {
	return signal{"signalCurrentUserDetails", map[string]any{
		"rpId": s.rp.ID(), "userId": encode(user.Handle), "name": user.Name, "displayName": user.Name,
	}}
}

// unknownSignal tells the browser that the answer's passkey opens nothing here.
// It asks the database first: a press that is sent again, after a registration
// that succeeded, names a passkey that is someone's only one.
func (s *Server) unknownSignal(c echo.Context, a *passkey.Answer) []signal {
	if _, _, err := s.db.Credential(c.Request().Context(), a.CredentialID()); !errors.Is(err, account.ErrNotFound) {
		return nil
	}
	return []signal{{"signalUnknownCredential", map[string]any{
		"rpId": s.rp.ID(), "credentialId": encode(a.CredentialID()),
	}}}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
