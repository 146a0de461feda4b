package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

const storageFile = `# by hand
dir: local
	path /var/lib/vz
	content iso,vztmpl,backup

zfspool: quickOS-lxc-disks
	pool quickOS/lxc-disks
	content images,rootdir
	sparse 1

zfspool: fastData-shared-bulk-data
	pool fastData/shared-bulk-data
	content rootdir

lvmthin: elsewhere
	thinpool data
	vgname pve
	content rootdir
	nodes pve2,pve3

dir: off
	path /mnt/off
	content rootdir
	disable

dir: shared-iso
	path /fastData/shared-iso
	content iso,vztmpl
`

func TestParseStorages(t *testing.T) {
	got := config.ParseStorages(storageFile, "pve")
	var ids []string
	for _, s := range got {
		ids = append(ids, s.ID)
	}
	if want := []string{"local", "quickOS-lxc-disks", "fastData-shared-bulk-data", "shared-iso"}; !slices.Equal(ids,
		want) {
		t.Errorf("got %q", ids)
	}
	if got[0].Path != "/var/lib/vz" || !slices.Equal(got[1].Content, []string{"images", "rootdir"}) ||
		got[1].Type != "zfspool" {
		t.Errorf("%+v", got)
	}
	if pools := config.Pools(got); len(pools) != 2 || pools["quickOS-lxc-disks"] != "pve" {
		t.Errorf("%v", pools)
	}
	if ids := config.ParseStorages("\tpath /x\nnonsense\n", ""); len(ids) != 0 {
		t.Errorf("%v", ids)
	}
}

// proxmoxHost is the users' own, as far as configuration has to know.
func proxmoxHost(storages string) config.Machine {
	list := config.ParseStorages(storages, "pve")
	return config.Machine{
		Runtime: "pve", Root: "/var/lib/phoenix", Backend: "dir", Storages: list, Pools: config.Pools(list),
		Proxmox: &spec.Proxmox{Dir: "/etc/pve", State: "/var/lib/lxc", Locks: "/run/lock"},
		Present: map[string]bool{
			"/fastData/shared-iso/template/cache/ubuntu-24.04-standard_24.04-2_amd64.tar.zst": true,
			"/dev/nvidia0": true, "/dev/nvidia1": true, "/dev/nvidiactl": true, "/dev/nvidia-uvm": true,
			"/dev/nvidia-uvm-tools":                        true,
			"/mnt/pve/quickOS/lxc-persistent-data/103/ssl": true,
		},
		Binary: config.Artifact{Path: "/usr/bin/phoenix", SHA256: strings.Repeat("ab", 32)},
		Artifacts: map[string]config.Artifact{"step-ca": {Path: "/a", SHA256: strings.Repeat("cd", 32)},
			"traefik": {Path: "/b", SHA256: strings.Repeat("ef", 32)}},
		Scripts: map[string]config.Artifact{"phoenix_hypervisor_feature_install_nvidia.sh": {Path: "/n",
			SHA256: strings.Repeat("12", 32)}},
	}
}

func usersHouse(t *testing.T, m config.Machine) ([]object.Object, diag.List) {
	t.Helper()
	cfg, diags := config.Load([]config.File{usersFile(t, "lxc-own-directories.json"), usersFile(t, "hypervisor.json")})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	objects, more := config.Derive(cfg, m)
	if more.HasErrors() {
		t.Fatal(more.Err())
	}
	ordered, wrong := plan.Order(objects)
	if wrong.HasErrors() {
		t.Fatal(wrong.Err())
	}
	return ordered, append(config.ActedOn(diags, m.Runtime), more...)
}

func specAt[S any](t *testing.T, objects []object.Object, a object.Address) (S, object.Object) {
	t.Helper()
	var s S
	o, ok := object.Find(objects, a)
	if !ok {
		t.Fatalf("no %s", a)
	}
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	return s, o
}

