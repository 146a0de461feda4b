package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// NewApp is an application that is to be added behind the gateway. What is empty is chosen.
type NewApp struct {
	Name      string
	Port      int
	Scheme    string            // http or https; empty: http
	ID        string            // empty: the first that is free
	Address   netip.Addr        // zero: the first that is free
	Host      string            // full name; empty: the name in the internal zone
	CloneFrom string            // empty: what the other containers are cloned from
	Taken     map[string]string // ids that the machine has besides those of the files, and where
}

// AppEdit is what becomes of the files when an application is added or removed.
type AppEdit struct {
	ID         string   // of the container; empty: there is none to remove
	Address    string   // of the container
	Hosts      []string // names of the route
	Files      []MigratedFile
	Containers string    // name of the containers' file
	Removed    bool      // the container was taken out
	Exists     bool      // to add: the container is in the files already, as it was asked for
	After      diag.List // what Load says of the files that it makes
}

// Changed reports whether a file becomes another.
func (e AppEdit) Changed() bool {
	return slices.ContainsFunc(e.Files, func(f MigratedFile) bool { return string(f.Old) != string(f.New) })
}

// AddApp puts an application into the files: a container with its route, a record that leads to the gateway, and with
// https a certificate of its own with a volume for it. All else stays byte for byte as it is. What is taken is told,
// all at once; then the files stay as they are. What it gives it takes again and changes nothing.
func AddApp(files []File, want NewApp) (AppEdit, diag.List) {
	e, diags := newEditor(files)
	if e == nil {
		return AppEdit{}, diags
	}
	want.Name, want.Host = strings.ToLower(want.Name), strings.ToLower(want.Host)
	want.Scheme = cmp.Or(want.Scheme, "http")
	n := &appAdder{editor: e, NewApp: want}
	n.host()
	if x := e.named(want.Name); x != nil {
		n.existing(x)
	} else {
		n.choose()
	}
	if n.names(); n.list.HasErrors() {
		n.list.Sort()
		return AppEdit{}, n.list
	}
	out := AppEdit{ID: n.ID, Address: n.Address.String(), Hosts: []string{n.Host}, Exists: n.there != nil}
	if n.there == nil {
		e.text.appendMember(e.containers.n, n.ID, func(indent *string) string { return n.container(e.text, indent) })
	}
	n.records()
	return e.finish(out, true)
}

// appAdder works out what an application gets.
type appAdder struct {
	*editor
	NewApp
	zone  *Zone
	there *Container // the container that the application has already
}

// host chooses the name that clients dial, and the zone that it is in.
func (n *appAdder) host() {
	if n.house.entrance() == (netip.Addr{}) {
		n.problem(object.Source{File: n.containers.file, Line: n.containers.at.line},
			"give one container the feature nginx_gateway, and one traefik", "no gateway or proxy is in the files: "+
				"nothing would lead to an application")
	}
	n.Host = cmp.Or(n.Host, fullName(n.Name, n.house.internal))
	for _, z := range n.cfg.Hypervisor.DNS.Zones {
		if strings.HasSuffix(n.Host, "."+z.Name) && (n.zone == nil || len(z.Name) > len(n.zone.Name)) {
			n.zone = z
		}
	}
	if n.zone == nil {
		n.problem(object.Source{File: n.hypervisor.file, Line: n.hypervisor.get("dns_server").at.line},
			"--host takes a name below the zone_name of one of dns_server.authoritative_zones",
			"%s is in no zone of the files", n.Host)
	}
}

