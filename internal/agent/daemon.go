package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Where the daemon finds its objects and leaves word of its last round.
const (
	ObjectsPath = "/etc/phoenix/agent.json"
	StatusPath  = "/run/phoenix/status.json"
	EventsPath  = "/var/lib/phoenix/events.jsonl"
)

// lookAgain is how long until everything is looked at though nothing has changed.
const lookAgain = 30 * time.Second

// late is how long a round waits for one object. What takes longer, such as an order at a CA that cannot reach this
// container, goes on by itself; all else is kept meanwhile.
const late = time.Second

// Round is what the daemon leaves at StatusPath after each round.
type Round struct {
	Time     time.Time        `json:"time"`
	Next     time.Time        `json:"next"`
	Changes  int              `json:"changes"`
	Failures []engine.Failure `json:"failures,omitempty"`
}

// Daemon keeps the container's objects true until ctx ends.
type Daemon struct {
	Drivers engine.Drivers
	Host    host.Host
	Log     *slog.Logger
	Objects string          // path; empty: ObjectsPath
	Status  string          // path; empty: StatusPath
	Journal *engine.Journal // nil: nothing is written down
	Lock    func(context.Context) (func(), error)
	Key     func(ctx context.Context, key string) (func(), error) // of what takes long; see engine.LocalTarget
	// Quiet, where there is one, is taken and let go before each round: no round begins while the hypervisor is at
	// work.
	Quiet func(context.Context) (func(), error)

	blind  engine.Blindness
	source atomic.Pointer[issued.Source] // the CA in this container; nil: there is none
}

// Run keeps them. An unreadable list of objects ends it: systemd starts it anew, and the hypervisor writes the list
// anew.
func (d *Daemon) Run(ctx context.Context) error {
	target := engine.NewLocal(d.Drivers, d.Host, d.Lock, nil, nil)
	target.Key, target.Most = d.Key, HoldMost
	k := &engine.Keeper{
		Engine:  &engine.Engine{Local: target, Notify: d.notify, Workers: 2, Late: late},
		Objects: func(bool) ([]object.Object, error) { return d.objects() },
		// Jitter, so that the agents of many containers do not come to the CA at once.
		Full:   lookAgain + time.Duration(rand.Int64N(int64(lookAgain)/10)),
		Begin:  d.quiet,
		Also:   provider.Watch{Paths: []string{d.list()}},
		Report: d.leave,
	}
	ctx, cancel := context.WithCancel(ctx)
	var record sync.WaitGroup
	record.Go(func() { d.keepRecord(ctx) })
	err := k.Run(ctx)
	cancel()
	record.Wait()
	return err
}

func (d *Daemon) quiet(ctx context.Context) error {
	if d.Quiet == nil {
		return nil
	}
	release, err := d.Quiet(ctx)
	if err == nil {
		release()
	}
	return err
}

func (d *Daemon) notify(ev engine.Event) {
	var held *engine.HeldError
	switch {
	case ev.Stage == engine.Changed:
		d.Log.Info("changed", "object", ev.Object.Address, "action", ev.Delta.Action, "reason", ev.Delta.Reason,
			"after", ev.Elapsed)
	case ev.Stage == engine.Failed && !errors.As(ev.Err, &held):
		d.Log.Error("failed", "object", ev.Object.Address, "error", ev.Err)
	}
	if d.Journal == nil {
		return
	}
	if err := d.Journal.Note(ev); err != nil {
		d.Log.Warn("the event was not written down", "error", err)
	}
}

func (d *Daemon) list() string {
	if d.Objects == "" {
		return ObjectsPath
	}
	return d.Objects
}

func (d *Daemon) objects() ([]object.Object, error) {
	path := d.list()
	b, err := d.Host.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the list of objects cannot be read: %w", err)
	}
	var s spec.Agent
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s is no list of objects: %w", path, err)
	}
	objects := engine.Among(s.Objects)
	for i := range objects {
		objects[i].Host = "" // this host
	}
	d.remember(objects)
	return objects, nil
}

// leave writes word of a round and gives memory back: between rounds the daemon should weigh little.
func (d *Daemon) leave(r engine.Round) {
	d.blind.Tell(d.Log, r.Blind)
	path := d.Status
	if path == "" {
		path = StatusPath
	}
	b, err := json.Marshal(Round{Time: d.Host.Now(), Next: r.Next, Changes: len(r.Result.Plan.Changes),
		Failures: r.Result.Failures})
	if err == nil {
		// Not durable and not counted: word of one round, on a tmpfs.
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		d.Log.Warn("status not written", "error", err)
	}
	debug.FreeOSMemory()
}
