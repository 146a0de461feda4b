package health

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// compiledText is what pve-firewall compile prints for container 103, as far as it matters.
const compiledText = `ipset cmdlist:
exists PVEFW-103-ipfilter-net0-v4 (x)
	add PVEFW-103-ipfilter-net0-v4 10.0.0.10

iptables cmdlist:
exists veth103i0-IN (a+/=)
	-A veth103i0-IN -s 10.0.0.1 -d 10.0.0.10 -p tcp --dport 9000 -j ACCEPT
	-A veth103i0-IN -j PVEFW-Drop
	-A veth103i0-IN -j DROP
exists veth103i0-OUT (b)
	-A veth103i0-OUT -m mac ! --mac-source 52:54:00:aa:bb:ca -j DROP

ip6tables cmdlist:
exists veth103i0-OUT (c)
	-A veth103i0-OUT -p icmpv6 --icmpv6-type router-advertisement -j DROP
	-A veth103i0-OUT -p icmpv6 --icmpv6-type neighbor-advertisement -j DROP

ebtables cmdlist:
exists PVEFW-FORWARD (d)
	-A PVEFW-FORWARD -p IPv4 -j ACCEPT
exists veth103i0-OUT (e)
	-A veth103i0-OUT -s ! 52:54:0:aa:bb:ca -j DROP
	-A veth103i0-OUT -p ARP -j veth103i0-OUT-ARP
	-A veth103i0-OUT -j veth103i0-OUT-PROTO
	-A veth103i0-OUT -j ACCEPT
exists veth103i0-OUT-ARP (f)
	-A veth103i0-OUT-ARP -p ARP --arp-ip-src 10.0.0.10 -j RETURN
	-A veth103i0-OUT-ARP -j DROP
exists veth103i0-OUT-PROTO (g)
	-A veth103i0-OUT-PROTO -p ARP -j RETURN
	-A veth103i0-OUT-PROTO -j DROP
delete veth999i0-OUT-PROTO (h)

no changes
`

// proxmoxFirewall is a host whose pve-firewall says that; change is what is replaced, in pairs.
func proxmoxFirewall(stderr string, change ...string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.put("/etc/pve/lxc/103.conf", 0o640, 0, 33, "")
		h.runs["pve-firewall status"] = fakeRun{out: "Status: enabled/running\n"}
		h.runs["pve-firewall compile"] = fakeRun{out: strings.NewReplacer(change...).Replace(compiledText), err: stderr}
		return rulesParams{Guests: []guestRules{{ID: "103", Address: "10.0.0.10"}, {ID: "104", Address: "10.0.0.14"}},
			Proxmox: spec.Proxmox{Dir: "/etc/pve"}}
	}
}

