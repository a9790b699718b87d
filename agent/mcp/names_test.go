//go:build unix

package mcp_test

import (
	"regexp"
	"strings"
	"testing"

	"bio/agent/mcp"
)

var endpoints = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func FuzzModelName(f *testing.F) {
	for _, tool := range []string{"", "echo", "report.weekly", "report_weekly", "_a", "a__b", "été", "\xff", strings.Repeat("a", 58), strings.Repeat("a", 59), strings.Repeat("ü", 99)} {
		f.Add(tool, tool+"x")
	}
	f.Fuzz(func(t *testing.T, tool, other string) {
		name := mcp.ModelName("a-server", tool)
		if !endpoints.MatchString(name) || !strings.HasPrefix(name, "a-server__") {
			t.Errorf("%q is called %q", tool, name)
		}
		if own := "a-server__" + tool; endpoints.MatchString(own) && name != own {
			t.Errorf("%q is called %q", tool, name)
		}
		if tool != other && mcp.ModelName("a-server", other) == name {
			t.Errorf("%q and %q are both called %q", tool, other, name)
		}
	})
}
