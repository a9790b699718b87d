package views

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark/ast"
	gmtext "github.com/yuin/goldmark/text"
	"golang.org/x/net/html"

	"bio/agent"
)

// answered is the HTML of one event of an agent whose run has ended.
func answered(t *testing.T, e agent.Event) string {
	t.Helper()
	run := running
	run.Status = "done"
	page := rendered(t, follow(ran(run, e)))
	answer, ok := strings.CutSuffix(page, `<p data-final="done"></p>`)
	if !ok {
		t.Fatalf("no end: %s", page)
	}
	return answer
}

// TestUsual compares what agents usually say with goldens.
func TestUsual(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.[mj]*")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return !strings.HasPrefix(file, "testdata/markdown/") && !strings.HasPrefix(file, "testdata/data/")
	})
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			answer := answered(t, output(t, file))
			checkSafe(t, answer)
			// A line for each element is a golden that can be read.
			got := regexp.MustCompile(`<(div|h[3-6]|p|ul|ol|li|pre|blockquote|thead|tbody|tr|hr|dl|dt|details)\b`).ReplaceAllString(answer, "\n$0") + "\n"
			golden := strings.TrimSuffix(file, filepath.Ext(file)) + ".golden.html"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestOutline(t *testing.T) {
	for _, test := range []struct{ written, want []int }{
		{[]int{1, 2, 3, 2, 1}, []int{3, 4, 5, 4, 3}},
		{[]int{2, 4, 6, 3, 2, 1, 6}, []int{3, 4, 5, 4, 3, 3, 4}},
		{[]int{1, 2, 3, 4, 5, 6}, []int{3, 4, 5, 6, 6, 6}},
	} {
		var headings outline
		var got []int
		for _, level := range test.written {
			got = append(got, headings.level(level))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v are on the page %v, want %v", test.written, got, test.want)
		}
	}
}

