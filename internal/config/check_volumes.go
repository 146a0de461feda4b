package config

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// notInside are directories inside of a container that nothing may be mounted on: they are the system's, or
// phoenix's. Nor may anything be mounted below those with a / behind them.
var notInside = []string{
	"/", "/bin/", "/boot/", "/dev/", "/etc", "/etc/alternatives/", "/etc/apt/", "/etc/ca-certificates/",
	"/etc/dpkg/", "/etc/ld.so.conf.d/", "/etc/network/", "/etc/pam.d/", "/etc/phoenix/", "/etc/security/",
	"/etc/ssl", "/etc/ssl/certs/", "/etc/systemd/", "/etc/udev/", "/home", "/lib/", "/lib32/", "/lib64/", "/libx32/",
	"/lost+found/", "/opt", "/proc/", "/root", "/run/", "/sbin/", "/sys/", "/tmp", "/usr", "/usr/bin/",
	"/usr/include/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/libexec/", "/usr/libx32/", "/usr/local",
	"/usr/local/bin/", "/usr/local/lib", "/usr/local/lib/phoenix/", "/usr/local/lib/systemd/", "/usr/local/sbin/",
	"/usr/local/share", "/usr/local/share/ca-certificates/", "/usr/sbin/", "/usr/share",
	"/usr/share/ca-certificates/", "/var", "/var/lib", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/phoenix/",
	"/var/lib/systemd/", "/var/lock/", "/var/log", "/var/run/", "/var/tmp",
}

// files in a container's /etc that are no directories: a volume on one would keep the container from starting.
var systemFiles = []string{
	"fstab", "group", "group-", "gshadow", "gshadow-", "hostname", "hosts", "ld.so.cache", "ld.so.conf", "localtime",
	"machine-id", "nsswitch.conf", "os-release", "passwd", "passwd-", "profile", "resolv.conf", "shadow", "shadow-",
	"subgid", "subuid", "sudoers",
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
				v.Pool, _ = c.mountPath(v.At, "pool", v.Pool)
			} else {
				c.matches(v.At, "pool", v.Pool, poolName, "the name of a pool")
			}
			v.MountPoint = c.target(v.At, "mount_point", v.MountPoint, targets)
		}
		for _, m := range x.MountPoints {
			m.HostPath, _ = c.mountPath(m.At, "host_path", m.HostPath)
			m.ContainerPath = c.target(m.At, "container_path", m.ContainerPath, targets)
			m.ReadOnly = m.ReadOnly || m.Share && !m.has("read_only")
			c.shareable(x, m)
		}
	}
}

// shareable refuses what cannot be said of a directory that others see too, or that nobody may write to: each container
// has ids of its own, so that one owner would lock the others out, and keys are nobody else's.
func (c *checker) shareable(x *Container, m *MountPoint) {
	for _, key := range []string{"owner_uid", "owner_gid", "mode"} {
		if m.Share && m.has(key) {
			c.errorf(m.At, key, "leave it out: what is shared keeps its owner and mode",
				"%s cannot be set for a directory that containers share", key)
		}
	}
	if !m.Share && !m.ReadOnly {
		return
	}
	how := "read_only"
	if m.Share {
		how = "share"
	}
	dirs := []string{tlsDir(x)}
	for _, cert := range x.Certificates {
		dirs = append(dirs, path.Dir(cert.KeyPath))
	}
	for _, dir := range dirs {
		if path.IsAbs(dir) && within(dir, m.ContainerPath) {
			c.errorf(m.At, how, "leave it out, or make a volume for the keys in zfs_volumes",
				"private keys of container %s are kept at %s: %s cannot be %s there", x.ID, dir, m.HostPath,
				map[bool]string{true: "shared", false: "read-only"}[m.Share])
			return
		}
	}
}

// target checks where something is mounted inside, and returns the clean path.
func (c *checker) target(a At, key, target string, seen unique) string {
	clean, ok := c.mountPath(a, key, target)
	if !ok {
		return target
	}
	if first, twice := seen[clean]; twice {
		c.errorf(a, key, "mount each volume at a path of its own", "something is mounted at %s already, at %s",
			clean, first)
	} else {
		seen[clean] = a.source(key)
	}
	taken := slices.ContainsFunc(notInside, func(n string) bool {
		dir := strings.TrimSuffix(n, "/")
		return clean == n || clean == dir || dir != n && dir != "" && within(clean, dir)
	})
	if name, inEtc := strings.CutPrefix(clean, "/etc/"); taken || inEtc && slices.Contains(systemFiles, name) {
		c.errorf(a, key, "choose a directory of the application's own",
			"nothing may be mounted on %s: it is the system's", clean)
	}
	return clean
}
