package health

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func testObject(address object.Address, s any, after ...object.Address) object.Object {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	o := object.Object{Address: address, Spec: raw, After: after}
	if slices.Contains(insideKinds, address.Kind()) {
		o.Host, o.Container = address.Scope(), address.Scope()
	}
	return o
}

var insideKinds = []string{
	spec.KindFile, spec.KindUser, spec.KindPackage, spec.KindUnit, spec.KindTrust, spec.KindStepCA,
	spec.KindCertificate,
	spec.KindNginx, spec.KindTraefik, spec.KindScript, spec.KindAgent,
}

func needsPin(o object.Object) object.Object {
	o.Needs = []object.Need{{From: "pin/103", Field: "fingerprint", Into: "/fingerprint"}}
	return o
}

func testContainer(id, ip string) []object.Object {
	return []object.Object{
		testObject(object.Address("ids/"+id), spec.IDRange{ID: id, Path: "/lxc", IDMap: idMap, Claims: "/ids"}),
		testObject(object.Address("container/"+id), spec.Container{
			ID: id, Path: "/lxc", IDMap: idMap, Nameservers: []string{"10.0.0.13"},
			Interface: spec.NIC{Name: "eth0", Bridge: "vmbr0", Address: ip + "/24"},
		}),
		testObject(object.Address("running/"+id), spec.Running{ID: id, Path: "/lxc"}, object.Address("container/"+id)),
		testObject(object.Address("binary/"+id), spec.Binary{ID: id}),
		testObject(object.Address("agent/"+id), spec.Agent{}),
	}
}

// homelab is a CA, a gateway, a proxy and a backend, as the configuration writes them.
func homelab() []object.Object {
	acme := spec.ACME{Directory: "https://ca.test:9000/acme/acme/directory",
		RootFile: "/usr/local/share/ca-certificates/root.crt"}
	trust := spec.Trust{Name: "root", Server: "https://ca.test:9000"}
	objects := slices.Concat(testContainer("101", "10.0.0.101"), testContainer("102", "10.0.0.102"),
		testContainer("103", "10.0.0.10"), testContainer("201", "10.0.0.201"))
	return append(objects,
		testObject("network/vmbr0", bridge),
		testObject("dns/vmbr0",
			spec.DNS{Name: "vmbr0", Listen: []string{"10.0.0.13"},
				Zones: []spec.Zone{{Name: "test",
					Records: []spec.Record{{Name: "app.test", Addresses: []string{"10.0.0.101"}}}}}}),
		testObject("template/900", spec.Template{ID: "900"}),
		testObject("volume/101/ssl", volume),
		testObject("pin/103", spec.Pin{Path: "/pins/103"}),
		needsPin(testObject("hosttrust/103", trust)),
		testObject("stepca/103", spec.StepCA{Dir: "/etc/step-ca/ssl", User: "step", DNSNames: []string{"ca.test"},
			Address: ":9000", Provisioner: "acme"}),
		testObject("unit/103/step-ca.service", spec.Unit{Name: "step-ca.service", Ready: ":9000"}, "stepca/103"),
		testObject("file/101/x", spec.File{Path: "/x"}), testObject("user/103/step", spec.User{Name: "step"}),
		testObject("package/101/nginx", spec.Package{Names: []string{"nginx"}}),
		testObject("script/201/hello", spec.Script{Name: "hello"}),
		needsPin(testObject("trust/101", trust)), needsPin(testObject("trust/102", trust)),
		needsPin(testObject("trust/201", trust)),
		testObject("nginx/101/base", gateway(spec.NginxBase)),
		testObject("unit/101/nginx.service", spec.Unit{Name: "nginx.service"}, "nginx/101/base"),
		testObject("nginx/101/tls", gateway(spec.NginxTLS), "certificate/101/gw.test"),
		needsPin(testObject("certificate/101/gw.test", spec.Certificate{
			CommonName: "gw.test", DNSNames: []string{"gw.test"}, ACME: acme, AccountDir: "/acme", CertPath: "/c",
			KeyPath: "/k", Mode: 0o600,
		}, "unit/101/nginx.service")),
		needsPin(testObject("certificate/201/hello.test",
			spec.Certificate{CommonName: "hello.test", DNSNames: []string{"hello.test"}, ACME: acme, CertPath: "/c",
				KeyPath: "/k"})),
		needsPin(testObject("certificate/201/unused.test",
			spec.Certificate{CommonName: "unused.test", DNSNames: []string{"unused.test"}, ACME: acme, CertPath: "/d",
				KeyPath: "/e"})),
		needsPin(testObject("traefik/102/config", proxy(spec.TraefikConfig, acme))),
		testObject("unit/102/traefik.service", spec.Unit{Name: "traefik.service"}, "traefik/102/config"),
		testObject("node/firewall", spec.NodeFirewall{}),
		testObject("hostfirewall/vmbr0", spec.HostFirewall{Name: "vmbr0_abcd", Bridge: "vmbr0", Address: "10.0.0.13",
			MACs: []string{"02:00:00:00:00:01"}}),
		testObject("access/vmbr0", spec.Access{Name: "vmbr0_ab12", Bridge: "vmbr0", Mode: spec.AccessRoute}),
		testObject("firewall/103", letting("103", "10.0.0.10", "9000", "10.0.0.101,10.0.0.102,10.0.0.201")),
		testObject("firewall/101", letting("101", "10.0.0.101", "80,443", "")),
		testObject("firewall/201", letting("201", "10.0.0.201", "8000", "10.0.0.102")),
		needsPin(testObject("traefik/102/certificates", proxy(spec.TraefikCertificates, acme),
			"unit/102/traefik.service")),
	)
}

