package traefik

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Names inside Traefik's configuration.
const (
	resolver  = "phoenix"
	reserved  = "phoenix-"
	ownRouter = reserved + "own"
	localAPI  = reserved + "api"
	entryWeb  = "web"
	entryTLS  = "websecure"
	entryHere = "local"
	// localAddress is where the container itself asks Traefik what it has loaded; nobody else reaches it.
	localAddress = "127.0.0.1:8079"
	servedAt     = "127.0.0.1:443"
	coverAddress = "127.0.0.1:8078"
)

// object is a JSON object; encoding/json sorts its keys, so that a spec always gives the same bytes.
type obj map[string]any

func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(err) // maps, lists, strings and numbers always encode
	}
	return b.Bytes()
}

// renderStatic is what Traefik reads once, at its start (pkg/config/static).
func renderStatic(s spec.Traefik) []byte {
	return static(s, s.Storage, obj{entryWeb: obj{"address": ":80"}, entryTLS: secure(s, ":443"),
		entryHere: obj{"address": localAddress}})
}

// secure is the entry point of requests. A body may take as long to come as one that is never at rest for an hour: the
// gateway ends those, and Traefik's limit, which is on the whole request, would end a long upload (60 s where nothing
// is said).
func secure(s spec.Traefik, address string) obj {
	entry := obj{"address": address,
		"transport": obj{"respondingTimeouts": obj{"readTimeout": "24h", "writeTimeout": "0s"}}}
	if len(s.Gateways) > 0 {
		entry["forwardedHeaders"] = obj{"trustedIPs": s.Gateways}
	}
	return entry
}

// renderCover is the same for the one that stands in: other ports, and a storage that goes with it.
func renderCover(s spec.Traefik) []byte {
	return static(s, filepath.Join(coverDir, "acme.json"), obj{
		entryWeb: obj{"address": "127.0.0.1:8081"}, entryTLS: secure(s, fmt.Sprintf(":%d", spec.CoverPort)),
		entryHere: obj{"address": coverAddress},
	})
}

func static(s spec.Traefik, storage string, entries obj) []byte {
	acme := obj{
		"caServer": s.ACME.Directory, "caCertificates": []string{s.ACME.RootFile}, "storage": storage,
		"keyType": "EC256", "certificatesDuration": max(1, int(time.Duration(s.Lifetime)/time.Hour)),
	}
	if s.Challenge == spec.TLSALPN01 {
		acme["tlsChallenge"] = obj{}
	} else {
		acme["httpChallenge"] = obj{"entryPoint": entryWeb}
	}
	return encode(obj{
		"global": obj{"checkNewVersion": false, "sendAnonymousUsage": false},
		"log":    obj{"level": "INFO"}, "entryPoints": entries,
		"api":  obj{"dashboard": false, "insecure": false},
		"ping": obj{"entryPoint": entryHere},
		// Traefik's own 2 s between two readings of a provider would be waited for by every apply.
		"providers": obj{"providersThrottleDuration": "50ms",
			"file": obj{"directory": dynamicDir(s), "watch": true}},
		"certificatesResolvers": obj{resolver: obj{"acme": acme}},
	})
}

// renderRoutes is what Traefik reads whenever it changes (pkg/config/dynamic). users is a digest of the files with
// users, which Traefik reads when it reads this one.
func renderRoutes(s spec.Traefik, users string) []byte {
	routers := obj{localAPI: obj{"entryPoints": []string{entryHere}, "rule": "PathPrefix(`/api`)",
		"service": "api@internal"}}
	services, transports, wares := obj{}, obj{}, obj{}
	if users != "" {
		wares[reserved+"users"] = obj{"headers": obj{"customRequestHeaders": obj{"X-Phoenix-Users": users}}}
	}
	for _, r := range s.Routes {
		to := router(r.Hosts, r.Name)
		to["rule"] = rule(r)
		if names := middlewares(s, r, wares); len(names) > 0 {
			to["middlewares"] = names
		}
		routers[r.Name] = to
		balancer := obj{"servers": []obj{{"url": r.URL}}}
		if strings.HasPrefix(r.URL, "https://") {
			balancer["serversTransport"] = r.Name
			transport := obj{"rootCAs": []string{cmp.Or(r.RootFile, s.ACME.RootFile)}}
			if r.ServerName != "" {
				transport["serverName"] = r.ServerName
			}
			transports[r.Name] = transport
		}
		services[r.Name] = obj{"loadBalancer": balancer}
	}
	if s.OwnName != "" {
		// Its dashboard and API tell every route to whoever gets here; that it answers is all that others need to know.
		routers[ownRouter] = router([]string{s.OwnName}, "ping@internal")
	}
	http := obj{"routers": routers}
	if len(services) > 0 { // Traefik takes no empty ones
		http["services"] = services
	}
	if len(transports) > 0 {
		http["serversTransports"] = transports
	}
	if len(wares) > 0 {
		http["middlewares"] = wares
	}
	// A name without a certificate is refused: Traefik would answer with one that it signed itself.
	tls := obj{"options": obj{"default": obj{"minVersion": "VersionTLS12", "sniStrict": true}}}
	return encode(obj{"http": http, "tls": tls})
}

