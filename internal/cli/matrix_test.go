package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

var updateMatrix = flag.Bool("matrix", false, "write testdata/matrix.golden; read the difference before you commit it")

// everyKey has, for each key of both files that is acted on, what it is changed to; c. begins the keys of container
// 1001, h. those of the hypervisor's file. A number is a place in a list. null takes the key out.
const everyKey = `
c.apparmor_profile "unconfined"
c.application_script "hello.sh"
c.boot_delay 3
c.boot_order 7
c.certificates.0.cert_path "/srv/data/y.crt"
c.certificates.0.common_name "other.bench.internal"
c.certificates.0.dns_names ["app1-backend.bench.internal", "app1.bench.internal"]
c.certificates.0.key_path "/srv/data/y.key"
c.certificates.0.key_type "rsa-2048"
c.certificates.0.mode "0640"
c.certificates.0.owner "root:www-data"
c.certificates.0.reload "systemctl reload app"
c.certificates.0.renew_before "9h"
c.clone_from_ctid null
c.clone_from_ctid "901"
c.cores 2
c.dependencies []
c.dependencies ["1000"]
c.devices ["/dev/null"]
c.devices ["/dev/net/tun"]
c.enable_lifecycle_snapshots true
c.features ["base_setup"]
c.features ["base_setup", "trusted_ca", "own"]
c.firewall.enabled false
c.firewall.rules []
c.firewall.rules.0.action "DROP"
c.firewall.rules.0.comment "another"
c.firewall.rules.0.dest "10.86.1.1"
c.firewall.rules.0.dport "81"
c.firewall.rules.0.enable 0
c.firewall.rules.0.icmp-type "echo-request"
c.firewall.rules.0.icmp_type "echo-request"
c.firewall.rules.0.iface "net0"
c.firewall.rules.0.log "info"
c.firewall.rules.0.macro "SSH"
c.firewall.rules.0.port "81"
c.firewall.rules.0.proto "udp"
c.firewall.rules.0.source "10.86.0.102"
c.firewall.rules.0.sport "81"
c.firewall.rules.0.type "out"
c.gpu_assignment "0"
c.health_check.command "false"
c.health_check.interval 9
c.health_check.retries 9
c.listens ["tcp/81"]
c.lxc_options ["lxc.prlimit.nofile=1024"]
c.lxc_options ["lxc.idmap=u 0 0 65536"]
c.mac_address "52:54:00:86:99:99"
c.memory_mb 512
c.mount_points []
c.mount_points.0.container_path "/elsewhere"
c.mount_points.0.host_path "/usr/bin"
c.mount_points.0.host_path "/tank/other"
c.mount_points.0.mode "0750"
c.mount_points.0.owner_gid 7
c.mount_points.0.owner_uid 7
c.mount_points.0.read_only true
c.mount_points.0.share true
c.name "other"
c.network_config.bridge "otherbr0"
c.network_config.gw "10.86.255.1"
c.network_config.gw6 "fd00:86::1"
c.network_config.ip "10.86.1.77/16"
c.network_config.ip "10.86.1.0/16"
c.network_config.ip "10.86.1.77/32"
c.network_config.ip "10.86.1.77/24"
c.network_config.ip6 "fd00:86::77/64"
c.network_config.mtu 1400
c.network_config.name "net0"
c.network_config.nameservers ["9.9.9.9"]
c.network_config.tag 20
c.packages ["nginx-light"]
c.pct_options ["nesting=1"]
c.ports ["8000:8000"]
c.pids_max 3000
c.start_at_boot false
c.storage_pool "other"
c.storage_size_gb 20
c.swap_mb 64
c.template "/other.tar.zst"
c.template_snapshot_name "ready"
c.traefik_service.allow_from ["10.86.0.0/16"]
c.traefik_service.ca_file "/etc/traefik/other.crt"
c.traefik_service.headers {"X-Frame-Options": "DENY"}
c.traefik_service.hosts ["more.bench.internal"]
c.traefik_service.name "other"
c.traefik_service.paths ["/app"]
c.traefik_service.port 8444
c.traefik_service.redirects ["/old /new"]
c.traefik_service.request_headers ["X-App: one"]
c.traefik_service.scheme "http"
c.traefik_service.server_name "app1.bench.internal"
c.traefik_service.users_file "/etc/traefik/users"
c.unprivileged false
c.zfs_volumes []
c.zfs_volumes.0.backup true
c.zfs_volumes.0.mode "0750"
c.zfs_volumes.0.mount_point "/srv/other"
c.zfs_volumes.0.name "other"
c.zfs_volumes.0.owner_gid 7
c.zfs_volumes.0.owner_uid 7
c.zfs_volumes.0.pool "POOL"
c.zfs_volumes.0.size_gb 2
h.access "forward"
h.artifacts.step-ca.path "/nowhere"
h.artifacts.step-ca.sha256 "00"
h.artifacts.step-ca.url "https://example.com/step-ca"
h.artifacts.traefik.path "/nowhere"
h.artifacts.traefik.sha256 "00"
h.artifacts.traefik.url "https://example.com/traefik"
h.audit_accept.0.object "container/1000"
h.audit_accept.0.reason "another"
h.audit_accept.0.rule "PHX-AUD-015"
h.audit_accept.0.until "2097-01-01"
h.core_paths.scripts_dir "/srv/scripts"
h.core_paths.vm_config_file "/srv/vms.json"
h.dns_server.authoritative_zones.0.records.0.hostname "ca2"
h.dns_server.authoritative_zones.0.records.1.hostname "www2"
h.dns_server.authoritative_zones.0.records.1.ip_external "192.0.2.1"
h.dns_server.authoritative_zones.0.records.1.ip_internal "10.86.0.102"
h.dns_server.authoritative_zones.0.zone_name "other.internal"
h.dns_server.enabled false
h.dns_server.upstream_servers ["1.1.1.1"]
h.domain_name "other.internal"
h.forward_ports true
h.mount_point_base "/srv"
h.network.default_subnet "10.0.0.0/8"
h.network.interfaces.address "10.86.255.253/16"
h.network.interfaces.allow_from_containers ["tcp/8080"]
h.network.interfaces.dns_nameservers ["1.1.1.1"]
h.network.interfaces.gateway "10.86.255.1"
h.network.interfaces.name "newbr0"
h.proxmox_defaults.lxc.cores 3
h.proxmox_defaults.lxc.memory_mb 300
h.shared_volumes.old.host_path "/tank/old"
h.shared_volumes.old.mounts {"1001": "/old"}
h.step_ca.allowed_names ["more.bench.internal"]
h.step_ca.database "badgerv2"
h.step_ca.dns_name "www.bench.internal"
h.step_ca.dns_names ["ca2.bench.internal"]
h.step_ca.intermediate_ca_name "Another"
h.step_ca.intermediate_lifetime "1000h"
h.step_ca.leaf_lifetime "48h"
h.step_ca.order_timeout "30s"
h.step_ca.root_ca_name "Another"
h.step_ca.root_lifetime "80000h"
h.step_ca.root_permits ["all"]
h.watch.apply "none"
h.watch.notify.after "1m"
h.watch.notify.command ["/bin/true"]
h.watch.notify.interval "2m"
h.watch.notify.timeout "10s"
`

