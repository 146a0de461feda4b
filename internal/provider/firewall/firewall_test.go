package firewall_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
)

const bridge, port = "phxt0", "phxt103"

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

func run(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// everything has each thing that a rule can say.
func everything() spec.Firewall {
	return spec.Firewall{ID: "103", Port: port, Bridge: bridge, Address: "10.99.2.103", MAC: "02:00:00:00:01:03",
		Rules: []spec.Rule{
			{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "9000", Source: "10.99.2.101,10.99.2.102",
				Comment: "clients of the CA"},
			{Direction: "in", Action: "DROP", Source: "10.99.2.66"},
			{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "80,443,8000:8010", SourcePorts: "1024:65535",
				Source: "10.99.0.0/16", Dest: "10.99.2.103", Log: "info"},
			{Direction: "in", Action: "ACCEPT", Proto: "icmp", ICMPType: "echo-request", Source: "10.99.2.0/24"},
			{Direction: "in", Action: "ACCEPT", Proto: "ipv6-icmp", ICMPType: "echo-request"},
			{Direction: "in", Action: "ACCEPT", Proto: "udp", Ports: "53", Comment: `"quoted"`},
			{Direction: "in", Action: "ACCEPT", Proto: "esp"},
			{Direction: "in", Action: "ACCEPT", Proto: "47"},
			{Direction: "in", Action: "DROP", Log: "warning"},
			{Direction: "in", Action: "ACCEPT", Proto: "tcp",
				Ports: "1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37,39,41,43,45,47,49,51,53,55,57,59,61,63,65,67,69,71,73,75,77,79"},
			{Direction: "out", Action: "ACCEPT", Proto: "udp", Ports: "53", Dest: "10.99.2.1"},
			{Direction: "out", Action: "DROP", Proto: "tcp", Ports: "25"},
		}}
}

func asObject(t *testing.T, s spec.Firewall) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: "firewall/" + object.Address(s.ID), Provider: "firewall", Spec: raw}
}

func fresh(t *testing.T) (host.Host, object.Object) {
	clean := func() {
		_ = exec.Command("ip", "link", "delete", bridge).Run() // absent is as good
		run(t, "", "nft", "flush", "ruleset")
	}
	clean()
	t.Cleanup(clean)
	run(t, "", "ip", "link", "add", bridge, "type", "bridge")
	return &host.Local{}, asObject(t, everything())
}

func TestConformance(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	damage := func(argv ...string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) { run(t, "", argv...) }
	}
	table := "phoenix_" + port
	conformance.Run(t, conformance.Case{Driver: firewall.New(), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"everything flushed": damage("nft", "flush", "ruleset"),
			"a deleted table":    damage("nft", "delete", "table", "bridge", table),
			"an emptied chain":   damage("nft", "flush", "chain", "bridge", table, "to_container"),
			"a rule added by hand": damage("nft", "insert", "rule", "bridge", table, "to_container",
				"accept"),
			"a chain that drops no one":           damage("nft", "flush", "chain", "bridge", table, "bridged"),
			"a chain added by hand":               damage("nft", "add", "chain", "bridge", table, "other"),
			"an identity that lets everything in": damage("nft", "insert", "rule", "bridge", table, "own", "accept"),
			"an identity that nobody asks":        damage("nft", "flush", "chain", "bridge", table, "identity"),
			"a lost seal": func(t *testing.T, _ host.Host, _ object.Object) {
				for line := range strings.Lines(run(t, "", "nft", "list", "table", "bridge", table)) {
					if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], "sealed_") {
						run(t, "", "nft", "delete", "chain", "bridge", table, f[1])
					}
				}
			},
		}})
}

