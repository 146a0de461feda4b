package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/beneath"
	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/durable"
	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
)

const (
	outputLimit = 1 << 20  // bytes of standard output
	errorsLimit = 64 << 10 // bytes of standard error
	errorLimit  = 4 << 10  // bytes shown in a RunError
	runLimit    = 2 * time.Minute
	killDelay   = 5 * time.Second // Proxmox's pct rolls back on SIGTERM and leaves a lock on SIGKILL
)

// Local is the system phoenix itself runs on. The zero value is ready.
type Local struct {
	// Blob opens the blob with that SHA-256 (hex); nil, or an error that is fs.ErrNotExist: there is none.
	Blob func(ctx context.Context, sha256 string) (io.ReadCloser, error)
	// Grace is the time between SIGTERM and SIGKILL for a command that is over its limit; 0: 5 s.
	Grace time.Duration

	shares shares
}

var _ Host = (*Local)(nil)

// Run implements Host.
func (l *Local) Run(ctx context.Context, c Command) (Result, error) {
	if c.Shared {
		return l.shares.run(ctx, c, l.run)
	}
	return l.run(ctx, c)
}

func (l *Local) run(ctx context.Context, c Command) (Result, error) {
	limit := c.Limit
	if limit == 0 {
		limit = runLimit
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append([]string{"PATH=" + searchPath(), "LC_ALL=C.UTF-8", "HOME=/root"}, c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	most := cmp.Or(c.Output, outputLimit)
	out, errs := &capped{limit: most}, &capped{limit: min(most, errorsLimit)}
	cmd.Stdout, cmd.Stderr = out, errs
	l.group(cmd, c.Aside)
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = signalGroup(cmd, syscall.SIGKILL) // what SIGTERM did not end; there may be nothing
	}
	res := Result{Stdout: out.Bytes(), Stderr: errs.Bytes(), Code: cmd.ProcessState.ExitCode()}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return res, nil // it ended well; what it left behind may hold its pipes
	}
	switch {
	case whole.Err() != nil:
		err = fmt.Errorf("stopped: %w", context.Cause(whole))
	case ctx.Err() != nil:
		err = fmt.Errorf("gave up after %s: %w", limit, ctx.Err())
	}
	return res, &RunError{Argv: c.Argv, Output: tail(res), Code: res.Code, Cause: err}
}

