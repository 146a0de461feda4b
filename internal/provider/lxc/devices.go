package lxc

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// A device of the hypervisor belongs to ids that an unprivileged container has not, so that its root could not open it.
// The container gets a node of its own in a directory beside its root file system, with the same numbers and for its
// own users, and a rule of its control group that lets it use these numbers.

// deviceMode lets every user of the container use what it was given; the directory above is closed to others.
const deviceMode fs.FileMode = 0o666

func devicesDir(s spec.Container) string { return filepath.Join(home(s.Path, s.ID), "devices") }

// node is where a container's own node of a device is.
func node(s spec.Container, d spec.Device) string {
	return filepath.Join(devicesDir(s), nodeName(d))
}

func nodeName(d spec.Device) string {
	return strings.ReplaceAll(strings.TrimPrefix(d.Path, "/dev/"), "/", "-")
}

// checkDevices wants each path once, below /dev.
func checkDevices(diags *diag.List, s spec.Container) {
	seen := map[string]bool{}
	for _, d := range s.Devices {
		clean, fault := spec.MountPath(d.Path)
		switch {
		case fault != nil || clean != d.Path || !strings.HasPrefix(d.Path, "/dev/"):
			diags.Errorf("container %s: %q is no path of a device", s.ID, d.Path)
		case seen[nodeName(d)]:
			diags.Errorf("container %s: device %s is asked for twice", s.ID, d.Path)
		}
		seen[nodeName(d)] = true
	}
}

// missing fails where a device is not on this machine: the container as it is stays so.
func missing(s spec.Container) error {
	for _, d := range s.Devices {
		if d.Missing {
			return provider.PermanentHint(fmt.Errorf("container %s is to have %s, which is not on this machine", s.ID,
				d.Path), "load its driver, or take it out of devices")
		}
	}
	return nil
}

// deviceLines let a container use its devices, and show them where they are on the hypervisor.
func deviceLines(s spec.Container) (lines []string) {
	for _, d := range s.Devices {
		lines = append(lines, "lxc.cgroup.devices.allow = "+d.Numbers()+" rwm",
			"lxc.cgroup2.devices.allow = "+d.Numbers()+" rwm",
			fmt.Sprintf("lxc.mount.entry = %s %s none bind,create=file 0 0", host.Escape(node(s, d)),
				host.Escape(strings.TrimPrefix(d.Path, "/"))))
	}
	return lines
}

func deviceText(mode fs.FileMode, uid, gid int, d spec.Device) string {
	return fmt.Sprintf("%04o %d:%d %s", mode.Perm(), uid, gid, d.Numbers())
}

// wantedDevice is a node as it should be.
func wantedDevice(s spec.Container, d spec.Device) string {
	return deviceText(deviceMode, s.IDMap.Outside(0), s.IDMap.Outside(0), d)
}

// devicesOf are the nodes that were made for a container.
func devicesOf(h host.Host, s spec.Container) map[string]string {
	names, err := h.ReadDir(devicesDir(s))
	if err != nil {
		return nil // it has none
	}
	out := map[string]string{}
	for _, name := range names {
		m, err := h.Lstat(filepath.Join(devicesDir(s), name))
		switch {
		case err != nil:
		case m.Mode&fs.ModeDevice == 0:
			out[name] = host.KindOf(m.Mode)
		default:
			out[name] = deviceText(m.Mode, m.UID, m.GID, spec.Device{Block: m.Mode&fs.ModeCharDevice == 0,
				Major: m.Major, Minor: m.Minor})
		}
	}
	return out
}

func diffDevices(d *plan.Delta, want spec.Container, have *ContainerStatus) {
	known := map[string]bool{}
	for _, x := range want.Devices {
		known[nodeName(x)] = true
		d.Compare("device "+x.Path, have.Devices[nodeName(x)], wantedDevice(want, x))
	}
	for _, name := range slices.Sorted(maps.Keys(have.Devices)) {
		if !known[name] {
			d.Compare("device "+name, have.Devices[name], "")
		}
	}
}

// makeDevices makes the nodes that are not as they should be, and takes those away that nothing asks for.
func makeDevices(ctx context.Context, h host.Host, s spec.Container) error {
	have := devicesOf(h, s)
	if len(s.Devices) > 0 {
		if err := h.MkdirAll(devicesDir(s), 0o711, host.Root); err != nil {
			return err
		}
	}
	for _, d := range s.Devices {
		if have[nodeName(d)] != wantedDevice(s, d) {
			if err := makeDevice(ctx, h, s, d, have[nodeName(d)] != ""); err != nil {
				return err
			}
		}
		delete(have, nodeName(d))
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if err := h.Remove(filepath.Join(devicesDir(s), name)); err != nil {
			return err
		}
	}
	return nil
}

func makeDevice(ctx context.Context, h host.Host, s spec.Container, d spec.Device, replace bool) error {
	path := node(s, d)
	if replace {
		if err := h.Remove(path); err != nil {
			return err
		}
	}
	kind := "c"
	if d.Block {
		kind = "b"
	}
	argv := []string{"mknod", "--mode=0" + strconv.FormatUint(uint64(deviceMode), 8), path, kind,
		strconv.FormatUint(uint64(d.Major), 10), strconv.FormatUint(uint64(d.Minor), 10)}
	if _, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
		return err
	}
	return h.Chown(path, host.Owner{UID: s.IDMap.Outside(0), GID: s.IDMap.Outside(0)})
}
