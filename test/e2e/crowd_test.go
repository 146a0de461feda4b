package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Debian's own limits of what containers share.
var debiansLimits = map[string]string{
	"fs/inotify/max_user_instances": "128", "kernel/keys/maxkeys": "200", "kernel/keys/maxbytes": "20000",
	"net/ipv4/neigh/default/gc_thresh1": "128", "net/ipv4/neigh/default/gc_thresh2": "512",
	"net/ipv4/neigh/default/gc_thresh3": "1024",
}

// BenchmarkCrowd brings many containers with certificates up at once, and says what they take. PHOENIX_CROWD is how
// many. With PHOENIX_CROWD_DEBIAN=1 the machine's limits become Debian's first and then those of phoenix setup, and at
// the end what they were before: for a machine on which nobody else runs containers.
func BenchmarkCrowd(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("PHOENIX_CROWD"))
	if err != nil {
		b.Skip("PHOENIX_CROWD=40 says how many containers")
	}
	for range b.N {
		crowd(b, n)
	}
}

func crowd(b *testing.B, n int) {
	h := New(b, homelab())
	ids := h.fill(n)
	if os.Getenv("PHOENIX_CROWD_DEBIAN") != "" {
		h.debian(b, n)
	}
	h.Phoenix("create", "900").Want(0)
	before := memory(b)
	up := h.Phoenix("up").Want(0).Took
	h.WantHealthy()
	health := h.Phoenix("health").Want(0)
	h.WantNoChange(ids...)
	b.ReportMetric(up.Seconds(), "up-s")
	b.ReportMetric(health.Took.Seconds(), "health-s")
	b.ReportMetric(float64(memory(b)-before)/float64(n)/1024, "MiB/container")
	time.Sleep(10 * time.Second) // what the start set going comes to rest
	idle := cpuOf(b, time.Minute)
	b.ReportMetric(idle*100, "idle-cpu-%")
	b.Logf("%d containers; PHX-HOST-001: %s", n,
		regexp.MustCompile(`inotify instances[^"]*`).FindString(h.Phoenix("health", "-o", "json").Stdout))
}

// fill adds containers with a certificate each until there are n, and gives the ids of all.
func (h *Hypervisor) fill(n int) []string {
	h.t.Helper()
	ids := []string{"101", "102", "103", "201"}
	var records []any
	for i := len(ids); i < n; i++ {
		id, name, ip := strconv.Itoa(300+i), fmt.Sprintf("crowd%d", i), fmt.Sprintf("10.86.17.%d", 110+i)
		h.edit(id, func(c map[string]any) {
			for key, value := range map[string]any{
				"name": name, "start_at_boot": true, "boot_order": 5, "memory_mb": 256, "cores": 1,
				"unprivileged": true, "clone_from_ctid": "900",
				"network_config": map[string]any{"name": "eth0", "bridge": bridge, "ip": ip + "/24",
					"gw": "10.86.17.1"},
				"mac_address": fmt.Sprintf("52:54:00:86:18:%02X", i), "features": []any{"base_setup", "trusted_ca"},
				"firewall": map[string]any{"enabled": true},
				"certificates": []any{map[string]any{"common_name": name + ".homelab.internal",
					"cert_path": "/etc/ssl/" + name + ".crt", "key_path": "/etc/ssl/private/" + name + ".key"}},
			} {
				c[key] = value
			}
		})
		records = append(records, map[string]any{"hostname": name, "ip_internal": ip})
		ids = append(ids, id)
	}
	h.edits(func(all map[string]any) {
		zone := all["dns_server"].(map[string]any)["authoritative_zones"].([]any)[0].(map[string]any)
		zone["records"] = append(zone["records"].([]any), records...)
	})
	return ids
}

// debian gives the machine Debian's limits, sees that validate counts them, and raises them as phoenix setup would. The
// rest of setup is not for a machine on which tests run.
func (h *Hypervisor) debian(b *testing.B, n int) {
	for name, value := range debiansLimits {
		path := filepath.Join("/proc/sys", name)
		old, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.WriteFile(path, old, 0) })
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			b.Fatal(err)
		}
	}
	if said := h.Phoenix("validate").Want(0); n >= 20 &&
		!strings.Contains(said.Stdout+said.Stderr, "fs.inotify.max_user_instances is 128") {
		b.Errorf("validate does not count:\n%s", said)
	}
	var doc struct {
		Changes []struct {
			Address string
			Fields  []struct{ Path, Want string }
		}
	}
	h.Phoenix("setup", "-o", "json").Want(0).JSON(&doc)
	for _, c := range doc.Changes {
		for _, f := range c.Fields {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(f.Path, ".", "/"))
			if c.Address != "sysctl/hypervisor" || strings.Contains(f.Path, " ") {
				continue
			}
			old, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = os.WriteFile(path, old, 0) })
			if err := os.WriteFile(path, []byte(f.Want), 0); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// memory is what is used on this machine, in KiB.
func memory(b *testing.B) int {
	b.Helper()
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	value := func(key string) int {
		m := regexp.MustCompile(`(?m)^` + key + `: +(\d+) kB`).FindSubmatch(raw)
		if m == nil {
			b.Fatalf("no %s", key)
		}
		v, _ := strconv.Atoi(string(m[1]))
		return v
	}
	return value("MemTotal") - value("MemAvailable")
}

// cpuOf is how many processors this machine uses in a while, whoever does.
func cpuOf(b *testing.B, while time.Duration) float64 {
	b.Helper()
	ticks := func() (busy float64) {
		raw, err := os.ReadFile("/proc/stat")
		if err != nil {
			b.Fatal(err)
		}
		line, _, _ := strings.Cut(string(raw), "\n")
		for i, f := range strings.Fields(line)[1:] {
			v, _ := strconv.ParseFloat(f, 64)
			if i != 3 && i != 4 && i < 8 { // idle, iowait; guests are in user
				busy += v
			}
		}
		return busy
	}
	before := ticks()
	time.Sleep(while)
	return (ticks() - before) / 100 / while.Seconds()
}
