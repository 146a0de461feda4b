package cli

import (
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// digests gives files' SHA-256 without reading 200 MB on every run: a digest is computed once and remembered with the
// file's size, time, inode and device; a file that differs in any of them is read again. What is remembered is never
// what content is trusted for: whoever receives it (host.Host.Fetch) computes its digest anew.
type digests struct {
	host  host.Host
	path  string
	known map[string]digest
	fresh bool // there is something new to remember
}

type digest struct {
	Size   int64  `json:"size"`
	Time   int64  `json:"mtime_ns"`
	Inode  uint64 `json:"inode"`
	Device uint64 `json:"device"`
	SHA256 string `json:"sha256"`
}

// racy is how old a file must be for its time to tell a later write from the one before: more than any file system's
// clock tick.
const racy = 2 * time.Second

func newDigests(h host.Host, cache string) *digests {
	d := &digests{host: h, path: filepath.Join(cache, "digests.json"), known: map[string]digest{}}
	if b, err := h.ReadFile(d.path); err == nil {
		// Unreadable memory is no memory: everything is computed anew.
		_ = json.Unmarshal(b, &d.known)
	}
	return d
}

// sum is the lower-case hex SHA-256 of the file.
func (d *digests) sum(path string) (string, error) {
	m, err := d.host.Lstat(path)
	if err != nil {
		return "", err
	}
	now := digest{Size: m.Size, Time: m.ModTime.UnixNano(), Inode: m.Inode, Device: m.Device}
	if old, ok := d.known[path]; ok && m.Mode.IsRegular() {
		now.SHA256 = old.SHA256
		if now == old {
			return old.SHA256, nil
		}
	}
	if now.SHA256, err = d.host.Digest(path); err != nil {
		return "", err
	}
	if m.Mode.IsRegular() && d.host.Now().Sub(m.ModTime) > racy {
		d.known[path] = now
		d.fresh = true
	}
	return now.SHA256, nil
}

// save remembers what was computed. Files that are gone are forgotten.
func (d *digests) save() error {
	if !d.fresh {
		return nil
	}
	for path := range d.known {
		if _, err := d.host.Lstat(path); err != nil {
			delete(d.known, path)
		}
	}
	b, err := json.MarshalIndent(d.known, "", " ")
	if err != nil {
		return err
	}
	if err := d.host.MkdirAll(filepath.Dir(d.path), 0o755, host.Owner{UID: -1, GID: -1}); err != nil {
		return err
	}
	return d.host.WriteFile(d.path, append(b, '\n'), 0o600, host.Owner{UID: -1, GID: -1})
}
