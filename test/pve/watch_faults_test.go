package pve

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var faults = []fault{
	{name: "stopped", do: func(f *watched) { f.tool("pct", "stop", "101") }},
	{name: "shut down while phoenix looks elsewhere", do: func(f *watched) {
		f.still(func() { f.tool("pct", "shutdown", "103") })
	}},
	{name: "killed", do: func(f *watched) { f.must(syscall.Kill(f.init("102"), syscall.SIGKILL)) }},
	{name: "destroyed by hand", do: func(f *watched) {
		f.tool("pct", "destroy", "102", "--force", "1", "--purge", "1")
	}},
	{name: "deleted by name, then created", quiet: true,
		do: func(f *watched) {
			if r := f.phoenix(nil, "delete", "102", "--yes"); r.exit != 0 {
				f.t.Error(r)
			}
			time.Sleep(time.Second)
			if _, err := os.Stat(f.cluster("nodes", "pve", "lxc", "102.conf")); err == nil {
				f.t.Error("what was deleted by name was made again")
			}
		},
		person: func(f *watched) {
			if r := f.phoenix(nil, "create", "102"); r.exit != 0 {
				f.t.Error(r)
			}
		}},
	{name: "volume detached while it runs", do: func(f *watched) { f.tool("pct", "set", "101", "--delete", "mp0") }},
	{name: "stopped, volume detached, started", do: func(f *watched) {
		f.still(func() {
			f.tool("pct", "stop", "102")
			f.tool("pct", "set", "102", "--delete", "mp0")
			time.Sleep(postStop)
			f.tool("pct", "start", "102")
		})
	}},
	{name: "cores changed", do: func(f *watched) { f.tool("pct", "set", "103", "--cores", "1") }},
	{name: "configuration edited", do: func(f *watched) {
		f.edit(f.path("pve", "lxc", "101.conf"), func(s string) string {
			return strings.Replace(s, "\n[", "lxc.cgroup2.memory.high: 1G\n\n[", 1)
		})
	}},
	{name: "ID.fw emptied", do: func(f *watched) {
		f.must(os.WriteFile(f.path("pve", "firewall", "103.fw"), nil, 0o640))
	}},
	{name: "ID.fw emptied on another node", do: func(f *watched) {
		f.must(os.WriteFile(f.cluster("firewall", "101.fw"), nil, 0o640))
	}},
	{name: "ID.fw edited on another node, same size", do: func(f *watched) {
		f.edit(f.cluster("firewall", "102.fw"), func(s string) string {
			return strings.Replace(s, "policy_in: DROP", "policy_in: XXXX", 1)
		})
	}},
	{name: "cluster firewall off", told: "off for the whole cluster", quiet: true,
		do: func(f *watched) { f.clusterFirewall("0") }, person: func(f *watched) { f.clusterFirewall("1") }},
	{name: "snapshot rolled back", do: func(f *watched) { f.tool("pct", "rollback", "101", "before") }},
	{name: "lock left behind", told: "container 102 is locked (backup)",
		do: func(f *watched) {
			f.still(func() {
				f.tool("pct", "set", "102", "--lock", "backup")
				f.must(syscall.Kill(f.init("102"), syscall.SIGKILL))
			})
		},
		person: func(f *watched) { f.tool("pct", "unlock", "102") }},
	{name: "storage offline, and back", lasts: 3 * time.Second, told: "volume/101/ssl",
		do: func(f *watched) {
			f.command("umount", "--lazy", f.path("zfs"))
			f.must(syscall.Kill(f.init("101"), syscall.SIGKILL))
		},
		person: func(f *watched) { f.command("mount", "--bind", f.path("pool"), f.path("zfs")) }},
	{name: "pmxcfs restarted", lasts: 3 * time.Second, told: "proxmox's configuration is not at",
		do: func(f *watched) {
			f.write("", "down")
			f.unmount()
			f.must(syscall.Kill(f.init("102"), syscall.SIGKILL))
		},
		person: func(f *watched) {
			f.mount()
			f.must(os.Remove(f.path("down")))
		}},
	{name: "quorum lost, and back", lasts: 3 * time.Second, told: "the cluster has no quorum",
		do: func(f *watched) {
			f.must(os.Chmod(f.cluster("local"), 0o555))
			f.must(syscall.Kill(f.init("103"), syscall.SIGKILL))
		},
		person: func(f *watched) { f.must(os.Chmod(f.cluster("local"), 0o755)) }},
	{name: "moved to another node, and back", lasts: 3 * time.Second, told: "container 102 is on node pve2",
		do: func(f *watched) {
			f.must(syscall.Kill(f.init("102"), syscall.SIGKILL))
			f.moved("102", "pve", "pve2")
		},
		person: func(f *watched) { f.moved("102", "pve2", "pve") }},
	{name: "CA on another node, and back", told: "container 103 is on node pve2",
		do: func(f *watched) {
			f.must(syscall.Kill(f.init("103"), syscall.SIGKILL))
			f.moved("103", "pve", "pve2")
		},
		person: func(f *watched) {
			f.must(syscall.Kill(f.init("101"), syscall.SIGKILL))
			if !f.await(func() bool { return f.init("101") != 0 }) {
				f.t.Error("101 waits for what is on another node")
			}
			f.moved("103", "pve2", "pve")
		}},
	{name: "notes emptied", told: "container 101 was not made by phoenix", quiet: true,
		do:     func(f *watched) { f.tool("pct", "set", "101", "--description", "") },
		person: func(f *watched) { f.restored("101.conf") }},
	{name: "CA destroyed with its volume", told: "a root is pinned, and the volume has none",
		do: func(f *watched) { f.tool("pct", "destroy", "103", "--force", "1", "--purge", "1") },
		person: func(f *watched) {
			if r := f.phoenix(nil, "create", "103", "--new-root"); r.exit != 0 {
				f.t.Error(r)
			}
		}},
}

// edit changes a file in place.
func (f *watched) edit(path string, change func(string) string) {
	f.t.Helper()
	raw, err := os.ReadFile(path)
	f.must(err)
	text := change(string(raw))
	if text == string(raw) {
		f.t.Fatalf("%s: nothing was changed", path)
	}
	f.must(os.WriteFile(path+".tmp", []byte(text), 0o640))
	f.must(os.Rename(path+".tmp", path))
}

func (f *watched) clusterFirewall(on string) {
	f.must(os.WriteFile(f.cluster("firewall", "cluster.fw"), []byte("[OPTIONS]\n\nenable: "+on+"\n"), 0o640))
}

// restored puts the lines of a file back that it had at the beginning.
func (f *watched) restored(name string) {
	f.t.Helper()
	raw, err := os.ReadFile(f.path("before", name))
	f.must(err)
	f.edit(f.path("pve", "lxc", name), func(string) string { return string(raw) })
}

// moved is a container that high availability has brought to another node: its file is renamed there, and nobody
// here did it.
func (f *watched) moved(id, from, to string) {
	f.t.Helper()
	list := f.cluster(".vmlist")
	f.must(os.Rename(f.cluster("nodes", from, "lxc", id+".conf"), f.cluster("nodes", to, "lxc", id+".conf")))
	raw, err := os.ReadFile(list)
	f.must(err)
	text := strings.Replace(string(raw), `"`+id+`":{"node":"`+from+`"`, `"`+id+`":{"node":"`+to+`"`, 1)
	if text == string(raw) {
		f.t.Fatalf("%s is not on %s: %s", id, from, filepath.Base(list))
	}
	f.must(os.WriteFile(list, []byte(text), 0o640))
}
