package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Work on large trees is done by a phoenix of its own, as other tools would do it: it can be stopped, and it counts
// as one change.

func (a *app) agentWipe() *cobra.Command {
	return &cobra.Command{
		Use: "wipe DIR", Short: "write over what is in a directory and remove it", Args: cobra.ExactArgs(1),
		Hidden: true,
		RunE: a.command(func(_ context.Context, args []string) error {
			elsewhere, err := host.Wipe(args[0])
			if len(elsewhere) > 0 {
				fmt.Fprintf(a.stdout, "removed, but not written over, since it has another name elsewhere: %s\n",
					strings.Join(quoted(elsewhere), ", "))
			}
			return err
		}),
	}
}

func (a *app) agentCopy() *cobra.Command {
	cmd := &cobra.Command{Use: "copy FROM TO", Short: "copy a directory", Args: cobra.ExactArgs(2), Hidden: true}
	closed := cmd.Flags().Bool("closed", false, "the copy is for root alone")
	update := cmd.Flags().Bool("update", false, "leave alone what is there and not older")
	cmd.RunE = a.command(func(_ context.Context, args []string) error {
		skipped, err := host.CopyTree(args[0], args[1], *closed, *update)
		if len(skipped) > 0 {
			fmt.Fprintf(a.stdout, "not copied: %s\n", strings.Join(quoted(skipped), ", "))
		}
		return err
	})
	return cmd
}

func (a *app) agentUnheld() *cobra.Command {
	return &cobra.Command{
		Use: "unheld DIR", Short: "fail while somebody has a directory open", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: a.command(func(_ context.Context, args []string) error {
			holders, err := host.Holders(args[0])
			if err == nil && holders != "" {
				err = fmt.Errorf("%s is still in use by %s", args[0], holders)
			}
			return err
		}),
	}
}

// quoted makes names that somebody else chose fit for a terminal.
func quoted(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%+q", n))
	}
	return out
}