// TestUsersHouseOnProxmox is their own file on their own machine: every key is acted on, or listed.
func TestUsersHouseOnProxmox(t *testing.T) {
	objects, diags := usersHouse(t, proxmoxHost(storageFile))
	tpl, _ := specAt[spec.Template](t, objects, "template/900")
	if g := tpl.Definition.Guest; g.Archive != "shared-iso:vztmpl/ubuntu-24.04-standard_24.04-2_amd64.tar.zst" ||
		tpl.Snapshot != "final-form" || g.Storage != "quickOS-lxc-disks" || g.SizeGB != 16 {
		t.Errorf("template: %+v, %+v", tpl, g)
	}
	ca, o := specAt[spec.Container](t, objects, "container/103")
	if g := ca.Guest; o.Provider != "pve" || g.CloneFrom != "900" || g.Snapshot != "final-form" || g.BootDelay != 5 ||
		ca.BootOrder != 1 ||
		!slices.Equal(g.Features, []string{"nesting=1"}) || len(g.Binds) != 1 || len(g.Volumes) != 0 || ca.Path != "" {
		t.Errorf("103: %+v %+v", ca, g)
	}
	if _, o := specAt[spec.Volume](t, objects, "volume/103/ssl"); o.Provider != "dir" {
		t.Errorf("the directory that is there is kept by %s", o.Provider)
	}
	v, o := specAt[spec.Volume](t, objects, "volume/102/certs")
	if o.Provider != "pve" || v.Pool != "quickOS-lxc-disks" || !v.Backup || v.SizeBytes != 1<<30 || v.Mode != 0o700 ||
		v.UID != 902 || !slices.Contains(o.After, object.Address("container/102")) {
		t.Errorf("102's volume: %+v %+v", v, o)
	}
	models, _ := specAt[spec.Volume](t, objects, "volume/801/vllm_models")
	if models.Pool != "fastData-shared-bulk-data" || models.SizeBytes != 50<<30 || !models.Backup {
		t.Errorf("801's volume: %+v", models)
	}
	gpu, o := specAt[spec.Container](t, objects, "container/910")
	if g := gpu.Guest; len(g.Devices) != 5 || g.CloneFrom != "901" || g.Snapshot != "final-form" ||
		!slices.Contains(o.After, object.Address("snapshot/901/final-form")) {
		t.Errorf("910: %+v after %v", g, o.After)
	}
	if _, o := specAt[spec.Script](t, objects,
		"script/901/phoenix_hypervisor_feature_install_nvidia.sh"); o.Host != "901" {
		t.Errorf("%+v", o)
	}
	_, final := specAt[spec.Snapshot](t, objects, "snapshot/901/final-form")
	if !slices.Contains(final.After, object.Address("unit/901/phoenix-agent.service")) {
		t.Errorf("final-form is taken after %v", final.After)
	}
	if r, _ := specAt[spec.Running](t, objects, "running/103"); r.Check != "nc -z localhost 9000" {
		t.Errorf("103's own check: %q", r.Check)
	}
	_, run := specAt[spec.Running](t, objects, "running/901")
	if !slices.Contains(run.After, object.Address("snapshot/901/pre-configured")) {
		t.Errorf("901 runs after %v", run.After)
	}
	all := text(diags)
	for _, key := range []string{"boot_delay", "storage_pool", "storage_size_gb", "pct_options",
		"enable_lifecycle_snapshots", "gpu_assignment"} {
		if strings.Contains(all, "lxc_configs.*."+key+": kept") {
			t.Errorf("%s is acted on, and said to be kept", key)
		}
	}
	for _, key := range []string{"portainer_role", "apparmor_manages_nesting", "trigger_sync_on_completion"} {
		if !strings.Contains(all, "lxc_configs.*."+key+": kept, not acted on") {
			t.Errorf("%s is neither acted on nor listed", key)
		}
	}
	for _, want := range []string{"/mnt/pve/quickOS/lxc-persistent-data/102/certs is not on this machine",
		"container 910 has the feature \"vllm\", which phoenix does not know", "1002"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing is said about %q:\n%s", want, all)
		}
	}
}

// TestProxmoxWithoutSnapshots is a host with a plain directory only: what cannot be is said, and left out.
func TestProxmoxWithoutSnapshots(t *testing.T) {
	objects, diags := usersHouse(t, proxmoxHost("dir: local\n\tpath /var/lib/vz\n\tcontent rootdir,vztmpl\n"))
	for _, o := range objects {
		if o.Address.Kind() == spec.KindSnapshot {
			t.Errorf("%s", o.Address)
		}
	}
	s, _ := specAt[spec.Container](t, objects, "container/103")
	if s.Guest.Storage != "local" || s.Guest.Snapshot != "" {
		t.Errorf("%+v", s.Guest)
	}
	for _, want := range []string{"storage quickOS-lxc-disks is not on this machine",
		"storage local takes no snapshots"} {
		if !strings.Contains(text(diags), want) {
			t.Errorf("nothing is said about %q", want)
		}
	}
}

// TestProxmoxTakesNoContainers is a mistake that only a person can mend.
func TestProxmoxTakesNoContainers(t *testing.T) {
	cfg, diags := config.Load([]config.File{usersFile(t, "lxc-own-directories.json"), usersFile(t, "hypervisor.json")})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	_, diags = config.Derive(cfg, proxmoxHost("dir: local\n\tpath /var/lib/vz\n\tcontent iso\n"))
	if !strings.Contains(text(diags), "error: no storage of this Proxmox host takes containers") {
		t.Errorf("%s", text(diags))
	}
}

