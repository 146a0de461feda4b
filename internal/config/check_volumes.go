package config

import (
	"regexp"
	"slices"
	"strings"
)

var volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// notInside are folders inside a container that nothing may be mounted on, nor below where the second is true.
var notInside = []struct {
	path  string
	below bool
}{
	{"/", false}, {"/proc", true}, {"/sys", true}, {"/dev", true}, {"/run", true}, {"/boot", true}, {"/bin", true}, {"/sbin", true},
	{"/lib", true}, {"/lib64", true}, {"/etc", false}, {"/usr", false}, {"/usr/bin", true}, {"/usr/sbin", true}, {"/usr/lib", true},
	{"/usr/local/lib/phoenix", true}, {"/etc/systemd", true}, {"/var", false}, {"/var/lib", false}, {"/var/run", true}, {"/var/lib/dpkg", true}, {"/root", false}, {"/tmp", false},
}

// volumes checks the storage of each container by itself.
func (c *checker) volumes() {
	for _, x := range c.cfg.Containers {
		names, targets := unique{}, unique{}
		for _, v := range x.Volumes {
			if v.has("name") && !volumeName.MatchString(v.Name) && !c.toldAt(v.At, "name") {
				c.errorf(v.At, "name", "letters, digits, _ and -", "%q is not the name of a volume", v.Name)
			}
			c.once(names, v.Name, v.At, "name", "the volume", "give each volume of a container a name of its own")
			if strings.HasPrefix(v.Pool, "/") {
				c.absolute(v.At, "pool", v.Pool)
			} else {
				c.matches(v.At, "pool", v.Pool, poolName, "the name of a pool")
			}
			c.target(v.At, "mount_point", v.MountPoint, targets)
		}
		for _, m := range x.MountPoints {
			c.absolute(m.At, "host_path", m.HostPath)
			c.target(m.At, "container_path", m.ContainerPath, targets)
		}
	}
}

func (c *checker) target(a At, key, target string, seen unique) {
	if !c.absolute(a, key, target) {
		return
	}
	clean := cleanPath(target)
	if first, twice := seen[clean]; twice {
		c.errorf(a, key, "mount each volume at a path of its own", "something is mounted at %s already, at %s", clean, first)
	} else {
		seen[clean] = a.source(key)
	}
	i := slices.IndexFunc(notInside, func(n struct {
		path  string
		below bool
	}) bool {
		return clean == n.path || n.below && within(clean, n.path)
	})
	if i >= 0 {
		c.errorf(a, key, "choose a folder of the application's own", "nothing may be mounted on %s: it is the system's", clean)
	}
}
