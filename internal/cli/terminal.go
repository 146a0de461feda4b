package cli

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal tells whether w is a terminal, and its width in columns (0: not known).
func terminal(w io.Writer) (width int, yes bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), os.Getenv("TERM") != "dumb"
}
