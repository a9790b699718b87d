package server_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
)

// stage is a site where someone can do every act: an owner with two passkeys and
// another session, whose account someone recovers; there is another owner.
type stage struct {
	*site
	b        *browser
	d, spare *device
	name     string
	other    *browser // opened with the spare passkey
	lost     string   // an account that is not theirs
}

func newStage(t *testing.T) *stage {
	s := &stage{site: newSite(t, "BIO_SESSION_IDLE=9000h", "BIO_SESSION_MAX=9600h")}
	s.owner()
	_, made := s.browser().register()
	s.lost = made.account
	s.b, s.d, s.name = s.owner()
	s.spare = s.b.adds()
	s.other = s.browserOf(s.spare)
	s.recovers(s.name)
	s.clock.Advance(5 * time.Minute) // adding a passkey needs a proof
	return s
}

// step is an act that the owner on the stage can do.
type step struct {
	address string
	fields  []string     // name, value, …
	kinds   []audit.Kind // that it leaves, behind the press
}

func (s *stage) steps() []step {
	return []step{
		{addPasskey, nil, nil},
		{passkeyAct(s.d, "rename"), []string{"name", "Laptop"}, []audit.Kind{audit.PasskeyRenamed}},
		{passkeyAct(s.spare, "rename"), []string{"name", "Key"}, []audit.Kind{audit.PasskeyRenamed}},
		{renameAccount, []string{"name", "Nadia"}, []audit.Kind{audit.Renamed}},
		{cancelRecovery, nil, []audit.Kind{audit.RecoveryCancelled}},
		{makeInvitation, []string{"groups", "ops", "days", "7"}, []audit.Kind{audit.InvitationMade}},
		{makeRecovery, []string{"account", s.lost}, []audit.Kind{audit.RecoveryMade, audit.RecoveryOffered}},
		{endOthers, nil, []audit.Kind{audit.SessionRevoked}},
		{passkeyAct(s.spare, "remove"), nil, []audit.Kind{audit.PasskeyRemoved}},
		{eraseAccount, nil, []audit.Kind{audit.Erased}},
	}
}

// within reports what fails to a part of the test, until that is over.
func (s *site) within(part *testing.T) (over func()) {
	whole := s.t
	s.t = part
	return func() { s.t = whole }
}

// rowsOf are the rows that speak of a user.
func rowsOf(contents map[string][]string, handle []byte) map[string][]string {
	rows := map[string][]string{}
	for table, all := range contents {
		for _, row := range all {
			if strings.Contains(row, account.UserID(handle)) {
				rows[table] = append(rows[table], row)
			}
		}
	}
	return rows
}

