package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Some providers' unit tests make users, install packages and start units: they run in a container that is thrown away
// after them, and skip themselves elsewhere.
func TestProvidersInAContainer(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	const id = "299"
	h.edit(id, func(c map[string]any) {
		c["name"], c["clone_from_ctid"], c["memory_mb"], c["cores"] = "throw-away", "900", 512, 2
		c["mac_address"] = "52:54:00:86:17:FB"
		c["network_config"] = map[string]any{"name": "eth0", "bridge": bridge, "ip": "10.86.17.250/24",
			"gw": "10.86.17.1"}
	})
	h.Phoenix("create", id).Want(0)
	for _, name := range needContainer(t) {
		t.Run(name, func(t *testing.T) {
			test := filepath.Join(t.TempDir(), name+".test")
			if _, err := tool(append(os.Environ(), "CGO_ENABLED=0"), "go", "test", "-c", "-o", test,
				"./internal/provider/"+name); err != nil {
				t.Fatal(err)
			}
			there := "/root/" + name + ".test"
			h.Push(test, id, there)
			r := h.Attach(id, nil, "env", "-C", "/root", "PHOENIX_TEST_IN_CONTAINER=1", there, "-test.v",
				"-test.timeout=9m")
			passed := len(regexp.MustCompile(`(?m)^--- PASS: `).FindAllString(r.Stdout, -1))
			skipped := slices.DeleteFunc(regexp.MustCompile(`(?m)^--- SKIP: \S+`).FindAllString(r.Stdout, -1),
				func(s string) bool {
					return strings.HasSuffix(s, "TestSystemdDoesNotAnswer") // it is for the other side
				})
			t.Logf("%d tests passed in %s", passed, r.Took)
			if r.Exit != 0 || passed == 0 || len(skipped) > 0 {
				t.Errorf("want all of them to run and pass; skipped: %v\n%s", skipped, r)
			}
		})
	}
	t.Run("setup", func(t *testing.T) { h.setsUp(t, id) })
}

// needContainer names the providers whose tests ask for such a container.
func needContainer(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo(), "internal", "provider", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), `"PHOENIX_TEST_IN_CONTAINER"`) {
			names = append(names, filepath.Base(filepath.Dir(file)))
		}
	}
	if names = slices.Compact(names); len(names) == 0 {
		t.Fatal("no provider's test asks for a container")
	}
	return names
}

// Attach runs a command inside a container, with in (may be nil) as its standard input.
func (h *Hypervisor) Attach(id string, in *os.File, argv ...string) Result {
	h.t.Helper()
	return h.exec(in, append([]string{"lxc-attach", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "--clear-env", "--"},
		argv...))
}

// Push copies a program into a container.
func (h *Hypervisor) Push(from, id, to string) {
	h.t.Helper()
	f, err := os.Open(from)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	h.Attach(id, f, "sh", "-ec", fmt.Sprintf("cat >%[1]s && chmod 0755 %[1]s", to)).Want(0)
}
