package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
)

// What a plan of 1,000 containers may take.
const (
	planTime   = 2 * time.Second
	planMemory = 200.0 // MiB resident, at most, that of the fake machine included
)

// BenchmarkPlan is all that `phoenix plan` does, from reading the files on, where everything is as it should be: with
// the real drivers on a hypervisor that is a map in memory, and with containers whose insides only remember their
// specs.
func BenchmarkPlan(b *testing.B) {
	took := map[int]time.Duration{}
	for _, n := range []int{100, 300, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			house := newBenchHouse(b, n)
			house.apply(b)
			debug.FreeOSMemory()
			clearPeak(b)
			objects := 0
			for b.Loop() {
				objects = house.plan(b)
			}
			took[n] = b.Elapsed() / time.Duration(b.N)
			peak := peakMiB(b)
			b.ReportMetric(float64(objects), "objects")
			b.ReportMetric(peak, "peak-MiB")
			b.ReportMetric(float64(took[n].Microseconds())/float64(objects), "µs/object")
			if first := took[100]; first > 0 {
				b.ReportMetric(took[n].Seconds()/first.Seconds()/(float64(n)/100), "of-linear")
			}
			if took[n] > planTime || peak > planMemory {
				b.Errorf("%d containers: %s and %.0f MiB; at most %s and %.0f MiB", n, took[n], peak, planTime,
					planMemory)
			}
		})
	}
}

// clearPeak and peakMiB are about VmHWM of proc_pid_status(5).
func clearPeak(b *testing.B) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}

func peakMiB(b *testing.B) float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// benchHouse is a configuration of many containers on a machine in memory.
type benchHouse struct {
	app    *app
	engine *engine.Engine
	inside map[string]*memoryTarget
}

func newBenchHouse(t testing.TB, n int) *benchHouse {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PHOENIX_CACHE", filepath.Join(dir, "cache"))
	write(t, filepath.Join(dir, "config", fileNames[0]), manyContainers(n))
	write(t, filepath.Join(dir, "config", fileNames[1]), manyHypervisor(n))
	index := map[string]map[string]string{}
	for _, name := range []string{programCA, programProxy} {
		sum := sha256.Sum256([]byte(name))
		path := filepath.Join(dir, "programs", name)
		write(t, path, name)
		index[name] = map[string]string{"path": path, "sha256": hex.EncodeToString(sum[:])}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cache", "artifacts", "index.json"), string(raw))
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, drivers: all.Drivers()}
	a.opts = options{config: []string{filepath.Join(dir, "config")}, runtime: "lxc", root: filepath.Join(dir, "root"),
		output: "json"}
	if err := a.begin(); err != nil {
		t.Fatal(err)
	}
	a.host = newMemoryHost()
	inside := map[string]*memoryTarget{}
	for id := range n + 1000 { // more than there are
		inside[fmt.Sprint(id)] = &memoryTarget{specs: map[object.Address][]byte{}}
	}
	return &benchHouse{app: a, inside: inside, engine: &engine.Engine{
		Local: engine.NewLocal(a.drivers, a.host, nil, nil, nil),
		Connect: func(_ context.Context, id string) (engine.Target, error) {
			if inside[id] == nil {
				return nil, fmt.Errorf("no container %s", id)
			}
			return inside[id], nil
		},
	}}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// objects is what the plan command does before it looks at anything.
func (h *benchHouse) objects(t testing.TB) []object.Object {
	t.Helper()
	loaded, err := h.app.load()
	if err != nil {
		t.Fatal(err)
	}
	objects, containers := loaded.selected(loaded.ids())
	if err := complete(loaded.cfg, loaded.machine, containers); err != nil {
		t.Fatal(err)
	}
	return objects
}

func (h *benchHouse) apply(t testing.TB) {
	t.Helper()
	result, err := h.engine.Apply(t.Context(), h.objects(t))
	if err != nil || result.Err() != nil {
		t.Fatal(err, result.Err())
	}
}

func (h *benchHouse) plan(t testing.TB) int {
	t.Helper()
	objects := h.objects(t)
	result, err := h.engine.Plan(t.Context(), objects)
	if err != nil || result.Err() != nil || len(result.Plan.Changes) > 0 {
		t.Fatalf("the plan is not empty: %v, %v, %v", err, result.Err(), result.Plan.Changes)
	}
	return len(objects)
}

// The fake machine must not say that all is well whatever happens: what is taken away there stands in the plan.
func TestPlanOfManyContainers(t *testing.T) {
	h := newBenchHouse(t, 5)
	first, err := h.engine.Plan(t.Context(), h.objects(t))
	if err != nil || len(first.Plan.Changes) != len(h.objects(t)) {
		t.Errorf("a plan from nothing has %d changes for %d objects: %v", len(first.Plan.Changes),
			len(h.objects(t)), err)
	}
	h.apply(t)
	h.plan(t)
	memory := h.app.host.(*memoryHost)
	volume := filepath.Join(h.app.opts.root, "volumes", "1001", "data")
	if err := memory.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	result, err := h.engine.Plan(t.Context(), h.objects(t))
	want := []plan.Change{{Address: "volume/1001/data",
		Delta: plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: "mode", Have: "0777", Want: "0700"}}}}}
	if err != nil || fmt.Sprint(result.Plan.Changes) != fmt.Sprint(want) {
		t.Errorf("got %v (%v), want %v", result.Plan.Changes, err, want)
	}
}

