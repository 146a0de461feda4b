package cli

import (
	"fmt"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// A container that a person stopped or deleted is not to be brought back by watch: a mark says so. It is a wish, as the
// configuration is, not a memory of what was; starting or creating the container takes it back.
func (h *house) heldPath(id string) string { return filepath.Join(h.machine.Root, "held", id) }

// hold marks containers, before they are stopped, so that watch does not get in between.
func (s *session) hold(ids []string, why string) error {
	for _, id := range ids {
		path := s.heldPath(id)
		if b, err := s.host.ReadFile(path); err == nil && (string(b) == why+"\n" || string(b) == heldMoving+"\n") {
			continue
		}
		if err := s.host.MkdirAll(filepath.Dir(path), 0o711, host.Root); err != nil {
			return err
		}
		if err := s.host.WriteFile(path, []byte(why+"\n"), 0o600, host.Root); err != nil {
			return fmt.Errorf("container %s cannot be held back: %w", id, err)
		}
	}
	return nil
}

// release takes the marks away.
func (s *session) release(ids []string) error {
	for _, id := range ids {
		if err := s.host.Remove(s.heldPath(id)); err != nil {
			return err
		}
	}
	return nil
}

// heldDeleted is the mark of a container that a person deleted.
const heldDeleted = "deleted"

// marks are the ids of all containers that are held back.
func (h *house) marks(read func(string) ([]string, error)) []string {
	names, err := read(filepath.Join(h.machine.Root, "held"))
	if err != nil {
		return nil // there are none
	}
	return names
}

// heldMoving is the mark of a container that is on its way from an old layout: only the migration may touch it.
const heldMoving = "moving"

// notMoving fails while a migration has one of the containers in its hands, and was stopped.
func (s *session) notMoving(ids []string) error {
	if s.moving != nil {
		return nil
	}
	for _, id := range ids {
		if raw, err := s.host.ReadFile(s.heldPath(id)); err == nil && string(raw) == heldMoving+"\n" {
			return hint(s.again("migrate --live --yes")+" goes on with it, with --rollback it goes back",
				"container %s is on its way to the new layout, and the migration is not at its end", id)
		}
	}
	return nil
}

func (s *session) held(id string) bool {
	_, err := s.host.Lstat(s.heldPath(id))
	return err == nil
}
