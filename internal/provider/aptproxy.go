package provider

import (
	"context"
	"net/url"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// AptProxy is the URL of the proxy by which apt on this host reaches mirrors over HTTP (apt-transport-http(1)); empty:
// none, or one that cannot be told, such as by a script of ProxyAutoDetect.
func AptProxy(ctx context.Context, h host.Host) string {
	res, err := h.Run(ctx, host.Command{Argv: []string{"apt-config", "dump", "Acquire::http::Proxy"}})
	if err != nil {
		return "" // no apt, no proxy
	}
	proxy := ""
	for line := range strings.Lines(string(res.Stdout)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ";"), " ")
		if strings.EqualFold(name, "Acquire::http::Proxy") { // the last one counts; others are for one mirror each
			proxy = strings.Trim(value, `"`)
		}
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5h" {
		return "" // also DIRECT
	}
	return proxy
}

// proxyEnvironment tells a program that calls apt of a proxy, without a trace of it in what is built. One with a
// password in its URL is left out: an environment is no place for it.
func proxyEnvironment(proxy string) []string {
	u, err := url.Parse(proxy)
	if err != nil || proxy == "" || u.User != nil {
		return nil
	}
	return []string{"http_proxy=" + proxy}
}