// Each container waits for its range, and so do its volumes and the directories of the hypervisor that it mounts:
// whoever has another one is moved before anything is judged by it. A template keeps the range that Proxmox makes it
// in.
func TestOwnIDsOnProxmox(t *testing.T) {
	m := proxmoxHost(storageFile)
	m.IDs = config.IDs{Claims: "/var/lib/phoenix-ids"}
	objects, _ := usersHouse(t, m)
	ranges := map[spec.IDMap]string{}
	for _, id := range []string{"101", "102", "103"} {
		address := object.NewAddress(spec.KindIDs, id)
		s, o := specAt[spec.IDRange](t, objects, address)
		if s.Path != "/etc/pve/lxc" || s.Proxmox == nil || s.Records != "/var/lib/phoenix/volumes/"+id ||
			o.Provider != "pve" || !slices.Contains(o.After, "subid/1879048192") {
			t.Errorf("%s: %+v after %v", address, s, o.After)
		}
		if other := ranges[s.IDMap]; other != "" || s.IDMap == idrange.Shared {
			t.Errorf("%s has the range of %s: %+v", id, other, s.IDMap)
		}
		ranges[s.IDMap] = id
		c, o := specAt[spec.Container](t, objects, object.NewAddress(spec.KindContainer, id))
		if c.IDMap != s.IDMap || !slices.Contains(o.After, address) {
			t.Errorf("container/%s: %+v after %v", id, c.IDMap, o.After)
		}
		for _, v := range c.Guest.Volumes {
			if v.IDMap != s.IDMap {
				t.Errorf("volume %s of %s: %+v", v.Name, id, v.IDMap)
			}
		}
	}
	if s, _ := specAt[spec.Template](t, objects, "template/900"); s.Definition.IDMap != idrange.Shared {
		t.Errorf("the template: %+v", s.Definition.IDMap)
	}
	m.IDs.Have = map[string]spec.IDMap{"103": idrange.Shared}
	objects, diags := usersHouse(t, m)
	if s, _ := specAt[spec.IDRange](t, objects, "ids/103"); !s.Stays {
		t.Errorf("103 is moved and nobody agreed: %+v", s)
	}
	if c, o := specAt[spec.Container](t, objects, "container/103"); c.IDMap != idrange.Shared ||
		slices.Contains(o.After, "ids/103") {
		t.Errorf("103 as it is: %+v", c.IDMap)
	}
	if text := fmt.Sprint(diags); !strings.Contains(text,
		"container 103: the ids 100000:65536 are no range of its own") {
		t.Errorf("not told: %s", text)
	}
}

// Every volume is backed up unless the file says that it is not, and a path that Proxmox cannot mount is refused before
// anything is touched.
func TestProxmoxVolumesOfTheFile(t *testing.T) {
	example := func(name string) config.File {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("../../examples/homelab", name))
		if err != nil {
			t.Fatal(err)
		}
		return config.File{Name: name, Data: data}
	}
	file := example("phoenix_lxc_configs.json")
	file.Data = []byte(strings.Replace(string(file.Data), `"zfs_volumes": [`,
		`"zfs_volumes": [{"name": "plain", "mount_point": "/srv/plain"},
		{"name": "out", "mount_point": "/srv/out", "backup": false}, {"name": "blank", "mount_point": "/srv/a b"}, `, 1))
	cfg, diags := config.Load([]config.File{file, example("phoenix_hypervisor_config.json")})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	objects, diags := config.Derive(cfg, proxmoxHost(storageFile))
	for name, want := range map[string]bool{"plain": true, "out": false} {
		if v, _ := specAt[spec.Volume](t, objects, object.NewAddress(spec.KindVolume, "103", name)); v.Backup != want {
			t.Errorf("%s: backup is %t", name, v.Backup)
		}
	}
	said := ""
	for _, d := range diags {
		said += d.Summary + "\n"
	}
	for _, want := range []string{"/srv/out of container 103 is in no backup",
		`"/srv/a b" cannot be mounted by Proxmox`} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
	if !diags.HasErrors() || strings.Contains(said, "/srv/plain of container 103 is in no backup") {
		t.Errorf("%s", said)
	}
}

// An archive that pveam downloaded is named as pveam list prints it, and nothing is built in its place.
func TestProxmoxArchiveByItsName(t *testing.T) {
	var files []config.File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		data, err := os.ReadFile(filepath.Join("../../examples/homelab", name))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, config.File{Name: name, Data: data})
	}
	const volume = "shared-iso:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"
	files[0].Data = regexp.MustCompile(`"template": "[^"]*"`).ReplaceAll(files[0].Data,
		[]byte(`"template": "`+volume+`"`))
	cfg, diags := config.Load(files)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	m := proxmoxHost(storageFile)
	objects, _ := config.Derive(cfg, m)
	if tpl, _ := specAt[spec.Template](t, objects, "template/900"); tpl.Definition.Guest.Archive != "" ||
		tpl.Suite != "bookworm" {
		t.Errorf("one that is not there: %+v %+v", tpl, tpl.Definition.Guest)
	}
	m.Present["/fastData/shared-iso/template/cache/debian-12-standard_12.12-1_amd64.tar.zst"] = true
	objects, _ = config.Derive(cfg, m)
	if tpl, _ := specAt[spec.Template](t, objects, "template/900"); tpl.Definition.Guest.Archive != volume ||
		tpl.Suite != "" {
		t.Errorf("%+v %+v", tpl, tpl.Definition.Guest)
	}
	files[0].Data = []byte(strings.Replace(string(files[0].Data), volume, "local:iso/x.iso", 1))
	if _, diags := config.Load(files); !diags.HasErrors() {
		t.Error("what is no archive was taken")
	}
}
