package backup_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/backup"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

var password = []byte("correct horse battery")

// volume is a CA's, with a root that is self-signed and keys that are words.
func volume(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"root/ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "root/key": "root's key", "root/password": "root's password",
		"intermediate/ca.crt": "a certificate", "intermediate/key": "intermediate's key", "intermediate/password": "intermediate's password",
	} {
		path := filepath.Join(dir, "secrets", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "secrets", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What was sealed comes back into an empty volume, the same bytes, closed to others; and nothing of it can be read in the file.
func TestBackAgain(t *testing.T) {
	from, to, h := volume(t), t.TempDir(), &host.Local{}
	sealed, fingerprint, err := backup.Make(h, from, password)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("key")) || bytes.Contains(sealed, []byte("CERTIFICATE")) {
		t.Error("the backup can be read")
	}
	for range 2 { // the second time over itself
		got, err := backup.Restore(h, to, fingerprint, sealed, password)
		if err != nil || got != fingerprint {
			t.Fatalf("restored %s, %v; want %s", got, err, fingerprint)
		}
	}
	for _, name := range []string{"root/ca.crt", "root/key", "root/password", "intermediate/ca.crt", "intermediate/key", "intermediate/password"} {
		if read(t, to, name) != read(t, from, name) {
			t.Errorf("%s came back as another", name)
		}
		if fi, err := os.Stat(filepath.Join(to, "secrets", name)); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

// OpenSSL opens it too: whoever has lost everything has no phoenix.
func TestOpenSSLOpensIt(t *testing.T) {
	for _, tool := range []string{"openssl", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no " + tool)
		}
	}
	from, to := volume(t), t.TempDir()
	sealed, _, err := backup.Make(&host.Local{}, from, password)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, password, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", `openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -pass "file:$1" | tar -xz -C "$2"`, "sh", secret, to)
	cmd.Stdin = bytes.NewReader(sealed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if read(t, to, "root/key") != "root's key" {
		t.Error("another key")
	}
}

// What is no good is refused, and the volume stays as it is.
func TestRefused(t *testing.T) {
	from, h := volume(t), &host.Local{}
	sealed, fingerprint, err := backup.Make(h, from, password)
	if err != nil {
		t.Fatal(err)
	}
	other := volume(t)
	before := read(t, other, "root/ca.crt")
	for name, c := range map[string]struct {
		to, pinned string
		sealed     []byte
		password   string
		want       string
	}{
		"wrong password": {t.TempDir(), fingerprint, sealed, "another password", "does not open"},
		"short password": {t.TempDir(), fingerprint, sealed, "short", "12 characters"},
		"cut off":        {t.TempDir(), fingerprint, sealed[:len(sealed)-7], string(password), "half of one"},
		"no backup":      {t.TempDir(), fingerprint, []byte("something else"), string(password), "no backup"},
		"another pin":    {t.TempDir(), strings.Repeat("ab", 32), sealed, string(password), "pinned is abab"},
		"another root":   {other, "", sealed, string(password), "another root"},
	} {
		if _, err := backup.Restore(h, c.to, c.pinned, c.sealed, []byte(c.password)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if left, _ := os.ReadDir(filepath.Join(c.to, "secrets")); c.to != other && len(left) > 0 {
			t.Errorf("%s: something was written: %v", name, left)
		}
	}
	if read(t, other, "root/ca.crt") != before {
		t.Error("another root was replaced")
	}
	if _, _, err := backup.Make(h, t.TempDir(), password); err == nil {
		t.Error("an empty volume was backed up")
	}
}
