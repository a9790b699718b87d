// Command bench measures Bio against its goals for speed and size and prints one
// table: the figure, what was measured, the goal, and whether it is met.
//
// What is compared is measured in one run, in rounds whose order is reversed each
// time, and the figure is the median over the rounds, so that a busy machine
// slows both sides alike. The client shares the processors with the server.
// A slow figure is no failure; a refused sign-in or a wrong answer is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// sections are what is measured, in the order of the table.
var sections = []struct {
	name    string
	measure func(*bench) error
}{
	{"page", (*bench).page},
	{"check", (*bench).check},
	{"signin", (*bench).signIn},
	{"trail", (*bench).trail},
	{"account", (*bench).account},
	{"runs", (*bench).runs},
	{"start", (*bench).startUp},
	{"memory", (*bench).memory},
	{"size", (*bench).size},
}

// bareCommand is the argument with which this program is its own peer.
const bareCommand = "bare-echo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case len(os.Args) == 4 && os.Args[1] == bareCommand:
		fail(bareEcho(os.Args[2], os.Args[3]))
		return
	case len(os.Args) > 3 && os.Args[1] == weighCommand:
		fail(weigh(ctx, os.Args[2], os.Args[3:]...))
		return
	}
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	quick := flag.Bool("quick", false, "shorter rounds")
	only := flag.String("only", "", "measure one section: "+strings.Join(names, ", "))
	flag.Parse()
	if flag.NArg() > 0 || *only != "" && !slices.Contains(names, *only) {
		flag.Usage()
		os.Exit(2)
	}
	fail(run(ctx, *quick, *only, os.Stdout))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	ctx    context.Context
	dir    string // everything that is written is below it
	binary string // stripped, as it is released
	quick  bool
	rows   []row
}

// row is one line of the table. Without a goal it is there to read the others by.
type row struct{ figure, measured, goal, verdict string }

func run(ctx context.Context, quick bool, only string, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bio-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, quick: quick}
	if err := b.build(); err != nil {
		return err
	}
	for _, s := range sections {
		if only != "" && only != s.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", s.name)
		if err = s.measure(b); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
	}
	return errors.Join(err, b.print(out))
}

// build makes the binary that is measured.
func (b *bench) build() error {
	b.binary = filepath.Join(b.dir, "bio")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, "bio/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// add is a figure with its goal.
func (b *bench) add(figure, measured, goal string, met bool) {
	verdict := "not met"
	if met {
		verdict = "met"
	}
	b.rows = append(b.rows, row{figure, measured, goal, verdict})
}

// note is a figure without a goal.
func (b *bench) note(figure, format string, args ...any) {
	b.rows = append(b.rows, row{figure: figure, measured: fmt.Sprintf(format, args...)})
}

func (b *bench) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tmeasured\tgoal\t")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.figure, r.measured, r.goal, r.verdict)
	}
	fmt.Fprintf(w, "\n%s, %s/%s, GOMAXPROCS %d. The server logs warnings (BIO_LOG=warn) and limits no rate, except where a row says otherwise.\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))
	return w.Flush()
}

// rounds runs every part once a round, in an order that is reversed each round.
func (b *bench) rounds(n int, parts ...func() error) error {
	for range n {
		for _, part := range parts {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			if err := part(); err != nil {
				return err
			}
		}
		slices.Reverse(parts)
	}
	return nil
}

// pick is the full measure, or the quick one.
func pick[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

// number is what medians are taken of.
type number interface{ ~int64 | ~float64 }

// quantile returns the value below which the share q of all lies; 0 of none.
func quantile[T number](all []T, q float64) T {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median[T number](all []T) T { return quantile(all, 0.5) }

// ratios divides round by round.
func ratios[T number](over, under []T) []float64 {
	all := make([]float64, len(over))
	for i := range over {
		all[i] = float64(over[i]) / float64(under[i])
	}
	return all
}

// micro and milli show a duration in one unit throughout the table.
func micro(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d)/1e3) }
func milli(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
