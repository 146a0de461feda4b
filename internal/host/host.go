// Package host is the only door to a system: commands run and files live on a Host. The hypervisor and the inside of a
// container are both hosts, so that the same drivers work on either.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
)

// Command is one program to run.
type Command struct {
	Argv    []string
	Env     []string // added to a minimal environment (PATH, LC_ALL=C.UTF-8, HOME); never a secret
	Dir     string   // working directory; empty: /
	Stdin   []byte   // secrets go here, never into Argv
	Mutates bool     // changes the system; observing commands leave it false
	// several may ask for it at once, with the same Argv and nothing else: one run that begins after they asked serves
	// all
	Shared bool
	Aside  bool          // writes where the next run begins anew: it is told to end when phoenix is killed
	Output int           // bytes of standard output that are kept; 0: 1 MiB
	Limit  time.Duration // 0: two minutes. At its end SIGTERM to it and what it started, 5 s later SIGKILL
}

// Result is what a command left behind. What is beyond a command's limits is dropped.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

// Meta is the part of stat(2) that phoenix keeps true. Symbolic links are not followed.
type Meta struct {
	Mode    fs.FileMode // type and permission bits
	UID     int
	GID     int
	Size    int64 // bytes
	ModTime time.Time
	// ChangeTime is when content, name or owner changed last (st_ctim): a file that is renamed into place has the
	// ModTime of its writing. Zero where a host does not keep it.
	ChangeTime time.Time
	Inode      uint64
	Device     uint64
	Links      uint64
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
}

// Owner is who a file belongs to; -1 leaves an id as it is.
type Owner struct{ UID, GID int }

// Root owns what belongs to the system.
var Root = Owner{}

// own tells whether what this process makes belongs to it anyway.
func (o Owner) own() bool {
	return (o.UID == -1 || o.UID == os.Geteuid()) && (o.GID == -1 || o.GID == os.Getegid())
}

// Host runs commands and holds files. All methods may be called at once. Errors of files are *fs.PathError, so that
// errors.Is(err, fs.ErrNotExist) works; a command that ends with another code than 0 is a *RunError. Methods that
// change something are marked; a Host counts them. None retries.
type Host interface {
	// Run waits for the command. It changes the system only if c.Mutates says so.
	Run(ctx context.Context, c Command) (Result, error)

	// ReadFile reads a regular file of at most ReadLimit bytes; anything else is refused, and never waited for.
	ReadFile(path string) ([]byte, error)
	// Digest is the lower-case hex SHA-256 of a file's content.
	Digest(path string) (string, error)
	Lstat(path string) (Meta, error)
	ReadDir(path string) ([]string, error) // names, sorted
	Readlink(path string) (string, error)
	// Lookup gives the ids of a user and a group by name or number; an empty group is the user's own.
	Lookup(user, group string) (Owner, error)
	// Dial opens a connection from this host.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Now() time.Time

	// WriteFile changes: it replaces the file atomically and durably with that mode and owner.
	WriteFile(path string, data []byte, mode fs.FileMode, owner Owner) error
	// Fetch changes: it writes the blob with that SHA-256 (lower-case hex) to path as WriteFile does. fs.ErrNotExist
	// where this host cannot get the blob.
	Fetch(ctx context.Context, sha256, path string, mode fs.FileMode, owner Owner) error
	// MkdirAll changes: missing directories of path are made with mode and owner, those that exist stay as they are.
	MkdirAll(path string, mode fs.FileMode, owner Owner) error
	// Chmod and Chown change, and do not follow a symbolic link.
	Chmod(path string, mode fs.FileMode) error
	Chown(path string, owner Owner) error
	// Getxattr is an extended attribute of the file itself; empty: it has none. errors.ErrUnsupported where the file
	// system has none.
	Getxattr(path, name string) (string, error)
	// Setxattr changes: it sets an extended attribute of the file itself.
	Setxattr(path, name, value string) error
	// ShiftIDs changes: the files of the tree at path, and then path itself, go from one range of ids to another
	// (package idshift).
	ShiftIDs(ctx context.Context, path string, m idshift.Move) error
	// Rename changes, durably.
	Rename(oldpath, newpath string) error
	// Symlink changes: path becomes a link to target, in one step, whatever file or link stood there.
	Symlink(target, path string) error
	// Remove and RemoveAll change; what does not exist is no error. RemoveAll follows no link, also where one is put in
	// its way meanwhile, and leaves what is mounted in there, as an error.
	Remove(path string) error
	RemoveAll(path string) error
}

// RunError is a command that could not be run or did not end with 0.
type RunError struct {
	Argv   []string
	Output string // the last 4 KiB of standard error, or of standard output where that is empty
	Code   int    // -1: it never ran or was ended by a signal
	Cause  error
}

// Error is one line, paste-ready, followed by what the command said.
func (e *RunError) Error() string {
	msg := "command failed: " + Quote(e.Argv) + ": " + e.Cause.Error()
	if e.Output != "" {
		msg += "\n" + strings.TrimRight(e.Output, "\n")
	}
	return msg
}

// Unwrap gives the cause.
func (e *RunError) Unwrap() error { return e.Cause }

// Missing tells whether a command could not be run because its program is not there.
func Missing(err error) bool {
	var failed *RunError
	return errors.As(err, &failed) && errors.Is(failed.Cause, exec.ErrNotFound)
}

// Unrunnable tells whether a program could not be begun, and will not be the next time either: there is none, or none
// that the kernel can run, or no such interpreter (execve(2)).
func Unrunnable(err error) bool {
	var failed *RunError
	if !errors.As(err, &failed) || failed.Code >= 0 {
		return false
	}
	return Missing(err) ||
		slices.ContainsFunc([]error{syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ENOEXEC, syscall.ELIBBAD},
			func(no error) bool { return errors.Is(failed.Cause, no) })
}

// Misread is a command that ended well and whose output makes no sense, for the reason given.
func Misread(argv []string, r Result, why error) error {
	return &RunError{Argv: argv, Output: tail(Result{Stdout: r.Stdout}), Code: r.Code,
		Cause: fmt.Errorf("its output is not understood: %w", why)}
}

// Quote joins argv so that a POSIX shell reads it back the same.
func Quote(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		if a != "" && strings.IndexFunc(a, special) < 0 {
			out[i] = a
			continue
		}
		out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}

func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		strings.ContainsRune("-_./:=@,+%", r))
}
