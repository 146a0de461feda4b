package health

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// runIdentity looks at a port's rules, and at what the bridge has learned there: the rules say what is so, and the
// bridge whether it was.
func runIdentity(ctx context.Context, h host.Host, c Check, s spec.Firewall) Result {
	const summary = "frames of others may come from the container"
	res, err := h.Run(ctx, host.Command{Argv: []string{"nft", "--stateless", "list", "table", "bridge", s.Table()},
		Shared: true})
	if err != nil {
		return c.fail(summary, why(err), c.apply())
	}
	if missing := lacking(string(res.Stdout), s); missing != "" {
		return c.fail(summary, "table bridge "+s.Table()+": "+missing, c.apply())
	}
	mask, err := sysNumber(h, filepath.Join("/sys/class/net", s.Bridge, "bridge/group_fwd_mask"))
	if err == nil && mask&0x4000 == 0 {
		return c.fail(summary, fmt.Sprintf("frames to 01:80:c2:00:00:0e pass the rules: group_fwd_mask of %s is %#x",
			s.Bridge, mask), c.apply())
	}
	foreign, err := learnedAt(h, s)
	if err != nil {
		return c.fail("what the bridge has learned at the container's port cannot be read", err.Error(), c.apply())
	}
	if len(foreign) > 0 {
		return c.fail(fmt.Sprintf("the bridge believes that %d foreign MACs are at the container's port", len(foreign)),
			s.Port+": "+strings.Join(foreign[:min(3, len(foreign))], " "),
			"ip link set dev "+s.Bridge+" type bridge fdb_flush")
	}
	return c.pass("the container's MAC and addresses are enforced", s.Port+": "+s.MAC+" "+s.Address)
}

// lacking is the first rule that a table lacks; empty: it has all.
func lacking(table string, s spec.Firewall) string {
	chains := chainsOf(table)
	for _, want := range []struct{ chain, rule string }{
		{"identity", `iifname "` + s.Port + `" jump own`}, {"own", "ether saddr != " + s.MAC + " drop"},
		{"own_ipv4", "ip saddr " + s.Address + " accept"},
		{"own_arp", "arp saddr ip " + s.Address + " accept"}, {"addressed", "ether daddr != " + s.MAC + " drop"},
		{"addressed", "ip daddr != " + s.Address + " drop"},
		{"addressed_bridged", `oifname "` + s.Port + `" jump addressed`},
		{"addressed_sent", `oifname "` + s.Port + `" jump addressed`},
	} {
		if !slices.Contains(chains[want.chain], want.rule) {
			return "chain " + want.chain + " has no rule " + want.rule
		}
	}
	if own := chains["own"]; own[0] != "ether saddr != "+s.MAC+" drop" || own[len(own)-1] != "drop" {
		return "chain own allows more than the container's MAC and three types of frames"
	}
	if first := chains["identity"][0]; !strings.HasPrefix(first, "type filter hook prerouting ") {
		return "chain identity is not called before the bridge learns"
	}
	return ""
}

// chainsOf gives the lines of each chain of a table as nft lists it.
func chainsOf(table string) map[string][]string {
	out, name := map[string][]string{}, ""
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		switch rest, isChain := strings.CutPrefix(line, "chain "); {
		case isChain:
			name = strings.TrimSuffix(rest, " {")
		case line == "}":
			name = ""
		case name != "" && line != "":
			out[name] = append(out[name], line)
		}
	}
	return out
}

// learnedAt are the MACs that a bridge has learned at a container's port and that are not the container's. The kernel
// gives the table without a program: 16 bytes an entry (struct __fdb_entry of linux/if_bridge.h). Without a port there
// are none.
func learnedAt(h host.Host, s spec.Firewall) ([]string, error) {
	port, err := sysNumber(h, filepath.Join("/sys/class/net", s.Bridge, "brif", s.Port, "port_no"))
	if err != nil {
		return nil, err
	}
	raw, err := h.ReadFile(filepath.Join("/sys/class/net", s.Bridge, "brforward"))
	if err != nil {
		return nil, err
	}
	var out []string
	for entry := range slices.Chunk(raw, 16) {
		if len(entry) < 16 || entry[7] != 0 { // its own
			continue
		}
		mac := net.HardwareAddr(entry[:6]).String()
		if at := uint64(entry[6]) | uint64(entry[12])<<8; at == port && mac != s.MAC {
			out = append(out, fmt.Sprintf("%s (%d s ago)", mac, binary.NativeEndian.Uint32(entry[8:])/100))
		}
	}
	return out, nil
}

// sysNumber reads a number as sysfs writes it.
func sysNumber(h host.Host, path string) (uint64, error) {
	raw, err := h.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(raw)), 0, 32)
}
