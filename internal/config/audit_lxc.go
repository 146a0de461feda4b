package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// optionKey is a key as lxc.container.conf(5) has them.
var optionKey = regexp.MustCompile(`^lxc(\.[a-z0-9_-]+)+$`)

// verdict is what a raw lxc option does.
type verdict struct {
	key string // a key, or with a dot behind it all keys below
	why string // empty: harmless
	bad bool   // refused
}

// options are the keys of lxc.container.conf(5) of lxc 5; the first that fits counts. A key that is not here is
// refused.
var options = []verdict{
	{"lxc.idmap", "it changes which ids of the hypervisor the container has", true},
	{"lxc.id_map", "it changes which ids of the hypervisor the container has", true},
	{"lxc.mount.auto", "", false}, // looked at by value
	{"lxc.mount", "it mounts something of the hypervisor; a volume is the way", true},
	{"lxc.mount.", "it mounts something of the hypervisor; a volume is the way", true},
	{"lxc.rootfs", "it changes the root file system, which phoenix keeps", true},
	{"lxc.rootfs.", "it changes the root file system, which phoenix keeps", true},
	{"lxc.hook", "it runs a command as root on the hypervisor", true},
	{"lxc.hook.", "it runs a command as root on the hypervisor", true},
	{"lxc.cap.", "it changes the capabilities", true},
	{"lxc.include", "it reads options that nobody has looked at", true},
	{"lxc.namespace.", "it shares a namespace", true},
	{"lxc.net", "the network is set by network_config", true},
	{"lxc.net.", "the network is set by network_config", true},
	{"lxc.network.", "the network is set by network_config", true},
	{"lxc.uts.", "the name is set by name", true},
	{"lxc.utsname", "the name is set by name", true},
	{"lxc.init.", "systemd is the init", true},
	{"lxc.execute.", "systemd is the init", true},
	{"lxc.log.", "it writes to a file of the hypervisor", true},
	{"lxc.console.logfile", "it writes to a file of the hypervisor", true},
	{"lxc.console.path", "it opens a device of the hypervisor", true},
	{"lxc.seccomp.", "it changes which system calls are refused", true},
	{"lxc.apparmor.raw", "it changes what AppArmor refuses", true},
	{"lxc.cgroup.devices.", "it gives the container devices of the hypervisor", false},
	{"lxc.cgroup2.devices.", "it gives the container devices of the hypervisor", false},
	{"lxc.cgroup.dir", "phoenix keeps the place in the cgroup tree", true},
	{"lxc.cgroup.dir.", "phoenix keeps the place in the cgroup tree", true},
	{"lxc.cgroup.relative", "phoenix keeps the place in the cgroup tree", true},
	{"lxc.cgroup.", "", false},
	{"lxc.cgroup2.", "", false},
	{"lxc.apparmor.", "AppArmor refuses less", false},
	{"lxc.aa_profile", "AppArmor refuses less", false},
	{"lxc.selinux.", "SELinux refuses less", false},
	{"lxc.sysctl.", "it changes settings of the kernel", false},
	{"lxc.proc.", "it changes settings of the kernel", false},
	{"lxc.no_new_privs", "", false},
	{"lxc.prlimit.", "", false},
	{"lxc.environment", "", false},
	{"lxc.signal.", "", false},
	{"lxc.tty.max", "", false},
	{"lxc.pty.max", "", false},
	{"lxc.console.buffer.size", "", false},
	{"lxc.console.size", "", false},
	{"lxc.arch", "", false},
	{"lxc.keyring.session", "", false},
	{"lxc.time.offset.", "", false},
}

// auditIsolation looks at all that a container asks to have weakened, and fills Options with what is allowed.
func (c *checker) auditIsolation(x *Container) {
	if !x.Unprivileged {
		c.finding(rulePrivileged, x.At, "unprivileged", "remove the key: unprivileged is the default",
			"root in the container is root on the hypervisor")
	}
	for i, raw := range x.LXCOptions {
		if c.toldAt(x.At, element("lxc_options", i)) {
			continue
		}
		o, ok := c.option(x, i, raw)
		if !ok {
			continue
		}
		x.Options = append(x.Options, o)
	}
	c.appArmor(x)
}

// appArmor makes apparmor_profile a raw option, where there is none that says the same.
func (c *checker) appArmor(x *Container) {
	const key = "lxc.apparmor.profile"
	if x.AppArmorProfile == "" || slices.ContainsFunc(x.Options, func(o spec.Option) bool { return o.Key == key }) {
		return
	}
	x.Options = append(x.Options, spec.Option{Key: key, Value: x.AppArmorProfile})
	if x.AppArmorProfile == "unconfined" {
		c.unconfined(x, "apparmor_profile")
	}
}

func (c *checker) unconfined(x *Container, key string) {
	c.finding(ruleUnconfined, x.At, key, "remove it, and see whether the container needs it",
		"the container runs without AppArmor's protection")
}

// option splits a raw option; both key=value and key:value are written by users.
func (c *checker) option(x *Container, i int, raw string) (spec.Option, bool) {
	key := element("lxc_options", i)
	cut := strings.IndexAny(raw, "=:")
	if cut < 0 || !optionKey.MatchString(strings.TrimSpace(raw[:cut])) {
		c.errorf(x.At, key, "lxc.KEY=VALUE", "is not a raw lxc option")
		return spec.Option{}, false
	}
	o := spec.Option{Key: strings.TrimSpace(raw[:cut]), Value: strings.TrimSpace(raw[cut+1:])}
	v := judge(o)
	switch {
	case v.bad:
		c.finding(ruleOption, x.At, key, "remove it", "%s is refused: %s", o.Key, v.why)
	case o.Key == "lxc.apparmor.profile" && o.Value == "unconfined":
		c.unconfined(x, key)
	case v.why != "":
		c.finding(ruleWeakOption, x.At, key, "remove it, and see whether the container needs it", "%s: %s",
			o.Key, v.why)
	}
	return o, !v.bad
}

func judge(o spec.Option) verdict {
	i := slices.IndexFunc(options, func(v verdict) bool {
		return o.Key == v.key || strings.HasSuffix(v.key, ".") && strings.HasPrefix(o.Key, v.key)
	})
	switch {
	case i < 0:
		return verdict{why: "phoenix does not know what it does to the isolation", bad: true}
	case o.Key == "lxc.mount.auto":
		return judgeMountAuto(o.Value)
	case strings.HasSuffix(o.Key, ".devices.allow") && strings.HasPrefix(o.Value, "a"):
		return verdict{why: "it gives the container all devices of the hypervisor", bad: true}
	case strings.HasSuffix(o.Key, ".devices.deny"), o.Key == "lxc.apparmor.profile" && o.Value == "generated":
		return verdict{}
	}
	return options[i]
}

// judgeMountAuto knows the words of lxc.mount.auto.
func judgeMountAuto(value string) verdict {
	var v verdict
	for _, word := range strings.Fields(value) {
		switch {
		case slices.Contains([]string{"proc", "proc:mixed", "sys", "sys:mixed", "sys:ro", "cgroup", "cgroup:mixed",
			"cgroup:ro"}, word):
		case slices.Contains([]string{"proc:rw", "sys:rw"}, word):
			v.why = word + " lets root of the container write to settings of the kernel"
		case strings.HasPrefix(word, "cgroup"):
			v.why = word + " lets root of the container write to its cgroups"
		default:
			return verdict{why: "the word " + printable(word) + " mounts something of the hypervisor, or is not known",
				bad: true}
		}
	}
	return v
}
