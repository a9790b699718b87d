package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
	"bio/app/store"
)

// proofFor is how long a use of a passkey allows its session to add and to remove
// passkeys.
const proofFor = 5 * time.Minute

// intent is what register/begin was asked for. It comes back to register/finish in
// the challenge, under its MAC, so that nothing is kept of who only begins.
type intent struct {
	Name       string `json:"name,omitempty"`       // of the passkey
	Invitation []byte `json:"invitation,omitempty"` // its hash: the challenge can be read
}

func (i intent) bytes() []byte {
	if i.Name == "" && i.Invitation == nil {
		return nil
	}
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // strings
	}
	return text
}

func readIntent(carried []byte) (i intent, err error) {
	if len(carried) > 0 {
		err = json.Unmarshal(carried, &i)
	}
	return i, err
}

// beginRegister answers POST /auth/webauthn/register/begin with creation options:
// of a new account or, signed in, of a further passkey. The name is the passkey's;
// an account's is Bio's to give.
func (s *Server) beginRegister(c echo.Context) error {
	var asked struct {
		Name   *string `json:"name"`
		Invite string  `json:"invite"`
	}
	r, v := c.Request(), visitOf(c)
	err := readJSON(r, &asked)
	if err != nil {
		return err
	}
	var wanted intent
	if asked.Name != nil {
		if wanted.Name, err = account.CredentialName(*asked.Name); err != nil {
			return err
		}
	}
	if v.signedIn {
		if err := s.proven(v); err != nil {
			return err
		}
		has, err := s.db.Credentials(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		accepted, err := s.accepted(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		if len(accepted) >= account.MaxCredentials { // said now, before there is a passkey too many
			return account.ErrTooMany
		}
		offer := s.rp.OfferCarrying(passkey.AddPasskey(v.user.ID), s.cookies.binding(c.Response(), r), wanted.bytes())
		offer.UserHandle, offer.Name = encode(v.user.Handle), v.user.Name
		return c.JSONBlob(http.StatusOK, s.rp.CreationJSON(offer, has))
	}
	if wanted.Invitation, err = s.admit(asked.Invite); err != nil {
		return err
	}
	if wanted.Invitation != nil { // said now, before there is a passkey that opens nothing
		usable, err := s.usableInvitation(c, asked.Invite)
		switch {
		case err != nil:
			return err
		case usable == nil:
			return account.ErrInvitation
		}
	}
	offer := s.rp.OfferCarrying(passkey.SignIn, s.cookies.binding(c.Response(), r), wanted.bytes())
	return c.JSONBlob(http.StatusOK, s.rp.CreationJSON(offer, nil))
}

// finishRegister answers POST /auth/webauthn/register/finish: it makes an account
// of the credential in the body or, signed in, adds the credential to the account.
func (s *Server) finishRegister(c echo.Context) error {
	binding, err := s.readFinish(c, true)
	if err != nil {
		return err
	}
	v := visitOf(c)
	if v.signedIn {
		in, err := s.add(c, binding)
		if err != nil {
			return err
		}
		return finished(c, in, nil)
	}
	reg, err := s.rp.Register(v.pressed.answer, passkey.SignIn, binding)
	if err != nil {
		return err
	}
	wanted, err := readIntent(reg.Carried)
	if err != nil {
		return err
	}
	if !s.mayRegister(wanted.Invitation) { // a page's challenge, or of before a start with other settings
		return errNotAllowed
	}
	reg.Credential.Name = cmp.Or(wanted.Name, reg.Credential.Name)
	made, err := s.makeAccount(c, reg, wanted.Invitation)
	if err != nil {
		return err
	}
	return finished(c, made, s.nameSignal(made.user))
}

// add adds the passkey of the visit's press to the account that is signed in.
func (s *Server) add(c echo.Context, binding string) (in entered, err error) {
	r, v := c.Request(), visitOf(c)
	if err := s.proven(v); err != nil {
		return entered{}, err
	}
	reg, err := s.rp.Register(v.pressed.answer, passkey.AddPasskey(v.user.ID), binding)
	if err != nil {
		return entered{}, err
	}
	wanted, err := readIntent(reg.Carried)
	if err != nil {
		return entered{}, err
	}
	if reg.Credential.Name = cmp.Or(wanted.Name, reg.Credential.Name); wanted.Name == "" {
		if reg.Credential.Name, err = s.apart(r.Context(), v.user.ID, reg.Credential.Name); err != nil {
			return entered{}, err
		}
	}
	in.user, in.with, err = s.db.AddCredential(r.Context(), store.Addition{
		Challenge: reg.Challenge, Expires: reg.Expires,
		SessionID: v.session.ID, Proven: s.now().Add(-proofFor), Credential: reg.Credential,
	}, v.entry(audit.PasskeyAdded, r))
	if err != nil {
		return entered{}, s.endedElsewhere(c, err)
	}
	s.trail.grown()
	s.metrics.pressed("passkey added")
	return in, nil
}

// apart is the name that a new passkey of the account gets by itself: with a number,
// where another one is called so.
func (s *Server) apart(ctx context.Context, userID, name string) (string, error) {
	has, err := s.db.Credentials(ctx, userID)
	if err != nil {
		return "", err
	}
	unlike := name
	for n := 2; slices.ContainsFunc(has, func(c account.Credential) bool { return c.Name == unlike }); n++ {
		unlike = fmt.Sprintf("%s %d", name, n)
	}
	return unlike, nil
}

// beginSignIn answers POST /auth/webauthn/sign-in/begin with request options.
func (s *Server) beginSignIn(c echo.Context) error {
	r := c.Request()
	if err := readJSON(r, &struct{}{}); err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, s.rp.RequestJSON(s.rp.Offer(passkey.SignIn, s.cookies.binding(c.Response(), r))))
}

// finishSignIn answers POST /auth/webauthn/sign-in/finish: it signs in with the
// credential in the body.
func (s *Server) finishSignIn(c echo.Context) error {
	binding, err := s.readFinish(c, false)
	if err != nil {
		return err
	}
	in, err := s.open(c, visitOf(c).pressed, binding)
	if err != nil {
		return err
	}
	return finished(c, in.entered, nil)
}

// readFinish reads the credential that a finish brings into the visit, and returns
// the binding of the browser.
func (s *Server) readFinish(c echo.Context, registration bool) (binding string, err error) {
	r, v := c.Request(), visitOf(c)
	body, err := readObject(r)
	if err != nil {
		return "", err
	}
	answer, err := passkey.Parse(body)
	switch {
	case err != nil:
		return "", err
	case answer.IsRegistration() != registration:
		return "", errOtherCeremony
	}
	answer.WithoutCredProps()
	v.pressed = &pressed{answer: answer}
	binding, ok := s.cookies.bound(r)
	if !ok {
		return "", errNoBinding
	}
	return binding, nil
}

// proven makes sure that a passkey was used in the session a moment ago.
func (s *Server) proven(v *visit) error {
	if v.session.AuthTime.Before(s.now().Add(-proofFor)) {
		return session.ErrStale
	}
	return nil
}

// endedElsewhere takes the session from the visit, if the error says that it is over.
func (s *Server) endedElsewhere(c echo.Context, err error) error {
	if errors.Is(err, session.ErrNone) {
		s.signedOut(c)
	}
	return err
}

// entry is an entry of what the person who is signed in does.
func (v *visit) entry(kind audit.Kind, r *http.Request) audit.Entry {
	return audit.Entry{Kind: kind, Actor: v.user.ID, Session: v.session.ID, Client: v.client(r)}
}

// finished says what a finish came to.
func finished(c echo.Context, in entered, told []signal) error {
	type user struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	return c.JSON(http.StatusOK, struct {
		Verified   bool           `json:"verified"`
		User       user           `json:"user"`
		Credential credentialJSON `json:"credential"`
		Signals    []signal       `json:"signals,omitempty"`
	}{true, user{in.user.ID, in.user.Name}, describe(in.with), told})
}

// credentialJSON is a passkey as its person may see it.
type credentialJSON struct {
	ID             string    `json:"id"` // base64url
	Name           string    `json:"name"`
	AAGUID         string    `json:"aaguid"`      // as a UUID is written (RFC 9562 §4)
	DeviceType     string    `json:"device_type"` // "single" or "multi"
	BackupEligible bool      `json:"backup_eligible"`
	BackupState    bool      `json:"backup_state"`
	Transports     []string  `json:"transports"`
	SignCount      uint32    `json:"sign_count"`
	CreatedAt      time.Time `json:"created_at"` // RFC 3339, in UTC
	LastUsedAt     time.Time `json:"last_used_at"`
}

func describe(k account.Credential) credentialJSON {
	var g [16]byte
	copy(g[:], k.AAGUID)
	return credentialJSON{
		ID: encode(k.ID), Name: k.Name, AAGUID: fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:]),
		DeviceType: k.DeviceType(), BackupEligible: k.BackupEligible(), BackupState: k.BackupState(),
		Transports: append([]string{}, k.Transports...), SignCount: k.SignCount,
		CreatedAt: k.CreatedAt.UTC().Truncate(time.Millisecond), LastUsedAt: k.LastUsedAt.UTC().Truncate(time.Millisecond),
	}
}

