package sysctl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

const instances, watches, keys = "fs.inotify.max_user_instances", "fs.inotify.max_user_watches", "kernel.keys.maxkeys"

// system is a machine's files: a directory that stands for /proc/sys, and those of sysctl.d.
type system struct {
	dir string
	d   Driver
}

func machine(t *testing.T, values map[string]string) system {
	t.Helper()
	dir := t.TempDir()
	s := system{dir: dir, d: Driver{
		proc: filepath.Join(dir, "proc"),
		dirs: []string{filepath.Join(dir, "etc/sysctl.d"), filepath.Join(dir, "usr/sysctl.d")},
		conf: filepath.Join(dir, "etc/sysctl.conf"),
	}}
	for key, v := range values {
		s.write(t, filepath.Join("proc", strings.ReplaceAll(key, ".", "/")), v+"\n")
	}
	return s
}

func (s system) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s system) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

const own = "etc/sysctl.d/99-phoenix.conf"

func (s system) want() spec.Sysctl {
	return spec.Sysctl{Path: filepath.Join(s.dir, own), Least: []spec.KernelLimit{
		{Key: instances, Value: 8192}, {Key: watches, Value: 1000, Computed: true}, {Key: keys, Value: 2000},
		{Key: "net.ipv4.not_in_this_kernel", Value: 1},
	}}
}

// settle applies until there is nothing to do, and fails where that takes more than one time.
func (s system) settle(t *testing.T) {
	t.Helper()
	for range 2 {
		have, err := s.d.Observe(t.Context(), &host.Local{}, "sysctl/hypervisor", s.want())
		if err != nil {
			t.Fatal(err)
		}
		delta := s.d.Diff(s.want(), have)
		if delta.Empty() {
			return
		}
		if err := s.d.Apply(t.Context(), &host.Local{}, "sysctl/hypervisor", s.want(), delta); err != nil {
			t.Fatal(err)
		}
	}
	have, _ := s.d.Observe(t.Context(), &host.Local{}, "sysctl/hypervisor", s.want())
	if delta := s.d.Diff(s.want(), have); !delta.Empty() {
		t.Errorf("it does not come to rest: %+v", delta)
	}
}

func TestConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	s := machine(t, nil)
	conformance.Run(t, conformance.Case{
		Driver: provider.New(s.d), Tools: []string{"sh"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			os.Remove(filepath.Join(s.dir, own))
			for key, v := range map[string]string{instances: "128", watches: "8192", keys: "200"} {
				s.write(t, filepath.Join("proc", strings.ReplaceAll(key, ".", "/")), v+"\n")
			}
			raw, err := json.Marshal(s.want())
			if err != nil {
				t.Fatal(err)
			}
			return &host.Local{}, object.Object{Address: "sysctl/hypervisor", Provider: "sysctl", Spec: raw}
		},
		Break: map[string]conformance.Damage{
			"lowered": func(t *testing.T, _ host.Host, _ object.Object) {
				s.write(t, "proc/fs/inotify/max_user_instances", "128\n")
			},
			"no file": func(t *testing.T, _ host.Host, _ object.Object) { os.Remove(filepath.Join(s.dir, own)) },
			"edited": func(t *testing.T, _ host.Host, _ object.Object) {
				s.write(t, own, s.read(t, own)+"# more\n")
			},
			"half of it": func(t *testing.T, _ host.Host, _ object.Object) { s.write(t, own, keys+" = 2000\n") },
		},
		Not: map[string]string{"foreign": "the file has phoenix's name", "delete": "what runs stays raised"},
	})
}

// Nothing that is higher is ever lowered: neither now, nor by the file at the next boot.
func TestOnlyRaises(t *testing.T) {
	debian := map[string]string{instances: "128", watches: "200000", keys: "200"}
	for name, c := range map[string]struct {
		values  map[string]string
		files   map[string]string
		now     string   // instances, at the end
		in, out []string // of the file
	}{
		"Debian": {debian, nil, "8192", []string{instances + " = 8192\n", keys + " = 2000\n"},
			[]string{watches, "not_in"}},
		"lxc's file has less": {map[string]string{instances: "1024", keys: "200"},
			map[string]string{"etc/sysctl.d/30-lxc.conf": instances + " = 1024\n"},
			"8192", []string{instances + " = 8192\n"}, nil},
		"Proxmox has more": {map[string]string{instances: "65536", keys: "200"},
			map[string]string{"usr/sysctl.d/10-pve.conf": "# x\n" + instances + " = 65536\n"},
			"65536", []string{keys}, []string{instances}},
		"raised by hand": {map[string]string{instances: "65536", keys: "200"}, nil, "65536",
			[]string{instances + " = 65536\n"}, nil},
		"another file has more, and is not read yet": {debian,
			map[string]string{"etc/sysctl.conf": "-fs/inotify/max_user_instances=100000\n"},
			"8192", []string{keys}, []string{instances}},
		"hidden by an empty file of its name": {debian,
			map[string]string{"usr/sysctl.d/10-x.conf": instances + "=100000\n", "etc/sysctl.d/10-x.conf": ""},
			"8192", []string{instances + " = 8192\n"}, nil},
		"few watches": {map[string]string{watches: "500"}, nil, "", []string{watches + " = 1000\n"},
			[]string{instances}},
		"nothing to do": {map[string]string{watches: "5000"}, nil, "", nil, []string{"="}},
	} {
		t.Run(name, func(t *testing.T) {
			s := machine(t, c.values)
			for file, text := range c.files {
				s.write(t, file, text)
			}
			s.settle(t)
			if got := strings.TrimSpace(s.read(t, "proc/fs/inotify/max_user_instances")); got != c.now {
				t.Errorf("%s is %s, want %s", instances, got, c.now)
			}
			file := s.read(t, own)
			for _, want := range c.in {
				if !strings.Contains(file, want) {
					t.Errorf("no %q in\n%s", want, file)
				}
			}
			for _, not := range c.out {
				if strings.Contains(file, not) {
					t.Errorf("%q in\n%s", not, file)
				}
			}
		})
	}
}

// A value that somebody raises later stays, in the file too.
func TestRaisedLater(t *testing.T) {
	s := machine(t, map[string]string{instances: "128", keys: "200"})
	s.settle(t)
	s.write(t, "proc/fs/inotify/max_user_instances", "20000\n")
	s.settle(t)
	if file := s.read(t, own); !strings.Contains(file, instances+" = 20000\n") {
		t.Errorf("reading all files again would lower it:\n%s", file)
	}
	s.write(t, "usr/sysctl.d/10-pve.conf", instances+" = 65536\n")
	s.settle(t)
	if file := s.read(t, own); strings.Contains(file, instances) {
		t.Errorf("it comes after a file that sets more:\n%s", file)
	}
}
