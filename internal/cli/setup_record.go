package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// setupRecordFile remembers what setup wrote of what does not say itself whose it is. It is the machine's, as those
// are, and outlives sites.
const setupRecordFile = "/var/lib/phoenix-setup.json"

// Files of ranges of ids (subuid(5), subgid(5)).
var subIDFiles = []string{"/etc/subuid", "/etc/subgid"}

// setupRecord is what setup wrote.
type setupRecord struct {
	Lines   map[string][]string `json:"lines"`             // by file of ranges
	Program string              `json:"program,omitempty"` // where phoenix was put
}

func readSetupRecord(h host.Host, path string) (setupRecord, error) {
	r := setupRecord{Lines: map[string][]string{}}
	raw, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s, what phoenix setup wrote: %w", path, err)
	}
	if r.Lines == nil {
		r.Lines = map[string][]string{}
	}
	return r, nil
}

func (r setupRecord) write(h host.Host, path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if have, err := h.ReadFile(path); err == nil && string(have) == string(raw) {
		return nil
	}
	if err := h.MkdirAll(filepath.Dir(path), 0o755, host.Root); err != nil {
		return err
	}
	return h.WriteFile(path, raw, 0o600, host.Root)
}

// expect adds to the record, before anything is written, what the objects will write that is not there yet. A line that
// somebody else wrote, and a program that lay there before, are never setup's.
func (r setupRecord) expect(h host.Host, files []string, objects []object.Object, program string) (setupRecord, error) {
	for _, file := range files {
		raw, err := h.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		have := strings.Split(string(raw), "\n")
		for _, o := range objects {
			var m spec.IDMap
			if o.Address.Kind() != spec.KindSubID || decode(o.Spec, &m) != nil {
				continue
			}
			if l := fmt.Sprintf("root:%d:%d", m.Base, m.Count); !slices.Contains(have, l) &&
				!slices.Contains(r.Lines[file], l) {
				r.Lines[file] = append(r.Lines[file], l)
			}
		}
	}
	if _, err := h.Lstat(program); errors.Is(err, fs.ErrNotExist) {
		r.Program = program
	} else if err != nil {
		return r, err
	}
	return r, nil
}

// withoutLines is a file's text without some of its lines, each once; the same text where it has none of them.
func withoutLines(text string, lines []string) string {
	left := slices.Clone(lines)
	var out []string
	for line := range strings.Lines(text) {
		if i := slices.Index(left, strings.TrimRight(line, "\n")); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}
