package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unattended is a hypervisor on which watch runs from the first second.
func unattended(t *testing.T) *faults {
	f := &faults{Hypervisor: New(t, homelab()), keep: map[string]string{}}
	own := filepath.Join(filepath.Dir(f.Root), "phoenix") // it is replaced
	raw, err := os.ReadFile(f.bin)
	f.must(err)
	f.must(os.WriteFile(own, raw, 0o755))
	f.bin = own
	f.start()
	t.Cleanup(f.stop)
	return f
}

// templateAway asks for a template that cannot be built, as the mirror is not reached from here: who needs none is in
// nobody's way.
func (f *faults) templateAway() {
	f.t.Helper()
	// libssl3 is there already: nothing has to be fetched
	f.rewrite(filepath.Join(f.Config, "phoenix_lxc_configs.json"), func(s string) string {
		return strings.Replace(s, `"name": "hello",`, `"name": "hello", "packages": ["libssl3"],`, 1)
	})
	for _, args := range [][]string{{"apply", "101"}, {"up"}, {"cert", "renew", "www.homelab.internal"}} {
		f.Phoenix(args...).Want(0)
	}
	r := f.Phoenix("create", "900", "--timeout", "2m")
	said := r.Stdout + r.Stderr
	if r.Exit == 0 || strings.Contains(said, "--dpkgopt") || !strings.Contains(said, "could not be built") {
		f.t.Errorf("a template that cannot be built: the cause is not shown, or with the whole command\n%s", r)
	}
}

// programReplaced puts another phoenix in the place of the one that watches: bytes behind the end mean nothing to the
// kernel.
func (f *faults) programReplaced() {
	f.t.Helper()
	raw, err := os.ReadFile(f.bin)
	f.must(err)
	f.must(os.WriteFile(f.bin+".new", append(raw, "another"...), 0o755))
	f.must(os.Rename(f.bin+".new", f.bin))
	lock := filepath.Join(f.Root, "watch.lock")
	sum := fmt.Sprintf("%x", sha256.Sum256(append(raw, "another"...)))[:12]
	if !await(healLimit, func() bool { b, _ := os.ReadFile(lock); return strings.Contains(string(b), sum) }) {
		f.t.Errorf("watch does not begin its new program\n%s", f.log.String())
	}
	r := f.Phoenix("up").Want(0)
	if !strings.Contains(r.Stdout, "the same version, keeps it so (pid ") ||
		!strings.Contains(f.Phoenix("health").Want(0).Stdout, "PHX-WATCH-001") {
		f.t.Errorf("up and health do not say which watch runs\n%s", r)
	}
}

// stays wants something to be so while watch does full rounds: a file of the configuration that is touched begins one.
func (f *faults) stays(what string, so func() bool) {
	f.t.Helper()
	now := time.Now()
	f.must(os.Chtimes(filepath.Join(f.Config, "phoenix_lxc_configs.json"), now, now))
	if await(3*time.Second, func() bool { return !so() }) {
		f.t.Fatalf("%s does not stay so\nwatch said:\n%s", what, f.log.String())
	}
}

// What runs unattended makes no root, and brings nothing back that a person deleted. A site is burnt down and restored
// with watch enabled all the time.
func TestNight(t *testing.T) {
	beside(t)
	f := unattended(t)
	f.stays("a machine on which nobody called up", func() bool { return !hasFile(f.Root) })
	f.reports()
	f.Phoenix("up").Want(0)
	root := fingerprint(f.RootCertificate())
	password, backup := filepath.Join(filepath.Dir(f.Root), "password"),
		filepath.Join(filepath.Dir(f.Root), "ca.sealed")
	f.must(os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600))
	f.Phoenix("ca", "backup", backup, "--password-file", password).Want(0)
	restore := []string{"ca", "restore", backup, "--password-file", password}

	f.savedIsNotDeployed()

	f.Phoenix("stop", "103").Want(0)
	f.stays("103, which others depend on and a person stopped,", func() bool { return !f.runs("103") })

	if r := f.Phoenix("delete", "103", "--volumes", "--yes"); r.Exit == 0 || !strings.Contains(r.Stderr, root) ||
		!strings.Contains(r.Stderr, "--volumes=103") {
		t.Errorf("the root of the site goes with --yes alone, or it is not said how\n%s", r)
	}
	if r := f.answer("yes\n", "delete", "103", "--volumes"); r.Exit == 0 || !strings.Contains(r.Stderr, root) {
		t.Errorf("the root of the site goes without its name\n%s", r)
	}
	f.answer("step-ca\n", "delete", "103", "--volumes").Want(0)
	f.stays("103, deleted with its volume,",
		func() bool { return !hasFile(f.volume("103", "ssl")) && !hasFile(filepath.Join(f.lxc(), "103")) })

	f.Phoenix("create", "103").Want(0) // by mistake: another root
	if r := f.Phoenix(append(restore, "--yes")...); r.Exit == 0 ||
		!strings.Contains(r.Stderr, "delete 103 --volumes=103") {
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
	f.templateAway()
	f.programReplaced()
	f.WantHealthy()
	for _, text := range []string{" watches containers ", "nothing to keep", "did you mean nginx_gateway",
		" wait for a person", "its program was replaced"} {
		if !strings.Contains(f.log.String(), text) {
			t.Errorf("watch does not say %q\n%s", text, f.log.String())
		}
	}
}