func TestDestination(t *testing.T) {
	const none, bio, away = "", "bio ", "away "
	for address, want := range map[string]string{
		"/account":                    bio + "/account",
		"/":                           bio + "/",
		"/a=b&d=é#ü":                  bio + "/a=b&d=%C3%A9#%C3%BC",
		"/account?#passkeys":          bio + "/account#passkeys",
		"/#?invite=a":                 bio + "/#?invite=a",
		"/%3Finvite=a":                bio + "/%3Finvite=a",
		"/a\"<b>'":                    bio + "/a%22%3Cb%3E%27",
		"/a%2Fb/../c":                 bio + "/a%2Fb/../c",
		"https://example.com":         away + "https://example.com",
		"HTTPS://Example.COM:8443/a?": away + "https://example.com:8443/a",
		"http://bücher.example/ü?ß#é": away + "http://xn--bcher-kva.example/%C3%BC?%C3%9F#%C3%A9",
		"https://bаnk.example/":       away + "https://xn--bnk-6cd.example/",
		"https://ｅｖｉｌ。example":        away + "https://evil.example",
		"http://192.0.2.1:080/":       away + "http://192.0.2.1:80/",
		"http://[2001:DB8:0::1]:80/a": away + "http://[2001:db8::1]:80/a",
		"https://example.com/@a:b":    away + "https://example.com/@a:b",
		"https://example.com/|{}^`":   away + "https://example.com/%7C%7B%7D%5E%60",
		"https://example.com/a?b=c&d": away + "https://example.com/a?b=c&d",
		"https://example.com/?a=b":    away + "https://example.com/?a=b",
		"https://a.example/b?invite=": away + "https://a.example/b?invite=",

		"":                          none,
		"a":                         none,
		"#a":                        none,
		"?a":                        none,
		".":                         none,
		"../a":                      none,
		"//example.com":             none,
		"///example.com":            none,
		`/\example.com`:             none,
		`\\example.com`:             none,
		"/\t/example.com":           none,
		"/a b":                      none,
		"/a\x7f":                    none,
		"/%zz":                      none,
		"https:/example.com":        none,
		"https:example.com":         none,
		"https://":                  none,
		"http:///example.com":       none,
		"https://a@example.com":     none,
		"https://a:b@example.com":   none,
		"https://@example.com":      none,
		`https://a\@example.com`:    none,
		"https://a%40example.com":   none,
		"https://example.com:":      none,
		"https://example.com:99999": none,
		"https://a_b.example":       none,
		"https://-a.example":        none,
		"https://a..example":        none,
		"http://0x7f.1":             none,
		"http://127.1":              none,
		"http://2130706433":         none,
		"http://a.0x":               none,
		"http://192.0.2.1.":         none,
		"http://[fe80::1%25eth0]/":  none,
		"http://[::ffff:192.0.2.1":  none,
		"javascript:alert(1)":       none,
		"data:,":                    none,
		"mailto:a@example.com":      none,
		"ftp://example.com":         none,
		"blob:https://example.com":  none,

		// What opens a press that is not the person's own.
		"/?recover=a":                         none,
		"/?invite=a":                          none,
		"/?return_to=/a":                      none,
		"/?a":                                 none,
		"/account?before=2":                   none,
		"/a/../?invite=a#b":                   none,
		"https://bio.example?recover=a":       none,
		"https://bio.example/?recover=a":      none,
		"https://bio.example/?a&%69nvite=b":   none,
		"https://bio.example//?return_to=b":   none,
		"https://bio.example/a/../?invite=b":  none,
		"https://bio.example/%2e/?invite=b":   none,
		"http://bio.example:8080/?&recover#a": none,
	} {
		got := none
		if to, ok := destination(address); ok && to.leaves {
			got = away + to.href
		} else if ok {
			got = bio + to.href
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
		if _, href, ok := strings.Cut(got, " "); ok {
			if again, ok := destination(href); !ok || again.href != href {
				t.Errorf("%q is %q, which is %q", address, href, again.href)
			}
		}
	}
}

// allowed are the elements that an agent's text and data may become, and their
// attributes with what these may say. It repeats policy, which checkSafe checks.
var allowed = map[string]map[string]string{
	"p": {"class": "small", "dir": "auto"}, "br": {}, "hr": {},
	"h3": {"dir": "auto"}, "h4": {"dir": "auto"}, "h5": {"dir": "auto"}, "h6": {"dir": "auto"}, "blockquote": {"dir": "auto"},
	"ul": {"dir": "auto"}, "ol": {"start": `\d{1,9}`, "dir": "auto"}, "li": {"class": "task"},
	"pre": {"tabindex": "0", "dir": "auto"}, "code": {}, "em": {}, "strong": {}, "del": {},
	"a":     {"href": `/|/[^/\\?][^?]*|https?://[a-z0-9.\[:-][!-~]*`, "rel": "noopener noreferrer nofollow", "dir": "ltr"},
	"div":   {"data-kind": "text|data", "dir": "auto", "class": "wide", "role": "group", "aria-label": "Table", "tabindex": "0"},
	"table": {}, "thead": {}, "tbody": {}, "tr": {},
	"th": {"class": "center|right|", "scope": "col"}, "td": {"class": "center|right|"},
	"dl": {}, "dt": {}, "dd": {}, "details": {"open": ""}, "summary": {}, "span": {"class": "small|tail", "data-kind": "text"},
}

// unseen are characters that no text has.
var unseen = regexp.MustCompile(`[\x00\x1b\x{ad}\x{200b}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e00ff}]`)

// checkSafe fails unless fragment is whole and has nothing that is not allowed,
// every link that leaves says where to, none on Bio seems to lead elsewhere, and
// nothing reorders the text.
func checkSafe(t *testing.T, fragment string) {
	t.Helper()
	if !utf8.ValidString(fragment) || unseen.MatchString(fragment) {
		t.Errorf("characters that are not for reading in %.200q", fragment)
	}
	var open []string
	href, label := "", ""
	for z := html.NewTokenizer(strings.NewReader(fragment)); z.Next() != html.ErrorToken; {
		switch token := z.Token(); token.Type {
		case html.TextToken:
			label += token.Data
		case html.StartTagToken:
			may, ok := allowed[token.Data]
			if !ok {
				t.Errorf("<%s>", token.Data)
			}
			if token.Data == "a" && slices.Contains(open, "a") {
				t.Error("a link in a link")
			}
			for i, a := range token.Attr {
				if form, ok := may[a.Key]; !ok || !regexp.MustCompile(`^(`+form+`)$`).MatchString(a.Val) {
					t.Errorf("<%s %s=%q>", token.Data, a.Key, a.Val)
				}
				if slices.ContainsFunc(token.Attr[:i], func(b html.Attribute) bool { return a.Key == b.Key }) {
					t.Errorf("<%s> has %s twice", token.Data, a.Key)
				}
				if a.Key == "href" {
					href, label = a.Val, ""
					checkAddress(t, href, len(token.Attr))
				}
			}
			if token.Data != "br" && token.Data != "hr" {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> in %v", token.Data, open)
			}
			open = open[:len(open)-1]
			if token.Data == "a" && href != label && (href[0] != '/' || regexp.MustCompile(`\w[./:]\w|//`).MatchString(label)) {
				t.Errorf("a link to %q says %q", href, label)
			}
		default:
			t.Errorf("%v %q", token.Type, token.Data)
		}
		if len(open) > 3*maxDepth {
			t.Fatalf("%d elements in each other", len(open))
		}
	}
	if len(open) > 0 {
		t.Errorf("%v are not closed", open)
	}
}

func checkAddress(t *testing.T, href string, attributes int) {
	t.Helper()
	u, err := url.Parse(href)
	switch {
	case err != nil:
		t.Errorf("%q: %v", href, err)
	case href[0] == '/':
		if u.Host != "" || attributes != 1 {
			t.Errorf("%q leads away", href)
		}
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || attributes != 3:
		t.Errorf("%q has %d attributes", href, attributes)
	}
}

// output is a file of testdata as an event: Markdown or JSON.
func output(t testing.TB, file string) agent.Event {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) == ".json" {
		return agent.Event{Kind: agent.Data, Data: json.RawMessage(content)}
	}
	return agent.Event{Text: string(content)}
}

