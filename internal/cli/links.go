package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// links are the sessions with containers' agents, one a container. Its methods may be called at once.
type links struct {
	dial func(ctx context.Context, id string) (*agent.Client, error)
	mu   sync.Mutex // guards all
	all  map[string]*link
}

type link struct {
	mu     sync.Mutex // held while dialling
	client *agent.Client
	given  error // why the container's agent was given up: it is not called again
	ended  []error
	left   atomic.Bool // by rest
}

func newLinks(dial func(context.Context, string) (*agent.Client, error)) *links {
	return &links{dial: dial, all: map[string]*link{}}
}

func (l *links) link(id string) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[id] == nil {
		l.all[id] = &link{}
	}
	return l.all[id]
}

// fresh makes a new session and ends the one before.
func (l *links) fresh(ctx context.Context, id string) (*agent.Client, error) {
	k := l.link(id)
	defer k.resting()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		k.note(k.client.Lost())
	}
	k.end()
	return k.dial(ctx, l, id)
}

// any gives the session that stands, or makes one.
func (l *links) any(ctx context.Context, id string) (*agent.Client, error) {
	k := l.link(id)
	defer k.resting()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	return k.dial(ctx, l, id)
}

// lost forgets a session that broke, if it is still the one in use.
func (l *links) lost(id string, c *agent.Client) {
	k := l.link(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == c {
		k.end()
	}
}

func (k *link) dial(ctx context.Context, l *links, id string) (c *agent.Client, err error) {
	if k.given != nil {
		return nil, k.given
	}
	k.client, err = l.dial(ctx, id)
	k.note(err)
	return k.client, err
}

// note remembers that an agent was given up: every limit that it exceeds is waited for once.
func (k *link) note(err error) {
	if errors.Is(err, engine.ErrUnresponsive) {
		k.given = err
	}
}

func (k *link) end() {
	if k.client != nil {
		k.ended = append(k.ended, k.client.Close())
		k.client = nil
	}
}

// rest ends all sessions, each once nothing is in flight in it, and waits for none. Agents that were given up may be
// called again.
func (l *links) rest() {
	l.mu.Lock()
	all := l.all
	l.all = map[string]*link{}
	l.mu.Unlock()
	for _, k := range all {
		k.left.Store(true)
		k.resting()
	}
}

// resting ends the session of a link that was left. While it is dialled, who dials does it.
func (k *link) resting() {
	if !k.left.Load() || !k.mu.TryLock() {
		return
	}
	defer k.mu.Unlock()
	if k.client != nil {
		k.client.CloseIdle(func(error) {})
		k.client = nil
	}
}

// close ends all sessions, all at once, and tells how each ended.
func (l *links) close() map[string]error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := slices.Collect(maps.Keys(l.all))
	ended := make([]error, len(ids))
	engine.Each(len(ids), checksAtOnce, func(i int) {
		k := l.all[ids[i]]
		k.mu.Lock()
		defer k.mu.Unlock()
		k.end()
		for _, err := range k.ended {
			if err != nil {
				ended[i] = err
			}
		}
	})
	out := map[string]error{}
	for i, err := range ended {
		if err != nil {
			out[ids[i]] = err
		}
	}
	return out
}

// dial enters a running container and talks to the phoenix in there.
func (s *session) dial(ctx context.Context, id string) (*agent.Client, error) {
	running, ok := specOf[spec.Running](s.objects, object.NewAddress(spec.KindRunning, id))
	binary, okBinary := specOf[spec.Binary](s.objects, object.NewAddress(spec.KindBinary, id))
	if !ok || !okBinary {
		return nil, fmt.Errorf("container %s is not one that phoenix starts", id)
	}
	argv := s.enterArgv(running, binary.Target, "agent", "serve")
	if s.changes {
		argv = append(argv, "--"+changesFlag)
	}
	return agent.Dial(ctx, argv, agent.Session{Container: id, Blobs: s.blob, Changing: s.changing,
		Limits: s.limits.Agent})
}

func decode(raw json.RawMessage, into any) error { return json.Unmarshal(raw, into) }
