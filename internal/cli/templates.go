package cli

import (
	"context"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// cutTemplates takes the dependency on a template from each container that exists: it is needed for cloning, and by nothing else. So a
// template that cannot be built, as its mirror is away, is in nobody's way who is made already.
func (s *session) cutTemplates(ctx context.Context) {
	cut := make([]bool, len(s.objects))
	engine.Each(len(s.objects), checksAtOnce, func(i int) {
		o := s.objects[i]
		if o.Address.Kind() != spec.KindContainer || !slices.ContainsFunc(o.After, isTemplate) {
			return
		}
		obs, err := s.target.Observe(ctx, o)
		cut[i] = err == nil && len(obs.Status) > 0 && obs.Delta.Action != plan.Create && obs.Delta.Action != plan.Replace
	})
	s.objects = slices.Clone(s.objects)
	for i := range s.objects {
		if cut[i] {
			s.objects[i].After = slices.DeleteFunc(slices.Clone(s.objects[i].After), isTemplate)
		}
	}
}

func isTemplate(a object.Address) bool { return a.Kind() == spec.KindTemplate }
