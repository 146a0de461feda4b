package config

import (
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// allowAll is the entry of allow_from_containers that restricts nothing.
const allowAll = "all"

// hostSide adds what the containers reach of the hypervisor itself. A Proxmox host has a firewall of its own for that.
func (d *derivation) hostSide(network object.Address) {
	iface := d.cfg.Hypervisor.Network.Interface
	if d.proxmox() || !iface.Address.IsValid() {
		return
	}
	s := spec.HostFirewall{
		Name: iface.Name + "_" + digest(d.machine.Root)[:4], Bridge: iface.Name, Address: iface.Address.Addr().String(),
		DNS: d.cfg.Hypervisor.DNS.Enabled,
		Off: slices.Contains(iface.Allow, allowAll), Allow: iface.Allow, MACs: []string{},
	}
	if s.Off {
		s.Allow = nil
	}
	for _, c := range d.cfg.Containers {
		if c.Network.Bridge == iface.Name && !d.house.templates[c.ID] {
			s.MACs = append(s.MACs, d.mac(c))
		}
	}
	slices.Sort(s.MACs)
	s.MACs = slices.Compact(s.MACs)
	d.add(object.Object{Address: object.NewAddress(spec.KindHostFirewall, iface.Name), Provider: "firewall",
		Source: iface.Source}, s, network)
}
