package config

import "github.com/phoenix-hypervisor/phoenix/internal/object/spec"

// auditMode looks at the mode of a volume's top directory.
func (c *checker) auditMode(a At, m *spec.Mode) {
	switch {
	case m == nil:
	case *m&0o7000 != 0:
		c.errorf(a, "mode", `such as "0700"`, "setuid, setgid and sticky are not for a volume")
	case *m&0o002 != 0:
		c.finding(ruleWritable, a, "mode", `"0700" for keys, "0750" or "0755" otherwise`,
			"everybody in the container may write to the volume")
	case *m&0o700 != 0o700:
		c.errorf(a, "mode", `such as "0700"`, "its owner could not use the volume")
	case *m&0o005 != 0:
		c.finding(ruleReadable, a, "mode", `"0700" for keys, "0750" for what a group reads`,
			"everybody in the container may read the volume")
	}
}
