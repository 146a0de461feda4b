package health

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// portParams are the addresses that the resolver needs for itself.
type portParams struct {
	Listen []string `json:"listen"`
	Dir    string   `json:"dir,omitempty"`
	Bridge string   `json:"bridge"`
}

const dnsPort = 53

// runPort53 looks for another resolver at the addresses of phoenix's own, or at all addresses of the machine.
func runPort53(_ context.Context, h host.Host, c Check, p portParams) Result {
	holders, err := host.PortHolders(h, dnsPort)
	if err != nil {
		return c.fail("who has port 53 is not known", err.Error(), "ss -lnp 'sport = :53' says who")
	}
	for _, x := range holders {
		if !p.takes(x) || p.isOwn(x) {
			continue
		}
		at := x.Address.String()
		if x.Address.IsUnspecified() {
			at = "all addresses"
		}
		return c.fail(fmt.Sprintf("port 53, which the resolver of %s needs, is taken by %s", p.Bridge, holderName(x)),
			fmt.Sprintf("%s port 53 at %s: %s", x.Protocol, at, strings.Join(x.Argv, " ")), p.freeFix(x))
	}
	return c.pass("port 53 is free for the resolver, or it has it", strings.Join(p.Listen, " "))
}

func holderName(x host.Holder) string {
	switch {
	case x.PID == "":
		return "a process that cannot be found"
	case x.Unit != "":
		return fmt.Sprintf("%s (process %s, %s)", x.Name, x.PID, x.Unit)
	}
	return fmt.Sprintf("%s (process %s)", x.Name, x.PID)
}

func (p portParams) takes(x host.Holder) bool {
	return x.Address.IsUnspecified() || slices.ContainsFunc(p.Listen, func(at string) bool {
		a, err := netip.ParseAddr(at)
		return err == nil && a == x.Address
	})
}

// isOwn tells this site's resolver from others by the file that it was started with.
func (p portParams) isOwn(x host.Holder) bool {
	return p.Dir != "" && x.Name == "dnsmasq" && slices.ContainsFunc(x.Argv, func(arg string) bool {
		_, file, _ := strings.Cut(arg, "=")
		return filepath.Dir(file) == filepath.Clean(p.Dir)
	})
}

// freeFix is how that program leaves the address alone.
func (p portParams) freeFix(x host.Holder) string {
	at := first(p.Listen)
	switch argv := strings.Join(x.Argv, " "); {
	case strings.HasPrefix(x.Name, "systemd-resolve"):
		return "take DNSStubListenerExtra= out of /etc/systemd/resolved.conf and resolved.conf.d, then systemctl restart " +
			"systemd-resolved; at 127.0.0.53 it is in nobody's way"
	case strings.Contains(argv, "libvirt/dnsmasq/"):
		network := strings.TrimSuffix(filepath.Base(argv[strings.Index(argv, "libvirt/dnsmasq/"):]), ".conf")
		network, _, _ = strings.Cut(network, ".conf ")
		return fmt.Sprintf("virsh net-destroy %[1]s && virsh net-autostart --disable %[1]s; or choose another address "+
			"for network.interface in phoenix_hypervisor_config.json", network)
	case x.Unit == "lxc-net.service" || strings.Contains(argv, "lxcbr0"):
		return "systemctl disable --now lxc-net.service"
	case strings.Contains(argv, "/dns/") && x.Name == "dnsmasq" && x.Unit == "":
		return "it belongs to a site of another --root: delete that one, or choose another address for network.interface"
	case x.Name == "dnsmasq" && x.Unit != "":
		return fmt.Sprintf("printf 'bind-dynamic\\nexcept-interface=%s\\n' > /etc/dnsmasq.d/phoenix.conf && systemctl "+
			"restart %s; or, if nobody needs it: systemctl disable --now %[2]s", p.Bridge, x.Unit)
	case x.Name == "named":
		return fmt.Sprintf("write listen-on { !%s; any; }; into the options of /etc/bind/named.conf.options, then "+
			"systemctl restart named; or, if nobody needs it: systemctl disable --now named", at)
	case x.Name == "unbound":
		return "name its addresses in /etc/unbound/unbound.conf.d (interface: 127.0.0.1), then systemctl restart unbound"
	case x.Name == "docker-proxy":
		return "docker ps --filter publish=53 names the container: publish its port at one other address, " +
			"such as -p 127.0.0.1:53:53/udp"
	case x.Unit != "":
		return fmt.Sprintf("have it listen at another address than %s; or, if nobody needs it: systemctl disable --now %s",
			at, x.Unit)
	case x.PID == "":
		return "ss -lnp 'sport = :53' says who; it has to listen at another address than " + at
	}
	return fmt.Sprintf("kill %s, or have it listen at another address than %s", x.PID, at)
}
