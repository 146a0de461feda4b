package sandbox

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// CA is a running step-ca. Its root and intermediate are made anew for each.
type CA struct {
	*Authority
	Directory string // of ACME

	address string
	cmd     *exec.Cmd
}

// StartCA runs a step-ca that issues certificates with the lifetime for allowed names, until the test ends.
func StartCA(t testing.TB, lifetime time.Duration, allowed ...string) *CA {
	t.Helper()
	Need(t)
	return StartCAIn(t, t.TempDir(), lifetime, allowed...)
}

// StartCAIn is StartCA with its files in dir.
func StartCAIn(t testing.TB, dir string, lifetime time.Duration, allowed ...string) *CA {
	t.Helper()
	Tool(t, "PHOENIX_STEP_CA", "step-ca")
	ca := &CA{Authority: NewAuthority(t, dir), address: "127.0.0.1:9000",
		Directory: "https://" + Names[0] + ":9000/acme/acme/directory"}
	ca.configure(lifetime, allowed)
	ca.Start()
	t.Cleanup(ca.Stop)
	return ca
}

// Start starts it, if it is not running, and waits until it answers.
func (ca *CA) Start() {
	ca.t.Helper()
	if ca.cmd != nil {
		return
	}
	ca.cmd = exec.Command(Tool(ca.t, "PHOENIX_STEP_CA", "step-ca"), filepath.Join(ca.dir, "ca.json"))
	log, err := os.OpenFile(filepath.Join(ca.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		ca.t.Fatal(err)
	}
	defer log.Close()
	ca.cmd.Stdout, ca.cmd.Stderr = log, log
	ca.cmd.Env = []string{"HOME=" + ca.dir, "STEPPATH=" + ca.dir, "PATH=/usr/bin:/bin"}
	ca.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := ca.cmd.Start(); err != nil {
		ca.t.Fatal(err)
	}
	Until(ca.t, 20*time.Second, "step-ca answers", func() error {
		d := tls.Dialer{Config: &tls.Config{RootCAs: ca.Pool(), ServerName: Names[0]}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := d.DialContext(ctx, "tcp", ca.address)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, ca.Log())
		}
		return conn.Close()
	})
}

// Stop ends it; Start runs it again with the same database.
func (ca *CA) Stop() {
	if ca.cmd == nil {
		return
	}
	_ = ca.cmd.Process.Kill()
	_ = ca.cmd.Wait()
	ca.cmd = nil
}

// Forget removes its database: the same root, but no account it ever knew.
func (ca *CA) Forget() {
	ca.t.Helper()
	ca.Stop()
	if err := os.RemoveAll(filepath.Join(ca.dir, "db")); err != nil {
		ca.t.Fatal(err)
	}
	ca.Start()
}

// Log is what it said so far.
func (ca *CA) Log() string {
	b, err := os.ReadFile(filepath.Join(ca.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (ca *CA) configure(lifetime time.Duration, allowed []string) {
	ca.t.Helper()
	file := func(name string) string { return filepath.Join(ca.dir, name) }
	claims := map[string]any{
		"minTLSCertDuration": "1m", "maxTLSCertDuration": max(lifetime, 24*time.Hour).String(),
		"defaultTLSCertDuration": lifetime.String(),
	}
	config := map[string]any{
		"root": file("root.crt"), "crt": file("intermediate.crt"), "key": file("intermediate.key"),
		"address": ca.address, "dnsNames": []string{Names[0], "127.0.0.1"},
		"logger": map[string]any{"format": "json"},
		"db":     map[string]any{"type": "bbolt", "dataSource": file("db")},
		"authority": map[string]any{
			"claims": claims,
			"provisioners": []any{map[string]any{"type": "ACME", "name": "acme",
				"challenges": []string{"http-01", "tls-alpn-01"}}},
			"policy": map[string]any{"x509": map[string]any{"allow": map[string]any{"dns": append(
				[]string{Names[0]}, allowed...), "ip": []string{"127.0.0.1"}}}},
		},
	}
	raw, err := json.Marshal(config)
	if err != nil {
		ca.t.Fatal(err)
	}
	if err := os.WriteFile(file("ca.json"), raw, 0o600); err != nil {
		ca.t.Fatal(err)
	}
}

// Until waits until check is content, or fails the test with its last complaint.
func Until(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if err = check(); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: not within %s: %v", what, limit, err)
}

// ServedSerial is the serial number, in hex, of the certificate that address serves for name, whoever signed it.
func ServedSerial(address, name string) (string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", address,
		&tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}
