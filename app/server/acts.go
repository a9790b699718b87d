package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/config"
	"bio/app/passkey"
	"bio/app/session"
	"bio/app/store"
	"bio/views"
)

// The addresses that sensitive acts are posted to. An address with what it names is
// the purpose of the press: see passkey.Act.
const (
	actPasskeys       = "/account/passkeys/"
	actAdd            = "/account/passkeys/add"
	actSessions       = "/account/sessions/"
	actEndOthers      = "/account/sessions/end-others"
	actName           = "/account/name"
	actErase          = "/account/erase"
	actCancelRecovery = "/account/recovery/cancel"
	actInvitations    = "/account/invitations"
	actRecoveries     = "/account/recoveries"
)

// actAddress is what the address of a sensitive act looks like.
var actAddress = regexp.MustCompile(`^/account/(passkeys/add|passkeys/[0-9a-f]{32}/(rename|remove)|sessions/end-others|name|erase|recovery/cancel|invitations|recoveries)$`)

// deed is a sensitive act as a form asks for it.
type deed struct {
	store.Act
	done     news  // what the page says when it is done
	missing  error // in place of account.ErrNotFound, or nil
	disabled error // in place of account.ErrDisabled, or nil
}

// act answers the press of a form for one sensitive act, which read reads: the press
// is the proof, for this act of this account alone, and the session goes on under a
// new id.
func (s *Server) act(read func(echo.Context, url.Values) (deed, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		p, binding, err := s.readCredential(c)
		if err != nil {
			return err
		}
		if p.answer.IsRegistration() {
			return errOtherCeremony
		}
		d, err := read(c, c.Request().PostForm)
		if err != nil {
			return err
		}
		done, err := s.stepUp(c, p, binding, d.Act)
		switch {
		case errors.Is(err, account.ErrNotFound) && d.missing != nil:
			return d.missing
		case errors.Is(err, account.ErrDisabled) && d.disabled != nil:
			return d.disabled
		case err != nil:
			return err
		}
		return s.showDone(c, d, done)
	}
}

// stepUp verifies the assertion of a press and does the act.
func (s *Server) stepUp(c echo.Context, p *pressed, binding string, act store.Act) (store.SteppedUp, error) {
	r, v := c.Request(), visitOf(c)
	used, err := s.rp.Assert(r.Context(), p.answer, passkey.Act(v.user.ID, p.act), binding, s.db.Credential)
	if err != nil {
		return store.SteppedUp{}, err
	}
	begun := s.sessions.Begin(used.User.ID, used.Credential, used.UserVerified, v.client(r))
	entry := audit.Entry{Kind: audit.SteppedUp, Client: begun.Client}
	done, err := s.db.StepUp(r.Context(), store.StepUp{
		Press:      store.Press{Challenge: used.Challenge, Expires: used.Expires, Session: begun, Replaces: v.session.ID},
		Credential: used.Credential, Act: act,
	}, entry, noticed(used, begun)...)
	if err != nil {
		return store.SteppedUp{}, s.endedElsewhere(c, err)
	}
	for _, ended := range done.Ended {
		s.sessions.Forget(ended)
	}
	s.metrics.pressed("stepped up")
	if slices.Contains(done.Ended, begun.ID) { // with the passkey, or with the account
		s.trail.grown()
		s.signedOut(c)
		s.cookies.signOut(c.Response())
		return done, nil
	}
	return done, s.handOver(c, done.Session, entered{done.User, used.Credential})
}

// showDone shows what an act came to.
func (s *Server) showDone(c echo.Context, d deed, done store.SteppedUp) error {
	if visitOf(c).signedIn {
		return s.showAccount(c, http.StatusOK, d.done)
	}
	var left []account.Credential
	if _, erased := d.Act.(store.EraseSelf); erased {
		s.runs.Forget(done.User.ID)
	} else {
		var err error
		if left, err = s.accepted(c.Request().Context(), done.User.ID); err != nil {
			return err
		}
	}
	told := []signal{s.acceptedSignal(done.User, left)}
	page := s.authProps(c, s.cookies.binding(c.Response(), c.Request()), "", "")
	page.Notice, page.Signals, page.Here = d.done.notice, signals(told), "/"
	return s.render(c, http.StatusOK, views.Page(page))
}

