package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Container keeps definitions. It implements provider.Driver and provider.Deleter.
type Container struct{}

// ContainerStatus is what was seen of a definition.
type ContainerStatus struct {
	Rootfs bool   `json:"rootfs"` // there is a root file system
	Config string `json:"config"` // text of the configuration; empty: there is none
	Home   string `json:"home"`   // mode and owner of the directory around both, such as 0710 0:100000
	// Devices are those that were made for it, by their names in its devices directory, such as 0666 100000:100000 c
	// 10:200
	Devices map[string]string `json:"devices,omitempty"`
}

const cloneLimit = 15 * time.Minute

// Decode implements provider.Driver. No value may add a line to the configuration, and no mount is taken twice.
func (Container) Decode(raw json.RawMessage) (spec.Container, diag.List) {
	s, diags := provider.Decode[spec.Container](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkPlace(&diags, s.ID, s.Path)
	if !cleanPath(s.Template) {
		diags.Errorf("container %s: template %q is not a clean absolute path", s.ID, s.Template)
	}
	values := []string{s.Name, s.Interface.Name, s.Interface.Bridge, s.Interface.Address, s.Interface.Gateway,
		s.Interface.MAC, s.Interface.Address6, s.Interface.Gateway6}
	for _, o := range s.Options {
		values = append(values, o.Key, o.Value)
	}
	if strings.ContainsAny(strings.Join(values, ""), "\n\r") {
		diags.Errorf("container %s: a value holds a line break", s.ID)
	}
	if s.Name == "" {
		diags.Errorf("container %s has no name", s.ID)
	}
	checkMounts(&diags, s)
	checkDevices(&diags, s)
	return s, diags
}

func checkMounts(diags *diag.List, s spec.Container) {
	seen := make(map[string]bool)
	for _, m := range s.Mounts {
		for _, p := range []string{m.Source, m.Target} {
			if clean, fault := spec.MountPath(p); fault != nil {
				diags.Errorf("container %s: mount of %q at %q: %s", s.ID, m.Source, m.Target, fault.Why)
			} else if clean != p {
				diags.Errorf("container %s: mount of %q at %q: write %s", s.ID, m.Source, m.Target, clean)
			}
		}
		if seen[m.Target] {
			diags.Errorf("container %s: %s is mounted on twice", s.ID, m.Target)
		}
		seen[m.Target] = true
	}
}

// Observe implements provider.Driver. It runs no command.
func (Container) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Container) (*ContainerStatus, error) {
	if err := missing(s); err != nil {
		return nil, err
	}
	m, err := h.Lstat(home(s.Path, s.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &ContainerStatus{Home: homeText(spec.ModeOf(m.Mode), m.UID, m.GID)}
	if st.Config, _, err = readConfig(h, s.Path, s.ID); err != nil {
		return nil, err
	}
	root, err := h.Lstat(filepath.Join(home(s.Path, s.ID), "rootfs"))
	st.Rootfs = err == nil && root.Mode.IsDir()
	st.Devices = devicesOf(h, s)
	return st, nil
}

func homeText(m spec.Mode, uid, gid int) string { return fmt.Sprintf("%04o %d:%d", m, uid, gid) }

// homeMode lets the container's root through to its root file system and shows nobody else anything.
const homeMode = 0o710

// Diff implements provider.Driver: one field for each key of the configuration.
func (Container) Diff(want spec.Container, have *ContainerStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the container does not exist"}
	}
	if !have.Rootfs {
		return plan.Delta{Action: plan.Create, Reason: "its root file system does not exist"}
	}
	var d plan.Delta
	text := render(want)
	if have.Config != text {
		old, _ := keys(have.Config)
		new, order := keys(text)
		for _, k := range order {
			d.Compare(k, old[k], new[k])
		}
		for k := range old {
			if _, kept := new[k]; !kept {
				d.Compare(k, old[k], "")
			}
		}
		if d.Empty() { // a comment or the order
			d.Compare("config", definition(have.Config)+" (edited)", definition(text))
		}
	}
	d.Compare("home", have.Home, homeText(homeMode, 0, want.IDMap.Outside(0)))
	diffDevices(&d, want, have)
	return d
}

// keys gives a configuration's values by key, those of a repeated key joined, and the keys in order.
func keys(config string) (values map[string]string, order []string) {
	values = make(map[string]string)
	for line := range strings.Lines(config) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || strings.HasPrefix(k, "#") {
			continue
		}
		if old, again := values[k]; again {
			v = old + "; " + v
		} else {
			order = append(order, k)
		}
		values[k] = v
	}
	return values, order
}

// Apply implements provider.Driver. A new container is made aside and renamed into place, so that a killed clone starts
// clean. A changed configuration takes effect at the next start, which the running object sees to.
func (c Container) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Container, _ plan.Delta) error {
	have, err := c.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	owner := host.Owner{GID: s.IDMap.Outside(0)}
	if have == nil {
		return errors.Join(create(ctx, h, s, owner), makeDevices(ctx, h, s))
	}
	if err := makeDevices(ctx, h, s); err != nil {
		return err
	}
	if !have.Rootfs {
		root := filepath.Join(home(s.Path, s.ID), "rootfs")
		if err := clone(ctx, h, s, root+".new"); err != nil {
			return err
		}
		if err := h.Rename(root+".new", root); err != nil {
			return err
		}
	}
	if have.Config != render(s) {
		if err := carryOver(ctx, h, s, have.Config); err != nil {
			return err
		}
		if err := writeConfig(h, s, home(s.Path, s.ID)); err != nil {
			return err
		}
	}
	if have.Home != homeText(homeMode, owner.UID, owner.GID) {
		return errors.Join(h.Chown(home(s.Path, s.ID), owner), h.Chmod(home(s.Path, s.ID), homeMode))
	}
	return nil
}

