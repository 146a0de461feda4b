package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate", Short: "check the configuration and tell what stands in for what is not here; touches nothing",
		Example: `  phoenix validate
  phoenix validate --config /etc/phoenix -o json`,
		Args: nothingMore,
		RunE: a.command(func(context.Context, []string) error {
			h, err := a.load()
			if err != nil {
				return err
			}
			a.view.Validation(view.Validation{Valid: true, Containers: len(h.cfg.Containers), Objects: len(h.objects),
				Diagnostics: h.diags})
			return nil
		}),
	}
}
