package assets_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// compiler is where make setup puts TypeScript.
const compiler = "../.cache/node_modules/.bin/tsc"

// TestTypes compiles one file that uses the SDK as it is meant, and one in which
// just the lines that say so are wrong.
func TestTypes(t *testing.T) {
	if _, err := os.Stat(compiler); err != nil {
		const why = "TypeScript is not here: run make setup"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	complaint := regexp.MustCompile(`^(?:.*/)?([^/(]+)\((\d+),\d+\): error`)
	for _, name := range []string{"consumer.ts", "misuse.ts"} {
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for i, line := range strings.Split(string(source), "\n") {
				if strings.Contains(line, "// wrong") {
					want[name+":"+strconv.Itoa(i+1)] = true
				}
			}
			out, err := exec.Command(compiler, "--noEmit", "--strict", "--pretty", "false", "--target", "es2022", "--module", "esnext",
				"--moduleResolution", "bundler", "--lib", "es2022,dom", "testdata/"+name).CombinedOutput()
			if failed := err != nil; failed != (len(want) > 0) {
				t.Errorf("tsc: %v", err)
			}
			for line := range strings.Lines(string(out)) {
				if at := complaint.FindStringSubmatch(line); at != nil {
					if place := at[1] + ":" + at[2]; want[place] {
						want[place] = false
						continue
					}
				} else if strings.HasPrefix(line, " ") {
					continue // explains the line above
				}
				t.Errorf("unforeseen: %s", line)
			}
			for place, missing := range want {
				if missing {
					t.Errorf("%s compiles", place)
				}
			}
		})
	}
}
