package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/tools/txtar"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

const today = "2026-06-15"

// auditCase changes the clean house: with bad in the place of old there is a finding at, with good there is none of the
// rule.
type auditCase struct {
	rule, at       string // at is the path of the value
	old, bad, good string
}

const (
	anyTCP   = `{"type": "in", "action": "ACCEPT", "proto": "tcp", "source": "10.0.0.11", "port": "80"}`
	logs     = `{"host_path": "/tank/102/logs", "container_path": "/logs"}`
	data     = `{"host_path": "/tank/201/data", "container_path": "/data"}`
	forOwn   = `"pct_options": ["keyctl=1"],`
	caRule   = `{"type": "in", "action": "ACCEPT", "proto": "tcp", "source": "10.0.0.1", "port": "9000"}`
	accepted = `"audit_accept": []`
	hostRule = `{"type": "in", "action": "ACCEPT", "proto": "udp", "source": "10.0.0.0/24", "port": "53"}`
	user     = `{"admin_user": "admin"}`
)

var auditCases = []auditCase{
	{"PHX-AUD-001", "lxc_configs.102.mount_points[0].host_path", "/tank/102/logs", "/tank/201/data", "/tank/102/data"},
	// the owner is told too
	{"PHX-AUD-001", "lxc_configs.201.mount_points[0].host_path", "/tank/102/logs", "/tank/201/./data",
		"/tank/202/data"},
	{"PHX-AUD-002", "lxc_configs.102.mount_points[0].host_path", "/tank/102/logs", "/tank/201/data/logs",
		"/tank/201/data2"},
	{"PHX-AUD-002", "lxc_configs.201.mount_points[0].host_path", "/tank/102/logs", "/tank/201", "/tank/20"}, // a parent
	{"PHX-AUD-003", "shared_volumes.old.mounts.103", `"953": "/old"`, `"102": "/old", "103": "/old"`, `"102": "/old"`},
	{"PHX-AUD-004", "shared_volumes.old.mounts.102", `"953": "/old"`, `"102": "/old"`, `"202": "/old"`},
	{"PHX-AUD-005", "lxc_configs.102.mount_points[0].host_path", "/tank/102/logs", "/tank/103/logs", "/tank/1030/logs"},
	{"PHX-AUD-006", "lxc_configs.102.mount_points[0].host_path", "/tank/102/logs", "/etc/traefik", "/srv/traefik"},
	{"PHX-AUD-007", "lxc_configs.102.mount_points[0].host_path", `"network"`,
		`"nfs": {"exports": [{"path": "/tank/102"}]}, "network"`,
		`"nfs": {"exports": [{"path": "/tank/10"}]}, "network"`},
	{"PHX-AUD-008", "lxc_configs.201.mount_points[1].host_path", data,
		data + `, {"host_path": "/tank/201//data", "container_path": "/again"}`,
		data + `, {"host_path": "/tank/201/other", "container_path": "/again"}`},
	{"PHX-AUD-009", "lxc_configs.201.mount_points[0].share", data, data[:len(data)-1] + `, "share": true}`,
		data[:len(data)-1] + `, "share": false}`},
	{"PHX-AUD-018", "lxc_configs.201.devices", forOwn, `"devices": ["/dev/net/tun"],`, `"devices": [],`},
	{"PHX-AUD-010", "lxc_configs.201.lxc_options[0]", forOwn, `"lxc_options": ["lxc.idmap=u 0 0 65536"],`,
		`"lxc_options": ["lxc.prlimit.nofile=1024"],`},
	{"PHX-AUD-011", "lxc_configs.201.lxc_options[0]", forOwn, `"lxc_options": ["lxc.mount.auto:sys:rw"],`,
		`"lxc_options": ["lxc.mount.auto:sys:ro"],`},
	{"PHX-AUD-012", "lxc_configs.201.apparmor_profile", forOwn, `"apparmor_profile": "unconfined",`,
		`"apparmor_profile": "generated",`},
	{"PHX-AUD-013", "lxc_configs.201.unprivileged", forOwn, `"unprivileged": false,`, `"unprivileged": true,`},
	{"PHX-AUD-014", "lxc_configs.102.mount_points[0].mode", logs, logs[:len(logs)-1] + `, "mode": "0777"}`,
		logs[:len(logs)-1] + `, "mode": "0770"}`},
	{"PHX-AUD-015", "lxc_configs.102.mount_points[0].mode", logs, logs[:len(logs)-1] + `, "mode": "0755"}`,
		logs[:len(logs)-1] + `, "mode": "0750"}`},
	{"PHX-AUD-016", "lxc_configs.201.pct_options[0]", forOwn, `"pct_options": ["nesting=1"],`,
		`"pct_options": ["nesting=0"],`},
	{"PHX-AUD-016", "lxc_configs.201.pct_options[0]", forOwn, `"pct_options": ["features=keyctl=1,nesting=1"],`,
		`"pct_options": ["features=keyctl=1"],`},
	{"PHX-AUD-017", "lxc_configs.102.mount_points[0].owner_uid", logs, logs[:len(logs)-1] + `, "owner_uid": 65534}`,
		logs[:len(logs)-1] + `, "owner_uid": 33}`},
	{"PHX-AUD-017", "lxc_configs.201.certificates[0].owner", `"renew_before": "8h"`, `"owner": "nobody:nogroup"`,
		`"owner": "root:www-data"`},
	{"PHX-AUD-020", "portainer_api.admin_password", user, `{"admin_password": "c8H!mnQ2vL0p"}`,
		`{"admin_password": "NOT_SET"}`},
	{"PHX-AUD-021", "lxc_configs.101", `"trusted_ca", "nginx_gateway"`, `"step_ca", "nginx_gateway"`,
		`"step_cli", "nginx_gateway"`},
	{"PHX-AUD-022", "portainer_api.admin_password", user, `{"admin_password": "Pa$$w0rd2025"}`,
		`{"admin_password": "c8H!mnQ2vL0p"}`},
	{"PHX-AUD-023", "portainer_api.api_key", user, `{"admin_password": "c8H!mnQ2vL0p", "api_key": "c8H!mnQ2vL0p"}`,
		`{"admin_password": "c8H!mnQ2vL0p", "api_key": "c8H!mnQ2vL0q"}`},
	{"PHX-AUD-024", "step_ca.provisioner_name", `"acme"`, `"admin@lab.internal"`, `"acme-internal"`},
	{"PHX-AUD-025", "step_ca.allowed_names[0]", `"leaf_lifetime"`,
		`"allowed_names": ["*.lab.internal"], "leaf_lifetime"`, `"allowed_names": ["a.lab.internal"], "leaf_lifetime"`},
	{"PHX-AUD-026", "lxc_configs.103.zfs_volumes[0]", `"backup": true`, `"backup": false`,
		`"backup": true, "mode": "0700"`},
	{"PHX-AUD-026", "lxc_configs.103", `"/etc/step-ca/ssl"`, `"/srv/data"`, `"/etc/step-ca/ssl"`},
	{"PHX-AUD-028", "step_ca.leaf_lifetime", `"24h"`, `"23h"`, `"168h"`},
	{"PHX-AUD-028", "step_ca.leaf_lifetime", `"24h"`, `"30m"`, `"90d"`},
	{"PHX-AUD-028", "lxc_configs.201.certificates[0].renew_before", `"8h"`, `"10m"`, `"4h"`},
	{"PHX-AUD-030", "lxc_configs.102.firewall.rules[1]", anyTCP, strings.Replace(anyTCP, `"80"`, `"443"`, 1),
		strings.Replace(anyTCP, `"80"`, `"8443"`, 1)},
	{"PHX-AUD-031", "lxc_configs.102.firewall.rules[1]", anyTCP,
		strings.NewReplacer(`"80"`, `"443"`, "ACCEPT", "DROP").Replace(anyTCP),
		strings.Replace(anyTCP, "ACCEPT", "DROP", 1)},
	{"PHX-AUD-031", "lxc_configs.102.firewall.rules[2]", anyTCP, `{"type": "in", "action": "DROP"}, ` + anyTCP,
		anyTCP + `, {"type": "in", "action": "DROP"}`},
	{"PHX-AUD-032", "lxc_configs.102.firewall.rules[1]", anyTCP,
		`{"type": "in", "action": "ACCEPT", "source": "0.0.0.0/0", "port": "80"}`,
		`{"type": "in", "action": "DROP", "port": "80"}`},
	{"PHX-AUD-032", "lxc_configs.101.firewall.rules[0]", `"80,443"`, `"80,443,8443"`, `"443"`},
	{"PHX-AUD-032", "firewall.global_firewall_rules[0]", `"source": "10.0.0.0/24", "port": "53"`, `"port": "53"`,
		`"iface": "vmbr0", "port": "53"`},
	{"PHX-AUD-033", "lxc_configs.103.firewall.rules[1]", caRule, strings.Replace(caRule, "10.0.0.1", "10.0.0.0/24", 1),
		strings.Replace(caRule, "10.0.0.1", "10.0.0.21", 1)},
	{"PHX-AUD-033", "lxc_configs.103.firewall.rules[1]", caRule, strings.Replace(caRule, "10.0.0.1", "10.0.0.90", 1),
		strings.Replace(caRule, "9000", "22", 1)},
	{"PHX-AUD-033", "firewall.global_firewall_rules[0]", hostRule,
		`{"type": "in", "action": "ACCEPT", "source": "10.0.0.0/24"}`,
		`{"type": "in", "action": "ACCEPT", "source": "10.0.0.0/24", "dest": "10.0.0.11"}`},
	{"PHX-AUD-033", "lxc_configs.103.firewall.enabled", `"backup": true}],
      "firewall": {"enabled": true`, `"backup": true}],
      "firewall": {"enabled": false`, `"backup": true}],
      "firewall": {"enabled": true`},
	{"PHX-AUD-034", "lxc_configs.201.firewall", `"https"},
      "firewall": {"enabled": true}}`, `"https"}}`, `"https"},
      "firewall": {"enabled": true}}`},
	{"PHX-AUD-034", "lxc_configs.201.firewall.enabled", `"https"},
      "firewall": {"enabled": true}}`, `"https"},
      "firewall": {"enabled": false}}`, `"https"},
      "firewall": {"enabled": true, "rules": []}}`},
	{"PHX-AUD-035", "lxc_configs.201.firewall", `"network"§"https"},
      "firewall": {"enabled": true}}`, `"access": "route", "network"§"https"}}`, `"access": "forward", "network"§"https"}}`},
	{"PHX-AUD-036", "access", `"network"`, `"access": "forward", "network"`, `"access": "none", "network"`},
	{"PHX-AUD-037", "lxc_configs.201.ports", `"network"§"https"},`,
		`"access": "forward", "forward_ports": true, "network"§"https"}, "ports": ["8000:8000"],`,
		`"access": "forward", "network"§"https"}, "ports": ["8000:8000"],`},
	{"PHX-AUD-040", "dns_server.authoritative_zones[0].records[0]", `"ca", "ip_internal": "10.0.0.13"`,
		`"ca", "ip_internal": "10.0.0.11"`, `"ca", "ip_external": "10.0.0.13"`},
	{"PHX-AUD-041", "dns_server.authoritative_zones[0].records[1]", `{"hostname": "web",`,
		`{"hostname": "ca", "ip_internal": "10.0.0.14"}, {"hostname": "web",`,
		`{"hostname": "ca2", "ip_internal": "10.0.0.14"}, {"hostname": "web",`},
	{"PHX-AUD-041", "lxc_configs.201.traefik_service.name", `{"hostname": "web", "ip_internal": "10.0.0.11"}`,
		`{"hostname": "web", "ip_internal": "10.0.0.21"}`, `{"hostname": "web", "ip_internal": "10.0.0.12"}`},
	{"PHX-AUD-045", "portainer_api.insecureSkipVerify", user, `{"insecureSkipVerify": true}`,
		`{"insecureSkipVerify": false}`},
	{"PHX-AUD-045", "portainer_api.verify_ssl", user, `{"verify_ssl": false}`, `{"verify_ssl": true}`},
	{"PHX-AUD-045", "portainer_api.ssl_protocols", user, `{"ssl_protocols": "TLSv1.1 TLSv1.2"}`,
		`{"ssl_protocols": "TLSv1.2 TLSv1.3"}`},
	{"PHX-AUD-090", "audit_accept[0]", accepted, accept("PHX-AUD-012", "container/201", "2026-06-14"),
		accept("PHX-AUD-012", "container/201", "2026-06-15")},
	{"PHX-AUD-091", "audit_accept[0]", accepted, accept("PHX-AUD-012", "container/201", "2027-01-01"), accepted},
	{"PHX-AUD-091", "audit_accept[0]", accepted,
		`"audit_accept": [{"rule": "PHX-AUD-012", "object": "container/201", "until": "2027-01-01"}]`, accepted},
}

