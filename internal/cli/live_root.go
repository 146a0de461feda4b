package cli

import (
	"context"
	"errors"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// replaceOldRoot makes a new root, once the house is moved, unless that was done: everyone trusts both before the old
// one goes.
func (m *mover) replaceOldRoot(ctx context.Context) error {
	replaced, err := m.rootReplaced()
	if err != nil || replaced {
		return err
	}
	m.close()
	_, err = m.rotate(ctx, rotation{newRoot: true})
	return errors.Join(err, m.reopen())
}

// rootReplaced is whether the old root is neither pinned nor trusted any more.
func (m *mover) rootReplaced() (bool, error) {
	found, err := m.inventory()
	if err != nil {
		return false, err
	}
	old, err := found.root()
	if err != nil {
		return false, err
	}
	raw, err := m.host.ReadFile(m.pinPath())
	if err != nil {
		return false, err
	}
	pins, err := spec.ParsePins(string(raw))
	return pins.Root != old && stepOf(pins) == 0, err
}
