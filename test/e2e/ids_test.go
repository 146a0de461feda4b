package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const sharedIDs = 100000

// rangeOf is where the ids of a container's configuration begin.
func (h *Hypervisor) rangeOf(id string) int {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.Root, "lxc", id, "config"))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 6 && f[0] == "lxc.idmap" && f[2] == "u" {
			base, err := strconv.Atoi(f[4])
			if err != nil {
				h.t.Fatal(err)
			}
			return base
		}
	}
	h.t.Fatalf("container %s has no range of ids:\n%s", id, raw)
	return 0
}

// notIn lists files below a directory whose owner is neither root outside nor one of the range.
func notIn(t *testing.T, dir string, base int) []string {
	t.Helper()
	out, err := exec.Command("find", dir, "-xdev", "-printf", "%U %G %p\\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		var uid, gid int
		if _, err := fmt.Sscan(line, &uid, &gid); err != nil {
			t.Fatal(err)
		}
		for _, id := range []int{uid, gid} {
			if id != 0 && (id < base || id >= base+idsOfOne) {
				list = append(list, strings.TrimSpace(line))
			}
		}
	}
	return list
}

// asBefore gives a stopped container and its volumes the ids that all had before.
func (h *Hypervisor) asBefore(id string) {
	h.t.Helper()
	base, home := h.rangeOf(id), filepath.Join(h.Root, "lxc", id)
	shiftTree(h.t, filepath.Join(home, "rootfs"), base, sharedIDs)
	shiftTree(h.t, filepath.Join(h.Root, "volumes", id), base, sharedIDs)
	if err := os.Lchown(home, 0, sharedIDs); err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(home, "config")
	raw, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(raw), fmt.Sprintf(" 0 %d ", base), fmt.Sprintf(" 0 %d ", sharedIDs))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Remove(filepath.Join("/var/lib/phoenix-ids", strconv.Itoa(base))); err != nil {
		h.t.Fatal(err)
	}
}

// Each container has ids of its own; a house of before gets them with --yes, also where that is killed; and a user who
// has a container's ids is told of.
func TestOwnIDs(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	h.Phoenix("create", "103", "201").Want(0)
	h.separate(t)
	h.strangersDescriptor(t)

	h.Phoenix("stop", "103", "201").Want(0)
	h.asBefore("103")
	h.asBefore("201")
	h.Phoenix("start", "103", "201").Want(0)
	if h.rangeOf("103") != sharedIDs {
		t.Fatal("103 was moved without consent")
	}
	h.Phoenix("apply", "103", "201").Want(0)
	if r := h.Phoenix("plan", "103", "201"); !strings.Contains(r.Stdout, "ids/103") ||
		!strings.Contains(r.Stdout, "range of ids of its own") {
		t.Errorf("plan does not say it\n%s", r)
	}
	if r := h.Phoenix("health", "103"); r.Exit == 0 || !strings.Contains(r.Stdout, "PHX-IDS-001") {
		t.Errorf("health does not say it\n%s", r)
	}
	if r := h.Phoenix("audit"); !strings.Contains(r.Stdout, "PHX-AUD-086") {
		t.Errorf("audit does not say it\n%s", r)
	}
	h.neighbour(t)
	config := filepath.Join(h.Root, "lxc", "103", "config")
	h.Kill(func() bool {
		raw, err := os.ReadFile(config)
		return err == nil && strings.Contains(string(raw), "are being moved from")
	}, "apply", "103", "201", "--yes")
	h.Phoenix("apply", "103", "201", "--yes").Want(0)
	h.separate(t)
	h.WantNoChange("103", "201")
	h.WantHealthy("103", "201")
}

