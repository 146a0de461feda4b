package trust_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// rooted is a system with a trust store of its own below a directory: the real update-ca-certificates and openssl run,
// on these files.
type rooted struct {
	host.Host
	t      *testing.T
	dir    string
	update int // how often the tool ran
}

// newRooted has three of this system's own roots in its store, so that the tool takes milliseconds.
func newRooted(t *testing.T) *rooted {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	for _, tool := range []string{"update-ca-certificates", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	system, err := filepath.Glob("/usr/share/ca-certificates/mozilla/[A-D]*.crt")
	if err != nil || len(system) < 3 {
		t.Skip("this system has no roots of its own")
	}
	r := &rooted{Host: &host.Local{}, t: t, dir: t.TempDir()}
	var conf strings.Builder
	for _, path := range system[:3] {
		conf.WriteString(strings.TrimPrefix(path, "/usr/share/ca-certificates/") + "\n")
	}
	for _, dir := range []string{"/usr/local/share/ca-certificates", "/etc/ssl/certs",
		"/etc/ca-certificates/update.d"} {
		if err := os.MkdirAll(r.at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(r.dir+"/conf", []byte(conf.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	r.tool()
	r.update = 0
	return r
}

// tool runs update-ca-certificates as a package's installation would.
func (r *rooted) tool(args ...string) {
	r.t.Helper()
	if _, err := r.Run(context.Background(),
		host.Command{Argv: append([]string{"update-ca-certificates"}, args...)}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rooted) at(path string) string {
	if strings.HasPrefix(path, "/etc/") || strings.HasPrefix(path, "/usr/") {
		return r.dir + path
	}
	return path
}

func (r *rooted) Run(ctx context.Context, c host.Command) (host.Result, error) {
	if c.Argv[0] == "update-ca-certificates" {
		r.update++
		c.Argv = append([]string{c.Argv[0], "--localcertsdir", r.at("/usr/local/share/ca-certificates"),
			"--etccertsdir",
			r.at("/etc/ssl/certs"), "--hooksdir", r.at("/etc/ca-certificates/update.d"), "--certsconf",
			r.dir + "/conf"}, c.Argv[1:]...)
	}
	return r.Host.Run(ctx, c)
}

func (r *rooted) ReadFile(path string) ([]byte, error)      { return r.Host.ReadFile(r.at(path)) }
func (r *rooted) Lstat(path string) (host.Meta, error)      { return r.Host.Lstat(r.at(path)) }
func (r *rooted) ReadDir(path string) ([]string, error)     { return r.Host.ReadDir(r.at(path)) }
func (r *rooted) Remove(path string) error                  { return r.Host.Remove(r.at(path)) }
func (r *rooted) Chmod(path string, mode fs.FileMode) error { return r.Host.Chmod(r.at(path), mode) }
func (r *rooted) Symlink(target, path string) error         { return r.Host.Symlink(r.at(target), r.at(path)) }

func (r *rooted) Readlink(path string) (string, error) {
	to, err := r.Host.Readlink(r.at(path))
	return strings.TrimPrefix(to, r.dir), err
}

func (r *rooted) WriteFile(path string, data []byte, mode fs.FileMode, owner host.Owner) error {
	return r.Host.WriteFile(r.at(path), data, mode, owner)
}

func (r *rooted) MkdirAll(path string, mode fs.FileMode, owner host.Owner) error {
	return r.Host.MkdirAll(r.at(path), mode, owner)
}

// store is all of the trust store: names with what they link to, and the bundle.
func (r *rooted) store() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	names, err := r.ReadDir("/etc/ssl/certs")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range names {
		to, err := r.Readlink("/etc/ssl/certs/" + n)
		if err != nil {
			raw, err := r.ReadFile("/etc/ssl/certs/" + n)
			if err != nil {
				r.t.Fatal(err)
			}
			to = string(raw)
		}
		out[n] = to
	}
	return out
}