// letting is a firewall that lets in to ports from some addresses.
func letting(id, address, ports, from string) spec.Firewall {
	return spec.Firewall{ID: id, Port: "v" + id, Bridge: "vmbr0", Address: address,
		Rules: []spec.Rule{{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: ports, Source: from}}}
}

func gateway(part string) spec.Nginx {
	return spec.Nginx{Part: part, Certificate: "/c",
		Sites: []spec.NginxSite{{Name: "gw.test"}, {Name: "app.test", Upstream: "10.0.0.102:443"}}}
}

func proxy(part string, acme spec.ACME) spec.Traefik {
	return spec.Traefik{
		Part: part, Storage: "/etc/traefik/certs/acme.json", User: "traefik", ACME: acme,
		Routes: []spec.TraefikRoute{{Name: "app", Hosts: []string{"app.test"}, URL: "https://10.0.0.201:8000",
			ServerName: "hello.test"}},
	}
}

func keysOf(checks []Check) []string {
	var out []string
	for _, c := range checks {
		out = append(out, string(c.Key()))
	}
	return out
}

// TestDeriveIsDeterministic: the objects' order does not matter, keys are unique, and a check survives its journey as
// JSON.
func TestDeriveIsDeterministic(t *testing.T) {
	objects := homelab()
	want := Derive(objects)
	rand.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	if got := Derive(objects); !reflect.DeepEqual(got, want) {
		t.Errorf("another order of objects gives other checks:\n%s\n%s", keysOf(got), keysOf(want))
	}
	seen := map[Key]bool{}
	for _, c := range want {
		if seen[c.Key()] {
			t.Errorf("twice: %s", c.Key())
		}
		seen[c.Key()] = true
		b, err := json.Marshal(c)
		var back Check
		if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s changes on its way", c.Key())
		}
		if bytes.Contains(b, []byte("unreadable")) {
			t.Errorf("%s: %s", c.Key(), b)
		}
	}
	for _, c := range want {
		for _, k := range slices.Concat(c.After, c.Causes) {
			if !seen[k] {
				t.Errorf("%s waits for %s, which is not there", c.Key(), k)
			}
		}
	}
}

