package stepca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

// binary is the real step-ca, or the reason to skip.
func binary(t *testing.T) string {
	t.Helper()
	needRoot(t)
	for _, path := range []string{os.Getenv("PHOENIX_STEP_CA"), "/tmp/step-ca", "/usr/local/bin/step-ca"} {
		if m, err := os.Stat(path); path != "" && err == nil && m.Mode().IsRegular() {
			return path
		}
	}
	t.Skip("no step-ca: set PHOENIX_STEP_CA")
	return ""
}

// running is a real step-ca on the files that the driver made.
type running struct {
	spec     spec.StepCA
	httpPort int
	client   *http.Client
	output   *bytes.Buffer
	process  *exec.Cmd
}

// start does what the unit does: hands over the credentials, gives step-ca its database directory, and runs it as its
// user.
func start(t *testing.T, s spec.StepCA) *running {
	t.Helper()
	path := binary(t)
	share(t, s)
	port, err := strconv.Atoi(freeAddress(t)[len("127.0.0.1:"):])
	if err != nil {
		t.Fatal(err)
	}
	r := &running{spec: s, httpPort: port, output: &bytes.Buffer{}}
	cmd := exec.Command("setpriv", "--reuid="+s.User, "--regid="+s.User, "--clear-groups", "--no-new-privs", path,
		s.Credentials+"/ca.json", "--password-file", s.Credentials+"/password", "--insecure", "--acme-http-port",
		strconv.Itoa(port))
	cmd.Env = []string{"STEPPATH=" + s.Data, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = r.output, r.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.process = cmd
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			out := r.output.String()
			t.Log("step-ca's last words:", out[max(0, len(out)-2000):])
		}
	})
	r.await(t)
	return r
}

// share is the unit's LoadCredential and BindPaths.
func share(t *testing.T, s spec.StepCA) {
	t.Helper()
	for p := filepath.Dir(s.Dir); p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	for to, from := range map[string]string{"ca.json": "config/ca.json", "password": "secrets/intermediate/password",
		"root_ca.crt": "certs/root_ca.crt", "intermediate_ca.crt": "certs/intermediate_ca.crt",
		"intermediate_ca_key": "secrets/intermediate/key"} {
		data, err := os.ReadFile(filepath.Join(s.Dir, from))
		if err == nil {
			err = (&host.Local{}).MkdirAll(s.Credentials, 0o700, host.Owner{UID: 65534, GID: 65534})
		}
		if err == nil {
			err = (&host.Local{}).WriteFile(filepath.Join(s.Credentials, to), data, 0o400,
				host.Owner{UID: 65534, GID: 65534})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := (&host.Local{}).Symlink(s.Dir+"/db", s.Data); err != nil {
		t.Fatal(err)
	}
}

// await waits until the driver itself sees a healthy authority.
func (r *running) await(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if st := look(t, &host.Local{}, r.spec); st.Healthy && st.Directory {
			pool := x509.NewCertPool()
			raw, err := os.ReadFile(r.spec.Dir + "/certs/root_ca.crt")
			if err != nil || !pool.AppendCertsFromPEM(raw) {
				t.Fatal("no root", err)
			}
			r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
			return
		}
	}
	t.Fatalf("not healthy: %+v\n%s", look(t, &host.Local{}, r.spec), r.output)
}

// Present and CleanUp implement acmez.Solver for http-01.
type answer struct {
	port   int
	server *http.Server
}

func (a *answer) Present(_ context.Context, c acme.Challenge) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	if err != nil {
		return err
	}
	a.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == c.HTTP01ResourcePath() {
			_, _ = io.WriteString(w, c.KeyAuthorization)
		}
	})}
	go func() { _ = a.server.Serve(l) }()
	return nil
}

func (a *answer) CleanUp(context.Context, acme.Challenge) error { return a.server.Close() }

// order asks for one name and gives the chain.
func (r *running) order(t *testing.T, name string) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
	t.Helper()
	client := acmez.Client{
		Client: &acme.Client{Directory: "https://" + r.spec.Address + "/acme/acme/directory",
			HTTPClient: r.client, PollInterval: 10 * time.Millisecond},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeHTTP01: &answer{port: r.httpPort}},
	}
	accountKey, key := newKey(t), newKey(t)
	account, err := client.NewAccount(t.Context(), acme.Account{PrivateKey: accountKey, TermsOfServiceAgreed: true})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := acmez.NewCSR(key, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := client.ObtainCertificate(ctx, params)
	if err != nil {
		return nil, nil, err
	}
	var chain []*x509.Certificate
	for rest := got[0].ChainPEM; len(rest) > 0; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			break
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain, key, nil
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// verify checks a chain against the volume's root, constraints included.
func (r *running) verify(t *testing.T, chain []*x509.Certificate, name string) {
	t.Helper()
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	pool := r.client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: pool, Intermediates: between}); err != nil {
		t.Errorf("chain for %s: %v", name, err)
	}
}

