package pve

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

// Firewall keeps a container's file of Proxmox's firewall. It implements provider.Driver, provider.Deleter and
// provider.Watcher. It runs no command to look.
type Firewall struct{}

// NewFirewall gives the driver without its types.
func NewFirewall() provider.Erased { return provider.New(Firewall{}) }

// FirewallStatus is what was seen of a file.
type FirewallStatus struct {
	Options map[string]string `json:"options"`
	Rules   []string          `json:"rules"`  // phoenix's, by their meaning
	Others  []string          `json:"others"` // those that others wrote
	Doubled []string          `json:"-"`      // of Others, what phoenix's say too
}

func filterPath(p spec.Proxmox, name string) string {
	return filepath.Join(p.Dir, "firewall", name+".fw")
}

// filterOption is an option of a container's file, and what holds where it is not in it.
type filterOption struct{ key, want, unset string }

// filterOptions are those that phoenix sets. A source means something only where nobody speaks with another's address,
// so that all but policy_in are set for a container that asks for no firewall too. What makes each necessary was seen
// with pve-firewall 6: a frame with a VLAN tag is neither IPv4 nor IPv6 to it, and passes unless layer2_protocols says
// what else may; with dhcp, DHCP packets pass before the hardware address is looked at; with ndp, neighbour
// advertisements pass before all rules.
func filterOptions(s spec.Firewall) []filterOption {
	policy, ndp := "DROP", "1"
	if s.Open {
		policy = "ACCEPT"
	}
	if noIPv6(s) {
		ndp = "0"
	}
	return []filterOption{{"enable", "1", "0"}, {"policy_in", policy, "DROP"}, {"ipfilter", "1", "0"},
		{"macfilter", "1", "1"}, {"dhcp", "0", "1"},
		{"ndp", ndp, "1"}, {"radv", "0", "0"}, {"layer2_protocols", "ARP", ""}}
}

func noIPv6(s spec.Firewall) bool {
	a, err := netip.ParseAddr(s.Address)
	return err == nil && a.Is4() && s.Address6 == ""
}

// wantedOptions are filterOptions but for the policy of a firewall that somebody else has switched on in a container
// that asks for none: it stays as closed as it is.
func wantedOptions(s spec.Firewall, have *FirewallStatus) []filterOption {
	options := filterOptions(s)
	if have == nil || !have.foreign(s) {
		return options
	}
	return slices.DeleteFunc(options, func(o filterOption) bool { return o.key == "policy_in" })
}

// foreign tells whether a firewall is on that is not phoenix's, of a container that asks for none.
func (st *FirewallStatus) foreign(s spec.Firewall) bool {
	own := identityRules(s)
	return s.Open && st.Options["enable"] == "1" &&
		!slices.ContainsFunc(st.Rules, func(r string) bool { return !slices.Contains(own, r) })
}

func identityRules(s spec.Firewall) (out []string) {
	for _, r := range s.Rules {
		out = append(out, r.Meaning())
	}
	return out
}

// everything are the rules that keep those of others without effect, as they were before the file was switched on.
var everything = []spec.Rule{
	{Direction: spec.In, Action: spec.Accept, Comment: "no firewall is asked for: what follows has no effect"},
	{Direction: spec.Out, Action: spec.Accept, Comment: "no firewall is asked for: what follows has no effect"},
}

// wantedRules are those of the spec and, in a container that asks for no firewall, what keeps the rules of others
// without effect that had none when the file was switched on.
func wantedRules(s spec.Firewall, have *FirewallStatus) []spec.Rule {
	if !s.Open || have == nil {
		return s.Rules
	}
	switched := have.Options["enable"] != "1" && len(have.Others) > 0
	if switched || slices.Contains(have.Rules, everything[0].Meaning()) && len(have.Others) > 0 {
		return append(slices.Clone(s.Rules), everything...)
	}
	return s.Rules
}

// Decode implements provider.Driver.
func (Firewall) Decode(raw json.RawMessage) (spec.Firewall, diag.List) {
	s, diags := provider.Decode[spec.Firewall](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkID(&diags, s.ID)
	if s.Proxmox == nil {
		diags.Errorf("the firewall of container %s: proxmox is missing", s.ID)
		return s, diags
	}
	checkPlace(&diags, *s.Proxmox)
	if _, err := netip.ParseAddr(s.Address); err != nil {
		diags.Errorf("%q is no address", s.Address)
	}
	if a, err := netip.ParseAddr(s.Address6); s.Address6 != "" && (err != nil || !a.Is6()) {
		diags.Errorf("%q is no IPv6 address", s.Address6)
	}
	checkRules(&diags, s.Rules)
	return s, diags
}

// checkRules makes sure that a rule is read from the file as it is written to it.
func checkRules(diags *diag.List, rules []spec.Rule) {
	for _, r := range rules {
		line := ruleLine(r)
		back, ok := parseRule(line)
		if !ok || back.Meaning() != r.Meaning() || strings.Count(line, "\n") != 1 {
			diags.Errorf("rule %q cannot be written so that Proxmox reads it", r.Meaning())
		}
	}
}

// Observe implements provider.Driver.
func (Firewall) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Firewall) (*FirewallStatus, error) {
	f, there, err := readFilter(h, filterPath(*s.Proxmox, s.ID))
	if err != nil || !there {
		return nil, err
	}
	st := f.status(s.Rules)
	if s.Off && len(st.Rules) == 0 {
		return nil, nil // whatever there is is not phoenix's
	}
	return st, nil
}