// Where the kernel's own way to follow connections on a bridge is missing, that of br_netfilter can be put out for the
// bridge.
func TestConnectionsAreFollowed(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	h, o := fresh(t)
	d := firewall.New()
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		t.Skip("br_netfilter is not there: ", err)
	}
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("0"), 0); err != nil {
		t.Skip("the switch cannot be turned here: ", err)
	}
	ctx := context.Background()
	if err := d.Apply(ctx, h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(run(t, "", "nft", "list", "ruleset"), "ct state established,related accept") {
		t.Skip("this kernel follows connections on bridges by itself")
	}
	if obs, err := d.Observe(ctx, h, o); err != nil || !obs.Delta.Empty() {
		t.Fatalf("after apply: %+v, %v", obs.Delta, err)
	}
	run(t, "", "ip", "link", "delete", bridge)
	run(t, "", "ip", "link", "add", bridge, "type", "bridge")
	if obs, err := d.Observe(ctx, h, o); err != nil || !obs.Delta.Has("connections") {
		t.Fatalf("a new bridge: %+v, %v", obs.Delta, err)
	}
	if err := d.Apply(ctx, h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	if obs, err := d.Observe(ctx, h, o); err != nil || !obs.Delta.Empty() {
		t.Fatalf("after the second apply: %+v, %v", obs.Delta, err)
	}
}

func TestOff(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	h, o := fresh(t)
	ctx, d := context.Background(), firewall.New()
	if err := d.Apply(ctx, h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	off := asObject(t, spec.Firewall{ID: "103", Port: port, Bridge: bridge, Address: "10.99.2.103",
		MAC: "02:00:00:00:01:03", Open: true})
	obs, err := d.Observe(ctx, h, off)
	if err != nil || obs.Delta.Action != plan.Update {
		t.Fatalf("switched off: %+v, %v", obs.Delta, err)
	}
	for range 2 {
		if err := d.Apply(ctx, h, off, obs.Delta); err != nil {
			t.Fatal(err)
		}
	}
	if left := run(t, "", "nft", "list", "tables"); left != "table bridge phoenix_"+port+"\n" {
		t.Errorf("left: %s", left)
	}
	if left := run(t, "", "nft", "list", "ruleset"); strings.Contains(left, "to_container") ||
		!strings.Contains(left, "chain own {") {
		t.Errorf("the identity is not all that is left: %s", left)
	}
	if obs, err := d.Observe(ctx, h, off); err != nil || !obs.Delta.Empty() {
		t.Errorf("still %+v, %v", obs.Delta, err)
	}
}

// A plan names the rules that come and go, and nothing else.
func TestDiffNamesRules(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	h, o := fresh(t)
	ctx, d := context.Background(), firewall.New()
	if err := d.Apply(ctx, h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	s := everything()
	s.Rules = slices.Delete(s.Rules, 1, 2)
	s.Rules = append(s.Rules, spec.Rule{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "22"})
	obs, err := d.Observe(ctx, h, asObject(t, s))
	want := []plan.Field{{Path: "rule", Want: "in ACCEPT tcp 22"}, {Path: "rule", Have: "in DROP from 10.99.2.66"}}
	if err != nil || !slices.Equal(obs.Delta.Fields, want) {
		t.Errorf("%+v, %v", obs.Delta, err)
	}
}

func TestDecode(t *testing.T) {
	good := everything()
	for name, change := range map[string]func(*spec.Firewall){
		"":                 func(*spec.Firewall) {},
		"an odd port":      func(s *spec.Firewall) { s.Port = `x" drop` },
		"no MAC":           func(s *spec.Firewall) { s.MAC = "" },
		"a group's MAC":    func(s *spec.Firewall) { s.MAC = "01:00:5e:00:00:01" },
		"an odd MAC":       func(s *spec.Firewall) { s.MAC = "02:00:00:00:01:0a accept" },
		"no address":       func(s *spec.Firewall) { s.Address = "10.0.0.1; flush ruleset" },
		"loose addresses":  func(s *spec.Firewall) { s.Rules[0].Source = "10.99.2.102,10.99.2.101" },
		"a name":           func(s *spec.Firewall) { s.Rules[0].Source = "+set" },
		"an odd protocol":  func(s *spec.Firewall) { s.Rules[0].Proto = "tcp accept;" },
		"a group":          func(s *spec.Firewall) { s.Rules[0].Direction = "group" },
		"REJECT":           func(s *spec.Firewall) { s.Rules[0].Action = "REJECT" },
		"no protocol":      func(s *spec.Firewall) { s.Rules[0].Proto = "" },
		"an odd ICMP type": func(s *spec.Firewall) { s.Rules[3].ICMPType = "{" },
	} {
		s := good
		s.Rules = slices.Clone(good.Rules)
		change(&s)
		if got := firewall.New().Decode(asObject(t, s).Spec); got.HasErrors() != (name != "") {
			t.Errorf("%s: %v", name, got)
		}
	}
}
