package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// memoryTarget is the inside of a container that remembers the specs it was given.
type memoryTarget struct {
	mu    sync.Mutex
	specs map[object.Address][]byte
	does  func(object.Object) // what applying an object does besides; nil: nothing
}

var _ engine.Target = (*memoryTarget)(nil)

// Observe is as costly as an agent's answer: a status with what others need of it, as JSON.
func (m *memoryTarget) Observe(_ context.Context, o object.Object) (provider.Observation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have, ok := m.specs[o.Address]
	if !ok {
		return provider.Observation{Delta: plan.Delta{Action: plan.Create, Reason: "it does not exist"}}, nil
	}
	want := digestOf(o)
	var d plan.Delta
	d.Compare("spec", string(have), string(want))
	status, err := json.Marshal(map[string]string{"root_fingerprint": strings.Repeat("ab", 32), "inputs": string(want),
		"digest": string(want)})
	return provider.Observation{Delta: d, Status: status}, err
}

// Apply implements engine.Target.
func (m *memoryTarget) Apply(ctx context.Context, o object.Object, _ engine.Consent) (engine.Outcome, error) {
	before, err := m.Observe(ctx, o)
	if err != nil {
		return engine.Outcome{}, err
	}
	m.mu.Lock()
	m.specs[o.Address] = digestOf(o)
	m.mu.Unlock()
	if m.does != nil {
		m.does(o)
	}
	after, err := m.Observe(ctx, o)
	return engine.Outcome{Delta: before.Delta, After: after, Mutations: 1}, err
}

// digestOf leaves out what is pinned: it is known after the first run only, and a CA does not change with it.
func digestOf(o object.Object) []byte {
	text := []byte(o.Spec)
	var ca spec.StepCA
	if o.Address.Kind() == spec.KindStepCA && json.Unmarshal(text, &ca) == nil {
		ca.Pinned, ca.FirstRoot = "", false
		text = fmt.Append(nil, ca)
	}
	sum := sha256.Sum256(text)
	return []byte(hex.EncodeToString(sum[:]))
}

// memoryHost is a hypervisor whose files, links and processes are maps. What is not there is read from this machine, so
// that a test's own files are seen; nothing of this machine is changed.
type memoryHost struct {
	host.Local
	mu    sync.Mutex // guards what follows
	files map[string]*memoryFile
	marks map[string]string // extended attributes of directories
	links map[string]*memoryLink
	pids  map[string]int // of running containers, by path
	last  int            // process id
}

type memoryFile struct {
	host.Meta
	data []byte
}

type memoryLink struct {
	alias, mac, master, address, kind string
}

var _ host.Host = (*memoryHost)(nil)

func newMemoryHost() *memoryHost {
	m := &memoryHost{files: map[string]*memoryFile{}, marks: map[string]string{}, links: map[string]*memoryLink{},
		pids: map[string]int{}, last: 1 << 22}
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} { // not those of the machine that this runs on
		m.put(path, nil, 0o644, host.Root)
	}
	return m
}

func (m *memoryHost) file(path string) *memoryFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[path]
}

func (m *memoryHost) ReadFile(path string) ([]byte, error) {
	if f := m.file(path); f != nil {
		return f.data, nil
	}
	return m.Local.ReadFile(path)
}

func (m *memoryHost) Lstat(path string) (host.Meta, error) {
	if f := m.file(path); f != nil {
		return f.Meta, nil
	}
	return m.Local.Lstat(path)
}

func (m *memoryHost) ReadDir(path string) (out []string, err error) {
	f := m.file(path)
	if f == nil {
		return m.Local.ReadDir(path)
	}
	if !f.Mode.IsDir() {
		return nil, &fs.PathError{Op: "readdirent", Path: path, Err: syscall.ENOTDIR}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.files {
		if filepath.Dir(p) == path {
			out = append(out, filepath.Base(p))
		}
	}
	slices.Sort(out)
	return out, nil
}

func (m *memoryHost) put(path string, data []byte, mode fs.FileMode, owner host.Owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[path] = &memoryFile{data: data,
		Meta: host.Meta{Mode: mode, UID: owner.UID, GID: owner.GID, Size: int64(len(data)), ModTime: time.Unix(1, 0)}}
}

func (m *memoryHost) WriteFile(path string, data []byte, mode fs.FileMode, owner host.Owner) error {
	m.put(path, slices.Clone(data), mode, owner)
	return nil
}

// blob is what stands for the content with a checksum.
const blob = "the content with the checksum "

func (m *memoryHost) Fetch(_ context.Context, sum, path string, mode fs.FileMode, owner host.Owner) error {
	m.put(path, []byte(blob+sum), mode, owner)
	return nil
}

func (m *memoryHost) Digest(path string) (string, error) {
	if f := m.file(path); f != nil {
		if sum, ok := strings.CutPrefix(string(f.data), blob); ok {
			return sum, nil
		}
		sum := sha256.Sum256(f.data)
		return hex.EncodeToString(sum[:]), nil
	}
	return localDigest(path)
}

// localDigest reads this test's own program once, and not for each of a thousand plans.
func localDigest(path string) (string, error) {
	if own, err := os.Executable(); err != nil || path != own {
		return (&host.Local{}).Digest(path)
	}
	return ownDigest()
}

var ownDigest = sync.OnceValues(func() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	return (&host.Local{}).Digest(own)
})

