package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files of a real Proxmox host, unmodified: pools and template paths that
// do not exist here fall back, and validate says so. They are not part of the
// project; PHOENIX_USER_FILES or a directory beside the checkout has them.
func TestUsersOwnFiles(t *testing.T) {
	beside(t)
	from := os.Getenv("PHOENIX_USER_FILES")
	if from == "" {
		from = filepath.Join(repo(), "..", "shared", "phoenix-configs")
	}
	if _, err := os.Stat(from); err != nil {
		t.Skipf("the users' files are not here: %v", err)
	}
	dir := t.TempDir()
	for source, name := range map[string]string{
		"lxc-own-directories.json": "phoenix_lxc_configs.json",
		"hypervisor.json":          "phoenix_hypervisor_config.json",
	} {
		raw, err := os.ReadFile(filepath.Join(from, source))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, dir)
	r := h.Phoenix("validate").Want(0)
	for _, fallback := range []string{
		"pool quickOS-lxc-disks is not on this machine",
		"a Debian bookworm template is built in its place",
		"/etc/step-ca/ssl of container 103 is a local volume", "/etc/nginx/ssl of container 101 is a local volume",
		"/etc/traefik/certs of container 102 is a local volume",
	} {
		if !strings.Contains(r.Stdout, fallback) {
			t.Errorf("validate does not say: %s\n%s", fallback, r)
		}
	}
	h.Phoenix("create", "103", "101", "102").Want(0)
	h.WantHealthy("103", "101", "102")
	h.WantNoChange("103", "101", "102")
}
