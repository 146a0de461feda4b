package pve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Container keeps definitions. It implements provider.Driver and provider.Deleter.
type Container struct{}

// ContainerStatus is what was seen of a definition.
type ContainerStatus struct {
	Config  string            `json:"config"`            // text of its file
	Volumes map[string]record `json:"volumes,omitempty"` // those of its volumes that are there, by address
	Making  bool              `json:"making,omitempty"`  // phoenix was making it, and did not come to the end
	Rights  []string          `json:"rights,omitempty"`  // who has permissions on it, where it is to be made again
}

// Decode implements provider.Driver. No value may add a line to the configuration, and no path is mounted on twice.
func (Container) Decode(raw json.RawMessage) (spec.Container, diag.List) {
	s, diags := provider.Decode[spec.Container](raw)
	if !diags.HasErrors() {
		checkContainer(&diags, s)
	}
	return s, diags
}

func checkContainer(diags *diag.List, s spec.Container) {
	checkID(diags, s.ID)
	if s.Guest == nil || s.Name == "" {
		diags.Errorf("container %s has no name, or nothing is said about it for Proxmox", s.ID)
		return
	}
	g := s.Guest
	checkPlace(diags, g.Proxmox)
	if g.Archive != "" && g.CloneFrom != "" {
		diags.Errorf("container %s cannot both be made from an archive and be cloned", s.ID)
	}
	if g.Storage == "" || g.SizeGB <= 0 {
		diags.Errorf("container %s needs a storage for its root file system, and its size", s.ID)
	}
	values := []string{s.Name, s.Interface.Name, s.Interface.Bridge, s.Interface.Address, s.Interface.Gateway,
		s.Interface.MAC, s.Interface.Address6, s.Interface.Gateway6, g.Archive,
		g.CloneFrom, g.Snapshot, g.Storage}
	for _, o := range s.Options {
		values = append(values, o.Key, o.Value)
	}
	for _, v := range append(append(append(values, g.Features...), g.Devices...),
		append(s.Nameservers, s.SearchDomains...)...) {
		if strings.ContainsAny(v, "\n\r") || strings.HasPrefix(v, "-") {
			diags.Errorf("container %s: %q holds a line break, or looks like an option", s.ID, v)
		}
	}
	seen := map[string]bool{}
	var targets []string
	for _, v := range g.Volumes {
		checkVolume(diags, v)
		targets = append(targets, v.MountPoint)
	}
	for _, b := range g.Binds {
		checkPath(diags, b.Source)
		targets = append(targets, b.Target)
	}
	for _, t := range targets {
		checkPath(diags, t)
		if seen[t] {
			diags.Errorf("container %s: %s is mounted on twice", s.ID, t)
		}
		seen[t] = true
	}
}

// Observe implements provider.Driver; nil: there is none. It runs no command.
func (Container) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Container) (*ContainerStatus, error) {
	if len(s.Guest.Missing) > 0 {
		return nil, provider.PermanentHint(fmt.Errorf("container %s is to have %s, which is not on this machine", s.ID,
			strings.Join(s.Guest.Missing, ", ")), "load its driver, or take it out of devices")
	}
	c, err := read(h, s.Guest.Proxmox, s.ID)
	if c == nil || err != nil {
		return nil, err
	}
	st := &ContainerStatus{Config: c.text(), Volumes: map[string]record{}, Making: c.making}
	if otherKind(s, c) {
		if _, st.Rights, err = access(h, s.Guest.Proxmox, s.ID); err != nil {
			return nil, err
		}
	}
	for _, v := range s.Guest.Volumes {
		if r, ok := remembered(h, c, v); ok {
			st.Volumes[volumeAddress(v)] = r
		}
	}
	return st, nil
}

