package config

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// Setting is one row of the table of settings.
type Setting struct {
	Name    string
	Default string // as the documentation words it; literal unless it is made from other settings
	Meaning string
	Secret  bool // never shown; NAME_FILE may name a file that holds it
}

// Table is every setting of this version, in the order of the documentation.
func Table() []Setting {
	all := make([]Setting, len(table))
	for i, row := range table {
		all[i] = row.Setting
	}
	return all
}

// row adds how a setting is spelled, so that it would be read again as it is.
type row struct {
	Setting
	show func(*Settings) string
}

var table = []row{
	{Setting{Name: "BIO_URL", Default: "http://localhost:8080", Meaning: "public address; gives RP ID, origin and cookie rules"},
		func(s *Settings) string { return s.URL.String() }},
	{Setting{Name: "BIO_LISTEN", Default: ":8080", Meaning: "address to listen on; without it PORT is honoured, and then a port that BIO_URL has on localhost"},
		func(s *Settings) string { return s.Listen }},
	{Setting{Name: "BIO_DATA", Default: "./data", Meaning: "data directory: database, generated secret"},
		func(s *Settings) string { return s.Data }},
	{Setting{Name: "BIO_DATABASE_URL", Default: "file: in BIO_DATA", Meaning: "file: and the path of the database"},
		func(s *Settings) string { return s.Database }},
	{Setting{Name: "BIO_DATABASE_TOKEN", Meaning: "for a remote database, which this version does not use", Secret: true},
		func(*Settings) string { return "" }},
	{Setting{Name: "BIO_SECRET", Default: "generated once", Meaning: "root secret, at least 32 bytes as hex or base64url; every key is derived from it", Secret: true},
		func(s *Settings) string { return hex.EncodeToString(s.Secret) }},
	{Setting{Name: "BIO_SECRET_PREVIOUS", Meaning: "secrets that are still accepted and no longer used to sign, comma-separated", Secret: true},
		func(s *Settings) string {
			return join(s.Previous, func(one Secret) string { return hex.EncodeToString(one) })
		}},
	{Setting{Name: "BIO_RP_ID", Default: "host of BIO_URL", Meaning: "relying party ID: the host of BIO_URL or a parent domain of it"},
		func(s *Settings) string { return s.RPID }},
	{Setting{Name: "BIO_RP_NAME", Default: "Bio", Meaning: "relying party name, shown by authenticators"},
		func(s *Settings) string { return s.RPName }},
	{Setting{Name: "BIO_ORIGINS", Meaning: "further origins, comma-separated"},
		func(s *Settings) string { return join(s.Origins, Origin.String) }},
	{Setting{Name: "BIO_USER_VERIFICATION", Default: "required", Meaning: "required or preferred"},
		func(s *Settings) string { return string(s.UserVerification) }},
	{Setting{Name: "BIO_RESIDENT_KEY", Default: "required", Meaning: "required or preferred"},
		func(s *Settings) string { return string(s.ResidentKey) }},
	{Setting{Name: "BIO_ATTESTATION", Default: "none", Meaning: "none, indirect, direct or enterprise"},
		func(s *Settings) string { return string(s.Attestation) }},
	{Setting{Name: "BIO_CHALLENGE_TTL", Default: "5m", Meaning: "how long a page can be pressed before it renews itself, 30s to 10m"},
		func(s *Settings) string { return short(s.ChallengeTTL) }},
	{Setting{Name: "BIO_REGISTRATION", Default: "open", Meaning: "who may make an account: open, invite or closed"},
		func(s *Settings) string { return string(s.Registration) }},
	{Setting{Name: "BIO_RECOVERY_DELAY", Default: "24h", Meaning: "how long a recovery can be cancelled before its passkey opens the account, 1s to 720h"},
		func(s *Settings) string { return short(s.RecoveryDelay) }},
	{Setting{Name: "BIO_SESSION_IDLE", Default: "12h", Meaning: "a session ends after this long without activity, 5m to 9600h and at most BIO_SESSION_MAX"},
		func(s *Settings) string { return short(s.SessionIdle) }},
	{Setting{Name: "BIO_SESSION_MAX", Default: "24h", Meaning: "a session ends this long after the sign-in, whatever happens"},
		func(s *Settings) string { return short(s.SessionMax) }},
	{Setting{Name: "BIO_TRUSTED_PROXIES", Default: "none", Meaning: "CIDRs of the proxies whose forwarded headers are believed, comma-separated"},
		func(s *Settings) string { return join(s.TrustedProxies, netip.Prefix.String) }},
	{Setting{Name: "BIO_AGENT", Default: "brief", Meaning: "what works after a sign-in: brief, exec:COMMAND, https://…, chat:MODEL@BASE_URL, or hook, the agents of app/hook.go; several, comma-separated, as name=…. Without hook those of app/hook.go take the place of brief"},
		func(s *Settings) string { return join(s.Agents, Agent.String) }},
	{Setting{Name: "BIO_AGENT_TIMEOUT", Default: "30s", Meaning: "how long an agent may work, 1s to 1h"},
		func(s *Settings) string { return short(s.AgentTimeout) }},
	{Setting{Name: "BIO_AGENT_KEY", Meaning: "API key of the chat endpoint, and what requests to webhooks are signed with; for several hosts as name=key, comma-separated", Secret: true},
		func(s *Settings) string { return spellKeys(s.Agents) }},
	{Setting{Name: "BIO_AGENT_SYSTEM", Meaning: "what a model is told that it is, in place of the adapter's own words"},
		func(s *Settings) string { return s.AgentSystem }},
	{Setting{Name: "BIO_AGENT_CONTEXT", Default: "off", Meaning: "what a model is told of its person beside the name: off or trail"},
		func(s *Settings) string {
			return map[bool]string{false: agentContextOff, true: agentContextTrail}[s.AgentContext]
		}},
	{Setting{Name: "BIO_AGENT_TOKENS", Default: "4096", Meaning: "tokens that a model may write in one answer, at most 1000000"},
		func(s *Settings) string { return strconv.Itoa(s.AgentTokens) }},
	{Setting{Name: "BIO_AGENT_PRIVATE", Default: "no", Meaning: "whether webhooks and MCP servers may be at addresses that are not public: no or yes"},
		func(s *Settings) string { return map[bool]string{false: "no", true: "yes"}[s.AgentPrivate] }},
	{Setting{Name: "BIO_AGENT_TOOLS", Meaning: "MCP servers whose tools a model may use: name=exec:COMMAND or name=https://…, comma-separated"},
		func(s *Settings) string { return join(s.AgentTools, Tools.String) }},
	{Setting{Name: "BIO_AGENT_ALLOW", Meaning: "the tools that it may use, server/tool or server/*, comma-separated"},
		func(s *Settings) string { return strings.Join(s.AgentAllow, ",") }},
	{Setting{Name: "BIO_RATE_LIMIT", Default: "20/s,200", Meaning: "requests of one client (IPv4 address, IPv6 /64) per s, m or h, and the burst"},
		func(s *Settings) string { return s.RateLimit.String() }},
	{Setting{Name: "BIO_REFUSAL_LIMIT", Default: "300/m", Meaning: "refused attempts of one client"},
		func(s *Settings) string { return s.RefusalLimit.String() }},
	{Setting{Name: "BIO_METRICS_LISTEN", Default: "off", Meaning: "address for Prometheus, apart from BIO_LISTEN"},
		func(s *Settings) string {
			if s.MetricsListen == "" {
				return "off"
			}
			return s.MetricsListen
		}},
	{Setting{Name: "BIO_LOG", Default: "info", Meaning: "debug, info, warn or error"},
		func(s *Settings) string { return strings.ToLower(s.Log.String()) }},
}

func join[T any](all []T, show func(T) string) string {
	shown := make([]string, len(all))
	for i, one := range all {
		shown[i] = show(one)
	}
	return strings.Join(shown, ",")
}
