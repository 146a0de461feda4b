package audit

import (
	"encoding/json"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// caFiles are where step-ca's configuration is, with phoenix and with the old scripts.
var caFiles = []string{"/etc/step-ca/ssl/config/ca.json", "/etc/step-ca/config/ca.json", "/root/.step/config/ca.json",
	"/home/step/.step/config/ca.json"}

// authority looks at step-ca's configuration: who may ask, and for which names.
func (s *inside) authority() {
	if !s.CA {
		return
	}
	for _, name := range caFiles {
		content, ok := text(s.h, name)
		var ca struct {
			Authority struct {
				Provisioners []struct{ Type, Name string }
				Policy       struct {
					X509 struct{ Allow struct{ DNS []string } }
				}
			}
		}
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(content), &ca); err != nil {
			s.Unseen = append(s.Unseen, Unseen{s.object, name + " cannot be read: " + err.Error()})
			continue
		}
		for _, p := range ca.Authority.Provisioners {
			if p.Type != "ACME" {
				s.add(ruleProvisioner, s.object, "phoenix apply "+s.ID+" removes it; where phoenix does not keep the "+
					"CA, take it out of ca.json", "%s has the provisioner %q of type %s", name, p.Name, p.Type)
			}
		}
		names := ca.Authority.Policy.X509.Allow.DNS
		wild := slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "*") })
		if len(names) == 0 || wild {
			s.add(rulePolicy, s.object, "authority.policy.x509.allow.dns with each name by itself, or phoenix apply "+
				s.ID, "%s lets the CA sign %s", name,
				map[bool]string{true: "whatever fits a wildcard", false: "any name"}[wild])
		}
	}
}

// block is one block of Nginx's configuration.
type block struct {
	name       string
	directives [][]string
	blocks     []*block
}

// token is a word of Nginx's configuration, in quotes or not, or one of { } ;.
var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|#[^\n]*|[{};]|[^\s{};]+`)

// parseNginx reads as much as is there; it tells no mistakes.
func parseNginx(text string) *block {
	top := &block{}
	stack := []*block{top}
	var words []string
	for _, t := range token.FindAllString(text, -1) {
		at := stack[len(stack)-1]
		switch {
		case t[0] == '#':
		case t == ";":
			at.directives = append(at.directives, words)
			words = nil
		case t == "{":
			inner := &block{name: strings.Join(words, " ")}
			at.blocks = append(at.blocks, inner)
			stack, words = append(stack, inner), nil
		case t == "}":
			stack, words = stack[:max(1, len(stack)-1)], nil
		default:
			words = append(words, strings.Trim(t, `"'`))
		}
	}
	return top
}

// get is a directive's last value here; empty: there is none.
func (b *block) get(name string) string {
	out := ""
	for _, d := range b.directives {
		if len(d) > 1 && d[0] == name {
			out = strings.Join(d[1:], " ")
		}
	}
	return out
}

// tls reports whether a server listens with TLS.
func (b *block) tls() bool {
	return slices.ContainsFunc(b.directives,
		func(d []string) bool {
			return len(d) > 0 && d[0] == "listen" && slices.Contains(d, "ssl")
		}) || b.get("ssl") == "on"
}

// nginxState is what an outer block hands down.
type nginxState struct{ protocols, verify string }

// nginx looks at what Nginx speaks and whom it verifies. Directives of http count for the servers of all files.
func (s *inside) nginx() {
	paths, contents := texts(s.h, "/etc/nginx/nginx.conf", "/etc/nginx/conf.d", "/etc/nginx/sites-enabled")
	parsed, outer := make([]*block, len(paths)), nginxState{}
	for i := range paths {
		parsed[i] = parseNginx(contents[i])
		for _, b := range append(slices.Clone(parsed[i].blocks), parsed[i]) {
			if b.name == "http" || b == parsed[i] {
				outer = outer.with(b)
			}
		}
	}
	for i, p := range paths {
		s.nginxBlock(p, parsed[i], outer)
	}
}

func (n nginxState) with(b *block) nginxState {
	if v := b.get("ssl_protocols"); v != "" {
		n.protocols = v
	}
	if v := b.get("proxy_ssl_verify"); v != "" {
		n.verify = v
	}
	return n
}

func (s *inside) nginxBlock(file string, b *block, outer nginxState) {
	now := outer.with(b)
	if b.name == "server" && b.tls() && config.OldTLS(now.protocols) {
		s.add(ruleProtocol, s.object, "ssl_protocols TLSv1.2 TLSv1.3;", "%s: the server %s speaks %s", file,
			b.get("server_name"), now.protocols)
	}
	if to := b.get("proxy_pass"); strings.HasPrefix(to, "https://") && now.verify != "on" {
		s.add(ruleNoVerify, s.object, "proxy_ssl_verify on; with proxy_ssl_trusted_certificate and proxy_ssl_name",
			"%s: %s goes to an upstream over TLS that is not verified", file, b.name)
	}
	for _, inner := range b.blocks {
		s.nginxBlock(file, inner, now)
	}
}

// What Traefik's files say, in YAML, TOML or JSON.
var (
	traefikSkips     = regexp.MustCompile(`(?i)["']?insecureSkipVerify["']?\s*[:=]\s*["']?true`)
	traefikInsecure  = regexp.MustCompile(`(?i)(?:^|["'\s{.])insecure["']?\s*[:=]\s*["']?true`)
	traefikDashboard = regexp.MustCompile(`(?i)["']?dashboard["']?\s*[:=]\s*["']?true`)
	traefikAuth      = regexp.MustCompile(`(?i)basicAuth|digestAuth|forwardAuth|ipAllowList|ipWhiteList`)
	traefikVersion   = regexp.MustCompile(`(?i)["']?minVersion["']?\s*[:=]\s*["']?(VersionTLS1[01])\b`)
)

// traefik looks at all of Traefik's files together: one may protect what another one shows.
func (s *inside) traefik() {
	var all []string
	at := map[*regexp.Regexp]string{}
	_, _ = walk(s.h, "/etc/traefik", func(f file) { // without the directory there is no Traefik; look has told the rest
		known := slices.Contains([]string{".yml", ".yaml", ".toml", ".json"}, path.Ext(f.path)) &&
			path.Base(f.path) != "acme.json"
		content, ok := "", false
		if known && f.meta.Mode&fs.ModeType == 0 {
			content, ok = text(s.h, f.path)
		}
		if !ok {
			return
		}
		content = withoutComments(content)
		all = append(all, content)
		for _, p := range []*regexp.Regexp{traefikSkips, traefikInsecure, traefikDashboard, traefikVersion} {
			if at[p] == "" && p.MatchString(content) {
				at[p] = f.path
			}
		}
	})
	if p := at[traefikSkips]; p != "" {
		s.add(ruleNoVerify, s.object, "remove insecureSkipVerify, and give the root in rootCAs",
			"%s: Traefik does not verify its backends", p)
	}
	if p := at[traefikVersion]; p != "" {
		s.add(ruleProtocol, s.object, "minVersion: VersionTLS12", "%s: Traefik speaks TLS before 1.2", p)
	}
	if p := at[traefikInsecure]; p != "" {
		s.add(ruleDashboard, s.object, "api.insecure: false", "%s: Traefik's API and dashboard are open on :8080", p)
	} else if p := at[traefikDashboard]; p != "" && !traefikAuth.MatchString(strings.Join(all, "\n")) {
		s.add(ruleDashboard, s.object, "dashboard: false, or a router for it with basicAuth",
			"%s: Traefik's dashboard has no password", p)
	}
}

func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
