package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const stepUnit = "step-ca.service"

// signer is a CA's certificate and key.
type signer struct {
	cert *x509.Certificate
	key  any
}

// authority opens a pair of the CA's: root or intermediate.
func (f *faults) authority(name string) signer {
	f.t.Helper()
	dir := f.volume("103", "ssl", "secrets", name)
	out, err := exec.Command("openssl", "pkey", "-in", filepath.Join(dir, "key"), "-passin",
		"file:"+filepath.Join(dir, "password")).Output()
	f.must(err)
	block, _ := pem.Decode(out)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	f.must(err)
	return signer{f.certificate(filepath.Join(dir, "ca.crt")), key}
}

// certificate reads the first certificate of a file.
func (f *faults) certificate(path string) *x509.Certificate {
	f.t.Helper()
	c, err := readCertificate(path)
	f.must(err)
	return c
}

func readCertificate(path string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, os.ErrInvalid
	}
	return x509.ParseCertificate(block.Bytes)
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return key
}

// issue signs like with other times and a new key, and gives both as PEM.
func (f *faults) issue(by signer, like *x509.Certificate, key *ecdsa.PrivateKey, from, to time.Time) (cert,
	keyPEM []byte) {
	f.t.Helper()
	t := *like
	t.SerialNumber, t.NotBefore, t.NotAfter = big.NewInt(time.Now().UnixNano()), from, to
	t.SignatureAlgorithm, t.PublicKey, t.AuthorityKeyId = 0, nil, nil
	der, err := x509.CreateCertificate(rand.Reader, &t, by.cert, key.Public(), by.key)
	f.must(err)
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	f.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain})
}

// foreign is a CA that nobody here knows.
func (f *faults) foreign() signer {
	key := newKey()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "somebody else's root"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	f.must(err)
	cert, err := x509.ParseCertificate(der)
	f.must(err)
	return signer{cert, key}
}

