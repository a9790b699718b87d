package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bio/app/account"
	"bio/app/audit"
	"bio/app/server"
	"bio/app/store"
)

// forms are the ways in which a value may be written down, by their names. Those
// of base64 hold for any place of the value in a longer one.
func forms(value []byte) map[string][]byte {
	numbers := strings.Trim(fmt.Sprint(value), "[]")
	all := map[string][]byte{
		"as it is": value, "in hex": []byte(hex.EncodeToString(value)), "in HEX": []byte(strings.ToUpper(hex.EncodeToString(value))),
		"as a number": []byte(new(big.Int).SetBytes(value).String()),
		"as numbers":  []byte(numbers), "as a list": []byte(strings.ReplaceAll(numbers, " ", ",")), "as a spaced list": []byte(strings.ReplaceAll(numbers, " ", ", ")),
		"in hex pairs": bytes.TrimSuffix([]byte(strings.ToLower(fmt.Sprintf("% x", value))), []byte(" ")),
		"in a URL":     []byte(url.QueryEscape(string(value))), "as JSON": bytes.Trim(must(json.Marshal(string(value))), `"`),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		all["in "+name], all["in "+name+", padded"] = []byte(encoding.EncodeToString(value)), []byte(encoding.WithPadding('=').EncodeToString(value))
		for shift := range 3 {
			// Digits that hold bits of the neighbours are left off.
			text := encoding.EncodeToString(slices.Concat(make([]byte, shift), value, make([]byte, 3)))
			text = text[(8*shift+5)/6 : 8*(shift+len(value))/6]
			if len(text) >= 8 { // shorter, chance would find it
				all[fmt.Sprintf("in %s after %d", name, shift)] = []byte(text)
			}
		}
	}
	return all
}

// traces says how the value stands in text, or "".
func traces(text, value []byte) string {
	for name, form := range forms(value) {
		if bytes.Contains(text, form) {
			return name
		}
	}
	return ""
}

// Without this, the test below could be blind.
func TestTraces(t *testing.T) {
	value := []byte("\x01?>secret \xff value\x00")
	noise := bytes.Repeat([]byte("noise "), 100)
	for name, form := range forms(value) {
		if got := traces(slices.Concat(noise, form, noise), value); got == "" {
			t.Errorf("%s: not found", name)
		}
	}
	for before := range 7 {
		for after := range 7 {
			longer := slices.Concat(noise[:before], value, noise[:after])
			for _, text := range []string{
				base64.StdEncoding.EncodeToString(longer), base64.RawURLEncoding.EncodeToString(longer), hex.EncodeToString(longer), fmt.Sprint(longer), string(longer),
			} {
				if traces([]byte(text), value) == "" {
					t.Errorf("%d before and %d after: not found in %q", before, after, text)
				}
			}
		}
	}
	if got := traces(noise, value); got != "" {
		t.Errorf("found in noise %s", got)
	}
}

// witness knows the raw values that go through a site.
type witness struct {
	*site
	values map[string][]byte // what must not be in the trail, its exports and the log
	never  map[string][]byte // of them, what must not be in the database file either
}

func (w *witness) saw(what string, value []byte, never bool) {
	name := fmt.Sprintf("%s %d", what, len(w.values))
	w.values[name] = value
	if never {
		w.never[name] = value
	}
}

// from sees the address of a client, in all its spellings.
func (w *witness) from(address string) {
	addr := netip.MustParseAddrPort(address)
	raw := addr.Addr().AsSlice()
	w.saw("address", raw, true)
	w.saw("address as text", []byte(addr.Addr().String()), true)
	w.saw("address with its port", []byte(address), true)
	w.saw("address in full", []byte(addr.Addr().StringExpanded()), true)
	if len(raw) == 4 {
		w.saw("address with zeros", fmt.Appendf(nil, "%03d.%03d.%03d.%03d", raw[0], raw[1], raw[2], raw[3]), true)
		w.saw("address as a number", fmt.Append(nil, binary.BigEndian.Uint32(raw)), true)
	}
}

