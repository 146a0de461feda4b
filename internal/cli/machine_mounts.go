package cli

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// observeMounts looks at the directories and devices of this machine that containers are to have: where links point,
// what is mounted below a directory, what a shared one must not hold, and the numbers of devices.
func (a *app) observeMounts(cfg *config.Config, mountinfo string, m *config.Machine) {
	m.Links, m.Below, m.KeysBelow = map[string]string{}, map[string][]config.Below{}, map[string]string{}
	for _, c := range cfg.Containers {
		for _, p := range c.MountPoints {
			if target, err := a.host.Readlink(p.HostPath); err == nil {
				m.Links[p.HostPath] = target
			}
			if !m.Present[p.HostPath] {
				continue
			}
			m.Below[p.HostPath] = mountedBelow(mountinfo, followed(p.HostPath))
			if p.Share {
				m.KeysBelow[p.HostPath] = a.keys.find(a.host, p.HostPath)
			}
		}
	}
	m.Devices = map[string][]spec.Device{}
	for _, name := range config.DevicesWanted(cfg) {
		m.Devices[name] = devicesAt(a.host, name)
	}
}

// mountedBelow are the file systems that are mounted below a directory (proc_pid_mountinfo(5)); of several at one place
// the last, which hides the others. Snapshots that ZFS mounts while somebody looks into them are left out.
func mountedBelow(mountinfo, dir string) (out []config.Below) {
	for line := range strings.Lines(mountinfo) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) < 5 || len(end) == 0 {
			continue
		}
		at := host.Unescape(f[4])
		if !strings.HasPrefix(at, strings.TrimSuffix(dir, "/")+"/") || strings.Contains(at, "/.zfs/") {
			continue
		}
		out = slices.DeleteFunc(out, func(b config.Below) bool { return b.Point == at })
		out = append(out, config.Below{Point: at, Type: end[0],
			Location: f[2] + strings.TrimSuffix(host.Unescape(f[3]), "/")})
	}
	return out
}

// devicesAt are the device at a path, or those in a directory, sorted.
func devicesAt(h host.Host, name string) (out []spec.Device) {
	names := []string{name}
	if m, err := h.Lstat(name); err == nil && m.Mode.IsDir() {
		entries, _ := h.ReadDir(name) // one that went away has none
		names = nil
		for _, e := range entries {
			names = append(names, filepath.Join(name, e))
		}
	}
	for _, p := range names {
		if m, err := h.Lstat(p); err == nil && m.Mode&fs.ModeDevice != 0 {
			out = append(out, spec.Device{Path: p, Block: m.Mode&fs.ModeCharDevice == 0, Major: m.Major,
				Minor: m.Minor})
		}
	}
	return out
}

// keyScans remembers for a while where private keys were found: a round of watch every few seconds does not look
// through a collection of films each time.
type keyScans struct {
	mu   sync.Mutex // guards done
	done map[string]keyScan
}

type keyScan struct {
	at    time.Time
	found string
}

const (
	keyScanAge     = 5 * time.Minute
	keyScanEntries = 5000 // names
	keyScanReads   = 500  // small files that are read
	keyScanSize    = 16 << 10
	keyScanDepth   = 6
)

// find is a file below a directory that holds a private key, as far as the limits let it be looked for; empty: none was
// found.
func (k *keyScans) find(h host.Host, dir string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.done[dir]; ok && s.found == "" && time.Since(s.at) < keyScanAge {
		return ""
	}
	if k.done == nil {
		k.done = map[string]keyScan{}
	}
	w := keyWalk{h: h, entries: keyScanEntries, reads: keyScanReads}
	found := w.look(dir, keyScanDepth)
	k.done[dir] = keyScan{time.Now(), found}
	return found
}

// keyWalk is one look through a directory, over no link.
type keyWalk struct {
	h              host.Host
	entries, reads int // that are left
}

func (w *keyWalk) look(dir string, depth int) string {
	names, err := w.h.ReadDir(dir)
	if err != nil || depth == 0 {
		return ""
	}
	for _, name := range names {
		if w.entries--; w.entries < 0 {
			return ""
		}
		p := filepath.Join(dir, name)
		m, err := w.h.Lstat(p)
		if err != nil {
			continue
		}
		switch {
		case m.Mode.IsDir():
			if found := w.look(p, depth-1); found != "" {
				return found
			}
		case m.Mode.IsRegular() && w.holdsKey(p, m.Size):
			return p
		}
	}
	return ""
}

// keyStores are files that hold keys by what they are.
var keyStores = []string{".p12", ".pfx", ".jks", ".kdbx"}

// holdsKey tells by the name of a key store, or by what a small file begins a key with (RFC 7468).
func (w *keyWalk) holdsKey(p string, size int64) bool {
	if slices.Contains(keyStores, strings.ToLower(filepath.Ext(p))) {
		return true
	}
	if size == 0 || size > keyScanSize || w.reads <= 0 {
		return false
	}
	w.reads--
	b, err := w.h.ReadFile(p)
	return err == nil && bytes.Contains(b, []byte("-----BEGIN ")) && bytes.Contains(b, []byte("PRIVATE KEY-----"))
}
