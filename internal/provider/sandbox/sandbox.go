// Package sandbox gives the tests of providers a private machine on this machine: a network of their own where ports 80
// and 443 are free, own /run, /etc/nginx, /etc/traefik and /etc/hosts, and a real step-ca. For tests only.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const marker = "PHOENIX_TEST_SANDBOX"

// Names resolve to 127.0.0.1 inside; the first is the CA's.
var Names = []string{"ca.test.internal", "a.test.internal", "b.test.internal", "c.test.internal",
	"traefik.test.internal", "foreign.test.internal"}

// Hidden resolves to an address that leads nowhere until Reveal gives it to this machine.
const (
	Hidden        = "hidden.test.internal"
	hiddenAddress = "192.0.2.7" // RFC 5737
)

// Reveal makes Hidden this machine, until the test ends.
func Reveal(t testing.TB) {
	t.Helper()
	Need(t)
	address := func(what string) error {
		out, err := exec.Command("ip", "address", what, hiddenAddress+"/32", "dev", "lo").CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip address %s: %w: %s", what, err, out)
		}
		return nil
	}
	if err := address("add"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := address("del"); err != nil {
			t.Error(err)
		}
	})
}

// Main runs the tests in new network and mount namespaces where that is possible, else as they are; then Need skips.
// Call it from TestMain.
func Main(m *testing.M) {
	if os.Getenv(marker) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "sandbox:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(1)
	default: // no right to make namespaces: tests that need them skip
		os.Exit(m.Run())
	}
}

// Need skips the test outside a sandbox.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs root and the right to make network and mount namespaces")
	}
}

// Tool gives the path of a program that is named in the environment variable, or else found on PATH; where there is
// none the test is skipped, or fails if PHOENIX_TOOLS is "required".
func Tool(t testing.TB, variable, name string) string {
	t.Helper()
	if p := os.Getenv(variable); p != "" {
		return p
	}
	p, err := exec.LookPath(name)
	if err != nil && os.Getenv("PHOENIX_TOOLS") == "required" {
		t.Fatalf("%s is required: neither $%s nor PATH has it", name, variable)
	}
	if err != nil {
		t.Skipf("needs %s: neither $%s nor PATH has it", name, variable)
	}
	return p
}

// unpackedNginx makes an nginx that was unpacked, and not installed, the one that is run. It needs directories that its
// package would have brought: empty ones, on which each sandbox mounts its own.
func unpackedNginx() error {
	program := os.Getenv("PHOENIX_NGINX")
	if program == "" {
		return nil
	}
	for _, dir := range []string{"/etc/nginx", "/var/log/nginx", "/var/lib/nginx"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Setenv("PATH", filepath.Dir(program)+":"+os.Getenv("PATH"))
}

func furnish() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unpackedNginx(); err != nil {
		return err
	}
	for _, dir := range []string{"/etc/nginx", "/etc/traefik", "/var/log/nginx", "/var/lib/nginx"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	hosts := filepath.Join("/run", "hosts")
	text := "127.0.0.1 localhost " + strings.Join(Names, " ") + "\n" + hiddenAddress + " " + Hidden + "\n"
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/hosts: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring lo up: %w: %s", err, out)
	}
	return nil
}
