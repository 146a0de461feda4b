package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// flowsOf are the checks of ways between containers: id, from, to, ports.
func flowsOf(objects []object.Object) []string {
	var out []string
	for _, c := range Derive(objects) {
		if strings.HasPrefix(c.ID, "PHX-FW-00") && c.Object.Kind() == spec.KindFirewall {
			out = append(out, strings.Join([]string{c.ID, c.Host, "->", c.Object.Scope(), c.Subject}, " "))
		}
	}
	return out
}

// Each door that is open is tried by one who may, each container's firewall by one who may not, and not all by the same one.
func TestFlowsAreTried(t *testing.T) {
	want := []string{
		"PHX-FW-001 102 -> 101 80,443", "PHX-FW-001 201 -> 103 9000", "PHX-FW-001 102 -> 201 8000",
		"PHX-FW-002 102 -> 101 22", "PHX-FW-002 201 -> 103 22", "PHX-FW-002 101 -> 201 8000",
	}
	if got := flowsOf(homelab()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is let in everywhere cannot be knocked at; what nobody can tell is not tried; what is off neither.
func TestFlowsThatAreNotTried(t *testing.T) {
	open := letting("103", "10.0.0.10", "", "")
	open.Rules[0].Proto = ""
	group := letting("101", "10.0.0.101", "80", "")
	group.Rules = append([]spec.Rule{{Direction: "group", Action: "ours"}}, group.Rules...)
	off := letting("201", "10.0.0.201", "8000", "")
	off.Off = true
	var objects []object.Object
	for _, o := range homelab() {
		if o.Address.Kind() != spec.KindFirewall {
			objects = append(objects, o)
		}
	}
	for _, s := range []spec.Firewall{open, group, off} {
		objects = append(objects, testObject(object.Address("firewall/"+s.ID), s))
	}
	if got := flowsOf(objects); len(got) > 0 {
		t.Errorf("tried: %q", got)
	}
}

// wall answers as a firewall does: with silence, a no, a connection or nothing at all.
func (h *fakeHost) wall(ctx context.Context) (net.Conn, error) {
	answer := h.walls[0]
	if len(h.walls) > 1 {
		h.walls = h.walls[1:]
	}
	switch answer {
	case "connection":
		ours, theirs := net.Pipe()
		theirs.Close()
		return ours, nil
	case "no":
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case "nobody":
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	case "odd":
		return nil, fmt.Errorf("socket: %w", syscall.EMFILE)
	}
	<-ctx.Done()
	return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
}

func firewallCases() []runCase {
	flow := func(answer string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.walls = []string{answer}
			return flowParams{Address: "10.0.0.10", Ports: []int{9000}}
		}
	}
	file := func(text string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			if text != "absent" {
				h.put("/etc/pve/firewall/cluster.fw", 0o640, 0, 33, text)
			}
			return spec.NodeFirewall{Proxmox: spec.Proxmox{Dir: "/etc/pve"}}
		}
	}
	return []runCase{
		{kindFlowOpen, "a connection", flow("connection"), Pass, "10.0.0.10:9000"},
		{kindFlowOpen, "nobody listens", flow("no"), Pass, "gets through"},
		{kindFlowOpen, "nobody there", flow("nobody"), Fail, "no route to host"},
		{kindFlowOpen, "not asked", flow("odd"), Fail, "too many open files"},
		{kindFlowOpen, "silence", flow("silence"), Fail, "nothing gets through"},
		{kindFlowClosed, "a connection", flow("connection"), Fail, "10.0.0.10:9000"},
		{kindFlowClosed, "nobody listens", flow("no"), Fail, "it is answered"},
		{kindFlowClosed, "nobody there", flow("nobody"), Skip, "no route to host"},
		{kindFlowClosed, "not asked", flow("odd"), Fail, "too many open files"},
		{kindFlowClosed, "silence", flow("silence"), Pass, "stays outside"},
		{kindSwitch, "on", file("[OPTIONS]\nenable: 1\n"), Pass, "is on"},
		{kindSwitch, "on, by hand", file("[options]\n\n ENABLE:1 \n"), Pass, "is on"},
		{kindSwitch, "on, as Proxmox does not read it", file("[options]\nenable: 1 # on\n"), Fail, "is off"},
		{kindSwitch, "off", file("[OPTIONS]\nenable: 0\n"), Fail, "is off"},
		{kindSwitch, "elsewhere", file("[RULES]\nenable: 1\n"), Fail, "is off"},
		{kindSwitch, "commented out", file("[OPTIONS]\n#enable: 1\n"), Fail, "is off"},
		{kindSwitch, "no file", file("absent"), Fail, "cluster.fw"},
	}
}

func raw(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
