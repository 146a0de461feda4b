package host

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a socket that takes what comes from other hosts.
type Listener struct {
	Protocol string // tcp or udp
	Port     int
	Address  netip.Addr
	inode    string
}

// socketTables are those of the kernel (proc_pid_net(5)), with the state of a socket that anybody may send to: 0A is
// LISTEN, and a UDP socket without a peer is 07.
var socketTables = []struct{ path, protocol, state string }{
	{"/proc/net/tcp", "tcp", "0A"}, {"/proc/net/tcp6", "tcp", "0A"},
	{"/proc/net/udp", "udp", "07"}, {"/proc/net/udp6", "udp", "07"},
}

// Listeners are the sockets of this network namespace that can be reached from outside, each port once, by protocol
// and port. UDP ports that the kernel gives to whoever asks a question are left out.
func Listeners(h Host) ([]Listener, error) {
	first, last := ephemeral(h)
	var out []Listener
	for _, t := range socketTables {
		raw, err := h.ReadFile(t.path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(t.path, "6") {
			continue // without IPv6 there is none
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != t.state {
				continue
			}
			at, err := socketAddress(f[1])
			if err != nil || at.Addr().IsLoopback() || t.protocol == "udp" && int(at.Port()) >= first &&
				int(at.Port()) <= last {
				continue
			}
			l := Listener{t.protocol, int(at.Port()), at.Addr(), f[9]}
			if !slices.ContainsFunc(out,
				func(o Listener) bool { return o.Protocol == l.Protocol && o.Port == l.Port }) {
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, func(a, b Listener) int {
		return strings.Compare(fmt.Sprintf("%s %05d", a.Protocol, a.Port), fmt.Sprintf("%s %05d", b.Protocol, b.Port))
	})
	return out, nil
}

// ephemeral are the ports that sockets get which name none.
func ephemeral(h Host) (first, last int) {
	raw, err := h.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, scanErr := fmt.Sscan(string(raw), &first, &last); err != nil || scanErr != nil {
		return 32768, 60999 // the kernel's own
	}
	return first, last
}

// socketAddress reads 0100007F:1F90: the words of the address are as the machine has them in memory.
func socketAddress(text string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(addr)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err = errors.Join(err, portErr); err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(raw, 4) {
		if len(word) == 4 {
			binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
		}
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", addr)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), nil
}

// Owners names who has the sockets, as "nginx (process 12)", in their order; "a process that cannot be found" where
// nobody does.
func Owners(h Host, list []Listener) []string {
	out := make([]string, len(list))
	names, _ := h.ReadDir("/proc") // without it nobody is found
	for _, pid := range names {
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		for i, l := range list {
			if out[i] == "" && holds(h, pid, map[string]bool{"socket:[" + l.inode + "]": true}) {
				name, _ := h.ReadFile(filepath.Join("/proc", pid, "comm")) // it may end meanwhile
				out[i] = fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
			}
		}
	}
	for i := range out {
		if out[i] == "" {
			out[i] = "a process that cannot be found"
		}
	}
	return out
}
