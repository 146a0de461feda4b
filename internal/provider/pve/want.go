package pve

import (
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// setting is one difference between a container's file and its spec, with what makes it go away.
type setting struct {
	field   plan.Field
	key     string // option of pct set; empty: it is made otherwise
	value   string // empty: the key is deleted
	revert  bool   // what waits for a restart is dropped
	grow    string // key of the volume that is to become as large as value
	raw     bool   // the file is edited
	restart bool   // of raw lines: lxc reads one that differs at a start only
	backup  bool   // value takes the key's place in the file: nothing but Proxmox's backups reads what differs
}

// needsRestart tells what Proxmox changes at the next start only, or lxc reads then.
func (x setting) needsRestart() bool {
	switch x.key {
	case "features", "nameserver", "searchdomain":
		return true
	case "":
		return x.restart
	}
	return x.value == "" && indexedKey.MatchString(x.key) && !x.revert
}

// defaults are what holds where a key is not in the file.
var defaults = map[string]string{"memory": "512", "swap": "512", "onboot": "0", "unprivileged": "0"}

// settings are all differences. known has the volumes that are phoenix's and are there, by address.
func settings(s spec.Container, c *conf, known map[string]record) []setting {
	var out []setting
	add := func(x ...setting) { out = append(out, x...) }
	for _, w := range plain(s) {
		have := c.then(w.key)
		if have == "" {
			have = defaults[w.key]
		}
		if same(w.key, have, w.value) {
			continue
		}
		w.field = plan.Field{Path: w.key, Have: have, Want: w.value}
		add(w)
	}
	for _, key := range gone(s, c) {
		add(setting{field: plan.Field{Path: key, Have: c.current().get(key)}})
	}
	c = withoutGone(s, c)
	add(interfaces(s, c)...)
	add(devices(s, c)...)
	add(mounts(s, c, known)...)
	add(options(s, c)...)
	return out
}

// plain are the keys that have one value, as they should be.
func plain(s spec.Container) []setting {
	out := []setting{{key: "hostname", value: s.Name}}
	put := func(key, value string, when bool) {
		if when {
			out = append(out, setting{key: key, value: value})
		}
	}
	put("memory", strconv.FormatInt(s.MemoryBytes>>20, 10), s.MemoryBytes > 0)
	put("swap", strconv.FormatInt(s.SwapBytes>>20, 10), s.SwapBytes > 0)
	put("cores", strconv.Itoa(s.Cores), s.Cores > 0)
	put("onboot", flag(s.StartAtBoot), true)
	put("startup", startup(s), startup(s) != "")
	put("features", strings.Join(s.Guest.Features, ","), true)
	put("nameserver", strings.Join(s.Nameservers, " "), len(s.Nameservers) > 0)
	put("searchdomain", strings.Join(s.SearchDomains, " "), len(s.SearchDomains) > 0)
	return out
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func startup(s spec.Container) string {
	var parts []string
	if s.BootOrder > 0 {
		parts = append(parts, "order="+strconv.Itoa(s.BootOrder))
	}
	if s.Guest.BootDelay > 0 {
		parts = append(parts, "up="+strconv.Itoa(s.Guest.BootDelay))
	}
	return strings.Join(parts, ",")
}

// same compares by meaning: the order of the parts says nothing, but for name servers.
func same(key, have, want string) bool {
	switch key {
	case "features", "startup":
		h, w := strings.Split(have, ","), strings.Split(want, ",")
		if key == "startup" { // how long it may take to stop is not phoenix's
			h = slices.DeleteFunc(h, func(x string) bool { return strings.HasPrefix(x, "down=") })
		}
		slices.Sort(h)
		slices.Sort(w)
		return slices.Equal(h, w)
	case "nameserver", "searchdomain":
		return slices.Equal(strings.Fields(strings.ReplaceAll(have, ",", " ")), strings.Fields(want))
	case "onboot":
		return (have == "1") == (want == "1")
	}
	return have == want
}

// interfaces compares the first interface. What phoenix does not speak of, such as a rate, stays.
func interfaces(s spec.Container, c *conf) []setting {
	have := c.then("net0")
	p := parseProperty(have, "")
	wanted := [][2]string{{"name", s.Interface.Name}, {"bridge", s.Interface.Bridge},
		{"hwaddr", strings.ToUpper(s.Interface.MAC)},
		{"ip", s.Interface.Address}, {"gw", s.Interface.Gateway}}
	if strings.Contains(s.Interface.Address, ":") {
		wanted[3][0], wanted[4][0] = "ip6", "gw6"
	}
	wanted = append(wanted, [2]string{"ip6", s.Interface.Address6}, [2]string{"gw6", s.Interface.Gateway6})
	if s.Guest.Firewall {
		wanted = append(wanted, [2]string{"firewall", "1"})
	}
	differs := false
	for _, w := range wanted {
		if w[1] != "" && !strings.EqualFold(p.of[w[0]], w[1]) {
			p.set(w[0], w[1])
			differs = true
		}
	}
	if gw := wanted[4]; gw[1] == "" && p.of[gw[0]] != "" { // a clone has its source's
		p.drop(gw[0])
		differs = true
	}
	for key, number := range map[string]*int{"mtu": s.Interface.MTU, "tag": s.Interface.Tag} {
		switch {
		case number == nil: // it stays
		case *number == 0 && p.of[key] != "":
			p.drop(key)
			differs = true
		case *number > 0 && p.of[key] != strconv.Itoa(*number):
			p.set(key, strconv.Itoa(*number))
			differs = true
		}
	}
	if !differs {
		return nil
	}
	p.set("type", "veth")
	return []setting{{field: plan.Field{Path: "net0", Have: have, Want: p.text()}, key: "net0", value: p.text()}}
}

// nvidia is how the devices begin that phoenix takes away again; others are somebody's, unless the file lists devices.
const nvidia = "/dev/nvidia"

// deviceUsers lets every user of a container use what the container was given.
const deviceUsers = ",mode=0666"

func devices(s spec.Container, c *conf) []setting {
	var out []setting
	var taken, there []string
	for _, key := range c.keys() {
		if !deviceKey.MatchString(key) {
			continue
		}
		path := parseProperty(c.then(key), "path").word
		there = append(there, path)
		if (s.Guest.Listed || strings.HasPrefix(path, nvidia)) && !slices.Contains(s.Guest.Devices, path) {
			out = append(out, setting{field: plan.Field{Path: key, Have: c.then(key)}, key: key})
		}
	}
	for _, d := range s.Guest.Devices {
		if slices.Contains(there, d) {
			continue
		}
		key := c.free("dev", taken)
		taken = append(taken, key)
		value := d
		if s.Guest.Listed && !strings.HasPrefix(d, nvidia) {
			value += deviceUsers
		}
		out = append(out, setting{field: plan.Field{Path: key, Want: value}, key: key, value: value})
	}
	return out
}

// mounts compares the volumes by the path that they are mounted at, never by their number.
func mounts(s spec.Container, c *conf, known map[string]record) []setting {
	var out []setting
	var taken []string
	for _, v := range s.Guest.Volumes {
		own := known[volumeAddress(v)].Volume
		key, have := c.mounted(v.MountPoint)
		now, there := c.mountedNow(v.MountPoint)
		switch {
		case now != "" && (key == "" || there.word == own && have.word != own):
			// It would be gone from there after the next restart, or another one in its place.
			out = append(out, setting{field: plan.Field{Path: now, Have: c.then(now), Want: c.current().get(now)},
				key: now, revert: true})
			continue
		case key == "":
			key = c.free("mp", taken)
			taken = append(taken, key)
			out = append(out, setting{field: plan.Field{Path: key, Want: mountValue(v, own)}, key: key,
				value: mountValue(v, own)})
		case v.Backup && have.of["backup"] != "1":
			was := have.text()
			have.set("backup", "1")
			_, waits := c.waiting()[key] // by pct it would wait for a restart
			out = append(out, setting{field: plan.Field{Path: key, Have: was, Want: have.text()}, key: key,
				value: have.text(), backup: !waits})
		}
		if size := sizeOf(have); size > 0 && size < v.SizeBytes {
			out = append(out, growth(key, have, v.SizeBytes))
		}
	}
	root := parseProperty(c.then("rootfs"), "volume")
	if size, want := sizeOf(root), int64(s.Guest.SizeGB)<<30; size > 0 && size < want {
		out = append(out, growth("rootfs", root, want))
	}
	return out
}

func growth(key string, have property, want int64) setting {
	size := gigabytes(want) + "G"
	return setting{field: plan.Field{Path: key + ".size", Have: have.of["size"], Want: size}, grow: key, value: size}
}

// rawOptions are the raw lines that there should be. A directory of the hypervisor is mounted by one: as a mount point
// it would keep Proxmox from making snapshots and clones of the container.
func rawOptions(s spec.Container) []line {
	var out []line
	for _, o := range s.Options {
		out = append(out, line{key: o.Key, value: o.Value})
	}
	if s.PidsMax > 0 {
		out = append(out, line{key: pidsKey, value: strconv.FormatInt(s.PidsMax, 10)})
	}
	for _, b := range s.Guest.Binds {
		out = append(out,
			line{key: "lxc.mount.entry", value: provider.MountEntry(b)})
	}
	return out
}

// options compares the raw lines, all of them: a clone has those of its source, and one too many may open the
// container. Those that map ids are not changed here: the files have to go along.
func options(s spec.Container, c *conf) []setting {
	have, want := listed(c.current().options()), listed(append(rawOptions(s), c.ownIDLines(s)...))
	if slices.Equal(have, want) {
		return nil
	}
	limit := func(o string) bool { return strings.HasPrefix(o, pidsKey+": ") } // a running container has it at once
	restart := !slices.Equal(plainBinds(slices.DeleteFunc(slices.Clone(have), limit)),
		plainBinds(slices.DeleteFunc(slices.Clone(want), limit)))
	return []setting{{field: plan.Field{Path: "lxc", Have: strings.Join(have, "; "), Want: strings.Join(want, "; ")},
		raw: true, restart: restart}}
}

// plainBinds has the lines as provider.PlainBinds writes them.
func plainBinds(lines []string) (out []string) {
	for _, l := range lines {
		out = append(out, provider.PlainBinds(l))
	}
	return out
}

func listed(options []line) []string {
	var out []string
	for _, o := range options {
		out = append(out, o.key+": "+o.value)
	}
	return out
}

// arguments are those of one pct set for all settings that it can make; none: there is nothing for it. Reverting is a
// call of its own.
func arguments(list []setting) (set, revert []string) {
	var gone []string
	for _, x := range list {
		switch {
		case x.key == "" || x.backup:
		case x.revert:
			revert = append(revert, x.key)
		case x.value == "":
			gone = append(gone, x.key)
		default:
			set = append(set, "--"+x.key, x.value)
		}
	}
	if len(gone) > 0 {
		set = append(set, "--delete", strings.Join(gone, ","))
	}
	return set, revert
}
