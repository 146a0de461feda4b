package engine

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// again is what always helps once the cause is gone.
const again = "then run phoenix again: it goes on from where it stands"

// Advice is what a person should do about a failure: what its driver said, else what its cause suggests. Empty where
// there is nothing to do but to run it again, as after an interrupt.
func Advice(err error) string {
	if hint := provider.Hint(err); hint != "" {
		return hint
	}
	var run *host.RunError
	var file *fs.PathError
	switch ofCommand, ofFile := errors.As(err, &run), errors.As(err, &file); {
	case errors.Is(err, context.Canceled) || !ofCommand && errors.Is(err, context.DeadlineExceeded):
		return ""
	case !ofCommand && ofFile:
		return fileAdvice(file)
	case !ofCommand:
		return "if it stays so, mend the cause, " + again
	case host.Missing(err) || errors.Is(err, fs.ErrNotExist) && run.Code < 0:
		return "install " + run.Argv[0] + ", " + again
	case errors.Is(err, context.DeadlineExceeded):
		return "run the command by hand to see where it hangs, " + again
	}
	return "run the command by hand to see why it fails, " + again
}

func fileAdvice(e *fs.PathError) string {
	dir := host.Quote([]string{filepath.Dir(e.Path)})
	switch {
	case errors.Is(e, host.ErrUnresponsive):
		return "findmnt --target " + dir + " names it; for /etc/pve: systemctl status pve-cluster, systemctl restart " +
			"pve-cluster"
	case errors.Is(e, syscall.ENOSPC), errors.Is(e, syscall.EDQUOT):
		return "make room (df " + dir + "), " + again
	case errors.Is(e, syscall.EIO), errors.Is(e, syscall.EROFS):
		return "look for errors of the disk (dmesg; findmnt --target " + dir + "), " + again
	}
	return "look at it (ls -ld " + host.Quote([]string{e.Path}) + "), " + again
}
