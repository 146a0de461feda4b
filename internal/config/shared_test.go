package config

import (
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// debianKernel has Debian's own limits, and misses those of another network namespace.
func debianKernel() map[string]KernelValue {
	return map[string]KernelValue{
		spec.InotifyInstances: {Value: 128}, spec.InotifyWatches: {Value: 65536}, spec.MaxKeys: {Value: 200},
		spec.MaxKeyBytes: {Value: 20000},
		spec.MaxPTY:      {Value: 4096}, spec.MaxAIO: {Value: 65536}, "vm.max_map_count": {Value: 65530},
	}
}

// crowd is the example with that many containers more.
func crowd(t *testing.T, more int) *Config {
	cfg := homelab(t)
	hello, _ := cfg.Container("201")
	for i := range more {
		c := *hello
		c.ID, c.TraefikService, c.Certificates = string(rune('3'+i/100))+string(rune('0'+i/10%10))+
			string(rune('0'+i%10)), nil, nil
		cfg.Containers = append(cfg.Containers, &c)
	}
	return cfg
}

// What many containers need is counted from the file, and told before they are made.
func TestSharedLimitsAreCounted(t *testing.T) {
	told := func(more int, kernel map[string]KernelValue) string {
		m := machine
		m.Kernel = kernel
		_, diags := Derive(crowd(t, more), m)
		var out []string
		for _, d := range diags {
			if strings.Contains(d.Summary, "on this machine: the") {
				out = append(out, d.String())
			}
		}
		return strings.Join(out, "\n")
	}
	if got := told(0, debianKernel()); got != "" {
		t.Errorf("four containers do well with Debian's limits:\n%s", got)
	}
	got := told(36, debianKernel())
	for _, want := range []string{"fs.inotify.max_user_instances is 128 on this machine: the 40 containers of the " +
		"file need about 416", "kernel.keys.maxkeys is 200", "setup --yes"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := told(36, nil); got != "" {
		t.Errorf("nothing was looked at, and yet:\n%s", got)
	}
}

func TestSetupLimits(t *testing.T) {
	m := Machine{Runtime: "lxc", Kernel: debianKernel()}
	objects, _ := setup(t, m, debian)
	least := map[string]int64{}
	for _, l := range of[spec.Sysctl](t, objects, "sysctl/hypervisor").Least {
		least[l.Key] = l.Value
	}
	if least[spec.InotifyInstances] != 8192 || least[spec.MaxKeys] != 20000 || least["vm.max_map_count"] != 262144 {
		t.Errorf("%v", least)
	}
	if _, there := least[spec.Neighbours4]; there {
		t.Error("a limit that this kernel does not have")
	}
	for key, v := range m.Kernel { // a machine that is a container itself
		v.ReadOnly = true
		m.Kernel[key] = v
	}
	m.Kernel[spec.InotifyInstances] = KernelValue{Value: 40, ReadOnly: true}
	objects, notes := setup(t, m, debian)
	if _, there := object.Find(objects, "sysctl/hypervisor"); there {
		t.Error("limits that this machine cannot change")
	}
	if !strings.Contains(notes, "fs.inotify.max_user_instances is 40 here, 4 containers need about 56, and this "+
		"machine cannot change it") || strings.Contains(notes, "maxkeys") {
		t.Errorf("notes:\n%s", notes)
	}
}
