package stepca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// probeLimit bounds both requests together. A step-ca that is down refuses at once.
const probeLimit = 3 * time.Second

// probe asks the running step-ca for its health and its ACME directory, TLS verified with our root only.
func probe(ctx context.Context, h host.Host, s spec.StepCA, root *x509.Certificate, st *Status) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	pool := x509.NewCertPool()
	pool.AddCert(root)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: s.DNSNames[0], Time: h.Now},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return h.Dial(ctx, network, local(s.Address))
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	base := "https://" + net.JoinHostPort(s.DNSNames[0], "443")

	var health struct{ Status string }
	if err := getJSON(ctx, client, base+"/health", &health); err != nil {
		st.Probe = err.Error()
		return
	}
	if st.Healthy = health.Status == "ok"; !st.Healthy {
		st.Probe = fmt.Sprintf("health says %q", health.Status)
		return
	}
	var directory struct{ NewOrder string }
	if err := getJSON(ctx, client, base+"/acme/"+s.Provisioner+"/directory", &directory); err != nil {
		st.Probe = err.Error()
		return
	}
	if st.Directory = directory.NewOrder != ""; !st.Directory {
		st.Probe = "the ACME directory has no newOrder"
	}
}

func getJSON(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", req.URL.Path, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(into)
}

// local is where the listener of an address is reached from its own host.
func local(address string) string {
	name, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(name); err == nil && (name == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
