package main

import (
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bio": main})
}

// TestScripts runs the command line as a person would: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer free.Close()
			e.Setenv("PORT", strconv.Itoa(free.Addr().(*net.TCPAddr).Port))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":  await,
			"occupy": occupy,
		},
	})
}

// await waits until an address answers with 200: await URL.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for until := time.Now().Add(30 * time.Second); ; {
		answer, err := http.Get(args[0])
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(until) {
			ts.Fatalf("%s does not answer: %v", args[0], err)
		}
	}
}

// occupy takes the port for the rest of the script.
func occupy(ts *testscript.TestScript, _ bool, _ []string) {
	taken, err := net.Listen("tcp", ":"+ts.Getenv("PORT"))
	ts.Check(err)
	ts.Defer(func() { taken.Close() })
}
