package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// migrated are the files as they become.
func migrated(m config.Migration) []config.File {
	var out []config.File
	for _, f := range m.Files {
		out = append(out, config.File{Name: f.Name, Data: f.New})
	}
	return out
}

// sharing are the findings of the audit that are about sharing, whatever their grade.
func sharing(files []config.File) string {
	var b strings.Builder
	for _, f := range config.Audit(files).Findings {
		if f.Rule.ID <= "PHX-AUD-004" {
			fmt.Fprintf(&b, "%s:%d: %s %s\n", f.Source.File, f.Source.Line, f.Rule.ID, f.Summary)
		}
	}
	return b.String()
}

// isMigrated checks all that holds for every result, and returns the files.
func isMigrated(t testing.TB, files []config.File) []config.File {
	t.Helper()
	m := config.Migrate(files)
	out := migrated(m)
	if found := sharing(out); found != "" {
		t.Errorf("there is sharing left:\n%s\n%s", found, out[0].Data)
	}
	for _, f := range m.Files {
		if !json.Valid(bytes.TrimPrefix(f.New, []byte("\ufeff"))) {
			t.Fatalf("%s is no JSON any more:\n%s", f.Name, f.New)
		}
	}
	if again := config.Migrate(out); len(again.Changes) > 0 || !reflect.DeepEqual(migrated(again), out) {
		t.Errorf("migrated again it changes: %+v", again.Changes)
	}
	if changed := !reflect.DeepEqual(out, files); changed != (len(m.Changes) > 0) {
		t.Errorf("changed is %v, told are %+v", changed, m.Changes)
	}
	return out
}

func TestMigrateUsersFiles(t *testing.T) {
	for name, volumes := range map[string]map[string]string{
		"lxc-shared-mounts.json":    {"101": "/etc/nginx/ssl", "102": "/etc/traefik/certs", "103": "/etc/step-ca/ssl"},
		"lxc-own-directories.json":  {},
		"lxc-sharing-returned.json": {"103": "/etc/step-ca/ssl"},
	} {
		t.Run(name, func(t *testing.T) {
			files := []config.File{usersFile(t, name), usersFile(t, "hypervisor.json")}
			out := isMigrated(t, files)
			cfg, diags := config.Load(out)
			if cfg == nil {
				t.Fatalf("the result does not validate: %v", diags.Err())
			}
			for id, at := range volumes {
				c, _ := cfg.Container(id)
				if !slices.ContainsFunc(c.Volumes, func(v *config.Volume) bool { return v.MountPoint == at }) ||
					len(c.MountPoints) != map[string]int{"lxc-shared-mounts.json": 0}[name] {
					t.Errorf("container %s has %+v and %+v", id, c.Volumes, c.MountPoints)
				}
			}
			keepsTheRest(t, files[0].Data, out[0].Data)
		})
	}
}

// keepsTheRest compares two files without the parts that a migration may change.
func keepsTheRest(t *testing.T, before, after []byte) {
	t.Helper()
	strip := func(data []byte) (map[string]any, map[string][]string) {
		var doc map[string]any
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		volumes := map[string][]string{}
		for id, c := range doc["lxc_configs"].(map[string]any) {
			c := c.(map[string]any)
			if list, ok := c["zfs_volumes"].([]any); ok {
				for _, v := range list {
					volumes[id] = append(volumes[id], fmt.Sprint(v.(map[string]any)["mount_point"]))
				}
			}
			delete(c, "mount_points")
			delete(c, "zfs_volumes")
			if id == "101" {
				delete(c, "features")
			}
		}
		return doc, volumes
	}
	one, volumesBefore := strip(before)
	two, volumesAfter := strip(after)
	if !reflect.DeepEqual(one, two) {
		t.Error("something else has changed")
	}
	for id, list := range volumesBefore {
		for _, v := range list {
			if !slices.Contains(volumesAfter[id], v) {
				t.Errorf("container %s lost its volume at %s", id, v)
			}
		}
	}
	for _, line := range strings.Split(string(after), "\n") {
		if strings.TrimRight(line, " \t") != line {
			t.Errorf("white space at the end of %q", line)
		}
	}
}

