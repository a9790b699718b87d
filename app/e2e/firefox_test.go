package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Firefox has neither immediate mediation nor the Signal API: the same script
// registers with create, and signs in with a modal get.
func TestFirefox(t *testing.T) {
	s := serve(t, nil)
	f := newFirefox(t)
	laptop := f.plugIn()
	f.do("WebDriver:Navigate", object{"url": s.url + "/"})
	f.click("#auth button")
	name := f.account()
	if n := s.users(); n != 1 {
		t.Errorf("there are %d accounts, want 1", n)
	}
	f.click(`[action="/sign-out"] button`)
	f.click("#auth button")
	if again := f.account(); again != name {
		t.Errorf("signed in to %s, want %s", again, name)
	}
	if n := s.users(); n != 1 {
		t.Errorf("there are %d accounts, want 1", n)
	}
	f.do("WebDriver:Refresh", object{})
	if again := f.account(); again != name {
		t.Errorf("after a reload the account is %s, want %s", again, name)
	}
	if n := s.journal.answers("POST /"); n != 2 {
		t.Errorf("the form was posted %d times, want 2", n)
	}

	f.click("main a[href='/account']")
	f.click("#passkeys summary")
	f.fill("#passkeys [action$=rename] [name=name]", "Laptop")
	f.click("#passkeys [action$=rename] button")
	f.untilNotice("The passkey is called “Laptop” now.")
	f.fill(act("name")+" [name=name]", "ada")
	f.click(act("name") + " button")
	f.untilNotice("This account is called ada now.")

	// Another device: the first is not here any more.
	f.do("WebAuthn:RemoveVirtualAuthenticator", object{"authenticatorId": laptop})
	f.plugIn()
	f.click(act("passkeys/add") + " button")
	f.untilNotice("The passkey “Passkey” is added.")
	f.click(`[aria-label="Remove Laptop"]`)
	f.untilNotice("The passkey is removed, and the sessions that it opened are over.")
	if n := s.count("SELECT count(*) FROM credentials WHERE name = 'Passkey'"); n != 1 || f.account() != "ada" {
		t.Errorf("%d passkeys are left in the account %s, want the new one in ada", n, f.account())
	}
	f.click("#leave summary")
	f.click(act("erase") + " button")
	f.untilNotice("The account is erased, with its passkeys, its sessions, and all that the trail said of it.")
	if n := s.users(); n != 0 {
		t.Errorf("there are %d accounts, want none", n)
	}
}

// firefox is a Firefox driven over Marionette: length-prefixed JSON over TCP,
// a command [0, id, name, parameters] and its answer [1, id, error, result]
// (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html).
type firefox struct {
	t    *testing.T
	conn net.Conn
	from *bufio.Reader
	last int
}

type object map[string]any

// prefs make a profile that talks to nobody and has a passkey provider in
// software, as a platform authenticator would be.
var prefs = map[string]any{
	"marionette.port": 0, // any; the profile's MarionetteActivePort names it
	"security.webauth.webauthn_enable_softtoken": true,
	"security.webauth.webauthn_enable_usbtoken":  false,
	"app.update.enabled":                         false,
	"browser.shell.checkDefaultBrowser":          false,
	"datareporting.policy.dataSubmissionEnabled": false,
	"network.captive-portal-service.enabled":     false,
	"network.connectivity-service.enabled":       false,
	"services.settings.server":                   "data:,",
	"toolkit.telemetry.enabled":                  false,
}

func newFirefox(t *testing.T) *firefox {
	t.Helper()
	path := find(t, "BIO_FIREFOX", "firefox-esr", "firefox")
	profile := t.TempDir()
	var lines strings.Builder
	for name, value := range prefs {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "user_pref(%q, %s);\n", name, text)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	program := exec.CommandContext(ctx, path, "--headless", "--marionette", "--no-remote", "--profile", profile)
	// Killed at once it leaves children behind.
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = patience
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		program.Wait() // its error is the interrupt
	})

	f := &firefox{t: t}
	var port []byte
	f.eventually("Firefox is ready", func() bool {
		port, _ = os.ReadFile(filepath.Join(profile, "MarionetteActivePort"))
		return len(port) > 0
	})
	var err error
	f.conn, err = net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.conn.Close() })
	f.from = bufio.NewReader(f.conn)
	if _, err := f.read(); err != nil { // its greeting
		t.Fatal(err)
	}
	f.do("WebDriver:NewSession", object{})
	return f
}

