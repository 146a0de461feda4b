package config

import (
	_ "embed" // units/phoenix.service
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Installation is how phoenix itself is to stand on a machine.
type Installation struct {
	Program   string   // where the binary is to be
	Arguments []string // of phoenix watch, before the word watch
	Debian    bool     // packages are dpkg's
	Systemd   bool     // systemd is init
}

//go:embed units/phoenix.service
var watchUnit string

// WatchUnit is the unit that keeps a house true.
const WatchUnit = "phoenix.service"

// SetupWanted lists the paths whose existence Setup asks for in Machine.Present.
func SetupWanted(cfg *Config) []string {
	name := cfg.Hypervisor.Network.Interface.Name
	if name == "" {
		return nil
	}
	return []string{linkPath(name), interfacesFile(name)}
}

func linkPath(bridge string) string       { return "/sys/class/net/" + bridge }
func interfacesFile(bridge string) string { return "/etc/network/interfaces.d/phoenix-" + bridge }

// Setup derives what a machine has to have before containers can be made on it: nothing of it belongs to a container.
// It asks for no disk, no partition and no pool. The same input gives the same output.
func Setup(cfg *Config, m Machine, i Installation) ([]object.Object, diag.List) {
	d := &derivation{cfg: cfg, machine: m, house: survey(cfg)}
	packages := d.setupPackages(i)
	d.ranges = d.assign()
	d.tellIDs()
	for _, c := range cfg.Containers {
		d.subID(d.block(d.idMap(c)))
		if r, ok := d.ranges[c.ID]; ok {
			d.subID(d.block(r.own))
		}
	}
	d.setupBridge(packages)
	d.setupStorages(packages)
	d.setupLimits()
	d.setupWatch(i)
	d.diags.Sort()
	return d.objects, d.diags
}

// hypervisor is the scope of objects that belong to no container.
const hypervisor = "hypervisor"

func (d *derivation) setupPackages(i Installation) object.Address {
	names := d.packageNames()
	if len(names) == 0 {
		return ""
	}
	if !i.Debian {
		d.note(diag.Warning, object.Source{}, "this machine has no dpkg: phoenix installs nothing on it",
			"install by hand what Debian calls "+strings.Join(names, ", "))
		return ""
	}
	return d.add(object.Object{Address: object.NewAddress(spec.KindPackage, hypervisor), Provider: "pkg"},
		spec.Package{Names: names})
}

// packageNames are those of Debian whose programs phoenix calls for this configuration.
func (d *derivation) packageNames() []string {
	var out []string
	need := func(when bool, names ...string) {
		if when {
			out = append(out, names...)
		}
	}
	lxc := !d.proxmox()
	need(lxc, "lxc", "uidmap", "iproute2", "util-linux", "ca-certificates", "nftables")
	need(d.builds(), "mmdebstrap", "debian-archive-keyring")
	need(d.cfg.Hypervisor.DNS.Enabled, "dnsmasq-base")
	need(lxc && d.machine.Backend == "btrfs", "btrfs-progs")
	need(lxc && slices.Contains(slices.Collect(maps.Values(d.machine.Pools)), "zfs"), "zfsutils-linux")
	slices.Sort(out)
	return slices.Compact(out)
}

// builds reports whether a template is built here, as its archive is not there.
func (d *derivation) builds() bool {
	return slices.ContainsFunc(d.cfg.Containers, func(c *Container) bool {
		_, origin := d.house.packages[c.ID]
		if d.proxmox() {
			return d.house.templates[c.ID] && c.CloneFrom == "" && d.archiveAbsent(c)
		}
		return origin && d.templateHere(c) == ""
	})
}

// setupBridge adds the bridge, and on a Proxmox host the file that brings it back before Proxmox starts its containers.
func (d *derivation) setupBridge(packages object.Address) {
	iface := d.cfg.Hypervisor.Network.Interface
	if iface.Name == "" {
		return
	}
	file := interfacesFile(iface.Name)
	if d.proxmox() && (d.machine.Present[file] || !d.machine.Present[linkPath(iface.Name)]) {
		d.add(object.Object{Address: object.NewAddress(spec.KindFile, hypervisor+file), Provider: "file",
			Source: iface.Source}, spec.File{
			Path: file, Mode: 0o644, Content: fmt.Sprintf("auto %[1]s\niface %[1]s inet static\n\taddress "+
				"%[2]s\n\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n",
				iface.Name, iface.Address),
		})
		d.note(diag.Note, iface.Source,
			fmt.Sprintf("bridge %s is made without a port: it leads to this machine only", iface.Name),
			"to lead it out, give it a port in Proxmox's network settings")
	}
	d.add(object.Object{Address: object.NewAddress(spec.KindNetwork, iface.Name), Provider: "network",
		Source: iface.Source},
		spec.Network{Bridge: iface.Name, Address: iface.Address.String()}, packages)
}

// setupStorages adds those that containers name and Proxmox does not have: beside the ZFS datasets that containers are
// on already, else as directories.
func (d *derivation) setupStorages(packages object.Address) {
	if !d.proxmox() {
		return
	}
	for _, c := range d.cfg.Containers {
		d.setupStorage(c.StoragePool, c.Source)
		for _, v := range d.house.volumes[c.ID] {
			d.setupStorage(v.pool, v.source)
		}
	}
}

func (d *derivation) setupStorage(name string, src object.Source) {
	a := object.NewAddress(spec.KindStorage, name)
	_, asked := object.Find(d.objects, a)
	i := slices.IndexFunc(d.machine.Storages, func(s Storage) bool { return s.ID == name })
	switch {
	case name == "" || asked:
		return
	case i >= 0 && !d.machine.Storages[i].takes():
		d.once(diag.Warning, src, fmt.Sprintf("storage %s does not take containers", name),
			"pvesm set "+name+" --content rootdir,"+strings.Join(d.machine.Storages[i].Content, ","))
		return
	case i >= 0:
		return
	}
	s := spec.Storage{ID: name, Content: []string{"rootdir", "images"}, Proxmox: *d.machine.Proxmox}
	if s.Dataset = d.dataset(name); s.Dataset == "" {
		s.Content = []string{"rootdir"}
		s.Directory = path.Join(d.machine.Root, "storage", name)
		d.note(diag.Note, src, fmt.Sprintf("storage %s becomes a directory: no storage of this host is on ZFS, and "+
			"directories take no snapshots", name), "")
	}
	d.add(object.Object{Address: a, Provider: "pve", Source: src}, s)
}

// dataset is where a storage of that name goes on a ZFS pool that containers are on already; empty: there is none.
// People name the storage tank-disks that is tank/disks.
func (d *derivation) dataset(name string) string {
	first := ""
	for _, s := range d.machine.Storages {
		pool, _, _ := strings.Cut(s.Pool, "/")
		if s.Type != "zfspool" || !s.takes() || pool == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(name, pool+"-"); ok && rest != "" {
			return pool + "/" + rest
		}
		if first == "" {
			first = pool + "/" + name
		}
	}
	return first
}

// setupWatch adds phoenix itself, and the unit that keeps the house true from the next boot on.
func (d *derivation) setupWatch(i Installation) {
	program := d.add(object.Object{Address: object.NewAddress(spec.KindFile, hypervisor+i.Program), Provider: "file"},
		spec.File{Path: i.Program, SHA256: d.machine.Binary.SHA256, Mode: 0o755})
	if !i.Systemd {
		d.note(diag.Warning, object.Source{}, "this machine is not run by systemd: nothing starts phoenix watch",
			"have your init run "+i.Program+" watch")
		return
	}
	d.add(object.Object{Address: object.NewAddress(spec.KindUnit, hypervisor, WatchUnit), Provider: "unit"}, spec.Unit{
		Name: WatchUnit, Content: strings.Replace(watchUnit, "@COMMAND@",
			execStart(append(append([]string{i.Program}, i.Arguments...), "watch")), 1),
		Inputs: d.machine.Binary.SHA256, AtBoot: true,
	}, program)
}

// execStart is a command line as systemd.service(5) reads it.
func execStart(argv []string) string {
	var out []string
	for _, a := range argv {
		a = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(a)
		if strings.ContainsAny(a, " \t'\";") {
			a = `"` + a + `"`
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}
