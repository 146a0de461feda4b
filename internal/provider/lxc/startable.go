package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// startable fails where a start would, for a reason that can be seen before: it is asked before a container is stopped
// for a restart.
func startable(ctx context.Context, h host.Host, s spec.Running) error {
	if err := canonical(ctx, h, s.Path); err != nil {
		return err
	}
	config, defined, err := readConfig(h, s.Path, s.ID)
	if err != nil || !defined {
		return err
	}
	root := filepath.Join(home(s.Path, s.ID), "rootfs")
	if m, err := h.Lstat(root); err != nil || !m.Mode.IsDir() {
		return errors.Join(fmt.Errorf("container %s cannot start: it has no root file system at %s", s.ID, root), err)
	}
	mounts := entries(config)
	for _, m := range mounts {
		if err := provider.Mountable(h, s.ID, m); err != nil {
			return err
		}
		if err := reachable(h, s.ID, root, m, mounts); err != nil {
			return err
		}
	}
	return nil
}

// entries are the directories that a configuration binds.
func entries(config string) (out []spec.Mount) {
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if m, bind := provider.ParseMountEntry(value); key == "lxc.mount.entry" && bind {
			out = append(out, m)
		}
	}
	return out
}

// reachable fails where lxc could not mount at a place inside: over a link, which it refuses, or on something that is
// no directory. What is there is the container's, and may be another thing by the time of the start, which then fails.
func reachable(h host.Host, id, root string, m spec.Mount, mounts []spec.Mount) error {
	at, rest := root, m.Target
	for _, outer := range mounts { // in order: the innermost is the last
		if below, ok := strings.CutPrefix(m.Target, outer.Target+"/"); ok {
			at, rest = outer.Source, below
		}
	}
	for name := range strings.SplitSeq(strings.Trim(rest, "/"), "/") {
		at = filepath.Join(at, name)
		st, err := h.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // lxc makes it
		}
		if err != nil {
			return err
		}
		if !st.Mode.IsDir() {
			return provider.PermanentHint(fmt.Errorf("container %s cannot start: nothing can be mounted at %s in it, "+
				"as %s is a %s", id, m.Target, at, host.KindOf(st.Mode)),
				"name another container_path, or move it away in the container")
		}
	}
	return nil
}
