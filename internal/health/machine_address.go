package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// namedLink is a link as ip shows it.
type namedLink struct {
	Name      string `json:"ifname"`
	Addresses []struct {
		Local  string `json:"local"`
		Prefix int    `json:"prefixlen"`
	} `json:"addr_info"`
}

type ipRoute struct {
	Destination string `json:"dst"`
	Device      string `json:"dev"`
}

// runAddress looks for another link of this machine with the bridge's address, or whose subnet overlaps the bridge's:
// then packets for containers go there.
func runAddress(ctx context.Context, h host.Host, c Check, n spec.Network) Result {
	own, err := netip.ParsePrefix(n.Address)
	if err != nil || own.Bits() == own.Addr().BitLen() { // hosters route one address over several links
		return c.pass("the subnet of "+n.Bridge+" is not another link's", n.Address)
	}
	var links []namedLink
	var routes []ipRoute
	for argument, into := range map[string]any{"addr": &links, "route": &routes} {
		res, err := h.Run(ctx, host.Command{Argv: []string{"ip", "-4", "-j", argument, "show"}})
		if err == nil && len(strings.TrimSpace(string(res.Stdout))) > 0 {
			err = json.Unmarshal(res.Stdout, into)
		}
		if err != nil {
			return c.fail("the addresses and routes of this machine cannot be read", why(err), "ip -4 addr show")
		}
	}
	if device, what := takenBy(n.Bridge, own, links, routes); device != "" {
		return c.fail(fmt.Sprintf("the subnet of %s is in use by %s", n.Bridge, maker(device)),
			fmt.Sprintf("%s; %s is to have %s", what, n.Bridge, n.Address), c.moveFix(device, n))
	}
	return c.pass("the subnet of "+n.Bridge+" is not another link's", own.Masked().String())
}

// takenBy is a link that has the subnet, or a part of it.
func takenBy(bridge string, own netip.Prefix, links []namedLink, routes []ipRoute) (device, what string) {
	for _, l := range links {
		for _, a := range l.Addresses {
			at, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", a.Local, a.Prefix))
			if err == nil && l.Name != bridge && at.Masked().Overlaps(own.Masked()) && at.Bits() < at.Addr().BitLen() ||
				err == nil && l.Name != bridge && at.Addr() == own.Addr() {
				return l.Name, l.Name + " has " + at.String()
			}
		}
	}
	for _, r := range routes {
		to, err := netip.ParsePrefix(r.Destination)
		if err == nil && r.Device != bridge && to.Bits() >= own.Bits() && to.Bits() < to.Addr().BitLen() &&
			to.Overlaps(own.Masked()) {
			return r.Device, to.String() + " is routed to " + r.Device
		}
	}
	return "", ""
}

// maker names a link, and who makes links of such a name.
func maker(device string) string {
	for prefix, who := range map[string]string{"docker": "Docker", "br-": "Docker", "virbr": "libvirt", "lxcbr": "lxc-net",
		"lxdbr": "LXD", "incusbr": "Incus", "podman": "Podman", "cni": "Kubernetes", "flannel": "Kubernetes",
		"wg": "WireGuard", "tun": "a VPN", "tap": "a VPN", "tailscale": "Tailscale"} {
		if strings.HasPrefix(device, prefix) {
			return device + " (" + who + ")"
		}
	}
	return device
}

// moveFix: the bridge goes elsewhere, as whoever has the subnet has it for a reason, but where it is known how to take
// that away.
func (c Check) moveFix(device string, n spec.Network) string {
	fix := fmt.Sprintf(`choose another subnet: "network": {"interface": {"name": %q, "address": …}} in `+
		"phoenix_hypervisor_config.json, and the containers' addresses in it", n.Bridge)
	switch {
	case strings.HasPrefix(device, "br-"), strings.HasPrefix(device, "docker"):
		return fix + "; or remove Docker's network: docker network ls, docker network rm NAME"
	case strings.HasPrefix(device, "virbr"):
		return fix + "; or, if nobody needs it: virsh net-destroy default && virsh net-autostart --disable default"
	case strings.HasPrefix(device, "lxcbr"):
		return fix + "; or, if nobody needs it: systemctl disable --now lxc-net.service"
	}
	return fix + "; ip -4 addr show dev " + device + " shows what is there"
}
