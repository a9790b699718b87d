package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/term"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
)

func invite() *cobra.Command {
	var groups []string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "invite", Short: "Make a link that lets one person in", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.Load(os.Environ())
			if err != nil {
				return err
			}
			link, err := server.Invite(c.Context(), settings, groups, ttl)
			if err != nil {
				return err
			}
			until := ""
			if ttl > 0 {
				until = ", within " + inDays(ttl)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n(works once%s)\n", link, until)
			return nil
		},
	}
	c.Flags().StringSliceVar(&groups, "group", nil, "what the person becomes a member of; can be given several times")
	c.Flags().DurationVar(&ttl, "ttl", 7*24*time.Hour, "how long the link works; 0 until it is used")
	return c
}

// inDays writes whole days as days, and other times without what is zero.
func inDays(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 0 && d == days*24*time.Hour {
		return count(int64(days), "day", "days")
	}
	text := d.String() // 1h0m0s
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

func users() *cobra.Command {
	c := &cobra.Command{Use: "users", Short: "Look after accounts", Args: cobra.NoArgs, RunE: incomplete, DisableFlagsInUseLine: true}
	erase := &cobra.Command{
		Use: "erase NAME", Short: "Erase an account, with its passkeys and sessions and all that the trail says of it",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name the one account that is to be erased, such as: bio users erase cedar-otter-42")
			}
			return nil
		},
	}
	lastOwner := erase.Flags().Bool("last-owner", false, "even if nobody else is an owner")
	erase.RunE = func(c *cobra.Command, args []string) error {
		settings, err := config.Load(os.Environ())
		if err != nil {
			return err
		}
		user, clean, err := server.EraseUser(c.Context(), settings, store.Erasure{Name: args[0], LastOwner: *lastOwner})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is erased\n", user.Name)
		if !clean {
			fmt.Fprintln(c.OutOrStdout(), "A reader still holds the database as it was: the last traces leave its file bio.db-wal when that has let go and Bio runs.")
		}
		return nil
	}
	c.AddCommand(erase)
	return c
}

// incomplete is a command that is nothing without one of its own.
func incomplete(c *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%s needs a command of its own: %s", c.CommandPath(), strings.Join(names, ", "))
}

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
	verify.RunE = func(c *cobra.Command, files []string) error {
		if len(files) == 0 {
			return verifyTrail(c, *keys, *checkpoints)
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
	export.RunE = func(c *cobra.Command, _ []string) error { return exportTrail(c, *since, *until, *after) }
	c.AddCommand(verify, export,
		&cobra.Command{
			Use: "key", Short: "Print the verifier key of the log's checkpoints", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				settings, err := config.Load(os.Environ())
				if err != nil {
					return err
				}
				key, err := server.TrailKey(c.Context(), settings)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), key)
				return nil
			},
		},
		&cobra.Command{
			Use: "reopen", Short: "Open a new log on what is left of one that lost its end, and record the break", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				settings, err := config.Load(os.Environ())
				if err != nil {
					return err
				}
				checkpoint, err := server.ReopenTrail(c.Context(), settings)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "The break is recorded. Start Bio: it goes on as a new log, whose key bio audit key prints,\n"+
					"and whose first checkpoint is:\n\n%s", checkpoint)
				return nil
			},
		},
	)
	return c
}

func verifyTrail(c *cobra.Command, keys, files []string) error {
	settings, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
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

// count is a number of things in words.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
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

func exportTrail(c *cobra.Command, since, until, after string) error {
	settings, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
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
