package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// givable are the devices that a container may be given by devices: those that applications use, and that neither hold
// what belongs to the hypervisor nor control it. A name that ends in / is a directory, all devices in which are given.
var givable = []string{
	"/dev/net/tun", "/dev/ppp", "/dev/vhost-net", "/dev/fuse", "/dev/kvm",
	"/dev/dri/", "/dev/dri/card[0-9]*", "/dev/dri/renderD[0-9]*", "/dev/kfd",
	"/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset",
	"/dev/apex_[0-9]*", "/dev/video[0-9]*", "/dev/media[0-9]*", "/dev/snd/", "/dev/snd/*", "/dev/dvb/adapter[0-9]*/",
	"/dev/dvb/adapter[0-9]*/*", "/dev/ttyUSB[0-9]*", "/dev/ttyACM[0-9]*", "/dev/hidraw[0-9]*", "/dev/i2c-[0-9]*",
	"/dev/gpiochip[0-9]*",
}

// isGivable is whether a path, as the file has it, is among them.
func isGivable(p string) bool {
	return slices.ContainsFunc(givable, func(pattern string) bool {
		fits, err := path.Match(strings.TrimSuffix(pattern, "/"), p)
		return err == nil && fits
	})
}

// devices checks the names of the devices that a container asks for.
func (c *checker) devices(x *Container) {
	for i, dev := range x.Devices {
		key := element("devices", i)
		clean, fault := spec.MountPath(dev)
		switch {
		case c.toldAt(x.At, key):
		case fault != nil:
			c.errorf(x.At, key, fault.Hint, "%s", fault.Why)
		case !isGivable(clean):
			c.errorf(x.At, key, "phoenix gives "+strings.Join(shortGivable(), ", "),
				"%s is no device that a container may be given", clean)
		case slices.Index(x.Devices, clean) < i && slices.Contains(x.Devices[:i], clean):
			c.warnf(x.At, key, "remove it", "%s stands twice", clean)
		}
		x.Devices[i] = clean
	}
}

// shortGivable are the names for people, without the patterns of what is in a directory.
func shortGivable() (out []string) {
	for _, p := range givable {
		name := strings.TrimSuffix(strings.ReplaceAll(p, "[0-9]*", "N"), "/")
		if !strings.Contains(name, "*") && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// DevicesWanted lists the paths whose devices Derive asks for in Machine.Devices, each once.
func DevicesWanted(cfg *Config) []string {
	var out []string
	for _, c := range cfg.Containers {
		out = append(out, c.Devices...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// given are the devices of a container, in the order of their paths. One that is not on this machine keeps the
// container from being changed or started, and one that runs is left alone.
func (d *derivation) given(c *Container) (out []spec.Device) {
	for i, name := range c.Devices {
		here := d.machine.Devices[name]
		if len(here) == 0 {
			d.note(diag.Warning, c.source(element("devices", i)), fmt.Sprintf("device %s of container %s is not on "+
				"this machine: the container is not started without it", name, c.ID),
				"load its driver ("+loads(name)+"), or take it out of devices")
			here = []spec.Device{{Path: name, Missing: true}}
		}
		out = append(out, here...)
	}
	slices.SortFunc(out, func(a, b spec.Device) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(out, func(a, b spec.Device) bool { return a.Path == b.Path })
}

// loads is what makes a device.
func loads(name string) string {
	for _, m := range [][2]string{{"/dev/net/tun", "modprobe tun"}, {"/dev/fuse", "modprobe fuse"},
		{"/dev/kvm", "modprobe kvm_intel or kvm_amd"}, {"/dev/ppp", "modprobe ppp_generic"},
		{"/dev/vhost-net", "modprobe vhost_net"}, {"/dev/dri", "modprobe i915, amdgpu or another"}} {
		if within(name, m[0]) {
			return m[1]
		}
	}
	return "dmesg tells of it"
}
