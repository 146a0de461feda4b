package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// enter opens the house for a command on given containers.
func (a *app) enter(ids []string) (*session, error) {
	s, err := a.open()
	if err != nil {
		return nil, err
	}
	return s, s.known(ids)
}

// outside are the objects on the hypervisor that the containers' running needs, and these themselves.
func (s *session) outside(ids []string) []object.Object {
	var want []object.Address
	for _, id := range ids {
		want = append(want, object.NewAddress(spec.KindRunning, id))
	}
	var out []object.Object
	// Objects stand behind what they depend on: one way back finds everything.
	for _, o := range slices.Backward(s.objects) {
		if slices.Contains(want, o.Address) && o.Host == "" {
			out = append(out, o)
			want = append(want, o.Dependencies()...)
		}
	}
	slices.Reverse(out)
	return engine.Among(out)
}

// made fails where one of the containers does not exist yet, is none that can run, or is in a migration's hands.
func (s *session) made(ctx context.Context, ids []string) error {
	if err := s.notMoving(ids); err != nil {
		return err
	}
	var absent []string
	for _, id := range ids {
		o, ok := object.Find(s.objects, object.NewAddress(spec.KindContainer, id))
		if !ok {
			return hint("clone a container from it: \"clone_from_ctid\": \""+id+"\"",
				"%s is a template, which does not run", id)
		}
		obs, err := s.target.Observe(ctx, o)
		if err != nil {
			return err
		}
		if len(obs.Status) == 0 || obs.Delta.Action == plan.Create {
			absent = append(absent, id)
		}
	}
	if len(absent) > 0 {
		list := strings.Join(absent, " ")
		return hint(s.again("create "+list), "not created yet: %s", list)
	}
	return nil
}

// own are the containers' own objects with what their running needs. What these need of others' is taken from the pins.
func (s *session) own(ids []string) []object.Object {
	pins := health.ReadPins(s.host, s.objects)
	outside := s.outside(ids)
	var out []object.Object
	for _, o := range s.objects {
		_, needed := object.Find(outside, o.Address)
		if needed || slices.Contains(ids, o.Container) {
			out = append(out, withPins(o, pins))
		}
	}
	return engine.Among(out)
}

// runs makes containers that exist run, with the network and volumes that they need, and waits until their inside is
// true.
func (s *session) runs(ctx context.Context, ids []string) (view.Applied, error) {
	s.cutElsewhere()
	if err := s.made(ctx, ids); err != nil {
		return view.Applied{}, err
	}
	if err := s.prepare(ctx, ids); err != nil {
		return view.Applied{}, err
	}
	if err := s.release(ids); err != nil {
		return view.Applied{}, err
	}
	return s.apply(ctx, s.own(ids), ids)
}

// stops stops containers and tells which.
func (s *session) stops(ctx context.Context, ids []string) (view.Removed, error) {
	var running []object.Object
	for _, o := range s.objects {
		if o.Address.Kind() == spec.KindRunning && slices.Contains(ids, o.Container) {
			running = append(running, o)
		}
	}
	there := s.there(ctx, running, func(status json.RawMessage) bool { return stateOf(status) == stateRunning })
	defer s.tellStop(ctx)()
	mutations, err := s.target.Remove(ctx, running, engine.Stop)
	return view.Removed{Verb: "stopped", Objects: there, Mutations: mutations, Elapsed: s.elapsed()}, err
}

// there are the addresses of those objects on the hypervisor whose status says so, last ones first. One that cannot be
// observed is among them: nobody knows.
func (s *session) there(ctx context.Context, objects []object.Object, so func(json.RawMessage) bool) []object.Address {
	yes := make([]bool, len(objects))
	engine.Each(len(objects), checksAtOnce, func(i int) {
		obs, err := s.target.Observe(ctx, objects[i])
		yes[i] = err != nil || so(obs.Status)
	})
	var out []object.Address
	for i, o := range slices.Backward(objects) {
		if yes[i] {
			out = append(out, o.Address)
		}
	}
	return out
}
