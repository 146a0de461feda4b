package beneath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Holder is a process that has a directory, or something below it, open.
type Holder struct {
	PID  int
	Name string // of its program; it is the process's own word
	How  string // open, working directory, root or mounted
}

func (h Holder) String() string { return fmt.Sprintf("process %d (%s): %s", h.PID, h.Name, h.How) }

const (
	holdersKept  = 8
	treeLimit    = 1 << 20 // directories that are remembered
	procFileSize = 4 << 20
)

// Holders finds the processes besides this one that can still reach a directory: by a descriptor, as a working
// directory or root, or by a mount in another mount namespace. It is only as good as the moment.
func Holders(path string) ([]Holder, error) {
	dir, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	t := &tree{known: map[inode]bool{}}
	if err := t.walk(dir, 0); err != nil {
		return nil, err
	}
	if t.places, err = placesOf(path); err != nil {
		return nil, err
	}
	if raw, err := readProc("/proc/self/mountinfo"); err == nil {
		t.root = rootIn(raw)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	t.namespaces = map[string]bool{own: true}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if how := t.held(pid); how != "" {
			t.found = append(t.found, Holder{PID: pid, Name: nameOf(pid), How: how})
		}
		if len(t.found) == holdersKept {
			break
		}
	}
	return t.found, nil
}

type tree struct {
	known      map[inode]bool
	places     []place
	root       place           // the hypervisor's own
	namespaces map[string]bool // that were looked at
	found      []Holder
}

// walk remembers the directories and files of a tree. What is mounted in it is not part of it.
func (t *tree) walk(dir *os.File, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	t.known[inode{uint64(st.Dev), st.Ino}] = true
	for depth < deepest {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			st, err := lstatat(int(dir.Fd()), name)
			if err != nil || len(t.known) > treeLimit {
				continue
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				t.known[inode{uint64(st.Dev), st.Ino}] = true
				continue
			}
			fd, err := openat(int(dir.Fd()), name, readDirectory, true)
			if err != nil {
				continue
			}
			child := os.NewFile(uintptr(fd), name)
			err = t.walk(child, depth+1)
			_ = child.Close() // only read
			if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// held says how a process holds the tree; empty: not. What ends meanwhile holds nothing.
func (t *tree) held(pid int) string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	for _, link := range []struct{ name, how string }{{"cwd", "its working directory"}, {"root", "its root"}} {
		if t.has(filepath.Join(proc, link.name)) {
			return link.how
		}
	}
	if fds, err := os.ReadDir(filepath.Join(proc, "fd")); err == nil {
		for _, fd := range fds {
			if t.has(filepath.Join(proc, "fd", fd.Name())) {
				return "has it open"
			}
		}
	}
	ns, err := os.Readlink(filepath.Join(proc, "ns", "mnt"))
	if err != nil || t.namespaces[ns] {
		return ""
	}
	t.namespaces[ns] = true
	if at := t.mountedIn(proc); at != "" {
		return "sees it mounted at " + strconv.QuoteToASCII(at)
	}
	return ""
}

func (t *tree) has(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && t.known[inode{uint64(st.Dev), st.Ino}]
}

// mountedIn is where a process's mount namespace shows the directory, or what is below it, as a mount of its own; in
// a container also what is above it. That a service of the hypervisor's with a namespace of its own sees what we see
// is no matter.
func (t *tree) mountedIn(proc string) string {
	raw, err := readProc(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return ""
	}
	contained := rootIn(raw) != t.root
	for line := range strings.Lines(raw) {
		p, at, ok := mountLine(line)
		if ok && slices.ContainsFunc(t.places, func(o place) bool {
			return p.device == o.device && (below(p.root, o.root) || contained && below(o.root, p.root))
		}) {
			return at
		}
	}
	return ""
}

// rootIn is what a mount namespace has at its root: a container something else than the hypervisor.
func rootIn(mountinfo string) (root place) {
	for line := range strings.Lines(mountinfo) {
		if p, at, ok := mountLine(line); ok && at == "/" {
			root = p
		}
	}
	return root
}

// place is a directory on its device.
type place struct{ device, root string }

// placesOf is where a path is, by the kernel's list of mounts (proc_pid_mountinfo(5)).
func placesOf(path string) ([]place, error) {
	raw, err := readProc("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	best, out := -1, place{}
	for line := range strings.Lines(raw) {
		p, at, ok := mountLine(line)
		if ok && below(path, at) && len(at) >= best {
			best, out = len(at),
				place{p.device, filepath.Join(p.root, strings.TrimPrefix(path, strings.TrimSuffix(at, "/")))}
		}
	}
	if best < 0 {
		return nil, nil
	}
	return []place{out}, nil
}

func mountLine(line string) (p place, at string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return place{}, "", false
	}
	return place{f[2], unescape(f[3])}, unescape(f[4]), true
}

// unescape reads a path as the kernel writes it there.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func readProc(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, procFileSize))
	return string(raw), err
}

// nameOf is what a process calls itself.
func nameOf(pid int) string {
	raw, _ := readProc(filepath.Join("/proc", strconv.Itoa(pid), "comm")) // gone: it has no name
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(raw))
}
