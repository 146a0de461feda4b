package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// flowsOf are the checks of ways between containers: id, from, to, ports.
func flowsOf(objects []object.Object) []string {
	var out []string
	for _, c := range Derive(objects) {
		if strings.HasPrefix(c.ID, "PHX-FW-00") && c.Object.Kind() == spec.KindFirewall {
			out = append(out, strings.Join([]string{c.ID, c.Host, "->", c.Object.Scope(), c.Subject}, " "))
		}
	}
	return out
}

// Each door that is open is tried by one who may, each container's firewall by one who may not, and not all by the same
// one.
func TestFlowsAreTried(t *testing.T) {
	want := []string{
		"PHX-FW-001 102 -> 101 80,443", "PHX-FW-001 201 -> 103 9000", "PHX-FW-001 102 -> 201 8000",
		"PHX-FW-002 102 -> 101 22", "PHX-FW-002 201 -> 103 22", "PHX-FW-002 101 -> 201 8000",
	}
	if got := flowsOf(homelab()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is let in everywhere cannot be knocked at; what nobody can tell is not tried; what is off neither.
func TestFlowsThatAreNotTried(t *testing.T) {
	open := letting("103", "10.0.0.10", "", "")
	open.Rules[0].Proto = ""
	group := letting("101", "10.0.0.101", "80", "")
	group.Rules = append([]spec.Rule{{Direction: "group", Action: "ours"}}, group.Rules...)
	off := letting("201", "10.0.0.201", "8000", "")
	off.Off = true
	var objects []object.Object
	for _, o := range homelab() {
		if o.Address.Kind() != spec.KindFirewall {
			objects = append(objects, o)
		}
	}
	for _, s := range []spec.Firewall{open, group, off} {
		objects = append(objects, testObject(object.Address("firewall/"+s.ID), s))
	}
	if got := flowsOf(objects); len(got) > 0 {
		t.Errorf("tried: %q", got)
	}
}

// wall answers as a firewall does: with silence, a no, a connection or nothing at all.
func (h *fakeHost) wall(ctx context.Context) (net.Conn, error) {
	answer := h.walls[0]
	if len(h.walls) > 1 {
		h.walls = h.walls[1:]
	}
	switch answer {
	case "connection":
		ours, theirs := net.Pipe()
		theirs.Close()
		return ours, nil
	case "no":
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case "nobody":
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	case "odd":
		return nil, fmt.Errorf("socket: %w", syscall.EMFILE)
	}
	<-ctx.Done()
	return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
}

func firewallCases() []runCase {
	flow := func(answer string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.walls = []string{answer}
			return flowParams{Address: "10.0.0.10", Ports: []int{9000}}
		}
	}
	file := func(text string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			if text != "absent" {
				h.put("/etc/pve/firewall/cluster.fw", 0o640, 0, 33, text)
			}
			return spec.NodeFirewall{Proxmox: spec.Proxmox{Dir: "/etc/pve"}}
		}
	}
	return append(append(identityCases(), hostsideCases()...), []runCase{
		{kindFlowOpen, "a connection", flow("connection"), Pass, "10.0.0.10:9000"},
		{kindFlowOpen, "nobody listens", flow("no"), Pass, "gets through"},
		{kindFlowOpen, "nobody there", flow("nobody"), Fail, "no route to host"},
		{kindFlowOpen, "not asked", flow("odd"), Fail, "too many open files"},
		{kindFlowOpen, "silence", flow("silence"), Fail, "nothing gets through"},
		{kindFlowClosed, "a connection", flow("connection"), Fail, "10.0.0.10:9000"},
		{kindFlowClosed, "nobody listens", flow("no"), Fail, "it is answered"},
		{kindFlowClosed, "nobody there", flow("nobody"), Skip, "no route to host"},
		{kindFlowClosed, "not asked", flow("odd"), Fail, "too many open files"},
		{kindFlowClosed, "silence", flow("silence"), Pass, "stays outside"},
		{kindSwitch, "on", file("[OPTIONS]\nenable: 1\n"), Pass, "is on"},
		{kindSwitch, "on, by hand", file("[options]\n\n ENABLE:1 \n"), Pass, "is on"},
		{kindSwitch, "on, as Proxmox does not read it", file("[options]\nenable: 1 # on\n"), Fail, "is off"},
		{kindSwitch, "off", file("[OPTIONS]\nenable: 0\n"), Fail, "is off"},
		{kindSwitch, "elsewhere", file("[RULES]\nenable: 1\n"), Fail, "is off"},
		{kindSwitch, "commented out", file("[OPTIONS]\n#enable: 1\n"), Fail, "is off"},
		{kindSwitch, "no file", file("absent"), Fail, "cluster.fw"},
	}...)
}

