package config

import (
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// KernelValue is a limit of the machine's kernel as it was observed.
type KernelValue struct {
	Value    int64
	ReadOnly bool // this machine cannot change it: it is a container itself
}

// SharedLimits are the keys of the kernel's limits that Setup and Derive ask for in Machine.Kernel.
func SharedLimits() []string {
	var out []string
	for _, l := range spec.SharedLimits() {
		out = append(out, l.Key)
	}
	return out
}

// sysctlFile comes after what packages bring; sysctl.conf, the administrator's own, has the last word.
const sysctlFile = "/etc/sysctl.d/99-phoenix.conf"

// runs counts the containers that run.
func (d *derivation) runs() (n int) {
	for _, c := range d.cfg.Containers {
		if !d.house.templates[c.ID] {
			n++
		}
	}
	return n
}

// setupLimits raises what the containers share. What this machine cannot change is told where it is too little.
func (d *derivation) setupLimits() {
	s := spec.Sysctl{Path: sysctlFile}
	n := d.runs()
	for _, l := range spec.SharedLimits() {
		have, known := d.machine.Kernel[l.Key]
		switch {
		case d.machine.Kernel != nil && !known: // not in this kernel, or not in this network namespace
		case have.ReadOnly:
			if have.Value < l.Need(n) {
				d.note(diag.Warning, object.Source{}, fmt.Sprintf("%s is %d here, %d containers need about %d, and "+
					"this machine cannot change it", l.Key, have.Value, n, l.Need(n)),
					"raise it on the machine that this one runs on")
			}
		default:
			s.Least = append(s.Least, spec.KernelLimit{Key: l.Key, Value: l.Target(n), Computed: l.Computed})
		}
	}
	if len(s.Least) > 0 {
		d.add(object.Object{Address: object.NewAddress(spec.KindSysctl, hypervisor), Provider: "sysctl"}, s)
	}
}

// limits warns of what the containers of the file need more of than this machine has.
func (d *derivation) limits() {
	n := d.runs()
	for _, l := range spec.SharedLimits() {
		have, known := d.machine.Kernel[l.Key]
		if need := l.Need(n); known && have.Value < need {
			d.note(diag.Warning, object.Source{}, fmt.Sprintf("%s is %d on this machine: the %d containers of the "+
				"file need about %d", l.Key, have.Value, n, need),
				"phoenix setup --yes raises it")
		}
	}
}
