package cli

import (
	"context"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// cutTemplates takes the dependency on a template from each container that exists: it is needed for cloning, and by
// nothing else. So a template that cannot be built, as its mirror is away, is in nobody's way who is made already. One
// that a killed clone left locked stays in the selection: to unlock it needs no mirror.
func (s *session) cutTemplates(ctx context.Context) {
	locked := s.lockedTemplates(ctx)
	needless := func(a object.Address) bool { return isTemplate(a) && !slices.Contains(locked, a) }
	cut := make([]bool, len(s.objects))
	engine.Each(len(s.objects), checksAtOnce, func(i int) {
		o := s.objects[i]
		if o.Address.Kind() != spec.KindContainer || !slices.ContainsFunc(o.After, isTemplate) {
			return
		}
		obs, err := s.target.Observe(ctx, o)
		cut[i] = err == nil && len(obs.Status) > 0 && obs.Delta.Action != plan.Create &&
			obs.Delta.Action != plan.Replace
	})
	s.objects = slices.Clone(s.objects)
	for i := range s.objects {
		if cut[i] {
			s.objects[i].After = slices.DeleteFunc(slices.Clone(s.objects[i].After), needless)
		}
	}
}

// lockedTemplates are those whose lock nobody holds any more.
func (s *session) lockedTemplates(ctx context.Context) (out []object.Address) {
	for _, o := range s.objects {
		if !isTemplate(o.Address) || s.machine.Proxmox == nil {
			continue
		}
		if obs, err := s.target.Observe(ctx, o); err == nil && obs.Delta.Action == plan.Update &&
			obs.Delta.Has("lock") {
			out = append(out, o.Address)
		}
	}
	return out
}

func isTemplate(a object.Address) bool { return a.Kind() == spec.KindTemplate }
