package health

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// rootFiles is where a CA keeps its root.
type rootFiles struct {
	Dir string `json:"dir"`
}

// runRootFiles looks whether the root is there at all, with its key and password: what is lost only a backup brings
// back, and no apply.
func runRootFiles(_ context.Context, h host.Host, c Check, p rootFiles) Result {
	for _, name := range []string{"ca.crt", "key", "password"} {
		path := filepath.Join(p.Dir, "secrets", "root", name)
		switch _, err := h.Lstat(path); {
		case errors.Is(err, fs.ErrNotExist):
			return c.fail("the root of the CA is lost", path+" is absent", c.rootFix())
		case err != nil:
			return c.fail("the root of the CA cannot be looked at", err.Error(), c.rootFix())
		}
	}
	return c.pass("the root of the CA is there, with its key", p.Dir)
}
