package pve

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// gone are the mount points that show a directory which the container is not to see any more. Deleting one with pct
// would wait for a restart and be a reason for one; taken out of the file it is just not there at the next start. Until
// then it is mounted.
func gone(s spec.Container, c *conf) []string {
	var out []string
	for _, key := range c.current().keys() {
		p := parseProperty(c.current().get(key), "volume")
		if mountKey.MatchString(key) && filepath.IsAbs(p.word) &&
			slices.Contains(s.Guest.Gone, filepath.Clean(p.word)) {
			out = append(out, key)
		}
	}
	return out
}

// withoutGone is the file as it will be once they are taken out.
func withoutGone(s spec.Container, c *conf) *conf {
	keys := gone(s, c)
	if len(keys) == 0 {
		return c
	}
	c = parseConf(c.text())
	c.drop(keys...)
	return c
}

// takeGone takes them out, before anything else is put at the same place.
func takeGone(ctx context.Context, h host.Host, s spec.Container) error {
	return edit(ctx, h, s.Guest.Proxmox, s.ID, func(c *conf) bool {
		keys := gone(s, c)
		c.drop(keys...)
		return len(keys) > 0
	})
}
