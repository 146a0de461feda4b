package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// What setup writes is remembered before it is written; what was there before is never setup's, in no later run either.
func TestSetupRecord(t *testing.T) {
	dir := t.TempDir()
	h := &host.Local{}
	subuid, program, file := filepath.Join(dir, "subuid"), filepath.Join(dir, "phoenix"),
		filepath.Join(dir, "state", "record.json")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var objects []object.Object
	for _, m := range []spec.IDMap{{Base: 100000, Count: 65536}, {Base: 1879048192, Count: 268435456}} {
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object.Object{Address: object.NewAddress(spec.KindSubID, "x"), Spec: raw})
	}
	put(subuid, "root:100000:65536\n") // Proxmox's own
	again := func() setupRecord {
		t.Helper()
		r, err := readSetupRecord(h, file)
		if err == nil {
			r, err = r.expect(h, []string{subuid}, objects, program)
		}
		if err == nil && os.Geteuid() == 0 {
			err = r.write(h, file)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := []string{"root:1879048192:268435456"}
	if r := again(); !slices.Equal(r.Lines[subuid], want) || r.Program != program {
		t.Errorf("%+v", r)
	}
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	put(subuid, "root:100000:65536\nroot:1879048192:268435456\n")
	put(program, "")
	if r := again(); !slices.Equal(r.Lines[subuid], want) || r.Program != program {
		t.Errorf("a second run: %+v", r)
	}
	os.Remove(file)
	if r := again(); len(r.Lines[subuid]) > 0 || r.Program != "" {
		t.Errorf("what was there before is taken for setup's: %+v", r)
	}
}

func TestWithoutLines(t *testing.T) {
	for _, c := range []struct {
		text  string
		lines []string
		want  string
	}{
		{"a:1:2\nroot:3:4\nb:5:6\n", []string{"root:3:4"}, "a:1:2\nb:5:6\n"},
		{"root:3:4\nroot:3:4\n", []string{"root:3:4"}, "root:3:4\n"}, // one was somebody else's
		{"root:3:40\n# root:3:4\n", []string{"root:3:4"}, "root:3:40\n# root:3:4\n"},
		{"a:1:2\nroot:3:4", []string{"root:3:4"}, "a:1:2\n"},
		{"", []string{"root:3:4"}, ""},
	} {
		if got := withoutLines(c.text, c.lines); got != c.want {
			t.Errorf("%q without %q is %q", c.text, c.lines, got)
		}
	}
}
