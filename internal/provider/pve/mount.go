package pve

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// property is a value such as local-zfs:subvol-100-disk-1,mp=/data,size=1G: a word of its own, and keys.
type property struct {
	word string
	keys []string // in order
	of   map[string]string
}

// parseProperty reads a value; first is the key whose name may be left out.
func parseProperty(value, first string) property {
	p := property{of: map[string]string{}}
	for part := range strings.SplitSeq(value, ",") {
		k, v, ok := strings.Cut(part, "=")
		switch {
		case !ok && p.word == "":
			p.word = part
		case ok && k == first:
			p.word = v
		case ok:
			p.keys = append(p.keys, k)
			p.of[k] = v
		}
	}
	return p
}

// set changes a key or adds it.
func (p *property) set(key, value string) {
	if _, there := p.of[key]; !there {
		p.keys = append(p.keys, key)
	}
	p.of[key] = value
}

func (p *property) drop(key string) {
	delete(p.of, key)
	p.keys = slices.DeleteFunc(p.keys, func(k string) bool { return k == key })
}

func (p property) text() string {
	var parts []string
	if p.word != "" {
		parts = append(parts, p.word)
	}
	for _, k := range p.keys {
		parts = append(parts, k+"="+p.of[k])
	}
	return strings.Join(parts, ",")
}

var (
	mountKey  = regexp.MustCompile(`^mp\d+$`)
	unusedKey = regexp.MustCompile(`^unused\d+$`)
	deviceKey = regexp.MustCompile(`^dev\d+$`)
	// indexedKey is what is plugged into a container that runs, or taken out of it.
	indexedKey = regexp.MustCompile(`^(mp|dev|net)\d+$`)
)

// mounted finds what will be at a path inside after the next restart; empty: nothing.
func (c *conf) mounted(target string) (key string, value property) {
	return mountedAt(c.keys(), c.then, target)
}

// mountedNow finds what is there until then.
func (c *conf) mountedNow(target string) (key string, value property) {
	return mountedAt(c.current().keys(), c.current().get, target)
}

// mountedAt takes the last of two at one path, which hides the other.
func mountedAt(keys []string, get func(string) string, target string) (key string, value property) {
	for _, k := range keys {
		if !mountKey.MatchString(k) {
			continue
		}
		if p := parseProperty(get(k), "volume"); filepath.Clean(p.of["mp"]) == target &&
			(key == "" || number(k) > number(key)) {
			key, value = k, p
		}
	}
	return key, value
}

// unused finds a volume that waits unattached; empty: it does not.
func (c *conf) unused(volume string) string {
	for _, k := range c.keys() {
		if unusedKey.MatchString(k) && c.then(k) == volume {
			return k
		}
	}
	return ""
}

// free is the first key of a kind such as mp that nothing has, now or after a restart.
func (c *conf) free(kind string, taken []string) string {
	for i := 0; ; i++ {
		key := kind + strconv.Itoa(i)
		_, waits := c.waiting()[key]
		if !waits && c.current().get(key) == "" && !slices.Contains(taken, key) {
			return key
		}
	}
}

func number(key string) int {
	n, _ := strconv.Atoi(strings.TrimLeft(key, "abcdefghijklmnopqrstuvwxyz_"))
	return n
}

// record is the line that says which of Proxmox's volumes is one of phoenix's. It stands in the notes of the container,
// and while that does not exist in a file of its own.
type record struct {
	Volume string `json:"volume"` // local-zfs:subvol-103-disk-1
	Path   string `json:"path"`   // on the hypervisor
	// Owner and mode as they were set, of a volume that only a mounted file system shows: 0:0 0700.
	Set string `json:"set,omitempty"`
}

func volumeAddress(v spec.Volume) string {
	return string(object.NewAddress(spec.KindVolume, v.Container, v.Name))
}

func (r record) line(v spec.Volume) string {
	return strings.TrimSpace("phoenix: " + volumeAddress(v) + " " + r.Volume + " " + r.Path + " " + r.Set)
}

// parseRecord reads a line; false: it is not about this volume.
func parseRecord(v spec.Volume, text string) (record, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "phoenix: "+volumeAddress(v)+" ")
	f := strings.Fields(rest)
	if !ok || len(f) < 2 {
		return record{}, false
	}
	return record{Volume: f[0], Path: f[1], Set: strings.Join(f[2:], " ")}, true
}

// recorded is what the notes say about a volume.
func (c *conf) recorded(v spec.Volume) (record, bool) {
	for _, n := range c.current().description() {
		if r, ok := parseRecord(v, n); ok {
			return r, true
		}
	}
	return record{}, false
}

// remembered is recorded or, failing that, what was written down when an earlier container was deleted. It is there
// only if the volume is.
func remembered(h host.Host, c *conf, v spec.Volume) (record, bool) {
	r, ok := record{}, false
	if c != nil {
		r, ok = c.recorded(v)
	}
	if !ok {
		raw, err := h.ReadFile(v.Path)
		if err != nil {
			return record{}, false
		}
		r, ok = parseRecord(v, string(raw))
	}
	if !ok {
		return record{}, false
	}
	return r, present(h, r.Path)
}

// present tells whether a volume is where its record says. A device may be switched off while its container is stopped,
// and is taken to be there: another one in its place would be the greater mistake.
func present(h host.Host, path string) bool {
	_, err := h.Lstat(path)
	return err == nil || strings.HasPrefix(path, "/dev/")
}

// mountValue is what pct is to be given so that a volume is mounted: the one that is remembered, else a new one. known
// is empty where there is none.
func mountValue(v spec.Volume, known string) string {
	volume := known
	if volume == "" {
		volume = v.Pool + ":" + gigabytes(v.SizeBytes)
	}
	value := volume + ",mp=" + v.MountPoint
	if v.Backup {
		value += ",backup=1"
	}
	return value
}

// gigabytes is a size as pct takes it for a new volume.
func gigabytes(bytes int64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', -1, 64)
}

var sizeText = regexp.MustCompile(`^(\d+(?:\.\d+)?)([KMGT]?)$`)

// sizeOf reads the size in a mount point's value; 0: it says none.
func sizeOf(p property) int64 {
	m := sizeText.FindStringSubmatch(p.of["size"])
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0
	}
	return int64(n * float64(map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[m[2]]))
}

// otherVolume is a mount path at which another volume stands than the one that is phoenix's, which waits.
func otherVolume(v spec.Volume, key, have, own string) error {
	return provider.PermanentHint(
		fmt.Errorf("at %s of container %s is %s, and the volume of %s is %s", v.MountPoint, v.Container, have,
			volumeAddress(v), own),
		fmt.Sprintf("to mount the recorded one: pct set %s --%s %s; to keep the one that is mounted, as after a "+
			"rollback: remove the line %q from the container's notes", v.Container, key,
			mountValue(v, own), "phoenix: "+volumeAddress(v)+" …"))
}
