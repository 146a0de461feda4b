// Package nginx keeps the gateway's nginx configured. It owns nginx.conf, and splits it in objects, since
// nginx must answer the challenges for the very certificate that its TLS side needs:
//
//   - base: /etc/nginx/nginx.conf. Challenges, redirects to https, and a TLS port that rejects every handshake, so that nobody
//     is ever served a self-signed certificate. It starts without any certificate.
//   - tls: /etc/nginx/phoenix-tls/tls.conf, which nginx.conf includes. One TLS server for each name.
//   - own: copies of the users' own snippets, which both include. Only what nginx takes gets there.
//
// Each part tells the digest of its loaded self under a name of its own on port 80, to the loopback only: what counts
// is what the running nginx has loaded, not what the file says. (Not on a unix socket: one that a killed nginx leaves
// behind keeps the next from starting.) Names and modes of nginx's own things are those of Debian's package.
package nginx

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps nginx objects true. The zero value is ready.
type Driver struct{}

// New gives the driver for the engine.
func New() provider.Erased { return provider.New[spec.Nginx, Status](Driver{}) }

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Nginx, diag.List) {
	s, diags := provider.Decode[spec.Nginx](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if s.Part != spec.NginxBase && s.Part != spec.NginxTLS && s.Part != spec.NginxOwn {
		diags.Errorf("part %q is none of %q, %q and %q", s.Part, spec.NginxBase, spec.NginxTLS, spec.NginxOwn)
	}
	for _, p := range []struct{ key, path string }{
		{"dir", s.Dir}, {"webroot", s.Webroot}, {"certificate", s.Certificate}, {"key", s.Key},
		{"root_file", s.RootFile},
	} {
		if !plainPath(p.path) {
			diags.Errorf("%s %q is not an absolute path of letters, digits and ._-/", p.key, p.path)
		}
	}
	checkSites(s.Sites, &diags)
	return s, diags
}

// checkSites lets nothing into the configuration that nginx could read as syntax.
func checkSites(sites []spec.NginxSite, diags *diag.List) {
	seen := map[string]bool{}
	for _, site := range sites {
		if !plainName(site.Name) {
			diags.Errorf("site %q is not a DNS name in lower case", site.Name)
		}
		if seen[site.Name] {
			diags.Errorf("site %q is there twice", site.Name)
		}
		seen[site.Name] = true
		for _, at := range []string{site.Upstream, site.Cover, site.Challenge} {
			if _, err := netip.ParseAddrPort(at); at != "" && err != nil {
				diags.Errorf("site %s: %q is not an IP address with a port; nginx would not start while a name does "+
					"not resolve", site.Name, at)
			}
		}
	}
}

const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"

func plainName(n string) bool {
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.Trim(label, letters) != "" {
			return false
		}
	}
	return len(n) <= 253
}

func plainPath(p string) bool {
	return filepath.IsAbs(p) && filepath.Clean(p) == p && strings.Trim(strings.ToLower(p), letters+"._/") == ""
}

// Where Debian's nginx has its things.
const (
	pidFile = "/run/nginx.pid"
	logDir  = "/var/log/nginx"
)

func confFile(s spec.Nginx) string { return filepath.Join(s.Dir, "nginx.conf") }

func tlsDir(s spec.Nginx) string { return filepath.Join(s.Dir, "phoenix-tls") }

func tlsFile(s spec.Nginx) string { return filepath.Join(tlsDir(s), "tls.conf") }

// nextDir holds a configuration while it is being checked.
func nextDir(s spec.Nginx) string { return filepath.Join(s.Dir, "phoenix-next") }

// partFile is the file that the part owns.
func partFile(s spec.Nginx) string {
	if s.Part == spec.NginxTLS {
		return tlsFile(s)
	}
	return confFile(s)
}
