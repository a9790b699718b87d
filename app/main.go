// Command bio is one button: it signs a person in with a passkey and streams an
// agent's work into the page that answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bio/app/config"
	"bio/app/server"
)

// version is set by the linker.
var version = "dev"

// Exit codes. Everything that is not one of the first two is wrong usage, or a
// start that needs mending.
const (
	fine  = 0
	wrong = 1 // found something wrong
	usage = 2
)

// finding is what a command found wrong, as opposed to how it was called.
type finding struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	bio := command()
	bio.SetArgs(args)
	bio.SetOut(out)
	bio.SetErr(errs)
	err := bio.ExecuteContext(ctx)
	if err == nil {
		return fine
	}
	fmt.Fprintf(errs, "bio: %v\n", err)
	if errors.As(err, new(finding)) || errors.As(err, new(*server.Refusal)) || errors.Is(err, server.ErrServing) || errors.Is(err, server.ErrTrail) {
		return wrong
	}
	return usage
}

// command is the command line.
func command() *cobra.Command {
	bio := &cobra.Command{
		Use:   "bio",
		Short: "One button: sign a person in with a passkey, run an agent, stream its work into the page",
		Long: "bio serves. It signs a person in with a passkey, runs an agent, and streams the\n" +
			"agent's work into the page that answers. Settings come from the environment:\n\n" + settingsHelp(),
		Args: cobra.NoArgs, RunE: with(serve), SilenceErrors: true, SilenceUsage: true,
	}
	bio.CompletionOptions.DisableDefaultCmd = true
	bio.AddCommand(
		&cobra.Command{
			Use: "healthcheck", Short: "Ask the running server whether it is alive, for containers without a shell",
			Args: cobra.NoArgs, RunE: with(healthcheck),
		},
		invite(), users(), sessions(), trail(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) {
				fmt.Fprintf(c.OutOrStdout(), "bio %s (%s)\n", version, runtime.Version())
			},
		},
	)
	return bio
}

// settingsHelp lists the settings, for someone who has only the binary.
func settingsHelp() string {
	var b strings.Builder
	for _, s := range config.Table() {
		fmt.Fprintf(&b, "  %-22s %s", s.Name, s.Meaning)
		if s.Default != "" {
			fmt.Fprintf(&b, " (%s)", s.Default)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func serve(c *cobra.Command, settings *config.Settings, _ []string) error {
	return server.Run(c.Context(), server.Options{
		Settings: settings, Agents: agents.All(), Log: logger(c.ErrOrStderr(), settings.Log), Version: version,
	}, c.OutOrStdout())
}

// logger writes text to a terminal and JSON to anything else.
func logger(w io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func healthcheck(c *cobra.Command, settings *config.Settings, _ []string) error {
	ask, err := http.NewRequestWithContext(c.Context(), http.MethodGet, settings.HealthURL(), nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Do(ask)
	if err != nil {
		return finding{fmt.Errorf("no answer: %w", err)}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return finding{fmt.Errorf("%s answered %s", settings.HealthURL(), answer.Status)}
	}
	fmt.Fprintln(c.OutOrStdout(), "alive")
	return nil
}
