package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const buildLimit = 30 * time.Minute

// Apply implements provider.Driver. The tree is made aside and renamed into place when it is whole and on the disk.
func (d Driver) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Template, _ plan.Delta) error {
	have, err := d.look(h, s)
	if err != nil {
		return err
	}
	if delta := d.Diff(s, have); delta.Action != plan.Create && !delta.Has("inputs") {
		return removeAll(h, staging(s), retired(s), workshop(s))
	}
	source, err := sourceOf(h, s)
	if err != nil {
		return provider.PermanentHint(fmt.Errorf("template %s: %w", s.ID, err),
			"put the archive there, or leave it out and one is built")
	}
	if err := stage(ctx, h, s, source); err != nil {
		return err
	}
	return swap(h, s)
}

func stage(ctx context.Context, h host.Host, s spec.Template, source string) error {
	if err := h.MkdirAll(s.Dir, 0o711, host.Root); err != nil {
		return err
	}
	if err := removeAll(h, staging(s), workshop(s)); err != nil {
		return err
	}
	outside := host.Owner{UID: s.IDMap.Outside(0), GID: s.IDMap.Outside(0)}
	if err := h.MkdirAll(staging(s), 0o710, host.Owner{GID: outside.GID}); err != nil {
		return err
	}
	root := filepath.Join(staging(s), "rootfs")
	if err := makeRoot(ctx, h, root, outside); err != nil {
		return err
	}
	archive, kind := s.Archive, "archive"
	if archive == "" {
		var err error
		if archive, err = debian(s).Archive(ctx, h); err != nil {
			return err
		}
		kind = "built"
	}
	if err := unpack(ctx, h, s, archive, root, kind); err != nil {
		return err
	}
	if err := removeAll(h, workshop(s)); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Command{Argv: []string{"sync", "--file-system", root}}); err != nil {
		return err
	}
	return h.WriteFile(filepath.Join(staging(s), "inputs"), []byte(treeKey(s, source)+"\n"), 0o644, host.Root)
}

// makeRoot makes the tree's top: a subvolume on Btrfs, so that clones can be snapshots, else a directory.
func makeRoot(ctx context.Context, h host.Host, root string, owner host.Owner) error {
	res, err := h.Run(ctx, host.Command{Argv: []string{"stat", "--file-system", "--format=%T", filepath.Dir(root)}})
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(res.Stdout)) == "btrfs" {
		if _, err := h.Run(ctx, host.Command{Argv: []string{"btrfs", "--quiet", "subvolume", "create", root},
			Mutates: true}); err != nil {
			return err
		}
		return errors.Join(h.Chown(root, owner), h.Chmod(root, 0o755))
	}
	return h.MkdirAll(root, 0o755, owner)
}

// unpack extracts as root of the id map, so that owners and file capabilities come out shifted. The shell opens the
// archive, which that root need not be able to reach.
func unpack(ctx context.Context, h host.Host, s spec.Template, archive, root, kind string) error {
	tar := []string{"tar", "--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*",
		"--anchored", "--exclude=./dev/*", "--exclude=dev/*", "--directory=" + root}
	if flag := compression(archive); flag != "" {
		tar = append(tar, flag)
	}
	argv := append([]string{"sh", "-c", `archive=$1; shift; exec "$@" < "$archive"`, "sh", archive},
		inMap(s.IDMap, tar...)...)
	res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true, Aside: true, Limit: buildLimit})
	if err != nil {
		return err
	}
	if names, err := h.ReadDir(root); err != nil || len(names) == 0 {
		return errors.Join(host.Misread(argv, res, errors.New("nothing was unpacked")), err)
	}
	return fit(ctx, h, inMap(s.IDMap, "chroot", root, "/bin/sh", "-s", kind))
}

// fit runs the script, which tells when it has come to its end: a shell that read only half of it ends well too.
func fit(ctx context.Context, h host.Host, argv []string) error {
	const said, refused = "fit", "refused: "
	res, err := h.Run(ctx, host.Command{Argv: argv, Stdin: []byte(fitScript + "\necho " + said + "\n"), Mutates: true})
	if of, no := strings.CutPrefix(strings.TrimSpace(string(res.Stdout)), refused); err == nil && no {
		return provider.PermanentHint(fmt.Errorf("the archive is of %.80q, which cannot be a container of phoenix: it "+
			"needs apt and systemd as Debian and Ubuntu have them", of),
			"name an archive of Debian 12 or 13, or of an Ubuntu LTS")
	}
	if err == nil && strings.TrimSpace(string(res.Stdout)) != said {
		err = host.Misread(argv, res, errors.New("the script did not come to its end"))
	}
	return err
}

func inMap(m spec.IDMap, argv ...string) []string {
	if m == (spec.IDMap{}) {
		return argv
	}
	return append([]string{"lxc-usernsexec", "-m", fmt.Sprintf("b:0:%d:%d", m.Base, m.Count), "--"}, argv...)
}

func compression(archive string) string {
	return map[string]string{".gz": "--gzip", ".tgz": "--gzip", ".xz": "--xz", ".zst": "--zstd",
		".bz2": "--bzip2"}[filepath.Ext(archive)]
}

// swap puts the staged template in place of the old one.
func swap(h host.Host, s spec.Template) error {
	if err := removeAll(h, retired(s)); err != nil {
		return err
	}
	if err := h.Rename(home(s), retired(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := h.Rename(staging(s), home(s)); err != nil {
		return err
	}
	return removeAll(h, retired(s))
}

func removeAll(h host.Host, paths ...string) error {
	for _, p := range paths {
		if err := h.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements provider.Deleter. The cache is kept.
func (Driver) Delete(_ context.Context, h host.Host, _ object.Address, s spec.Template) error {
	if err := removeAll(h, staging(s), retired(s), workshop(s)); err != nil {
		return err
	}
	if _, err := h.Lstat(home(s)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := h.Rename(home(s), retired(s)); err != nil {
		return err
	}
	return removeAll(h, retired(s))
}
