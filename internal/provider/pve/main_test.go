package pve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

var idMap = spec.IDMap{Base: 100000, Count: 65536}

// fakes is the program that stands in for Proxmox's tools.
var fakes string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "phxpve-fakes-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	fakes = filepath.Join(dir, "fakes")
	build := exec.Command("go", "build", "-o", fakes, "../../../test/pve/fakes")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	// The hypervisor's processes are looked for in all of its network namespace: those of another run are none.
	return conformance.Isolate(m)
}

// node is a fake Proxmox host.
type node struct {
	t    *testing.T
	base string
	host host.Host
}

const storages = `dir: local
	path BASE/vz
	content vztmpl,rootdir

zfspool: local-zfs
	pool rpool/data
	mountpoint BASE/zfs
	content rootdir,images

zfspool: tank
	pool tank
	mountpoint BASE/tank
	content rootdir

lvmthin: local-lvm
	thinpool data
	vgname pve
	content rootdir,images
`

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("volumes of unprivileged containers need root")
	}
	n := &node{t: t, base: t.TempDir(), host: &host.Local{}}
	for _, dir := range []string{"bin", "pve/nodes/pve/lxc", "pve/nodes/pve2/lxc", "pve/nodes/pve2/qemu-server",
		"pve/local", "zfs", "tank",
		"vz/template/cache", "lib", "locks", "faults", "datasets/rpool"} {
		must(t, os.MkdirAll(n.path(dir), 0o755))
	}
	must(t, os.Symlink("nodes/pve/lxc", n.path("pve/lxc")))
	must(t, os.WriteFile(n.path("pve/storage.cfg"), []byte(strings.ReplaceAll(storages, "BASE", n.base)), 0o644))
	must(t, os.WriteFile(n.path("vz/template/cache/debian-12.tar.zst"), []byte("an archive"), 0o644))
	for _, tool := range []string{"pct", "pvesm", "pvesh", "zfs", "lxc-info", "lxc-attach", "init", "pve-firewall"} {
		must(t, os.Symlink(fakes, n.path("bin", tool)))
	}
	t.Setenv("PATH", n.path("bin")+":"+os.Getenv("PATH"))
	t.Cleanup(n.end)
	return n
}

// end ends the processes that containers are, and waits until they write nothing more.
func (n *node) end() {
	names, _ := filepath.Glob(n.path("pids", "*"))
	for _, name := range names {
		raw, err := os.ReadFile(name)
		pid, perr := strconv.Atoi(strings.TrimSpace(string(raw)))
		for err == nil && perr == nil && pid > 1 && syscall.Kill(pid, syscall.SIGKILL) == nil {
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil ||
				strings.Contains(string(stat), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.base}, parts...)...)
}

func (n *node) place() spec.Proxmox {
	return spec.Proxmox{Dir: n.path("pve"), State: n.path("lib"), Locks: n.path("locks")}
}

func (n *node) read(parts ...string) string {
	n.t.Helper()
	b, err := os.ReadFile(n.path(parts...))
	must(n.t, err)
	return string(b)
}

func (n *node) write(text string, parts ...string) {
	n.t.Helper()
	must(n.t, os.MkdirAll(filepath.Dir(n.path(parts...)), 0o755))
	must(n.t, os.WriteFile(n.path(parts...), []byte(text), 0o644))
}

func (n *node) conf(id string) string { return n.read("pve/lxc", id+".conf") }

