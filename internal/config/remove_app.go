package config

import (
	"net/netip"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// RemoveApp takes an application out of the files: its container, and the records of its names. What others need is
// told, and then the files stay as they are. The edit has no id where no container has the name.
func RemoveApp(files []File, name string) (AppEdit, diag.List) {
	e, diags := newEditor(files)
	if e == nil {
		return AppEdit{}, diags
	}
	x := e.named(name)
	if x == nil {
		return AppEdit{}, nil
	}
	if e.needed(x); e.list.HasErrors() {
		e.list.Sort()
		return AppEdit{}, e.list
	}
	out := AppEdit{ID: x.ID, Removed: true, Address: x.Network.Address.Addr().String(),
		Hosts: e.house.hostsOf(x.TraefikService)}
	e.text.remove(e.containers.n, func(i int) bool { return e.containers.n.members[i].key == x.ID })
	e.removeRecords(x, out.Hosts)
	return e.finish(out, false)
}

// needed tells why a container is not to be removed.
func (e *editor) needed(x *Container) {
	if x.TraefikService == nil || x.roleCount() > 0 {
		e.problem(x.Source, "remove it from the file by hand, if that is what is meant", "container %s (%s) is no "+
			"application: it has a role of its own, or no traefik_service", x.ID, x.Name)
		return
	}
	for _, other := range e.cfg.Containers {
		if slices.Contains(other.Dependencies, x.ID) {
			e.problem(other.source("dependencies"), "take it out of the dependencies first", "container %s (%s) depends "+
				"on %s", other.ID, other.Name, x.ID)
		}
		if other.CloneFrom == x.ID {
			e.problem(other.source("clone_from_ctid"), "have it cloned from another first", "container %s (%s) is cloned "+
				"from %s", other.ID, other.Name, x.ID)
		}
	}
}

// removeRecords takes out the records of the names that only the application has: those of its route that lead to the
// gateway, and those of its certificates that lead to itself.
func (e *editor) removeRecords(x *Container, hosts []string) {
	own := map[string]netip.Addr{}
	for _, name := range hosts {
		own[name] = e.house.entrance()
	}
	for _, c := range x.Certificates {
		for _, name := range withFirst(c.CommonName, c.DNSNames) {
			own[name] = x.Network.Address.Addr()
		}
	}
	w := e.files[e.hypervisor.file]
	for i, z := range e.hypervisor.get("dns_server", "authoritative_zones").list() {
		zone, list := e.cfg.Hypervisor.DNS.Zones[i], z.get("records")
		if list.n == nil {
			continue
		}
		w.remove(list.n, func(j int) bool {
			r := zone.Records[j]
			to, is := own[r.FullName(zone)]
			a := r.Addresses()
			return is && len(a) > 0 && a[0] == to
		})
	}
}
