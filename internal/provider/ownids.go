package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// What keeps a container in a range of ids of its own, whoever runs it: the claims of ranges, the walk through
// directories, and what a plan says of both.

// IDsStatus is what was seen of a container's ids.
type IDsStatus struct {
	Claimed bool     `json:"claimed"`          // the range was given to this container
	IDMap   string   `json:"id_map,omitempty"` // of its configuration, or privileged; empty: there is no container
	From    string   `json:"from,omitempty"`   // the ranges from which its files are being moved
	Behind  []string `json:"behind,omitempty"` // directories that belong to another range
	// Shared are directories of the users' that another container mounts too, where they are to be moved.
	Shared  []string `json:"shared,omitempty"`
	Running bool     `json:"running,omitempty"` // it runs; looked at only where something is to be moved
}

// Privileged stands for the range of a container that maps no ids.
const Privileged = "privileged"

const walkLimit = 15 * time.Minute

// DiffIDs compares a container's ids with what they should be.
func DiffIDs(want spec.IDRange, have *IDsStatus) plan.Delta {
	own := idrange.Text(want.IDMap)
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "it gets a range of ids of its own",
			Fields: []plan.Field{{Path: "id_map", Want: own}}}
	}
	var d plan.Delta
	other := have.IDMap != "" && have.IDMap != own
	if other && want.Stays {
		return d
	}
	if !have.Claimed {
		d.Compare("claimed", "", own)
	}
	if other {
		d.Compare("id_map", have.IDMap, own)
		tellBinds(&d, want, have, have.IDMap)
		d.Reason, d.Interrupts = "it gets a range of ids of its own: stopped, its files moved, and started again", true
		return d
	}
	for _, dir := range have.Behind {
		d.Compare("owner of "+dir, "of another range", own)
	}
	d.Compare("moved from", have.From, "")
	if have.From != "" {
		tellBinds(&d, want, have, have.From)
	}
	if have.From != "" || len(have.Behind) > 0 {
		d.Reason, d.Interrupts = "not all of its files are of its own range of ids", have.Running
	}
	return d
}

// Claim is the link that says whose a range is.
func Claim(s spec.IDRange) string { return filepath.Join(s.Claims, strconv.Itoa(s.IDMap.Base)) }

// claimant is what the link leads to.
func claimant(s spec.IDRange) string { return filepath.Join(s.Path, s.ID) }

// Claimed is whether the range was given to this container. That it was given to another is a permanent error.
func Claimed(h host.Host, s spec.IDRange) (bool, error) {
	target, err := h.Readlink(Claim(s))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case target != claimant(s):
		return false, PermanentHint(fmt.Errorf("the ids %s were given to %s meanwhile", idrange.Text(s.IDMap), target),
			"run the same command again: another range is chosen")
	}
	return true, nil
}

// TakeClaim claims the range; that another was faster is an error of ln.
func TakeClaim(ctx context.Context, h host.Host, s spec.IDRange) error {
	if err := h.MkdirAll(s.Claims, 0o755, host.Root); err != nil {
		return err
	}
	argv := []string{"ln", "--symbolic", "--no-target-directory", "--", claimant(s), Claim(s)}
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

// DropClaim gives the range back. It is for when container and volumes are gone.
func DropClaim(h host.Host, s spec.IDRange) error {
	own, err := Claimed(h, s)
	if err != nil || !own {
		return nil // another's by now
	}
	if err := h.Remove(Claim(s)); err != nil {
		return err
	}
	if left, err := h.ReadDir(s.Claims); err == nil && len(left) == 0 {
		return h.Remove(s.Claims)
	}
	return nil
}

// ForeignRanges are the ranges of containers, other than its own, that a directory's owner is of.
func ForeignRanges(m host.Meta, own spec.IDMap) (out []spec.IDMap) {
	for _, id := range []int{m.UID, m.GID} {
		r := spec.IDMap{Base: id / idrange.Size * idrange.Size, Count: idrange.Size}
		if idrange.Within(spec.IDMap{Base: id, Count: 1}, idrange.Shared) {
			r = idrange.Shared
		} else if id < idrange.Least {
			continue // the hypervisor's own
		}
		if !idrange.Overlaps(r, own) && (len(out) == 0 || out[0] != r) {
			out = append(out, r)
		}
	}
	return out
}

// AreBehind are the directories that belong to another range than a container's own.
func AreBehind(h host.Host, own spec.IDMap, dirs []string) (out []string) {
	for _, dir := range dirs {
		if m, err := h.Lstat(dir); err == nil && m.Mode.IsDir() && len(ForeignRanges(m, own)) > 0 {
			out = append(out, dir)
		}
	}
	return out
}

// WalkOwn moves a directory of the container's own from the given ranges and from that of its owner; one that is not
// there is passed over.
func WalkOwn(ctx context.Context, h host.Host, dir string, to spec.IDMap, from []spec.IDMap) error {
	m, err := h.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return walkIDs(ctx, h, dir, to, slices.Concat(from, ForeignRanges(m, to)))
}

// walkIDs moves a directory from the given ranges.
func walkIDs(ctx context.Context, h host.Host, dir string, to spec.IDMap, from []spec.IDMap) error {
	move := idshift.Move{To: idshift.Range(to)}
	for _, f := range from {
		known := false
		for _, o := range move.From {
			known = known || idrange.Overlaps(f, spec.IDMap(o))
		}
		if !known && !idrange.Overlaps(f, to) {
			move.From = append(move.From, idshift.Range(f))
		}
	}
	if len(move.From) == 0 {
		return nil
	}
	if err := h.ShiftIDs(ctx, dir, move); err != nil {
		return err
	}
	_, err := h.Run(ctx, host.Command{Argv: []string{"sync", "--file-system", dir}, Limit: walkLimit})
	return err
}
