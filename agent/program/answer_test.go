//go:build unix

package program

import (
	"io"
	"os"
	"testing"
	"time"
)

// What a program wrote before it exited is read, however long after, though
// another process holds its output.
func TestAnswerIsReadLate(t *testing.T) {
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	defer input.Close()
	if _, err := input.WriteString("all of it"); err != nil {
		t.Fatal(err)
	}
	if err := output.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	close(exited)
	if got, err := io.ReadAll(answer{output, exited}); err != nil || string(got) != "all of it" {
		t.Errorf("got %q, %v", got, err)
	}
}
