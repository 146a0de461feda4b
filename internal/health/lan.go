package health

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (m *model) lan(o object.Object, s spec.Access) {
	if s.Mode == spec.AccessNone {
		return
	}
	d := m.add(kindLAN, o, "", s)
	if id := m.containerAt(s.Gateway); s.Gateway != "" && id != "" {
		d.via = append(d.via, id)
	}
	for _, f := range s.Forwards {
		if id := m.containerAt(strings.Split(f.To, ":")[0]); id != "" && !slices.Contains(d.via, id) {
			d.via = append(d.via, id)
		}
	}
}

// runLAN follows the way of a client of the LAN, as far as it can be seen without being one: an uplink with an address,
// rules, forwarding, nobody else's chain that drops what passes, and a gateway that answers.
func runLAN(ctx context.Context, h host.Host, c Check, s spec.Access) Result {
	summary := "clients of the LAN do not reach " + s.Subnet
	raw, err := h.ReadFile("/proc/net/route")
	up := spec.DefaultRoute(string(raw))
	if err != nil || up == "" {
		return c.fail(summary+": this machine has no default route", fmt.Sprint("no uplink", errorOf(err)),
			"connect the machine; phoenix access says how clients get here")
	}
	addresses, err := addressesOf(ctx, h, up)
	if err != nil || len(addresses) == 0 {
		return c.fail(summary+": "+up+" has no IPv4 address", "ip addr show dev "+up+errorOf(err),
			"give it an address; phoenix access says how clients get here")
	}
	res, err := h.Run(ctx, host.Command{Argv: []string{"nft", "--stateless", "list", "table", "inet", s.Table()}})
	if err != nil {
		return c.fail(summary, why(err), c.apply())
	}
	if missing := lackingAccess(string(res.Stdout), s, up); missing != "" {
		return c.fail(summary, "table inet "+s.Table()+": "+missing, c.apply())
	}
	for _, name := range []string{up, s.Bridge} {
		on, err := h.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", name, "forwarding"))
		if err != nil || strings.TrimSpace(string(on)) != "1" {
			return c.fail(summary+": "+name+" does not forward", "net.ipv4.conf."+name+".forwarding"+errorOf(err),
				c.apply())
		}
	}
	if chain, err := dropsForwarded(ctx, h, s); err != nil || chain != "" {
		return c.fail(summary+": other rules of this machine drop what it forwards", chain+errorOf(err),
			forwardFix(chain, s))
	}
	return c.answersForwarded(ctx, h, s, up, addresses)
}

func errorOf(err error) string {
	if err == nil {
		return ""
	}
	return ": " + why(err)
}

func (c Check) answersForwarded(ctx context.Context, h host.Host, s spec.Access, up string, addresses []string) Result {
	way := up + " " + strings.Join(addresses, " ")
	for _, p := range s.Ports {
		number, _ := strconv.Atoi(p[strings.Index(p, "/")+1:]) // the driver takes numbers only
		how, err := try(ctx, h, s.Gateway, number, openWait)
		if err != nil || how != getsThrough {
			return c.fail(fmt.Sprintf("port %d of %s is forwarded to the gateway, which does not answer", number,
				addresses[0]),
				fmt.Sprintf("%s:%d: %s%s", s.Gateway, number, how, errorOf(err)), "phoenix apply")
		}
	}
	if failed := c.publishedAnswer(ctx, h, s, addresses[0]); failed != nil {
		return *failed
	}
	if s.Mode == spec.AccessRoute {
		return c.pass("packets of the LAN are routed to "+s.Subnet, way+", where the router has a route by one of them")
	}
	for _, f := range s.Forwards {
		way += ", " + f.Port + " to " + f.To
	}
	if s.Gateway == "" {
		return c.pass("clients of the LAN reach the containers' ports at "+addresses[0], way)
	}
	return c.pass("clients of the LAN reach the gateway at "+addresses[0], fmt.Sprintf("%s, %s to %s", way,
		strings.Join(s.Ports, " "), s.Gateway))
}

