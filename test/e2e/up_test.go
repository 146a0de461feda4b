package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The way of a request: client -> Nginx -> Traefik -> backend, verified
// against our root by the client; the hops behind are health's to check.
func TestUpServesTheBackend(t *testing.T) {
	h := New(t, homelab())
	up := h.Phoenix("up").Want(0)
	if !strings.Contains(up.Stdout, "https://hello.homelab.internal") {
		t.Errorf("up does not end with the addresses to try\n%s", up)
	}
	h.WantHealthy()
	root := h.RootCertificate()
	for name, want := range map[string]string{"hello.homelab.internal": "hello from container 201\n"} {
		status, body, err := h.Get(gateway, name, "/", root)
		if err != nil || status != http.StatusOK || body != want {
			t.Errorf("https://%s: status %d, body %q, %v", name, status, body, err)
		}
	}
	if _, _, err := h.Get(gateway, "elsewhere.homelab.internal", "/", root); err == nil {
		t.Error("the gateway serves a verified certificate for a name that nobody configured")
	}
	again := h.Phoenix("up").Want(0)
	t.Logf("up took %s, again %s", up.Took, again.Took)
	h.WantNoChange("103", "101", "102", "201")
	t.Run("what hangs", h.hangs)
}

// hangs lets servers take connections and say nothing. The check tells in seconds.
func (h *Hypervisor) hangs(t *testing.T) {
	each := func(signal string) {
		for id, unit := range map[string]string{"103": "step-ca.service", "101": "nginx.service"} {
			h.Exec("lxc-attach", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "--", "systemctl", "kill", "--signal", signal, unit).Want(0)
		}
	}
	each("STOP")
	defer each("CONT")
	r := h.Phoenix("health").Want(3)
	if r.Took > 10*time.Second || !strings.Contains(r.Stdout, "no answer within") {
		t.Errorf("the check of what hangs\n%s", r)
	}
	t.Logf("it took %s", r.Took)
}

// Delete with everything leaves a hypervisor as it was.
func TestDeleteAllLeavesNothing(t *testing.T) {
	t.Parallel()
	h := New(t, homelab())
	h.Phoenix("create", "101").Want(0)
	h.Phoenix("stop", "101").Want(0)                                                        // leaves word of it, for watch
	if err := os.WriteFile(filepath.Join(h.Root, "events.jsonl"), nil, 0o600); err != nil { // watch's
		t.Fatal(err)
	}
	h.Phoenix("delete", "--all", "--volumes", "--yes").Want(0)
	if links := h.Links(); len(links) != 0 {
		t.Errorf("interfaces are left: %v", links)
	}
	if pids := h.Processes(); len(pids) != 0 {
		t.Errorf("processes are left: %v\n%s", pids, h.Exec("ps", "-fp", strings.Join(pids, ",")))
	}
	if _, err := os.Stat(h.Root); !os.IsNotExist(err) {
		t.Errorf("the root folder is left (%v)\n%s", err, h.Exec("find", h.Root))
	}
}