func (m *memoryHost) MkdirAll(path string, mode fs.FileMode, owner host.Owner) error {
	for ; path != "/"; path = filepath.Dir(path) {
		if _, err := m.Lstat(path); err == nil {
			return nil
		}
		m.put(path, nil, mode|fs.ModeDir, owner)
	}
	return nil
}

func (m *memoryHost) Chmod(path string, mode fs.FileMode) error {
	f := m.file(path)
	if f == nil {
		return fs.ErrNotExist
	}
	f.Mode = f.Mode.Type() | mode
	return nil
}

func (m *memoryHost) Chown(path string, owner host.Owner) error {
	f := m.file(path)
	if f == nil {
		return fs.ErrNotExist
	}
	f.UID, f.GID = owner.UID, owner.GID
	return nil
}

func (m *memoryHost) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[from] == nil {
		return fs.ErrNotExist
	}
	for path, f := range m.files {
		if path == from || strings.HasPrefix(path, from+"/") {
			m.files[to+strings.TrimPrefix(path, from)] = f
			delete(m.files, path)
		}
	}
	return nil
}

func (m *memoryHost) Getxattr(path, _ string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marks[path], nil
}

func (m *memoryHost) Setxattr(path, _, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks[path] = value
	return nil
}

func (m *memoryHost) Readlink(path string) (string, error) {
	if f := m.file(path); f != nil && f.Mode&fs.ModeSymlink != 0 {
		return string(f.data), nil
	}
	return m.Local.Readlink(path)
}

// ShiftIDs moves the top only: the trees of this host have no files.
func (m *memoryHost) ShiftIDs(_ context.Context, path string, move idshift.Move) error {
	return m.Chown(path, host.Owner{UID: move.To.Base, GID: move.To.Base})
}

func (m *memoryHost) Symlink(string, string) error { return errors.ErrUnsupported }

func (m *memoryHost) Remove(path string) error { return m.RemoveAll(path) }

func (m *memoryHost) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range m.files {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(m.files, p)
		}
	}
	return nil
}

// Run knows the tools that phoenix calls on a hypervisor, as far as it looks at what they do.
func (m *memoryHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	out, err := m.tool(c)
	if err != nil {
		return host.Result{Code: 1, Stderr: []byte(err.Error())}, &host.RunError{Argv: c.Argv, Code: 1, Cause: err}
	}
	return host.Result{Stdout: []byte(out)}, nil
}

