package lxc

import (
	"context"
	"encoding/json"
	"fmt"
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

// IDs keeps each container in a range of ids of its own. The container's configuration says which it is; a link in a
// directory that all of this hypervisor's containers share claims it, so that two that are made at once never get the
// same. A container with another range is moved: it is stopped, its configuration gets the new range and a line that
// says from where, its files and volumes are walked, and the line goes. Whoever is killed on the way goes on from
// there. It implements provider.Driver and provider.Deleter.
type IDs struct{}

// NewIDs gives the driver of ranges without its types.
func NewIDs() provider.Erased { return provider.New(IDs{}) }

// IDsStatus is what was seen of a container's ids.
type IDsStatus = provider.IDsStatus

// movingMark begins the line of a configuration that says from which range the files are being moved.
const movingMark = "# phoenix: ids are being moved from "

// Decode implements provider.Driver.
func (IDs) Decode(raw json.RawMessage) (spec.IDRange, diag.List) {
	s, diags := provider.Decode[spec.IDRange](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkPlace(&diags, s.ID, s.Path)
	for _, p := range slices.Concat([]string{s.Claims}, s.Volumes, s.Binds, s.Directories) {
		if !cleanPath(p) {
			diags.Errorf("container %s: %q is not a clean absolute path", s.ID, p)
		}
	}
	if s.IDMap.Base <= 0 || s.IDMap.Count <= 0 {
		diags.Errorf("container %s: %s is no range of ids", s.ID, idrange.Text(s.IDMap))
	}
	return s, diags
}

// Observe implements provider.Driver. It runs a command only where something is to be moved.
func (IDs) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.IDRange) (*IDsStatus, error) {
	st := &IDsStatus{}
	config, there, err := readConfig(h, s.Path, s.ID)
	if err != nil {
		return nil, err
	}
	if there {
		st.IDMap, st.From = rangeText(idrange.Root(config)), movingFrom(config)
	}
	if s.Stays && there && st.IDMap != idrange.Text(s.IDMap) {
		return st, nil
	}
	if st.Claimed, err = provider.Claimed(h, s); err != nil {
		return nil, err
	}
	st.Behind = provider.AreBehind(h, s.IDMap,
		append([]string{filepath.Join(home(s.Path, s.ID), "rootfs")}, s.Volumes...))
	if !there && !st.Claimed && len(st.Behind) == 0 {
		return nil, nil
	}
	if moves := there && (st.IDMap != idrange.Text(s.IDMap) || st.From != ""); moves && len(s.Binds) > 0 {
		st.Shared = sharedBinds(h, s)
	}
	if there && (st.IDMap != idrange.Text(s.IDMap) || st.From != "" || len(st.Behind) > 0) {
		pid, err := inside(s.Path, s.ID).InitPID(ctx, h)
		st.Running = pid != 0
		return st, err
	}
	return st, nil
}

func rangeText(m spec.IDMap, mapped bool) string {
	if !mapped {
		return provider.Privileged
	}
	return idrange.Text(m)
}

// movingFrom is the range in the line of a configuration that says that a move is not over; empty: there is none.
func movingFrom(config string) string {
	for line := range strings.Lines(config) {
		if from, ok := strings.CutPrefix(line, movingMark); ok {
			return strings.TrimSpace(from)
		}
	}
	return ""
}

// Diff implements provider.Driver.
func (IDs) Diff(want spec.IDRange, have *IDsStatus) plan.Delta { return provider.DiffIDs(want, have) }

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
	if have == nil || have.From == "" && len(have.Behind) == 0 &&
		(have.IDMap == "" || have.IDMap == idrange.Text(s.IDMap)) {
		return nil
	}
	if have.Running {
		if err := (Running{}).halt(ctx, h, a, spec.Running{ID: s.ID, Path: s.Path}); err != nil {
			return err
		}
	}
	return move(ctx, h, s)
}

// halt stops a container whose boot may not be over yet.
func (r Running) halt(ctx context.Context, h host.Host, a object.Address, s spec.Running) error {
	have, err := r.Observe(ctx, h, a, s)
	if err != nil || have == nil || have.State != running {
		return err
	}
	if err := r.settle(ctx, h, s, have); err != nil {
		return err
	}
	return stop(ctx, h, s)
}

// move brings a stopped container, or what is left of one, into its range.
func move(ctx context.Context, h host.Host, s spec.IDRange) error {
	config, there, err := readConfig(h, s.Path, s.ID)
	if err != nil {
		return err
	}
	if m, mapped := idrange.Root(config); there && m != s.IDMap {
		config = remap(config, m, mapped, s.IDMap)
		if err := h.WriteFile(configPath(s.Path, s.ID), []byte(config), 0o644, host.Root); err != nil {
			return err
		}
	}
	var from []spec.IDMap
	text := movingFrom(config)
	if text != "" {
		m, ok := idrange.Parse(text)
		if !ok {
			return provider.Permanent(fmt.Errorf("%s: %q is no range of ids", configPath(s.Path, s.ID), text))
		}
		from = append(from, m)
	}
	for _, dir := range append([]string{filepath.Join(home(s.Path, s.ID), "rootfs")}, s.Volumes...) {
		if err := provider.WalkOwn(ctx, h, dir, s.IDMap, from); err != nil {
			return err
		}
	}
	if err := provider.WalkBinds(ctx, h, s, from); err != nil {
		return err
	}
	if text == "" {
		return nil
	}
	return h.WriteFile(configPath(s.Path, s.ID), []byte(strings.Replace(config, movingMark+text+"\n", "", 1)),
		0o644, host.Root)
}

// remap gives a configuration another range, and says from which its files are to be moved.
func remap(config string, old spec.IDMap, mapped bool, to spec.IDMap) string {
	if !mapped { // of a privileged container
		old = spec.IDMap{Base: 0, Count: to.Count}
	}
	lines := []string{}
	for line := range strings.Lines(config) {
		if key, _, _ := strings.Cut(line, "="); strings.TrimSpace(key) != "lxc.idmap" {
			lines = append(lines, line)
		}
	}
	added := movingMark + idrange.Text(old) + "\n"
	if !mapped {
		added += "lxc.include = /usr/share/lxc/config/userns.conf\n"
	}
	added += strings.Join(idMapLines(to), "\n") + "\n"
	return strings.Join(append(lines[:1:1], append([]string{added}, lines[1:]...)...), "")
}

// Delete implements provider.Deleter: nobody has the range any more. It is for when container and volumes are gone.
func (IDs) Delete(_ context.Context, h host.Host, _ object.Address, s spec.IDRange) error {
	return provider.DropClaim(h, s)
}

// Watch implements provider.Watcher.
func (IDs) Watch(want spec.IDRange, _ *IDsStatus) provider.Watch {
	return provider.Watch{Paths: append([]string{provider.Claim(want)}, want.Volumes...)}
}
