package e2e

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Dial must reach the hypervisor and nothing of this machine: the same
// address is answered here and not there, then there.
func TestDialEntersTheNamespace(t *testing.T) {
	if err := missing(); err != nil {
		t.Skip(err)
	}
	h := &Hypervisor{t: t, Name: prefix() + "-dial", Root: t.TempDir()}
	command(t, "ip", "netns", "add", h.Name)
	t.Cleanup(func() {
		command(t, filepath.Join(repo(), "tools", "sweep"), h.Root)
		command(t, "ip", "netns", "delete", h.Name)
	})
	command(t, "ip", "-n", h.Name, "link", "set", "lo", "up")

	here, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if conn, err := h.Dial(t.Context(), "tcp4", here.Addr().String()); err == nil {
		conn.Close()
		t.Fatal("reached this machine's own listener")
	}

	_, port, err := net.SplitHostPort(here.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(h.Root, "conf")
	if err := os.WriteFile(conf, []byte("no-resolv\nno-hosts\nbind-interfaces\nlisten-address=127.0.0.1\nport="+port+
		"\npid-file="+h.Root+"/pid\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Exec("dnsmasq", "--conf-file="+conf).Want(0)
	if !await(5*time.Second, func() bool {
		conn, err := h.Dial(t.Context(), "tcp4", here.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		t.Error("dnsmasq in the namespace was not reached")
	}
}