// identityTable is what nft lists of a container that is kept to its identity; comments and the rules of the firewall
// are left out.
const identityTable = `table bridge phoenix_v103 {
	chain own_arp {
		arp saddr ip 10.0.0.103 accept
		drop
	}

	chain own_ipv4 {
		ip saddr 10.0.0.103 accept
		drop
	}

	chain own {
		ether saddr != 02:00:00:00:01:03 drop
		ether type vmap { ip : jump own_ipv4, arp : jump own_arp, ip6 : jump own_ipv6 }
		drop
	}

	chain addressed {
		ether daddr != 02:00:00:00:01:03 drop
		ip daddr != 10.0.0.103 drop
	}

	chain identity {
		type filter hook prerouting priority dstnat; policy accept;
		iifname "v103" jump own
	}

	chain addressed_bridged {
		type filter hook forward priority -300; policy accept;
		oifname "v103" jump addressed
	}

	chain addressed_sent {
		type filter hook output priority -300; policy accept;
		oifname "v103" jump addressed
	}
}
`

func identityCases() []runCase {
	own, forged := "\x02\x00\x00\x00\x01\x03", "\x02\x66\x66\x66\x66\x66"
	entry := func(mac, port, local string) string { return mac + port + local + strings.Repeat("\x00", 8) }
	at := func(old, new, mask, fdb string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.runs["nft --stateless list table bridge phoenix_v103"] = fakeRun{out: strings.Replace(identityTable, old,
				new, 1)}
			h.put("/sys/class/net/vmbr0/bridge/group_fwd_mask", 0o644, 0, 0, mask+"\n")
			h.put("/sys/class/net/vmbr0/brif/v103/port_no", 0o444, 0, 0, "0x2\n")
			h.put("/sys/class/net/vmbr0/brforward", 0o444, 0, 0, fdb)
			return spec.Firewall{ID: "103", Port: "v103", Bridge: "vmbr0", Address: "10.0.0.103",
				MAC: "02:00:00:00:01:03"}
		}
	}
	fdb := entry(own, "\x02", "\x00") + entry(forged, "\x02", "\x01") + entry(forged, "\x03", "\x00")
	return []runCase{
		{kindIdentity, "enforced", at("", "", "0x4000", fdb), Pass, "02:00:00:00:01:03 10.0.0.103"},
		{kindIdentity, "no table", func(t *testing.T, h *fakeHost) any {
			s := at("", "", "0x4000", fdb)(t, h)
			h.runs["nft --stateless list table bridge phoenix_v103"] = fakeRun{err: "Error: No such file or directory",
				code: 1}
			return s
		}, Fail, "No such file"},
		{kindIdentity, "not asked", at(`iifname "v103" jump own`, "", "0x4000", fdb), Fail,
			"chain identity has no rule"},
		{kindIdentity, "asked too late", at("hook prerouting", "hook forward", "0x4000", fdb), Fail,
			"before the bridge learns"},
		{kindIdentity, "another MAC", at("ether saddr != 02:00:00:00:01:03", "ether saddr != 02:00:00:00:01:04",
			"0x4000", fdb), Fail, "chain own has no rule"},
		{kindIdentity, "a way around", at("chain own {\n", "chain own {\n\t\taccept\n", "0x4000", fdb), Fail,
			"chain own allows more"},
		{kindIdentity, "whatever is sent to it", at("ip daddr != 10.0.0.103 drop", "", "0x4000", fdb), Fail,
			"chain addressed has no rule"},
		{kindIdentity, "LLDP's group", at("", "", "0x0", fdb), Fail, "01:80:c2:00:00:0e"},
		{kindIdentity, "a stolen MAC", at("", "", "0x4000", fdb+entry(forged, "\x02", "\x00")), Fail,
			"02:66:66:66:66:66"},
	}
}

