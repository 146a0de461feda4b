package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// broken is a fault with the check of health that finds it. then makes of its fix what a person does with it; nil: it
// is pasted as it stands.
type broken struct {
	name, check, id string
	fault           []string
	then            func(fix string) string
}

// before is a fix up to where it says more than what to do.
func before(more string) func(string) string {
	return func(fix string) string {
		command, _, _ := strings.Cut(fix, more)
		return command
	}
}

// fixes breaks one thing after the other, does what health says literally, in a shell, and wants the check green. Where
// an agent would be faster than a person it is stopped.
func (h *Hypervisor) fixes(t *testing.T) {
	lxc, dir := filepath.Join(h.Root, "lxc"), filepath.Dir(h.Root)
	inside := func(id, script string) []string {
		return []string{"lxc-attach", "-P", lxc, "-n", id, "--", "sh", "-ec", script}
	}
	password, backup := filepath.Join(dir, "fixes.password"), filepath.Join(dir, "fixes.age")
	if err := os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Phoenix("ca", "backup", backup, "--password-file", password).Want(0)
	for _, b := range []broken{
		{"stopped", "PHX-CT-001", "201", []string{"lxc-stop", "-P", lxc, "-n", "201", "-k"}, nil},
		{"an open volume", "PHX-VOL-001", "201",
			[]string{"chmod", "0777", filepath.Join(h.Root, "volumes", "201", "tls")}, nil},
		{"no daemon", "PHX-CT-002", "201", inside("201", "systemctl stop phoenix-agent.service"), before(";")},
		{"an open pin", "PHX-PIN-001", "103", []string{"chmod", "0666", filepath.Join(h.Root, "pins", "103")},
			before("; then compare")},
		{"a lost root", "PHX-CA-008", "103",
			[]string{"rm", "-r", filepath.Join(h.Root, "volumes", "103", "ssl", "secrets", "root")},
			func(fix string) string {
				command, _, _ := strings.Cut(fix, " brings the same root back")
				return strings.Replace(strings.Replace(command, "FILE", backup, 1), "FILE", password, 1)
			}},
	} {
		t.Run(b.name, func(t *testing.T) {
			h := h.in(t)
			h.Exec(b.fault...).Want(0)
			status, fix := h.check(b)
			if status != "fail" || !strings.Contains(fix, "--config") && strings.Contains(fix, "phoenix ") {
				t.Fatalf("%s is %s, fix: %q", b.check, status, fix)
			}
			if b.then != nil {
				fix = b.then(fix)
			}
			h.Exec("sh", "-ec", fix).Want(0)
			if status, again := h.check(b); status != "pass" {
				t.Errorf("%s is %s after %q, fix: %q", b.check, status, fix, again)
			}
		})
	}
	h.Phoenix("up").Want(0)
}

// in is the same hypervisor for a subtest.
func (h *Hypervisor) in(t *testing.T) *Hypervisor {
	other := *h
	other.t = t
	return &other
}

// check is how a check of a container ends, and what it advises.
func (h *Hypervisor) check(b broken) (status, fix string) {
	h.t.Helper()
	var report struct {
		Checks []struct{ ID, Object, Status, Fix string }
	}
	h.Phoenix("health", b.id, "-o", "json").JSON(&report)
	for _, c := range report.Checks {
		if c.ID == b.check && strings.Contains(c.Object+"/", "/"+b.id+"/") && (status == "" || c.Status == "fail") {
			status, fix = c.Status, c.Fix
		}
	}
	return status, fix
}
