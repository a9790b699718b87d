package config

import (
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	prefix     = "BIO_"
	fileSuffix = "_FILE"
	// maxFile is the size of the largest secret file, in bytes.
	maxFile = 64 << 10
)

// Rate is a token bucket: Events per Per on average, Burst at once.
type Rate struct {
	Events int
	Per    time.Duration // a second, a minute or an hour
	Burst  int
}

// PerSecond is the average rate in events a second.
func (r Rate) PerSecond() float64 { return float64(r.Events) / r.Per.Seconds() }

// String is the rate as a setting spells it, such as "20/s,200".
func (r Rate) String() string {
	for unit, per := range units {
		if per == r.Per {
			return fmt.Sprintf("%d/%s,%d", r.Events, unit, r.Burst)
		}
	}
	return ""
}

var units = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// loader holds one environment while Load reads it. An empty variable counts
// as unset, as compose files and init systems write it.
type loader struct {
	env      map[string]string
	files    map[string]file // secrets, by the setting's name
	problems Problems
}

// file is what a NAME_FILE variable gave; a bad one has had its problem.
type file struct {
	content string
	ok      bool
}

func newLoader(environ []string) *loader {
	l := &loader{env: map[string]string{}, files: map[string]file{}}
	for _, kv := range environ {
		name, v, ok := strings.Cut(kv, "=")
		if _, twice := l.env[name]; ok && !twice {
			l.env[name] = v
		}
	}
	for _, row := range table {
		path := l.env[row.Name+fileSuffix]
		if !row.Secret || path == "" {
			continue
		}
		if l.env[row.Name] != "" {
			l.problem(row.Name+fileSuffix, "is set beside "+row.Name, "Keep one of the two.")
			continue
		}
		content, wrong, mend := readSecretFile(path)
		if wrong != "" {
			l.problem(row.Name+fileSuffix, wrong, mend)
		}
		l.files[row.Name] = file{content: content, ok: wrong == ""}
	}
	return l
}

func (l *loader) problem(name, wrong, mend string) {
	l.problems = append(l.problems, Problem{Setting: name, Wrong: wrong, Mend: mend})
}

// lookup gives a setting that is set, from the environment or from its file.
func (l *loader) lookup(name string) (string, bool) {
	if f, ok := l.files[name]; ok {
		return f.content, f.ok
	}
	v := l.env[name]
	return v, v != ""
}

// value gives a setting or else its default.
func (l *loader) value(name string) string {
	if v, ok := l.lookup(name); ok {
		return v
	}
	i := slices.IndexFunc(table, func(row row) bool { return row.Name == name })
	return table[i].Default
}

// unknown finds the variables that look like settings and are none.
func (l *loader) unknown() {
	known := map[string]bool{}
	for _, row := range table {
		known[row.Name] = true
		known[row.Name+fileSuffix] = row.Secret
	}
	for name, v := range l.env {
		if !strings.HasPrefix(name, prefix) || v == "" || known[name] {
			continue
		}
		mend := "Unset it."
		if _, ofTable := known[name]; ofTable {
			mend = "Only secrets are read from files. Set " + strings.TrimSuffix(name, fileSuffix) + " itself."
		} else if near := nearest(name); near != "" {
			mend = "Did you mean " + near + "?"
		} else if kubernetes(name) {
			mend = "Kubernetes sets it for a Service of that name. Set enableServiceLinks: false in the pod."
		}
		l.problem(strings.Trim(strconv.QuoteToASCII(name), `"`), "is not a setting of this version", mend)
	}
}

