package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// siteKinds are objects of the site that hold what a successor of another name needs: an address, a port, packets.
var siteKinds = []string{spec.KindNetwork, spec.KindDNS, spec.KindHostFirewall, spec.KindAccess}

// lastApplied is the site as a person last had it applied; nil where it is the same, or nobody knows.
func (s *session) lastApplied() *house {
	r, err := s.readRecord(s.recordPath())
	if err != nil || r == nil {
		return nil
	}
	key, _ := s.revision(s.version, s.host.Now())
	rev, known := r.Revisions[r.Site]
	if !known || key == r.Site {
		return nil
	}
	old, err := s.loadRevision(rev)
	if err != nil {
		s.log.Debug("what was applied cannot be compared with", "error", err)
		return nil
	}
	return old
}

// exists is whether an object is there.
func (s *session) exists(ctx context.Context, o object.Object) bool {
	obs, err := s.target.Observe(ctx, o)
	return err == nil && len(obs.Status) > 0
}

// renamed refuses, before anything is changed, what was renamed, renumbered or moved in the file so that the old and
// the new one would stand in each other's way or the new one begin with nothing. It returns the objects of the site
// that have to go first.
func (s *session) renamed(ctx context.Context, containers []string) ([]object.Object, error) {
	old := s.lastApplied()
	if old == nil {
		return nil, nil
	}
	errs := s.movedRoles(ctx, old)
	errs = append(errs, s.movedVolumes(ctx, old, containers)...)
	left := s.leavings(ctx, old)
	if len(left) > 0 && len(errs) == 0 {
		if err := s.mayLeave(left, containers); err != nil {
			errs = append(errs, err)
		}
	}
	s.tellRootName(old)
	return left, errors.Join(errs...)
}

// movedRoles are refusals of what another container has now, while the one that had it is there.
func (s *session) movedRoles(ctx context.Context, old *house) (errs []error) {
	for _, m := range config.Moves(old.cfg, s.cfg) {
		o, known := object.Find(old.objects, object.NewAddress(spec.KindContainer, m.From))
		if !known || !s.exists(ctx, o) {
			continue
		}
		if m.To == "" {
			errs = append(errs, hint(m.Hint, "container %s was %s and is not any more, nor is another one", m.From, m.What))
			continue
		}
		what := m.What + " was container " + m.From + "'s and is container " + m.To + "'s in the file"
		errs = append(errs, hint(m.Hint, "%s, and container %s is still there", what, m.From))
	}
	return errs
}

// movedVolumes are refusals of volumes that would be made again, empty, somewhere else.
func (s *session) movedVolumes(ctx context.Context, old *house, containers []string) (errs []error) {
	for _, o := range old.objects {
		if o.Address.Kind() != spec.KindVolume || !slices.Contains(containers, o.Container) {
			continue
		}
		was, okWas := specOf[spec.Volume](old.objects, o.Address)
		n, still := s.successor(o, was)
		is, okIs := specOf[spec.Volume](s.objects, n.Address)
		if !still || !okWas || !okIs || was.Proxmox != nil || was.HostDirectory != nil || is.HostDirectory != nil ||
			o.Provider == n.Provider && was.Path == is.Path && was.Pool == is.Pool {
			continue
		}
		if s.exists(ctx, n) || !s.exists(ctx, o) {
			continue
		}
		errs = append(errs, hint(fmt.Sprintf("phoenix stop %s, then move %s to %s with all attributes (mv, or zfs "+
			"rename); without what is on it: phoenix delete %s --volumes=%s, with the old pool in the file",
			o.Container, place(was), place(is), o.Container, o.Container),
			"%s is at %s, and the file has %s at %s, where it would begin empty", o.Address, place(was), n.Address,
			place(is)))
	}
	return errs
}

// successor is the volume that the file has in the place of one: the one of its name, else the one that is mounted
// where it was.
func (s *session) successor(o object.Object, was spec.Volume) (object.Object, bool) {
	if n, still := object.Find(s.objects, o.Address); still {
		return n, true
	}
	for _, n := range s.objects {
		if n.Address.Kind() != spec.KindVolume || n.Container != o.Container {
			continue
		}
		if is, ok := specOf[spec.Volume](s.objects, n.Address); ok && is.MountPoint == was.MountPoint {
			return n, true
		}
	}
	return object.Object{}, false
}

