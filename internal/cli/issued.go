package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/audit"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// heldLimit is how long one container may take to say what it holds.
const heldLimit = 2 * time.Second

// What the answers may be, and when an agent counts as one that does not answer at all.
var (
	issuedAnswer = agent.Answer{Bytes: 4 << 20, String: 1 << 10, Within: 10 * time.Second}
	heldAnswer   = agent.Answer{Bytes: 64 << 10, String: 1 << 10, Within: 10 * time.Second}
)

// issuedQuestion is what the CA's container is asked: all that was issued or, of some orders, where they came from.
type issuedQuestion struct {
	Source issued.Source `json:"source"`
	Orders []string      `json:"orders,omitempty"`
	Since  time.Time     `json:"since,omitzero"`
}

// answerIssued is the other side, inside the CA's container.
func answerIssued(ctx context.Context, h host.Host, q issuedQuestion) (json.RawMessage, error) {
	if len(q.Orders) > 0 {
		return json.Marshal(issued.From(ctx, h, q.Orders, q.Since))
	}
	list, err := q.Source.Read(ctx, h.Now())
	if err != nil {
		return nil, err
	}
	return json.Marshal(list)
}

var errOldAgent = errors.New("the phoenix in there is an older one")

// certificateAuthority is the CA of the configuration; false: there is none.
func (h *house) certificateAuthority() (object.Object, spec.StepCA, bool) {
	for _, o := range h.objects {
		var s spec.StepCA
		if o.Address.Kind() == spec.KindStepCA && json.Unmarshal(o.Spec, &s) == nil {
			return o, s, true
		}
	}
	return object.Object{}, spec.StepCA{}, false
}

// issuance is what the CA issued, judged by the configuration and by what the containers hold. The CA is asked first:
// what it issued by then, its holder has by now.
func (s *session) issuance(ctx context.Context) (issued.Report, error) {
	o, ca, ok := s.certificateAuthority()
	if !ok {
		return issued.Report{}, nil
	}
	q := issuedQuestion{Source: issued.Source{Dir: ca.Dir, Database: ca.Database}}
	var list issued.List
	if err := s.askInside(ctx, o.Container, question{Issued: &q}, issuedAnswer, &list); err != nil {
		return issued.Report{}, fmt.Errorf("what the CA in container %s issued is not known: %w", o.Container, err)
	}
	if !list.Read {
		return issued.Report{}, fmt.Errorf("what the CA in container %s issued is not known: %w", o.Container,
			errOldAgent)
	}
	policy := s.issuedPolicy(ca, o)
	s.askHeld(ctx, &policy, s.ids())
	report := policy.Report(list.Bounded())
	s.traceOrders(ctx, o.Container, q.Source, &report)
	return report, nil
}

// lookIssued is what the audit says about the certificates that the CA issued. A CA that was never made has issued
// none.
func (a *app) lookIssued(ctx context.Context, cfg *config.Config) audit.Seen {
	i := slices.IndexFunc(cfg.Containers, func(c *config.Container) bool { return c.IsCA() })
	if i < 0 || os.Geteuid() != 0 {
		return audit.Seen{}
	}
	at := "container/" + cfg.Containers[i].ID
	unseen := func(err error) audit.Seen {
		return audit.Seen{Unseen: []audit.Unseen{{Object: at, Reason: strings.ReplaceAll(err.Error(), "\n", ": ")}}}
	}
	h, err := a.load()
	if err != nil {
		a.log.Debug("the configuration cannot be used", "error", err)
		return unseen(errors.New("what its CA issued cannot be judged by a configuration that cannot be used"))
	}
	if _, ca, ok := h.certificateAuthority(); !ok || ca.Pinned == "" {
		return audit.Seen{}
	}
	s, err := a.wire(h)
	if err != nil {
		return unseen(err)
	}
	defer s.close()
	report, err := s.issuance(ctx)
	if err != nil {
		return unseen(err)
	}
	return audit.Issued(at, report)
}

// caIssued shows every valid certificate that the CA issued.
func (a *app) caIssued(ctx context.Context) error {
	s, err := a.enter(nil)
	if err != nil {
		return err
	}
	defer s.close()
	if _, ca, ok := s.certificateAuthority(); !ok || ca.Pinned == "" {
		return hint(`give one container the feature "step_ca", then: `+s.again("up"),
			"there is no CA that could have issued anything")
	}
	report, err := s.issuance(ctx)
	if err != nil {
		return hint(s.again("health"), "%w", err)
	}
	a.view.Issued(report)
	return nil
}

