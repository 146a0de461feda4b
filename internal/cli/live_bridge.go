package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// The proxy is a restart and some orders of certificates away from its new self: seconds in which the gateway would
// have nobody to ask. So a second proxy takes over for that time: in the same container, with the new routes, on a port
// of its own, in memory, and with a certificate that lay in the shared directory and is still good. The gateway is led
// there and back with reloads.
const (
	bridgeUnit      = "phoenix-bridge"
	bridgeDirectory = "/run/phoenix-bridge"
	bridgePort      = 18443
	bridgeProxy     = "/usr/local/bin/traefik"
)

// standInPair is a certificate with what leads to its root, and its key, as PEM.
type standInPair struct{ chain, key []byte }

// bridgeUp starts the second proxy and sees that the gateway reaches it. Why it cannot be had is no error: then
// connections wait.
func (m *mover) bridgeUp(ctx context.Context) (up bool, why error) {
	t, ok := specOf[spec.Traefik](m.objects, object.NewAddress(spec.KindTraefik, m.old.proxy, spec.TraefikConfig))
	address, okAddress := addressOf(m.objects, m.old.proxy)
	if !ok || !okAddress || m.old.gateway == "" {
		return false, fmt.Errorf("there is no gateway with a proxy behind it")
	}
	hosts := hostsOf(t)
	pairs, err := m.standIns(hosts)
	if err != nil {
		return false, err
	}
	in := m.inside(m.old.proxy)
	if _, err := in.Attach(ctx, m.host, host.Command{}, "systemctl", "is-active", "--quiet", bridgeUnit); err != nil {
		if err := m.bridgeStart(ctx, t, pairs); err != nil {
			return false, err
		}
	}
	return true, m.bridgeAnswers(ctx, address, hosts)
}

// bridgeStart puts its files into memory and starts it; systemd starts it again should it end.
func (m *mover) bridgeStart(ctx context.Context, t spec.Traefik, pairs []standInPair) error {
	files := map[string][]byte{"traefik.yml": bridgeStatic(), "routes.yml": bridgeRoutes(t, len(pairs))}
	for i, p := range pairs {
		files[fmt.Sprintf("%d.crt", i)], files[fmt.Sprintf("%d.key", i)] = p.chain, p.key
	}
	in := m.inside(m.old.proxy)
	for name, data := range files {
		const put = `umask 077; mkdir -p "$1" && cat >"$1/$2"`
		if _, err := in.Attach(ctx, m.host, host.Command{Stdin: data, Mutates: true}, "sh", "-c", put, "sh",
			bridgeDirectory, name); err != nil {
			return err
		}
	}
	_, err := in.Attach(ctx, m.host, host.Command{Mutates: true}, "systemd-run", "--quiet", "--collect",
		"--unit="+bridgeUnit,
		"--property=Restart=always", "--property=RestartSec=300ms", bridgeProxy,
		"--configFile="+bridgeDirectory+"/traefik.yml")
	return err
}

const bridgeLimit = 15 * time.Second

// bridgeAnswers waits until it serves every name, and then looks from where the gateway is.
func (m *mover) bridgeAnswers(ctx context.Context, address netip.Addr, hosts []string) error {
	found, err := m.inventory()
	if err != nil {
		return err
	}
	at := netip.AddrPortFrom(address, bridgePort).String()
	end := time.Now().Add(bridgeLimit)
	for {
		err := m.bridgeServes(ctx, at, hosts, found)
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	probe := fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", address, bridgePort)
	_, err = m.inside(m.old.gateway).Attach(ctx, m.host, host.Command{}, "timeout", "3", "bash", "-c", probe)
	return err
}

func (m *mover) bridgeServes(ctx context.Context, at string, hosts []string, found *inventory) error {
	for _, name := range hosts {
		chain, err := m.served(ctx, at, name)
		if err != nil {
			return err
		}
		if err := found.good(chain[0], name); err != nil {
			return err
		}
	}
	return nil
}

// bridgeDown ends it: it answers what it has begun to.
func (m *mover) bridgeDown(ctx context.Context) error {
	if !m.bridged(ctx) {
		return nil
	}
	const end = `systemctl stop ` + bridgeUnit + ` 2>/dev/null; rm -rf "$1"; ! systemctl is-active --quiet ` +
		bridgeUnit
	_, err := m.inside(m.old.proxy).Attach(ctx, m.host, host.Command{Mutates: true}, "sh", "-c", end, "sh",
		bridgeDirectory)
	return err
}

// bridged is whether the second proxy was left running.
func (m *mover) bridged(ctx context.Context) bool {
	return m.old.proxy != "" && m.has(ctx, m.old.proxy, bridgeDirectory)
}

// detour is the gateway's objects with the second proxy as upstream.
func (m *mover) detour(objects []object.Object) []object.Object {
	out := slices.Clone(objects)
	for i, o := range out {
		var n spec.Nginx
		if o.Address.Kind() != spec.KindNginx || decode(o.Spec, &n) != nil {
			continue
		}
		n.Sites = slices.Clone(n.Sites)
		for j, site := range n.Sites {
			if h, _, err := net.SplitHostPort(site.Upstream); err == nil {
				n.Sites[j].Upstream = net.JoinHostPort(h, fmt.Sprint(bridgePort))
			}
		}
		if raw, err := json.Marshal(n); err == nil {
			out[i].Spec = raw
		}
	}
	return out
}

func hostsOf(t spec.Traefik) []string {
	var out []string
	for _, r := range t.Routes {
		out = append(out, r.Hosts...)
	}
	if t.OwnName != "" {
		out = append(out, t.OwnName)
	}
	return out
}

// standIns are pairs of the shared directory that are good for all the names.
func (m *mover) standIns(hosts []string) ([]standInPair, error) {
	found, err := m.inventory()
	if err != nil {
		return nil, err
	}
	var out []standInPair
	var used []*x509.Certificate
	for _, name := range hosts {
		if slices.ContainsFunc(used, func(c *x509.Certificate) bool { return c.VerifyHostname(name) == nil }) {
			continue
		}
		c, key := found.pairFor(name)
		if c == nil {
			return nil, fmt.Errorf("no certificate in %s is good for %s", m.old.shared, name)
		}
		var chain bytes.Buffer
		for _, x := range append([]*x509.Certificate{c}, found.authorities()...) {
			_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}) // a buffer takes all
		}
		used, out = append(used, c), append(out, standInPair{chain.Bytes(), key})
	}
	return out, nil
}

