package cli

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// observeKernel reads the limits that all containers share. Those that this kernel does not have are left out.
func (a *app) observeKernel() map[string]config.KernelValue {
	out := map[string]config.KernelValue{}
	for _, key := range config.SharedLimits() {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		raw, err := a.host.ReadFile(path)
		if err != nil {
			continue
		}
		if v, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			out[key] = config.KernelValue{Value: v, ReadOnly: readOnly(path)}
		}
	}
	return out
}

// readOnly tells of a container, in which root cannot change what its machine has: the file is another's, or its file
// system cannot be written to.
func readOnly(path string) bool {
	err := unix.Access(path, unix.W_OK)
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) && unix.Geteuid() == 0
}