// group gives the command a process group of its own: a Ctrl-C at the terminal must not cut a change in two, and what
// the command has started ends with it. Where phoenix is killed most commands are better off coming to their end.
func (l *Local) group(cmd *exec.Cmd, aside bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if aside {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	cmd.Cancel = func() error { return signalGroup(cmd, syscall.SIGTERM) }
	cmd.WaitDelay = cmp.Or(l.Grace, killDelay)
}

func signalGroup(cmd *exec.Cmd, s syscall.Signal) error {
	if err := syscall.Kill(-cmd.Process.Pid, s); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return os.ErrProcessDone
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func tail(r Result) string {
	b := r.Stderr
	if len(bytes.TrimSpace(b)) == 0 {
		b = r.Stdout
	}
	if len(b) > errorLimit {
		b = b[len(b)-errorLimit:]
	}
	return clean.Text(string(b), 2*errorLimit) // the command may run in a container
}

// capped keeps the first limit bytes and takes the rest without keeping it, so that a talkative child never blocks. The
// buffer is not embedded: io.Copy would find its ReadFrom and go around Write.
type capped struct {
	kept  bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.limit - c.kept.Len(); room > 0 {
		c.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (c *capped) Bytes() []byte { return c.kept.Bytes() }

// ReadLimit is how many bytes ReadFile reads of a file at most: some times what phoenix itself has, which is read whole
// on its way into a container (17 MB, 23 MB with its symbols).
const ReadLimit = 64 << 20

// ReadFile implements Host.
func (l *Local) ReadFile(path string) ([]byte, error) { return ReadRegular(path, ReadLimit) }

// ReadRegular reads a regular file of at most limit bytes.
func ReadRegular(path string, limit int64) ([]byte, error) { return durable.ReadFile(path, limit) }

// OpenRegular opens a regular file for reading; it never waits for somebody at the other end.
func OpenRegular(path string) (*os.File, error) { return durable.Open(path) }

// KindOf names what stands at a path: file, directory, symbolic link, fifo, socket, device.
func KindOf(mode fs.FileMode) string { return durable.Kind(mode) }

// NotAFile tells whether something could not be read because it is no regular file, or too large to be what was
// looked for.
func NotAFile(err error) bool {
	var not *durable.NotRegularError
	var large *durable.TooLargeError
	return errors.As(err, &not) || errors.As(err, &large)
}

// Digest implements Host.
func (l *Local) Digest(path string) (string, error) {
	f, err := durable.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Lstat implements Host.
func (l *Local) Lstat(path string) (Meta, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return Meta{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Meta{}, &fs.PathError{Op: "lstat", Path: path, Err: errors.New("no owner on this system")}
	}
	m := Meta{
		Mode: fi.Mode(), UID: int(st.Uid), GID: int(st.Gid), Size: fi.Size(), ModTime: fi.ModTime(),
		ChangeTime: time.Unix(st.Ctim.Unix()), Inode: st.Ino, Device: uint64(st.Dev), Links: uint64(st.Nlink),
	}
	if fi.Mode()&fs.ModeDevice != 0 {
		m.Major, m.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	return m, nil
}

// ReadDir implements Host.
func (l *Local) ReadDir(path string) ([]string, error) {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

// Readlink implements Host.
func (l *Local) Readlink(path string) (string, error) { return os.Readlink(path) }

// Lookup implements Host. It reads the system's user database anew each time.
func (l *Local) Lookup(name, group string) (Owner, error) {
	o := Owner{}
	if name == "" {
		name = "root"
	}
	if id, err := strconv.Atoi(name); err == nil {
		o = Owner{UID: id, GID: id}
	} else {
		u, err := user.Lookup(name)
		if err != nil {
			return o, err
		}
		o.UID, _ = strconv.Atoi(u.Uid)
		o.GID, _ = strconv.Atoi(u.Gid)
	}
	if group == "" {
		return o, nil
	}
	if id, err := strconv.Atoi(group); err == nil {
		o.GID = id
		return o, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return o, err
	}
	o.GID, _ = strconv.Atoi(g.Gid)
	return o, nil
}

// Dial implements Host.
func (l *Local) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
}

// Now implements Host.
func (l *Local) Now() time.Time { return time.Now() }

// WriteFile implements Host.
func (l *Local) WriteFile(path string, data []byte, mode fs.FileMode, owner Owner) error {
	return durable.WriteFile(path, bytes.NewReader(data), mode, durable.Owner(owner))
}

// Fetch implements Host. The content is checked before it is put in place.
func (l *Local) Fetch(ctx context.Context, want, path string, mode fs.FileMode, owner Owner) error {
	if l.Blob == nil {
		return &fs.PathError{Op: "fetch", Path: want, Err: fs.ErrNotExist}
	}
	r, err := l.Blob(ctx, want)
	if err != nil {
		return err
	}
	defer r.Close()
	return durable.WriteFile(path, &checked{r: r, want: want, sum: sha256.New()}, mode, durable.Owner(owner))
}

// MkdirAll implements Host.
func (l *Local) MkdirAll(path string, mode fs.FileMode, owner Owner) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := l.MkdirAll(parent, mode, owner); err != nil {
			return err
		}
	}
	first := fs.FileMode(0o700) // closed until it has its owner
	if owner.own() {
		first = mode // whole in one step: who is killed behind it leaves nothing half
	}
	if err := os.Mkdir(path, first); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if err := os.Lchown(path, owner.UID, owner.GID); err != nil {
		return err
	}
	if err := chmod(path, mode); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// errLink is a link where what it leads to must not be changed.
var errLink = errors.New("is a symbolic link")

// Chmod implements Host.
func (l *Local) Chmod(path string, mode fs.FileMode) error { return chmod(path, mode) }

// Chown implements Host.
func (l *Local) Chown(path string, owner Owner) error { return os.Lchown(path, owner.UID, owner.GID) }

// Getxattr implements Host.
func (l *Local) Getxattr(path, name string) (string, error) {
	value := make([]byte, 64<<10) // the kernel's limit (XATTR_SIZE_MAX)
	n, err := unix.Lgetxattr(path, name, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", &fs.PathError{Op: "getxattr " + name, Path: path, Err: err}
	}
	return string(value[:n]), nil
}

// Setxattr implements Host.
func (l *Local) Setxattr(path, name, value string) error {
	if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
		return &fs.PathError{Op: "setxattr " + name, Path: path, Err: err}
	}
	return nil
}

// ShiftIDs implements Host.
func (l *Local) ShiftIDs(ctx context.Context, path string, m idshift.Move) error {
	_, err := idshift.Tree(ctx, path, m)
	return err
}

// Rename implements Host.
func (l *Local) Rename(oldpath, newpath string) error { return durable.Rename(oldpath, newpath) }

// Symlink implements Host.
func (l *Local) Symlink(target, path string) error {
	tmp := path + ".tmp-link"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return durable.Rename(tmp, path)
}

// Remove implements Host.
func (l *Local) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll implements Host. What is mounted in there is an error, and stays.
func (l *Local) RemoveAll(path string) error { return beneath.RemoveAll(path) }

// checked fails at the end of a stream whose digest is not the wanted one.
type checked struct {
	r    io.Reader
	want string
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.want {
			return n, fmt.Errorf("checksum does not match: want sha256 %s, got %s", c.want, got)
		}
	}
	return n, err
}
