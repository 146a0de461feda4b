package pve

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// makingPath is the file that stands while phoenix makes a container, with the volumes that had its id in their names
// before. It is beside Proxmox's own files, which a power cut does not tear apart. Without it nobody could tell what a
// half-made container left from what waits for it, nor a half-made clone from a container that Proxmox is restoring:
// both are locked in the same way.
func makingPath(p spec.Proxmox, id string) string {
	return provider.ProxmoxMaking(p, id)
}

func isMaking(h host.Host, p spec.Proxmox, id string) bool {
	_, err := h.Lstat(makingPath(p, id))
	return err == nil
}

// beginMaking writes down what is there before a container is made.
func beginMaking(ctx context.Context, h host.Host, s spec.Container) error {
	p := s.Guest.Proxmox
	before, err := owned(ctx, h, s.ID, storagesOf(h, s))
	if err != nil {
		return err
	}
	var was *string
	if raw, err := h.ReadFile(makingPath(p, s.ID)); err == nil {
		// What an earlier attempt left without a container is still its own.
		text := string(raw)
		was = &text
		before = slices.DeleteFunc(before, func(v string) bool { return !slices.Contains(strings.Fields(text), v) })
	}
	now := strings.Join(append(before, ""), "\n")
	if was != nil && *was == now {
		return nil
	}
	res, err := provider.ReplaceProxmox(ctx, h, p, filepath.Join(p.Locks, "lxc", "phoenix-making-"+s.ID+".lock"),
		makingPath(p, s.ID), was, now)
	return explain(s.ID, res, err)
}

// endMaking forgets it once the container is whole, or gone.
func endMaking(h host.Host, p spec.Proxmox, id string) error {
	if !isMaking(h, p, id) {
		return nil
	}
	return h.Remove(makingPath(p, id))
}

// storagesOf are those that a container's volumes are made on: its own, and those of what it is cloned from.
func storagesOf(h host.Host, s spec.Container) []string {
	out := []string{s.Guest.Storage}
	for _, v := range s.Guest.Volumes {
		out = append(out, v.Pool)
	}
	if raw, err := h.ReadFile(confPath(s.Guest.Proxmox, s.Guest.CloneFrom)); err == nil && s.Guest.CloneFrom != "" {
		for _, v := range parseConf(string(raw)).volumes() {
			store, _, _ := strings.Cut(v.name, ":")
			out = append(out, store)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// owned are the volumes on these storages that have the id in their names.
func owned(ctx context.Context, h host.Host, id string, storages []string) ([]string, error) {
	var out []string
	for _, store := range storages {
		res, err := h.Run(ctx, host.Command{Argv: []string{"pvesm", "list", store, "--vmid", id}})
		if err != nil {
			return nil, explain(id, res, err)
		}
		for line := range strings.Lines(string(res.Stdout)) {
			if f := strings.Fields(line); len(f) == 5 && f[4] == id { // Volid Format Type Size VMID
				out = append(out, f[0])
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// leftovers are the volumes that a half-made container left: not there before, and nobody's by a record.
func leftovers(ctx context.Context, h host.Host, s spec.Container) ([]string, error) {
	raw, err := h.ReadFile(makingPath(s.Guest.Proxmox, s.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := owned(ctx, h, s.ID, storagesOf(h, s))
	if err != nil {
		return nil, err
	}
	kept, err := keptRecords(h, s)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(now, func(v string) bool {
		return slices.Contains(strings.Fields(string(raw)), v) ||
			slices.ContainsFunc(kept, func(k keptVolume) bool { return k.Volume == v })
	}), nil
}

func freeLeftovers(ctx context.Context, h host.Host, s spec.Container) error {
	left, err := leftovers(ctx, h, s)
	if err != nil {
		return err
	}
	for _, v := range left {
		res, err := h.Run(ctx, host.Command{Argv: []string{"pvesm", "free", v}, Mutates: true, Limit: callLimit})
		if err != nil {
			return explain(s.ID, res, err)
		}
	}
	return nil
}

// forgetMaking removes what a killed create left of a container that does not exist.
func forgetMaking(ctx context.Context, h host.Host, s spec.Container) error {
	if !isMaking(h, s.Guest.Proxmox, s.ID) {
		return nil
	}
	if err := freeLeftovers(ctx, h, s); err != nil {
		return err
	}
	return endMaking(h, s.Guest.Proxmox, s.ID)
}

// repair removes what a killed create, clone or destroy left, and nothing else. It can be killed anywhere and run
// again.
func repair(ctx context.Context, h host.Host, s spec.Container) error {
	p := s.Guest.Proxmox
	if pid, what := process(h, making(s.ID)); pid != "" {
		return hinted(busyError(s.ID, pid, what), "wait for its end")
	}
	if err := freeLeftovers(ctx, h, s); err != nil {
		return err
	}
	c, err := look(h, p, s.ID)
	if c == nil || err != nil {
		return err
	}
	// From here on its file names no volume: destroy frees each that it finds, whosever it is.
	if len(c.volumes()) > 0 {
		if err := edit(ctx, h, p, s.ID, func(c *conf) bool { return c.dropVolumes() }); err != nil {
			return err
		}
	}
	if c.current().get("lock") != "" {
		if _, err := pct(ctx, h, s.ID, callLimit, "unlock", s.ID); err != nil {
			return err
		}
	}
	return destroy(ctx, h, s)
}
