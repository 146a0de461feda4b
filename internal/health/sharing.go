package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// mount is one line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	Device string // major:minor
	Root   string // the part of the file system that is mounted
	Target string
}

// parseMounts reads mountinfo. Lines that are not understood are left out.
func parseMounts(b []byte) []mount {
	var out []mount
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) >= 5 {
			out = append(out, mount{Device: f[2], Root: host.Unescape(f[3]), Target: host.Unescape(f[4])})
		}
	}
	return out
}

// mountAt is what is seen at target: the last mount on it.
func mountAt(mounts []mount, target string) (mount, bool) {
	for _, m := range slices.Backward(mounts) {
		if m.Target == target {
			return m, true
		}
	}
	return mount{}, false
}

// within tells whether one of the two paths is, or lies in, the other.
func within(a, b string) bool {
	under := func(p, dir string) bool {
		return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
	}
	return under(a, b) || under(b, a)
}

// aloneParams is a volume and the containers that could show it.
type aloneParams struct {
	Volume  spec.Volume    `json:"volume"`
	Owner   spec.Running   `json:"owner"`
	Others  []spec.Running `json:"others,omitempty"`
	LXCPath string         `json:"lxc_path,omitempty"` // containers found here count too, whoever made them
}

// runVolumeAlone looks for a volume in every other container: in what is configured, running or not, and in what is
// mounted.
func runVolumeAlone(ctx context.Context, h host.Host, c Check, p aloneParams) Result {
	others, err := everyOther(h, p)
	if err != nil {
		return c.fail("the other containers cannot be listed", err.Error(), c.apply())
	}
	own, mounted := mount{}, false
	if mounts, err := mountsOf(ctx, h, p.Owner); err == nil {
		own, mounted = mountAt(mounts, p.Volume.MountPoint)
	}
	for _, o := range others {
		if line := configured(h, o, p.Volume.Path); line != "" {
			return c.fail("the volume is also container "+o.ID+"'s, by its configuration", line,
				fmt.Sprintf("remove the line from %s, then: phoenix restart %s", configPath(o), o.ID))
		}
		if !mounted {
			continue
		}
		if m, ok := shared(ctx, h, o, own); ok {
			evidence := fmt.Sprintf("device %s %s at %s", m.Device, m.Root, m.Target)
			return c.fail("the volume is seen in container "+o.ID+" too", evidence,
				"phoenix apply "+o.ID+" && phoenix restart "+o.ID)
		}
	}
	if !mounted {
		return c.pass("no other container is configured to see the volume",
			fmt.Sprintf("%d others looked at; it is not mounted now", len(others)))
	}
	return c.pass("no other container sees the volume",
		fmt.Sprintf("device %s %s; %d others looked at", own.Device, own.Root, len(others)))
}

// everyOther is all containers but the volume's owner, each once.
func everyOther(h host.Host, p aloneParams) ([]spec.Running, error) {
	found := map[string]bool{p.Owner.ID: true}
	var out []spec.Running
	for _, o := range p.Others {
		if !found[o.ID] {
			found[o.ID] = true
			out = append(out, o)
		}
	}
	if p.LXCPath == "" {
		return out, nil
	}
	names, err := h.ReadDir(p.LXCPath)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	for _, name := range names {
		if _, err := h.Lstat(path.Join(p.LXCPath, name, "config")); err == nil && !found[name] {
			out = append(out, spec.Running{ID: name, Path: p.LXCPath})
		}
	}
	return out, err
}

func configPath(r spec.Running) string { return path.Join(r.Path, r.ID, "config") }

// configured is the line of a container's own configuration that mounts what overlaps with the volume; empty: none.
func configured(h host.Host, r spec.Running, volume string) string {
	b, err := h.ReadFile(configPath(r))
	if err != nil {
		return "" // no such container, or one whose runtime keeps its configuration elsewhere: then the mounts tell
	}
	for _, line := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(line, "=")
		f := strings.Fields(value)
		if strings.TrimSpace(key) == "lxc.mount.entry" && len(f) > 1 && path.IsAbs(f[0]) &&
			within(path.Clean(host.Unescape(f[0])), volume) && !virtual(f) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// virtual tells whether an fstab-like entry mounts a file system of its own type rather than a directory of the
// hypervisor.
func virtual(f []string) bool {
	return len(f) > 3 && !strings.Contains(f[3], "bind") && f[2] != "none"
}

// mountsOf reads the mounts of a container that runs.
func mountsOf(ctx context.Context, h host.Host, r spec.Running) ([]mount, error) {
	pid, err := initPID(ctx, h, r)
	if err != nil || pid == 0 {
		return nil, errors.Join(fs.ErrNotExist, err)
	}
	b, err := h.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	return parseMounts(b), err
}

// shared finds own's file system, or a part of it that overlaps, in another container.
func shared(ctx context.Context, h host.Host, r spec.Running, own mount) (mount, bool) {
	mounts, err := mountsOf(ctx, h, r)
	if err != nil {
		return mount{}, false // it does not run: nothing is seen in it
	}
	for _, m := range mounts {
		if m.Device == own.Device && within(m.Root, own.Root) {
			return m, true
		}
	}
	return mount{}, false
}