// hostileOutput is the corpus of what agents could be made to say.
func hostileOutput(t testing.TB) map[string]agent.Event {
	t.Helper()
	files, err := filepath.Glob("testdata/hostile/*")
	if err != nil {
		t.Fatal(err)
	}
	events := map[string]agent.Event{}
	for _, file := range files {
		events[filepath.Base(file)] = output(t, file)
	}
	if len(events) < 40 {
		t.Fatalf("%d files", len(events))
	}
	return events
}

func TestHostileOutput(t *testing.T) {
	for name, event := range hostileOutput(t) {
		t.Run(name, func(t *testing.T) { checkSafe(t, answered(t, event)) })
	}
}

// TestHostileBeyondMarkdown checks that what is shown as it is written is text, and
// all of it, in no more elements than that takes.
func TestHostileBeyondMarkdown(t *testing.T) {
	for name, event := range hostileOutput(t) {
		if event.Text == "" {
			continue
		}
		run := running
		run.Status = "done"
		page := rendered(t, follow(ran(run, agent.Event{Text: strings.Repeat("a\n\n", maxParts)}, event)))
		checkSafe(t, page[:strings.Index(page, "<p data-final")])
		written := ""
		for n := range parse(t, page).Descendants() {
			if class, _ := attr(n, "class"); class == "tail" {
				if n.FirstChild.NextSibling != nil || n.FirstChild.Type != html.TextNode {
					t.Errorf("%s became elements", name)
				}
				written += inner(n)
			}
		}
		if want := strings.ReplaceAll(legible(lineEnds.Replace(event.Text)), "\u200f", ""); !strings.HasSuffix(strings.ReplaceAll(written, "\u200f", ""), want) {
			t.Errorf("%s became %.200q", name, written[max(0, len(written)-len(want)):])
		}
	}
}

