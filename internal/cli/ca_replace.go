package cli

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/backup"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// putBack has the CA's container take a backup back. Another root that is pinned makes way only with --yes, and only
// where nobody can have used it; otherwise the way is said and nothing is changed.
func (s *session) putBack(ctx context.Context, id, path string, key backup.Key, sealed []byte) (backupAnswer, error) {
	q := backupQuestion{Key: key, Restore: true, Sealed: sealed, Pinned: s.machine.Pins.Root}
	if q.Pinned == "" {
		return s.askBackup(ctx, q)
	}
	look := q
	look.Inspect = true
	held, err := s.askBackup(ctx, look)
	if err != nil || held.Fingerprint == q.Pinned {
		if err == nil {
			held, err = s.askBackup(ctx, q)
		}
		return held, err
	}
	if err := s.mayReplaceRoot(ctx, id, path, held.Fingerprint); err != nil {
		return held, err
	}
	q.Pinned, q.Replace = "", true
	answer, err := s.askBackup(ctx, q)
	if err != nil {
		return answer, err
	}
	pin, ok := specOf[spec.Pin](s.objects, object.NewAddress(spec.KindPin, id))
	if !ok {
		return answer, nil
	}
	return answer, s.host.Remove(pin.Path)
}

// mayReplaceRoot is why the pinned root is not replaced by that of a backup.
func (s *session) mayReplaceRoot(ctx context.Context, id, path, fingerprint string) error {
	users := s.rootUsers(ctx, id)
	restore := s.again("ca restore "+host.Quote([]string{path})) + " --password-file FILE"
	pinned := s.machine.Pins.Root
	switch {
	case len(users) > 0:
		return hint(s.again("delete "+id+" --volumes="+id)+" && "+restore+" && "+s.again("up")+
			": every container then trusts the backup's root and gets its certificates from it; clients outside that "+
			"were given the other one have to be given "+
			"this one (phoenix ca show)",
			"the backup holds the root sha256 %s; another one is pinned, %s, and in use by %s: nothing was changed",
			fingerprint, pinned, strings.Join(users, ", "))
	case !s.opts.yes:
		return hint(restore+" --yes puts the backup's root in its place",
			"the backup holds the root sha256 %s; another one is pinned, %s, which nobody uses yet: nothing was changed", fingerprint, pinned)
	}
	return nil
}

// rootUsers are who may have used a root already: the other containers that exist, and this machine where its own store
// trusts it.
func (s *session) rootUsers(ctx context.Context, id string) (users []string) {
	for _, o := range s.objects {
		switch o.Address.Kind() {
		case spec.KindContainer:
			if o.Container == id {
				continue
			}
			if obs, err := s.target.Observe(ctx, o); err != nil || len(obs.Status) > 0 {
				users = append(users, "container "+o.Container)
			}
		case spec.KindHostTrust:
			if s.trusted(ctx, o) {
				users = append(users, "this hypervisor")
			}
		}
	}
	return slices.Compact(users)
}

// setRootAside makes room for a root with that fingerprint. The one that stands there is kept beside.
func setRootAside(h host.Host, dir, fingerprint string) error {
	secrets := filepath.Join(dir, "secrets")
	root := filepath.Join(secrets, "root")
	there, err := backup.RootIn(h, root)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && there == fingerprint:
		return nil
	}
	return h.Rename(root, filepath.Join(secrets, "lost-root-"+strconv.FormatInt(h.Now().UnixNano(), 10)))
}
