package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Addresses and names of examples/homelab.
const (
	gateway = "10.86.17.101:443"
	ca      = "10.86.17.103:9000"
	bridge  = "phxbr0"
)

// Dial opens a connection from the hypervisor: the socket belongs to its
// network namespace. The address must be literal, so that no resolver of this
// machine is asked.
func (h *Hypervisor) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	back, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer back.Close()
	there, err := os.Open("/run/netns/" + h.Name)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", h.Name, err)
	}
	// With one literal address the dialer opens the socket on this thread.
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
	if back := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); back != nil {
		runtime.LockOSThread() // once more than unlocked: the thread ends with its goroutine
		return nil, errors.Join(fmt.Errorf("leave %s: %w", h.Name, back), err)
	}
	return conn, err
}

// Get asks the server at address for https://name/path and verifies it
// against root; a nil root verifies nothing.
func (h *Hypervisor) Get(address, name, path string, root *x509.Certificate) (status int, body string, err error) {
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: root == nil}
	if root != nil {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AddCert(root)
	}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return h.Dial(ctx, network, address)
		}}
	client := http.Client{Transport: transport, Timeout: 10 * time.Second}
	response, err := client.Get("https://" + name + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, string(raw), err
}

// RootCertificate is the root that the CA hands out. Nothing vouches for it:
// tests compare it with what was seen before.
func (h *Hypervisor) RootCertificate() *x509.Certificate {
	h.t.Helper()
	status, body, err := h.Get(ca, "ca.homelab.internal", "/roots.pem", nil)
	if err != nil || status != http.StatusOK {
		h.t.Fatalf("roots.pem from %s: status %d, %v", ca, status, err)
	}
	root, err := parseRoot([]byte(body))
	if err != nil {
		h.t.Fatalf("roots.pem from %s: %v", ca, err)
	}
	return root
}

// parseRoot reads a self-signed CA certificate.
func parseRoot(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA || cert.CheckSignatureFrom(cert) != nil {
		return nil, fmt.Errorf("%s is no root", cert.Subject)
	}
	return cert, nil
}

// fingerprint is the lower-case hex SHA-256 of the certificate.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
