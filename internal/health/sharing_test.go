package health

import (
	"io/fs"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const (
	config101 = "lxc.rootfs.path = dir:/v/lxc/101/rootfs\nlxc.mount.entry = /v/volumes/101/ssl etc/nginx/ssl none " +
		"bind,create=dir 0 0\n"
	config102 = "lxc.mount.entry = /sys/kernel/debug sys/kernel/debug none bind,optional 0 0\nlxc.mount.entry = proc " +
		"proc proc nodev 0 0\n"
	mounts102 = "268 93 254:0 /v/lxc/102/rootfs / rw - ext4 /dev/vda rw\n270 268 0:82 / /proc rw - proc proc rw\n"
)

// beside is 101 with its volume and 102 with more lines in its configuration and its mounts. 103 is found but not ours.
func beside(state, config, mounts string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		pid := map[string]string{"101": "11\n", "102": "12\n", "103": "\n"}
		if state == "stopped" {
			pid["101"] = ""
		}
		h.put("/lxc", fs.ModeDir|0o711, 0, 0, "")
		for id, text := range map[string]string{"101": config101, "102": config102 + config, "103": ""} {
			h.put("/lxc/"+id, fs.ModeDir|0o711, 0, 0, "")
			h.put("/lxc/"+id+"/config", 0o644, 0, 0, text)
			h.runs["lxc-info -P /lxc -n "+id+" -p -H"] = fakeRun{out: pid[id]}
		}
		h.put("/proc/11/mountinfo", 0o444, 0, 0, mounts101)
		h.put("/proc/12/mountinfo", 0o444, 0, 0, mounts102+mounts)
		return aloneParams{Volume: volume, Owner: running101, Others: []spec.Running{{ID: "102", Path: "/lxc"}},
			LXCPath: "/lxc"}
	}
}

func sharingCases() []runCase {
	return []runCase{
		{kindVolumeAlone, "alone", beside("", "", ""), Pass, "device 254:0 /v/volumes/101/ssl; 2 others"},
		{kindVolumeAlone, "stopped", beside("stopped", "", ""), Pass, "not mounted now"},
		{kindVolumeAlone, "configured", beside("", "lxc.mount.entry = /v/volumes/101/ssl mnt none bind 0 0\n", ""),
			Fail, "container 102's, by its configuration"},
		{kindVolumeAlone, "configured above",
			beside("stopped", "lxc.mount.entry=/v/volumes mnt none ro,bind 0 0\n", ""), Fail, "/v/volumes mnt"},
		{kindVolumeAlone, "seen", beside("", "", "300 268 254:0 /v/volumes/101/ssl /mnt rw - ext4 /dev/vda rw\n"), Fail,
			"seen in container 102 too"},
		{kindVolumeAlone, "seen below",
			beside("", "", `300 268 254:0 /v/volumes/101/ssl/a\040b /mnt rw - ext4 /dev/vda rw`), Fail,
			"/v/volumes/101/ssl/a b at /mnt"},
		{kindVolumeAlone, "another device", beside("", "", "300 268 254:9 / /mnt rw - ext4 /dev/vdb rw\n"), Pass,
			"2 others"},
	}
}

func TestWithin(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"/a", "/a", true}, {"/a", "/a/b", true}, {"/a/b", "/a", true}, {"/", "/a", true}, {"/a", "/ab", false},
		{"/a/b", "/a/c", false}} {
		if got := within(tc.a, tc.b); got != tc.want {
			t.Errorf("%s %s: got %v", tc.a, tc.b, got)
		}
	}
}
