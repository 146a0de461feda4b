package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A container's ids are 100000 and 65535 more, unless raw lines of its file say otherwise. Nothing of it re-owns files:
// only what is made afterwards is of the other range.

const idsOfOne = 65536

// root is whom a container's root is outside; 0: it is privileged.
func (p part) root() int {
	for _, r := range p.raw {
		f := strings.Fields(r[1])
		if r[0] == "lxc.idmap" && len(f) == 4 && f[0] == "u" && f[1] == "0" {
			n, _ := strconv.Atoi(f[2])
			return n
		}
	}
	if p.keys["unprivileged"] == "1" {
		return 100000
	}
	return 0
}

// permitted fails as pct start does where root was not given the ids that the lines speak of. Why stands in a file of
// its own, beside what lxc was given; /run/pve/ct-ID.stderr on a real host.
func (b base) permitted(id string, conf *conf) error {
	for _, r := range conf.raw {
		f := strings.Fields(r[1])
		if r[0] != "lxc.idmap" || len(f) != 4 {
			continue
		}
		name, tool := "subuid", "newuidmap: uid"
		if f[0] == "g" {
			name, tool = "subgid", "newgidmap: gid"
		}
		first, _ := strconv.Atoi(f[2])
		count, _ := strconv.Atoi(f[3])
		if b.given(name, first, count) {
			continue
		}
		reason := fmt.Sprintf("%s range [0-%d) -> [%d-%d) not allowed\n", tool, count, first, first+count)
		return errors.Join(os.WriteFile(b.path("lib", id, "stderr"), []byte(reason), 0o644),
			fmt.Errorf("unable to get PID for CT %s (not running?)", id))
	}
	return nil
}

// given is whether a line of root's in the machine's file, or in one that a test has in its place, has all of a range.
func (b base) given(name string, first, count int) bool {
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		text, _ = os.ReadFile(filepath.Join("/etc", name)) // without it root has none
	}
	for line := range strings.Lines(string(text)) {
		var low, n int
		user, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if _, err := fmt.Sscanf(rest, "%d:%d", &low, &n); err == nil && user == "root" && low <= first &&
			first+count <= low+n {
			return true
		}
	}
	return false
}

// preStart is what Proxmox writes into a container before each start, as its root. Files of another range than the
// container's are nobody's inside: a start that meets some is written down in the file mismatches.
func (b base) preStart(id string, conf *conf) error {
	root := conf.root()
	for _, volume := range conf.volumes() {
		path, err := b.locate(volume)
		if err != nil {
			return err
		}
		for name, owner := range owners(path) {
			if root != 0 && owner[0] != 0 && (owner[0] < root || owner[0] >= root+idsOfOne) {
				f, err := os.OpenFile(b.path("mismatches"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					return err
				}
				fmt.Fprintf(f, "%s %s %d\n", id, filepath.Join(path, name), owner[0])
				f.Close()
			}
		}
	}
	name := filepath.Join(b.rootfs(id), "etc", "hostname")
	return errors.Join(os.WriteFile(name, []byte(conf.keys["hostname"]+"\n"), 0o644), os.Lchown(name, root, root))
}

// owners are user and group of all that is in a directory, and of itself, by path below it.
func owners(dir string) map[string][2]int {
	out := map[string][2]int{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what is gone has none
		}
		fi, err := d.Info()
		rel, rerr := filepath.Rel(dir, path)
		if err == nil && rerr == nil {
			st := fi.Sys().(*syscall.Stat_t)
			out[rel] = [2]int{int(st.Uid), int(st.Gid)}
		}
		return nil
	})
	return out
}

// remember writes down whose the files of a state's volumes are: a storage's snapshot holds that too. Contents are not
// kept.
func (b base) remember(id, snapshot string, p part) error {
	for _, volume := range p.volumes() {
		path, err := b.locate(volume)
		if err != nil {
			return err
		}
		var text strings.Builder
		all := owners(path)
		for name := range maps.Keys(all) {
			fmt.Fprintf(&text, "%d %d %s\n", all[name][0], all[name][1], name)
		}
		file := b.path("owners", id, snapshot, filepath.Base(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte(text.String()), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// recall gives the files of a volume, or of its copy at, the owners that they had when a snapshot was taken.
func (b base) recall(id, snapshot, volume, at string) error {
	path, err := b.locate(volume)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.path("owners", id, snapshot, filepath.Base(path)))
	if err != nil {
		return nil // an image: nobody looks
	}
	for line := range strings.Lines(string(text)) {
		var uid, gid int
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		uid, _ = strconv.Atoi(f[0])
		gid, _ = strconv.Atoi(f[1])
		fi, err := os.Lstat(filepath.Join(at, f[2]))
		if err != nil {
			continue
		}
		if err := os.Lchown(filepath.Join(at, f[2]), uid, gid); err != nil {
			return err
		}
		if fi.Mode().Type() == 0 {
			if err := os.Chmod(filepath.Join(at, f[2]), fi.Mode()); err != nil { // a chown takes setuid away
				return err
			}
		}
	}
	return nil
}
