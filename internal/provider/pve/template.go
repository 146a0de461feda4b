package pve

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Template keeps a container that others are cloned from: it is made once, its snapshot is taken, and it never runs.
// One that somebody else made serves as well, and is not touched. It implements provider.Driver and provider.Deleter.
type Template struct{}

var plainWord = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// TemplateStatus is what was seen of a template.
type TemplateStatus struct {
	Ours     bool   `json:"ours"`
	Half     bool   `json:"half,omitempty"`     // a killed create left it
	Snapshot string `json:"snapshot,omitempty"` // to be cloned from; empty: none
	Template bool   `json:"template,omitempty"` // it is one of Proxmox's own templates
	Stuck    bool   `json:"stuck,omitempty"`    // a clone that was killed at its end left it locked
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
	for _, word := range append([]string{s.Suite}, s.Packages...) {
		if word != "" && !plainWord.MatchString(word) {
			diags.Errorf("template %s: %q is no name of a Debian suite or package", s.ID, word)
		}
	}
	for _, path := range []string{s.Dir, s.Cache} {
		if path != "" {
			checkPath(&diags, path)
		}
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
	st.Stuck = st.Ours && stuck(h, s.ID, c)
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
	if have.Stuck {
		d.Compare("lock", "disk, and nobody is at work on it", "")
	}
	return d
}

// Apply implements provider.Driver.
func (Template) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Template, d plan.Delta) error {
	p := s.Definition.Guest.Proxmox
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	if c, err := look(h, p, s.ID); err != nil {
		return err
	} else if c != nil {
		if err := unlockSource(ctx, h, p, s.ID, c); err != nil {
			return err
		}
	}
	if d.Action == plan.Create && s.Definition.Guest.Archive == "" && s.Definition.Guest.CloneFrom == "" {
		archive, err := built(ctx, h, s)
		if err != nil {
			return err
		}
		other := *s.Definition
		other.Guest = withVolumes(other.Guest, other.Guest.Volumes)
		other.Guest.Archive = archive
		s.Definition = &other
	}
	if err := (Container{}).Apply(ctx, h, a, *s.Definition, plan.Delta{}); err != nil {
		return err
	}
	if s.Dir != "" {
		if err := h.RemoveAll(filepath.Join(s.Dir, "."+s.ID+".build")); err != nil {
			return err
		}
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
	return takeSnapshot(ctx, h, spec.Snapshot{ID: s.ID, Name: s.Snapshot, About: "what containers are cloned from",
		Proxmox: p}, c)
}

// fitScript runs in a tree that was just built: clones have an identity of their own, what an unprivileged container
// may not do would leave systemd degraded, and nothing runs until an object asks for it. Proxmox takes a clone's
// machine id away, so that its first boot would enable all that packages bring: presets say otherwise.
var fitScript = `rm -f /etc/hostname; : >/etc/machine-id
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount systemd-modules-load.service systemd-firstboot.service systemd-udevd.service; do
    ln -sfn /dev/null "/etc/systemd/system/$unit"
done
rm -f /etc/systemd/system/timers.target.wants/* /etc/systemd/system/multi-user.target.wants/nginx.service /etc/nginx/sites-enabled/default
` + spec.WritePreset()

// built is the archive of a Debian for Proxmox, which writes the network's configuration for ifupdown; that of an Ubuntu
// for systemd-networkd, which comes with systemd there.
func built(ctx context.Context, h host.Host, s spec.Template) (string, error) {
	if s.Suite == "" || s.Dir == "" {
		return "", provider.PermanentHint(fmt.Errorf("template %s has no archive to be made from", s.ID),
			"pveam available lists those that can be had, pveam download gets one")
	}
	packages := s.Packages
	if spec.DistributionOf(s.Suite) != spec.Ubuntu {
		packages = append([]string{"ifupdown"}, packages...)
	}
	work := filepath.Join(s.Dir, "."+s.ID+".build")
	d := provider.Debian{
		Suite: s.Suite, Mirror: s.Mirror, Packages: packages, Cache: s.Cache,
		Work:    work,
		Options: []string{"--customize-hook=chroot \"$1\" /bin/sh -c " + host.Quote([]string{fitScript})},
	}
	return d.Archive(ctx, h)
}

// Delete implements provider.Deleter. One that somebody else made is kept.
func (Template) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Template) error {
	c, err := look(h, s.Definition.Guest.Proxmox, s.ID)
	if c == nil || err != nil || !c.marked(s.ID) && !c.half() {
		return err
	}
	return Container{}.Delete(ctx, h, a, *s.Definition)
}
