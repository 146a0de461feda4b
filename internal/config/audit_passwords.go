package config

import (
	"slices"
	"strings"
)

// knownPasswords are the words that are tried first, without the digits and signs that people put around them.
var knownPasswords = []string{"admin", "administrator", "changeit", "changeme", "default", "demo", "foobar", "guest",
	"homelab", "iloveyou", "letmein", "master",
	"monkey", "mypassword", "pass", "passw", "password", "passwort", "phoenix", "private", "proxmox", "public",
	"qwerty", "root", "secret", "securepassword",
	"smallstep", "stepca", "supersecret", "test", "tester", "toor", "user", "welcome"}

// KnownPassword reports whether a password is among those that are tried first: a known word with digits and signs
// around it, or hardly any letters at all.
func KnownPassword(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	bare := strings.Trim(s, "0123456789!@#$%^&*()-_=+.,;:?/ ")
	letters := strings.NewReplacer("0", "o", "1", "i", "!", "i", "3", "e", "@", "a", "4", "a", "$", "s", "5", "s")
	return s != "" &&
		(slices.Contains(knownPasswords, bare) || slices.Contains(knownPasswords, letters.Replace(bare)) ||
			slices.Contains(knownPasswords, letters.Replace(s)) || len(s) < 8 && bare == "")
}

// auditPasswords looks at the secrets of both files. Their values go nowhere.
func (a *auditor) auditPasswords() {
	seen := map[string]spot{}
	for _, file := range []spot{a.containerFile, a.hypervisorFile} {
		file.walk("", func(key string, s spot) {
			if s.n.kind != aString || !secretKey.MatchString(key) || placeholder(s.n.text) {
				return
			}
			if KnownPassword(s.n.text) {
				a.report(ruleKnownPassword, s, "make a random one where it is used, such as with: openssl rand "+
					"-base64 24", "the password is one that is tried first")
			}
			if first, twice := seen[s.n.text]; twice {
				a.report(ruleRepeated, s, "make a random one for each place",
					"the secret is that of "+first.at.path+" too")
				return
			}
			seen[s.n.text] = s
		})
	}
}

// auditTLS looks for every spelling of "do not verify", in known keys and others.
func (a *auditor) auditTLS() {
	const fix = "remove the key, and trust the root: feature trusted_ca in a container, ca show for others"
	for _, file := range []spot{a.containerFile, a.hypervisorFile} {
		file.walk("", func(key string, s spot) {
			plain := strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(key))
			value := strings.ToLower(s.text())
			on := value == "true" || value == "yes" || value == "on" || value == "1"
			off := value == "false" || value == "no" || value == "off" || value == "0"
			switch plain {
			case "insecureskipverify", "tlsskipverify", "skipverify", "skiptlsverify", "tlsinsecure", "insecuretls",
				"insecure":
				if on {
					a.report(ruleTLS, s, fix, "TLS is not verified")
				}
			case "verifytls", "tlsverify", "verifyssl", "sslverify", "verifycertificate", "verifycertificates",
				"proxysslverify", "verifypeer":
				if off {
					a.report(ruleTLS, s, fix, "TLS is not verified")
				}
			case "sslprotocols", "tlsversions", "minversion", "tlsminversion", "mintlsversion", "sslminversion":
				s.walk(key, func(_ string, v spot) {
					if OldTLS(v.text()) {
						a.report(ruleTLS, v, "TLSv1.2 TLSv1.3", "a protocol that is broken is allowed")
					}
				})
			}
		})
	}
}

// OldTLS reports whether a list of protocols, as Nginx and Traefik write them, has one before TLS 1.2.
func OldTLS(s string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(strings.ToLower(s),
		func(r rune) bool { return r == ' ' || r == ',' || r == ';' }), func(word string) bool {
		switch strings.Trim(word, `"'`) {
		case "sslv2", "sslv3", "tlsv1", "tlsv1.0", "tlsv1.1", "tls10", "tls11", "tls1.0", "tls1.1", "tlsv1_1",
			"versiontls10", "versiontls11", "versionssl30":
			return true
		}
		return false
	})
}

// auditNesting: a container with systemd gets what it needs without it; containers of Docker need it.
func (a *auditor) auditNesting() {
	for _, x := range a.cfg.Containers {
		if slices.ContainsFunc(x.Features,
			func(f string) bool { return strings.Contains(f, "docker") || strings.Contains(f, "podman") }) {
			continue
		}
		for i, o := range x.PctOptions {
			o = strings.ReplaceAll(o, " ", "")
			if slices.Contains(strings.Split(o, ","), "nesting=1") || strings.HasSuffix(o, "features=nesting=1") {
				a.finding(ruleNesting, x.At, element("pct_options", i), "remove nesting=1",
					"container %s may nest others, and nothing in it does", x.ID)
			}
		}
	}
}