// TestWalls checks that policy takes nothing from what the writer makes but how it
// is written: it is there for what the writer should not have made.
func TestWalls(t *testing.T) {
	for name, event := range hostileOutput(t) {
		var headings outline
		whole := event.Text
		if len(whole) > maxBlock {
			continue
		}
		source := []byte(whole)
		w := writer{source: source, headings: &headings}
		w.children(grammar().Parse(gmtext.NewReader(source)), 0)
		written := legible(w.String())
		if diff := cmp.Diff(shape(parse(t, written)), shape(parse(t, policy().Sanitize(written)))); diff != "" {
			t.Errorf("%s: -written +kept:\n%s", name, diff)
		}
	}
	for _, made := range []string{
		`<a href="javascript:alert(1)">`, `<a href="//evil.example">`, `<a href="/\evil.example">`, `<a href="https://a@evil.example" onclick="x">`,
		`<img src="/x">`, `<p style="x" id="x" class="x">`, `<pre tabindex="1">`, `<ol start="-1">`, `<script>x</script>`, `<div data-kind="x">`, `<a href="data:,">`,
	} {
		kept := policy().Sanitize(made)
		if regexp.MustCompile(`script|//evil|\\|click|src|style|id=|="x"|"1"|-1|data`).MatchString(kept) {
			t.Errorf("%s stays as %s", made, kept)
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, event := range hostileOutput(f) {
		if event.Text != "" && len(event.Text) < 1<<10 {
			f.Add(event.Text)
		}
	}
	f.Add("# a\n\n| a |\n|---|\n| **b** |\n\n1. [c](/d)\n   > e\n\n```\nf")
	f.Fuzz(func(t *testing.T, text string) { checkSafe(t, answered(t, agent.Event{Text: text})) })
}

func FuzzData(f *testing.F) {
	for _, event := range hostileOutput(f) {
		if event.Data != nil && len(event.Data) < 1<<10 {
			f.Add([]byte(event.Data))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSafe(t, answered(t, agent.Event{Kind: agent.Data, Data: data}))
	})
}

// bombs are texts of n bytes that cost a parser their square, or make more than
// they are.
var bombs = map[string]func(n int) string{
	"text":      func(n int) string { return fill("Some words, *a few* of them `loud`.\n\n", n) },
	"brackets":  func(n int) string { return strings.Repeat("[", n/2) + strings.Repeat("]", n/2) },
	"open":      func(n int) string { return fill("[", n) },
	"links":     func(n int) string { return fill("[a](", n) },
	"angles":    func(n int) string { return fill("[a](<b\n", n) },
	"emphasis":  func(n int) string { return fill("*a_ ", n) },
	"stars":     func(n int) string { return fill("*a ", n/2) + fill("a_ ", n/2) },
	"strikes":   func(n int) string { return fill("~~a ~b ", n) },
	"heading":   func(n int) string { return "# " + fill("[*_", n) },
	"underline": func(n int) string { return fill("*a_\n", n) + "\n===\n" },
	"quotes":    func(n int) string { return fill(">", n) },
	"deep":      func(n int) string { return fill("> - ", n) },
	"numbers":   func(n int) string { return fill("1. ", n) },
	"indented": func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			b.WriteString(strings.Repeat("  ", i) + "- a\n")
		}
		return b.String()
	},
	"cells":    func(n int) string { return fill("|a", n/4) + "\n" + fill("|-", n/4) + "\n" + fill("a\n", n/2) },
	"cell":     func(n int) string { return "|a|b|\n|-|-|\n|" + fill("[*_", n) },
	"pipes":    func(n int) string { return "|a|b|\n|-|-|\n" + fill("|`\\|`|`\\|`|\n", n) },
	"backtick": func(n int) string { return fill("`a``", n) },
	"words":    func(n int) string { return fill("_a", n) },
	"mail":     func(n int) string { return fill(" a@a.", n) },
	"entities": func(n int) string { return fill("&#", n) },
	"near":     func(n int) string { return fill(strings.Repeat("[", 125)+strings.Repeat("]", 125)+"\n\n", n) },
	"far":      func(n int) string { return fill("[a](<"+strings.Repeat("b", 520), n) },
	"images":   func(n int) string { return fill("![", n/2) + fill("](/a)", n/2) },
}

func fill(s string, n int) string { return strings.Repeat(s, n/len(s)+1)[:n] }

// TestBombs counts what the parser's time goes with: in no part of a text does it
// look for pairs among more than maxMarks, nothing stands deeper than maxDepth,
// and there are no more nodes, and no more HTML, than the bytes account for.
func TestBombs(t *testing.T) {
	const size = 256 << 10
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			blocks, _ := cutting(bomb(size))
			for _, block := range blocks {
				source, nodes := []byte(block), 0
				ast.Walk(grammar().Parse(gmtext.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
					if !entering {
						return ast.WalkContinue, nil
					}
					nodes++
					if n.Type() != ast.TypeBlock {
						return ast.WalkContinue, nil
					}
					depth, marked := 0, 0
					for p := n; p != nil; p = p.Parent() {
						depth++
					}
					for i := range n.Lines().Len() {
						segment := n.Lines().At(i)
						marked += marks(segment.Value(source))
					}
					if !n.IsRaw() && marked > maxMarks || depth > maxDepth+4 {
						t.Fatalf("%v has %d marks at depth %d", n.Kind(), marked, depth)
					}
					return ast.WalkContinue, nil
				})
				if nodes > len(block)+8 {
					t.Errorf("%d nodes of %d bytes", nodes, len(block))
				}
				var headings outline
				if made := len(policy().Sanitize(markdown(block, &headings))); made > 40*len(block)+1024 {
					t.Errorf("%d bytes of %d", made, len(block))
				}
			}
		})
	}
}

// BenchmarkBombs is to show that the time per byte does not grow with the size.
func BenchmarkBombs(b *testing.B) {
	for name, bomb := range bombs {
		for _, size := range []int{16 << 10, 64 << 10, 256 << 10} {
			text := bomb(size)
			b.Run(name+"/"+strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					var headings outline
					blocks, _ := cutting(text)
					for _, block := range blocks {
						policy().Sanitize(markdown(block, &headings))
					}
				}
			})
		}
	}
}
