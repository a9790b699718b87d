package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"

	"bio/app/account"
)

// visitor is a person: one browser, one authenticator with one synced passkey,
// ES256. It signs by hand, so that the client costs little beside the server.
type visitor struct {
	origin     string
	key        *ecdsa.PrivateKey
	credential []byte // id
	handle     []byte // of the user, once registered
	binding    string // of the browser, as its cookie has it
	home       []byte // the request GET / without a session
}

const (
	userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"

	flagsGet    = account.FlagUserPresent | account.FlagUserVerified | account.FlagBackupEligible | account.FlagBackupState
	flagsCreate = flagsGet | 1<<6 // attested credential data (WebAuthn L3 §6.1)
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// register makes a visitor and, with a press, an account.
func register(s site, origin string) (*visitor, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	v := &visitor{origin: origin, key: key, credential: make([]byte, 32)}
	binding := make([]byte, 16)
	rand.Read(v.credential)
	rand.Read(binding)
	v.binding = encode(binding)
	v.home = v.get("/", "")

	status, body, err := s.do(v.get("/ceremony", ""))
	if err != nil {
		return nil, err
	}
	if err := expect("GET /ceremony", status, 200, body); err != nil {
		return nil, err
	}
	var options struct {
		Create struct {
			Challenge string
			User      struct{ ID string }
		}
	}
	if err := json.Unmarshal(body, &options); err != nil {
		return nil, fmt.Errorf("GET /ceremony: %w", err)
	}
	if v.handle, err = base64.RawURLEncoding.DecodeString(options.Create.User.ID); err != nil {
		return nil, fmt.Errorf("GET /ceremony: user handle: %w", err)
	}
	object, err := v.attestation()
	if err != nil {
		return nil, err
	}
	status, body, err = s.do(v.press(v.answer(map[string]string{
		"clientDataJSON":    encode(v.clientData("webauthn.create", options.Create.Challenge)),
		"attestationObject": encode(object),
	}), true))
	if err != nil {
		return nil, err
	}
	return v, expect("registration", status, 303, body)
}

// browser is the headers of the visitor's browser. Without a session it is signed
// out.
func (v *visitor) browser(session string) string {
	if session != "" {
		session = "; bio=" + session
	}
	return "User-Agent: " + userAgent + "\r\nCookie: bio-pre=" + v.binding + session + "; bio-known=1\r\nSec-Fetch-Site: same-origin\r\n"
}

func (v *visitor) get(path, session string) []byte {
	return request("GET", path, host(v.origin), v.browser(session))
}

// post sends a form.
func (v *visitor) post(path, session, form string) []byte {
	head := request("POST", path, host(v.origin), v.browser(session)+"Origin: "+v.origin+
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "+fmt.Sprint(len(form))+"\r\n")
	return append(head, form...)
}

func (v *visitor) clientData(kind, challenge string) []byte {
	return []byte(`{"type":"` + kind + `","challenge":"` + challenge + `","origin":"` + v.origin + `","crossOrigin":false}`)
}

// authenticatorData is WebAuthn L3 §6.1, with a signature counter of 0. The RP ID
// is localhost.
func authenticatorData(flags byte) []byte {
	hash := sha256.Sum256([]byte("localhost"))
	return append(hash[:], flags, 0, 0, 0, 0)
}

// attestation is a "none" attestation object (WebAuthn L3 §8.7), in CBOR.
func (v *visitor) attestation() ([]byte, error) {
	point, err := v.key.PublicKey.Bytes() // 4 ‖ x ‖ y
	if err != nil {
		return nil, err
	}
	data := append(authenticatorData(flagsCreate), make([]byte, 16)...) // AAGUID
	data = append(data, 0, byte(len(v.credential)))
	data = append(data, v.credential...)
	data = append(data, "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"...) // COSE key: EC2, ES256, P-256, x
	data = append(data, point[1:33]...)
	data = append(data, "\x22\x58\x20"...) // y
	data = append(data, point[33:]...)
	return append(append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data))), data...), nil
}

// assert answers navigator.credentials.get(): the credential as JSON.
func (v *visitor) assert(challenge string) ([]byte, error) {
	data, client := authenticatorData(flagsGet), v.clientData("webauthn.get", challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data, hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, v.key, digest[:])
	if err != nil {
		return nil, err
	}
	return v.answer(map[string]string{
		"clientDataJSON": encode(client), "authenticatorData": encode(data),
		"signature": encode(signature), "userHandle": encode(v.handle),
	}), nil
}

// answer is a credential as a browser returns it. No member needs escaping.
func (v *visitor) answer(response map[string]string) []byte {
	id := encode(v.credential)
	b := fmt.Appendf(nil, `{"id":"%s","rawId":"%s","type":"public-key","response":{`, id, id)
	for name, value := range response {
		b = append(append(append(append(append(b, '"'), name...), `":"`...), value...), `",`...)
	}
	b[len(b)-1] = '}'
	return append(b, '}')
}

// press is the request POST /. Redirected, its answer leads to a page instead of
// being one, and no agent runs.
func (v *visitor) press(credential []byte, redirected bool) []byte {
	form := "credential=" + url.QueryEscape(string(credential))
	if redirected {
		form += "&return_to=%2Freadyz"
	}
	return v.post("/", "", form)
}

// challengeLen is that of 40 bytes as base64url.
const challengeLen = 54

// challenge finds the challenge in a page or its options: the first run of
// base64url of its length after its name, however the quotes are escaped.
func challenge(body []byte) (string, error) {
	_, after, ok := bytes.Cut(body, []byte("challenge"))
	for start := 0; ok && start < len(after); start++ {
		end := start
		for end < len(after) && base64url(after[end]) {
			end++
		}
		if end-start == challengeLen {
			return string(after[start:end]), nil
		}
		start = end
	}
	return "", fmt.Errorf("no challenge in %.300q", body)
}

func base64url(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' || c == '_'
}

// signIn is the whole of it: the page, the passkey, the press and its answer.
func (v *visitor) signIn(s site, redirected bool) error {
	status, body, err := s.do(v.home)
	if err != nil {
		return err
	}
	if err := expect("GET /", status, 200, body); err != nil {
		return err
	}
	offered, err := challenge(body)
	if err != nil {
		return err
	}
	credential, err := v.assert(offered)
	if err != nil {
		return err
	}
	status, body, err = s.do(v.press(credential, redirected))
	if err != nil {
		return err
	}
	if redirected {
		return expect("sign-in", status, 303, body)
	}
	if err := expect("sign-in", status, 200, body); err != nil {
		return err
	}
	if !bytes.Contains(body, []byte("data-account=")) || !bytes.Contains(body, []byte(`data-final="done"`)) {
		return fmt.Errorf("sign-in: the page is not whole: %.300s", body)
	}
	return nil
}

// forged shows that a press with a spoilt signature is refused.
func (v *visitor) forged(s site) error {
	_, body, err := s.do(v.home)
	if err != nil {
		return err
	}
	offered, err := challenge(body)
	if err != nil {
		return err
	}
	other := *v
	if other.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	credential, err := other.assert(offered)
	if err != nil {
		return err
	}
	status, body, err := s.do(v.press(credential, true))
	if err != nil {
		return err
	}
	return expect("sign-in with a forged signature", status, 401, body)
}

// crowd registers n visitors at a server and makes sure that it refuses forgery.
func crowd(p *process, n int) ([]*visitor, error) {
	s, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	all := make([]*visitor, n)
	for i := range all {
		if all[i], err = register(s, p.origin); err != nil {
			return nil, err
		}
	}
	return all, all[0].forged(s)
}
