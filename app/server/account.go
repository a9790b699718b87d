package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"bio/agent/brief"
	"bio/app/audit"
	"bio/views"
)

// activityPage is how many acts a page of /account shows.
const activityPage = 25

// account answers GET /account: the person's own page.
func (s *Server) account(c echo.Context) error {
	r, v := c.Request(), visitOf(c)
	if !v.signedIn {
		if wantsProblem(c) {
			return errNotSignedIn
		}
		return c.Redirect(http.StatusSeeOther, "/?return_to=%2Faccount")
	}
	before, err := strconv.ParseInt(c.QueryParam("before"), 10, 64)
	if err != nil || before < 0 { // what is no place in the trail is the newest page
		before = 0
	}
	// One more than is shown, to know whether there are older ones. Runs are for the
	// signed-in page: here they would bury what may alarm.
	records, err := s.db.Trail(r.Context(), v.user.ID, before, activityPage+1, audit.RunStarted, audit.RunEnded)
	if err != nil {
		return err
	}
	page := views.Account{Name: v.user.Name, Newest: before == 0}
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
	return s.render(c, http.StatusOK, views.AccountPage(page))
}

// activity says an act to the person whose act it is.
func activity(r audit.Record) string {
	words := r.Kind.Event().Words
	switch {
	case r.Kind == audit.SignInRefused && r.Count > 1:
		words = fmt.Sprintf("%d attempts to sign in were refused", r.Count)
	case r.Kind == audit.SessionExpired && r.Reason == "idle":
		words = "A session ended, because it was not used"
	case r.Kind == audit.SessionExpired:
		words = "A session ended, because its time was over"
	}
	var from []string
	switch {
	case r.Client.Browser != "" && r.Client.System != "":
		from = append(from, " with "+r.Client.Browser+" on "+r.Client.System)
	case r.Client.Browser != "":
		from = append(from, " with "+r.Client.Browser)
	case r.Client.System != "":
		from = append(from, " on "+r.Client.System)
	}
	switch r.Client.Network {
	case "":
	case "127.0.0.0/24", "::/48":
		from = append(from, " from this machine")
	default:
		from = append(from, " from "+r.Client.Network)
	}
	words += strings.Join(from, ",")
	if groups := strings.ReplaceAll(r.Detail["groups"], " ", ", "); groups != "" {
		words += map[audit.Kind]string{audit.InvitationMade: ", to join " + groups, audit.InvitationUsed: ", and joined " + groups}[r.Kind]
	}
	return words
}
