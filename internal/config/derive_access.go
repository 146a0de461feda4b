package config

import (
	"path"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// runDir is where phoenix keeps what is gone with a boot.
const runDir = "/run/phoenix"

// AccessState is the file that is there as long as phoenix has a part in how the bridge is reached. Machine.Access says
// whether it is.
func AccessState(cfg *Config, root string) string {
	return path.Join(runDir, "access-"+accessName(cfg, root))
}

func accessName(cfg *Config, root string) string {
	return cfg.Hypervisor.Network.Interface.Name + "_" + digest(root)[:4]
}

// access adds how clients of the LAN reach the gateway. Where the file says nothing about it, what is left of it goes.
func (d *derivation) access() {
	h := d.cfg.Hypervisor
	iface := h.Network.Interface
	mode := h.Access
	if mode == "" {
		mode = spec.AccessNone
	}
	if iface.Name == "" || mode == spec.AccessNone && !d.machine.Access {
		return
	}
	s := spec.Access{
		Name: accessName(d.cfg, d.machine.Root), Bridge: iface.Name, Subnet: iface.Address.Masked().String(),
		Mode:  mode,
		State: AccessState(d.cfg, d.machine.Root),
	}
	o := object.Object{Address: object.NewAddress(spec.KindAccess, iface.Name), Provider: "firewall",
		Source: h.source("access")}
	forwards := d.forwards()
	if mode == spec.AccessForward {
		s.Forwards = forwards
	}
	if g := d.entrance(); g != nil {
		o.Container = g.ID
		if mode == spec.AccessForward {
			s.Gateway, s.Ports = g.Network.Address.Addr().String(), []string{"tcp/80", "tcp/443"}
		}
	} else if mode == spec.AccessForward && len(forwards) == 0 {
		d.note(diag.Error, o.Source, "access: forward needs a gateway, and the file has none on "+iface.Name,
			`give a container on it the feature nginx_gateway, or set access to "route" or "none"`)
		return
	}
	d.add(o, s, object.NewAddress(spec.KindNetwork, iface.Name))
}

// entrance is the container that clients talk to: the gateway, else the proxy. It is on the bridge.
func (d *derivation) entrance() *Container {
	for _, c := range []*Container{d.house.gateway, d.house.proxy} {
		if c != nil && c.Network.Bridge == d.cfg.Hypervisor.Network.Interface.Name && c.Network.Address.Addr().Is4() {
			return c
		}
	}
	return nil
}