// An assertion of B never acts on A, on any route, whatever it is sent with; nor does
// one of A do what it was not made for.
func TestOthersNeverAct(t *testing.T) {
	s := newStage(t)
	a, da := s.b, s.d
	b, db, _ := s.owner() // with every right of their own
	spareB := b.adds()
	s.clock.Advance(5 * time.Minute)
	who, _ := a.who()
	ownSession := "/account/sessions/" + who.Session.ID + "/end"

	bound := func(with, to *browser) *browser { // the session of one, in a browser bound as the other's
		c := with.clone()
		c.cookies["bio-pre"] = to.cookies["bio-pre"]
		return c
	}
	other := map[string]string{ // another thing of the same act
		passkeyAct(da, "rename"): passkeyAct(s.spare, "rename"), passkeyAct(s.spare, "remove"): passkeyAct(da, "remove"),
	}

	acts := map[string]step{}
	for _, one := range s.steps() {
		path := one.address
		for _, d := range []*device{da, s.spare} {
			path = strings.Replace(path, account.CredentialRef(d.ID), ":ref", 1)
		}
		if _, twice := acts["POST "+path]; !twice {
			acts["POST "+path] = one
		}
	}
	// It goes on on another instance, where the order to stop is a mark in its row.
	const runOfA = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	_, err := s.raw.Exec(`INSERT INTO runs (id, user_id, agent, prompt, status, sentence, started_at, beat_at)
VALUES (?, ?, 'elsewhere', '', 'running', '', ?3, ?3)`, runOfA, account.UserID(da.handle), s.clock.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	// What needs no passkey, as B does it to what is A's.
	plain := map[string]struct {
		address, body string
		status        int
	}{
		"POST /account/sessions/:ref/end":       {ownSession, "", 303},
		"PATCH /auth/webauthn/credentials/:id":  {passkeyAt(da), `{"name":"x"}`, 404},
		"DELETE /auth/webauthn/credentials/:id": {passkeyAt(s.spare), "", 404},
		"POST /auth/webauthn/register/begin":    {registerBegin, "{}", 200},
		"POST /auth/webauthn/sign-in/begin":     {signInBegin, "{}", 200},
		"POST /run":                             {"/run", "", 303},
		"POST /run/stop":                        {"/run/stop", "run=" + runOfA, 303},
		"POST /sign-out":                        {"/sign-out", "", 303},
		"POST /auth/sign-out":                   {"/auth/sign-out", "", 204},
	}
	// What opens a session, as it takes the assertions of acts.
	entries := []string{"POST /", "POST " + registerFinish, "POST " + signInFinish}

	known := slices.Concat(slices.Collect(maps.Keys(acts)), slices.Collect(maps.Keys(plain)), entries)
	var routes []string
	for _, r := range server.Routes(s.Server) {
		if r[0] != http.MethodGet && r[0] != http.MethodHead {
			routes = append(routes, r[0]+" "+r[1])
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(known)), slices.Sorted(slices.Values(routes))); diff != "" {
		t.Fatalf("routes (-this test +site map):\n%s", diff)
	}

	for route, act := range acts {
		t.Run(route, func(t *testing.T) {
			defer s.within(t)()
			const tooLong = "That took too long. Press again."
			now := a.get("/account").acts
			mine := now[act.address]
			another := now[renameAccount]
			if act.address == renameAccount {
				another = now[eraseAccount]
			}
			blank := (&form{action: act.address, options: mine.options, fields: url.Values{}}).with(act.fields...)
			type attack struct {
				by         *browser
				form       *form
				credential string
				status     int
				sentence   string
			}
			attacks := map[string]attack{
				"B's passkey in A's session":                  {a, blank, db.get(mine.options), 401, "That passkey does not open this account."},
				"another passkey of B":                        {a, blank, spareB.get(mine.options), 401, "That passkey does not open this account."},
				"B's passkey with A's handle":                 {a, blank, db.get(mine.options, func(f *draft) { f.response["userHandle"] = encode(da.handle) }), 401, "That passkey was not accepted."},
				"A's challenge of another act":                {a, blank, da.get(another.options), 409, tooLong},
				"A's challenge of another act, by B":          {a, blank, db.get(another.options), 409, tooLong},
				"A's assertion in B's browser":                {b, blank, da.get(mine.options), 409, tooLong},
				"A's assertion in B's session, bound as A's":  {bound(b, a), blank, da.get(mine.options), 409, tooLong},
				"A's challenge in B's session, bound as A's":  {bound(b, a), blank, db.get(mine.options), 409, tooLong},
				"B's own in A's session, bound as B's":        {bound(a, b), blank, db.get(b.crafted(act.address).options), 409, tooLong},
				"A's passkey for B's challenge, bound as B's": {bound(a, b), blank, da.get(b.crafted(act.address).options), 409, tooLong},
				"a sign-in's by A":                            {a, blank, da.get(a.ceremony("/ceremony")), 409, tooLong},
				"a sign-in's by B":                            {a, blank, db.get(a.ceremony("/ceremony")), 409, tooLong},
				"an undo's by A":                              {a, blank, da.get(a.ceremony("/ceremony?for=undo")), 409, tooLong},
			}
			if at, ok := other[act.address]; ok {
				attacks["A's challenge of another thing"] = attack{a, blank, da.get(now[at].options), 409, tooLong}
			}
			if strings.Contains(route, ":ref") {
				f := b.crafted(act.address, act.fields...)
				attacks["B's whole press on what is A's"] = attack{b, f, db.get(f.options), 404, "You have no such passkey here."}
			}
			for name, one := range attacks {
				n := s.settled()
				p := one.by.refused(name, one.form, one.credential, one.status, one.sentence)
				checkCode(t, name, asProblem(one.by).press(one.form, one.credential), one.status, p.code())
				if _, alive := a.who(); !alive {
					t.Fatalf("%s: A is signed out", name)
				}
				s.settled()
				refused := slices.DeleteFunc(s.since(n), func(e audit.Record) bool { return e.Kind == audit.RunStarted || e.Kind == audit.RunEnded })
				if (len(refused) > 0) != (one.status == 401) {
					t.Errorf("%s: the trail says %+v", name, refused)
				}
				for _, e := range refused {
					// That it was tried is A's to know, and by whom is not. A handle that
					// is not the passkey's own is B's to know.
					of, reason, with := da, "passkey of another account", ""
					if strings.HasSuffix(name, "handle") {
						of, reason, with = db, "wrong user handle", account.CredentialRef(db.ID)
					}
					if e.Kind != audit.SignInRefused || e.Actor != account.UserID(of.handle) || e.Reason != reason || e.Credential != with {
						t.Errorf("%s: the trail says %+v", name, e)
					}
				}
			}

			// Its challenge opens no session either.
			before := s.contents()
			mine = a.asks(act.address)
			for _, d := range []*device{da, db} {
				out := a.signedOut()
				for name, p := range map[string]*page{
					"page": out.post("/", url.Values{"credential": {d.get(mine.options)}}), "undo": out.post("/", url.Values{"credential": {d.get(mine.options)}, "undo": {"1"}}),
				} {
					if p.status != http.StatusConflict || p.account != "" || out.cookies["bio"] != "" {
						t.Errorf("the %s: %d as %q", name, p.status, p.account)
					}
				}
				checkCode(t, "the API", out.call("POST", signInFinish, d.get(mine.options)), 409, "expired")
				checkCode(t, "the API, signed in", a.call("POST", signInFinish, d.get(mine.options)), 409, "expired")
				checkCode(t, "the API's registration", a.call("POST", registerFinish, d.get(mine.options)), 400, "malformed")
				if p := a.post("/", url.Values{"credential": {d.get(mine.options)}}); p.status != http.StatusOK || p.account != s.name { // an old page
					t.Errorf("the page, signed in: %d as %q", p.status, p.account)
				}
				if p := a.post("/", url.Values{"credential": {d.get(mine.options)}, "undo": {"1"}}); p.status != http.StatusConflict {
					t.Errorf("the undo, signed in: %d", p.status)
				}
				// Signed out, an act says so and leads back.
				p := out.press(blank, d.get(mine.options))
				if p.status != http.StatusUnauthorized || p.account != "" || p.auth == nil || p.auth.fields.Get("return_to") != "/account" {
					t.Errorf("signed out: %d as %q", p.status, p.account)
				}
			}
			if diff := cmp.Diff(before, s.contents()); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
			s.settled()
		})
	}

	for route, tt := range plain {
		t.Run(route, func(t *testing.T) {
			defer s.within(t)()
			c := b.signedOut()
			c.signIn(db) // with a proof that is fresh
			before := rowsOf(s.contents(), da.handle)
			method, _, _ := strings.Cut(route, " ")
			r := c.request(method, tt.address, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if !strings.HasPrefix(tt.body, "{") {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			if p := c.send(r); p.status != tt.status {
				t.Errorf("%d %s", p.status, p.body)
			}
			if diff := cmp.Diff(before, rowsOf(s.contents(), da.handle)); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
		})
	}
	a.checkSignedIn(s.name)
	whole := s.contents()
	if a.post("/run/stop", url.Values{"run": {runOfA}}); cmp.Equal(whole, s.contents()) {
		t.Error("A cannot stop it either")
	}
}

// settled records what was folded, and returns how long the trail is then.
func (s *site) settled() int {
	s.t.Helper()
	server.Settle(s.t.Context(), s.Server, true)
	return len(s.trail())
}

// A passkey that does not open the account does nothing to it, whatever else is to be
// said of it. That it was tried is for the account's people to know, by whom is not.
func TestOtherPasskeys(t *testing.T) {
	s := newStage(t)
	_, disabled, name := s.owner()
	db, b := s.browser().register()
	_, waitsThere := s.recovers(b.account)
	if _, _, err := s.db.DisableUser(t.Context(), name, false, audit.Entry{Kind: audit.Disabled}); err != nil {
		t.Fatal(err)
	}
	_, waits := s.recovers(s.name) // in place of the stage's
	for _, step := range s.steps() {
		if step.address == addPasskey {
			continue
		}
		for of, d := range map[string]*device{"of another account": db, "of a disabled one": disabled, "of another's recovery": waitsThere, "of its own recovery": waits} {
			what := step.address + ", " + of
			n := s.settled()
			f := s.b.asks(step.address, step.fields...)
			s.b.refused(what, f, d.get(f.options), 401, "That passkey does not open this account. Use one that does.")
			s.settled()
			if e := s.since(n); len(e) != 1 || e[0].Kind != audit.SignInRefused || e[0].Reason != "passkey of another account" ||
				e[0].Actor != account.UserID(s.d.handle) || e[0].Credential != "" {
				t.Errorf("%s: the trail says %+v", what, e)
			}
			f = s.b.asks(step.address, step.fields...)
			checkCode(t, what, asProblem(s.b).press(f, d.get(f.options)), 401, "refused")
		}
	}
}

// Adding a passkey is for the account that asked, and its session.
func TestAddIsOnesOwn(t *testing.T) {
	s := newSite(t)
	a, b := s.browser(), s.browser()
	da, _ := a.register()
	b.register()
	forA, forB := a.asks(addPasskey), b.asks(addPasskey)
	before := s.contents()
	for name, tt := range map[string]struct {
		by, bound *browser
		options   options
	}{
		"B's challenge in A's session":             {a, a, forB.options},
		"B's challenge in A's session, bound as B": {a, b, forB.options},
		"A's challenge in B's session":             {b, b, forA.options},
		"A's challenge in B's session, bound as A": {b, a, forA.options},
		"a sign-up's challenge":                    {a, a, a.ceremony("/ceremony")},
	} {
		c, d := tt.by.clone(), s.device()
		c.cookies["bio-pre"] = tt.bound.cookies["bio-pre"]
		p := c.refused(name, forA, d.create(tt.options), 409, "That took too long. Press again.")
		if dead := p.signalled(t)["signalUnknownCredential"]; len(dead) != 1 || dead[0]["credentialId"] != encode(d.ID) {
			t.Errorf("%s: signals %q", name, p.signals)
		}
	}
	// What adds makes no account.
	out, d := a.signedOut(), s.device()
	f := out.button("/")
	if p := out.press(f, d.create(forA.options)); p.status != http.StatusConflict || p.account != "" {
		t.Errorf("signing up with it: %d as %q", p.status, p.account)
	}
	if p := out.press(forA, da.create(forA.options)); p.status != http.StatusUnauthorized || p.auth.fields.Get("return_to") != "/account" {
		t.Errorf("signed out: %d", p.status)
	}
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// A press that is sent again does nothing, and takes nothing away.
func TestActReplay(t *testing.T) {
	s := newStage(t)
	for _, act := range s.steps() {
		f := s.b.asks(act.address, act.fields...)
		old := s.b.clone()
		credential := s.d.get(f.options)
		if act.address == eraseAccount {
			break
		}
		n := len(s.trail())
		if p := s.b.press(f, credential); p.status != http.StatusOK {
			t.Fatalf("%s: %d %s", act.address, p.status, p.notice)
		}
		grown := len(s.trail())
		if grown != n+1+len(act.kinds) && act.address != passkeyAct(s.spare, "remove") {
			t.Errorf("%s: the trail says %+v", act.address, s.since(n))
		}
		s.b.refused(act.address, f, credential, 409, "That press was already used. Press again.")
		before := s.contents()
		if p := old.press(f, credential); p.status != http.StatusUnauthorized || p.account != "" { // with the session of before
			t.Errorf("%s, in the old session: %d as %q", act.address, p.status, p.account)
		}
		if diff := cmp.Diff(before, s.contents()); diff != "" || len(s.trail()) != grown {
			t.Errorf("%s: %d entries more, changed (-before +after):\n%s", act.address, len(s.trail())-grown, diff)
		}
	}
	// The making of a passkey.
	f, d := s.b.asks(addPasskey), s.device()
	credential := d.create(f.options)
	if p := s.b.press(f, credential); p.status != http.StatusOK {
		t.Fatalf("%d %s", p.status, p.notice)
	}
	p := s.b.refused("create", f, credential, 409, "That press was already used. Press again.")
	if strings.Contains(p.signals, "signalUnknownCredential") {
		t.Errorf("signals %q", p.signals)
	}
}

// Of many times the same press at once, one does the act; the others come to late, or
// to a session that was replaced.
func TestActAtOnce(t *testing.T) {
	for i, name := range []string{"add", "rename", "rename another", "name", "cancel", "invite", "recover", "end others", "remove", "erase", "create"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			var f *form
			var credential string
			var want []audit.Kind
			if name == "create" {
				s.b.does(s.d, s.b.asks(addPasskey))
				f = s.b.asks(addPasskey)
				credential, want = s.device().create(f.options), []audit.Kind{audit.PasskeyAdded}
			} else {
				act := s.steps()[i]
				f = s.b.asks(act.address, act.fields...)
				credential, want = s.d.get(f.options), append([]audit.Kind{audit.SteppedUp}, act.kinds...)
				if name == "remove" { // and what it opened
					want = append(want, audit.SessionRevoked)
				}
			}
			n := len(s.trail())
			// The answer of the one brings the next session, or takes the last one away;
			// what is wrong with the others leaves the browser what that gave it.
			cookie := map[string]string{"erase": "taken", "create": "kept"}[name]
			if cookie == "" {
				cookie = "given"
			}
			var done, used, out atomic.Int32
			var wg sync.WaitGroup
			for range 50 {
				c := s.b.clone()
				wg.Go(func() {
					p := c.press(f, credential)
					if p.status != http.StatusOK {
						p.keptCookie(t, "too late")
					}
					switch p.status {
					case http.StatusOK:
						done.Add(1)
						switch cookie {
						case "kept":
							p.keptCookie(t, name)
						default:
							if c := p.cookie(t, "bio"); (c.MaxAge < 0) != (cookie == "taken") {
								t.Errorf("the cookie is %s", c.Raw)
							}
						}
					case http.StatusConflict:
						used.Add(1)
					case http.StatusUnauthorized:
						out.Add(1)
					default:
						t.Errorf("%d %s", p.status, p.notice)
					}
				})
			}
			wg.Wait()
			var got []audit.Kind
			for _, e := range s.since(n) {
				if e.Kind != audit.SignInRefused {
					got = append(got, e.Kind)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || done.Load() != 1 || done.Load()+used.Load()+out.Load() != 50 {
				t.Errorf("%d done, %d used, %d signed out, trail (-want +got):\n%s", done.Load(), used.Load(), out.Load(), diff)
			}
		})
	}
}

// A session that was ended never answers again: of requests that go on all the while,
// none that begins after the acknowledgement is granted.
func TestRevokedNeverAnswers(t *testing.T) {
	press := func(address func(*stage) string) func(s *stage) func() {
		return func(s *stage) func() {
			f := s.b.asks(address(s))
			credential := s.d.get(f.options)
			return func() {
				if p := s.b.press(f, credential); p.status != http.StatusOK {
					s.t.Errorf("%d %s", p.status, p.notice)
				}
			}
		}
	}
	at := func(address string) func(*stage) string { return func(*stage) string { return address } }
	for name, prepare := range map[string]func(s *stage) (end func()){
		"one ended": func(s *stage) func() {
			who, _ := s.other.who()
			return func() { s.b.post("/account/sessions/"+who.Session.ID+"/end", nil) }
		},
		"others ended":    press(at(endOthers)),
		"erased":          press(at(eraseAccount)),
		"passkey removed": press(func(s *stage) string { return passkeyAct(s.spare, "remove") }),
		"passkey removed by the API": func(s *stage) func() {
			s.b.does(s.d, s.b.asks(addPasskey)) // proves
			return func() {
				if p := s.b.call("DELETE", passkeyAt(s.spare), ""); p.status != 204 {
					s.t.Errorf("%d", p.status)
				}
			}
		},
		"stepped up": func(s *stage) func() {
			f := s.other.asks(renameAccount, "name", "Nadia")
			credential, c := s.d.get(f.options), s.other.clone()
			return func() {
				if p := c.press(f, credential); p.status != http.StatusOK {
					s.t.Errorf("%d %s", p.status, p.notice)
				}
			}
		},
		"signed in anew": func(s *stage) func() {
			o := s.other.ceremony("/ceremony")
			credential, c := s.d.get(o), s.other.clone()
			return func() {
				if p := c.post("/", url.Values{"credential": {credential}}); p.status != http.StatusOK {
					s.t.Errorf("%d %s", p.status, p.notice)
				}
			}
		},
		"signed out": func(s *stage) func() {
			c := s.other.clone()
			return func() { c.post("/sign-out", nil) }
		},
		"disabled elsewhere, a second ago": func(s *stage) func() {
			return func() {
				if _, _, err := s.db.DisableUser(s.t.Context(), s.name, false, audit.Entry{Kind: audit.Disabled}); err != nil {
					s.t.Error(err)
				}
				s.clock.Advance(time.Second + time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			end := prepare(s)
			var over atomic.Bool
			var before, after atomic.Int32
			enough := make(chan struct{})
			var once sync.Once
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for mine := 0; mine < 25; {
						ended := over.Load()
						p := s.other.clone().call("GET", "/auth/session", "")
						switch {
						case ended && p.status != http.StatusUnauthorized:
							t.Errorf("answered %d after it was over", p.status)
							fallthrough
						case ended:
							mine++
							after.Add(1)
						case p.status == http.StatusOK:
							if before.Add(1) == 100 {
								once.Do(func() { close(enough) })
							}
						case p.status != http.StatusUnauthorized:
							t.Errorf("answered %d", p.status)
						}
					}
				})
			}
			<-enough
			end()
			over.Store(true)
			wg.Wait()
			if before.Load() < 100 || after.Load() != 100 {
				t.Errorf("%d before, %d after", before.Load(), after.Load())
			}
		})
	}
}

// What is wrong with the post of an act is said on the account's page, in words, and
// to a program in a problem document.
func TestActRefusals(t *testing.T) {
	s := newStage(t)
	post := func(b *browser, f *form, credential string, change func(*http.Request)) *page {
		fields := maps.Clone(f.fields)
		fields.Set("credential", credential)
		r := b.request(http.MethodPost, f.action, strings.NewReader(fields.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		change(r)
		return b.send(r)
	}
	for _, act := range s.steps() {
		t.Run(act.address, func(t *testing.T) {
			defer s.within(t)()
			s.clock.Advance(time.Minute)
			late := s.b.asks(act.address, act.fields...)
			s.clock.Advance(5 * time.Minute)
			f := s.b.asks(act.address, act.fields...)
			before := s.contents()
			for name, tt := range map[string]struct {
				press    func(b *browser) *page
				status   int
				code     string
				sentence string
			}{
				"no script":          {func(b *browser) *page { return b.post(f.action, url.Values{"credential": {""}, "name": {"x"}}) }, 400, "malformed", sayScript},
				"nothing":            {func(b *browser) *page { return b.post(f.action, nil) }, 400, "malformed", sayScript},
				"malformed":          {func(b *browser) *page { return b.press(f, "{") }, 400, "malformed", "That could not be read. Press again."},
				"no form":            {func(b *browser) *page { return post(b, f, "x", func(r *http.Request) { r.URL.RawQuery = "%zz" }) }, 400, "malformed", "That could not be read. Press again."},
				"late":               {func(b *browser) *page { return b.press(late, s.d.get(late.options)) }, 409, "expired", "That took too long. Press again."},
				"a spoilt signature": {func(b *browser) *page { return b.press(f, flipped(s.d, f.options, "signature", 77)) }, 401, "refused", "That passkey was not accepted. Press to try again."},
				"no binding": {func(b *browser) *page {
					c := b.clone()
					delete(c.cookies, "bio-pre")
					return c.press(f, s.d.get(f.options))
				}, 409, "no_cookie", "Your browser did not send Bio's cookie back."},
				"another's binding": {func(b *browser) *page {
					c := b.clone()
					c.cookies["bio-pre"] = s.fresh().cookies["bio-pre"]
					return c.press(f, s.d.get(f.options))
				}, 409, "expired", "That took too long. Press again."},
				"two bindings": {func(b *browser) *page {
					return post(b, f, s.d.get(f.options), func(r *http.Request) { r.Header.Add("Cookie", "bio-pre="+b.cookies["bio-pre"]) })
				}, 409, "no_cookie", "Your browser did not send"},
				"too large": {func(b *browser) *page { return b.press(f, strings.Repeat("x", 70_000)) }, 413, "too_large", "That was too large to be read. Make it shorter, and send it again."},
				"too large, in parts": {func(b *browser) *page {
					return post(b, f, strings.Repeat("x", 70_000), func(r *http.Request) { r.ContentLength = -1 })
				}, 413, "too_large", "That was too large to be read. Make it shorter, and send it again."},
				"an unknown passkey": {func(b *browser) *page { d := s.device(); d.handle = s.d.handle; return b.press(f, d.get(f.options)) }, 401, "unknown_passkey", "That passkey was not accepted. Press to try again."},
			} {
				p := tt.press(s.b.clone())
				if p.status != tt.status || p.account != s.name || p.here != "/account" || !strings.HasPrefix(p.notice, tt.sentence) || strings.Contains(p.notice, "Auth") {
					t.Errorf("%s: %d as %q, here %q, %q", name, p.status, p.account, p.here, p.notice)
				}
				if p.acts[act.address] == nil {
					t.Errorf("%s: no form for the next press", name)
				}
				checkCode(t, name, tt.press(asProblem(s.b)), tt.status, tt.code)
			}
			for name, credential := range map[string]string{"no script": "", "malformed": "{", "a press": s.d.get(f.options)} {
				out := s.b.signedOut()
				p := out.press(f, credential)
				if p.status != http.StatusUnauthorized || p.account != "" || p.notice != "You are signed out. Press Auth to sign in." ||
					p.auth == nil || p.auth.fields.Get("return_to") != "/account" || p.here != "/?return_to=%2Faccount" {
					t.Errorf("signed out, %s: %d as %q, %q, here %q", name, p.status, p.account, p.notice, p.here)
				}
				checkCode(t, name, asProblem(out).press(f, credential), 401, "signed_out")
			}
			foreign := post(s.b.clone(), f, s.d.get(f.options), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
			if foreign.status != http.StatusForbidden || foreign.account != "" {
				t.Errorf("from another site: %d as %q", foreign.status, foreign.account)
			}
			if act.address != addPasskey {
				d := s.device()
				created := f.options
				created.Create.Challenge, created.Create.RP.ID = f.options.Get.Challenge, f.options.Get.RPID
				s.b.refused("a new passkey", f, d.create(created), 400, "That could not be read. Press again.")
			}
			if diff := cmp.Diff(before, s.contents()); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
		})
	}
}

// Without the database an act is answered in words too, though the account's page
// cannot be shown.
func TestActsWithoutDatabase(t *testing.T) {
	s := newStage(t)
	presses := map[string]func(b *browser) *page{
		"the page":        func(b *browser) *page { return b.get("/account") },
		"a session's end": func(b *browser) *page { return b.post("/account/sessions/x/end", nil) },
		"fresh options":   func(b *browser) *page { return b.get("/ceremony?for=" + url.QueryEscape(addPasskey)) },
	}
	for _, act := range s.steps() {
		f := s.b.asks(act.address, act.fields...)
		credential := s.d.get(f.options)
		presses[act.address] = func(b *browser) *page { return b.press(f, credential) }
		presses[act.address+", malformed"] = func(b *browser) *page { return b.press(f, "{") }
	}
	s.b.who() // remembered for a second
	s.db.Close()
	for name, press := range presses {
		status := map[bool]int{false: 503, true: 400}[strings.HasSuffix(name, "malformed")]
		p := press(s.b.clone())
		if p.status != status || p.body == "" || status == 503 && (!strings.Contains(p.body, sayDatabase) || p.header.Get("Retry-After") == "") {
			t.Errorf("%s: %d %q", name, p.status, p.body)
		}
		if p := press(asProblem(s.b)); p.status != status {
			t.Errorf("%s, a program: %d", name, p.status)
		}
	}
}

// Someone who opens what only a form posts to is led to the account's page.
func TestActAddressesOpened(t *testing.T) {
	s := newStage(t)
	who, _ := s.other.who()
	addresses := []string{"/account/sessions/" + who.Session.ID + "/end"}
	for _, act := range s.steps() {
		addresses = append(addresses, act.address)
	}
	before := s.contents()
	for _, b := range []*browser{s.b, s.fresh()} {
		for _, address := range addresses {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if p := b.send(b.request(method, address, nil)); p.status != http.StatusSeeOther || p.header.Get("Location") != "/account" {
					t.Errorf("%s %s: %d to %s", method, address, p.status, p.header.Get("Location"))
				}
			}
			for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete} {
				if p := b.send(b.request(method, address, nil)); p.status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: %d", method, address, p.status)
				}
			}
		}
	}
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// Acts are attempts like any others; what a person is told of that is on their page.
func TestActsAreLimited(t *testing.T) {
	s := newSite(t, "BIO_RATE_LIMIT=1/h,4")
	b := s.browser()
	d, made := b.register()
	f := b.asks(renameAccount, "name", "Nadia") // which is an attempt too
	for range 2 {
		b.refused("malformed", f, "{", 400, "That could not be read.")
	}
	p := b.refused("one too many", f, d.get(f.options), 429, "Too many attempts from your network.")
	if retryAfter(t, p) == 0 || p.account != made.account {
		t.Errorf("%d as %q", p.status, p.account)
	}
	checkCode(t, "a session's end", asProblem(b).post("/account/sessions/x/end", nil), 429, "too_many")
	if p := b.get("/account"); p.status != http.StatusTooManyRequests || retryAfter(t, p) == 0 {
		t.Errorf("the page: %d", p.status)
	}
	if p := b.send(b.request(http.MethodHead, "/account", nil)); p.status != http.StatusTooManyRequests || p.body != "" {
		t.Errorf("its head: %d %q", p.status, p.body)
	}
	b.checkSignedIn(made.account) // the first page is free

	// Wrong passkeys count as refusals, and what an act asks for does not.
	s = newSite(t, "BIO_REFUSAL_LIMIT=2/h")
	b = s.browser()
	d, _ = b.register()
	for range 5 {
		f := b.asks(renameAccount, "name", "!")
		b.refused("a bad name", f, d.get(f.options), 422, "A name has")
	}
	f = b.asks(renameAccount, "name", "Nadia")
	for range 2 {
		b.refused("a wrong passkey", f, flipped(d, f.options, "signature", 7), 401, "That passkey was not accepted.")
	}
	b.refused("one too many", f, d.get(f.options), 429, "Too many attempts from your network.")
}

// code is what a problem document would say of the page.
func (p *page) code() string {
	return map[int]string{401: "refused", 404: "not_found", 409: "expired"}[p.status]
}
