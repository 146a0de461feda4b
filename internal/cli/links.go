package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
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
	ended  []error
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
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end()
	return k.dial(ctx, l, id)
}

// any gives the session that stands, or makes one.
func (l *links) any(ctx context.Context, id string) (*agent.Client, error) {
	k := l.link(id)
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
	k.client, err = l.dial(ctx, id)
	return k.client, err
}

func (k *link) end() {
	if k.client != nil {
		k.ended = append(k.ended, k.client.Close())
		k.client = nil
	}
}

// close ends all sessions and tells how each ended.
func (l *links) close() map[string]error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]error{}
	for id, k := range l.all {
		k.mu.Lock()
		k.end()
		for _, err := range k.ended {
			if err != nil {
				out[id] = err
			}
		}
		k.mu.Unlock()
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
	limit := s.limits.hello()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no hello within %s", limit))
	defer cancel()
	return agent.Dial(ctx, argv, s.blob, s.changing)
}

func decode(raw json.RawMessage, into any) error { return json.Unmarshal(raw, into) }
