package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// debiansNginx is what matters of the unit that Debian's package brings.
const debiansNginx = `[Unit]
Description=A high performance web server and a reverse proxy server
[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'
TimeoutStopSec=5
KillMode=mixed
`

// How far units are shut in, as systemd-analyze has it: the figures of the files themselves and of docs/limits.md, in
// tenths.
func TestUnitsAreShutIn(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	objects := derive(t, homelab(t))
	unit := func(a object.Address) string { return get[spec.Unit](t, objects, a).Content }
	backend, err := os.ReadFile("../../examples/homelab/hello.sh")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(backend), "hello-hardening.conf <<'EOF'\n")
	hello, _, found := strings.Cut(after, "EOF\n")
	if !found {
		t.Fatal("hello.sh has no drop-in")
	}
	watch, _ := setup(t, Machine{Runtime: "lxc"}, debian)
	for name, c := range map[string]struct{ text, most string }{
		"phoenix-agent.service": {unit("unit/101/phoenix-agent.service"), "33"},
		"step-ca.service":       {unit("unit/103/step-ca.service"), "20"},
		"traefik.service":       {unit("unit/102/traefik.service"), "20"},
		"traefik-cover.service": {coverUnitText, "20"},
		"nginx.service":         {debiansNginx + get[spec.Unit](t, objects, "unit/101/nginx.service").DropIn, "28"},
		"hello.service":         {debiansNginx + hello, "26"},
		"phoenix.service":       {of[spec.Unit](t, watch, "unit/hypervisor/phoenix.service").Content, "92"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager",
				"--threshold="+c.most, path).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Overall exposure level for "+name) ||
				strings.Contains(string(out), "Unknown key") {
				t.Errorf("more than %s tenths: %v\n%s", c.most, err, out)
			}
		})
	}
}
