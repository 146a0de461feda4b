package config

import (
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// Grade is how bad an audit finding is.
type Grade string

// The grades, as the audit prints them.
const (
	High   Grade = "high"
	Medium Grade = "medium"
	Low    Grade = "low"
)

// Rule is one rule of the audit. Its ID is stable and stands in diagnostics.
type Rule struct {
	ID     string
	Grade  Grade
	Title  string
	refuse bool // a finding is an error, not a warning
}

// The rules that look at files only. Ids are never used again for something else.
var (
	ruleSamePath    = Rule{"PHX-AUD-001", High, "one directory of the hypervisor is mounted in two containers", true}
	ruleNestedPath  = Rule{"PHX-AUD-002", High, "a directory of one container lies inside that of another one", true}
	ruleSharedMany  = Rule{"PHX-AUD-003", High, "a shared volume names two containers", true}
	ruleSharedOne   = Rule{"PHX-AUD-004", Medium, "a shared volume names a container", false}
	ruleForeignPath = Rule{"PHX-AUD-005", Medium, "a container mounts a directory that is named for another one", false}
	ruleSystemPath  = Rule{"PHX-AUD-006", High, "a container mounts a directory of the hypervisor's own system", true}
	ruleExported    = Rule{"PHX-AUD-007", High, "a container's directory is exported over the network", false}
	ruleOption      = Rule{"PHX-AUD-010", High, "a raw lxc option undoes the isolation or what phoenix sets", true}
	ruleWeakOption  = Rule{"PHX-AUD-011", Medium, "a raw lxc option weakens the isolation", false}
	ruleUnconfined  = Rule{"PHX-AUD-012", Medium, "a container runs without AppArmor", false}
	rulePrivileged  = Rule{"PHX-AUD-013", High, "a container is privileged", false}
	ruleWritable    = Rule{"PHX-AUD-014", High, "everybody may write to a volume, or read a key", true}
	ruleReadable    = Rule{"PHX-AUD-015", Low, "everybody may read a volume", false}
	ruleSecret      = Rule{"PHX-AUD-020", High, "a secret stands in the file in plain text", false}
	ruleCARole      = Rule{"PHX-AUD-021", High, "the certificate authority shares its container", true}
)

// Rules are all rules of the audit that look at files only.
func Rules() []Rule {
	return []Rule{ruleSamePath, ruleNestedPath, ruleSharedMany, ruleSharedOne, ruleForeignPath, ruleSystemPath, ruleExported, ruleOption,
		ruleWeakOption, ruleUnconfined, rulePrivileged, ruleWritable, ruleReadable, ruleSecret, ruleCARole}
}

// severity is that of a finding of the rule.
func (r Rule) severity() diag.Severity {
	if r.refuse {
		return diag.Error
	}
	return diag.Warning
}

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
