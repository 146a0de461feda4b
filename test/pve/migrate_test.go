package pve

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
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guestsOfOld are the containers of the old layout on a Proxmox host: the three that see the shared directory, and a
// backend.
var guestsOfOld = append(slices.Clone(ids), "201")

// old makes a Proxmox host as the old scripts left it, with one directory mounted in three containers, and returns the
// root's fingerprint.
func (h *hypervisor) old() string {
	h.t.Helper()
	h.reset()
	shared := h.path("shared", "103", "ssl")
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		raw, err := os.ReadFile(filepath.Join(repo(), "test", "e2e", "testdata", "oldlayout", name))
		if err != nil {
			h.t.Fatal(err)
		}
		text := strings.NewReplacer("/mnt/persistent/103/ssl", shared, "/var/lib/vz/",
			h.path("vz")+"/").Replace(string(raw))
		h.write(text, "config", name)
	}
	root := h.oldRoot(shared)
	for _, id := range guestsOfOld {
		argv := []string{"pct", "create", id, "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst", "--rootfs",
			"local-zfs:4", "--unprivileged", "1",
			"--hostname", "old-" + id, "--memory", "512", "--net0",
			"name=eth0,bridge=phxbr0,ip=10.86.17." + id + "/24,gw=10.86.17.1,type=veth"}
		if id != "201" { // whose definition differs in what waits for a restart
			argv = append(argv, "--features", "nesting=1", "--nameserver", "10.86.17.1", "--searchdomain",
				"homelab.internal", "--mp0", shared+",mp=/etc/step-ca/ssl")
		}
		h.tool(argv...)
		rootfs := h.path("zfs", "subvol-"+id+"-disk-0")
		for name, text := range map[string]string{"etc/hosts": "127.0.0.1 old\n",
			"etc/nginx/conf.d/old.conf": "server {}\n", "usr/local/bin/old": "#!/bin/sh\n"} {
			path := filepath.Join(rootfs, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(text), 0o644)); err != nil {
				h.t.Fatal(err)
			}
		}
		h.tool("pct", "start", id)
	}
	return root
}

// oldRoot puts a root with its key and a certificate made by hand into the shared directory.
func (h *hypervisor) oldRoot(shared string) string {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Old Root CA"},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"root_ca.crt": {Type: "CERTIFICATE", Bytes: der},
		"root_ca_key": {Type: "PRIVATE KEY", Bytes: plain}} {
		path := filepath.Join(shared, name)
		if err := errors.Join(os.MkdirAll(shared, 0o777),
			os.WriteFile(path, pem.EncodeToMemory(b), 0o666)); err != nil {
			h.t.Fatal(err)
		}
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// tool runs one of the fakes on the host.
func (h *hypervisor) tool(argv ...string) {
	h.t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.name, h.path("bin", argv[0])},
		argv[1:]...)...)
	cmd.Env = append(os.Environ(), "PATH="+h.path("bin")+":"+os.Getenv("PATH"), "PHX_PROXMOX="+h.base)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// The inside of containers is faked here, and so not healthy: a migration that is done ends with 3.
const doneUnhealthy = 3

func (h *hypervisor) migrated(root string) {
	h.t.Helper()
	if r := h.phoenix(nil, "migrate", "--live", "--yes"); r.exit != doneUnhealthy {
		h.t.Fatalf("migrate --live: %s", r)
	}
	for _, id := range ids {
		if c := h.conf(id); strings.Contains(c, h.path("shared")) || !strings.Contains(c, "phoenix%3A volume/"+id) {
			h.t.Errorf("container %s:\n%s", id, c)
		}
	}
	if have := h.root(); have != root {
		h.t.Errorf("the CA's root is %s, was %s", have, root)
	}
	h.unchanged(append([]string{"create"}, ids...))
	// What waits for the backend's next start is told, and no reason for one.
	if doc, r := h.changes(0, "plan"); len(doc.Changes) != 1 || doc.Changes[0].Address != "running/201" {
		h.t.Errorf("the plan for all: %s", r)
	}
	if left, err := os.ReadDir(filepath.Join(h.path("zfs"), "subvol-103-disk-0", "run")); err == nil {
		for _, e := range left {
			if e.Name() == "phoenix-import" {
				h.t.Error("what was handed over to the CA was left")
			}
		}
	}
}

