package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// container is the entry of a new application, with what its siblings have where nothing else is known.
func (n *appAdder) container(w *rewrite, indent *string) string {
	like := n.sibling()
	f := []field{{"name", quoted(n.Name)}, {"start_at_boot", "true"}, {"boot_order", strconv.Itoa(n.lastOrder())}}
	number := func(key string, value int) {
		if value > 0 {
			f = append(f, field{key, strconv.Itoa(value)})
		}
	}
	number("memory_mb", like.MemoryMB)
	number("cores", like.Cores)
	f = append(f, n.origin())
	if like.StoragePool != "" {
		f = append(f, field{"storage_pool", quoted(like.StoragePool)})
	}
	number("storage_size_gb", like.StorageSizeGB)
	f = append(f, field{"network_config", w.object(n.network(like), w.deeper(indent))})
	if mac := n.mac(); mac != "" {
		f = append(f, field{"mac_address", quoted(mac)})
	}
	features := []string{quoted(FeatureBase)}
	if n.house.ca != nil {
		features = append(features, quoted(FeatureTrustedCA))
	}
	f = append(f, field{"features", "[" + strings.Join(features, ", ") + "]"})
	if slices.ContainsFunc(n.cfg.Containers, func(x *Container) bool { return x.Firewall.Enabled }) {
		f = append(f, field{"firewall", w.object([]field{{"enabled", "true"}}, nil)})
	}
	if n.house.ca != nil {
		f = append(f, field{"dependencies", "[" + quoted(n.house.ca.ID) + "]"})
	}
	f = append(f, field{"traefik_service", w.object(n.service(), nil)})
	if n.Scheme == "https" {
		f = append(f, n.certificate(w, like, indent)...)
	}
	return w.object(f, indent)
}

// sibling is the container that a new application is made like: the last application, else the proxy or the gateway.
func (n *appAdder) sibling() *Container {
	var last *Container
	for _, x := range n.cfg.Containers {
		if x.TraefikService != nil && x.roleCount() == 0 {
			last = x
		}
	}
	for _, x := range []*Container{last, n.house.proxy, n.house.gateway} {
		if x != nil {
			return x
		}
	}
	return n.cfg.Containers[0]
}

func (n *appAdder) lastOrder() int {
	last := 0
	for _, x := range n.cfg.Containers {
		last = max(last, x.BootOrder)
	}
	return min(last+1, 100_000)
}

// origin is what the container is made from: what most others are, unless the call names it.
func (n *appAdder) origin() field {
	if n.CloneFrom != "" {
		return field{"clone_from_ctid", quoted(n.CloneFrom)}
	}
	count, best := map[field]int{}, field{}
	for _, x := range n.cfg.Containers {
		f := field{"clone_from_ctid", quoted(x.CloneFrom)}
		if x.CloneFrom == "" {
			f = field{"template", quoted(x.Template)}
		}
		if n.house.templates[x.ID] {
			continue
		}
		if count[f]++; count[f] > count[best] {
			best = f
		}
	}
	return best
}

func (n *appAdder) network(like *Container) []field {
	f := []field{{"bridge", quoted(n.cfg.Hypervisor.Network.Interface.Name)},
		{"ip", quoted(netip.PrefixFrom(n.Address, n.cfg.Hypervisor.Network.Interface.Address.Bits()).String())}}
	if like.Network.Gateway.IsValid() {
		f = append(f, field{"gw", quoted(like.Network.Gateway.String())})
	}
	if len(like.Network.Nameservers) > 0 {
		f = append(f, field{"nameservers", quoted(strings.Join(like.Network.Nameservers, " "))})
	}
	return f
}

// mac is one that nobody has, made of the address, where the other containers have theirs in the file; where they have
// none, phoenix makes one up.
func (n *appAdder) mac() string {
	taken := func(mac string) bool {
		return slices.ContainsFunc(n.cfg.Containers, func(x *Container) bool { return strings.EqualFold(string(x.MAC), mac) })
	}
	if !slices.ContainsFunc(n.cfg.Containers, func(x *Container) bool { return x.MAC != "" }) {
		return ""
	}
	b := n.Address.As4()
	for try := range 256 {
		mac := fmt.Sprintf("52:54:%02X:%02X:%02X:%02X", try, b[1], b[2], b[3])
		if !taken(mac) {
			return mac
		}
	}
	return ""
}

func (n *appAdder) service() []field {
	f := []field{{"name", quoted(n.Name)}, {"port", strconv.Itoa(n.Port)}}
	if n.Scheme != "http" {
		f = append(f, field{"scheme", quoted(n.Scheme)})
	}
	if n.Host != fullName(n.Name, n.zoneName()) {
		f = append(f, field{"hosts", "[" + quoted(n.Host) + "]"})
	}
	return f
}

// certificate is the application's own, and the volume that its key is on.
func (n *appAdder) certificate(w *rewrite, like *Container, indent *string) []field {
	dir := "/etc/" + n.Name + "/tls"
	volume := []field{{"name", quoted("tls")}}
	if len(like.Volumes) > 0 && like.Volumes[0].Pool != "" {
		volume = append(volume, field{"pool", quoted(like.Volumes[0].Pool)})
	} else if like.StoragePool != "" {
		volume = append(volume, field{"pool", quoted(like.StoragePool)})
	}
	volume = append(volume, field{"size_gb", "1"}, field{"mount_point", quoted(dir)})
	wanted := []field{{"common_name", quoted(n.backend())}, {"cert_path", quoted(dir + "/" + n.Name + ".crt")},
		{"key_path", quoted(dir + "/" + n.Name + ".key")}}
	return []field{{"zfs_volumes", w.one(volume, indent)}, {"certificates", w.one(wanted, indent)}}
}
