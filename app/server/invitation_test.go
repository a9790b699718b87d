package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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

func (s *site) groups(name string) string {
	s.t.Helper()
	var groups string
	if err := s.raw.QueryRow("SELECT groups FROM users WHERE name = ?", name).Scan(&groups); err != nil {
		s.t.Fatal(err)
	}
	return groups
}

func TestInvitation(t *testing.T) {
	for _, policy := range []string{"open", "invite"} {
		t.Run(policy, func(t *testing.T) {
			s := newSite(t, "BIO_REGISTRATION="+policy)
			if closed := s.browser().get("/").auth.closed; closed != (policy == "invite") {
				t.Errorf("the plain page is closed: %t", closed)
			}
			target := "/?invite=" + s.invite(time.Time{}, "ops", "dev")
			b := s.browser()
			page := b.get(target)
			if page.auth.closed || page.auth.fields.Get("invite") == "" || !strings.Contains(page.body, "You are invited.") {
				t.Fatalf("the invited page: closed %t, fields %v", page.auth.closed, page.auth.fields)
			}
			d := s.device()
			p := b.press(page.auth, d.create(page.auth.options))
			if p.status != http.StatusOK || s.groups(p.account) != `["dev","ops"]` || p.here != "/" {
				t.Fatalf("%d, groups %s, here %q", p.status, s.groups(p.account), p.here)
			}
			// Used: no one else gets in by it, also from a page that was open.
			if again := s.browser().get(target); !strings.HasPrefix(again.notice, sayInvitation) || again.auth.fields.Get("invite") != "" {
				t.Errorf("used: %q", again.notice)
			}
			late := s.browser()
			f := late.get("/").auth
			f.fields = page.auth.fields
			if p := late.press(f, s.device().create(f.options)); p.status != http.StatusForbidden || !strings.HasPrefix(p.notice, sayInvitation) ||
				p.auth.fields.Get("invite") != "" {
				t.Errorf("from an open page: %d %q, invite %q", p.status, p.notice, p.auth.fields.Get("invite"))
			}
			if got := s.rows(); got["users"] != 1 || got["sessions"] != 1 {
				t.Errorf("rows %v", got)
			}
			// Who is known needs none.
			if p := s.browser().signIn(d); p.status != http.StatusOK {
				t.Errorf("the invited person: %d", p.status)
			}
		})
	}
}

func TestInvitationExpires(t *testing.T) {
	s := newSite(t, "BIO_REGISTRATION=invite")
	target := "/?invite=" + s.invite(epoch.Add(time.Minute))
	b := s.browser()
	f := b.get(target).auth
	s.clock.Advance(time.Minute)
	if p := b.press(f, s.device().create(f.options)); p.status != http.StatusForbidden || !strings.HasPrefix(p.notice, sayInvitation) {
		t.Errorf("%d %q", p.status, p.notice)
	}
	if p := s.browser().get(target); !strings.HasPrefix(p.notice, sayInvitation) {
		t.Errorf("the page: %q", p.notice)
	}
}

// An invitation that someone known presses through gives them its groups.
func TestInvitationOfKnown(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, registered := b.register()
	target := "/?invite=" + s.invite(time.Time{}, "ops")
	page := b.get(target)
	if page.auth == nil || !page.auth.known || !strings.Contains(page.body, "You are signed in as "+registered.account) {
		t.Fatalf("signed in, the invited page: %+v", page.auth)
	}
	if p := b.press(page.auth, d.get(page.auth.options)); p.status != http.StatusOK || p.account != registered.account {
		t.Fatalf("%d as %q", p.status, p.account)
	}
	if got := s.groups(registered.account); got != `["ops"]` {
		t.Errorf("groups %s", got)
	}
	if got := s.kinds(); got["invitation.used"] != 1 {
		t.Errorf("trail %v", got)
	}
	// One that is used does not keep a known person out.
	c := b.signedOut()
	f := c.get("/").auth
	f.fields.Set("invite", strings.TrimPrefix(target, "/?invite="))
	if p := c.press(f, d.get(f.options)); p.status != http.StatusOK {
		t.Errorf("a used one: %d", p.status)
	}
}

