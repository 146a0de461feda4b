package cli

import "github.com/spf13/cobra"

func (a *app) applyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply [ID...]", Short: "make everything in the configuration, or these containers, as it should be",
		Example: `  phoenix plan && phoenix apply
  phoenix apply 101 --yes`,
		ValidArgsFunction: a.completeIDs, RunE: a.command(a.applyIDs),
	}
	a.changingFlags(cmd)
	return cmd
}