func (m *memoryHost) tool(c host.Command) (string, error) {
	last := c.Argv[len(c.Argv)-1]
	switch c.Argv[0] {
	case "ip":
		if last == "-" {
			return "", m.batch(string(c.Stdin))
		}
		if last == "show" && slices.Contains(c.Argv, "route") {
			return "[]", nil
		}
		if last == "show" {
			return m.showAll()
		}
		if i := slices.Index(c.Argv, "group_fwd_mask"); i > 0 {
			m.put(filepath.Join("/sys/class/net", c.Argv[4], "bridge/group_fwd_mask"), []byte(last+"\n"), 0o644,
				host.Root)
			return "", nil
		}
		return m.show(last)
	case "dnsmasq":
		return "", m.dnsmasq(c.Argv[1:])
	case "ln":
		m.put(last, []byte(c.Argv[len(c.Argv)-2]), 0o777|fs.ModeSymlink, host.Root)
		return "", nil
	case "cp":
		return "", m.MkdirAll(filepath.Join(last, "etc"), 0o755, host.Root)
	case "sh": // a value of the kernel, or tar
		if len(c.Argv) == 6 && strings.HasPrefix(c.Argv[4], "/proc/sys/") {
			m.put(c.Argv[4], []byte(last+"\n"), 0o644, host.Root)
			return "", nil
		}
		return "", m.MkdirAll(filepath.Join(strings.TrimPrefix(last, "--directory="), "etc"), 0o755, host.Root)
	case "lxc-usernsexec": // the script that fits a template
		return "fit\n", nil
	case "install":
		m.put(last, nil, 0o755, host.Root)
		return "", m.MkdirAll(filepath.Dir(last), 0o755, host.Root)
	case "touch":
		i := slices.IndexFunc(c.Argv, func(a string) bool { return strings.HasPrefix(a, "--date=") })
		return "", m.touch(c.Argv[max(0, i)], last)
	case "unshare": // mmdebstrap
		i := slices.IndexFunc(c.Argv, func(a string) bool { return strings.HasSuffix(a, ".tmp") })
		m.put(c.Argv[i], nil, 0o644, host.Root)
		return "", nil
	case "sync", "stat":
		if slices.Contains(c.Argv, "%a %S %d %c") {
			return "1000000 4096 900000 1000000\n", nil
		}
		return "ext2/ext3\n", nil
	case "realpath":
		return last + "\n", nil
	case "nft":
		return m.nft(c)
	case "lxc-start", "lxc-info", "lxc-attach", "lxc-stop":
		said, err := m.lxc(c.Argv[0], filepath.Join(c.Argv[2], c.Argv[4]))
		for flag, key := range map[string]string{"-s": "State: ", "-p": "PID: "} {
			if slices.Contains(c.Argv, "-H") && slices.Contains(c.Argv, flag) { // the value only
				_, said, _ = strings.Cut(said, key)
				said, _, _ = strings.Cut(said, "\n")
			}
		}
		return said, err
	}
	return "", fmt.Errorf("nothing is known of %q", c.Argv)
}

// process starts one that has only one file in /proc.
func (m *memoryHost) process(name, content string) int {
	m.mu.Lock()
	m.last++
	pid := m.last
	m.mu.Unlock()
	m.put(filepath.Join("/proc", strconv.Itoa(pid), name), []byte(content), 0o444, host.Root)
	return pid
}

func (m *memoryHost) touch(date, path string) error {
	at, err := time.Parse("--date=2006-01-02T15:04:05.999999999Z", date)
	if f := m.file(path); f != nil && err == nil {
		f.ModTime = at
	}
	return err
}

// gone is whether a container has no definition.
func (m *memoryHost) gone(home string) bool { return m.file(filepath.Join(home, "config")) == nil }

// idRange is the range of a definition's id map.
func idRange(config, kind string) string {
	_, after, _ := strings.Cut(config, "lxc.idmap = "+kind+" 0 ")
	out, _, _ := strings.Cut(after, "\n")
	return out
}

func (m *memoryHost) lxc(tool, home string) (string, error) {
	m.mu.Lock()
	pid := m.pids[home]
	m.mu.Unlock()
	switch {
	case m.gone(home):
		return "", errors.New(filepath.Base(home) + " doesn't exist")
	case tool == "lxc-attach":
		return "running\n", nil
	case tool == "lxc-stop":
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.pids, home)
		return "", nil
	case tool == "lxc-info" && pid != 0:
		return fmt.Sprintf("State: RUNNING\nPID: %d\n", pid), nil
	case tool == "lxc-info":
		return "State: STOPPED\n", nil
	}
	config, err := m.ReadFile(filepath.Join(home, "config"))
	if err != nil {
		return "", err
	}
	value := func(key string) string {
		_, after, _ := strings.Cut(string(config), key+" = ")
		v, _, _ := strings.Cut(after, "\n")
		return v
	}
	pid = m.process("environ", value("lxc.environment")+"\x00")
	for _, kind := range []string{"u", "g"} {
		m.put(filepath.Join("/proc", strconv.Itoa(pid), kind+"id_map"),
			[]byte("0 "+idRange(string(config), kind)), 0o444, host.Root)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for line := range strings.Lines(string(config)) {
		f := strings.Fields(strings.TrimPrefix(line, "lxc.mount.entry = "))
		if !strings.HasPrefix(line, "lxc.mount.entry = ") || len(f) < 2 {
			continue
		}
		source := m.files[f[0]]
		if meta, err := m.Local.Lstat(f[0]); source == nil && err == nil {
			source = &memoryFile{Meta: meta}
		}
		m.files[filepath.Join("/proc", strconv.Itoa(pid), "root", f[1])] = source
	}
	m.pids[home] = pid
	m.links[value("lxc.net.0.veth.pair")] = &memoryLink{kind: "veth", master: value("lxc.net.0.link")}
	return "", nil
}