func TestRealStepCA(t *testing.T) {
	for _, db := range []string{"bbolt", "badgerv2"} {
		t.Run(db, func(t *testing.T) {
			binary(t)
			s := caSpec(t)
			s.Database = db
			st := converge(t, &host.Local{}, s)
			r := start(t, s)
			t.Run("signs allowed names", func(t *testing.T) { signs(t, r) })
			t.Run("refuses all others", func(t *testing.T) { refusesNames(t, r) })
			t.Run("keeps its own names", func(t *testing.T) { ownNames(t, r, st) })
			t.Run("second run changes nothing", func(t *testing.T) {
				again := look(t, &host.Local{}, s)
				if d := (stepca.Driver{}).Diff(s, again); !d.Empty() || again.Database != db ||
					again.Inputs != st.Inputs {
					t.Errorf("status %+v, delta %+v", again, d)
				}
			})
			if db == "bbolt" {
				t.Run("a database that was cut off is set aside", func(t *testing.T) { cutOff(t, s) })
			}
		})
	}
}

func cutOff(t *testing.T, s spec.StepCA) {
	path := filepath.Join(s.Dir, "db", "step-ca.db")
	if err := os.Truncate(path, 3*4096); err != nil { // the meta pages and one more
		t.Fatal(err)
	}
	if d := (stepca.Driver{}).Diff(s, look(t, &host.Local{}, s)); !d.Has(path) {
		t.Errorf("half a database is not seen: %+v", d)
	}
	converge(t, &host.Local{}, s)
	kept, err := filepath.Glob(filepath.Join(s.Dir, "db", "lost-*.db"))
	if _, there := os.Stat(path); there == nil || len(kept) != 1 || err != nil {
		t.Errorf("kept %v, %v; still in place: %v", kept, err, there)
	}
}

func signs(t *testing.T, r *running) {
	for _, name := range []string{"localhost", "127.0.0.1"} {
		chain, key, err := r.order(t, name)
		if err != nil {
			t.Fatal(err)
		}
		r.verify(t, chain, name)
		if life := chain[0].NotAfter.Sub(chain[0].NotBefore).Round(time.Hour); life != 24*time.Hour {
			t.Errorf("leaf lives %s", life)
		}
		noRenewal(t, r, chain, key)
	}
}

// noRenewal: a certificate alone must not be enough to get the next one.
func noRenewal(t *testing.T, r *running, chain []*x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	cfg := r.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	own := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	cfg.Certificates = []tls.Certificate{own}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}).Post("https://"+r.spec.Address+
		"/renew", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		t.Errorf("/renew answers %s", resp.Status)
	}
}

func refusesNames(t *testing.T, r *running) {
	for _, name := range []string{"other.homelab.internal", "sub.gateway.homelab.internal", "homelab.internal",
		"www.example.com",
		"127.0.0.2", "10.0.0.10", "ca.homelab.internal"} {
		_, _, err := r.order(t, name)
		if err == nil || !strings.Contains(err.Error(), "rejectedIdentifier") {
			t.Errorf("%s: want rejectedIdentifier, got %v", name, err)
		}
	}
}

// ownNames: the certificate of step-ca itself is valid for all that clients dial, and its root is the one in the
// status.
func ownNames(t *testing.T, r *running, st *stepca.Status) {
	for _, name := range r.spec.DNSNames {
		cfg := r.client.Transport.(*http.Transport).TLSClientConfig.Clone()
		cfg.ServerName = name
		conn, err := tls.Dial("tcp", r.spec.Address, cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
	resp, err := r.client.Get("https://" + r.spec.Address + "/root/" + st.RootFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("step-ca does not know the root %s: %s", st.RootFingerprint, resp.Status)
	}
}

// OpenSSL and Go read the same certificates, keys and constraints.
func TestOpenSSLAgrees(t *testing.T) {
	needRoot(t)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	s := caSpec(t)
	converge(t, &host.Local{}, s)
	dir := s.Dir + "/secrets/intermediate"
	for want, argv := range map[string][]string{
		"OK":                   {"verify", "-CAfile", s.Dir + "/certs/root_ca.crt", dir + "/ca.crt"},
		"CA:TRUE, pathlen:0":   {"x509", "-noout", "-text", "-in", dir + "/ca.crt"},
		"DNS:homelab.internal": {"x509", "-noout", "-ext", "nameConstraints", "-in", dir + "/ca.crt"},
		"Key is valid": {"pkey", "-check", "-noout", "-in", dir + "/key", "-passin",
			"file:" + dir + "/password"},
		"CA:TRUE, pathlen:1": {"x509", "-noout", "-text", "-in", s.Dir + "/secrets/root/ca.crt"},
	} {
		out, err := exec.Command(openssl, argv...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("openssl %v: %v: no %q in\n%s", argv, err, want, out)
		}
	}
}