// addOnPage answers the press that adds a passkey: the making of one, or, when no
// passkey was used in the session a moment ago, the proof that comes before it.
func (s *Server) addOnPage(c echo.Context) error {
	p, binding, err := s.readCredential(c)
	if err != nil {
		return err
	}
	if !p.answer.IsRegistration() {
		if _, err := s.stepUp(c, p, binding, store.Prove{}); err != nil {
			return err
		}
		return s.showAccount(c, http.StatusOK, news{
			notice: "It is you. Now press “Add a passkey” once more, to make the new one.", at: actAdd,
		})
	}
	in, err := s.add(c, binding)
	if err != nil {
		return err
	}
	return s.showAccount(c, http.StatusOK, news{notice: "The passkey “" + in.with.Name + "” is added."})
}

func (s *Server) readRenamePasskey(c echo.Context, form url.Values) (deed, error) {
	name, err := account.CredentialName(form.Get("name"))
	return deed{Act: store.RenamePasskey{Ref: c.Param("ref"), Name: name}, done: news{notice: "The passkey is called “" + name + "” now."}}, err
}

func (s *Server) readRemovePasskey(c echo.Context, _ url.Values) (deed, error) {
	notice := "The passkey is removed, and the sessions that it opened are over."
	if ref := c.Param("ref"); visitOf(c).pressed.with() == ref {
		notice = "The passkey is removed, and with it this session, which it opened. Press Auth to sign in with another one."
	}
	return deed{Act: store.RemovePasskey{Ref: c.Param("ref")}, done: news{notice: notice}}, nil
}

func (s *Server) readEndOthers(echo.Context, url.Values) (deed, error) {
	return deed{Act: store.EndOthers{}, done: news{notice: "All other sessions are over."}}, nil
}

func (s *Server) readRename(_ echo.Context, form url.Values) (deed, error) {
	name, err := account.UserName(form.Get("name"))
	return deed{Act: store.Rename{Name: name}, done: news{notice: "This account is called " + name + " now."}}, err
}

func (s *Server) readErase(echo.Context, url.Values) (deed, error) {
	return deed{Act: store.EraseSelf{}, done: news{notice: "The account is erased, with its passkeys, its sessions, and all that the trail said of it."}}, nil
}

func (s *Server) readCancelRecovery(echo.Context, url.Values) (deed, error) {
	return deed{
		Act: store.CancelRecovery{}, missing: errNoRecovery,
		done: news{notice: "The recovery is cancelled: its passkey opens nothing. If you did not expect one, tell whoever runs this site."},
	}, nil
}

// invitedFor are the days that an invitation of the page lasts, unless it says.
const (
	invitedFor  = 7
	maxDays     = 365
	recoverable = 7 * 24 * time.Hour
)

func (s *Server) readInvitation(_ echo.Context, form url.Values) (deed, error) {
	groups, err := account.Groups(strings.FieldsFunc(form.Get("groups"), func(r rune) bool { return r == ',' || r == ' ' }))
	if err != nil {
		return deed{}, err
	}
	if s.settings.Registration == config.RegistrationClosed && len(groups) == 0 {
		return deed{}, errClosed
	}
	days := invitedFor
	if text := form.Get("days"); text != "" {
		if days, err = strconv.Atoi(text); err != nil || days < 1 || days > maxDays {
			return deed{}, errDays
		}
	}
	token, ttl := newToken(), time.Duration(days)*24*time.Hour
	what := "This link lets one person in, once, within " + lasting(ttl) + "."
	if len(groups) > 0 {
		what = "This link makes one person, new or not, a member of " + strings.Join(groups, ", ") + ", once, within " + lasting(ttl) + "."
	}
	return deed{
		Act: store.MakeInvitation{Invitation: account.Invitation{
			TokenHash: account.TokenHash(token), Groups: groups, ExpiresAt: s.now().Add(ttl),
		}},
		done: news{notice: "The invitation is made.", link: inviteLink(s.settings, token), linkIs: what},
	}, nil
}

func (s *Server) readRecovery(_ echo.Context, form url.Values) (deed, error) {
	token, name := newToken(), strings.TrimSpace(form.Get("account"))
	if name == "" {
		return deed{}, errNoAccount
	}
	return deed{
		Act: store.MakeRecovery{Name: name, Recovery: account.Recovery{
			TokenHash: account.TokenHash(token), ExpiresAt: s.now().Add(recoverable),
		}},
		missing: errNoAccount, disabled: errDisabledThere,
		done: news{
			notice: "The recovery link is made.", link: recoverLink(s.settings, token),
			linkIs: "Give this link to the person of that account, and to nobody else. It works once, within " + lasting(recoverable) + ", and its new passkey opens the account " +
				lasting(s.settings.RecoveryDelay) + " later, unless someone who is signed in there cancels it with a passkey.",
		},
	}, nil
}

