package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// part is one section of a container's file.
type part struct {
	notes []string
	keys  map[string]string
	raw   [][2]string
}

// conf is a container's file as Proxmox holds it in memory.
type conf struct {
	part
	pending   map[string]string
	deletes   []string
	snapshots map[string]*part
}

func newPart() part { return part{keys: map[string]string{}} }

func newConf() *conf {
	return &conf{part: newPart(), pending: map[string]string{}, snapshots: map[string]*part{}}
}

var (
	header = regexp.MustCompile(`(?i)^\[([a-z][a-z0-9_:-]+)\]\s*$`)
	rawKey = regexp.MustCompile(`^(lxc\.[a-z0-9_.-]+)(?::|\s*=)\s*(.*?)\s*$`)
	plain  = regexp.MustCompile(`^([a-z][a-z_]*\d*):\s*(.+?)\s*$`)
)

func (b base) file(id string) string { return b.path("pve", "lxc", id+".conf") }

// load reads a container's file. Lines that nobody understands are warned about and are gone with the next write.
func (b base) load(id string) (*conf, error) {
	text, err := os.ReadFile(b.file(id))
	if err != nil {
		//lint:ignore ST1005 the words are Proxmox's
		return nil, fmt.Errorf("Configuration file 'nodes/%s/lxc/%s.conf' does not exist", b.node(), id)
	}
	c := newConf()
	now, pending := &c.part, false
	for l := range strings.Lines(string(text)) {
		l = strings.TrimRight(l, "\n")
		if m := header.FindStringSubmatch(l); m != nil {
			if pending = strings.EqualFold(m[1], "pve:pending"); !pending {
				p := newPart()
				now = &p
				c.snapshots[m[1]] = now
			}
			continue
		}
		switch m, r := plain.FindStringSubmatch(l), rawKey.FindStringSubmatch(l); {
		case strings.HasPrefix(l, "#"):
			now.notes = append(now.notes, decode(l[1:]))
		case strings.TrimSpace(l) == "":
		case pending && m != nil && m[1] == "delete":
			c.deletes = append(c.deletes, strings.Split(m[2], ",")...)
		case pending && m != nil:
			c.pending[m[1]] = m[2]
		case r != nil:
			now.raw = append(now.raw, [2]string{r[1], r[2]})
		case m != nil:
			now.keys[m[1]] = m[2]
		default:
			fmt.Fprintf(os.Stderr, "vm %s - unable to parse config: %s\n", id, l)
		}
	}
	return c, nil
}

func (p part) text() string {
	var s strings.Builder
	for _, n := range p.notes {
		s.WriteString("#" + encode(n) + "\n")
	}
	for _, k := range slices.Sorted(maps.Keys(p.keys)) {
		s.WriteString(k + ": " + p.keys[k] + "\n")
	}
	for _, r := range p.raw {
		s.WriteString(r[0] + ": " + r[1] + "\n")
	}
	return s.String()
}

func (c *conf) text() string {
	s := c.part.text()
	if len(c.pending)+len(c.deletes) > 0 {
		s += "\n[pve:pending]\n"
		if len(c.deletes) > 0 {
			s += "delete: " + strings.Join(c.deletes, ",") + "\n"
		}
		s += part{keys: c.pending}.text()
	}
	for _, name := range slices.Sorted(maps.Keys(c.snapshots)) {
		s += "\n[" + name + "]\n" + c.snapshots[name].text()
	}
	return s
}

// save writes the file in one step, as pmxcfs does, if there is quorum.
func (b base) save(id string, c *conf) error {
	if !b.quorate() {
		return b.denied(id)
	}
	b.strike()
	step.Lock()
	defer step.Unlock()
	temp := b.file(id) + ".tmp." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(temp, []byte(c.text()), 0o640); err != nil {
		return err
	}
	if err := os.Rename(temp, b.file(id)); err != nil {
		return err
	}
	b.listed()
	return nil
}

// listed brings .vmlist up to date, where the test has one: which guest is on which node.
func (b base) listed() {
	path := b.path("pve", ".vmlist")
	if _, err := os.Lstat(path); err != nil {
		return
	}
	type guest struct {
		Node    string `json:"node"`
		Type    string `json:"type"`
		Version int64  `json:"version"`
	}
	ids := map[string]guest{}
	for directory, kind := range map[string]string{"lxc": "lxc", "qemu-server": "qemu"} {
		names, _ := filepath.Glob(b.path("pve", "nodes", "*", directory, "*.conf"))
		for _, n := range names {
			node, id := filepath.Base(filepath.Dir(filepath.Dir(n))), strings.TrimSuffix(filepath.Base(n), ".conf")
			if fi, err := os.Stat(n); err == nil {
				ids[id] = guest{node, kind, fi.ModTime().UnixNano()}
			}
		}
	}
	raw, err := json.Marshal(map[string]any{"version": time.Now().UnixNano(), "ids": ids})
	if err == nil && os.WriteFile(path+".tmp", raw, 0o640) == nil {
		_ = os.Rename(path+".tmp", path) // the next write makes it again
	}
}

func encode(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == ':' {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

func decode(s string) string {
	return regexp.MustCompile(`%[0-9A-Fa-f]{2}`).ReplaceAllStringFunc(s, func(x string) string {
		n, _ := strconv.ParseUint(x[1:], 16, 8)
		return string([]byte{byte(n)})
	})
}

// property is a value of several parts.
type property struct {
	word string
	of   map[string]string
}

func parse(value, first string) property {
	p := property{of: map[string]string{}}
	for f := range strings.SplitSeq(value, ",") {
		k, v, ok := strings.Cut(f, "=")
		switch {
		case !ok:
			p.word = f
		case k == first:
			p.word = v
		default:
			p.of[k] = v
		}
	}
	return p
}

// text writes the word, the keys in front, the others sorted, and the size last.
func (p property) text(front ...string) string {
	var out []string
	if p.word != "" {
		out = append(out, p.word)
	}
	for _, k := range front {
		if v, ok := p.of[k]; ok {
			out = append(out, k+"="+v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(p.of)) {
		if k != "size" && !slices.Contains(front, k) {
			out = append(out, k+"="+p.of[k])
		}
	}
	if v, ok := p.of["size"]; ok {
		out = append(out, "size="+v)
	}
	return strings.Join(out, ",")
}

// volumes are the keys that hold volumes of a storage, with the volume.
func (p part) volumes() map[string]string {
	out := map[string]string{}
	for k, v := range p.keys {
		if k == "rootfs" || mountKey.MatchString(k) || unusedKey.MatchString(k) {
			if w := parse(v, "volume").word; !filepath.IsAbs(w) {
				out[k] = w
			}
		}
	}
	return out
}

// unuse puts a volume aside under a free name.
func (c *conf) unuse(volume string) {
	for i := 0; ; i++ {
		key := "unused" + strconv.Itoa(i)
		if _, taken := c.keys[key]; !taken {
			c.keys[key] = volume
			return
		}
	}
}

// copyOf is a deep copy.
func (p part) copyOf() part {
	return part{notes: slices.Clone(p.notes), keys: maps.Clone(p.keys), raw: slices.Clone(p.raw)}
}
