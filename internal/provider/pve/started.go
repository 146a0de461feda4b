package pve

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// startedWith is what lxc was given when a container was started.
type startedWith struct {
	all []string // every line, as key=value
	raw []string // those that stand in the container's own file as raw options
}

// startedPath has the raw options that a running container was started with. Proxmox overwrites what it gives lxc with
// every pct set, also while the container runs: a line that was taken out would be forgotten there. It is lost with the
// machine's uptime, as the containers are.
func startedPath(p spec.Proxmox, id string) string {
	return filepath.Join(p.Locks, "lxc", "phoenix-started-"+id)
}

// generatedLine is what Proxmox writes between the root file system and the raw options.
var generatedLine = regexp.MustCompile(`^lxc\.(net\.\d+\..*|init\.cmd|environment\.runtime)=`)

const (
	rootLine   = "lxc.rootfs.path="
	cpusetLine = "lxc.cgroup2.cpuset.cpus=" // behind the raw options, from the number of cores
)

// parseGiven reads what Proxmox gives lxc: what it makes of the keys, and behind the interfaces the raw options.
func parseGiven(text string) (g startedWith) {
	head := true
	for l := range strings.Lines(text) {
		k, v, _ := strings.Cut(l, "=")
		o := strings.TrimSpace(k) + "=" + strings.TrimSpace(v)
		g.all = append(g.all, o)
		if !head && !generatedLine.MatchString(o) && !strings.HasPrefix(o, cpusetLine) {
			g.raw = append(g.raw, o)
		}
		head = head && !strings.HasPrefix(o, rootLine)
	}
	return g
}

// readStarted gives what a running container was started with; false: nothing tells.
func readStarted(h host.Host, p spec.Proxmox, id string, pid int) (startedWith, bool, error) {
	if text, ok := provider.Started(h, startedPath(p, id), pid); ok {
		lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
		return startedWith{all: lines, raw: lines}, true, nil
	}
	raw, err := h.ReadFile(filepath.Join(p.State, id, "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return startedWith{}, false, nil
	}
	return parseGiven(string(raw)), err == nil, err
}

// saveStarted writes down what a running container was started with, where that is not done: before its configuration
// changes.
func saveStarted(ctx context.Context, h host.Host, p spec.Proxmox, id string) error {
	pid, err := inside(id).InitPID(ctx, h)
	if err != nil || pid == 0 {
		return err
	}
	if _, done := provider.Started(h, startedPath(p, id), pid); done {
		return nil
	}
	g, ok, err := readStarted(h, p, id, pid)
	if err != nil || !ok {
		return err
	}
	err = provider.SaveStarted(h, startedPath(p, id), pid, strings.Join(append(g.raw, ""), "\n"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has just ended
	}
	return err
}

// forgetStarted removes what was written down.
func forgetStarted(h host.Host, p spec.Proxmox, id string) error {
	if _, err := h.Lstat(startedPath(p, id)); err != nil {
		return nil
	}
	return h.Remove(startedPath(p, id))
}

// differing are the keys of raw options that a running container lacks, and of those that it has too much: a profile, a
// mount or a device that was taken out of the file stays open until the restart.
func (g startedWith) differing(options []line) (keys []string) {
	add := func(key string) {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	var want []string
	all := plainBinds(g.all)
	for _, o := range options {
		text := provider.PlainBinds(o.key + "=" + o.value)
		want = append(want, text)
		if !slices.Contains(all, text) {
			add(o.key)
		}
	}
	for _, o := range plainBinds(g.raw) {
		if key, _, _ := strings.Cut(o, "="); !slices.Contains(want, o) {
			add(key)
		}
	}
	return keys
}
