// Package config reads the settings of Bio from the environment. A setting is
// a variable that begins with BIO_; an empty one counts as unset. All problems
// are found in one pass and reported together, each with its mend, so that an
// operator repairs a start once and not once per mistake.
//
// No problem ever repeats a value: an address can carry a password, and a
// secret can end up in the wrong variable.
package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Settings are the settings of one server, checked and canonical: two
// environments that mean the same give equal Settings.
type Settings struct {
	URL      Origin   // BIO_URL, the public address
	Listen   string   // BIO_LISTEN, for net.Listen
	Data     string   // BIO_DATA, the path of the data directory
	Database string   // BIO_DATABASE_URL, "file:" and a path
	Secret   Secret   // BIO_SECRET; nil when the server is to make its own in Data
	Previous []Secret // BIO_SECRET_PREVIOUS, newest first as written

	RPID             string      // BIO_RP_ID, in lower case
	RPName           string      // BIO_RP_NAME
	Origins          []Origin    // BIO_ORIGINS, without URL and without repeats
	UserVerification Requirement // BIO_USER_VERIFICATION
	ResidentKey      Requirement // BIO_RESIDENT_KEY
	Attestation      Attestation // BIO_ATTESTATION
	ChallengeTTL     time.Duration

	Registration  Registration
	RecoveryDelay time.Duration // how long a recovery waits before its passkey opens the account
	SessionIdle   time.Duration // at most SessionMax
	SessionMax    time.Duration

	TrustedProxies []netip.Prefix // BIO_TRUSTED_PROXIES, masked, without repeats
	Agents         []Agent        // BIO_AGENT, with the keys of BIO_AGENT_KEY
	AgentTimeout   time.Duration
	AgentSystem    string // what a model is told it is, or empty: the adapter's own words
	AgentContext   bool   // models are told what the trail says of their person
	AgentTokens    int    // that a model may write
	AgentPrivate   bool   // webhooks may be at addresses that are not public
	AgentTools     []Tools
	AgentAllow     []string   // tools, "server/tool" or "server/*"
	RateLimit      Rate       // requests of one client
	RefusalLimit   Rate       // refused attempts of one client
	MetricsListen  string     // BIO_METRICS_LISTEN, for net.Listen; empty when off
	Log            slog.Level // BIO_LOG
}

// Requirement is a WebAuthn requirement (Web Authentication Level 3, section
// 5.4.6 and 5.8.6). Discouraged is not offered: Bio knows people by nothing
// but their passkey.
type Requirement string

// The requirements, spelled as WebAuthn spells them.
const (
	Required  Requirement = "required"
	Preferred Requirement = "preferred"
)

// Attestation is an attestation conveyance preference (Web Authentication
// Level 3, section 5.4.7).
type Attestation string

// The attestation conveyance preferences, spelled as WebAuthn spells them.
const (
	AttestationNone       Attestation = "none"
	AttestationIndirect   Attestation = "indirect"
	AttestationDirect     Attestation = "direct"
	AttestationEnterprise Attestation = "enterprise"
)

// Registration says who may make a new account.
type Registration string

// The registration policies: anyone, only who holds an invitation, nobody.
const (
	RegistrationOpen   Registration = "open"
	RegistrationInvite Registration = "invite"
	RegistrationClosed Registration = "closed"
)

// Origin is the origin of BIO_URL, such as "https://auth.example.com".
func (s Settings) Origin() string { return s.URL.String() }

// AllOrigins are the origins whose ceremonies are accepted: that of BIO_URL,
// then those of BIO_ORIGINS.
func (s Settings) AllOrigins() []string {
	all := []string{s.URL.String()}
	for _, o := range s.Origins {
		all = append(all, o.String())
	}
	return all
}

// Secure reports whether the public address is https, which decides the
// cookies' names and their Secure attribute.
func (s Settings) Secure() bool { return s.URL.Scheme == "https" }

// HealthURL is where this machine reaches the server's /healthz. It is plain
// http, because the server itself does not speak TLS.
func (s Settings) HealthURL() string {
	host, port, _ := net.SplitHostPort(s.Listen)
	if wildcard(host) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/healthz"
}

// String lists the settings as NAME=value lines in the order of Table, with
// every secret redacted. A setting that has no value is left out.
func (s Settings) String() string {
	var b strings.Builder
	for _, row := range table {
		v := row.show(&s)
		if v == "" {
			continue
		}
		if row.Secret {
			v = redacted
		}
		fmt.Fprintf(&b, "%s=%s\n", row.Name, v)
	}
	return b.String()
}