// On a Proxmox host the old containers become phoenix's as they are: their volumes are plugged in while they run, the
// shared directory goes out of their files, nobody but the CA is restarted. The way back leads to the old files.
func TestProxmoxMigrateLive(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	root := h.old()
	before, pids := map[string]string{}, map[string]string{}
	for _, id := range guestsOfOld {
		before[id], pids[id] = h.conf(id), h.read("pids", id)
	}
	r := h.phoenix(nil, "migrate", "--live")
	var doc struct {
		Steps []struct {
			Step string `json:"step"`
		} `json:"steps"`
		Leaked []struct {
			Path string `json:"path"`
		} `json:"leaked"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || r.exit != 0 || len(doc.Steps) < 8 ||
		len(doc.Leaked) != 1 {
		t.Fatalf("the plan (%v): %s", err, r)
	}
	for _, id := range guestsOfOld {
		if h.conf(id) != before[id] {
			t.Errorf("a plan changed container %s:\n%s", id, h.conf(id))
		}
	}
	h.pct()
	h.migrated(root)
	t.Logf("calls:\n%s", strings.Join(h.pct(), "\n"))
	for _, id := range []string{"101", "102", "201"} {
		if now := h.read("pids", id); now != pids[id] {
			t.Errorf("container %s was restarted", id)
		}
	}
	h.migrated(root)

	if r := h.phoenix(nil, "migrate", "--live", "--rollback", "--yes"); r.exit != 0 {
		t.Fatalf("rollback: %s", r)
	}
	h.isBack(before)
	h.migrated(root)
	if r := h.phoenix(nil, "migrate", "--live", "--shred", "--yes"); r.exit != 1 ||
		!strings.Contains(r.stdout, "not healthy") {
		t.Errorf("shred of a house that is not healthy: %s", r)
	}
	if names, err := os.ReadDir(h.path("shared", "103", "ssl")); err != nil || len(names) == 0 {
		t.Errorf("the shared directory was emptied: %v", err)
	}
}

// isBack wants the old files, beside volumes that wait unattached.
func (h *hypervisor) isBack(before map[string]string) {
	h.t.Helper()
	for _, id := range guestsOfOld {
		kept := slices.DeleteFunc(strings.SplitAfter(h.conf(id), "\n"),
			func(l string) bool { return strings.HasPrefix(l, "unused") })
		if now := strings.Join(kept, ""); now != before[id] {
			h.t.Errorf("container %s is\n%s\nwas\n%s", id, h.conf(id), before[id])
		}
		for name, text := range map[string]string{"etc/hosts": "127.0.0.1 old\n",
			"etc/nginx/conf.d/old.conf": "server {}\n"} {
			if raw, err := os.ReadFile(filepath.Join(h.path("zfs"), "subvol-"+id+"-disk-0", name)); err != nil ||
				string(raw) != text {
				h.t.Errorf("container %s: %s is %q: %v", id, name, raw, err)
			}
		}
	}
}

// Killed at random moments on the way there and back, and run again, it ends the same.
func TestProxmoxMigrateKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	draw := mrand.New(mrand.NewPCG(seed, 0))
	root := h.old()
	before := map[string]string{}
	for _, id := range guestsOfOld {
		before[id] = h.conf(id)
	}
	for range 6 {
		h.killAfter(time.Duration(draw.Int64N(int64(2*time.Second))), "migrate", "--live", "--yes")
	}
	h.migrated(root)
	for range 3 {
		h.killAfter(time.Duration(draw.Int64N(int64(300*time.Millisecond))), "migrate", "--live", "--rollback", "--yes")
	}
	// On a quick machine it was done before it was killed.
	if r := h.phoenix(nil, "migrate", "--live", "--rollback", "--yes"); r.exit != 0 &&
		!strings.Contains(r.stdout, "there is nothing to go back from") {
		t.Fatalf("rollback: %s", r)
	}
	h.isBack(before)
}

// killAfter starts phoenix and kills it, with what it has started.
func (h *hypervisor) killAfter(d time.Duration, args ...string) {
	h.t.Helper()
	argv := append([]string{"--net=/run/netns/" + h.name, h.path("bin", "phoenix"), "--config", h.path("config"),
		"--root", h.path("root"), "-v"}, args...)
	cmd := exec.Command("nsenter", argv...)
	cmd.Env = append(os.Environ(), "PATH="+h.path("bin")+":"+os.Getenv("PATH"), "PHOENIX_CACHE="+h.path("cache"),
		"PHX_PROXMOX="+h.base, "PHX_IDS="+h.path("ids"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said, err := os.Create(filepath.Join(h.t.TempDir(), "said"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(d)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
	_ = cmd.Wait()
	raw, err := os.ReadFile(said.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	h.t.Logf("killed after %s: %.200s", d.Round(time.Millisecond), lines[len(lines)-1])
}
