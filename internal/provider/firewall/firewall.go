// Package firewall keeps who a container is on the network, and what may reach it, with nftables, on the hypervisor's
// end of the container's interface: packets between two containers cross a bridge only, and the container itself cannot
// touch what stands there. Each container has tables of its own, named after that interface, which are replaced in one
// step; they hold before it exists and stay when it is made anew.
package firewall

import (
	"encoding/json"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps firewalls. It implements provider.Driver, provider.Deleter and provider.Watcher.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Status is what was seen of a container's tables.
type Status struct {
	Table string   `json:"table"`
	Rules []string `json:"rules"` // by their meaning
	Made  string   `json:"made"`  // digest of what the tables were made from
	// Identity is the digest of the chains that pin the container's MAC and addresses; empty: nothing does.
	Identity string `json:"identity"`
	Whole    bool   `json:"whole"` // they are as they were when they had been made
	// Tracked: the hypervisor knows to which connection a packet on the bridge belongs.
	Tracked bool `json:"tracked"`
	// Groups: the bridge shows frames to LLDP's group to the rules.
	Groups bool `json:"groups"`
}

// plain is what may stand in a command for nft without quotes.
var (
	plainID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)
	ifname    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
	plainWord = regexp.MustCompile(`^[a-z0-9][a-z0-9+./-]{0,39}$`)
)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Firewall, diag.List) {
	s, diags := provider.Decode[spec.Firewall](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !plainID.MatchString(s.ID) {
		diags.Errorf("%q is no id for a container", s.ID)
	}
	for _, name := range []string{s.Port, s.Bridge} {
		if !ifname.MatchString(name) {
			diags.Errorf("%q is no name for an interface: at most 15 letters, digits, dots, dashes or underscores",
				name)
		}
	}
	if a, err := netip.ParseAddr(s.Address); err != nil || !a.Is4() {
		diags.Errorf("%q is no IPv4 address", s.Address)
	}
	if a, err := netip.ParseAddr(s.Address6); s.Address6 != "" && (err != nil || !a.Is6() || a.Zone() != "") {
		diags.Errorf("%q is no IPv6 address", s.Address6)
	}
	if s.Off {
		diags.Errorf("the identity of container %s is enforced whatever its rules", s.ID)
	}
	if !unicastMAC(s.MAC) {
		diags.Errorf("%q is no MAC of one interface, in lower case with colons", s.MAC)
	}
	for _, r := range s.Rules {
		if problem := unkept(r); problem != "" {
			diags.Errorf("rule %q: %s", r.Meaning(), problem)
		}
	}
	return s, diags
}

// unicastMAC is true for a MAC as nft writes it that one interface can have.
func unicastMAC(text string) bool {
	m, err := net.ParseMAC(text)
	return err == nil && len(m) == 6 && m.String() == text && m[0]&1 == 0 && text != "00:00:00:00:00:00"
}

// unkept is why nftables cannot keep a rule; empty: it can.
func unkept(r spec.Rule) string {
	source, err := spec.Addresses(r.Source)
	dest, err2 := spec.Addresses(r.Dest)
	ports, err3 := spec.Ports(r.Ports)
	sports, err4 := spec.Ports(r.SourcePorts)
	words := []string{r.Proto, r.ICMPType, r.Log}
	switch {
	case err != nil || err2 != nil || source != r.Source || dest != r.Dest:
		return "its addresses are not written as they should be"
	case err3 != nil || err4 != nil || ports != r.Ports || sports != r.SourcePorts:
		return "its ports are not written as they should be"
	case r.Direction != spec.In && r.Direction != spec.Out, r.Action != spec.Accept && r.Action != spec.Drop,
		r.Macro != "", r.Interface != "":
		return "only in and out, ACCEPT and DROP are kept here"
	case slices.ContainsFunc(words, func(w string) bool { return w != "" && !plainWord.MatchString(w) }):
		return "it has a word in it that is none"
	case (ports != "" || sports != "") && r.Proto == "":
		return "ports of no protocol"
	}
	return ""
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Firewall, have *Status) plan.Delta {
	switch {
	case want.Open && have == nil:
		return plan.Delta{Action: plan.Create, Reason: "nothing pins its MAC and its address"}
	case have == nil:
		return plan.Delta{Action: plan.Create, Reason: "no firewall rules loaded"}
	}
	var d plan.Delta
	wanted := meanings(want)
	for _, r := range wanted {
		if !slices.Contains(have.Rules, r) {
			d.Compare("rule", "", r)
		}
	}
	for _, r := range have.Rules {
		if !slices.Contains(wanted, r) {
			d.Compare("rule", r, "")
		}
	}
	if have.Identity != identityDigest(want) {
		d.Compare("identity", "not pinned to "+want.MAC+" "+want.Address, "pinned")
	}
	if d.Empty() && have.Made != made(want) {
		d.Compare("table", "made for something else", "made for this")
	}
	if !have.Whole {
		d.Compare("table", "changed by hand, or half made", "as it was made")
	}
	if !have.Groups {
		d.Compare("link-local groups", "pass the rules on "+want.Bridge, "checked")
	}
	if !have.Tracked {
		d.Compare("connections", "not followed on "+want.Bridge, "followed")
	}
	if d.Action == plan.Update {
		d.Reason = "the rules differ"
	}
	return d
}

// Watch implements provider.Watcher.
func (Driver) Watch(spec.Firewall, *Status) provider.Watch {
	return provider.Watch{Filters: true, Links: true} // a bridge that is made again has none of its switches
}

// meanings are what the rules mean, as they stand in the table beside each rule.
func meanings(s spec.Firewall) []string {
	var out []string
	for _, r := range s.Rules {
		if r.Direction == spec.In {
			out = append(out, note(r))
		}
	}
	for _, r := range s.Rules {
		if r.Direction == spec.Out {
			out = append(out, note(r))
		}
	}
	return out
}

// note is a rule's meaning, cut to what nftables keeps beside a rule (NFTNL_UDATA_COMMENT_MAXLEN).
func note(r spec.Rule) string {
	text := strings.ReplaceAll(r.Meaning(), `"`, "'")
	if len(text) > 120 {
		text = text[:103] + " " + digest(text)[:16]
	}
	return text
}
