package webhook_test

import (
	"strings"
	"testing"

	"bio/agent"
	"bio/agent/lines"
	"bio/agent/webhook"
)

func TestStream(t *testing.T) {
	long := strings.Repeat("é", lines.MaxLine)
	for name, test := range map[string]struct {
		stream string
		limit  int64
		want   string // the texts, joined
		err    error
	}{
		"text and objects":       {"data: a\n\ndata: {\"kind\":\"text\",\ndata: \"text\":\"b\"}\n\n", 1000, "a\nb", nil},
		"kinds of the server":    {"data: {\"kind\":\"view\"}\n\n", 1000, "{\"kind\":\"view\"}\n", nil},
		"invalid UTF-8":          {"data: caf\xe9\n\n", 1000, "caf\uFFFD\n", nil},
		"just as long as it may": {"data: a\n\n", 9, "a\n", nil},
		"too long":               {"data: a\n\n:", 9, "a\n", lines.ErrTooLong},
		"a long line":            {"data: " + long + "\n\n", 1 << 20, long + "\n", nil},
		"long lines":             {"data: " + long + "\ndata: " + long + "\n\n", 1 << 20, long + "\n" + long + "\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			err := webhook.Stream(strings.NewReader(test.stream), test.limit, func(event agent.Event) error {
				if text.WriteString(event.Text); len(event.Text) > lines.MaxLine+1 {
					t.Errorf("a piece of %d bytes", len(event.Text))
				}
				return nil
			})
			if text.String() != test.want || err != test.err {
				t.Errorf("got %.100q, %v", text.String(), err)
			}
		})
	}
}
