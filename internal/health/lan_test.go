package health

import (
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// As nft 1.0.6 lists what the driver makes.
const accessTable = `table inet phoenix_access_vmbr0_ab12 {
	comment "phoenix: firewall/vmbr0 x"
	chain ports {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "eth0" ip saddr != 10.0.0.0/24 fib daddr . iif type local tcp dport 80 dnat ip to 10.0.0.153
		iifname "eth0" ip saddr != 10.0.0.0/24 fib daddr . iif type local tcp dport 443 dnat ip to 10.0.0.153
	}

	chain leaving {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.0.0.0/24 oifname "eth0" masquerade
	}

	chain passing {
		type filter hook forward priority filter - 5; policy accept;
		iifname "eth0" ip saddr 10.0.0.0/24 drop
		iifname "eth0" oifname "vmbr0" ct state established,related accept
		iifname "eth0" oifname "vmbr0" ct status dnat accept
		iifname "eth0" oifname "vmbr0" drop
	}
}
`

func lanCases() []runCase {
	const list, chains = "nft --stateless list table inet phoenix_access_vmbr0_ab12", "nft --stateless list chains"
	foreign := func(policy string) string {
		return "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy " +
			policy + ";\n\t}\n}\n"
	}
	with := func(mode string, change func(h *fakeHost)) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.put("/proc/net/route", 0o444, 0, 0, "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n")
			for _, name := range []string{"eth0", "vmbr0"} {
				h.put("/proc/sys/net/ipv4/conf/"+name+"/forwarding", 0o644, 0, 0, "1\n")
			}
			h.runs["ip -4 -j addr show dev eth0"] = ipSays(`"UP"`, "192.168.1.20")
			h.runs[list], h.runs[chains] = fakeRun{out: accessTable}, fakeRun{out: foreign("accept")}
			h.walls = []string{"connection"}
			change(h)
			s := spec.Access{Name: "vmbr0_ab12", Bridge: "vmbr0", Subnet: "10.0.0.0/24", Mode: mode,
				State: "/run/phoenix/x"}
			if mode == spec.AccessForward {
				s.Gateway, s.Ports = "10.0.0.153", []string{"tcp/80", "tcp/443"}
			}
			return s
		}
	}
	forward := func(change func(h *fakeHost)) func(*testing.T, *fakeHost) any {
		return with(spec.AccessForward, change)
	}
	published := func(change func(h *fakeHost)) func(*testing.T, *fakeHost) any {
		forwarded := forward(func(h *fakeHost) {
			const line = `		iifname "eth0" ip saddr != 10.0.0.0/24 fib daddr . iif type local tcp dport `
			h.runs[list] = fakeRun{out: strings.Replace(accessTable, line+"443", line+"8022 dnat ip to 10.0.0.104:22\n"+
				line+"443", 1)}
			change(h)
		})
		return func(t *testing.T, h *fakeHost) any {
			s := forwarded(t, h).(spec.Access)
			s.Forwards = []spec.Forward{{Port: "tcp/8022", To: "10.0.0.104:22"}}
			return s
		}
	}
	table := func(old, new string) func(h *fakeHost) {
		return func(h *fakeHost) { h.runs[list] = fakeRun{out: strings.Replace(accessTable, old, new, 1)} }
	}
	return []runCase{
		{kindLAN, "forwarded", forward(func(*fakeHost) {}), Pass,
			"at 192.168.1.20 | eth0 192.168.1.20, tcp/80 tcp/443 to 10.0.0.153"},
		{kindLAN, "routed", with(spec.AccessRoute, func(*fakeHost) {}), Pass, "routed to 10.0.0.0/24"},
		{kindLAN, "published", published(func(*fakeHost) {}), Pass, "tcp/8022 to 10.0.0.104:22"},
		{kindLAN, "published, not forwarded", published(func(h *fakeHost) {
			h.runs[list] = fakeRun{out: accessTable}
		}), Fail,
			"no rule forwards tcp/8022 of eth0 to 10.0.0.104:22"},
		{kindLAN, "published, silent", published(func(h *fakeHost) {
			h.walls = []string{"connection", "connection", "no"}
		}), Fail, "port 8022 of 192.168.1.20 is forwarded to 10.0.0.104:22, where nothing answers"},
		{kindLAN, "no uplink", forward(func(h *fakeHost) { h.put("/proc/net/route", 0o444, 0, 0, "") }), Fail,
			"no default route"},
		{kindLAN, "no address", forward(func(h *fakeHost) {
			h.runs["ip -4 -j addr show dev "+
				"eth0"] = fakeRun{out: "[{}]"}
		}), Fail, "has no IPv4 address"},
		{kindLAN, "no table", forward(func(h *fakeHost) {
			h.runs[list] = fakeRun{err: "Error: No such file or " +
				"directory", code: 1}
		}), Fail, "No such file"},
		{kindLAN, "a port that leads nowhere", forward(table("dport 443", "dport 444")), Fail,
			"no rule forwards tcp/443 of eth0"},
		{kindLAN, "another uplink", forward(table(`iifname "eth0" ip saddr 10.0.0.0/24 drop`,
			`iifname "eth1" ip saddr 10.0.0.0/24 drop`)), Fail, "chain passing has no rule"},
		{kindLAN, "open to all", forward(table(`		iifname "eth0" oifname "vmbr0" drop`, "")), Fail,
			"chain passing has no rule"},
		{kindLAN, "not forwarding", forward(func(h *fakeHost) {
			h.put("/proc/sys/net/ipv4/conf/vmbr0/forwarding",
				0o644, 0, 0, "0\n")
		}), Fail, "vmbr0 does not forward"},
		{kindLAN, "dropped by Docker", forward(func(h *fakeHost) {
			h.runs[chains], h.runs["nft --stateless list table ip filter"] = fakeRun{out: foreign("drop")},
				fakeRun{out: foreign("drop")}
		}), Fail, "chain FORWARD of table ip filter has policy drop"},
		{kindLAN, "allowed in Docker's chain", forward(func(h *fakeHost) {
			h.runs[chains], h.runs["nft --stateless list table ip filter"] = fakeRun{out: foreign("drop")},
				fakeRun{out: foreign("drop") + `oifname "vmbr0" accept`}
		}), Pass, "reach the gateway"},
		{kindLAN, "silent", forward(func(h *fakeHost) { h.walls = []string{"silence"} }), Fail,
			"10.0.0.153:80: no answer"},
	}
}

// What phoenix has no part in is not checked.
func TestLANIsCheckedWhereItIsAskedFor(t *testing.T) {
	for mode, want := range map[string]int{spec.AccessNone: 0, spec.AccessForward: 1, spec.AccessRoute: 1} {
		n := 0
		for _, c := range Derive([]object.Object{testObject("access/vmbr0", spec.Access{Mode: mode,
			Bridge: "vmbr0"})}) {
			if c.ID == "PHX-ACC-001" {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d checks", mode, n)
		}
	}
}
