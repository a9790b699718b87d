package server

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"
)

// cookies are Bio's cookies under their names: with the __Host- prefix (RFC
// 6265bis §4.1.3.2) where the site is https, plain on http://localhost.
type cookies struct {
	secure              bool
	session, pre, known string
}

func newCookies(secure bool) cookies {
	prefix := ""
	if secure {
		prefix = "__Host-"
	}
	return cookies{secure, prefix + "bio", prefix + "bio-pre", prefix + "bio-known"}
}

// knownFor is the longest that browsers keep a cookie.
const knownFor = 400 * 24 * time.Hour

// read returns the one cookie of that name. More than one is a refusal, not a
// choice: present is then true and value empty.
func (cookies) read(r *http.Request, name string) (value string, present bool) {
	switch found := r.CookiesNamed(name); len(found) {
	case 0:
		return "", false
	case 1:
		if found[0].Quoted { // a second spelling of the same value
			return "", true
		}
		return found[0].Value, true
	default:
		return "", true
	}
}

func (k cookies) set(w http.ResponseWriter, name, value string, site http.SameSite, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", HttpOnly: true, Secure: k.secure, SameSite: site,
		MaxAge: int(age / time.Second),
	})
}

// signIn sets what a signed-in browser keeps.
func (k cookies) signIn(w http.ResponseWriter, token string, age time.Duration) {
	k.set(w, k.session, token, http.SameSiteStrictMode, age)
	k.remember(w)
}

// remember sets what a browser keeps in which a passkey was used.
func (k cookies) remember(w http.ResponseWriter) {
	k.set(w, k.known, "1", http.SameSiteLaxMode, knownFor)
}

// signOut clears the session, and nothing else.
func (k cookies) signOut(w http.ResponseWriter) {
	k.set(w, k.session, "", http.SameSiteStrictMode, -time.Second)
}

// bindingLen is 16 random bytes as base64url.
const bindingLen = 22

// binding returns what binds challenges to this browser; a browser that has none,
// or a spoilt one, gets one.
func (k cookies) binding(w http.ResponseWriter, r *http.Request) string {
	if value, ok := k.bound(r); ok {
		return value
	}
	raw := make([]byte, 16)
	rand.Read(raw)
	value := base64.RawURLEncoding.EncodeToString(raw)
	k.set(w, k.pre, value, http.SameSiteLaxMode, 0)
	return value
}

// bound returns the binding that the request carries, if it is one of ours.
func (k cookies) bound(r *http.Request) (string, bool) {
	value, _ := k.read(r, k.pre)
	if len(value) != bindingLen {
		return "", false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(value)
	return value, err == nil
}
