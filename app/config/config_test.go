package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	hexSecret    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	base64Secret = "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA"
)

// defaults are the settings of an empty environment, as the contract has them.
func defaults() Settings {
	return Settings{
		URL:              Origin{Scheme: "http", Host: "localhost", Port: 8080},
		Listen:           ":8080",
		Data:             "data",
		Database:         "file:data/bio.db",
		RPID:             "localhost",
		RPName:           "Bio",
		UserVerification: Required,
		ResidentKey:      Required,
		Attestation:      AttestationNone,
		ChallengeTTL:     5 * time.Minute,
		Registration:     RegistrationOpen,
		SessionIdle:      12 * time.Hour,
		SessionMax:       24 * time.Hour,
		Agents:           []Agent{{Name: "brief", Kind: AgentBrief}},
		AgentTokens:      4096,
		RecoveryDelay:    24 * time.Hour,
		AgentTimeout:     30 * time.Second,
		RateLimit:        Rate{Events: 20, Per: time.Second, Burst: 200},
		RefusalLimit:     Rate{Events: 300, Per: time.Minute, Burst: 300},
		Log:              slog.LevelInfo,
	}
}

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name    string
		environ []string
		want    func(*Settings)
	}{
		{"nothing set", nil, func(*Settings) {}},
		{"empty is unset", []string{"BIO_URL=", "BIO_LOG=", "BIO_SECRET_FILE=", "BIO_NONSENSE="}, func(*Settings) {}},
		{"not ours", []string{"HOME=/root", "bio_url=x", "BIOS=1", "nonsense"}, func(*Settings) {}},
		{"the first of two counts", []string{"BIO_LOG=warn", "BIO_LOG=x"}, func(s *Settings) { s.Log = slog.LevelWarn }},
		{"url", []string{"BIO_URL=HTTPS://Auth.Example.COM:443/"}, func(s *Settings) {
			s.URL = Origin{Scheme: "https", Host: "auth.example.com"}
			s.RPID = "auth.example.com"
		}},
		{"local name", []string{"BIO_URL=http://app.localhost:3000"}, func(s *Settings) {
			s.URL = Origin{Scheme: "http", Host: "app.localhost", Port: 3000}
			s.RPID = "app.localhost"
		}},
		{"name of a local network", []string{"BIO_URL=https://intranet"}, func(s *Settings) {
			s.URL = Origin{Scheme: "https", Host: "intranet"}
			s.RPID = "intranet"
		}},
		{"below a public suffix", []string{"BIO_URL=https://mine.fly.dev"}, func(s *Settings) {
			s.URL = Origin{Scheme: "https", Host: "mine.fly.dev"}
			s.RPID = "mine.fly.dev"
		}},
		{"port", []string{"PORT=3000"}, func(s *Settings) {
			s.Listen = ":3000"
			s.URL.Port = 3000
		}},
		{"listen before port", []string{"PORT=nonsense", "BIO_LISTEN=127.0.0.1:80"}, func(s *Settings) {
			s.Listen = "127.0.0.1:80"
			s.URL.Port = 0
		}},
		{"port of this machine", []string{"BIO_URL=http://localhost:18080", "BIO_TRUSTED_PROXIES=none"}, func(s *Settings) {
			s.Listen = ":18080"
			s.URL.Port = 18080
		}},
		{"port of a proxy", []string{"BIO_URL=http://localhost:18080", "BIO_TRUSTED_PROXIES=::1"}, func(s *Settings) {
			s.URL.Port = 18080
			s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::1/128")}
		}},
		{"port of a container", []string{"BIO_URL=http://localhost:18080", "PORT=8080"}, func(s *Settings) { s.URL.Port = 18080 }},
		{"port 80 of this machine", []string{"BIO_URL=http://localhost"}, func(s *Settings) { s.URL.Port = 0 }},
		{"port with TLS", []string{"BIO_URL=https://localhost:8443"}, func(s *Settings) {
			s.URL = Origin{Scheme: "https", Host: "localhost", Port: 8443}
		}},
		{"any port", []string{"BIO_LISTEN=LOCALHOST:0", "BIO_URL=http://localhost:1"}, func(s *Settings) {
			s.Listen = "localhost:0"
			s.URL.Port = 1
		}},
		{"data", []string{"BIO_DATA=/data/"}, func(s *Settings) {
			s.Data = "/data"
			s.Database = "file:/data/bio.db"
		}},
		{"database", []string{"BIO_DATABASE_URL=file:///srv//b.db"}, func(s *Settings) { s.Database = "file:/srv/b.db" }},
		{"secrets", []string{"BIO_SECRET=" + hexSecret, "BIO_SECRET_PREVIOUS=" + base64Secret + ", " + strings.ToUpper(hexSecret) + ","}, func(s *Settings) {
			s.Secret = counting(0, 1)
			s.Previous = []Secret{counting(255, -1), counting(0, 1)}
		}},
		{"padded secret", []string{"BIO_SECRET=" + base64Secret + "="}, func(s *Settings) { s.Secret = counting(255, -1) }},
		{"relying party", []string{"BIO_URL=https://a.b.example.co.uk", "BIO_RP_ID=Example.CO.UK", "BIO_RP_NAME=Zoë & Co"}, func(s *Settings) {
			s.URL = Origin{Scheme: "https", Host: "a.b.example.co.uk"}
			s.RPID = "example.co.uk"
			s.RPName = "Zoë & Co"
		}},
		{"origins", []string{"BIO_ORIGINS=https://Example.com:443/, https://other.example:8443,http://localhost:8080,https://example.com"}, func(s *Settings) {
			s.Origins = []Origin{{Scheme: "https", Host: "example.com"}, {Scheme: "https", Host: "other.example", Port: 8443}}
		}},
		{"ceremony", []string{"BIO_USER_VERIFICATION=preferred", "BIO_RESIDENT_KEY=preferred", "BIO_ATTESTATION=direct", "BIO_CHALLENGE_TTL=30s", "BIO_REGISTRATION=invite"}, func(s *Settings) {
			s.UserVerification, s.ResidentKey = Preferred, Preferred
			s.Attestation = AttestationDirect
			s.ChallengeTTL = 30 * time.Second
			s.Registration = RegistrationInvite
		}},
		{"session", []string{"BIO_SESSION_IDLE=1h30m", "BIO_SESSION_MAX=90m"}, func(s *Settings) {
			s.SessionIdle, s.SessionMax = 90*time.Minute, 90*time.Minute
		}},
		{"proxies", []string{"BIO_TRUSTED_PROXIES=10.1.2.3/8, fdaa::1/16,192.0.2.1,10.0.0.0/8"}, func(s *Settings) {
			s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fdaa::/16"), netip.MustParsePrefix("192.0.2.1/32")}
		}},
		{"recovery", []string{"BIO_RECOVERY_DELAY=48h"}, func(s *Settings) { s.RecoveryDelay = 48 * time.Hour }},
		{"limits", []string{"BIO_RATE_LIMIT=5/m", "BIO_REFUSAL_LIMIT=1/h, 7"}, func(s *Settings) {
			s.RateLimit = Rate{Events: 5, Per: time.Minute, Burst: 5}
			s.RefusalLimit = Rate{Events: 1, Per: time.Hour, Burst: 7}
		}},
		{"metrics", []string{"BIO_METRICS_LISTEN=[::1]:9090", "BIO_LOG=debug"}, func(s *Settings) {
			s.MetricsListen = "[::1]:9090"
			s.Log = slog.LevelDebug
		}},
		{"same port on two addresses", []string{"BIO_LISTEN=127.0.0.1:8080", "BIO_METRICS_LISTEN=127.0.0.2:8080"}, func(s *Settings) {
			s.Listen, s.MetricsListen = "127.0.0.1:8080", "127.0.0.2:8080"
		}},
		{"written defaults", written(Table()), func(*Settings) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := defaults()
			test.want(&want)
			got, err := Load(test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got\n%#v\nwant\n%#v", *got, want)
			}
			again(t, got)
		})
	}
}

