package stepca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
)

// Whatever anybody got from a real step-ca is known: while it has its database open, after it was killed right behind
// the answer, after its database was cut off, and when there is no database any more.
func TestIssued(t *testing.T) {
	binary(t)
	s := caSpec(t)
	converge(t, &host.Local{}, s)
	source := issued.Source{Dir: s.Dir, Database: s.Database}
	if list, err := source.Read(t.Context(), time.Now()); err != nil || len(list.Certificates) != 0 {
		t.Fatalf("before the first start: %+v, %v", list, err)
	}
	r := start(t, s)
	want := map[string]*x509.Certificate{}
	got := func(names ...string) {
		t.Helper()
		for _, name := range names {
			chain, _, err := r.order(t, name)
			if err != nil {
				t.Fatal(err)
			}
			want[chain[0].SerialNumber.Text(16)] = chain[0]
		}
	}
	got("localhost", "127.0.0.1", "localhost")
	knows(t, source, want)
	t.Run("one account for several", func(t *testing.T) { sameAccount(t, r, source, want) })
	t.Run("killed right behind the answer", func(t *testing.T) {
		for range 3 {
			got("localhost")
			r.kill()
			knows(t, source, want)
			r.restart(t)
		}
	})
	t.Run("while it writes", func(t *testing.T) { whileItWrites(t, r, source, want) })
	r.kill()
	t.Run("a database that was cut off", func(t *testing.T) {
		if err := source.Keep(t.Context(), &host.Local{}); err != nil {
			t.Fatal(err)
		}
		cutOff(t, s)
		knows(t, source, want)
		if err := source.Keep(t.Context(), &host.Local{}); err != nil {
			t.Fatal(err)
		}
		lost, _ := filepath.Glob(filepath.Join(s.Dir, "db", "lost-*"))
		for _, path := range lost {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		knows(t, source, want)
	})
	t.Run("another database", func(t *testing.T) {
		r.restart(t)
		got("localhost")
		knows(t, source, want)
	})
	t.Run("what is over is not told", func(t *testing.T) {
		list, err := source.Read(t.Context(), time.Now().Add(25*time.Hour))
		if err != nil || len(list.Certificates) != 0 {
			t.Errorf("a day later: %+v, %v", list, err)
		}
	})
}

// A database that was cut off still gives what is in the part that is there, also where nobody kept a record.
func TestIssuedCarved(t *testing.T) {
	binary(t)
	s := caSpec(t)
	converge(t, &host.Local{}, s)
	r := start(t, s)
	want := map[string]*x509.Certificate{}
	for range 3 {
		chain, _, err := r.order(t, "localhost")
		if err != nil {
			t.Fatal(err)
		}
		want[chain[0].SerialNumber.Text(16)] = chain[0]
	}
	r.kill()
	path := filepath.Join(s.Dir, "db", "step-ca.db")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(text[:2*4096]) // no page can be found from there
	if err := os.WriteFile(filepath.Join(s.Dir, "db", "lost-1.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	source := issued.Source{Dir: s.Dir, Database: s.Database}
	list, err := source.Read(t.Context(), time.Now())
	if err != nil || len(list.Certificates) != len(want) || len(list.Lost) != 1 {
		t.Fatalf("%d of %d certificates, lost %v: %v", len(list.Certificates), len(want), list.Lost, err)
	}
	for _, c := range list.Certificates {
		if want[c.Serial] == nil {
			t.Errorf("%s is none of them", c.Serial)
		}
	}
}

// knows compares what is told with what was got.
func knows(t *testing.T, source issued.Source, want map[string]*x509.Certificate) []issued.Certificate {
	t.Helper()
	list, err := source.Read(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range list.Certificates {
		leaf := want[c.Serial]
		seen[c.Serial] = true
		switch {
		case leaf == nil:
			t.Errorf("%+v was never given to anybody", c)
		case !c.NotAfter.Equal(leaf.NotAfter) || !c.NotBefore.Equal(leaf.NotBefore) || len(c.Names) != 1:
			t.Errorf("%+v is not the certificate for %v", c, leaf.DNSNames)
		case c.Account == "" || c.AccountID == "" || c.Order == "" || c.Pending:
			t.Errorf("nobody ordered %+v", c)
		}
	}
	for serial := range want {
		if !seen[serial] {
			t.Errorf("%s is not told", serial)
		}
	}
	return list.Certificates
}

// sameAccount orders twice with one account, whose key is the one that its holder tells.
func sameAccount(t *testing.T, r *running, source issued.Source, want map[string]*x509.Certificate) {
	accountKey := newKey(t)
	for range 2 {
		leaf := r.orderAs(t, accountKey, "localhost")
		want[leaf.SerialNumber.Text(16)] = leaf
	}
	der, err := x509.MarshalPKCS8PrivateKey(accountKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	text, _ := json.Marshal(
		map[string]string{"key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	held := issued.Hold(issued.Places{Accounts: []string{file}})
	if len(held.Accounts) != 1 {
		t.Fatalf("held: %+v", held)
	}
	n := 0
	for _, c := range knows(t, source, want) {
		if c.Account == held.Accounts[0] {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d certificates of the account, want 2", n)
	}
}

// whileItWrites reads all the time while orders go on: each look is whole.
func whileItWrites(t *testing.T, r *running, source issued.Source, want map[string]*x509.Certificate) {
	least, done, looks := atomic.Int64{}, make(chan struct{}), 0
	least.Store(int64(len(want)))
	failed := make(chan error, 1)
	go func() {
		defer close(done)
		for range 15 {
			chain, _, err := r.order(t, "localhost")
			if err != nil {
				failed <- err
				return
			}
			want[chain[0].SerialNumber.Text(16)] = chain[0]
			least.Add(1)
		}
	}()
	for {
		atLeast := least.Load()
		list, err := source.Read(context.Background(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		handed := slices.DeleteFunc(list.Certificates, func(c issued.Certificate) bool { return c.Pending })
		if int64(len(handed)) < atLeast {
			t.Errorf("%d told of at least %d", len(handed), atLeast)
		}
		looks++
		select {
		case err := <-failed:
			t.Fatal(err)
		case <-done:
			t.Log(looks, "looks")
			knows(t, source, want)
			return
		default:
		}
	}
}

// kill ends step-ca as a power cut would.
func (r *running) kill() {
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
}

func (r *running) restart(t *testing.T) {
	t.Helper()
	r.output = &bytes.Buffer{}
	r.process = exec.Command(r.process.Args[0], r.process.Args[1:]...)
	r.process.Env = []string{"STEPPATH=" + r.spec.Data, "PATH=" + os.Getenv("PATH")}
	r.process.Stdout, r.process.Stderr = r.output, r.output
	if err := r.process.Start(); err != nil {
		t.Fatal(err)
	}
	r.await(t)
}

// orderAs is order with an account of the caller's.
func (r *running) orderAs(t *testing.T, accountKey *ecdsa.PrivateKey, name string) *x509.Certificate {
	t.Helper()
	client := acmez.Client{
		Client: &acme.Client{Directory: "https://" + r.spec.Address + "/acme/acme/directory",
			HTTPClient: r.client, PollInterval: 10 * time.Millisecond},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeHTTP01: &answer{port: r.httpPort}},
	}
	account, err := client.NewAccount(t.Context(), acme.Account{PrivateKey: accountKey, TermsOfServiceAgreed: true})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := acmez.NewCSR(newKey(t), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.ObtainCertificate(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(got[0].ChainPEM)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// The record grows with what is new only, and a second look writes nothing.
func TestIssuedRecord(t *testing.T) {
	binary(t)
	s := caSpec(t)
	converge(t, &host.Local{}, s)
	r := start(t, s)
	source := issued.Source{Dir: s.Dir, Database: s.Database}
	counted := host.NewCounted(&host.Local{}, nil)
	for round := range 2 {
		if _, _, err := r.order(t, "localhost"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := source.Keep(t.Context(), counted); err != nil {
				t.Fatal(err)
			}
		}
		if n := counted.Mutations(); n != round+1 {
			t.Errorf("%s writes after %d certificates", strconv.Itoa(n), round+1)
		}
	}
}
