package beneath_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/beneath"
)

// TestMain uses memory for files where it can: a thousand trees that are written over wait for a disk for minutes.
func TestMain(m *testing.M) {
	if dir, err := os.MkdirTemp("/dev/shm", "phoenix-beneath-"); err == nil {
		_ = os.Setenv("TMPDIR", dir)
		code := m.Run()
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

const secret = "root's own, and nobody else's"

// canary is a directory outside that nothing may touch.
type canary struct {
	dir   string
	names []string
}

func newCanary(t *testing.T) canary {
	t.Helper()
	c := canary{dir: filepath.Join(t.TempDir(), "outside"), names: []string{"file", "key", "sub/file", "sub/key"}}
	for _, n := range c.names {
		write(t, filepath.Join(c.dir, n), secret)
	}
	return c
}

func (c canary) check(t *testing.T) {
	t.Helper()
	for _, n := range c.names {
		if b, err := os.ReadFile(filepath.Join(c.dir, n)); err != nil || string(b) != secret {
			t.Fatalf("outside, %s became %q, %v", n, b, err)
		}
	}
}

// plant makes a tree, and beside each of its directories and files a link to the canary's.
func plant(t *testing.T, dir string, c canary) (pairs [][2]string) {
	t.Helper()
	for _, d := range []string{"a", "a/b", "a/b/c"} {
		for _, f := range []string{"file", "key"} {
			write(t, filepath.Join(dir, d, f), "in the tree")
		}
	}
	for from, to := range map[string]string{"a/b": "", "a/b/c": "sub", "a/b/key": "key", "a/file": "sub/key"} {
		link := filepath.Join(dir, from) + ".link"
		must(t, os.Symlink(filepath.Join(c.dir, to), link))
		pairs = append(pairs, [2]string{filepath.Join(dir, from), link})
	}
	return pairs
}

// attack exchanges names for links, as fast as it can, until it is stopped. It holds the directories open, as a
// container's root would: it has no power outside.
func attack(t *testing.T, pairs [][2]string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, p := range pairs {
		dir, err := unix.Open(filepath.Dir(p[0]), unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		a, b := filepath.Base(p[0]), filepath.Base(p[1])
		all.Go(func() {
			defer unix.Close(dir)
			for {
				select {
				case <-done:
					return
				default:
					_ = unix.Renameat2(dir, a, dir, b, unix.RENAME_EXCHANGE) // one of them may be gone
				}
			}
		})
	}
	return func() { close(done); all.Wait() }
}

// rounds is how often each operation is attacked: enough for a walk by paths to be caught many times over.
const rounds = 100

// naive is how it was done: by paths, with a look before each step.
func naive(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		fi, err := os.Lstat(path)
		switch {
		case err != nil || fi.Mode()&fs.ModeSymlink != 0:
			_ = os.Remove(path)
		case fi.IsDir():
			naive(path)
		default:
			_ = os.WriteFile(path, nil, 0)
		}
	}
}

// The attack works: a walk by paths is led outside by it, in far fewer rounds than the others withstand.
func TestAWalkByPathsIsLedOutside(t *testing.T) {
	for range 20 * rounds {
		c, dir := newCanary(t), t.TempDir()
		stop := attack(t, plant(t, dir, c))
		naive(dir)
		stop()
		for _, n := range c.names {
			if b, err := os.ReadFile(filepath.Join(c.dir, n)); err != nil || string(b) != secret {
				return
			}
		}
	}
	t.Error("the attack never succeeded: the other tests prove nothing")
}

func TestWipeUnderAttack(t *testing.T) {
	c := newCanary(t)
	for i := range rounds {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		stop := attack(t, plant(t, dir, c))
		_, err := beneath.Wipe(dir)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Fatalf("left %v, %v", left, err)
		}
		c.check(t)
	}
}

func TestRemoveUnderAttack(t *testing.T) {
	c := newCanary(t)
	for i := range rounds {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		stop := attack(t, plant(t, dir, c))
		err := beneath.RemoveAll(dir)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("it is there: %v", err)
		}
		c.check(t)
	}
}

