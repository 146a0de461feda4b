package firewall_test

import (
	"context"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
)

// Where nft is not installed, each driver says what to install, and what was never made is deleted without it.
func TestWithoutNFT(t *testing.T) {
	conformance.Isolated(t, "ip", "nft")
	lan(t)
	fresh(t)
	t.Setenv("PATH", t.TempDir())
	h := &host.Local{}
	s := accessSpec(t, spec.AccessForward)
	none := s
	none.Mode = spec.AccessNone
	for name, c := range map[string]struct {
		driver provider.Erased
		o      object.Object
	}{
		"firewall": {firewall.New(), asObject(t, everything())}, "access": {firewall.NewAccess(), access(t, s)},
		"hostfirewall": {firewall.NewHostSide(), hostSide(t, spec.HostFirewall{Name: "phxt0_ab12", Bridge: bridge,
			Address: "10.99.2.1"})},
	} {
		if err := c.driver.Apply(context.Background(), h, c.o,
			plan.Delta{}); provider.Hint(err) != "apt-get install nftables" {
			t.Errorf("%s: %v, hint %q", name, err, provider.Hint(err))
		}
		if err := c.driver.Delete(context.Background(), h, c.o); err != nil {
			t.Errorf("%s cannot be deleted: %v", name, err)
		}
	}
	if obs, err := firewall.NewAccess().Observe(context.Background(), h, access(t, none)); err != nil ||
		!obs.Delta.Empty() {
		t.Errorf("nobody asked for access, and it is missed: %+v, %v", obs.Delta, err)
	}
}