func accept(rule, object, until string) string {
	return fmt.Sprintf(`"audit_accept": [{"rule": %q, "object": %q, "reason": "known", "until": %q}]`, rule,
		object, until)
}

// clean is the house without findings.
func clean(t *testing.T) []config.File {
	t.Helper()
	a, err := txtar.ParseFile("testdata/audit/clean.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filesOf(a)
	return files
}

// changed replaces a text that stands in exactly one of the files, once.
// changed has new in the place of old; several of each are separated by a §.
func changed(t *testing.T, files []config.File, old, new string) []config.File {
	t.Helper()
	if first, rest, more := strings.Cut(old, "§"); more {
		one, others, _ := strings.Cut(new, "§")
		return changed(t, changed(t, files, first, one), rest, others)
	}
	out, n := slices.Clone(files), 0
	for i, f := range out {
		n += strings.Count(string(f.Data), old)
		out[i].Data = []byte(strings.Replace(string(f.Data), old, new, 1))
	}
	if n != 1 {
		t.Fatalf("%q stands %d times", old, n)
	}
	return out
}

func settled(t *testing.T, files []config.File) []config.Settled {
	t.Helper()
	a := config.Audit(files)
	if len(a.Unreadable) > 0 {
		t.Fatal(a.Unreadable)
	}
	return config.Settle(a.Findings, a.Acceptances, today, false)
}

func list(found []config.Settled) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s:%d: %s %s (%s): %s; fix: %s\n", f.Source.File, f.Source.Line, f.Rule.ID, f.Path, f.Object,
			f.Summary, f.Fix)
	}
	return b.String()
}