// authorities are the intermediates.
func (v *inventory) authorities() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range v.certs {
		if c.IsCA && c.CheckSignatureFrom(c) != nil && !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// good verifies a certificate for a name, under the directory's own roots.
func (v *inventory) good(c *x509.Certificate, name string) error {
	roots, inters := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range v.roots() {
		roots.AddCert(r)
	}
	for _, i := range v.authorities() {
		inters.AddCert(i)
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, DNSName: name})
	return err
}

func (v *inventory) pairFor(name string) (*x509.Certificate, []byte) {
	for _, c := range v.certs {
		if c.IsCA || v.good(c, name) != nil {
			continue
		}
		for _, k := range v.keys {
			if publicDigest(k.public) == publicDigest(c.PublicKey) {
				return c, k.text
			}
		}
	}
	return nil, nil
}

// bridgeStatic is what the second proxy reads at its start (Traefik 3). Files are JSON, which is YAML too.
func bridgeStatic() []byte {
	return marshal(map[string]any{
		"global":      map[string]any{"checkNewVersion": false, "sendAnonymousUsage": false},
		"entryPoints": map[string]any{"bridge": map[string]any{"address": fmt.Sprintf(":%d", bridgePort)}},
		"ping":        map[string]any{"manualRouting": true},
		"providers":   map[string]any{"file": map[string]any{"filename": bridgeDirectory + "/routes.yml"}},
	})
}

// bridgeRoutes are the proxy's routes, with pairs of the shared directory.
func bridgeRoutes(t spec.Traefik, pairs int) []byte {
	routers, services, transports := map[string]any{}, map[string]any{}, map[string]any{}
	router := func(hosts []string, target string) any {
		return map[string]any{"rule": "Host(`" + strings.Join(hosts, "`) || Host(`") + "`)", "service": target,
			"tls": map[string]any{}}
	}
	for _, r := range t.Routes {
		balancer := map[string]any{"servers": []any{map[string]any{"url": r.URL}}}
		if strings.HasPrefix(r.URL, "https://") {
			balancer["serversTransport"] = r.Name
			transports[r.Name] = map[string]any{"rootCAs": []string{t.ACME.RootFile}, "serverName": r.ServerName}
		}
		services[r.Name] = map[string]any{"loadBalancer": balancer}
		routers[r.Name] = router(r.Hosts, r.Name)
	}
	if t.OwnName != "" {
		routers["phoenix-own"] = router([]string{t.OwnName}, "ping@internal")
	}
	http := map[string]any{"routers": routers}
	if len(services) > 0 {
		http["services"] = services
	}
	if len(transports) > 0 {
		http["serversTransports"] = transports
	}
	var certificates []any
	for i := range pairs {
		certificates = append(certificates, map[string]any{"certFile": fmt.Sprintf("%s/%d.crt", bridgeDirectory, i),
			"keyFile": fmt.Sprintf("%s/%d.key", bridgeDirectory, i)})
	}
	return marshal(map[string]any{"http": http, "tls": map[string]any{"certificates": certificates}})
}

func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps, lists and strings always encode
	}
	return raw
}
