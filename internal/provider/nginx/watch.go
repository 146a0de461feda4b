package nginx

import (
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher. What is loaded changes only with nginx's own process, which its unit watches.
func (Driver) Watch(want spec.Nginx, _ *Status) provider.Watch {
	if want.Part == spec.NginxOwn {
		return provider.Watch{Paths: []string{ownDir(want), filepath.Join(ownDir(want), ownHTTP), copiesDir(want)}}
	}
	return provider.Watch{Paths: []string{partFile(want), tlsFile(want), want.Certificate, want.RootFile, want.Webroot}}
}
