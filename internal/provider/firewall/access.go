package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Access keeps how clients of the LAN reach a bridge: one table of phoenix's own, and the forwarding of two interfaces,
// the uplink's and the bridge's. The machine's own net.ipv4.ip_forward is left as it is: who has it on, has it for a
// reason of their own. It implements provider.Driver, Deleter and Watcher.
type Access struct{}

// NewAccess gives the driver without its types.
func NewAccess() provider.Erased { return provider.New(Access{}) }

// AccessStatus is what was seen.
type AccessStatus struct {
	Table  string `json:"table"`  // empty: there is none
	Made   string `json:"made"`   // digest of what it was made from
	Whole  bool   `json:"whole"`  // it is as it was when it had been made
	Uplink string `json:"uplink"` // interface of the default route; empty: there is none
	// Closed are those of the uplink and the bridge that do not forward, Ours those that phoenix switched on.
	Closed []string `json:"closed"`
	Ours   []string `json:"ours"`
	// Mode is what the state file was written for; empty: there is no file.
	Mode string `json:"mode"`
}

// accessState is the content of the state file.
type accessState struct {
	Mode string   `json:"mode"`
	Ours []string `json:"forwarding"`
	// Ports are those that no server of the hypervisor's own had when they were taken.
	Ports []string `json:"ports,omitempty"`
}

// Decode implements provider.Driver.
func (Access) Decode(raw json.RawMessage) (spec.Access, diag.List) {
	s, diags := provider.Decode[spec.Access](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !ifname.MatchString(s.Bridge) || !plainID.MatchString(strings.ReplaceAll(s.Name, ".", "_")) {
		diags.Errorf("%q is no name for a bridge, or %q none for a table", s.Bridge, s.Name)
	}
	if p, err := netip.ParsePrefix(s.Subnet); err != nil || !p.Addr().Is4() || p != p.Masked() {
		diags.Errorf("%q is no IPv4 subnet", s.Subnet)
	}
	if !filepath.IsAbs(s.State) {
		diags.Errorf("%q is no path for a file", s.State)
	}
	switch s.Mode {
	case spec.AccessNone, spec.AccessRoute:
	case spec.AccessForward:
		if a, err := netip.ParseAddr(s.Gateway); len(s.Ports) > 0 && (err != nil || !a.Is4()) {
			diags.Errorf("%q is no IPv4 address of a gateway", s.Gateway)
		}
		if len(s.Leads()) == 0 {
			diags.Errorf("no port is forwarded")
		}
	default:
		diags.Errorf("%q is no mode of access", s.Mode)
	}
	for _, p := range s.Leads() {
		if !port.MatchString(p.Port) {
			diags.Errorf("%q is no port, such as tcp/443", p.Port)
		}
	}
	for _, f := range s.Forwards {
		if a, err := netip.ParseAddrPort(f.To); err != nil || !a.Addr().Is4() || a.Port() == 0 {
			diags.Errorf("%q is no IPv4 address with a port", f.To)
		}
	}
	return s, diags
}

// Observe implements provider.Driver; nil: phoenix has no part in it.
func (Access) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Access) (*AccessStatus, error) {
	state, err := readAccess(h, s)
	if err != nil {
		return nil, err
	}
	text, err := host.Table(ctx, h, "inet", s.Table())
	if host.Missing(err) && s.Mode == spec.AccessNone {
		text, err = "", nil // without nft there are no tables
	}
	if err != nil || text == "" && state.Mode == "" {
		return nil, err
	}
	st := &AccessStatus{Mode: state.Mode, Ours: append([]string{}, state.Ours...), Closed: []string{}}
	if text != "" {
		st.Table = s.Table()
	}
	if m := comment.FindStringSubmatch(text); m != nil {
		st.Made = m[1]
	}
	if m := sealed.FindStringSubmatch(text); m != nil {
		st.Whole = m[1] == seal(text, "")
	}
	if s.Mode == spec.AccessNone {
		return st, nil
	}
	if st.Uplink, err = uplink(h, s); err != nil {
		return nil, err
	}
	for _, name := range []string{st.Uplink, s.Bridge} {
		on, err := forwards(h, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !on {
			st.Closed = append(st.Closed, name)
		}
	}
	return st, nil
}

// Diff implements provider.Driver.
func (Access) Diff(want spec.Access, have *AccessStatus) plan.Delta {
	var d plan.Delta
	switch {
	case want.Mode == spec.AccessNone && have == nil:
	case want.Mode == spec.AccessNone:
		d.Compare("access", have.Mode, "")
		d.Compare("table", have.Table, "")
		d.Reason = "the file asks for no access from the LAN any more"
	case have == nil:
		return plan.Delta{Action: plan.Create, Reason: "clients of the LAN have no way to " + want.Subnet}
	default:
		d.Compare("access", have.Mode, want.Mode)
		if have.Table == "" || have.Made != madeAccess(want, have.Uplink) {
			d.Compare("table", "made for something else", "made for this, and for uplink "+have.Uplink)
		}
		if !have.Whole {
			d.Compare("table", "changed by hand, or half made", "as it was made")
		}
		for _, name := range have.Closed {
			d.Compare("forwarding of "+name, "off", "on")
		}
		for _, name := range have.Ours {
			if name != have.Uplink && name != want.Bridge {
				d.Compare("forwarding of "+name, "on", "off")
			}
		}
		if !d.Empty() {
			d.Reason = "how the LAN reaches " + want.Subnet + " differs"
		}
	}
	return d
}

// Apply implements provider.Driver. What phoenix switches on is written down before, and the table stands before
// anything is forwarded.
func (d Access) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Access, _ plan.Delta) error {
	if s.Mode == spec.AccessNone {
		return d.Delete(ctx, h, a, s)
	}
	up, err := uplink(h, s)
	if err != nil {
		return err
	}
	state, err := readAccess(h, s)
	if err != nil {
		return err
	}
	next := accessState{Mode: s.Mode, Ours: state.Ours}
	if s.Mode == spec.AccessForward {
		if next.Ports, err = portsFree(h, s, state.Ports); err != nil {
			return err
		}
	}
	wanted := []string{up, s.Bridge}
	old := slices.DeleteFunc(slices.Clone(state.Ours), func(name string) bool { return slices.Contains(wanted, name) })
	for _, name := range wanted {
		if on, err := forwards(h, name); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		} else if !on && !slices.Contains(next.Ours, name) {
			next.Ours = append(next.Ours, name)
		}
	}
	if _, err := host.Table(ctx, h, "inet", s.Table()); err != nil { // before anything is written down
		return needsNFTFor("access from the LAN", err)
	}
	if err := writeAccess(h, s, state, next); err != nil {
		return err
	}
	if err := d.table(ctx, h, s, up); err != nil {
		return err
	}
	for _, name := range wanted {
		if err := setForwarding(ctx, h, name, true); err != nil {
			return err
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := closeAll(ctx, h, old); err != nil {
		return err
	}
	last := accessState{Mode: s.Mode, Ports: next.Ports, Ours: slices.DeleteFunc(slices.Clone(next.Ours),
		func(name string) bool { return slices.Contains(old, name) })}
	return writeAccess(h, s, next, last)
}

// table replaces the table in one step, and seals it. One that is as it should be stays: established connections would
// lose nothing, but a run that changes nothing says so.
func (d Access) table(ctx context.Context, h host.Host, s spec.Access, up string) error {
	text, err := host.Table(ctx, h, "inet", s.Table())
	if err != nil {
		return err
	}
	made, whole := comment.FindStringSubmatch(text), sealed.FindStringSubmatch(text)
	if made != nil && whole != nil && made[1] == madeAccess(s, up) && whole[1] == seal(text, "") {
		return nil
	}
	if _, err := nft(ctx, h, host.Command{Stdin: []byte(renderAccess(s, up)), Mutates: true}, "--file",
		"-"); err != nil {
		return needsNFTFor("access from the LAN", err)
	}
	if text, err = host.Table(ctx, h, "inet", s.Table()); err != nil {
		return err
	}
	_, err = nft(ctx, h, host.Command{Mutates: true}, "add", "chain", "inet", s.Table(), "sealed_"+seal(text, ""))
	return err
}

// Delete implements provider.Deleter. The forwarding that phoenix switched on ends before the table that restricts it
// goes, and the file that remembers it goes last.
func (Access) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.Access) error {
	state, err := readAccess(h, s)
	if err != nil {
		return err
	}
	if err := closeAll(ctx, h, state.Ours); err != nil {
		return err
	}
	text, err := host.Table(ctx, h, "inet", s.Table())
	switch {
	case host.Missing(err): // without nft there are no tables
	case err != nil:
		return err
	case text != "":
		if _, err := nft(ctx, h, host.Command{Mutates: true}, "delete", "table", "inet", s.Table()); err != nil {
			return err
		}
	}
	if _, err := h.Lstat(s.State); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.Remove(s.State)
}

