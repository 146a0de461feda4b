package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// confirm asks, unless --yes. Nobody there to answer is a no. The root of the site has to be named, in the answer or on
// the command line.
func (s *session) confirm(ctx context.Context, want deletion, kept []object.Object) error {
	for _, id := range want.roots {
		if !slices.Contains(s.deletable(want.ids, want.all), id) {
			return &usageError{err: fmt.Errorf("--volumes names container %s, which is not to be deleted", id),
				hint: "name it among the ids, or leave it out"}
		}
	}
	root := s.rootAt(ctx, want)
	named := root == nil || slices.Contains(want.roots, root.container)
	switch {
	case s.opts.yes && named:
		return nil
	case s.opts.yes:
		return hint(fmt.Sprintf("keep a copy first: %s; then say so: --yes --volumes=%s",
			s.again("ca backup FILE --password-file FILE"), root.container),
			"%s; --yes alone does not delete it: nothing was deleted", root)
	}
	answer := "yes"
	for _, line := range s.alsoGone(want.ids, want.all, want.volumes) {
		fmt.Fprintln(s.stderr, line)
	}
	if root != nil {
		answer = root.name
		fmt.Fprintf(s.stderr, "%s\nDeleted, it comes back from a backup only (%s).\n", root,
			s.again("ca backup FILE --password-file FILE"))
	}
	fmt.Fprintf(s.stderr, "delete %s? type %s: ", s.describe(want, kept), answer)
	return s.await(answer, root)
}

// await reads the answer that was asked for.
func (s *session) await(want string, root *siteRoot) error {
	got, err := bufio.NewReader(s.stdin).ReadString('\n')
	got = strings.TrimSpace(got)
	if strings.EqualFold(got, want) || root == nil && strings.EqualFold(got, "y") {
		return nil
	}
	fmt.Fprintln(s.stderr)
	if err != nil && got == "" {
		flags := "--yes"
		if root != nil {
			flags += " --volumes=" + root.container
		}
		return hint(flags+", where nobody can be asked", "delete was not confirmed: nothing was deleted")
	}
	return errors.New("not confirmed: nothing was deleted")
}

// describe is what the question is about.
func (s *session) describe(want deletion, kept []object.Object) string {
	what := "containers " + strings.Join(want.ids, ", ")
	if want.all {
		what = "everything that phoenix made under " + s.machine.Root
	}
	switch {
	case want.volumes:
		what += " and their volumes: what is on them is lost"
	case len(kept) > 0:
		what += " (volumes stay)"
	}
	return what
}

// siteRoot is the root CA that goes with a volume.
type siteRoot struct {
	container, name string
	fingerprint     string // empty: nothing is pinned
	trusted         []string
}

func (r *siteRoot) String() string {
	fingerprint := ""
	if r.fingerprint != "" {
		fingerprint = ", sha256 " + r.fingerprint
	}
	return fmt.Sprintf("the volume of container %s (%s) holds the root CA of this site%s, which is trusted by %s, "+
		"and by every client outside that was given it",
		r.container, r.name, fingerprint, strings.Join(r.trusted, ", "))
}

// rootAt is the root that a deletion would take away; nil: there is none.
func (s *session) rootAt(ctx context.Context, want deletion) *siteRoot {
	id := s.authority()
	if !want.volumes || id == "" || !slices.Contains(s.deletable(want.ids, want.all), id) {
		return nil
	}
	fingerprint, known := pinned(s.app, s.objects, id)
	if !known && !s.rootOnDisk(id) {
		return nil
	}
	r := &siteRoot{container: id, fingerprint: fingerprint}
	if c, ok := s.cfg.Container(id); ok {
		r.name = c.Name
	}
	containers := 0
	for _, o := range s.objects {
		switch {
		case o.Address.Kind() == spec.KindTrust:
			containers++
		case o.Address.Kind() == spec.KindHostTrust && s.trusted(ctx, o):
			r.trusted = append(r.trusted, "this hypervisor")
		}
	}
	r.trusted = append([]string{fmt.Sprintf("%d containers", containers)}, r.trusted...)
	return r
}

// rootOnDisk is whether the CA's volume holds a root, as far as that is seen from the hypervisor.
func (s *session) rootOnDisk(id string) bool {
	for _, o := range s.objects {
		if o.Container != id || o.Address.Kind() != spec.KindVolume {
			continue
		}
		if v, ok := specOf[spec.Volume](s.objects, o.Address); ok &&
			s.app.there(filepath.Join(v.Path, "secrets", "root")) {
			return true
		}
	}
	return false
}
