package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"text/template"
)

// NewSite is what a configuration is begun with: a CA, a gateway, a proxy, and an application where one is wanted.
type NewSite struct {
	Zone      string       // home.internal
	Bridge    string       // vmbr1
	Address   netip.Prefix // the hypervisor's own on the bridge
	Upstreams []netip.Addr // where the resolver asks for all other names
	Storage   string       // of Proxmox; empty: volumes are kept with all else that phoenix owns
	Template  string       // archive of a Debian
	First     int          // 100: the containers are 101, 102, 103 and 201, and what they are cloned from is 900
	App       string       // name of an application; empty: there is none
}

// IDs are those that the site's containers have: what they are cloned from, the CA, the gateway, the proxy and the
// application.
func (s NewSite) IDs() (base, ca, gateway, proxy, app int) {
	return s.First + 800, s.First + 3, s.First + 1, s.First + 2, s.First + 101
}

// at is the address of a container on the bridge.
func (s NewSite) at(host int) netip.Addr {
	b := s.Address.Masked().Addr().As4()
	b[3] += byte(host)
	return netip.AddrFrom4(b)
}

// Text gives the two files, which are valid and can be read by people: keys that begin with _ are comments. Each
// container is closed by a firewall of its own.
func (s NewSite) Text() (containers, hypervisor []byte) {
	base, _, _, _, _ := s.IDs()
	data := map[string]any{"Site": s, "Base": base, "Bits": s.Address.Bits(), "Host": s.Address.Addr(),
		"Subnet": s.Address.Masked(), "Containers": s.containers(), "CAAt": s.at(103), "GatewayAt": s.at(101)}
	return render(newContainers, data), render(newHypervisor, data)
}

func render(t *template.Template, data any) []byte {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		panic(fmt.Sprintf("a template of this package: %v", err)) // it is executed by a test
	}
	return b.Bytes()
}

var newHypervisor = template.Must(template.New("hypervisor").Parse(`{
    "_about": "What this machine brings: the bridge, names, the CA. phoenix explain KEY says what a key does.",
    "network": {
        "interfaces": { "name": "{{.Site.Bridge}}", "address": "{{.Site.Address}}" },
        "default_subnet": "{{.Subnet}}"
    },
    "dns_server": {
        "_about": "Containers ask the hypervisor for names. Those of the zone are answered here, all others upstream.",
        "enabled": true,
        "upstream_servers": [{{range $i, $a := .Site.Upstreams}}{{if $i}}, {{end}}"{{$a}}"{{end}}],
        "authoritative_zones": [
            {
                "zone_name": "{{.Site.Zone}}",
                "records": [
                    { "hostname": "ca", "ip_internal": "{{.CAAt}}" },
                    { "hostname": "www", "ip_internal": "{{.GatewayAt}}" },
{{- if .Site.App}}
                    { "hostname": "{{.Site.App}}", "ip_internal": "{{.GatewayAt}}" },
{{- end}}
                    { "hostname": "traefik", "ip_internal": "{{.GatewayAt}}" }
                ]
            }
        ]
    },
    "step_ca": {
        "_about": "The root can sign for the zone and for this subnet only. After phoenix up: phoenix ca backup.",
        "dns_name": "ca.{{.Site.Zone}}"
    },
    "access": "none",
    "_access": "How the LAN reaches the gateway: forward, route or none; phoenix access says what each takes.",
    "watch": {
        "apply": "safe",
        "_notify": "To be told of failures add the key notify: phoenix explain watch.notify"
    }
}
`))

var newContainers = template.Must(template.New("containers").Parse(`{
    "_about": "Containers by id. Each has its own volume for its keys, and a firewall that allows what others need.",
    "lxc_configs": {
{{- range $i, $c := .Containers}}{{if $i}},{{end}}
        "{{.ID}}": {
            "_about": "{{.About}}",
            "name": "{{.Name}}",
{{- if .Order}}
            "start_at_boot": true,
            "boot_order": {{.Order}},
{{- end}}
            "memory_mb": 512,
            "cores": {{if .Order}}2{{else}}1{{end}},
{{- if .Order}}
            "clone_from_ctid": "{{$.Base}}",
{{- else}}
            "template": "{{$.Site.Template}}",
            "template_snapshot_name": "ready",
{{- end}}
{{- if $.Site.Storage}}
            "storage_pool": "{{$.Site.Storage}}",
            "storage_size_gb": 4,
{{- end}}
            "network_config": {
                "bridge": "{{$.Site.Bridge}}",
                "ip": "{{.At}}/{{$.Bits}}",
                "gw": "{{$.Host}}",
                "nameservers": "{{$.Host}}"
            },
            "features": [{{range $j, $f := .Features}}{{if $j}}, {{end}}"{{$f}}"{{end}}]
{{- if .Packages}},
            "packages": ["{{.Packages}}"]
{{- end}}
{{- if .Order}},
            "firewall": { "enabled": true{{if .Seen}}, "rules": [
                { "type": "in", "action": "ACCEPT", "proto": "tcp", "port": "443", "source": "{{$.Host}}" }
            ]{{end}} }
{{- end}}
{{- if .Needs}},
            "dependencies": ["{{.Needs}}"]
{{- end}}
{{- if .Mount}},
            "zfs_volumes": [
                {
                    "name": "ssl",{{if $.Site.Storage}} "pool": "{{$.Site.Storage}}",{{end}}
                    "size_gb": 1,
                    "mount_point": "{{.Mount}}"
                }
            ]
{{- end}}
{{- if .Service}},
            "traefik_service": { "name": "{{.Service}}", "port": 80 }
{{- end}}
        }
{{- end}}
    }
}
`))

// newContainer is one container of a new site; one without an order is what the others are cloned from.
type newContainer struct {
	ID, Order         int
	Name, About       string
	At                netip.Addr
	Features          []string
	Packages, Service string
	Needs             int // the container that it depends on
	Mount             string
	Seen              bool // health asks it from the hypervisor
}

func (s NewSite) containers() []newContainer {
	base, ca, gateway, proxy, app := s.IDs()
	list := []newContainer{
		{ID: base, Name: "base", At: s.at(200), Features: []string{FeatureBase},
			About: "The others are cloned from this one; it never runs."},
		{ID: ca, Order: 1, Name: "step-ca", At: s.at(103), Features: []string{FeatureBase, FeatureStepCA},
			Mount: "/etc/step-ca/ssl", About: "The certificate authority, ACME at port 9000. Its volume has the root."},
		{ID: gateway, Order: 2, Name: "nginx", At: s.at(101), Needs: ca, Mount: "/etc/nginx/ssl",
			Features: []string{FeatureBase, FeatureTrustedCA, FeatureGateway},
			About:    "The gateway: all that comes from outside comes here first."},
		{ID: proxy, Order: 3, Name: "traefik", At: s.at(102), Needs: ca, Mount: "/etc/traefik/certs", Seen: true,
			Features: []string{FeatureBase, FeatureTrustedCA, FeatureTraefik},
			About:    "The internal proxy: a route to each container with a traefik_service."},
	}
	if s.App != "" {
		list = append(list, newContainer{ID: app, Order: 4, Name: s.App, At: s.at(201), Needs: ca, Service: s.App,
			Features: []string{FeatureBase, FeatureTrustedCA}, Packages: "nginx-light",
			About: "An application: here Debian's nginx with its first page. Put your own in its place."})
	}
	return list
}
