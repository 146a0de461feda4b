package config

import (
	"fmt"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// finding adds a finding of a rule at a key.
func (c *checker) finding(r Rule, a At, key, hint, format string, args ...any) {
	*c.list = append(*c.list,
		at(a, key, diag.Diagnostic{Severity: r.severity(), Rule: r.ID, Summary: fmt.Sprintf(format, args...),
			Hint: hint}))
}

func (c *checker) audit() {
	c.auditSharing()
	for _, x := range c.cfg.Containers {
		c.auditIsolation(x)
		c.auditModes(x)
		c.auditOpen(x)
		if x.IsCA() && (x.IsGateway() || x.IsProxy()) {
			c.finding(ruleCARole, x.At, "", "a container by itself for step_ca; a client of the CA needs trusted_ca "+
				"or step_cli",
				"the container with the CA's keys is the gateway or the proxy too, which everybody talks to")
		}
	}
}

// auditOpen tells of a container that lets in everything. A template never runs.
func (c *checker) auditOpen(x *Container) {
	template := x.CloneFrom == "" &&
		slices.ContainsFunc(c.cfg.Containers, func(y *Container) bool { return y.CloneFrom == x.ID })
	if !x.Firewall.Enabled && !template {
		place, key := x.At, "firewall"
		if x.has(key) {
			place, key = x.Firewall.At, "enabled"
		}
		c.finding(ruleOpen, place, key,
			`"firewall": {"enabled": true}: what the other containers need of it is let in, rules let in more`,
			"container %s has no firewall: every port that a program in it opens can be reached from all other "+
				"containers", x.ID)
	}
}

func (c *checker) auditModes(x *Container) {
	for _, v := range x.Volumes {
		c.auditMode(v.At, v.Mode)
	}
	for _, m := range x.MountPoints {
		c.auditMode(m.At, m.Mode)
	}
	for _, cert := range x.Certificates {
		if cert.Mode != nil && *cert.Mode&0o027 != 0 {
			c.finding(ruleWritable, cert.At, "mode", `"0600", or "0640" with owner user:group`,
				"the key would be readable by everybody or writable by a group")
		}
	}
}