// hostsideTable is what nft lists of the table.
const hostsideTable = `table inet phoenix_host_vmbr0_abcd {
	comment "phoenix: firewall/vmbr0 0123"
	chain from_containers {
		type filter hook input priority filter - 5; policy accept;
		iifname != "vmbr0" accept
		ether saddr != { 02:00:00:00:00:01, 02:00:00:00:00:02 } accept
		ct state established,related accept
		icmp type echo-request accept
		icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
		ip daddr 10.0.0.1 udp dport 53 accept
		ip daddr 10.0.0.1 tcp dport 53 accept
		tcp dport 3128 accept
		udp dport 8000-8010 accept
		drop
	}

	chain sealed_0123 {
	}
}
`

func hostsideCases() []runCase {
	at := func(old, new string) func(*testing.T, *fakeHost) any {
		return func(t *testing.T, h *fakeHost) any {
			changed := strings.Replace(hostsideTable, old, new, 1)
			if changed == hostsideTable && old != new {
				t.Errorf("%q is not in the table", old)
			}
			h.runs["nft --stateless list table inet phoenix_host_vmbr0_abcd"] = fakeRun{out: changed}
			return spec.HostFirewall{Name: "vmbr0_abcd", Bridge: "vmbr0", Address: "10.0.0.1", DNS: true,
				Allow: []string{"tcp/3128", "udp/8000-8010"},
				MACs:  []string{"02:00:00:00:00:01", "02:00:00:00:00:02"}}
		}
	}
	return []runCase{
		{kindHostFirewall, "loaded", at("", ""), Pass, "vmbr0: ICMP echo, names, tcp/3128, udp/8000-8010"},
		{kindHostFirewall, "no table", func(t *testing.T, h *fakeHost) any {
			s := at("", "")(t, h)
			h.runs["nft --stateless list table inet phoenix_host_vmbr0_abcd"] = fakeRun{err: "Error: No such file or directory", code: 1}
			return s
		}, Fail, "No such file"},
		{kindHostFirewall, "flushed", at("iifname != \"vmbr0\" accept\n", "}\n\tchain x {\n"), Fail,
			"does not end with drop"},
		{kindHostFirewall, "no such chain", at("chain from_containers", "chain from_nobody"), Fail, "does not exist"},
		{kindHostFirewall, "never called", at("type filter hook input priority filter - 5; policy accept;\n", ""), Fail,
			"is not called"},
		{kindHostFirewall, "another hook", at("hook input", "hook forward"), Fail, "is not called"},
		{kindHostFirewall, "without its end", at("\t\tdrop\n", ""), Fail, "does not end with drop"},
		{kindHostFirewall, "another bridge", at(`iifname != "vmbr0"`, `iifname != "vmbr1"`), Fail,
			"has no rule iifname"},
		{kindHostFirewall, "a container that is not in it", at(", 02:00:00:00:00:02", ""), Fail, "02:00:00:00:00:02"},
		{kindHostFirewall, "no containers in it",
			at("ether saddr != { 02:00:00:00:00:01, 02:00:00:00:00:02 } accept\n", ""), Fail,
			"does not tell containers"},
		{kindHostFirewall, "ssh by hand", at("tcp dport 3128 accept", "tcp dport 22 accept"), Fail,
			"a rule too many: tcp dport 22 accept"},
		{kindHostFirewall, "all by hand", at("tcp dport 3128 accept", "accept"), Fail, "a rule too many: accept"},
		{kindHostFirewall, "every connection", at("established,related", "established,new"), Fail,
			"a rule too many: ct state"},
		{kindHostFirewall, "names of another address", at("ip daddr 10.0.0.1 udp", "ip daddr 10.0.0.2 udp"), Fail,
			"a rule too many: ip daddr 10.0.0.2"},
	}
}

func raw(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
