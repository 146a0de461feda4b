package nginx

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Where another nginx.conf served TLS and the certificate for the new one is there, the first reload brings it all:
// there is no moment without TLS.
func TestTLSComesWithTheBase(t *testing.T) {
	g := newGateway(t)
	g.certify()
	g.write("/etc/nginx/nginx.conf",
		[]byte("events {}\npid /run/nginx.pid;\nhttp { server { listen 80; return 204; }\n"+
			"server { listen 443 ssl; ssl_certificate "+g.base.Certificate+"; ssl_certificate_key "+g.base.Key+
			"; return 204; } }\n"), 0o644)
	g.start()
	done, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1/", nil)
			if err == nil {
				client := g.client()
				client.Transport.(*http.Transport).TLSClientConfig.ServerName = "c.test.internal"
				req.Host = "c.test.internal"
				var resp *http.Response
				if resp, err = client.Do(req); err == nil {
					err = resp.Body.Close()
				}
			}
			if err != nil {
				failed <- err
				return
			}
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	counted := host.NewCounted(g.h, nil)
	g.makeTrue(counted, baseAddr, g.base)
	if _, d := g.look(tlsAddr, g.tls); !d.Empty() {
		t.Errorf("the TLS part is not loaded with the base: %+v", d)
	}
	close(done)
	for err := range failed {
		t.Errorf("a request failed: %v", err)
	}
	// What cannot be loaded does not come along.
	if err := os.Remove(g.base.Key); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(tlsFile(g.tls)); err != nil {
		t.Fatal(err)
	}
	g.write("/etc/nginx/nginx.conf", []byte("events {}\n"), 0o644)
	g.makeTrue(counted, baseAddr, g.base)
	if _, err := os.Lstat(tlsFile(g.tls)); !os.IsNotExist(err) {
		t.Errorf("a TLS part without a key: %v", err)
	}
}
