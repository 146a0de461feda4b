package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

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
			s.cutElsewhere()
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

// expectLimit is how long the look at what exists may take; what was not seen by then does not count.
const expectLimit = 5 * time.Second

// expected are the containers that should be well: those started at boot, and any other that exists.
func (s *session) expected(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, expectLimit)
	defer cancel()
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

// answerCheck is inquiry.inside's other side, inside a container. A command that does not end is not waited for.
func answerCheck(ctx context.Context, h host.Host, raw json.RawMessage) (json.RawMessage, error) {
	var c health.Check
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if _, plain := h.(*host.Local); plain {
		h = &host.Local{Grace: checkGrace}
	}
	return json.Marshal(health.Run(ctx, h, c))
}
