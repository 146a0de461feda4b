package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// isOld is whether a container's configuration is the old one. Of Proxmox's what phoenix left waiting beside it does
// not count.
func (o *oldHouse) isOld(g guest, config string) bool {
	return config == g.config || strings.HasSuffix(g.file, ".conf") && !strings.Contains(config, proxmoxWord) &&
		old(config) == old(g.config)
}

// old is the present state in a container's file of Proxmox without volumes that wait unattached.
func old(config string) string {
	head, _ := parted(config)
	lines := slices.DeleteFunc(strings.SplitAfter(head, "\n"),
		func(l string) bool { return strings.HasPrefix(l, "unused") || strings.TrimSpace(l) == "" })
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

func (m *mover) editConf(ctx context.Context, g guest, was, now string) error {
	_, err := provider.ReplaceProxmox(ctx, m.host, *m.machine.Proxmox, provider.ProxmoxLock(*m.machine.Proxmox, g.id),
		g.file, &was, now)
	return err
}

// markProxmox adds phoenix's line to a container's notes.
func (m *mover) markProxmox(ctx context.Context, g guest) error {
	raw, err := m.host.ReadFile(g.file)
	if err != nil || m.isMarked(g, string(raw)) {
		return err
	}
	return m.editConf(ctx, g, string(raw), "#"+proxmoxWord+"container/"+g.id+"\n"+string(raw))
}

// isMarked is whether a container's configuration says that it is phoenix's.
func (m *mover) isMarked(g guest, config string) bool {
	if m.machine.Proxmox != nil {
		for line := range strings.Lines(config) {
			if note, ok := strings.CutPrefix(line, "#"); ok && strings.TrimSpace(note) == "phoenix%3A container/"+g.id {
				return true
			}
		}
		return false
	}
	return marked(g.id, config)
}

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
	return m.editConf(ctx, g, string(raw), head+tail)
}
