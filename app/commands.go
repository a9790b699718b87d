package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bio/app/config"
	"bio/app/server"
)

// with makes a command of what needs the settings.
func with(run func(c *cobra.Command, settings *config.Settings, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		settings, err := config.Load(os.Environ())
		if err != nil {
			return err
		}
		return run(c, settings, args)
	}
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

func invite() *cobra.Command {
	c := &cobra.Command{
		Use: "invite", Short: "Make a link that lets one person in, or back in", Args: cobra.NoArgs,
		Long: "Makes a link that lets one person in. With --recover it lets a person back in: the\n" +
			"passkey made with it opens the account after BIO_RECOVERY_DELAY, and then ends all\n" +
			"other sessions. Another link voids the one before, and what came of it.",
	}
	groups := c.Flags().StringSlice("group", nil, "what the person becomes a member of; can be given several times")
	name := c.Flags().String("recover", "", "a link for the person of the account `NAME`, who has lost every passkey")
	ttl := c.Flags().Duration("ttl", 7*24*time.Hour, "how long the link works; 0 until it is used, but not with --recover")
	c.RunE = with(func(c *cobra.Command, settings *config.Settings, _ []string) error {
		switch {
		case !c.Flags().Changed("recover"):
			return inviteNew(c, settings, *groups, *ttl)
		case *name == "":
			return errors.New("--recover needs the name of the account")
		case len(*groups) > 0:
			return errors.New("a recovery gives back the account as it is: leave out --group, or set groups with bio users groups")
		}
		return inviteBack(c, settings, *name, *ttl)
	})
	return c
}

func inviteNew(c *cobra.Command, settings *config.Settings, groups []string, ttl time.Duration) error {
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
}

func inviteBack(c *cobra.Command, settings *config.Settings, name string, ttl time.Duration) error {
	link, user, expires, err := server.OfferRecovery(c.Context(), settings, name, ttl)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s\n(works once, until %s UTC; the person's new passkey opens %s only after %s, in which whoever is signed in to the account can cancel it)\n",
		link, expires.UTC().Format(time.DateTime), user.Name, inDays(settings.RecoveryDelay))
	return nil
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

// count is a number of things in words.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
