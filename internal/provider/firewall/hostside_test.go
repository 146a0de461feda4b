package firewall_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
)

func hostSide(t *testing.T, s spec.HostFirewall) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: "hostfirewall/" + bridge, Provider: "firewall", Spec: raw}
}

func TestHostSideConformance(t *testing.T) {
	conformance.Isolated(t, "nft")
	damage := func(argv ...string) conformance.Damage {
		return func(t *testing.T, _ host.Host, _ object.Object) { run(t, "", argv...) }
	}
	s := spec.HostFirewall{Name: "phxt0_ab12", Bridge: bridge, Address: "10.99.2.1",
		MACs: []string{"02:00:00:00:01:03", "02:00:00:00:01:04"}, DNS: true,
		Allow: []string{"tcp/3128", "udp/8000-8010"}}
	table := s.Table()
	fresh := func(t *testing.T) (host.Host, object.Object) {
		run(t, "", "nft", "flush", "ruleset")
		return &host.Local{}, hostSide(t, s)
	}
	conformance.Run(t, conformance.Case{Driver: firewall.NewHostSide(), Fresh: fresh, Tools: []string{"nft"},
		Break: map[string]conformance.Damage{
			"everything flushed":   damage("nft", "flush", "ruleset"),
			"an emptied chain":     damage("nft", "flush", "chain", "inet", table, "from_containers"),
			"a rule added by hand": damage("nft", "insert", "rule", "inet", table, "from_containers", "accept"),
			"a chain more":         damage("nft", "add", "chain", "inet", table, "other"),
		}, Not: map[string]string{"foreign": "the table has phoenix's name"}})
	t.Run("others stay, and off is off", func(t *testing.T) {
		h, _ := fresh(t)
		run(t, "", "nft", "add", "table", "inet", "somebodys")
		x := firewall.NewHostSide()
		for _, off := range []bool{false, true} {
			s := s
			s.Off = off
			o := hostSide(t, s)
			obs, err := x.Observe(context.Background(), h, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Apply(context.Background(), h, o, obs.Delta); err != nil {
				t.Fatal(err)
			}
			if have := run(t, "", "nft", "list", "tables"); !strings.Contains(have, "somebodys") ||
				strings.Contains(have, table) == off {
				t.Errorf("off %v: %s", off, have)
			}
			if obs, err := x.Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() {
				t.Errorf("off %v: it does not come to rest: %+v, %v", off, obs.Delta, err)
			}
		}
	})
}

// From a container: what is not allowed is dropped, at every address of the hypervisor; what the hypervisor begins is
// answered; and who is on the bridge and no container of phoenix's reaches what it reached.
func TestHostSideTraffic(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not here")
	}
	const script = `set -e
ip link set lo up
ip link add hbr0 type bridge; ip address add 10.99.7.1/24 dev hbr0; ip address replace 10.99.8.1/24 dev lo; ip link set hbr0 up
for n in 2 3; do
	unshare --net sleep 120 & echo $! >/tmp/hostside.$$.$n; pid=$!
	until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
	ip link add h$n type veth peer name eth0 address 02:00:00:00:07:0$n netns $pid; ip link set h$n master hbr0 up
	nsenter --net=/proc/$pid/ns/net sh -c "ip link set lo up; ip address add 10.99.7.$n/24 dev eth0; ip link set eth0 up; ip route add default via 10.99.7.1"
	eval pid$n=$pid
done
python3 - <<'PY' &
import socket,time
kept=[]
for a,p in (("0.0.0.0",22),("0.0.0.0",8006),("0.0.0.0",53),("0.0.0.0",3128)):
    s=socket.socket();s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);s.bind((a,p));s.listen(9);kept.append(s)
time.sleep(120)
PY
srv=$!
nsenter --net=/proc/$pid2/ns/net python3 -c 'import socket,time;s=socket.socket();s.bind(("",80));s.listen(9);time.sleep(120)' & web=$!
try() { nsenter --net=/proc/$1/ns/net python3 -c 'import socket,sys;s=socket.socket();s.settimeout(0.7);s.connect((sys.argv[1],int(sys.argv[2])))' $2 $3 2>/dev/null && echo open || echo shut; }
up() { for i in $(seq 100); do [ "$(nsenter --net=/proc/$1/ns/net python3 -c 'import socket,sys;s=socket.socket();s.settimeout(1);s.connect((sys.argv[1],int(sys.argv[2])))' $2 $3 2>/dev/null && echo open)" = open ] && return; sleep 0.1; done; }
up $$ 127.0.0.1 3128; up $pid2 127.0.0.1 80
for p in 22 8006 53 3128; do echo "$p $(try $pid2 10.99.7.1 $p)"; done
echo "other address $(try $pid2 10.99.8.1 22) $(try $pid2 10.99.8.1 53)"
echo "no container $(try $pid3 10.99.7.1 22)"
echo "from the hypervisor $(python3 -c 'import socket;s=socket.socket();s.settimeout(1);s.connect(("10.99.7.2",80))' 2>/dev/null && echo open || echo shut)"
kill $srv $web $pid2 $pid3; ip link delete hbr0; rm -f /tmp/hostside.$$.*
`
	run(t, "", "nft", "flush", "ruleset")
	s := spec.HostFirewall{Name: "hbr0_ab12", Bridge: "hbr0", Address: "10.99.7.1", MACs: []string{"02:00:00:00:07:02"},
		DNS: true, Allow: []string{"tcp/3128"}}
	o := hostSide(t, s)
	x := firewall.NewHostSide()
	obs, err := x.Observe(context.Background(), &host.Local{}, o)
	if err != nil {
		t.Fatal(err)
	}
	before := run(t, script, "sh")
	if err := x.Apply(context.Background(), &host.Local{}, o, obs.Delta); err != nil {
		t.Fatal(err)
	}
	after := run(t, script, "sh")
	if want := "22 open\n8006 open\n53 open\n3128 open\nother address open open\nno container open\n"; !strings.HasPrefix(before, want) {
		t.Fatalf("without the table:\n%s", before)
	}
	want := "22 shut\n8006 shut\n53 open\n3128 open\nother address shut shut\nno container open\n"
	if !strings.HasPrefix(after, want) || !strings.Contains(after, "from the hypervisor open\n") {
		t.Errorf("got\n%s, want\n%s", after, want)
	}
}