// TestDeriveHomelab names what a small system is asked.
func TestDeriveHomelab(t *testing.T) {
	have := keysOf(Derive(homelab()))
	for _, want := range []string{
		"PHX-HOST-001 sysctl/hypervisor @", "PHX-NET-001 network/vmbr0 @", "PHX-DNS-002 dns/vmbr0 vmbr0 @",
		"PHX-DNS-001 running/201 vmbr0 @201",
		"PHX-CT-001 running/101 @", "PHX-CT-006 running/101 @101", "PHX-CT-004 container/101 @",
		"PHX-IDS-001 ids/101 @", "PHX-CT-003 running/101 @101",
		"PHX-CT-002 agent/101 @101", "PHX-CT-005 agent/101 @101", "PHX-UNIT-001 unit/101/nginx.service @101",
		"PHX-VOL-001 volume/101/ssl @", "PHX-VOL-002 volume/101/ssl @", "PHX-VOL-003 volume/101/ssl @101",
		"PHX-VOL-004 volume/101/ssl @",
		"PHX-PIN-001 pin/103 @", "PHX-CA-001 stepca/103 @103", "PHX-CA-001 trust/101 @101", "PHX-CA-001 trust/201 @201",
		"PHX-CA-002 stepca/103 @103",
		"PHX-CA-002 certificate/101/gw.test https://ca.test:9000/acme/acme/directory @101",
		"PHX-CA-003 stepca/103 @103", "PHX-CA-004 stepca/103 @103", "PHX-CA-005 stepca/103 @103",
		"PHX-CLOCK-001 stepca/103 @", "PHX-CLOCK-001 trust/201 @201", "PHX-TRUST-001 trust/201 @201",
		"PHX-TRUST-001 hosttrust/103 @",
		"PHX-CERT-001 certificate/101/gw.test @101", "PHX-CERT-002 certificate/101/gw.test @101",
		"PHX-CERT-003 certificate/101/gw.test @101",
		"PHX-CERT-004 certificate/101/gw.test @101", "PHX-CERT-005 certificate/101/gw.test @101",
		"PHX-CERT-006 traefik/102/certificates app.test @102",
		"PHX-KEY-001 certificate/101/gw.test /k @101", "PHX-KEY-001 certificate/101/gw.test /acme @101",
		"PHX-KEY-001 stepca/103 /etc/step-ca/ssl @103",
		"PHX-KEY-001 traefik/102/certificates /etc/traefik/certs/acme.json @102",
		"PHX-CERT-005 certificate/201/hello.test @201", "PHX-ROUTE-001 nginx/101/tls app.test @",
		"PHX-ROUTE-001 nginx/101/tls app.test @201", "PHX-ROUTE-002 running/201 app @102",
	} {
		if !slices.Contains(have, want) {
			t.Errorf("not asked: %s", want)
		}
	}
	for _, k := range have {
		if strings.Contains(k, "ROUTE-001 nginx/101/tls gw.test") ||
			strings.Contains(k, "CERT-005 certificate/201/unused.test") {
			t.Errorf("a name that is not forwarded, or a certificate that nobody is known to serve: %s", k)
		}
	}
}

// TestDeriveHasNoCircle: with every check failing, each is explained by another or fails itself; none waits for itself.
func TestDeriveHasNoCircle(t *testing.T) {
	b := NewBoard(Derive(homelab()))
	for ready := b.Ready(); len(ready) > 0; ready = b.Ready() {
		for _, c := range ready {
			b.Done(c, c.pass("", ""))
		}
	}
	for _, r := range b.Report().Checks {
		if r.Status != Pass {
			t.Errorf("%s %s: %s", r.ID, r.Object, r.Summary)
		}
	}
}

