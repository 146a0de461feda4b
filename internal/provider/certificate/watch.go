package certificate

import (
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(want spec.Certificate, _ *Status) provider.Watch {
	l := layoutOf(want)
	now := filepath.Join(l.versions, current)
	return provider.Watch{Paths: []string{l.certPath, l.keyPath, now, filepath.Join(now, certFile),
		filepath.Join(now, keyFile), want.ACME.RootFile}}
}
