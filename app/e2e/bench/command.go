package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// weighCommand is the argument with which this program runs another one and
// writes down what it used. The kernel counts to the peak memory of a program
// what the one that started it held then: this one holds little when it is fresh.
const weighCommand = "weigh"

// used is what a command that has ended used.
type used struct {
	Took time.Duration
	Peak int64 // bytes that were resident at its highest (getrusage(2), ru_maxrss)
}

// weigh runs a command with the files of this process, and writes used to the
// file report.
func weigh(ctx context.Context, report string, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	took := time.Since(began)
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("weigh: no rusage")
	}
	text, err := json.Marshal(used{took, int64(usage.Maxrss) << 10})
	if err != nil {
		return err
	}
	return os.WriteFile(report, text, 0o600)
}

// bio runs a command of Bio on the installation and returns what it used. What it
// prints goes to the file out.
func (b *bench) bio(l *logged, out string, command ...string) (u used, err error) {
	self, err := os.Executable()
	if err != nil {
		return used{}, err
	}
	f, err := os.Create(out)
	if err != nil {
		return used{}, err
	}
	defer f.Close()
	report := filepath.Join(b.dir, "used.json")
	var errs bytes.Buffer
	cmd := exec.CommandContext(b.ctx, self, slices.Concat([]string{weighCommand, report, b.binary}, command)...)
	cmd.Env = []string{"BIO_URL=" + l.origin, "BIO_DATA=" + l.data, trailSecret}
	cmd.Stdout, cmd.Stderr = f, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends its command
	if err := cmd.Run(); err != nil {
		return used{}, fmt.Errorf("%w: %s", err, errs.Bytes())
	}
	text, err := os.ReadFile(report)
	if err != nil {
		return used{}, err
	}
	return u, json.Unmarshal(text, &u)
}

// commands measures what an operator does with a log that is not served meanwhile.
func (b *bench) commands(l *logged) error {
	printed, exported := filepath.Join(b.dir, "printed"), filepath.Join(b.dir, "export.jsonl")
	if _, err := b.bio(l, printed, "audit", "key"); err != nil {
		return err
	}
	key, err := os.ReadFile(printed)
	if err != nil {
		return err
	}
	verify, err := b.bio(l, printed, "audit", "verify")
	if err != nil {
		return err
	}
	said, err := os.ReadFile(printed)
	if err != nil {
		return err
	}
	var size int64
	if _, err := fmt.Sscanf(string(said), "%d entries", &size); err != nil || !bytes.HasSuffix(said, []byte("The trail is whole.\n")) {
		return fmt.Errorf("bio audit verify: %s", said)
	}
	export, err := b.bio(l, exported, "audit", "export")
	if err != nil {
		return err
	}
	info, err := os.Stat(exported)
	if err != nil {
		return err
	}
	again, err := b.bio(l, printed, "audit", "verify", exported, "--key", strings.TrimSpace(string(key)))
	if err != nil {
		return err
	}
	show := func(u used) string {
		return fmt.Sprintf("%s at most, %.1f s, %s entries a second", megabytes(u.Peak), u.Took.Seconds(),
			thousands(int64(float64(size)/u.Took.Seconds())))
	}
	b.add(fmt.Sprintf("resident memory of bio audit verify, %s entries", thousands(size)), show(verify), "<= 100 MB", verify.Peak <= 100<<20)
	b.note("  of bio audit export", "%s, %d bytes an entry", show(export), info.Size()/(size+1))
	b.note("  of verifying that file", "%s", show(again))
	return nil
}
