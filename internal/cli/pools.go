package cli

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// zfsDevice is there where the kernel has ZFS; without it no pool is here and zfs need not be asked.
const zfsDevice = "/dev/zfs"

// observePools finds out which of the pools that the file names are here: paths, and ZFS datasets, with one call for
// all of them.
func (a *app) observePools(names map[string][]string, mountinfo string, m *config.Machine) error {
	var all []string
	for _, pool := range slices.Sorted(maps.Keys(names)) {
		all = append(all, names[pool]...)
		if !filepath.IsAbs(pool) {
			continue
		}
		if there, err := a.host.Lstat(pool); err == nil && there.Mode.IsDir() {
			m.Pools[pool] = backendAt(mountinfo, pool)
		}
	}
	if _, err := a.host.Lstat(zfsDevice); err != nil || len(all) == 0 {
		return nil
	}
	argv := append([]string{"zfs", "list", "-H", "-t", "filesystem", "-o", "name"}, all...)
	res, err := a.host.Run(context.Background(), host.Command{Argv: argv})
	if err != nil && !onlyAbsent(string(res.Stderr)) {
		return hint("apt-get install zfsutils-linux where there is no zfs; else see what zpool status says",
			"this machine has ZFS (%s) and its pools cannot be listed: %w", zfsDevice, err)
	}
	here := strings.Fields(string(res.Stdout))
	for pool, names := range names {
		for _, name := range names {
			if slices.Contains(here, name) {
				m.Pools[pool], m.Datasets[pool] = "zfs", name
				break
			}
		}
	}
	return nil
}

// onlyAbsent tells whether all that zfs complains of is that a dataset is not there, or cannot be one.
func onlyAbsent(said string) bool {
	for line := range strings.Lines(said) {
		if !strings.Contains(line, "does not exist") && !strings.Contains(line, "invalid") &&
			!strings.Contains(line, "not applicable") {
			return false
		}
	}
	return said != ""
}
