package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// loadedName is the server name under which a part tells its digest. .invalid never resolves (RFC 6761, section 6.4).
func loadedName(part string) string { return part + ".loaded.phoenix.invalid" }

// rendered is one part's file, and the digest that an nginx which has loaded it tells.
type rendered struct{ text, digest string }

// render writes the part. trust is the digest of the root certificate's file: nginx reads that file when it loads the
// part.
func render(s spec.Nginx, trust string) rendered {
	v := valuesOf(s)
	tmpl := baseTemplate
	if s.Part == spec.NginxTLS {
		tmpl, v.Trust = tlsTemplate, trust
	}
	sum := sha256.Sum256([]byte(execute(tmpl, v)))
	v.Digest = hex.EncodeToString(sum[:16])
	return rendered{text: execute(tmpl, v), digest: v.Digest}
}

// renderBase writes the base with another TLS part than the one in place, to check it.
func renderBase(s spec.Nginx, include string) string {
	v := valuesOf(s)
	v.Include = include
	return execute(baseTemplate, v)
}

func execute(t *template.Template, v values) string {
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		panic(err) // the templates are constants and values has what they name: a mistake in this file
	}
	return b.String()
}

type values struct {
	spec.Nginx
	Loaded, Digest, Trust, Include string
	Own                            string // directory of the copies of the users' snippets
	Pid, Logs                      string
	Groups                         []group
}

// group is the sites whose challenges go the same way.
type group struct {
	Challenge string
	Names     []string
}

func valuesOf(s spec.Nginx) values {
	s.Sites = slices.SortedFunc(slices.Values(s.Sites),
		func(a, b spec.NginxSite) int { return cmp.Compare(a.Name, b.Name) })
	v := values{Nginx: s, Loaded: loadedName(s.Part), Include: filepath.Join(tlsDir(s), "*.conf"), Pid: pidFile,
		Logs: logDir, Own: copiesDir(s)}
	for _, site := range s.Sites {
		i := slices.IndexFunc(v.Groups, func(g group) bool { return g.Challenge == site.Challenge })
		if i < 0 {
			i = len(v.Groups)
			v.Groups = append(v.Groups, group{Challenge: site.Challenge})
		}
		v.Groups[i].Names = append(v.Groups[i].Names, site.Name)
	}
	slices.SortFunc(v.Groups, func(a, b group) int { return cmp.Compare(a.Challenge, b.Challenge) })
	return v
}

func parse(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{"upstream": upstreamName}).
		Option("missingkey=error").Parse(text))
}

func upstreamName(site string) string {
	return "phoenix_" + strings.NewReplacer(".", "_", "-", "__").Replace(site)
}

const loadedServer = `
	# Tells phoenix, on this machine only, what is loaded.
	server {
		listen 80;
		server_name {{.Loaded}};
		access_log off;
		if ($remote_addr != 127.0.0.1) { return 404; }
		return 200 "{{.Digest}}";
	}
`

var baseTemplate = parse("base", `# Written by phoenix; changes made here are undone.
user www-data;
worker_processes auto;
worker_rlimit_nofile 8192;
pid {{.Pid}};
error_log {{.Logs}}/error.log warn;

events {
	worker_connections 2048;
}

http {
	access_log {{.Logs}}/access.log;
	default_type text/plain;
	server_tokens off;
	sendfile on;
	tcp_nopush on;
	client_max_body_size 0;
	# For names of any length and any number: the same at all times, for this file is checked, and loaded, beside whatever
	# names the TLS part had before. A bucket has room for 14 of the longest, so that a small table is found at once.
	server_names_hash_bucket_size 4096;
	server_names_hash_max_size 4096;

	# Of all names: the versions are agreed on before the name is known.
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_prefer_server_ciphers off;
	ssl_session_cache shared:phoenix:2m;
	ssl_session_timeout 1h;
	ssl_session_tickets off;
`+loadedServer+`
	# Names that nobody knows.
	server {
		listen 80 default_server;
		server_name _;
		location ^~ /.well-known/acme-challenge/ { root {{.Webroot}}; try_files $uri =404; }
		location / { return 404 "no such site\n"; }
	}
	server {
		listen 443 ssl default_server;
		server_name _;
		ssl_reject_handshake on;
	}
{{range .Groups}}
	server {
		listen 80;
		server_name{{range .Names}} {{.}}{{end}};
		location ^~ /.well-known/acme-challenge/ { root {{$.Webroot}}; try_files $uri {{if .Challenge}}@challenge{{else}}=404{{end}}; }
{{- if .Challenge}}
		location @challenge {
			proxy_pass http://{{.Challenge}};
			proxy_set_header Host $host;
			proxy_connect_timeout 5s;
			proxy_read_timeout 10s;
		}
{{- end}}
		location / { return 301 https://$host$request_uri; }
	}
{{end}}
	include {{.Own}}/http/*.conf;
	include {{.Include}};
}
`)

