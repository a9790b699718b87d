//go:build unix

package mcp_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"bio/agent/mcp"
)

func TestNew(t *testing.T) {
	url := mcp.Server{Name: "a", URL: "https://a.example"}
	for name, test := range map[string]struct {
		servers []mcp.Server
		allow   []string
		want    error
	}{
		"nothing":              {nil, nil, nil},
		"a URL":                {[]mcp.Server{url}, []string{"a/x", "a/*"}, nil},
		"a program":            {[]mcp.Server{{Name: "a", Command: []string{"sh", "-c", "true"}}}, []string{"a/*"}, nil},
		"no name":              {[]mcp.Server{{URL: "https://a.example"}}, nil, mcp.ErrOptions},
		"a bad name":           {[]mcp.Server{{Name: "a_b", URL: "https://a.example"}}, []string{"a_b/*"}, mcp.ErrOptions},
		"a long name":          {[]mcp.Server{{Name: strings.Repeat("a", 25), URL: "https://a.example"}}, nil, mcp.ErrOptions},
		"the same name":        {[]mcp.Server{url, url}, []string{"a/*"}, mcp.ErrOptions},
		"neither":              {[]mcp.Server{{Name: "a"}}, []string{"a/*"}, mcp.ErrOptions},
		"both":                 {[]mcp.Server{{Name: "a", URL: "https://a.example", Command: []string{"sh"}}}, []string{"a/*"}, mcp.ErrOptions},
		"no program":           {[]mcp.Server{{Name: "a", Command: []string{"/no/such/program"}}}, []string{"a/*"}, fs.ErrNotExist},
		"an empty program":     {[]mcp.Server{{Name: "a", Command: []string{""}}}, []string{"a/*"}, mcp.ErrOptions},
		"NUL":                  {[]mcp.Server{{Name: "a", Command: []string{"sh", "\x00"}}}, []string{"a/*"}, mcp.ErrOptions},
		"a key for a program":  {[]mcp.Server{{Name: "a", Command: []string{"sh"}, Key: secret}}, []string{"a/*"}, mcp.ErrOptions},
		"a bad key":            {[]mcp.Server{{Name: "a", URL: "https://a.example", Key: secret + "\n"}}, []string{"a/*"}, mcp.ErrOptions},
		"a bad URL":            {[]mcp.Server{{Name: "a", URL: "http://a.example/" + secret}}, []string{"a/*"}, mcp.ErrOptions},
		"an address":           {[]mcp.Server{{Name: "a", URL: "https://10.0.0.1/" + secret}}, []string{"a/*"}, mcp.ErrAddress},
		"nothing allowed":      {[]mcp.Server{url}, nil, mcp.ErrOptions},
		"allowed of another":   {[]mcp.Server{url}, []string{"a/*", "b/*"}, mcp.ErrOptions},
		"allowed without tool": {[]mcp.Server{url}, []string{"a/"}, mcp.ErrOptions},
		"allowed, no slash":    {[]mcp.Server{url}, []string{"a"}, mcp.ErrOptions},
	} {
		t.Run(name, func(t *testing.T) {
			tools, err := mcp.New(mcp.Options{Servers: test.servers, Allow: test.allow})
			if (tools == nil) != (err != nil) || !errors.Is(err, test.want) || err != nil && (!errors.Is(err, mcp.ErrOptions) || strings.Contains(err.Error(), secret)) {
				t.Errorf("got %v", err)
			}
			if tools != nil {
				tools.Close()
			}
		})
	}
}

// FuzzAllow shows that an entry allows what it says, and of the server that it names.
func FuzzAllow(f *testing.F) {
	for _, entry := range []string{"a/x", "a/*", "a/x/y", "a", "/", "b/x", "a/"} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		tools, err := mcp.New(mcp.Options{Servers: []mcp.Server{{Name: "a", URL: "https://a.example"}}, Allow: []string{entry}})
		if tool, ok := strings.CutPrefix(entry, "a/"); (ok && tool != "") != (err == nil) || err != nil && !errors.Is(err, mcp.ErrOptions) {
			t.Errorf("%q: %v", entry, err)
		}
		if err == nil {
			tools.Close()
		}
	})
}
