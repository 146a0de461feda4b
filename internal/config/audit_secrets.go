package config

import (
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// secretKey is a key whose value is a secret. Keys that name a file with a secret are not.
var secretKey = regexp.MustCompile(
	`(?i)(^|_|-)(password|passwd|passphrase|secret|token|private_?key|api_?key|access_?key|password_hash)$`)

// secrets looks through a whole file, known keys or not. The value is never shown.
func secrets(file string, n *node, p place, list *diag.List) {
	for _, m := range n.members {
		at := p.key(m.key, m.line)
		if m.value.kind == aString && secretKey.MatchString(m.key) && !placeholder(m.value.text) {
			at.report(list, diag.Diagnostic{Severity: ruleSecret.severity(), Rule: ruleSecret.ID, File: file,
				Summary: "a secret in plain text; phoenix does not need it",
				Hint:    "remove it here, and change it where it is used: it is in every copy and backup of this file"})
		}
		secrets(file, m.value, at, list)
	}
	for i, item := range n.items {
		secrets(file, item, p.index(i, item.line), list)
	}
}

// placeholder reports whether a value only stands where a secret would.
func placeholder(s string) bool {
	switch strings.ToUpper(strings.Trim(s, "<>*!x ")) {
	case "", "NOT_SET", "NONE", "NOT KEPT":
		return true
	}
	return false
}