// An upstream for each name, for nginx takes connections and TLS sessions of one upstream for another name's too, and
// then the certificate is not the one for the name.
var tlsTemplate = parse("tls", `# Written by phoenix; changes made here are undone.
# Trusted root: {{.Trust}}
`+loadedServer+`
	map $http_upgrade $phoenix_connection {
		default upgrade;
		'' '';
	}
	# gRPC, which needs HTTP/2 on all of its way and trailers: proxy_pass has neither.
	map "$server_protocol $http_content_type" $phoenix_grpc {
		default 0;
		"~^HTTP/2.* application/grpc($|[+;])" 1;
	}

	ssl_certificate {{.Certificate}};
	ssl_certificate_key {{.Key}};

	proxy_ssl_verify on;
	proxy_ssl_verify_depth 3;
	proxy_ssl_trusted_certificate {{.RootFile}};
	proxy_ssl_server_name on;
	proxy_ssl_protocols TLSv1.2 TLSv1.3;
	proxy_http_version 1.1;
	proxy_connect_timeout 5s;

	# What Traefik and a backend allow is not cut here: an hour without a byte either way, bodies of any size straight through,
	# 64 kB of headers (logins by OpenID Connect have large ones).
	client_body_timeout 1h;
	send_timeout 1h;
	proxy_send_timeout 1h;
	proxy_read_timeout 1h;
	proxy_buffering off;
	proxy_request_buffering off;
	large_client_header_buffers 4 64k;
	proxy_buffer_size 64k;
	proxy_buffers 4 64k;

	# What a client says about itself is not passed on.
	proxy_set_header Host $host;
	proxy_set_header X-Real-IP $remote_addr;
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Forwarded-Host $host;
	proxy_set_header X-Forwarded-Proto https;
	proxy_set_header X-Forwarded-Port 443;
	proxy_set_header Forwarded "";
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header Connection $phoenix_connection;

	# The same for gRPC.
	grpc_ssl_verify on;
	grpc_ssl_verify_depth 3;
	grpc_ssl_trusted_certificate {{.RootFile}};
	grpc_ssl_server_name on;
	grpc_ssl_protocols TLSv1.2 TLSv1.3;
	grpc_connect_timeout 5s;
	grpc_send_timeout 1h;
	grpc_read_timeout 1h;
	grpc_buffer_size 64k;
	grpc_set_header Host $host;
	grpc_set_header X-Real-IP $remote_addr;
	grpc_set_header X-Forwarded-For $remote_addr;
	grpc_set_header X-Forwarded-Host $host;
	grpc_set_header X-Forwarded-Proto https;
	grpc_set_header X-Forwarded-Port 443;
	grpc_set_header Forwarded "";
{{range .Sites}}
{{- if .Upstream}}
	upstream {{upstream .Name}} {
		server {{.Upstream}} max_fails=0;
{{- if .Cover}}
		server {{.Cover}} backup max_fails=0; # there while the other one is started anew
{{- end}}
		keepalive 8;
	}
	upstream grpc_{{upstream .Name}} { # of its own, for idle connections of both kinds would be taken for one another
		server {{.Upstream}} max_fails=0;
{{- if .Cover}}
		server {{.Cover}} backup max_fails=0;
{{- end}}
		keepalive 8;
	}
	server {
		listen 443 ssl http2;
		server_name {{.Name}};
		location / {
			proxy_ssl_name {{.Name}};
			proxy_pass https://{{upstream .Name}};
			grpc_ssl_name {{.Name}};
			if ($phoenix_grpc) {
				grpc_pass grpcs://grpc_{{upstream .Name}};
			}
		}
		include {{$.Own}}/{{.Name}}/*.conf;
	}
{{- else}}
	server {
		listen 443 ssl http2;
		server_name {{.Name}};
		location / { return 404 "{{.Name}} leads nowhere: no container has a route for it\n"; }
	}
{{- end}}
{{end}}`)
