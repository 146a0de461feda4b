package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Audited is the output of audit with -o json.
type Audited struct {
	Findings []struct {
		Rule     string          `json:"rule"`
		Object   string          `json:"object"`
		Summary  string          `json:"summary"`
		Accepted *map[string]any `json:"accepted"`
	} `json:"findings"`
	NotSeen []struct {
		Object string `json:"object"`
		Reason string `json:"reason"`
	} `json:"not_seen"`
}

// audit runs the audit. Processes are those of the whole machine: what others run on it beside this test is left out.
func (h *Hypervisor) audit(exit int) (Audited, Result) {
	h.t.Helper()
	var out Audited
	r := h.Phoenix("audit", "-o", "json")
	r.JSON(&out)
	if r.Exit != exit {
		h.t.Fatalf("want exit %d\n%s", exit, r)
	}
	return out, r
}

func (a Audited) has(rule, object, says string) bool {
	for _, f := range a.Findings {
		if f.Rule == rule && f.Object == object && strings.Contains(f.Summary, says) {
			return true
		}
	}
	return false
}

// A house that phoenix made audits clean, inside and outside, and the audit touches nothing. What is then done to it by
// hand is found.
func TestAudit(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103", "101", "102", "201").Want(0)
	clean, r := h.audit(0)
	for _, f := range clean.Findings {
		if f.Accepted == nil || f.Rule != "PHX-AUD-058" {
			t.Errorf("a new house has a finding: %+v", f)
		}
	}
	if len(clean.Findings) != 1 || len(clean.NotSeen) > 0 {
		t.Errorf("want the accepted finding of the root's key, and everything seen\n%s", r)
	}
	h.WantNoChange("103", "101", "102", "201")

	const password = "c8HmnQ2vL0pZ"
	h.Attach("101", nil, "sh", "-c",
		"cp /etc/nginx/ssl/gateway.key /etc/nginx/old.key && chmod 644 /etc/nginx/old.key").Want(0)
	h.Attach("102", nil, "sh", "-c", "echo 'http: {serversTransports: {x: {insecureSkipVerify: true}}}' > "+
		"/etc/traefik/by-hand.yml").Want(0)
	h.Attach("201", nil, "sh", "-c", `sh -c "sleep 300; :" x --password=`+password+
		` </dev/null >/dev/null 2>&1 & printf '[Service]\nExecStart=/bin/true\nEnvironment=DB_PASSWORD=`+password+
		`\n' > /etc/systemd/system/by-hand.service`).Want(0)
	definition := filepath.Join(h.Root, "lxc", "101", "config")
	raw, err := os.ReadFile(definition)
	if err != nil {
		t.Fatal(err)
	}
	line := "lxc.mount.entry = " + filepath.Join(h.Root, "volumes", "103", "ssl") + " mnt none bind,create=dir 0 0\n"
	if err := os.WriteFile(definition, append(raw, line...), 0o600); err != nil {
		t.Fatal(err)
	}
	// The shared directory of the old days.
	shared := filepath.Join(filepath.Dir(h.Root), "shared", "ssl")
	command(t, "sh", "-ec",
		`mkdir -p "$1" && echo x >"$1"/root_ca_key && chown -R 65534:65534 "$1" && chmod -R 777 "$1"`, "sh", shared)
	definition = filepath.Join(h.Root, "lxc", "102", "config")
	if raw, err = os.ReadFile(definition); err != nil {
		t.Fatal(err)
	}
	line = "lxc.mount.entry = " + shared + " srv none bind 0 0\n"
	if err := os.WriteFile(definition, append(raw, line...), 0o600); err != nil {
		t.Fatal(err)
	}
	const list = `find / -xdev ! -path /root/before ! -path '/var/log/*' | sort`
	// Nothing of phoenix in a container: the audit looks inside all the same, and leaves nothing there.
	h.Attach("102", nil, "sh", "-c", "systemctl stop phoenix-agent && mv /usr/local/lib/phoenix/phoenix /root/away && "+
		list+" > /root/before").Want(0)
	const foreign = "02:0e:0e:0e:0e:0e"
	h.Exec("ip", "link", "add", "vethdocker0", "type", "veth", "peer", "name", "inside0", "address", foreign).Want(0)
	h.Exec("ip", "link", "set", "dev", "vethdocker0", "master", "phxbr0", "up").Want(0)
	h.Exec("ip", "link", "set", "dev", "inside0", "up").Want(0) // IPv6 speaks by itself
	// As it is after somebody has mounted it in a running container, too.
	found, r := h.audit(3)
	for _, want := range [][3]string{
		{"PHX-AUD-050", "container/103", "the same directory"},
		{"PHX-AUD-052", "container/102", "a private key, " + shared + "/root_ca_key"},
		{"PHX-AUD-054", "container/102", shared},
		{"PHX-AUD-070", "container/102", shared},
		{"PHX-AUD-053", "container/101", "/etc/nginx/old.key"},
		{"PHX-AUD-065", "container/102", "by-hand.yml"},
		{"PHX-AUD-055", "container/201", "by-hand.service line 3 has DB_PASSWORD"},
		{"PHX-AUD-056", "container/201", "has password in its arguments"},
		{"PHX-AUD-082", "network/phxbr0/vethdocker0", "the bridge has heard " + foreign + " there"},
	} {
		if !found.has(want[0], want[1], want[2]) {
			t.Errorf("not found: %v\n%s", want, r)
		}
	}
	if len(found.NotSeen) > 0 {
		t.Errorf("not everything was seen\n%s", r)
	}
	h.Attach("102", nil, "sh", "-c", list+" | grep -v ' (deleted)' | diff /root/before -").Want(0)
	if strings.Contains(r.Stdout+r.Stderr, password) {
		t.Error("the audit shows a password")
	}
	if slices.ContainsFunc([]string{"sarif", "junit"}, func(format string) bool {
		return strings.Contains(h.Phoenix("audit", "-o", format).Want(3).Stdout, password)
	}) {
		t.Error("the audit shows a password")
	}
}
