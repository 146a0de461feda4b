package config

import (
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// finding adds a finding of a rule at a key.
func (c *checker) finding(r Rule, a At, key, hint, format string, args ...any) {
	*c.list = append(*c.list, at(a, key, diag.Diagnostic{Severity: r.severity(), Rule: r.ID, Summary: fmt.Sprintf(format, args...), Hint: hint}))
}

func (c *checker) audit() {
	c.auditSharing()
	for _, x := range c.cfg.Containers {
		c.auditIsolation(x)
		c.auditModes(x)
		if x.IsCA() && (x.IsGateway() || x.IsProxy()) {
			c.finding(ruleCARole, x.At, "", "a container by itself for step_ca; a client of the CA needs trusted_ca or step_cli",
				"the container with the CA's keys is the gateway or the proxy too, which everybody talks to")
		}
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
			c.finding(ruleWritable, cert.At, "mode", `"0600", or "0640" with owner user:group`, "the key would be readable by everybody or writable by a group")
		}
	}
}
