package certificate

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// server is a TLS server that keeps the pair it loaded until it is told to reload, as nginx does.
type server struct {
	pair atomic.Pointer[tls.Certificate]
	ln   net.Listener
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	ln, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.pair.Load(), nil // none: Go sends alert 112, as ssl_reject_handshake does
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); c.Close() }()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return s
}

func (s *server) load(t *testing.T, c spec.Certificate) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.CertPath, c.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	s.pair.Store(&pair)
}

func TestServed(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	srv := startServer(t)
	s, h := specIn(room(t), ca), &host.Local{}
	s.Served = srv.ln.Addr().String()
	if st := made(t, h, s); st.Serving != Rejected {
		t.Fatalf("before it has a certificate: %q %q", st.Served, st.Serving)
	}
	srv.load(t, s)
	if st := made(t, h, s); st.Served != st.Serial {
		t.Fatalf("serves %q, on disk %q", st.Served, st.Serial)
	}
	// The server that does not take up the new one is found out.
	renew := plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}
	withLimit(t, 200*time.Millisecond)
	err := apply(h, s, renew)
	if err == nil || !strings.Contains(err.Error(), "after the reload, on disk is serial") {
		t.Fatalf("got %v", err)
	}
	if _, d := look(t, h, s); !d.Has(fieldServed) {
		t.Fatalf("got %+v", d)
	}
	srv.load(t, s)
	made(t, h, s)
	srv.ln.Close()
	if st := made(t, h, s); st.Serving != NotListening {
		t.Errorf("gone: %q %q", st.Served, st.Serving)
	}
}

func withLimit(t *testing.T, d time.Duration) {
	t.Helper()
	old := servedLimit
	servedLimit = d
	t.Cleanup(func() { servedLimit = old })
}

func TestReloadFails(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	flag := filepath.Join(filepath.Dir(s.AccountDir), "may-reload")
	s.Reload = []string{"test", "-e", flag}
	_, d := look(t, h, s)
	if err := apply(h, s, d); err == nil || !strings.Contains(err.Error(), "the reload failed") {
		t.Fatalf("got %v", err)
	}
	st, d := look(t, h, s)
	if !d.Has(fieldReload) || d.Has(fieldCertificate) {
		t.Fatalf("got %+v", d)
	}
	if err := h.WriteFile(flag, nil, 0o600, host.Root); err != nil {
		t.Fatal(err)
	}
	if again := made(t, h, s); again.Serial != st.Serial {
		t.Error("issued again though only the reload was due")
	}
}
