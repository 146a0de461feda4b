package pve_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

func (n *node) storageThing(s spec.Storage) thing {
	s.ID, s.Proxmox = "bulk", n.place()
	return thing{n, pve.NewStorage(), asObject(n.t, spec.KindStorage, s.ID, s)}
}

func TestStorageConformance(t *testing.T) {
	for name, s := range map[string]spec.Storage{
		"dataset": {Dataset: "rpool/bulk", Content: []string{"rootdir", "images"}},
		"folder":  {Directory: "/FOLDER", Content: []string{"rootdir"}},
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, conformance.Case{
				Driver: pve.NewStorage(),
				Fresh: func(t *testing.T) (host.Host, object.Object) {
					n := newNode(t)
					if s.Directory != "" {
						s.Directory = n.path("bulk")
					}
					return n.host, n.storageThing(s).o
				},
			})
		})
	}
}

// What is there is left alone, whatever it is; a dataset that is there is used; a pool is never made.
func TestStorageThatIsThere(t *testing.T) {
	n := newNode(t)
	s := spec.Storage{Dataset: "rpool/bulk", Content: []string{"rootdir", "images"}}
	n.tool("zfs", "create", "rpool/bulk")
	n.forgetCalls()
	n.storageThing(s).make()
	if got := n.calls("zfs create"); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if want := []string{"pvesm add zfspool bulk --pool rpool/bulk --content rootdir,images"}; !slices.Equal(
		n.calls("pvesm"), want) {
		t.Errorf("%v, want %v", n.calls("pvesm"), want)
	}

	n.write(strings.Replace(n.read("pve/storage.cfg"), "zfspool: bulk\n", "nfs: bulk\n\tdisable\n", 1),
		"pve/storage.cfg")
	if d := n.storageThing(s).delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}

	m := newNode(t)
	err := m.storageThing(spec.Storage{Dataset: "fastData/bulk", Content: []string{"rootdir"}}).try()
	wants(t, err, false, "cannot create 'fastData/bulk': no such pool")
	m.quorum(false)
	err = m.storageThing(s).try()
	wants(t, err, true, "quorum")
	if got := m.calls("pvesm add"); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

func TestStorageDecode(t *testing.T) {
	n := newNode(t)
	for name, s := range map[string]spec.Storage{
		"neither":   {},
		"both":      {Dataset: "rpool/a", Directory: "/a"},
		"an option": {Dataset: "-f"},
		"relative":  {Directory: "a"},
	} {
		if !pve.NewStorage().Decode(n.storageThing(s).o.Spec).HasErrors() {
			t.Errorf("%s is taken", name)
		}
	}
}
