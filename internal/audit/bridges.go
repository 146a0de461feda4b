package audit

import (
	"context"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var ruleForeignPort = config.Rule{ID: "PHX-AUD-082", Grade: config.High,
	Title: "a port on the site's bridge belongs to none of its containers",
	Why:   "what is behind it can answer for every address of the site, and get certificates for the names of others"}

const networkDevices = "/sys/class/net"

// bridges looks for ports on the site's bridges that are no container's of the site and that nothing pins to an
// identity.
func (s *system) bridges(ctx context.Context) {
	own := map[string]bool{}
	var bridges []string
	for _, w := range s.scene.Wanted {
		own[w.Port] = true
		if w.Bridge != "" && !slices.Contains(bridges, w.Bridge) {
			bridges = append(bridges, w.Bridge)
		}
	}
	slices.Sort(bridges)
	for _, bridge := range bridges {
		ports, err := s.h.ReadDir(path.Join(networkDevices, bridge, "brif"))
		if err != nil {
			continue // there is no such bridge yet
		}
		for _, name := range ports {
			if own[name] || s.guestPort(name) || s.uplink(name) || s.pinned(ctx, name) {
				continue
			}
			fix := "ip link set dev " + host.Quote([]string{name}) + " nomaster, and another bridge for it; " +
				"where it has to be here and is trusted, accept it with a reason"
			s.add(ruleForeignPort, "network/"+bridge+"/"+name, fix,
				"port %s of bridge %s is no container's of this site, and nothing pins it to an address; %s",
				name, bridge, s.behind(bridge, name))
		}
	}
}

// proxmoxPort is a guest's interface as Proxmox names it; whether it is pinned is PHX-AUD-080.
var proxmoxPort = regexp.MustCompile(`^(?:veth|tap|fwpr|fwln)([0-9]+)[ip][0-9]+$`)

func (s *system) guestPort(name string) bool {
	m := proxmoxPort.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	for _, dir := range []string{s.scene.Proxmox, path.Join(path.Dir(s.scene.Proxmox), "qemu-server")} {
		if _, err := s.h.Lstat(path.Join(dir, m[1]+".conf")); err == nil {
			return true
		}
	}
	return false
}

// uplink tells hardware, bonds and VLANs, which lead to a network that administrators chose.
func (s *system) uplink(name string) bool {
	entries, err := s.h.ReadDir(path.Join(networkDevices, name))
	return err == nil && slices.ContainsFunc(entries, func(e string) bool {
		return e == "device" && !s.virtual(name) || e == "bonding" || strings.HasPrefix(e, "lower_")
	})
}

// virtual tells a tap, which a program holds.
func (s *system) virtual(name string) bool {
	_, err := s.h.Lstat(path.Join(networkDevices, name, "tun_flags"))
	return err == nil
}

// pinned tells whether a phoenix, of this root or another, keeps the port to an identity.
func (s *system) pinned(ctx context.Context, name string) bool {
	argv := []string{"nft", "--stateless", "list", "table", "bridge", spec.Firewall{Port: name}.Table()}
	res, err := s.h.Run(ctx, host.Command{Argv: argv})
	text := string(res.Stdout)
	return err == nil && strings.Contains(text, "type filter hook prerouting") &&
		strings.Contains(text, `iifname "`+name+`" jump own`)
}

// behind are the MACs that a bridge has learned at a port. The kernel gives the table without a program: 16 bytes an
// entry (struct __fdb_entry of linux/if_bridge.h).
func (s *system) behind(bridge, name string) string {
	own, _ := s.h.ReadFile(path.Join(networkDevices, name, "address")) // it may have gone
	said := "its own MAC is " + strings.TrimSpace(string(own))
	raw, err := s.h.ReadFile(path.Join(networkDevices, bridge, "brif", name, "port_no"))
	if err != nil {
		return said
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 0, 32)
	table, tableErr := s.h.ReadFile(path.Join(networkDevices, bridge, "brforward"))
	if err != nil || tableErr != nil {
		return said
	}
	var macs tally
	for entry := range slices.Chunk(table, 16) {
		if len(entry) == 16 && entry[7] == 0 && uint64(entry[6])|uint64(entry[12])<<8 == number {
			macs.add(net.HardwareAddr(entry[:6]).String())
		}
	}
	if macs.n == 0 {
		return said + ", and nothing was heard there lately"
	}
	return fmt.Sprintf("%s, and the bridge has heard %s there", said, macs.String())
}