// savedIsNotDeployed changes the file in ways that would interrupt, close or remove something.
func (f *faults) savedIsNotDeployed() {
	f.t.Helper()
	file, init := filepath.Join(f.Config, "phoenix_lxc_configs.json"), f.init("101")
	f.remember(file)
	untouched := func() bool { return f.init("101") == init && f.verifies() }
	f.rewrite(file, func(s string) string { return strings.Replace(s, `"nginx_gateway"`, `"nginx_gatewy"`, 1) })
	f.stays("the gateway, mistyped in the file,", untouched)
	if r := f.Phoenix("validate"); r.Exit != 78 || !strings.Contains(r.String(), "did you mean nginx_gateway") {
		f.t.Errorf("a mistyped feature is taken\n%s", r)
	}
	f.rewrite(file, func(s string) string {
		return strings.Replace(strings.Replace(s, `"nginx_gatewy"`, `"nginx_gateway"`, 1), `"name": "nginx",`,
			`"name": "edge",`, 1)
	})
	f.stays("the gateway, renamed in the file,", untouched)
	if r := f.Phoenix("status", "-o", "json"); !strings.Contains(r.Stdout, `"waiting"`) ||
		!strings.Contains(r.Stdout, "container/101") {
		f.t.Errorf("status does not say what waits\n%s", r)
	}
	f.reported("failure", "did you mean nginx_gateway")
	f.reported("waiting", "container/101")
	if r := f.Phoenix("events").Want(0); !strings.Contains(r.Stdout, "waits for phoenix apply") {
		f.t.Errorf("events do not say what waits\n%s", r)
	}
	if r := f.Phoenix("diff").Want(0); !strings.Contains(r.Stdout, `+            "name": "edge",`) {
		f.t.Errorf("diff\n%s", r)
	}
	f.Exec(f.attach("101", "sh", "-c", "echo drift >/etc/hosts")...).Want(0)
	if !await(healLimit, func() bool {
		raw, _ := os.ReadFile(f.rootfs("101", "etc", "hosts"))
		return strings.Contains(string(raw), "nginx")
	}) {
		f.t.Error("drift is not brought back to the configuration that was applied")
	}
	f.Phoenix("revert", "--yes").Want(0)
	if !f.same(file) {
		f.t.Error("revert does not bring back what was applied")
	}
	f.Phoenix("plan", "--detailed-exitcode").Want(0)
}

// reports has what needs a person be given to a command, which hangs from the day on that it heard of a change that
// waits: nothing else may wait for it.
func (f *faults) reports() {
	f.t.Helper()
	command := filepath.Join(filepath.Dir(f.Root), "tell")
	f.must(os.WriteFile(command, []byte(`#!/bin/sh
cat >"$0.$$.part" && mv "$0.$$.part" "$0.$$.json"
if grep -q '"kind": "waiting"' "$0.$$.json"; then exec sleep 600; fi
`), 0o755))
	f.rewrite(filepath.Join(f.Config, "phoenix_hypervisor_config.json"), func(s string) string {
		return strings.Replace(s, `"domain_name": "homelab.internal",`, `"domain_name": "homelab.internal",
    "watch": {"notify": {"command": ["`+command+`"], "after": "1s", "interval": "1s", "timeout": "10m"}},`, 1)
	})
	f.Phoenix("notify", "test").Want(0)
	f.reported("test", "nothing is wrong")
}

// reported wants the command to have been given an event.
func (f *faults) reported(kind, text string) {
	f.t.Helper()
	var all string
	if !await(healLimit, func() bool {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(f.Root), "tell.*.json"))
		f.must(err)
		all = ""
		for _, name := range files {
			raw, err := os.ReadFile(name)
			f.must(err)
			all += string(raw)
		}
		return strings.Contains(all, `"kind": "`+kind+`"`) && strings.Contains(all, text)
	}) {
		f.t.Errorf("%s (%s) is not reported; what was:\n%s\nwatch said:\n%s", kind, text, all, f.log.String())
	}
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