// Diff implements provider.Driver: one field for each key of the file.
func (Container) Diff(want spec.Container, have *ContainerStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the container does not exist"}
	}
	c := parseConf(have.Config)
	c.making = have.Making
	if c.half() {
		return plan.Delta{Action: plan.Create, Reason: "it was left half made: it is removed and made again"}
	}
	var d plan.Delta
	if have.Making {
		d.Compare("record of its making", makingPath(want.Guest.Proxmox, want.ID), "")
	}
	var later []string
	for _, x := range settings(want, c, have.Volumes) {
		d.Compare(x.field.Path, x.field.Have, x.field.Want)
		if x.needsRestart() {
			later = append(later, x.field.Path)
		}
	}
	if len(later) > 0 {
		d.Reason = "a container that runs needs a restart for it: " + strings.Join(later, ", ")
	}
	if otherKind(want, c) {
		d.Compare("unprivileged", flag(c.current().get("unprivileged") == "1"), flag(want.IDMap != (spec.IDMap{})))
		d.Action, d.Reason = plan.Replace, "unprivileged can only be chosen when a container is made; its volumes, "+
			"notes, tags, pool and other settings are kept"+lostWith(c, have.Rights)
	}
	return d
}

// otherKind tells that a container is privileged and should not be, or the other way round.
func otherKind(s spec.Container, c *conf) bool {
	return (c.current().get("unprivileged") == "1") != (s.IDMap != (spec.IDMap{}))
}

// Apply implements provider.Driver. All that differs goes into one call of pct set, and what only the file can hold is
// edited after that.
func (k Container) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Container, d plan.Delta) error {
	p := s.Guest.Proxmox
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	if d.Action == plan.Replace {
		if err := k.remove(ctx, h, a, s, saveReplaced); err != nil {
			return err
		}
	}
	c, err := read(h, p, s.ID)
	if err != nil {
		return err
	}
	if c != nil && c.half() {
		if err := repair(ctx, h, s); err != nil {
			return err
		}
		c = nil
	}
	if c == nil {
		if err := create(ctx, h, s); err != nil {
			return err
		}
	}
	return k.finishMaking(ctx, h, a, s)
}

// finishMaking makes the differences of a container that exists go away. One that was just made is moved into its range
// once the volumes that waited for it are in its file; what was left half moved is locked, and comes first.
func (k Container) finishMaking(ctx context.Context, h host.Host, a object.Address, s spec.Container) error {
	p := s.Guest.Proxmox
	if !isMaking(h, p, s.ID) {
		return k.adjust(ctx, h, a, s)
	}
	if c, err := read(h, p, s.ID); err != nil {
		return err
	} else if c != nil && c.ids(s.ID).IsMoving() {
		if err := giveIDs(ctx, h, s); err != nil {
			return err
		}
	}
	if err := k.adjust(ctx, h, a, s); err != nil {
		return err
	}
	if err := giveIDs(ctx, h, s); err != nil {
		return err
	}
	if err := carry(ctx, h, s); err != nil {
		return err
	}
	return endMaking(h, p, s.ID)
}

// adjust makes the differences of a container that exists go away.
func (k Container) adjust(ctx context.Context, h host.Host, a object.Address, s spec.Container) error {
	if err := takeGone(ctx, h, s); err != nil { // only the file: no lock of Proxmox's is on what it changes
		return err
	}
	have, err := k.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	if have == nil {
		return fmt.Errorf("container %s is gone right after it was made", s.ID)
	}
	c := parseConf(have.Config)
	if err := ownVolumes(s, c, have.Volumes); err != nil {
		return err
	}
	if len(settings(s, c, have.Volumes)) == 0 {
		return nil
	}
	if c, err = release(ctx, h, s.Guest.Proxmox, s.ID, c); err != nil {
		return err
	}
	if err := adopt(ctx, h, c, s.Guest.Volumes, have.Volumes); err != nil {
		return err
	}
	list := settings(s, c, have.Volumes)
	if err := saveStarted(ctx, h, s.Guest.Proxmox, s.ID); err != nil {
		return err
	}
	digest := []string{"--digest", c.digest()}
	set, revert := arguments(list)
	if len(revert) > 0 {
		if _, err := pct(ctx, h, s.ID, callLimit, "set", s.ID, "--revert", strings.Join(revert, ",")); err != nil {
			return err
		}
		digest = nil
	}
	var failed error
	if len(set) > 0 {
		res, err := pct(ctx, h, s.ID, callLimit, append(append([]string{"set", s.ID}, digest...), set...)...)
		if err != nil && says(res, oneValue) {
			err = apart(ctx, h, s.ID, list, err)
		} else if err != nil {
			return err
		}
		failed = err
	}
	return errors.Join(failed, finish(ctx, h, s, list))
}

