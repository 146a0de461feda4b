package pve

import (
	"os"
	"strings"
	"testing"
)

// The firewall files are there before a container runs, what others wrote in them stays, and the switch of the whole
// cluster is told and put on with consent only. None of it calls pct, but for the interface.
func TestProxmoxFirewall(t *testing.T) {
	h := newHost(t)
	h.reset()
	h.write("[OPTIONS]\n\nenable: 0\n\n[group ours]\n\nIN ACCEPT -p tcp -dport 22\n", "pve", "firewall", "cluster.fw")
	h.write("[RULES]\n\nIN ACCEPT -p icmp # of the template\n", "pve", "firewall", "900.fw") // a clone gets it too
	create := append([]string{"create"}, ids...)
	for _, command := range []string{"validate", "plan"} {
		if r := h.phoenix(nil, command); !strings.Contains(r.stdout+r.stderr, "off for the whole cluster") {
			t.Errorf("the switch is not told: %s", r)
		}
	}
	h.changes(0, create...)
	const options = "[OPTIONS]\n\nenable: 1\npolicy_in: DROP\nipfilter: 1\nmacfilter: 1\ndhcp: 0\nndp: 0\nradv: " +
		"0\nlayer2_protocols: ARP\n\n"
	const advertisers = "OUT DROP -p icmpv6 -icmp-type neighbor-advertisement # phoenix: addresses of others\n"
	want := options + "[RULES]\n\n" + advertisers + "IN ACCEPT -source 10.86.17.1 -dest 10.86.17.103 -p tcp -dport " +
		"9000 # phoenix: health checks of the hypervisor\n" +
		"IN ACCEPT -source 10.86.17.101,10.86.17.102,10.86.17.201 -dest 10.86.17.103 -p tcp -dport 9000 # phoenix: " +
		"clients of the CA\nIN ACCEPT -p icmp # of the template\n"
	if got := h.read("pve", "firewall", "103.fw"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if c := h.conf("103"); !strings.Contains(c, "firewall=1") {
		t.Errorf("its interface does not pass the firewall:\n%s", c)
	}
	if got := h.read("pve", "local", "host.fw"); !strings.Contains(got, "IN ACCEPT -source 10.86.17.0/24 -p udp "+
		"-dport 53 # phoenix: names for the containers\n") {
		t.Errorf("the host answers no names:\n%s", got)
	}
	if got := h.read("pve", "firewall", "cluster.fw"); !strings.Contains(got, "enable: 0") {
		t.Errorf("the cluster's switch was put on without consent:\n%s", got)
	}
	h.pct()
	h.unchanged(create)

	// Proxmox writes its files anew in an order of its own.
	h.write("[RULES]\n\n"+strings.SplitN(want, "[RULES]\n\n", 2)[1]+"\n[OPTIONS]\n\nlayer2_protocols: ARP\nndp: "+
		"0\ndhcp: 0\nipfilter: 1\npolicy_in: DROP\nenable: 1\n", "pve", "firewall", "103.fw")
	h.unchanged(create)
	h.write(strings.Replace(want, "IN ACCEPT -source 10.86.17.1 ", "|IN ACCEPT -source 10.86.17.1 ", 1), "pve",
		"firewall", "103.fw")
	if doc, _ := h.changes(0, create...); len(doc.Changes) != 1 || doc.Changes[0].Address != "firewall/103" ||
		doc.Mutations != 1 {
		t.Errorf("a rule that was put off: %+v", doc)
	}
	if got := h.read("pve", "firewall", "103.fw"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	doc, _ := h.changes(0, append(create, "--yes")...)
	if len(doc.Changes) != 1 || doc.Changes[0].Address != "node/firewall" ||
		!strings.Contains(h.read("pve", "firewall", "cluster.fw"), "enable: 1\n\n[group ours]") {
		t.Errorf("with consent: %+v\n%s", doc, h.read("pve", "firewall", "cluster.fw"))
	}
	h.unchanged(append(create, "--yes"))
	if r := h.phoenix(nil, "plan"); strings.Contains(r.stdout+r.stderr, "off for the whole cluster") {
		t.Errorf("still told: %s", r)
	}
	h.changes(0, append(create, "--prune")...)
	if got := h.read("pve", "firewall", "103.fw"); strings.Contains(got, "of the template") {
		t.Errorf("pruned:\n%s", got)
	}
	if calls := h.pct(); len(calls) > 0 {
		t.Errorf("called %q", calls)
	}
	if r := h.phoenix(nil, "delete", "103", "--yes"); r.exit != 0 {
		t.Fatalf("delete: %s", r)
	}
	if _, err := os.Stat(h.path("pve", "firewall", "103.fw")); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}