// tool runs one of the fakes as a person would.
func (n *node) tool(argv ...string) string {
	n.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// fault makes the next call of a verb end so.
func (n *node) fault(verb string, code int, stderr string, more ...string) {
	n.t.Helper()
	raw, err := json.Marshal(map[string]any{"code": code, "stderr": stderr + "\n",
		"stays": slices.Contains(more, "stays"),
		"apply": slices.Contains(more, "apply")})
	must(n.t, err)
	n.write(string(raw), "faults", verb)
}

// quorum is there or not.
func (n *node) quorum(there bool) {
	mode := os.FileMode(0o755)
	if !there {
		mode = 0o555
	}
	must(n.t, os.Chmod(n.path("pve/local"), mode))
}

// calls are those of the tools since the last time, with that prefix.
func (n *node) calls(prefix string) []string {
	n.t.Helper()
	raw, err := os.ReadFile(n.path("calls"))
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	var out []string
	for l := range strings.Lines(string(raw)) {
		if strings.HasPrefix(l, prefix) {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return out
}

func (n *node) forgetCalls() { must(n.t, os.WriteFile(n.path("calls"), nil, 0o644)) }

// volumes are all that there are on a storage.
func (n *node) volumes(storage string) []string {
	n.t.Helper()
	entries, err := os.ReadDir(n.path(storage))
	must(n.t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func (n *node) ssl() spec.Volume {
	p := n.place()
	return spec.Volume{Container: "103", Name: "ssl", Pool: "local-zfs", Path: n.path("root/volumes/103/ssl"),
		MountPoint: "/etc/step-ca/ssl",
		SizeBytes:  1 << 30, UID: 0, GID: 0, Mode: 0o700, IDMap: idMap, Backup: true, Proxmox: &p}
}

// container is 103, made from an archive.
func (n *node) container() spec.Container {
	return spec.Container{
		ID: "103", Name: "step-ca", MemoryBytes: 1024 << 20, SwapBytes: 256 << 20, Cores: 2, IDMap: idMap,
		StartAtBoot: true, BootOrder: 1,
		Interface: spec.NIC{Name: "eth0", Bridge: "vmbr0", Address: "10.0.0.10/24", Gateway: "10.0.0.1",
			MAC: "52:54:00:aa:bb:ca"},
		Nameservers: []string{"10.0.0.13"}, SearchDomains: []string{"internal.example"},
		Options: []spec.Option{{Key: "lxc.tty.max", Value: "4"}},
		Guest: &spec.Guest{Proxmox: n.place(), Archive: "local:vztmpl/debian-12.tar.zst", Storage: "local-zfs",
			SizeGB: 4, BootDelay: 5,
			Features: []string{"nesting=1"}, Volumes: []spec.Volume{n.ssl()}},
	}
}

func (n *node) running() spec.Running {
	p := n.place()
	return spec.Running{ID: "103", Proxmox: &p}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func asObject(t *testing.T, kind, name string, s any) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	must(t, err)
	return object.Object{Address: object.Address(kind + "/" + name), Provider: "pve", Spec: raw}
}

func (n *node) containerObject(s spec.Container) object.Object {
	return asObject(n.t, spec.KindContainer, s.ID, s)
}

// thing is a driver with its object.
type thing struct {
	n *node
	d provider.Erased
	o object.Object
}

func (n *node) containerThing(s spec.Container) thing {
	return thing{n, pve.NewContainer(), n.containerObject(s)}
}

func (n *node) volumeThing(v spec.Volume) thing {
	return thing{n, pve.NewVolume(), asObject(n.t, spec.KindVolume, v.Container+"/"+v.Name, v)}
}

func (n *node) runningThing() thing {
	return thing{n, pve.NewRunning(), asObject(n.t, spec.KindRunning, "103", n.running())}
}

func (x thing) observe() (provider.Observation, error) {
	return x.d.Observe(context.Background(), x.n.host, x.o)
}

func (x thing) delta() plan.Delta {
	x.n.t.Helper()
	obs, err := x.observe()
	must(x.n.t, err)
	return obs.Delta
}

// try applies what differs.
func (x thing) try() error {
	x.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	obs, err := x.observe()
	if err != nil || obs.Delta.Empty() {
		return err
	}
	return x.d.Apply(ctx, x.n.host, x.o, obs.Delta)
}

// make applies and wants it to be true then.
func (x thing) make() {
	x.n.t.Helper()
	must(x.n.t, x.try())
	if d := x.delta(); !d.Empty() {
		x.n.t.Fatalf("%s is not true: %+v\n%s", x.o.Address, d, x.n.conf("103"))
	}
}

// house makes 103 with its volume.
func (n *node) house() {
	n.t.Helper()
	n.containerThing(n.container()).make()
	n.volumeThing(n.ssl()).make()
}

// up makes it run too.
func (n *node) up() {
	n.t.Helper()
	n.house()
	n.runningThing().make()
}

// startTool begins a call of one of the fakes.
func startTool(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	must(t, c.Start())
	return c
}

func newSnapshot() provider.Erased { return pve.NewSnapshot() }

func newTemplate() provider.Erased { return pve.NewTemplate() }
