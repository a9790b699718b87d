package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"bio/app/account"
	"bio/app/passkey"
	"bio/app/session"
	"bio/app/store"
	"bio/views"
)

// maxBody bounds in bytes the body of every request, but maxAskBody that of POST
// /run: a question that is too long comes back to be shortened, and a form sends up
// to nine bytes for a letter.
const (
	maxBody    = 64 << 10
	maxAskBody = 512 << 10
)

var (
	errTooLarge      = errors.New("server: body too large")
	errNoCredential  = errors.New("server: no credential in the form")
	errNotAllowed    = errors.New("server: registration not allowed")
	errNotSignedIn   = errors.New("server: not signed in")
	errNoBinding     = errors.New("server: no cookie that binds the challenge")
	errNotFormFields = errors.New("server: form cannot be read")
	errNotJSON       = errors.New("server: body is not one JSON object")
	errMediaType     = errors.New("server: body is not JSON by its media type")
	errDisabledThere = errors.New("server: the other account is disabled")
	errPrompt        = errors.New("server: prompt too long")
	errNoAgent       = errors.New("server: no agent of that name")
	errNoRecovery    = errors.New("server: no recovery waits")
	errNoAccount     = errors.New("server: no account of that name")
	errClosed        = errors.New("server: registration is closed")
	errDays          = errors.New("server: days of an invitation out of range")
	errOtherCeremony = fmt.Errorf("%w: of the other ceremony", passkey.ErrMalformed)
)

// tooManyError says when the client may try again.
type tooManyError struct{ wait time.Duration }

func (e *tooManyError) Error() string {
	return fmt.Sprintf("server: too many attempts, wait %s", e.wait)
}

// outcome is what a person, or a program, is told of an error.
type outcome struct {
	status   int
	code     string // names the problem to a program: part of the contract
	title    string
	sentence string
}

