package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Migration is the way of the users' files from the shared directory to own volumes.
type Migration struct {
	Files   []MigratedFile
	Changes []MigrationChange // empty: there is nothing to migrate
	Before  diag.List         // what Load says of the files as they are
	After   diag.List         // and of what they become
}

// MigratedFile is one file as it is and as it becomes; both are the same where nothing in it changes.
type MigratedFile struct {
	Name     string
	Old, New []byte
}

// MigrationChange is one thing that is different, and why.
type MigrationChange struct {
	Source object.Source // in the old file
	Object string
	What   string
}

// Migrate rewrites files from the layout with one shared directory: what two containers see is taken out, and the
// certificate authority, the gateway and the proxy get volumes of their own. All else stays byte for byte as it is.
// Files that are no JSON are left alone, Before says why. What it gives it takes again and changes nothing.
func Migrate(files []File) Migration {
	l, _ := load(files)
	out := Migration{Before: l.diags, After: l.diags}
	for _, f := range files {
		out.Files = append(out.Files, MigratedFile{Name: f.Name, Old: f.Data, New: f.Data})
	}
	if l.broken {
		return out
	}
	m := &migration{cfg: l.cfg, texts: l.texts(files)}
	m.run()
	if len(m.changes) == 0 {
		return out
	}
	out.Changes = m.changes
	var again []File
	for i := range out.Files {
		f := &out.Files[i]
		if w := m.files[f.Name]; w != nil && len(w.edits) > 0 {
			f.New = append(f.Old[:len(f.Old)-len(w.data):len(f.Old)-len(w.data)], w.result()...)
		}
		again = append(again, File{Name: f.Name, Data: f.New})
	}
	_, out.After = Load(again)
	return out
}

// bom is the byte order mark, which some editors put first.
const bom = "\ufeff"

type migration struct {
	texts
	cfg     *Config
	changes []MigrationChange

	ca, gateway, proxy string // ids
	entries            []*entry
}

// entry is a mount_points element of one container.
type entry struct {
	spot
	container    string
	host, target string // clean
	index        int    // in the list
	drop         bool
	own          bool // a volume takes its place
	share        bool // it is seen by others on purpose
}

func (m *migration) note(s spot, object, format string, args ...any) {
	m.changes = append(m.changes,
		MigrationChange{Source: m.source(s), Object: object, What: fmt.Sprintf(format, args...)})
}

func (m *migration) source(s spot) object.Source { return object.Source{File: s.file, Line: s.at.line} }

func (m *migration) run() {
	m.roles()
	m.collect()
	m.choose()
	if m.containers.n != nil {
		for _, c := range m.cfg.Global.InFileOrder {
			m.container(c)
		}
	}
	m.sharedVolumes()
}

// roles finds the three containers, and takes step_ca from a gateway or proxy where another container is the CA.
func (m *migration) roles() {
	for _, c := range m.cfg.Global.InFileOrder {
		client := c.IsGateway() || c.IsProxy()
		switch {
		case c.IsCA() && !client && m.ca == "":
			m.ca = c.ID
		case c.IsGateway() && m.gateway == "":
			m.gateway = c.ID
		case c.IsProxy() && m.proxy == "":
			m.proxy = c.ID
		}
	}
	if m.ca == "" {
		return
	}
	for _, c := range m.cfg.Global.InFileOrder {
		if c.IsGateway() || c.IsProxy() {
			m.client(c)
		}
	}
}

// client makes a container that the old scripts gave the whole of step-ca a client of the CA.
func (m *migration) client(c *Container) {
	list := m.containers.get(c.ID, "features")
	if !c.Has(FeatureStepCA) || list.n == nil {
		return
	}
	has := c.Has(FeatureStepCLI)
	drop := func(i int) bool { return list.n.items[i].text == FeatureStepCA && list.n.items[i].kind == aString }
	for i, item := range list.list() {
		if !drop(i) {
			continue
		}
		m.note(item, "container/"+c.ID, "feature step_ca becomes step_cli: container %s is a client of the CA, which "+
			"is container %s", c.ID, m.ca)
		if !has {
			m.text.replace(item.n.from, item.n.to, `"`+FeatureStepCLI+`"`)
		}
	}
	if has && m.text.drop(list.n, parts(list.n, drop)) {
		m.text.replace(list.n.from, list.n.to, "[]")
	}
}