func TestCleanHouse(t *testing.T) {
	if found := settled(t, clean(t)); len(found) > 0 {
		t.Errorf("a clean house has findings:\n%s", list(found))
	}
	cfg, diags := config.Load(clean(t))
	if cfg == nil {
		t.Errorf("the clean house cannot be loaded:\n%v", diags)
	}
}

// TestAuditRules has every rule with a finding and without one.
func TestAuditRules(t *testing.T) {
	tested := map[string]bool{}
	for i, c := range auditCases {
		tested[c.rule] = true
		t.Run(fmt.Sprintf("%s_%d", c.rule, i), func(t *testing.T) { testAuditRule(t, c) })
	}
	for _, r := range config.Rules() {
		if !tested[r.ID] {
			t.Errorf("rule %s has no case with a finding and one without", r.ID)
		}
	}
}

func testAuditRule(t *testing.T, c auditCase) {
	files := clean(t)
	found := settled(t, changed(t, files, c.old, c.bad))
	i := slices.IndexFunc(found, func(f config.Settled) bool { return f.Rule.ID == c.rule && f.Path == c.at })
	if i < 0 {
		t.Fatalf("no finding at %s:\n%s", c.at, list(found))
	}
	f := found[i]
	if f.Source.File == "" || f.Source.Line < 1 || f.Object == "" || f.Summary == "" || f.Fix == "" ||
		f.Rule.Why == "" {
		t.Errorf("the finding is not whole: %+v", f)
	}
	for _, f := range settled(t, changed(t, files, c.old, c.good)) {
		if f.Rule.ID == c.rule && f.Path == c.at {
			t.Errorf("there is a finding without a reason: %s", list([]config.Settled{f}))
		}
	}
}

