package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// floors is the house: imports only go down, and neighbours on one floor do not
// import each other. A package that is not listed lives on its parent's floor and
// may import its parent.
var floors = map[string]int{
	"bio/app": 4, "bio/app/e2e": 4,
	"bio/app/server":  3,
	"bio/app/store":   2,
	"bio/app/passkey": 1, "bio/app/session": 1, "bio/app/gateway": 1, "bio/app/runs": 1, "bio/views": 1,
	"bio/app/account": 0, "bio/app/audit": 0, "bio/app/token": 0, "bio/app/config": 0, "bio/agent": 0, "bio/assets": 0,
}

// only says which packages may import a library, by the path's prefix. What is
// not listed is for floor 4 alone, and for tests.
var only = map[string][]string{
	"github.com/labstack/echo":                  {"bio/app/server"},
	"github.com/go-webauthn/webauthn":           {"bio/app/passkey"},
	"github.com/tursodatabase/libsql-client-go": {"bio/app/store"},
	"modernc.org/sqlite":                        {"bio/app/store"},
	"github.com/golang-jwt/jwt":                 {"bio/app/token", "bio/app/session"},
	"github.com/a-h/templ":                      {"bio/views", "bio/agent", "bio/app/server"},
	"github.com/yuin/goldmark":                  {"bio/views"},
	"github.com/microcosm-cc/bluemonday":        {"bio/views"},
	"golang.org/x/net/idna":                     {"bio/views"},
	"github.com/VictoriaMetrics/metrics":        {"bio/app/server"},
	"github.com/hashicorp/golang-lru":           {"bio/app/session", "bio/app/server"},
	"github.com/modelcontextprotocol/go-sdk":    {"bio/agent"},
	"golang.org/x/mod/sumdb":                    {"bio/app/audit", "bio/app/store", "bio/app/server"},
	"golang.org/x/time":                         {"bio/app/server"},
	"golang.org/x/net/publicsuffix":             {"bio/app/config"},
}

// packages lists this module's packages, without their tests' imports.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "bio/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p.Imports
	}
}

// room is the listed package that p is or lives under, "" when there is none.
func room(p string) string {
	for ; strings.HasPrefix(p, "bio/"); p = path.Dir(p) {
		if _, ok := floors[p]; ok && p != "bio/app" {
			return p
		}
		if p == "bio/app" {
			return p
		}
	}
	return ""
}

func TestImportsOnlyGoDown(t *testing.T) {
	for p, imports := range packages(t) {
		from := room(p)
		if from == "" || from == "bio/app" && p != "bio/app" {
			t.Errorf("%s has no floor: list it in floors", p)
			continue
		}
		for _, imported := range imports {
			if wrong := wrongArrow(p, from, imported); wrong != "" {
				t.Errorf("%s imports %s: %s", p, imported, wrong)
			}
		}
	}
}

// wrongArrow says what is wrong with an import, or "".
func wrongArrow(p, from, imported string) string {
	if to := room(imported); to != "" {
		switch {
		case to == from:
			if strings.HasPrefix(imported, p+"/") {
				return "a package does not import what lives under it"
			}
		case from == "bio/views" && !slices.Contains([]string{"bio/agent", "bio/assets"}, to):
			return "views take props, not the domain"
		case floors[to] >= floors[from]:
			return "imports only go down"
		}
		return ""
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") || floors[from] == 4 {
		return "" // the standard library; floor 4 may import anything
	}
	for library, who := range only {
		if strings.HasPrefix(imported, library) {
			if slices.Contains(who, from) {
				return ""
			}
			return "only " + strings.Join(who, ", ") + " may import " + library
		}
	}
	return "no package below floor 4 is listed for it in only"
}

// TestWrongArrows shows that the guard above can fail.
func TestWrongArrows(t *testing.T) {
	for _, arrow := range [][2]string{
		{"bio/app/passkey", "bio/app/store"},
		{"bio/app/passkey", "bio/app/session"},
		{"bio/app/account", "bio/app/audit"},
		{"bio/views", "bio/app/account"},
		{"bio/app/store", "bio/app/server"},
		{"bio/app/session", "github.com/labstack/echo/v4"},
		{"bio/app/runs", "modernc.org/sqlite"},
		{"bio/agent", "bio/agent/brief"},
	} {
		if wrongArrow(arrow[0], room(arrow[0]), arrow[1]) == "" {
			t.Errorf("%s may import %s", arrow[0], arrow[1])
		}
	}
}
