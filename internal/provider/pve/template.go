package pve

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Template keeps a container that others are cloned from: it is made once, its snapshot is taken, and it never runs. One that
// somebody else made serves as well, and is not touched. It implements provider.Driver and provider.Deleter.
type Template struct{}

// TemplateStatus is what was seen of a template.
type TemplateStatus struct {
	Ours     bool   `json:"ours"`
	Half     bool   `json:"half,omitempty"`     // a killed create left it
	Snapshot string `json:"snapshot,omitempty"` // to be cloned from; empty: none
	Template bool   `json:"template,omitempty"` // it is one of Proxmox's own templates
}

// Decode implements provider.Driver.
func (Template) Decode(raw json.RawMessage) (spec.Template, diag.List) {
	s, diags := provider.Decode[spec.Template](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkID(&diags, s.ID)
	if s.Definition == nil || s.Definition.ID != s.ID {
		diags.Errorf("template %s: nothing is said about its container", s.ID)
		return s, diags
	}
	checkContainer(&diags, *s.Definition)
	if s.Snapshot != "" {
		checkSnapshot(&diags, s.ID, s.Snapshot)
	}
	return s, diags
}

// Observe implements provider.Driver; nil: there is none. It runs no command.
func (Template) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Template) (*TemplateStatus, error) {
	c, err := look(h, s.Definition.Guest.Proxmox, s.ID)
	if c == nil || err != nil {
		return nil, err
	}
	st := &TemplateStatus{Ours: c.marked(s.ID), Half: c.half(), Template: c.current().get("template") == "1"}
	if have := seenSnapshot(c, s.Snapshot); s.Snapshot != "" && have != nil && have.State == "" {
		st.Snapshot = s.Snapshot
	}
	if !st.Half && !st.Ours && !st.fit(s) {
		_, err = read(h, s.Definition.Guest.Proxmox, s.ID) // which says what to do
	}
	return st, err
}

// fit tells whether containers can be cloned from it.
func (st *TemplateStatus) fit(s spec.Template) bool { return st.Template || st.Snapshot == s.Snapshot }

// Diff implements provider.Driver. What a template was made from is not compared: its clones stay as they are.
func (Template) Diff(want spec.Template, have *TemplateStatus) plan.Delta {
	switch {
	case have == nil:
		return plan.Delta{Action: plan.Create, Reason: "the template does not exist"}
	case have.Half:
		return plan.Delta{Action: plan.Create, Reason: "it was left half made: it is removed and made again"}
	}
	var d plan.Delta
	if !have.fit(want) {
		d.Compare("snapshot", have.Snapshot, want.Snapshot)
	}
	return d
}

// Apply implements provider.Driver.
func (Template) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Template, _ plan.Delta) error {
	p := s.Definition.Guest.Proxmox
	if err := (Container{}).Apply(ctx, h, a, *s.Definition, plan.Delta{}); err != nil {
		return err
	}
	if s.Snapshot == "" {
		return nil
	}
	c, err := read(h, p, s.ID)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("template %s is gone right after it was made", s.ID)
	}
	return takeSnapshot(ctx, h, spec.Snapshot{ID: s.ID, Name: s.Snapshot, About: "what containers are cloned from", Proxmox: p}, c)
}

// Delete implements provider.Deleter. One that somebody else made is kept.
func (Template) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Template) error {
	c, err := look(h, s.Definition.Guest.Proxmox, s.ID)
	if c == nil || err != nil || !c.marked(s.ID) && !c.half() {
		return err
	}
	return Container{}.Delete(ctx, h, a, *s.Definition)
}