// Watch implements provider.Watcher.
func (Access) Watch(want spec.Access, have *AccessStatus) provider.Watch {
	if want.Mode == spec.AccessNone && have == nil {
		return provider.Watch{}
	}
	return provider.Watch{Filters: true, Links: true}
}

// accessVersion is counted up when another table is made of the same spec.
const accessVersion = "access 1"

func madeAccess(s spec.Access, up string) string {
	raw, _ := json.Marshal(s) // plain data
	return digest(accessVersion + up + string(raw))
}

// renderAccess is what nft is given. Nothing of the LAN may speak with an address of the bridge's subnet. With forward
// only what was sent to a forwarded port comes in from the uplink; with route everything does, and the containers' own
// firewalls decide.
func renderAccess(s spec.Access, up string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n\tcomment \"phoenix: "+
		"firewall/%[2]s %[3]s\"\n", s.Table(), s.Bridge, madeAccess(s, up))
	in := fmt.Sprintf("iifname %q ", up)
	passing := []string{"type filter hook forward priority filter - 5; policy accept;", in + "ip saddr " + s.Subnet +
		" drop"}
	if s.Mode == spec.AccessForward {
		lines := []string{"type nat hook prerouting priority dstnat; policy accept;"}
		for _, p := range s.Leads() {
			proto, number, _ := strings.Cut(p.Port, "/")
			lines = append(lines, in+"ip saddr != "+s.Subnet+" fib daddr . iif type local "+proto+" dport "+number+" "+
				"dnat ip to "+p.To)
		}
		chain(&b, "ports", lines...)
		chain(&b, "leaving", "type nat hook postrouting priority srcnat; policy accept;",
			fmt.Sprintf("ip saddr %s oifname %q masquerade", s.Subnet, up))
		into := in + fmt.Sprintf("oifname %q ", s.Bridge)
		passing = append(passing, into+"ct state established,related accept", into+"ct status dnat accept", into+"drop")
	}
	chain(&b, "passing", passing...)
	b.WriteString("}\n")
	return b.String()
}
