package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
)

// mountedAt is a site of one container with a volume and two mount points, of which the first is there.
func mountedAt(t *testing.T, hostPath, containerPath, pool, mountPoint string) (*config.Config, bool) {
	t.Helper()
	text := map[string]any{"lxc_configs": map[string]any{
		"900": map[string]any{"name": "base", "template": "/t.tar",
			"network_config": map[string]any{"bridge": "vmbr0", "ip": "10.0.0.90/24"}},
		"101": map[string]any{"name": "a", "clone_from_ctid": "900",
			"network_config": map[string]any{"bridge": "vmbr0", "ip": "10.0.0.2/24"},
			"zfs_volumes":    []any{map[string]any{"name": "v", "pool": pool, "mount_point": mountPoint}},
			"mount_points": []any{map[string]any{"host_path": hostPath, "container_path": containerPath},
				map[string]any{"host_path": "/tank/absent", "container_path": containerPath + "x"}}}}}
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	cfg, diags := config.Load([]config.File{{Name: "lxc.json", Data: raw}, {Name: "hypervisor.json",
		Data: []byte(`{"network": {"interfaces": {"name": "vmbr0", "address": "10.0.0.1/24"}}}`)}})
	return cfg, !diags.HasErrors()
}

// FuzzMountPaths: what validate lets through of the paths of mounts and volumes is what every driver takes, on both
// runtimes, and stands in an entry of lxc as it was meant.
func FuzzMountPaths(f *testing.F) {
	for _, p := range [][4]string{
		{"/tank/media", "/media", "/mnt/fast", "/data"}, {"/tank/media/", "/media/", "/mnt/fast/", "/data/"},
		{"/tank//a", "/a/../b", "/mnt/./x", "/"}, {"/tank/with blank", "/with blank", "/mnt/a b", "/da ta"},
		{`/tank/a\040b`, `/a\b`, "tank/volumes", "/data#1"}, {"/tank/a,b=c", "/a,b", "/x,y", "/d=1,ro"},
		{"/tank/ä€", "/ä", "/€", "/ü:1"}, {"/" + strings.Repeat("x", 300), "/a", "/p", "/" + strings.Repeat("y/", 2000)},
		{"/tank/a\u00a0b", "/\u2028", "/p\u0085", "/d\u200b"}, {"", "a", "-", "//"}, {"/tank/a; b", "/a; b", "/;", "/ "},
		{"/tank/-", "/-", "/-/", "/--"}, {"/tank/'q'", `/"q"`, "/$(x)", "/`x`"}, {"/...", "/.../", "/..x", "/.x"},
	} {
		f.Add(p[0], p[1], p[2], p[3])
	}
	drivers := engine.Drivers(all.Drivers())
	f.Fuzz(func(t *testing.T, hostPath, containerPath, pool, mountPoint string) {
		cfg, ok := mountedAt(t, hostPath, containerPath, pool, mountPoint)
		if !ok || !utf8.ValidString(hostPath+containerPath+pool+mountPoint) {
			return
		}
		for _, m := range []config.Machine{{Runtime: "lxc"}, {Runtime: "pve", Proxmox: &spec.Proxmox{Dir: "/etc/pve",
			State: "/var/lib/lxc", Locks: "/run/lock"},
			Storages: []config.Storage{{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"rootdir"}}}}} {
			m.Root, m.Backend, m.Binary = "/var/lib/phoenix", "dir", config.Artifact{Path: "/b", SHA256: "00"}
			m.Present, m.Pools = map[string]bool{}, map[string]string{}
			for _, p := range config.Wanted(cfg, nil) {
				m.Present[p] = p != "/tank/absent"
			}
			for p := range config.Datasets(cfg) {
				m.Pools[p] = map[bool]string{true: "dir", false: "zfs"}[strings.HasPrefix(p, "/")]
			}
			objects, diags := config.Derive(cfg, m)
			if diags.HasErrors() {
				continue
			}
			for _, o := range objects {
				d, err := drivers.Find(o)
				if err != nil {
					t.Fatal(err)
				}
				if k := o.Address.Kind(); k != spec.KindContainer && k != spec.KindVolume {
					continue
				}
				if diags := d.Decode(o.Spec); diags.HasErrors() {
					t.Errorf("%s: validate takes %q, %q, %q, %q, and the driver says: %v", m.Runtime, hostPath,
						containerPath, pool, mountPoint, diags)
				}
			}
		}
	})
}
