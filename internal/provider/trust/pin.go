package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// PinDriver implements provider.Driver for spec.Pin. The first fingerprint is written; another one is refused, and
// nothing changed, unless the spec carries the consent to it. What the file says of another root (spec.Pins) is a
// person's wish and stays.
type PinDriver struct{}

// PinStatus is the pinned fingerprint.
type PinStatus struct {
	Fingerprint string `json:"fingerprint"` // empty: the file holds something else
	Content     string `json:"content,omitempty"`
	Mode        string `json:"mode"`
	Copied      bool   `json:"copied,omitempty"` // the copy of the cluster says the same

	pins  spec.Pins // all of it
	copy  *string   // what the copy holds; nil: there is none
	other spec.Pins // the same
}

// Decode implements provider.Driver. An empty fingerprint is one that is not known yet.
func (PinDriver) Decode(raw json.RawMessage) (spec.Pin, diag.List) {
	s, diags := provider.Decode[spec.Pin](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !filepath.IsAbs(s.Path) {
		diags.Errorf("path %q is not absolute", s.Path)
	}
	if (s.Copy != "") != (s.Proxmox != nil) || s.Copy != "" && !filepath.IsAbs(s.Copy) {
		diags.Errorf("copy %q: it is an absolute path on a Proxmox host, and only there", s.Copy)
	}
	checkFingerprint(s.Fingerprint, &diags)
	return s, diags
}

// Observe implements provider.Driver. Without the file of this node the copy of the cluster counts.
func (PinDriver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Pin) (*PinStatus, error) {
	raw, there, err := readPinFile(h, s.Path)
	if err != nil {
		return nil, err
	}
	var second string
	copied := false
	if s.Copy != "" {
		if second, copied, err = readPinFile(h, s.Copy); err != nil {
			return nil, err
		}
	}
	if !there && !copied {
		return nil, nil
	}
	st := &PinStatus{Copied: copied && there && second == raw, Mode: "none"}
	if there {
		m, err := h.Lstat(s.Path)
		if err != nil {
			return nil, err
		}
		st.Mode = modeOf(m)
	} else {
		raw = second
	}
	if copied {
		st.copy = &second
		if pins, err := spec.ParsePins(second); err == nil {
			st.other = pins
		}
	}
	if st.pins, err = spec.ParsePins(raw); err == nil {
		st.Fingerprint = st.pins.Root
	} else {
		st.Content = fmt.Sprintf("%.80q", strings.TrimSpace(raw))
	}
	return st, nil
}

func readPinFile(h host.Host, path string) (text string, there bool, err error) {
	raw, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(raw), err == nil, err
}

// Diff implements provider.Driver.
func (PinDriver) Diff(want spec.Pin, have *PinStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "no root is pinned yet",
			Fields: []plan.Field{{Path: "fingerprint", Want: want.Fingerprint}}}
	}
	var d plan.Delta
	d.Compare("fingerprint", have.Fingerprint+have.Content, want.Fingerprint)
	if !d.Empty() {
		d.Reason = "the CA has another root than the pinned one"
	}
	d.Compare("mode", have.Mode, goodMode)
	if want.Copy != "" && !have.Copied {
		d.Compare("copy", "none, or another", want.Copy)
	}
	return d
}

// Apply implements provider.Driver.
func (p PinDriver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Pin, _ plan.Delta) error {
	if s.Fingerprint == "" {
		return provider.Permanent(errors.New("the fingerprint of the root is not known"))
	}
	have, err := p.Observe(ctx, h, a, s) // again: what was observed before may be old
	if err != nil {
		return err
	}
	// another node has replaced the root
	if have != nil && have.Fingerprint != s.Fingerprint && have.other.Root == s.Fingerprint {
		have.Fingerprint, have.pins = have.other.Root, have.other
	}
	if have != nil && have.Fingerprint != s.Fingerprint && !s.NewRoot {
		return provider.PermanentHint(
			fmt.Errorf("the CA's root is sha256 %s, but %s pins %s", s.Fingerprint, s.Path,
				have.Fingerprint+have.Content),
			"phoenix ca restore FILE --password-file FILE brings the pinned root back from a backup; only if the new "+
				"one is yours: phoenix create "+
				a.Scope()+" --new-root pins it, and every client outside must then be given it (phoenix ca show)")
	}
	if have == nil && s.Unknown && !s.NewRoot {
		return provider.PermanentHint(
			fmt.Errorf("the CA's root is sha256 %s, and nobody on this node of the cluster knows whether that is the "+
				"right one: it was not pinned", s.Fingerprint),
			"phoenix ca show on the node that it came from tells the right one; where this is it: phoenix create "+
				a.Scope()+" --new-root")
	}
	if err := h.MkdirAll(filepath.Dir(s.Path), 0o711, host.Root); err != nil {
		return err
	}
	pins := spec.Pins{Root: s.Fingerprint}
	if have != nil && have.Fingerprint == s.Fingerprint {
		pins = have.pins // its mode is all that is wrong
	}
	if err := h.WriteFile(s.Path, []byte(pins.String()), 0o644, host.Root); err != nil || s.Copy == "" {
		return err
	}
	var was *string
	if have != nil {
		was = have.copy
	}
	if was == nil || *was != pins.String() {
		lock := filepath.Join(s.Proxmox.Locks, "lxc", "phoenix-pins.lock")
		if _, err := provider.ReplaceProxmox(ctx, h, *s.Proxmox, lock, s.Copy, was, pins.String()); err != nil {
			return err
		}
	}
	if _, err := h.Lstat(s.Copy + spec.FirstRootMark); err != nil {
		return nil
	}
	return h.Remove(s.Copy + spec.FirstRootMark)
}

// Delete implements provider.Deleter: a root that is given up is no longer waited for.
func (PinDriver) Delete(_ context.Context, h host.Host, _ object.Address, s spec.Pin) error {
	if s.Copy != "" {
		if err := h.Remove(s.Copy); err != nil {
			return err
		}
	}
	return h.Remove(s.Path)
}
