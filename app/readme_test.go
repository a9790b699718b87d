package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestReadme builds the README's agent and runs its test, as someone does who
// pastes them.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(// app/(hook[a-z_]*\\.go)\n.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d pieces of Go that say where they go, want the agent and its test", len(blocks))
	}
	replace := map[string]string{}
	for _, b := range blocks {
		pasted := filepath.Join(t.TempDir(), string(b[2]))
		if err := os.WriteFile(pasted, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := filepath.Abs(string(b[2]))
		if err != nil {
			t.Fatal(err)
		}
		replace[in] = pasted
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "test", "-overlay", overlay, "-run", "^TestGreeter$", "-v", ".").CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^--- PASS: TestGreeter`).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}
