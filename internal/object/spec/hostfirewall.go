package spec

import "strings"

// KindHostFirewall is a kind of the hypervisor's: hostfirewall/vmbr0, provider firewall: what containers of a bridge
// reach of the hypervisor.
const KindHostFirewall = "hostfirewall"

// HostFirewall restricts what the hypervisor itself accepts from the containers on a bridge, at any of its addresses.
// Others on that bridge are none of its business: a bridge may lead out of the machine.
type HostFirewall struct {
	Name    string   `json:"name"`            // of the table, without its prefix
	Bridge  string   `json:"bridge"`          // where they are
	Address string   `json:"address"`         // the hypervisor's on it
	MACs    []string `json:"macs"`            // the containers', which their identity pins
	DNS     bool     `json:"dns,omitempty"`   // names are answered there
	Allow   []string `json:"allow,omitempty"` // besides: tcp/3128, udp/8000-8010
	Off     bool     `json:"off,omitempty"`   // nothing is restricted
}

// Table is the name of its table of nftables.
func (f HostFirewall) Table() string {
	return "phoenix_host_" + strings.NewReplacer(".", "_", "-", "_").Replace(f.Name)
}
