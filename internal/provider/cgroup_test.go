package provider

import (
	"io/fs"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// files is a host of which only these can be read.
type files struct {
	host.Host
	text map[string]string
}

func (f files) ReadFile(path string) ([]byte, error) {
	text, ok := f.text[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

func TestLimitOf(t *testing.T) {
	const second = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
	const first = "31 25 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n32 25 0:28 / " +
		"/sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for name, c := range map[string]struct {
		mounts, group, key string
		files              map[string]string
		want               string // path; empty: none
	}{
		"lxc": {second, "0::/lxc.payload.101/init.scope\n", "lxc.cgroup2.pids.max", nil,
			"/sys/fs/cgroup/lxc.payload.101/pids.max"},
		"lxc, twice started": {second, "0::/lxc.payload.101-1/a/lxc.payload.9\n", "lxc.cgroup2.pids.max", nil,
			"/sys/fs/cgroup/lxc.payload.101-1/pids.max"},
		"Proxmox": {second, "0::/lxc/101/ns/init.scope\n", "lxc.cgroup2.pids.max", nil,
			"/sys/fs/cgroup/lxc/101/pids.max"},
		"the first generation": {first, "2:pids:/lxc.payload.101\n0::/lxc.payload.101\n", "lxc.cgroup.pids.max", nil,
			"/sys/fs/cgroup/pids/lxc.payload.101/pids.max"},
		"two in one": {first, "3:cpu,cpuacct:/lxc.payload.101\n", "lxc.cgroup.cpu.cfs_quota_us", nil,
			"/sys/fs/cgroup/cpu,cpuacct/lxc.payload.101/cpu.cfs_quota_us"},
		"of the other one": {first, "2:pids:/lxc.payload.101\n0::/lxc.payload.101\n", "lxc.cgroup2.memory.max",
			nil, ""},
		"no container": {second, "0::/user.slice\n", "lxc.cgroup2.pids.max", nil, ""},
		"another key":  {second, "0::/lxc.payload.101\n", "lxc.net.0.type", nil, ""},
	} {
		h := files{text: map[string]string{"/proc/self/mountinfo": c.mounts, "/proc/7/cgroup": c.group}}
		if c.want != "" {
			h.text[c.want] = "500\n"
		}
		got, ok := LimitOf(h, 7, c.key)
		if got.Path != c.want || ok != (c.want != "") || ok && got.Value != "500" {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}