// existing compares a container that has the name with what is asked for.
func (n *appAdder) existing(x *Container) {
	var other []string
	differs := func(what, is, want string) {
		if is != want {
			other = append(other, fmt.Sprintf("%s %s, not %s", what, cmp.Or(is, "none"), want))
		}
	}
	if t := x.TraefikService; t == nil {
		other = append(other, "no traefik_service")
	} else {
		differs("port", strconv.Itoa(t.Port), strconv.Itoa(n.Port))
		differs("scheme", cmp.Or(t.Scheme, "http"), n.Scheme)
		if hosts := n.house.hostsOf(t); !slices.Contains(hosts, n.Host) {
			differs("host", strings.Join(hosts, ", "), n.Host)
		}
	}
	differs("id", x.ID, cmp.Or(n.ID, x.ID))
	if n.Address.IsValid() {
		differs("address", x.Network.Address.Addr().String(), n.Address.String())
	}
	differs("clone_from_ctid", x.CloneFrom, cmp.Or(n.CloneFrom, x.CloneFrom))
	if len(other) > 0 {
		n.problem(x.Source, "choose another name, or change that container in the file",
			"the name %s is taken: container %s has %s", n.Name, x.ID, strings.Join(other, ", "))
	}
	n.there, n.ID, n.Address = x, x.ID, x.Network.Address.Addr()
}

// choose takes an id and an address that are free, or tells who has those that were asked for.
func (n *appAdder) choose() {
	n.eachRecord(func(z *Zone, r *Record) {
		if label, _, _ := strings.Cut(r.FullName(z), "."); label == n.Name && r.FullName(z) != n.Host {
			n.problem(r.Source, "choose another name", "the name %s is taken: %s would become a name of the route",
				n.Name, r.FullName(z))
		}
	})
	for _, x := range n.cfg.Containers {
		if t := x.TraefikService; t != nil && strings.EqualFold(t.Name, n.Name) {
			n.problem(t.Source, "choose another name", "the name %s is taken: it is the route to container %s", n.Name,
				x.ID)
		}
	}
	switch x, taken := n.cfg.Container(n.ID); {
	case n.ID == "":
		n.ID = n.freeID()
	case taken:
		n.problem(x.Source, "another id, or none: the first that is free", "the id %s is taken: container %s (%s)", n.ID,
			x.ID, x.Name)
	case n.Taken[n.ID] != "":
		n.problem(object.Source{}, "another id, or none: the first that is free", "the id %s is taken: %s", n.ID,
			n.Taken[n.ID])
	}
	n.chooseAddress()
	if n.CloneFrom != "" {
		if _, known := n.cfg.Container(n.CloneFrom); !known {
			n.problem(object.Source{File: n.containers.file, Line: n.containers.at.line},
				"--clone-from takes the id of a container of the files", "container %s to clone from is not in the files",
				n.CloneFrom)
		}
	}
}

func (n *appAdder) zoneName() string {
	if n.zone == nil {
		return ""
	}
	return n.zone.Name
}

// freeID is the first id behind those of the other applications that nobody has.
func (n *appAdder) freeID() string {
	first, highest := 0, 100
	for _, x := range n.cfg.Containers {
		switch id := number(x.ID); {
		case x.TraefikService != nil && (first == 0 || id < first):
			first = id
		case x.roleCount() > 0:
			highest = max(highest, id)
		}
	}
	if first == 0 {
		first = highest/100*100 + 101
	}
	for id := first; ; id++ {
		_, taken := n.cfg.Container(strconv.Itoa(id))
		if !taken && n.Taken[strconv.Itoa(id)] == "" {
			return strconv.Itoa(id)
		}
	}
}

// chooseAddress takes the address that goes with the id, else the first of the subnet that is free.
func (n *appAdder) chooseAddress() {
	subnet := n.cfg.Hypervisor.Network.Interface.Address
	if n.Address.IsValid() {
		if by, taken := n.addresses[n.Address]; taken {
			n.problem(by, "another address, or none: the first that is free", "the address %s is taken", n.Address)
		} else if !usable(subnet, n.Address) {
			n.problem(n.cfg.Hypervisor.Network.Interface.source("address"), "an address of a host of "+
				subnet.Masked().String(), "the address %s is not one of the bridge's subnet", n.Address)
		}
		return
	}
	at := subnet.Masked().Addr()
	free := func(a netip.Addr) bool { _, taken := n.addresses[a]; return !taken && usable(subnet, a) }
	if own := offset(at, number(n.ID)%1000); free(own) {
		n.Address = own
		return
	}
	for a := at.Next(); subnet.Contains(a); a = a.Next() {
		if free(a) {
			n.Address = a
			return
		}
	}
	n.problem(n.cfg.Hypervisor.Network.Interface.source("address"), "remove an application, or give the bridge a larger "+
		"subnet", "no address of %s is free", subnet.Masked())
}