// collect reads the mount_points of all containers.
func (m *migration) collect() {
	for _, c := range m.cfg.Global.InFileOrder {
		for i, s := range m.containers.get(c.ID, "mount_points").list() {
			host, target := s.get("host_path").text(), s.get("container_path").text()
			if strings.HasPrefix(host, "/") {
				m.entries = append(m.entries, &entry{spot: s, container: c.ID, host: cleanPath(host),
					target: cleanPath(target), index: i, share: i < len(c.MountPoints) && c.MountPoints[i].Share})
			}
		}
	}
}

// home is where a container of the three has its own volume.
func (m *migration) home(id string) string {
	switch id {
	case "":
	case m.ca:
		return caDir
	case m.gateway:
		return gatewayDir
	case m.proxy:
		return proxyDir
	}
	return ""
}

func (e *entry) overlaps(o *entry) bool {
	return e.container != o.container && !(e.share && o.share) && (within(e.host, o.host) || within(o.host, e.host))
}

// named reports whether the directory is called after its container.
func (e *entry) named() bool { return slices.Contains(strings.Split(e.host, "/"), e.container) }

// choose decides what is taken out. Of a directory that two containers see the one keeps it that it is named for, or
// the first; but where keys were seen by another container, they are not kept: the container gets a new volume.
func (m *migration) choose() {
	order := slices.Clone(m.entries)
	slices.SortStableFunc(order, func(a, b *entry) int { return rank(a.named()) - rank(b.named()) })
	for i, e := range order {
		shared := slices.ContainsFunc(order, e.overlaps)
		keys := e.target == m.home(e.container)
		switch {
		case shared && (keys || slices.ContainsFunc(order[:i], e.overlaps)):
			e.drop = true
			e.own = !keys && !m.ofCA(e)
		case m.redundant(e, order[:i]):
			e.drop = true
		}
	}
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// ofCA reports whether an entry shows what belongs to the CA, of which a client needs nothing.
func (m *migration) ofCA(e *entry) bool {
	if e.container != m.ca && within(e.target, path.Dir(caDir)) {
		return true
	}
	return slices.ContainsFunc(m.entries,
		func(o *entry) bool { return o.container == m.ca && o.target == caDir && e.overlaps(o) })
}

// redundant reports whether a client's mount shows the CA's directory, or a directory that the container has at another
// place.
func (m *migration) redundant(e *entry, before []*entry) bool {
	if e.container == m.ca || m.home(e.container) == "" {
		return false
	}
	return m.ca != "" && within(e.target, path.Dir(caDir)) || e.target != m.home(e.container) &&
		slices.ContainsFunc(m.entries, func(o *entry) bool {
			return o.container == e.container && o.host == e.host && o != e &&
				(o.target == m.home(e.container) || slices.Contains(before, o))
		})
}

// container takes the mounts of one container out, and gives it its volumes.
func (m *migration) container(c *Container) {
	mine := slices.DeleteFunc(slices.Clone(m.entries), func(e *entry) bool { return e.container != c.ID })
	here := m.containers.get(c.ID)
	var volumes [][]field
	for _, e := range mine {
		if e.drop {
			m.note(e.spot, "container/"+c.ID, "%s is not mounted at %s any more: %s", e.host, e.target, m.reason(e))
		}
		if e.drop && e.own && m.free(here, e.target, mine) {
			volumes = append(volumes, m.volume(c, here, e.target, e, volumes))
		}
	}
	if dir := m.home(c.ID); dir != "" && m.free(here, dir, mine) {
		var old *entry
		if i := slices.IndexFunc(mine,
			func(e *entry) bool { return e.drop && (e.target == dir || m.ofCA(e)) }); i >= 0 {
			old = mine[i]
		}
		volumes = append(volumes, m.volume(c, here, dir, old, volumes))
	}
	if list := here.get("zfs_volumes"); list.n != nil && list.n.kind != aList {
		volumes = nil // Load tells that it is none
	}
	for _, v := range volumes {
		m.note(here, "container/"+c.ID, "gets a volume of its own at %s", strings.Trim(value(v, "mount_point"), `"`))
	}
	m.write(here, mine, volumes)
}

func (m *migration) reason(e *entry) string {
	others := slices.DeleteFunc(slices.Clone(m.entries), func(o *entry) bool { return !e.overlaps(o) })
	if len(others) == 0 {
		return "the container needs nothing of it"
	}
	o := slices.MinFunc(others, func(a, b *entry) int { return rank(a.named()) - rank(b.named()) })
	return fmt.Sprintf("container %s sees it too, at %s", o.container, m.source(o.spot))
}

// free reports whether nothing is mounted at target once the dropped entries are out.
func (m *migration) free(here spot, target string, mine []*entry) bool {
	for _, v := range here.get("zfs_volumes").list() {
		if cleanPath(v.get("mount_point").text()) == target {
			return false
		}
	}
	return target != "." && !slices.ContainsFunc(mine, func(e *entry) bool { return !e.drop && e.target == target })
}

// volume is a new volume at target, in the place of old if that is not nil. more are the container's other new ones.
func (m *migration) volume(c *Container, here spot, target string, old *entry, more [][]field) []field {
	taken := func(name string) bool {
		has := func(v spot) bool { return strings.EqualFold(v.get("name").text(), name) }
		return slices.ContainsFunc(here.get("zfs_volumes").list(), has) ||
			slices.ContainsFunc(more, func(f []field) bool { return strings.EqualFold(value(f, "name"), `"`+name+`"`) })
	}
	base := volumeWord(path.Base(target))
	name := base
	for n := 2; taken(name); n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	out := []field{{"name", quoted(name)}}
	if pool := m.pool(c, here, old); pool != "" {
		out = append(out, field{"pool", quoted(pool)})
	}
	home := target == m.home(c.ID)
	if home {
		out = append(out, field{"size_gb", "1"})
	}
	out = append(out, field{"mount_point", quoted(target)})
	if home {
		if c.ID == m.ca {
			out = append(out, field{"backup", "true"})
		}
		return out
	}
	for _, key := range []string{"owner_uid", "owner_gid", "mode", "backup"} {
		if v := old.get(key); v.n != nil && v.n.kind != anObject && v.n.kind != aList {
			out = append(out, field{key, string(m.text.data[v.n.from:v.n.to])})
		}
	}
	return out
}

// volumeWord is a name that a volume can have.
func volumeWord(s string) string {
	s = strings.Trim(strings.Map(func(r rune) rune {
		if r < 0x80 && volumeName.MatchString("a"+string(r)) {
			return r
		}
		return '-'
	}, s), "-_")
	return cmp.Or(s[:min(len(s), 40)], "data")
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // strings always encode
		return `""`
	}
	return string(b)
}