// Load reads the settings from environ, which has the form of os.Environ. It
// reads the files that the NAME_FILE variables name, and nothing else. An
// error is a *Problems.
func Load(environ []string) (*Settings, error) {
	l := newLoader(environ)
	var s Settings

	s.Listen = l.listen()
	s.URL = l.url(s.Listen)
	s.Data = l.data()
	s.Database = l.database(s.Data)
	s.Secret = l.secret()
	s.Previous = l.previous()

	s.RPID = l.rpID(s.URL.Host)
	s.RPName = l.rpName()
	s.Origins = l.origins(s.URL)
	s.UserVerification = oneOf(l, "BIO_USER_VERIFICATION", Required, Preferred)
	s.ResidentKey = oneOf(l, "BIO_RESIDENT_KEY", Required, Preferred)
	s.Attestation = oneOf(l, "BIO_ATTESTATION", AttestationNone, AttestationIndirect, AttestationDirect, AttestationEnterprise)
	s.ChallengeTTL = l.duration("BIO_CHALLENGE_TTL", 30*time.Second, 10*time.Minute)

	s.Registration = oneOf(l, "BIO_REGISTRATION", RegistrationOpen, RegistrationInvite, RegistrationClosed)
	s.RecoveryDelay = l.duration("BIO_RECOVERY_DELAY", time.Second, 30*24*time.Hour)
	s.SessionIdle, s.SessionMax = l.session()

	s.TrustedProxies = l.proxies()
	if l.direct(&s) {
		s.Listen = ":" + strconv.Itoa(int(s.URL.Port))
	}
	l.agents(&s)
	s.RateLimit = l.rate("BIO_RATE_LIMIT")
	s.RefusalLimit = l.rate("BIO_REFUSAL_LIMIT")
	s.MetricsListen = l.metricsListen(s.Listen)
	s.Log = l.log()

	l.unknown()
	if len(l.problems) > 0 {
		l.problems.sort()
		return nil, &l.problems
	}
	return &s, nil
}

func (l *loader) listen() string {
	const mend = "Write a port such as :8080, or an address and a port such as 127.0.0.1:8080."
	if _, ok := l.lookup("BIO_LISTEN"); !ok && l.env["PORT"] != "" {
		port, ok := parsePort(l.env["PORT"])
		if !ok || port == "0" {
			l.problem("PORT", "is not a port", "Write a number from 1 to 65535.")
			return ""
		}
		return ":" + port
	}
	addr, ok := parseListen(l.value("BIO_LISTEN"))
	if !ok {
		l.problem("BIO_LISTEN", "is not an address to listen on", mend)
	}
	return addr
}

// direct reports whether BIO_URL names the port to listen on, which nothing else
// does: a port of this machine with no proxy before it. Without a port it is 80,
// where few may listen, and a proxy stands as a rule.
func (l *loader) direct(s *Settings) bool {
	_, listen := l.lookup("BIO_LISTEN")
	return !listen && l.env["PORT"] == "" && len(s.TrustedProxies) == 0 &&
		s.URL.Scheme == "http" && s.URL.Host == "localhost" && s.URL.Port != 0
}

func (l *loader) url(listen string) Origin {
	v, ok := l.lookup("BIO_URL")
	if !ok {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return Origin{} // BIO_LISTEN has its own problem
		}
		if port == "0" {
			l.problem("BIO_URL", "cannot be known, because port 0 of BIO_LISTEN means any free port",
				"Set BIO_URL, or a port in BIO_LISTEN.")
			return Origin{}
		}
		v = "http://localhost:" + port
	}
	o, wrong, mend := parseOrigin(v)
	if wrong != "" {
		l.problem("BIO_URL", wrong, mend)
	}
	return o
}

func (l *loader) data() string {
	v := l.value("BIO_DATA")
	if !plainPath(v) {
		l.problem("BIO_DATA", "has a character that a database address cannot hold",
			"Use a path without ?, #, % and control characters.")
		return ""
	}
	return filepath.Clean(v)
}

func (l *loader) database(data string) string {
	const mend = "Write file: and a path, such as file:/data/bio.db, or leave it unset."
	token, hasToken := l.lookup("BIO_DATABASE_TOKEN")
	v, ok := l.lookup("BIO_DATABASE_URL")
	scheme, path, found := strings.Cut(v, ":")
	scheme = strings.ToLower(scheme)
	switch scheme {
	case "libsql", "https", "http", "wss", "ws":
		if found {
			l.problem("BIO_DATABASE_URL", "names a remote database, and this version keeps its data in a file", mend)
			return ""
		}
	}
	if hasToken && token != "" {
		l.problem("BIO_DATABASE_TOKEN", "is for a remote database, and this version keeps its data in a file", "Unset it.")
	}
	if !ok {
		if data == "" {
			return "" // BIO_DATA has its own problem
		}
		return "file:" + filepath.Join(data, "bio.db")
	}
	if rest, slashes := strings.CutPrefix(path, "//"); slashes {
		// file:///path has an empty host; a host would be another machine.
		if path = rest; !strings.HasPrefix(path, "/") {
			path = ""
		}
	}
	noFile := path == "" || strings.HasSuffix(path, "/")
	path = filepath.Clean(path)
	switch filepath.Base(path) {
	case ".", "..", ":memory:":
		noFile = true
	}
	if scheme != "file" || noFile || !plainPath(path) {
		l.problem("BIO_DATABASE_URL", "is not the address of a file", mend)
		return ""
	}
	return "file:" + path
}

func (l *loader) secret() Secret {
	v, ok := l.lookup("BIO_SECRET")
	if !ok {
		return nil
	}
	secret, ok := parseSecret(v)
	if !ok {
		l.problem("BIO_SECRET", "is not at least 32 bytes as hex or base64url", secretMend)
	}
	return secret
}

