package idshift

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	shared = Range{100000, 65536}
	own    = Range{1879048192, 65536}
	move   = Move{From: []Range{shared}, To: own}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func capabilityOf(root int) []byte {
	b := make([]byte, capSize)
	binary.LittleEndian.PutUint32(b, capVersion3|1)
	binary.LittleEndian.PutUint32(b[4:], 1<<10)
	binary.LittleEndian.PutUint32(b[capRoot:], uint32(root))
	return b
}

// acl lets a user and a group in.
func acl(uid, gid int) []byte {
	b := []byte{2, 0, 0, 0}
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {aclUser, 4, uint32(uid)}, {4, 4, ^uint32(0)},
		{aclGroup, 4, uint32(gid)}, {16, 4, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// tree has one of everything, for a container whose root is base outside.
func tree(t *testing.T, base int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	top := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(filepath.Join(top, "bin"), 0o755))
	must(t, os.Mkdir(filepath.Join(top, "spool"), 0o755))
	put := func(name string, uid, gid int, mode fs.FileMode) string {
		p := filepath.Join(top, name)
		must(t, os.WriteFile(p, []byte(name), 0o600))
		must(t, os.Lchown(p, uid, gid))
		must(t, os.Chmod(p, mode))
		return p
	}
	put("bin/plain", base+33, base+33, 0o644)
	put("bin/su", base, base, 0o755|fs.ModeSetuid)
	put("bin/wall", base, base+5, 0o755|fs.ModeSetgid)
	must(t, os.Link(filepath.Join(top, "bin/su"), filepath.Join(top, "bin/su-link")))
	ping := put("bin/ping", base, base, 0o755)
	must(t, unix.Setxattr(ping, capability, capabilityOf(base), 0))
	must(t, os.Link(ping, filepath.Join(top, "spool/ping")))
	both := put("bin/both", base, base, 0o755|fs.ModeSetuid)
	must(t, unix.Setxattr(both, capability, capabilityOf(base), 0))
	journal := put("spool/journal", base, base+4, 0o640)
	must(t, unix.Setxattr(journal, aclAccess, acl(base+1000, base+999), 0))
	must(t, unix.Setxattr(journal, "user.note", []byte("kept"), 0))
	must(t, unix.Setxattr(filepath.Join(top, "spool"), aclDefault, acl(base+1, 7), 0))
	put("bin/hosts", 0, 0, 0o644)                 // of the hypervisor's root
	put("bin/foreign", base+65536, base-1, 0o644) // of others
	must(t, os.Symlink("/etc/shadow", filepath.Join(top, "bin/link")))
	must(t, os.Lchown(filepath.Join(top, "bin/link"), base+7, base+7))
	must(t, unix.Mkfifo(filepath.Join(top, "spool/fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(top, "spool/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	for _, p := range []string{"spool/fifo", "spool/null", "bin", "spool", "."} {
		must(t, os.Lchown(filepath.Join(top, p), base, base))
	}
	must(t, os.Chmod(filepath.Join(top, "spool"), 0o755|fs.ModeSetgid|fs.ModeSticky))
	return top
}

// shown is all that there is to a tree, with ids as they are seen from inside a container whose root is base.
func shown(t *testing.T, top string, base int) string {
	t.Helper()
	inside := func(id int) string {
		if id >= base && id < base+65536 {
			return fmt.Sprint(id - base)
		}
		return fmt.Sprintf("outside-%d", id)
	}
	inodes, out := map[uint64]string{}, []string{}
	must(t, filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		fi, err := os.Lstat(path)
		must(t, err)
		st := fi.Sys().(*syscall.Stat_t)
		name, _ := filepath.Rel(top, path)
		if first, twice := inodes[st.Ino]; twice {
			out = append(out, name+" is "+first)
			return nil
		}
		inodes[st.Ino] = name
		line := fmt.Sprintf("%s %v %s:%s %d", name, fi.Mode(), inside(int(st.Uid)), inside(int(st.Gid)), st.Rdev)
		for _, a := range []string{capability, aclAccess, aclDefault, "user.note", Attribute} {
			b := make([]byte, 256)
			n, err := unix.Lgetxattr(path, a, b)
			if err != nil {
				continue
			}
			b = b[:n]
			switch a {
			case capability:
				line += " cap root " + inside(int(binary.LittleEndian.Uint32(b[capRoot:]))) +
					fmt.Sprintf(" %x", b[:capRoot])
			case aclAccess, aclDefault:
				for i := aclHead; i < len(b); i += aclEntry {
					line += fmt.Sprintf(" %s %d:%s", a, binary.LittleEndian.Uint16(b[i:]),
						inside(int(binary.LittleEndian.Uint32(b[i+4:]))))
				}
			default:
				line += fmt.Sprintf(" %s %q", a, b)
			}
		}
		out = append(out, line)
		return nil
	}))
	return strings.Join(out, "\n")
}

func TestThereAndBack(t *testing.T) {
	top := tree(t, shared.Base)
	want := shown(t, top, shared.Base)
	r, err := Tree(t.Context(), top, move)
	must(t, err)
	if got := shown(t, top, own.Base); got != want {
		t.Errorf("moved:\n%s\nwant:\n%s", got, want)
	}
	if r.Names != 16 || r.Changed != 12 {
		t.Errorf("%+v", r)
	}
	if r, err := Tree(t.Context(), top, move); err != nil || r.Changed != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
	next := Range{1879179264, 65536}
	_, err = Tree(t.Context(), top, Move{From: []Range{shared, own}, To: next})
	must(t, err)
	_, err = Tree(t.Context(), top, Move{From: []Range{next}, To: shared})
	must(t, err)
	if got := shown(t, top, shared.Base); got != want {
		t.Errorf("back:\n%s\nwant:\n%s", got, want)
	}
}

// Whoever is killed before any single change, and run again, ends the same; killed twice too.
func TestKilledAnywhere(t *testing.T) {
	killed := errors.New("killed")
	var want string
	total := 0
	for at := 0; ; at++ {
		top := tree(t, shared.Base)
		n := 0
		err := walkStepped(top, func(string) error {
			if n++; n == at {
				return killed
			}
			return nil
		})
		if at == 0 {
			must(t, err)
			want, total = shown(t, top, own.Base), n
			continue
		}
		if err == nil {
			break
		}
		if !errors.Is(err, killed) {
			t.Fatal(err)
		}
		var st unix.Stat_t
		must(t, unix.Lstat(top, &st))
		if int(st.Uid) != shared.Base {
			t.Errorf("killed at %d: the top says that it came to its end", at)
		}
		n = 0
		_ = walkStepped(top, func(string) error { // soon again
			if n++; n == 2 {
				return killed
			}
			return nil
		})
		_, err = Tree(t.Context(), top, move)
		must(t, err)
		if got := shown(t, top, own.Base); got != want {
			t.Fatalf("killed at %d:\n%s\nwant:\n%s", at, got, want)
		}
	}
	if total < 25 {
		t.Errorf("only %d changes", total)
	}
}

func walkStepped(top string, step func(string) error) error {
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	w := &walk{ctx: context.Background(), move: move, top: top, buf: make([]byte, bufferSize), step: step}
	if err := w.below(fd); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return w.one(fd, &st, "")
}

// A container can nest deeper than there are descriptors, and give a directory many names.
func TestDeepAndWide(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	top := t.TempDir()
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	const deep = 3000
	for range deep {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		for _, name := range []string{"a", "z"} {
			f, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_WRONLY, 0o600)
			must(t, err)
			must(t, unix.Fchown(f, 100001, 100001))
			must(t, unix.Close(f))
		}
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Fchown(next, 100000, 100000))
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	for i := range 5000 {
		p := filepath.Join(top, fmt.Sprintf("%0200d", i))
		must(t, os.WriteFile(p, nil, 0o600))
		must(t, os.Lchown(p, 100002, 100002))
	}
	var most int
	w := &walk{ctx: t.Context(), move: move, top: top, buf: make([]byte, bufferSize), step: nil}
	fd, err = unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	n := 0
	w.step = func(string) error {
		if n++; n%500 == 0 {
			open, err := os.ReadDir("/proc/self/fd")
			most = max(most, len(open))
			return err
		}
		return nil
	}
	must(t, w.below(fd))
	must(t, unix.Close(fd))
	if w.result.Changed != 3*deep+5000 || most > openLevels+30 {
		t.Errorf("%+v, %d descriptors", w.result, most)
	}
	if out, err := os.ReadDir("/proc/self/fd"); err != nil || len(out) > 30 {
		t.Errorf("descriptors stay open: %d, %v", len(out), err)
	}
}

// What is mounted in a tree is not the tree's, and a link's target neither.
func TestStaysInside(t *testing.T) {
	top := tree(t, shared.Base)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, nil, 0o600))
	must(t, os.Lchown(outside, 100000, 100000))
	must(t, os.Symlink(outside, filepath.Join(top, "out")))
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(top, "outdir")))
	must(t, os.Mkdir(filepath.Join(top, "mnt"), 0o755))
	if err := unix.Mount(filepath.Dir(outside), filepath.Join(top, "mnt"), "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	r, err := Tree(t.Context(), top, move)
	must(t, unix.Unmount(filepath.Join(top, "mnt"), 0))
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(outside, &st))
	if st.Uid != 100000 || !slices.Equal(r.Mounts, []string{"mnt"}) {
		t.Errorf("owner %d, %+v", st.Uid, r)
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(top, link))
	if _, err := Tree(t.Context(), link, move); err == nil {
		t.Error("a link was taken for a tree")
	}
}

func TestRefusals(t *testing.T) {
	for name, m := range map[string]Move{
		"nowhere":  {From: []Range{shared}},
		"itself":   {From: []Range{shared}, To: shared},
		"overlaps": {From: []Range{shared}, To: Range{100001, 65536}},
		"twice":    {From: []Range{shared, {165535, 65536}}, To: own},
		"too big":  {From: []Range{{0, 65537}}, To: own},
		"negative": {From: []Range{{-1, 65536}}, To: own},
	} {
		if _, err := Tree(t.Context(), t.TempDir(), m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Tree(ctx, t.TempDir(), move); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// BenchmarkTree is a root file system's number of names.
func BenchmarkTree(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	top := b.TempDir()
	for i := range 8000 {
		dir := filepath.Join(top, fmt.Sprint(i/20))
		_ = os.Mkdir(dir, 0o755) // there already
		p := filepath.Join(dir, fmt.Sprint(i))
		if err := errors.Join(os.WriteFile(p, nil, 0o644), os.Lchown(p, 100000, 100000)); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		m := move
		if i%2 == 1 {
			m = Move{From: []Range{own}, To: shared}
		}
		if _, err := Tree(b.Context(), top, m); err != nil {
			b.Fatal(err)
		}
	}
}
