package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/term"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
)

// trail is what can be done with the log of all acts.
func trail() *cobra.Command {
	c := &cobra.Command{
		Use: "audit", Short: "Verify, export and reopen the log of all acts", Args: cobra.NoArgs, RunE: incomplete, DisableFlagsInUseLine: true,
	}
	verify := &cobra.Command{
		Use: "verify [FILE...]", Short: "Check the whole log, or exports with nothing but the verifier key",
		Long: "Without a file it checks the log of this installation: every entry against the tree,\n" +
			"the tree against all checkpoints, every payload against its entry.\n" +
			"With files it checks exports, in the order in which they were made, and that the log\n" +
			"only grew from each to the next. That needs the verifier key, and no database.",
	}
	keys := verify.Flags().StringArray("key", nil, "verifier key, as bio audit key prints it; can be given several times")
	checkpoints := verify.Flags().StringArray("checkpoint", nil, "a checkpoint that was kept elsewhere, a file: the log must have grown from it; can be given several times")
	whole := with(func(c *cobra.Command, settings *config.Settings, _ []string) error {
		return verifyTrail(c, settings, *keys, *checkpoints)
	})
	verify.RunE = func(c *cobra.Command, files []string) error {
		if len(files) == 0 {
			return whole(c, files)
		}
		if len(*checkpoints) > 0 {
			return errors.New("--checkpoint is for the log of this installation: an export has a checkpoint of its own")
		}
		return verifyExports(c, files, *keys)
	}
	export := &cobra.Command{
		Use: "export", Short: "Write the log as lines of JSON to standard output", Args: cobra.NoArgs,
	}
	since := export.Flags().String("since", "", "from then on: 2026-11-20 (UTC) or 2026-11-20T14:00:00Z")
	until := export.Flags().String("until", "", "before then: likewise")
	after := export.Flags().String("after", "", "the export that this one follows, a file; without it, the last that was made")
	export.RunE = with(func(c *cobra.Command, settings *config.Settings, _ []string) error {
		return exportTrail(c, settings, *since, *until, *after)
	})
	c.AddCommand(verify, export,
		&cobra.Command{
			Use: "key", Short: "Print the verifier key of the log's checkpoints", Args: cobra.NoArgs,
			RunE: with(func(c *cobra.Command, settings *config.Settings, _ []string) error {
				key, err := server.TrailKey(c.Context(), settings)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), key)
				return nil
			}),
		},
		&cobra.Command{
			Use: "reopen", Short: "Open a new log on what is left of one that lost its end, and record the break", Args: cobra.NoArgs,
			RunE: with(func(c *cobra.Command, settings *config.Settings, _ []string) error {
				checkpoint, err := server.ReopenTrail(c.Context(), settings)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "The break is recorded. Start Bio: it goes on as a new log, whose key bio audit key prints,\n"+
					"and whose first checkpoint is:\n\n%s", checkpoint)
				return nil
			}),
		},
	)
	return c
}

func verifyTrail(c *cobra.Command, settings *config.Settings, keys, files []string) error {
	var elsewhere [][]byte
	for _, name := range files {
		note, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := audit.Claim(note); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		elsewhere = append(elsewhere, note)
	}
	progress := newProgress(c.ErrOrStderr(), "verified")
	report, err := server.VerifyTrail(c.Context(), settings, keys, elsewhere, progress.show)
	progress.end()
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	for _, problem := range report.Problems {
		fmt.Fprintln(out, problem)
	}
	if report.More > 0 {
		fmt.Fprintf(out, "and %d more\n", report.More)
	}
	fmt.Fprintf(out, "%s, root %s\n", count(report.Size, "entry", "entries"), report.Root)
	if report.Stopped {
		fmt.Fprintf(out, "From entry %d on nothing was checked\n", report.Size)
	}
	if report.Erased > 0 {
		fmt.Fprintf(out, "%s without a payload: of erased accounts\n", count(report.Erased, "entry", "entries"))
	}
	fmt.Fprintf(out, "%s compared\n", count(int64(report.Checkpoints), "checkpoint", "checkpoints"))
	if report.Unknown > 0 {
		fmt.Fprintf(out, "%d of them with a signature of no key that is known here: anyone may have written that\n", report.Unknown)
	}
	if report.Covered < report.Size {
		fmt.Fprintf(out, "In no signed checkpoint yet: %s. A change there would not show\n", span(report.Covered, report.Size))
	}
	if len(report.Problems) > 0 {
		return finding{errors.New("the trail is not as it was written. Keep this database for whoever looks into it, and restore a backup that bio audit verify finds whole")}
	}
	fmt.Fprintln(out, "The trail is whole.")
	return nil
}

