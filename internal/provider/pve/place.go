package pve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func confPath(p spec.Proxmox, id string) string { return filepath.Join(p.Dir, "lxc", id+".conf") }

func checkPath(diags *diag.List, path string) {
	if clean, fault := spec.ProxmoxMountPath(path); fault != nil {
		diags.Errorf("%s", fault.Why)
	} else if clean != path {
		diags.Errorf("%q is no clean path: write %s", path, clean)
	}
}

func blank(r rune) bool { return r <= ' ' }

// mark is the line in a container's notes that says that it is phoenix's.
func mark(id string) string {
	return "phoenix: " + string(object.NewAddress(spec.KindContainer, id))
}

func (c *conf) marked(id string) bool {
	return slices.ContainsFunc(c.current().description(),
		func(n string) bool { return strings.TrimSpace(n) == mark(id) })
}

// half tells a container that a killed create, clone or destroy left: its lock and nothing else, or what a clone writes
// before it copies. The latter looks like a container that is being restored over itself, whose volumes are still
// there: only phoenix's own record that it was making it tells the two apart.
func (c *conf) half() bool {
	s := c.current()
	lock := s.get("lock")
	if len(c.sections) == 1 && slices.Equal(s.keys(), []string{"lock"}) && (lock == "create" || lock == "destroyed") {
		return true
	}
	return c.making && (lock == "create" || s.get("rootfs") == "")
}

// look reads a container's configuration, whoever's it is; nil: this node has no such container. One of another node is
// a permanent error.
func look(h host.Host, p spec.Proxmox, id string) (*conf, error) {
	raw, err := h.ReadFile(confPath(p, id))
	if err == nil {
		c := parseConf(string(raw))
		c.making = isMaking(h, p, id)
		return c, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := h.Lstat(filepath.Join(p.Dir, "local")); err != nil {
		return nil, provider.ProxmoxWritable(h, p) // without pmxcfs every container would seem to be gone
	}
	return nil, provider.ProxmoxHere(h, p, id)
}

// read is look for one that must be phoenix's if it is there.
func read(h host.Host, p spec.Proxmox, id string) (*conf, error) {
	c, err := look(h, p, id)
	if c == nil || err != nil || c.marked(id) || c.half() {
		return c, err
	}
	return nil, provider.PermanentHint(fmt.Errorf("container %s was not made by phoenix", id),
		fmt.Sprintf("choose another id, or hand it over: add the line %q to its notes", mark(id)))
}

// digest is Proxmox's digest of the file.
func (c *conf) digest() string { return provider.ProxmoxDigest(c.text()) }

// edit changes a container's file by hand. change says whether there was anything to change.
func edit(ctx context.Context, h host.Host, p spec.Proxmox, id string, change func(*conf) bool) error {
	c, err := read(h, p, id)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("container %s is gone", id)
	}
	before := c.text()
	if !change(c) {
		return nil
	}
	res, err := provider.ReplaceProxmox(ctx, h, p, provider.ProxmoxLock(p, id), confPath(p, id), &before, c.text())
	return explain(id, res, err)
}
