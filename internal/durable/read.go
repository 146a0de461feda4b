package durable

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ReadFile returns what is in a regular file of at most limit bytes. Anything else is refused without being read: a
// fifo would block, a device never ends, and a file that is too large would fill the memory.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: &TooLargeError{Limit: limit}}
	}
	return raw, nil
}

// Open opens a regular file for reading. A link at its end is followed, as configurations are often links.
func Open(path string) (*os.File, error) {
	if err := regular(path, os.Stat); err != nil { // before: opening some devices does something
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	opened := func(string) (fs.FileInfo, error) { return f.Stat() }
	if err := regular(path, opened); err != nil { // it may have been replaced
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func regular(path string, stat func(string) (fs.FileInfo, error)) error {
	fi, err := stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	case !fi.Mode().IsRegular():
		return &fs.PathError{Op: "read", Path: path, Err: &NotRegularError{Kind: Kind(fi.Mode())}}
	}
	return nil
}

// NotRegularError is something other than a file where a file should be.
type NotRegularError struct{ Kind string }

func (e *NotRegularError) Error() string { return "is a " + e.Kind + ", not a regular file" }

// TooLargeError is a file with more bytes than are ever read of one.
type TooLargeError struct{ Limit int64 }

func (e *TooLargeError) Error() string {
	if e.Limit >= 1<<20 && e.Limit%(1<<20) == 0 {
		return fmt.Sprintf("is larger than %d MiB", e.Limit>>20)
	}
	return fmt.Sprintf("is larger than %d bytes", e.Limit)
}

// Kind names what stands at a path.
func Kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "fifo"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}
