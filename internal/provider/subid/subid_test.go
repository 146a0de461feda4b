package subid

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

var idMap = spec.IDMap{Base: 100000, Count: 65536}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	dir := t.TempDir()
	d := Driver{subuid: filepath.Join(dir, "subuid"), subgid: filepath.Join(dir, "subgid")}
	raw, err := json.Marshal(idMap)
	must(t, err)
	fresh := func(t *testing.T) (host.Host, object.Object) {
		must(t, os.WriteFile(d.subuid, []byte("ann:100000:65536"), 0o644)) // of another, without a line's end
		must(t, os.RemoveAll(d.subgid))
		return &host.Local{}, object.Object{Address: "subid/root", Provider: "subid", Spec: raw}
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(d), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a lost file": func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Remove(d.subgid)) },
			"a lost range": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.WriteFile(d.subuid, []byte("root:1:2\n"), 0o644))
			},
		},
	})
	t.Run("others stay", func(t *testing.T) {
		h, o := fresh(t)
		x := provider.New(d)
		obs, err := x.Observe(t.Context(), h, o)
		must(t, err)
		must(t, x.Apply(t.Context(), h, o, obs.Delta))
		got, err := os.ReadFile(d.subuid)
		if want := "ann:100000:65536\nroot:100000:65536\n"; err != nil || string(got) != want {
			t.Errorf("%q (%v), want %q", got, err, want)
		}
	})
}

func TestAllows(t *testing.T) {
	for file, want := range map[string]bool{
		"":                                       false,
		"root:100000:65536\n":                    true,
		"0:100000:65536":                         true, // by number
		"root:100000:65535\n":                    false,
		"root:100001:65536\n":                    false,
		"root:1000:1000000\n":                    true,
		"ann:100000:65536\n":                     false,
		"root:100000\nroot:x:y\n":                false,
		"# root\nroot:5:1\nroot:100000:65536 \n": true,
	} {
		if got := allows(file, idMap); got != want {
			t.Errorf("%q: %v, want %v", file, got, want)
		}
	}
}

// refusing does not write one file.
type refusing struct {
	host.Host
	path string
	err  error
}

func (h refusing) WriteFile(path string, data []byte, mode fs.FileMode, owner host.Owner) error {
	if path == h.path {
		return &fs.PathError{Op: "rename", Path: path, Err: h.err}
	}
	return h.Host.WriteFile(path, data, mode, owner)
}

// What cannot be written is told with where and what to do, and the other file is as it was.
func TestUnwritable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	const before = "ann:100000:65536"
	for _, c := range []struct {
		name    string
		err     error
		file    int // that is refused
		missing bool
		hint    string
		again   bool // may help
	}{
		{"a read-only directory", syscall.EROFS, 1, false, "is read-only: mount it writable", false},
		{"a read-only directory without the first file", syscall.EROFS, 1, true, "is read-only: mount it writable",
			false},
		{"an immutable first file", syscall.EPERM, 0, false, "chattr -i", false},
		{"an immutable second file", syscall.EPERM, 1, false, "chattr -i", false},
		{"a file that something is mounted on", syscall.EBUSY, 1, false, "shows what stands there", false},
		{"a full disk", syscall.ENOSPC, 1, false, "the line root:100000:65536 must be in", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "subuid"), filepath.Join(dir, "subgid")}
			d := Driver{subuid: files[0], subgid: files[1]}
			must(t, os.WriteFile(files[1], []byte(before), 0o644))
			if !c.missing {
				must(t, os.WriteFile(files[0], []byte(before), 0o644))
			}
			err := d.Apply(t.Context(), refusing{&host.Local{}, files[c.file], c.err}, "subid/1", idMap, plan.Delta{})
			if err == nil || !errors.Is(err, c.err) || !strings.Contains(err.Error(), files[c.file]) {
				t.Fatalf("error %v", err)
			}
			if hint := provider.Hint(err); !strings.Contains(hint, c.hint) ||
				!strings.Contains(hint, "root:100000:65536") {
				t.Errorf("hint %q", hint)
			}
			if provider.IsPermanent(err) == c.again {
				t.Errorf("permanent: %v", provider.IsPermanent(err))
			}
			for i, f := range files {
				got, err := os.ReadFile(f)
				if gone := i == 0 && c.missing; gone != errors.Is(err, fs.ErrNotExist) || !gone &&
					string(got) != before {
					t.Errorf("%s has %q, %v", f, got, err)
				}
			}
		})
	}
}

// A link stays one: what it leads to is written. One that leads nowhere is told.
func TestLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	dir := t.TempDir()
	static := filepath.Join(dir, "static")
	must(t, os.Mkdir(static, 0o755))
	d := Driver{subuid: filepath.Join(dir, "subuid"), subgid: filepath.Join(dir, "subgid")}
	must(t, os.Symlink("static/subuid", d.subuid))
	must(t, os.WriteFile(filepath.Join(static, "subuid"), []byte("ann:1:2\n"), 0o644))
	must(t, d.Apply(t.Context(), &host.Local{}, "subid/1", idMap, plan.Delta{}))
	if m, err := os.Lstat(d.subuid); err != nil || m.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", m, err)
	}
	if got, err := os.ReadFile(filepath.Join(static, "subuid")); err != nil ||
		string(got) != "ann:1:2\nroot:100000:65536\n" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, os.Remove(d.subgid))
	must(t, os.Symlink("nowhere", d.subgid))
	err := d.Apply(t.Context(), &host.Local{}, "subid/1", idMap, plan.Delta{})
	if err == nil || !strings.Contains(provider.Hint(err), "ls -ld "+d.subgid) {
		t.Errorf("error %v, hint %q", err, provider.Hint(err))
	}
}
