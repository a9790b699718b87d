package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bio/app/account"
	"bio/app/config"
	"bio/app/server"
	"bio/app/store"
)

// oneAccount takes the name of an account.
func oneAccount(c *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return fmt.Errorf("name one account, such as: %s cedar-otter-42", c.CommandPath())
	}
	return nil
}

func users() *cobra.Command {
	c := &cobra.Command{
		Use: "users", Short: "List and look after accounts", Args: cobra.NoArgs, RunE: with(listUsers), DisableFlagsInUseLine: true,
	}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List all accounts", Args: cobra.NoArgs, RunE: with(listUsers)},
		disable(),
		&cobra.Command{
			Use: "enable NAME", Short: "Let people sign in to a disabled account again", Args: oneAccount, RunE: with(enable),
		},
		groups(), erase(),
	)
	return c
}

// listBlock is how many accounts are aligned with each other, and in memory at once.
const listBlock = 1000

func listUsers(c *cobra.Command, settings *config.Settings, _ []string) error {
	out := bufio.NewWriter(c.OutOrStdout())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	n := 0
	err := server.Users(c.Context(), settings, func(u store.Listed) error {
		switch {
		case n == 0:
			fmt.Fprintln(table, "NAME\tGROUPS\tPASSKEYS\tLAST USED (UTC)\tCREATED (UTC)")
		case n%listBlock == 0:
			if err := table.Flush(); err != nil {
				return err
			}
		}
		n++
		groups, used, state := "-", "never", ""
		if len(u.Groups) > 0 {
			groups = strings.Join(u.Groups, ",")
		}
		if !u.LastUsedAt.IsZero() {
			used = minute(u.LastUsedAt)
		}
		switch {
		case !u.DisabledAt.IsZero():
			state = "\tdisabled"
		case u.Recovering:
			state = "\trecovery waits"
		}
		_, err := fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s%s\n", u.Name, groups, u.Passkeys, used, minute(u.CreatedAt), state)
		return err
	})
	if n == 0 && err == nil {
		fmt.Fprintln(out, "There is no account yet.")
	}
	return errors.Join(err, table.Flush(), out.Flush())
}

// minute is a time as the list of accounts has it.
func minute(at time.Time) string { return at.UTC().Format("2006-01-02 15:04") }

func disable() *cobra.Command {
	c := &cobra.Command{Use: "disable NAME", Short: "End the sessions of an account and let nobody sign in to it", Args: oneAccount}
	lastOwner := lastOwnerFlag(c)
	c.RunE = with(func(c *cobra.Command, settings *config.Settings, args []string) error {
		user, ended, changed, err := server.DisableUser(c.Context(), settings, args[0], *lastOwner)
		switch {
		case err != nil:
			return err
		case changed:
			fmt.Fprintf(c.OutOrStdout(), "%s is disabled; %s ended.\n", user.Name, count(int64(ended), "session", "sessions"))
		default:
			fmt.Fprintf(c.OutOrStdout(), "Nothing changed: %s is disabled.\n", user.Name)
		}
		return nil
	})
	return c
}

func enable(c *cobra.Command, settings *config.Settings, args []string) error {
	user, changed, err := server.EnableUser(c.Context(), settings, args[0])
	switch {
	case err != nil:
		return err
	case changed:
		fmt.Fprintf(c.OutOrStdout(), "%s is enabled.\n", user.Name)
	default:
		fmt.Fprintf(c.OutOrStdout(), "Nothing changed: %s is enabled.\n", user.Name)
	}
	return nil
}

func groups() *cobra.Command {
	c := &cobra.Command{
		Use: "groups NAME [GROUP...]", Short: "Set the groups of an account, or say what they are",
		Long: "Makes an account a member of these groups and of no other. Without groups and without\n" +
			"--none it says what they are.",
		Args: func(c *cobra.Command, args []string) error { return oneAccount(c, args[:min(1, len(args))]) },
	}
	none := c.Flags().Bool("none", false, "take it out of all groups")
	lastOwner := lastOwnerFlag(c)
	c.RunE = with(func(c *cobra.Command, settings *config.Settings, args []string) error {
		name, names := args[0], args[1:]
		switch {
		case *none && len(names) > 0:
			return errors.New("name groups or give --none, not both")
		case !*none && len(names) == 0:
			user, err := server.User(c.Context(), settings, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is in %s.\n", user.Name, inGroups(user))
			return nil
		}
		user, changed, err := server.SetGroups(c.Context(), settings, name, names, *lastOwner)
		switch {
		case err != nil:
			return err
		case changed:
			fmt.Fprintf(c.OutOrStdout(), "%s is now in %s.\n", user.Name, inGroups(user))
		default:
			fmt.Fprintf(c.OutOrStdout(), "Nothing changed: %s is in %s.\n", user.Name, inGroups(user))
		}
		return nil
	})
	return c
}

// inGroups is what the user is a member of, in words.
func inGroups(user account.User) string {
	switch len(user.Groups) {
	case 0:
		return "no group"
	case 1:
		return "the group " + user.Groups[0]
	}
	return "the groups " + strings.Join(user.Groups, ", ")
}

func erase() *cobra.Command {
	c := &cobra.Command{
		Use: "erase NAME", Short: "Erase an account, with its passkeys and sessions and all that the trail says of it: this cannot be undone", Args: oneAccount,
	}
	lastOwner := lastOwnerFlag(c)
	c.RunE = with(func(c *cobra.Command, settings *config.Settings, args []string) error {
		user, clean, err := server.EraseUser(c.Context(), settings, store.Erasure{Name: args[0], LastOwner: *lastOwner})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is erased\n", user.Name)
		if !clean {
			fmt.Fprintln(c.OutOrStdout(), "A reader still holds the database as it was: the last traces leave its file bio.db-wal when that has let go and Bio runs.")
		}
		return nil
	})
	return c
}

func lastOwnerFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("last-owner", false, "even if nobody else is an owner")
}

func sessions() *cobra.Command {
	c := &cobra.Command{Use: "sessions", Short: "End sessions", Args: cobra.NoArgs, RunE: incomplete, DisableFlagsInUseLine: true}
	revoke := &cobra.Command{Use: "revoke NAME | --all", Short: "End the sessions of an account, or of everybody", DisableFlagsInUseLine: true}
	all := revoke.Flags().Bool("all", false, "those of everybody")
	revoke.Args = func(c *cobra.Command, args []string) error {
		if *all && len(args) > 0 {
			return errors.New("name an account or give --all, not both")
		}
		if err := oneAccount(c, args); !*all && err != nil {
			return fmt.Errorf("%w, or give --all", err)
		}
		return nil
	}
	revoke.RunE = with(func(c *cobra.Command, settings *config.Settings, args []string) error {
		if *all {
			ended, err := server.RevokeAllSessions(c.Context(), settings)
			if err == nil || ended > 0 {
				fmt.Fprintf(c.OutOrStdout(), "%s ended.\n", count(int64(ended), "session", "sessions"))
			}
			return err
		}
		user, ended, err := server.RevokeSessions(c.Context(), settings, args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s of %s ended.\n", count(int64(ended), "session", "sessions"), user.Name)
		return nil
	})
	c.AddCommand(revoke)
	return c
}
