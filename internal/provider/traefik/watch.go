package traefik

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher. Traefik itself writes its storage when it has a new certificate.
func (Driver) Watch(want spec.Traefik, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{staticFile(want), dynamicDir(want), routesFile(want), want.Storage,
		want.ACME.RootFile}}
}