// failing runs the board with these keys failing, and all that a failure of theirs would make fail.
func failing(checks []Check, fails func(Check) bool) (failed, blocked []string) {
	b := NewBoard(checks)
	for ready := b.Ready(); len(ready) > 0; ready = b.Ready() {
		for _, c := range ready {
			r := c.pass("well", "")
			if fails(c) {
				r = c.fail("ill", "", "mend")
			}
			b.Done(c, r)
		}
	}
	for i, r := range b.Report().Checks {
		switch r.Status {
		case Fail:
			failed = append(failed, string(checks[i].Key()))
		case Skip:
			blocked = append(blocked, string(checks[i].Key()))
		}
	}
	return failed, blocked
}

// TestOneCauseOneFailure: what a broken part breaks is told apart from the part itself.
func TestOneCauseOneFailure(t *testing.T) {
	checks := Derive(homelab())
	for _, tc := range []struct {
		name    string
		broken  string   // keys that fail, as a pattern
		want    string   // the only failure left
		blocked []string // among those blocked
		free    []string // not blocked
	}{
		{
			"container stopped", `PHX-CT-001 running/103 |@103$|CA-|TRUST|CLOCK`, "PHX-CT-001 running/103 @",
			[]string{"PHX-CA-001 trust/101 @101", "PHX-UNIT-001 unit/103/step-ca.service @103"},
			[]string{"PHX-CERT-002 certificate/101/gw.test @101"},
		},
		{
			"CA stopped", `UNIT-001 unit/103|PHX-CA-00[1-5]|TRUST|CERT-004|CT-005 agent/101`,
			"PHX-UNIT-001 unit/103/step-ca.service @103",
			[]string{"PHX-CA-002 stepca/103 @103", "PHX-TRUST-001 trust/201 @201",
				"PHX-CERT-004 certificate/101/gw.test @101"},
			[]string{"PHX-CERT-005 certificate/101/gw.test @101", "PHX-ROUTE-001 nginx/101/tls app.test @201"},
		},
		{
			"another root", `CA-00[123]|TRUST`, "PHX-CA-003 stepca/103 @103", []string{"PHX-CA-001 trust/101 @101"},
			[]string{"PHX-CT-002 agent/101 @101"},
		},
		{
			"backend down", `ROUTE-00`, "PHX-ROUTE-002 running/201 app @102",
			[]string{"PHX-ROUTE-001 nginx/101/tls app.test @"},
			[]string{"PHX-CERT-006 traefik/102/certificates app.test @102"},
		},
		{
			"resolver down", `DNS-00|(ROUTE|CA|CLOCK|TRUST)-00.*@201$`, "PHX-DNS-002 dns/vmbr0 vmbr0 @",
			[]string{"PHX-DNS-001 running/101 vmbr0 @101", "PHX-ROUTE-001 nginx/101/tls app.test @201"},
			[]string{"PHX-CT-001 running/101 @"},
		},
		{
			"pin lost", `PIN-001`, "PHX-PIN-001 pin/103 @",
			[]string{"PHX-CA-003 stepca/103 @103", "PHX-CERT-002 certificate/101/gw.test @101"},
			[]string{"PHX-CERT-001 certificate/101/gw.test @101"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pattern := regexp.MustCompile(tc.broken)
			failed, blocked := failing(checks, func(c Check) bool { return pattern.MatchString(string(c.Key())) })
			if !slices.Equal(failed, []string{tc.want}) {
				t.Errorf("failures %q, want only %q", failed, tc.want)
			}
			for _, k := range tc.blocked {
				if !slices.Contains(blocked, k) {
					t.Errorf("%s is not blocked", k)
				}
			}
			for _, k := range tc.free {
				if slices.Contains(blocked, k) {
					t.Errorf("%s is blocked", k)
				}
			}
		})
	}
}

// TestEveryKindIsDecided: each kind of object in spec has checks, or is listed as having none.
func TestEveryKindIsDecided(t *testing.T) {
	kinds := kindsOfSpec(t)
	if len(kinds) < 20 {
		t.Fatalf("only %d kinds found: %v", len(kinds), kinds)
	}
	known := derivers()
	asked := map[string]bool{}
	for _, c := range Derive(homelab()) {
		asked[c.Object.Kind()] = true
	}
	for _, k := range kinds {
		derive, decided := known[k]
		if !decided {
			t.Errorf("kind %s is not in derivers: give it checks, or nil with the reason", k)
		}
		if derive != nil && !asked[k] && k != spec.KindDNS {
			t.Errorf("kind %s has no check in the sample", k)
		}
	}
	if len(known) != len(kinds) {
		t.Errorf("derivers has %d kinds, spec %d", len(known), len(kinds))
	}
}

