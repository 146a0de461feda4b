package host

import "strings"

var (
	octal = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`)
	plain = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
)

// Escape writes a path as fstab(5) and lxc's mount entries take it, and as the kernel lists mounts
// (proc_pid_mountinfo(5)).
func Escape(path string) string { return octal.Replace(path) }

// Unescape is the inverse of Escape.
func Unescape(path string) string { return plain.Replace(path) }
