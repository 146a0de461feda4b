package health

import (
	"context"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// reloadParams are the units that a certificate's reload is about.
type reloadParams struct {
	Units []string `json:"units"`
}

// runCertReload finds reloads that would wait for ever: one whose unit does not exist yet is pending, and no failure of
// its certificate.
func runCertReload(ctx context.Context, h host.Host, c Check, p reloadParams) Result {
	var missing []string
	for _, unit := range p.Units {
		props, err := unitState(ctx, h, unit)
		if err != nil {
			return c.fail("the state of "+unit+" is not known", why(err), c.apply())
		}
		if props["LoadState"] == "not-found" {
			missing = append(missing, unit)
		}
	}
	if len(missing) > 0 {
		return c.fail("the certificate's reload waits for a unit that does not exist",
			"reload names "+strings.Join(missing, ", "), c.reloadFix())
	}
	return c.pass("what the certificate's reload names exists", strings.Join(p.Units, ", "))
}