func router(hosts []string, target string) obj {
	domain := obj{"main": hosts[0]}
	if len(hosts) > 1 {
		domain["sans"] = hosts[1:]
	}
	return obj{
		"entryPoints": []string{entryTLS}, "rule": hostRule(hosts), "service": target,
		"tls": obj{"certResolver": resolver, "domains": []obj{domain}},
	}
}

func hostRule(hosts []string) string {
	parts := make([]string, len(hosts))
	for i, h := range hosts {
		parts[i] = "Host(`" + h + "`)"
	}
	return strings.Join(parts, " || ")
}

// rule is which requests a route is for: /api is /api and what is below it, and not /apiary.
func rule(r spec.TraefikRoute) string {
	if len(r.Paths) == 0 {
		return hostRule(r.Hosts)
	}
	paths, moved := slices.Clone(r.Paths), []string{}
	for _, x := range r.Redirects {
		if strings.HasPrefix(x.From, "/") {
			paths = append(paths, x.From)
		} else {
			moved = append(moved, x.From) // whatever its path is
		}
	}
	var parts []string
	for _, p := range paths {
		p = strings.TrimSuffix(p, "/")
		if p != "" {
			parts = append(parts, "Path(`"+p+"`)")
		}
		parts = append(parts, "PathPrefix(`"+p+"/`)")
	}
	out := "(" + hostRule(r.Hosts) + ") && (" + strings.Join(parts, " || ") + ")"
	if len(moved) > 0 {
		out = "(" + out + ") || " + hostRule(moved)
	}
	return out
}

// middlewares adds what a route's requests pass to all there are, and gives their names in the order in which they are
// passed: who may not come is not asked for a password.
func middlewares(s spec.Traefik, r spec.TraefikRoute, all obj) []string {
	var names []string
	add := func(kind string, what obj) {
		name := reserved + r.Name + "-" + kind
		all[name], names = what, append(names, name)
	}
	if len(r.AllowFrom) > 0 {
		list := obj{"sourceRange": r.AllowFrom}
		if len(s.Gateways) > 0 {
			// The last address is the one that the gateway saw. Who comes past the gateway has none, and is refused.
			list["ipStrategy"] = obj{"depth": 1}
		}
		add("allow", obj{"ipAllowList": list})
	}
	for i, x := range r.Redirects {
		add(fmt.Sprintf("redirect-%d", i), obj{"redirectRegex": redirect(x)})
	}
	if r.UsersFile != "" {
		// The application has no use for the password.
		add("users", obj{"basicAuth": obj{"usersFile": r.UsersFile, "removeHeader": true, "realm": r.Name}})
	}
	headers := obj{}
	if len(r.Headers) > 0 {
		headers["customResponseHeaders"] = byName(r.Headers)
	}
	if len(r.RequestHeaders) > 0 {
		headers["customRequestHeaders"] = byName(r.RequestHeaders)
	}
	if len(headers) > 0 {
		add("headers", obj{"headers": headers})
	}
	return names
}

func byName(lines []string) obj {
	out := obj{}
	for _, h := range lines {
		name, value, _ := strings.Cut(h, ":")
		out[name] = strings.TrimSpace(value)
	}
	return out
}

// redirect keeps what comes after the path, or the host, that it is from.
func redirect(x spec.Redirect) obj {
	if strings.HasPrefix(x.From, "/") {
		from, to := strings.TrimSuffix(x.From, "/"), strings.TrimSuffix(x.To, "/")
		return obj{"regex": "^(https?://[^/]+)" + regexp.QuoteMeta(from) + "([/?].*)?$", "replacement": "${1}" + to +
			"${2}", "permanent": true}
	}
	return obj{"regex": "^https?://" + regexp.QuoteMeta(x.From) + "(:[0-9]+)?(/.*)?$",
		"replacement": "https://" + x.To + "${2}", "permanent": true}
}

// renderAgain differs at every time, and is a middleware that no router uses.
func renderAgain(now time.Time) []byte {
	headers := obj{"customRequestHeaders": obj{"X-Phoenix-Again": now.UTC().Format(time.RFC3339Nano)}}
	return encode(obj{"http": obj{"middlewares": obj{reserved + "again": obj{"headers": headers}}}})
}

// hosts are all names that Traefik must have a certificate for.
func hosts(s spec.Traefik) []string {
	var out []string
	for _, r := range s.Routes {
		out = append(out, r.Hosts...)
	}
	if s.OwnName != "" {
		out = append(out, s.OwnName)
	}
	return out
}
