package pve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// formerSettings are what a container had beyond what phoenix speaks of when it was destroyed to be made again: what
// people wrote into its notes, its tags and other keys, its pool, and its file of the firewall. Proxmox destroys all of
// it with the container.
type formerSettings struct {
	Config   string  `json:"config"`
	Pool     string  `json:"pool,omitempty"`
	Firewall *string `json:"firewall,omitempty"`
}

// replacedPath keeps it until the new container has it, beside Proxmox's own files, which a power cut does not tear
// apart.
func replacedPath(p spec.Proxmox, id string) string {
	return filepath.Join(p.Dir, "phoenix", "replaced", id)
}

// saveReplaced writes down what a container has before it is destroyed.
func saveReplaced(ctx context.Context, h host.Host, s spec.Container, c *conf) error {
	p := s.Guest.Proxmox
	earlier, err := readReplaced(h, p, s.ID)
	if err != nil {
		return err
	}
	keep := formerSettings{Config: withMounts(s, c, earlier).text()}
	if keep.Pool, _, err = access(h, p, s.ID); err != nil {
		return err
	}
	if keep.Firewall, err = textOf(h, filterPath(p, s.ID)); err != nil {
		return err
	}
	raw, err := json.Marshal(keep)
	if err != nil {
		return err
	}
	before, err := textOf(h, replacedPath(p, s.ID))
	if err != nil || before != nil && *before == string(raw) {
		return err
	}
	res, err := provider.ReplaceProxmox(ctx, h, p, filepath.Join(p.Locks, "lxc", "phoenix-replaced-"+s.ID+".lock"),
		replacedPath(p, s.ID), before, string(raw))
	return explain(s.ID, res, err)
}

// withMounts is a container's file with the mount points of phoenix's volumes that an earlier attempt, which was
// killed, has taken out of it already.
func withMounts(s spec.Container, c *conf, earlier *formerSettings) *conf {
	out := parseConf(c.text())
	if earlier == nil {
		return out
	}
	before := parseConf(earlier.Config)
	for _, v := range s.Guest.Volumes {
		now, _ := out.mountedNow(v.MountPoint)
		if key, have := before.mountedNow(v.MountPoint); now == "" && key != "" {
			out.put(out.free("mp", nil), have.text())
		}
	}
	return out
}

// readReplaced is what was written down; nil: nothing was.
func readReplaced(h host.Host, p spec.Proxmox, id string) (*formerSettings, error) {
	text, err := textOf(h, replacedPath(p, id))
	if err != nil || text == nil {
		return nil, err
	}
	r := &formerSettings{}
	if err := json.Unmarshal([]byte(*text), r); err != nil {
		return nil, provider.PermanentHint(
			fmt.Errorf("what container %s had before it was made again cannot be read: %w", id, err),
			"mv "+replacedPath(p, id)+" /root/")
	}
	return r, nil
}

func forgetReplaced(h host.Host, p spec.Proxmox, id string) error {
	if _, err := h.Lstat(replacedPath(p, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.Remove(replacedPath(p, id))
}

// textOf is what a file holds; nil: there is none.
func textOf(h host.Host, path string) (*string, error) {
	raw, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text := string(raw)
	return &text, nil
}

// access is what user.cfg says of a container: the pool that it is in (empty: none), and who has rights on it. Both are
// gone with the container.
func access(h host.Host, p spec.Proxmox, id string) (pool string, rights []string, err error) {
	text, err := textOf(h, filepath.Join(p.Dir, "user.cfg"))
	if err != nil || text == nil {
		return "", nil, err
	}
	for line := range strings.Lines(*text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case len(f) > 3 && f[0] == "pool" && slices.Contains(strings.Split(f[3], ","), id): // pool:NAME:COMMENT:IDS:
			pool = f[1]
		case len(f) > 4 && f[0] == "acl" && f[2] == "/vms/"+id: // acl:PROPAGATE:PATH:WHO:ROLES:
			rights = append(rights, f[3]+" ("+f[4]+")")
		}
	}
	return pool, rights, nil
}

// poolOf is the pool that a container which is made again was in, as options of pct.
func poolOf(h host.Host, s spec.Container) ([]string, error) {
	r, err := readReplaced(h, s.Guest.Proxmox, s.ID)
	if err != nil || r == nil || r.Pool == "" {
		return nil, err
	}
	return []string{"--pool", r.Pool}, nil
}

// carriedKey are the keys that go over to a new container where phoenix does not set them.
var carriedKey = regexp.MustCompile(`^(cmode|console|cores|cpulimit|cpuunits|debug|dev\d+|entrypoint|env|hookscript|` +
	`memory|nameserver|net\d+|searchdomain|startup|swap|tags|timezone|tty)$`)

// carry gives a container that was made again what the former one had.
func carry(ctx context.Context, h host.Host, s spec.Container) error {
	p := s.Guest.Proxmox
	r, err := readReplaced(h, p, s.ID)
	if err != nil || r == nil {
		return err
	}
	c, err := read(h, p, s.ID)
	if err != nil || c == nil {
		return err
	}
	old := parseConf(r.Config)
	var argv []string
	values := carried(s, old.current(), c)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		argv = append(argv, "--"+key, values[key])
	}
	if len(argv) > 0 {
		if _, err := pct(ctx, h, s.ID, callLimit, append([]string{"set", s.ID}, argv...)...); err != nil {
			return err
		}
	}
	if err := edit(ctx, h, p, s.ID, func(c *conf) bool { return c.addNotes(old.current().description()) }); err != nil {
		return err
	}
	if r.Firewall != nil {
		err = editFilter(ctx, h, p, filterPath(p, s.ID), func(f *filter) { *f = *parseFilter(*r.Firewall) })
	}
	return errors.Join(err, forgetReplaced(h, p, s.ID))
}