const oldStyle = `{
  "//": "what the house is",
  "lxc_configs": {
    "900": {"name": "base", "template": "/t.tar", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.90/24"}},
    "101": {
      "name": "nginx",
      "_comment": "the gateway",
      "clone_from_ctid": "900",
      "network_config": {"bridge": "vmbr0", "ip": "10.0.0.11/24"},
      "features": ["base_setup", "nginx_gateway", "step_ca", "step_cli"],
      "mount_points": [
        {"host_path": "/tank/103/ssl", "container_path": "/etc/step-ca/ssl"},
        {"host_path": "/tank/101/logs", "container_path": "/logs"},
        {"host_path": "/tank/media", "container_path": "/media"}
      ],
      "boot_order": 2
    },
    "102": {
      "name": "traefik", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.12/24"},
      "features": ["traefik"],
      "mount_points": [{"host_path": "/tank/./103//ssl/", "container_path": "/etc/step-ca/ssl"}],
      "zfs_volumes": []
    },
    "103": {
      "name": "ca", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.13/24"},
      "features": ["step_ca"],
      "mount_points": [{"host_path": "/tank/103/ssl", "container_path": "/etc/step-ca/ssl", "owner_uid": 0}]
    },
    "201": {
      "name": "web", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.21/24"},
      "zfs_volumes": [
        {"name": "media", "pool": "fast", "mount_point": "/srv"}
      ],
      "mount_points": [{"host_path": "/tank/media/films", "container_path": "/data/media", "owner_uid": 33, "mode": "0750"}]
    }
  }
}
`

const oldStyleMigrated = `{
  "//": "what the house is",
  "lxc_configs": {
    "900": {"name": "base", "template": "/t.tar", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.90/24"}},
    "101": {
      "name": "nginx",
      "_comment": "the gateway",
      "clone_from_ctid": "900",
      "network_config": {"bridge": "vmbr0", "ip": "10.0.0.11/24"},
      "features": ["base_setup", "nginx_gateway", "step_cli"],
      "mount_points": [
        {"host_path": "/tank/101/logs", "container_path": "/logs"},
        {"host_path": "/tank/media", "container_path": "/media"}
      ],
      "boot_order": 2,
      "zfs_volumes": [
        {
          "name": "ssl",
          "pool": "fast",
          "size_gb": 1,
          "mount_point": "/etc/nginx/ssl"
        }
      ]
    },
    "102": {
      "name": "traefik", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.12/24"},
      "features": ["traefik"],
      "zfs_volumes": [
        {
          "name": "certs",
          "pool": "fast",
          "size_gb": 1,
          "mount_point": "/etc/traefik/certs"
        }
      ]
    },
    "103": {
      "name": "ca", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.13/24"},
      "features": ["step_ca"],
      "zfs_volumes": [
        {
          "name": "ssl",
          "pool": "fast",
          "size_gb": 1,
          "mount_point": "/etc/step-ca/ssl",
          "backup": true
        }
      ]
    },
    "201": {
      "name": "web", "clone_from_ctid": "900", "network_config": {"bridge": "vmbr0", "ip": "10.0.0.21/24"},
      "zfs_volumes": [
        {"name": "media", "pool": "fast", "mount_point": "/srv"},
        {"name": "media-2", "pool": "fast", "mount_point": "/data/media", "owner_uid": 33, "mode": "0750"}
      ]
    }
  }
}
`

const oldHypervisor = `{"network": {"interfaces": {"name": "vmbr0", "address": "10.0.0.1/24"}},
 "shared_volumes": {"a": {"host_path": "/tank/103/ssl", "mounts": {"101": "/certs"}}, "b": {"host_path": "/tank/b", "mounts": {"953": "/x", "201": "/b"}}}}`

