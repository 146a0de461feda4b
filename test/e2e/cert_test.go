package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Certificates are listed, shown, and renewed with new keys, those of Traefik too, while the gateway answers.
func TestCert(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("up").Want(0)
	root, before := h.RootCertificate(), h.leaves()
	var list struct {
		Certificates []struct {
			CommonName string `json:"common_name"`
			Container  string `json:"container"`
			Serial     string `json:"serial"`
			KeyType    string `json:"key_type"`
			Path       string `json:"path"`
		} `json:"certificates"`
	}
	h.Phoenix("cert", "list", "-o", "json").Want(0).JSON(&list)
	got := map[string]string{}
	for _, c := range list.Certificates {
		got[c.CommonName] = c.Container
		if name := c.CommonName; before[name] != nil && c.Serial != before[name].SerialNumber.Text(16) {
			t.Errorf("%s has serial %s, served is %x", name, c.Serial, before[name].SerialNumber)
		}
	}
	for name, id := range map[string]string{"www.homelab.internal": "101", "hello.homelab.internal": "102",
		"traefik.homelab.internal": "102", "hello-backend.homelab.internal": "201"} {
		if got[name] != id {
			t.Errorf("%s is listed in container %q, want %s", name, got[name], id)
		}
	}
	if r := h.Phoenix("cert", "show", "hello-backend.homelab.internal").Want(0); !strings.Contains(r.Stdout,
		shownSerial(before["hello-backend.homelab.internal"].SerialNumber.Text(16))) {
		t.Errorf("not shown\n%s", r)
	}
	h.Phoenix("cert", "renew", "nobody.homelab.internal").Want(1)
	h.Phoenix("cert", "renew").Want(64)

	h.Phoenix("cert", "renew", "www.homelab.internal").Want(0)
	once := h.leaves()
	for name, c := range once {
		if changed := !c.Equal(before[name]); changed != (name == "www.homelab.internal") {
			t.Errorf("%s was renewed: %v", name, changed)
		}
	}
	time.Sleep(1100 * time.Millisecond) // certificates tell time in seconds: what was issued in this one is new enough
	v, stop := h.visitAll(root)
	h.Phoenix("cert", "renew", "--all").Want(0)
	stop()
	if len(v.failed) > 0 {
		t.Errorf("%d of %d requests failed: %s", len(v.failed), v.requests, strings.Join(v.failed, "\n"))
	}
	for name, c := range h.leaves() {
		if same := string(c.RawSubjectPublicKeyInfo) == string(once[name].RawSubjectPublicKeyInfo); same != (name == "ca.homelab.internal") {
			t.Errorf("%s has its key of before: %v", name, same)
		}
	}
	h.WantHealthy()
	h.Phoenix("plan", "--detailed-exitcode").Want(0)
}

// The CA's volume is lost, and its root comes back from a sealed backup: the same, so that everybody's certificates
// stay good. No secret is in the clear outside of the container, nor on a command line.
func TestBackup(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103", "201").Want(0)
	root := h.RootCertificate()
	dir := t.TempDir()
	sealed, secret := filepath.Join(dir, "ca.age"), filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Phoenix("ca", "backup", sealed).Want(64)
	h.Phoenix("ca", "backup", sealed, "--password-file", secret).Want(0)
	h.Phoenix("ca", "backup", sealed, "--password-file", secret).Want(1) // it is there
	raw, err := os.ReadFile(sealed)
	if err != nil || mode(sealed) != 0o600 || strings.Contains(string(raw), "CERTIFICATE") ||
		strings.Contains(string(raw), h.secret("root", "password")) {
		t.Errorf("the backup has mode %04o and %d bytes (%v): is it sealed?", mode(sealed), len(raw), err)
	}
	for name, lost := range map[string][]string{
		"the volume": {filepath.Join(h.Root, "volumes", "103", "ssl")},
		"the volume and the container": {filepath.Join(h.Root, "volumes", "103", "ssl"),
			filepath.Join(h.Root, "lxc", "103")},
		"the pin too": {filepath.Join(h.Root, "volumes", "103", "ssl"), filepath.Join(h.Root, "pins")},
	} {
		h.PowerOff("103")
		for _, path := range lost {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		h.Phoenix("ca", "restore", sealed, "--password-file", secret).Want(0)
		if now := h.RootCertificate(); !now.Equal(root) {
			t.Errorf("%s lost: another root came back: %s, want %s", name, fingerprint(now), fingerprint(root))
		}
		h.WantHealthy("103", "201")
		h.WantNoChange("103", "201")
	}
	h.refusedBackups(sealed, secret)
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("another password altogether\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := h.Phoenix("ca", "restore", sealed, "--password-file", wrong).Want(1); !strings.Contains(r.Stderr,
		"password does not open") {
		t.Errorf("what is wrong is not told\n%s", r)
	}
}

// refusedBackups checks that a backup which is none, or not of one piece, replaces nothing, and that the same one again
// changes nothing.
func (h *Hypervisor) refusedBackups(sealed, secret string) {
	h.t.Helper()
	raw, err := os.ReadFile(sealed)
	if err != nil {
		h.t.Fatal(err)
	}
	secrets := filepath.Join(h.Root, "volumes", "103", "ssl", "secrets")
	sums := func() string {
		return h.Exec("sh", "-c", `find "$1" -type f -exec sha256sum {} + | sort`, "sh", secrets).Stdout
	}
	before := sums()
	flipped := append([]byte(nil), raw...)
	flipped[len(flipped)-10] ^= 1
	for name, content := range map[string][]byte{"empty": nil, "half": raw[:len(raw)/2], "changed": flipped,
		"garbage": []byte("garbage\n")} {
		file := filepath.Join(filepath.Dir(sealed), name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			h.t.Fatal(err)
		}
		if r := h.Phoenix("ca", "restore", file, "--password-file", secret); r.Exit == 0 ||
			strings.Contains(r.Stdout, "is back") {
			h.t.Errorf("a backup that is %s was restored\n%s", name, r)
		}
	}
	for range 2 {
		r := h.Phoenix("ca", "restore", sealed, "--password-file", secret).Want(0)
		if !strings.Contains(r.Stdout, "0 changes") {
			h.t.Errorf("the same backup again changed something\n%s", r)
		}
	}
	if after := sums(); after != before {
		h.t.Errorf("the CA's keys became others:\n%s\n%s", before, after)
	}
	if left := h.Exec("sh", "-c", `ls -A "$1" | grep -E '^(lost-|\.)' || true`, "sh",
		secrets).Stdout; strings.TrimSpace(left) != "" {
		h.t.Errorf("copies of keys were left: %s", left)
	}
}
