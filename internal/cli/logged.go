package cli

import (
	"context"
	"log/slog"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// loggedHost logs every command with its time. Standard input is not logged: it may carry secrets.
type loggedHost struct {
	host.Host
	log *slog.Logger
}

// Run implements host.Host.
func (h *loggedHost) Run(ctx context.Context, c host.Command) (host.Result, error) {
	start := time.Now()
	res, err := h.Host.Run(ctx, c)
	h.log.DebugContext(ctx, "ran", "command", host.Quote(c.Argv), "changes", c.Mutates, "code", res.Code, "took",
		time.Since(start).Round(time.Microsecond))
	return res, err
}
