package host

import (
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Holder is a process that has a port, at an address.
type Holder struct {
	Protocol string
	Address  netip.Addr
	PID      string   // empty: a process that cannot be found
	Name     string   // of the program
	Argv     []string // what it was called with
	Unit     string   // of systemd; empty: none
}

// PortHolders are the processes of this network namespace that have a port at one of its addresses or at all of them,
// over TCP or UDP. Those at loopback addresses count too.
func PortHolders(h Host, port int) ([]Holder, error) {
	var out []Holder
	sockets := map[string]int{} // places in out, by the names of what processes hold
	for _, t := range socketTables {
		raw, err := h.ReadFile(t.path)
		if err != nil && !strings.HasSuffix(t.path, "6") { // without IPv6 there is none
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != t.state {
				continue
			}
			if at, err := socketAddress(f[1]); err == nil && int(at.Port()) == port {
				sockets["socket:["+f[9]+"]"] = len(out)
				out = append(out, Holder{Protocol: t.protocol, Address: at.Addr()})
			}
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	names, _ := h.ReadDir("/proc") // without it nobody is found
	for _, pid := range names {
		if _, err := strconv.Atoi(pid); err == nil {
			tell(h, pid, sockets, out)
		}
	}
	return out, nil
}

// tell fills in the holders of sockets that the process has.
func tell(h Host, pid string, sockets map[string]int, out []Holder) {
	dir := filepath.Join("/proc", pid, "fd")
	fds, err := h.ReadDir(dir)
	if err != nil {
		return // it ended, or is somebody else's
	}
	for _, fd := range fds {
		to, err := h.Readlink(filepath.Join(dir, fd))
		i, known := sockets[to]
		if err != nil || !known || out[i].PID != "" {
			continue
		}
		name, _ := h.ReadFile(filepath.Join("/proc", pid, "comm")) // it may end meanwhile
		argv, _ := h.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		groups, _ := h.ReadFile(filepath.Join("/proc", pid, "cgroup"))
		out[i].PID, out[i].Name = pid, strings.TrimSpace(string(name))
		out[i].Argv = strings.Split(strings.TrimRight(string(argv), "\x00"), "\x00")
		out[i].Unit = unitOf(string(groups))
	}
}

// unitOf is the service of systemd that a process belongs to, by its control groups (proc_pid_cgroup(5)).
func unitOf(groups string) string {
	for line := range strings.Lines(groups) {
		at := strings.TrimSpace(line[strings.LastIndex(line, ":")+1:])
		if unit := path.Base(at); strings.HasSuffix(unit, ".service") && strings.HasPrefix(at, "/system.slice/") {
			return unit
		}
	}
	return ""
}
