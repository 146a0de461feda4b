package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// HostSide keeps what the hypervisor itself accepts from its containers: one table of phoenix's own on the hook of
// packets that are for this machine. It knows containers by their MAC, which their identity pins. It implements
// provider.Driver, Deleter and Watcher.
type HostSide struct{}

// NewHostSide gives the driver without its types.
func NewHostSide() provider.Erased { return provider.New(HostSide{}) }

// HostStatus is what was seen of the table.
type HostStatus struct {
	Table string `json:"table"`
	Made  string `json:"made"`  // digest of what it was made from
	Whole bool   `json:"whole"` // it is as it was when it had been made
}

// port is an entry of Allow.
var port = regexp.MustCompile(`^(tcp|udp)/([0-9]{1,5})(-[0-9]{1,5})?$`)

// Decode implements provider.Driver.
func (HostSide) Decode(raw json.RawMessage) (spec.HostFirewall, diag.List) {
	s, diags := provider.Decode[spec.HostFirewall](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !ifname.MatchString(s.Bridge) || !plainID.MatchString(strings.ReplaceAll(s.Name, ".", "_")) {
		diags.Errorf("%q is no name for a bridge, or %q none for a table", s.Bridge, s.Name)
	}
	if _, err := netip.ParseAddr(s.Address); err != nil {
		diags.Errorf("%q is no address", s.Address)
	}
	for _, m := range s.MACs {
		if a, err := net.ParseMAC(m); err != nil || len(a) != 6 {
			diags.Errorf("%q is no MAC", m)
		}
	}
	for _, p := range s.Allow {
		if !port.MatchString(p) {
			diags.Errorf("%q is no port, such as tcp/3128", p)
		}
	}
	return s, diags
}

// Observe implements provider.Driver; nil: there is no table.
func (HostSide) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.HostFirewall) (*HostStatus, error) {
	text, err := host.Table(ctx, h, "inet", s.Table())
	if text == "" || err != nil {
		return nil, err
	}
	st := &HostStatus{Table: s.Table()}
	if m := comment.FindStringSubmatch(text); m != nil {
		st.Made = m[1]
	}
	if m := sealed.FindStringSubmatch(text); m != nil {
		st.Whole = m[1] == seal(text, "")
	}
	return st, nil
}

// Diff implements provider.Driver.
func (HostSide) Diff(want spec.HostFirewall, have *HostStatus) plan.Delta {
	var d plan.Delta
	switch {
	case want.Off && have == nil:
	case want.Off:
		d.Compare("table", have.Table, "")
		d.Reason = "containers may reach all of the hypervisor"
	case have == nil:
		return plan.Delta{Action: plan.Create, Reason: "containers reach all that listens on the hypervisor"}
	default:
		if have.Made != madeHost(want) {
			d.Compare("table", "made for something else", "made for this")
		}
		if !have.Whole {
			d.Compare("table", "changed by hand, or half made", "as it was made")
		}
		if !d.Empty() {
			d.Reason = "what containers reach of the hypervisor differs"
		}
	}
	return d
}

// Apply implements provider.Driver. The table is replaced in one step.
func (d HostSide) Apply(ctx context.Context, h host.Host, a object.Address, s spec.HostFirewall, _ plan.Delta) error {
	if s.Off {
		return d.Delete(ctx, h, a, s)
	}
	if _, err := nft(ctx, h, host.Command{Stdin: []byte(renderHost(s)), Mutates: true}, "--file", "-"); err != nil {
		if host.Missing(err) {
			return provider.PermanentHint(fmt.Errorf("the firewall of the hypervisor needs nft: %w", err),
				"apt-get install nftables")
		}
		return err
	}
	text, err := host.Table(ctx, h, "inet", s.Table())
	if err != nil {
		return err
	}
	_, err = nft(ctx, h, host.Command{Mutates: true}, "add", "chain", "inet", s.Table(), "sealed_"+seal(text, ""))
	return err
}

// Delete implements provider.Deleter.
func (HostSide) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.HostFirewall) error {
	text, err := host.Table(ctx, h, "inet", s.Table())
	if host.Missing(err) || err == nil && text == "" {
		return nil // without nft there are no tables
	}
	if err != nil {
		return err
	}
	_, err = nft(ctx, h, host.Command{Mutates: true}, "delete", "table", "inet", s.Table())
	return err
}

// Watch implements provider.Watcher.
func (HostSide) Watch(spec.HostFirewall, *HostStatus) provider.Watch {
	return provider.Watch{Filters: true}
}

// hostVersion is counted up when another table is made of the same spec.
const hostVersion = "host 1"

func madeHost(s spec.HostFirewall) string {
	raw, _ := json.Marshal(s) // plain data
	return digest(hostVersion + string(raw))
}

// renderHost is what nft is given. What the hypervisor itself began is answered; ICMP finds out whether it is there,
// and IPv6 does not work without.
func renderHost(s spec.HostFirewall) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n\tcomment \"phoenix: "+
		"firewall/%[2]s %[3]s\"\n", s.Table(), s.Bridge, madeHost(s))
	b.WriteString("\tchain from_containers {\n\t\ttype filter hook input priority filter - 5; policy accept;\n")
	line := func(format string, a ...any) { fmt.Fprintf(&b, "\t\t"+format+"\n", a...) }
	if len(s.MACs) > 0 {
		line("iifname != %q accept", s.Bridge)
		line("ether saddr != { %s } accept", strings.Join(s.MACs, ", "))
		line("ct state established,related accept")
		line("icmp type echo-request accept")
		line("icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept")
		if s.DNS {
			family := "ip"
			if strings.Contains(s.Address, ":") {
				family = "ip6"
			}
			for _, proto := range []string{"udp", "tcp"} {
				line("%s daddr %s %s dport 53 accept", family, s.Address, proto)
			}
		}
		for _, p := range s.Allow {
			proto, ports, _ := strings.Cut(p, "/")
			line("%s dport %s accept", proto, ports)
		}
		line("drop")
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}
