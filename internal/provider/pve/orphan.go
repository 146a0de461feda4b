package pve

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// orphan finds a volume that a killed pct set has made and not written down: it has the container's id in its name and
// the size that is wanted, no file speaks of it, and nothing is in it. What is on a device cannot be looked at, and is
// left alone.
func orphan(ctx context.Context, h host.Host, c *conf, v spec.Volume, taken map[string]record) (record, bool, error) {
	argv := []string{"pvesm", "list", v.Pool, "--vmid", v.Container}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return record{}, false, explain(v.Container, res, err)
	}
	for line := range strings.Lines(string(res.Stdout)) {
		f := strings.Fields(line) // Volid Format Type Size VMID
		if len(f) != 5 || f[1] != "subvol" || f[3] != strconv.FormatInt(v.SizeBytes, 10) || f[4] != v.Container ||
			spokenOf(c, f[0], taken) {
			continue
		}
		path, err := volumePath(ctx, h, v.Container, f[0])
		if err != nil {
			return record{}, false, err
		}
		if inside, err := h.ReadDir(path); err == nil && len(inside) == 0 {
			return record{Volume: f[0], Path: path}, true, nil
		}
	}
	return record{}, false, nil
}

// spokenOf tells whether a volume is anybody's: in the present state, in what waits, in a snapshot, or phoenix's by its
// mark.
func spokenOf(c *conf, volume string, taken map[string]record) bool {
	for _, r := range taken {
		if r.Volume == volume {
			return true
		}
	}
	for _, s := range c.sections {
		if slices.ContainsFunc(s.lines,
			func(l line) bool { return l.key != "" && parseProperty(l.value, "volume").word == volume }) {
			return true
		}
	}
	return slices.ContainsFunc(c.current().description(),
		func(n string) bool { return slices.Contains(strings.Fields(n), volume) })
}

// adopt adds orphans to the volumes that are known, for those that are mounted nowhere.
func adopt(ctx context.Context, h host.Host, c *conf, volumes []spec.Volume, known map[string]record) error {
	for _, v := range volumes {
		key, _ := c.mounted(v.MountPoint)
		now, _ := c.mountedNow(v.MountPoint)
		if _, ok := known[volumeAddress(v)]; ok || key != "" || now != "" {
			continue
		}
		r, ok, err := orphan(ctx, h, c, v, known)
		if err != nil {
			return err
		}
		if ok {
			known[volumeAddress(v)] = r
		}
	}
	return nil
}
