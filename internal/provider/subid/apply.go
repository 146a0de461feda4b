package subid

import (
	"context"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Apply implements provider.Driver.
func (d Driver) Apply(_ context.Context, h host.Host, _ object.Address, s spec.IDMap, _ plan.Delta) error {
	for _, path := range []string{d.subuid, d.subgid} {
		content, err := read(h, path)
		if err != nil {
			return err
		}
		if allows(content, s) {
			continue
		}
		if content != "" && !strings.HasSuffix(content, "\n") {
			content += "\n"
		}
		if err := h.WriteFile(path, []byte(content+line(s)+"\n"), 0o644, host.Root); err != nil {
			return err
		}
	}
	return nil
}