func proxmoxRulesCases() []runCase {
	with := func(path, text string, status fakeRun) func(*testing.T, *fakeHost) any {
		return func(t *testing.T, h *fakeHost) any {
			p := proxmoxFirewall("")(t, h)
			h.put(path, 0o640, 0, 33, text)
			h.runs["pve-firewall status"] = status
			return p
		}
	}
	running := fakeRun{out: "Status: enabled/running\n"}
	return []runCase{
		{kindRules, "all there", proxmoxFirewall("/etc/pve/firewall/999.fw (line 5): unknown ethernet protocol " +
			"type: IPv6\n"), Pass, "keeps each to its own addresses"},
		{kindRules, "a line left out", proxmoxFirewall("/etc/pve/firewall/103.fw (line 5): unknown ethernet protocol " +
			"type: IPv6\n"), Fail, "left out: 103.fw (line 5)"},
		{kindRules, "tags", proxmoxFirewall("", "exists veth103i0-OUT-PROTO (g)", "delete veth103i0-OUT-PROTO (g)"),
			Fail, "ebtables: no chain veth103i0-OUT-PROTO"},
		{kindRules, "not yet", proxmoxFirewall("", "exists veth103i0-IN", "update veth103i0-IN"), Fail,
			"does not have veth103i0-IN yet"},
		{kindRules, "another's address", proxmoxFirewall("", "10.0.0.10 -j RETURN", "10.0.0.10 -j RETURN\n\t-A "+
			"veth103i0-OUT-ARP -p ARP --arp-ip-src 10.0.0.1 -j RETURN"), Fail, "may answer for another address"},
		{kindRules, "any hardware address", proxmoxFirewall("", "-A veth103i0-OUT -s ! 52:54:0:aa:bb:ca -j DROP\n", ""),
			Fail, "any hardware address"},
		{kindRules, "any IPv6 address",
			proxmoxFirewall("", "neighbor-advertisement -j DROP", "neighbor-advertisement -g PVEFW-SET-ACCEPT-MARK"),
			Fail, "any IPv6 address"},
		{kindRules, "an open port", proxmoxFirewall("", "-A veth103i0-IN -j DROP", "-A veth103i0-IN -j ACCEPT"), Fail,
			"does not end with DROP"},
		{kindRules, "other frames", proxmoxFirewall("", "-p ARP -j RETURN", "-p ARP -j RETURN\n\t-A "+
			"veth103i0-OUT-PROTO -p 802_1Q -j RETURN"), Fail, "other frames"},
		{kindRules, "the daemon is down", with("/x", "", fakeRun{out: "Status: enabled/stopped\n"}), Fail,
			"pve-firewall does not run"},
		{kindRules, "no pve-firewall", with("/x", "", fakeRun{err: "not found", code: 127}), Fail, "not known whether"},
		{kindRules, "no ebtables", with("/etc/pve/firewall/cluster.fw", "[OPTIONS]\nebtables: 0\n", running), Fail,
			"ebtables: 0"},
		{kindRules, "nftables", with("/etc/pve/local/host.fw", "[OPTIONS]\nnftables: 1\n", running), Fail, "nftables"},
		{kindRules, "off on the node", with("/etc/pve/local/host.fw", "[OPTIONS]\nenable: 0\n", running), Fail,
			"off on this node"},
	}
}

// One question is asked for all containers of a Proxmox host, and none by way of the network.
func TestProxmoxRulesAreAskedOnce(t *testing.T) {
	p := spec.Proxmox{Dir: "/etc/pve"}
	objects := []object.Object{testObject("node/firewall", spec.NodeFirewall{Proxmox: p})}
	for _, o := range homelab() {
		if o.Address.Kind() == spec.KindFirewall {
			s, err := decode[spec.Firewall](o.Spec)
			if err != nil {
				t.Fatal(err)
			}
			s.Proxmox = &p
			o = testObject(o.Address, s)
		}
		objects = append(objects, o)
	}
	if got := flowsOf(objects); len(got) > 0 {
		t.Errorf("asked by way of the network: %q", got)
	}
	rules := 0
	for _, c := range Settled(Derive(objects)) {
		if c.Kind != kindRules {
			continue
		}
		rules++
		if p, err := decode[rulesParams](c.Params); err != nil || p.Later || len(p.Guests) != 3 {
			t.Errorf("%v: %s", err, c.Params)
		}
	}
	if rules != 1 {
		t.Errorf("%d checks", rules)
	}
}

// A change that Proxmox has not seen yet is waited for.
func TestRulesLater(t *testing.T) {
	h := newHost(t)
	p := proxmoxFirewall("", "exists veth103i0-IN", "update veth103i0-IN")(t, h).(rulesParams)
	p.Later = true
	begun := time.Now()
	later := &laterHost{fakeHost: h}
	if r := Run(t.Context(), later,
		Check{Object: "node/firewall", Kind: kindRules, Params: raw(t, p)}); r.Status != Pass ||
		time.Since(begun) < laterTick {
		t.Errorf("after %s: %+v", time.Since(begun), r)
	}
}

// laterHost has the rules from the second question on.
type laterHost struct {
	*fakeHost
	asked int
}

func (h *laterHost) Run(ctx context.Context, c host.Command) (host.Result, error) {
	if c.Argv[1] == "compile" {
		if h.asked++; h.asked > 1 {
			return host.Result{Stdout: []byte(compiledText)}, nil
		}
	}
	return h.fakeHost.Run(ctx, c)
}
