package pve

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// counted are the calls that begin with a word since the last time.
func counted(calls []string, word string) (n int) {
	for _, c := range calls {
		if strings.HasPrefix(c, word) {
			n++
		}
	}
	return n
}

// What cannot heal by itself is tried once: each try of a task would be one more failed one in Proxmox's log.
func TestFailuresThatDoNotHeal(t *testing.T) {
	h := newHost(t)
	h.reset()
	create := []string{"create", "103"}
	fails := func(what string, words ...string) []string {
		t.Helper()
		h.pct()
		began := time.Now()
		r := h.phoenix(nil, create...)
		for _, w := range words {
			if !strings.Contains(r.stdout+r.stderr, w) {
				t.Errorf("%s: no %q in %s", what, w, r)
			}
		}
		if took := time.Since(began); r.exit != 1 || took > 30*time.Second {
			t.Errorf("%s: after %s: %s", what, took, r)
		}
		t.Logf("%s: %s", what, time.Since(began))
		return h.pct()
	}
	h.write(`{"code":255,"stderr":"the frobnicator has failed\n","stays":true}`, "faults", "create")
	if calls := fails("an unknown failure", "the frobnicator has failed", "not tried again"); counted(calls,
		"pct create") != 1 {
		t.Errorf("an unknown failure: %q", calls)
	}
	h.write("", "faults", "none")
	if err := errorsOf(os.Remove(h.path("faults", "create")),
		os.Rename(h.path("bin", "pvesm"), h.path("bin", "pvesm.away"))); err != nil {
		t.Fatal(err)
	}
	fails("no pvesm", "install pvesm")
	if err := errorsOf(os.Rename(h.path("bin", "pvesm.away"), h.path("bin", "pvesm")),
		os.Rename(h.path("pve"), h.path("pve.away")),
		os.Mkdir(h.path("pve"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if calls := fails("no pmxcfs", "pve-cluster"); len(calls) > 0 {
		t.Errorf("no pmxcfs: %q", calls)
	}
	if err := errorsOf(os.Remove(h.path("pve")), os.Rename(h.path("pve.away"), h.path("pve"))); err != nil {
		t.Fatal(err)
	}
	h.changes(0, create...)
}

func errorsOf(errs ...error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// begin starts a command that is not waited for.
func (h *hypervisor) begin(args ...string) (*exec.Cmd, *bytes.Buffer) {
	h.t.Helper()
	argv := append([]string{"--net=/run/netns/" + h.name, h.path("bin", "phoenix"), "--config", h.path("config"),
		"--root", h.path("root"), "--runtime", "auto", "--timeout", "2m", "-o", "json"}, args...)
	cmd := exec.Command("nsenter", argv...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") }),
		"PATH="+h.path("bin")+":"+os.Getenv("PATH"), "PHOENIX_CACHE="+h.path("cache"), "PHX_PROXMOX="+h.base)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, 5*time.Second
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd, &out
}

// A lock is waited for without calling Proxmox, by every command, and SIGTERM is heard meanwhile.
func TestLocksAreWaitedFor(t *testing.T) {
	h := newHost(t)
	h.reset()
	h.changes(0, append([]string{"create"}, "103")...)
	lock := func(on bool) {
		t.Helper()
		text := strings.ReplaceAll(h.conf("103"), "lock: backup\n", "")
		if on {
			text = strings.Replace(text, "hostname: ", "lock: backup\nhostname: ", 1)
		}
		if err := os.WriteFile(h.path("pve", "lxc", "103.conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	memory := func(from, to string) {
		h.write(strings.Replace(h.read("config", "phoenix_lxc_configs.json"), `"memory_mb": `+from, `"memory_mb": `+to,
			-1), "config", "phoenix_lxc_configs.json")
	}
	for _, args := range [][]string{{"restart", "103"}, {"stop", "103"}, {"start", "103"}, {"delete", "103", "--yes"}} {
		lock(true)
		h.pct()
		cmd, out := h.begin(args...)
		time.Sleep(1500 * time.Millisecond) // long enough for a few looks
		if calls := h.pct(); len(calls) > 0 {
			t.Errorf("%q calls %q while it waits", args, calls)
		}
		lock(false)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%q did not wait: %v\n%s", args, err, out)
		}
	}
	h.changes(0, "create", "103")
	memory("512", "600")
	lock(true)
	cmd, out := h.begin("create", "103")
	time.Sleep(1500 * time.Millisecond)
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("SIGTERM after %s: %v\n%s", time.Since(began), err, out)
	}
	lock(false)
	h.changes(0, "create", "103")
}
