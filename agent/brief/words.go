package brief

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// active makes the marks of Markdown, and of what GitHub's flavour links without
// marks, read as they are. Words of ours stand before every name, so that marks
// which only count at the beginning of a line do not count.
var active = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "&", `\&`,
	"@", `\@`, "://", `\://`, "www.", `www\.`,
)

// plain is a name as Markdown that reads as the name does: on one line, at most
// 40 characters of it, without those that cannot be seen; empty when none can.
func plain(name string) string {
	const most = 40
	seen := func(r rune) bool { return unicode.IsPrint(r) && r != ' ' && r != unicode.ReplacementChar }
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case seen(r) || unicode.Is(unicode.Join_Control, r): // which some scripts are spelt with
			return r
		}
		return -1
	}, name)
	runes := []rune(strings.Join(strings.Fields(name), " "))
	if len(runes) > most {
		runes = append(runes[:most-1], '…')
	}
	if name = string(runes); !strings.ContainsFunc(name, seen) {
		return ""
	}
	return active.Replace(name)
}

// called is a passkey's name in brackets, after a space, or nothing where the
// name says nothing.
func called(passkey string) string {
	name := plain(passkey)
	if name == "" || strings.EqualFold(name, "passkey") {
		return ""
	}
	return " (" + name + ")"
}

// yours names the passkey of acts, of which there is at least one.
func (f Facts) yours(acts []Act) string {
	if len(f.Passkeys) <= 1 {
		return "your passkey"
	}
	for _, act := range acts {
		if act.Passkey != acts[0].Passkey {
			return "one of your passkeys"
		}
	}
	if name := called(acts[0].Passkey); name != "" {
		return "your passkey" + name
	}
	return "one of your passkeys"
}

// here reports whether something came from where this visit comes from, as far
// as that is known at all.
func (f Facts) here(v Visit) bool {
	return v.Browser+v.System+v.Network != "" &&
		v.Browser == f.Visit.Browser && v.System == f.Visit.System && v.Network == f.Visit.Network
}

// from says where something came from, beginning with a comma, or nothing.
func (f Facts) from(v Visit) string {
	with := v.with()
	if with != "" {
		if f.here(v) {
			return ", from a browser like this one"
		}
		with = ", " + with
	}
	switch {
	case v.Network == "":
		return with
	case v.Network == f.Visit.Network:
		return with + ", on this same network"
	case local(v.Network):
		return with + ", from this machine"
	}
	return with + ", from " + plain(v.Network)
}

// with is "with Firefox on Linux", or what is known of that.
func (v Visit) with() string {
	browser, system := plain(v.Browser), plain(v.System)
	switch {
	case browser != "" && system != "":
		return "with " + browser + " on " + system
	case browser != "":
		return "with " + browser
	case system != "":
		return "on " + system
	}
	return ""
}

// local reports whether a network is the machine that Bio runs on.
func local(network string) bool { return network == "127.0.0.0/24" || network == "::/48" }

// count is how often it happened.
func count(acts []Act) (n int) {
	for _, act := range acts {
		n += max(1, act.Count)
	}
	return n
}

// times is how often something happened, and when last.
func times(n int, last Act, now time.Time) string {
	switch n {
	case 1:
		return " " + Ago(now, last.At)
	case 2:
		return " twice, the last time " + Ago(now, last.At)
	}
	return fmt.Sprintf(" %d times, the last %s", n, Ago(now, last.At))
}

func justNow(now, t time.Time) bool { return now.Sub(t) < time.Minute }

// Ago is how long before now t was, in words. Days are counted in 24 hours, for
// the person's midnight is not known.
func Ago(now, t time.Time) string {
	const day = 24 * time.Hour
	since := now.Sub(t)
	several := func(unit time.Duration, name string) string { return fmt.Sprintf("%d %s ago", since/unit, name) }
	switch {
	case justNow(now, t):
		return "just now"
	case since < 2*time.Minute:
		return "a minute ago"
	case since < time.Hour:
		return several(time.Minute, "minutes")
	case since < 2*time.Hour:
		return "an hour ago"
	case since < day:
		return several(time.Hour, "hours")
	case since < 2*day:
		return "yesterday"
	case since < 14*day:
		return several(day, "days")
	case since < 61*day:
		return several(7*day, "weeks")
	case since < 730*day:
		return several(365*day/12, "months")
	}
	return several(365*day, "years")
}

// ahead is how long after now t is, in words, rounded up.
func ahead(now, t time.Time) string {
	const day = 24 * time.Hour
	until := t.Sub(now)
	in := func(unit time.Duration, one, many string) string {
		n := (until + unit - 1) / unit
		if n == 1 {
			return "in " + one
		}
		return fmt.Sprintf("in %d %s", n, many)
	}
	switch {
	case until <= 0:
		return "from now on"
	case until <= time.Minute:
		return in(time.Second, "a second", "seconds")
	case until <= time.Hour:
		return in(time.Minute, "a minute", "minutes")
	case until <= 2*day:
		return in(time.Hour, "an hour", "hours")
	}
	return in(day, "a day", "days")
}