// usable reports whether a host of the subnet can have the address.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	return a.Is4() && subnet.Contains(a) && a != subnet.Masked().Addr() && a != broadcast(subnet)
}

// offset is the address so many behind another.
func offset(a netip.Addr, by int) netip.Addr {
	b := a.As4()
	for i := 3; i >= 0 && by > 0; i-- {
		by += int(b[i])
		b[i], by = byte(by), by>>8
	}
	return netip.AddrFrom4(b)
}

// backend is the name in the application's own certificate.
func (n *appAdder) backend() string { return n.Name + "-backend." + n.zoneName() }

// names refuses a name that leads elsewhere, or that another has.
func (n *appAdder) names() {
	n.free(n.Host, n.house.entrance())
	if n.Scheme == "https" {
		n.free(n.backend(), n.Address)
	}
}

func (n *appAdder) free(name string, to netip.Addr) {
	n.eachRecord(func(z *Zone, r *Record) {
		if a := r.Addresses(); r.FullName(z) == name && len(a) > 0 && a[0] != to {
			n.problem(r.Source, "another --host, or remove the record", "the name %s is taken: it leads to %s", name, a[0])
		}
	})
	for _, x := range n.cfg.Containers {
		if x == n.there {
			continue
		}
		if t := x.TraefikService; t != nil && slices.Contains(n.house.hostsOf(t), name) {
			n.problem(t.Source, "another --host", "the name %s is taken: it is routed to container %s", name, x.ID)
		}
		for _, c := range x.Certificates {
			if slices.Contains(withFirst(c.CommonName, c.DNSNames), name) {
				n.problem(c.Source, "another --host", "the name %s is taken: it is in a certificate of container %s", name,
					x.ID)
			}
		}
	}
	if s := n.cfg.Hypervisor.StepCA; slices.Contains(withFirst(s.DNSName, s.DNSNames), name) ||
		name == n.house.ownName() {
		n.problem(s.Source, "another --host", "the name %s is taken: it is the CA's or the proxy's own", name)
	}
}

// records adds those that lead to the application where they are missing.
func (n *appAdder) records() {
	var missing [][]field
	need := func(name string, to netip.Addr) {
		known := false
		n.eachRecord(func(z *Zone, r *Record) { known = known || r.FullName(z) == name && len(r.Addresses()) > 0 })
		if !known {
			missing = append(missing, []field{{"hostname", quoted(strings.TrimSuffix(name, "."+n.zone.Name))},
				{"ip_internal", quoted(to.String())}})
		}
	}
	need(n.Host, n.house.entrance())
	if n.Scheme == "https" && (n.there == nil || n.hasCertificate(n.backend())) {
		need(n.backend(), n.Address)
	}
	if len(missing) == 0 {
		return
	}
	w := n.files[n.hypervisor.file]
	for i, z := range n.hypervisor.get("dns_server", "authoritative_zones").list() {
		if n.cfg.Hypervisor.DNS.Zones[i] != n.zone {
			continue
		}
		if m := memberOf(z.n, "records"); m != nil {
			w.extend(m.value, missing, m.from, w.lines(z.n))
			return
		}
		w.appendMember(z.n, "records", func(*string) string {
			return w.list(missing, z.n.members[0].from, w.lines(z.n))
		})
	}
}

func (n *appAdder) hasCertificate(name string) bool {
	return slices.ContainsFunc(n.there.Certificates, func(c *Certificate) bool { return c.CommonName == name })
}
