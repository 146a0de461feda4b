package host

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// How programs say in their journals that an address is another's: nginx, Go's net, and what strerror(EADDRINUSE)
// gives. The port is the last number behind a colon, not the time at the line's beginning.
var inUse = regexp.MustCompile(`(?i)[^\n]*:(\d{1,5})\b[^\n]*address already in use`)

// Takers names the processes that hold ports which a journal says are taken; empty: it says no such thing, or nobody
// holds them now.
func Takers(h Host, journal string) string {
	var said []string
	for _, m := range inUse.FindAllStringSubmatch(journal, -1) {
		port, err := strconv.Atoi(m[1])
		if err != nil {
			continue
		}
		for _, who := range listeners(h, port) {
			said = append(said, fmt.Sprintf("port %d is taken by %s", port, who))
		}
	}
	slices.Sort(said)
	return strings.Join(slices.Compact(said), "; ")
}

// listeners are the processes that listen on a TCP port, as "process 12 (perl)".
func listeners(h Host, port int) []string {
	return holders(h, "tcp", port, func(string) bool { return true })
}

func holders(h Host, proto string, port int, about func(line string) bool) []string {
	sockets, state := map[string]bool{}, "0A"
	if proto == "udp" {
		state = "07" // one that is connected to nobody
	}
	for _, table := range []string{proto, proto + "6"} {
		raw, err := h.ReadFile("/proc/net/" + table)
		if err != nil {
			continue // without IPv6 there is none
		}
		for line := range strings.Lines(string(raw)) {
			if inode := listening(line, port, state); inode != "" && about(line) {
				sockets["socket:["+inode+"]"] = true
			}
		}
	}
	names, err := h.ReadDir("/proc")
	if err != nil || len(sockets) == 0 {
		return nil
	}
	var out []string
	for _, pid := range names {
		if _, err := strconv.Atoi(pid); err == nil && holds(h, pid, sockets) {
			name, _ := h.ReadFile(filepath.Join("/proc", pid, "comm")) // it may end meanwhile
			out = append(out, fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name))))
		}
	}
	return out
}

// ListenersOn are the processes whose sockets take connections on a TCP port from outside: at any address but those of
// the loopback. They are looked for in the network namespace that phoenix is in.
func ListenersOn(h Host, port int) []string {
	return holders(h, "tcp", port, func(line string) bool { return !loopback(line) })
}

// ReceiversOn are the same for a UDP port.
func ReceiversOn(h Host, port int) []string {
	return holders(h, "udp", port, func(line string) bool { return !loopback(line) })
}

// loopback is whether the socket of a line of /proc/net/tcp or tcp6 is bound to a loopback address, which stands there
// in the byte order of the machine: 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104.
func loopback(line string) bool {
	f := strings.Fields(line)
	address, _, _ := strings.Cut(f[1], ":")
	return len(address) == 8 && strings.HasSuffix(address, "7F") || address == "00000000000000000000000001000000" ||
		strings.HasPrefix(address, "0000000000000000FFFF0000") && strings.HasSuffix(address, "7F")
}

// listening gives the inode of a line of /proc/net/tcp or udp (proc_pid_net(5)) that is a socket on the port in the state:
// 0A is a listener of TCP.
func listening(line string, port int, state string) string {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != state || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
		return ""
	}
	return f[9]
}

func holds(h Host, pid string, sockets map[string]bool) bool {
	dir := filepath.Join("/proc", pid, "fd")
	fds, err := h.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, err := h.Readlink(filepath.Join(dir, fd))
		return err == nil && sockets[to]
	})
}
