package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

func homelab(t *testing.T) *Config {
	t.Helper()
	return loadDirectory(t, "../../examples/homelab/phoenix_lxc_configs.json",
		"../../examples/homelab/phoenix_hypervisor_config.json")
}

func loadDirectory(t *testing.T, names ...string) *Config {
	t.Helper()
	var files []File
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{Name: filepath.Base(name), Data: b})
	}
	cfg, diags := Load(files)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	return cfg
}

var machine = Machine{
	Runtime: "lxc", Root: "/r", Backend: "dir", Binary: Artifact{Path: "/b", SHA256: strings.Repeat("a", 64)},
	Artifacts: map[string]Artifact{"step-ca": {SHA256: strings.Repeat("b", 64)},
		"traefik": {SHA256: strings.Repeat("c", 64)}},
	Scripts: map[string]Artifact{"hello.sh": {SHA256: strings.Repeat("d", 64)}},
}

func derive(t *testing.T, cfg *Config) []object.Object {
	t.Helper()
	objects, diags := Derive(cfg, machine)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	for _, d := range diags {
		t.Log(d)
	}
	if _, diags = plan.Order(objects); diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	return objects
}

func get[Spec any](t *testing.T, objects []object.Object, a object.Address) Spec {
	t.Helper()
	var s Spec
	o, ok := object.Find(objects, a)
	if !ok {
		t.Fatalf("%s is not there", a)
	}
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDeriveHomelab(t *testing.T) {
	objects := derive(t, homelab(t))
	ca := get[spec.StepCA](t, objects, "stepca/103")
	for _, n := range []string{"hello.homelab.internal", "hello-backend.homelab.internal", "traefik.homelab.internal",
		"nginx.homelab.internal"} {
		if !slices.Contains(ca.AllowedNames, n) {
			t.Errorf("the CA does not sign %s: %v", n, ca.AllowedNames)
		}
	}
	if !slices.Contains(ca.DNSNames, "10.86.17.103") || !slices.Contains(ca.DNSNames, "ca.homelab.internal") {
		t.Errorf("clients dial names that the CA has not: %v", ca.DNSNames)
	}
	for _, s := range get[spec.Nginx](t, objects, "nginx/101/base").Sites {
		routed := s.Name == "hello.homelab.internal" || s.Name == "traefik.homelab.internal"
		if (s.Challenge == "10.86.17.102:80") != routed || (s.Upstream == "10.86.17.102:443") != routed {
			t.Errorf("site %+v", s)
		}
	}
	r := get[spec.Traefik](t, objects, "traefik/102/config").Routes
	if len(r) != 1 || r[0].URL != "https://10.86.17.201:8443" || r[0].ServerName != "hello-backend.homelab.internal" {
		t.Errorf("routes %+v", r)
	}
	if o, _ := object.Find(objects, "unit/102/traefik.service"); !slices.Contains(o.After, "unit/101/nginx.service") {
		t.Errorf("Traefik's challenges come by way of the gateway, which it does not wait for: %v", o.After)
	}
	if v := get[spec.Volume](t, objects, "volume/103/ssl"); v.Mode != 0o700 || v.Path != "/r/volumes/103/ssl" ||
		v.IDMap.Base != 0x70030000 {
		t.Errorf("volume %+v", v)
	}
}

// Each container alone brings its own prerequisites, and no more.
func TestDeriveClosures(t *testing.T) {
	objects := derive(t, homelab(t))
	for id, want := range map[string]string{"103": "103 900", "101": "101 103 900", "102": "101 102 103 900",
		"201": "103 201 900"} {
		var got []string
		for _, o := range plan.Select(objects, []string{id}) {
			if o.Container != "" && !slices.Contains(got, o.Container) {
				got = append(got, o.Container)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("create %s takes %v, want %s", id, got, want)
		}
	}
}

// What the daemon keeps must not depend on what was pinned or consented to when it was derived.
func TestDeriveAgentIsStable(t *testing.T) {
	cfg := homelab(t)
	before, _ := Derive(cfg, machine)
	m := machine
	m.Pins.Root, m.NewRoot = strings.Repeat("e", 64), true
	after, _ := Derive(cfg, m)
	for _, a := range []object.Address{"agent/101", "agent/102", "agent/103", "unit/103/step-ca.service"} {
		x, _ := object.Find(before, a)
		y, _ := object.Find(after, a)
		if string(x.Spec) != string(y.Spec) {
			t.Errorf("%s changed:\n%s\n%s", a, x.Spec, y.Spec)
		}
	}
	for _, o := range get[spec.Agent](t, before, "agent/101").Objects {
		for _, n := range o.Needs {
			if n.From.Scope() != "101" {
				t.Errorf("the daemon of 101 cannot fill %s from %s", o.Address, n.From)
			}
		}
	}
}

// Along the way of a new root everyone's wishes are one: who is trusted, what certificates may lead to. At its end the
// daemons' lists do not change any more: whatever they keep was looked at before.
func TestDeriveSuccession(t *testing.T) {
	cfg, old, next := homelab(t), strings.Repeat("e", 64), strings.Repeat("f", 64)
	lists := map[string]string{}
	for name, c := range map[string]struct {
		pins       spec.Pins
		both, good int
	}{
		"before": {spec.Pins{Root: old}, 0, 0}, "next": {spec.Pins{Root: old, Next: next}, 2, 2},
		"old":  {spec.Pins{Root: next, Old: old}, 2, 0},
		"gone": {spec.Pins{Root: next, Gone: old}, 0, 0}, "after": {spec.Pins{Root: next}, 0, 0},
	} {
		m := machine
		m.Pins = c.pins
		objects, _ := Derive(cfg, m)
		trust, ca := get[spec.Trust](t, objects, "trust/101"), get[spec.StepCA](t, objects, "stepca/103")
		proxy := get[spec.Traefik](t, objects, "traefik/102/certificates")
		if len(trust.Both) != c.both || trust.Gone != c.pins.Gone || len(proxy.Good) != c.good {
			t.Errorf("%s: trusts %v, not %q; good are %v", name, trust.Both, trust.Gone, proxy.Good)
		}
		if (spec.Pins{Root: ca.Pinned, Next: ca.Next, Old: ca.Old, Gone: ca.Gone}) != c.pins || ca.MakeNext {
			t.Errorf("%s: the CA is to have %+v", name, ca)
		}
		for _, id := range []string{"101", "103"} {
			x, _ := object.Find(objects, object.NewAddress(spec.KindAgent, id))
			lists[name] += string(x.Spec)
		}
	}
	if lists["gone"] != lists["after"] || lists["before"] != lists["after"] {
		t.Error("the daemons' lists change at the end")
	}
	if lists["next"] == lists["before"] || lists["old"] == lists["next"] {
		t.Error("the daemons do not know of two roots")
	}
}

// The users' own files, where they are at hand.
func TestDeriveUsersFiles(t *testing.T) {
	dir := os.Getenv("PHOENIX_USER_FILES")
	if dir == "" {
		dir = "../../../shared/phoenix-configs"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the users' files are not here; PHOENIX_USER_FILES names their directory")
	}
	m := machine
	cfg := loadDirectory(t, dir+"/lxc-own-directories.json", dir+"/hypervisor.json")
	objects, diags := Derive(cfg, m)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if _, diags := plan.Order(objects); diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	names := get[spec.Certificate](t, objects, "certificate/101/gateway").DNSNames
	if !slices.Contains(names, "traefik.internal.thinkheads.ai") {
		t.Errorf("the gateway's names %v", names)
	}
	hosts := get[spec.Traefik](t, objects, "traefik/102/config").Routes
	if len(hosts) != 4 {
		t.Errorf("routes %+v", hosts)
	}
	for id, want := range map[string]string{"103": "103 900", "101": "101 103 900", "102": "101 102 103 900"} {
		var got []string
		for _, o := range plan.Select(objects, []string{id}) {
			if o.Container != "" && !slices.Contains(got, o.Container) {
				got = append(got, o.Container)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("create %s takes %v, want %s", id, got, want)
		}
	}
}

// A pool for root file systems that is not on the machine is told once, with all containers that name it.
func TestMissingPoolIsTold(t *testing.T) {
	cfg := homelab(t)
	count := func(m Machine) (told int) {
		_, diags := Derive(cfg, m)
		for _, d := range diags {
			if strings.HasPrefix(d.Summary, "pool homelab is not on this machine; root file systems") {
				told++
				if want := "in 101, 102, 103, 201, 900"; d.Detail != want {
					t.Errorf("detail %q, want %q", d.Detail, want)
				}
			}
		}
		return told
	}
	if n := count(machine); n != 1 {
		t.Errorf("told %d times", n)
	}
	here := machine
	here.Pools = map[string]string{"homelab": "dir"}
	if n := count(here); n != 0 {
		t.Errorf("the pool is here, yet told %d times", n)
	}
}

func TestVolumesOnDatasets(t *testing.T) {
	cfg := homelab(t)
	c := cfg.Containers[0]
	c.Volumes = []*Volume{{Name: "a", Pool: "tank", SizeGB: 1, MountPoint: "/a"},
		{Name: "b", Pool: "quickOS-certs", MountPoint: "/b"},
		{Name: "c", Pool: "nowhere", MountPoint: "/c"}, {Name: "d", Pool: "/mnt/fast", MountPoint: "/d"}}
	cfg.Hypervisor.ZFS.Datasets = []*Dataset{{Pool: "quickOS", Name: "certs"}}
	if got := Datasets(cfg); !slices.Equal(got["quickOS-certs"], []string{"quickOS-certs", "quickOS/certs"}) ||
		!slices.Equal(got["tank"], []string{"tank"}) {
		t.Errorf("datasets to look for: %v", got)
	}
	m := machine
	m.Pools = map[string]string{"tank": "zfs", "quickOS-certs": "zfs", "/mnt/fast": "btrfs"}
	m.Datasets = map[string]string{"tank": "tank", "quickOS-certs": "quickOS/certs"}
	objects, diags := Derive(cfg, m)
	for name, want := range map[string][2]string{"a": {"zfs", "tank"}, "b": {"zfs", "quickOS/certs"},
		"c": {"dir", "nowhere"}, "d": {"btrfs", "/mnt/fast"}} {
		address := object.NewAddress(spec.KindVolume, c.ID, name)
		o, _ := object.Find(objects, address)
		if v := get[spec.Volume](t, objects, address); o.Provider != want[0] || v.Pool != want[1] {
			t.Errorf("volume %s: %s on %s", name, o.Provider, v.Pool)
		}
	}
	if v := get[spec.Volume](t, objects, object.NewAddress(spec.KindVolume, c.ID, "d")); v.Path != "/mnt/fast/"+c.ID+
		"/d" {
		t.Errorf("a volume in a path: %s", v.Path)
	}
	told := 0
	for _, d := range diags {
		if strings.Contains(d.Summary, "pool nowhere is not on this machine") {
			told++
		} else if strings.Contains(d.Summary, "pool tank") {
			t.Errorf("told of a pool that is here: %s", d.Summary)
		}
	}
	if told != 1 {
		t.Errorf("told %d times of a pool that is not here", told)
	}
}

// What a run waits for an application is on both runtimes part of the container's running, which does not change for
// it.
func TestDeriveProbe(t *testing.T) {
	cfg := homelab(t)
	c, _ := cfg.Container("201")
	for _, x := range []struct {
		probe Probe
		want  spec.Running
	}{
		{Probe{Command: " true ", Retries: 30, Interval: 20},
			spec.Running{Check: "true", Again: &spec.Again{Times: 30, Every: spec.Duration(20 * time.Second)}}},
		{Probe{Command: "true", Retries: 3},
			spec.Running{Check: "true", Again: &spec.Again{Times: 3, Every: spec.Duration(10 * time.Second)}}},
		{Probe{Command: "true"}, spec.Running{Check: "true"}},
		{Probe{Retries: 3}, spec.Running{}},
	} {
		c.HealthCheck = x.probe
		r := get[spec.Running](t, derive(t, cfg), "running/201")
		if r.Check != x.want.Check || !reflect.DeepEqual(r.Again, x.want.Again) {
			t.Errorf("%+v: %q %+v", x.probe, r.Check, r.Again)
		}
	}
}

// A script that can never run is refused before anything is stopped for it.
func TestFlawedScriptIsRefused(t *testing.T) {
	cfg := homelab(t)
	m := machine
	m.Scripts = map[string]Artifact{}
	for _, c := range cfg.Containers {
		c.ApplicationScript = "mine.sh"
	}
	m.Scripts["mine.sh"] = Artifact{Path: "/x/mine.sh", SHA256: strings.Repeat("d", 64), Flaw: "it is upside down"}
	_, diags := Derive(cfg, m)
	if err := diags.Err(); err == nil ||
		!strings.Contains(err.Error(), "script /x/mine.sh cannot run: it is upside down") {
		t.Errorf("got %v", err)
	}
}
