package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var debian = Installation{Program: "/usr/local/bin/phoenix", Debian: true, Systemd: true}

// proxmox makes a Proxmox host of the machine, with these storages.
func proxmox(m Machine, storages string) Machine {
	m.Runtime, m.Proxmox = "pve", &spec.Proxmox{Dir: "/etc/pve"}
	m.Storages = ParseStorages(storages, "pve")
	m.Pools = Pools(m.Storages)
	return m
}

func setup(t *testing.T, m Machine, i Installation) ([]object.Object, string) {
	t.Helper()
	m.Present = present(m.Present)
	objects, diags := Setup(homelab(t), m, i)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, d := range diags {
		if d.Severity != diag.Error {
			notes = append(notes, d.String())
		}
	}
	return objects, strings.Join(notes, "\n")
}

func present(m map[string]bool) map[string]bool {
	if m == nil {
		return map[string]bool{}
	}
	return m
}

func of[S any](t *testing.T, objects []object.Object, a object.Address) S {
	t.Helper()
	var s S
	o, ok := object.Find(objects, a)
	if !ok {
		t.Fatalf("no %s in %v", a, named(objects))
	}
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func named(objects []object.Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, string(o.Address))
	}
	slices.Sort(out)
	return out
}

func TestSetup(t *testing.T) {
	const tank = "zfspool: tank\n\tpool tank/data\n\tcontent rootdir\n"
	const common = "file/hypervisor/usr/local/bin/phoenix network/phxbr0 package/hypervisor subid/100000 " +
		"subid/1879048192 sysctl/hypervisor unit/hypervisor/phoenix.service"
	own := strings.Replace(common, "subid/100000 ", "", 1)
	with := func(storages string, present ...string) Machine {
		m := proxmox(Machine{Root: "/var/lib/phoenix"}, storages)
		m.Present = map[string]bool{}
		for _, p := range present {
			m.Present[p] = true
		}
		return m
	}
	for name, c := range map[string]struct {
		machine Machine
		i       Installation
		want    string
		notes   []string
	}{
		"plain": {Machine{Runtime: "lxc"}, debian, own, nil},
		"no dpkg": {Machine{Runtime: "lxc"}, Installation{Program: debian.Program, Systemd: true},
			strings.Replace(own, "package/hypervisor ", "", 1), []string{"has no dpkg", "mmdebstrap"}},
		"no systemd": {Machine{Runtime: "lxc"}, Installation{Program: debian.Program, Debian: true},
			strings.Replace(own, " unit/hypervisor/phoenix.service", "", 1), []string{"nothing starts phoenix watch"}},
		"proxmox": {with(tank, "/sys/class/net/phxbr0"), debian,
			strings.Replace(common, " subid", " storage/homelab subid", 1), nil},
		"proxmox without a bridge": {with(tank), debian,
			"file/hypervisor/etc/network/interfaces.d/phoenix-phxbr0 " + strings.Replace(common, " subid",
				" storage/homelab subid", 1), []string{"without a port"}},
		"proxmox with the bridge of an earlier setup": {with(tank, "/sys/class/net/phxbr0",
			"/etc/network/interfaces.d/phoenix-phxbr0"), debian,
			"file/hypervisor/etc/network/interfaces.d/phoenix-phxbr0 " + strings.Replace(common, " subid",
				" storage/homelab subid", 1), nil},
		"all storages there": {with("dir: homelab\n\tpath /d\n\tcontent rootdir\n", "/sys/class/net/phxbr0"), debian,
			common, nil},
		"no containers on it": {with("dir: homelab\n\tpath /d\n\tcontent iso\n", "/sys/class/net/phxbr0"), debian,
			common, []string{"does not take containers", "pvesm set homelab --content rootdir,iso"}},
		"no ZFS": {with("dir: local\n\tpath /d\n\tcontent rootdir\n", "/sys/class/net/phxbr0"), debian,
			strings.Replace(common, " subid", " storage/homelab subid", 1), []string{"directories take no snapshots"}},
	} {
		t.Run(name, func(t *testing.T) {
			objects, notes := setup(t, c.machine, c.i)
			if got := strings.Join(named(objects), " "); got != c.want {
				t.Errorf("objects\n%s, want\n%s", got, c.want)
			}
			for _, n := range c.notes {
				if !strings.Contains(notes, n) {
					t.Errorf("%q is not said:\n%s", n, notes)
				}
			}
		})
	}
}

