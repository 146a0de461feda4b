package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (a *app) certCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "cert", Short: "the certificates in the containers"})
	list := &cobra.Command{
		Use: "list [ID...]", Short: "every certificate in the containers; changes nothing",
		Example: `  phoenix cert list
  phoenix cert list 101 -o json`,
		ValidArgsFunction: a.completeIDs, RunE: a.command(a.certList),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "all that is known of the certificates for a name; changes nothing",
		Example: `  phoenix cert show www.homelab.internal`,
		Args:    oneName, ValidArgsFunction: a.completeCertificates, RunE: a.command(a.certShow),
	}
	var all bool
	renew := &cobra.Command{
		Use: "renew NAME...", Short: "get certificates anew, now, with new keys",
		Long: `renew gets the certificates for these names anew, with new keys, whether it is time or not.
Those that Traefik gets for itself are renewed all together.`,
		Example: `  phoenix cert renew www.homelab.internal
  phoenix cert renew --all`,
		ValidArgsFunction: a.completeCertificates,
	}
	renew.Flags().BoolVar(&all, "all", false, "every certificate in the containers that run")
	renew.RunE = a.command(func(ctx context.Context, names []string) error {
		if all != (len(names) == 0) {
			return &usageError{err: fmt.Errorf("renew needs names, or --all"),
				hint: "phoenix cert list shows what there is"}
		}
		return a.certRenew(ctx, names)
	})
	cmd.AddCommand(list, show, renew)
	return cmd
}

func oneName(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: fmt.Errorf("show needs one name"), hint: "phoenix cert list shows what there is"}
	}
	return nil
}

func (a *app) certList(ctx context.Context, ids []string) error {
	s, err := a.enter(ids)
	if err != nil {
		return err
	}
	defer s.close()
	list, unseen, err := s.certificates(ctx, ids)
	if err != nil {
		return err
	}
	a.view.Certificates(list)
	return s.notSeen(unseen)
}

func (a *app) certShow(ctx context.Context, names []string) error {
	s, err := a.enter(nil)
	if err != nil {
		return err
	}
	defer s.close()
	list, unseen, err := s.certificates(ctx, nil)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c view.FullCertificate) bool {
		return c.CommonName != names[0] && !slices.Contains(c.DNSNames, names[0])
	})
	if len(list) == 0 {
		return hint(s.again("cert list")+" shows what there is", "no container has a certificate for %s", names[0])
	}
	a.view.CertificateDetails(list)
	return s.notSeen(unseen)
}

// certificates are those in these containers, in all without ids, as far as they run and can be seen; unseen are
// containers that do not answer.
func (s *session) certificates(ctx context.Context, ids []string) (out []view.FullCertificate, unseen map[string]error,
	err error) {
	if len(ids) == 0 {
		ids = s.ids()
	}
	objects, _ := s.selected(ids)
	result, err := s.engine().Plan(ctx, objects)
	if err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	s.seeCertificates(ctx, ids, &result)
	out = []view.FullCertificate{}
	for _, o := range s.objects {
		if slices.Contains(ids, o.Container) && isCertificate(o) {
			out = append(out, fullCertificates(o, result.Statuses[o.Address].Status)...)
		}
	}
	return out, unanswered(result), nil
}

func isCertificate(o object.Object) bool {
	return o.Address.Kind() == spec.KindCertificate || o.Address.Kind() == spec.KindTraefik &&
		o.Address.Name() == spec.TraefikCertificates
}

// fullCertificates reads the certificates that a status speaks of. Traefik's stand in its storage.
func fullCertificates(o object.Object, status json.RawMessage) []view.FullCertificate {
	var own view.FullCertificate
	var list struct {
		Certificates []view.FullCertificate `json:"certificates"`
	}
	var t spec.Traefik
	if json.Unmarshal(status, &own) != nil || json.Unmarshal(status, &list) != nil ||
		json.Unmarshal(o.Spec, &t) != nil {
		return nil
	}
	all := distinct(append(list.Certificates, own))
	for i := range all {
		all[i].Object, all[i].Container = o.Address, o.Container
		if all[i].CommonName == "" && len(all[i].DNSNames) > 0 {
			all[i].CommonName = all[i].DNSNames[0]
		}
		if all[i].Path == "" {
			all[i].Path = t.Storage
		}
	}
	return all
}

// distinct has each certificate once: Traefik says for each name which one it serves for it, and one may be for several
// names.
func distinct(list []view.FullCertificate) (out []view.FullCertificate) {
	for _, c := range list {
		i := slices.IndexFunc(out, func(x view.FullCertificate) bool { return x.Serial == c.Serial })
		switch {
		case c.Serial == "":
		case i < 0:
			out = append(out, c)
		default:
			out[i].Problem = cmp.Or(out[i].Problem, c.Problem)
		}
	}
	return out
}

// certRenew wants other certificates than there are now, for this run only, and makes it so.
func (a *app) certRenew(ctx context.Context, names []string) error {
	s, err := a.enter(nil)
	if err != nil {
		return err
	}
	defer s.close()
	running, _, err := s.alive(ctx)
	if err != nil {
		return err
	}
	ids, missing, err := s.wantRenewed(names, running, s.host.Now().UTC().Truncate(time.Second))
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		return hint(s.again("cert list")+" shows what there is", "no container that runs has a certificate for %s",
			strings.Join(missing, ", "))
	case len(ids) == 0:
		return hint(s.again("cert list")+" shows what there is", "no container that runs has a certificate")
	}
	done, err := s.makeTrue(ctx, ids)
	if err != nil {
		return err
	}
	a.view.Applied(done)
	return outcome(done)
}

// wantRenewed has the certificates for these names, all without names, be issued anew. It gives the containers that
// have them, and the names that nobody has.
func (s *session) wantRenewed(names, running []string, since time.Time) (ids, missing []string, err error) {
	missing = slices.Clone(names)
	for i, o := range s.objects {
		has := namesIn(o)
		hit := slices.ContainsFunc(has, func(n string) bool { return slices.Contains(names, n) })
		if !isCertificate(o) || !slices.Contains(running, o.Container) || len(names) > 0 && !hit {
			continue
		}
		if s.objects[i].Spec, err = object.Fill(o.Spec, "/renew", since.Format(time.RFC3339)); err != nil {
			return nil, nil, err
		}
		missing = slices.DeleteFunc(missing, func(n string) bool { return slices.Contains(has, n) })
		if !slices.Contains(ids, o.Container) {
			ids = append(ids, o.Container)
		}
	}
	return ids, missing, nil
}

// namesIn are the names that an object has certificates for.
func namesIn(o object.Object) []string {
	var c spec.Certificate
	var t spec.Traefik
	switch {
	case o.Address.Kind() == spec.KindCertificate && json.Unmarshal(o.Spec, &c) == nil:
		return c.DNSNames
	case o.Address.Kind() == spec.KindTraefik && json.Unmarshal(o.Spec, &t) == nil:
		out := []string{t.OwnName}
		for _, r := range t.Routes {
			out = append(out, r.Hosts...)
		}
		return out
	}
	return nil
}