// written gives every default that is literal as the environment.
func written(table []Setting) (environ []string) {
	for _, s := range table {
		if !strings.Contains(s.Default, " ") {
			environ = append(environ, s.Name+"="+s.Default)
		}
	}
	return environ
}

// counting is 32 bytes that count from the first in steps.
func counting(first, step int) Secret {
	s := make(Secret, 32)
	for i := range s {
		s[i] = byte(first + i*step)
	}
	return s
}

// again checks that s, printed as an environment, loads as itself.
func again(t *testing.T, s *Settings) {
	t.Helper()
	var environ []string
	for _, row := range table {
		environ = append(environ, row.Name+"="+row.show(s))
	}
	got, err := Load(environ)
	if err != nil {
		t.Fatalf("printed back as %q: %v", environ, err)
	}
	if !reflect.DeepEqual(got, s) {
		t.Fatalf("printed back as %q it gives\n%#v\nwant\n%#v", environ, *got, *s)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		environ string // variables, separated by spaces
		want    string // the problems as "SETTING: words of what is wrong", separated by "; "
	}{
		{"BIO_URL=http://example.com", "BIO_URL: plain http"},
		{"BIO_URL=http://localhost.example.com", "BIO_URL: plain http"},
		{"BIO_URL=https://user:hunter2@example.com", "BIO_URL: user name or password"},
		{"BIO_URL=https://example.com/auth", "BIO_URL: a path"},
		{"BIO_URL=https://example.com?", "BIO_URL: a query or a fragment"},
		{"BIO_URL=https://example.com?a=b", "BIO_URL: a query or a fragment"},
		{"BIO_URL=https://example.com#", "BIO_URL: a query or a fragment"},
		{"BIO_URL=https://example.com.", "BIO_URL: ends with a dot"},
		{"BIO_URL=https://example.com:", "BIO_URL: a port that is not one"},
		{"BIO_URL=https://example.com:0", "BIO_URL: a port that is not one"},
		{"BIO_URL=https://example.com:65536", "BIO_URL: a port that is not one"},
		{"BIO_URL=https://192.0.2.1", "BIO_URL: IP address"},
		{"BIO_URL=http://127.0.0.1:8080", "BIO_URL: IP address"},
		{"BIO_URL=http://127.1", "BIO_URL: IP address"},
		{"BIO_URL=https://0x7F.0X1", "BIO_URL: IP address"},
		{"BIO_URL=https://[::1]:8080", "BIO_URL: IP address"},
		{"BIO_URL=https://bücher.example", "BIO_URL: beyond ASCII"},
		{"BIO_URL=https://a_b.example", "BIO_URL: not a domain name"},
		{"BIO_URL=https://-a.example", "BIO_URL: not a domain name"},
		{"BIO_URL=https://a..example", "BIO_URL: not a domain name"},
		{"BIO_URL=https://fly.dev", "BIO_URL: public suffix"},
		{"BIO_URL=https://com", "BIO_URL: public suffix"},
		{"BIO_URL=ftp://example.com", "BIO_URL: neither https nor http"},
		{"BIO_URL=example.com", "BIO_URL: not a web address"},
		{"BIO_URL=https:example.com", "BIO_URL: not a web address"},
		{"BIO_URL=https://", "BIO_URL: not a web address"},
		{"BIO_URL=null", "BIO_URL: not a web address"},
		{"BIO_LISTEN=8080", "BIO_LISTEN: not an address to listen on"},
		{"BIO_LISTEN=:http", "BIO_LISTEN: not an address to listen on"},
		{"BIO_LISTEN=:65536", "BIO_LISTEN: not an address to listen on"},
		{"BIO_LISTEN=a_b:80", "BIO_LISTEN: not an address to listen on"},
		{"BIO_LISTEN=:0", "BIO_URL: cannot be known"},
		{"PORT=0", "PORT: not a port"},
		{"PORT=tcp://10.0.0.1:80", "PORT: not a port"},
		{"BIO_DATA=/a?b", "BIO_DATA: a character"},
		{"BIO_DATABASE_URL=libsql://db.example", "BIO_DATABASE_URL: keeps its data in a file"},
		{"BIO_DATABASE_URL=https://db.example BIO_DATABASE_TOKEN=x", "BIO_DATABASE_URL: keeps its data in a file"},
		{"BIO_DATABASE_URL=ws://db.example", "BIO_DATABASE_URL: keeps its data in a file"},
		{"BIO_DATABASE_TOKEN=x", "BIO_DATABASE_TOKEN: for a remote database"},
		{"BIO_DATABASE_URL=/data/bio.db", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file:", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file:/data/", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file:a/..", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file::memory:", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file:./:memory:", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file://host/bio.db", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_DATABASE_URL=file:bio.db?mode=memory", "BIO_DATABASE_URL: not the address of a file"},
		{"BIO_SECRET=short", "BIO_SECRET: at least 32 bytes"},
		{"BIO_SECRET=" + hexSecret[:62], "BIO_SECRET: at least 32 bytes"},
		{"BIO_SECRET=" + hexSecret[:44], "BIO_SECRET: at least 32 bytes"},
		{"BIO_SECRET=//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=", "BIO_SECRET: at least 32 bytes"},
		{"BIO_SECRET=" + base64Secret[:42] + "B", "BIO_SECRET: at least 32 bytes"},
		{"BIO_SECRET_PREVIOUS=" + hexSecret + ",short", "BIO_SECRET_PREVIOUS: (number 2) that is not at least 32 bytes"},
		{"BIO_SECRET_FILE=/nowhere/at/all", "BIO_SECRET_FILE: cannot be read"},
		{"BIO_SECRET_FILE=/dev/null", "BIO_SECRET_FILE: not name a regular file"},
		{"BIO_SECRET_FILE=/dev/null BIO_SECRET=" + hexSecret, "BIO_SECRET_FILE: set beside BIO_SECRET"},
		{"BIO_RP_ID=example.com", "BIO_RP_ID: neither the host"},
		{"BIO_URL=https://a.example.com BIO_RP_ID=https://example.com", "BIO_RP_ID: not a domain name"},
		{"BIO_URL=https://a.example.com BIO_RP_ID=ample.com", "BIO_RP_ID: neither the host"},
		{"BIO_URL=https://a.example.com BIO_RP_ID=b.a.example.com", "BIO_RP_ID: neither the host"},
		{"BIO_URL=https://a.example.com BIO_RP_ID=com", "BIO_RP_ID: public suffix"},
		{"BIO_URL=https://a.example.co.uk BIO_RP_ID=co.uk", "BIO_RP_ID: public suffix"},
		{"BIO_URL=https://a.fly.dev BIO_RP_ID=fly.dev", "BIO_RP_ID: public suffix"},
		{"BIO_URL=https://a.b.workers.dev BIO_RP_ID=workers.dev", "BIO_RP_ID: public suffix"},
		{"BIO_URL=https://a.github.io BIO_RP_ID=GitHub.io", "BIO_RP_ID: public suffix"},
		{"BIO_URL=https://a.b.compute.amazonaws.com BIO_RP_ID=amazonaws.com", "BIO_RP_ID: public suffix"},
		{"BIO_URL=http://a.localhost BIO_RP_ID=localhost", "BIO_RP_ID: public suffix"},
		{"BIO_RP_NAME=" + strings.Repeat("n", 65), "BIO_RP_NAME: 64 bytes"},
		{"BIO_RP_NAME=a\x1bb", "BIO_RP_NAME: printable"},
		{"BIO_RP_NAME=\xff", "BIO_RP_NAME: printable"},
		{"BIO_ORIGINS=https://a.example,http://b.example", "BIO_ORIGINS: (number 2) that is plain http"},
		{"BIO_ORIGINS=a.example,https://192.0.2.1", "BIO_ORIGINS: (number 1) that is not a web address; BIO_ORIGINS: (number 2) that has an IP address"},
		{"BIO_USER_VERIFICATION=discouraged", "BIO_USER_VERIFICATION: not a value"},
		{"BIO_RESIDENT_KEY=Required", "BIO_RESIDENT_KEY: not a value"},
		{"BIO_ATTESTATION=x", "BIO_ATTESTATION: not a value"},
		{"BIO_CHALLENGE_TTL=29s", "BIO_CHALLENGE_TTL: from 30s to 10m"},
		{"BIO_CHALLENGE_TTL=10m1s", "BIO_CHALLENGE_TTL: from 30s to 10m"},
		{"BIO_CHALLENGE_TTL=300", "BIO_CHALLENGE_TTL: not a duration"},
		{"BIO_CHALLENGE_TTL=60500ms", "BIO_CHALLENGE_TTL: whole seconds"},
		{"BIO_REGISTRATION=no", "BIO_REGISTRATION: not a value"},
		{"BIO_SESSION_IDLE=25h", "BIO_SESSION_IDLE: longer than BIO_SESSION_MAX"},
		{"BIO_SESSION_IDLE=0s", "BIO_SESSION_IDLE: from 5m to 9600h"},
		{"BIO_SESSION_MAX=-1h", "BIO_SESSION_MAX: from 5m to 9600h"},
		{"BIO_TRUSTED_PROXIES=10.0.0.0/8,proxy.example", "BIO_TRUSTED_PROXIES: (number 2) that is not a block"},
		{"BIO_TRUSTED_PROXIES=0.0.0.0/0,::/0", "BIO_TRUSTED_PROXIES: (number 1) that is every address; BIO_TRUSTED_PROXIES: (number 2) that is every address"},
		{"BIO_TRUSTED_PROXIES=::ffff:10.0.0.1", "BIO_TRUSTED_PROXIES: IPv6 form"},
		{"BIO_TRUSTED_PROXIES=fe80::1%eth0", "BIO_TRUSTED_PROXIES: not a block"},
		{"BIO_RECOVERY_DELAY=0", "BIO_RECOVERY_DELAY: from 1s to 720h"},
		{"BIO_RATE_LIMIT=20", "BIO_RATE_LIMIT: not a rate"},
		{"BIO_RATE_LIMIT=0/s", "BIO_RATE_LIMIT: not a rate"},
		{"BIO_RATE_LIMIT=20/d,200", "BIO_RATE_LIMIT: not a rate"},
		{"BIO_RATE_LIMIT=20/s,0", "BIO_RATE_LIMIT: not a rate"},
		{"BIO_RATE_LIMIT=20/s,200,3", "BIO_RATE_LIMIT: not a rate"},
		{"BIO_REFUSAL_LIMIT=-300/m", "BIO_REFUSAL_LIMIT: not a rate"},
		{"BIO_REFUSAL_LIMIT=1000001/m", "BIO_REFUSAL_LIMIT: not a rate"},
		{"BIO_METRICS_LISTEN=9090", "BIO_METRICS_LISTEN: not an address to listen on"},
		{"BIO_METRICS_LISTEN=127.0.0.1:8080", "BIO_METRICS_LISTEN: the address of BIO_LISTEN"},
		{"BIO_LOG=trace", "BIO_LOG: not a value"},
		{"BIO_B=1 BIO_A=1 BIO_URL=x", "BIO_URL: not a web address; BIO_A: not a setting; BIO_B: not a setting"},
		{"BIO_\n=1", `BIO_\n: not a setting`},
	} {
		t.Run(strings.ToValidUTF8(test.environ, "?"), func(t *testing.T) {
			_, err := Load(strings.Split(test.environ, " "))
			problems := new(Problems)
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			wants := strings.Split(test.want, "; ")
			if len(*problems) != len(wants) {
				t.Fatalf("got %v\nwant %s", err, test.want)
			}
			for i, p := range *problems {
				setting, wrong, _ := strings.Cut(wants[i], ": ")
				if p.Setting != setting || !strings.Contains(p.Wrong, wrong) || p.Mend == "" {
					t.Errorf("got %v, want %s", p, wants[i])
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the problem holds the value: %v", err)
			}
		})
	}
}

func TestUnknownSetting(t *testing.T) {
	for name, mend := range map[string]string{
		"BIO_ULR":                          "Did you mean BIO_URL?",
		"BIO_SESSION_MAXIMUM":              "Did you mean BIO_SESSION_MAX?",
		"BIO_RATELIMIT":                    "Did you mean BIO_RATE_LIMIT?",
		"BIO_GATEWAY_DOMAIN":               "Unset it.",
		"BIO_URL_FILE":                     "Only secrets are read from files. Set BIO_URL itself.",
		"BIO_SERVICE_HOST":                 "enableServiceLinks: false",
		"BIO_PORT":                         "enableServiceLinks: false",
		"BIO_PORT_80_TCP":                  "enableServiceLinks: false",
		"BIO_" + strings.Repeat("X", 1000): "Unset it.",
	} {
		_, err := Load([]string{name + "=x"})
		problems := new(Problems)
		if !errors.As(err, &problems) || len(*problems) != 1 || (*problems)[0].Setting != name || !strings.Contains((*problems)[0].Mend, mend) {
			t.Errorf("%s: got %v, want %q", name, err, mend)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	var environ []string
	for _, row := range table {
		environ = append(environ, row.Name+"=?")
	}
	_, err := Load(environ)
	if err == nil {
		t.Fatal("no error")
	}
	for _, row := range table {
		// A relying party cannot be judged without an address, and "?" is a
		// fine name for one, and says something to a model.
		if row.Name == "BIO_RP_ID" || row.Name == "BIO_RP_NAME" || row.Name == "BIO_AGENT_SYSTEM" {
			continue
		}
		if !strings.Contains(err.Error(), "\n  "+row.Name+" ") {
			t.Errorf("%s=? is no problem:\n%v", row.Name, err)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(write("target", hexSecret+"\r\n", 0o440), link); err != nil {
		t.Fatal(err)
	}

	for name, path := range map[string]string{
		"as it is":      write("bare", hexSecret, 0o600),
		"with newline":  write("newline", hexSecret+"\n", 0o400),
		"through links": link, // as Kubernetes mounts secrets
	} {
		s, err := Load([]string{"BIO_SECRET_FILE=" + path, "BIO_SECRET_PREVIOUS_FILE=" + path})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !s.Secret.Equal(counting(0, 1)) || len(s.Previous) != 1 || !s.Previous[0].Equal(s.Secret) {
			t.Errorf("%s: read something else", name)
		}
	}

	for wrong, path := range map[string]string{
		"is open to everyone":     write("open", hexSecret, 0o604),
		"names an empty file":     write("empty", "\n", 0o600),
		"more than 64 KiB":        write("large", strings.Repeat("0", maxFile+1), 0o600),
		"not name a regular file": dir,
		"at least 32 bytes":       write("short", "hunter2", 0o600),
	} {
		_, err := Load([]string{"BIO_SECRET_FILE=" + path})
		if err == nil || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
	_, err := Load([]string{"BIO_DATABASE_TOKEN_FILE=" + write("token", "x", 0o600)})
	if err == nil || !strings.Contains(err.Error(), "BIO_DATABASE_TOKEN is for a remote database") {
		t.Errorf("a token's file: got %v", err)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	s, err := Load([]string{"BIO_SECRET=" + hexSecret, "BIO_SECRET_PREVIOUS=" + base64Secret})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{s, *s, s.Secret, s.Previous, &s.Secret, struct{ S Secret }{s.Secret}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("settings", "all", s, "secret", s.Secret)
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", "all", s, "secret", s.Secret)

	all := strings.ToLower(out.String())
	for _, leak := range []string{
		hexSecret[:16], strings.ToLower(base64Secret[:8]), "fffefdfc", // hex and base64url
		"aaecawqf",             // base64 of the first
		"[0 1 2 3", "0x0, 0x1", // slices of bytes
		"255 254",
	} {
		if strings.Contains(all, leak) {
			t.Errorf("%q leaks in:\n%s", leak, all)
		}
	}
	if !strings.Contains(s.String(), "BIO_SECRET=[redacted]\n") || !strings.Contains(s.String(), "BIO_RP_NAME=Bio\n") {
		t.Errorf("String gives:\n%s", s)
	}
}

func TestDerived(t *testing.T) {
	for _, test := range []struct {
		environ []string
		health  string
		origins string
		secure  bool
	}{
		{nil, "http://127.0.0.1:8080/healthz", "[http://localhost:8080]", false},
		{[]string{"PORT=81"}, "http://127.0.0.1:81/healthz", "[http://localhost:81]", false},
		{[]string{"BIO_LISTEN=[::]:80"}, "http://127.0.0.1:80/healthz", "[http://localhost]", false},
		{[]string{"BIO_LISTEN=[::1]:80"}, "http://[::1]:80/healthz", "[http://localhost]", false},
		{[]string{"BIO_LISTEN=192.0.2.1:80", "BIO_URL=https://a.example", "BIO_ORIGINS=https://b.example"}, "http://192.0.2.1:80/healthz", "[https://a.example https://b.example]", true},
	} {
		s, err := Load(test.environ)
		if err != nil {
			t.Fatal(err)
		}
		if s.HealthURL() != test.health || fmt.Sprint(s.AllOrigins()) != test.origins || s.Secure() != test.secure || s.Origin() != s.AllOrigins()[0] {
			t.Errorf("%q: got %s, %v, %v", test.environ, s.HealthURL(), s.AllOrigins(), s.Secure())
		}
	}
	if got := (Rate{Events: 300, Per: time.Minute}).PerSecond(); got != 5 {
		t.Errorf("300/m is %v a second", got)
	}
}

// TestReadme holds the README's table of settings to the one that is parsed:
// the same names and defaults in the same order.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(readme)) {
		if !strings.HasPrefix(line, "| `BIO_") {
			continue
		}
		cells := strings.Split(strings.ReplaceAll(line, "`", ""), "|")
		if len(cells) < 4 {
			t.Fatalf("a row without a default: %s", line)
		}
		got = append(got, strings.TrimSpace(cells[1])+" = "+strings.TrimSpace(cells[2]))
	}
	var want []string
	for _, s := range Table() {
		want = append(want, s.Name+" = "+s.Default)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("README.md has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("")
	f.Add("BIO_URL=https://Auth.example.com:8443/\nBIO_RP_ID=example.com\nBIO_ORIGINS=https://a.example,http://localhost")
	f.Add("BIO_LISTEN=[::ffff:127.0.0.1]:0080\nBIO_METRICS_LISTEN=off\nBIO_TRUSTED_PROXIES=10.1.2.3/8,fdaa::1/16,192.0.2.1")
	f.Add("BIO_SECRET=" + hexSecret + "\nBIO_SECRET_PREVIOUS=" + base64Secret + "=," + hexSecret)
	f.Add("BIO_DATA=//a/../b/\nBIO_DATABASE_URL=file:///./:memory:/x\nPORT=080\nBIO_RP_NAME= Zoë ")
	f.Add("BIO_RATE_LIMIT=020/s , 1\nBIO_SESSION_IDLE=1.5h\nBIO_SESSION_MAX=5400s\nBIO_LOG=warn\nBIO_XYZ\x00=\xff")
	f.Add("BIO_URL=https://user:pass@[::1%25eth0]:99999/?#\nBIO_SECRET_FILE=/dev/null\nBIO_DATABASE_TOKEN=x")
	f.Fuzz(func(t *testing.T, environ string) {
		s, err := Load(strings.Split(environ, "\n"))
		if err != nil {
			problems := new(Problems)
			if !errors.As(err, &problems) || len(*problems) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			return
		}
		again(t, s)
	})
}
