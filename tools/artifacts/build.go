package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Built says where a finished artifact lies and what it is.
type Built struct {
	Path    string `json:"path"` // absolute
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the file, lower-case hex
	Pinned  bool   `json:"pinned"` // whether SHA256 was checked against a pin
}

// record is build.json beside a binary: what it was made from. A binary whose
// record does not match today's pin is built again.
type record struct {
	Module    string `json:"module"`
	Version   string `json:"version"`
	Sum       string `json:"sum"`
	Package   string `json:"package"`
	Ldflags   string `json:"ldflags"`
	Toolchain string `json:"toolchain"`
	SHA256    string `json:"sha256"`
}

type builder struct {
	modules   string // directory that holds one Go module per artifact
	store     string // CACHE/artifacts
	toolchain string // "go1.26.8 linux/amd64"
	log       io.Writer
}

func (b builder) record(a Artifact, sum string) record {
	return record{a.Module, a.Version, a.Sum, a.Package, a.Ldflags, b.toolchain, sum}
}

func (b builder) dir(a Artifact) string {
	tc := strings.NewReplacer(" ", "-", "/", "-").Replace(b.toolchain)
	return filepath.Join(b.store, a.Name+"-"+a.Version+"-"+tc)
}

// ensure returns the finished artifact and builds it if it is not there. Two
// processes may call it at once: one builds, the other waits and reuses.
func (b builder) ensure(ctx context.Context, a Artifact) (Built, error) {
	if err := a.checkSum(filepath.Join(b.modules, a.Name)); err != nil {
		return Built{}, err
	}
	if built, ok := b.have(a); ok {
		return built, nil
	}
	if err := os.MkdirAll(b.store, 0o755); err != nil {
		return Built{}, err
	}
	unlock, err := b.lock(ctx, b.dir(a)+".lock")
	if err != nil {
		return Built{}, err
	}
	defer unlock()
	if built, ok := b.have(a); ok {
		return built, nil
	}
	return b.make(ctx, a)
}

// have looks at what is in place: the right record, and the very bytes it names.
func (b builder) have(a Artifact) (Built, bool) {
	raw, err := os.ReadFile(filepath.Join(b.dir(a), "build.json"))
	if err != nil {
		return Built{}, false
	}
	var r record
	if json.Unmarshal(raw, &r) != nil || r != b.record(a, r.SHA256) {
		return Built{}, false
	}
	path := filepath.Join(b.dir(a), a.Name)
	sum, err := hashFile(path)
	pin, pinned := a.SHA256[b.toolchain]
	if err != nil || sum != r.SHA256 || pinned && sum != pin {
		return Built{}, false
	}
	return Built{path, a.Version, sum, pinned}, true
}

// make builds into a temporary directory, checks, and only then puts it in place.
// The caller holds the lock.
func (b builder) make(ctx context.Context, a Artifact) (Built, error) {
	tmp := b.dir(a) + ".tmp"
	// Left by a build that was killed; nobody else is here, we hold the lock.
	if err := os.RemoveAll(tmp); err != nil {
		return Built{}, err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return Built{}, err
	}
	defer os.RemoveAll(tmp)
	start := time.Now()
	fmt.Fprintf(b.log, "artifacts: building %s %s with %s (once; Traefik takes minutes when Go's own cache is cold)\n",
		a.Name, a.Version, b.toolchain)
	file := filepath.Join(tmp, a.Name)
	if err := b.compile(ctx, a, file); err != nil {
		return Built{}, err
	}
	sum, pinned, err := b.verify(a, file)
	if err != nil {
		return Built{}, err
	}
	raw, err := json.MarshalIndent(b.record(a, sum), "", "  ")
	if err != nil {
		return Built{}, err
	}
	if err := writeSynced(filepath.Join(tmp, "build.json"), append(raw, '\n')); err != nil {
		return Built{}, err
	}
	if err := replace(tmp, b.dir(a)); err != nil {
		return Built{}, err
	}
	fmt.Fprintf(b.log, "artifacts: %s built in %s\n", a.Name, time.Since(start).Round(time.Second))
	return Built{filepath.Join(b.dir(a), a.Name), a.Version, sum, pinned}, nil
}

// verify hashes the fresh binary and holds it against the pin.
func (b builder) verify(a Artifact, file string) (sum string, pinned bool, err error) {
	if sum, err = hashFile(file); err != nil {
		return "", false, err
	}
	pin, pinned := a.SHA256[b.toolchain]
	if pinned && sum != pin {
		return "", true, fmt.Errorf("the binary built with %s has sha256 %s, the pin says %s; nothing was put in "+
			"place. "+
			"If the sources or flags were changed on purpose, update tools/artifacts.json", b.toolchain, sum, pin)
	}
	if !pinned {
		fmt.Fprintf(b.log, "artifacts: %s: no sha256 is pinned for %s; relying on go.sum, built %s\n", a.Name,
			b.toolchain, sum)
	}
	return sum, pinned, nil
}

// compile runs go build so that the same toolchain gives the same bytes
// wherever it runs: no cgo, no paths, no VCS stamp, nothing from the caller's
// GOFLAGS or workspace.
func (b builder) compile(ctx context.Context, a Artifact, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags="+a.Ldflags, "-o", out, a.Package)
	cmd.Dir = filepath.Join(b.modules, a.Name)
	cmd.Env = buildEnv()
	// SIGTERM lets go remove its work directory; the children share its group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	both := io.MultiWriter(b.log, &output)
	cmd.Stdout, cmd.Stderr = both, both // the same value: one writer at a time
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s (in %s): %w: %s", strings.Join(cmd.Args, " "), cmd.Dir, err, lastLine(output.String()))
	}
	return nil
}

func buildEnv() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOAMD64=v1", "GOEXPERIMENT=", "GODEBUG=")
}

// toolchain names what go build uses here: "go1.26.8 linux/amd64".
func toolchain(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH")
	cmd.Env = buildEnv()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w (is Go installed and on PATH?)", err)
	}
	f := strings.Fields(string(out))
	if len(f) != 3 {
		return "", fmt.Errorf("go env printed %q, want a version, an OS and an architecture", out)
	}
	return f[0] + " " + f[1] + "/" + f[2], nil
}

// lock takes an exclusive lock on file. The kernel drops it when the process
// ends, however it ends.
func (b builder) lock(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		fmt.Fprintf(b.log, "artifacts: waiting for another process that holds %s\n", file)
		err = waitLock(ctx, f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// waitLock blocks in the kernel until the lock is ours or ctx ends.
func waitLock(ctx context.Context, f *os.File) error {
	done := make(chan error, 1)
	fd := int(f.Fd())
	go func() { done <- syscall.Flock(fd, syscall.LOCK_EX) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace puts dir in place of dst. An old dst is moved aside first: a directory
// cannot be renamed onto one that has files.
func replace(dir, dst string) error {
	old := dst + ".old"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(dst, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(dir, dst); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// writeIndex merges index into file, atomically; the caller holds the index's lock.
func writeIndex(file string, index map[string]Built) error {
	all := map[string]Built{}
	have, err := os.ReadFile(file)
	if err == nil {
		_ = json.Unmarshal(have, &all) // an unreadable index is written anew
	}
	maps.Copy(all, index)
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if bytes.Equal(raw, have) {
		return nil
	}
	if err := writeSynced(file+".tmp", raw); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

func writeSynced(file string, raw []byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

func hashFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
