package pve

import (
	"os"
	"strings"
	"testing"
)

// A container that comes to another node of the cluster brings its notes and its volumes, and not the pin of the node
// that it was on. The cluster's copy is the pin then; where there is none, no root is made for a volume that is found
// empty.
func TestTheRootOnAnotherNode(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.reset()
	h.write("totem {}\n", "pve", "corosync.conf")
	create := []string{"create", "103"}
	h.changes(0, create...)
	root := h.mounted("103", "ssl", "root")
	forget := func(parts ...string) {
		t.Helper()
		if err := os.RemoveAll(h.path(parts...)); err != nil {
			t.Fatal(err)
		}
	}
	forget("root", "pins")
	h.changes(0, create...)
	if again := h.mounted("103", "ssl", "root"); again != root || root == "" {
		t.Errorf("the root was %q and is %q", root, again)
	}
	if _, err := os.Stat(h.path("root", "pins", "103")); err != nil {
		t.Errorf("this node does not know the root: %v", err)
	}

	forget("root", "pins")
	forget("mounts", "103", "ssl", "root")
	if r := h.phoenix(nil, create...); r.exit == 0 {
		t.Errorf("with the cluster's pin: %s", r)
	}
	forget("pve", "phoenix", "pins")
	if r := h.phoenix(nil, create...); r.exit == 0 ||
		!strings.Contains(r.stdout+r.stderr, "nobody on this node of the cluster knows its root") {
		t.Errorf("without any pin: %s", r)
	}
	if _, err := os.Stat(h.path("mounts", "103", "ssl", "root")); err == nil {
		t.Error("a root was made, and nobody asked for it")
	}
	if r := h.phoenix(nil, append(create, "--new-root")...); r.exit != 0 {
		t.Errorf("with consent: %s", r)
	}
}

// Volumes that left the configuration are named: those that wait for a container, and those that its notes speak of,
// also where the container itself has left.
func TestVolumesThatAreKeptAreTold(t *testing.T) {
	h := newHost(t)
	h.reset()
	h.write("phoenix: volume/103/old local-zfs:subvol-103-disk-8 /x\n", "root", "volumes", "103", "old")
	h.write("#phoenix%3A container/103\n#phoenix%3A volume/103/older local-zfs%3Asubvol-103-disk-9 /y\n#phoenix%3A "+
		"volume/103/ssl local-zfs%3Asubvol-103-disk-1 /z\n"+
		"hostname: x\nrootfs: local-zfs:subvol-103-disk-0,size=1G\nunprivileged: 1\n", "pve", "lxc", "103.conf")
	h.write("#phoenix%3A container/205\n#phoenix%3A volume/205/data local-zfs%3Asubvol-205-disk-1 /w\nhostname: gone\n"+
		"rootfs: local-zfs:subvol-205-disk-0,size=1G\nunprivileged: 1\n", "pve", "lxc", "205.conf")
	for _, command := range []string{"plan", "validate"} {
		r := h.phoenix(nil, command)
		for _, want := range []string{"volume/103/old: kept, not in the configuration any more",
			"volume/103/older: kept", "subvol-103-disk-9", "volume/205/data: kept"} {
			if !strings.Contains(r.stdout+r.stderr, want) {
				t.Errorf("%s: no %q in %s", command, want, r)
			}
		}
		if strings.Contains(r.stdout+r.stderr, "volume/103/ssl: kept") {
			t.Errorf("%s: one that is in the configuration is told: %s", command, r)
		}
	}
}

// A restored copy of a container carries its marks, its address and its hardware address: it is told, and not touched.
func TestACopyIsTold(t *testing.T) {
	h := newHost(t)
	h.reset()
	const original = "#phoenix%3A container/103\nhostname: a\nnet0: " +
		"name=eth0,bridge=vmbr0,hwaddr=52:54:00:AA:BB:CA,ip=10.0.0.10/24,type=veth\nrootfs: " +
		"local-zfs:subvol-%-disk-0,size=1G\nunprivileged: 1\n"
	for _, id := range []string{"103", "302"} {
		h.write(strings.Replace(original, "%-", id+"-", 1), "pve", "lxc", id+".conf")
	}
	h.write("hostname: other\nnet0: name=eth0,bridge=vmbr0,hwaddr=52:54:00:AA:BB:01,ip=10.0.0.11/24,type=veth\n", "pve",
		"lxc", "303.conf")
	for _, command := range []string{"plan", "validate"} {
		r := h.phoenix(nil, command)
		if said := r.stdout + r.stderr; !strings.Contains(said, "container 302 has the address, the hardware "+
			"address, the marks of container 103") || strings.Contains(said, "container 303") {
			t.Errorf("%s: %s", command, r)
		}
	}
}

