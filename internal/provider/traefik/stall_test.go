package traefik

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// lock is that of a container's agent, which each change is made under.
type lock chan struct{}

func (l lock) take(ctx context.Context) (func(), error) {
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// others takes the lock again and again, as one that mends another fault does; what it returns ends that, and gives the
// longest that the lock was waited for.
func (l lock) others(t *testing.T) func() time.Duration {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var most time.Duration
	group.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			free, err := l.take(context.Background())
			if err != nil {
				return
			}
			most = max(most, time.Since(start))
			free()
			time.Sleep(10 * time.Millisecond)
		}
	})
	end := sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(end)
	return func() time.Duration { end(); return most }
}

// target is what an agent applies the served object with.
func (p *proxy) target(l lock) *engine.LocalTarget {
	return engine.NewLocal(engine.Drivers{"traefik/traefik": New()}, p.h, l.take, nil, nil)
}

// hangingCA takes connections, and never has an answer.
func hangingCA(t *testing.T, at string) {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
}

// Traefik, which does not get its certificates, is waited for as long as an order may take. Another fault in the same
// container does not wait for it, nor does who asks for the end.
func TestStalledOrderHoldsNobodyUp(t *testing.T) {
	sandbox.Tool(t, "PHOENIX_TRAEFIK", "traefik")
	const silentAt = "127.0.0.9:9000"
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), "https://"+silentAt+"/acme/acme/directory")
	hangingCA(t, silentAt)
	p.makeTrue(p.config)
	p.start()
	p.served.OrderTimeout = spec.Duration(4 * time.Second)
	l := make(lock, 1)
	target, waited := p.target(l), l.others(t)
	start := time.Now()
	_, err := target.Apply(context.Background(), asObject(t, servedAddr, p.served), engine.Consent{})
	if err == nil || !strings.Contains(err.Error(), "traefik was restarted and certificate of a.test.internal") {
		t.Fatalf("got %v\n%s", err, p.log())
	}
	if took := time.Since(start); took < 3*time.Second || took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if most := waited(); most > 2*time.Second {
		t.Errorf("another fault waited %s", most)
	} else {
		t.Logf("another fault waited %s at most", most.Round(time.Millisecond))
	}
	p.served.OrderTimeout = spec.Duration(5 * time.Minute)
	stop, end := context.WithCancel(context.Background())
	defer end()
	ctx, free := engine.Interruptible(context.Background(), stop)
	defer free()
	pid := p.pid()
	time.AfterFunc(300*time.Millisecond, end)
	start = time.Now()
	if _, err = target.Apply(ctx, asObject(t, servedAddr, p.served), engine.Consent{}); err == nil {
		t.Error("it was given up, and is said to be done")
	}
	if took := time.Since(start); took > 15*time.Second || p.pid() != pid {
		t.Errorf("it was given up after %s; restarted: %t", took, p.pid() != pid)
	}
}

// A Traefik that hangs is looked at for a moment, however many names it has: it is looked at under the lock, too.
func TestHangingTraefikIsLookedAtForAMoment(t *testing.T) {
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), directory)
	hangingCA(t, servedAt)
	hangingCA(t, localAddress)
	for i := range 20 {
		p.served.Routes = append(p.served.Routes, spec.TraefikRoute{Name: fmt.Sprint("more", i),
			Hosts: []string{fmt.Sprintf("more%d.test.internal", i)}, URL: "http://127.0.0.3:8080"})
	}
	start := time.Now()
	st, d := p.look(p.served)
	if took := time.Since(start); took > 10*time.Second { // half a minute, if each were asked
		t.Errorf("it took %s", took)
	}
	if st.Certificates[1].Problem != silent || d.Empty() {
		t.Errorf("%+v", st.Certificates[:2])
	}
}
