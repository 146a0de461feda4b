package health

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// kernelParams: Strict fails for what only limits containers.
type kernelParams struct {
	Strict bool `json:"strict,omitempty"`
}

const grubFix = "add %s to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and reboot"

// runKernel looks at what containers need of the kernel: control groups, user namespaces, and where AppArmor is on, its
// program.
func runKernel(_ context.Context, h host.Host, c Check, p kernelParams) Result {
	mounts, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return c.fail("what is mounted is not known", err.Error(), "findmnt")
	}
	groups := mountOn(string(mounts), "/sys/fs/cgroup")
	const unified = "systemd.unified_cgroup_hierarchy=1"
	switch {
	case groups.point != "/sys/fs/cgroup":
		return c.fail("no control groups are mounted: no container starts", "/sys/fs/cgroup is no mount",
			"mount -t cgroup2 none /sys/fs/cgroup; systemd does it at boot")
	case groups.kind != "cgroup2" && p.Strict:
		return c.fail("the control groups are those of version 1: a Debian 13 or a later Ubuntu does not start in them",
			"/sys/fs/cgroup is a "+groups.kind, strings.Replace(grubFix, "%s", unified, 1))
	}
	if n, ok := sysctl(h, "user.max_user_namespaces"); ok && n == 0 {
		return c.fail("user namespaces are switched off: no unprivileged container starts",
			"user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000, and take the 0 out of "+
				"/etc/sysctl.conf and /etc/sysctl.d")
	}
	armor, err := h.ReadFile("/sys/module/apparmor/parameters/enabled")
	on := err == nil && strings.TrimSpace(string(armor)) == "Y"
	if on && !thereAny(h, "/sbin/apparmor_parser", "/usr/sbin/apparmor_parser") {
		return c.fail("AppArmor is on and its program is missing: no container with a profile of its own starts",
			"there is no apparmor_parser", "apt-get install apparmor")
	}
	evidence := groups.kind
	if !on {
		evidence += "; no AppArmor: user namespaces alone confine the containers"
	}
	return c.pass("the kernel has what containers need", evidence)
}

func thereAny(h host.Host, paths ...string) bool {
	for _, p := range paths {
		if _, err := h.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}