// credentials answers GET /auth/webauthn/credentials, the oldest first.
func (s *Server) credentials(c echo.Context) error {
	v := visitOf(c)
	if !v.signedIn {
		return errNotSignedIn
	}
	all, err := s.db.Credentials(c.Request().Context(), v.user.ID)
	if err != nil {
		return err
	}
	list := make([]credentialJSON, len(all))
	for i, one := range all {
		list[i] = describe(one)
	}
	return c.JSON(http.StatusOK, list)
}

// renameCredential answers PATCH /auth/webauthn/credentials/{id}.
func (s *Server) renameCredential(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn {
		return errNotSignedIn
	}
	var asked struct {
		Name string `json:"name"`
	}
	if err := readJSON(r, &asked); err != nil {
		return err
	}
	name, err := account.CredentialName(asked.Name)
	if err != nil {
		return err
	}
	id, err := credentialID(c)
	if err != nil {
		return err
	}
	renamed, err := s.db.RenameCredential(r.Context(), v.user.ID, id, name, v.entry(audit.PasskeyRenamed, r))
	if err != nil {
		return err
	}
	s.trail.grown()
	return c.JSON(http.StatusOK, describe(renamed))
}

// removeCredential answers DELETE /auth/webauthn/credentials/{id}. The sessions
// that the passkey opened end with it, be it this one.
func (s *Server) removeCredential(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn {
		return errNotSignedIn
	}
	if err := s.proven(v); err != nil {
		return err
	}
	id, err := credentialID(c)
	if err != nil {
		return err
	}
	ended, err := s.db.RemoveCredential(r.Context(), store.Removal{
		SessionID: v.session.ID, Proven: s.now().Add(-proofFor), ID: id,
	}, v.entry(audit.PasskeyRemoved, r))
	if err != nil {
		return s.endedElsewhere(c, err)
	}
	s.trail.grown()
	for _, one := range ended {
		s.sessions.Forget(one)
	}
	if slices.Contains(ended, v.session.ID) {
		s.signedOut(c)
		s.cookies.signOut(c.Response())
	}
	return c.NoContent(http.StatusNoContent)
}

