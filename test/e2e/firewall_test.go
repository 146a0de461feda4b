package e2e

import (
	"strings"
	"testing"
)

// How an attempt to connect from inside of a container ends.
const (
	open   = "open"
	closed = "closed" // nobody answers
)

// connect tries a port from inside of a container, for a second.
func (h *Hypervisor) connect(id, host, port string) string {
	h.t.Helper()
	r := h.Attach(id, nil, "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+host+"/"+port)
	switch {
	case r.Exit == 0, strings.Contains(r.Stderr, "Connection refused"):
		return open
	case r.Exit == 124:
		return closed
	}
	h.t.Errorf("neither open nor closed\n%s", r)
	return ""
}

// otherAddress is one that the hypervisor has besides that on the bridge.
const otherAddress = "10.86.99.1"

// flows of examples/homelab: from, to, port. Of those that are closed somebody listens on most.
var (
	openFlows = [][3]string{
		{"101", "10.86.17.103", "9000"}, {"102", "10.86.17.103", "9000"}, {"201", "10.86.17.103", "9000"},
		{"101", "10.86.17.102", "443"}, {"102", "10.86.17.201", "8443"}, {"103", "10.86.17.201", "80"},
		{"201", "10.86.17.101", "443"},
		{"201", "10.86.17.1", "53"},
	}
	closedFlows = [][3]string{
		{"101", "10.86.17.201", "8443"}, {"103", "10.86.17.201", "8443"}, {"201", "10.86.17.102", "443"},
		{"103", "10.86.17.102", "443"},
		{"102", "10.86.17.101", "22"}, {"201", "10.86.17.103", "22"},
		// Of the hypervisor, at each of its addresses, names alone.
		{"201", "10.86.17.1", "22"}, {"101", "10.86.17.1", "8006"}, {"201", otherAddress, "53"},
	}
)

func (h *Hypervisor) wantFlows() {
	h.t.Helper()
	for want, flows := range map[string][][3]string{open: openFlows, closed: closedFlows} {
		for _, f := range flows {
			if got := h.connect(f[0], f[1], f[2]); got != want {
				h.t.Errorf("from %s to %s:%s is %s, want %s", f[0], f[1], f[2], got, want)
			}
		}
	}
}

// Who is not let in is met with silence: between containers, after a restart, with another's address, and for all who
// are not on the hypervisor's own bridge. A second run changes nothing, and what is deleted leaves no table.
func TestFirewall(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Exec("ip", "address", "add", otherAddress+"/32", "dev", "lo").Want(0)
	h.Phoenix("up").Want(0)
	h.wantFlows()
	h.WantHealthy()
	h.WantNoChange("103", "101", "102", "201")
	h.reached(t)
	h.supervised(t)
	h.attacked(t)
	h.hostSideFlushed(t)

	h.Phoenix("restart", "201").Want(0)
	h.wantFlows()
	// With another's address one has not its rights, nor its name on the bridge.
	h.Attach("201", nil, "ip", "address", "add", "10.86.17.102/24", "dev", "eth0").Want(0)
	h.Attach("201", nil, "ip", "route", "add", "10.86.17.103/32", "dev", "eth0", "src", "10.86.17.102").Want(0)
	if got := h.connect("201", "10.86.17.103", "9000"); got != closed {
		t.Errorf("201 as 102 to the CA is %s", got)
	}
	h.Phoenix("restart", "201").Want(0)

	rules := h.Exec("nft", "list", "tables").Want(0).Stdout
	if strings.Count(rules, "table bridge phoenix_v") != 4 {
		t.Errorf("tables:\n%s", rules)
	}
	h.Phoenix("delete", "201", "--yes").Want(0)
	if left := h.Exec("nft", "list", "tables").Want(0).Stdout; strings.Count(left, "table bridge phoenix_v") != 3 ||
		strings.Contains(left, "v201p") {
		t.Errorf("after 201 was deleted:\n%s", left)
	}
	h.Phoenix("delete", "--all", "--volumes=103", "--yes").Want(0)
	if left := h.Exec("nft", "list", "ruleset").Want(0).Stdout; left != "" {
		t.Errorf("after all was deleted:\n%s", left)
	}
}

// What the users say comes after what phoenix needs and before what is open to anybody.
func TestFirewallRulesOfTheUsers(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.edit("101", func(c map[string]any) {
		c["firewall"] = map[string]any{"enabled": true, "rules": []any{
			map[string]any{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "22", "source": "10.86.17.102"},
			map[string]any{"type": "in", "action": "DROP", "source": "10.86.17.201"},
			map[string]any{"type": "out", "action": "DROP"},
		}}
	})
	h.Phoenix("create", "103", "101", "102", "201").Want(0)
	for f, want := range map[[3]string]string{
		{"102", "10.86.17.101", "22"}: open, {"103", "10.86.17.101", "22"}: closed,
		{"103", "10.86.17.101", "443"}: open,
		{"201", "10.86.17.101", "443"}: closed, {"101", "10.86.17.103", "9000"}: open,
		{"101", "10.86.17.103", "22"}: closed,
	} {
		if got := h.connect(f[0], f[1], f[2]); got != want {
			t.Errorf("from %s to %s:%s is %s, want %s", f[0], f[1], f[2], got, want)
		}
	}
	h.edit("101", func(c map[string]any) { c["firewall"] = map[string]any{"enabled": false} })
	h.Phoenix("apply", "101").Want(0)
	if got := h.connect("103", "10.86.17.101", "22"); got != open {
		t.Errorf("switched off, 101 is %s", got)
	}
	h.WantNoChange("101")
	h.edit("102", func(c map[string]any) { delete(c, "firewall") })
	h.Phoenix("apply", "102").Want(0)
	if got := h.connect("201", "10.86.17.102", "443"); got != open {
		t.Errorf("with its firewall taken out of the file, 102 is %s", got)
	}
	h.WantNoChange("102")
}

// What restricts the containers' way to the hypervisor is a check of its own, and is mended.
func (h *Hypervisor) hostSideFlushed(t *testing.T) {
	t.Helper()
	tables := h.Exec("nft", "list", "tables", "inet").Want(0).Stdout
	_, name, found := strings.Cut(tables, "phoenix_host_")
	name, _, _ = strings.Cut(name, "\n")
	if !found {
		t.Fatalf("no table of what containers reach of the hypervisor:\n%s", tables)
	}
	h.Exec("nft", "flush", "table", "inet", "phoenix_host_"+name).Want(0)
	// And a server that nobody asked for, in the CA's container.
	h.Attach("103", nil, "sh", "-ec", "echo 'pid /run/by-hand.pid; events{} http{server{listen 2222;}}' "+
		">/root/by-hand && nginx -c /root/by-hand </dev/null >/dev/null 2>&1").Want(0)
	told := h.Phoenix("health", "-q").Want(3).Stdout
	if !strings.Contains(told, "PHX-FW-006") {
		t.Errorf("flushed rules are not told\n%s", told)
	}
	if !strings.Contains(told, "PHX-CT-008") || !strings.Contains(told, "on tcp/2222") ||
		!strings.Contains(told, "nginx (process ") {
		t.Errorf("the server is not told\n%s", told)
	}
	h.Attach("103", nil, "nginx", "-c", "/root/by-hand", "-s", "stop").Want(0)
	h.Phoenix("apply").Want(0) // that the ways are closed again is tried below
}
