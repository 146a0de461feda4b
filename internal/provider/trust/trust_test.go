package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/trust"
)

const (
	address = object.Address("trust/101")
	ourFile = "/usr/local/share/ca-certificates/phoenix-root.crt"
	bundle  = "/etc/ssl/certs/ca-certificates.crt"
)

// newRoot makes a self-signed certificate: PEM and fingerprint.
func newRoot(t *testing.T, name string) (string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), digest(der)
}

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// ca serves roots as step-ca does; asked counts the requests.
func ca(t *testing.T, roots string) (server string, asked *int) {
	t.Helper()
	asked = new(int)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		if r.URL.Path != "/roots.pem" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(roots))
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func converge(t *testing.T, h host.Host, s spec.Trust) {
	t.Helper()
	if err := (trust.Driver{}).Apply(t.Context(), h, address, s, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	if d := diff(t, h, s); !d.Empty() {
		t.Fatalf("still to do: %+v", d)
	}
}

func diff(t *testing.T, h host.Host, s spec.Trust) plan.Delta {
	t.Helper()
	st, err := trust.Driver{}.Observe(t.Context(), h, address, s)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Driver{}.Diff(s, st)
}

func TestConformance(t *testing.T) {
	root, fingerprint := newRoot(t, "Phoenix")
	other, _ := newRoot(t, "Somebody")
	server, _ := ca(t, root)
	write := func(path, content string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, h host.Host, _ object.Object) {
			if err := h.WriteFile(path, []byte(content), 0o644, host.Root); err != nil {
				t.Fatal(err)
			}
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(trust.Driver{}),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			raw, err := json.Marshal(spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint})
			if err != nil {
				t.Fatal(err)
			}
			return newRooted(t), object.Object{Address: address, Provider: "trust", Spec: raw}
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"foreign root under our name": write(ourFile, other),
			"second root under our name":  write(ourFile, root+other),
			"bundle without it":           write(bundle, other),
			"no bundle": func(t *testing.T, h host.Host, _ object.Object) {
				if err := h.Remove(bundle); err != nil {
					t.Fatal(err)
				}
			},
			"no link": func(t *testing.T, h host.Host, _ object.Object) {
				if err := h.Remove("/etc/ssl/certs/phoenix-root.pem"); err != nil {
					t.Fatal(err)
				}
			},
			"open file": func(t *testing.T, h host.Host, _ object.Object) {
				if err := h.Chmod(ourFile, 0o666); err != nil {
					t.Fatal(err)
				}
			},
		},
	})
}

// What is written by hand in 5 ms is what Debian's tool writes.
func TestSameAsTheTool(t *testing.T) {
	root, fingerprint := newRoot(t, "Phoenix Root CA")
	server, _ := ca(t, root)
	h := newRooted(t)
	converge(t, h, spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint})
	if h.update != 0 {
		t.Fatalf("the tool ran %d times", h.update)
	}
	ours := h.store()
	h.tool("--fresh")
	if d := cmp.Diff(h.store(), ours); d != "" {
		t.Errorf("the tool makes another store (-tool +ours):\n%s", d)
	}
	out, err := exec.Command("openssl", "verify", "-no-CAfile", "-CApath", h.at("/etc/ssl/certs"),
		h.at(ourFile)).CombinedOutput()
	if err != nil {
		t.Errorf("openssl does not find the root: %v: %s", err, out)
	}
}

// Another program's hooks have to hear of the new root: then the tool runs.
func TestHooksRunTheTool(t *testing.T) {
	root, fingerprint := newRoot(t, "Phoenix")
	server, _ := ca(t, root)
	h := newRooted(t)
	hook := h.at("/etc/ca-certificates/update.d/java")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+hook+".ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	converge(t, h, spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint})
	if _, err := os.Stat(hook + ".ran"); err != nil || h.update != 1 {
		t.Errorf("tool ran %d times, hook: %v", h.update, err)
	}
}

// After consent to a new root the old one is trusted no more, by bundle and by hash.
func TestNewRootReplacesTheOld(t *testing.T) {
	oldPEM, oldPrint := newRoot(t, "Old")
	newPEM, newPrint := newRoot(t, "New")
	server, _ := ca(t, oldPEM)
	h := newRooted(t)
	converge(t, h, spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: oldPrint})
	before := len(h.store())
	server, _ = ca(t, newPEM)
	converge(t, h, spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: newPrint})
	if after := h.store(); strings.Contains(after["ca-certificates.crt"], oldPEM) || len(after) != before {
		t.Errorf("the old root is still there: %d entries before, %d after", before, len(after))
	}
}

func TestForeignRootIsRefused(t *testing.T) {
	_, fingerprint := newRoot(t, "Pinned")
	other, offered := newRoot(t, "Offered")
	server, _ := ca(t, other)
	h := host.NewCounted(newRooted(t), nil)
	err := trust.Driver{}.Apply(t.Context(), h, address,
		spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint}, plan.Delta{})
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), offered) ||
		!strings.Contains(err.Error(), fingerprint) {
		t.Errorf("want a permanent error with both fingerprints, got %v", err)
	}
	if h.Mutations() != 0 {
		t.Errorf("%d changes", h.Mutations())
	}
}

func TestSilentCAIsNotPermanent(t *testing.T) {
	_, fingerprint := newRoot(t, "Pinned")
	dead := httptest.NewServer(nil)
	dead.Close()
	err := trust.Driver{}.Apply(t.Context(), newRooted(t), address,
		spec.Trust{Name: "phoenix-root", Server: strings.Replace(dead.URL, "http", "https", 1),
			Fingerprint: fingerprint}, plan.Delta{})
	if err == nil || provider.IsPermanent(err) {
		t.Errorf("want an error that trying again may mend, got %v", err)
	}
}

// A repair of the store alone asks nobody.
func TestRepairNeedsNoNetwork(t *testing.T) {
	root, fingerprint := newRoot(t, "Phoenix")
	server, asked := ca(t, root)
	h := newRooted(t)
	s := spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint}
	converge(t, h, s)
	if err := h.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	converge(t, h, s)
	if *asked != 1 {
		t.Errorf("the CA was asked %d times", *asked)
	}
}

func TestDelete(t *testing.T) {
	root, fingerprint := newRoot(t, "Phoenix")
	server, _ := ca(t, root)
	h := newRooted(t)
	h.tool("--fresh")
	before := h.store()
	s := spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint}
	converge(t, h, s)
	counted := host.NewCounted(h, nil)
	for range 2 {
		if err := (trust.Driver{}).Delete(t.Context(), counted, address, s); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(before, h.store()); d != "" {
		t.Errorf("left behind:\n%s", d)
	}
	if counted.Mutations() != 2 {
		t.Errorf("%d changes to delete twice", counted.Mutations())
	}
}

func TestDecode(t *testing.T) {
	good := `{"name":"phoenix-root","server":"https://ca:9000","fingerprint":""}`
	if _, diags := (trust.Driver{}).Decode(json.RawMessage(good)); diags.HasErrors() {
		t.Error(diags.Err())
	}
	for _, bad := range []string{
		`{"name":"../x","server":"https://ca:9000","fingerprint":""}`,
		`{"name":"x","server":"http://ca:9000","fingerprint":""}`,
		`{"name":"x","server":"https://ca:9000","fingerprint":"AB"}`,
	} {
		if _, diags := (trust.Driver{}).Decode(json.RawMessage(bad)); !diags.HasErrors() {
			t.Errorf("taken: %s", bad)
		}
	}
}