// leaves are the keys of a schema that are acted on, without those that hold others.
func leaves(t *testing.T, hypervisor bool) (out []string) {
	t.Helper()
	raw, err := config.SchemaOf(hypervisor)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(raw, &top); err != nil {
		t.Fatal(err)
	}
	var walk func(s map[string]any, path string)
	walk = func(s map[string]any, path string) {
		about, _ := s["description"].(string)
		if strings.Contains(about, "not acted on") && !strings.Contains(about, "acted on by runtime") {
			return
		}
		deeper := false
		next := func(x any, name string) {
			if m, ok := x.(map[string]any); ok && len(m) > 0 {
				deeper = true
				walk(m, strings.TrimPrefix(path+"."+name, "."))
			}
		}
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			deeper = true
			walk(p.(map[string]any), strings.TrimPrefix(path+"."+name, "."))
		}
		if more, ok := s["additionalProperties"].(map[string]any); ok && more["properties"] != nil {
			next(more, "*")
		}
		if items, ok := s["items"].(map[string]any); ok && items["properties"] != nil {
			next(items, "*")
		}
		if !deeper {
			out = append(out, path)
		}
	}
	walk(top, "")
	return out
}

// put changes a value in a tree; nil takes it out.
func put(at any, path []string, value any) {
	switch x := at.(type) {
	case map[string]any:
		if len(path) > 1 {
			if x[path[0]] == nil {
				x[path[0]] = map[string]any{}
				if _, err := strconv.Atoi(path[1]); err == nil {
					x[path[0]] = []any{map[string]any{}}
				}
			}
			put(x[path[0]], path[1:], value)
		} else if value == nil {
			delete(x, path[0])
		} else {
			x[path[0]] = value
		}
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(x) {
			put(x[i], path[1:], value)
		}
	}
}

