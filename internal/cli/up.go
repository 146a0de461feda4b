package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (a *app) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Aliases: []string{"LetsGo"},
		Short: "everything marked start_at_boot, in dependency order; then health",
		Example: `  phoenix up
  phoenix up --config examples/homelab`,
		Args: nothingMore, RunE: a.command(func(ctx context.Context, _ []string) error { return a.up(ctx) }),
	}
	a.changingFlags(cmd)
	return cmd
}

func (a *app) up(ctx context.Context) error {
	a.opts.firstRoot = true
	a.moveIDs = a.opts.yes
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	ids := s.atBoot()
	if len(ids) == 0 {
		return hint(`give the containers that should run "start_at_boot": true`, "no container is marked start_at_boot")
	}
	wanted, _ := s.selected(ids)
	if err := s.fit(ctx, wanted); err != nil {
		return err
	}
	done, err := s.makeTrue(ctx, ids)
	if err != nil {
		return err
	}
	if done.Stopped == nil && len(done.Result.Failures) == 0 {
		objects, _ := s.selected(ids)
		report := s.checkPatiently(ctx, objects)
		if ctx.Err() != nil {
			done.Stopped = context.Cause(ctx)
		}
		done.Health = &report
		done.Addresses, done.Root = s.addresses(objects)
		done.Watch = s.watchNote()
		done.Elapsed = s.elapsed()
	}
	a.view.Applied(done)
	return outcome(done)
}

// addresses are what to try in a browser or with curl: the gateways' names that lead somewhere, and the root.
func (s *session) addresses(objects []object.Object) ([]view.Address, *view.Root) {
	var out []view.Address
	for _, o := range objects {
		var n spec.Nginx
		if o.Address.Kind() != spec.KindNginx || json.Unmarshal(o.Spec, &n) != nil {
			continue
		}
		gateway, ok := addressOf(objects, o.Container)
		if !ok {
			continue
		}
		for _, site := range n.Sites {
			x := s.address(site, gateway)
			if site.Upstream != "" && !slices.ContainsFunc(out, func(y view.Address) bool { return y.URL == x.URL }) {
				out = append(out, x)
			}
		}
	}
	return out, s.root(objects)
}

func (s *session) address(site spec.NginxSite, gateway netip.Addr) view.Address {
	through := net.JoinHostPort(gateway.String(), "443")
	url := "https://" + site.Name
	return view.Address{
		URL: url, Through: through,
		Try: fmt.Sprintf("curl --cacert <(%s) --resolve %s:443:%s %s/", s.again("ca show"), site.Name, gateway, url),
	}
}

// root is the pinned root of the CA among the objects.
func (s *session) root(objects []object.Object) *view.Root {
	for a, fields := range health.ReadPins(s.host, objects) {
		if fp := fields["fingerprint"]; fp != "" {
			return &view.Root{Fingerprint: fp, Get: s.again("ca show") + " # " + string(a)}
		}
	}
	return nil
}

// addressOf is a container's own address.
func addressOf(objects []object.Object, id string) (netip.Addr, bool) {
	c, ok := specOf[spec.Container](objects, object.NewAddress(spec.KindContainer, id))
	if !ok {
		return netip.Addr{}, false
	}
	p, err := netip.ParsePrefix(c.Interface.Address)
	return p.Addr(), err == nil
}
