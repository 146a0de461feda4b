package cli

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// volumeRecord is a line of a container's notes on Proxmox that says which of its volumes is one of phoenix's.
var volumeRecord = regexp.MustCompile(`^#phoenix(?::|%3A) volume/(\d+)/(\S+) (\S+) (\S+)`)

// leftVolumes tells of volumes that phoenix made and that the configuration does not name any more: those below the root directory, on
// whatever they are, and on a Proxmox host those that the notes of containers speak of. They are kept, and nobody would hear of them.
func (a *app) leftVolumes(h *house, objects []object.Object) (out diag.List) {
	places := map[object.Address]string{}
	base := filepath.Join(h.machine.Root, "volumes")
	for _, id := range a.namesIn(base) {
		if strings.Trim(id, "0123456789") != "" {
			continue // what is kept of deleted ones
		}
		for _, name := range a.namesIn(filepath.Join(base, id)) {
			if !strings.HasPrefix(name, ".") {
				places[object.NewAddress(spec.KindVolume, id, name)] = filepath.Join(base, id, name)
			}
		}
	}
	if p := h.machine.Proxmox; p != nil {
		for _, c := range h.cfg.Containers {
			raw, err := a.host.ReadFile(filepath.Join(p.Dir, "lxc", c.ID+".conf"))
			if err != nil {
				continue // it does not exist yet
			}
			for line := range strings.Lines(string(raw)) {
				if strings.HasPrefix(line, "[") {
					break
				}
				if m := volumeRecord.FindStringSubmatch(line); m != nil && m[1] == c.ID {
					places[object.NewAddress(spec.KindVolume, m[1], m[2])] = strings.ReplaceAll(m[3], "%3A", ":")
				}
			}
		}
	}
	var left []object.Address
	for address := range places {
		if _, named := object.Find(objects, address); !named {
			left = append(left, address)
		}
	}
	slices.Sort(left)
	for _, address := range left {
		out = append(out, diag.Diagnostic{Severity: diag.Note, Summary: string(address) + keptWords, Detail: places[address],
			Hint: "name it again, and it is mounted again; or look at what is on it and remove it by hand"})
	}
	return out
}

const keptWords = ": kept, not in the configuration any more"

// tellLeft names them.
func (s *session) tellLeft() {
	for _, d := range s.diags {
		if strings.HasSuffix(d.Summary, keptWords) {
			fmt.Fprintf(s.stderr, "note: %s (%s)\n", d.Summary, d.Detail)
		}
	}
}

// namesIn are the names in a directory; none where it cannot be looked at.
func (a *app) namesIn(dir string) []string {
	names, err := a.host.ReadDir(dir)
	if err != nil {
		return nil
	}
	return names
}