// carried are the keys with their values, where the new container does not have them.
func carried(s spec.Container, old *section, c *conf) map[string]string {
	own := map[string]bool{"net0": true}
	for _, w := range plain(s) {
		own[w.key] = true
	}
	out := map[string]string{}
	for _, key := range old.keys() {
		value := old.get(key)
		source := parseProperty(value, "volume").word
		switch {
		case key == "startup" && own[key]: // how long it may take to stop is not phoenix's
			if down := parseProperty(value, "").of["down"]; down != "" {
				out[key] = startup(s) + ",down=" + down
			}
		case carriedKey.MatchString(key) && !own[key] && !strings.HasPrefix(value, nvidia):
			out[key] = value
		case mountKey.MatchString(key) && filepath.IsAbs(source) &&
			!slices.Contains(s.Guest.Gone, filepath.Clean(source)):
			out[key] = value // a directory of the hypervisor that somebody mounted
		}
	}
	out = c.numbered(out)
	maps.Copy(out, parts(s, old, c))
	return out
}

// numbered gives each value a key that the container has not given to anything else, and leaves out those that it has.
func (c *conf) numbered(values map[string]string) map[string]string {
	out := map[string]string{}
	var taken []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		have, value := c.current().get(key), values[key]
		kind := strings.TrimRight(key, "0123456789")
		same := func(k string) bool {
			return strings.TrimRight(k, "0123456789") == kind && c.current().get(k) == value
		}
		if slices.ContainsFunc(c.current().keys(), same) {
			continue
		}
		if indexedKey.MatchString(key) && (have != "" || slices.Contains(taken, key)) {
			key = c.free(kind, append(slices.Collect(maps.Keys(values)), taken...))
		}
		taken = append(taken, key)
		out[key] = value
	}
	return out
}

// parts are the values of phoenix's own interface and mount points, with what somebody added to them, such as a rate.
func parts(s spec.Container, old *section, c *conf) map[string]string {
	out := map[string]string{}
	add := func(key string, have, was property, not ...string) {
		before := have.text()
		for _, k := range was.keys {
			if _, there := have.of[k]; !there && !slices.Contains(not, k) {
				have.set(k, was.of[k])
			}
		}
		if have.text() != before {
			out[key] = have.text()
		}
	}
	if net := c.current().get("net0"); net != "" {
		add("net0", parseProperty(net, ""), parseProperty(old.get("net0"), ""), "ip", "gw", "ip6", "gw6", "firewall")
	}
	for _, v := range s.Guest.Volumes {
		_, was := mountedAt(old.keys(), old.get, v.MountPoint)
		if key, have := c.mountedNow(v.MountPoint); key != "" {
			add(key, have, was, "idmap", "size")
		}
	}
	return out
}

// addNotes adds what people wrote into the notes of a former container; false: it is there.
func (c *conf) addNotes(former []string) bool {
	notes := c.current().description()
	before := len(notes)
	for _, n := range former {
		if !strings.HasPrefix(strings.TrimSpace(n), "phoenix: ") && !slices.Contains(notes[:before], n) {
			notes = append(notes, n)
		}
	}
	if len(notes) > before {
		c.setDescription(notes)
	}
	return len(notes) > before
}

// lostWith is what cannot go over to a container that is made again, for people.
func lostWith(c *conf, rights []string) string {
	var out []string
	if names := c.snapshots(); len(names) > 0 {
		out = append(out, "its snapshots "+strings.Join(names, ", "))
	}
	if len(rights) > 0 {
		out = append(out, "permissions of "+strings.Join(rights, ", "))
	}
	if len(out) == 0 {
		return ""
	}
	return "; lost are " + strings.Join(out, " and ")
}
