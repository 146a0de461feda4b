package dns

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	stopLimit = 5 * time.Second
	stopPoll  = 5 * time.Millisecond
)

// Apply implements provider.Driver. The new configuration is tested before the old process is stopped.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.DNS, _ plan.Delta) error {
	if err := h.MkdirAll(s.Dir, 0o755, host.Root); err != nil {
		return err
	}
	conf := confPath(s)
	if err := h.WriteFile(conf, []byte(render(s)), 0o644, host.Root); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Command{Argv: []string{"dnsmasq", "--test", confFlag + conf}}); err != nil {
		return provider.Permanent(err)
	}
	if err := d.Stop(ctx, h, a, s); err != nil {
		return err
	}
	// dnsmasq goes into the background once it has its sockets, so its exit code tells whether it runs.
	if _, err := h.Run(ctx, host.Command{Argv: []string{"dnsmasq", confFlag + conf}, Mutates: true}); err != nil {
		return err
	}
	return removeConfs(h, s, filepath.Base(conf))
}

// Stop implements provider.Stopper: it ends every process of this resolver and waits until they are gone.
func (Driver) Stop(ctx context.Context, h host.Host, _ object.Address, s spec.DNS) error {
	pids, err := processes(h, s)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := end(ctx, h, s, pid); err != nil {
			return err
		}
	}
	return nil
}

func end(ctx context.Context, h host.Host, s spec.DNS, pid int) error {
	for _, signal := range []string{"TERM", "KILL"} {
		_, err := h.Run(ctx, host.Command{Argv: []string{"kill", "-s", signal, strconv.Itoa(pid)}, Mutates: true})
		if err != nil && started(h, s, pid) != "" {
			return err
		}
		if gone, err := waitGone(ctx, h, s, pid); gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("dnsmasq %d does not end", pid)
}

func waitGone(ctx context.Context, h host.Host, s spec.DNS, pid int) (bool, error) {
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	tick := time.NewTicker(stopPoll)
	defer tick.Stop()
	for started(h, s, pid) != "" || exiting(h, pid) {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-limit.C:
			return false, nil
		case <-tick.C:
		}
	}
	return true, nil
}

// Delete implements provider.Deleter.
func (d Driver) Delete(ctx context.Context, h host.Host, a object.Address, s spec.DNS) error {
	if err := d.Stop(ctx, h, a, s); err != nil {
		return err
	}
	if err := h.Remove(pidPath(s)); err != nil {
		return err
	}
	return removeConfs(h, s, "")
}

// removeConfs removes this resolver's configuration files but keep.
func removeConfs(h host.Host, s spec.DNS, keep string) error {
	names, err := h.ReadDir(s.Dir)
	if err != nil {
		return nil // no directory, no files
	}
	for _, n := range names {
		if isConf(s, n) && n != keep {
			if err := h.Remove(filepath.Join(s.Dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}