func TestSetupPackages(t *testing.T) {
	names := func(m Machine) []string {
		objects, _ := setup(t, m, debian)
		return of[spec.Package](t, objects, "package/hypervisor").Names
	}
	plain := names(Machine{Runtime: "lxc"})
	for _, n := range []string{"lxc", "mmdebstrap", "dnsmasq-base", "uidmap", "nftables"} {
		if !slices.Contains(plain, n) {
			t.Errorf("no %s in %v", n, plain)
		}
	}
	if slices.Contains(plain, "btrfs-progs") ||
		!slices.Contains(names(Machine{Runtime: "lxc", Backend: "btrfs"}), "btrfs-progs") {
		t.Error("btrfs-progs belong to Btrfs")
	}
	if slices.Contains(plain, "zfsutils-linux") ||
		!slices.Contains(names(Machine{Runtime: "lxc", Pools: map[string]string{"homelab": "zfs"}}), "zfsutils-linux") {
		t.Error("zfsutils-linux belong to ZFS")
	}
	if got := names(proxmox(Machine{}, "")); slices.Contains(got, "lxc") || !slices.Contains(got, "dnsmasq-base") {
		t.Errorf("on Proxmox, which brings its own: %v", got)
	}
}

func TestSetupStorages(t *testing.T) {
	storage := func(text string) spec.Storage {
		objects, _ := setup(t, proxmox(Machine{Root: "/var/lib/phoenix"}, text), debian)
		return of[spec.Storage](t, objects, "storage/homelab")
	}
	if s := storage(
		"zfspool: a\n\tpool rpool/data\n\tcontent images\n\nzfspool: b\n\tpool tank\n\tcontent rootdir\n"); s.Dataset != "tank/homelab" || s.Directory != "" {
		t.Errorf("%+v", s)
	}
	if s := storage(
		"zfspool: a\n\tpool tank\n\tcontent rootdir\n\nzfspool: b\n\tpool home/x\n\tcontent rootdir\n"); s.Dataset != "tank/homelab" {
		t.Errorf("home is no part of homelab: %+v", s)
	}
	if s := storage("dir: local\n\tpath /d\n\tcontent rootdir\n"); s.Directory != "/var/lib/phoenix/storage/homelab" ||
		s.Dataset != "" {
		t.Errorf("%+v", s)
	}
	d := &derivation{machine: proxmox(Machine{}, "zfspool: a\n\tpool rpool\n\tcontent rootdir\n\nzfspool: b\n\tpool "+
		"tank/x\n\tcontent rootdir\n")}
	if got := d.dataset("tank-disks"); got != "tank/disks" {
		t.Errorf("tank-disks is %s", got)
	}
}

func TestSetupUnit(t *testing.T) {
	i := debian
	i.Arguments = []string{"--config", `/srv/my "house"/100%`, "--root", "/srv/$x"}
	objects, _ := setup(t, Machine{Runtime: "lxc", Binary: Artifact{SHA256: "ab"}}, i)
	u := of[spec.Unit](t, objects, "unit/hypervisor/phoenix.service")
	want := `ExecStart=/usr/local/bin/phoenix --config "/srv/my \"house\"/100%%" --root /srv/$$x watch` + "\n"
	if !strings.Contains(u.Content, want) || strings.Contains(u.Content, "@") || !u.AtBoot || u.Inputs != "ab" {
		t.Errorf("no %s in %+v", want, u)
	}
}