func value(fields []field, key string) string {
	for _, f := range fields {
		if f.key == key {
			return f.value
		}
	}
	return ""
}

// pool is where the new volume goes: where the old directory was, if the hypervisor's file says what that is; else as
// other volumes of the container, of the file, or the container's own disk.
func (m *migration) pool(c *Container, here spot, old *entry) string {
	if old != nil {
		for _, d := range m.hypervisor.get("zfs", "datasets").list() {
			pool, name := d.get("pool").text(), d.get("name").text()
			base := cmp.Or(m.hypervisor.get("mount_point_base").text(), "/mnt/pve")
			storage := pool + "-" + name
			if pool != "" && name != "" && poolName.MatchString(storage) &&
				strings.HasPrefix(old.host, cleanPath(base+"/"+pool+"/"+name)+"/") {
				return storage
			}
		}
	}
	lists := []spot{here.get("zfs_volumes")}
	for _, other := range m.cfg.Global.InFileOrder {
		lists = append(lists, m.containers.get(other.ID, "zfs_volumes"))
	}
	for _, list := range lists {
		for _, v := range list.list() {
			if p := v.get("pool").text(); poolName.MatchString(p) {
				return p
			}
		}
	}
	if poolName.MatchString(c.StoragePool) {
		return c.StoragePool
	}
	return ""
}

