package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// What a migration left below the root goes with everything else: delete --all --volumes.

// oldBlocks is what overwriting does not reach.
const oldBlocks = "where the file system keeps old blocks (snapshots, copy on write, an SSD's reserve) they may " +
	"still be there: destroy snapshots of "

// wipe writes over the files in a directory and removes what is in it; the directory stays. It follows no link and
// enters nothing that is mounted there. The note names what was not written over.
func (s *session) wipe(ctx context.Context, h host.Host, dir string) (note string, err error) {
	if _, err := h.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	argv := []string{s.machine.Binary.Path, "agent", "wipe", dir}
	res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true, Limit: copyLimit})
	return strings.TrimSpace(string(res.Stdout)), err
}

// alsoGone says, before the question, what goes that nobody would think of, and what stays.
func (s *session) alsoGone(ids []string, all, volumes bool) (lines []string) {
	if _, places := s.elsewhere(s.deletable(ids, all)); len(places) > 0 {
		lines = append(lines, "taken over by migrate --live, with their root file systems: "+strings.Join(places, ", "))
	}
	j := journalIn(s.host, s.machine.Root)
	if !all || !volumes || !j.there(j.dir) {
		return lines
	}
	lines = append(lines, "kept by migrate --live, written over and removed: "+j.dir)
	if shared := j.sharedPath(); shared != "" {
		lines = append(lines, "the old directory "+shared+" is not touched")
	}
	return lines
}

// forgetMigration removes what a migration kept for its way back, with the closed copy of the old directory. That one
// stays.
func (s *session) forgetMigration(ctx context.Context) (notes []string, mutations int, err error) {
	counted := host.NewCounted(s.host, nil)
	j := journalIn(counted, s.machine.Root)
	if !j.there(j.dir) {
		return nil, 0, nil
	}
	notes = []string{"what migrate --live kept in " + j.dir + " was written over and removed; " + oldBlocks + "it too"}
	if shared := j.sharedPath(); shared != "" && !j.there(j.shredded()) {
		notes = append(notes, "the old directory "+shared+" is yours and was not touched: the keys in it count as "+
			"leaked, remove it when nothing needs it any more")
	}
	note, err := s.wipe(ctx, counted, j.dir)
	if err != nil {
		return nil, counted.Mutations(), err
	}
	if note != "" {
		notes = append(notes, note)
	}
	return notes, counted.Mutations() + 1, s.host.RemoveAll(j.dir)
}

// unlink removes the links to containers that were taken over where they were and are gone.
func (s *session) unlink() (mutations int, err error) {
	for id, home := range s.takenHomes(s.machine.Root) {
		if isThere(s.host, filepath.Join(home, id)) {
			continue
		}
		if err := s.host.Remove(filepath.Join(s.machine.Root, "lxc", id)); err != nil {
			return mutations, err
		}
		mutations++
	}
	return mutations, nil
}

// elsewhere are those of the containers that were taken over where they were, each with its place.
func (s *session) elsewhere(ids []string) (ours, places []string) {
	for _, id := range ids {
		if home := s.machine.Homes[id]; home != "" && isThere(s.host, filepath.Join(home, id)) {
			ours, places = append(ours, id), append(places, filepath.Join(home, id))
		}
	}
	return ours, places
}

// anew says where containers that were deleted in another place are made again, and that they have no way back.
func (s *session) anew(ids []string) []string {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	note := fmt.Sprintf("%s stood where migrate --live had found it; create makes it there again",
		strings.Join(ids, ", "))
	if j := journalIn(s.host, s.machine.Root); j.there(j.shared()) && !j.there(j.shredded()) {
		note += ", but there is no way back to its old root file system"
	}
	return []string{note}
}
