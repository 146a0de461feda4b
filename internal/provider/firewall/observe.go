package firewall

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var (
	comment = regexp.MustCompile(`(?m)^\tcomment "phoenix: firewall/\S+ ([0-9a-f]{32})(?: ([0-9a-f]{32}))?"$`)
	noted   = regexp.MustCompile(`(?m) comment "([^"]*)"$`)
	sealed  = regexp.MustCompile(`(?m)\n?^\tchain sealed_([0-9a-f]{32}) \{\n\t\}\n`)
)

// Observe implements provider.Driver.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Firewall) (*Status, error) {
	text, err := list(ctx, h, "bridge", s)
	if err != nil {
		return nil, err
	}
	marks := ""
	if !s.Open { // without rules it has none, and one that is left goes with the digest of what was made
		marks, err = list(ctx, h, "inet", s)
	}
	if err != nil || text == "" && marks == "" {
		return nil, err
	}
	st := &Status{Table: table(s), Rules: []string{}, Tracked: true, Groups: checksGroups(h, s.Bridge)}
	if m := comment.FindStringSubmatch(text); m != nil {
		st.Made, st.Identity = m[1], m[2]
	}
	for _, m := range noted.FindAllStringSubmatch(text, -1) {
		st.Rules = append(st.Rules, m[1])
	}
	if m := sealed.FindStringSubmatch(text); m != nil {
		st.Whole = m[1] == seal(text, marks)
	}
	if marks != "" {
		st.Tracked = handed(h, s.Bridge)
	}
	return st, nil
}

// seal is the digest of what nft shows of tables, without the seal itself. How nft writes a rule is its own affair, and
// another in other releases: so what was made is compared with what is, and not with what was wanted.
func seal(text, marks string) string { return digest(sealed.ReplaceAllString(text, "") + marks) }

// list is what nft shows of one of the container's tables; empty: it is not there.
func list(ctx context.Context, h host.Host, family string, s spec.Firewall) (string, error) {
	return host.Table(ctx, h, family, table(s))
}

// handed tells whether packets on a bridge are handed to the hooks of IP: there by its own switch, or by that of the
// whole system.
func handed(h host.Host, bridge string) bool {
	for _, path := range switches(bridge) {
		raw, err := h.ReadFile(path)
		if err == nil && strings.TrimSpace(string(raw)) == "1" {
			return true
		}
	}
	return false
}

// groupMask are the link-local groups that a bridge forwards; false: the kernel does not show it, as where /sys is
// another network namespace's.
func groupMask(h host.Host, bridge string) (mask uint64, known bool) {
	raw, err := h.ReadFile(filepath.Join("/sys/class/net", bridge, "bridge/group_fwd_mask"))
	if err != nil {
		return 0, false
	}
	mask, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 0, 16)
	return mask, err == nil
}

// checksGroups is false where a bridge is known to keep LLDP's group from the rules.
func checksGroups(h host.Host, bridge string) bool {
	mask, known := groupMask(h, bridge)
	return !known || mask&lldp != 0
}

func switches(bridge string) []string {
	return []string{filepath.Join("/sys/class/net", bridge, "bridge/nf_call_iptables"),
		"/proc/sys/net/bridge/bridge-nf-call-iptables"}
}

// named is an object's own name in errors.
func named(s spec.Firewall) string { return fmt.Sprintf("the firewall of container %s", s.ID) }
