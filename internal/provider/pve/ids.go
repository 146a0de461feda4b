package pve

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// IDs keeps each container in a range of ids of its own. Proxmox makes every unprivileged container with the range that
// all share, and has no option for another: lines in the container's file say which it is. They are written once all
// its volumes were walked into the range. It implements provider.Driver and provider.Deleter. A container that is being
// made is moved by its own driver.
type IDs struct{}

// NewIDs gives the driver of ranges without its types.
func NewIDs() provider.Erased { return provider.New(IDs{}) }

// Decode implements provider.Driver.
func (IDs) Decode(raw json.RawMessage) (spec.IDRange, diag.List) {
	s, diags := provider.Decode[spec.IDRange](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkID(&diags, s.ID)
	if s.Proxmox == nil {
		diags.Errorf("container %s: nothing is said about it for Proxmox", s.ID)
		return s, diags
	}
	checkPlace(&diags, *s.Proxmox)
	for _, p := range slices.Concat([]string{s.Path, s.Claims, s.Records}, s.Binds) {
		checkPath(&diags, p)
	}
	if s.IDMap.Base <= 0 || s.IDMap.Count <= 0 {
		diags.Errorf("container %s: %s is no range of ids", s.ID, idrange.Text(s.IDMap))
	}
	return s, diags
}

// Observe implements provider.Driver. It runs a command only where something is to be moved.
func (IDs) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.IDRange) (*provider.IDsStatus, error) {
	st := &provider.IDsStatus{}
	c, err := read(h, *s.Proxmox, s.ID)
	if err != nil {
		return nil, err
	}
	c = whole(c, s.ID)
	var own idrange.Guest
	if c != nil {
		own = c.ids(s.ID)
		st.IDMap, st.From = idrange.Text(own.Has()), idrange.Texts(own.Moving.From)
	}
	other := st.IDMap != "" && st.IDMap != idrange.Text(s.IDMap)
	if other && s.Stays {
		return st, nil
	}
	if c != nil && other {
		if err := c.movable(s); err != nil {
			return nil, err
		}
	}
	if st.Claimed, err = provider.Claimed(h, s); err != nil {
		return nil, err
	}
	waiting, err := waitingRecords(h, s)
	if err != nil {
		return nil, err
	}
	st.Behind = provider.AreBehind(h, s.IDMap, append(waiting, c.paths(s.ID)...))
	if c == nil && !st.Claimed && len(st.Behind) == 0 {
		return nil, nil
	}
	moves := other || st.From != ""
	if moves && len(s.Binds) > 0 {
		st.Shared = sharedBinds(h, s)
	}
	if c != nil && (moves || len(st.Behind) > 0) {
		pid, err := inside(s.ID).InitPID(ctx, h)
		st.Running = pid != 0
		return st, err
	}
	return st, nil
}

// whole is a container whose ids are to be looked at; nil: it is not there yet, or privileged, which only another
// container in its place can change.
func whole(c *conf, id string) *conf {
	if c == nil || c.half() || c.making || c.ids(id).Has() == (spec.IDMap{}) {
		return nil
	}
	return c
}

// ids is what the file says about ids.
func (c *conf) ids(id string) idrange.Guest { return idrange.ParseGuest(id, c.text()) }

// paths are where the volumes are that the notes speak of.
func (c *conf) paths(id string) (out []string) {
	if c == nil {
		return nil
	}
	for _, k := range c.records(id) {
		out = append(out, k.Path)
	}
	return out
}

// waitingRecords are where the volumes are that wait for a container.
func waitingRecords(h host.Host, s spec.IDRange) (out []string, err error) {
	kept, err := recordsIn(h, s.ID, s.Records)
	for _, k := range kept {
		out = append(out, k.Path)
	}
	return out, err
}

// Diff implements provider.Driver.
func (IDs) Diff(want spec.IDRange, have *provider.IDsStatus) plan.Delta {
	return provider.DiffIDs(want, have)
}

// Apply implements provider.Driver. It leaves a container that was moved stopped.
func (i IDs) Apply(ctx context.Context, h host.Host, a object.Address, s spec.IDRange, _ plan.Delta) error {
	have, err := i.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	if have != nil && len(have.Shared) > 0 {
		return provider.RefuseShared(s, have.Shared)
	}
	if have == nil || !have.Claimed {
		if err := provider.TakeClaim(ctx, h, s); err != nil {
			return err
		}
	}
	if have == nil {
		return nil
	}
	other := have.IDMap != "" && have.IDMap != idrange.Text(s.IDMap)
	if !other && have.From == "" && len(have.Behind) == 0 {
		return nil
	}
	if have.Running {
		if err := provider.ProxmoxWritable(h, *s.Proxmox); err != nil {
			return err
		}
		if err := (Running{}).Stop(ctx, h, a, spec.Running{ID: s.ID, Proxmox: s.Proxmox}); err != nil {
			return err
		}
	}
	waiting, err := waitingRecords(h, s)
	if err != nil {
		return err
	}
	for _, dir := range waiting {
		if m, err := h.Lstat(dir); err != nil || !m.Mode.IsDir() {
			continue // an image: it is moved with its container
		}
		if err := provider.WalkOwn(ctx, h, dir, s.IDMap, []spec.IDMap{idrange.Shared}); err != nil {
			return err
		}
	}
	if have.IDMap == "" {
		return nil
	}
	return moveIDs(ctx, h, s)
}

// Delete implements provider.Deleter: nobody has the range any more. It is for when container and volumes are gone.
func (IDs) Delete(_ context.Context, h host.Host, _ object.Address, s spec.IDRange) error {
	return provider.DropClaim(h, s)
}

// Watch implements provider.Watcher.
func (IDs) Watch(want spec.IDRange, _ *provider.IDsStatus) provider.Watch {
	w := guest(*want.Proxmox, want.ID)
	w.Paths = append(w.Paths, provider.Claim(want))
	return w
}

// sharedBinds are the users' directories of a container that another one of this node mounts too, or a directory in or
// above one.
func sharedBinds(h host.Host, s spec.IDRange) (out []string) {
	dir := filepath.Join(s.Proxmox.Dir, "lxc")
	names, _ := h.ReadDir(dir) // there may be none
	for _, name := range names {
		id, isConfig := strings.CutSuffix(name, ".conf")
		if !isConfig || id == s.ID {
			continue
		}
		if raw, err := h.ReadFile(filepath.Join(dir, name)); err == nil {
			sources := parseConf(string(raw)).current().hostDirectories()
			out = append(out, provider.AlsoMounted(h, s, sources, id, filepath.Join(dir, name))...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hostDirectories are those of the hypervisor that a container mounts.
func (s *section) hostDirectories() (out []string) {
	for _, l := range s.lines {
		f := strings.Fields(l.value)
		switch {
		case mountKey.MatchString(l.key):
			if p := parseProperty(l.value, "volume"); filepath.IsAbs(p.word) {
				out = append(out, filepath.Clean(p.word))
			}
		case l.key == "lxc.mount.entry" && len(f) > 1 && filepath.IsAbs(f[0]):
			out = append(out, filepath.Clean(host.Unescape(f[0])))
		}
	}
	return out
}
