package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// homelab is the configuration that most tests run.
func homelab() string { return filepath.Join(repo(), "examples", "homelab") }

// repo is the checkout's top directory.
func repo() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// parts are what all hypervisors of one run share.
type parts struct {
	bin       string            // the phoenix binary
	artifacts map[string]string // path by name
}

var prepared = sync.OnceValues(prepare)

// scratch is removed by TestMain.
var scratch string

// need skips the test where real containers are not to be had, and prepares
// the shared parts once.
func need(t testing.TB) parts {
	t.Helper()
	if err := missing(); err != nil {
		if os.Getenv("PHOENIX_E2E") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// missing says why real containers are not to be had.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("real containers need root")
	}
	for _, tool := range []string{"lxc-start", "lxc-stop", "mmdebstrap", "dnsmasq", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("real containers need %s: run make deps", tool)
		}
	}
	return nil
}

// prepare builds what is not there yet: phoenix, step-ca, Traefik, and the
// template's archive in the cache.
func prepare() (parts, error) {
	p := parts{bin: os.Getenv("PHOENIX_BIN"), artifacts: map[string]string{}}
	if p.bin == "" {
		p.bin = filepath.Join(scratch, "phoenix")
		if _, err := tool(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-trimpath", "-o", p.bin,
			"./cmd/phoenix"); err != nil {
			return p, err
		}
	}
	out, err := tool(os.Environ(), "go", "run", "./tools/artifacts")
	if err != nil {
		return p, err
	}
	var built map[string]struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(out, &built); err != nil {
		return p, fmt.Errorf("tools/artifacts printed no JSON: %w", err)
	}
	for name, b := range built {
		p.artifacts[name] = b.Path
	}
	return p, warm(p.bin)
}

// warm makes the template's archive. Building one fetches packages, which a
// test hypervisor, cut off in its namespace, cannot; so this one command runs
// outside, on a root of its own, and only for the template.
func warm(bin string) error {
	root := filepath.Join(scratch, "warm")
	defer exec.Command(filepath.Join(repo(), "tools", "sweep"), root).Run()
	_, err := tool(os.Environ(), bin, "--config", homelab(), "--root", root, "--runtime", "lxc", "create", "900")
	return err
}

// tool runs a command in the checkout and returns its standard output.
func tool(env []string, argv ...string) ([]byte, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = repo(), env
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", argv, err)
	}
	return out, nil
}

func command(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}