func (f *filter) status(want []spec.Rule) *FirewallStatus {
	st := &FirewallStatus{Options: map[string]string{}, Rules: []string{}, Others: []string{}}
	for _, o := range filterOptions(spec.Firewall{}) {
		if st.Options[o.key] = f.option(o.key); st.Options[o.key] == "" {
			st.Options[o.key] = o.unset
		}
	}
	for _, r := range f.rules() {
		meaning := r.Meaning()
		if r.off {
			meaning = "off: " + meaning
		}
		switch {
		case r.ours:
			st.Rules = append(st.Rules, meaning)
			continue
		case repeated(r, want):
			st.Doubled = append(st.Doubled, meaning)
		}
		st.Others = append(st.Others, meaning)
	}
	return st
}

// readFilter reads a file; one that is not there is empty.
func readFilter(h host.Host, path string) (*filter, bool, error) {
	raw, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return parseFilter(""), false, nil
	}
	return parseFilter(string(raw)), err == nil, err
}

// Diff implements provider.Driver.
func (Firewall) Diff(want spec.Firewall, have *FirewallStatus) plan.Delta {
	switch {
	case want.Off && have == nil:
		return plan.Delta{}
	case want.Off:
		return plan.Delta{Action: plan.Update, Reason: "there is to be no firewall"}
	case have == nil:
		return plan.Delta{Action: plan.Create, Reason: "no firewall rules loaded: the container can use any address"}
	}
	var d plan.Delta
	for _, o := range wantedOptions(want, have) {
		d.Compare(o.key, have.Options[o.key], o.want)
	}
	compareRules(&d, have, wantedRules(want, have), want.Prune && !want.Open)
	return d
}

// compareRules compares phoenix's rules by meaning and in their order.
func compareRules(d *plan.Delta, have *FirewallStatus, rules []spec.Rule, prune bool) {
	var want []string
	for _, r := range rules {
		want = append(want, r.Meaning())
	}
	before := len(d.Fields)
	for _, r := range want {
		if !slices.Contains(have.Rules, r) {
			d.Compare("rule", "", r)
		}
	}
	gone := slices.Clone(have.Doubled)
	if prune {
		gone = have.Others
	}
	for _, r := range have.Rules {
		if !slices.Contains(want, r) {
			d.Compare("rule", r, "")
		}
	}
	for _, r := range gone {
		d.Compare("rule of another", r, "")
	}
	if len(d.Fields) == before && !slices.Equal(have.Rules, want) {
		d.Compare("rules", "in another order, or twice", "in order")
	}
}

// Apply implements provider.Driver.
func (k Firewall) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Firewall, _ plan.Delta) error {
	if s.Off {
		return k.Delete(ctx, h, a, s)
	}
	return editFilter(ctx, h, *s.Proxmox, filterPath(*s.Proxmox, s.ID), func(f *filter) {
		have := f.status(s.Rules)
		options, rules := wantedOptions(s, have), wantedRules(s, have)
		for _, o := range options {
			f.setOption(o.key, o.want)
		}
		f.setRules(rules, s.Prune && !s.Open)
	})
}

// Delete implements provider.Deleter. What others wrote stays, and has no effect.
func (Firewall) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.Firewall) error {
	path := filterPath(*s.Proxmox, s.ID)
	f, there, err := readFilter(h, path)
	if err != nil || !there || !slices.ContainsFunc(f.rules(), func(r fileRule) bool { return r.ours }) {
		return err
	}
	return editFilter(ctx, h, *s.Proxmox, path, func(f *filter) {
		f.setRules(nil, false)
		for _, o := range filterOptions(s) {
			if o.key != "policy_in" && o.key != "enable" {
				f.setOption(o.key, "")
			}
		}
		f.setOption("enable", "0")
	})
}

// editFilter changes one of Proxmox's firewall files, unless there is nothing to change.
func editFilter(ctx context.Context, h host.Host, p spec.Proxmox, path string, change func(*filter)) error {
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	f, there, err := readFilter(h, path)
	if err != nil {
		return err
	}
	was := f.text()
	change(f)
	if there && f.text() == was {
		return nil
	}
	before := &was
	if !there {
		before = nil
	}
	name := strings.TrimSuffix(filepath.Base(path), ".fw")
	res, err := provider.ReplaceProxmox(ctx, h, p, filepath.Join(p.Locks, "lxc", "phoenix-firewall-"+name+".lock"),
		path, before, f.text())
	if err != nil {
		err = fmt.Errorf("%s: %w", path, explain(name, res, err))
	}
	return err
}
