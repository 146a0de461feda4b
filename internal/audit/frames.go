package audit

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// port is an interface of a container or virtual machine of Proxmox's.
type port struct {
	guest, file  string
	number       string // of net0: 0
	bridge       string
	mac, address string
	firewall     bool
}

// ports are those of all guests on this node, in order, and which container's mark the notes of each have.
func (s *system) ports() (all []port, marks map[string]string) {
	marks = map[string]string{}
	for _, dir := range []string{s.scene.Proxmox, path.Join(path.Dir(s.scene.Proxmox), "qemu-server")} {
		names, err := s.h.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, name := range names {
			id, isConfig := strings.CutSuffix(name, ".conf")
			raw, err := s.h.ReadFile(path.Join(dir, name))
			if err != nil || !isConfig {
				continue
			}
			for line := range strings.Lines(string(raw)) {
				line = strings.TrimSpace(line)
				if strings.HasPrefix(line, "[") {
					break
				}
				if mark, ok := strings.CutPrefix(strings.ReplaceAll(strings.ReplaceAll(line, "%3A", ":"), "%2F", "/"),
					"#phoenix: container/"); ok {
					marks[id] = strings.TrimSpace(mark)
				}
				key, value, _ := strings.Cut(line, ":")
				if number, ok := strings.CutPrefix(key, "net"); ok && number != "" &&
					strings.Trim(number, "0123456789") == "" {
					p := readPort(strings.TrimSpace(value))
					p.guest, p.file, p.number = id, path.Join(dir, name), number
					all = append(all, p)
				}
			}
		}
	}
	return all, marks
}

// readPort reads name=eth0,bridge=vmbr0,hwaddr=… of a container, and virtio=MAC,bridge=vmbr0 of a virtual machine.
func readPort(value string) (p port) {
	for part := range strings.SplitSeq(value, ",") {
		k, v, _ := strings.Cut(part, "=")
		switch k {
		case "bridge":
			p.bridge = v
		case "firewall":
			p.firewall = v == "1"
		case "ip":
			p.address, _, _ = strings.Cut(v, "/")
		case "hwaddr", "macaddr", "virtio", "e1000", "vmxnet3", "rtl8139", "e1000e":
			p.mac = strings.ToUpper(v)
		}
	}
	return p
}

// frames looks for what lets one guest of a bridge take the address of another. On Proxmox only the firewall at the
// sender's own port can stop that: one port without it is enough.
func (s *system) frames() {
	all, marks := s.ports()
	var bridges []string
	for _, p := range all {
		if s.wanted(p.guest) && !slices.Contains(bridges, p.bridge) && p.bridge != "" {
			bridges = append(bridges, p.bridge)
		}
	}
	if len(bridges) > 0 {
		s.firewallSwitches()
	}
	for _, p := range all {
		if why := s.unguarded(p); slices.Contains(bridges, p.bridge) && why != "" {
			s.add(ruleFrames, p.object(), unguardedFix(s, p), "net%s of %s is on bridge %s, %s: it can answer for "+
				"every address there", p.number, p.guest, p.bridge, why)
		}
	}
	s.doubles(all, marks)
}

// object is what a finding about a guest's port is about.
func (p port) object() string { return "container/" + p.guest }

func (s *system) wanted(id string) bool {
	return slices.ContainsFunc(s.scene.Wanted, func(w Wanted) bool { return w.ID == id })
}

func unguardedFix(s *system, p port) string {
	if s.wanted(p.guest) {
		return "phoenix apply " + p.guest
	}
	return fmt.Sprintf("firewall=1 on net%s, and in the options of its firewall: enable 1, macfilter 1, ipfilter 1, "+
		"dhcp 0, ndp 0, policy_in ACCEPT, "+
		"and the line layer2_protocols: ARP; or another bridge for it", p.number)
}

// unguarded says what is missing at a port; empty: nothing.
func (s *system) unguarded(p port) string {
	if !p.firewall {
		return "without firewall=1"
	}
	raw, err := s.h.ReadFile(path.Join(path.Dir(s.scene.Proxmox), "firewall", p.guest+".fw"))
	if err != nil {
		return "without a firewall of its own"
	}
	option := func(key string) string { return spec.FilterOption(string(raw), key) }
	switch {
	case option("enable") != "1":
		return "and its firewall is off"
	case option("macfilter") == "0":
		return "with any hardware address (macfilter: 0)"
	case option("layer2_protocols") != "ARP":
		return "with frames that carry a VLAN tag (no layer2_protocols: ARP)"
	case option("ipfilter") != "1" &&
		!strings.Contains(strings.ToLower(string(raw)), "[ipset ipfilter-net"+p.number+"]"):
		return "with any address (ipfilter is off)"
	case option("dhcp") != "0":
		return "with DHCP packets from any hardware address (dhcp is not 0)"
	case option("radv") == "1":
		return "with router advertisements (radv: 1)"
	}
	return ""
}

// firewallSwitches looks at what undoes the rules of all guests at once.
func (s *system) firewallSwitches() {
	dir := path.Dir(s.scene.Proxmox)
	for _, x := range []struct{ file, key, bad, what string }{
		{"firewall/cluster.fw", "ebtables", "0", "Proxmox's firewall looks at no frames: every guest can use any " +
			"hardware address and any VLAN tag"},
		{"local/host.fw", "enable", "0", "Proxmox's firewall is off on this node"},
		{"local/host.fw", "nftables", "1", "proxmox-firewall (nftables) keeps the rules: that it stops frames with " +
			"VLAN tags is not known"},
	} {
		raw, err := s.h.ReadFile(path.Join(dir, x.file))
		if err == nil && spec.FilterOption(string(raw), x.key) == x.bad {
			s.add(ruleFrames, Hypervisor, "take the line "+x.key+": "+x.bad+" out of "+path.Join(dir, x.file),
				"%s (%s: %s)", x.what, x.key, x.bad)
		}
	}
}

// doubles looks for copies: pct restore and pct clone take along the notes, the address and, without --unique, the
// hardware address.
func (s *system) doubles(all []port, marks map[string]string) {
	ids := sortedKeys(marks)
	for _, id := range ids {
		if of := marks[id]; of != id && of != "" {
			s.add(ruleDouble, "container/"+id, fmt.Sprintf("if it is a copy: take the lines that begin with phoenix: "+
				"out of its notes, and give it another address; pct config %s", id),
				"the notes of container %s say that it is container %s of phoenix", id, of)
		}
	}
	for i, p := range all {
		for _, first := range all[:i] {
			switch {
			case p.guest == first.guest || !s.wanted(p.guest) && !s.wanted(first.guest):
			case p.mac != "" && p.mac == first.mac:
				s.add(ruleDouble, p.object(), "pct set "+p.guest+" with another hwaddr for net"+p.number,
					"%s and %s have the hardware address %s", first.guest, p.guest, p.mac)
			case p.bridge == first.bridge && p.address != "" && p.address == first.address && p.address != "dhcp" &&
				p.address != "manual":
				s.add(ruleDouble, p.object(), "pct set "+p.guest+" with another ip for net"+p.number,
					"%s and %s have the address %s", first.guest, p.guest, p.address)
			}
		}
	}
}
