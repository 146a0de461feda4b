package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// mounting is a configuration with one directory of the hypervisor in container 101, and more of that container.
func mounting(hostPath, target, more string) []File {
	return []File{{Name: "lxc.json", Data: fmt.Appendf(nil, `{"lxc_configs": {
  "900": {"name": "base", "template": "/t.tar", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.90/24"}},
  "101": {"name": "a", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.2/24"}, %s
    "mount_points": [{"host_path": %q,
      "container_path": %q}]},
  "102": {"name": "b", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.3/24"},
    "mount_points": [{"host_path": "/data/b", "container_path": "/b"}]}}}`, more, hostPath, target)},
		{Name: "hypervisor.json",
			Data: []byte(`{"network": {"interfaces": {"name": "vmbr0", "address": "10.0.0.1/24"}}}`)}}
}

// wantAt checks that there is an error at that line, with a hint.
func wantAt(t *testing.T, what string, diags diag.List, line int) {
	t.Helper()
	for _, d := range diags {
		if d.Severity == diag.Error && d.File == "lxc.json" && d.Line == line && d.Hint != "" {
			return
		}
	}
	t.Errorf("%s is taken: %v", what, diags)
}

// Nothing is mounted over what makes a container a system, nor over what is phoenix's in it.
func TestTargetsThatMakeNoSense(t *testing.T) {
	for _, target := range []string{
		"/", "/proc", "/proc/1/x", "/proc/self/fd", "/dev/null", "/dev/shm/x", "/sys", "/sys/fs/cgroup", "/run",
		"/run/systemd", "/var/run/x", "/bin", "/usr", "/usr/bin", "/usr/lib/systemd", "/usr/local", "/usr/local/bin",
		"/usr/local/bin/step-ca", "/usr/local/sbin", "/usr/local/lib/phoenix", "/etc", "/etc/phoenix",
		"/etc/phoenix/x", "/etc/systemd/system", "/etc/passwd", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs",
		"/etc/pam.d", "/lib64/x", "/usr/local/share/ca-certificates", "/var", "/var/lib", "/var/lib/phoenix",
		"/var/lib/phoenix/agent", "/var/lib/dpkg/info", "/boot", "/root", "/tmp", "/home", "/srv/../etc", "/srv//x",
		"/srv/./x", "srv", "/srv/..", "/a\x00b", "/a\nb", "",
	} {
		_, diags := Load(mounting("/data/a", target, ""))
		wantAt(t, target, diags, 5)
	}
	for _, target := range []string{
		"/data", "/srv", "/srv/x", "/media", "/mnt/x", "/opt/app", "/home/anna", "/etc/traefik", "/etc/nginx/ssl",
		"/etc/step-ca/ssl", "/etc/ssl/private", "/logs/nginx", "/var/log/nginx", "/var/lib/postgresql", "/var/www",
		"/vllm_models", "/usr/local/share/app", "/root/.cache", "/procx", "/devel",
	} {
		if _, diags := Load(mounting("/data/a", target, "")); diags.HasErrors() {
			t.Errorf("%s: %v", target, diags)
		}
	}
}

func TestHostPathsThatAreTheSystems(t *testing.T) {
	for _, p := range []string{
		"/", "/etc/pve", "/etc/pve/lxc", "/etc/phoenix", "/proc", "/proc/1/root", "/sys", "/dev", "/dev/shm", "/usr",
		"/usr/local/bin", "/usr/lib/x", "/var", "/var/lib", "/var/lib/phoenix", "/var/lib/phoenix/volumes/101/x",
		"/root/x", "/boot", "/run/x", "/home", "/srv", "/srv/../etc", "/srv//a",
	} {
		_, diags := Load(mounting(p, "/data", ""))
		wantAt(t, p, diags, 4)
	}
}