func (s signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

// Paths of the gateway's pair, seen from the hypervisor.
func (f *faults) crt() string { return f.volume("101", "ssl", "gateway.crt") }
func (f *faults) key() string { return f.volume("101", "ssl", "gateway.key") }

// place writes through the links, so that file, owner and mode are those that nginx reads.
func (f *faults) place(path string, content []byte) {
	f.t.Helper()
	f.must(os.WriteFile(path, content, 0o600))
}

// renewed is whether the gateway has another certificate than was remembered, valid and served.
func (f *faults) renewed() bool {
	c, err := readCertificate(f.crt())
	return err == nil && !f.same(f.crt()) && time.Now().Before(c.NotAfter) && f.verifies()
}

// verifies is whether the gateway's certificate is served and good.
func (f *faults) verifies() bool {
	root := rootIn(f.volume("103", "ssl", "certs"))
	if root == nil {
		return false
	}
	status, _, err := f.Get(gateway, "hello.homelab.internal", "/", root)
	return err == nil && status == http.StatusOK
}

// leaf replaces the gateway's pair by one like it, and has nginx take it.
func (f *faults) leaf(by signer, from, to time.Time) {
	f.t.Helper()
	cert, key := f.issue(by, f.certificate(f.crt()), newKey(), from, to)
	f.still(func() {
		f.place(f.crt(), append(cert, by.pem()...))
		f.place(f.key(), key)
		f.remember(f.crt())
		f.in("101", "systemctl", "reload", "nginx.service")
	}, "101")
}

var certificateFaults = []fault{
	{group: "certificates", name: "certificate deleted",
		do:     func(f *faults) { f.remember(f.crt()); f.must(os.Remove(f.crt())) },
		mended: (*faults).renewed},
	{group: "certificates", name: "key deleted",
		do:     func(f *faults) { f.remember(f.crt()); f.must(os.Remove(f.key())) },
		mended: (*faults).renewed},
	{group: "certificates", name: "key of another",
		do: func(f *faults) {
			f.remember(f.crt())
			_, key := f.issue(f.foreign(), f.certificate(f.crt()), newKey(), time.Now(), time.Now().Add(time.Hour))
			f.place(f.key(), key)
		},
		mended: (*faults).renewed},
	{group: "certificates", name: "expired",
		do: func(f *faults) {
			f.leaf(f.authority("intermediate"), time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
		},
		mended: (*faults).renewed},
	{group: "certificates", name: "issued by a foreign CA",
		do:     func(f *faults) { f.leaf(f.foreign(), time.Now().Add(-time.Hour), time.Now().Add(23*time.Hour)) },
		mended: (*faults).renewed},
	{group: "certificates", name: "another name in the configuration",
		do: func(f *faults) {
			f.rewrite(filepath.Join(f.Config, "phoenix_hypervisor_config.json"), func(s string) string {
				return strings.Replace(s, `{ "hostname": "www",`,
					`{ "hostname": "shop", "ip_internal": "10.86.17.101" }, { "hostname": "www",`, 1)
			})
		},
		mended: func(f *faults) bool {
			c, err := readCertificate(f.crt())
			return err == nil && c.VerifyHostname("shop.homelab.internal") == nil
		}},
	{group: "certificates", name: "mode 0644 on the key",
		do:     func(f *faults) { f.must(os.Chmod(f.key(), 0o644)) },
		mended: func(f *faults) bool { return mode(f.key()) == 0o600 }},
	{group: "certificates", name: "nginx serves an older one than on disk",
		do: func(f *faults) {
			cert, err := os.ReadFile(f.crt())
			f.must(err)
			key, err := os.ReadFile(f.key())
			f.must(err)
			by := f.authority("intermediate")
			older, olderKey := f.issue(by, f.certificate(f.crt()), newKey(), time.Now().Add(-time.Hour),
				time.Now().Add(23*time.Hour))
			f.still(func() {
				f.place(f.crt(), append(older, by.pem()...))
				f.place(f.key(), olderKey)
				f.in("101", "systemctl", "reload", "nginx.service")
				steady := 0 // nginx's old workers go on for a moment
				if !await(10*time.Second, func() bool {
					if steady++; f.serves() != serial(older) {
						steady = 0
					}
					return steady > 50
				}) {
					f.t.Fatal("nginx does not take the older one")
				}
				f.place(f.crt(), cert)
				f.place(f.key(), key)
			}, "101")
		},
		mended: func(f *faults) bool { raw, _ := os.ReadFile(f.crt()); return f.serves() == serial(raw) }},
	{group: "certificates", name: "acme.json emptied",
		do:     func(f *faults) { f.place(f.volume("102", "certs", "acme.json"), nil) },
		mended: func(f *faults) bool { return size(f.volume("102", "certs", "acme.json")) > 1000 }},
	{group: "certificates", name: "acme.json made 0644",
		do:     func(f *faults) { f.must(os.Chmod(f.volume("102", "certs", "acme.json"), 0o644)) },
		mended: func(f *faults) bool { return mode(f.volume("102", "certs", "acme.json")) == 0o600 }},
	{group: "certificates", name: "acme.json made garbage",
		do:     func(f *faults) { f.place(f.volume("102", "certs", "acme.json"), []byte("garbage\n")) },
		mended: func(f *faults) bool { return size(f.volume("102", "certs", "acme.json")) > 1000 }},
	{group: "certificates", name: "challenge path broken in nginx's configuration",
		do: func(f *faults) {
			conf := f.rootfs("101", "etc", "nginx", "nginx.conf")
			f.remember(conf)
			f.rewrite(conf, func(s string) string { return strings.ReplaceAll(s, "acme-challenge", "elsewhere") })
			f.in("101", "systemctl", "reload", "nginx.service")
			f.must(os.Remove(f.key())) // an order is needed
		},
		mended: func(f *faults) bool {
			return f.same(f.rootfs("101", "etc", "nginx", "nginx.conf")) &&
				exists(f.key())
		}},
}

// serves is the serial of what the gateway serves; empty: nothing.
func (f *faults) serves() string {
	return f.Serial(gateway, "www.homelab.internal")
}

func serial(raw []byte) string {
	block, _ := pem.Decode(raw)
	if block == nil {
		return "none"
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "none"
	}
	return c.SerialNumber.String()
}

func size(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

func (f *faults) caJSON() string { return f.volume("103", "ssl", "config", "ca.json") }

// withoutProvisioner is valid and useless.
func withoutProvisioner(f *faults) func(string) string {
	return func(s string) string {
		var doc map[string]any
		f.must(json.Unmarshal([]byte(s), &doc))
		doc["authority"].(map[string]any)["provisioners"] = []any{}
		raw, err := json.Marshal(doc)
		f.must(err)
		return string(raw)
	}
}

// database does something to the CA's database, ends step-ca without asking it, and makes an order due.
func (f *faults) database(do func(path string)) {
	f.t.Helper()
	f.in("103", "systemctl", "kill", "--signal", "KILL", stepUnit)
	do(f.volume("103", "ssl", "db", "step-ca.db"))
	f.remember(f.crt())
	f.must(os.Remove(f.crt()))
}

// The fault that needs a new root is the last one: it leaves another.
var authorityFaults = []fault{
	{group: "CA", name: "step-ca killed", systemd: true,
		do:     func(f *faults) { f.in("103", "systemctl", "kill", "--signal", "KILL", stepUnit) },
		mended: func(f *faults) bool { return f.accepts(ca) }},
	{group: "CA", name: "ca.json garbage",
		do: func(f *faults) {
			f.remember(f.caJSON())
			f.rewrite(f.caJSON(), func(string) string { return "garbage\n" })
			f.in("103", "systemctl", "kill", "--signal", "KILL", stepUnit)
		},
		mended: func(f *faults) bool { return f.same(f.caJSON()) && f.accepts(ca) }},
	{group: "CA", name: "ca.json without its provisioner",
		do: func(f *faults) {
			f.remember(f.caJSON())
			f.rewrite(f.caJSON(), withoutProvisioner(f))
			f.in("103", "systemctl", "kill", "--signal", "KILL", stepUnit)
		},
		mended: func(f *faults) bool { return f.same(f.caJSON()) && f.accepts(ca) }},
	{group: "CA", name: "database deleted",
		do:     func(f *faults) { f.database(func(path string) { f.must(os.Remove(path)) }) },
		mended: (*faults).renewed},
	{group: "CA", name: "database truncated",
		do:     func(f *faults) { f.database(func(path string) { f.must(os.Truncate(path, size(path)/2)) }) },
		mended: (*faults).renewed},
	{group: "CA", name: "intermediate expired",
		do: func(f *faults) {
			key := f.authority("intermediate").key.(*ecdsa.PrivateKey)
			path := f.volume("103", "ssl", "secrets", "intermediate", "ca.crt")
			cert, _ := f.issue(f.authority("root"), f.certificate(path), key, time.Now().Add(-48*time.Hour),
				time.Now().Add(-24*time.Hour))
			f.rewrite(path, func(string) string { return string(cert) })
			f.in("103", "systemctl", "kill", "--signal", "KILL", stepUnit)
		},
		mended: func(f *faults) bool {
			c, err := readCertificate(f.volume("103", "ssl", "certs", "intermediate_ca.crt"))
			return err == nil && time.Now().Before(c.NotAfter) && f.accepts(ca)
		}},
	{group: "CA", name: "intermediate's password lost",
		do:     func(f *faults) { f.must(os.Remove(f.volume("103", "ssl", "secrets", "intermediate", "password"))) },
		mended: func(f *faults) bool { return exists(f.volume("103", "ssl", "secrets", "intermediate", "password")) }},
	{group: "CA", name: "root's password lost: stop and say so",
		do: func(f *faults) {
			path := f.volume("103", "ssl", "secrets", "root", "password")
			f.must(os.Rename(path, path+".away"))
		},
		told: "cannot be used",
		person: func(f *faults) { // restores it
			path := f.volume("103", "ssl", "secrets", "root", "password")
			f.must(os.Rename(path+".away", path))
		}},
	{group: "CA", name: "103 recreated with its volume", slow: "a boot",
		do: func(f *faults) {
			f.still(func() {
				f.tool("stop", "103", "-k").Want(0)
				f.must(os.RemoveAll(filepath.Join(f.lxc(), "103")))
			})
		},
		mended: func(f *faults) bool { return f.runs("103") && f.accepts(ca) }},
	{group: "CA", name: "103 recreated without its volume: stop for consent", slow: "a boot", newRoot: true,
		do: func(f *faults) {
			f.still(func() {
				f.tool("stop", "103", "-k").Want(0)
				f.must(os.RemoveAll(filepath.Join(f.lxc(), "103")))
				f.must(os.RemoveAll(f.volume("103", "ssl")))
			})
		},
		told:   "lost",
		person: func(f *faults) { f.Phoenix("create", "103", "--new-root").Want(0) },
		mended: (*faults).verifies},
}