func (f *firefox) eventually(what string, condition func() bool) {
	f.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// try runs a command and returns its result.
func (f *firefox) try(command string, parameters object) (json.RawMessage, error) {
	f.last++
	text, err := json.Marshal([]any{0, f.last, command, parameters})
	if err != nil {
		return nil, err
	}
	if err := f.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(text), text); err != nil {
		return nil, err
	}
	answer, err := f.read()
	if err != nil {
		return nil, err
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(answer, &parts); err != nil {
		return nil, err
	}
	if len(parts) != 4 || string(parts[1]) != strconv.Itoa(f.last) {
		return nil, fmt.Errorf("%s: an answer to something else: %s", command, answer)
	}
	if string(parts[2]) != "null" {
		return nil, fmt.Errorf("%s: %s", command, parts[2])
	}
	return parts[3], nil
}

func (f *firefox) read() ([]byte, error) {
	prefix, err := f.from.ReadString(':')
	if err != nil {
		return nil, err
	}
	length, err := strconv.Atoi(strings.TrimSuffix(prefix, ":"))
	if err != nil || length < 0 {
		return nil, errors.New("marionette: no length before a message")
	}
	message := make([]byte, length)
	_, err = io.ReadFull(f.from, message)
	return message, err
}

func (f *firefox) do(command string, parameters object) json.RawMessage {
	f.t.Helper()
	result, err := f.try(command, parameters)
	if err != nil {
		f.t.Fatal(err)
	}
	return result
}

// until waits until an expression in the page is true, whichever document that is.
func (f *firefox) until(condition string) {
	f.t.Helper()
	f.eventually(condition, func() bool {
		result, err := f.try("WebDriver:ExecuteScript", object{"script": "return Boolean(" + condition + ")", "args": []any{}})
		return err == nil && string(result) == `{"value":true}`
	})
}

// find waits for a page that is there to its end and returns its element.
func (f *firefox) find(selector string) map[string]string {
	f.t.Helper()
	f.until(fmt.Sprintf("document.readyState == 'complete' && document.querySelector(%q)", selector))
	return value[map[string]string](f, f.do("WebDriver:FindElement", object{"using": "css selector", "value": selector}))
}

// click is a real click.
func (f *firefox) click(selector string) {
	f.t.Helper()
	for _, id := range f.find(selector) {
		f.do("WebDriver:ElementClick", object{"id": id})
	}
}

// plugIn gives the browser an authenticator and returns its id.
func (f *firefox) plugIn() (id string) {
	f.t.Helper()
	return value[string](f, f.do("WebAuthn:AddVirtualAuthenticator", object{
		"protocol": "ctap2_1", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
		"isUserConsenting": true, "isUserVerified": true,
	}))
}

// value is what a command has answered.
func value[T any](f *firefox, result json.RawMessage) T {
	f.t.Helper()
	var answer struct{ Value T }
	if err := json.Unmarshal(result, &answer); err != nil {
		f.t.Fatalf("%s: %v", result, err)
	}
	return answer.Value
}

// untilNotice waits for a page that says what came of a press.
func (f *firefox) untilNotice(want string) {
	f.t.Helper()
	f.until(fmt.Sprintf("document.readyState == 'complete' && document.querySelector('.notice, [data-say=notice]')?.innerText == %q", want))
}

// fill types into a field in place of what it holds.
func (f *firefox) fill(selector, text string) {
	f.t.Helper()
	for _, id := range f.find(selector) {
		f.do("WebDriver:ElementClear", object{"id": id})
		f.do("WebDriver:ElementSendKeys", object{"id": id, "text": text})
	}
}

// account waits for the signed-in page and returns whose it is.
func (f *firefox) account() string {
	f.t.Helper()
	f.until("document.readyState == 'complete' && document.querySelector('main[data-account]')")
	account := value[string](f, f.do("WebDriver:ExecuteScript", object{"script": "return document.querySelector('main').dataset.account", "args": []any{}}))
	if account == "" {
		f.t.Fatal("the page says no account")
	}
	return account
}