// oneValue is a failure of pct set for one of its values, where none takes effect.
var oneValue = regexp.MustCompile(
	`unable to hotplug|Parameter verification failed|invalid format|property is not defined|can't (?:update|remove) CT`)

// apart makes each setting by a call of its own, so that one that fails does not take the others with it.
func apart(ctx context.Context, h host.Host, id string, list []setting, together error) error {
	plainly := func(x setting) bool { return x.key != "" && !indexedKey.MatchString(x.key) && x.value != "" }
	var groups [][]setting
	if rest := slices.DeleteFunc(slices.Clone(list), func(x setting) bool { return !plainly(x) }); len(rest) > 0 {
		groups = append(groups, rest) // memory and swap belong together
	}
	for _, x := range list {
		if set, _ := arguments([]setting{x}); len(set) > 0 && !plainly(x) {
			groups = append(groups, []setting{x})
		}
	}
	if len(groups) < 2 {
		return together
	}
	var errs []error
	for _, g := range groups {
		set, _ := arguments(g)
		if _, err := pct(ctx, h, id, callLimit, append([]string{"set", id}, set...)...); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// finish makes what pct set cannot.
func finish(ctx context.Context, h host.Host, s spec.Container, list []setting) error {
	for _, x := range list {
		if x.grow == "" {
			continue
		}
		if err := grow(ctx, h, s.ID, x.grow, x.value); err != nil {
			return err
		}
	}
	byHand := slices.DeleteFunc(slices.Clone(list), func(x setting) bool { return !x.raw && !x.backup })
	if len(byHand) == 0 {
		return nil
	}
	return edit(ctx, h, s.Guest.Proxmox, s.ID, func(c *conf) bool {
		for _, x := range byHand {
			if x.raw {
				c.setOptions(append(rawOptions(s), c.ownIDLines(s)...))
			} else {
				c.replace(x.key, x.value)
			}
		}
		return true
	})
}

// ownVolumes fails where another volume stands where one of phoenix's belongs: nobody but a person knows which has the
// data.
func ownVolumes(s spec.Container, c *conf, known map[string]record) error {
	for _, v := range s.Guest.Volumes {
		own, ok := known[volumeAddress(v)]
		if key, have := c.mountedNow(v.MountPoint); ok && key != "" && have.word != own.Volume {
			return otherVolume(v, key, have.word, own.Volume)
		}
	}
	return nil
}

// grow makes a volume larger. pct resize ends well though it failed: then it complains on standard error, and only
// there.
func grow(ctx context.Context, h host.Host, id, key, size string) error {
	res, err := pct(ctx, h, id, callLimit, "resize", id, key, size)
	if err != nil && strings.Contains(string(res.Stderr), "disk is already at specified size") {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(res.Stderr)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "trying to acquire lock") &&
			line != "OK" {
			return provider.PermanentHint(fmt.Errorf("%s of container %s was not made larger: pct resize ended well "+
				"and said:\n%s", key, id, res.Stderr),
				"its size stands in the configuration already; see to the file system in it by hand")
		}
	}
	return nil
}

// cloneLock is held while a container is copied: Proxmox refuses a second copy of it at the same time.
func cloneLock(p spec.Proxmox, source string) string {
	return filepath.Join(p.Locks, "phoenix-clone-"+source+".lock")
}
