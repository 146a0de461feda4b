package pkg

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// inContainer skips a test that installs packages. To run it: CGO_ENABLED=0 go test -c, put the binary into a container
// that may be thrown away, and start it there as root with PHOENIX_TEST_IN_CONTAINER=1. No network is needed: the
// packages are made there.
func inContainer(t *testing.T) {
	t.Helper()
	if os.Getenv("PHOENIX_TEST_IN_CONTAINER") != "1" {
		t.Skip("installs packages: runs in a throw-away container with PHOENIX_TEST_IN_CONTAINER=1")
	}
}

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

const sources = "/etc/apt/sources.list"

// onlySource makes a line apt's only source for the length of the test.
func onlySource(t *testing.T, line string) {
	t.Helper()
	old, err := os.ReadFile(sources)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	t.Cleanup(func() { write(t, sources, old) })
	write(t, sources, []byte(line))
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// archive makes a local archive of empty packages.
func archive(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	sh(t, "chmod 755 "+dir+" "+filepath.Dir(dir)) // apt reads as its own user
	var index strings.Builder
	for _, n := range names {
		control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: test "+
			"<test@example.org>\nDescription: empty\n", n)
		tree := filepath.Join(dir, n)
		sh(t, "mkdir -p "+tree+"/DEBIAN")
		write(t, filepath.Join(tree, "DEBIAN", "control"), []byte(control))
		sh(t, "dpkg-deb --build --root-owner-group "+tree+" "+tree+".deb")
		deb, err := os.ReadFile(tree + ".deb")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&index, "%sFilename: ./%s.deb\nSize: %d\nSHA256: %x\n\n", control, n, len(deb), sha256.Sum256(deb))
	}
	write(t, filepath.Join(dir, "Packages"), []byte(index.String()))
	return dir
}

func TestConformance(t *testing.T) {
	inContainer(t)
	names := []string{"phx-test-one", "phx-test-two"}
	purge := func(t *testing.T) { sh(t, "dpkg --purge "+strings.Join(names, " ")+" 2>/dev/null") }
	onlySource(t, "deb [trusted=yes] file:"+archive(t, names...)+" ./\n")
	t.Cleanup(func() { purge(t) })
	conformance.Run(t, conformance.Case{
		Driver: New(),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			purge(t)
			raw, err := json.Marshal(spec.Package{Names: names})
			if err != nil {
				t.Fatal(err)
			}
			return &host.Local{}, object.Object{Address: "package/101/x", Spec: raw}
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"one missing": func(t *testing.T, _ host.Host, _ object.Object) { sh(t, "dpkg --remove "+names[1]) },
			"unpacked and interrupted": func(t *testing.T, _ host.Host, _ object.Object) {
				sh(t, "cd $(sed 's/.*file:\\(.*\\) .*/\\1/' "+sources+") && dpkg --purge "+names[0]+
					" && dpkg --unpack "+names[0]+".deb")
				// As dpkg's journal stands after a kill: apt-get refuses to work.
				sh(t, "awk -v RS= '/^Package: "+names[0]+"\\n/' /var/lib/dpkg/status > /var/lib/dpkg/updates/0001; ! "+
					"apt-get -y install "+names[1])
			},
		},
	})
}

func apply(names ...string) error {
	s := spec.Package{Names: names}
	have, err := Driver{}.Observe(context.Background(), &host.Local{}, "package/101/x", s)
	if err != nil {
		return err
	}
	return Driver{}.Apply(context.Background(), &host.Local{}, "package/101/x", s, Driver{}.Diff(s, have))
}

func TestErrorsSayWhatToDo(t *testing.T) {
	inContainer(t)
	onlySource(t, "deb [trusted=yes] file:"+archive(t, "phx-test-three")+" ./\n")
	err := apply("phx-test-nowhere")
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "Unable to locate package phx-test-nowhere") {
		t.Errorf("unknown package: %v", err)
	}
	write(t, sources, []byte("deb [trusted=yes] http://127.0.0.1:1/debian bookworm main\n"))
	err = apply("phx-test-nowhere")
	if err == nil || provider.IsPermanent(err) || !strings.Contains(err.Error(), "cannot fetch the package index") {
		t.Errorf("no network: %v", err)
	}
	t.Log(err)
}