// span names the entries from first up to, but not with, end.
func span(first, end int64) string {
	if first == end-1 {
		return fmt.Sprintf("entry %d", first)
	}
	return fmt.Sprintf("entries %d to %d", first, end-1)
}

func verifyExports(c *cobra.Command, files, keys []string) error {
	if len(keys) == 0 {
		return errors.New("an export is checked with the log's verifier key: give --key, as bio audit key or /audit/key of the site prints it")
	}
	verifiers, err := audit.Verifiers(keys...)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	var before *audit.ExportReport
	var periods []audit.ExportHeader // that are not empty
	for _, name := range files {
		report, err := verifyExport(c, name, verifiers)
		if err != nil {
			return err
		}
		if before != nil {
			if err := before.CheckSuccessor(report); err != nil {
				return finding{fmt.Errorf("%s: %w", name, err)}
			}
			if before.Checkpoint.Origin != report.Checkpoint.Origin {
				fmt.Fprintf(out, "Before %s the log was reopened, and goes on as %s.\n", name, report.Checkpoint.Origin)
			}
		}
		before = &report
		if report.Header.First < report.Header.End {
			periods = append(periods, report.Header)
		}
	}
	slices.SortFunc(periods, func(a, b audit.ExportHeader) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(periods); i++ {
		if end := periods[i-1].End; end < periods[i].First {
			fmt.Fprintf(out, "In none of these files: %s.\n", span(end, periods[i].First))
		}
		periods[i].End = max(periods[i].End, periods[i-1].End)
	}
	return nil
}

func verifyExport(c *cobra.Command, name string, keys note.Verifiers) (audit.ExportReport, error) {
	f, err := os.Open(name)
	if err != nil {
		return audit.ExportReport{}, err
	}
	defer f.Close()
	progress := newProgress(c.ErrOrStderr(), "verified")
	report, err := audit.CheckExport(f, keys, progress.show)
	progress.end()
	if err != nil {
		return report, finding{fmt.Errorf("%s: %w", name, err)}
	}
	h, out := report.Header, c.OutOrStdout()
	fmt.Fprintf(out, "%s: entries %d up to %d of %s, which had %d then\n", name, h.First, h.End, report.Checkpoint.Origin, report.Checkpoint.Size)
	if h.First < h.End {
		fmt.Fprintf(out, "%s: from %s to %s\n", name, report.From.Format(time.RFC3339), report.To.Format(time.RFC3339))
	}
	if report.Erased > 0 {
		fmt.Fprintf(out, "%s: %s without a payload: of erased accounts\n", name, count(report.Erased, "entry", "entries"))
	}
	if report.Unproven > 0 {
		fmt.Fprintf(out, "%s: of these, the erasure of %d is not in this file: it must be in one that goes on to entry %d\n", name, report.Unproven, report.Checkpoint.Size-1)
	}
	fmt.Fprintf(out, "%s is as it was written.\n", name)
	return report, nil
}

func exportTrail(c *cobra.Command, settings *config.Settings, since, until, after string) (err error) {
	var export server.Export
	if export.Since, err = parseTime(since); err != nil {
		return err
	}
	if export.Until, err = parseTime(until); err != nil {
		return err
	}
	if !export.Since.IsZero() && !export.Until.IsZero() && !export.Since.Before(export.Until) {
		return errors.New("--since is not before --until")
	}
	if after != "" {
		f, err := os.Open(after)
		if err != nil {
			return err
		}
		defer f.Close()
		before, err := audit.ExportClaim(f)
		if err != nil {
			return fmt.Errorf("%s: %w", after, err)
		}
		export.After = &before
	}
	progress := newProgress(c.ErrOrStderr(), "exported")
	header, err := server.ExportTrail(c.Context(), settings, export, c.OutOrStdout(), progress.show)
	progress.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "exported entries %d up to %d\n", header.First, header.End)
	return nil
}

// parseTime reads a day in UTC or a time; the zero time of nothing.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-20 or 2026-11-20T14:00:00Z", text)
}

// progress shows on a terminal how far long work is, a few times a second.
type progress struct {
	out   io.Writer // nil when nobody looks
	verb  string
	shown time.Time
}

func newProgress(errs io.Writer, verb string) *progress {
	p := &progress{verb: verb, shown: time.Now()}
	if f, ok := errs.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.out = errs
	}
	return p
}

func (p *progress) show(done, total int64) {
	if p.out == nil || done%256 != 0 || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.out, "\r%s %d of %d entries (%d %%)", p.verb, done, total, 100*done/total)
}

// end clears the line.
func (p *progress) end() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
