package spec

import "strings"

// KindAccess is a kind of the hypervisor's: access/vmbr0, provider firewall: how clients of the LAN reach what is on a
// bridge.
const KindAccess = "access"

// The modes of Access.
const (
	AccessNone    = "none"    // nothing is forwarded by phoenix
	AccessForward = "forward" // ports lead to the gateway; containers ask outside under its address
	AccessRoute   = "route"   // packets are routed as they are
)

// Access is how the bridge's subnet and the LAN meet, across the interface of the hypervisor's default route (the
// uplink).
type Access struct {
	Name    string   `json:"name"` // of the table, without its prefix
	Bridge  string   `json:"bridge"`
	Subnet  string   `json:"subnet"` // the bridge's: 10.0.0.0/24
	Mode    string   `json:"mode"`
	Gateway string   `json:"gateway,omitempty"` // forward: the address that the ports lead to
	Ports   []string `json:"ports,omitempty"`   // forward: tcp/443
	// Forwards are ports that lead to other containers.
	Forwards []Forward `json:"forwards,omitempty"`
	// State is a file that remembers which interfaces phoenix let forward. It is gone with a boot, as are the table and
	// the kernel's switches.
	State string `json:"state"`
}

// Forward is one port of the hypervisor that leads to a container's.
type Forward struct {
	Port string `json:"port"` // tcp/8000
	To   string `json:"to"`   // 10.0.0.21:8000
}

// Leads are all ports with where they lead to: an address, or an address with a port.
func (a Access) Leads() (out []Forward) {
	for _, p := range a.Ports {
		out = append(out, Forward{p, a.Gateway})
	}
	return append(out, a.Forwards...)
}

// Table is the name of its table of nftables.
func (a Access) Table() string {
	return "phoenix_access_" + strings.NewReplacer(".", "_", "-", "_").Replace(a.Name)
}

// DefaultRoute is the interface of the IPv4 default route with the lowest metric, by the text of /proc/net/route
// (proc_pid_net(5)); empty: there is none.
func DefaultRoute(table string) (device string) {
	best := ""
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		metric := strings.Repeat("0", max(0, 10-len(f[6]))) + f[6] // decimal, as wide as any
		if device == "" || metric < best {
			device, best = f[0], metric
		}
	}
	return device
}
