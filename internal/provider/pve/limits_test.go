package pve

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// kernel is a host of which only these files can be read.
type kernel struct {
	host.Host
	text map[string]string
}

func (k kernel) ReadFile(path string) ([]byte, error) {
	text, ok := k.text[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

// A limit of processes is no reason for a restart where the control group can be seen; what else waits still is one.
func TestLimitIsNoRestart(t *testing.T) {
	c := parseConf("hostname: a\nlxc.cgroup2.pids.max: 4096\n")
	h := kernel{text: map[string]string{
		"/proc/self/mountinfo":            "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"/proc/7/cgroup":                  "0::/lxc/101/ns/init.scope\n",
		"/sys/fs/cgroup/lxc/101/pids.max": "max\n",
	}}
	st := &RunningStatus{State: running, PID: 7, Waits: []string{pidsKey, "memory"}, Booted: true}
	limited(h, c, st)
	if !slices.Equal(st.Waits, []string{"memory"}) || len(st.Limits) != 1 {
		t.Errorf("%+v", st)
	}
	st.Waits = nil
	if d := (Running{}).Diff(spec.Running{ID: "101"}, st); d.Empty() || d.Interrupts {
		t.Errorf("%+v", d)
	}
	h.text["/sys/fs/cgroup/lxc/101/pids.max"] = "4096\n"
	st = &RunningStatus{State: running, PID: 7, Waits: []string{pidsKey}, Booted: true}
	if limited(h, c, st); len(st.Waits)+len(st.Limits) > 0 {
		t.Errorf("it has it already: %+v", st)
	}
	st = &RunningStatus{State: running, PID: 8, Waits: []string{pidsKey}, Booted: true}
	if limited(h, c, st); len(st.Waits) != 1 {
		t.Errorf("what cannot be seen waits for the restart: %+v", st)
	}
}
