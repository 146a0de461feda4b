package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// usersFile reads one of the users' own files, which are not part of the project.
func usersFile(t testing.TB, name string) config.File {
	t.Helper()
	dir := os.Getenv("PHOENIX_USER_FILES")
	if dir == "" {
		dir = "../../../shared/phoenix-configs"
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("the users' own files are not here (set PHOENIX_USER_FILES): %v", err)
	}
	return config.File{Name: name, Data: data}
}

func TestUsersOwnDirectoriesLoad(t *testing.T) {
	cfg, diags := config.Load([]config.File{usersFile(t, "lxc-own-directories.json"), usersFile(t, "hypervisor.json")})
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if len(cfg.Containers) != 12 {
		t.Errorf("got %d containers, want 12", len(cfg.Containers))
	}
	for _, d := range diags {
		if strings.Contains(d.String(), "SecurePassword") {
			t.Errorf("a secret is shown: %s", d)
		}
	}
}

// TestUsersSharingIsRefused pins where the two files ask for the CA's directory in other containers.
func TestUsersSharingIsRefused(t *testing.T) {
	for name, want := range map[string][]string{
		"lxc-shared-mounts.json":    {"lxc-shared-mounts.json:518", "lxc-shared-mounts.json:856"},
		"lxc-sharing-returned.json": {"lxc-sharing-returned.json:540", "lxc-sharing-returned.json:889"},
	} {
		cfg, diags := config.Load([]config.File{usersFile(t, name), usersFile(t, "hypervisor.json")})
		if cfg != nil {
			t.Errorf("%s: sharing was accepted", name)
		}
		var got []string
		for _, d := range diags {
			if d.Rule == "PHX-AUD-001" {
				got = append(got, fmt.Sprintf("%s:%d", d.File, d.Line))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: PHX-AUD-001 at %v, want %v", name, got, want)
		}
	}
}

// TestUsersSharingIsAudited: the directory of the CA is found in all three containers, its owner's among them, and
// nothing of the layout with own directories is called shared.
func TestUsersSharingIsAudited(t *testing.T) {
	for name, want := range map[string][]string{
		"lxc-shared-mounts.json": {"lxc-shared-mounts.json:518", "lxc-shared-mounts.json:696",
			"lxc-shared-mounts.json:856"},
		"lxc-own-directories.json": nil,
		"lxc-sharing-returned.json": {"lxc-sharing-returned.json:540", "lxc-sharing-returned.json:748",
			"lxc-sharing-returned.json:889"},
	} {
		var got []string
		for _, f := range settled(t, []config.File{usersFile(t, name), usersFile(t, "hypervisor.json")}) {
			line := list([]config.Settled{f})
			if strings.Contains(line, "SecurePassword") {
				t.Errorf("a secret is shown: %s", line)
			}
			sharing := f.Rule.ID <= "PHX-AUD-008"
			if f.Rule.ID == "PHX-AUD-001" {
				got = append(got, fmt.Sprintf("%s:%d", f.Source.File, f.Source.Line))
			} else if sharing && f.Source.File == name {
				t.Errorf("%s: not shared: %s", name, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: PHX-AUD-001 at %v, want %v", name, got, want)
		}
	}
}
