//go:build unix

package mcp_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent/mcp"
)

// FuzzResult shows that there is something to read in every result.
func FuzzResult(f *testing.F) {
	for _, answer := range []string{
		`{}`, `null`, `{"content":null}`, `{"content":[],"isError":true}`, `{"content":[{"type":"text"}]}`, `{"content":[{"type":"resource"}]}`,
		`{"content":[{"type":"resource","resource":{"uri":"a","blob":"AA=="}},{"type":"resource_link"},{"type":"tool_use","id":"1"}]}`,
		`{"content":[{"type":"image","data":"AA=="},{"type":"audio"},{"type":"text","text":"\ud800` + "\xff" + `"}]}`, `{"structuredContent":[1,{"a":null}]}`,
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		decoded := new(sdk.CallToolResult)
		if json.Unmarshal(answer, decoded) != nil {
			return
		}
		if got := mcp.Result(decoded); got == "" && len(decoded.Content) == 0 || !utf8.ValidString(got) {
			t.Errorf("%s is %q", answer, got)
		}
	})
}
