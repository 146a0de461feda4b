package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// issuedCertificate is a line of `phoenix ca issued`.
type issuedCertificate struct {
	Serial    string    `json:"serial"`
	Names     []string  `json:"names"`
	NotAfter  time.Time `json:"not_after"`
	Account   string    `json:"account"`
	State     string    `json:"state"`
	Container string    `json:"container"`
	From      string    `json:"from"`
}

// What the CA issued is known, and what is not in order is told by health, by the audit and in the list: over restarts
// and the death of the CA, over the loss of its database, and until nobody trusts it any more.
func TestIssued(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.edits(func(c map[string]any) {
		c["step_ca"].(map[string]any)["allowed_names"] = []string{"printer.homelab.internal"}
		zone := c["dns_server"].(map[string]any)["authoritative_zones"].([]any)[0].(map[string]any)
		zone["records"] = append(zone["records"].([]any),
			map[string]any{"hostname": "printer", "ip_internal": "10.86.17.201"})
	})
	h.Phoenix("create", "103", "201").Want(0)
	h.WantHealthy("103", "201")
	own := h.issued()
	if len(own) != 1 {
		t.Fatalf("after create: %+v", own)
	}
	h.wantIssued(map[string]string{own[0].Serial: "accounted"})

	client := filepath.Join(t.TempDir(), "acmeclient")
	if _, err := tool(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-o", client,
		"./test/acmeclient"); err != nil {
		t.Fatal(err)
	}
	h.Push(client, "201", "/root/acmeclient")
	order := func(name string) string {
		t.Helper()
		return strings.TrimSpace(h.Attach("201", nil, "/root/acmeclient", "-directory",
			"https://"+ca+"/acme/acme/directory", name).Want(0).Stdout)
	}
	printer := order("printer.homelab.internal")
	h.wantIssued(map[string]string{own[0].Serial: "accounted", printer: "listed"})
	h.WantHealthy("103", "201")

	// Root of 201 has another account, and takes a certificate for a name that phoenix keeps there.
	want := map[string]string{own[0].Serial: "accounted", printer: "listed",
		order("hello-backend.homelab.internal"): "foreign"}
	h.Attach("103", nil, "systemctl", "kill", "--signal=KILL", "step-ca.service").Want(0)
	h.wantIssued(want)
	h.Phoenix("restart", "103").Want(0)
	h.wantIssued(want)
	h.told("PHX-CA-007", "PHX-AUD-076", want, "foreign")

	// A name is taken out of the configuration, and somebody has a certificate for it.
	h.edits(func(c map[string]any) { c["step_ca"].(map[string]any)["allowed_names"] = []string{} })
	h.Phoenix("apply", "103", "201", "--yes").Want(0)
	want[printer] = "unwanted"
	h.wantIssued(want)
	h.told("PHX-CA-006", "PHX-AUD-075", want, "unwanted")

	// The database is cut off, and step-ca begins another.
	db := "/etc/step-ca/ssl/db/step-ca.db"
	h.Attach("103", nil, "sh", "-c", "systemctl stop step-ca.service; truncate -s 12288 "+db+
		"; systemctl reset-failed; :").Want(0)
	h.Phoenix("apply", "103").Want(0)
	h.wantIssued(want)
	h.Phoenix("plan", "--detailed-exitcode", "103", "201").Want(0)

	// What ends it is another root: nobody trusts the one under which it was issued.
	h.Phoenix("ca", "rotate", "--new-root", "--yes").Want(0)
	h.WantHealthy("103", "201")
	for _, c := range h.issued() {
		if c.State != "accounted" {
			t.Errorf("with another root: %+v", c)
		}
	}
}

// edits changes the hypervisor's file.
func (h *Hypervisor) edits(change func(map[string]any)) {
	h.t.Helper()
	file := filepath.Join(h.Config, "phoenix_hypervisor_config.json")
	raw, err := os.ReadFile(file)
	var all map[string]any
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err == nil {
		change(all)
		raw, err = json.MarshalIndent(all, "", "    ")
	}
	if err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *Hypervisor) issued() []issuedCertificate {
	h.t.Helper()
	var list struct {
		Certificates []issuedCertificate `json:"certificates"`
	}
	h.Phoenix("ca", "issued", "-o", "json").Want(0).JSON(&list)
	return list.Certificates
}

// wantIssued compares the list with serials and their states.
func (h *Hypervisor) wantIssued(want map[string]string) {
	h.t.Helper()
	list := h.issued()
	got := map[string]string{}
	for _, c := range list {
		got[c.Serial] = c.State
		if c.State != "accounted" && (c.Account == "" || c.NotAfter.Before(time.Now())) {
			h.t.Errorf("not all is known of %+v", c)
		}
	}
	for serial, state := range want {
		if got[serial] != state {
			h.t.Errorf("%s is %q, want %q, of %+v", serial, got[serial], state, list)
		}
	}
	if len(got) != len(want) {
		h.t.Errorf("%d certificates, want %d: %+v", len(got), len(want), list)
	}
}

// told is whether health and the audit name the one certificate of a state, with the address that it was ordered from.
func (h *Hypervisor) told(check, rule string, want map[string]string, state string) {
	h.t.Helper()
	serial := ""
	for s, of := range want {
		if of == state {
			serial = s
		}
	}
	var report struct {
		Checks []struct{ ID, Status, Evidence, Fix string }
	}
	h.Phoenix("health", "103", "201", "-o", "json").Want(3).JSON(&report)
	if !slices.ContainsFunc(report.Checks, func(c struct{ ID, Status, Evidence, Fix string }) bool {
		return c.ID == check && c.Status == "fail" && strings.Contains(c.Evidence, "serial "+shownSerial(serial)) &&
			strings.Contains(c.Evidence, "10.86.17.201") && c.Fix != ""
	}) {
		h.t.Errorf("%s does not tell of %s: %+v", check, serial, report.Checks)
	}
	var audited struct {
		Findings []struct{ Rule, Object, Summary string }
	}
	h.Phoenix("audit", "-o", "json").Want(3).JSON(&audited)
	if !slices.ContainsFunc(audited.Findings, func(f struct{ Rule, Object, Summary string }) bool {
		return f.Rule == rule && f.Object == "container/103" &&
			strings.Contains(f.Summary, "serial "+shownSerial(serial))
	}) {
		h.t.Errorf("%s does not tell of %s: %+v", rule, serial, audited.Findings)
	}
}

// shownSerial is a serial number in hexadecimal digits as people are shown it, and as openssl x509 -serial shows it.
func shownSerial(digits string) string {
	return strings.ToUpper(strings.Repeat("0", len(digits)%2) + digits)
}
