package cli

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// checksAtOnce bounds how many checks are under way.
const checksAtOnce = 16

func (a *app) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use: "health [ID...]", Short: "the full system check; exit 0 healthy, 3 not",
		Long: `health checks these containers and what they depend on; without ids those that are
started at boot and any other that exists. It changes nothing.`,
		Example: `  phoenix health
  phoenix health 103 -q
  phoenix health -o json`,
		ValidArgsFunction: a.completeIDs,
		RunE: a.command(func(ctx context.Context, ids []string) error {
			s, err := a.enter(ids)
			if err != nil {
				return err
			}
			defer s.close()
			if len(ids) == 0 {
				ids = s.expected(ctx)
			}
			objects, _ := s.selected(ids)
			report := s.check(ctx, objects)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.view.Health(report)
			if !report.Healthy {
				return codeError(exitUnhealthy)
			}
			return nil
		}),
	}
}

// expected are the containers that should be well: those started at boot, and any other that exists.
func (s *session) expected(ctx context.Context) []string {
	var out []string
	for _, c := range s.cfg.Containers {
		o, ok := object.Find(s.objects, object.NewAddress(spec.KindContainer, c.ID))
		if !ok {
			continue
		}
		exists := false
		if !c.StartAtBoot {
			obs, err := s.target.Observe(ctx, o)
			exists = err == nil && len(obs.Status) > 0
		}
		if c.StartAtBoot || exists {
			out = append(out, c.ID)
		}
	}
	return out
}

// check runs every check of the objects where it belongs, those that do not wait for one another at once.
func (s *session) check(ctx context.Context, objects []object.Object) health.Report {
	checks := health.Resolve(health.Derive(objects), health.ReadPins(s.host, objects))
	board := health.NewBoard(checks)
	for !board.Finished() {
		ready := board.Ready()
		results := make([]health.Result, len(ready))
		engine.Each(len(ready), checksAtOnce, func(i int) { results[i] = s.checkOne(ctx, ready[i]) })
		for i, c := range ready {
			board.Done(c, results[i])
		}
	}
	return board.Report()
}

func (s *session) checkOne(ctx context.Context, c health.Check) health.Result {
	if c.Host == "" {
		return health.Run(ctx, s.host, c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return health.Failed(c, err)
	}
	client, err := s.links.any(ctx, c.Host)
	if err != nil {
		return health.Failed(c, err)
	}
	answer, err := client.Check(ctx, raw)
	if errors.Is(err, engine.ErrDisconnected) {
		// The session was an older one; the container may have been restarted since.
		s.links.lost(c.Host, client)
		if client, err = s.links.any(ctx, c.Host); err == nil {
			answer, err = client.Check(ctx, raw)
		}
	}
	var r health.Result
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	if err != nil {
		return health.Failed(c, err)
	}
	return r
}

// answerCheck is checkOne's other side, inside a container.
func answerCheck(ctx context.Context, h host.Host, raw json.RawMessage) (json.RawMessage, error) {
	var c health.Check
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	return json.Marshal(health.Run(ctx, h, c))
}