// write edits one container: its mount_points, and zfs_volumes, which take their place where there were none.
func (m *migration) write(here spot, mine []*entry, volumes [][]field) {
	drop := func(i int) bool {
		return slices.ContainsFunc(mine, func(e *entry) bool { return e.index == i && e.drop })
	}
	points, list := memberOf(here.n, "mount_points"), memberOf(here.n, "zfs_volumes")
	gone := false
	if points != nil && slices.ContainsFunc(mine, func(e *entry) bool { return e.drop }) {
		gone = m.text.drop(points.value, parts(points.value, drop))
	}
	lines := len(here.n.members) > 0 && strings.Contains(m.text.gap(here.n.from+1, here.n.members[0].from), "\n")
	switch {
	case len(volumes) == 0:
	case list != nil:
		m.text.extend(list.value, volumes, list.from, lines)
	case gone:
		m.text.replace(points.from, points.value.to, m.key("zfs_volumes")+m.text.list(volumes, points.from, lines))
		return
	case len(here.n.members) > 0:
		last := here.n.members[len(here.n.members)-1]
		between := cmp.Or(m.text.gap(here.n.from+1, here.n.members[0].from), " ")
		// Behind the edits inside of the last member: they begin before its end.
		m.text.replace(last.value.to, last.value.to,
			","+between+m.key("zfs_volumes")+m.text.list(volumes, here.n.members[0].from, lines))
	}
	if gone {
		member := func(i int) bool { return here.n.members[i].key == "mount_points" }
		if m.text.drop(here.n, parts(here.n, member)) {
			m.text.replace(here.n.from, here.n.to, "{}")
		}
	}
}

func (m *migration) key(key string) string {
	if bytes.Contains(m.text.data, []byte(`": `)) || !bytes.Contains(m.text.data, []byte(`":`)) {
		return `"` + key + `": `
	}
	return `"` + key + `":`
}

func memberOf(n *node, key string) *member {
	if n == nil {
		return nil
	}
	i := slices.IndexFunc(n.members, func(m member) bool { return m.key == key })
	if i < 0 {
		return nil
	}
	return &n.members[i]
}

// sharedVolumes takes the containers of the file out of the hypervisor's shared volumes. Those that are gone stay as
// they are.
func (m *migration) sharedVolumes() {
	all := m.hypervisor.get("shared_volumes")
	if all.n == nil || m.containers.n == nil {
		return
	}
	w := m.files[m.hypervisor.file]
	for _, v := range all.n.members {
		mounts := all.get(v.key, "mounts")
		if mounts.n == nil {
			continue
		}
		drop := func(i int) bool { return i < len(mounts.n.members) && m.known(mounts.n.members[i].key) }
		for i, line := range mounts.n.members {
			if drop(i) {
				m.note(mounts.get(line.key), "container/"+line.key, "the shared volume %s (%s) does not name "+
					"container %s any more: phoenix mounts no shared volumes",
					printable(v.key), all.get(v.key, "host_path").text(), line.key)
			}
		}
		if len(mounts.n.members) > 0 && w.drop(mounts.n, parts(mounts.n, drop)) {
			w.replace(mounts.n.from, mounts.n.to, "{}")
		}
	}
}

func (m *migration) known(id string) bool {
	return validID(id) && m.containers.get(id).n != nil
}
