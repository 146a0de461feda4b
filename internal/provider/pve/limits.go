package pve

import (
	"context"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// pidsKey is a raw line, as pct has no option for it. Proxmox's cgroups are those of the second generation.
const pidsKey = "lxc.cgroup2.pids.max"

// limited looks at the limit of processes that a running container has: it gets another one without a restart, where
// its control group can be seen.
func limited(h host.Host, c *conf, st *RunningStatus) {
	have, ok := provider.LimitOf(h, st.PID, pidsKey)
	if !ok {
		return
	}
	var d plan.Delta
	if slices.Contains(st.Waits, pidsKey) { // of a line that was taken out
		d.Compare(pidsKey, have.Value, "max")
	}
	for _, o := range c.current().options() {
		if o.key == pidsKey {
			d = plan.Delta{} // the last one holds
			d.Compare(o.key, have.Value, o.value)
		}
	}
	st.Limits = d.Fields
	st.Waits = slices.DeleteFunc(st.Waits, func(key string) bool { return key == pidsKey })
}

// setLimits gives a running container what differs.
func setLimits(ctx context.Context, h host.Host, st *RunningStatus) error {
	for _, f := range st.Limits {
		if l, ok := provider.LimitOf(h, st.PID, f.Path); ok {
			if err := l.Set(ctx, h, f.Want); err != nil {
				return err
			}
		}
	}
	return nil
}
