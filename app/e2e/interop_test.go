package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
)

// fromNPM returns the path of a file that make setup brings from npm. A machine
// without it skips the test; a CI machine must have it.
func fromNPM(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("../../.cache/node_modules", name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		why := fmt.Sprintf("%s is not here: run make setup", name)
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	} else if err != nil {
		t.Fatal(err)
	}
	return path
}

// A Node program with an authenticator in software registers, signs in, adds and
// removes, and is refused with what it has changed.
func TestInteropEmulator(t *testing.T) {
	fromNPM(t, "nid-webauthn-emulator/package.json")
	node := find(t, "BIO_NODE", "node", "nodejs")
	const script = "testdata/interop/emulator.mjs"
	if _, err := os.Stat(script); err != nil { // also tells go test's cache of it
		t.Fatal(err)
	}
	s := serve(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, node, script, s.url).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if users, left := s.users(), s.count("SELECT count(*) FROM credentials"); users != 1 || left != 1 {
		t.Errorf("there are %d accounts with %d passkeys, want one with one", users, left)
	}
}

// A page that uses SimpleWebAuthn as its documentation has it, with Bio as the
// server: nothing in between but the member publicKey of the options.
func TestInteropSimpleWebAuthn(t *testing.T) {
	bundle, err := os.ReadFile(fromNPM(t, "@simplewebauthn/browser/dist/bundle/index.umd.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, nil).browse(t)
	p.open("/")
	p.run(string(bundle))
	p.run(client)
	want := func(expression, outcome string) {
		t.Helper()
		if got := await[string](p, expression); got != outcome {
			t.Fatalf("%s: %s, want %s", expression, got, outcome)
		}
	}

	want("register({name: 'Laptop'})", "200")
	want("call('GET', 'session')", "200")
	want("call('POST', 'sign-out')", "204")
	want("call('GET', 'session')", "401 signed_out")

	want("signIn()", "200")
	want("mediation", "undefined")
	want("call('GET', 'session')", "200")
	want("call('POST', 'sign-out')", "204")

	want("autofill()", "200")
	want("mediation", "conditional")
	want("call('GET', 'session')", "200")
	want("call('POST', 'sign-out')", "204")
	p.wantCeremonies("create", "get", "get")

	// Nobody picks the passkey in the field; a press on a button takes over.
	laptop := p.authenticator
	laptop.present(false)
	p.run("void (self.waiting = autofill())")
	p.eventually("the browser waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.ceremonies) == 1
	})
	laptop.present(true)
	want("signIn()", "200")
	want("waiting", "ERROR_CEREMONY_ABORTED")

	want("register({name: 'Again'})", "ERROR_AUTHENTICATOR_PREVIOUSLY_REGISTERED")
	key := newSecurityKey(p)
	laptop.present(false)
	want("register({name: 'Key'})", "200")
	want("names()", "Laptop, Key")
	want("signIn()", "200")
	want("rename('Key', 'Blue key')", "200")
	want("names()", "Laptop, Blue key")

	// Removing a passkey ends the sessions that it opened, so not with itself.
	key.present(false)
	laptop.present(true)
	want("signIn()", "200")
	want("remove('Blue key')", "204")
	want("names()", "Laptop")
	want("remove('Laptop')", "409 last_passkey")

	key.present(true)
	laptop.present(false)
	want("call('POST', 'sign-out')", "204")
	want("signIn()", "401 unknown_passkey")
	want("signal()", "signalUnknownCredential")
	key.wantPasskeys(0)
	want("call('GET', 'session')", "401 signed_out")

	laptop.present(true)
	key.present(false)
	want("autofill()", "200")
	want("names()", "Laptop")
	p.wantUsers(1)
}

// client says of each act what came of it: the status with the problem's code, or
// the code of SimpleWebAuthn's error.
const client = `
self.instead.get = (options, native) => {
	self.mediation = String(options.mediation)
	return native(options)
}
document.body.append(Object.assign(document.createElement('input'), {
	id: 'user', autocomplete: 'username webauthn', ariaLabel: 'Name',
}))
self.call = async (method, path, body) => {
	const reply = await fetch('/auth/' + path, {
		method, headers: body && {'Content-Type': 'application/json'}, body: body && JSON.stringify(body),
	})
	const text = await reply.text()
	self.answer = text && JSON.parse(text)
	return reply.status + (answer.code ? ' ' + answer.code : '')
}
self.perform = async (name, body, start) => {
	const begun = await call('POST', 'webauthn/' + name + '/begin', body)
	if (begun != '200') return begun
	try {
		return await call('POST', 'webauthn/' + name + '/finish', await start(answer.publicKey))
	} catch (e) {
		return e.code ?? String(e)
	}
}
self.register = body => perform('register', body, optionsJSON => SimpleWebAuthnBrowser.startRegistration({optionsJSON}))
self.signIn = how => perform('sign-in', {}, optionsJSON => SimpleWebAuthnBrowser.startAuthentication({optionsJSON, ...how}))
self.autofill = () => signIn({useBrowserAutofill: true})
self.list = async () => {
	await call('GET', 'webauthn/credentials')
	return answer
}
self.names = async () => (await list()).map(one => one.name).join(', ')
self.one = async name => 'webauthn/credentials/' + (await list()).find(one => one.name == name).id
self.rename = async (name, to) => call('PATCH', await one(name), {name: to})
self.remove = async name => call('DELETE', await one(name))
self.signal = async () => {
	const [[method, {rpId, credentialId}]] = answer.signals
	await SimpleWebAuthnBrowser.sendSignal({signalName: 'unknownCredential', rpID: rpId, credentialID: credentialId})
	return method
}`

// newSecurityKey is a further authenticator of the tab, which keeps its passkeys to
// itself.
func newSecurityKey(p *tab) *authenticator {
	p.t.Helper()
	added := call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21,
			Transport: webauthn.AuthenticatorTransportUsb, HasResidentKey: true, HasUserVerification: true,
			IsUserVerified: true, AutomaticPresenceSimulation: true,
		},
	})
	return &authenticator{p, added.AuthenticatorID}
}

// present sets whether the person is in front of this authenticator: the others
// of a tab are asked as well, and the first to answer is heard.
func (a *authenticator) present(there bool) {
	a.p.t.Helper()
	call(a.p, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: there})
}
