package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Observe implements provider.Driver. It runs no command.
func (d Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Template) (*Status, error) {
	st, err := d.look(h, s)
	if err != nil || st.Path == "" {
		return nil, err
	}
	return st, nil
}

// look gives a status where there is no template, too.
func (d Driver) look(h host.Host, s spec.Template) (*Status, error) {
	st := &Status{}
	source, err := sourceOf(h, s)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		st.Wanted = treeKey(s, source)
	}
	recorded, err := readIfThere(h, inputs(s))
	if err != nil {
		return nil, err
	}
	if m, err := h.Lstat(tree(s)); err == nil && m.Mode.IsDir() && recorded != "" {
		st.Path, st.Inputs = tree(s), strings.TrimSpace(recorded)
	}
	return st, nil
}

func readIfThere(h host.Host, path string) (string, error) {
	b, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// sourceOf names what the tree is made from. An archive goes by path, size and time: reading it takes longer than a
// whole no-op.
func sourceOf(h host.Host, s spec.Template) (string, error) {
	if s.Archive == "" {
		return debian(s).Key(), nil
	}
	m, err := h.Lstat(s.Archive)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d", s.Archive, m.Size, m.ModTime.UnixNano()), nil
}
