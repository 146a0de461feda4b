package health

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Headroom is the id of the check of what is left of the limits: the machine works, but not for much longer.
const Headroom = "PHX-HOST-001"

// headroom is one check of the hypervisor, where any container runs on it.
func (m *model) headroom() {
	if len(m.running) > 0 {
		m.add(kindHeadroom, object.Object{Address: object.NewAddress(spec.KindSysctl, "hypervisor")}, "", nothing{})
	}
}

// meter is how much of a shared limit is used.
type meter struct {
	key   string
	what  string
	used  int64
	limit int64
}

// left is what there must be: room for one more container, and a twentieth.
func (m meter) left() int64 {
	var each int64
	for _, l := range spec.SharedLimits() {
		if l.Key == m.key {
			each = l.Each
		}
	}
	return max(each, m.limit/20)
}

func (m meter) String() string { return fmt.Sprintf("%s %d of %d", m.what, m.used, m.limit) }

// runHeadroom counts what is used of the limits that all containers share. What this kernel does not tell is left out.
func runHeadroom(ctx context.Context, h host.Host, c Check, _ nothing) Result {
	meters := append(inotifyMeters(ctx, h), keyMeters(h)...)
	meters = append(meters, tableMeters(h)...)
	var all, low []string
	for _, m := range meters {
		all = append(all, m.String())
		if m.limit-m.used < m.left() {
			low = append(low, m.String()+" ("+m.key+")")
		}
	}
	switch {
	case ctx.Err() != nil:
		return c.fail("the limits that all containers share could not be counted", ctx.Err().Error(), "phoenix health")
	case len(low) > 0:
		return c.fail("the containers together have used up a limit of the kernel", strings.Join(low, ", "),
			"phoenix setup --yes")
	}
	return c.pass("the limits that all containers share leave room", strings.Join(all, ", "))
}

// sysctl reads a value of the kernel; false: this kernel does not have it.
func sysctl(h host.Host, key string) (int64, bool) {
	raw, err := h.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/")))
	if err != nil {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return v, err == nil
}

// inotifyMeters count the instances of root and of the containers that root started, which the kernel counts as root's
// too, whatever the id of their own root is (ucounts: each user namespace above is charged for its owner).
func inotifyMeters(ctx context.Context, h host.Host) []meter {
	var instances, watches int64
	names, _ := h.ReadDir("/proc")
	for _, pid := range names {
		if !isID(pid) || ctx.Err() != nil {
			continue
		}
		fds, _ := h.ReadDir(filepath.Join("/proc", pid, "fd")) // it may have ended
		for _, fd := range fds {
			target, err := h.Readlink(filepath.Join("/proc", pid, "fd", fd))
			if err != nil || target != "anon_inode:inotify" || !chargedToRoot(h, pid) {
				continue
			}
			info, _ := h.ReadFile(filepath.Join("/proc", pid, "fdinfo", fd))
			instances++
			watches += int64(strings.Count(string(info), "inotify wd:"))
		}
	}
	return limited(h, meter{key: spec.InotifyInstances, what: "inotify instances", used: instances},
		meter{key: spec.InotifyWatches, what: "inotify watches", used: watches})
}

// chargedToRoot tells processes of root and of containers from those of the machine's other users.
func chargedToRoot(h host.Host, pid string) bool {
	m, err := h.Lstat(filepath.Join("/proc", pid))
	if err != nil || m.UID == 0 {
		return err == nil
	}
	theirs, err := h.Readlink(filepath.Join("/proc", pid, "ns/user"))
	ours, _ := h.Readlink("/proc/self/ns/user")
	return err == nil && theirs != ours
}

// limited fills in the limits, and drops what has none here.
func limited(h host.Host, meters ...meter) (out []meter) {
	for _, m := range meters {
		if limit, ok := sysctl(h, m.key); ok {
			m.limit = limit
			out = append(out, m)
		}
	}
	return out
}

// keyMeters are those of the user who comes closest to a limit: it is each user's own, and root's is another
// (proc_key-users(5)).
func keyMeters(h host.Host) []meter {
	raw, err := h.ReadFile("/proc/key-users")
	if err != nil {
		return nil
	}
	keys, size := meter{key: spec.MaxKeys}, meter{key: spec.MaxKeyBytes}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line) // uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes
		if len(f) < 5 || f[0] == "0:" {
			continue
		}
		uid := strings.TrimSuffix(f[0], ":")
		keys = keys.fuller(meter{keys.key, "keys of user " + uid, 0, 0}.share(f[3]))
		size = size.fuller(meter{size.key, "bytes in them", 0, 0}.share(f[4]))
	}
	return slices.DeleteFunc([]meter{keys, size}, func(m meter) bool { return m.limit == 0 })
}

// share reads used/limit.
func (m meter) share(text string) meter {
	used, limit, _ := strings.Cut(text, "/")
	m.used, _ = strconv.ParseInt(used, 10, 64) // the kernel writes numbers
	m.limit, _ = strconv.ParseInt(limit, 10, 64)
	return m
}

// fuller is the one with the larger part used.
func (m meter) fuller(o meter) meter {
	if m.limit == 0 || o.used*m.limit > m.used*o.limit {
		return o
	}
	return m
}

// tableMeters count what the kernel counts itself. The neighbour tables are one for all network namespaces, and shown
// in the first only.
func tableMeters(h host.Host) []meter {
	var out []meter
	for _, t := range []struct{ key, what, used string }{{spec.MaxPTY, "terminals", "kernel.pty.nr"},
		{spec.MaxAIO, "aio requests", "fs.aio-nr"}} {
		if used, ok := sysctl(h, t.used); ok {
			out = append(out, limited(h, meter{key: t.key, what: t.what, used: used})...)
		}
	}
	for _, t := range []struct{ key, what, name string }{{spec.Neighbours4, "IPv4 neighbours", "arp_cache"},
		{spec.Neighbours6, "IPv6 neighbours", "ndisc_cache"}} {
		raw, err := h.ReadFile(filepath.Join("/proc/1/net/stat", t.name))
		_, rows, _ := strings.Cut(string(raw), "\n")
		if f := strings.Fields(rows); err == nil && len(f) > 0 {
			used, _ := strconv.ParseInt(f[0], 16, 64) // the kernel writes numbers
			out = append(out, limited(h, meter{key: t.key, what: t.what, used: used})...)
		}
	}
	return out
}
