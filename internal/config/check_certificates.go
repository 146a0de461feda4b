package config

import (
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// ownerName is user or user:group, by name or by number.
var ownerName = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,5})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,5}))?$`)

// certificates checks what containers ask to have issued.
func (c *checker) certificates() {
	for _, x := range c.cfg.Containers {
		commonNames, files := unique{}, unique{}
		for _, cert := range x.Certificates {
			c.certificate(x, cert)
			c.once(commonNames, cert.CommonName, cert.At, "common_name", "the certificate",
				"put all names in dns_names of one certificate")
			c.once(files, cert.CertPath, cert.At, "cert_path", "the file",
				"each certificate and each key has a file of its own")
			c.once(files, cert.KeyPath, cert.At, "key_path", "the file",
				"each certificate and each key has a file of its own")
		}
	}
}

func (c *checker) certificate(x *Container, cert *Certificate) {
	if cert.has("common_name") && !c.toldAt(cert.At, "common_name") &&
		c.certificateName(cert.At, "common_name", cert.CommonName) {
		c.commonName(cert.At, "common_name", cert.CommonName)
	}
	cert.CommonName = strings.ToLower(cert.CommonName)
	c.certificateNames(cert.At, "dns_names", cert.DNSNames)
	c.absolute(cert.At, "cert_path", cert.CertPath)
	if c.absolute(cert.At, "key_path", cert.KeyPath) && !x.ownsVolumeFor(cert.KeyPath) {
		c.warnf(cert.At, "key_path", "put it below a mount point of zfs_volumes",
			"the key is in none of the container's volumes: it is lost when the container is made again")
	}
	if cert.Owner != "" && !ownerName.MatchString(cert.Owner) {
		c.errorf(cert.At, "owner", "user or user:group, such as root:www-data", "%q is not an owner", cert.Owner)
	}
	life := c.cfg.Hypervisor.StepCA.LeafLifetime
	if life != 0 && cert.RenewBefore >= life {
		c.errorf(cert.At, "renew_before", "leave it out: a third of the real lifetime",
			"%s is not shorter than leaf_lifetime (%s): it would be renewed without end",
			time.Duration(cert.RenewBefore), time.Duration(life))
	}
}

// ownsVolumeFor reports whether a path inside is on storage that stays when the container is made again.
func (x *Container) ownsVolumeFor(p string) bool {
	for _, v := range x.Volumes {
		if v.MountPoint != "" && within(cleanPath(p), cleanPath(v.MountPoint)) {
			return true
		}
	}
	for _, m := range x.MountPoints {
		if m.ContainerPath != "" && within(cleanPath(p), cleanPath(m.ContainerPath)) {
			return true
		}
	}
	return false
}

// traefikServices checks the names and ports of what stands behind Traefik.
func (c *checker) traefikServices() {
	names, hosts := unique{}, unique{}
	proxy := false
	for _, x := range c.cfg.Containers {
		proxy = proxy || x.IsProxy()
	}
	for _, x := range c.cfg.Containers {
		t := x.TraefikService
		if t == nil {
			continue
		}
		if problem := labelProblem(t.Name, false); problem != "" && t.has("name") && !c.toldAt(t.At, "name") {
			c.errorf(t.At, "name", "one label of a DNS name, such as web; full names go into hosts",
				"%q cannot be a name: %s", t.Name, problem)
		}
		t.Name = strings.ToLower(t.Name)
		c.once(names, t.Name, t.At, "name", "the route", "give each container a name of its own")
		c.certificateNames(t.At, "hosts", t.Hosts)
		for i, h := range t.Hosts {
			c.once(hosts, h, t.At, element("hosts", i), "the host", "a name leads to one container")
			c.otherRoute(x, i, h)
		}
		if t.ServerName != "" && c.certificateName(t.At, "server_name", t.ServerName) && t.Scheme != "https" {
			c.errorf(t.At, "server_name", `add "scheme": "https", or remove it`, "nothing is verified without TLS")
		}
		c.serviceExtras(t)
		if !proxy {
			c.warnf(x.At, "traefik_service", "give one container the feature traefik",
				"no container runs Traefik: nothing leads to this one")
		}
	}
}

// Of what a route may have besides; Traefik's rules and templates have no syntax in them.
var (
	routePath    = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	routeFile    = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	headerOfText = regexp.MustCompile(`^[A-Za-z0-9-]+:[ -z|}~]*$`)
)

func (c *checker) serviceExtras(t *TraefikService) {
	check := func(key, value, what string, pattern *regexp.Regexp) {
		if !pattern.MatchString(value) {
			c.errorf(t.At, key, what, "%q is not taken here", value)
		}
	}
	for i, p := range t.Paths {
		check(element("paths", i), p, "a path such as /api, of letters, digits and ._~-/", routePath)
	}
	for i, h := range t.Headers {
		check(element("headers", i), h, `such as "X-Frame-Options: DENY", without {`, headerOfText)
	}
	for i, h := range t.RequestHeaders {
		check(element("request_headers", i), h, `such as "X-Scheme: https", without {`, headerOfText)
		if name, _, _ := strings.Cut(strings.ToLower(h), ":"); strings.HasPrefix(name, "x-forwarded-") ||
			slices.Contains([]string{"forwarded", "x-real-ip", "host", "connection", "upgrade"}, name) {
			c.errorf(t.At, element("request_headers", i), "take it out: the gateway and the proxy set it",
				"the header %s is not the file's to set", name)
		}
	}
	for i, r := range t.Redirects {
		c.redirect(t, element("redirects", i), r)
	}
	for i, from := range t.AllowFrom {
		if _, ok := network(from); !ok {
			c.errorf(t.At, element("allow_from", i), "such as 192.168.1.0/24", "%q is neither a network nor an address",
				from)
		}
	}
	for _, f := range []struct{ key, path string }{{"users_file", t.UsersFile}, {"ca_file", t.CAFile}} {
		if f.path != "" {
			check(f.key, f.path, "the absolute path of a file in the container of Traefik", routeFile)
		}
	}
	if t.CAFile != "" && t.Scheme != "https" {
		c.errorf(t.At, "ca_file", `add "scheme": "https", or remove it`, "nothing is verified without TLS")
	}
}

// redirects are those that are right; names are in lower case.
func (t *TraefikService) redirects() (out []spec.Redirect) {
	for _, text := range t.Redirects {
		f := strings.Fields(text)
		if len(f) != 2 {
			continue
		}
		for i := range f {
			if !strings.HasPrefix(f[i], "/") {
				f[i] = strings.ToLower(f[i])
			}
		}
		out = append(out, spec.Redirect{From: f[0], To: f[1]})
	}
	return out
}

// redirect checks FROM TO: both paths, or a name of the route and another name.
func (c *checker) redirect(t *TraefikService, key, text string) {
	f := strings.Fields(text)
	if len(f) != 2 {
		c.errorf(t.At, key, `such as "/old /new" or "www.example.org example.org"`, "%q is not FROM TO", text)
		return
	}
	from, to := f[0], f[1]
	switch {
	case routePath.MatchString(from) && routePath.MatchString(to):
		if within(path.Clean(to), path.Clean(from)) {
			c.errorf(t.At, key, "name a path outside of it", "%s is %s, or below it: the redirect has no end", to, from)
		}
	case strings.HasPrefix(from, "/") || strings.HasPrefix(to, "/") || hostNameProblem(strings.ToLower(to)) != "":
		c.errorf(t.At, key, "two paths of letters, digits and ._~-/, or two names", "%q is not taken here", text)
	case !slices.ContainsFunc(t.Hosts, func(h string) bool { return strings.EqualFold(h, from) }):
		c.errorf(t.At, key, `add it to "hosts": it needs a certificate`, "%s is none of the hosts of the route", from)
	case strings.EqualFold(from, to):
		c.errorf(t.At, key, "name another one", "%s is redirected to itself", from)
	}
}

// network reads a network, or an address as one.
func network(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	n, err := netip.ParsePrefix(text)
	return n, err == nil && n == n.Masked()
}

// otherRoute refuses a host that is derived from the name of another container's traefik_service.
func (c *checker) otherRoute(x *Container, i int, host string) {
	for _, z := range c.cfg.Hypervisor.DNS.Zones {
		for _, other := range c.cfg.Containers {
			if o := other.TraefikService; o != nil && other != x && o.Name != "" && fullName(o.Name, z.Name) == host {
				c.errorf(x.TraefikService.At, element("hosts", i), "a name leads to one container",
					"the host %s is that of container %s, at %s", host, other.ID, o.Source)
				return
			}
		}
	}
}