// outcomes is the one table from errors to answers; what is not in it is 500, and
// its text is only logged.
var outcomes = []struct {
	err error
	outcome
}{
	{errNoCredential, outcome{http.StatusBadRequest, "malformed", "Press Auth again",
		"A passkey can only be asked for by a script, and none ran. Turn on JavaScript for this page, or wait until it has loaded, and press Auth again."}},
	{errNotFormFields, outcome{http.StatusBadRequest, "malformed", "Press Auth again", "That could not be read. Press Auth again."}},
	{passkey.ErrMalformed, outcome{http.StatusBadRequest, "malformed", "Press Auth again", "That could not be read. Press Auth again."}},
	{passkey.ErrRefused, outcome{http.StatusUnauthorized, "refused", "Not accepted", "That passkey was not accepted. Press Auth to try again."}},
	{passkey.ErrUnknown, outcome{http.StatusUnauthorized, "unknown_passkey", "Not accepted", "That passkey was not accepted. Press Auth to try again."}},
	{passkey.ErrChallenge, outcome{http.StatusConflict, "expired", "Press Auth again", "That took too long. Press Auth again."}},
	{errNoBinding, outcome{http.StatusConflict, "no_cookie", "Press Auth again", "Your browser did not send Bio's cookie back. Allow cookies for this page, and press Auth again."}},
	{passkey.ErrChallengeUsed, outcome{http.StatusConflict, "used", "Press Auth again", "That press was already used. Press Auth again."}},
	{account.ErrCredentialExists, outcome{http.StatusConflict, "already_registered", "Press Auth again", "That passkey is already registered. Press Auth again to sign in with it."}},
	{account.ErrInvitation, outcome{http.StatusForbidden, "invitation", "Not invited", "That invitation was used already or has expired. If you have an account here, press Auth; otherwise ask for a new one."}},
	{errNotAllowed, outcome{http.StatusForbidden, "registration_not_allowed", "Not invited", "New accounts need an invitation here. Ask whoever runs this site for one, and open its link. If you have a passkey already, press Auth to use it."}},
	{errCrossSite, outcome{http.StatusForbidden, "cross_site", "Not from here", "Another site sent you here with a form, and that is not allowed. Open Bio itself and press Auth there."}},
	{errTooLarge, outcome{http.StatusRequestEntityTooLarge, "too_large", "Too large", "That was too large to be read. Make it shorter, and send it again."}},
	{errNotSignedIn, outcome{http.StatusUnauthorized, "signed_out", "Signed out", "You are signed out. Press Auth to sign in."}},
	{session.ErrNone, outcome{http.StatusUnauthorized, "signed_out", "Signed out", "You are signed out. Press Auth to sign in."}},
	{session.ErrStale, outcome{http.StatusForbidden, "reauthentication_required", "Sign in again", "That needs a sign-in of the last five minutes. Sign in again, and repeat it."}},
	{account.ErrLastCredential, outcome{http.StatusConflict, "last_passkey", "Your only passkey", "That is the only passkey of this account, and without it nobody could sign in. Add another one first."}},
	{account.ErrOtherAccount, outcome{http.StatusUnauthorized, "refused", "Not accepted", "That passkey does not open this account. Use one that does."}},
	{account.ErrDisabled, outcome{http.StatusForbidden, "disabled", "Disabled", "This account is disabled. Ask whoever runs this site."}},
	{account.ErrRecovery, outcome{http.StatusForbidden, "recovery", "Not this link", "That recovery link was used already, was replaced by another one, or has expired. If you used it, press Auth when its time has come; otherwise ask for a new one."}},
	{account.ErrNotOwner, outcome{http.StatusForbidden, "not_owner", "Not yours", "Only an owner of this site can do that."}},
	{account.ErrLastOwner, outcome{http.StatusConflict, "last_owner", "The last owner", "Nobody else owns this site. Make another owner first, with an invitation to the group owner."}},
	{account.ErrNameTaken, outcome{http.StatusConflict, "name_taken", "Another name", "Another account has that name. Choose another one."}},
	{account.ErrBadUserName, outcome{http.StatusUnprocessableEntity, "bad_name", "Another name", "A name has 2 to 40 letters A to Z and digits, with single spaces, dots, hyphens and underscores between them. Choose another one."}},
	{account.ErrBadGroup, outcome{http.StatusUnprocessableEntity, "bad_group", "Another group", "A group has up to 64 lower-case letters, digits, dots, hyphens and underscores, and begins with a letter or digit."}},
	{errDays, outcome{http.StatusUnprocessableEntity, "bad_days", "Another time", "An invitation lasts 1 to 365 days."}},
	{errClosed, outcome{http.StatusConflict, "registration_closed", "Closed", "Nobody new can come in here, so an invitation needs a group, for someone who has an account."}},
	{errDisabledThere, outcome{http.StatusConflict, "disabled", "Disabled", "That account is disabled, and a recovery link would not open it. Enable it first: bio users enable."}},
	{errPrompt, outcome{http.StatusUnprocessableEntity, "too_long", "Too long", "That is too long to ask: the most is 8 KiB, some 8,000 Latin letters. Shorten it, and press Run again."}},
	{errNoAgent, outcome{http.StatusNotFound, "not_found", "Not here", "There is no agent of that name here."}},
	{errNoAccount, outcome{http.StatusNotFound, "not_found", "Not here", "There is no account of that name."}},
	{errNoRecovery, outcome{http.StatusNotFound, "not_found", "Not here", "No recovery waits any more."}},
	{account.ErrTooMany, outcome{http.StatusConflict, "too_many_passkeys", "Too many passkeys", "This account has as many passkeys as it can have. Remove one first."}},
	{account.ErrBadName, outcome{http.StatusUnprocessableEntity, "bad_name", "Another name", "A passkey's name has 1 to 64 characters on one line. Choose another one."}},
	{account.ErrNotFound, outcome{http.StatusNotFound, "not_found", "Not here", "You have no such passkey here."}},
	{errNotJSON, outcome{http.StatusBadRequest, "malformed", "Not like this", "The body has to be one JSON object, with the members of this call."}},
	{errMediaType, outcome{http.StatusUnsupportedMediaType, "unsupported_media_type", "Not like this", "The body has to be JSON: send it as application/json."}},
	{errNotTreePath, outcome{http.StatusBadRequest, "malformed", "Not like this", "Ask for /audit/proof?index=…&size=…, /audit/proof?from=…&size=… or /audit/tile/<level>/<number>, with numbers."}},
	{errNoSuchTree, outcome{http.StatusNotFound, "not_found", "Not here", "The log has no such entry or size. /audit/checkpoint says how large it is."}},
	{ErrTrail, outcome{http.StatusInternalServerError, "internal", "Our fault", "The log does not fit what was published of it before. Whoever runs this site has to look at it."}},
	{errNotPublished, outcome{http.StatusServiceUnavailable, "unavailable", "Not now", "The checkpoint could not be written down here, so it is not shown. Try again in a moment."}},
	// A fresh challenge offers other names.
	{store.ErrNamesTaken, outcome{http.StatusConflict, "expired", "Press Auth again", "No free account name came up. Press Auth again."}},
	{store.ErrOutcomeUnknown, outcome{http.StatusServiceUnavailable, "unavailable", "Not now", "The database did not say whether it kept that. Try again in a moment; nothing is done twice."}},
	{store.ErrUnavailable, outcome{http.StatusServiceUnavailable, "unavailable", "Not now", "The database cannot be reached. Nothing was changed. Try again in a moment."}},
}