func TestAcceptedFindings(t *testing.T) {
	weak := changed(t, clean(t), forOwn, `"apparmor_profile": "unconfined",`)
	for name, c := range map[string]struct {
		object, until string
		accepted      bool
	}{
		"the object":         {"container/201", "2026-06-15", true},
		"the path":           {"lxc_configs.201.apparmor_profile", "2030-01-01", true},
		"another object":     {"container/20", "2030-01-01", false},
		"expired yesterday":  {"container/201", "2026-06-14", false},
		"not a day":          {"container/201", "soon", false},
		"not a day at all":   {"container/201", "9999", false},
		"a day that is none": {"container/201", "2026-02-31", false},
	} {
		t.Run(name, func(t *testing.T) {
			found := settled(t, changed(t, weak, accepted, accept("PHX-AUD-012", c.object, c.until)))
			i := slices.IndexFunc(found, func(f config.Settled) bool { return f.Rule.ID == "PHX-AUD-012" })
			if i < 0 || (found[i].Accepted != nil) != c.accepted {
				t.Errorf("accepted is not %v:\n%s", c.accepted, list(found))
			}
		})
	}
}

// TestAuditNeverShowsSecrets covers every value that stands for one in the cases.
func TestAuditNeverShowsSecrets(t *testing.T) {
	const secret = "c8H!mnQ2vL0p"
	found := list(settled(t,
		changed(t, clean(t), user, `{"admin_password": "`+secret+`", "db_password": "`+secret+
			`", "token": "Pa$$w0rd2025"}`)))
	if strings.Contains(found, secret) || strings.Contains(found, "Pa$$") || !strings.Contains(found, "PHX-AUD-022") ||
		!strings.Contains(found, "PHX-AUD-023") {
		t.Errorf("a secret is shown, or was not found:\n%s", found)
	}
}

