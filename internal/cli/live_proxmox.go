package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// isOld is whether a container's configuration is the old one. Of Proxmox's what phoenix left waiting beside it does not count.
func (o *oldHouse) isOld(g guest, config string) bool {
	return config == g.config || strings.HasSuffix(g.file, ".conf") && !strings.Contains(config, proxmoxMark) && old(config) == old(g.config)
}

// old is the present state in a container's file of Proxmox without volumes that wait unattached.
func old(config string) string {
	head, _ := parted(config)
	lines := slices.DeleteFunc(strings.SplitAfter(head, "\n"), func(l string) bool { return strings.HasPrefix(l, "unused") || strings.TrimSpace(l) == "" })
	return strings.Join(lines, "")
}

// parted is the present state, and what comes after it: what waits, and snapshots.
func parted(config string) (head, tail string) {
	if strings.HasPrefix(config, "[") {
		return "", config
	}
	if i := strings.Index(config, "\n["); i >= 0 {
		return config[:i+1], config[i+1:]
	}
	return config, ""
}

// putConf replaces a file below /etc/pve under Proxmox's own lock, unless it is another than it was.
const putConf = `set -e
exec 9>"$1"
flock -w 10 9
[ "$(sha256sum <"$2")" = "$3" ] || { echo "$2 was changed by somebody else meanwhile" >&2; exit 1; }
umask 027
cat >"$2.phoenix" && mv "$2.phoenix" "$2"`

// bringProxmox puts the old definition back. The new volumes stay with the container, unattached; so do snapshots.
func (m *mover) bringProxmox(ctx context.Context, g guest) error {
	raw, err := m.host.ReadFile(g.file)
	if err != nil {
		return err
	}
	now, tail := parted(string(raw))
	if strings.HasPrefix(tail, "[pve:pending]") {
		_, tail = parted(strings.TrimPrefix(tail, "[pve:pending]\n"))
	}
	head, _ := parted(g.config)
	head = strings.TrimRight(head, "\n") + "\n"
	n := 0
	for line := range strings.Lines(now) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		volume, _, _ := strings.Cut(value, ",")
		waits := strings.HasPrefix(key, "mp") || strings.HasPrefix(key, "unused")
		if !waits || filepath.IsAbs(volume) || strings.Contains(head, volume) {
			continue
		}
		for strings.Contains("\n"+head, fmt.Sprintf("\nunused%d: ", n)) {
			n++
		}
		head += fmt.Sprintf("unused%d: %s\n", n, volume)
	}
	if tail != "" {
		head += "\n"
	}
	lock := filepath.Join(m.machine.Proxmox.Locks, "lxc", "pve-config-"+g.id+".lock")
	if err := m.host.MkdirAll(filepath.Dir(lock), 0o755, host.Root); err != nil {
		return err
	}
	sum, err := m.host.Digest(g.file)
	if err != nil {
		return err
	}
	_, err = m.host.Run(ctx, host.Command{Argv: []string{"sh", "-c", putConf, "sh", lock, g.file, sum + "  -"}, Stdin: []byte(head + tail), Mutates: true})
	return err
}