// The first owner's link works once, whatever the policy, under many hands.
func TestOwnerLink(t *testing.T) {
	for _, policy := range []string{"open", "invite", "closed"} {
		t.Run(policy, func(t *testing.T) {
			s := newSite(t, "BIO_REGISTRATION="+policy)
			link := must(server.FirstOwner(context.Background(), s.Server))
			if again := must(server.FirstOwner(context.Background(), s.Server)); again != link || s.kinds()["invitation.made"] != 1 {
				t.Errorf("a second start: %s, then %s", link, again)
			}
			target := strings.TrimPrefix(link, local)
			if page := s.browser().get(target); !strings.Contains(page.body, "becomes an owner") || page.auth.closed {
				t.Errorf("the owner's page: closed %t", page.auth.closed)
			}
			var presses []func() *page
			for range 100 {
				b, d := s.browser(), s.device()
				f := b.get(target).auth
				presses = append(presses, func() *page { return b.press(f, d.create(f.options)) })
			}
			var ok, refused atomic.Int32
			var wg sync.WaitGroup
			for _, press := range presses {
				wg.Go(func() {
					switch p := press(); p.status {
					case http.StatusOK:
						ok.Add(1)
					case http.StatusForbidden:
						refused.Add(1)
					default:
						t.Errorf("%d %q", p.status, p.notice)
					}
				})
			}
			wg.Wait()
			if ok.Load() != 1 || refused.Load() != 99 || s.rows()["users"] != 1 {
				t.Errorf("%d got in, %d refused, %d accounts", ok.Load(), refused.Load(), s.rows()["users"])
			}
			var name string
			if err := s.raw.QueryRow("SELECT name FROM users").Scan(&name); err != nil || s.groups(name) != `["owner"]` {
				t.Errorf("groups %s, %v", s.groups(name), err)
			}
			if got := must(server.FirstOwner(context.Background(), s.Server)); got != "" {
				t.Errorf("the next start prints %s", got)
			}
		})
	}
}

// A change of the root secret does not offer the installation once more.
func TestOwnerLinkAfterRotation(t *testing.T) {
	s := newSite(t)
	link := must(server.FirstOwner(context.Background(), s.Server))
	if p := s.browser().registerWith(s.device(), strings.TrimPrefix(link, local)); p.status != http.StatusOK {
		t.Fatal(p.status)
	}
	rotated := environment{like: s, secret: []byte("a new root secret of 32 bytes ok")}.site(t)
	if got := must(server.FirstOwner(context.Background(), rotated.Server)); got != "" {
		t.Errorf("a site that has its owner prints %s", got)
	}
}

// An invitation in the address is shown to nobody but its bearer.
func TestInvitationIsNotReflected(t *testing.T) {
	s := newSite(t)
	for _, invite := range []string{`"><script>alert(1)</script>`, "x", encode(make([]byte, 18))} {
		p := s.browser().get("/?invite=" + url.QueryEscape(invite))
		if strings.Contains(p.body, "<script>alert") || strings.Contains(p.body, invite) && len(invite) > 1 || p.auth.fields.Has("invite") {
			t.Errorf("%q is in the page", invite)
		}
	}
}

// Undoing an accidental duplicate.
func TestUndo(t *testing.T) {
	for _, tt := range []struct {
		name    string
		between func(s *site, old, new *browser, older *device, made *page)
		after   time.Duration
		removed bool
	}{
		{"at once", nil, 0, true},
		{"after some minutes", nil, 14 * time.Minute, true},
		{"too old", nil, 15*time.Minute + time.Second, false},
		{"the new one has a second passkey", func(s *site, _, _ *browser, _ *device, made *page) {
			_, err := s.raw.Exec(`INSERT INTO credentials (ref, id, user_id, user_handle, public_key, sign_count, flags, aaguid, transports,
attestation_type, attestation_format, name, created_at, last_used_at)
SELECT printf('%032x', 0), x'00', user_id, user_handle, public_key, 0, 29, aaguid, '[]', '', '', 'Passkey', credentials.created_at, last_used_at
FROM credentials JOIN users ON users.id = user_id WHERE users.name = ?`, made.account)
			if err != nil {
				s.t.Fatal(err)
			}
		}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			old := s.browser()
			d, older := old.register()
			b := s.browser()
			spare, made := b.register()
			stolen := b.clone()
			if tt.between != nil {
				tt.between(s, old, b, d, made)
			}
			undo := made.undo
			s.clock.Advance(tt.after)
			if tt.after >= 5*time.Minute { // the page renews itself
				undo = b.renewed(undo)
			}
			p := b.press(undo, d.get(undo.options))
			if p.status != http.StatusOK || p.account != older.account {
				t.Fatalf("%d as %q, want %q: %s", p.status, p.account, older.account, p.notice)
			}
			got := s.rows()
			if tt.removed {
				if got["users"] != 1 || got["credentials"] != 1 || got["sessions"] != 2 {
					t.Errorf("rows %v", got)
				}
				for _, part := range []string{"signalAllAcceptedCredentials", encode(spare.handle), `[]`} {
					if !strings.Contains(p.signals, part) {
						t.Errorf("signals %q without %q", p.signals, part)
					}
				}
				if !strings.Contains(p.notice, made.account) || s.kinds()["account.duplicate_undone"] != 1 {
					t.Errorf("notice %q, trail %v", p.notice, s.kinds())
				}
				if p := s.browser().signIn(spare); p.status != http.StatusUnauthorized {
					t.Errorf("the removed passkey: %d", p.status)
				}
			} else if got["users"] != 2 || p.signals != "" || s.kinds()["account.duplicate_undone"] != 0 {
				t.Errorf("rows %v, signals %q", got, p.signals)
			} else if p := s.browser().signIn(spare); p.account != made.account {
				t.Errorf("the kept passkey: %d as %q", p.status, p.account)
			}
			if p := stolen.get("/"); p.account != "" {
				t.Errorf("the new account's session lives on, as %q", p.account)
			}
			old.checkSignedIn(older.account)
		})
	}
}