func TestCopyUnderAttack(t *testing.T) {
	c := newCanary(t)
	for i := range rounds {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		stop := attack(t, plant(t, dir, c))
		to := filepath.Join(t.TempDir(), "copy")
		_, err := beneath.Copy(dir, to, beneath.CopyOptions{Closed: i%2 == 0})
		stop()
		if err != nil {
			t.Fatal(err)
		}
		must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(secret)) {
				t.Fatalf("%s has what is outside, %v", path, err)
			}
			return nil
		}))
		c.check(t)
	}
}

// What is written over cannot be read through a descriptor that was open before.
func TestWipeWritesOver(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sub", "key"), strings.Repeat("secret", 1000))
	f, err := os.Open(filepath.Join(dir, "sub", "key"))
	must(t, err)
	defer f.Close()
	report, err := beneath.Wipe(dir)
	if err != nil || report.Files != 1 || report.Bytes != 6000 {
		t.Fatalf("%+v, %v", report, err)
	}
	b := make([]byte, 6000)
	if n, err := f.ReadAt(b, 0); err != nil || n != 6000 || bytes.Contains(b, []byte("secret")) {
		t.Errorf("%d bytes, %v: it can be read", n, err)
	}
}

// A file with another name outside belongs to whoever has that; one with all its names inside is written over.
func TestHardLinks(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "theirs")
	write(t, outside, secret)
	must(t, os.Link(outside, filepath.Join(dir, "one")))
	write(t, filepath.Join(dir, "x"), "inside")
	must(t, os.Link(filepath.Join(dir, "x"), filepath.Join(dir, "y")))
	report, err := beneath.Wipe(dir)
	if err != nil || report.Files != 1 || len(report.Elsewhere) != 1 || filepath.Base(report.Elsewhere[0]) != "one" {
		t.Errorf("%+v, %v", report, err)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != secret {
		t.Errorf("outside became %q, %v", b, err)
	}
}

// A hole of terabytes costs nothing.
func TestHoles(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	f, err := os.Create(filepath.Join(dir, "big"))
	must(t, err)
	defer f.Close()
	if err := f.Truncate(4 << 40); err != nil {
		t.Skip(err)
	}
	_, err = f.WriteAt([]byte("end"), 2<<40)
	must(t, err)
	start := time.Now()
	if c, err := beneath.Copy(dir, to, beneath.CopyOptions{}); err != nil || c.Bytes > 1<<20 {
		t.Errorf("%+v, %v", c, err)
	}
	if fi, err := os.Stat(filepath.Join(to, "big")); err != nil || fi.Size() != 4<<40 {
		t.Errorf("%v, %v", fi, err)
	}
	if r, err := beneath.Wipe(dir); err != nil || r.Bytes > 1<<20 {
		t.Errorf("%+v, %v", r, err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %s", took)
	}
}

// Nobody nests deeper than it can be removed.
func TestDeep(t *testing.T) {
	for name, do := range map[string]func(string) error{
		"remove": beneath.RemoveAll, "wipe": func(p string) error { _, err := beneath.Wipe(p); return err },
	} {
		dir := t.TempDir()
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		for range 3000 {
			must(t, unix.Mkdirat(fd, "d", 0o700))
			next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			unix.Close(fd)
			fd = next
		}
		unix.Close(fd)
		must(t, do(filepath.Join(dir)))
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// What is mounted in a tree is neither entered nor removed.
func TestMountsAreLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, theirs := t.TempDir(), t.TempDir()
	write(t, filepath.Join(theirs, "film"), secret)
	at := filepath.Join(dir, "sub", "mnt")
	must(t, os.MkdirAll(at, 0o755))
	if err := unix.Mount(theirs, at, "", unix.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	defer func() { must(t, unix.Unmount(at, 0)) }()
	if err := beneath.RemoveAll(filepath.Join(dir, "sub")); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("removed: %v", err)
	}
	if _, err := beneath.Wipe(dir); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("wiped: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(theirs, "film")); err != nil || string(b) != secret {
		t.Errorf("what is mounted became %q, %v", b, err)
	}
}

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	must(t, os.Symlink("/etc", filepath.Join(dir, "link")))
	for _, p := range []string{"f", "link", "absent", "absent/below", "f/below"} {
		must(t, beneath.RemoveAll(filepath.Join(dir, p)))
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if beneath.RemoveAll("/") == nil {
		t.Error("everything may be removed")
	}
	must(t, beneath.RemoveAll(""))
}

// Only links that root made, where only root could, are followed on the way.
func TestOpenFollowsTrustedLinksOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user's link needs root")
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "open"), 0o777))
	must(t, os.Chmod(filepath.Join(dir, "open"), 0o777))
	must(t, os.Symlink("real", filepath.Join(dir, "ours")))
	must(t, os.Symlink("real", filepath.Join(dir, "theirs")))
	must(t, os.Lchown(filepath.Join(dir, "theirs"), 100000, 100000))
	must(t, os.Symlink("../real", filepath.Join(dir, "open", "ours")))
	for name, good := range map[string]bool{"real": true, "ours": true, "theirs": false, "open/ours": false} {
		f, err := beneath.Open(filepath.Join(dir, name))
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			must(t, f.Close())
		}
	}
	_, err := beneath.Wipe(filepath.Join(dir, "theirs"))
	if err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("wiped over another's link: %v", err)
	}
}

