package config

import (
	"net/netip"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// User ids of the programs that keep files on volumes: the same in every container, so that a volume outlives its
// container.
const (
	stepUser, stepUID       = "step", 901
	traefikUser, traefikUID = "traefik", 902
)

// Directories of the three containers that matter most, where their own volumes are mounted.
const (
	caDir      = "/etc/step-ca/ssl"
	gatewayDir = "/etc/nginx/ssl"
	proxyDir   = "/etc/traefik/certs"
)

// house is what the containers are to one another.
type house struct {
	ca, gateway, proxy *Container // nil: none
	// ids that others are cloned from and that are cloned from nothing: they never run
	templates map[string]bool
	// of each container: the template at the end of its clone chain; itself where it has none
	origin map[string]string
	// of each container that a root file system is built for: what its clones need, sorted
	packages map[string][]string
	volumes  map[string][]volume // of each container
	internal string              // the zone that derived names are in; empty: none
	zones    []spec.Zone
	names    map[string]netip.Addr // every name of the zones, with the address it leads to
	labelled map[string][]string   // those names by their first label
	routes   []route
}

// volume is storage of one container, however the file asks for it.
type volume struct {
	name, pool, hostPath, target string
	sizeGB, uid, gid             int
	mode                         spec.Mode
	keys, backup, noBackup       bool               // it holds keys; backups hold it; the file says that none does
	share, readOnly              bool               // others may see it too; the container only reads it
	said                         spec.HostDirectory // what of owner and mode stands in the file
	source                       object.Source
}

// route is one container's web server behind Traefik.
type route struct {
	container *Container
	hosts     []string
}

// IsTemplate is whether others are cloned from a container, and it never runs.
func (c *Config) IsTemplate(id string) bool { return survey(c).templates[id] }

func survey(cfg *Config) house {
	h := house{templates: map[string]bool{}, origin: map[string]string{}, packages: map[string][]string{},
		volumes: map[string][]volume{}}
	byID := make(map[string]*Container, len(cfg.Containers))
	for _, c := range cfg.Containers {
		byID[c.ID] = c
	}
	for _, c := range cfg.Containers {
		switch {
		case c.IsCA() && h.ca == nil:
			h.ca = c
		case c.IsGateway() && h.gateway == nil:
			h.gateway = c
		case c.IsProxy() && h.proxy == nil:
			h.proxy = c
		}
		h.origin[c.ID] = origin(byID, c)
		h.packages[h.origin[c.ID]] = nil
		if h.origin[c.ID] != c.ID {
			h.templates[h.origin[c.ID]] = true
		}
	}
	for _, c := range cfg.Containers {
		t := h.origin[c.ID]
		h.packages[t] = append(h.packages[t], packages(c)...)
		h.volumes[c.ID] = volumes(c)
	}
	for t, names := range h.packages {
		slices.Sort(names)
		h.packages[t] = slices.Compact(names)
	}
	h.surveyNames(cfg)
	return h
}

// origin follows the clone chain; the loader has refused cycles, the bound is for what it let pass.
func origin(byID map[string]*Container, c *Container) string {
	for range byID {
		from, ok := byID[c.CloneFrom]
		if !ok {
			break
		}
		c = from
	}
	return c.ID
}

// packages are those that the container needs beyond what every template has.
func packages(c *Container) []string {
	out := slices.Clone(c.Packages)
	if c.IsGateway() {
		out = append(out, "nginx-light")
	}
	return out
}

// volumes are those that the file asks for, and the TLS directory of the three that must have one.
func volumes(c *Container) []volume {
	var out []volume
	for _, v := range c.Volumes {
		one := volume{name: v.Name, pool: v.Pool, target: v.MountPoint, sizeGB: v.SizeGB, backup: v.Backup,
			noBackup: v.has("backup") && !v.Backup, source: v.Source}
		out = append(out, owned(c, one, v.UID, v.GID, v.Mode))
	}
	for _, m := range c.MountPoints {
		one := volume{name: path.Base(m.ContainerPath), hostPath: m.HostPath, target: m.ContainerPath, backup: m.Backup,
			source: m.Source}
		one.noBackup = m.has("backup") && !m.Backup
		one.share, one.readOnly = m.Share, m.ReadOnly
		out = append(out, owned(c, one, m.UID, m.GID, m.Mode))
	}
	if dir := tlsDir(c); dir != "" && !slices.ContainsFunc(out, func(v volume) bool { return v.target == dir }) {
		out = append(out, owned(c, volume{name: path.Base(dir), target: dir, source: c.Source}, nil, nil, nil))
	}
	taken := map[string]bool{}
	for i := range out {
		name := out[i].name
		for n := 2; taken[name]; n++ {
			name = out[i].name + "-" + strconv.Itoa(n)
		}
		out[i].name, taken[name] = name, true
	}
	return out
}

func tlsDir(c *Container) string {
	switch {
	case c.IsCA():
		return caDir
	case c.IsGateway():
		return gatewayDir
	case c.IsProxy():
		return proxyDir
	}
	return ""
}

// owned fills in who may read a volume. Where keys are, that is the one who needs them.
func owned(c *Container, v volume, uid, gid *int, mode *spec.Mode) volume {
	v.mode = 0o755
	keys := v.target == tlsDir(c) ||
		slices.ContainsFunc(c.Certificates, func(x *Certificate) bool { return path.Dir(x.KeyPath) == v.target })
	if keys {
		v.mode, v.keys = 0o700, true
	}
	if c.IsProxy() && v.target == proxyDir {
		v.uid, v.gid = traefikUID, traefikUID
	}
	v.said = spec.HostDirectory{UID: uid != nil, GID: gid != nil, Mode: mode != nil}
	if uid != nil {
		v.uid = *uid
	}
	if gid != nil {
		v.gid = *gid
	}
	if mode != nil {
		v.mode = *mode
	}
	return v
}

// surveyNames works out the zones, with a record for each traefik_service that has none, and who answers for which
// name.
func (h *house) surveyNames(cfg *Config) {
	h.names, h.labelled = map[string]netip.Addr{}, map[string][]string{}
	h.internal = internalZone(cfg)
	for _, z := range cfg.Hypervisor.DNS.Zones {
		for _, r := range z.Records {
			if a := r.Addresses(); len(a) > 0 {
				h.know(r.FullName(z), a[0])
			}
		}
	}
	for _, c := range cfg.Containers {
		if c.TraefikService != nil {
			h.routes = append(h.routes, route{container: c, hosts: h.hostsOf(c.TraefikService)})
		}
	}
	for _, z := range cfg.Hypervisor.DNS.Zones {
		h.zones = append(h.zones, h.zone(z.Name))
	}
}

// know takes a name with the address it leads to; of two the later one stands.
func (h *house) know(name string, address netip.Addr) {
	if _, known := h.names[name]; !known {
		label, _, _ := strings.Cut(name, ".")
		h.labelled[label] = append(h.labelled[label], name)
	}
	h.names[name] = address
}

// hostsOf are a service's names: those that the file gives, and NAME in every zone that knows it; failing that NAME in
// the internal zone, which then leads to the gateway.
func (h *house) hostsOf(t *TraefikService) []string {
	hosts := slices.Concat(t.Hosts, h.labelled[strings.ToLower(t.Name)])
	if len(hosts) == 0 && h.internal != "" {
		name := fullName(t.Name, h.internal)
		hosts = append(hosts, name)
		if entry := h.entrance(); entry.IsValid() {
			h.know(name, entry)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// entrance is where clients go for what Traefik routes.
func (h *house) entrance() netip.Addr {
	switch {
	case h.gateway != nil:
		return h.gateway.Network.Address.Addr()
	case h.proxy != nil:
		return h.proxy.Network.Address.Addr()
	}
	return netip.Addr{}
}

// internalZone is the CA's zone, or the first one.
func internalZone(cfg *Config) string {
	zones := cfg.Hypervisor.DNS.Zones
	for _, z := range zones {
		if strings.HasSuffix("."+cfg.Hypervisor.StepCA.DNSName, "."+z.Name) {
			return z.Name
		}
	}
	if len(zones) == 0 {
		return ""
	}
	return zones[0].Name
}

func (h *house) zone(name string) spec.Zone {
	z := spec.Zone{Name: name}
	for n, a := range h.names {
		if n == name || strings.HasSuffix(n, "."+name) {
			z.Records = append(z.Records, spec.Record{Name: n, Addresses: []string{a.String()}})
		}
	}
	sort.Slice(z.Records, func(i, j int) bool { return z.Records[i].Name < z.Records[j].Name })
	return z
}

// namesAt are the names that lead to a container, sorted.
func (h *house) namesAt(c *Container) []string {
	var out []string
	if c == nil {
		return nil
	}
	for n, a := range h.names {
		if a == c.Network.Address.Addr() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// routed are the names that Traefik answers for, sorted: those of the services, and its own.
func (h *house) routed() []string {
	var out []string
	if h.proxy == nil {
		return nil
	}
	for _, r := range h.routes {
		out = append(out, r.hosts...)
	}
	if own := h.ownName(); own != "" {
		out = append(out, own)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CertificateNames are the names that something in the configuration gets a certificate for, sorted.
func (c *Config) CertificateNames() []string {
	h := survey(c)
	out := slices.Concat(h.namesAt(h.gateway), h.routed())
	for _, x := range c.Containers {
		for _, cert := range x.Certificates {
			out = append(out, withFirst(cert.CommonName, cert.DNSNames)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ownName is Traefik's own name: traefik in the internal zone, where that zone knows it.
func (h *house) ownName() string {
	name := fullName("traefik", h.internal)
	if _, known := h.names[name]; h.proxy == nil || !known {
		return ""
	}
	return name
}
