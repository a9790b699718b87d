package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// flipped is the device's assertion with one bit of a member flipped; bits past
// its end count from its start again.
func flipped(d *device, o options, member string, bit int) string {
	var credential map[string]any
	if err := json.Unmarshal([]byte(d.get(o)), &credential); err != nil {
		panic(err)
	}
	response := credential["response"].(map[string]any)
	raw := must(base64.RawURLEncoding.DecodeString(response[member].(string)))
	raw[bit/8%len(raw)] ^= 1 << (bit % 8)
	response[member] = encode(raw)
	return string(must(json.Marshal(credential)))
}

// FuzzPress: whatever a form brings, the answer is a refusal that can be pressed
// again, and no one is signed in.
func FuzzPress(f *testing.F) {
	s := newSite(f)
	d, _ := s.browser().register()
	b := s.browser()
	page := b.get("/")
	f.Add("")
	f.Add("{}")
	f.Add(d.get(page.auth.options, func(d *draft) { d.client["origin"] = "https://evil.example" }))
	f.Add(d.get(page.auth.options, func(d *draft) { d.client["challenge"] = "x" }))
	f.Add(s.device().create(page.auth.options, func(d *draft) { d.rpID = "evil.example" }))
	f.Add(s.device().create(page.auth.options, func(d *draft) { d.format = "packed" }))
	f.Add(`{"id":"AAAA","rawId":"AAAA","type":"public-key","response":{"attestationObject":"oA","clientDataJSON":"e30"}}`)
	f.Fuzz(func(t *testing.T, credential string) {
		c := b.clone()
		c.t = t
		p := c.post("/", url.Values{"credential": {credential}})
		if p.status/100 != 4 || p.account != "" || c.cookies["bio"] != "" {
			t.Errorf("%d as %q", p.status, p.account)
		}
		if p.auth == nil {
			t.Error("no button to press again")
		}
	})
}

// FuzzCookie: no session cookie but the one that was given signs anyone in; what
// is not a session is cleared, and nothing is an error.
func FuzzCookie(f *testing.F) {
	s := newSite(f)
	b := s.browser()
	b.register()
	good := b.cookies["bio"]
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good + "=")
	f.Add(good + "; bio=" + good)
	f.Add("..")
	f.Add(`"` + good + `"`)
	f.Add(strings.ToUpper(good))
	f.Fuzz(func(t *testing.T, value string) {
		c := b.signedOut()
		c.t = t
		r := c.request(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", "bio="+value)
		values := r.CookiesNamed("bio")
		p := c.send(r)
		isGood := len(values) == 1 && values[0].Value == good && !values[0].Quoted
		switch {
		case p.status != http.StatusOK:
			t.Errorf("status %d", p.status)
		case (p.account != "") != isGood:
			t.Errorf("signed in: %t", p.account != "")
		case len(values) > 0 && !isGood && !bytes.Contains([]byte(strings.Join(p.header["Set-Cookie"], "\n")), []byte("bio=; Path=/; Max-Age=0")):
			t.Errorf("not cleared: %q", p.header["Set-Cookie"])
		}
	})
}
