package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func TestMountsInOldDefinitions(t *testing.T) {
	const lxc = `lxc.mount.entry = /srv/103/ssl etc/step-ca/ssl none bind,create=dir 0 0
lxc.mount.entry=/srv/a\040b /var/lib/lxc/101/rootfs/data none rbind 0 0
# lxc.mount.entry = /no no none bind 0 0
lxc.mount.entry = proc proc proc nodev 0 0
lxc.mount.entry = /dev/dri dev/dri none bind,optional 0 0
lxc.mount.entry: /srv/logs logs none bind 0 0
`
	want := []spec.Mount{{Source: "/srv/103/ssl", Target: "/etc/step-ca/ssl"}, {Source: "/srv/a b", Target: "/data"},
		{Source: "/srv/logs", Target: "/logs"}}
	if got := mountsIn(lxc, "/var/lib/lxc/101"); !slices.Equal(got, want) {
		t.Errorf("lxc: %+v", got)
	}
	const proxmox = "mp0: /srv/103/ssl/,mp=/etc/step-ca/ssl,backup=0\nmp1: " +
		"local-zfs:subvol-101-disk-1,mp=/own\n\n[snap]\nmp2: /srv/old,mp=/old\n"
	want = []spec.Mount{{Source: "/srv/103/ssl", Target: "/etc/step-ca/ssl"}}
	if got := mountPointsIn(proxmox); !slices.Equal(got, want) {
		t.Errorf("proxmox: %+v", got)
	}
}

func TestOldContainersThatSuit(t *testing.T) {
	want := spec.Container{IDMap: spec.IDMap{Base: 100000, Count: 65536}}
	good := guest{id: "101", home: "/var/lib/lxc/101", config: "lxc.rootfs.path = " +
		"dir:/var/lib/lxc/101/rootfs\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n"}
	if err := good.suits(want); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{{"/lxc/101/rootfs", "/elsewhere"}, {"u 0 100000", "u 0 200000"},
		{"lxc.idmap", "#"}} {
		bad := good
		bad.config = strings.ReplaceAll(good.config, change[0], change[1])
		if err := bad.suits(want); err == nil {
			t.Errorf("taken: %s", bad.config)
		}
	}
}

func TestProxmoxFileIsOld(t *testing.T) {
	g := guest{id: "101", file: "/etc/pve/lxc/101.conf", config: "hostname: old\nmp0: /srv/ssl,mp=/etc/step-ca/ssl\n"}
	for text, want := range map[string]bool{
		g.config: true,
		"hostname: old\nmp0: /srv/ssl,mp=/etc/step-ca/ssl\nunused0: zfs:disk-1\n\n[snap]\nhostname: new\n": true,
		"#phoenix%3A container/101\n" + g.config:                                                           false,
		"hostname: new\nmp0: /srv/ssl,mp=/etc/step-ca/ssl\n":                                               false,
	} {
		if (&oldHouse{}).isOld(g, text) != want {
			t.Errorf("old is not %t:\n%s", want, text)
		}
	}
}

func TestSharedIsWhatTheCASharesWithMost(t *testing.T) {
	mount := func(sources ...string) (out []spec.Mount) {
		for _, s := range sources {
			out = append(out, spec.Mount{Source: s, Target: "/x"})
		}
		return out
	}
	o := &oldHouse{ca: "103", guests: []guest{{id: "101", mounts: mount("/srv/ssl/certs")},
		{id: "102", mounts: mount("/srv/ssl")}, {id: "103", mounts: mount("/own", "/srv/ssl")}}}
	if err := o.find(); err != nil || o.shared != "/srv/ssl" ||
		!slices.Equal(o.sharedWith, []string{"101", "102", "103"}) {
		t.Errorf("%q with %q: %v", o.shared, o.sharedWith, err)
	}
	// two that it shares, in both orders
	for _, ca := range [][]string{{"/srv/ssl", "/srv/media"}, {"/srv/media", "/srv/ssl"}} {
		o = &oldHouse{ca: "103", guests: []guest{
			{id: "101", mounts: mount("/srv/ssl")}, {id: "102", mounts: mount("/srv/media", "/srv/ssl")},
			{id: "103", mounts: mount(ca...)},
		}}
		if err := o.find(); err != nil || o.shared != "/srv/ssl" ||
			!slices.Equal(o.sharedWith, []string{"101", "102", "103"}) {
			t.Errorf("mounts %q: %q with %q: %v", ca, o.shared, o.sharedWith, err)
		}
	}
	o = &oldHouse{ca: "103",
		guests: []guest{{id: "101", mounts: mount("/srv/a")}, {id: "103", mounts: mount("/srv/b")}}}
	if err := o.find(); err == nil {
		t.Error("nothing is shared, and it was found")
	}
}