// keep sees the cookies that a browser has.
func (w *witness) keep(b *browser) {
	for name, value := range b.cookies {
		if len(value) < 10 {
			continue // "1"
		}
		w.saw(name, []byte(value), true)
		parts := strings.Split(value, ".")
		if len(parts) != 3 {
			w.saw(name+" decoded", must(base64.RawURLEncoding.DecodeString(value)), true)
			continue
		}
		w.saw(name+"'s signature", must(base64.RawURLEncoding.DecodeString(parts[2])), true)
		var claims struct{ SID string }
		if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(parts[1])), &claims); err != nil || claims.SID == "" {
			w.t.Fatalf("cookie %s: %v", value, err)
		}
		w.saw("session id", []byte(claims.SID), false)
		w.saw("session id decoded", must(base64.RawURLEncoding.DecodeString(claims.SID)), false)
	}
}

// press presses and sees everything that goes over the wire.
func (w *witness) press(b *browser, f *form, credential string) *page {
	w.t.Helper()
	w.keep(b)
	for _, o := range []string{f.options.Get.Challenge, f.options.Create.User.ID} {
		if raw, err := base64.RawURLEncoding.DecodeString(o); err == nil && o != "" { // a form may have options of one ceremony alone
			w.saw("challenge or offered handle", raw, false)
		}
	}
	var read struct {
		RawID    string
		Response struct{ Signature, UserHandle string }
	}
	if json.Unmarshal([]byte(credential), &read) == nil {
		for name, text := range map[string]string{"credential id": read.RawID, "signature": read.Response.Signature, "user handle": read.Response.UserHandle} {
			if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(raw) >= 12 && !bytes.Equal(raw, make([]byte, len(raw))) {
				w.saw(name, raw, name == "signature")
			}
		}
	}
	p := b.press(f, credential)
	w.keep(b)
	return p
}

// made sees what a device keeps.
func (w *witness) made(d *device) *device {
	w.saw("credential id", d.ID, false)
	key := d.Key.AttestationData()
	w.saw("public key", key, false)
	w.saw("public key's x", key[10:42], false)
	w.saw("public key's y", key[45:77], false)
	return d
}

// tables are all that the four tables of the trail hold.
func (w *witness) tables() []byte {
	w.t.Helper()
	var all bytes.Buffer
	for _, table := range []string{"trail_leaves", "trail_payloads", "trail_keys", "trail_checkpoints"} {
		rows, err := w.raw.Query("SELECT * FROM " + table)
		if err != nil {
			w.t.Fatal(err)
		}
		columns := make([]any, len(must(rows.Columns())))
		for i := range columns {
			columns[i] = new([]byte)
		}
		for rows.Next() {
			if err := rows.Scan(columns...); err != nil {
				w.t.Fatal(err)
			}
			for _, c := range columns {
				all.Write(*c.(*[]byte))
				all.WriteByte('\n')
			}
		}
		if err := rows.Err(); err != nil {
			w.t.Fatal(err)
		}
		rows.Close()
	}
	return all.Bytes()
}

// files are the bytes of the database and its WAL.
func (w *witness) files() []byte {
	w.t.Helper()
	wal, err := os.ReadFile(w.path + "-wal")
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return append(must(os.ReadFile(w.path)), wal...)
}

func (w *witness) export() []byte {
	w.t.Helper()
	var out bytes.Buffer
	if _, err := server.ExportTrail(w.t.Context(), w.settings, server.Export{}, &out, quietly); err != nil {
		w.t.Fatal(err)
	}
	return out.Bytes()
}

// check looks for every value wherever it must not be.
func (w *witness) check(when string) {
	w.t.Helper()
	export := w.export()
	places := map[string][]byte{"the trail's tables": w.tables(), "the export": export, "the log": []byte(w.log.String())}
	for _, name := range slices.Sorted(maps.Keys(w.values)) {
		for place, text := range places {
			if how := traces(text, w.values[name]); how != "" {
				w.t.Errorf("%s: the %s is in %s %s", when, name, place, how)
			}
		}
	}
	file := w.files()
	for _, name := range slices.Sorted(maps.Keys(w.never)) {
		if how := traces(file, w.never[name]); how != "" {
			w.t.Errorf("%s: the %s is in the database file %s", when, name, how)
		}
	}
}

