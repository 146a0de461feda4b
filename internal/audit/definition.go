package audit

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// definition is a container as the system has it, whoever made it.
type definition struct {
	id         string
	file       string // its configuration
	directory  string // lxcpath; empty: it is only defined
	privileged bool
	base, ids  int  // its id map: base outside is 0 inside
	mapped     bool // by lines of its own
	binds      []bind
	weak       []weakness
}

// bind is a directory of the hypervisor that a container is defined to see.
type bind struct{ source, target string }

// weakness is a line that weakens the isolation.
type weakness struct{ option, why string }

const (
	usualBase = 100000 // of unprivileged containers, as Proxmox has it
	usualIDs  = 65536
)

// definitions are all containers of the system: those of Proxmox, and those in directories of lxc.
func definitions(h host.Host, s Scene) []definition {
	var out []definition
	known := map[string]bool{}
	names, err := h.ReadDir(s.Proxmox)
	for _, name := range names {
		id, isConfig := strings.CutSuffix(name, ".conf")
		b, readErr := h.ReadFile(path.Join(s.Proxmox, name))
		if err == nil && isConfig && readErr == nil {
			d := proxmox(string(b))
			d.id, d.file, d.directory = id, path.Join(s.Proxmox, name), "/var/lib/lxc"
			known[d.directory+"/"+id] = true
			out = append(out, d)
		}
	}
	for _, directory := range s.Directories {
		names, err := h.ReadDir(directory)
		for _, name := range names {
			target, _ := h.Readlink(path.Join(directory, name)) // no link: it stands here
			b, readErr := h.ReadFile(path.Join(directory, name, "config"))
			if err != nil || readErr != nil || target != "" || known[directory+"/"+name] {
				continue
			}
			d := lxc(string(b))
			d.id, d.file, d.directory = name, path.Join(directory, name, "config"), directory
			out = append(out, d)
		}
	}
	return out
}

// lxc reads lxc.container.conf(5).
func lxc(text string) definition {
	d := definition{privileged: true}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			d.option(strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
	return d
}

// proxmox reads a container's file of Proxmox up to its snapshots (pct.conf(5)).
func proxmox(text string) definition {
	d := definition{privileged: true}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			break
		}
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok || strings.HasPrefix(line, "#"):
		case key == "unprivileged":
			if value == "1" && !d.mapped {
				d.privileged, d.base, d.ids = false, usualBase, usualIDs
			}
		case strings.HasPrefix(key, "mp") && strings.Trim(key[2:], "0123456789") == "":
			d.mountPoint(value)
		case strings.HasPrefix(key, "lxc."):
			d.option(key, value)
		}
	}
	return d
}

// mountPoint reads /host/path,mp=/inside; what does not begin with / is a volume of the container's own.
func (d *definition) mountPoint(value string) {
	parts := strings.Split(value, ",")
	for _, p := range parts[1:] {
		if target, ok := strings.CutPrefix(p, "mp="); ok && strings.HasPrefix(parts[0], "/") {
			d.binds = append(d.binds, bind{path.Clean(parts[0]), path.Clean(target)})
		}
	}
}

func (d *definition) option(key, value string) {
	words := strings.Fields(value)
	switch {
	case key == "lxc.idmap" && len(words) == 4 && words[0] == "u" && words[1] == "0":
		base, err := strconv.Atoi(words[2])
		ids, err2 := strconv.Atoi(words[3])
		// it counts more than that it is unprivileged, which comes before
		if err == nil && err2 == nil && base > 0 && !d.mapped {
			d.privileged, d.base, d.ids, d.mapped = false, base, ids, true
		}
	case key == "lxc.mount.entry" && len(words) > 3 && strings.HasPrefix(words[0], "/") &&
		(strings.Contains(words[3], "bind") || words[2] == "none"):
		source := path.Clean(host.Unescape(words[0]))
		if !slices.ContainsFunc([]string{"/dev", "/proc", "/sys", "/run", "/var/lib/lxcfs", "/usr/lib", "/usr/share"},
			func(dir string) bool { return within(source, dir) }) {
			d.binds = append(d.binds, bind{source, "/" + strings.TrimPrefix(host.Unescape(words[1]), "/")})
		}
	default:
		if why := weakens(key, value, words); why != "" {
			d.weak = append(d.weak, weakness{key + "=" + value, why})
		}
	}
}

func weakens(key, value string, words []string) string {
	switch key {
	case "lxc.apparmor.profile", "lxc.aa_profile":
		if value == "unconfined" {
			return "it runs without AppArmor"
		}
	case "lxc.mount.auto":
		if i := slices.IndexFunc(words, func(w string) bool {
			return strings.HasSuffix(w, ":rw") ||
				strings.Contains(w, ":rw:")
		}); i >= 0 && !strings.HasPrefix(words[i], "cgroup:") {
			return words[i] + " lets its root write to settings of the kernel"
		}
	case "lxc.cap.drop":
		if value == "" || value == "none" {
			return "it keeps all capabilities"
		}
	case "lxc.cgroup.devices.allow", "lxc.cgroup2.devices.allow":
		if strings.HasPrefix(value, "a") {
			return "it may use all devices of the hypervisor"
		}
	case "lxc.seccomp.profile":
		if value == "" || value == "none" {
			return "no system call is refused"
		}
	}
	return ""
}

// outside reports whether an id of the hypervisor is none of the container's.
func (d definition) outside(id int) bool {
	return id == overflow || !d.privileged && (id < d.base || id >= d.base+d.ids)
}

// mount is one line of mountinfo (proc_pid_mountinfo(5)) that shows files.
type mount struct{ device, root, target string }

// virtual are file systems that have no files of anybody.
var virtual = []string{"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
	"efivarfs", "fuse.lxcfs", "fusectl", "hugetlbfs",
	"mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs"}

// mounts reads mountinfo, without the root file system and what is virtual. Of what is mounted on one place the last
// counts.
func mounts(mountinfo string) []mount {
	byTarget := map[string]mount{}
	var order []string
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		f, t := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(t) == 0 || slices.Contains(virtual, t[0]) || f[4] == "/" {
			continue
		}
		if t[0] == "tmpfs" && f[3] == "/" { // the container's own; a part of one is somebody's directory
			continue
		}
		m := mount{f[2], host.Unescape(f[3]), host.Unescape(f[4])}
		if _, twice := byTarget[m.target]; !twice {
			order = append(order, m.target)
		}
		byTarget[m.target] = m
	}
	var out []mount
	for _, target := range order {
		if !within(target, "/dev") && !within(target, "/proc") && !within(target, "/sys") {
			out = append(out, byTarget[target])
		}
	}
	return out
}
