package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Where things are inside containers.
const (
	AgentBinary = "/usr/local/lib/phoenix/phoenix"
	RootFile    = "/usr/local/share/ca-certificates/" + trustName + ".crt"
	trustName   = "phoenix-root"
	agentUnit   = "phoenix-agent.service"
	stateDir    = "/var/lib/phoenix"
)

// Wanted lists the paths whose existence Derive asks for in Machine.Present, each once. The storages are Proxmox's.
func Wanted(cfg *Config, storages []Storage) []string {
	out := []string{spec.UbuntuKeyring, spec.UbuntuSuites}
	for _, c := range cfg.Containers {
		if at := TemplateFile(c.Template, storages); at != "" {
			out = append(out, at)
		}
		out = append(out, gpuDevices(c)...)
		for _, m := range c.MountPoints {
			out = append(out, m.HostPath)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Datasets are the pools that volumes are to be on, each with the names that it may have as a ZFS dataset: its own, and
// the one that the hypervisor's file has for a storage of that name. A pool that is a path has none.
func Datasets(cfg *Config) map[string][]string {
	out := map[string][]string{}
	for _, c := range cfg.Containers {
		for _, v := range c.Volumes {
			if v.Pool == "" || out[v.Pool] != nil {
				continue
			}
			if path.IsAbs(v.Pool) {
				out[v.Pool] = []string{}
				continue
			}
			out[v.Pool] = []string{v.Pool}
			for _, d := range cfg.Hypervisor.ZFS.Datasets {
				if d.Pool+"-"+d.Name == v.Pool && poolName.MatchString(d.Pool+"/"+d.Name) {
					out[v.Pool] = append(out[v.Pool], d.Pool+"/"+d.Name)
				}
			}
		}
	}
	return out
}

// Derive turns a checked configuration into the objects that it asks for, in an order that reads well. The diagnostics
// tell what stands in for what is not on this machine, and what cannot work. The same input gives the same output.
func Derive(cfg *Config, m Machine) ([]object.Object, diag.List) {
	d := &derivation{cfg: cfg, machine: m, house: survey(cfg)}
	d.hostPaths()
	d.kinds()
	d.ranges = d.assign()
	d.tellIDs()
	if !d.proxmox() {
		d.pools()
	}
	d.networks()
	d.node = d.nodeFirewall()
	for _, c := range cfg.Containers {
		_, origin := d.house.packages[c.ID]
		switch {
		case d.proxmox() && d.house.templates[c.ID]:
			d.guestTemplate(c)
		case !d.proxmox() && origin:
			d.template(c)
		}
	}
	for _, c := range cfg.Containers {
		switch {
		case d.house.templates[c.ID]:
			if c.has("firewall") {
				d.note(diag.Note, c.source("firewall"), "container "+c.ID+" is a template, which never runs: its "+
					"firewall is not acted on", "")
			}
		case d.proxmox():
			d.guest(c)
		default:
			d.container(c)
			d.inside(c)
		}
	}
	d.trustHost()
	d.limits()
	d.diags.Sort()
	return d.objects, d.diags
}

type derivation struct {
	cfg     *Config
	machine Machine
	house   house
	objects []object.Object
	diags   diag.List
	node    object.Address     // the Proxmox host's own firewall; empty: none
	ranges  map[string]idRange // of ids, by container

	every    []flow                // what phoenix needs,
	to, from map[netip.Addr][]flow // by either end
}

// add appends an object and returns its address. Its dependencies are added with after.
func (d *derivation) add(o object.Object, s any, after ...object.Address) object.Address {
	raw, err := json.Marshal(s)
	if err != nil { // specs are plain data
		d.diags.Errorf("%s: %v", o.Address, err)
	}
	o.Spec = raw
	for _, a := range after {
		if a != "" && !slices.Contains(o.After, a) {
			o.After = append(o.After, a)
		}
	}
	d.objects = append(d.objects, o)
	return o.Address
}

// on is an object of a container that lives on the hypervisor.
func on(c *Container, kind, provider string, name ...string) object.Object {
	return object.Object{
		Address: object.NewAddress(kind, append([]string{c.ID}, name...)...), Provider: provider, Container: c.ID,
		Source: c.Source,
	}
}

// in is an object that lives inside a container.
func in(c *Container, kind, provider string, name ...string) object.Object {
	o := on(c, kind, provider, name...)
	o.Host = c.ID
	return o
}

func (d *derivation) note(severity diag.Severity, src object.Source, summary, hint string) {
	d.diags = append(d.diags, diag.Diagnostic{Severity: severity, File: src.File, Line: src.Line, Summary: summary,
		Hint: hint})
}

// pools tells once of each pool for root file systems that is not here.
func (d *derivation) pools() {
	where := map[string]int{} // by pool, the place in d.diags
	for _, c := range d.cfg.Containers {
		if _, here := d.machine.Pools[c.StoragePool]; here || c.StoragePool == "" {
			continue
		}
		if i, told := where[c.StoragePool]; told {
			d.diags[i].Detail += ", " + c.ID
			continue
		}
		where[c.StoragePool] = len(d.diags)
		d.note(diag.Note, c.Source, fmt.Sprintf("pool %s is not on this machine; root file systems are local "+
			"directories "+
			"below %s", c.StoragePool, d.machine.Root), "")
		d.diags[len(d.diags)-1].Detail = "in " + c.ID
	}
}

func (d *derivation) networks() {
	iface := d.cfg.Hypervisor.Network.Interface
	if iface.Name == "" {
		return
	}
	network := d.add(object.Object{Address: object.NewAddress(spec.KindNetwork, iface.Name), Provider: "network",
		Source: iface.Source},
		spec.Network{Bridge: iface.Name, Address: iface.Address.String()})
	d.hostSide(network)
	d.access()
	if !d.cfg.Hypervisor.DNS.Enabled {
		return
	}
	s := spec.DNS{Name: iface.Name, Dir: path.Join(d.machine.Root, "dns"),
		Listen: []string{iface.Address.Addr().String()}, Zones: d.house.zones}
	for _, u := range d.cfg.Hypervisor.DNS.Upstreams {
		s.Upstreams = append(s.Upstreams, u.String())
	}
	d.add(object.Object{Address: object.NewAddress(spec.KindDNS, iface.Name), Provider: "dns",
		Source: d.cfg.Hypervisor.DNS.Source}, s, network)
}

func (d *derivation) template(c *Container) {
	s := spec.Template{
		ID: c.ID, Dir: path.Join(d.machine.Root, "templates"), Cache: d.machine.Cache,
		Packages: d.house.packages[c.ID], IDMap: d.templateIDs(c), Snapshot: c.SnapshotName,
	}
	if s.Archive = d.templateHere(c); s.Archive == "" {
		s.Suite = d.built(c)
	}
	d.add(on(c, spec.KindTemplate, "template"), s, d.subID(d.block(s.IDMap)))
}

// subID is the range of ids of a map, for root to give; empty for privileged containers.
func (d *derivation) subID(m spec.IDMap) object.Address {
	if m == (spec.IDMap{}) {
		return ""
	}
	a := object.NewAddress(spec.KindSubID, strconv.Itoa(m.Base))
	if _, ok := object.Find(d.objects, a); !ok {
		d.add(object.Object{Address: a, Provider: "subid"}, m)
	}
	return a
}

// container adds a container's volumes, definition, running and binary.
func (d *derivation) container(c *Container) {
	template := d.house.origin[c.ID]
	if template != c.CloneFrom && c.CloneFrom != "" {
		d.note(diag.Note, c.Source, fmt.Sprintf("container %s is cloned from template %s, where %s comes from", c.ID,
			template, c.CloneFrom), "")
	}
	s := d.definition(c)
	if c.Network.tag() > 0 {
		d.refuse(c.Network.At, "tag", "name a bridge of that VLAN, or use Proxmox", "container %s is to be in VLAN %d: "+
			"without Proxmox bridges have none", c.ID, c.Network.tag())
	}
	s.Path, s.Template = d.lxcPath(c), path.Join(d.machine.Root, "templates", template, "rootfs")
	s.Interface.Port, s.Interface.MAC, s.Programs = PortName(d.machine.Root, c.ID), d.mac(c), d.programs(c)
	after := []object.Address{object.NewAddress(spec.KindTemplate, template)}
	ids, first := d.ownIDs(c)
	for _, v := range d.house.volumes[c.ID] {
		address, volume := d.volume(c, v, first)
		after = append(after, address)
		s.Mounts = append(s.Mounts, mountOf(v, volume))
		alongWith(ids, volume)
	}
	s.Devices = d.given(c)
	d.setIDs(c, ids)
	after = append(after, first, d.subID(d.block(s.IDMap)))
	definition := d.add(on(c, spec.KindContainer, d.machine.Runtime), s, after...)
	need := append([]object.Address{definition}, d.network(c)...)
	need = append(need, d.firewall(c, d.network(c)...))
	check, again := c.HealthCheck.check()
	running := d.add(on(c, spec.KindRunning, d.machine.Runtime),
		d.listens(spec.Running{ID: c.ID, Path: s.Path, Check: check, Again: again}, c), need...)
	port := d.add(on(c, spec.KindPort, "network", c.Network.Name),
		spec.Port{Name: s.Interface.Port, Bridge: c.Network.Bridge}, append(d.network(c), running)...)
	d.add(on(c, spec.KindBinary, d.machine.Runtime), spec.Binary{
		ID: c.ID, Path: s.Path, Source: d.machine.Binary.Path, SHA256: d.machine.Binary.SHA256, Target: AgentBinary,
	}, running, port)
}

// lxcPath is phoenix's own, but for a container that was taken over where it was.
func (d *derivation) lxcPath(c *Container) string {
	if home := d.machine.Homes[c.ID]; home != "" {
		return home
	}
	return path.Join(d.machine.Root, "lxc")
}

// mac is a container's own on the lxc runtime: the file's, else one made of its id. An adopted container gets it while
// it runs.
func (d *derivation) mac(c *Container) string {
	return cmp.Or(string(c.MAC), spec.StableMAC(d.lxcPath(c), c.ID))
}

// definition is what a container is with every runtime.
func (d *derivation) definition(c *Container) spec.Container {
	s := spec.Container{
		ID: c.ID, Name: c.Name, MemoryBytes: int64(c.MemoryMB) << 20, SwapBytes: int64(c.SwapMB) << 20, Cores: c.Cores,
		IDMap:   d.idMap(c),
		Options: c.Options, StartAtBoot: c.StartAtBoot, BootOrder: c.BootOrder, Nameservers: d.nameservers(c),
		SearchDomains: d.searchDomains(),
		Interface: spec.NIC{Name: c.Network.Name, Bridge: c.Network.Bridge, Address: c.Network.Address.String(),
			MAC: string(c.MAC), MTU: c.Network.MTU, Tag: c.Network.Tag},
	}
	if c.Network.Gateway.IsValid() {
		s.Interface.Gateway = c.Network.Gateway.String()
	}
	if c.Network.Address6.IsValid() {
		s.Interface.Address6 = c.Network.Address6.String()
	}
	if c.Network.Gateway6.IsValid() {
		s.Interface.Gateway6 = c.Network.Gateway6.String()
	}
	if s.Cores == 0 {
		s.Cores = d.cfg.Hypervisor.Defaults.LXC.Cores
	}
	if s.MemoryBytes == 0 {
		s.MemoryBytes = int64(d.cfg.Hypervisor.Defaults.LXC.MemoryMB) << 20
	}
	d.memory(c, &s)
	s.PidsMax = d.processes(c, s.MemoryBytes)
	if own := d.cfg.Hypervisor.Network.Interface.Address.Addr().String(); d.cfg.Hypervisor.DNS.Enabled &&
		!d.house.templates[c.ID] && !slices.Contains(s.Nameservers, own) {
		d.note(diag.Warning, c.Network.Source, fmt.Sprintf("container %s asks %s for names, which does not know the "+
			"zones of this house", c.ID, strings.Join(s.Nameservers, ", ")),
			"leave nameservers out, or name "+own)
	}
	return s
}

// programs are those that the container runs. They are there from the start, and later kept by objects of their own.
func (d *derivation) programs(c *Container) []spec.Program {
	out := []spec.Program{{Source: d.machine.Binary.Path, SHA256: d.machine.Binary.SHA256, Target: AgentBinary}}
	add := func(name, target string) {
		if a, ok := d.machine.Artifacts[name]; ok && a.Path != "" {
			out = append(out, spec.Program{Source: a.Path, SHA256: a.SHA256, Target: target})
		}
	}
	switch c {
	case d.house.ca:
		add("step-ca", stepProgram)
	case d.house.proxy:
		add("traefik", traefikProgram)
	}
	return out
}

// PortName is the hypervisor's end of a container's interface: the same at each start, and another one for another
// root's container of the same id. It fits IFNAMSIZ for ids of up to nine digits, Proxmox's longest.
func PortName(root, id string) string { return "v" + id + "p" + digest(root)[:4] }

// network is what must be there before a container starts.
func (d *derivation) network(c *Container) []object.Address {
	if c.Network.Bridge != d.cfg.Hypervisor.Network.Interface.Name {
		return nil
	}
	out := []object.Address{object.NewAddress(spec.KindNetwork, c.Network.Bridge)}
	if d.cfg.Hypervisor.DNS.Enabled {
		out = append(out, object.NewAddress(spec.KindDNS, c.Network.Bridge))
	}
	if !d.proxmox() {
		out = append(out, object.NewAddress(spec.KindHostFirewall, c.Network.Bridge))
	}
	return out
}

func (d *derivation) nameservers(c *Container) []string {
	own := d.cfg.Hypervisor.Network.Interface.Address.Addr().String()
	if len(c.Network.Nameservers) == 0 && d.cfg.Hypervisor.DNS.Enabled {
		return []string{own}
	}
	if len(c.Network.Nameservers) == 0 {
		return d.cfg.Hypervisor.Network.Interface.Nameservers
	}
	return c.Network.Nameservers
}

func (d *derivation) searchDomains() []string {
	if d.house.internal == "" {
		return nil
	}
	return []string{d.house.internal}
}

// mountOf shows a volume in its container.
func mountOf(v volume, made spec.Volume) spec.Mount {
	return spec.Mount{Source: made.Path, Target: made.MountPoint, ReadOnly: v.readOnly}
}

// volume adds one of a container's volumes.
func (d *derivation) volume(c *Container, v volume, after object.Address) (object.Address, spec.Volume) {
	s := spec.Volume{
		Container: c.ID, Name: v.name, Pool: v.pool, Path: path.Join(d.machine.Root, "volumes", c.ID, v.name),
		MountPoint: v.target,
		SizeBytes:  int64(v.sizeGB) << 30, UID: v.uid, GID: v.gid, Mode: v.mode, IDMap: d.idMap(c),
	}
	o := on(c, spec.KindVolume, d.machine.Backend, v.name)
	o.Source = v.source
	switch provider, here := d.machine.Pools[v.pool]; {
	case v.hostPath != "" && d.machine.Present[v.hostPath]:
		o.Provider, s.Path, s.HostDirectory, s.Keys = "dir", d.located(v.hostPath), &v.said, v.keys
		s.HostDirectory.Shared = v.share
	case v.hostPath != "":
		d.note(diag.Note, v.source, fmt.Sprintf("%s is not on this machine; %s of container %s is a local volume, %s",
			v.hostPath, v.target, c.ID, s.Path), "")
	case here:
		o.Provider = provider
		if name, zfs := d.machine.Datasets[v.pool]; zfs {
			s.Pool = name
		}
		if path.IsAbs(v.pool) {
			s.Path = path.Join(v.pool, c.ID, v.name)
		}
	case v.pool != "":
		d.note(diag.Note, v.source, fmt.Sprintf("pool %s is not on this machine; %s of container %s is a local "+
			"volume, %s", v.pool, v.target, c.ID, s.Path), "")
	}
	return d.add(o, s, after), s
}
