package dns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/dns"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

func zoned(t *testing.T, name, listen, upstream string, records ...spec.Record) object.Object {
	t.Helper()
	s := spec.DNS{Name: name, Dir: filepath.Join(t.TempDir(), "dns"), Listen: []string{listen},
		Zones: []spec.Zone{{Name: "lab.internal", Records: records}}}
	if upstream != "" {
		s.Upstreams = []string{upstream}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	o := object.Object{Address: object.NewAddress(spec.KindDNS, name), Provider: "dns", Spec: raw}
	t.Cleanup(func() {
		if err := dns.New().Stop(context.Background(), &host.Local{}, o); err != nil {
			t.Error(err)
		}
	})
	return o
}

// next gives every fresh resolver an address of its own, since one test holds several.
var next atomic.Int32

func fresh(t *testing.T) (host.Host, object.Object) {
	listen := fmt.Sprintf("127.0.1.%d", next.Add(1))
	return &host.Local{},
		zoned(t, "vmbr0", listen, "", spec.Record{Name: "ca.lab.internal", Addresses: []string{"10.0.0.10"}})
}

func listens(t *testing.T, o object.Object) string {
	t.Helper()
	var s spec.DNS
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	return s.Listen[0]
}

func spawn(t *testing.T, o object.Object) {
	t.Helper()
	if err := dns.New().Apply(context.Background(), &host.Local{}, o, plan.Delta{Action: plan.Create}); err != nil {
		t.Fatal(err)
	}
}

func observed(t *testing.T, o object.Object) dns.Status {
	t.Helper()
	obs, err := dns.New().Observe(context.Background(), &host.Local{}, o)
	if err != nil {
		t.Fatal(err)
	}
	var s dns.Status
	if err := json.Unmarshal(obs.Status, &s); err != nil {
		t.Fatalf("%s: %v", obs.Status, err)
	}
	return s
}

func resolve(server, name string) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(server, "53"))
	}}
	return r.LookupHost(context.Background(), name)
}

func TestConformance(t *testing.T) {
	conformance.Isolated(t, "dnsmasq")
	conformance.Run(t, conformance.Case{
		Driver: dns.New(), Fresh: fresh, Volatile: []string{"pid", "running"},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a killed process": func(t *testing.T, h host.Host, o object.Object) {
				if err := dns.New().Stop(context.Background(), h, o); err != nil {
					t.Fatal(err)
				}
			},
			"a changed file": func(t *testing.T, _ host.Host, o object.Object) {
				if err := os.WriteFile(observed(t, o).Running, []byte("port=0\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			},
			"a lost pid file": func(t *testing.T, _ host.Host, o object.Object) {
				pids, err := filepath.Glob(filepath.Join(filepath.Dir(observed(t, o).Running), "*.pid"))
				if err != nil || len(pids) != 1 {
					t.Fatal(pids, err)
				}
				if err := os.Remove(pids[0]); err != nil {
					t.Fatal(err)
				}
			},
		},
	})
}

func TestAnswers(t *testing.T) {
	conformance.Isolated(t, "dnsmasq")
	up := zoned(t, "up", "127.0.0.61", "",
		spec.Record{Name: "elsewhere.lab.internal", Addresses: []string{"192.0.2.7"}})
	var other spec.DNS
	if err := json.Unmarshal(up.Spec, &other); err != nil {
		t.Fatal(err)
	}
	other.Zones[0].Name, other.Zones[0].Records[0].Name = "example.org", "www.example.org"
	up.Spec, _ = json.Marshal(other) // of a struct that was just read from JSON
	o := zoned(t, "vmbr0", "127.0.0.53", "127.0.0.61",
		spec.Record{Name: "ca.lab.internal", Addresses: []string{"10.0.0.10"}},
		spec.Record{Name: "*.app.lab.internal", Addresses: []string{"10.0.0.12"}})
	spawn(t, up)
	spawn(t, o)
	for name, want := range map[string]string{"ca.lab.internal": "10.0.0.10", "x.app.lab.internal": "10.0.0.12",
		"www.example.org": "192.0.2.7"} {
		if got, err := resolve("127.0.0.53", name); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %v, %v; want %s", name, got, err, want)
		}
	}
	if got, err := resolve("127.0.0.53", "missing.lab.internal"); err == nil {
		t.Errorf("a name that is not in the zone has %v", got)
	}
	if got, err := resolve("127.0.0.53", "localhost.localdomain"); err == nil {
		t.Errorf("the hypervisor's hosts file was read: %v", got)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:53"); err != nil {
		t.Errorf("it listens on more than its address: %v", err)
	} else if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestChangedRecordsReachTheProcess(t *testing.T) {
	conformance.Isolated(t, "dnsmasq")
	h, o := fresh(t)
	spawn(t, o)
	old := observed(t, o)
	o.Spec = json.RawMessage(strings.ReplaceAll(string(o.Spec), "10.0.0.10", "10.0.0.99"))
	obs, err := dns.New().Observe(context.Background(), h, o)
	if err != nil || !obs.Delta.Has("configuration") {
		t.Fatalf("change not seen: %+v, %v", obs.Delta, err)
	}
	spawn(t, o)
	if got, err := resolve(listens(t, o), "ca.lab.internal"); err != nil || got[0] != "10.0.0.99" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := os.Stat(old.Running); err == nil {
		t.Error("the old configuration file was left behind")
	}
	if err := dns.New().Delete(context.Background(), h, o); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(old.Running)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTakenAddressIsReported(t *testing.T) {
	conformance.Isolated(t, "dnsmasq")
	h, o := fresh(t)
	l, err := net.Listen("tcp", net.JoinHostPort(listens(t, o), "53"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = dns.New().Apply(context.Background(), h, o, plan.Delta{Action: plan.Create})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

func TestDecode(t *testing.T) {
	good := spec.DNS{Name: "vmbr0", Dir: "/x", Listen: []string{"10.0.0.1"}, Upstreams: []string{"1.1.1.1"}}
	for name, tc := range map[string]struct {
		change func(*spec.DNS)
		bad    bool
	}{
		"good":          {func(*spec.DNS) {}, false},
		"loop":          {func(s *spec.DNS) { s.Upstreams = []string{"10.0.0.1"} }, true},
		"no listen":     {func(s *spec.DNS) { s.Listen = nil }, true},
		"injected line": {func(s *spec.DNS) { s.Zones = []spec.Zone{{Name: "a\nconf-file=/etc/passwd"}} }, true},
		"bad record": {func(s *spec.DNS) {
			s.Zones = []spec.Zone{{Name: "a", Records: []spec.Record{{Name: "b/c"}}}}
		}, true},
		"bad name": {func(s *spec.DNS) { s.Name = "../x" }, true},
	} {
		s := good
		tc.change(&s)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := dns.New().Decode(raw).HasErrors(); got != tc.bad {
			t.Errorf("%s: errors %t, want %t", name, got, tc.bad)
		}
	}
}

func TestDnsmasqIsTheRealOne(t *testing.T) {
	conformance.Isolated(t, "dnsmasq")
	out, err := exec.Command("dnsmasq", "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "Dnsmasq version 2.") {
		t.Errorf("%q, %v", out, err)
	}
}