// A copy has all that the original has, and the second time nothing is copied.
func TestCopy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	write(t, filepath.Join(from, "d", "f"), "content")
	must(t, os.Chown(filepath.Join(from, "d", "f"), 100033, 100034))
	must(t, os.Chmod(filepath.Join(from, "d", "f"), 0o4751|os.ModeSetuid))
	must(t, os.Link(filepath.Join(from, "d", "f"), filepath.Join(from, "d", "g")))
	must(t, os.Symlink("/nowhere", filepath.Join(from, "l")))
	must(t, unix.Mkfifo(filepath.Join(from, "p"), 0o600))
	must(t, os.Chmod(filepath.Join(from, "d"), 0o750))
	old := time.Unix(1e9, 123)
	must(t, os.Chtimes(filepath.Join(from, "d", "f"), old, old))
	if err := unix.Setxattr(filepath.Join(from, "d", "f"), "user.x", []byte("y"), 0); err != nil {
		t.Log("no attributes here")
	}
	if c, err := beneath.Copy(from, to, beneath.CopyOptions{Update: true}); err != nil || c.Files != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	const all = `cd "$1" && find . -printf '%y %m %U:%G %n %T@ %l %p\n' | sort && find . -type f -exec sha256sum {} + | sort`
	list := func(dir string) string {
		out, err := exec.Command("sh", "-c", all, "sh", dir).CombinedOutput()
		must(t, err)
		return string(out)
	}
	drop := func(s string) string { // a fifo's times are its own
		var out []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "p ") && !strings.HasPrefix(line, "l ") && !strings.HasPrefix(line, "d ") {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	if a, b := drop(list(from)), drop(list(to)); a != b {
		t.Errorf("the copy differs:\n%s\n%s", a, b)
	}
	if c, err := beneath.Copy(from, to, beneath.CopyOptions{Update: true}); err != nil || c.Files != 0 {
		t.Errorf("again: %+v, %v", c, err)
	}
	closed := filepath.Join(t.TempDir(), "closed")
	_, err := beneath.Copy(from, closed, beneath.CopyOptions{Closed: true})
	must(t, err)
	out, err := exec.Command("find", closed, "!", "-type", "l", "(", "-perm", "/077", "-o", "-not", "-uid", "0",
		")").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("open or another's: %s %v", out, err)
	}
}

// Whoever still has the tree open is found, also from another mount namespace.
func TestHolders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looking at others needs root")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sub", "f"), "x")
	if got, err := beneath.Holders(dir); err != nil || len(got) > 0 {
		t.Errorf("nobody: %v, %v", got, err)
	}
	for name, argv := range map[string][]string{
		"its working directory": {"sh", "-c", `cd "$1/sub" && echo ready && exec sleep 60`, "sh", dir},
		"has it open":           {"sh", "-c", `exec 9<"$1/sub/f"; echo ready; exec sleep 60`, "sh", dir},
		"sees it mounted at": {"unshare", "--mount", "sh", "-c",
			`mkdir "$1.m" && mount --bind "$1" "$1.m" && echo ready && exec sleep 60`,
			"sh", dir},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(argv[0], argv[1:]...)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			if _, err := out.Read(make([]byte, 6)); err != nil {
				t.Skip("it does not start here: ", err)
			}
			got, err := beneath.Holders(dir)
			if err != nil || len(got) != 1 || !strings.HasPrefix(got[0].How, name) || got[0].PID != cmd.Process.Pid {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