func place(v spec.Volume) string {
	if v.Pool != "" {
		return v.Pool + " (" + v.Path + ")"
	}
	return v.Path
}

// leavings are objects of the site that the file has under another name, or a bridge with another address, and that
// are still there.
func (s *session) leavings(ctx context.Context, old *house) (left []object.Object) {
	for _, o := range old.objects {
		if !slices.Contains(siteKinds, o.Address.Kind()) {
			continue
		}
		if _, still := object.Find(s.objects, o.Address); still {
			var was, is spec.Network
			n, _ := object.Find(s.objects, o.Address)
			if o.Address.Kind() != spec.KindNetwork || json.Unmarshal(o.Spec, &was) != nil ||
				json.Unmarshal(n.Spec, &is) != nil || was.Address == is.Address {
				continue
			}
		}
		if s.exists(ctx, o) {
			left = append(left, o)
		}
	}
	if !slices.ContainsFunc(left, func(o object.Object) bool { return o.Address.Kind() == spec.KindNetwork }) {
		return nil // the bridge stays: what went with a key of its own is the derivation's
	}
	return left
}

// mayLeave wants consent, and all containers: each of them is plugged into what goes.
func (s *session) mayLeave(left []object.Object, containers []string) error {
	var was []string
	for _, o := range left {
		was = append(was, string(o.Address))
	}
	iface := s.cfg.Hypervisor.Network.Interface
	what := fmt.Sprintf("bridge %s with %s is what the file asks for now, and %s of what was applied would stay beside "+
		"it", iface.Name, iface.Address, strings.Join(was, ", "))
	for _, o := range left {
		if port := s.foreignPort(o.Address.Scope()); port != "" {
			return hint("give this root a bridge of its own, or move the other root's containers away first",
				"%s: a container of another root is plugged into %s, as %s", what, o.Address.Scope(), port)
		}
		if port := s.strangePort(o.Address.Scope()); port != "" {
			return hint("unplug it: ip link set "+port+" nomaster; then run it again",
				"%s: %s, which is none of phoenix', is plugged into %s and would lose it", what, port, o.Address.Scope())
		}
	}
	for _, c := range s.cfg.Containers {
		if !s.cfg.IsTemplate(c.ID) && !slices.Contains(containers, c.ID) {
			return hint("phoenix apply --yes, without ids", "%s: that is for all containers at once", what)
		}
	}
	if !s.opts.yes {
		return hint("phoenix apply --yes removes them first, and restarts the containers", "%s", what)
	}
	return nil
}

// phoenixPort is how phoenix calls the hypervisor's end of a container's interface (config.PortName).
var phoenixPort = regexp.MustCompile(`^v(\d+)p[0-9a-f]{4}$`)

// foreignPort is a port of a bridge that belongs to a container of another root; empty: there is none.
func (s *session) foreignPort(bridge string) string {
	for _, name := range s.namesIn(filepath.Join("/sys/class/net", bridge, "brif")) {
		if m := phoenixPort.FindStringSubmatch(name); m != nil && config.PortName(s.machine.Root, m[1]) != name {
			return name
		}
	}
	return ""
}

// strangePort is a port of a bridge that phoenix did not make: an uplink, a virtual machine's; empty: there is none.
func (s *session) strangePort(bridge string) string {
	for _, name := range s.namesIn(filepath.Join("/sys/class/net", bridge, "brif")) {
		if !phoenixPort.MatchString(name) {
			return name
		}
	}
	return ""
}

// removeLeft takes away what is in the way of its successor. Killed in between, the next run goes on.
func (s *session) removeLeft(ctx context.Context, left []object.Object) error {
	if len(left) == 0 {
		return nil
	}
	_, err := s.target.Remove(ctx, left, engine.Delete)
	return err
}

// tellRootName says what another name of the root means: nothing, until there is another root.
func (s *session) tellRootName(old *house) {
	was, is := old.cfg.RootName(), s.cfg.RootName()
	if was != is && s.machine.Pins != (spec.Pins{}) {
		s.view.Step(fmt.Sprintf("the root that is there keeps its name (%q): %q is for the next one, which phoenix ca "+
			"rotate --new-root makes", was, is))
	}
}