// What only this machine knows: its root, pools, storages, links and mounts.
func TestHostPathsThatArePhoenixs(t *testing.T) {
	m := machine
	m.Root, m.Directories = "/state/phoenix", []string{"/conf/dir"}
	m.Homes = map[string]string{"101": "/containers"}
	m.Storages = []Storage{
		{ID: "local", Type: "dir", Path: "/store", Content: []string{"rootdir"}},
		{ID: "z", Type: "zfspool", Pool: "rpool/data"},
	}
	m.Locations = Locations{
		"/link": {"/state/phoenix/volumes", "8:1/state/phoenix/volumes"}, "/state/phoenix": {"8:1/state/phoenix"},
		"/bind":  {"8:1/state"},
		"/other": {"8:2/state/phoenix"}, "/again": {"8:3/b"}, "/data/b": {"8:3/b"},
	}
	pool := `"zfs_volumes": [{"name": "v", "pool": "/pool", "mount_point": "/v"}],`
	for _, p := range []string{
		"/state", "/state/phoenix", "/state/phoenix/volumes/102/x", "/conf", "/conf/dir", "/conf/dir/sub",
		"/containers/101/rootfs", "/pool", "/pool/101/v", "/store", "/store/images/100", "/store/private",
		"/rpool/data/subvol-101-disk-0", "/rpool", "/link", "/bind", "/again",
	} {
		cfg, diags := Load(mounting(p, "/data", pool))
		if diags.HasErrors() {
			t.Fatalf("%s: %v", p, diags)
		}
		_, diags = Derive(cfg, m)
		wantLine := 4
		if p == "/again" { // of two that are one, the second
			wantLine = 7
		}
		wantAt(t, p, diags, wantLine)
	}
	for _, p := range []string{
		"/other", "/stat", "/state/phoenix2", "/store/101/logs", "/mnt/pve/quickOS/lxc-persistent-data/101/logs",
		"/pools",
	} {
		cfg, diags := Load(mounting(p, "/data", pool))
		if diags.HasErrors() {
			t.Fatalf("%s: %v", p, diags)
		}
		if _, diags = Derive(cfg, m); diags.HasErrors() {
			t.Errorf("%s: %v", p, diags)
		}
	}
	for _, p := range Places(mustLoad(t, mounting("/data/a/", "/x", pool)), m) {
		if !strings.HasPrefix(p, "/") || cleanPath(p) != p {
			t.Errorf("%q is asked for", p)
		}
	}
}

// A directory that is there is the users' own, on both runtimes: only what the file says of it is set.
func TestDirectoriesThatAreThere(t *testing.T) {
	proxmox := machine
	proxmox.Runtime, proxmox.Proxmox = "pve", &spec.Proxmox{Dir: "/etc/pve", State: "/var/lib/lxc", Locks: "/run/lock"}
	proxmox.Storages = []Storage{{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"rootdir"}}}
	for runtime, m := range map[string]Machine{"lxc": machine, "pve": proxmox} {
		m.Present = map[string]bool{"/data/a": true}
		for said, want := range map[string]spec.HostDirectory{
			"": {}, `"owner_uid": 33,`: {UID: true}, `"owner_gid": 0,`: {GID: true}, `"mode": "0750",`: {Mode: true},
		} {
			files := mounting("/data/a", "/media", "")
			files[0].Data = []byte(strings.Replace(string(files[0].Data), `"host_path": "/data/a",`,
				`"host_path": "/data/a",`+said, 1))
			objects, diags := Derive(mustLoad(t, files), m)
			if diags.HasErrors() {
				t.Fatalf("%s: %v", runtime, diags)
			}
			o, _ := object.Find(objects, "volume/101/media")
			var v spec.Volume
			if err := json.Unmarshal(o.Spec, &v); err != nil || o.Provider != "dir" || v.HostDirectory == nil ||
				*v.HostDirectory != want {
				t.Errorf("%s %s: %s %s, %v", runtime, said, o.Provider, o.Spec, err)
			}
			other, _ := object.Find(objects, "volume/102/b")
			var made spec.Volume
			if err := json.Unmarshal(other.Spec, &made); err != nil || made.HostDirectory != nil {
				t.Errorf("%s: a volume that phoenix makes: %s, %v", runtime, other.Spec, err)
			}
		}
	}
}

func mustLoad(t *testing.T, files []File) *Config {
	t.Helper()
	cfg, diags := Load(files)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return cfg
}
