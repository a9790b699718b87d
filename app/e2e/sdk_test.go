package e2e

import (
	"strings"
	"testing"
)

// The SDK and the real API: what a page of one's own does with them, and the page
// of Bio that knows the account afterwards.
func TestSDK(t *testing.T) {
	p := serve(t, nil).browse(t)
	p.open("/")
	call := func(expression string) string {
		t.Helper()
		return await[string](p, `import('/assets/bio.js').then(async ({passkey, PasskeyError}) => {
			try {
				return JSON.stringify(await (`+expression+`)) ?? 'nothing'
			} catch (e) {
				return e instanceof PasskeyError ? e.code : String(e)
			}
		})`)
	}
	want := func(expression string, parts ...string) {
		t.Helper()
		got := call(expression)
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %s, without %s", expression, got, part)
			}
		}
	}
	want("passkey.list()", "signed_out")
	want("passkey.register({name: 'Laptop'})", `"verified":true`, `"name":"Laptop"`)
	p.wantUsers(1)
	want("passkey.list()", `"name":"Laptop"`, `"sign_count":`, `"device_type":`)
	want("passkey.list().then(([one]) => passkey.rename(one.id, 'Desk'))", `"name":"Desk"`)
	want("passkey.list().then(([one]) => passkey.delete(one.id))", "last_passkey")
	want("passkey.register()", "already_registered")
	want("passkey.signIn()", `"verified":true`)

	p.reload()
	name := p.account()
	want("fetch('/auth/session').then(r => r.json())", `"name":"`+name+`"`)
	p.openAccount()
	if got := p.text("#activity"); !strings.Contains(got, "Renamed a passkey") || !strings.Contains(got, "Made this account") {
		t.Errorf("the activity is %q", got)
	}
	p.site.clock.advance(6 * 60 * 1e9)
	want("passkey.list().then(([one]) => passkey.delete(one.id))", "reauthentication_required")
}
