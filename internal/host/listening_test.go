package host

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

func listenerOn(list []Listener, protocol string, port int) (Listener, bool) {
	i := slices.IndexFunc(list, func(l Listener) bool { return l.Protocol == protocol && l.Port == port })
	if i < 0 {
		return Listener{}, false
	}
	return list[i], true
}

// What others can reach is found with whoever has it; what only this host can reach is not.
func TestListeners(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		open, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer closed.Close()
		list, err := Listeners(&Local{})
		if err != nil {
			t.Fatal(err)
		}
		port := open.Addr().(*net.TCPAddr).Port
		l, found := listenerOn(list, "tcp", port)
		if !found || !l.Address.IsUnspecified() {
			t.Fatalf("%s: port %d is not among %v", address, port, list)
		}
		if who := Owners(&Local{}, []Listener{l}); !strings.HasSuffix(who[0],
			fmt.Sprintf(" (process %d)", os.Getpid())) {
			t.Errorf("it is said to be of %q", who)
		}
		if _, found := listenerOn(list, "tcp", closed.Addr().(*net.TCPAddr).Port); found {
			t.Errorf("a listener on loopback is told: %v", list)
		}
	}
	if who := Owners(&Local{}, []Listener{{inode: "0"}}); who[0] != "a process that cannot be found" {
		t.Errorf("nobody's socket is said to be of %q", who)
	}
}

// The ports of questions are no services.
func TestListenersOverUDP(t *testing.T) {
	question, err := net.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer question.Close()
	service, err := net.ListenPacket("udp", "0.0.0.0:1")
	if err != nil {
		t.Skip(err)
	}
	defer service.Close()
	list, err := Listeners(&Local{})
	if err != nil {
		t.Fatal(err)
	}
	if _, found := listenerOn(list, "udp", 1); !found {
		t.Errorf("the service is not among %v", list)
	}
	if _, found := listenerOn(list, "udp", question.LocalAddr().(*net.UDPAddr).Port); found {
		t.Errorf("a question is told: %v", list)
	}
}

func FuzzSocketAddress(f *testing.F) {
	for _, s := range []string{"0100007F:1F90", "00000000000000000000000001000000:0050", "", ":", "00:00", "zz:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := socketAddress(s); err == nil && !a.IsValid() {
			t.Errorf("%q is %v", s, a)
		}
	})
}
