package beneath

import (
	"crypto/rand"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const block = 1 << 20

// Overwrite writes over what an open file holds, as far as it reaches now, and makes that last. Where the file system
// keeps old blocks (copy on write, snapshots, an SSD's reserve) they may still be there.
func Overwrite(f *os.File) error {
	_, err := overwrite(f)
	return err
}

func overwrite(f *os.File) (int64, error) {
	var written int64
	buf := make([]byte, block)
	err := extents(f, func(from, to int64) error {
		for from < to {
			n := min(to-from, block)
			_, _ = rand.Read(buf[:n]) // never fails (crypto/rand)
			if _, err := f.WriteAt(buf[:n], from); err != nil {
				return err
			}
			from, written = from+n, written+n
		}
		return nil
	})
	if err != nil {
		return written, err
	}
	return written, f.Sync()
}

// extents visits the parts of a file that have data; a hole of terabytes costs its owner nothing, and should cost
// nobody else.
func extents(f *os.File, visit func(from, to int64) error) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole
			return nil
		}
		if errors.Is(err, unix.EINVAL) { // the file system cannot say
			return visit(at, size)
		}
		if err != nil {
			return err
		}
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		to = min(to, size)
		if from >= to {
			return nil
		}
		if err := visit(from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// part is what a file has between two places, for reading.
func part(f *os.File, from, to int64) io.Reader { return io.NewSectionReader(f, from, to-from) }