// manyContainers is the homelab example with n backends instead of one.
func manyContainers(n int) string {
	containers := map[string]any{"900": benchContainer("base", 0, 200, map[string]any{
		"template_snapshot_name": "ready", "template": "/none.tar.zst", "features": []string{"base_setup"},
		"clone_from_ctid": nil,
	})}
	for id, role := range map[int]string{103: "step_ca", 101: "nginx_gateway", 102: "traefik"} {
		features := []string{"base_setup", "trusted_ca", role}
		if id == 103 {
			features = []string{"base_setup", role}
		}
		containers[fmt.Sprint(id)] = benchContainer(strings.ReplaceAll(role, "_", "-"), 0, id,
			map[string]any{"features": features})
	}
	for i := range n {
		name := fmt.Sprintf("app%d", i)
		containers[fmt.Sprint(1000+i)] = benchContainer(name, 1+i/250, i%250, map[string]any{
			"features": []string{"base_setup", "trusted_ca"}, "dependencies": []string{"103"},
			"traefik_service": map[string]any{"name": name, "port": 8443, "scheme": "https"},
			"zfs_volumes": []any{map[string]any{"name": "data", "pool": "p", "size_gb": 1,
				"mount_point": "/srv/data"}},
			"certificates": []any{map[string]any{
				"common_name": name + "-backend.bench.internal",
				"dns_names":   []string{name + "-backend.bench.internal"},
				"cert_path":   "/srv/data/x.crt", "key_path": "/srv/data/x.key",
			}},
		})
	}
	raw, err := json.MarshalIndent(map[string]any{"lxc_configs": containers}, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func benchContainer(name string, high, low int, more map[string]any) map[string]any {
	c := map[string]any{
		"name": name, "start_at_boot": true, "memory_mb": 256, "cores": 1, "unprivileged": true,
		"clone_from_ctid": "900",
		"mac_address":     fmt.Sprintf("52:54:00:86:%02x:%02x", high, low),
		"network_config": map[string]any{"name": "eth0", "bridge": "benchbr0",
			"ip": fmt.Sprintf("10.86.%d.%d/16", high, low), "gw": "10.86.255.254"},
	}
	for key, value := range more {
		c[key] = value
		if value == nil {
			delete(c, key)
		}
	}
	return c
}

func manyHypervisor(n int) string {
	records := []any{map[string]any{"hostname": "ca", "ip_internal": "10.86.0.103"},
		map[string]any{"hostname": "www", "ip_internal": "10.86.0.101"}}
	for i := range n {
		records = append(records, map[string]any{"hostname": fmt.Sprintf("app%d-backend", i),
			"ip_internal": fmt.Sprintf("10.86.%d.%d", 1+i/250, i%250)})
	}
	raw, err := json.MarshalIndent(map[string]any{
		"domain_name": "bench.internal",
		"network": map[string]any{"interfaces": map[string]any{"name": "benchbr0", "address": "10.86.255.254/16"},
			"default_subnet": "10.86.0.0/16"},
		"dns_server": map[string]any{"enabled": true, "upstream_servers": []string{"9.9.9.9"},
			"authoritative_zones": []any{map[string]any{"zone_name": "bench.internal", "records": records}}},
		"step_ca": map[string]any{"dns_name": "ca.bench.internal"},
	}, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(raw)
}
