package health

import (
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const ipCommand = "ip -j addr show dev vmbr0"

var bridge = spec.Network{Bridge: "vmbr0", Address: "10.0.0.13/24"}

func ipSays(flags, local string) fakeRun {
	return fakeRun{out: `[{"ifname":"vmbr0","flags":[` + flags + `],"addr_info":[{"family":"inet","local":"` + local +
		`","prefixlen":24}]}]`}
}

// dnsFake answers on loopback, over UDP and TCP, until the test ends. drop datagrams are not answered; cut says to ask
// over TCP.
type dnsFake struct {
	records map[string][4]byte
	drop    int
	cut     bool
}

func (d *dnsFake) start(t *testing.T, h *fakeHost, server string) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	h.dials["udp "+server+":53"], h.dials["tcp "+server+":53"] = udp.LocalAddr().String(), tcp.Addr().String()
	go d.datagrams(udp)
	go d.streams(tcp)
}

func (d *dnsFake) datagrams(udp net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := udp.ReadFrom(b)
		if err != nil {
			return
		}
		if d.drop > 0 {
			d.drop--
			continue
		}
		_, _ = udp.WriteTo(d.answer(b[:n], d.cut), from)
	}
}

func (d *dnsFake) streams(tcp net.Listener) {
	for {
		c, err := tcp.Accept()
		if err != nil {
			return
		}
		b := make([]byte, 512)
		if n, err := c.Read(b); err == nil && n > 2 {
			reply := d.answer(b[2:n], false)
			_, _ = c.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
		}
		c.Close()
	}
}

func (d *dnsFake) answer(ask []byte, cut bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(ask); err != nil {
		return nil
	}
	m.Response = true
	q := m.Questions[0]
	ip, known := d.records[q.Name.String()]
	switch {
	case cut:
		m.Truncated = true
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	default:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: ip},
		}}
	}
	b, _ := m.Pack()
	return b
}

// asked is a container with a resolver that knows web.test as 10.0.0.101.
func asked(d dnsFake, name, address string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		d.records = map[string][4]byte{"web.test.": {10, 0, 0, 101}}
		d.start(t, h, "10.0.0.13")
		h.put(resolvConf, 0o644, 0, 0, "# by phoenix\nsearch test\nnameserver 10.0.0.13\n")
		return namesParams{Records: []spec.Record{{Name: name, Addresses: []string{address}}}}
	}
}

func resolver(server string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		p := asked(dnsFake{}, "web.test", "10.0.0.101")(t, h).(namesParams)
		p.Servers = []string{"10.0.0.13", server}
		return p
	}
}

func networkCases() []runCase {
	return []runCase{
		{kindBridge, "up", says(ipCommand, ipSays(`"BROADCAST","UP"`, "10.0.0.13"), bridge), Pass, "10.0.0.13/24"},
		{kindBridge, "down", says(ipCommand, ipSays(`"BROADCAST"`, "10.0.0.13"), bridge), Fail, "is down"},
		{kindBridge, "address", says(ipCommand, ipSays(`"UP"`, "10.0.0.14"), bridge), Fail, "lacks its address"},
		{kindBridge, "absent", says(ipCommand, fakeRun{err: `Device "vmbr0" does not exist.`, code: 1}, bridge), Fail,
			"does not exist"},
		{kindBridge, "nonsense", says(ipCommand, fakeRun{out: "?"}, bridge), Fail, "cannot be looked at"},
		{kindResolver, "answers", resolver("10.0.0.13"), Pass, "1 names at"},
		{kindResolver, "one is silent", resolver("10.0.0.99"), Fail, "10.0.0.99: "},
		{kindNames, "answered", asked(dnsFake{}, "web.test", "10.0.0.101"), Pass, "1 names by 10.0.0.13"},
		{kindNames, "lost datagram", asked(dnsFake{drop: 1}, "web.test", "10.0.0.101"), Pass, "1 names"},
		{kindNames, "cut short", asked(dnsFake{cut: true}, "web.test", "10.0.0.101"), Pass, "1 names"},
		{kindNames, "wrong address", asked(dnsFake{}, "web.test", "10.0.0.102"), Fail,
			`says ["10.0.0.101"], wanted ["10.0.0.102"]`},
		{kindNames, "unknown name", asked(dnsFake{}, "app.test", "10.0.0.101"), Fail, "NameError"},
		{kindNames, "silent", asked(dnsFake{drop: 99}, "web.test", "10.0.0.101"), Fail, silent},
		{kindNames, "no resolver", func(_ *testing.T, h *fakeHost) any {
			h.put(resolvConf, 0o644, 0, 0, "search test\n")
			return namesParams{}
		}, Fail, "no nameserver"},
	}
}

// TestRealIP pins the fields of ip -j against the tool itself.
func TestRealIP(t *testing.T) {
	h := &host.Local{}
	c := Check{Object: "network/lo"}
	if r := runBridge(t.Context(), h, c, spec.Network{Bridge: "lo", Address: "127.0.0.1/8"}); r.Status != Pass {
		t.Errorf("got %+v", r)
	}
	if r := runBridge(t.Context(), h, c, spec.Network{Bridge: "none0"}); r.Status != Fail || r.Evidence == "" {
		t.Errorf("got %+v", r)
	}
}