func (l *loader) previous() []Secret {
	v, _ := l.lookup("BIO_SECRET_PREVIOUS")
	var all []Secret
	for n, item := range list(v) {
		secret, ok := parseSecret(item)
		if !ok {
			l.problem("BIO_SECRET_PREVIOUS", entry(n)+" is not at least 32 bytes as hex or base64url",
				"Copy the values that BIO_SECRET had, separated by commas.")
			continue
		}
		all = append(all, secret)
	}
	return all
}

func (l *loader) rpID(host string) string {
	v, ok := l.lookup("BIO_RP_ID")
	if host == "" {
		return "" // BIO_URL has its own problem
	}
	if !ok {
		return host
	}
	id := strings.ToLower(v)
	switch {
	case !domainName(id):
		l.problem("BIO_RP_ID", "is not a domain name", "Write the host of BIO_URL alone, without scheme, port and path.")
	case id == host: // parseOrigin has refused a public suffix
	case !strings.HasSuffix(host, "."+id):
		l.problem("BIO_RP_ID", "is neither the host of BIO_URL nor a parent of it", "Unset it, or write the host of BIO_URL or its parent domain.")
	case publicSuffixOf(host, id):
		l.problem("BIO_RP_ID", "is a public suffix, which strangers share", "Write a longer name, such as the host of BIO_URL.")
	}
	return id
}

// maxRPName is the length in bytes that every authenticator must keep of a
// name (Web Authentication Level 3, section 6.4.1).
const maxRPName = 64

func (l *loader) rpName() string {
	v := l.value("BIO_RP_NAME")
	printable := strings.IndexFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if len(v) > maxRPName || !utf8.ValidString(v) || !printable || strings.TrimSpace(v) == "" {
		l.problem("BIO_RP_NAME", "is not a name of at most 64 bytes of printable text", "Write a short name, such as Bio.")
	}
	return v
}

func (l *loader) origins(own Origin) []Origin {
	v, _ := l.lookup("BIO_ORIGINS")
	var all []Origin
	seen := map[Origin]bool{own: true}
	for n, item := range list(v) {
		o, wrong, mend := parseOrigin(item)
		if wrong != "" {
			l.problem("BIO_ORIGINS", entry(n)+" "+wrong, mend)
			continue
		}
		if !seen[o] {
			seen[o] = true
			all = append(all, o)
		}
	}
	return all
}

// Activity is written once a minute: a window not well above that would not roll.
// The longest session is as long as browsers keep a cookie.
const (
	minSession = 5 * time.Minute
	maxSession = 400 * 24 * time.Hour
)

func (l *loader) session() (idle, limit time.Duration) {
	idle = l.duration("BIO_SESSION_IDLE", minSession, maxSession)
	limit = l.duration("BIO_SESSION_MAX", minSession, maxSession)
	if idle > limit && limit > 0 {
		l.problem("BIO_SESSION_IDLE", "is longer than BIO_SESSION_MAX", "Shorten it to at most BIO_SESSION_MAX, or lengthen that.")
	}
	return idle, limit
}

func (l *loader) proxies() []netip.Prefix {
	v := l.value("BIO_TRUSTED_PROXIES")
	if v == "none" {
		return nil
	}
	var all []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for n, item := range list(v) {
		p, err := netip.ParsePrefix(item)
		if err != nil {
			a, err := netip.ParseAddr(item)
			if err != nil || a.Zone() != "" {
				l.problem("BIO_TRUSTED_PROXIES", entry(n)+" is not a block of addresses", "Write blocks such as 10.0.0.0/8 or fd00::/8, separated by commas.")
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		p = p.Masked()
		switch {
		case p.Addr().Is4In6():
			l.problem("BIO_TRUSTED_PROXIES", entry(n)+" is an IPv4 block in IPv6 form", "Write it as IPv4, such as 10.0.0.0/8.")
		case p.Bits() == 0:
			l.problem("BIO_TRUSTED_PROXIES", entry(n)+" is every address, so that any stranger could claim to be anyone", "Write only the addresses of your own proxies.")
		case !seen[p]:
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

func (l *loader) rate(name string) Rate {
	r, ok := parseRate(l.value(name))
	if !ok {
		l.problem(name, "is not a rate", "Write a number per s, m or h and the burst, such as 20/s,200 (each from 1 to 1000000).")
	}
	return r
}

func (l *loader) metricsListen(listen string) string {
	v := l.value("BIO_METRICS_LISTEN")
	if v == "off" {
		return ""
	}
	addr, ok := parseListen(v)
	switch {
	case !ok:
		l.problem("BIO_METRICS_LISTEN", "is not an address to listen on", "Write an address and a port such as 127.0.0.1:9090, or off.")
	case clash(addr, listen):
		l.problem("BIO_METRICS_LISTEN", "is the address of BIO_LISTEN", "Give metrics a port of their own.")
	}
	return addr
}

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

func (l *loader) log() slog.Level {
	return logLevels[oneOf(l, "BIO_LOG", "debug", "info", "warn", "error")]
}