// kindsOfSpec reads the Kind constants from the package's source.
func kindsOfSpec(t *testing.T) []string {
	var kinds []string
	files, _ := filepath.Glob("../object/spec/*.go")
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Kind") {
				kind, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, kind)
			}
			return true
		})
	}
	return kinds
}

func TestUnreadableSpec(t *testing.T) {
	o := testObject("unit/101/x", map[string]any{"nmae": 1})
	checks := Derive([]object.Object{o})
	if len(checks) != 1 || checks[0].ID != "PHX-SPEC-001" || checks[0].Object != o.Address {
		t.Errorf("got %+v", checks)
	}
}

// TestRouteToNowhere: a route to a container that is not among those that should run is not asked for; its certificate
// is.
func TestRouteToNowhere(t *testing.T) {
	var some []object.Object
	for _, o := range homelab() {
		if o.Address != "running/201" {
			some = append(some, o)
		}
	}
	have := strings.Join(keysOf(Derive(some)), "\n")
	if strings.Contains(have, "ROUTE-00") || !strings.Contains(have, "CERT-006") {
		t.Error(have)
	}
}

// TestResolve: a fact reaches every check that needs it, the list given is left as it was, and what is not known stays
// open.
func TestResolve(t *testing.T) {
	h := newHost(t)
	h.put("/pins/103", 0o644, 0, 0, print64+"\nnext "+strings.Repeat("5a", 32)+"\n")
	objects := homelab()
	facts := ReadPins(h, objects)
	if facts["pin/103"]["fingerprint"] != print64 {
		t.Fatalf("got %v", facts)
	}
	checks := Derive(objects)
	needy := 0
	for i, c := range Resolve(checks, facts) {
		if len(checks[i].Needs) == 0 {
			continue
		}
		needy++
		if len(c.Needs) != 0 || !strings.Contains(string(c.Params), `"fingerprint":"`+print64) ||
			strings.Contains(string(checks[i].Params), print64) {
			t.Errorf("%s: %s", c.Key(), c.Params)
		}
	}
	if needy < 10 {
		t.Errorf("only %d checks need the fingerprint", needy)
	}
	for i, c := range Resolve(checks, nil) {
		if !reflect.DeepEqual(c, checks[i]) {
			t.Errorf("%s changed without a fact", c.Key())
		}
	}
}

// TestResolvedSpecs: where the engine has filled the specs in, the checks need nothing more.
func TestResolvedSpecs(t *testing.T) {
	o := testObject("trust/201", spec.Trust{Server: "https://ca.test:9000", Fingerprint: print64})
	for _, c := range Derive(append(testContainer("201", "10.0.0.201"), o)) {
		if c.ID == "PHX-TRUST-001" && (len(c.Needs) != 0 || !strings.Contains(string(c.Params), print64)) {
			t.Errorf("got %+v", c)
		}
	}
}

// TestDocs: docs/health.md has one row for every id, and none besides.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/health.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| (PHX-[A-Z]+-\d{3}) \|[^|]+\|[^|]+\|[^|]+\|$`).
		FindAllStringSubmatch(string(b), -1) {
		rows[m[1]]++
	}
	ids := map[string]bool{}
	for _, e := range table() {
		ids[e.id] = true
		if rows[e.id] != 1 {
			t.Errorf("%s has %d rows", e.id, rows[e.id])
		}
	}
	if len(rows) != len(ids) {
		t.Errorf("%d rows for %d ids", len(rows), len(ids))
	}
}

var _ host.Host = (*fakeHost)(nil)
