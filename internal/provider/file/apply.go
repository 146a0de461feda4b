package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, want spec.File, d plan.Delta) error {
	owner, err := h.Lookup(want.Owner, want.Group)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", want.Path, err)
	}
	if d.Action == plan.Create || d.Has("kind") {
		if err := h.MkdirAll(filepath.Dir(want.Path), 0o755, host.Root); err != nil {
			return err
		}
		return put(ctx, h, want, owner)
	}
	if d.Has("content") {
		return put(ctx, h, want, owner)
	}
	if d.Has("owner") { // before the mode: a change of owner clears setuid and setgid
		if err := h.Chown(want.Path, owner); err != nil {
			return err
		}
	}
	return h.Chmod(want.Path, want.Mode.Perm())
}

func put(ctx context.Context, h host.Host, s spec.File, owner host.Owner) error {
	if err := makeWay(h, s); err != nil {
		return err
	}
	var err error
	switch {
	case s.Directory:
		err = h.MkdirAll(s.Path, s.Mode.Perm(), owner)
	case s.SHA256 != "":
		err = fetch(ctx, h, s, owner)
	default:
		err = h.WriteFile(s.Path, []byte(s.Content), s.Mode.Perm(), owner)
	}
	if err == nil && s.Mode&^0o777 != 0 { // in a user namespace each write takes setuid and setgid away, root's too
		err = h.Chmod(s.Path, s.Mode.Perm())
	}
	return err
}

// makeWay refuses what may hold data and takes away a link where a directory should be; a file replaces the rest by
// itself.
func makeWay(h host.Host, s spec.File) error {
	m, err := h.Lstat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	have, want := kind(m.Mode), wantKind(s)
	if have != want && (s.Directory && have != isLink || have == isDirectory) {
		return provider.PermanentHint(fmt.Errorf("%s is a %s and should be a %s", s.Path, have, want),
			"look at what is in it, move it away, and run phoenix again")
	}
	if s.Directory && have == isLink {
		return h.Remove(s.Path)
	}
	return nil
}

// fetch puts a checked blob in place together with its stamp. The name beside it is always the same, so that what a
// killed apply leaves there is used up by the next.
func fetch(ctx context.Context, h host.Host, s spec.File, owner host.Owner) error {
	fresh := filepath.Join(filepath.Dir(s.Path), "."+filepath.Base(s.Path)+".phoenix-new")
	err := h.Fetch(ctx, s.SHA256, fresh, s.Mode.Perm(), owner)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("content of %s (sha256 %s) is not on this host: run phoenix apply on the hypervisor, which "+
			"has it: %w", s.Path, s.SHA256, err)
	}
	if err != nil {
		return err
	}
	touch := []string{"touch", "--no-create", "--no-dereference", "-m", "--date=" + provider.StampText(s.SHA256),
		"--", fresh}
	if _, err := h.Run(ctx, host.Command{Argv: touch, Mutates: true}); err != nil {
		return err
	}
	return h.Rename(fresh, s.Path)
}