// publishedAnswer looks whether somebody listens where ports of the hypervisor lead to; nil: for all of them. Of UDP
// nothing can be seen from here.
func (c Check) publishedAnswer(ctx context.Context, h host.Host, s spec.Access, address string) *Result {
	for _, f := range s.Forwards {
		proto, number, _ := strings.Cut(f.Port, "/")
		if proto != "tcp" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, openWait)
		conn, err := h.Dial(ctx, "tcp", f.To)
		cancel()
		if err != nil {
			r := c.fail(fmt.Sprintf("port %s of %s is forwarded to %s, where nothing answers", number, address, f.To),
				why(err), `start the program there, or take the port out of the container's "ports"`)
			return &r
		}
		conn.Close()
	}
	return nil
}

// addressesOf are the IPv4 addresses of an interface.
func addressesOf(ctx context.Context, h host.Host, name string) (out []string, err error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"ip", "-4", "-j", "addr", "show", "dev", name}})
	var links []link
	if err == nil {
		err = json.Unmarshal(res.Stdout, &links)
	}
	for _, l := range links {
		for _, a := range l.Addresses {
			out = append(out, a.Local)
		}
	}
	return out, err
}

// lackingAccess is the first rule that the table lacks; empty: it has all.
func lackingAccess(table string, s spec.Access, up string) string {
	chains := chainsOf(table)
	in := fmt.Sprintf("iifname %q ", up)
	want := []struct{ chain, rule string }{{"passing", in + "ip saddr " + s.Subnet + " drop"}}
	if s.Mode == spec.AccessForward {
		want = append(want, struct{ chain, rule string }{"passing", in + fmt.Sprintf("oifname %q drop", s.Bridge)},
			struct{ chain, rule string }{"leaving", fmt.Sprintf("ip saddr %s oifname %q masquerade", s.Subnet, up)})
		for _, p := range s.Leads() {
			proto, number, _ := strings.Cut(p.Port, "/")
			if !slices.ContainsFunc(chains["ports"], func(line string) bool {
				return strings.HasPrefix(line, in) && strings.HasSuffix(line,
					" "+proto+" dport "+number+" dnat ip to "+p.To)
			}) {
				return "no rule forwards " + p.Port + " of " + up + " to " + p.To
			}
		}
	}
	for _, w := range want {
		if !slices.Contains(chains[w.chain], w.rule) {
			return "chain " + w.chain + " has no rule " + w.rule
		}
	}
	return ""
}

var (
	tableLine = regexp.MustCompile(`^table (\S+) (\S+) \{$`)
	chainLine = regexp.MustCompile(`^\s*chain (\S+) \{$`)
)

// dropsForwarded is a chain of somebody else's that drops what is forwarded unless a rule accepts it, and whose table
// has no rule about the bridge; empty: there is none. What one chain accepts another one may still drop. Docker makes
// such a chain.
func dropsForwarded(ctx context.Context, h host.Host, s spec.Access) (string, error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"nft", "--stateless", "list", "chains"}, Shared: true})
	if err != nil {
		return "", err
	}
	family, table, chain := "", "", ""
	for line := range strings.Lines(string(res.Stdout)) {
		line = strings.TrimRight(line, "\n")
		if m := tableLine.FindStringSubmatch(line); m != nil {
			family, table = m[1], m[2]
		} else if m := chainLine.FindStringSubmatch(line); m != nil {
			chain = m[1]
		}
		if !strings.Contains(line, " hook forward ") || !strings.Contains(line, "policy drop") || family != "ip" &&
			family != "inet" {
			continue
		}
		all, err := h.Run(ctx, host.Command{Argv: []string{"nft", "--stateless", "list", "table", family, table}})
		if err != nil {
			return "", err
		}
		if !strings.Contains(string(all.Stdout), `"`+s.Bridge+`"`) {
			return fmt.Sprintf("chain %s of table %s %s has policy drop, and no rule about %s", chain, family, table,
				s.Bridge), nil
		}
	}
	return "", nil
}

// forwardFix is what to add to such a chain; in Docker's own place for the users' rules where it has one.
func forwardFix(chain string, s spec.Access) string {
	place := "the chain that the evidence names"
	if strings.HasPrefix(chain, "chain FORWARD of table ip filter") {
		place = "DOCKER-USER where Docker made it, else FORWARD"
	}
	return fmt.Sprintf("allow it in %s: iptables -I CHAIN -o %s -j ACCEPT; iptables -I CHAIN -i %s -j ACCEPT; "+
		"phoenix's own table restricts what gets to %s", place, s.Bridge, s.Bridge, s.Subnet)
}
