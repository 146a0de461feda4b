package health

import (
	"encoding/json"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Machine is what phoenix has on a hypervisor, or would have: what the checks of the machine itself are about.
type Machine struct {
	Directories []string // where containers, volumes and templates are
	Bridge      string
	Address     string   // of the hypervisor on the bridge, with its prefix length
	Listen      []string // addresses of the resolver; empty: there is none
	ResolverDir string   // where the resolver's files are: by them it is told from others
	Upstreams   []string // whom it asks
	Outside     bool     // containers reach what is outside by way of this machine, and not over a port of the bridge
	Creates     bool     // root file systems are yet to be made: they need room
	Mirrors     []string // of Debian, where something is to be fetched from
	Suite       string   // of Debian
	Proxy       string   // URL of the proxy by which apt on this machine reaches its mirrors; empty: none
	Strict      bool     // what works and is limited counts as a failure too
	Proxmox     bool     // pve-firewall keeps the rules
}

var hypervisorItself = object.Object{Address: object.NewAddress("host", "hypervisor")}

// MachineChecks are those of the machine itself, for which no container has to exist.
func MachineChecks(m Machine) []Check {
	b := &model{}
	b.add(kindHeadroom, object.Object{Address: object.NewAddress(spec.KindSysctl, "hypervisor")}, "", nothing{})
	b.machine(m)
	b.add(kindKernel, hypervisorItself, "", kernelParams{Strict: m.Strict})
	b.add(kindHostClock, hypervisorItself, "", mirrorParams{Mirrors: m.Mirrors, Suite: m.Suite, Proxy: m.Proxy})
	if len(m.Mirrors) > 0 {
		b.add(kindMirror, hypervisorItself, "", mirrorParams{Mirrors: m.Mirrors, Suite: m.Suite, Proxy: m.Proxy})
	}
	if len(m.Upstreams) > 0 {
		b.add(kindUpstreams, hypervisorItself, "", m.Upstreams)
	}
	b.order()
	out := make([]Check, len(b.drafts))
	for i, d := range b.drafts {
		out[i] = d.Check
	}
	return out
}

// machine adds the checks that health has too.
func (m *model) machine(x Machine) {
	if x.Bridge != "" && !x.Proxmox {
		m.add(kindOtherRules, object.Object{Address: object.NewAddress(spec.KindNetwork, x.Bridge)}, "",
			rulesOfOthers{Bridge: x.Bridge, Address: x.Address, Resolver: len(x.Listen) > 0, Outside: x.Outside})
	}
	if x.Bridge != "" && x.Address != "" {
		m.add(kindAddress, object.Object{Address: object.NewAddress(spec.KindNetwork, x.Bridge)}, "",
			spec.Network{Bridge: x.Bridge, Address: x.Address})
	}
	if len(x.Listen) > 0 {
		m.add(kindPort53, object.Object{Address: object.NewAddress(spec.KindDNS, x.Bridge)}, "",
			portParams{Listen: x.Listen, Dir: x.ResolverDir, Bridge: x.Bridge})
	}
	if len(x.Directories) > 0 {
		m.add(kindStorage, hypervisorItself, "", storageParams{Directories: x.Directories, Creates: x.Creates})
	}
}

// MachineOf is what the objects say of the machine.
func MachineOf(objects []object.Object) Machine {
	var m Machine
	for _, o := range objects {
		switch o.Address.Kind() {
		case spec.KindNetwork:
			if n, err := decode[spec.Network](o.Spec); err == nil && m.Bridge == "" {
				m.Bridge, m.Address = n.Bridge, n.Address
			}
		case spec.KindDNS:
			if d, err := decode[spec.DNS](o.Spec); err == nil {
				m.Listen, m.ResolverDir, m.Upstreams = d.Listen, d.Dir, d.Upstreams
			}
		case spec.KindContainer:
			if c, err := decode[spec.Container](o.Spec); err == nil {
				m.Proxmox = m.Proxmox || c.Path == ""
				m.Directories = appendNew(m.Directories, c.Path)
			}
		case spec.KindAccess:
			a, err := decode[spec.Access](o.Spec)
			m.Outside = m.Outside || err == nil && a.Mode != spec.AccessNone
		}
	}
	return m
}

func appendNew(list []string, x string) []string {
	if x == "" || slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

// Creates tells whether a root file system of the objects is yet to be made.
func Creates(h host.Host, objects []object.Object) bool {
	return slices.ContainsFunc(objects, func(o object.Object) bool {
		var c spec.Container
		if o.Address.Kind() != spec.KindContainer || json.Unmarshal(o.Spec, &c) != nil || c.Path == "" {
			return false
		}
		_, err := h.Lstat(c.Path + "/" + c.ID + "/rootfs")
		return err != nil
	})
}