// outcome is what a change of the files means for what runs, by the drivers' own differences.
func (h *appliedHouse) outcome(t *testing.T) string {
	t.Helper()
	if _, err := h.app.load(); err != nil {
		return "refused: by validate"
	}
	s := h.session(t)
	if _, err := s.renamed(t.Context(), s.ids()); err != nil {
		if strings.Contains(hints(err), "--yes removes them first") {
			return "--yes: " + strings.Join(strings.Fields(err.Error())[:2], " ")
		}
		return "refused: " + err.Error()
	}
	objects, _ := s.selected(s.ids())
	result, err := h.engine.Plan(t.Context(), objects)
	if err != nil {
		return "refused: " + err.Error()
	}
	if len(result.Failures) > 0 {
		return "refused: " + result.Failures[0].Message
	}
	rank, seen := 0, []string{}
	for _, c := range result.Plan.Changes {
		if c.Address.Kind() == spec.KindAgent || strings.HasSuffix(string(c.Address), "phoenix-agent.service") {
			continue // the daemon is told of what the others are
		}
		rank = max(rank, weight(c))
		seen = append(seen, string(c.Address))
	}
	slices.Sort(seen)
	if len(seen) > 4 {
		seen = append(seen[:4], fmt.Sprintf("and %d more", len(seen)-4))
	}
	return strings.TrimSpace([]string{"nothing", "applied:", "reload:", "service restart:", "restart:", "--yes:"}[rank] +
		" " + strings.Join(seen, ", "))
}

// weight is how much of what runs a change stops: nothing, a reload, a service, a container, what is destroyed.
func weight(c plan.Change) int {
	limit := func(f plan.Field) bool { return strings.HasPrefix(f.Path, "lxc.cgroup") || f.Path == "lxc.environment" }
	switch {
	case c.Delta.Action == plan.Replace || c.Delta.Action == plan.Delete || c.Delta.Interrupts:
		return 5
	case c.Address.Kind() == spec.KindContainer && slices.ContainsFunc(c.Delta.Fields,
		func(f plan.Field) bool { return !limit(f) }):
		return 4
	case slices.Contains([]string{spec.KindUnit, spec.KindStepCA}, c.Address.Kind()):
		return 3
	case slices.Contains([]string{spec.KindNginx, spec.KindTraefik, spec.KindCertificate, spec.KindDNS},
		c.Address.Kind()):
		return 2
	}
	return 1
}

// TestEveryKey: each key of both files, changed once on a site that was applied, is nothing to it, is applied, reloads,
// restarts, asks for --yes or is refused, as testdata/matrix.golden has it; no key is without a line.
func TestEveryKey(t *testing.T) {
	pool, tank := t.TempDir(), t.TempDir()
	h := newAppliedHouse(t, func(h *appliedHouse) {
		one := bench(h.containers["lxc_configs"].(map[string]any), "1001")
		one["firewall"] = map[string]any{"enabled": true, "rules": []any{map[string]any{"type": "in",
			"action": "ACCEPT", "proto": "tcp", "port": "80"}}}
		one["mount_points"] = []any{map[string]any{"host_path": tank, "container_path": "/mnt/tank"}}
		one["health_check"] = map[string]any{"command": "true", "retries": 2, "interval": 2}
		h.hypervisor["audit_accept"] = []any{map[string]any{"rule": "PHX-AUD-034", "object": "container/1001",
			"reason": "a test", "until": "2099-01-01"}}
	})
	known := map[string]bool{}
	var table strings.Builder
	for line := range strings.Lines(strings.TrimSpace(everyKey)) {
		key, raw, _ := strings.Cut(strings.TrimSpace(line), " ")
		path := strings.Split(key, ".")
		var value any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(raw, "POOL", pool)), &value); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		h.with(t, func(c, hv map[string]any) {
			if path[0] == "c" {
				put(bench(c, "1001"), path[1:], value)
			} else {
				put(hv, path[1:], value)
			}
		})
		for i, p := range path {
			if _, err := strconv.Atoi(p); err == nil || path[0] == "h" && i == 2 && path[1] == "shared_volumes" {
				path[i] = "*"
			}
		}
		known[strings.Join(path, ".")] = true
		outcome := strings.NewReplacer(pool, "POOL", tank, "TANK", h.app.opts.root, "ROOT").Replace(h.outcome(t))
		fmt.Fprintf(&table, "%-46s %-34s %s\n", key, raw, outcome)
	}
	for _, key := range leaves(t, false) {
		if key = "c" + strings.TrimPrefix(key, "lxc_configs.*"); !known[key] {
			t.Errorf("%s has no line", key)
		}
	}
	for _, key := range leaves(t, true) {
		if !known["h."+key] {
			t.Errorf("h.%s has no line", key)
		}
	}
	const golden = "testdata/matrix.golden"
	if *updateMatrix {
		write(t, golden, table.String())
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Split(string(want), "\n")
	for i, got := range strings.Split(table.String(), "\n") {
		if i >= len(wanted) || wanted[i] != got {
			t.Errorf("got:\n%s\nwant:\n%s", got, append(wanted, make([]string, i+1)...)[i])
		}
	}
}