func staging(s spec.Container) string { return filepath.Join(s.Path, "."+s.ID+".new") }
func retired(s spec.Container) string { return filepath.Join(s.Path, "."+s.ID+".old") }

func create(ctx context.Context, h host.Host, s spec.Container, owner host.Owner) error {
	if err := h.MkdirAll(s.Path, 0o711, host.Root); err != nil {
		return err
	}
	if err := h.RemoveAll(staging(s)); err != nil {
		return err
	}
	if err := h.MkdirAll(staging(s), homeMode, owner); err != nil {
		return err
	}
	if err := clone(ctx, h, s, filepath.Join(staging(s), "rootfs")); err != nil {
		return err
	}
	if err := writeConfig(h, s, staging(s)); err != nil {
		return err
	}
	return h.Rename(staging(s), home(s.Path, s.ID))
}

func writeConfig(h host.Host, s spec.Container, dir string) error {
	return h.WriteFile(filepath.Join(dir, "config"), []byte(render(s)), 0o644, host.Root)
}

// clone copies the template to root: a snapshot on Btrfs, shared extents where the file system has them, else a copy.
// It ends when all is on the disk.
func clone(ctx context.Context, h host.Host, s spec.Container, root string) error {
	m, err := h.Lstat(s.Template)
	if err != nil {
		return fmt.Errorf("container %s has nothing to be cloned from: %w", s.ID, err)
	}
	if err := h.RemoveAll(root); err != nil {
		return err
	}
	argv := []string{"cp", "--archive", "--reflink=auto", "--no-target-directory", s.Template, root}
	if m.Inode == 256 && isBtrfs(ctx, h, s.Template) && isBtrfs(ctx, h, filepath.Dir(root)) { // a subvolume's top
		argv = []string{"btrfs", "--quiet", "subvolume", "snapshot", s.Template, root}
	}
	res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true, Aside: true, Limit: cloneLimit})
	if err != nil {
		return err
	}
	if err := alike(h, s.Template, root); err != nil {
		return host.Misread(argv, res, err)
	}
	if err := ownRange(ctx, h, s, m.UID, root); err != nil {
		return err
	}
	for _, p := range s.Programs {
		if err := install(ctx, h, s.IDMap.Outside(0), p, root); err != nil {
			return err
		}
	}
	_, err = h.Run(ctx, host.Command{Argv: []string{"sync", "--file-system", root}, Limit: cloneLimit})
	return err
}

// ownRange moves a clone from the template's range of ids, whose root is base outside, to the container's.
func ownRange(ctx context.Context, h host.Host, s spec.Container, base int, root string) error {
	to := idshift.Range{Base: s.IDMap.Outside(0), Count: max(s.IDMap.Count, idrange.Size)}
	if to.Base == base {
		return nil
	}
	return h.ShiftIDs(ctx, root, idshift.Move{From: []idshift.Range{{Base: base, Count: idrange.Size}}, To: to})
}

// alike fails where a copy that is said to be made does not have what is at the original's top.
func alike(h host.Host, original, copied string) error {
	want, err := h.ReadDir(original)
	if err != nil {
		return err
	}
	have, err := h.ReadDir(copied)
	if err == nil && !slices.Equal(want, have) {
		err = fmt.Errorf("%s has %q, not %q as %s", copied, have, want, original)
	}
	return err
}

func isBtrfs(ctx context.Context, h host.Host, path string) bool {
	res, err := h.Run(ctx, host.Command{Argv: []string{"stat", "--file-system", "--format=%T", path}})
	return err == nil && strings.TrimSpace(string(res.Stdout)) == "btrfs"
}

// install puts a program into a root file system in which nothing has run yet.
func install(ctx context.Context, h host.Host, root int, p spec.Program, rootfs string) error {
	if err := plainWay(h, rootfs, filepath.Dir(p.Target)); err != nil {
		return err
	}
	id, target := fmt.Sprint(root), filepath.Join(rootfs, p.Target)
	for _, argv := range [][]string{
		{"install", "-D", "--mode=0755", "--owner=" + id, "--group=" + id, p.Source, target},
		{"touch", "--date=" + provider.StampText(p.SHA256), target},
	} {
		if _, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
			return err
		}
	}
	return h.Chown(filepath.Dir(target), host.Owner{UID: root, GID: root})
}

// plainWay fails where a link is on the way to a directory in a root file system: it could lead out of it, as whoever
// made the template's archive wanted. Nothing runs in there that could put one in its place later.
func plainWay(h host.Host, rootfs, dir string) error {
	at := rootfs
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		at = filepath.Join(at, part)
		m, err := h.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !m.Mode.IsDir() {
			err = provider.PermanentHint(fmt.Errorf("%s is a %s, not a directory", at, host.KindOf(m.Mode)),
				"make the template from another archive")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Delete implements provider.Deleter: it stops the container and removes its definition and root file system. Volumes
// are mounted in the container's own namespace only and are not touched.
func (c Container) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Container) error {
	have, err := c.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	for _, leftover := range []string{staging(s), retired(s)} {
		if err := h.RemoveAll(leftover); err != nil {
			return err
		}
	}
	if have == nil {
		return nil
	}
	if have.Config != "" {
		if err := (Running{}).Stop(ctx, h, a, spec.Running{ID: s.ID, Path: s.Path}); err != nil {
			return err
		}
	}
	if err := h.Rename(home(s.Path, s.ID), retired(s)); err != nil {
		return err
	}
	return h.RemoveAll(retired(s))
}
