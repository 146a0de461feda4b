package user

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// inContainer skips a test that makes users. To run it: CGO_ENABLED=0 go test -c, put the binary into a container that
// may be thrown away, and start it there as root with PHOENIX_TEST_IN_CONTAINER=1.
func inContainer(t *testing.T) {
	t.Helper()
	if os.Getenv("PHOENIX_TEST_IN_CONTAINER") != "1" {
		t.Skip("changes the system's users: runs in a throw-away container with PHOENIX_TEST_IN_CONTAINER=1")
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	for _, argv := range [][]string{{"userdel", name}, {"groupdel", name}} {
		var code *exec.ExitError
		// 6: there is none
		if err := exec.Command(argv[0], argv[1]).Run(); err != nil && (!errors.As(err, &code) || code.ExitCode() != 6) {
			t.Fatalf("%q: %v", argv, err)
		}
	}
}

func TestConformance(t *testing.T) {
	inContainer(t)
	const name = "phxstep"
	t.Cleanup(func() { remove(t, name) })
	damage := func(argv ...string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) { run(t, argv...) }
	}
	fresh := func(t *testing.T) (host.Host, object.Object) {
		remove(t, name)
		raw, err := json.Marshal(spec.User{Name: name, UID: 977, Home: "/etc/step-ca"})
		if err != nil {
			t.Fatal(err)
		}
		return &host.Local{}, object.Object{Address: "user/103/phxstep", Spec: raw}
	}
	conformance.Run(t, conformance.Case{
		Driver: New(), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"user":  damage("userdel", name),
			"home":  damage("usermod", "--home", "/tmp", name),
			"shell": damage("usermod", "--shell", "/bin/bash", name),
			"group": damage("usermod", "--gid", "daemon", name),
			"uid":   damage("usermod", "--uid", "978", name),
			"gid":   damage("groupmod", "--gid", "978", name),
			"both": func(t *testing.T, _ host.Host, _ object.Object) {
				run(t, "usermod", "--gid", "daemon", name)
				run(t, "groupdel", name)
			},
		},
	})
	fresh(t)
	run(t, "groupadd", "--system", name)
	h := &host.Local{}
	s := spec.User{Name: name}
	have, err := Driver{}.Observe(context.Background(), h, "user/103/x", s)
	if err != nil || have != nil {
		t.Fatalf("only a group: %+v, %v", have, err)
	}
	if err := (Driver{}).Apply(context.Background(), h, "user/103/x", s, Driver{}.Diff(s, nil)); err != nil {
		t.Fatal(err)
	}
	if o, err := h.Lookup(name, ""); err != nil || o.UID >= 1000 || o.UID == 0 {
		t.Errorf("not a system user: %+v, %v", o, err)
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil || !strings.Contains(string(shadow), "\n"+name+":!") {
		t.Errorf("%s has a password: %v", name, err)
	}
}

// files is a host with these files and nothing else.
type files struct {
	host.Host
	text map[string]string
}

func (f files) ReadFile(path string) ([]byte, error) {
	text, ok := f.text[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

func TestObserve(t *testing.T) {
	h := files{text: map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nevil:x:0:5::/:/bin/sh\n\nbroken\nstep:x:998:997:CA:/etc/step-ca:/bin/sh\nlost:x:5:77::/:/bin/false",
		"/etc/group":  "root:x:0:\nstep:x:997:a,b\n",
	}}
	look := func(name string) (*Status, error) {
		return Driver{}.Observe(context.Background(), h, "user/103/x", spec.User{Name: name})
	}
	st, err := look("step")
	if err != nil || *st != (Status{UID: 998, GID: 997, Group: "step", Home: "/etc/step-ca", Shell: "/bin/sh"}) {
		t.Errorf("step: %+v, %v", st, err)
	}
	if d := (Driver{}).Diff(spec.User{Name: "step", Home: "/etc/step-ca"}, st); !d.Has("shell") || len(d.Fields) != 1 {
		t.Errorf("%+v", d)
	}
	if st, err := look("lost"); err != nil || st.Group != "" ||
		!(Driver{}).Diff(spec.User{Name: "lost"}, st).Has("group") {
		t.Errorf("lost: %+v, %v", st, err)
	}
	if st, err := look("nobody-here"); st != nil || err != nil {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := look("evil"); !provider.IsPermanent(err) {
		t.Errorf("uid 0: %v", err)
	}
}

// An id that is somebody else's is not taken from them.
func TestTakenID(t *testing.T) {
	h := files{text: map[string]string{"/etc/passwd": "www:x:901:33::/:/bin/false\n", "/etc/group": "www:x:33:\n"}}
	s := spec.User{Name: "step", UID: 901}
	err := Driver{}.Apply(context.Background(), h, "user/103/step", s, Driver{}.Diff(s, nil))
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "is that of www") {
		t.Errorf("got %v", err)
	}
	if d := (Driver{}).Diff(s, &Status{UID: 998, GID: 901, Group: "step", Shell: noLogin}); !d.Has("uid") ||
		d.Has("gid") {
		t.Errorf("%+v", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, raw := range []string{`{"name":"root"}`, `{"name":""}`, `{"name":"-x"}`, `{"name":"a:b"}`,
		`{"name":"a","home":"x"}`} {
		if _, diags := (Driver{}).Decode(json.RawMessage(raw)); !diags.HasErrors() {
			t.Errorf("taken: %s", raw)
		}
	}
}
