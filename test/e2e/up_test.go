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
	h.unfit(t)
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
	t.Run("fixes lead somewhere", h.fixes)
	t.Run("what hangs", h.hangs)
	t.Run("slow to come up", h.slow)
}

// unfit is a machine whose own firewall keeps containers from the resolver: up says so before it makes anything.
func (h *Hypervisor) unfit(t *testing.T) {
	h.Exec("nft", "add table inet own; add chain inet own arriving { type filter hook input priority 0; policy drop; }").
		Want(0)
	defer func() { h.Exec("nft", "delete table inet own").Want(0) }()
	r := h.Phoenix("up").Want(1)
	for _, want := range []string{"PHX-HOST-005", "chain arriving of table inet own has policy drop",
		"nft insert rule inet own arriving", "nothing was changed"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("up does not say %q\n%s", want, r)
		}
	}
	if _, err := os.Lstat(filepath.Join(h.Root, "lxc")); err == nil || r.Took > 15*time.Second {
		t.Errorf("up went on for %s where nothing can work: %v", r.Took, err)
	}
	h.Phoenix("doctor").Want(3)
}

// slow is an application that is up at the third time of asking, by its own word.
func (h *Hypervisor) slow(t *testing.T) {
	path := filepath.Join(h.Config, "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const name, check = `"name": "hello",`,
		`"health_check": {"command": "echo >>/run/phx-tries; test $(wc -l </run/phx-tries) -ge 3", "retries": 5, "interval": 1},`
	text := strings.Replace(string(raw), name, name+" "+check, 1)
	if text == string(raw) {
		t.Fatalf("no container has %s", name)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := h.Phoenix("health", "201").Want(3); !strings.Contains(r.Stdout, "asked once: ") ||
		!strings.Contains(r.Stdout, " up asks up to 5 times more, 1s apart") {
		t.Errorf("health does not say that it asks once\n%s", r)
	}
	r := h.Phoenix("up").Want(0)
	if !strings.Contains(r.Stdout, "container 201 is not up yet by its own health_check") || r.Took < time.Second {
		t.Errorf("up does not wait for the application\n%s", r)
	}
}

// hangs lets servers take connections and say nothing. The check tells in seconds.
func (h *Hypervisor) hangs(t *testing.T) {
	each := func(signal string) {
		for id, unit := range map[string]string{"103": "step-ca.service", "101": "nginx.service"} {
			h.Exec("lxc-attach", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "--", "systemctl", "kill", "--signal",
				signal, unit).Want(0)
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
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "101").Want(0)
	// leaves word of it, for watch
	h.Phoenix("stop", "101").Want(0)
	if err := os.WriteFile(filepath.Join(h.Root, "events.jsonl"), nil, 0o600); err != nil { // watch's
		t.Fatal(err)
	}
	h.Phoenix("delete", "--all", "--volumes=103", "--yes").Want(0)
	if links := h.Links(); len(links) != 0 {
		t.Errorf("interfaces are left: %v", links)
	}
	if pids := h.Processes(); len(pids) != 0 {
		t.Errorf("processes are left: %v\n%s", pids, h.Exec("ps", "-fp", strings.Join(pids, ",")))
	}
	if _, err := os.Stat(h.Root); !os.IsNotExist(err) {
		t.Errorf("the root directory is left (%v)\n%s", err, h.Exec("find", h.Root))
	}
}
