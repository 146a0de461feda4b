package e2e

import (
	"path/filepath"
	"testing"
)

// delete keeps volumes: the CA that comes back is the same CA, and those who
// trusted it go on trusting it.
func TestDeleteAndCreateKeepsTheRoot(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103", "101").Want(0)
	before := h.RootCertificate()
	h.Phoenix("delete", "103", "--yes").Want(0)
	if !hasFile(filepath.Join(h.Root, "volumes", "103")) {
		t.Error("delete without --volumes removed the volume's content")
	}
	h.Phoenix("health", "101").Want(3)
	h.Phoenix("create", "103").Want(0)
	if after := h.RootCertificate(); !after.Equal(before) {
		t.Errorf("another root: %s before, %s after", fingerprint(before), fingerprint(after))
	}
	h.WantHealthy("103", "101")
	h.WantNoChange("103", "101")
}

func TestDeleteAsks(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103").Want(0)
	root := h.RootCertificate()
	if r := h.Phoenix("delete", "103", "--volumes"); r.Exit == 0 {
		t.Errorf("deleted a volume without --yes and without anyone to ask\n%s", r)
	}
	if after := h.RootCertificate(); !after.Equal(root) {
		t.Error("the CA was touched by a delete that was not confirmed")
	}
}

func TestStopStartRestart(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103").Want(0)
	root := h.RootCertificate()
	h.Phoenix("stop", "103").Want(0)
	if got := h.State("103"); got != "stopped" {
		t.Errorf("after stop: %s", got)
	}
	h.Phoenix("health", "103").Want(3)
	for _, command := range []string{"start", "restart"} {
		h.Phoenix(command, "103").Want(0)
		h.WantHealthy("103")
	}
	if after := h.RootCertificate(); !after.Equal(root) {
		t.Error("another root after a restart")
	}
}

// State is what status says of one container.
func (h *Hypervisor) State(id string) string {
	h.t.Helper()
	var status struct {
		Containers []struct {
			ID    int    `json:"id"`
			State string `json:"state"`
		} `json:"containers"`
	}
	r := h.Phoenix("status", id, "-o", "json").Want(0)
	r.JSON(&status)
	if len(status.Containers) != 1 {
		h.t.Fatalf("want one container\n%s", r)
	}
	return status.Containers[0].State
}
