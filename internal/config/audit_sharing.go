package config

import (
	"path"
	"slices"
	"strings"
)

// mounted is one directory of the hypervisor that one container asks to see.
type mounted struct {
	at        At
	key       string // of the path
	path      string // clean
	container string
	share     bool // on purpose
}

// system are directories of the hypervisor that belong to no container; what is below those with a / behind them
// neither.
var system = []string{"/", "/bin/", "/boot/", "/dev/", "/etc/", "/home", "/lib/", "/lib32/", "/lib64/", "/libx32/",
	"/lost+found/", "/media",
	"/mnt", "/mnt/pve", "/opt", "/proc/", "/root/", "/run/", "/sbin/", "/srv", "/sys/", "/tmp", "/usr", "/usr/bin/",
	"/usr/include/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/libexec/", "/usr/local", "/usr/local/bin/",
	"/usr/local/lib/", "/usr/local/sbin/", "/usr/sbin/", "/usr/share/", "/usr/src/", "/var", "/var/cache",
	"/var/lib", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/lxc/", "/var/lib/lxcfs/", "/var/lib/phoenix/",
	"/var/lib/pve-cluster/", "/var/lib/systemd/", "/var/log", "/var/run/", "/var/spool",
	"/var/spool/cron/", "/var/tmp"}

// auditSharing refuses every directory that two containers would see: the same one, and one inside the other. Paths are
// compared as they are written, . and .. and doubled slashes taken out; links on the hypervisor are looked at when it
// is applied.
func (c *checker) auditSharing() {
	all := c.mounts()
	byPath := map[string][]mounted{}
	for _, m := range all {
		byPath[m.path] = append(byPath[m.path], m)
	}
	owners := map[string]mounted{}
	for p, group := range byPath {
		owners[p] = owner(group)
	}
	for _, m := range all {
		if !c.auditSame(m, owners[m.path]) && !c.auditNested(m, byPath) {
			c.auditForeign(m)
		}
		c.auditSystem(m)
		if m.key != "" { // shared volumes are not mounted
			c.auditExported(m)
		}
	}
}

// mounts are the directories that containers ask for by their path on the hypervisor; shared volumes count where the
// container exists.
func (c *checker) mounts() []mounted {
	var all []mounted
	for _, x := range c.cfg.Containers {
		for _, m := range x.MountPoints {
			if strings.HasPrefix(m.HostPath, "/") {
				all = append(all, mounted{m.At, "host_path", cleanPath(m.HostPath), x.ID, m.Share})
			}
		}
	}
	for _, s := range c.cfg.Hypervisor.SharedVolumes {
		all = append(all, c.shared(s)...)
	}
	return all
}

// shared tells about one shared volume of the hypervisor's file.
func (c *checker) shared(s *SharedVolume) []mounted {
	var users []mounted
	for _, m := range s.Mounts {
		if c.byID[m.Container] != nil && strings.HasPrefix(s.HostPath, "/") {
			users = append(users, mounted{m.At, "", cleanPath(s.HostPath), m.Container, false})
		}
	}
	for i, m := range users {
		hint := "give container " + m.container + " a volume of its own in zfs_volumes, and remove this line"
		if i > 0 {
			c.finding(ruleSharedMany, m.at, "", hint, "container %s would share %s with container %s, see %s",
				m.container, m.path, users[0].container, users[0].at.Source)
		} else if len(users) == 1 {
			c.finding(ruleSharedOne, m.at, "", hint, "phoenix mounts no shared volumes: container %s will not see %s",
				m.container, m.path)
		}
	}
	if len(users) > 1 {
		return users[:1] // the others were told
	}
	return users
}

// owner is the one of several mounts of a path whose container is named in it, such as …/103/ssl, or the first.
func owner(group []mounted) mounted {
	for _, m := range group {
		if slices.Contains(strings.Split(m.path, "/"), m.container) {
			return m
		}
	}
	return group[0]
}

func (c *checker) auditSame(m, first mounted) bool {
	if m.container == first.container || m.share && first.share {
		return false
	}
	c.finding(ruleSamePath, m.at, m.key, remedy(m, first), "container %s would share %s with container %s, see %s",
		m.container, m.path, first.container, first.at.source(first.key))
	return true
}

func remedy(m, first mounted) string {
	return "give container " + m.container + " a volume of its own; what it needs of container " + first.container +
		" it gets over the network: certificates by ACME, the root by trusted_ca; a directory without keys, such as " +
		`media, is shared with "share": true in both mount_points`
}

func (c *checker) auditNested(m mounted, byPath map[string][]mounted) bool {
	for p := m.path; p != "/"; {
		p = path.Dir(p)
		i := slices.IndexFunc(byPath[p], func(o mounted) bool {
			return o.container != m.container && !(o.share && m.share)
		})
		if i < 0 {
			continue
		}
		outer := byPath[p][i]
		c.finding(ruleNestedPath, m.at, m.key, remedy(m, outer), "%s of container %s lies inside %s, which container "+
			"%s sees, see %s",
			m.path, m.container, p, outer.container, outer.at.source(outer.key))
		return true
	}
	return false
}

// auditForeign looks for a directory named for another container, which may be used by something that is not in the
// file.
func (c *checker) auditForeign(m mounted) {
	parts := strings.Split(m.path, "/")
	if slices.Contains(parts, m.container) || m.share {
		return
	}
	for _, part := range parts {
		if other := c.byID[part]; other != nil {
			c.finding(ruleForeignPath, m.at, m.key, "give container "+m.container+" a directory of its own",
				"container %s mounts %s, which is named for container %s", m.container, m.path, other.ID)
			return
		}
	}
}

func (c *checker) auditSystem(m mounted) {
	for _, s := range system {
		dir := strings.TrimSuffix(s, "/")
		if m.path == s || m.path == dir || strings.HasSuffix(s, "/") && s != "/" && within(m.path, dir) {
			c.finding(ruleSystemPath, m.at, m.key, "make a volume for it in zfs_volumes", "%s is the hypervisor's own",
				m.path)
			return
		}
	}
}

// auditExported compares with what NFS and Samba give to the network; relative Samba paths are below mount_point_base.
func (c *checker) auditExported(m mounted) {
	h := &c.cfg.Hypervisor
	for _, e := range h.NFS.Exports {
		c.auditExport(m, e.Path, e.At)
	}
	for _, s := range h.Samba.Shares {
		c.auditExport(m, s.Path, s.At)
	}
}

func (c *checker) auditExport(m mounted, exported string, a At) {
	if exported == "" {
		return
	}
	if !strings.HasPrefix(exported, "/") {
		exported = c.cfg.Hypervisor.MountBase + "/" + exported
	}
	if exported = cleanPath(exported); within(m.path, exported) || within(exported, m.path) {
		c.finding(ruleExported, m.at, m.key, "export another directory",
			"%s of container %s is given to the network as %s, see %s",
			m.path, m.container, exported, a.source("path"))
	}
}