// oldDirectory is a shared directory: two roots, one of them named by ca.json, a leaf and its key.
func oldDirectory(t *testing.T) (directory, root string) {
	t.Helper()
	directory = t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(directory, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(cn string, ca bool, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate,
		*ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour),
			NotAfter:  time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign}
		if !ca {
			c.DNSNames = []string{cn}
		}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out, key
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	first, firstKey := sign("first", true, nil, nil)
	second, _ := sign("second", true, nil, nil)
	leaf, leafKey := sign("www.test.internal", false, first, firstKey)
	for name, key := range map[string]*ecdsa.PrivateKey{"secrets/ca.key": firstKey, "certs/www.key": leafKey} {
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name, block("EC PRIVATE KEY", der))
	}
	write("certs/first.crt", block("CERTIFICATE", first.Raw))
	write("certs/second.crt", block("CERTIFICATE", second.Raw))
	write("certs/www.crt", block("CERTIFICATE", leaf.Raw))
	write("password.txt", []byte("a password\n"))
	write("notes.txt", []byte("two\nlines\n"))
	write("config/ca.json",
		[]byte(`{"root": "/etc/step-ca/ssl/certs/first.crt", "authority": {"provisioners": [{"type": "JWK", "name": "admin", "encryptedKey": "x"}, {"type": "ACME", "name": "acme"}]}}`))
	write("db/data", []byte("x"))
	sum := sha256.Sum256(first.Raw)
	return directory, hex.EncodeToString(sum[:])
}

func TestInventory(t *testing.T) {
	directory, want := oldDirectory(t)
	v := &inventory{directory: directory, certs: map[string]*x509.Certificate{}}
	if err := v.read(); err != nil {
		t.Fatal(err)
	}
	if root, err := v.root(); err != nil || root != want {
		t.Errorf("the root is %s: %v", root, err)
	}
	var have []string
	for _, s := range v.secrets {
		have = append(have, s.path+" "+s.kind+map[bool]string{true: " of the root"}[s.root])
	}
	expected := []string{"certs/www.key " + kindKey, "config/ca.json " + kindProvisioner, "db " + kindDatabase,
		"password.txt " + kindPassword, "secrets/ca.key " + kindKey + " of the root"}
	if !slices.Equal(have, expected) {
		t.Errorf("secrets: %q", have)
	}
	if n := len(v.leaked()); n != 3 {
		t.Errorf("%d keys leaked, want those of three certificates", n)
	}
	if c, key := v.pairFor("www.test.internal"); c == nil || len(key) == 0 {
		t.Error("the leaf and its key are not found")
	}
	if c, _ := v.pairFor("other.test.internal"); c != nil {
		t.Error("a certificate for a name that none has")
	}
	v.rootRef = ""
	if _, err := v.root(); err == nil {
		t.Error("of two roots one was chosen")
	}
}

// A script that puts files back outlives a phoenix that is killed: the next one waits for its end.
func TestPutBackWaitsForAnother(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("flock is not installed")
	}
	bin, tree := t.TempDir(), t.TempDir()
	for _, dir := range []string{"etc", "usr/local"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(tree, "etc", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	kept, err := exec.Command("sh", "-c", pack, "sh", tree).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tree, "etc", "link")); err != nil {
		t.Fatal(err)
	}
	back := func(in io.Reader) (*exec.Cmd, <-chan error) {
		cmd := exec.Command("sh", "-c", putBack, "sh", tree)
		cmd.Stdin, cmd.Env, cmd.WaitDelay = in, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), time.Second
		ended := make(chan error, 1)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- cmd.Wait() }()
		return cmd, ended
	}
	stuck, feed := io.Pipe()
	_, first := back(stuck)
	locked := func(waits bool) bool {
		raw, err := os.ReadFile("/proc/locks")
		meta, err2 := os.Stat(tree)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		inode := fmt.Sprintf(":%d ", meta.Sys().(*syscall.Stat_t).Ino)
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(line, inode) && strings.Contains(line, "->") == waits {
				return true
			}
		}
		return false
	}
	for !locked(false) {
		select {
		case err := <-first:
			t.Fatalf("the first ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	_, second := back(bytes.NewReader(kept))
	for !locked(true) {
		select {
		case err := <-second:
			t.Fatalf("the second did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	feed.Close() // nothing was handed over
	if err := <-first; err == nil {
		t.Error("an empty archive was taken for one")
	}
	if _, err := os.Stat(filepath.Join(tree, "etc")); err != nil {
		t.Errorf("for an empty archive all was removed: %v", err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if at, err := os.Readlink(filepath.Join(tree, "etc", "link")); err != nil || at != "/nowhere" {
		t.Errorf("the link is %q: %v", at, err)
	}
}