func TestKnownPassword(t *testing.T) {
	for s, want := range map[string]bool{
		"password": true, "Password123!": true, "P@ssw0rd": true, "SecurePassword2025": true, "admin": true,
		"123456": true, "": false,
		"c8H!mnQ2vL0p": false, "correct horse battery staple": false, "administrable": false,
	} {
		if config.KnownPassword(s) != want {
			t.Errorf("KnownPassword(%q) is %v", s, !want)
		}
	}
}

// TestAuditBrokenFiles: what is no JSON is told, and nothing panics on what is only odd.
func TestAuditBrokenFiles(t *testing.T) {
	if a := config.Audit([]config.File{{Name: "a.json", Data: []byte(`{"lxc_configs": {`)}}); len(a.Unreadable) == 0 ||
		a.Config == nil {
		t.Errorf("got %+v", a)
	}
	for _, odd := range []string{`{"lxc_configs": 1}`, `{"lxc_configs": {"101": 3}}`,
		`{"lxc_configs": {"101": {"firewall": {"rules": [1, {"type": 2}]}}}}`,
		`{"step_ca": [], "firewall": {"global_firewall_rules": {}}}`, `{"audit_accept": [1, {}]}`} {
		if a := config.Audit([]config.File{{Name: "a.json", Data: []byte(odd)}}); len(a.Unreadable) > 0 {
			t.Errorf("%s: %v", odd, a.Unreadable)
		}
	}
}

// TestAuditIsPlainText: what nobody has checked is shown without what it could do to a terminal.
func TestAuditIsPlainText(t *testing.T) {
	found := list(settled(t,
		changed(t, clean(t), hostRule, `{"type": "in", "action": "ACCEPT", "proto": "tcp\u001b[2J", "port": "1"}`)))
	if !strings.Contains(found, "PHX-AUD-032") || strings.Contains(found, "\x1b") {
		t.Errorf("got %q", found)
	}
}

// FuzzAudit: never a panic, always the same answer, and every finding is whole.
func FuzzAudit(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range cases {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		files, _ := filesOf(a)
		f.Add(files[0].Data, files[len(files)-1].Data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		files := []config.File{{Name: "one", Data: one}, {Name: "two", Data: two}}
		a := config.Audit(files)
		found := config.Settle(a.Findings, a.Acceptances, today, false)
		if again := config.Audit(files); !reflect.DeepEqual(a, again) {
			t.Fatal("audited again it differs")
		}
		for _, x := range found {
			if x.Source.Line < 1 || x.Summary == "" || x.Fix == "" || x.Object == "" ||
				strings.ContainsFunc(x.Summary+x.Fix+x.Path, unicode.IsControl) {
				t.Fatalf("not whole: %+v", x)
			}
		}
	})
}

// TestExampleAuditsClean: what we show to others has no finding.
func TestExampleAuditsClean(t *testing.T) {
	var files []config.File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		data, err := os.ReadFile(filepath.Join("../../examples/homelab", name))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, config.File{Name: name, Data: data})
	}
	a := config.Audit(files)
	// what is accepted is on the system
	if found := config.Settle(a.Findings, a.Acceptances, today, true); len(found) > 0 {
		t.Errorf("the example has findings:\n%s", list(found))
	}
}