// issuedPolicy is what the configuration and the memory say; the containers were not asked yet.
func (s *session) issuedPolicy(ca spec.StepCA, o object.Object) issued.Policy {
	p := issued.Policy{
		Allowed: ca.AllowedNames, Listed: s.cfg.Hypervisor.StepCA.AllowedNames,
		Held: map[string]issued.Held{}, Known: s.knownAccounts(),
	}
	for _, o := range s.objects {
		if isCertificate(o) {
			p.Owners = append(p.Owners,
				issued.Owner{Object: string(o.Address), Container: o.Container, Names: namesIn(o)})
		}
	}
	// step-ca makes its own certificate by itself: nobody orders one for its names.
	p.Owners = append(p.Owners, issued.Owner{Object: string(o.Address), Container: o.Container, Names: ca.DNSNames})
	return p
}

// askHeld asks containers which accounts and certificates are theirs, all at once.
func (s *session) askHeld(ctx context.Context, p *issued.Policy, ids []string) {
	places := map[string]*issued.Places{}
	var asked []string
	for _, o := range s.objects {
		var c spec.Certificate
		var t spec.Traefik
		if !isCertificate(o) || !slices.Contains(ids, o.Container) {
			continue
		}
		if places[o.Container] == nil {
			places[o.Container] = &issued.Places{}
			asked = append(asked, o.Container)
		}
		at := places[o.Container]
		switch {
		case o.Address.Kind() == spec.KindCertificate && json.Unmarshal(o.Spec, &c) == nil:
			at.Accounts = append(at.Accounts, filepath.Join(c.AccountDir, "account.json"))
			at.Certificates = append(at.Certificates, c.CertPath)
		case o.Address.Kind() == spec.KindTraefik && json.Unmarshal(o.Spec, &t) == nil:
			at.Storages = append(at.Storages, t.Storage)
		}
	}
	held := make([]*issued.Held, len(asked))
	engine.Each(len(asked), checksAtOnce, func(i int) {
		ctx, cancel := context.WithTimeout(ctx, heldLimit)
		defer cancel()
		var h issued.Held
		err := s.askInside(ctx, asked[i], question{Held: places[asked[i]]}, heldAnswer, &h)
		if err == nil && !h.Asked {
			err = errOldAgent
		}
		if err == nil {
			held[i] = &h
			return
		}
		s.log.Debug("what the container holds is not known", "container", asked[i], "error", err)
	})
	for i, id := range asked {
		if held[i] == nil {
			p.Silent = append(p.Silent, id)
			continue
		}
		p.Held[id] = held[i].Bounded()
	}
}

// askInside has a container's agent answer a question.
func (s *session) askInside(ctx context.Context, id string, q question, limit agent.Answer, into any) error {
	raw, err := json.Marshal(q)
	if err != nil {
		return err
	}
	client, err := s.links.any(ctx, id)
	if err != nil {
		return err
	}
	answer, err := client.Check(ctx, raw, limit)
	if errors.Is(err, engine.ErrDisconnected) { // the session was an older one
		s.links.lost(id, client)
		if client, err = s.links.any(ctx, id); err == nil {
			answer, err = client.Check(ctx, raw, limit)
		}
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// traceOrders adds where the certificates came from that are not in order, as far as the CA's log still has it.
func (s *session) traceOrders(ctx context.Context, id string, source issued.Source, r *issued.Report) {
	q := issuedQuestion{Source: source, Since: s.host.Now()}
	for _, v := range r.Certificates {
		if v.Alarming() && v.Order != "" {
			q.Orders = append(q.Orders, v.Order)
			if v.NotBefore.Before(q.Since) {
				q.Since = v.NotBefore
			}
		}
	}
	if len(q.Orders) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, heldLimit)
	defer cancel()
	var from map[string]string
	if err := s.askInside(ctx, id, question{Issued: &q}, heldAnswer, &from); err != nil {
		s.log.Debug("the CA's log was not read", "error", err)
		return
	}
	r.Trace(from)
}
