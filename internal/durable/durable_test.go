package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, mode := range []os.FileMode{0o600, 0o644 | os.ModeSetuid} {
		if err := WriteFile(path, strings.NewReader("content"), mode, Owner{-1, -1}); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path)
		if err != nil || fi.Mode() != mode {
			t.Errorf("mode %v, want %v (%v)", fi.Mode(), mode, err)
		}
	}
}

// A write that breaks off leaves the old file, and nothing beside it.
func TestBrokenWriteLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("ne"), iotest.ErrReader(errors.New("cable pulled")))
	if err := WriteFile(path, broken, 0o600, Owner{-1, -1}); err == nil ||
		!strings.Contains(err.Error(), "cable pulled") {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A writer that was killed leaves a temp file: the next one removes it, but not that of one who still writes.
func TestStaleTempFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	kept := []string{".x.tmp-2", ".x.tmp-", ".x.tmp-mine", ".y.tmp-4"}
	for _, name := range append([]string{".x.tmp-1"}, kept...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writing, err := os.Open(filepath.Join(dir, ".x.tmp-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close()
	if err := syscall.Flock(int(writing.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(dir, ".x.tmp-3")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	other := make(chan error)
	slow := readerFunc(func([]byte) (int, error) { // while one writes, another one writes the same path
		other <- WriteFile(path, strings.NewReader("second"), 0o600, Owner{-1, -1})
		return 0, io.EOF
	})
	first := make(chan error)
	go func() { first <- WriteFile(path, slow, 0o600, Owner{-1, -1}) }()
	for _, err := range []error{<-other, <-first} {
		if err != nil {
			t.Errorf("a live temp file was taken away: %v", err)
		}
	}
	for _, name := range append(kept, ".x.tmp-3", "x") {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != len(kept)+2 {
		t.Errorf("left: %v, %v", left, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestRename(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); err != nil {
		t.Error(err)
	}
}
