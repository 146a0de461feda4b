package config

import (
	"net/netip"
	"strings"
)

// Limits of names in bytes: RFC 1035, section 2.3.4; RFC 5280, appendix A.1 (ub-common-name); Linux's HOST_NAME_MAX.
const (
	maxLabel      = 63
	maxName       = 253
	maxCommonName = 64
	maxHostName   = 64
)

// fullName joins a record's name and its zone's, in lower case and without a trailing dot; @ and the empty name are the
// zone itself.
func fullName(hostname, zone string) string {
	zone = strings.ToLower(strings.TrimSuffix(zone, "."))
	host := strings.ToLower(hostname)
	if host == "@" || host == "" {
		return zone
	}
	if absolute, ok := strings.CutSuffix(host, "."); ok {
		return absolute
	}
	return host + "." + zone
}

// dnsNameProblem is what keeps a name from being one of the DNS, or empty. Underscores are allowed where the caller
// says so: the DNS has such names, hosts and certificates have not.
func dnsNameProblem(name string, underscore bool) string {
	if name == "" {
		return "it is empty"
	}
	if len(name) > maxName {
		return "it is longer than 253 characters"
	}
	for label := range strings.SplitSeq(name, ".") {
		if problem := labelProblem(label, underscore); problem != "" {
			return problem
		}
	}
	return ""
}

func labelProblem(label string, underscore bool) string {
	switch {
	case label == "":
		return "there is nothing between two dots, or before or behind one"
	case len(label) > maxLabel:
		return "a label is longer than 63 characters"
	case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
		return "a label begins or ends with -"
	}
	for _, r := range label {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
		case r == '_' && underscore:
		case r == '_':
			return "it has an underscore"
		case r == '*':
			return "it is a wildcard"
		case r > 0x7f:
			return "it has a letter outside of ASCII (write it as xn--…)"
		default:
			return "it has a character other than letters, digits and -"
		}
	}
	return ""
}

func hostNameProblem(name string) string {
	if len(name) > maxHostName {
		return "it is longer than 64 characters"
	}
	return dnsNameProblem(name, false)
}

// certificateNameProblem is what keeps a name out of a certificate that is had by an http-01 challenge, and what to do.
func certificateNameProblem(name string) (problem, hint string) {
	if strings.Contains(name, "*") {
		return "it is a wildcard, and an http-01 challenge cannot prove one (RFC 8555, section 8.3)",
			"write each name by itself"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "it is an address", "write the name that clients dial"
	}
	if problem := dnsNameProblem(name, false); problem != "" {
		return problem, "letters, digits and - between dots, such as web.internal.example"
	}
	if !strings.Contains(name, ".") {
		return "it has no domain", "write the full name, such as " + strings.ToLower(name) + ".internal.example"
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "its last label is a number, so that it reads as an address", "write the name that clients dial"
	}
	return "", ""
}

// certificateName tells a name that no certificate can have.
func (c *checker) certificateName(a At, key, name string) bool {
	problem, hint := certificateNameProblem(name)
	if problem != "" {
		c.errorf(a, key, hint, "%q cannot be in a certificate: %s", name, problem)
	}
	return problem == ""
}

// certificateNames checks a list and puts it in lower case.
func (c *checker) certificateNames(a At, key string, names []string) {
	for i, n := range names {
		c.certificateName(a, element(key, i), n)
		names[i] = strings.ToLower(n)
	}
}