// renewed is the form with fresh options from its own address.
func (b *browser) renewed(f *form) *form {
	b.t.Helper()
	fresh := *f
	fresh.options = b.ceremony("/ceremony?for=undo")
	return &fresh
}

// An account with a group is not empty: no other passkey removes it, or gets the group.
func TestUndoKeepsGroups(t *testing.T) {
	s := newSite(t)
	d, older := s.browser().register()
	b := s.browser()
	if p := b.registerWith(s.device(), "/?invite="+s.invite(time.Time{}, "ops")); p.undo != nil {
		t.Error("an account with a group is offered to be undone")
	}
	b = s.browser()
	_, made := b.register()
	if _, err := s.raw.Exec(`UPDATE users SET groups = '["ops"]' WHERE name = ?`, made.account); err != nil {
		t.Fatal(err)
	}
	if p := b.press(made.undo, d.get(made.undo.options)); p.account != older.account {
		t.Fatalf("%d as %q", p.status, p.account)
	}
	if s.groups(older.account) != "[]" || s.groups(made.account) != `["ops"]` {
		t.Errorf("groups %s and %s", s.groups(older.account), s.groups(made.account))
	}
}

// An invitation that would make more groups than one may have is refused, and stays.
func TestInvitationToTooManyGroups(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	var has []string
	for i := range account.MaxGroups {
		has = append(has, fmt.Sprintf("group-%02d", i))
	}
	if _, err := s.db.SetGroups(t.Context(), made.account, has, false, audit.Entry{Kind: audit.GroupsSet}); err != nil {
		t.Fatal(err)
	}
	link := "/?invite=" + s.invite(time.Time{}, "ops")
	before, token := s.contents(), b.cookies["bio"]
	f := b.button(link)
	p := b.press(f, d.get(f.options))
	if p.status != http.StatusForbidden || !strings.HasPrefix(p.notice, sayInvitation) || b.cookies["bio"] != token {
		t.Errorf("%d %q", p.status, p.notice)
	}
	if diff := cmp.Diff(before, s.contents()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if p := s.browser().registerWith(s.device(), link); s.groups(p.account) != `["ops"]` {
		t.Errorf("then someone else: %d, groups %s", p.status, s.groups(p.account))
	}
}

// An undo asked for by a session that has just ended elsewhere, where this
// server still remembers it, is a person who is signed out.
func TestUndoAfterSignOutElsewhere(t *testing.T) {
	here := newSite(t)
	there := environment{like: here}.site(t)
	d, _ := here.browser().register()
	b := here.browser()
	_, made := b.register()
	c := there.browser()
	c.cookies = b.clone().cookies
	c.checkSignedIn(made.account)
	if p := b.post("/sign-out", nil); p.status != http.StatusSeeOther {
		t.Fatal(p.status)
	}
	p := c.press(made.undo, d.get(made.undo.options))
	if p.status != http.StatusUnauthorized || p.account != "" || p.auth == nil {
		t.Errorf("%d as %q, button %t", p.status, p.account, p.auth != nil)
	}
	p.keptCookie(t, "the undo")
	if n := here.rows()["users"]; n != 2 {
		t.Errorf("%d accounts, want both", n)
	}
}

// An owner's link of an earlier root secret, which was not used, is replaced.
func TestOwnerLinkReplaced(t *testing.T) {
	closed := []string{"BIO_REGISTRATION=closed"}
	s := environment{settings: closed}.site(t)
	old := strings.TrimPrefix(must(server.FirstOwner(context.Background(), s.Server)), local)
	rotated := environment{like: s, settings: closed, secret: []byte("a new root secret of 32 bytes ok")}.site(t)
	link := strings.TrimPrefix(must(server.FirstOwner(context.Background(), rotated.Server)), local)
	if f := rotated.browser().get(old).auth; f.fields.Has("invite") {
		t.Error("the old link works")
	}
	if p := rotated.browser().registerWith(rotated.device(), link); p.status != http.StatusOK || rotated.groups(p.account) != `["owner"]` {
		t.Errorf("the new link: %d", p.status)
	}
}

// Where nobody new may come in, an ordinary invitation is for those who are in.
func TestInvitationWhereClosed(t *testing.T) {
	s := newSite(t, "BIO_REGISTRATION=closed")
	p := s.browser().get("/?invite=" + s.invite(time.Time{}, "ops"))
	if !strings.Contains(p.body, "for someone who has an account here") {
		t.Error("a stranger is not told whom the invitation is for")
	}
}

// Pressing the undo with the new passkey itself changes nothing.
func TestUndoWithItself(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	d, made := b.register()
	p := b.press(made.undo, d.get(made.undo.options))
	if p.status != http.StatusOK || p.account != made.account || s.rows()["users"] != 1 {
		t.Errorf("%d as %q, %d accounts", p.status, p.account, s.rows()["users"])
	}
}

// A refused undo leaves both accounts and the way back.
func TestUndoRefused(t *testing.T) {
	s := newSite(t)
	d, _ := s.browser().register()
	b := s.browser()
	_, made := b.register()
	for name, tt := range map[string]struct {
		press  func(f *form) string
		status int
	}{
		"unknown passkey": {func(f *form) string {
			d := s.device()
			d.handle = []byte("x")
			return d.get(f.options)
		}, 401},
		"bad signature": {func(f *form) string { return flipped(d, f.options, "signature", 99) }, 401},
		"malformed":     {func(f *form) string { return "{" }, 400},
		"nothing":       {func(f *form) string { return "" }, 400},
		"a challenge for signing in": {func(f *form) string {
			c := b.clone()
			delete(c.cookies, "bio")
			return d.get(c.get("/").auth.options)
		}, 409},
	} {
		p := b.press(made.undo, tt.press(made.undo))
		if p.status != tt.status || p.account != made.account || p.undo == nil || p.notice == "" {
			t.Errorf("%s: %d as %q, %q", name, p.status, p.account, p.notice)
		}
	}
	if got := s.rows(); got["users"] != 2 || got["sessions"] != 2 {
		t.Errorf("rows %v", got)
	}
	b.checkSignedIn(made.account)
}

// A challenge for the undo does not sign in, and one for signing in does not undo.
func TestPurposes(t *testing.T) {
	s := newSite(t)
	d, _ := s.browser().register()
	b := s.browser()
	_, made := b.register()

	c := b.signedOut()
	signIn := c.get("/").auth
	if p := c.press(signIn, d.get(made.undo.options)); p.status != http.StatusConflict || p.account != "" {
		t.Errorf("an undo's challenge signs in: %d as %q", p.status, p.account)
	}
	if p := c.press(made.undo, d.get(made.undo.options)); p.status != http.StatusConflict || p.account != "" {
		t.Errorf("an undo without a session: %d as %q", p.status, p.account)
	}
	if p := b.press(made.undo, d.get(signIn.options)); p.status != http.StatusConflict {
		t.Errorf("a sign-in's challenge undoes: %d", p.status)
	}
	// Another account's undo.
	other := s.browser()
	other.cookies["bio-pre"] = b.cookies["bio-pre"]
	_, others := other.register()
	if p := b.press(others.undo, d.get(others.undo.options)); p.status != http.StatusConflict {
		t.Errorf("another account's undo: %d", p.status)
	}
	if n := s.rows()["users"]; n != 3 {
		t.Errorf("%d accounts", n)
	}
}

// Signing in to B while A is signed in, without the undo, never touches A.
func TestSwitchKeepsBoth(t *testing.T) {
	s := newSite(t)
	d, older := s.browser().register()
	b := s.browser()
	spare, made := b.register()
	f := b.signedOut().get("/").auth
	if p := b.press(f, d.get(f.options)); p.account != older.account || p.signals != "" {
		t.Errorf("%d as %q", p.status, p.account)
	}
	if p := s.browser().signIn(spare); p.account != made.account {
		t.Errorf("the other account: %d as %q", p.status, p.account)
	}
	if n := s.rows()["users"]; n != 2 {
		t.Errorf("%d accounts", n)
	}
}

// A sign-in that meets the removal of its account is refused or came first; it is
// never an error.
func TestUndoMeetsSignIn(t *testing.T) {
	s := newSite(t)
	d, _ := s.browser().register()
	var wrong atomic.Int32
	for range 20 {
		b := s.browser()
		spare, made := b.register()
		var wg sync.WaitGroup
		for range 8 {
			c := s.browser()
			f := c.get("/").auth
			credential := spare.get(f.options)
			wg.Go(func() {
				if p := c.press(f, credential); p.status != http.StatusOK && p.status != http.StatusUnauthorized {
					wrong.Store(int32(p.status))
				}
			})
		}
		credential := d.get(made.undo.options)
		wg.Go(func() { b.press(made.undo, credential) })
		wg.Wait()
	}
	if status := wrong.Load(); status != 0 {
		t.Errorf("a sign-in was answered with %d", status)
	}
}