func outcomeOf(err error) outcome {
	var many *tooManyError
	if errors.As(err, &many) {
		return outcome{http.StatusTooManyRequests, "too_many", "Slow down", "Too many attempts from your network. Try again in " + inWords(many.wait) + "."}
	}
	var busy *busyError
	if errors.As(err, &busy) {
		are, it := "is", "it"
		if len(busy.agents) > 1 {
			are, it = "are", "them"
		}
		return outcome{http.StatusConflict, "busy", "Still at work",
			fmt.Sprintf("%s %s still at work. Stop %s, or ask again later.", inList(busy.agents), are, it)}
	}
	var early *account.EarlyError
	if errors.As(err, &early) {
		return outcome{http.StatusForbidden, "recovery_waits", "Not yet", opensAt(early.EffectiveAt, early.Wait)}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = errTooLarge
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.outcome
		}
	}
	var e *echo.HTTPError
	if errors.As(err, &e) {
		switch e.Code {
		case http.StatusNotFound:
			return outcome{e.Code, "not_found", "Not here", "There is no page at this address."}
		case http.StatusMethodNotAllowed:
			return outcome{e.Code, "method_not_allowed", "Not like this", "This address does not take that kind of request."}
		}
	}
	return outcome{http.StatusInternalServerError, "internal", "Our fault", "Something went wrong here, and it was written down. Try again in a moment."}
}

func inList(names []string) string {
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

func inWords(d time.Duration) string {
	switch seconds := int(d / time.Second); {
	case seconds > 90:
		return strconv.Itoa((seconds+59)/60) + " minutes"
	case seconds > 1:
		return strconv.Itoa(seconds) + " seconds"
	}
	return "a second"
}

// fail is the one way out for errors.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		return // the status is sent; what streams has said what it could
	}
	v, o := visitOf(c), outcomeOf(err)
	switch {
	case o.status == http.StatusTooManyRequests:
		var many *tooManyError
		errors.As(err, &many)
		c.Response().Header().Set("Retry-After", strconv.Itoa(max(1, int(many.wait/time.Second))))
	case o.status == http.StatusServiceUnavailable:
		c.Response().Header().Set("Retry-After", "2")
	}
	if o.status < 500 {
		v.reason = reason(err)
	}
	if v.presses {
		s.refused(c, o, err)
	}
	failure := views.FailurePage(views.Failure{Status: o.status, Title: o.title, Sentence: o.sentence, RequestID: v.requestID})
	switch {
	case c.Request().Method == http.MethodHead:
		err = c.NoContent(o.status)
	case wantsProblem(c):
		err = s.problem(c, o, err)
	case v.presses:
		err = s.refusedPress(c, o, err)
	default:
		err = s.render(c, o.status, failure)
	}
	if err != nil && !c.Response().Committed { // the page needed what there is not
		s.log.Error("error page", "error", err, "request", v.requestID)
		err = s.render(c, o.status, failure)
	}
	if err != nil {
		s.log.Error("error page", "error", err, "request", v.requestID)
	}
}

