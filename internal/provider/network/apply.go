package network

import (
	"context"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Apply implements provider.Driver. A new bridge is made by one call of ip, so that it is not left without its mark.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Network, _ plan.Delta) error {
	have, err := d.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	delta := d.Diff(s, have)
	var lines []string
	if have == nil {
		lines = append(lines, "link add name "+s.Bridge+" address "+mac(s)+" type bridge",
			"link set dev "+s.Bridge+" alias "+alias(s.Bridge))
	}
	if delta.Has("mac") {
		lines = append(lines, "link set dev "+s.Bridge+" address "+mac(s))
	}
	if have == nil || delta.Has("up") {
		lines = append(lines, "link set dev "+s.Bridge+" up")
	}
	if have == nil || delta.Has("address") {
		lines = append(lines, addAddress(s, have))
	}
	if err := batch(ctx, h, lines); err != nil {
		return err
	}
	if have != nil && !have.Ours { // it may lead to a router that the hypervisor is to follow
		return nil
	}
	return distrust(ctx, h, s.Bridge)
}

// distrust keeps containers from leading the hypervisor's packets elsewhere.
func distrust(ctx context.Context, h host.Host, bridge string) error {
	paths := trusting(h, bridge)
	if len(paths) == 0 {
		return nil
	}
	argv := append([]string{"sh", "-ec", `for f; do echo 0 >"$f"; done`, "sh"}, paths...)
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

func addAddress(s spec.Network, have *Status) string {
	line := "address add " + s.Address + " dev " + s.Bridge
	if l := label(s); l != "" && have != nil && !have.Ours {
		line += " label " + l
	}
	return line
}

func batch(ctx context.Context, h host.Host, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	in := strings.Join(lines, "\n") + "\n"
	_, err := h.Run(ctx, host.Command{Argv: []string{"ip", "-batch", "-"}, Stdin: []byte(in), Mutates: true})
	return err
}

// Delete implements provider.Deleter. A bridge that phoenix made goes away; an adopted one loses the address phoenix
// added.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.Network) error {
	l, err := show(ctx, h, s.Bridge)
	if l == nil || err != nil {
		return err
	}
	if l.Alias == alias(s.Bridge) {
		return batch(ctx, h, []string{"link delete dev " + s.Bridge})
	}
	for _, a := range l.Addresses {
		if a.Label != "" && a.Label == label(s) {
			return batch(ctx, h, []string{"address delete " + s.Address + " dev " + s.Bridge})
		}
	}
	return nil
}
