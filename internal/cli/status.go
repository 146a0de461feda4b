package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [ID...]", Short: "containers, addresses, volumes, certificates; changes nothing",
		Example: `  phoenix status
  phoenix status 101 -o json`,
		ValidArgsFunction: a.completeIDs,
		RunE: a.command(func(ctx context.Context, ids []string) error {
			s, err := a.enter(ids)
			if err != nil {
				return err
			}
			defer s.close()
			if len(ids) == 0 {
				ids = s.ids()
			}
			objects, _ := s.selected(ids)
			result, err := s.engine().Plan(ctx, objects)
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.seeCertificates(ctx, ids, &result)
			status := s.statusOf(ids, result)
			if status.Waiting, err = s.waiting(); err != nil {
				s.log.Warn("what waits for phoenix apply is not known", "error", err)
			}
			a.view.Status(status)
			return s.notSeen(unanswered(result))
		}),
	}
}

// unanswered are the containers whose agent does not answer, and why.
func unanswered(r engine.Result) map[string]error {
	out := map[string]error{}
	for _, f := range r.Failures {
		if f.BlockedBy == "" && (errors.Is(f.Err, engine.ErrUnresponsive) || errors.Is(f.Err, engine.ErrDisconnected)) {
			out[f.Address.Scope()] = f.Err
		}
	}
	return out
}

// notSeen names containers that could not be looked into, beside what is shown of the others.
func (s *session) notSeen(why map[string]error) error {
	for _, id := range slices.Sorted(maps.Keys(why)) {
		fmt.Fprintf(s.stderr, "not seen: container %s: %s\n", id, clean.Line(why[id].Error(), 1000))
	}
	if len(why) > 0 {
		return codeError(exitFailed)
	}
	return nil
}

// seeCertificates looks at the certificates that a plan could not: while the CA is away, what depends on it is not
// known to be right, but it can be seen.
func (s *session) seeCertificates(ctx context.Context, ids []string, r *engine.Result) {
	pins := health.ReadPins(s.host, s.objects)
	var unseen []object.Object
	for _, o := range s.objects {
		has := o.Address.Kind() == spec.KindCertificate || o.Address.Kind() == spec.KindTraefik
		if has && slices.Contains(ids, o.Container) && len(r.Statuses[o.Address].Status) == 0 &&
			state(o.Container, *r) == stateRunning {
			unseen = append(unseen, withPins(o, pins))
		}
	}
	seen := make([]provider.Observation, len(unseen))
	engine.Each(len(unseen), checksAtOnce, func(i int) {
		client, err := s.links.any(ctx, unseen[i].Host)
		if err == nil {
			seen[i], err = client.Observe(ctx, unseen[i])
		}
		if err != nil {
			s.log.Debug("not seen", "object", unseen[i].Address, "error", err)
		}
	})
	for i, o := range unseen {
		r.Statuses[o.Address] = seen[i]
	}
}

// withPins fills in what an object needs from the pins.
func withPins(o object.Object, pins health.Facts) object.Object {
	for _, n := range o.Needs {
		value := pins[n.From][n.Field]
		if filled, err := object.Fill(o.Spec, n.Into, value); err == nil && value != "" {
			o.Spec = filled
		}
	}
	return o
}

func (s *session) statusOf(ids []string, r engine.Result) view.Status {
	var out view.Status
	for _, c := range s.cfg.Containers {
		_, made := object.Find(s.objects, object.NewAddress(spec.KindContainer, c.ID))
		if made && slices.Contains(ids, c.ID) {
			out.Containers = append(out.Containers, s.containerStatus(c, r))
		}
	}
	return out
}

func (s *session) containerStatus(c *config.Container, r engine.Result) view.Container {
	number, _ := strconv.Atoi(c.ID) // the loader takes numbers only
	out := view.Container{ID: number, Name: c.Name, State: state(c.ID, r)}
	if ip, ok := addressOf(s.objects, c.ID); ok {
		out.IP = ip.String()
	}
	for _, o := range s.objects {
		if o.Container != c.ID {
			continue
		}
		status := r.Statuses[o.Address].Status
		switch o.Address.Kind() {
		case spec.KindVolume:
			out.Volumes = append(out.Volumes, volumeStatus(o, status))
		case spec.KindCertificate, spec.KindTraefik:
			out.Certificates = append(out.Certificates, certificates(status)...)
		}
	}
	return out
}

// state is running, stopped or absent; unknown where it could not be observed.
func state(id string, r engine.Result) string {
	definition, running := object.NewAddress(spec.KindContainer, id), object.NewAddress(spec.KindRunning, id)
	for _, f := range r.Failures {
		if f.Address == definition || f.Address == running {
			return "unknown"
		}
	}
	if seen := stateOf(r.Statuses[running].Status); seen != "" {
		return seen
	}
	if len(r.Statuses[definition].Status) > 0 {
		return "stopped"
	}
	return "absent"
}

const stateRunning = "running"

// stateOf reads the state in the status of a running object; empty: it says none.
func stateOf(status json.RawMessage) string {
	var seen struct {
		State string `json:"state"`
	}
	if json.Unmarshal(status, &seen) != nil {
		return ""
	}
	return seen.State
}

func volumeStatus(o object.Object, status json.RawMessage) view.Volume {
	var v spec.Volume
	var seen struct {
		Path string `json:"path"`
		UID  int    `json:"uid"`
		GID  int    `json:"gid"`
		Mode string `json:"mode"`
	}
	out := view.Volume{}
	if json.Unmarshal(o.Spec, &v) == nil {
		out.MountPoint, out.Source = v.MountPoint, v.Path
	}
	if json.Unmarshal(status, &seen) == nil {
		if seen.Path != "" {
			out.Source = seen.Path
		}
		out.Owner, out.Mode = fmt.Sprintf("%d:%d", seen.UID, seen.GID), seen.Mode
	}
	return out
}

// certificates reads the certificates that a status speaks of: its own, or a list of them.
func certificates(status json.RawMessage) []view.Certificate {
	var own view.Certificate
	var list struct {
		Certificates []view.Certificate `json:"certificates"`
	}
	var out []view.Certificate
	if json.Unmarshal(status, &own) == nil && own.Serial != "" {
		out = append(out, own)
	}
	if json.Unmarshal(status, &list) == nil {
		for _, c := range list.Certificates {
			if c.CommonName == "" && len(c.DNSNames) > 0 {
				c.CommonName = c.DNSNames[0] // Traefik's have names only
			}
			// one for several names is said for each of them
			same := func(x view.Certificate) bool { return x.Serial == c.Serial }
			if c.Serial != "" && !slices.ContainsFunc(out, same) {
				out = append(out, c)
			}
		}
	}
	return out
}
