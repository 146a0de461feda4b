package health

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// stepCABinary is the pinned step-ca that tools/artifacts built.
func stepCABinary(t *testing.T) string {
	if p := os.Getenv("PHOENIX_STEP_CA"); p != "" {
		return p
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no cache directory to look for step-ca in:", err)
	}
	b, err := os.ReadFile(filepath.Join(cache, "phoenix", "artifacts", "index.json"))
	if err != nil {
		t.Skip("step-ca is not built: go run ./tools/artifacts step-ca")
	}
	var index map[string]struct{ Path string }
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(index["step-ca"].Path); err != nil {
		t.Skip("step-ca is not built:", err)
	}
	return index["step-ca"].Path
}

// startStepCA runs a real step-ca with the authority's intermediate and an ACME provisioner besides those given.
func startStepCA(t *testing.T, ca *authorityFake, provisioners ...any) string {
	binary, dir, address := stepCABinary(t), t.TempDir(), freeAddress(t)
	write := func(name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := map[string]any{
		"root": write("root.crt", pemOf(ca.root)), "crt": write("ca.crt", pemOf(ca.between)),
		"key":     write("ca.key", keyPEM(t, ca.key)),
		"address": address, "dnsNames": []string{caName}, "logger": map[string]string{"format": "text"},
		"db": map[string]string{"type": "bbolt", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": append([]any{map[string]string{"type": "ACME", "name": "acme"}},
			provisioners...)},
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, write("ca.json", string(b)))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	waitFor(t, "step-ca to take connections", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor asks again until it is so, for half a minute at most.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); !so(); {
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain for " + what)
		case <-tick.C:
		}
	}
}

// TestRealStepCA pins what the checks of a CA read against the real step-ca.
func TestRealStepCA(t *testing.T) {
	ca := newAuthority(t)
	jwk := map[string]any{"type": "JWK", "name": "admin", "key": map[string]string{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k",
		"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
	}}
	for _, tc := range []struct {
		name         string
		provisioners []any
		only         Status
	}{{"only ACME", nil, Pass}, {"JWK too", []any{jwk}, Fail}} {
		t.Run(tc.name, func(t *testing.T) {
			e := endpoint{Dial: startStepCA(t, ca, tc.provisioners...), Name: caName}
			p := caParams{
				CA: e, Anchor: anchor{Fingerprint: fingerprint(ca.root), CA: e}, Path: acmePath, Provisioner: "acme",
				LeafLife: spec.Duration(day),
			}
			want := map[string]Status{kindRoot: Pass, kindAuthority: Pass, kindDirectory: Pass, kindAuthorityLife: Pass,
				kindClock: Pass, kindProvisioners: tc.only}
			for kind, status := range want {
				raw, _ := json.Marshal(p)
				r := Run(t.Context(), &host.Local{},
					Check{ID: kind, Kind: kind, Object: "stepca/103", Host: "103", Params: raw})
				if r.Status != status {
					t.Errorf("%+v", r)
				}
				if kind == kindProvisioners && tc.only == Fail && !strings.Contains(r.Evidence, "JWK admin") {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}
