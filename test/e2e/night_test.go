package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unattended is a hypervisor on which watch runs from the first second.
func unattended(t *testing.T) *faults {
	f := &faults{Hypervisor: New(t, homelab()), keep: map[string]string{}}
	f.start()
	t.Cleanup(f.stop)
	return f
}

// stays wants something to be so while watch does full rounds: a file of the configuration that is touched begins one.
func (f *faults) stays(what string, so func() bool) {
	f.t.Helper()
	now := time.Now()
	f.must(os.Chtimes(filepath.Join(f.Config, "phoenix_lxc_configs.json"), now, now))
	if await(4*time.Second, func() bool { return !so() }) {
		f.t.Fatalf("%s does not stay so\nwatch said:\n%s", what, f.log.String())
	}
}

// What runs unattended makes no root, and brings nothing back that a person deleted. A site is burnt down and restored with watch
// enabled all the time.
func TestNight(t *testing.T) {
	f := unattended(t)
	f.stays("a machine on which nobody called up", func() bool { return !hasFile(f.Root) })
	f.Phoenix("up").Want(0)
	root := fingerprint(f.RootCertificate())
	password, backup := filepath.Join(filepath.Dir(f.Root), "password"), filepath.Join(filepath.Dir(f.Root), "ca.sealed")
	f.must(os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600))
	f.Phoenix("ca", "backup", backup, "--password-file", password).Want(0)
	restore := []string{"ca", "restore", backup, "--password-file", password}

	f.Phoenix("stop", "103").Want(0)
	f.stays("103, which others depend on and a person stopped,", func() bool { return !f.runs("103") })

	if r := f.Phoenix("delete", "103", "--volumes", "--yes"); r.Exit == 0 || !strings.Contains(r.Stderr, root) || !strings.Contains(r.Stderr, "--volumes=103") {
		t.Errorf("the root of the site goes with --yes alone, or it is not said how\n%s", r)
	}
	if r := f.answer("yes\n", "delete", "103", "--volumes"); r.Exit == 0 || !strings.Contains(r.Stderr, root) {
		t.Errorf("the root of the site goes without its name\n%s", r)
	}
	f.answer("step-ca\n", "delete", "103", "--volumes").Want(0)
	f.stays("103, deleted with its volume,", func() bool { return !hasFile(f.volume("103", "ssl")) && !hasFile(filepath.Join(f.lxc(), "103")) })

	f.Phoenix("create", "103").Want(0) // by mistake: another root
	if r := f.Phoenix(append(restore, "--yes")...); r.Exit == 0 || !strings.Contains(r.Stderr, "delete 103 --volumes=103") {
		t.Errorf("another root is in use, and restore takes its place or does not say how to\n%s", r)
	}
	f.Phoenix("delete", "--all", "--volumes=103", "--yes").Want(0)
	f.stays("a site that was deleted", func() bool { return !hasFile(f.Root) })

	f.Phoenix("create", "103").Want(0) // by mistake again, and nobody uses it
	if r := f.Phoenix(restore...); r.Exit == 0 || !strings.Contains(r.Stderr, "--yes") {
		t.Errorf("another root is replaced without a question, or it is not said how\n%s", r)
	}
	f.Phoenix(append(restore, "--yes")...).Want(0)
	f.Phoenix("up").Want(0)
	if now := fingerprint(f.RootCertificate()); now != root {
		t.Errorf("the root was %s and is %s", root, now)
	}
	f.WantHealthy()
}

// answer is Phoenix with something typed.
func (f *faults) answer(typed string, args ...string) Result {
	f.t.Helper()
	r, w, err := os.Pipe()
	f.must(err)
	defer r.Close()
	_, err = bytes.NewBufferString(typed).WriteTo(w)
	f.must(err)
	f.must(w.Close())
	return f.exec(r, f.argv(args))
}
