package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "the version of this phoenix", Example: "  phoenix version -o json",
		Args: nothingMore,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			a.view.Version(view.Version{Version: versionOf(ctx), Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH})
			return nil
		}),
	}
}
