package conformance

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// fault is what a tool does instead of its work.
type fault func(argv []string) (host.Result, error)

// missing is a tool that is not installed, as host.Local tells it.
func missing(argv []string) (host.Result, error) {
	return host.Result{Code: -1},
		&host.RunError{Argv: argv, Code: -1, Cause: &exec.Error{Name: argv[0], Err: exec.ErrNotFound}}
}

// dead is a tool that never ends, as host.Local tells it.
func dead(argv []string) (host.Result, error) {
	return host.Result{Code: -1},
		&host.RunError{Argv: argv, Code: -1, Cause: errors.New("gave up after 2m0s: context deadline exceeded")}
}

// broken is a host on which one tool is at fault.
type broken struct {
	host.Host
	tool  string
	fault fault
	asked atomic.Int64
}

func (b *broken) Run(ctx context.Context, c host.Command) (host.Result, error) {
	if filepath.Base(c.Argv[0]) == b.tool {
		b.asked.Add(1)
		return b.fault(c.Argv)
	}
	return b.Host.Run(ctx, c)
}

// tools demands of each tool that its fault is told, is never taken for drift or for an object that is not there, and
// does no harm.
func tools(t *testing.T, c Case, f fault) {
	if len(c.Tools) == 0 {
		t.Skip("it runs no tool")
	}
	for _, tool := range c.Tools {
		t.Run(tool, func(t *testing.T) {
			h, o := c.Fresh(t)
			b := &broken{Host: h, tool: tool, fault: f}
			obs, err := c.Driver.Observe(context.Background(), b, o)
			if err == nil {
				err = c.Driver.Apply(context.Background(), b, o, obs.Delta)
			}
			told(t, b, err)
			apply(t, c, h, o, observe(t, c, h, o).Delta)
			settled(t, c, host.NewCounted(h, nil), o)
			if obs, err := c.Driver.Observe(context.Background(), b, o); err == nil && !obs.Delta.Empty() {
				t.Errorf("without %s a true object seems to need %+v", tool, obs.Delta)
			}
			settled(t, c, host.NewCounted(h, nil), o)
		})
	}
}

func told(t *testing.T, b *broken, err error) {
	t.Helper()
	switch {
	case b.asked.Load() == 0:
		t.Errorf("%s was never asked for", b.tool)
	case err == nil:
		t.Errorf("nothing was told of %s", b.tool)
	case !strings.Contains(err.Error(), b.tool):
		t.Errorf("the error does not name %s: %v", b.tool, err)
	}
}