// Nothing raw is kept of what goes through any event: neither in the trail, nor
// in an export, nor in the log; and of addresses, browsers, cookies and signatures
// nowhere in the database's bytes.
func TestPrivacy(t *testing.T) {
	const secretive = "Mozilla/5.0 (X11; Linux x86_64; secretive-build-7a1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.7123.45 Safari/537.36"
	w := &witness{newSite(t, "BIO_URL="+public, "BIO_SESSION_IDLE=2h", "BIO_SESSION_MAX=5h", "BIO_RECOVERY_DELAY=1s"), map[string][]byte{}, map[string][]byte{}}
	w.saw("root secret", secret, true)
	w.saw("user agent", []byte(secretive), true)
	w.saw("user agent's version", []byte("156.0.7123.45"), true)
	w.saw("user agent's build", []byte("secretive-build-7a1"), true)
	visitor := func(address string) *browser {
		b := w.browser()
		b.addr, b.agent = address, secretive
		w.from(address)
		return b
	}
	const four, six = "203.0.113.77:50123", "[2001:db8:1:2:3:4:5:6]:50124"
	register := func(b *browser, d *device, target string) *page {
		t.Helper()
		f := b.button(target)
		p := w.press(b, f, w.made(d).create(f.options))
		w.saw("user handle", d.handle, false)
		if p.account == "" {
			t.Fatalf("%d %s", p.status, p.notice)
		}
		return p
	}
	signIn := func(b *browser, d *device) *page {
		t.Helper()
		f := b.signedOut().button("/")
		return w.press(b, f, d.get(f.options))
	}

	// A start, an owner, someone who is invited.
	if err := server.Started(t.Context(), w.Server); err != nil {
		t.Fatal(err)
	}
	link := must(server.FirstOwner(t.Context(), w.Server))
	guest := must(server.Invite(t.Context(), w.settings, []string{"ops"}, time.Hour))
	for _, link := range []string{link, guest} {
		_, token, _ := strings.Cut(link, "=")
		w.saw("invitation", []byte(token), true)
		w.saw("invitation decoded", must(base64.RawURLEncoding.DecodeString(token)), true)
	}
	owner, d := visitor(four), w.device()
	register(owner, d, strings.TrimPrefix(link, public))
	invited, spare := visitor(six), w.device()
	register(invited, spare, strings.TrimPrefix(guest, public))

	// What is noticed: a counter, a passkey that can now be synced.
	d.Counter = 9
	signIn(owner, d)
	signIn(owner, d) // the counter stands still; and the session before is replaced
	key := w.device()
	key.flags = bound
	bearer := visitor("[2001:db8:99::1]:7")
	register(bearer, key, "/")
	key.flags = synced
	signIn(bearer, key)
	key.flags = bound
	signIn(bearer, key) // refused

	// Every refusal, twice: the second is folded.
	for i, address := range []string{"198.51.100.200:1024", "[2001:db8:77:66:55:44:33:22]:1025"} {
		b := visitor(address)
		refuse := func(credential func(o options) string) {
			t.Helper()
			f := b.button("/")
			if p := w.press(b, f, credential(f.options)); p.status/100 != 4 {
				t.Errorf("answered %d", p.status)
			}
		}
		for _, tt := range matrix {
			refuse(func(o options) string { return d.get(o, tt.by) })
			refuse(func(o options) string { return w.made(w.device()).create(o, tt.by) })
		}
		for _, tt := range matrixGet {
			refuse(func(o options) string { return d.get(o, tt.by) })
		}
		for name, tt := range matrixCreate {
			if !strings.Contains(name, "byte") { // an id of one byte is everywhere
				refuse(func(o options) string {
					d := w.made(w.device())
					return d.create(o, func(f *draft) { tt.by(d, f) })
				})
			}
		}
		refuse(func(options) string { return "" })
		refuse(func(options) string { return "{" })
		refuse(func(o options) string { d := w.made(w.device()); d.handle = make([]byte, 32); return d.get(o) })
		refuse(func(o options) string { return flipped(d, o, "signature", 70+i) })
		refuse(func(o options) string { thief := w.device(); thief.ID = d.ID; return thief.create(o) }) // registered already
		late := b.button("/")
		w.clock.Advance(6 * time.Minute)
		w.press(b, late, d.get(late.options))
		used := b.button("/")
		d.Counter++
		credential := d.get(used.options)
		w.press(b.clone(), used, credential)
		w.press(b, used, credential)
		closed := environment{like: w.site, settings: []string{"BIO_URL=" + public, "BIO_REGISTRATION=closed"}}.site(t)
		c := closed.browser()
		c.addr, c.agent = address, secretive
		f := c.button("/")
		w.press(c, f, w.made(w.device()).create(f.options))
		b.send(b.request("POST", "/", strings.NewReader("credential="+strings.Repeat("x", 70_000))))
	}

	// Passkeys that are added, renamed and removed, with what they opened; and the
	// refusals on the way.
	const first, second = "Nadia's secret laptop", "Nadia's other secret"
	w.saw("passkey's name", []byte(first), false)
	w.saw("passkey's other name", []byte(second), false)
	bearing := visitor("198.51.100.33:2048")
	key.flags = synced
	finish := func(b *browser, target string, o options, credential string) *page {
		t.Helper()
		w.keep(b)
		w.saw("challenge", must(base64.RawURLEncoding.DecodeString(o.Create.Challenge+o.Get.Challenge)), false)
		p := b.call("POST", target, credential)
		w.keep(b)
		return p
	}
	enter := func(b *browser, d *device) {
		t.Helper()
		o := b.begin(signInBegin, "{}").options
		o.Create.Challenge = ""
		if p := finish(b, signInFinish, o, d.get(o)); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.body)
		}
	}
	begin := func(name string) options {
		t.Helper()
		o := bearing.begin(registerBegin, `{"name":`+string(must(json.Marshal(name)))+`}`).options
		o.Get.Challenge = ""
		return o
	}
	enter(bearing, key)
	lost := w.made(w.device())
	o := begin(first)
	if p := finish(bearing, registerFinish, o, lost.create(o)); p.status != 200 {
		t.Fatalf("%d %s", p.status, p.body)
	}
	o = begin(second)
	finish(bearing, registerFinish, o, w.made(w.device()).create(o, func(f *draft) { f.client["origin"] = "https://evil.example" }))
	thief := visitor("[2001:db8:42::9]:99")
	enter(thief, lost)
	if p := bearing.call("PATCH", passkeyAt(lost), `{"name":"`+second+`"}`); p.status != 200 {
		t.Fatalf("%d %s", p.status, p.body)
	}
	thief.call("PATCH", passkeyAt(d), `{"name":"x"}`) // someone else's
	bearing.call("PATCH", passkeyAt(lost), `{"name":"`+first+`\n"}`+"{")
	if p := bearing.call("DELETE", passkeyAt(lost), ""); p.status != 204 {
		t.Fatalf("%d %s", p.status, p.body)
	}
	thief.call("GET", "/auth/session", "")
	thief.call("DELETE", passkeyAt(key), "")
	enter(bearing, key)

	// What is done on the account's page, and by an operator; and a recovery, cancelled
	// and completed. Names of accounts are in the trail, as long as there is an account.
	act := func(b *browser, d *device, f *form) *page {
		t.Helper()
		d.Counter++
		p := w.press(b, f, d.get(f.options))
		if p.status != 200 {
			t.Errorf("%s: %d %s", f.action, p.status, p.notice)
		}
		if _, token, made := strings.Cut(p.link, "="); made {
			w.saw("token of a link", []byte(token), true)
			w.saw("token of a link, decoded", must(base64.RawURLEncoding.DecodeString(token)), true)
		}
		return p
	}
	nadia, old := visitor("[2001:db8:31:1::7]:77"), w.device()
	was := register(nadia, old, "/").account
	act(nadia, old, nadia.asks(renameAccount, "name", "Nadia"))
	act(owner, d, owner.asks(makeInvitation, "groups", "ops", "days", "3"))
	recovering := func() (*browser, *device) {
		t.Helper()
		p := act(owner, d, owner.asks(makeRecovery, "account", "nadia"))
		b, found := visitor("192.0.2.200:2000"), w.made(w.device())
		f := b.button(strings.TrimPrefix(p.link, public))
		if p := w.press(b, f, found.create(f.options)); p.status != 200 {
			t.Errorf("%d %s", p.status, p.notice)
		}
		return b, found
	}
	finder, found := recovering()
	if p := signIn(finder, found); p.status != 403 {
		t.Errorf("too early: %d", p.status)
	}
	act(nadia, old, nadia.asks(cancelRecovery))
	finder, found = recovering()
	w.clock.Advance(time.Second)
	if p := signIn(finder, found); p.account != "Nadia" {
		t.Errorf("recovered: %d as %q, was %q", p.status, p.account, was)
	}
	if _, _, err := w.db.DisableUser(t.Context(), "Nadia", false, audit.Entry{Kind: audit.Disabled}); err != nil {
		t.Fatal(err)
	}
	signIn(finder, found)
	if _, err := w.db.EnableUser(t.Context(), "Nadia", audit.Entry{Kind: audit.Enabled}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.SetGroups(t.Context(), "Nadia", []string{"dev"}, false, audit.Entry{Kind: audit.GroupsSet}); err != nil {
		t.Fatal(err)
	}

	// Someone who made a second account by accident, and undoes it.
	accident, extra := visitor("192.0.2.55:4711"), w.device()
	made := register(accident, extra, "/")
	d.Counter++
	if p := w.press(accident, made.undo, d.get(made.undo.options)); !strings.Contains(p.notice, "is gone") {
		t.Errorf("not undone: %s", p.notice)
	}

	// Runs, pages, the ends of sessions.
	owner.post("/run", nil)
	for _, b := range []*browser{owner, invited, accident} {
		for _, target := range []string{"/", "/account", "/account?before=9", "/audit/checkpoint", "/audit/key", "/audit/proof?index=3", "/audit/tile/0/000.p/9", "/nowhere?token=x"} {
			b.get(target)
		}
	}
	accident.post("/sign-out", nil)
	w.clock.Advance(90 * time.Minute)
	invited.get("/") // keeps it from idling
	w.clock.Advance(time.Hour)
	expire := func() {
		t.Helper()
		if _, err := w.db.ExpireSessions(t.Context(), w.settings.SessionIdle); err != nil {
			t.Fatal(err)
		}
	}
	expire() // the others
	for range 3 {
		invited.get("/")
		w.clock.Advance(time.Hour)
	}
	expire() // at its cap
	if err := server.CloseRuns(t.Context(), w.Server); err != nil {
		t.Fatal(err)
	}
	server.Settle(t.Context(), w.Server, true)
	w.check("before the erasure")
	expired := map[string]int{}
	for _, r := range w.trail() {
		if r.Kind == audit.SessionExpired {
			expired[r.Reason]++
		}
	}
	if expired["idle"] == 0 || expired["cap"] == 0 {
		t.Errorf("sessions expired: %v", expired)
	}

	// What is kept in their place is there.
	trail := string(w.tables())
	for _, kept := range []string{"203.0.113.0/24", "2001:db8:1::/48", "Chrome", "Linux", account.CredentialRef(d.ID), account.CredentialRef(spare.ID)} {
		if !strings.Contains(trail, kept) {
			t.Errorf("%s is not in the trail", kept)
		}
	}

	// An erasure, and a log that is reopened.
	if _, _, err := server.EraseUser(t.Context(), w.settings, store.Erasure{Name: made.account}); err == nil {
		t.Error("the accident was not undone")
	}
	var name string
	if err := w.raw.QueryRow("SELECT name FROM users WHERE id = ?", account.UserID(spare.handle)).Scan(&name); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.EraseUser(t.Context(), w.settings, store.Erasure{Name: name, LastOwner: true}); err != nil {
		t.Fatal(err)
	}
	foreign := newSite(t, "BIO_URL="+public)
	foreign.grow(3)
	foreign.browser().get("/audit/checkpoint")
	if err := os.WriteFile(w.published(), must(os.ReadFile(foreign.published())), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReopenTrail(t.Context(), w.settings); err != nil {
		t.Fatal(err)
	}
	w.check("after the erasure")

	// Every kind that this version can make was made.
	kinds := w.kinds()
	for _, event := range audit.Events() {
		if kinds[event.Kind] == 0 {
			t.Errorf("none of %s", event.Kind)
		}
	}

	// The id of a passkey stands once, in its own row; of one who was erased nowhere.
	w.checkTrail()
	w.raw.Close()
	if err := w.db.Close(); err != nil { // folds the WAL into the database
		t.Fatal(err)
	}
	file := w.files()
	for _, one := range []struct {
		name string
		*device
		want int
	}{{"the owner's", d, 1}, {"the bearer's", key, 1}, {"the erased person's", spare, 0}, {"the undone account's", extra, 0}, {"the removed", lost, 0}} {
		if n := bytes.Count(file, one.ID); n != one.want {
			t.Errorf("%s credential id stands %d times in the database", one.name, n)
		}
		for how, form := range forms(one.ID) {
			if how != "as it is" && bytes.Contains(file, form) {
				t.Errorf("%s credential id stands in the database %s", one.name, how)
			}
		}
	}
	for what, value := range map[string][]byte{"handle": spare.handle, "public key": spare.Key.AttestationData()[10:42], "id": []byte(account.UserID(spare.handle)), "name": []byte(name)} {
		if how := traces(file, value); how != "" {
			t.Errorf("the erased person's %s is in the database %s", what, how)
		}
	}
}
