package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

func (a *app) eventsCommand() *cobra.Command {
	var since time.Duration
	var failed, follow bool
	cmd := &cobra.Command{
		Use: "events [ID...]", Short: "what watch and the containers' daemons repaired, and what they could not",
		Example: `  phoenix events --since 1h
  phoenix events --failed
  phoenix events 101 -f`,
		ValidArgsFunction: a.completeIDs,
	}
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	cmd.Flags().BoolVar(&failed, "failed", false, "only what could not be done")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until told to stop")
	cmd.RunE = a.command(func(ctx context.Context, ids []string) error {
		if since < 0 {
			return &usageError{err: fmt.Errorf("--since %s is in the future", since), hint: "how far back, such as 1h"}
		}
		s, err := a.enter(ids)
		if err != nil {
			return err
		}
		defer s.close()
		from := time.Now().Add(-since)
		unwanted := func(e engine.Entry) bool { return e.Time.Before(from) || failed && e.Error == "" }
		list, unseen, err := s.events(ctx, ids, since)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, unwanted)
		if follow {
			return s.follow(ctx, ids, list, unwanted)
		}
		a.view.Events(list)
		return s.notSeen(unseen)
	})
	return cmd
}

// events are those of the hypervisor's watch and of the daemons in running containers, oldest first; unseen are
// containers that run and do not tell theirs.
func (s *session) events(ctx context.Context, ids []string, since time.Duration) (out []engine.Entry,
	unseen map[string]error, err error) {
	if out, err = engine.ReadJournal(s.eventsPath()); err != nil {
		return nil, nil, err
	}
	if len(ids) > 0 {
		out = slices.DeleteFunc(out, func(e engine.Entry) bool { return !slices.Contains(ids, e.Object.Scope()) })
	} else {
		ids = s.expected(ctx)
	}
	inside, failed := make([][]engine.Entry, len(ids)), make([]error, len(ids))
	engine.Each(len(ids), checksAtOnce, func(i int) { inside[i], failed[i] = s.eventsInside(ctx, ids[i], since) })
	unseen = map[string]error{}
	for i, err := range failed {
		if err != nil {
			unseen[ids[i]] = err
		}
	}
	out = append(out, slices.Concat(inside...)...)
	slices.SortStableFunc(out, func(a, b engine.Entry) int { return a.Time.Compare(b.Time) })
	return out, unseen, nil
}

// followEvery is how often somebody who follows the events is told of new ones; the containers' daemons are asked as
// often.
const followEvery = 2 * time.Second

// follow shows the events, and those that come, until ctx ends.
func (s *session) follow(ctx context.Context, ids []string, list []engine.Entry,
	unwanted func(engine.Entry) bool) error {
	shown := map[string]bool{}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		var fresh []engine.Entry
		for _, e := range list {
			key := fmt.Sprint(e.Time.UnixNano(), e.By, e.Object)
			if !shown[key] {
				shown[key], fresh = true, append(fresh, e)
			}
		}
		s.view.Following(fresh)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		// A container that does not answer for a while does not end what is followed.
		if list, _, err = s.events(ctx, ids, time.Minute); err != nil {
			return err
		}
		list = slices.DeleteFunc(list, unwanted)
	}
}

// eventsLimit is how long a container may take to tell its events.
const eventsLimit = 10 * time.Second

// eventsInside asks a container; one that does not run, or has no phoenix yet, has none to tell.
func (s *session) eventsInside(ctx context.Context, id string, since time.Duration) ([]engine.Entry, error) {
	running, ok := specOf[spec.Running](s.objects, object.NewAddress(spec.KindRunning, id))
	binary, okBinary := specOf[spec.Binary](s.objects, object.NewAddress(spec.KindBinary, id))
	if !ok || !okBinary {
		return nil, nil
	}
	argv := s.enterArgv(running, binary.Target, "agent", "events")
	res, err := s.host.Run(ctx, host.Command{Argv: argv, Limit: cmp.Or(s.limits.Agent.Silence, eventsLimit)})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case err != nil:
		s.log.Debug("no events from inside", "container", id, "error", err)
		return nil, nil
	}
	list, err := eventsOf(id, res.Stdout)
	if err != nil {
		return nil, fmt.Errorf("its events cannot be read: %w", err)
	}
	return list, nil
}

// eventsShape is what they may be.
var eventsShape = clean.Shape{Depth: 8, Values: mostEvents * 60, String: 2 * mostError}

// eventsOf reads what a container tells: of its own objects only, and as its own words.
func eventsOf(id string, raw []byte) ([]engine.Entry, error) {
	raw, err := clean.JSON(bytes.TrimSpace(raw), eventsShape, nil)
	if err != nil {
		return nil, err
	}
	var list []engine.Entry
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e engine.Entry) bool {
		known := slices.Contains([]plan.Action{plan.None, plan.Create, plan.Update, plan.Replace, plan.Delete},
			e.Action)
		return e.Object.Scope() != id || !known
	})
	list = list[max(0, len(list)-mostEvents):]
	for i := range list {
		list[i].By = "agent/" + id
		if list[i].Error != "" {
			list[i].Error = "container " + id + " says: " + list[i].Error
		}
	}
	return list, nil
}

// What the inside tells has to fit into what a command may say, 1 MiB.
const (
	mostEvents = 500
	mostError  = 1 << 10 // bytes of an error, whose first lines say the most
)

// agentEvents is eventsInside's other side.
func (a *app) agentEvents(since time.Duration) error {
	list, err := engine.ReadJournal(agent.EventsPath)
	if err != nil {
		return err
	}
	from := time.Now().Add(-since)
	list = slices.DeleteFunc(list, func(e engine.Entry) bool { return e.Time.Before(from) })
	list = append([]engine.Entry{}, list[max(0, len(list)-mostEvents):]...)
	for i := range list {
		if len(list[i].Error) > mostError {
			list[i].Error = strings.ToValidUTF8(list[i].Error[:mostError], "") + "…"
		}
	}
	return json.NewEncoder(a.stdout).Encode(list)
}
