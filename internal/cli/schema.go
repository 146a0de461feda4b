package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

func (a *app) schemaCommand() *cobra.Command {
	const containers, hypervisor = "containers", "hypervisor"
	return &cobra.Command{
		Use: "schema [containers|hypervisor]", Short: "the JSON Schema of a configuration file, for editors",
		Long: `schema prints the JSON Schema of phoenix_lxc_configs.json, or of
phoenix_hypervisor_config.json. validate finds more: what one key means for another.`,
		Example:   "  phoenix schema > phoenix_lxc_configs.schema.json",
		ValidArgs: []string{containers, hypervisor}, Args: oneOf(true, containers, hypervisor),
		RunE: a.command(func(_ context.Context, args []string) error {
			text, err := config.SchemaOf(len(args) > 0 && args[0] == hypervisor)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
			return err
		}),
	}
}