// TestMigrateKeepsAllElse pins the text: comment keys, unknown keys, order, style and what is nobody else's.
func TestMigrateKeepsAllElse(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"as it is":         func(s string) string { return s },
		"lines of Windows": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"byte order mark":  func(s string) string { return "\ufeff" + s },
		"tabs":             func(s string) string { return strings.ReplaceAll(s, "  ", "\t") },
	} {
		t.Run(name, func(t *testing.T) {
			files := []config.File{{Name: "lxc.json", Data: []byte(change(oldStyle))},
				{Name: "hypervisor.json", Data: []byte(change(oldHypervisor))}}
			out := isMigrated(t, files)
			if got, want := string(out[0].Data), change(oldStyleMigrated); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			want := strings.NewReplacer(`{"101": "/certs"}`, "{}", `{"953": "/x", "201": "/b"}`,
				`{"953": "/x"}`).Replace(change(oldHypervisor))
			if got := string(out[1].Data); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestMigrateTellsWhat(t *testing.T) {
	m := config.Migrate([]config.File{{Name: "lxc.json", Data: []byte(oldStyle)},
		{Name: "hypervisor.json", Data: []byte(oldHypervisor)}})
	var got []string
	for _, c := range m.Changes {
		got = append(got, fmt.Sprintf("%s:%d %s %s", c.Source.File, c.Source.Line, c.Object, c.What))
	}
	for _, want := range []string{
		"lxc.json:10 container/101 feature step_ca becomes step_cli: container 101 is a client of the CA, which is " +
			"container 103",
		"lxc.json:12 container/101 /tank/103/ssl is not mounted at /etc/step-ca/ssl any more: container 103 sees it " +
			"too, at lxc.json:27",
		"lxc.json:24 container/103 gets a volume of its own at /etc/step-ca/ssl",
		"hypervisor.json:2 container/201 the shared volume b (/tank/b) does not name container 201 any more: phoenix " +
			"mounts no shared volumes",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not told:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestMigrateLeavesAlone: what is in order, what is no JSON, and what has no CA to be a client of.
func TestMigrateLeavesAlone(t *testing.T) {
	for name, files := range map[string][]config.File{
		"clean":   clean(t),
		"no JSON": {{Name: "lxc.json", Data: []byte(`{"lxc_configs": `)}},
		"nothing": {{Name: "lxc.json", Data: []byte(`{"lxc_configs": {}}`)}},
		"odd": {{Name: "lxc.json",
			Data: []byte(
				`{"lxc_configs": {"101": 1, "102": {"mount_points": 3}, "x": {"mount_points": [{"host_path": "/a"}]}}}`)}},
	} {
		if m := config.Migrate(files); len(m.Changes) > 0 || !reflect.DeepEqual(migrated(m), files) {
			t.Errorf("%s: %+v", name, m.Changes)
		}
	}
}

// generated is a house with mounts at random, written in one of several styles.
func generated(r *rand.Rand) []config.File {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	containers := map[string]any{"900": map[string]any{"name": "base", "template": "/t.tar",
		"network_config": map[string]any{"bridge": "vmbr0", "ip": "10.0.0.90/24"}}}
	ids := []string{"101", "102", "103", "201", "202"}
	for i, id := range ids {
		c := map[string]any{"name": "c" + id, "clone_from_ctid": "900",
			"network_config": map[string]any{"bridge": "vmbr0", "ip": fmt.Sprintf("10.0.0.%d/24", 10+i)}}
		if f := map[string][]string{"101": {"nginx_gateway"}, "102": {"traefik"}, "103": {"step_ca"}}[id]; f != nil {
			if r.Intn(3) == 0 && id != "103" {
				f = append(f, "step_ca")
			}
			c["features"] = f
		}
		var points []any
		for _, at := range r.Perm(5)[:r.Intn(4)] {
			path := "/tank/" + pick(ids...) + pick("", "/ssl", "/certs", "/ssl/deep")
			points = append(points,
				map[string]any{"host_path": path,
					"container_path": []string{"/etc/step-ca/ssl", "/etc/nginx/ssl", "/etc/traefik/certs", "/srv/a",
						"/srv/b"}[at]})
		}
		if points != nil {
			c["mount_points"] = points
		}
		if r.Intn(2) == 0 {
			c["zfs_volumes"] = []any{map[string]any{"name": pick("ssl", "certs", "x"), "pool": "tank",
				"mount_point": pick("/srv/z", "/srv/y")}}
		}
		containers[id] = c
	}
	shared := map[string]any{}
	for _, name := range []string{"m", "n"}[:r.Intn(3)] {
		mounts := map[string]any{}
		for range r.Intn(3) {
			mounts[pick("101", "201", "953", "954")] = "/m"
		}
		shared[name] = map[string]any{"host_path": "/tank/" + pick("103/ssl", "m", "n"), "mounts": mounts}
	}
	hypervisor := map[string]any{"network": map[string]any{"interfaces": map[string]any{"name": "vmbr0",
		"address": "10.0.0.1/24"}}, "shared_volumes": shared}
	indent := pick("", "  ", "\t")
	encode := func(v any) []byte {
		b, err := json.MarshalIndent(v, "", indent)
		if indent == "" {
			b, err = json.Marshal(v)
		}
		if err != nil {
			panic(err) // plain maps always encode
		}
		return b
	}
	return []config.File{{Name: "lxc.json", Data: encode(map[string]any{"lxc_configs": containers})},
		{Name: "hypervisor.json", Data: encode(hypervisor)}}
}

// TestMigrateGenerated: whatever two containers saw, the result validates, has no sharing, and is the end of it.
func TestMigrateGenerated(t *testing.T) {
	changed := 0
	for seed := range int64(400) {
		files := generated(rand.New(rand.NewSource(seed)))
		out := isMigrated(t, files)
		if cfg, diags := config.Load(out); cfg == nil {
			t.Errorf("the result does not validate: %v\nit was\n%s", diags.Err(), files[0].Data)
		}
		if !reflect.DeepEqual(files, out) {
			changed++
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s\nbecame\n%s\n%s", seed, files[0].Data, out[0].Data, out[1].Data)
		}
	}
	if changed < 200 {
		t.Errorf("only %d of the houses had anything to migrate: the test proves little", changed)
	}
}

// FuzzMigrate: never a panic, JSON stays JSON, and the second time changes nothing.
func FuzzMigrate(f *testing.F) {
	f.Add([]byte(oldStyle), []byte(oldHypervisor))
	for seed := range int64(8) {
		files := generated(rand.New(rand.NewSource(seed)))
		f.Add(files[0].Data, files[1].Data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		files := []config.File{{Name: "one", Data: one}, {Name: "two", Data: two}}
		m := config.Migrate(files)
		out := migrated(m)
		for i, file := range out {
			if len(m.Changes) > 0 && !json.Valid(bytes.TrimPrefix(file.Data, []byte("\ufeff"))) {
				t.Fatalf("%s is no JSON any more:\n%s", file.Name, file.Data)
			}
			if !bytes.Equal(m.Files[i].Old, files[i].Data) {
				t.Fatal("the old file was changed")
			}
		}
		if again := config.Migrate(out); len(again.Changes) > 0 {
			t.Fatalf("migrated again it changes: %+v\n%s\n%s", again.Changes, out[0].Data, out[1].Data)
		}
	})
}

// TestGeneratedHousesShare keeps the generator honest: every role and every kind of overlap comes up.
func TestGeneratedHousesShare(t *testing.T) {
	seen := map[string]bool{}
	for seed := range int64(300) {
		for _, f := range config.Audit(generated(rand.New(rand.NewSource(seed)))).Findings {
			seen[f.Rule.ID] = true
		}
	}
	for _, rule := range []string{"PHX-AUD-001", "PHX-AUD-002", "PHX-AUD-003", "PHX-AUD-004", "PHX-AUD-021"} {
		if !seen[rule] {
			t.Errorf("no generated house breaks %s, only %v", rule, slices.Sorted(maps.Keys(seen)))
		}
	}
}
