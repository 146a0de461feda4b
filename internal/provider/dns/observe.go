package dns

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const confFlag = "--conf-file="

// Observe implements provider.Driver. It runs no command.
func (Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.DNS) (*Status, error) {
	raw, err := h.ReadFile(pidPath(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 {
		return nil, nil // half written: as good as none
	}
	conf := started(h, s, pid)
	if conf == "" {
		return nil, nil
	}
	st := &Status{PID: pid, Running: conf}
	if conf == confPath(s) {
		content, err := h.ReadFile(conf)
		st.Intact = err == nil && string(content) == render(s)
	}
	return st, nil
}

// started gives the configuration file that this process, if it is one of this resolver's, was started with.
func started(h host.Host, s spec.DNS, pid int) string {
	cmdline, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	for arg := range strings.SplitSeq(string(cmdline), "\x00") {
		conf, ok := strings.CutPrefix(arg, confFlag)
		if ok && filepath.Dir(conf) == filepath.Clean(s.Dir) && isConf(s, filepath.Base(conf)) {
			return conf
		}
	}
	return ""
}

// exiting is whether a process has begun to end, and still has what it has open: it gives its memory, and with it its
// command line, before its sockets, and is a zombie after that (proc_pid_stat(5)).
func exiting(h host.Host, pid int) bool {
	stat, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third field on: state, ..., flags
	if len(f) < 7 || f[0] == "Z" || f[0] == "X" {
		return false
	}
	const begun = 0x4 // PF_EXITING (linux/sched.h)
	flags, err := strconv.ParseUint(f[6], 10, 32)
	return err == nil && flags&begun != 0
}

// isConf tells this resolver's configuration files from another's in the same directory.
func isConf(s spec.DNS, name string) bool {
	digest, ok := strings.CutPrefix(name, s.Name+"-")
	digest, conf := strings.CutSuffix(digest, ".conf")
	return ok && conf && len(digest) == 16 && strings.Trim(digest, "0123456789abcdef") == ""
}

// processes are all of this resolver's, whatever the pid file says.
func processes(h host.Host, s spec.DNS) ([]int, error) {
	names, err := h.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && started(h, s, pid) != "" {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
