package views

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bio/agent"
)

// TestLinks checks what a person sees of a link, and where it leads.
func TestLinks(t *testing.T) {
	const away = ` rel="noopener noreferrer nofollow" dir="ltr">`
	for text, want := range map[string]string{
		// On Bio, words are enough.
		"[Add a second passkey](/account#passkeys)":      `<a href="/account#passkeys">Add a second passkey</a>`,
		"[**Add** *one*, “now” & here (it's free)!](/a)": `<a href="/a"><strong>Add</strong> <em>one</em>, “now” &amp; here (it&#39;s free)!</a>`,
		"[Look at it.](/account)":                        `<a href="/account">Look at it.</a>`,
		"[パスキー](/a) [کلید\u200cها](/b) [🔑 Key](/c)":      `<a href="/a">パスキー</a> <a href="/b">کلید` + "\u200c" + `ها</a> <a href="/c">🔑 Key</a>`,
		"[/account](/account) [](/b)":                    `<a href="/account">/account</a> <a href="/b">/b</a>`,

		// What could be an address does not stand for another.
		"[https://bank.example](/account)":            `https://bank.example (<a href="/account">/account</a>)`,
		"[bank.example](/a) [**bank**.example/x](/a)": `bank.example (<a href="/a">/a</a>) <strong>bank</strong>.example/x (<a href="/a">/a</a>)`,
		"[bank。example](/a)":                          `bank。example (<a href="/a">/a</a>)`,
		"[bank․example](/a)":                          `bank․example (<a href="/a">/a</a>)`,
		"[bank&#46;example](/a)":                      `bank.example (<a href="/a">/a</a>)`,
		"[bank·example](/a)":                          `bank·example (<a href="/a">/a</a>)`,
		"[localhost:8080](/a)":                        `localhost:8080 (<a href="/a">/a</a>)`,
		"[//bank](/a) [\\\\\\\\bank](/a)":             `//bank (<a href="/a">/a</a>) \\bank (<a href="/a">/a</a>)`,
		"[`/account`](/sign-out)":                     `<code>/account</code> (<a href="/sign-out">/sign-out</a>)`,
		"[a\u202eb](/a) [a\u200bb](/a)":               `ab (<a href="/a">/a</a>) ab (<a href="/a">/a</a>)`,

		// What opens a press is not a link, on Bio or where Bio may be.
		"[https://bank.example](/?recover=TOKEN)":  `https://bank.example (/?recover=TOKEN)`,
		"[here](/?invite=TOKEN#a)":                 `here (/?invite=TOKEN#a)`,
		"[here](/account?a)":                       `here (/account?a)`,
		"[here](/&#63;return_to=/a)":               `here (/?return_to=/a)`,
		"[here](https://bio.example/?rd=/a)":       `here (https://bio.example/?rd=/a)`,
		"[here](https://bio.example/?recover=a)":   `here (https://bio.example/?recover=a)`,
		"<https://bio.example/?recover=a>":         `https://bio.example/?recover=a`,
		"https://bio.example/?invite=a.":           `https://bio.example/?invite=a.`,
		"www.bio.example/./?invite=a":              `www.bio.example/./?invite=a`,
		"[a](https://a.example/b?invite=c)":        `a (<a href="https://a.example/b?invite=c"` + away + `https://a.example/b?invite=c</a>)`,
		"[/account](https://evil.example/account)": `/account (<a href="https://evil.example/account"` + away + `https://evil.example/account</a>)`,
	} {
		answer := answered(t, agent.Event{Text: text})
		checkSafe(t, answer)
		got, _ := strings.CutPrefix(answer, `<div data-kind="text"><p dir="auto">`)
		if got, _ = strings.CutSuffix(got, "</p></div>"); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// TestLinksOfBrief checks that what the agent in the box links to is a link, with
// its words alone.
func TestLinksOfBrief(t *testing.T) {
	files, err := filepath.Glob("../agent/brief/testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	link, links := regexp.MustCompile(`(?:^|[^\\])\[([A-Za-z ]+)\]\((/[a-z#]+)\)`), 0
	for _, file := range files {
		answer := answered(t, output(t, file))
		for _, l := range link.FindAllStringSubmatch(output(t, file).Text, -1) {
			links++
			if want := `<a href="` + l[2] + `">` + l[1] + `</a>`; !strings.Contains(answer, want) {
				t.Errorf("%s has no %s: %s", file, want, answer)
			}
		}
	}
	if links < 10 {
		t.Errorf("only %d links", links)
	}
}