// separate is what has to be so of 103 and 201.
func (h *Hypervisor) separate(t *testing.T) {
	t.Helper()
	ca, web := h.rangeOf("103"), h.rangeOf("201")
	if ca == web || ca < 1879048192 || web < 1879048192 {
		t.Errorf("103 has %d, 201 has %d", ca, web)
	}
	for id, base := range map[string]int{"103": ca, "201": web} {
		want := fmt.Sprintf("0 %d %d", base, idsOfOne)
		if got := strings.Join(strings.Fields(h.Attach(id, nil, "cat", "/proc/self/uid_map").Stdout),
			" "); got != want {
			t.Errorf("%s runs with %s, want %s", id, got, want)
		}
		for _, dir := range []string{filepath.Join(h.Root, "lxc", id), filepath.Join(h.Root, "volumes", id)} {
			if list := notIn(t, dir, base); len(list) > 0 {
				t.Errorf("%s: %d ids are of another range, first %s", id, len(list), list[0])
			}
		}
		if r := h.Attach(id, nil, "sh", "-c", "stat -c %a /usr/bin/su && test -u /usr/bin/su"); r.Exit != 0 {
			t.Errorf("su lost its mode: %s", r)
		}
	}
}

// strangersDescriptor hands root of 201, with all its capabilities, open descriptors of 103's volume and of the
// directory above it.
func (h *Hypervisor) strangersDescriptor(t *testing.T) {
	t.Helper()
	parent := filepath.Join(h.Root, "volumes", "103")
	names, err := os.ReadDir(parent)
	if err != nil || len(names) == 0 {
		t.Fatalf("103 has no volume: %v", err)
	}
	volume := filepath.Join(parent, names[0].Name())
	const script = `n=0
try() { if "$@" >/dev/null 2>&1; then echo "allowed: $*"; else n=$((n+1)); fi; }
for d in /proc/self/fd/3 /proc/self/fd/4; do
try ls "$d/$NAME/."; try cat "$d/config/ca.json"; try cat "$d/$NAME/config/ca.json"; try touch "$d/x"; try mkdir "$d/y"; try mknod "$d/z" c 1 3
try rm -r "$d/$NAME"; try rm -r "$d/config"; try chmod 0777 "$d/."; try chown 0:0 "$d/."; try mv "$d/config" "$d/gone"; try ls "$d/secrets/"
done
echo "refused $n"`
	out := h.withDescriptors(t, "201", parent, volume, script)
	if strings.Contains(out, "allowed") || !strings.Contains(out, "refused 24") {
		t.Errorf("root of 201 with descriptors of 103's volume:\n%s", out)
	}
	// The control: the volume's own root, who may.
	const control = `ls "/proc/self/fd/3/$NAME/." && cat "/proc/self/fd/4/config/ca.json" && touch /proc/self/fd/4/x && rm /proc/self/fd/4/x && echo yes`
	if out := h.withDescriptors(t, "103", parent, volume, control); !strings.Contains(out, "yes") {
		t.Errorf("root of 103 with descriptors of its own volume:\n%s", out)
	}
}

func (h *Hypervisor) withDescriptors(t *testing.T, id, parent, volume, script string) string {
	t.Helper()
	pid := strings.TrimSpace(h.Exec("lxc-info", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "-p",
		"-H").Want(0).Stdout)
	cmd := exec.Command("nsenter", "-t", pid, "-U", "-m", "-p", "--setuid", "0", "--setgid", "0", "sh", "-c",
		"NAME="+filepath.Base(volume)+"; "+script)
	for _, dir := range []string{parent, volume} {
		f, err := os.OpenFile(dir, syscall.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// neighbour is a user to whom the range of before belongs too, as Debian's adduser has it.
func (h *Hypervisor) neighbour(t *testing.T) {
	t.Helper()
	file := filepath.Join(filepath.Dir(h.Root), "subuid")
	if err := os.WriteFile(file, []byte("root:100000:65536\nann:100000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"validate": "are ann's too", "health": "ann can become any user",
		"audit": "PHX-AUD-085"} {
		argv := append([]string{"sh", "-ec", `mount --bind "$1" /etc/subuid; shift; exec "$@"`, "sh", file},
			h.argv([]string{command})...)
		if r := h.Exec(argv...); !strings.Contains(r.Stdout+r.Stderr, want) {
			t.Errorf("%s does not say %q\n%s", command, want, r)
		}
	}
}
