package audit

import (
	"regexp"
	"strings"
)

var (
	// flagName is an argument whose value is a secret; those that name a file with it are not.
	flagName = regexp.MustCompile(`(?i)^--?([a-z0-9]+[-_.])*(password|passwd|passphrase|secret|token|api-?key)$`)
	// assignment is NAME=value in a script, a unit file or an environment.
	assignment = regexp.MustCompile(
		`(?i)(?:^|[\s;"'{,=])([a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api_?key))["']?\s*[=:]\s*["']?([^\s"';|&]+)`)
	// option is --password value in a line of a script.
	option = regexp.MustCompile(
		`(?i)(?:^|\s)(--?(?:[a-z0-9]+[-_.])*(?:password|passwd|passphrase|secret|token|api-?key))[=\s]+["']?([^\s"';|&]+)`)
	// written is a text that goes into a password file.
	written = regexp.MustCompile(
		`(?i)(?:echo|printf)\s+(?:-n\s+|'%s'\s+|"%s"\s+)?["']?([^\s"'>|]+)["']?\s*>+\s*\S*(?:password|passwd|passphrase|secret)`)
	// address is a URL with a password in it.
	address  = regexp.MustCompile(`[a-z][a-z0-9+.-]*://[^\s/:@"']+:([^\s/@"']+)@`)
	noVerify = regexp.MustCompile(
		`(?i)(?:\bcurl\b[^|;]*\s(?:-[a-z]*k\b|--insecure\b)|\bwget\b[^|;]*--no-check-certificate|insecure-?skip-?verify["']?\s*[=:]\s*["']?true)`)
)

// literal reports whether a value is the secret itself: not a variable, a command, a file, or something that only
// stands there.
func literal(value string) bool {
	value = strings.Trim(value, `"'`)
	switch strings.ToLower(value) {
	case "", "-", "none", "null", "true", "false", "yes", "no", "changeme-placeholder", "not_set", "...", "*", "xxx",
		"required", "optional", "read":
		return false
	}
	return !strings.ContainsAny(value[:1], "$`/<%{(.&*~@[") && !strings.Contains(value, "$(") &&
		!strings.Contains(value, "${") && strings.Trim(value, "*x.") != ""
}

// secretIn gives the name under which a line of text has a secret in it; empty: none. The value goes nowhere.
func secretIn(line string) string {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") || line[0] == ';' {
		return ""
	}
	if strings.Contains(line, "-----BEGIN ") && strings.Contains(line, "PRIVATE KEY-----") {
		return "a private key"
	}
	for _, pattern := range []*regexp.Regexp{assignment, option} {
		for _, m := range pattern.FindAllStringSubmatch(line, -1) {
			if literal(m[2]) && !strings.HasSuffix(strings.ToLower(m[1]), "file") {
				return strings.TrimLeft(m[1], "-.")
			}
		}
	}
	if m := written.FindStringSubmatch(line); m != nil && literal(m[1]) {
		return "a password that is written to a file"
	}
	if m := address.FindStringSubmatch(line); m != nil && literal(m[1]) {
		return "an address with a password"
	}
	return ""
}

// secretArgument gives the name of an argument that carries a secret; empty: none.
func secretArgument(argv []string) string {
	for i, arg := range argv {
		name, value, joined := strings.Cut(arg, "=")
		if !joined && i+1 < len(argv) && !strings.HasPrefix(argv[i+1], "-") {
			value = argv[i+1]
		}
		switch {
		case flagName.MatchString(name) && literal(value):
			return strings.TrimLeft(name, "-")
		case joined && assignment.MatchString(arg) && literal(value) && !strings.HasPrefix(arg, "-"):
			return name
		case address.MatchString(arg):
			return "an address with a password"
		}
	}
	return ""
}
