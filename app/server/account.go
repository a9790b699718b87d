package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"bio/agent/brief"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/passkey"
	"bio/app/session"
	"bio/views"
)

// activityPage is how many acts a page of /account shows, and sessionsShown how many
// sessions.
const (
	activityPage  = 25
	sessionsShown = 100
)

// account answers GET /account: the person's own page.
func (s *Server) account(c echo.Context) error {
	if !visitOf(c).signedIn {
		if wantsProblem(c) {
			return errNotSignedIn
		}
		return c.Redirect(http.StatusSeeOther, "/?return_to=%2Faccount")
	}
	return s.showAccount(c, http.StatusOK, news{})
}

// news is what came of a press on the account's page.
type news struct {
	notice       string
	link, linkIs string     // that an owner made, shown this once
	at           string     // address of the form that it concerns, or empty
	typed        url.Values // what was in it when it was refused, or nil
	signals      []signal   // beside those of every such page
}

// showAccount shows the page of the account that is signed in; after a press, also
// what came of it. Pages of older activity show that alone.
func (s *Server) showAccount(c echo.Context, status int, came news) error {
	r, v := c.Request(), visitOf(c)
	before, err := strconv.ParseInt(c.QueryParam("before"), 10, 64)
	if err != nil || before < 0 || r.Method == http.MethodPost { // what is no place in the trail is the newest page
		before = 0
	}
	page := views.Account{Name: v.user.Name, Notice: came.notice, Newest: before == 0}
	if r.Method == http.MethodPost {
		page.Here = "/account"
	}
	// One more than is shown, to know whether there are older ones. Runs are for the
	// signed-in page, and a step-up is told by its act: here they would bury what may
	// alarm.
	records, err := s.db.Trail(r.Context(), v.user.ID, before, activityPage+1, audit.RunStarted, audit.RunEnded, audit.SteppedUp)
	if err != nil {
		return err
	}
	if len(records) > activityPage {
		records = records[:activityPage]
		page.Older = "/account?before=" + strconv.FormatInt(records[activityPage-1].Index, 10)
	}
	now := s.now()
	for _, record := range records {
		page.Activity = append(page.Activity, views.Activity{
			Words: activity(record), When: brief.Ago(now, record.At), At: record.At, Alarming: record.Kind.Event().Alarming,
		})
	}
	binding := s.cookies.binding(c.Response(), r)
	if page.Recovery, err = s.waiting(c); err != nil {
		return err
	}
	if page.Recovery != nil {
		page.Recovery.Cancel = s.actPress(v.user, binding, actCancelRecovery)
	}
	if page.Newest {
		has, err := s.db.Credentials(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		if page.Manage, err = s.manage(c, binding, has, came); err != nil {
			return err
		}
		accepted, err := s.accepted(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		page.Signals = signals(append([]signal{s.acceptedSignal(v.user, accepted), s.detailsSignal(v.user)}, came.signals...))
	}
	return s.render(c, status, views.AccountPage(page))
}

// manage is what the person can do, with a challenge for each act.
func (s *Server) manage(c echo.Context, binding string, has []account.Credential, came news) (*views.Manage, error) {
	r, v, now := c.Request(), visitOf(c), s.now()
	sessions, err := s.db.Sessions(r.Context(), v.user.ID, now, s.settings.SessionIdle)
	if err != nil {
		return nil, err
	}
	moment := func(at time.Time) views.Moment { return views.Moment{At: at, Words: brief.Ago(now, at)} }
	act := func(address string) views.Press {
		press := s.actPress(v.user, binding, address)
		if address == came.at {
			press.Typed, press.Said = came.typed, came.notice
		}
		return press
	}

	m := &views.Manage{Rename: act(actName), Erase: act(actErase)}
	m.Add, m.Proven = s.addPress(v, binding, has)
	if came.at == actAdd {
		m.Add.Said = came.notice
	}
	for _, one := range has {
		ref := account.CredentialRef(one.ID)
		p := views.Passkey{
			Name: one.Name, Synced: one.BackupEligible(), BackedUp: one.BackupState(), Here: ref == v.session.Credential,
			Created: moment(one.CreatedAt), LastUsed: moment(one.LastUsedAt), Rename: act(actPasskeys + ref + "/rename"),
		}
		if len(has) > 1 {
			remove := act(actPasskeys + ref + "/remove")
			p.Remove = &remove
		}
		m.Passkeys = append(m.Passkeys, p)
	}
	slices.SortFunc(sessions, func(a, b session.Session) int {
		if here := v.session.ID; a.ID == here || b.ID == here {
			return cmp.Compare(strconv.FormatBool(b.ID == here), strconv.FormatBool(a.ID == here))
		}
		return cmp.Or(b.SeenAt.Compare(a.SeenAt), strings.Compare(a.ID, b.ID))
	})
	if m.More = max(0, len(sessions)-sessionsShown); m.More > 0 {
		sessions = sessions[:sessionsShown]
	}
	for _, one := range sessions {
		line := views.Session{
			Client: place(one.Client), This: one.ID == v.session.ID, Began: moment(one.CreatedAt), Seen: moment(one.SeenAt),
		}
		if !line.This {
			line.End = actSessions + audit.SessionRef(one.ID) + "/end"
		}
		m.Sessions = append(m.Sessions, line)
	}
	if len(sessions) > 1 {
		others := act(actEndOthers)
		m.EndOthers = &others
	}
	if v.user.In(account.Owner) {
		m.Owner = &views.Owner{Invite: act(actInvitations), Recover: act(actRecoveries), Link: came.link, LinkIs: came.linkIs}
	}
	return m, nil
}

// actPress is the form of one sensitive act.
func (s *Server) actPress(user account.User, binding, address string) views.Press {
	offer := s.rp.Offer(passkey.Act(user.ID, address), binding)
	return views.Press{Action: address, Options: string(s.rp.GetOptionsJSON(offer))}
}

// addWithin is how much of proofFor the making of a passkey may need.
const addWithin = time.Minute

// addPress is the form that adds a passkey: at once, when a passkey was used in the
// session a moment ago; else its press proves first.
func (s *Server) addPress(v *visit, binding string, has []account.Credential) (add views.Press, proven bool) {
	left := v.session.AuthTime.Add(proofFor).Sub(s.now())
	if left < addWithin {
		return s.actPress(v.user, binding, actAdd), false
	}
	offer := s.rp.Offer(passkey.AddPasskey(v.user.ID), binding)
	offer.UserHandle, offer.Name = encode(v.user.Handle), v.user.Name
	// A page renews what is half as old: so it proves again in time.
	return views.Press{Action: actAdd, Options: string(s.rp.CreateOptionsJSON(offer, has, left-addWithin))}, true
}

// waiting is a recovery of the account that waits, without the form that cancels
// it; nil when there is none.
func (s *Server) waiting(c echo.Context) (*views.Recovery, error) {
	now := s.now()
	made, client, err := s.db.Waiting(c.Request().Context(), visitOf(c).user.ID)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &views.Recovery{
		By:    place(client),
		Begun: views.Moment{At: made.CreatedAt, Words: brief.Ago(now, made.CreatedAt)},
		Due:   views.Moment{At: made.EffectiveAt, Words: ahead(made.EffectiveAt.Sub(now))},
	}, nil
}

// accepted are the passkeys of an account that open it, now or once their recovery
// has waited: what a password manager must not forget.
func (s *Server) accepted(ctx context.Context, userID string) ([]account.Credential, error) {
	all, err := s.db.Credentials(ctx, userID)
	if err != nil {
		return nil, err
	}
	made, _, err := s.db.Waiting(ctx, userID)
	switch {
	case err == nil:
		all = append(all, made)
	case !errors.Is(err, account.ErrNotFound):
		return nil, err
	}
	return all, nil
}

// ahead says when something is that is d ahead.
func ahead(d time.Duration) string {
	if d <= 0 {
		return "from now on"
	}
	return "in " + lasting(d)
}

// lasting says a time, rounded up: "36 hours".
func lasting(d time.Duration) string {
	several := func(unit time.Duration, one, many string) string {
		n := (d + unit - 1) / unit
		if n == 1 {
			return one
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	switch {
	case d <= time.Minute:
		return several(time.Second, "a second", "seconds")
	case d <= time.Hour:
		return several(time.Minute, "a minute", "minutes")
	case d <= 48*time.Hour:
		return several(time.Hour, "an hour", "hours")
	}
	return several(24*time.Hour, "a day", "days")
}

// acceptedSignal keeps the person's list of passkeys true.
func (s *Server) acceptedSignal(user account.User, all []account.Credential) signal {
	ids := make([]string, len(all))
	for i, one := range all {
		ids[i] = encode(one.ID)
	}
	return signal{"signalAllAcceptedCredentials", map[string]any{
		"rpId": s.rp.ID(), "userId": encode(user.Handle), "allAcceptedCredentialIds": ids,
	}}
}

// activity says an act to the person whose act it is.
func activity(r audit.Record) string {
	words := r.Kind.Event().Words
	switch {
	case r.Kind == audit.SignInRefused && r.Count > 1:
		words = fmt.Sprintf("%d attempts to sign in were refused", r.Count)
	case r.Kind == audit.SignInRefused && r.Reason == reason(account.ErrOtherAccount):
		words = "A passkey that does not open this account was refused"
	case r.Kind == audit.SessionExpired && r.Reason == "idle":
		words = "A session ended, because it was not used"
	case r.Kind == audit.SessionExpired:
		words = "A session ended, because its time was over"
	case r.Kind == audit.SessionRevoked && r.Reason == "passkey removed":
		words = "A session ended with its passkey"
	case r.Kind == audit.SessionRevoked && r.Reason == "too many":
		words = "A session ended, the oldest of too many"
	case r.Kind == audit.SessionRevoked && r.Reason == "recovery":
		words = "A session ended with the recovery"
	case r.Kind == audit.SessionRevoked && r.Client == audit.Client{}:
		words = "An operator ended a session"
	case r.Kind == audit.RecoveryOffered && r.Reason == byOperator:
		words = "An operator made a recovery link for this account"
	case r.Kind == audit.Renamed:
		words += " to " + r.Detail["to"]
	}
	words += whence(r.Client)
	if groups := strings.ReplaceAll(r.Detail["groups"], " ", ", "); groups != "" {
		words += map[audit.Kind]string{audit.InvitationMade: ", to join " + groups, audit.InvitationUsed: ", and joined " + groups}[r.Kind]
	}
	if r.Kind == audit.GroupsSet {
		words += ": " + cmp.Or(strings.ReplaceAll(r.Detail["are"], " ", ", "), "none")
	}
	return words
}

// whence says where an act came from: " with Firefox on Linux, from
// 203.0.113.0/24", as far as it is known.
func whence(c audit.Client) string {
	var parts []string
	switch {
	case c.Browser != "" && c.System != "":
		parts = append(parts, " with "+c.Browser+" on "+c.System)
	case c.Browser != "":
		parts = append(parts, " with "+c.Browser)
	case c.System != "":
		parts = append(parts, " on "+c.System)
	}
	switch c.Network {
	case "":
	case "127.0.0.0/24", "::/48":
		parts = append(parts, " from this machine")
	default:
		parts = append(parts, " from "+c.Network)
	}
	return strings.Join(parts, ",")
}

// place is whence by itself: "Firefox on Linux, from 203.0.113.0/24".
func place(c audit.Client) string {
	words := whence(c)
	for _, preposition := range []string{" with ", " on "} {
		if rest, found := strings.CutPrefix(words, preposition); found {
			return rest
		}
	}
	return strings.TrimSpace(words)
}
