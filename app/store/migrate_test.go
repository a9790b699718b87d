package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/tursodatabase/libsql-client-go/sqliteparserutils"
)

// TestStatements holds the rule of the blank line to the engine's own grammar.
func TestStatements(t *testing.T) {
	for _, m := range migrations {
		want, extra := sqliteparserutils.SplitStatement(m.script)
		if extra.IncompleteCreateTriggerStatement || extra.IncompleteMultilineComment {
			t.Errorf("%s is not whole", m.name)
		}
		got := statements(m.script)
		for i := range got {
			got[i] = code(got[i])
		}
		for i := range want {
			want[i] = code(want[i])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: a blank line stands elsewhere than between statements:\n%q\nwant\n%q", m.name, got, want)
		}
	}
}

// code leaves out what the two ways of cutting do not have to agree on.
func code(statement string) string {
	var b strings.Builder
	for line := range strings.Lines(statement) {
		before, _, _ := strings.Cut(line, "--")
		b.WriteString(strings.Join(strings.Fields(before), " ") + " ")
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), ";")
}
