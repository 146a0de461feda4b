package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// A mount in a running container needs a process that enters its namespace and ends there: phoenix starts itself for
// it.

func (a *app) agentMount() *cobra.Command {
	return &cobra.Command{
		Use: "mount PID SOURCE TARGET", Short: "show a directory in a running container", Args: cobra.ExactArgs(3),
		Hidden: true,
		RunE: a.command(func(_ context.Context, args []string) error {
			pid, err := pidOf(args[0])
			if err != nil {
				return err
			}
			return host.MountInto(pid, args[1], args[2])
		}),
	}
}

func (a *app) agentUnmount() *cobra.Command {
	return &cobra.Command{
		Use: "unmount PID TARGET", Short: "take a mount out of a running container", Args: cobra.ExactArgs(2),
		Hidden: true,
		RunE: a.command(func(_ context.Context, args []string) error {
			pid, err := pidOf(args[0])
			if err != nil {
				return err
			}
			return host.UnmountFrom(pid, args[1])
		}),
	}
}

func pidOf(text string) (int, error) {
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 2 {
		return 0, &usageError{err: fmt.Errorf("%q is the id of no process in a container", text)}
	}
	return pid, nil
}
