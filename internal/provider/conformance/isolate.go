package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const isolated = "PHOENIX_TEST_ISOLATED"

// Isolate is for TestMain: it runs the package's tests in network and mount namespaces of their own, so that bridges,
// resolvers and lxc's abstract sockets of two runs never meet, and gives the exit code. Without the rights for it the
// tests run where they are, and Isolated tells them.
//
// A new sysfs shows the new network's interfaces, which lxc looks for there; the control groups are mounted back into
// it.
func Isolate(m *testing.M) int {
	switch {
	case os.Getenv(isolated) != "":
		if err := mountSys(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot isolate the tests:", err)
			return 1
		}
		return m.Run()
	case os.Geteuid() != 0:
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests run without namespaces of their own:", err)
		return m.Run()
	}
	return 0
}

// Isolated skips a test that is not in namespaces of its own or lacks one of the tools.
func Isolated(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv(isolated) == "" {
		t.Skip("needs root and namespaces of its own")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
}

func mountSys() error {
	keep, err := os.MkdirTemp("", "phoenix-cgroup")
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") },
		func() error { return syscall.Mount("/sys/fs/cgroup", keep, "", syscall.MS_BIND|syscall.MS_REC, "") },
		func() error { return syscall.Mount("sysfs", "/sys", "sysfs", 0, "") },
		func() error { return syscall.Mount(keep, "/sys/fs/cgroup", "", syscall.MS_BIND|syscall.MS_REC, "") },
		func() error { return syscall.Unmount(keep, syscall.MNT_DETACH) },
		func() error { return os.Remove(keep) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}