// wantsProblem reports whether a program asks, not a page.
func wantsProblem(c echo.Context) bool {
	r := c.Request()
	return c.Path() == "/ceremony" || strings.HasPrefix(c.Path(), "/audit/") || isAPI(r) || strings.Contains(r.Header.Get("Accept"), "json")
}

// reason is the class of a refusal, for the log and the trail: never input.
func reason(err error) string {
	var refusal *passkey.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	var early *account.EarlyError
	if errors.As(err, &early) {
		return "recovery waits"
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = errTooLarge
	}
	for _, class := range []struct {
		err  error
		name string
	}{
		{passkey.ErrChallengeUsed, "replayed"}, {passkey.ErrChallenge, "expired"}, {passkey.ErrUnknown, "unknown passkey"},
		{passkey.ErrMalformed, "malformed"}, {errNoCredential, "no credential"}, {errNotFormFields, "malformed"},
		{account.ErrCredentialExists, "already registered"}, {account.ErrInvitation, "invitation"},
		{errNotAllowed, "registration not allowed"}, {errNotSignedIn, "not signed in"}, {errCrossSite, "cross site"},
		{errNoBinding, "no binding"}, {errTooLarge, "too large"}, {store.ErrNamesTaken, "names taken"},
		{errNotJSON, "malformed"}, {errMediaType, "media type"}, {session.ErrNone, "not signed in"}, {session.ErrStale, "proof too old"},
		{account.ErrTooMany, "too many passkeys"}, {account.ErrBadName, "bad name"}, {account.ErrLastCredential, "last passkey"},
		{account.ErrNotFound, "not found"}, {account.ErrOtherAccount, "passkey of another account"}, {account.ErrDisabled, "account disabled"},
		{account.ErrRecovery, "recovery link"}, {account.ErrNotOwner, "not an owner"}, {account.ErrLastOwner, "last owner"},
		{account.ErrNameTaken, "name taken"}, {account.ErrBadUserName, "bad name"}, {account.ErrBadGroup, "bad group"},
		{errDays, "bad days"}, {errClosed, "registration closed"}, {errNoAccount, "not found"}, {errNoRecovery, "not found"},
	} {
		if errors.Is(err, class.err) {
			return class.name
		}
	}
	return ""
}

// problem answers with a problem document (RFC 9457), which has two members more:
// the code that its type ends with, and, where a refused press leaves a passkey
// behind that opens nothing, the call of the Signal API that says so.
func (s *Server) problem(c echo.Context, o outcome, cause error) error {
	var told []signal
	if v := visitOf(c); v.presses && orphaned(v.pressed, cause) {
		told = s.unknownSignal(c, v.pressed.answer)
	}
	c.Response().Header().Set(echo.HeaderContentType, "application/problem+json")
	return c.JSON(o.status, struct {
		Type    string   `json:"type"`
		Title   string   `json:"title"`
		Status  int      `json:"status"`
		Detail  string   `json:"detail"`
		Code    string   `json:"code"`
		Signals []signal `json:"signals,omitempty"`
	}{"urn:bio:" + o.code, o.title, o.status, o.sentence, o.code, told})
}
