package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (a *app) accessCommand() *cobra.Command {
	var trust bool
	var file string
	cmd := &cobra.Command{
		Use: "access", Short: "how a laptop or a phone reaches the gateway, and how it comes to trust the root; " +
			"changes nothing",
		Example: `  phoenix access
  phoenix access -o json
  phoenix access --trust --write phoenix-root.crt`,
		Args: nothingMore,
	}
	cmd.Flags().BoolVar(&trust, "trust", false, "the root certificate, and how it gets into each system and out again")
	cmd.Flags().StringVar(&file, "write", "", "with --trust: write the certificate to this file, to hand it out")
	cmd.RunE = a.command(func(ctx context.Context, _ []string) error {
		switch {
		case trust:
			return a.accessRoot(ctx, file)
		case file != "":
			return &usageError{err: fmt.Errorf("--write is about the root"),
				hint: "phoenix access --trust --write " + file}
		}
		h, err := a.load()
		if err != nil {
			return err
		}
		out, err := a.accessOf(ctx, h)
		if err == nil {
			a.view.Access(out)
		}
		return err
	})
	return cmd
}

// accessOf looks at this machine's interfaces and at the objects.
func (a *app) accessOf(ctx context.Context, h *house) (view.Access, error) {
	iface := h.cfg.Hypervisor.Network.Interface
	out := view.Access{Mode: h.cfg.Hypervisor.Access, Bridge: iface.Name, Subnet: iface.Address.Masked().String(),
		Addresses: []string{}, Ways: []view.Way{}}
	if h.cfg.Hypervisor.DNS.Enabled {
		out.Resolver = iface.Address.Addr().String()
	}
	table, err := a.host.ReadFile("/proc/net/route")
	if err != nil {
		return out, err
	}
	out.Uplink = spec.DefaultRoute(string(table))
	port, err := host.LeadingOut(a.host, iface.Name)
	if err != nil {
		return out, err
	}
	out.LeadsOut = out.Uplink == iface.Name || port != ""
	if out.Uplink != "" {
		if out.Addresses, err = a.addressesOf(ctx, out.Uplink); err != nil {
			return out, err
		}
	}
	out.Gateway = gatewayOf(h)
	a.ways(&out)
	return out, nil
}

// addressesOf are the IPv4 addresses of an interface: the bridge has no others.
func (a *app) addressesOf(ctx context.Context, name string) ([]string, error) {
	res, err := a.host.Run(ctx, host.Command{Argv: []string{"ip", "-4", "-j", "addr", "show", "dev", name}})
	if err != nil {
		return nil, err
	}
	var links []struct {
		Addresses []struct {
			Local string `json:"local"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(res.Stdout, &links); err != nil {
		return nil, fmt.Errorf("the addresses of %s: %w", name, err)
	}
	out := []string{}
	for _, l := range links {
		for _, x := range l.Addresses {
			out = append(out, x.Local)
		}
	}
	return out, nil
}

// gatewayOf is the container that clients talk to, with the names that resolve to it: the gateway, else the proxy; nil:
// there is none.
func gatewayOf(h *house) *view.Gateway {
	for _, is := range []func(int) bool{
		func(i int) bool { return h.cfg.Containers[i].IsGateway() },
		func(i int) bool { return h.cfg.Containers[i].IsProxy() },
	} {
		for i, c := range h.cfg.Containers {
			if !is(i) || !c.Network.Address.IsValid() {
				continue
			}
			at := c.Network.Address.Addr()
			return &view.Gateway{Container: c.ID, Address: at.String(), Names: namesAt(h.objects, at)}
		}
	}
	return nil
}

// namesAt are the names of the zones that resolve to an address.
func namesAt(objects []object.Object, at netip.Addr) []string {
	out := []string{}
	for _, o := range objects {
		var s spec.DNS
		if o.Address.Kind() == spec.KindDNS && json.Unmarshal(o.Spec, &s) == nil {
			for _, z := range s.Zones {
				for _, r := range z.Records {
					if slices.Contains(r.Addresses, at.String()) {
						out = append(out, r.Name)
					}
				}
			}
		}
		var n spec.Nginx
		if o.Address.Kind() == spec.KindNginx && json.Unmarshal(o.Spec, &n) == nil {
			for _, site := range n.Sites {
				out = append(out, site.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ways fills in what there is to do for each way, with the addresses of this machine.
func (a *app) ways(out *view.Access) {
	if out.Gateway == nil {
		return
	}
	if out.LeadsOut {
		out.Ways = append(out.Ways, view.Way{Way: "direct", Used: true, Address: out.Gateway.Address,
			Steps: append([]view.Todo{{Where: "clients", Do: []string{"nothing: they connect to " +
				out.Gateway.Address + ", ports 80 and 443"}}}, named(*out, out.Gateway.Address, true)...)})
		if out.Mode != spec.AccessNone {
			out.Notes = append(out.Notes, "access "+out.Mode+` does nothing here: set it to "none"`)
		}
		return
	}
	here := "ADDRESS"
	if len(out.Addresses) > 0 {
		here = out.Addresses[0]
	}
	forward, route := out.Mode == spec.AccessForward, out.Mode == spec.AccessRoute
	out.Ways = append(out.Ways,
		view.Way{Way: spec.AccessForward, Used: forward, Address: strings.TrimPrefix(here, "ADDRESS"),
			Steps: slices.Concat(
				[]view.Todo{a.switchOn(forward, spec.AccessForward,
					"ports 80 and 443 of this machine are forwarded to the gateway, containers ask outside under its "+
						"address")},
				[]view.Todo{{Where: "the router, only where clients of the Internet are meant",
					Do: []string{"forward TCP 80 and 443 to " + here +
						"; a name that the Internet knows needs a certificate that it trusts"}}},
				named(*out, here, false))},
		view.Way{Way: spec.AccessRoute, Used: route, Address: out.Gateway.Address, Steps: slices.Concat(
			[]view.Todo{a.switchOn(route, spec.AccessRoute, "this machine forwards packets as they are; what reaches "+
				"a container is for its firewall to say")},
			routes(out.Subnet, here), named(*out, out.Gateway.Address, true))})
	if out.Mode == spec.AccessNone {
		out.Notes = append(out.Notes, "phoenix has no part in it. Where this machine was set up to forward by hand, "+
			"the routes and names below hold as well")
	}
	out.Notes = append(out.Notes, "IPv4 only: the bridge has no IPv6. A client that gets an AAAA record for a name "+
		"from elsewhere goes elsewhere")
}

func (a *app) switchOn(on bool, mode, what string) view.Todo {
	if on {
		return view.Todo{Where: "this machine: " + what, Do: []string{"done by " + a.again("apply") +
			", kept by watch, seen by PHX-ACC-001 of " + a.again("health")}}
	}
	return view.Todo{Where: "this machine: " + what, Do: []string{`"access": "` + mode +
		`" in the hypervisor's file, then ` + a.again("apply")}}
}

