package e2e

import (
	"strings"
	"testing"
)

// Certificates are listed, shown, and renewed with new keys, those of Traefik too, while the gateway answers.
func TestCert(t *testing.T) {
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
	for name, id := range map[string]string{"www.homelab.internal": "101", "hello.homelab.internal": "102", "traefik.homelab.internal": "102", "hello-backend.homelab.internal": "201"} {
		if got[name] != id {
			t.Errorf("%s is listed in container %q, want %s", name, got[name], id)
		}
	}
	if r := h.Phoenix("cert", "show", "hello-backend.homelab.internal").Want(0); !strings.Contains(r.Stdout, before["hello-backend.homelab.internal"].SerialNumber.Text(16)) {
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
