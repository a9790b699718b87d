package mcp

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"bio/agent/chat"
)

// separator is between a server's name, in which it cannot be, and its tool's.
const separator = "__"

// maxName is the length of the longest name of a tool that endpoints take.
const maxName = 64

// maxTitle is the length of the longest title that a person is shown, in runes.
const maxTitle = 64

// modelName is what the model calls a tool. Different tools have different names,
// and each has the same one in every list.
func modelName(server, tool string) string {
	name := server + separator + tool
	clean := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
	if clean == name && len(name) <= maxName {
		return name
	}
	hash := fmt.Sprintf("_%.6x", sha256.Sum256([]byte(name)))
	return clean[:min(len(clean), maxName-len(hash))] + hash
}

var (
	errSchema = errors.New("the schema is not an object")
	errTool   = fmt.Errorf("more than %d bytes of description and schema", maxTool)
)

// title is what a person reads of a tool: the title that its server gives it, if it
// is short and plain, or server/tool, as in [Options].Allow.
func title(server string, offered *sdk.Tool) string {
	titles := []string{offered.Title}
	if offered.Annotations != nil {
		titles = append(titles, offered.Annotations.Title)
	}
	for _, t := range append(titles, server+"/"+offered.Name) {
		t = strings.TrimSpace(t)
		if t != "" && utf8.RuneCountInString(t) <= maxTitle && !strings.ContainsFunc(t, unprintable) {
			return t
		}
	}
	return modelName(server, offered.Name)
}

// unprintable is also what is not UTF-8, or would reorder the text around it.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// convert makes a tool for the model.
func convert(server string, offered *sdk.Tool) (chat.Tool, error) {
	schema, ok := offered.InputSchema.(map[string]any)
	if !ok {
		return chat.Tool{}, errSchema
	}
	schema = maps.Clone(schema)
	// Some endpoints refuse a schema that names its dialect, or has no properties.
	delete(schema, "$schema")
	if schema["properties"] == nil {
		schema["properties"] = struct{}{}
	}
	encoded, err := json.Marshal(schema)
	if err != nil {
		return chat.Tool{}, errSchema
	}
	t := chat.Tool{Name: modelName(server, offered.Name), Title: title(server, offered), Description: cmp.Or(offered.Description, offered.Title), Schema: encoded}
	if len(t.Description)+len(t.Schema) > maxTool {
		return chat.Tool{}, errTool
	}
	return t, nil
}

// result is what the model reads of an answer.
func result(answer *sdk.CallToolResult) string {
	var parts []string
	if answer.IsError {
		parts = append(parts, "The tool reports an error.")
	}
	for _, content := range answer.Content {
		parts = append(parts, describe(content))
	}
	if len(answer.Content) == 0 && answer.StructuredContent != nil {
		if encoded, err := json.Marshal(answer.StructuredContent); err == nil {
			parts = append(parts, string(encoded))
		}
	}
	if len(parts) == 0 {
		return "Done. The tool has nothing to say."
	}
	return text(strings.Join(parts, "\n"))
}

// text is what a server wrote, with invalid UTF-8 replaced.
func text(said string) string { return strings.ToValidUTF8(said, "\uFFFD") }

// describe is a content as text.
func describe(content sdk.Content) string {
	switch c := content.(type) {
	case *sdk.TextContent:
		return c.Text
	case *sdk.ImageContent:
		return fmt.Sprintf("[an image that cannot be shown: %s, %d bytes]", c.MIMEType, len(c.Data))
	case *sdk.AudioContent:
		return fmt.Sprintf("[a sound that cannot be heard: %s, %d bytes]", c.MIMEType, len(c.Data))
	case *sdk.ResourceLink:
		return fmt.Sprintf("[a link to %q: %s]", cmp.Or(c.Title, c.Name), c.URI)
	case *sdk.EmbeddedResource:
		if r := c.Resource; r != nil && r.Blob == nil {
			return r.Text
		} else if r != nil {
			return fmt.Sprintf("[a file that cannot be shown: %s, %s, %d bytes]", r.URI, r.MIMEType, len(r.Blob))
		}
	}
	return "[something that cannot be shown]"
}
