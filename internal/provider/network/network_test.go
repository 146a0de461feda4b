package network_test

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
	"github.com/phoenix-hypervisor/phoenix/internal/provider/network"
)

const bridge = "phxt0"

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func fresh(t *testing.T) (host.Host, object.Object) {
	clean := func() { _ = exec.Command("ip", "link", "delete", bridge).Run() } // absent is as good
	clean()
	t.Cleanup(clean)
	raw, err := json.Marshal(spec.Network{Bridge: bridge, Address: "10.99.1.1/24"})
	if err != nil {
		t.Fatal(err)
	}
	return &host.Local{}, object.Object{Address: "network/" + bridge, Provider: "network", Spec: raw}
}

func TestConformance(t *testing.T) {
	conformance.Isolated(t, "ip")
	damage := func(args ...string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) { ip(t, args...) }
	}
	conformance.Run(t, conformance.Case{Driver: network.New(), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a bridge that is down": damage("link", "set", bridge, "down"),
			"another MAC":           damage("link", "set", bridge, "address", "02:00:00:00:00:01"),
			"a missing address":     damage("address", "flush", "dev", bridge),
			"trust in any router": func(t *testing.T, _ host.Host, _ object.Object) {
				for _, name := range []string{"accept_ra", "autoconf"} {
					if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+bridge+"/"+name, []byte("1"), 0); err != nil {
						t.Fatal(err)
					}
				}
			},
			"a bridge that went away": damage("link", "delete", bridge),
		}})
}

// Ports with lower addresses come and go; the bridge's own stays, else containers lose it.
func TestPortsDoNotChangeTheBridge(t *testing.T) {
	conformance.Isolated(t, "ip")
	h, o := fresh(t)
	if err := network.New().Apply(context.Background(), h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "add", "phxt1", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "phxt2")
	defer ip(t, "link", "delete", "phxt1")
	ip(t, "link", "set", "phxt1", "master", bridge)
	if obs, err := network.New().Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() {
		t.Errorf("changed by a port: %+v, %v", obs.Delta, err)
	}
}

func TestAdoptedBridgeKeepsWhatIsNotOurs(t *testing.T) {
	conformance.Isolated(t, "ip")
	h, o := fresh(t)
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "address", "add", "192.0.2.1/24", "dev", bridge)
	var s spec.Network
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	ctx, d := context.Background(), network.Driver{}
	if err := d.Apply(ctx, h, o.Address, s, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	have, err := d.Observe(ctx, h, o.Address, s)
	if err != nil || have.Ours || !slices.Equal(have.Addresses, []string{"192.0.2.1/24", "10.99.1.1/24"}) {
		t.Fatalf("have %+v, %v", have, err)
	}
	if err := d.Delete(ctx, h, o.Address, s); err != nil {
		t.Fatal(err)
	}
	have, err = d.Observe(ctx, h, o.Address, s)
	if err != nil || have == nil || !slices.Equal(have.Addresses, []string{"192.0.2.1/24"}) {
		t.Fatalf("after delete: have %+v, %v", have, err)
	}
}

func TestPort(t *testing.T) {
	conformance.Isolated(t, "ip")
	damage := func(args ...string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) { ip(t, args...) }
	}
	conformance.Run(t, conformance.Case{
		Driver: network.NewPort(),
		Fresh: func(t *testing.T) (host.Host, object.Object) { // a start of the container has made it
			h, _ := fresh(t)
			ip(t, "link", "add", bridge, "type", "bridge")
			_ = exec.Command("ip", "link", "delete", "phxt1").Run() // absent is as good
			ip(t, "link", "add", "phxt1", "type", "veth", "peer", "name", "phxt2")
			t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "phxt1").Run() })
			raw, err := json.Marshal(spec.Port{Name: "phxt1", Bridge: bridge})
			if err != nil {
				t.Fatal(err)
			}
			return h, object.Object{Address: "port/101/eth0", Provider: "network", Spec: raw}
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"an unplugged port":   damage("link", "set", "phxt1", "nomaster"),
			"a port that is down": damage("link", "set", "phxt1", "down"),
			"a bridge that was made anew": func(t *testing.T, _ host.Host, _ object.Object) {
				ip(t, "link", "delete", bridge)
				ip(t, "link", "add", bridge, "type", "bridge")
			},
		},
	})
}

func TestOwnBridgeIsDeleted(t *testing.T) {
	conformance.Isolated(t, "ip")
	h, o := fresh(t)
	ctx, d := context.Background(), network.New()
	if err := d.Apply(ctx, h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Delete(ctx, h, o); err != nil {
			t.Fatal(err)
		}
	}
	if obs, err := d.Observe(ctx, h, o); err != nil || obs.Status != nil {
		t.Fatalf("still there: %s, %v", obs.Status, err)
	}
}

func TestOtherKindIsRefused(t *testing.T) {
	conformance.Isolated(t, "ip")
	h, o := fresh(t)
	ip(t, "link", "add", bridge, "type", "veth", "peer", "name", "phxt1")
	if _, err := network.New().Observe(context.Background(), h, o); err == nil ||
		!strings.Contains(err.Error(), "is not a bridge") {
		t.Fatalf("got %v", err)
	}
}

func TestDecode(t *testing.T) {
	for raw, bad := range map[string]bool{
		`{"bridge":"vmbr0","address":"10.0.0.13/24"}`:                 false,
		`{"bridge":"vmbr0","address":"10.0.0.13"}`:                    true,
		`{"bridge":"averylongbridgename","address":"10.0.0.13/24"}`:   true,
		`{"bridge":"a\nlink delete eth0","address":"10.0.0.13/24"}`:   true,
		`{"bridge":"vmbr0","address":"10.0.0.13/24","colour":"blue"}`: true,
	} {
		if got := network.New().Decode(json.RawMessage(raw)).HasErrors(); got != bad {
			t.Errorf("%s: errors %t, want %t", raw, got, bad)
		}
	}
}
