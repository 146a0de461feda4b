package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// mirrorParams are Debian's mirrors, as apt on this machine has them.
type mirrorParams struct {
	Mirrors []string `json:"mirrors,omitempty"`
	Suite   string   `json:"suite,omitempty"`
	Proxy   string   `json:"proxy,omitempty"` // a URL
}

// mirrorWait is how long one mirror has; the first answers for all but the last.
const mirrorWait = 3 * time.Second

// runMirror asks for what apt asks first. Any mirror that answers will do for the suite itself.
func runMirror(ctx context.Context, h host.Host, c Check, p mirrorParams) Result {
	at := p.Mirrors[0]
	resp, err := p.ask(ctx, h)
	switch {
	case err != nil && p.Proxy != "":
		return c.fail("Debian's mirror is not reachable through apt's proxy "+withoutUser(p.Proxy), at+": "+plain(err),
			"start the proxy, or change Acquire::http::Proxy: grep -r Proxy /etc/apt/apt.conf /etc/apt/apt.conf.d names "+
				"the file")
	case err != nil:
		return c.fail("Debian's mirror "+at+" is not reachable", plain(err), reachFix(h, err, at))
	case resp.StatusCode >= 400 && p.Proxy != "":
		return c.fail("apt's proxy "+withoutUser(p.Proxy)+" refuses Debian's mirror", at+": "+resp.Status,
			"allow it in the proxy, or change Acquire::http::Proxy in /etc/apt/apt.conf.d")
	case resp.StatusCode == http.StatusNotFound:
		return c.fail("Debian's mirror "+at+" does not have "+p.Suite, resp.Status,
			"name a mirror in /etc/apt/sources.list that has it")
	case resp.StatusCode >= 400:
		return c.fail("Debian's mirror "+at+" refuses", resp.Status, "name another one in /etc/apt/sources.list")
	}
	by := ""
	if p.Proxy != "" {
		by = " by way of " + withoutUser(p.Proxy)
	}
	return c.pass("Debian's mirror answers", at+by)
}

// ask asks the first mirror for the head of a suite's release file.
func (p mirrorParams) ask(ctx context.Context, h host.Host) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, mirrorWait)
	defer cancel()
	at := strings.TrimSuffix(p.Mirrors[0], "/") + "/dists/" + p.Suite + "/InRelease"
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	if p.Proxy != "" {
		via, err := url.Parse(p.Proxy)
		if err != nil {
			return nil, errors.New("the proxy's URL cannot be read")
		}
		t.Proxy = http.ProxyURL(via)
	}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// plain is an error of a connection without the request around it.
func plain(err error) string {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", mirrorWait)
	}
	return err.Error()
}

// withoutUser is a URL without the password in it.
func withoutUser(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	return u.Scheme + "://" + u.Host
}

// reachFix follows from how it failed: no name, no route, nobody there.
func reachFix(h host.Host, err error, at string) string {
	four, six := defaultRoutes(h)
	var name *net.DNSError
	switch {
	case !four && !six:
		return "this machine has no default route: ip route show default; ip route add default via GATEWAY"
	case errors.As(err, &name):
		return "the name is not resolved: cat /etc/resolv.conf shows whom this machine asks"
	case errors.Is(err, syscall.ENETUNREACH) && !four:
		return "this machine has IPv6 only: name a mirror in /etc/apt/sources.list that has an IPv6 address"
	}
	return "curl -I " + at + " tries the same; a firewall or a proxy on the way (Acquire::http::Proxy in " +
		"/etc/apt/apt.conf.d), or name another mirror in /etc/apt/sources.list; a template archive that is here needs none"
}

// defaultRoutes tells whether there is a way out over IPv4 and over IPv6 (proc_pid_net(5)).
func defaultRoutes(h host.Host) (four, six bool) {
	raw, _ := h.ReadFile("/proc/net/route") // without it there is none
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		four = four || len(f) > 7 && f[1] == "00000000" && f[7] == "00000000"
	}
	raw, _ = h.ReadFile("/proc/net/ipv6_route")
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		six = six || len(f) > 9 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != "lo"
	}
	return four, six
}

// runUpstreams looks for resolvers that this machine has no route to, such as IPv4 addresses on a machine with IPv6
// only.
func runUpstreams(_ context.Context, h host.Host, c Check, upstreams []string) Result {
	four, six := defaultRoutes(h)
	if !four && !six { // a site that leads nowhere is one too
		return c.pass("the resolver's upstreams are as reachable as anything", "this machine has no default route")
	}
	var lost []string
	for _, u := range upstreams {
		a, err := netip.ParseAddr(u)
		if err == nil && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
			(a.Is4() && !four || a.Is6() && !six) {
			lost = append(lost, u)
		}
	}
	if len(lost) == 0 {
		return c.pass("this machine has a route to the resolver's upstreams", strings.Join(upstreams, " "))
	}
	have, lack := "IPv4", "IPv6"
	if six {
		have, lack = lack, have
	}
	example := map[string]string{"IPv4": "9.9.9.9", "IPv6": "2620:fe::fe"}[have]
	evidence := "no default route for " + lack
	if slices.Equal(lost, upstreams) {
		evidence += ": names outside of the zones are not answered"
	}
	return c.fail("this machine has no "+lack+" to reach "+strings.Join(lost, " ")+", which the resolver asks", evidence,
		fmt.Sprintf(`"dns": {"upstreams": [%q]} in phoenix_hypervisor_config.json names one with %s, then phoenix apply`,
			example, have))
}