// Volumes that left the configuration are listed and removed by name, and nothing else is.
func TestVolumesAreRemovedByName(t *testing.T) {
	h := newHost(t)
	h.reset()
	config := h.read("config", "phoenix_lxc_configs.json")
	defer h.write(config, "config", "phoenix_lxc_configs.json")
	h.write(strings.Replace(config, `"zfs_volumes": [`, `"zfs_volumes": [{"name": "old", "mount_point": "/srv/old"},`,
		1), "config", "phoenix_lxc_configs.json")
	h.changes(0, "create", "103")
	h.write(config, "config", "phoenix_lxc_configs.json")
	volumes := func() int {
		t.Helper()
		left, err := os.ReadDir(h.path("zfs"))
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	before := volumes()
	says := func(exit int, words []string, args ...string) {
		t.Helper()
		r := h.phoenix(nil, args...)
		for _, w := range words {
			if !strings.Contains(r.stdout+r.stderr, w) {
				t.Errorf("%v: no %q in %s", args, w, r)
			}
		}
		if r.exit != exit {
			t.Errorf("%v: %s", args, r)
		}
	}
	says(0, []string{`"name": "103/ssl"`, `"state": "in use"`, `"name": "103/old"`,
		`"state": "kept, not in the configuration any more"`, "local-zfs:subvol-103-disk-"}, "volumes")
	says(1, []string{"container 103 runs and has", " stop 103"}, "volumes", "remove", "103/old", "--yes")
	says(1, []string{"is in the configuration: nothing was removed"}, "volumes", "remove", "103/ssl", "--yes")
	says(1, []string{"there is no volume 103/none"}, "volumes", "remove", "103/none", "--yes")
	if volumes() != before {
		t.Error("something was removed")
	}
	says(0, nil, "stop", "103")
	says(0, []string{"volume/103/old"}, "volumes", "remove", "103/old", "--yes")
	if c := h.conf("103"); volumes() != before-1 || strings.Contains(c, "/srv/old") || strings.Contains(c, "103/old") ||
		strings.Contains(c, "unused") {
		t.Errorf("%d volumes, of %d:\n%s", volumes(), before, c)
	}
	// One that waits for a container that does not exist.
	h.write(strings.Replace(config, `"zfs_volumes": [`, `"zfs_volumes": [{"name": "old", "mount_point": "/srv/old"},`,
		1), "config", "phoenix_lxc_configs.json")
	h.changes(0, "create", "103")
	says(0, nil, "delete", "103", "--yes")
	h.write(config, "config", "phoenix_lxc_configs.json")
	before = volumes()
	says(0, []string{"volume/103/old"}, "volumes", "remove", "103/old", "--yes")
	if volumes() != before-1 {
		t.Errorf("%d volumes, of %d", volumes(), before)
	}
	h.changes(0, "create", "103")
	says(0, nil, "stop", "103")
	volume, path := h.withImage("103", "pictures")
	says(0, []string{`"name": "103/pictures"`, `"pool": "local"`, volume}, "volumes")
	says(0, []string{"volume/103/pictures: kept", volume}, "plan")
	says(0, []string{"volume/103/pictures: kept", volume}, "validate")
	says(0, []string{"volume/103/pictures"}, "volumes", "remove", "103/pictures", "--yes")
	if _, err := os.Stat(path); !os.IsNotExist(err) || strings.Contains(h.conf("103"), "pictures") {
		t.Errorf("%v:\n%s", err, h.conf("103"))
	}
}

// withImage gives a container a volume that phoenix made on a storage that is a path, and that is not in the file.
func (h *hypervisor) withImage(id, name string) (volume, path string) {
	h.t.Helper()
	h.write(strings.Replace(h.read("pve", "storage.cfg"), "content vztmpl\n", "content vztmpl,rootdir\n", 1), "pve",
		"storage.cfg")
	h.tool("pct", "set", id, "--mp5", "local:1,mp=/srv/"+name)
	_, volume, _ = strings.Cut(h.conf(id), "\nmp5: ")
	volume, _, _ = strings.Cut(volume, ",")
	path = h.path("vz", "images", strings.TrimPrefix(volume, "local:"))
	if _, err := os.Stat(path); err != nil {
		h.t.Fatal(err)
	}
	note := "#phoenix%3A volume/" + id + "/" + name + " " + strings.ReplaceAll(volume, ":", "%3A") + " " + path + "\n"
	h.write(note+h.conf(id), "pve", "lxc", id+".conf")
	return volume, path
}