// credentialID is the passkey that the address names. What is no credential id
// names none.
func credentialID(c echo.Context) ([]byte, error) {
	text := c.Param("id")
	id, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || encode(id) != text { // the decoder passes over line breaks
		return nil, account.ErrNotFound
	}
	return id, nil
}

// session answers GET /auth/session: who is signed in. The session's id is the one
// that the trail has for it; its own would open it.
func (s *Server) session(c echo.Context) error {
	v := visitOf(c)
	if !v.signedIn {
		return errNotSignedIn
	}
	type user struct {
		ID     string   `json:"id"`
		Name   string   `json:"name"`
		Groups []string `json:"groups"`
	}
	type session struct {
		ID           string    `json:"id"`
		CreatedAt    time.Time `json:"created_at"` // RFC 3339, in UTC
		ExpiresAt    time.Time `json:"expires_at"`
		AuthTime     time.Time `json:"auth_time"`
		UserVerified bool      `json:"user_verified"`
	}
	return c.JSON(http.StatusOK, struct {
		User    user    `json:"user"`
		Session session `json:"session"`
	}{
		user{v.user.ID, v.user.Name, append([]string{}, v.user.Groups...)},
		session{
			audit.SessionRef(v.session.ID), v.session.CreatedAt.UTC(), v.session.ExpiresAt.UTC(), v.session.AuthTime.UTC(), v.session.UserVerified,
		},
	})
}

// leave answers POST /auth/sign-out, as often as it is asked.
func (s *Server) leave(c echo.Context) error {
	if err := s.end(c); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// readObject reads a body that is one JSON object (RFC 8259), sent as
// application/json.
func readObject(r *http.Request) ([]byte, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, errMediaType
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, err
	}
	body = bytes.TrimLeft(body, " \t\r\n")
	if err != nil || !bytes.HasPrefix(body, []byte("{")) || !utf8.Valid(body) || !json.Valid(body) {
		return nil, errNotJSON
	}
	return body, nil
}

// readJSON reads such a body into to. Members that to does not have are passed over.
func readJSON(r *http.Request, to any) error {
	body, err := readObject(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%w: %v", errNotJSON, err)
	}
	return nil
}