// routes are the commands that send the subnet's packets to this machine.
func routes(subnet, here string) []view.Todo {
	mask := "255.255.255.0"
	p, err := netip.ParsePrefix(subnet)
	if err == nil {
		bits := ^uint32(0) << (32 - p.Bits())
		mask = fmt.Sprintf("%d.%d.%d.%d", byte(bits>>24), byte(bits>>16), byte(bits>>8), byte(bits))
	}
	return []view.Todo{
		{Where: "the router, once for all clients, phones too", Do: []string{"a static route: " + subnet +
			" (mask " + mask + ") by way of " + here}},
		{Where: "or one client: Linux, macOS, Windows", Do: []string{
			"ip route add " + subnet + " via " + here,
			"sudo route -n add -net " + subnet + " " + here,
			"route -p add " + p.Addr().String() + " mask " + mask + " " + here,
		}},
	}
}

// named is how clients find the names: by this machine's own resolver where they reach it, else with lines for the
// LAN's.
func named(out view.Access, at string, reached bool) (steps []view.Todo) {
	zones := zonesOf(out.Gateway.Names)
	if reached && out.Resolver != "" && len(zones) > 0 {
		var lines []string
		for _, z := range zones {
			lines = append(lines, "server=/"+z+"/"+out.Resolver)
		}
		steps = append(steps, view.Todo{Where: "names: the LAN's resolver (dnsmasq, Pi-hole, OpenWrt; elsewhere a " +
			"conditional forwarder) asks this machine for the zones", Do: lines})
	}
	if len(out.Gateway.Names) == 0 {
		return append(steps, view.Todo{Where: "names", Do: []string{"none resolves to the gateway: add records to " +
			"dns_server.authoritative_zones"}})
	}
	var records []string
	for _, n := range out.Gateway.Names {
		records = append(records, "address=/"+n+"/"+at)
	}
	where := "names: or records in the LAN's resolver (dnsmasq, Pi-hole, OpenWrt)"
	if len(steps) == 0 {
		where = "names: records in the LAN's resolver (dnsmasq, Pi-hole, OpenWrt)"
	}
	return append(steps, view.Todo{Where: where, Do: records},
		view.Todo{Where: "names: or one client, in /etc/hosts or C:\\Windows\\System32\\drivers\\etc\\hosts",
			Do: []string{at + " " + strings.Join(out.Gateway.Names, " ")}},
		view.Todo{Where: "try it from a client, with the root from phoenix access --trust --write " +
			filepath.Base(rootFileName), Do: []string{
			fmt.Sprintf("curl --cacert %s --resolve %s:443:%s https://%s/", rootFileName, out.Gateway.Names[0], at,
				out.Gateway.Names[0]),
		}})
}

// zonesOf are the parents of names, each once, without those below another one.
func zonesOf(names []string) (out []string) {
	var all []string
	for _, n := range names {
		if _, parent, ok := strings.Cut(n, "."); ok && strings.Contains(parent, ".") {
			all = append(all, parent)
		} else if ok {
			all = append(all, n)
		}
	}
	for _, z := range all {
		below := slices.ContainsFunc(all, func(other string) bool { return strings.HasSuffix(z, "."+other) })
		if !below && !slices.Contains(out, z) {
			out = append(out, z)
		}
	}
	return out
}