// newToken makes the token of a link.
func newToken() string {
	raw := make([]byte, 18)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func recoverLink(settings *config.Settings, token string) string {
	return settings.Origin() + "/?recover=" + token
}

// endSession answers the plain form that ends one session of one's own. One that is
// over already is over.
func (s *Server) endSession(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn {
		if wantsProblem(c) {
			return errNotSignedIn
		}
		return toAccount(c)
	}
	all, err := s.db.Sessions(r.Context(), v.user.ID, s.now(), s.settings.SessionIdle)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(one session.Session) bool { return audit.SessionRef(one.ID) == c.Param("ref") })
	if at < 0 {
		return toAccount(c)
	}
	entry := v.entry(audit.SessionRevoked, r)
	entry.Session, entry.Reason = all[at].ID, "from another session"
	if err := s.sessions.End(r.Context(), all[at].ID, entry); err != nil {
		return err
	}
	s.trail.grown()
	if all[at].ID == v.session.ID {
		s.signedOut(c)
		s.cookies.signOut(c.Response())
	}
	return toAccount(c)
}

// recover answers the press on a recovery link: it keeps the new passkey, which
// opens the account after the delay.
func (s *Server) recover(c echo.Context, p *pressed, binding string) error {
	r, v := c.Request(), visitOf(c)
	hash := account.TokenHash(p.recover)
	switch {
	case hash == nil:
		return account.ErrRecovery
	case !p.answer.IsRegistration():
		return errOtherCeremony
	}
	reg, err := s.rp.Register(p.answer, passkey.Recover(hash), binding)
	if err != nil {
		return err
	}
	user, made, err := s.db.BeginRecovery(r.Context(), store.Recovering{
		Challenge: reg.Challenge, Expires: reg.Expires, TokenHash: hash, Credential: reg.Credential, Delay: s.settings.RecoveryDelay,
	}, audit.Entry{Kind: audit.RecoveryBegun, Client: v.client(r)})
	if err != nil {
		return err
	}
	s.trail.grown()
	s.metrics.pressed("recovery begun")
	s.cookies.remember(c.Response())
	page := s.authProps(c, s.cookies.binding(c.Response(), r), "", "")
	page.Known, page.Here = true, "/"
	page.Notice = "The recovery of " + user.Name + " has begun."
	page.More = opensAt(made.EffectiveAt, s.settings.RecoveryDelay) + " Until then, whoever is signed in to the account can cancel it with a passkey."
	return s.render(c, http.StatusOK, views.Page(page))
}

// opensAt says when the passkey of a recovery opens its account.
func opensAt(at time.Time, wait time.Duration) string {
	return "Your new passkey opens the account " + ahead(wait) + ", on " + at.UTC().Format("2 January 2006 at 15:04 UTC") + ": come back then, and press Auth."
}

// recoverProps are the page of a recovery link; account.ErrRecovery when it cannot
// be used.
func (s *Server) recoverProps(c echo.Context, binding, token string) (views.Auth, error) {
	options, user, err := s.recoverOptions(c.Request().Context(), binding, token)
	if err != nil {
		return views.Auth{}, err
	}
	return views.Auth{
		Ceremony: views.Ceremony{Options: string(options), Recover: token}, Elsewhere: s.settings.Origin(),
		Invited: "This link gives " + user.Name + " back to its person, who has lost every passkey. The new passkey opens the account " +
			lasting(s.settings.RecoveryDelay) + " later, and ends all its sessions then.",
	}, nil
}

// recoverOptions are the options of a recovery link, and the account that it gives
// back.
func (s *Server) recoverOptions(ctx context.Context, binding, token string) ([]byte, account.User, error) {
	hash := account.TokenHash(token)
	link, user, err := s.db.Recovery(ctx, hash)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, account.User{}, account.ErrRecovery
	case err != nil:
		return nil, account.User{}, err
	case !link.Usable(s.now()):
		return nil, account.User{}, account.ErrRecovery
	}
	has, err := s.db.Credentials(ctx, user.ID)
	if err != nil {
		return nil, account.User{}, err
	}
	offer := s.rp.Offer(passkey.Recover(hash), binding)
	offer.UserHandle, offer.Name = encode(user.Handle), user.Name
	return s.rp.CreateOptionsJSON(offer, has, s.settings.ChallengeTTL), user, nil
}
