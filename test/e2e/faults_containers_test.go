package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const agentPath = "usr/local/lib/phoenix/phoenix"

var containerFaults = []fault{
	{group: "containers", name: "stopped", slow: "a boot",
		do:     func(f *faults) { f.tool("stop", "101", "--timeout", "20").Want(0) },
		mended: func(f *faults) bool { return f.runs("101") }},
	{group: "containers", name: "killed", slow: "a boot",
		do:     func(f *faults) { f.must(syscall.Kill(f.init("102"), syscall.SIGKILL)) },
		mended: func(f *faults) bool { return f.runs("102") }},
	{group: "containers", name: "configuration edited",
		do: func(f *faults) {
			f.remember(f.config("201"))
			f.rewrite(f.config("201"), func(s string) string { return s + "lxc.cgroup2.memory.max = 1G\n" })
		},
		mended: func(f *faults) bool { return f.same(f.config("201")) }},
	{group: "containers", name: "deleted, its volume kept", slow: "a boot",
		do: func(f *faults) {
			f.still(func() {
				f.tool("stop", "101", "-k").Want(0)
				f.must(os.RemoveAll(filepath.Join(f.lxc(), "101")))
			})
		},
		mended: func(f *faults) bool { return f.runs("101") }},
	{group: "containers", name: "started with the wrong address", slow: "a boot",
		do: func(f *faults) {
			f.remember(f.config("101"))
			f.still(func() {
				f.tool("stop", "101", "-k").Want(0)
				f.rewrite(f.config("101"),
					func(s string) string { return strings.ReplaceAll(s, "10.86.17.101", "10.86.17.111") })
				f.tool("start", "101").Want(0)
			})
		},
		mended: func(f *faults) bool { return f.same(f.config("101")) && f.runs("101") }},
	{group: "containers", name: "agent killed", systemd: true,
		do:     func(f *faults) { f.in("101", "systemctl", "kill", "--signal", "KILL", "phoenix-agent.service") },
		mended: func(f *faults) bool { return f.active("101", "phoenix-agent.service") }},
	{group: "containers", name: "agent binary replaced by garbage",
		do: func(f *faults) {
			f.sh("201", "echo garbage >/x; chmod 755 /x; mv /x /"+agentPath+
				"; systemctl kill --signal KILL phoenix-agent.service")
		},
		mended: func(f *faults) bool {
			fi, err := os.Stat(f.rootfs("201", agentPath))
			return err == nil && fi.Size() > 1<<20
		}},
	{group: "containers", name: "agent unit disabled",
		do:     func(f *faults) { f.in("101", "systemctl", "disable", "--now", "phoenix-agent.service") },
		mended: func(f *faults) bool { return f.active("101", "phoenix-agent.service") }},
}

func (f *faults) config(id string) string { return filepath.Join(f.lxc(), id, "config") }

// smallVolume gives the CA's volume a file system of its own that can be filled.
func smallVolume(h *Hypervisor) {
	dir := filepath.Join(h.Root, "volumes", "103")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		h.t.Fatal(err)
	}
	command(h.t, "mount", "-t", "tmpfs", "-o", "size=8m,mode=0711", "phxe2e", dir)
}

var volumeFaults = []fault{
	{group: "volumes", name: "mode 0777",
		do:     func(f *faults) { f.must(os.Chmod(f.volume("101", "ssl"), 0o777)) },
		mended: func(f *faults) bool { return mode(f.volume("101", "ssl"))&0o077 == 0 }},
	{group: "volumes", name: "owner nobody",
		do:     func(f *faults) { f.must(os.Chown(f.volume("102", "certs"), 65534, 65534)) },
		mended: func(f *faults) bool { return owner(f.volume("102", "certs")) >= 100000 }},
	{group: "volumes", name: "parent opened",
		do:     func(f *faults) { f.must(os.Chmod(filepath.Dir(f.volume("101", "ssl")), 0o777)) },
		mended: func(f *faults) bool { return mode(filepath.Dir(f.volume("101", "ssl")))&0o066 == 0 }},
	{group: "volumes", name: "unmounted", slow: "a boot",
		do:     func(f *faults) { f.in("101", "umount", "--lazy", "/etc/nginx/ssl") },
		mended: func(f *faults) bool { return f.mounts("101", "/etc/nginx/ssl") }},
	{group: "volumes", name: "mounted in a second container by hand", slow: "a boot",
		do: func(f *faults) {
			f.still(func() {
				f.tool("stop", "201", "-k").Want(0)
				f.rewrite(f.config("201"), func(s string) string {
					return s + fmt.Sprintf("lxc.mount.entry = %s mnt none bind 0 0\n", f.volume("101", "ssl"))
				})
				// The ids of 201 do not even reach another one's volume: somebody has to open the way to it, too.
				f.tool("start", "201").Want(1)
				f.must(os.Chmod(filepath.Dir(f.volume("101", "ssl")), 0o711))
				f.tool("start", "201").Want(0)
			})
		},
		mended: func(f *faults) bool {
			return f.runs("201") && !f.mounts("201", "/mnt") && mode(filepath.Dir(f.volume("101", "ssl")))&0o007 == 0
		}},
	{group: "volumes", name: "full to the last byte, then freed",
		do: func(f *faults) {
			f.fill(f.volume("103", "ssl"))
			f.must(os.Remove(f.volume("101", "ssl", "gateway.key"))) // needs an order
		},
		told: "certificate/101",
		person: func(f *faults) {
			f.must(os.Remove(f.volume("103", "ssl", "fill")))
		},
		mended: func(f *faults) bool { return exists(f.volume("101", "ssl", "gateway.key")) }},
}

// mounts is whether something is mounted at a path in a container.
func (f *faults) mounts(id, path string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", f.init(id)))
	return err == nil && strings.Contains(string(raw), " "+path+" ")
}

// fill takes all the space there is.
func (f *faults) fill(dir string) {
	out, err := os.Create(filepath.Join(dir, "fill"))
	f.must(err)
	defer out.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := out.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
