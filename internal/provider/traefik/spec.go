// Package traefik keeps the internal proxy, Traefik 3.6, configured and its certificates issued. It is two objects:
//
//   - config: the static and the dynamic file, and the storage of Traefik's own ACME client. No process is needed for it; the
//     unit takes the digest of what is read at the start from its status ("inputs").
//   - certificates: what the running Traefik has loaded and serves. Traefik asks for a certificate once; if that fails it does
//     not try again, and while its client waits for a challenge that the CA has given up on it ignores every other trigger. So
//     phoenix tells it to look again, and if that does not help restarts it; the engine does so again, with backoff.
//
// Files are JSON, which is YAML too.
package traefik

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	defaultBinary   = "/usr/local/bin/traefik"
	defaultLifetime = spec.Duration(24 * time.Hour)
)

// Decode is provider.Driver's.
func decode(raw json.RawMessage) (spec.Traefik, diag.List) {
	s, diags := provider.Decode[spec.Traefik](raw)
	if diags.HasErrors() {
		return s, diags
	}
	fillIn(&s)
	if s.Part != spec.TraefikConfig && s.Part != spec.TraefikCertificates {
		diags.Errorf("part %q is neither %q nor %q", s.Part, spec.TraefikConfig, spec.TraefikCertificates)
	}
	if s.Challenge != spec.HTTP01 && s.Challenge != spec.TLSALPN01 {
		diags.Errorf("challenge %q is not known: use %s or %s", s.Challenge, spec.HTTP01, spec.TLSALPN01)
	}
	for _, p := range []struct{ key, path string }{{"dir", s.Dir}, {"storage", s.Storage},
		{"acme.root_file", s.ACME.RootFile}, {"binary", s.Binary}} {
		if !filepath.IsAbs(p.path) {
			diags.Errorf("%s %q is not an absolute path", p.key, p.path)
		}
	}
	if !strings.HasPrefix(s.ACME.Directory, "https://") {
		diags.Errorf("acme.directory %q is not an https address", s.ACME.Directory)
	}
	if _, err := hex.DecodeString(s.Fingerprint); err != nil || (s.Fingerprint != "" && len(s.Fingerprint) != 64) {
		diags.Errorf("fingerprint %q is not the SHA-256 of a root certificate in hex", s.Fingerprint)
	}
	for _, g := range s.Gateways {
		if _, err := netip.ParseAddr(g); err != nil {
			diags.Errorf("gateways: %q is not an IP address", g)
		}
	}
	checkRoutes(s, &diags)
	return s, diags
}

func fillIn(s *spec.Traefik) {
	if s.Challenge == "" {
		s.Challenge = spec.HTTP01
	}
	if s.Lifetime == 0 {
		s.Lifetime = defaultLifetime
	}
	if s.Binary == "" {
		s.Binary = defaultBinary
	}
	if len(s.Restart) == 0 {
		s.Restart = []string{"systemctl", "restart", "traefik.service"}
	}
}

func checkRoutes(s spec.Traefik, diags *diag.List) {
	routes, names := map[string]bool{}, map[string]string{}
	if s.OwnName != "" {
		s.Routes = append([]spec.TraefikRoute{{Name: ownRouter, Hosts: []string{s.OwnName}, URL: "http://internal"}},
			s.Routes...)
	}
	for _, r := range s.Routes {
		if !plainName(r.Name) || routes[r.Name] || (strings.HasPrefix(r.Name, reserved) && r.Name != ownRouter) {
			diags.Errorf("route %q: names are lower-case letters, digits, - and dots, each is there once, and none "+
				"begins with %s", r.Name, reserved)
		}
		routes[r.Name] = true
		if len(r.Hosts) == 0 {
			diags.Errorf("route %s has no host", r.Name)
		}
		for _, h := range r.Hosts {
			if !plainName(h) {
				diags.Errorf("route %s: host %q is not a DNS name in lower case", r.Name, h)
			}
			if other, taken := names[h]; taken {
				diags.Errorf("host %s is in two routes: %s and %s", h, other, r.Name)
			}
			names[h] = r.Name
		}
		checkBackend(r, diags)
		checkExtras(r, diags)
	}
}

func checkBackend(r spec.TraefikRoute, diags *diag.List) {
	u, err := url.Parse(r.URL)
	if err != nil || !slices.Contains([]string{"http", "https", "h2c"}, u.Scheme) || u.Host == "" || u.User != nil {
		diags.Errorf("route %s: %q is not the address of a backend, such as http://10.0.0.141:8000", r.Name, r.URL)
	}
	if r.ServerName != "" && !plainName(r.ServerName) {
		diags.Errorf("route %s: server_name %q is not a DNS name in lower case", r.Name, r.ServerName)
	}
}

// Of what people write into a route. Nothing in it is syntax of a rule, and nothing of a Go template, which Traefik
// makes of its files before it reads them.
var (
	plainRoutePath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	plainFile      = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	plainHeader    = regexp.MustCompile(`^[A-Za-z0-9-]+:[ -z|}~]*$`)
)

func checkExtras(r spec.TraefikRoute, diags *diag.List) {
	for _, p := range r.Paths {
		if !plainRoutePath.MatchString(p) {
			diags.Errorf("route %s: path %q does not begin with / or has another character than letters, digits and "+
				"._~-/", r.Name, p)
		}
	}
	for _, n := range r.AllowFrom {
		if _, err := netip.ParsePrefix(n); err != nil {
			diags.Errorf("route %s: %q is not a network", r.Name, n)
		}
	}
	for _, f := range []string{r.UsersFile, r.RootFile} {
		if f != "" && !plainFile.MatchString(f) {
			diags.Errorf("route %s: file %q is not an absolute path of letters, digits and ._-/", r.Name, f)
		}
	}
	for _, x := range r.Redirects {
		paths := plainRoutePath.MatchString(x.From) && plainRoutePath.MatchString(x.To)
		if !paths && !(slices.Contains(r.Hosts, x.From) && plainName(x.To)) || x.From == x.To {
			diags.Errorf("route %s: redirect from %q to %q: two paths, or a host of the route and another name", r.Name,
				x.From, x.To)
		}
	}
	for _, h := range slices.Concat(r.Headers, r.RequestHeaders) {
		if !plainHeader.MatchString(h) {
			diags.Errorf("route %s: header %q is not NAME: VALUE without {", r.Name, h)
		}
	}
}

// plainName lets nothing into a rule or a file that Traefik, its templates or YAML could read as syntax.
func plainName(n string) bool {
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(n) <= 253
}

func staticFile(s spec.Traefik) string { return filepath.Join(s.Dir, "traefik.yml") }

// coverFile is the static file of the one that stands in.
func coverFile(s spec.Traefik) string { return filepath.Join(s.Dir, "traefik-cover.yml") }

// coverDir is there while the one that stands in runs: it is its unit's RuntimeDirectory.
const coverDir = "/run/traefik-cover"

// nextFile is the static file while it is being checked.
func nextFile(s spec.Traefik) string { return filepath.Join(s.Dir, "traefik-next.yml") }

func dynamicDir(s spec.Traefik) string { return filepath.Join(s.Dir, "dynamic") }

func routesFile(s spec.Traefik) string { return filepath.Join(dynamicDir(s), "phoenix-routes.yml") }

// againFile holds nothing of use: that it changes makes Traefik look at its certificates again.
func againFile(s spec.Traefik) string { return filepath.Join(dynamicDir(s), "phoenix-again.yml") }
