package script

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

func sumOf(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func hostWith(scripts ...string) *host.Local {
	return &host.Local{Blob: func(_ context.Context, sum string) (io.ReadCloser, error) {
		for _, s := range scripts {
			if sumOf(s) == sum {
				return io.NopCloser(strings.NewReader(s)), nil
			}
		}
		return nil, &fs.PathError{Op: "fetch", Path: sum, Err: fs.ErrNotExist}
	}}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files that belong to root need root")
	}
}

const hello = "#!/bin/sh\nset -e\necho \"$@\" >> \"$(dirname \"$0\")/said\"\n"

func TestConformance(t *testing.T) {
	needRoot(t)
	driver := Driver{Dir: filepath.Join(t.TempDir(), "phoenix", "scripts")}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(driver),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			if err := os.RemoveAll(driver.Dir); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(spec.Script{Name: "hello.sh", SHA256: sumOf(hello), Args: []string{"201", "a b"}})
			if err != nil {
				t.Fatal(err)
			}
			return hostWith(hello), object.Object{Address: "script/201/hello.sh", Spec: raw}
		},
	})
}

func apply(t *testing.T, d Driver, s spec.Script, h host.Host) error {
	t.Helper()
	have, err := d.Observe(context.Background(), h, "script/201/x", s)
	if err != nil {
		t.Fatal(err)
	}
	delta := d.Diff(s, have)
	if delta.Empty() {
		return nil
	}
	return d.Apply(context.Background(), h, "script/201/x", s, delta)
}

func TestRunsOncePerContent(t *testing.T) {
	needRoot(t)
	d := Driver{Dir: t.TempDir()}
	changed := hello + "# changed\n"
	for _, content := range []string{hello, hello, changed, changed} {
		if err := apply(t, d, spec.Script{Name: "s", SHA256: sumOf(content), Args: []string{"x"}},
			hostWith(hello, changed)); err != nil {
			t.Fatal(err)
		}
	}
	said, err := os.ReadFile(filepath.Join(d.Dir, "said"))
	if err != nil || !bytes.Equal(said, []byte("x\nx\n")) {
		t.Errorf("ran with %q, %v; want twice", said, err)
	}
	if fi, err := os.Stat(filepath.Join(d.Dir, "s")); err != nil || fi.Mode() != 0o700 {
		t.Errorf("script file: %v, %v", fi, err)
	}
}

func TestFailureIsToldAndRunsAgain(t *testing.T) {
	needRoot(t)
	d := Driver{Dir: t.TempDir()}
	bad := "#!/bin/sh\necho working on it\necho cannot find the moon >&2\nexit 7\n"
	killed := "#!/bin/sh\nkill -9 $$\n"
	for range 2 {
		err := apply(t, d, spec.Script{Name: "bad", SHA256: sumOf(bad)}, hostWith(bad))
		if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "code 7") ||
			!strings.Contains(err.Error(), "cannot find the moon") || !strings.Contains(err.Error(), "working on it") {
			t.Fatalf("got %v", err)
		}
	}
	if err := apply(t, d, spec.Script{Name: "killed", SHA256: sumOf(killed)}, hostWith(killed)); err == nil ||
		provider.IsPermanent(err) {
		t.Errorf("killed: %v", err)
	}
	err := apply(t, d, spec.Script{Name: "none", SHA256: sumOf("none")}, hostWith())
	if err == nil || provider.IsPermanent(err) || !strings.Contains(err.Error(), "on the hypervisor") {
		t.Errorf("no such blob: %v", err)
	}
}

// What the kernel cannot run is not tried again.
func TestWhatCannotRunIsNotRetried(t *testing.T) {
	needRoot(t)
	d := Driver{Dir: t.TempDir()}
	for name, content := range map[string]string{
		"no interpreter": "#!/no/such/interpreter\n", "carriage returns": "#!/bin/sh\r\nexit 0\r\n",
		"no first line": "echo x\n", "no program": "\x7fELF no\n",
	} {
		s := spec.Script{Name: "s", SHA256: sumOf(content)}
		if err := apply(t, d, s, hostWith(content)); !provider.IsPermanent(err) ||
			!strings.Contains(err.Error(), "cannot be run") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A script that ended well ended well, whatever it left running with its pipes.
func TestLeavesAChildBehind(t *testing.T) {
	needRoot(t)
	d := Driver{Dir: t.TempDir()}
	content := "#!/bin/sh\nsleep 60 &\necho $! >\"$(dirname \"$0\")/pid\"\n"
	h := hostWith(content)
	h.Grace = 50 * time.Millisecond
	if err := apply(t, d, spec.Script{Name: "s", SHA256: sumOf(content)}, h); err != nil {
		t.Error(err)
	}
	raw, err := os.ReadFile(filepath.Join(d.Dir, "pid"))
	pid, numErr := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err := errors.Join(err, numErr); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the child did not live on: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, s := range []spec.Script{{Name: "../x", SHA256: sumOf("")}, {Name: ".x", SHA256: sumOf("")},
		{Name: "x.sha256", SHA256: sumOf("")}, {Name: "x"}} {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, diags := (Driver{}).Decode(raw); !diags.HasErrors() {
			t.Errorf("taken: %s", raw)
		}
	}
}

func TestChangedScriptIsAnUpdate(t *testing.T) {
	d := Driver{}.Diff(spec.Script{SHA256: "b"}, &Status{SHA256: "a"})
	if d.Action != plan.Update || d.Reason == "" {
		t.Errorf("%+v", d)
	}
}