// kubernetes reports whether name is one that Kubernetes puts into every pod
// beside a Service called bio or bio-something.
func kubernetes(name string) bool {
	return strings.Contains(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		name == "BIO_PORT" || strings.Contains(name, "_PORT_")
}

// nearest gives the setting that name most likely misspells, or "".
func nearest(name string) string {
	name = strings.TrimPrefix(name, prefix)
	if len(name) > 64 {
		return ""
	}
	best, at := "", max(2, len(name)/3)+1
	for _, row := range table {
		if d := distance(name, strings.TrimPrefix(row.Name, prefix)); d < at {
			best, at = row.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	line := make([]int, len(b)+1)
	for j := range line {
		line[j] = j
	}
	for i := range len(a) {
		diagonal := line[0]
		line[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = line[j+1]
			line[j+1] = min(cost, line[j]+1, line[j+1]+1)
		}
	}
	return line[len(b)]
}

// readSecretFile reads a secret without its trailing line break. What is wrong
// with the file is empty when nothing is.
func readSecretFile(path string) (content, wrong, mend string) {
	const unreadable = "names a file that cannot be read"
	// Stat comes first: to open a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return "", unreadable, "Check that it exists and that this user may read it."
	}
	if !info.Mode().IsRegular() {
		return "", "does not name a regular file", "Write the secret into a file of its own."
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", "names a file that is open to everyone", "Run chmod o= on it; for a mounted secret set its mode to 0400."
	}
	f, err := os.Open(path)
	if err != nil {
		return "", unreadable, "Check that this user may read it."
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", unreadable, "Check the disk that it is on."
	case len(b) > maxFile:
		return "", "names a file of more than 64 KiB", "Check that it holds the secret alone."
	}
	content = strings.TrimRight(string(b), "\r\n")
	if content == "" {
		return "", "names an empty file", "Write the secret into it."
	}
	return content, "", ""
}

// list gives the entries of a comma-separated list with their places, the
// first being 1. Empty entries are passed over, so a trailing comma is fine.
func list(v string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if n++; !yield(n, item) {
				return
			}
		}
	}
}

func entry(n int) string { return fmt.Sprintf("has an entry (number %d) that", n) }

func oneOf[T ~string](l *loader, name string, choices ...T) T {
	v := T(l.value(name))
	if slices.Contains(choices, v) {
		return v
	}
	var known []string
	for _, c := range choices {
		known = append(known, string(c))
	}
	l.problem(name, "is not a value that it can have", "Write "+strings.Join(known, " or ")+".")
	return ""
}

// duration reads a duration of whole seconds, since tokens count in seconds.
// It gives 0 for a bad one.
func (l *loader) duration(name string, from, to time.Duration) time.Duration {
	d, err := time.ParseDuration(l.value(name))
	if err == nil && d >= from && d <= to && d%time.Second == 0 {
		return d
	}
	l.problem(name, fmt.Sprintf("is not a duration of whole seconds from %s to %s", short(from), short(to)),
		fmt.Sprintf("Write one such as %s.", short(max(from, time.Minute))))
	return 0
}

// short writes a duration without its zero parts: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseRate(v string) (Rate, bool) {
	const most = 1_000_000
	rate, burst, hasBurst := strings.Cut(v, ",")
	number, unit, _ := strings.Cut(rate, "/")
	per, ok := units[strings.TrimSpace(unit)]
	events, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if !ok || err != nil || events < 1 || events > most {
		return Rate{}, false
	}
	r := Rate{Events: int(events), Per: per, Burst: int(events)}
	if hasBurst {
		n, err := strconv.ParseUint(strings.TrimSpace(burst), 10, 32)
		if err != nil || n < 1 || n > most {
			return Rate{}, false
		}
		r.Burst = int(n)
	}
	return r, true
}

func parsePort(v string) (string, bool) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > math.MaxUint16 {
		return "", false
	}
	return strconv.FormatUint(n, 10), true
}

// parseListen reads [host]:port for net.Listen. The host is an IP address or a
// name; none is every address.
func parseListen(v string) (string, bool) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", false
	}
	port, ok := parsePort(port)
	if !ok {
		return "", false
	}
	host = strings.ToLower(host)
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	} else if host != "" && !domainName(host) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// clash reports whether two listen addresses cannot be used at once. Port 0 is
// a new port each time.
func clash(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && (hostA == hostB || wildcard(hostA) || wildcard(hostB))
}

// wildcard reports whether host is every address of the machine.
func wildcard(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// plainPath reports whether path can stand in a file: address, and on a line
// of a log, as it is.
func plainPath(path string) bool {
	return !strings.ContainsAny(path, "?#%") && strings.IndexFunc(path, unicode.IsControl) < 0
}
