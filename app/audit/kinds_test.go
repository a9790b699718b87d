package audit

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants lists the Kind constants of kinds.go.
func constants(t *testing.T) (kinds []Kind) {
	file, err := parser.ParseFile(token.NewFileSet(), "kinds.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, s := range block.Specs {
			spec := s.(*ast.ValueSpec)
			if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Kind" || len(spec.Names) != 1 {
				t.Fatalf("%s is not declared as a Kind", spec.Names[0])
			}
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, Kind(name))
		}
	}
	return kinds
}

func TestEvents(t *testing.T) {
	var listed []Kind
	name := regexp.MustCompile(`^[a-z_]+\.[a-z_]+$`)
	for _, e := range Events() {
		listed = append(listed, e.Kind)
		if !name.MatchString(string(e.Kind)) {
			t.Errorf("%s is no name of an act", e.Kind)
		}
		if e.Meaning == "" || strings.TrimSpace(e.Meaning) != e.Meaning || strings.ContainsAny(e.Meaning, "|\n") {
			t.Errorf("%s means %q", e.Kind, e.Meaning)
		}
		if e.Alarming && e.Words == "" {
			t.Errorf("%s is alarming and has no words", e.Kind)
		}
		if e.Kind.Event() != e {
			t.Errorf("%s has the row of %s", e.Kind, e.Kind.Event().Kind)
		}
	}
	// The same order, each once: constants are all there is.
	if want := constants(t); len(want) == 0 || !slices.Equal(listed, want) {
		t.Errorf("the table has\n%v\nthe constants are\n%v", listed, want)
	}
	Events()[0].Kind = "changed"
	if events[0].Kind != Registered {
		t.Error("a caller can change the table")
	}
	if e := Kind("later.kind").Event(); e.Kind != "later.kind" || e.Words != "later.kind" || e.Meaning == "" || e.Alarming {
		t.Errorf("an unknown kind is %+v", e)
	}
}

// TestReadme holds the README's table of acts to the one in code. Its failure
// prints the rows that belong there.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| Act | Meaning |\n|---|---|\n")
	for _, e := range Events() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", e.Kind, e.Meaning)
	}
	_, got, begins := strings.Cut(string(readme), "<!-- acts -->\n")
	got, _, ends := strings.Cut(got, "<!-- /acts -->\n")
	if !begins || !ends || strings.Trim(got, "\n")+"\n" != want.String() {
		t.Errorf("README.md needs, between <!-- acts --> and <!-- /acts -->,\n%s", want.String())
	}
}
