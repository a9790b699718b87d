package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/term"

	"bio/app/audit"
	"bio/app/config"
	"bio/app/server"
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
				until = ", within " + ttl.String()
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n(works once%s)\n", link, until)
			return nil
		},
	}
	c.Flags().StringSliceVar(&groups, "group", nil, "what the person becomes a member of; can be given several times")
	c.Flags().DurationVar(&ttl, "ttl", 7*24*time.Hour, "how long the link works; 0 until it is used")
	return c
}

func users() *cobra.Command {
	c := &cobra.Command{Use: "users", Short: "Look after accounts", Args: cobra.NoArgs, RunE: incomplete, DisableFlagsInUseLine: true}
	c.AddCommand(&cobra.Command{
		Use: "erase NAME", Short: "Erase an account, with its passkeys and sessions and all that the trail says of it",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			settings, err := config.Load(os.Environ())
			if err != nil {
				return err
			}
			user, err := server.EraseUser(c.Context(), settings, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is erased\n", user.Name)
			return nil
		},
	})
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
		Use: "audit", Short: "Verify, export and prove the log of all acts", Args: cobra.NoArgs, RunE: incomplete, DisableFlagsInUseLine: true,
	}
	verify := &cobra.Command{
		Use: "verify [FILE...]", Short: "Check the whole log, or exports with nothing but the verifier key",
		Long: "Without a file it checks the log of this installation: every entry against the tree,\n" +
			"the tree against all checkpoints, every payload against its entry.\n" +
			"With files it checks exports, in the order in which they were made, and that the log\n" +
			"only grew from each to the next. That needs the verifier key, and no database.",
	}
	keys := verify.Flags().StringArray("key", nil, "verifier key, as bio audit key prints it; can be given several times")
	verify.RunE = func(c *cobra.Command, files []string) error {
		if len(files) > 0 {
			return verifyExports(c, files, *keys)
		}
		return verifyTrail(c, *keys)
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
				fmt.Fprintf(c.OutOrStdout(), "The break is recorded. The new log begins with this checkpoint:\n\n%s", checkpoint)
				return nil
			},
		},
	)
	return c
}

func verifyTrail(c *cobra.Command, keys []string) error {
	settings, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	progress := newProgress(c.ErrOrStderr(), "verified")
	report, err := server.VerifyTrail(c.Context(), settings, keys, progress.show)
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
	fmt.Fprintf(out, "%d entries, root %s\n", report.Size, report.Root)
	if report.Erased > 0 {
		fmt.Fprintf(out, "%d of them are of erased accounts: their payloads are gone\n", report.Erased)
	}
	fmt.Fprintf(out, "%d checkpoints compared; the newest that is signed with a known key covers %d entries\n", report.Checkpoints, report.Covered)
	if report.Unknown > 0 {
		fmt.Fprintf(out, "%d checkpoints are signed with keys that are not known here: they were compared all the same\n", report.Unknown)
	}
	if len(report.Problems) > 0 {
		return finding{errors.New("the trail is not as it was written")}
	}
	fmt.Fprintln(out, "The trail is whole.")
	return nil
}

func verifyExports(c *cobra.Command, files, keys []string) error {
	if len(keys) == 0 {
		return errors.New("an export is checked with the log's verifier key: give --key, as bio audit key or /audit/key of the site prints it")
	}
	verifiers, err := audit.Verifiers(keys...)
	if err != nil {
		return err
	}
	var before *audit.ExportReport
	for _, name := range files {
		report, err := verifyExport(c, name, verifiers)
		if err != nil {
			return err
		}
		if before != nil {
			if err := before.CheckSuccessor(report); err != nil {
				return finding{fmt.Errorf("%s: %w", name, err)}
			}
		}
		before = &report
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
	if report.Erased > 0 {
		fmt.Fprintf(out, "%s: %d of them are of erased accounts: their payloads are gone\n", name, report.Erased)
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
